//! The inner loop of every product.

use pulp::Simd;

use super::{Lanes, load};

/// Sums of a tile: `[columns][blocks][vectors]`.
pub(super) type Tile<S, const B: usize, const V: usize, const C: usize> = [[[<S as Simd>::f32s; V]; B]; C];

/// `Σ_k x[b][k] · w[k][column + c]` for `B` blocks of tokens and `C` columns of a panel of `P`; the sums stay in registers.
///
/// All `x[b]` and `w` have the same length.
#[inline(always)]
pub(super) fn tile<S: Simd, const B: usize, const V: usize, const P: usize, const C: usize>(
    simd: S,
    x: [&[Lanes]; B],
    w: &[[f32; P]],
    column: usize,
    ahead: impl Ahead,
) -> Tile<S, B, V, C> {
    assert!(column + C <= P, "the tile must lie within the panel");
    let mut sums = [[[simd.splat_f32s(0.0); V]; B]; C];
    // Slices of one known length: no bounds are checked in the loop.
    let length = w.len();
    let mut blocks = x;
    for b in 0..B {
        blocks[b] = &x[b][..length];
    }
    for k in 0..length {
        ahead.fetch(k);
        let mut x = [[simd.splat_f32s(0.0); V]; B];
        for b in 0..B {
            x[b] = load::<S, V>(&blocks[b][k]);
        }
        for c in 0..C {
            let weight = simd.splat_f32s(w[k][column + c]);
            for b in 0..B {
                for v in 0..V {
                    sums[c][b][v] = simd.mul_add_e_f32s(x[b][v], weight, sums[c][b][v]);
                }
            }
        }
    }
    sums
}

/// What to bring into the cache while a tile is summed.
pub(super) trait Ahead: Copy {
    /// Called at step `k` of the sums.
    fn fetch(self, k: usize);
}

/// Nothing.
#[derive(Clone, Copy)]
pub(super) struct Nothing;

impl Ahead for Nothing {
    #[inline(always)]
    fn fetch(self, _: usize) {}
}

/// One of these rows a step.
#[derive(Clone, Copy)]
pub(super) struct Prefetch<'a, T>(pub &'a [T]);

impl<T: Copy> Ahead for Prefetch<'_, T> {
    #[inline(always)]
    fn fetch(self, k: usize) {
        let row = self.0.as_ptr().wrapping_add(k);
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "std has no safe prefetch")]
        // SAFETY: a hint only: nothing is read that the program could see, and no address is wrong.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(row.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = row;
    }
}
