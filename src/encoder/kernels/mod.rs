//! The arithmetic of an encoder on a CPU.
//!
//! Activations stand in blocks of [`LANES`] tokens, `[blocks][width][LANES]`: a vector register holds the same value of sixteen
//! tokens. So no kernel ever sums across a register, the result of one product is the packed input of the next, and what is
//! computed for a token does not depend on the tokens beside it, to the last bit.
//!
//! One generic source serves AVX-512, AVX2 with FMA, NEON and plain scalar code through pulp, which picks at run time. Functions
//! are `inline(always)` because only code inlined into pulp's entry point is compiled for the CPU found.

#![expect(
    clippy::needless_range_loop,
    reason = "iterator adapters and closures are functions of their own, which are not compiled for the CPU found"
)]

mod attention;
mod half;
mod math;
mod matmul;
mod norm;
mod tile;

pub use self::{
    attention::{AttentionInput, AttentionScratch, attention},
    matmul::{Bias, BiasGelu, BiasResidual, PackedWeights, PanelScratch, product},
    norm::NormWeights,
};
use pulp::Simd;

/// Tokens in a block.
pub const LANES: usize = 16;

/// One value of each token of a block.
pub type Lanes = [f32; LANES];

/// Lanes as vectors: `V` times the register width is [`LANES`].
#[inline(always)]
fn load<S: Simd, const V: usize>(lanes: &Lanes) -> [S::f32s; V] {
    let vectors = S::as_simd_f32s(lanes).0;
    let mut values = [vectors[0]; V];
    values.copy_from_slice(&vectors[..V]);
    values
}

#[inline(always)]
fn store<S: Simd, const V: usize>(lanes: &mut Lanes, values: [S::f32s; V]) {
    let vectors = S::as_mut_simd_f32s(lanes).0;
    vectors[..V].copy_from_slice(&values);
}
