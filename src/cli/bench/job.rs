//! `rasid bench job`.

use std::path::PathBuf;

use anstream::println;
use clap::Args;
use serde::Serialize;

use super::{Runs, milliseconds, print_json, use_threads};
use crate::{
    cli::{CliError, documents},
    config::ModelSettings,
    tagger::{DocumentScores, Feature, Plan, Reading, TagOptions, Tagger, WindowRequest},
    text::Document,
};

#[derive(Debug, Args)]
pub struct JobArgs {
    /// Documents: text files, or JSON Lines of rasid.v1.Document.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelSettings,

    /// Find topics only.
    #[arg(long)]
    topics_only: bool,

    #[command(flatten)]
    runs: Runs,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The whole job over all documents.
#[derive(Debug, Serialize)]
struct Job {
    documents: usize,
    windows: usize,
    /// As the encoder reads them: special tokens and overlaps included.
    tokens: usize,
    milliseconds: f64,
    documents_per_second: f64,
    tokens_per_second: f64,
    stages: Stages,
}

/// Each stage by itself, over all documents one after the other; reading and finishing on one thread.
#[derive(Debug, Serialize)]
struct Stages {
    read_milliseconds: f64,
    encode_milliseconds: f64,
    finish_milliseconds: f64,
}

pub fn run(args: &JobArgs) -> Result<(), CliError> {
    use_threads(&args.model)?;
    let tagger = args.model.load()?;
    let features = args.topics_only.then_some(Feature::Topics).into_iter().collect();
    let plan = tagger.plan(&TagOptions { features, ..TagOptions::default() })?;
    let documents = documents(&args.files)?;
    let job = measure(&tagger, &plan, &documents, &args.runs)?;
    if args.json {
        return print_json(&job);
    }
    println!("{} documents, {} windows, {} tokens", job.documents, job.windows, job.tokens);
    println!("whole job  {:>9.1} ms", job.milliseconds);
    println!("           {:>9.1} documents/s, {:.0} tokens/s", job.documents_per_second, job.tokens_per_second);
    println!("  read     {:>9.1} ms on one thread", job.stages.read_milliseconds);
    println!("  encode   {:>9.1} ms", job.stages.encode_milliseconds);
    println!("  finish   {:>9.1} ms on one thread", job.stages.finish_milliseconds);
    Ok(())
}

fn measure(tagger: &Tagger, plan: &Plan, documents: &[Document], runs: &Runs) -> Result<Job, CliError> {
    let read = || -> Result<Vec<Reading>, CliError> {
        documents.iter().map(|document| tagger.read(document, plan).map_err(CliError::Document)).collect()
    };
    let readings = read()?;
    let requests: Vec<WindowRequest<'_>> = readings.iter().flat_map(|reading| reading.requests(plan)).collect();
    let tokens = requests.iter().map(WindowRequest::tokens).sum();
    let encode = || -> Result<Vec<DocumentScores>, CliError> {
        let mut windows = rayon::scope(|_| tagger.encode_all(&requests)).into_iter();
        readings.iter().map(|reading| reading.collect_scores(&mut windows).map_err(CliError::Inference)).collect()
    };
    let scores = encode()?;
    let finish = || {
        let all = documents.iter().zip(&readings).zip(&scores);
        Ok(all.map(|((document, reading), scores)| tagger.finish(document, plan, reading, scores)).collect::<Vec<_>>())
    };
    let whole = runs.median(|| Ok(tagger.tag(documents, plan)))?;
    Ok(Job {
        documents: documents.len(),
        windows: requests.len(),
        tokens,
        milliseconds: milliseconds(whole),
        documents_per_second: documents.len() as f64 / whole.as_secs_f64(),
        tokens_per_second: tokens as f64 / whole.as_secs_f64(),
        stages: Stages {
            read_milliseconds: milliseconds(runs.median(read)?),
            encode_milliseconds: milliseconds(runs.median(encode)?),
            finish_milliseconds: milliseconds(runs.median(finish)?),
        },
    })
}
