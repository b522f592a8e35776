//! Half precision, in which weights are kept.

use pulp::Simd;

/// Writes the float32 values of finite float16 numbers, given as bits; both of one length.
#[inline(always)]
pub(super) fn unpack_all<S: Simd>(halves: &[u16], singles: &mut [f32]) {
    // An instruction of its own; pulp's generic vectors have none for it.
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES == 16
        && let Some(simd) = pulp::x86::V4::try_new()
    {
        return simd.vectorize(Convert { simd, halves, singles });
    }
    unpack_each(halves, singles);
}

#[inline(always)]
fn unpack_each(halves: &[u16], singles: &mut [f32]) {
    for (single, &half) in singles.iter_mut().zip(halves) {
        *single = unpack(half);
    }
}

/// The float32 of a finite float16's bits.
#[inline(always)]
pub(super) fn unpack(half: u16) -> f32 {
    // Sign, exponent and fraction at their places, without the sign's copies; the exponent's bias differs by 112. Right for
    // subnormal numbers, too. Four vector instructions, which the compiler finds by itself.
    let bits = (i32::from(half.cast_signed()) << 13).cast_unsigned() & 0x8fff_ffff;
    f32::from_bits(bits) * f32::from_bits((127 + 112) << 23)
}

/// [`unpack_each`] by `vcvtph2ps`, sixteen numbers at a time.
#[cfg(target_arch = "x86_64")]
struct Convert<'a> {
    simd: pulp::x86::V4,
    halves: &'a [u16],
    singles: &'a mut [f32],
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (halves, few_halves) = self.halves.as_chunks::<16>();
        let (singles, few_singles) = self.singles.as_chunks_mut::<16>();
        for (singles, &halves) in singles.iter_mut().zip(halves) {
            *singles = pulp::cast(self.simd.avx512f._mm512_cvtph_ps(pulp::cast(halves)));
        }
        unpack_each(few_halves, few_singles);
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use pulp::{Arch, WithSimd};

    use super::*;

    struct UnpackAll<'a>(&'a [u16], &'a mut [f32]);

    impl WithSimd for UnpackAll<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            unpack_all::<S>(self.0, self.1);
        }
    }

    #[test]
    fn every_finite_half_is_unpacked_exactly() {
        let halves: Vec<u16> = (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()).collect();
        for arch in [Arch::Scalar, Arch::new()] {
            // One less than all, so that some are left over from the vectors.
            let halves = &halves[1..];
            let mut singles = vec![f32::NAN; halves.len()];
            arch.dispatch(UnpackAll(halves, &mut singles));
            for (&bits, single) in halves.iter().zip(singles) {
                assert_eq!(single.to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#06x} with {arch:?}");
            }
        }
    }
}
