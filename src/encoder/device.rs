//! The encoder's layers on candle's own operations, for any device that candle knows.

use candle_core::{Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module, ops::softmax_last_dim};

use super::{EncoderConfig, Weights};

/// The norm of the embeddings and all layers.
#[derive(Debug)]
pub struct DeviceLayers {
    embedding_norm: LayerNorm,
    layers: Vec<DeviceLayer>,
}

/// A post-norm BERT layer (Devlin et al. 2019): self-attention and a feed-forward block, each followed by residual and norm.
#[derive(Debug)]
struct DeviceLayer {
    heads: usize,
    /// Queries, keys and values in one product.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl DeviceLayers {
    /// Takes the layers out of weights named as in Hugging Face's `BertModel`.
    pub fn load(weights: &mut Weights, config: &EncoderConfig) -> Result<Self> {
        let layers = (0..config.num_hidden_layers).map(|index| DeviceLayer::load(weights, index, config));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { embedding_norm: layer_norm(weights, "embeddings.LayerNorm", config)?, layers })
    }

    /// Sums of embeddings to last hidden states, both `[tokens, hidden]`; sequence `i` holds the rows `bounds[i]..bounds[i + 1]`.
    pub fn forward(&self, embeddings: &Tensor, bounds: &[usize]) -> Result<Tensor> {
        let x = self.embedding_norm.forward(embeddings)?;
        self.layers.iter().try_fold(x, |x, layer| layer.forward(&x, bounds))
    }
}

impl DeviceLayer {
    fn load(weights: &mut Weights, index: usize, config: &EncoderConfig) -> Result<Self> {
        let prefix = format!("encoder.layer.{index}");
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = format!("{prefix}.attention");
        Ok(Self {
            heads: config.num_attention_heads,
            qkv: fused_qkv(weights, &format!("{attention}.self"), config)?,
            attention_output: weights.linear(&format!("{attention}.output.dense"), hidden, hidden)?,
            attention_norm: layer_norm(weights, &format!("{attention}.output.LayerNorm"), config)?,
            intermediate: weights.linear(&format!("{prefix}.intermediate.dense"), inner, hidden)?,
            output: weights.linear(&format!("{prefix}.output.dense"), hidden, inner)?,
            output_norm: layer_norm(weights, &format!("{prefix}.output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, x: &Tensor, bounds: &[usize]) -> Result<Tensor> {
        let context = attention(&self.qkv.forward(x)?, bounds, self.heads)?;
        let x = self.attention_norm.forward(&(self.attention_output.forward(&context)? + x)?)?;
        let inner = self.intermediate.forward(&x)?.gelu_erf()?;
        self.output_norm.forward(&(self.output.forward(&inner)? + x)?)
    }
}

/// Multi-head self-attention of packed sequences, each within itself.
///
/// `qkv` is `[tokens, 3 · hidden]`: queries (already scaled), keys and values side by side. Sequence `i` holds the rows
/// `bounds[i]..bounds[i + 1]`. Returns the context, `[tokens, hidden]`.
fn attention(qkv: &Tensor, bounds: &[usize], heads: usize) -> Result<Tensor> {
    let hidden = qkv.dim(1)? / 3;
    let mut contexts = Vec::with_capacity(bounds.len() - 1);
    for pair in bounds.windows(2) {
        let length = pair[1] - pair[0];
        let rows = qkv.narrow(0, pair[0], length)?.reshape((length, 3, heads, hidden / heads))?;
        let part = |index| rows.narrow(1, index, 1)?.squeeze(1)?.transpose(0, 1)?.contiguous();
        let (queries, keys, values): (Tensor, Tensor, Tensor) = (part(0)?, part(1)?, part(2)?);
        let weights = softmax_last_dim(&queries.matmul(&keys.t()?)?)?;
        contexts.push(weights.matmul(&values)?.transpose(0, 1)?.reshape((length, hidden))?);
    }
    Tensor::cat(&contexts, 0)
}

/// One product for queries, keys and values, the queries' part scaled by 1/√(head size) so that attention need not scale.
fn fused_qkv(weights: &mut Weights, prefix: &str, config: &EncoderConfig) -> Result<Linear> {
    let hidden = config.hidden_size;
    let scale = 1.0 / ((hidden / config.num_attention_heads) as f64).sqrt();
    let mut matrices = Vec::with_capacity(3);
    let mut biases = Vec::with_capacity(3);
    for (name, factor) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
        matrices.push((weights.take(&format!("{prefix}.{name}.weight"), &[hidden, hidden])? * factor)?);
        biases.push((weights.take(&format!("{prefix}.{name}.bias"), &[hidden])? * factor)?);
    }
    Ok(Linear::new(Tensor::cat(&matrices, 0)?, Some(Tensor::cat(&biases, 0)?)))
}

/// A layer norm over the hidden size.
fn layer_norm(weights: &mut Weights, prefix: &str, config: &EncoderConfig) -> Result<LayerNorm> {
    let weight = weights.take(&format!("{prefix}.weight"), &[config.hidden_size])?;
    let bias = weights.take(&format!("{prefix}.bias"), &[config.hidden_size])?;
    Ok(LayerNorm::new(weight, bias, config.layer_norm_eps))
}
