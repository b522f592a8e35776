//! Products of activations and weights.

use half::f16;
use pulp::Simd;

use super::{
    LANES, Lanes,
    half::{unpack, unpack_all},
    load,
    math::gelu,
    store,
    tile::{Ahead, Nothing, Prefetch, tile},
};

/// Columns of a panel: two blocks of tokens times twelve columns fill AVX-512's 32 registers, one block times six AVX2's 16.
const PANEL: usize = 12;

/// A dense layer's bias, and its weights in panels of twelve outputs, `[panels][inputs][12]`, the last one filled up with zeros.
#[derive(Debug, Clone)]
pub struct PackedWeights {
    panels: Panels,
    bias: Vec<f32>,
    inputs: usize,
}

/// Weights that half precision holds exactly, as those of a float16 file, are kept in it: what a small batch waits for is the
/// memory that weights come from.
#[derive(Debug, Clone)]
enum Panels {
    Half(Vec<[u16; PANEL]>),
    Single(Vec<[f32; PANEL]>),
}

/// Room for one panel in float32.
#[derive(Debug, Default)]
pub struct PanelScratch(Vec<[f32; PANEL]>);

impl PackedWeights {
    /// Packs a matrix of `[outputs, inputs]` and its bias of `[outputs]`.
    ///
    /// # Panics
    /// If the sizes do not fit together.
    pub fn pack(weights: &[f32], bias: Vec<f32>) -> Self {
        assert!(!bias.is_empty() && weights.len().is_multiple_of(bias.len()), "weights must be [outputs, inputs]");
        let inputs = weights.len() / bias.len();
        let is_half = weights.iter().all(|&weight| unpack(f16::from_f32(weight).to_bits()) == weight);
        let panels = if is_half {
            Panels::Half(panels(weights, inputs, |weight| f16::from_f32(weight).to_bits()))
        } else {
            Panels::Single(panels(weights, inputs, |weight| weight))
        };
        Self { panels, bias, inputs }
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Columns of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

fn panels<T: Copy + Default>(weights: &[f32], inputs: usize, store: impl Fn(f32) -> T) -> Vec<[T; PANEL]> {
    let outputs = weights.len() / inputs;
    let mut panels = vec![[T::default(); PANEL]; outputs.div_ceil(PANEL) * inputs];
    for (output, row) in weights.chunks_exact(inputs).enumerate() {
        for (columns, &weight) in panels[output / PANEL * inputs..].iter_mut().zip(row) {
            columns[output % PANEL] = store(weight);
        }
    }
    panels
}

/// What becomes of a sum before it is stored.
pub trait Epilogue {
    /// The value for row `index` of the result.
    fn finish<S: Simd, const V: usize>(&self, simd: S, sum: S::f32s, bias: S::f32s, index: usize, v: usize) -> S::f32s;
}

/// `sum + bias`.
#[derive(Debug, Clone, Copy)]
pub struct Bias;

/// `gelu(sum + bias)`.
#[derive(Debug, Clone, Copy)]
pub struct BiasGelu;

/// `sum + bias + residual`; the residual has the shape of the result.
#[derive(Debug, Clone, Copy)]
pub struct BiasResidual<'a>(pub &'a [Lanes]);

impl Epilogue for Bias {
    #[inline(always)]
    fn finish<S: Simd, const V: usize>(&self, simd: S, sum: S::f32s, bias: S::f32s, _: usize, _: usize) -> S::f32s {
        simd.add_f32s(sum, bias)
    }
}

impl Epilogue for BiasGelu {
    #[inline(always)]
    fn finish<S: Simd, const V: usize>(&self, simd: S, sum: S::f32s, bias: S::f32s, _: usize, _: usize) -> S::f32s {
        gelu(simd, simd.add_f32s(sum, bias))
    }
}

impl Epilogue for BiasResidual<'_> {
    #[inline(always)]
    fn finish<S: Simd, const V: usize>(&self, simd: S, sum: S::f32s, bias: S::f32s, index: usize, v: usize) -> S::f32s {
        simd.add_f32s(simd.add_f32s(sum, bias), load::<S, V>(&self.0[index])[v])
    }
}

/// `out = epilogue(x · weightsᵀ)`: `[blocks][inputs]` to `[blocks][outputs]`.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    x: &[Lanes],
    weights: &PackedWeights,
    out: &mut [Lanes],
    scratch: &mut PanelScratch,
    epilogue: impl Epilogue,
) {
    match &weights.panels {
        Panels::Single(panels) => {
            for (index, rows) in panels.chunks_exact(weights.inputs).enumerate() {
                let ahead = Prefetch(&panels[(index + 1) * weights.inputs..]);
                Panel { rows, weights, index }.multiply(simd, x, out, &epilogue, ahead);
            }
        }
        Panels::Half(panels) => {
            scratch.0.resize(weights.inputs, [0.0; PANEL]);
            for (index, half) in panels.chunks_exact(weights.inputs).enumerate() {
                unpack_all::<S>(half.as_flattened(), scratch.0.as_flattened_mut());
                let ahead = Prefetch(&panels[(index + 1) * weights.inputs..]);
                Panel { rows: &scratch.0, weights, index }.multiply(simd, x, out, &epilogue, ahead);
            }
        }
    }
}

/// Twelve outputs of a layer.
#[derive(Clone, Copy)]
struct Panel<'a> {
    rows: &'a [[f32; PANEL]],
    weights: &'a PackedWeights,
    index: usize,
}

impl Panel<'_> {
    /// These columns for all tokens, so that the panel is read from memory once.
    #[inline(always)]
    fn multiply<S: Simd>(self, simd: S, x: &[Lanes], out: &mut [Lanes], epilogue: &impl Epilogue, ahead: impl Ahead) {
        match LANES / S::F32_LANES {
            1 => self.sweep::<S, 2, 1, 12>(simd, x, out, epilogue, ahead),
            2 => self.sweep::<S, 1, 2, 6>(simd, x, out, epilogue, ahead),
            4 => self.sweep::<S, 1, 4, 6>(simd, x, out, epilogue, ahead),
            _ => self.sweep::<S, 1, LANES, 1>(simd, x, out, epilogue, ahead),
        }
    }

    /// `B` blocks and `C` columns at a time.
    #[inline(always)]
    fn sweep<S: Simd, const B: usize, const V: usize, const C: usize>(
        self,
        simd: S,
        x: &[Lanes],
        out: &mut [Lanes],
        epilogue: &impl Epilogue,
        ahead: impl Ahead,
    ) {
        let blocks = x.len() / self.weights.inputs;
        let whole = blocks / B * B;
        for block in (0..whole).step_by(B) {
            // The next panel is fetched last, so that it is still near when its turn comes.
            if block + B == blocks {
                self.finish_tiles::<S, B, V, C>(simd, x, block, out, epilogue, ahead);
            } else {
                self.finish_tiles::<S, B, V, C>(simd, x, block, out, epilogue, Nothing);
            }
        }
        for block in whole..blocks {
            self.finish_tiles::<S, 1, V, C>(simd, x, block, out, epilogue, ahead);
        }
    }

    #[inline(always)]
    fn finish_tiles<S: Simd, const B: usize, const V: usize, const C: usize>(
        self,
        simd: S,
        x: &[Lanes],
        block: usize,
        out: &mut [Lanes],
        epilogue: &impl Epilogue,
        ahead: impl Ahead,
    ) {
        let inputs = self.weights.inputs;
        let mut rows = [x; B];
        for b in 0..B {
            rows[b] = &x[(block + b) * inputs..][..inputs];
        }
        let outputs = self.weights.outputs();
        let first = self.index * PANEL;
        for column in (0..PANEL).step_by(C) {
            let sums = tile::<S, B, V, PANEL, C>(simd, rows, self.rows, column, ahead);
            for c in 0..C {
                let output = first + column + c;
                let Some(&bias) = self.weights.bias.get(output) else { return };
                let bias = simd.splat_f32s(bias);
                for b in 0..B {
                    let index = (block + b) * outputs + output;
                    let mut values = sums[c][b];
                    for v in 0..V {
                        values[v] = epilogue.finish::<S, V>(simd, values[v], bias, index, v);
                    }
                    store::<S, V>(&mut out[index], values);
                }
            }
        }
    }
}
