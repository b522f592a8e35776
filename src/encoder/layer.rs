//! One transformer layer.

use candle_core::{Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module};

use super::{EncoderConfig, Weights, ops};

/// A post-norm BERT layer (Devlin et al. 2019): self-attention and a feed-forward block, each followed by residual and norm.
#[derive(Debug)]
pub struct Layer {
    heads: usize,
    /// Queries, keys and values in one product.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    /// Takes layer `index` out of weights named as in Hugging Face's `BertModel`.
    pub fn load(weights: &mut Weights, index: usize, config: &EncoderConfig) -> Result<Self> {
        let prefix = format!("encoder.layer.{index}");
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = format!("{prefix}.attention");
        Ok(Self {
            heads: config.num_attention_heads,
            qkv: fused_qkv(weights, &format!("{attention}.self"), config)?,
            attention_output: linear(weights, &format!("{attention}.output.dense"), hidden, hidden)?,
            attention_norm: layer_norm(weights, &format!("{attention}.output.LayerNorm"), config)?,
            intermediate: linear(weights, &format!("{prefix}.intermediate.dense"), inner, hidden)?,
            output: linear(weights, &format!("{prefix}.output.dense"), hidden, inner)?,
            output_norm: layer_norm(weights, &format!("{prefix}.output.LayerNorm"), config)?,
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`; sequence `i` holds the rows `bounds[i]..bounds[i + 1]`.
    pub fn forward(&self, x: &Tensor, bounds: &[usize]) -> Result<Tensor> {
        let context = ops::attention(&self.qkv.forward(x)?, bounds, self.heads)?;
        let x = ops::add_norm(&self.attention_output.forward(&context)?, x, &self.attention_norm)?;
        let inner = ops::gelu(&self.intermediate.forward(&x)?)?;
        ops::add_norm(&self.output.forward(&inner)?, &x, &self.output_norm)
    }
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

/// A dense layer with bias, `[out, in]`.
pub(crate) fn linear(weights: &mut Weights, prefix: &str, out: usize, input: usize) -> Result<Linear> {
    let weight = weights.take(&format!("{prefix}.weight"), &[out, input])?;
    let bias = weights.take(&format!("{prefix}.bias"), &[out])?;
    Ok(Linear::new(weight, Some(bias)))
}

/// A layer norm over the hidden size.
pub(super) fn layer_norm(weights: &mut Weights, prefix: &str, config: &EncoderConfig) -> Result<LayerNorm> {
    let weight = weights.take(&format!("{prefix}.weight"), &[config.hidden_size])?;
    let bias = weights.take(&format!("{prefix}.bias"), &[config.hidden_size])?;
    Ok(LayerNorm::new(weight, bias, config.layer_norm_eps))
}
