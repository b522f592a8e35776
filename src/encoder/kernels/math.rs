//! Vector functions that std has for scalars only.

use pulp::Simd;

/// `exp(x)` for `x <= 0`; relative error below 2e-7, `exp(-87.3)` and less become about 1e-38.
///
/// `2^n · exp(r)` with `|r| <= ln 2 / 2`, the polynomial of Cephes' `expf` (Moshier 1992).
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // 1.5 · 2^23 moves the integer part to the low bits, the exponent's bias on top of it.
    let shift = simd.splat_f32s(12_582_912.0 + 127.0);
    let x = simd.max_f32s(x, simd.splat_f32s(-87.3));
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), shift);
    let n = simd.sub_f32s(shifted, shift);
    // ln 2 in two parts, the first exact in few bits.
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let mut p = simd.splat_f32s(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(coefficient));
    }
    let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.mul_f32s(p, simd.transmute_f32s_u32s(power))
}

/// Exact GELU, `x/2 · (1 + erf(x/√2))`; absolute error below 1e-6 for `|x| <= 10`.
#[inline(always)]
pub(super) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    simd.mul_add_e_f32s(half, erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// `erf(x)` as a rational function on the range where it is not yet ±1 in float32; coefficients of XLA's `ErfImpl32`.
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const BOUND: f32 = 3.832_507;
    const NUMERATOR: [f32; 5] =
        [2.290_506_5e-4, 3.408_291e-3, 5.095_569_5e-2, 0.185_208_32, std::f32::consts::FRAC_2_SQRT_PI];
    const DENOMINATOR: [f32; 7] =
        [-1.179_160_3e-7, 2.354_796_6e-5, 1.017_962_5e-3, 1.407_047e-2, 0.110_985_05, 0.497_469_25, 1.0];
    let x = simd.min_f32s(simd.max_f32s(x, simd.splat_f32s(-BOUND)), simd.splat_f32s(BOUND));
    let square = simd.mul_f32s(x, x);
    let numerator = polynomial(simd, square, &NUMERATOR);
    let denominator = polynomial(simd, square, &DENOMINATOR);
    simd.div_f32s(simd.mul_f32s(x, numerator), denominator)
}

/// Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: &[f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(coefficient));
    }
    sum
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Map<'a>(&'a mut [f32], bool);

    impl WithSimd for Map<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = if self.1 { gelu(simd, *x) } else { exp(simd, *x) };
            }
        }
    }

    /// Results for `x = from, from + step, …`, with their arguments.
    fn map(is_gelu: bool, from: f32, step: f32) -> impl Iterator<Item = (f64, f64)> {
        let arguments: Vec<f32> = (0..1 << 16).map(|index| from + step * index as f32).collect();
        let mut results = arguments.clone();
        Arch::new().dispatch(Map(&mut results, is_gelu));
        arguments.into_iter().zip(results).map(|(x, y)| (f64::from(x), f64::from(y)))
    }

    #[test]
    fn exp_is_exact_to_2e_7() {
        let worst = map(false, -87.0, 87.0 / 65535.0).map(|(x, y)| (y / x.exp() - 1.0).abs()).fold(0.0, f64::max);
        println!("largest relative error {worst:.2e}");
        assert!(worst < 2e-7);
        assert!(map(false, -1e30, 0.0).all(|(_, y)| y < 1.3e-38));
    }

    #[test]
    fn gelu_is_exact_to_1e_6() {
        let exact = |x: f64| x / 2.0 * (1.0 + libm::erf(x / 2.0_f64.sqrt()));
        let worst = map(true, -10.0, 20.0 / 65535.0).map(|(x, y)| (y - exact(x)).abs()).fold(0.0, f64::max);
        println!("largest error {worst:.2e}");
        assert!(worst < 1e-6);
        assert!(map(true, -1e4, 0.0).all(|(_, y)| y.abs() < 1e-3));
    }
}
