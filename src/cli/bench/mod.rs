//! `rasid bench`: how fast it is, here and now.

mod encoder;
mod job;
mod load;

use std::{
    hint::black_box,
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

/// Median time of `work`, after two runs that do not count, over five runs or as many as fit into `least`.
fn median_time<T>(least: Duration, mut work: impl FnMut() -> Result<T, CliError>) -> Result<Duration, CliError> {
    for _ in 0..2 {
        black_box(work()?);
    }
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < 5 || started.elapsed() < least {
        let started = Instant::now();
        black_box(work()?);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Prints figures as one JSON document.
fn print_json(figures: &impl Serialize) -> Result<(), CliError> {
    println!("{}", serde_json::to_string_pretty(figures).map_err(CliError::Figures)?);
    Ok(())
}
