//! `rasid bench load`.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anstream::println;
use clap::Args;
use serde::Serialize;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

use super::{milliseconds, print_json};
use crate::{
    cli::{CliError, documents},
    proto::v1::{self, tagger_service_client::TaggerServiceClient},
    text::Document,
};

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Documents, each sent in a Tag call of its own: text files, or JSON Lines of rasid.v1.Document. Without any, eight articles
    /// that come with the program, in eight languages.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,

    /// Calls open at a time.
    #[arg(long, default_value = "32", value_name = "N")]
    concurrency: NonZeroUsize,

    /// How often all documents are sent; unless given, often enough for ten calls in each place.
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,

    /// Deadline of each call, in milliseconds.
    #[arg(long, value_name = "MS")]
    deadline: Option<u64>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The example articles.
const ARTICLES: [&str; 8] = [
    include_str!("../../../examples/articles/ar_security_meeting.txt"),
    include_str!("../../../examples/articles/ckb_parleman_kareba.txt"),
    include_str!("../../../examples/articles/en_port_strike.txt"),
    include_str!("../../../examples/articles/fa_vaccination.txt"),
    include_str!("../../../examples/articles/fr_inondations.txt"),
    include_str!("../../../examples/articles/hi_cricket.txt"),
    include_str!("../../../examples/articles/ja_satellite.txt"),
    include_str!("../../../examples/articles/tr_yerel_secim.txt"),
];

/// Calls made in each of the places of `--concurrency`, at least.
const CALLS_EACH: usize = 10;

/// What a load run shows.
#[derive(Debug, Serialize)]
struct Load {
    calls: usize,
    concurrency: usize,
    seconds: f64,
    documents_per_second: f64,
    /// Of the calls that were answered.
    latency_milliseconds: Latency,
    /// Calls that failed, by status code.
    failed: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

type Outcome = Result<Duration, Code>;

pub fn run(args: &LoadArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let load = runtime.block_on(measure(args))?;
    if args.json {
        return print_json(&load);
    }
    let latency = &load.latency_milliseconds;
    println!("{} calls, {} at a time, {:.1} s", load.calls, load.concurrency, load.seconds);
    println!("{:.1} documents/s", load.documents_per_second);
    println!(
        "latency p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        latency.p50, latency.p90, latency.p99, latency.max
    );
    for (code, count) in load.failed {
        println!("{count} calls failed: {code}");
    }
    Ok(())
}

async fn measure(args: &LoadArgs) -> Result<Load, CliError> {
    let documents: Vec<v1::Document> = if args.files.is_empty() {
        ARTICLES.map(|text| v1::Document { text: text.to_owned(), ..v1::Document::default() }).into()
    } else {
        documents(&args.files)?.into_iter().map(wire).collect()
    };
    let enough = (CALLS_EACH * args.concurrency.get()).div_ceil(documents.len());
    let calls = documents.len() * args.rounds.map_or(enough, NonZeroUsize::get);
    let server = Endpoint::from_shared(args.server.clone()).map_err(CliError::Connect)?;
    let channel = server.connect().await.map_err(CliError::Connect)?;
    let plan = Arc::new(Calls {
        documents,
        next: AtomicUsize::new(0),
        calls,
        deadline: args.deadline.map(Duration::from_millis),
    });
    let started = Instant::now();
    let callers: Vec<_> =
        (0..args.concurrency.get()).map(|_| tokio::spawn(call_in_turn(channel.clone(), Arc::clone(&plan)))).collect();
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(calls);
    for caller in callers {
        outcomes.extend(caller.await.map_err(|error| CliError::Runtime(error.into()))?);
    }
    let elapsed = started.elapsed();
    let mut answered: Vec<Duration> = outcomes.iter().copied().filter_map(Result::ok).collect();
    answered.sort_unstable();
    let mut failed = BTreeMap::new();
    for code in outcomes.iter().copied().filter_map(Result::err) {
        *failed.entry(format!("{code:?}")).or_default() += 1;
    }
    Ok(Load {
        calls,
        concurrency: args.concurrency.get(),
        seconds: elapsed.as_secs_f64(),
        documents_per_second: answered.len() as f64 / elapsed.as_secs_f64(),
        latency_milliseconds: Latency {
            p50: percentile(&answered, 50),
            p90: percentile(&answered, 90),
            p99: percentile(&answered, 99),
            max: percentile(&answered, 100),
        },
        failed,
    })
}

/// The calls of a run, taken one after the other by whoever is free.
struct Calls {
    documents: Vec<v1::Document>,
    next: AtomicUsize,
    calls: usize,
    deadline: Option<Duration>,
}

async fn call_in_turn(channel: Channel, plan: Arc<Calls>) -> Vec<Outcome> {
    let mut client = TaggerServiceClient::new(channel);
    let mut outcomes = Vec::new();
    loop {
        let index = plan.next.fetch_add(1, Ordering::Relaxed);
        if index >= plan.calls {
            return outcomes;
        }
        let document = plan.documents[index % plan.documents.len()].clone();
        let mut request = Request::new(v1::TagRequest { document: Some(document), options: None });
        if let Some(deadline) = plan.deadline {
            request.set_timeout(deadline);
        }
        let started = Instant::now();
        let answer = client.tag(request).await;
        outcomes.push(answer.map(|_| started.elapsed()).map_err(|status| status.code()));
    }
}

/// Nearest-rank percentile in milliseconds; 0 of nothing.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().map_or(0.0, milliseconds)
}

fn wire(document: Document) -> v1::Document {
    let Document { id, title, text, language_code } = document;
    v1::Document { id, title, text, language_code }
}
