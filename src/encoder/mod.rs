//! The transformer: a BERT encoder over packed sequences.
//!
//! All tokens of a batch stand side by side, sequence behind sequence, without padding. Every operation but attention works token
//! by token, and attention stays within a sequence, so no sequence can see another.

mod batch;
mod config;
mod cpu;
mod device;
mod embeddings;
mod error;
mod gguf;
pub mod kernels;
mod weights;

use candle_core::{Device, Result, Tensor, bail};

pub(crate) use self::error::without_backtrace;
pub use self::{batch::PackedBatch, config::EncoderConfig, embeddings::WordEmbeddings, weights::Weights};
use self::{batch::sequences_within, cpu::CpuLayers, device::DeviceLayers, embeddings::Embeddings};

/// What computes the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Rasid's own kernels, on a CPU.
    Kernels,
    /// candle's operations, on any device.
    Candle,
}

impl Backend {
    /// The fastest for a device.
    pub fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::Kernels } else { Self::Candle }
    }
}

/// A BERT encoder (Devlin et al. 2019) with absolute positions, token type 0 throughout.
#[derive(Debug)]
pub struct Encoder {
    embeddings: Embeddings,
    layers: Layers,
    config: EncoderConfig,
    device: Device,
}

#[derive(Debug)]
enum Layers {
    Cpu(CpuLayers),
    Device(DeviceLayers),
}

impl Encoder {
    /// Takes the encoder out of weights named as in Hugging Face's `BertModel`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` asks for, or the kernels are wanted on a device that is no CPU.
    pub fn load(
        weights: &mut Weights,
        words: WordEmbeddings,
        config: &EncoderConfig,
        device: &Device,
        backend: Backend,
    ) -> Result<Self> {
        let layers = match backend {
            Backend::Kernels if !device.is_cpu() => bail!("the kernels compute on a CPU, not on {device:?}"),
            Backend::Kernels => Layers::Cpu(CpuLayers::load(weights, config)?),
            Backend::Candle => Layers::Device(DeviceLayers::load(weights, config)?),
        };
        let embeddings = Embeddings::load(weights, words, config)?;
        Ok(Self { embeddings, layers, config: config.clone(), device: device.clone() })
    }

    /// Last hidden states of all tokens: `[batch.tokens(), hidden]`, float32. On a CPU it computes in the threads of the rayon pool
    /// that it is called from.
    ///
    /// # Errors
    /// If the batch is empty, a sequence is longer than the positions, or an id is not in the vocabulary.
    pub fn forward(&self, batch: &PackedBatch) -> Result<Tensor> {
        self.embeddings.check(batch)?;
        let shape = (batch.tokens(), self.config.hidden_size);
        match &self.layers {
            Layers::Cpu(layers) => Tensor::from_vec(layers.forward(&self.embeddings, batch), shape, &self.device),
            Layers::Device(layers) => {
                let embedded = Tensor::from_vec(self.embeddings.rows(batch), shape, &self.device)?;
                layers.forward(&embedded, batch.bounds())
            }
        }
    }

    /// The shape of this encoder.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
