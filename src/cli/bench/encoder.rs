//! `rasid bench encoder`.

use std::{fs, num::NonZeroUsize, path::PathBuf, time::Duration};

use anstream::println;
use clap::Args;
use serde::Serialize;

use super::{Runs, milliseconds, print_json, use_threads};
use crate::{
    cli::CliError,
    config::ModelSettings,
    encoder::{Encoder, PackedBatch},
    tagger::InferenceError,
};

#[derive(Debug, Args)]
pub struct EncoderArgs {
    #[command(flatten)]
    model: ModelSettings,

    /// Tokens of a sequence, special tokens included; several, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "32,128,256,512", value_name = "TOKENS")]
    lengths: Vec<NonZeroUsize>,

    /// Sequences at a time; several, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_name = "N")]
    batches: Vec<NonZeroUsize>,

    /// Encode sequences of these lengths instead, a JSON list of numbers, in batches of --batch-tokens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lengths", "batches"])]
    sequences: Option<PathBuf>,

    #[command(flatten)]
    runs: Runs,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One point of the table.
#[derive(Debug, Serialize)]
struct Point {
    length: usize,
    batch: usize,
    milliseconds: f64,
    tokens_per_second: f64,
}

/// The figure for a list of sequences.
#[derive(Debug, Serialize)]
struct Mixed {
    sequences: usize,
    tokens: usize,
    milliseconds: f64,
    tokens_per_second: f64,
}

pub fn run(args: &EncoderArgs) -> Result<(), CliError> {
    use_threads(&args.model)?;
    let tagger = args.model.load()?;
    match &args.sequences {
        Some(path) => {
            let failed = |source| CliError::Input { path: path.clone(), source };
            let lengths: Vec<NonZeroUsize> = serde_json::from_slice(&fs::read(path).map_err(failed)?)
                .map_err(|source| CliError::Lengths { path: path.clone(), source })?;
            let lengths: Vec<usize> = lengths.into_iter().map(NonZeroUsize::get).collect();
            mixed(tagger.encoder(), &lengths, args)
        }
        None => uniform(tagger.encoder(), args),
    }
}

fn uniform(encoder: &Encoder, args: &EncoderArgs) -> Result<(), CliError> {
    let mut points = Vec::new();
    for batch in args.batches.iter().map(|batch| batch.get()) {
        for length in args.lengths.iter().map(|length| length.get()) {
            let packed = pack(encoder, &vec![length; batch]);
            let time = time(encoder, &[packed], &args.runs)?;
            let tokens_per_second = (batch * length) as f64 / time.as_secs_f64();
            points.push(Point { length, batch, milliseconds: milliseconds(time), tokens_per_second });
        }
    }
    if args.json {
        return print_json(&points);
    }
    println!("{:>6} {:>6} {:>10} {:>9}", "batch", "length", "ms", "tokens/s");
    for point in points {
        println!(
            "{:>6} {:>6} {:>10.2} {:>9.0}",
            point.batch, point.length, point.milliseconds, point.tokens_per_second
        );
    }
    Ok(())
}

fn mixed(encoder: &Encoder, lengths: &[usize], args: &EncoderArgs) -> Result<(), CliError> {
    let mut batches = Vec::new();
    let mut rest = lengths;
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|&&length| {
            tokens += length;
            tokens <= args.model.batch_tokens
        });
        let (batch, later) = rest.split_at(fits.count().max(1));
        batches.push(pack(encoder, batch));
        rest = later;
    }
    let time = time(encoder, &batches, &args.runs)?;
    let tokens: usize = lengths.iter().sum();
    let figure = Mixed {
        sequences: lengths.len(),
        tokens,
        milliseconds: milliseconds(time),
        tokens_per_second: tokens as f64 / time.as_secs_f64(),
    };
    if args.json {
        return print_json(&figure);
    }
    println!(
        "{} sequences, {} tokens: {:.0} ms, {:.0} tokens/s",
        figure.sequences, figure.tokens, figure.milliseconds, figure.tokens_per_second
    );
    Ok(())
}

fn time(encoder: &Encoder, batches: &[PackedBatch], runs: &Runs) -> Result<Duration, CliError> {
    runs.median(|| {
        // From within the pool, as the server computes.
        rayon::scope(|_| batches.iter().try_for_each(|batch| encoder.forward(batch).map(drop)))
            .map_err(|error| CliError::Inference(InferenceError::from(error)))
    })
}

/// Sequences of ids from all over the vocabulary, since looking up rows takes time too.
fn pack(encoder: &Encoder, lengths: &[usize]) -> PackedBatch {
    let vocabulary = encoder.config().vocab_size;
    let mut packed = PackedBatch::default();
    for (sequence, &length) in lengths.iter().enumerate() {
        packed.push((0..length).map(|token| ((token * 7919 + sequence * 104_729) % vocabulary) as u32));
    }
    packed
}
