//! The transformer: a BERT encoder over packed sequences.
//!
//! All tokens of a batch stand in one `[tokens, hidden]` matrix, sequence behind sequence, without padding. Every operation but
//! attention works row by row, and attention stays within a sequence, so no sequence can see another.

mod config;
mod embeddings;
mod error;
mod layer;
pub mod ops;
mod weights;

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::{LayerNorm, Module};

use self::layer::Layer;
pub use self::{config::EncoderConfig, embeddings::WordEmbeddings, weights::Weights};
pub(crate) use self::{error::without_backtrace, layer::linear};

/// Token sequences, one behind the other.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    ids: Vec<u32>,
    bounds: Vec<usize>,
}

impl Default for PackedBatch {
    fn default() -> Self {
        Self { ids: Vec::new(), bounds: vec![0] }
    }
}

impl PackedBatch {
    /// Appends a sequence of token ids, special tokens included. An empty one is ignored.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.ids.extend(ids);
        if self.bounds.last() != Some(&self.ids.len()) {
            self.bounds.push(self.ids.len());
        }
    }

    /// Tokens in all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Where sequences begin and end: sequence `i` is `bounds()[i]..bounds()[i + 1]`.
    pub fn bounds(&self) -> &[usize] {
        &self.bounds
    }
}

/// A BERT encoder (Devlin et al. 2019) with absolute positions, token type 0 throughout.
#[derive(Debug)]
pub struct Encoder {
    words: WordEmbeddings,
    /// Position and token-type embeddings added up: `[positions, hidden]`, rows on the CPU.
    positions: Vec<f32>,
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    config: EncoderConfig,
    device: Device,
}

impl Encoder {
    /// Takes the encoder out of weights named as in Hugging Face's `BertModel`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` asks for.
    pub fn load(weights: &mut Weights, words: WordEmbeddings, config: &EncoderConfig, device: &Device) -> Result<Self> {
        let hidden = config.hidden_size;
        let positions =
            weights.take("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let types = weights.take("embeddings.token_type_embeddings.weight", &[2, hidden])?;
        let positions = positions.broadcast_add(&types.narrow(0, 0, 1)?)?;
        Ok(Self {
            words,
            positions: positions.flatten_all()?.to_vec1()?,
            embedding_norm: layer::layer_norm(weights, "embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(weights, index, config))
                .collect::<Result<_>>()?,
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// Last hidden states of all tokens: `[batch.tokens(), hidden]`, float32.
    ///
    /// # Errors
    /// If the batch is empty, a sequence is longer than the positions, or an id is not in the vocabulary.
    pub fn forward(&self, batch: &PackedBatch) -> Result<Tensor> {
        let mut x = self.embedding_norm.forward(&self.embed(batch)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, batch.bounds())?;
        }
        Ok(x)
    }

    /// The shape of this encoder.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Sum of word, position and type embeddings.
    fn embed(&self, batch: &PackedBatch) -> Result<Tensor> {
        let hidden = self.config.hidden_size;
        if batch.ids.is_empty() {
            bail!("the batch is empty");
        }
        let mut rows = Vec::with_capacity(batch.tokens() * hidden);
        for bounds in batch.bounds.windows(2) {
            let ids = &batch.ids[bounds[0]..bounds[1]];
            if ids.len() > self.config.max_position_embeddings {
                bail!(
                    "sequence of {} tokens, the model has {} positions",
                    ids.len(),
                    self.config.max_position_embeddings
                );
            }
            let first = rows.len();
            for &id in ids {
                self.words.push_row(id, &mut rows)?;
            }
            for (value, position) in rows[first..].iter_mut().zip(&self.positions) {
                *value += position;
            }
        }
        Tensor::from_vec(rows, (batch.tokens(), hidden), &self.device)
    }
}
