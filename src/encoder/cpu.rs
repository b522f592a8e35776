//! The encoder's layers on a CPU: kernels over blocks of tokens, spread over the threads of the rayon pool they are called from.

use std::{cell::RefCell, mem, ops::Range};

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

/// Most blocks that go through a layer together, 256 tokens: they share the work of unpacking the weights and of laying out the
/// values of their sequence. From 64 tokens on the size hardly matters, on CPUs with 1 MiB of second-level cache at least.
const CHUNK: usize = 16;

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
    /// Tokens go through a layer in chunks, whichever thread is free takes the next. Threads meet once a layer, since attention
    /// needs the keys and values of all of a sequence; all else is done token by token.
    pub fn forward(&self, embeddings: &Embeddings, batch: &PackedBatch) -> Vec<f32> {
        let blocks = batch.tokens().div_ceil(LANES);
        // As many chunks as keep all threads busy to the end.
        let share = blocks.div_ceil(blocks.div_ceil(CHUNK).next_multiple_of(rayon::current_num_threads()));
        let mut chunks: Vec<Chunk> =
            (0..blocks).step_by(share).map(|first| Chunk::new(first..blocks.min(first + share), self.hidden)).collect();
        chunks.par_iter_mut().for_each(|chunk| chunk.embed(self.hidden, embeddings, batch));
        let width = 3 * self.hidden;
        let mut qkv = vec![[0.0; LANES]; blocks * width];
        let mut next = qkv.clone();
        let steps = [None].into_iter().chain(self.layers.iter().map(Some));
        for (layer, following) in steps.zip(self.layers.iter().map(Some).chain([None])) {
            let work = chunks.par_iter_mut().zip(next.par_chunks_mut(share * width)).with_max_len(1);
            work.for_each(|(chunk, next)| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let (stack, bounds, qkv) = (self, batch.bounds(), &qkv[..]);
                    self.arch.dispatch(Step { stack, layer, following, bounds, qkv, chunk, next, scratch });
                });
            });
            mem::swap(&mut qkv, &mut next);
        }
        let mut rows = vec![0.0; batch.tokens() * self.hidden];
        let work = chunks.par_iter().zip(rows.par_chunks_mut(share * LANES * self.hidden));
        work.for_each(|(chunk, rows)| chunk.write(self.hidden, rows));
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

/// Blocks of tokens that go through a layer together.
#[derive(Debug)]
struct Chunk {
    blocks: Range<usize>,
    /// Hidden states, `[blocks][hidden]`.
    x: Vec<Lanes>,
}

impl Chunk {
    fn new(blocks: Range<usize>, hidden: usize) -> Self {
        let x = vec![[0.0; LANES]; blocks.len() * hidden];
        Self { blocks, x }
    }

    /// Sums of the embeddings; the last block may have lanes without a token, which stay zero.
    fn embed(&mut self, hidden: usize, embeddings: &Embeddings, batch: &PackedBatch) {
        let tokens = self.blocks.start * LANES..self.blocks.end * LANES;
        let mut row = vec![0.0; hidden];
        for (sequence, own) in sequences_within(batch.bounds(), tokens.clone()) {
            for token in own {
                embeddings.write(batch.ids()[token], token - sequence.start, &mut row);
                let at = token - tokens.start;
                for (lanes, value) in self.x[at / LANES * hidden..].iter_mut().zip(&row) {
                    lanes[at % LANES] = *value;
                }
            }
        }
    }

    /// Writes the hidden states row by row; `rows` is as long as the chunk has tokens.
    fn write(&self, hidden: usize, rows: &mut [f32]) {
        for (rows, block) in rows.chunks_mut(LANES * hidden).zip(self.x.chunks_exact(hidden)) {
            for (lane, row) in rows.chunks_exact_mut(hidden).enumerate() {
                for (value, lanes) in row.iter_mut().zip(block) {
                    *value = lanes[lane];
                }
            }
        }
    }
}

/// Room of a thread for what a chunk becomes within a layer.
#[derive(Debug, Default)]
struct Scratch {
    context: Vec<Lanes>,
    attended: Vec<Lanes>,
    inner: Vec<Lanes>,
    panel: PanelScratch,
    attention: AttentionScratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What is done with a chunk between two meetings: a layer from its attention on, then the queries, keys and values for the next.
struct Step<'a> {
    stack: &'a CpuLayers,
    /// None before the first layer: the norm of the embeddings.
    layer: Option<&'a CpuLayer>,
    following: Option<&'a CpuLayer>,
    bounds: &'a [usize],
    /// Of all tokens.
    qkv: &'a [Lanes],
    chunk: &'a mut Chunk,
    /// Of the chunk's tokens, for the following layer.
    next: &'a mut [Lanes],
    scratch: &'a mut Scratch,
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { stack, layer, following, bounds, qkv, chunk: Chunk { blocks, x }, next, scratch } = self;
        let Scratch { context, attended, inner, panel, attention: scratch } = scratch;
        match layer {
            None => stack.embedding_norm.apply(simd, x),
            Some(layer) => {
                let input = AttentionInput { qkv, hidden: stack.hidden, heads: stack.heads, bounds };
                // Lanes without a token keep what an earlier chunk left there; nobody reads them.
                context.resize(x.len(), [0.0; LANES]);
                attention(simd, input, blocks.clone(), context, scratch);
                attended.resize(x.len(), [0.0; LANES]);
                product(simd, context, &layer.attention_output, attended, panel, BiasResidual(x));
                layer.attention_norm.apply(simd, attended);
                inner.resize(blocks.len() * layer.intermediate.outputs(), [0.0; LANES]);
                product(simd, attended, &layer.intermediate, inner, panel, BiasGelu);
                product(simd, inner, &layer.output, x, panel, BiasResidual(attended));
                layer.output_norm.apply(simd, x);
            }
        }
        if let Some(following) = following {
            product(simd, x, &following.qkv, next, panel, Bias);
        }
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
