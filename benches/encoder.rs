//! The encoder from the inside out: kernels, layers, and the text before them. `cargo bench --bench encoder`; for whole figures and
//! other threads see `rasid bench`.

#[path = "../tests/support/simd.rs"]
mod simd;

use std::{hint::black_box, path::Path};

use candle_core::Device;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use pulp::Arch;
use rasid::{
    encoder::{
        PackedBatch,
        kernels::{AttentionInput, LANES, NormWeights, PackedWeights},
    },
    model::Bundle,
    tagger::{Tagger, TaggerConfig},
    text::Document,
};
use simd::{Attention, Finish, Norm, Product, blocks, instruction_sets, numbers};

/// Shapes of the shipped model.
const HIDDEN: usize = 384;
const INNER: usize = 1536;
const HEADS: usize = 12;

/// What a thread carries through a layer at a time.
const TOKENS: usize = 128;

fn kernels(criterion: &mut Criterion) {
    for arch in instruction_sets().into_iter().skip(1) {
        let mut group = criterion.benchmark_group(format!("kernels/{arch:?}").replace(['(', ')'], ""));
        group.sample_size(20);
        products(&mut group, arch);
        norm(&mut group, arch);
        for length in [32, 128, 512] {
            attention(&mut group, arch, length);
        }
    }
}

/// Throughput is in multiply-adds.
fn products(group: &mut BenchmarkGroup<'_, WallTime>, arch: Arch) {
    for (name, inputs, outputs, finish) in [
        ("qkv", HIDDEN, 3 * HIDDEN, Finish::Bias),
        ("intermediate", HIDDEN, INNER, Finish::Gelu),
        ("output", INNER, HIDDEN, Finish::Residual),
    ] {
        let mut values = numbers(1, outputs * inputs);
        values.iter_mut().for_each(|weight| *weight = half::f16::from_f32(*weight).to_f32());
        let weights = PackedWeights::pack(&values, numbers(2, outputs));
        let (x, residual) =
            (blocks(&numbers(3, TOKENS * inputs), inputs), blocks(&numbers(4, TOKENS * outputs), outputs));
        let mut out = residual.clone();
        group.throughput(Throughput::Elements((TOKENS * inputs * outputs) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                arch.dispatch(Product { x: &x, weights: &weights, out: &mut out, residual: &residual, finish });
            });
        });
    }
}

/// Throughput is in values.
fn norm(group: &mut BenchmarkGroup<'_, WallTime>, arch: Arch) {
    let weights = NormWeights { gain: numbers(1, HIDDEN), bias: numbers(2, HIDDEN), epsilon: 1e-12 };
    let mut x = blocks(&numbers(3, TOKENS * HIDDEN), HIDDEN);
    group.throughput(Throughput::Elements((TOKENS * HIDDEN) as u64));
    group.bench_function("norm", |bencher| bencher.iter(|| arch.dispatch(Norm(&weights, &mut x))));
}

/// One sequence; throughput is in multiply-adds.
fn attention(group: &mut BenchmarkGroup<'_, WallTime>, arch: Arch, length: usize) {
    let qkv = blocks(&numbers(1, length * 3 * HIDDEN), 3 * HIDDEN);
    let count = length.div_ceil(LANES);
    let mut context = vec![[0.0; LANES]; count * HIDDEN];
    group.throughput(Throughput::Elements((2 * length * length * HIDDEN) as u64));
    group.bench_function(format!("attention/{length}"), |bencher| {
        bencher.iter(|| {
            let input = AttentionInput { qkv: &qkv, hidden: HIDDEN, heads: HEADS, bounds: &[0, length] };
            arch.dispatch(Attention { input, blocks: 0..count, context: &mut context });
        });
    });
}

fn tagger() -> Tagger {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let bundle = Bundle::open(folder).expect("the shipped model");
    Tagger::load(bundle, TaggerConfig::default(), &Device::Cpu).expect("the shipped model")
}

/// All layers, on all cores; throughput is in tokens.
fn layers(criterion: &mut Criterion) {
    let tagger = tagger();
    let mut group = criterion.benchmark_group("layers");
    group.sample_size(20);
    for (sequences, length) in [(1, 32), (1, 128), (8, 128), (1, 512)] {
        let mut batch = PackedBatch::default();
        for sequence in 0..sequences {
            batch.push((0..length).map(|token| (token * 7919 + sequence * 104_729) % 250_000));
        }
        group.throughput(Throughput::Elements(batch.tokens() as u64));
        group.bench_function(format!("{sequences}x{length}"), |bencher| {
            bencher.iter(|| rayon::scope(|_| black_box(tagger.encoder().forward(&batch))).expect("a good batch"));
        });
    }
}

/// Text to tokens, on one core; throughput is in bytes.
fn tokenize(criterion: &mut Criterion) {
    let tagger = tagger();
    let mut group = criterion.benchmark_group("tokenize");
    for name in ["ar_security_meeting", "en_port_strike", "ja_satellite"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/articles/{name}.txt"));
        let text = std::fs::read_to_string(path).expect("an example");
        group.throughput(Throughput::Bytes(text.len() as u64));
        let document = Document { text, ..Document::default() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| tagger.tokenizer().tokenize(&document).expect("plain text"))
        });
    }
}

criterion_group!(benches, kernels, layers, tokenize);
criterion_main!(benches);
