//! Thirty minutes at twice the capacity, under attack: what must hold is counted, not hoped for.
//!
//! ```sh
//! cargo run --release --example soak -- --minutes 30
//! ```
//!
//! Starts `rasid serve` in a process of its own with TLS, keys and the admin port, measures what it can do, loads it with twice that
//! (single calls, batches and streams of all sizes, with deadlines and cancellations), and meanwhile breaks the rules (slow readers,
//! killed connections, malformed frames, expired keys) and changes things (certificates, keys, the model). At the end the books of
//! both sides must agree. Exit status 1 says that something did not hold; `--report FILE` has the figures as JSON.

mod books;
mod chaos;
mod load;
mod server;
mod texts;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use serde_json::json;

use self::{
    books::{Books, Samples},
    load::Kind,
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
    /// Seed of all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the figures.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    fastrand::seed(args.seed);
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

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn run(args: &Args) -> Result<serde_json::Value, Failure> {
    let server = Arc::new(Server::start(args.rasid.clone(), &args.model).await?);
    let warm = Duration::from_secs_f64(args.warm_seconds);
    let books = Arc::new(Books::default());

    let capacity = load::capacity(&server, warm).await?;
    eprintln!("capacity: {:.0} tokens/s, {:.1} documents/s", capacity.tokens, capacity.documents);

    let alone = Arc::new(Books::default());
    load::drive(&server, &alone, capacity.scaled(0.3), &[Kind::Single], warm).await;
    let beside = Arc::new(Books::default());
    let mut busy = capacity.scaled(0.3);
    busy.bulk = capacity.tokens * 1.5;
    load::drive(&server, &beside, busy, &[Kind::Single, Kind::Batch, Kind::Stream], warm).await;

    server.wait_until_idle(IDLE).await?;
    let before = server.figures().await?;
    let samples = Samples::watch(Arc::clone(&server));
    let attack = chaos::start(&server, &books);
    let span = Duration::from_secs_f64(args.minutes * 60.0);
    let all = [Kind::Single, Kind::Batch, Kind::Stream, Kind::Hurried, Kind::Fickle];
    load::drive(&server, &books, capacity.scaled(args.overload), &all, span).await;
    let attacks = attack.stop().await;
    server.wait_until_idle(IDLE).await?;
    let after = server.figures().await?;
    let samples = samples.stop().await;
    let exit = server.terminate().await?;

    let mut broken = books.check(&before, &after);
    broken.extend(samples.check());
    broken.extend(attacks.check());
    let bound = server::QUEUE_TOKENS as f64 / (capacity.tokens * 0.75) + 2.0;
    if books.percentile(Kind::Single, 99) > bound {
        broken.push(format!(
            "p99 of admitted calls is {:.2} s, promised {bound:.2} s",
            books.percentile(Kind::Single, 99)
        ));
    }
    if exit != Some(0) {
        broken.push(format!("the server ended with {exit:?}"));
    }
    Ok(json!({
        "minutes": args.minutes,
        "capacity": {"tokens_per_second": capacity.tokens, "documents_per_second": capacity.documents},
        "single_calls_alone": alone.latency(Kind::Single),
        "single_calls_beside_bulk": beside.latency(Kind::Single),
        "under_attack": books.report(),
        "promised_p99_seconds": bound,
        "server": books::server_report(&before, &after),
        "attacks": attacks.report(),
        "process": samples.report(),
        "exit_status": exit,
        "broken": broken,
    }))
}
