//! The arithmetic of a layer, on candle's own operations.
//!
//! Layers call nothing but these functions and matrix products, so a faster implementation of one of them changes one place.

use candle_core::{D, Result, Tensor};
use candle_nn::{LayerNorm, Module, ops::softmax_last_dim};

/// Multi-head self-attention of packed sequences, each within itself.
///
/// `qkv` is `[tokens, 3 · hidden]`: queries (already scaled), keys and values side by side. Sequence `i` holds the rows
/// `bounds[i]..bounds[i + 1]`. Returns the context, `[tokens, hidden]`.
pub fn attention(qkv: &Tensor, bounds: &[usize], heads: usize) -> Result<Tensor> {
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

/// `norm(x + residual)`, both `[tokens, hidden]`.
pub fn add_norm(x: &Tensor, residual: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
    norm.forward(&(x + residual)?)
}

/// Exact GELU, `x · Φ(x)`, as BERT's `hidden_act: "gelu"` has it.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

/// Mean over the rows of each sequence: `[tokens, hidden]` to `[sequences, hidden]`.
pub fn mean_pool(hidden: &Tensor, bounds: &[usize]) -> Result<Tensor> {
    let mean = |pair: &[usize]| hidden.narrow(0, pair[0], pair[1] - pair[0])?.mean_keepdim(D::Minus2);
    Tensor::cat(&bounds.windows(2).map(mean).collect::<Result<Vec<_>>>()?, 0)
}
