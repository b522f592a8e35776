//! `rasid bench`: how fast it is, here and now.

mod encoder;
mod job;
mod load;

use std::{
    hint::black_box,
    num::NonZeroUsize,
    process::ExitCode,
    time::{Duration, Instant},
};

use anstream::println;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::CliError;
use crate::config::ModelSettings;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Time the encoder alone, over sequences of given lengths.
    Encoder(encoder::EncoderArgs),
    /// Time the whole job over documents, in this process, and say where the time goes.
    Job(job::JobArgs),
    /// Send documents to a running server, many calls at a time, and measure latency and throughput.
    Load(load::LoadArgs),
}

/// Runs a benchmark and prints its figures.
pub fn run(args: &BenchArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        BenchCommand::Encoder(args) => encoder::run(args)?,
        BenchCommand::Job(args) => job::run(args)?,
        BenchCommand::Load(args) => load::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prepares the threads that the model computes on, as `rasid tag` does.
fn use_threads(settings: &ModelSettings) -> Result<(), CliError> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build_global()?)
}

/// How long to measure.
#[derive(Debug, Clone, Args)]
struct Runs {
    /// Least time to spend on each figure, in seconds.
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    seconds: Duration,

    /// Least number of runs for each figure, their median counts. Two runs before them warm up, unless one is all.
    #[arg(long, default_value = "5", value_name = "N")]
    runs: NonZeroUsize,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error: std::num::ParseFloatError| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Runs {
    /// Median time of `work`.
    fn median<T>(&self, mut work: impl FnMut() -> Result<T, CliError>) -> Result<Duration, CliError> {
        let warm_up = if self.runs.get() == 1 { 0 } else { 2 };
        for _ in 0..warm_up {
            black_box(work()?);
        }
        let mut times = Vec::new();
        let started = Instant::now();
        while times.len() < self.runs.get() || started.elapsed() < self.seconds {
            let started = Instant::now();
            black_box(work()?);
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Prints figures as one JSON document.
fn print_json(figures: &impl Serialize) -> Result<(), CliError> {
    println!("{}", serde_json::to_string_pretty(figures).map_err(CliError::Figures)?);
    Ok(())
}
