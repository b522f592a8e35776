//! Each kernel computes what its formula says, written down here in plain float64, on every instruction set of the machine.

#[path = "support/simd.rs"]
mod simd;

use proptest::prelude::*;
use rasid::encoder::kernels::{AttentionInput, LANES, Lanes, NormWeights, PackedWeights};
use simd::{Attention, Finish, Norm, Product, blocks, instruction_sets, numbers};

fn at(blocks: &[Lanes], width: usize, row: usize, column: usize) -> f32 {
    blocks[row / LANES * width + column][row % LANES]
}

fn gelu(x: f64) -> f64 {
    x / 2.0 * (1.0 + libm::erf(x / 2.0_f64.sqrt()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products(
        rows in 1..100_usize,
        inputs in 1..70_usize,
        outputs in 1..40_usize,
        is_half in any::<bool>(),
        finish in prop_oneof![Just(Finish::Bias), Just(Finish::Gelu), Just(Finish::Residual)],
        seed in any::<u64>(),
    ) {
        let x = numbers(seed, rows * inputs);
        let mut weights = numbers(seed ^ 1, outputs * inputs);
        if is_half {
            weights.iter_mut().for_each(|weight| *weight = half::f16::from_f32(*weight).to_f32());
        }
        let bias = numbers(seed ^ 2, outputs);
        let residual = numbers(seed ^ 3, rows * outputs);
        let packed = PackedWeights::pack(&weights, bias.clone());
        for set in instruction_sets() {
            let (x_blocks, residual_blocks) = (blocks(&x, inputs), blocks(&residual, outputs));
            let mut out = vec![[0.0; LANES]; residual_blocks.len()];
            set.dispatch(Product { x: &x_blocks, weights: &packed, out: &mut out, residual: &residual_blocks, finish });
            for row in 0..rows {
                for column in 0..outputs {
                    let terms = x[row * inputs..][..inputs].iter().zip(&weights[column * inputs..][..inputs]);
                    let sum = terms.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() + f64::from(bias[column]);
                    let expected = match finish {
                        Finish::Bias => sum,
                        Finish::Gelu => gelu(sum),
                        Finish::Residual => sum + f64::from(residual[row * outputs + column]),
                    };
                    let actual = f64::from(at(&out, outputs, row, column));
                    prop_assert!((actual - expected).abs() < 1e-5, "{set:?} row {row} column {column}: {actual}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn norms(rows in 1..50_usize, width in 2..70_usize, seed in any::<u64>()) {
        let x = numbers(seed, rows * width);
        let weights =
            NormWeights { gain: numbers(seed ^ 1, width), bias: numbers(seed ^ 2, width), epsilon: 1e-5 };
        for set in instruction_sets() {
            let mut out = blocks(&x, width);
            set.dispatch(Norm(&weights, &mut out));
            for (row, values) in x.chunks_exact(width).enumerate() {
                let mean = values.iter().copied().map(f64::from).sum::<f64>() / width as f64;
                let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
                for (column, x) in values.iter().enumerate() {
                    let normal = (f64::from(*x) - mean) / (variance + 1e-5).sqrt();
                    let expected = normal * f64::from(weights.gain[column]) + f64::from(weights.bias[column]);
                    let actual = f64::from(at(&out, width, row, column));
                    prop_assert!((actual - expected).abs() < 1e-5, "{set:?}: {actual}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn attentions(
        lengths in prop::collection::vec(1..60_usize, 1..6),
        heads in 1..4_usize,
        size in prop_oneof![Just(8_usize), Just(32), Just(5), Just(20)],
        cut in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let mut bounds = vec![0];
        for length in &lengths {
            bounds.push(bounds.last().unwrap() + length);
        }
        let (tokens, hidden) = (*bounds.last().unwrap(), heads * size);
        let qkv = numbers(seed, tokens * 3 * hidden);
        let qkv_blocks = blocks(&qkv, 3 * hidden);
        let count = tokens.div_ceil(LANES);
        let value = |token: usize, part: usize, column: usize| f64::from(qkv[token * 3 * hidden + part * hidden + column]);
        for set in instruction_sets() {
            let mut context = vec![[0.0; LANES]; count * hidden];
            // In two parts, as two threads have it.
            let cut = cut.index(count + 1);
            let (first, second) = context.split_at_mut(cut * hidden);
            for (blocks, context) in [(0..cut, first), (cut..count, second)] {
                let input = AttentionInput { qkv: &qkv_blocks, hidden, heads, bounds: &bounds };
                set.dispatch(Attention { input, blocks, context });
            }
            for pair in bounds.windows(2) {
                for query in pair[0]..pair[1] {
                    for head in 0..heads {
                        let columns = head * size..(head + 1) * size;
                        let score = |key: usize| columns.clone().map(|c| value(query, 0, c) * value(key, 1, c)).sum::<f64>();
                        let weights: Vec<f64> =
                            (pair[0]..pair[1]).map(|key| (score(key) / (size as f64).sqrt()).exp()).collect();
                        let total: f64 = weights.iter().sum();
                        for column in columns.clone() {
                            let keys = (pair[0]..pair[1]).zip(&weights);
                            let expected = keys.map(|(key, weight)| weight * value(key, 2, column)).sum::<f64>() / total;
                            let actual = f64::from(at(&context, hidden, query, column));
                            prop_assert!((actual - expected).abs() < 1e-5, "{set:?}: {actual}, not {expected}");
                        }
                    }
                }
            }
        }
    }
}
