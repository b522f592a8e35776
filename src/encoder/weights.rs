//! Weights from a file's bytes, by name.

use std::{collections::HashMap, io::Cursor};

use candle_core::{DType, Device, Result, Tensor, bail, quantized::gguf_file};
use candle_nn::Linear;

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
    /// If the bytes are neither, or cut short.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        let stored = if bytes.starts_with(b"GGUF") {
            let mut reader = Cursor::new(bytes);
            let content = gguf_file::Content::read(&mut reader)?;
            let names: Vec<String> = content.tensor_infos.keys().cloned().collect();
            let read = |name: String| {
                check_size(&name, content.tensor_infos[&name].shape.dims())?;
                let tensor = content.tensor(&mut reader, &name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
                Ok((name, tensor))
            };
            names.into_iter().map(read).collect::<Result<_>>()?
        } else {
            candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?
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

/// candle multiplies the sizes of a shape without looking whether the product fits.
fn check_size(name: &str, shape: &[usize]) -> Result<()> {
    match shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size)) {
        Some(_) => Ok(()),
        None => bail!("tensor {name} has shape {shape:?}, which is more values than can be counted"),
    }
}
