//! Kernels as pulp dispatches them, and numbers for them; also for the benchmarks.

// No user needs all of it.
#![allow(dead_code)]

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rasid::encoder::kernels::{
    AttentionInput, AttentionScratch, Bias, BiasGelu, BiasResidual, LANES, Lanes, NormWeights, PackedWeights,
    PanelScratch, attention, product,
};

/// All that the machine has, not only the best.
pub fn instruction_sets() -> Vec<Arch> {
    let mut sets = vec![Arch::new()];
    #[cfg(target_arch = "x86_64")]
    {
        sets.push(Arch::Scalar);
        sets.extend(pulp::x86::V3::try_new().map(Arch::V3));
        sets.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    sets
}

/// Numbers between -1 and 1.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Rows of `width` as blocks; lanes without a row hold numbers, too, which must not matter.
pub fn blocks(rows: &[f32], width: usize) -> Vec<Lanes> {
    let mut blocks = vec![[7.0; LANES]; rows.len().div_ceil(width * LANES) * width];
    for (row, values) in rows.chunks_exact(width).enumerate() {
        for (column, value) in values.iter().enumerate() {
            blocks[row / LANES * width + column][row % LANES] = *value;
        }
    }
    blocks
}

#[derive(Clone, Copy, Debug)]
pub enum Finish {
    Bias,
    Gelu,
    Residual,
}

pub struct Product<'a> {
    pub x: &'a [Lanes],
    pub weights: &'a PackedWeights,
    pub out: &'a mut [Lanes],
    pub residual: &'a [Lanes],
    pub finish: Finish,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, weights, out, residual, finish } = self;
        let mut scratch = PanelScratch::default();
        match finish {
            Finish::Bias => product(simd, x, weights, out, &mut scratch, Bias),
            Finish::Gelu => product(simd, x, weights, out, &mut scratch, BiasGelu),
            Finish::Residual => product(simd, x, weights, out, &mut scratch, BiasResidual(residual)),
        }
    }
}

pub struct Norm<'a>(pub &'a NormWeights, pub &'a mut [Lanes]);

impl WithSimd for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.apply(simd, self.1);
    }
}

pub struct Attention<'a> {
    pub input: AttentionInput<'a>,
    pub blocks: Range<usize>,
    pub context: &'a mut [Lanes],
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        attention(simd, self.input, self.blocks, self.context, &mut AttentionScratch::default());
    }
}
