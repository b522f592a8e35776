//! The encoder's layers on a CPU: kernels over blocks of tokens, spread over the threads of the rayon pool they are called from.

use std::{mem, ops::Range};

use candle_core::{Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    Embeddings, EncoderConfig, PackedBatch, Weights,
    kernels::{
        AttentionInput, AttentionScratch, Bias, BiasGelu, BiasResidual, LANES, Lanes, NormWeights, PackedWeights,
        PanelScratch, attention, product,
    },
    sequences_within,
};

/// Blocks that go through a layer together: 128 tokens of its widest activations (1,536 values) fit a second-level cache of 1 MiB,
/// and share the work of unpacking the weights.
const CHUNK: usize = 8;

/// The norm of the embeddings and all layers, weights packed for the kernels.
#[derive(Debug)]
pub struct CpuLayers {
    arch: Arch,
    hidden: usize,
    heads: usize,
    embedding_norm: NormWeights,
    layers: Vec<CpuLayer>,
}

/// A post-norm BERT layer (Devlin et al. 2019).
#[derive(Debug)]
struct CpuLayer {
    /// Queries, keys and values in one product.
    qkv: PackedWeights,
    attention_output: PackedWeights,
    attention_norm: NormWeights,
    intermediate: PackedWeights,
    output: PackedWeights,
    output_norm: NormWeights,
}

impl CpuLayers {
    /// Takes the layers out of weights named as in Hugging Face's `BertModel`.
    pub fn load(weights: &mut Weights, config: &EncoderConfig) -> Result<Self> {
        Ok(Self {
            arch: Arch::new(),
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            embedding_norm: norm(weights, "embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| CpuLayer::load(weights, index, config))
                .collect::<Result<_>>()?,
        })
    }

    /// Last hidden states of all tokens, `[tokens, hidden]`.
    ///
    /// Each thread carries its own blocks through all layers. Threads meet once a layer, since attention needs the keys and values
    /// of all of a sequence; all else is done token by token.
    pub fn forward(&self, embeddings: &Embeddings, batch: &PackedBatch) -> Vec<f32> {
        let blocks = batch.tokens().div_ceil(LANES);
        let share = blocks.div_ceil(rayon::current_num_threads());
        let mut parts: Vec<Part> =
            (0..blocks).step_by(share).map(|first| Part::new(first..blocks.min(first + share), self.hidden)).collect();
        parts.par_iter_mut().for_each(|part| part.embed(embeddings, batch));
        let width = 3 * self.hidden;
        let mut qkv = vec![[0.0; LANES]; blocks * width];
        let mut next = qkv.clone();
        let steps = [None].into_iter().chain(self.layers.iter().map(Some));
        for (layer, following) in steps.zip(self.layers.iter().map(Some).chain([None])) {
            parts.par_iter_mut().zip(next.par_chunks_mut(share * width)).for_each(|(part, next)| {
                self.arch.dispatch(Step {
                    stack: self,
                    layer,
                    following,
                    bounds: batch.bounds(),
                    qkv: &qkv,
                    part,
                    next,
                });
            });
            mem::swap(&mut qkv, &mut next);
        }
        let mut rows = vec![0.0; batch.tokens() * self.hidden];
        parts
            .par_iter()
            .zip(rows.par_chunks_mut(share * LANES * self.hidden))
            .for_each(|(part, rows)| part.write(rows));
        rows
    }
}

impl CpuLayer {
    fn load(weights: &mut Weights, index: usize, config: &EncoderConfig) -> Result<Self> {
        let prefix = format!("encoder.layer.{index}");
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = format!("{prefix}.attention");
        let qkv = ["query", "key", "value"].map(|part| format!("{attention}.self.{part}"));
        Ok(Self {
            qkv: dense(weights, &qkv, hidden, hidden)?,
            attention_output: dense(weights, &[format!("{attention}.output.dense")], hidden, hidden)?,
            attention_norm: norm(weights, &format!("{attention}.output.LayerNorm"), config)?,
            intermediate: dense(weights, &[format!("{prefix}.intermediate.dense")], inner, hidden)?,
            output: dense(weights, &[format!("{prefix}.output.dense")], hidden, inner)?,
            output_norm: norm(weights, &format!("{prefix}.output.LayerNorm"), config)?,
        })
    }
}

/// One thread's tokens, and what it keeps between layers.
#[derive(Debug)]
struct Part {
    blocks: Range<usize>,
    hidden: usize,
    /// Hidden states, `[blocks][hidden]`.
    x: Vec<Lanes>,
    context: Vec<Lanes>,
    attended: Vec<Lanes>,
    inner: Vec<Lanes>,
    panel: PanelScratch,
    attention: AttentionScratch,
}

impl Part {
    fn new(blocks: Range<usize>, hidden: usize) -> Self {
        let empty = vec![[0.0; LANES]; blocks.len() * hidden];
        Self {
            blocks,
            hidden,
            context: empty.clone(),
            x: empty,
            attended: Vec::new(),
            inner: Vec::new(),
            panel: PanelScratch::default(),
            attention: AttentionScratch::default(),
        }
    }

    /// Sums of the embeddings; the last block may have lanes without a token, which stay zero.
    fn embed(&mut self, embeddings: &Embeddings, batch: &PackedBatch) {
        let tokens = self.blocks.start * LANES..self.blocks.end * LANES;
        let mut row = vec![0.0; self.hidden];
        for (sequence, own) in sequences_within(batch.bounds(), tokens.clone()) {
            for token in own {
                embeddings.write(batch.ids()[token], token - sequence.start, &mut row);
                let at = token - tokens.start;
                for (lanes, value) in self.x[at / LANES * self.hidden..].iter_mut().zip(&row) {
                    lanes[at % LANES] = *value;
                }
            }
        }
    }

    /// Writes the hidden states row by row; `rows` is as long as the part has tokens.
    fn write(&self, rows: &mut [f32]) {
        for (rows, block) in rows.chunks_mut(LANES * self.hidden).zip(self.x.chunks_exact(self.hidden)) {
            for (lane, row) in rows.chunks_exact_mut(self.hidden).enumerate() {
                for (value, lanes) in row.iter_mut().zip(block) {
                    *value = lanes[lane];
                }
            }
        }
    }
}

/// What a thread does between two meetings: a layer from its attention on, then the queries, keys and values for the next.
struct Step<'a> {
    stack: &'a CpuLayers,
    /// None before the first layer: the norm of the embeddings.
    layer: Option<&'a CpuLayer>,
    following: Option<&'a CpuLayer>,
    bounds: &'a [usize],
    /// Of all tokens.
    qkv: &'a [Lanes],
    part: &'a mut Part,
    /// Of the part's tokens, for the following layer.
    next: &'a mut [Lanes],
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { stack, layer, following, bounds, qkv, part, next } = self;
        let Part { blocks, x, context, attended, inner, panel, attention: scratch, .. } = part;
        let hidden = stack.hidden;
        let Some(layer) = layer else {
            stack.embedding_norm.apply(simd, x);
            return project(simd, following, x, next, panel);
        };
        let input = AttentionInput { qkv, hidden, heads: stack.heads, bounds };
        attention(simd, input, blocks.clone(), context, scratch);
        for (x, context) in x.chunks_mut(CHUNK * hidden).zip(context.chunks(CHUNK * hidden)) {
            attended.resize(x.len(), [0.0; LANES]);
            product(simd, context, &layer.attention_output, attended, panel, BiasResidual(x));
            layer.attention_norm.apply(simd, attended);
            inner.resize(x.len() / hidden * layer.intermediate.outputs(), [0.0; LANES]);
            product(simd, attended, &layer.intermediate, inner, panel, BiasGelu);
            product(simd, inner, &layer.output, x, panel, BiasResidual(attended));
            layer.output_norm.apply(simd, x);
        }
        project(simd, following, x, next, panel);
    }
}

/// Queries, keys and values of a layer.
#[inline(always)]
fn project<S: Simd>(simd: S, layer: Option<&CpuLayer>, x: &[Lanes], out: &mut [Lanes], panel: &mut PanelScratch) {
    let Some(layer) = layer else { return };
    let (inputs, outputs) = (CHUNK * layer.qkv.inputs(), CHUNK * layer.qkv.outputs());
    for (x, out) in x.chunks(inputs).zip(out.chunks_mut(outputs)) {
        product(simd, x, &layer.qkv, out, panel, Bias);
    }
}

/// Dense layers with the same input as one, their outputs side by side.
fn dense(weights: &mut Weights, names: &[String], outputs: usize, inputs: usize) -> Result<PackedWeights> {
    let mut matrices = Vec::with_capacity(names.len());
    let mut biases = Vec::with_capacity(names.len());
    for name in names {
        matrices.push(weights.take(&format!("{name}.weight"), &[outputs, inputs])?);
        biases.push(weights.take(&format!("{name}.bias"), &[outputs])?);
    }
    let matrix: Vec<f32> = Tensor::cat(&matrices, 0)?.flatten_all()?.to_vec1()?;
    Ok(PackedWeights::pack(&matrix, Tensor::cat(&biases, 0)?.to_vec1()?))
}

fn norm(weights: &mut Weights, prefix: &str, config: &EncoderConfig) -> Result<NormWeights> {
    let mut take = |name: &str| weights.take(&format!("{prefix}.{name}"), &[config.hidden_size])?.to_vec1();
    Ok(NormWeights { gain: take("weight")?, bias: take("bias")?, epsilon: config.layer_norm_eps as f32 })
}
