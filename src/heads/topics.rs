//! Topics: from pooled hidden states to logits.

use candle_core::{D, Result, Tensor};
use candle_nn::{Linear, Module};

use crate::encoder::Weights;

/// A multi-label document head: one logit a topic from the mean hidden state of a window.
#[derive(Debug)]
pub struct TopicHead {
    linear: Linear,
}

impl TopicHead {
    /// Takes `topic.weight` `[topics, hidden]` and `topic.bias` `[topics]`.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn load(weights: &mut Weights, topics: usize, hidden: usize) -> Result<Self> {
        Ok(Self { linear: weights.linear("topic", topics, hidden)? })
    }

    /// Mean hidden state of each window, special tokens included: `[tokens, hidden]` to `[windows, hidden]`.
    pub fn pool(&self, hidden: &Tensor, bounds: &[usize]) -> Result<Tensor> {
        let mean = |pair: &[usize]| hidden.narrow(0, pair[0], pair[1] - pair[0])?.mean_keepdim(D::Minus2);
        Tensor::cat(&bounds.windows(2).map(mean).collect::<Result<Vec<_>>>()?, 0)
    }

    /// Logits: `[windows, hidden]` to `[windows, topics]`.
    pub fn logits(&self, pooled: &Tensor) -> Result<Tensor> {
        self.linear.forward(pooled)
    }

    /// What each token adds to its window's logits, before division by the window's length: `[tokens, hidden]` to
    /// `[tokens, topics]`. Pooling is a mean and the head linear, so their mean over a window plus the bias is exactly its logits.
    pub fn contributions(&self, hidden: &Tensor) -> Result<Tensor> {
        hidden.matmul(&self.linear.weight().t()?)
    }
}

/// Mean of rows weighted by the tokens each stands for: windows to document.
#[derive(Debug, Clone, Default)]
pub struct WeightedMean {
    sum: Vec<f64>,
    weight: f64,
}

impl WeightedMean {
    /// Adds a row. All rows have the same length.
    pub fn add(&mut self, row: &[f32], weight: f64) {
        self.sum.resize(row.len(), 0.0);
        for (sum, value) in self.sum.iter_mut().zip(row) {
            *sum += f64::from(*value) * weight;
        }
        self.weight += weight;
    }

    /// The weight of all rows so far.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The mean; empty if nothing was added.
    pub fn mean(&self) -> Vec<f32> {
        self.sum.iter().map(|sum| (sum / self.weight) as f32).collect()
    }
}
