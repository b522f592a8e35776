//! Weights from a file's bytes, by name.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::Linear;

use super::gguf;

/// Named float32 tensors, each taken once and checked for its shape.
#[derive(Debug)]
pub struct Weights {
    tensors: HashMap<String, Tensor>,
    device: Device,
}

impl Weights {
    /// Reads safetensors (F32, F16, BF16) or GGUF (any GGML type), told apart by GGUF's magic number.
    ///
    /// # Errors
    /// If the bytes are neither, cut short, or hold numbers of another type.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        let stored = if bytes.starts_with(gguf::MAGIC) {
            let content = gguf::header(bytes)?;
            let read = |name: &String| Ok((name.clone(), gguf::tensor(&content, bytes, name)?));
            content.tensor_infos.keys().map(read).collect::<Result<_>>()?
        } else {
            let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
            for (name, tensor) in &tensors {
                if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
                    bail!("tensor {name} is {:?}, must be F32, F16 or BF16", tensor.dtype());
                }
            }
            tensors
        };
        Ok(Self { tensors: stored, device: device.clone() })
    }

    /// Takes a tensor out, as float32 on the device.
    ///
    /// # Errors
    /// If there is none of this name, or its shape is not `shape`.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.remove(name) else {
            bail!("no tensor {name}");
        };
        if tensor.dims() != shape {
            bail!("tensor {name} has shape {:?}, the manifest asks for {shape:?}", tensor.dims());
        }
        tensor.to_dtype(DType::F32)?.to_device(&self.device)
    }

    /// A dense layer `[out, in]` with bias.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn linear(&mut self, prefix: &str, out: usize, input: usize) -> Result<Linear> {
        let weight = self.take(&format!("{prefix}.weight"), &[out, input])?;
        let bias = self.take(&format!("{prefix}.bias"), &[out])?;
        Ok(Linear::new(weight, Some(bias)))
    }
}
