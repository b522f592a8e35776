//! Thirty minutes at twice the capacity, under attack: what must hold is counted, not hoped for.
//!
//! ```sh
//! cargo build --release && cargo run --release --example soak -- --minutes 30
//! ```
//!
//! Starts `rasid serve` in a process of its own with TLS, keys and the admin port, measures what it can do, loads it with twice that
//! (single calls, batches and streams of all sizes, with deadlines and cancellations), and meanwhile breaks the rules (slow and stopped
//! readers, killed connections, malformed frames, expired keys) and changes things (certificates, keys, the model). At the end the
//! books of both sides must agree, and the server's log must tell of no defect. Exit status 1 says that something did not hold;
//! `--report FILE` has the figures as JSON.

mod balance;
mod books;
mod calls;
mod chaos;
mod files;
mod load;
mod process;
mod server;
mod texts;
mod wire;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use fastrand::Rng;
use serde_json::{Value, json};

use self::{
    balance::Figures,
    books::{Books, Kind},
    chaos::Attacks,
    load::{Capacity, Load},
    process::Samples,
    server::Server,
};

#[derive(Debug, Clone, Parser)]
struct Args {
    /// Minutes under load and attack.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Seconds of each of the measurements before it.
    #[arg(long, default_value_t = 45.0)]
    warm_seconds: f64,
    /// Load, as a multiple of the measured capacity.
    #[arg(long, default_value_t = 2.0)]
    overload: f64,
    /// The program; unless given, the one built beside this.
    #[arg(long)]
    rasid: Option<PathBuf>,
    /// The model; unless given, the shipped one.
    #[arg(long, default_value = "models/default")]
    model: PathBuf,
    /// Seed of all that the clients choose, each by itself; when things happen depends on the machine, too.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to keep the server's log.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("rasid-soak.log"))]
    log: PathBuf,
    /// Where to write the figures.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(report) => {
            println!("{report:#}");
            if let Some(path) = &args.report {
                std::fs::write(path, format!("{report:#}\n")).expect("the report can be written");
            }
            let broken = report["broken"].as_array().is_none_or(|broken| !broken.is_empty());
            if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("the soak could not be run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How long the server may take for what is left when nobody calls any more.
const IDLE: Duration = Duration::from_secs(120);

/// Files that the idle server may have open more than before: a connection or two that is being closed.
const MORE_FILES: f64 = 4.0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn run(args: &Args) -> Result<Value, Failure> {
    let mut rng = Rng::with_seed(args.seed);
    let server = Arc::new(Server::start(args.rasid.clone(), &args.model, &args.log, &mut rng).await?);
    let warm = Duration::from_secs_f64(args.warm_seconds);
    let capacity = load::capacity(&server, &mut rng, warm).await?;
    eprintln!("capacity: {:.0} tokens/s, {:.1} documents/s", capacity.tokens, capacity.documents);

    let [alone, beside] = [(); 2].map(|()| Arc::new(Books::default()));
    load::drive(&server, &alone, capacity.times(1.0 / 3.0, 0.0), &mut rng, warm).await;
    load::drive(&server, &beside, capacity.times(1.0 / 3.0, 1.5), &mut rng, warm).await;
    let under =
        under_attack(args, &server, capacity, &mut rng).await.map_err(|error| with_log(&error, &server.log()))?;

    let bound = server::QUEUE_TOKENS as f64 / (capacity.tokens * 0.75) + 2.0;
    let offered = under.books.tallies().0.documents.offered as f64;
    let mut broken = under.broken();
    broken.extend(check_promise(&under.books, bound));
    broken.extend(process::defects(&server.log()));
    Ok(json!({
        "program": server.program,
        "minutes": args.minutes,
        "seed": args.seed,
        "capacity": {"tokens_per_second": capacity.tokens, "documents_per_second": capacity.documents},
        "single_calls_alone": alone.latency(Kind::Single),
        "single_calls_beside_bulk": beside.latency(Kind::Single),
        "under_attack": under.books.report(),
        "promise": {
            "text": "p99 of admitted single calls, those not answered in time among them: queue / (0.75 * capacity) + 2 s",
            "queue_tokens": server::QUEUE_TOKENS,
            "seconds": bound,
            "p99_seconds": under.books.percentile(Kind::Single, 99),
        },
        "offered_times_capacity": offered / (capacity.documents * args.minutes * 60.0),
        "balance": balance::report(&under.books, &under.before, &under.after),
        "server": balance::server_report(&under.before, &under.after),
        "attacks": under.attacks.report(),
        "process": under.samples.report(),
        "idle_open_files": under.idle_files,
        "exit_status": under.exit,
        "server_log": args.log,
        "broken": broken,
    }))
}

/// Why the run broke off; the log says it if the server has gone.
fn with_log(error: &Failure, log: &str) -> Failure {
    [vec![error.to_string()], process::defects(log)].concat().join("\n").into()
}

/// What was seen while the server was under attack, and what was left of it.
struct UnderAttack {
    books: Arc<Books>,
    before: Figures,
    after: Figures,
    samples: Samples,
    attacks: Attacks,
    /// Of the idle server before and after.
    idle_files: (f64, f64),
    exit: Option<i32>,
}

async fn under_attack(
    args: &Args,
    server: &Arc<Server>,
    capacity: Capacity,
    rng: &mut Rng,
) -> Result<UnderAttack, Failure> {
    let books = Arc::new(Books::default());
    server.wait_until_idle(IDLE).await?;
    let files_before = process::idle_files(server).await?;
    let before = server.figures().await?;
    let span = Duration::from_secs_f64(args.minutes * 60.0);
    let load = Load { is_hostile: true, ..capacity.times(args.overload / 2.0, args.overload / 2.0) };
    let samples = Samples::watch(Arc::clone(server), span);
    let attack = chaos::start(server, &books, rng);
    load::drive(server, &books, load, rng, span).await;
    let attacks = attack.stop().await;
    server.wait_until_idle(IDLE).await?;
    let files_after = process::idle_files(server).await?;
    let after = server.figures().await?;
    let (samples, idle_files) = (samples.await?, (files_before, files_after));
    let exit = server.terminate().await?;
    Ok(UnderAttack { books, before, after, samples, attacks, idle_files, exit })
}

impl UnderAttack {
    /// What did not hold.
    fn broken(&self) -> Vec<String> {
        let mut broken = balance::check(&self.books, &self.before, &self.after);
        broken.extend(self.samples.check());
        broken.extend(self.attacks.check());
        let (files_before, files_after) = self.idle_files;
        if files_after > files_before + MORE_FILES {
            broken.push(format!("the idle server had {files_before} files open before, {files_after} after"));
        }
        if self.exit != Some(0) {
            broken.push(format!("the server ended with {:?}", self.exit));
        }
        broken
    }
}

fn check_promise(books: &Books, bound: f64) -> Option<String> {
    match books.percentile(Kind::Single, 99) {
        Some(seconds) if seconds <= bound => None,
        Some(seconds) => Some(format!("p99 of admitted single calls is {seconds:.2} s, promised {bound:.2} s")),
        None => Some("no single call was admitted".to_owned()),
    }
}
