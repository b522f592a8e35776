//! candle-transformers' own `BertModel`, timed as `rasid bench encoder --json` times ours.

use std::{fs, hint::black_box, path::PathBuf, time::Instant};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
struct Args {
    weights: PathBuf,
    config: PathBuf,
    #[arg(long, value_delimiter = ',')]
    lengths: Vec<usize>,
    #[arg(long, value_delimiter = ',')]
    batches: Vec<usize>,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let config: Config = serde_json::from_slice(&fs::read(&args.config)?)?;
    let weights = VarBuilder::from_buffered_safetensors(fs::read(&args.weights)?, DType::F32, &Device::Cpu)?;
    let model = BertModel::load(weights, &config)?;
    let mut points = Vec::new();
    for &batch in &args.batches {
        for &length in &args.lengths {
            let ids = (0..batch * length).map(|token| (token * 7919 % 250_000) as u32).collect::<Vec<_>>();
            let ids = Tensor::from_vec(ids, (batch, length), &Device::Cpu)?;
            let types = ids.zeros_like()?;
            let seconds = median(args.seconds, || Ok(model.forward(&ids, &types, None)?))?;
            let tokens_per_second = (batch * length) as f64 / seconds;
            points.push(json!({"batch": batch, "length": length, "tokens_per_second": tokens_per_second}));
        }
    }
    println!("{}", json!(points));
    Ok(())
}

fn median(least: f64, work: impl Fn() -> Result<Tensor>) -> Result<f64> {
    for _ in 0..2 {
        black_box(work()?);
    }
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < 5 || started.elapsed().as_secs_f64() < least {
        let started = Instant::now();
        black_box(work()?);
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
