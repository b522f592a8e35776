//! Layer norm.

use pulp::Simd;

use super::{LANES, Lanes, load, store};

/// Gain and bias of a layer norm (Ba et al. 2016) and what is added to the variance.
#[derive(Debug, Clone)]
pub struct NormWeights {
    /// One factor a value.
    pub gain: Vec<f32>,
    /// One summand a value.
    pub bias: Vec<f32>,
    /// Keeps the division finite.
    pub epsilon: f32,
}

impl NormWeights {
    /// Normalises whole blocks of `gain.len()` values in place.
    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, x: &mut [Lanes]) {
        for block in x.chunks_exact_mut(self.gain.len()) {
            match LANES / S::F32_LANES {
                1 => self.apply_block::<S, 1>(simd, block),
                2 => self.apply_block::<S, 2>(simd, block),
                4 => self.apply_block::<S, 4>(simd, block),
                _ => self.apply_block::<S, LANES>(simd, block),
            }
        }
    }

    #[inline(always)]
    fn apply_block<S: Simd, const V: usize>(&self, simd: S, x: &mut [Lanes]) {
        let scale = simd.splat_f32s(1.0 / x.len() as f32);
        let mut mean = [simd.splat_f32s(0.0); V];
        for lanes in x.iter() {
            let values = load::<S, V>(lanes);
            for v in 0..V {
                mean[v] = simd.add_f32s(values[v], mean[v]);
            }
        }
        for v in 0..V {
            mean[v] = simd.mul_f32s(mean[v], scale);
        }
        let mut variance = [simd.splat_f32s(0.0); V];
        for lanes in x.iter() {
            let values = load::<S, V>(lanes);
            for v in 0..V {
                let distance = simd.sub_f32s(values[v], mean[v]);
                variance[v] = simd.mul_add_e_f32s(distance, distance, variance[v]);
            }
        }
        let epsilon = simd.splat_f32s(self.epsilon);
        let mut inverse = variance;
        for v in 0..V {
            let deviation = simd.sqrt_f32s(simd.mul_add_e_f32s(variance[v], scale, epsilon));
            inverse[v] = simd.div_f32s(simd.splat_f32s(1.0), deviation);
        }
        for ((lanes, &gain), &bias) in x.iter_mut().zip(&self.gain).zip(&self.bias) {
            let mut values = load::<S, V>(lanes);
            let (gain, bias) = (simd.splat_f32s(gain), simd.splat_f32s(bias));
            for v in 0..V {
                let normal = simd.mul_f32s(simd.sub_f32s(values[v], mean[v]), inverse[v]);
                values[v] = simd.mul_add_e_f32s(normal, gain, bias);
            }
            store::<S, V>(lanes, values);
        }
    }
}
