//! GGUF files (ggml's `gguf.md`, versions 2 and 3) by way of candle's reader. It multiplies and divides by what a file says without
//! looking, so that is looked at here.

use std::io::Cursor;

use candle_core::{
    Device, Result, Tensor, bail,
    quantized::gguf_file::{Content, TensorInfo},
};
use memchr::memmem;

/// What such a file begins with.
pub const MAGIC: &[u8] = b"GGUF";

/// Metadata by which a file sets the alignment of its tensors.
const ALIGNMENT: &[u8] = b"general.alignment";

/// Without it.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Reads what is before the tensors.
///
/// # Errors
/// If the bytes are no GGUF file, cut short, or do not hold one tensor behind the other.
pub fn header(bytes: &[u8]) -> Result<Content> {
    check_alignment(bytes)?;
    let content = Content::read(&mut Cursor::new(bytes))?;
    check_layout(&content)?;
    Ok(content)
}

/// Reads a tensor, as float32.
///
/// # Errors
/// If it is not there, or larger than the file.
pub fn tensor(content: &Content, bytes: &[u8], name: &str) -> Result<Tensor> {
    content.tensor(&mut Cursor::new(bytes), name, &Device::Cpu)?.dequantize(&Device::Cpu)
}

fn check_alignment(bytes: &[u8]) -> Result<()> {
    let version = bytes.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    if !matches!(version, Some(2 | 3)) {
        bail!("GGUF version {version:?} cannot be read, only 2 and 3");
    }
    // Without metadata, as our own files are, there is nothing to look for.
    if bytes.get(16..24) == Some(&[0; 8]) {
        return Ok(());
    }
    for at in memmem::find_iter(bytes, ALIGNMENT) {
        // The number of a type, then the value.
        let value = bytes.get(at + ALIGNMENT.len()..).and_then(|rest| match rest {
            [0 | 1, 0, 0, 0, value @ ..] => value.get(..1),
            [2 | 3, 0, 0, 0, value @ ..] => value.get(..2),
            [4 | 5, 0, 0, 0, value @ ..] => value.get(..4),
            _ => None,
        });
        if value.is_some_and(|value| value.iter().all(|&byte| byte == 0)) {
            bail!("general.alignment must not be 0");
        }
    }
    Ok(())
}

/// Each tensor begins where the one before it ends, padded, as ggml's reader asks for, too: else one could lie on another.
fn check_layout(content: &Content) -> Result<()> {
    let alignment = match content.metadata.get("general.alignment") {
        Some(value) => value.to_u64()?,
        None => DEFAULT_ALIGNMENT,
    };
    let mut tensors: Vec<_> = content.tensor_infos.iter().collect();
    tensors.sort_by_key(|(name, info)| (info.offset, *name));
    let mut end = 0_u64;
    for (name, info) in tensors {
        let bytes = size(name, info)?;
        if info.offset != end {
            bail!("tensor {name} begins at {}, must at {end}", info.offset);
        }
        let Some(next) = end.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(alignment)) else {
            bail!("tensor {name} ends beyond what can be counted");
        };
        end = next;
    }
    Ok(())
}

/// Bytes of a tensor.
fn size(name: &str, info: &TensorInfo) -> Result<u64> {
    let shape = info.shape.dims();
    let values = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    match values.and_then(|values| (values / info.ggml_dtype.block_size()).checked_mul(info.ggml_dtype.type_size())) {
        Some(0) => bail!("tensor {name} has shape {shape:?}, which holds nothing"),
        Some(bytes) => Ok(bytes as u64),
        None => bail!("tensor {name} has shape {shape:?}, which is more than can be counted"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor, gguf_file};

    use super::*;

    /// A file with one tensor of four values, with an alignment set by metadata.
    fn file(alignment: u32) -> Vec<u8> {
        let tensor = Tensor::new(&[1_f32, 2.0, 3.0, 4.0], &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
        let mut bytes = Cursor::new(Vec::new());
        let alignment = gguf_file::Value::U32(alignment);
        gguf_file::write(&mut bytes, &[("general.alignment", &alignment)], &[("a", &tensor)]).unwrap();
        bytes.into_inner()
    }

    fn read(bytes: &[u8]) -> Result<Vec<f32>> {
        tensor(&header(bytes)?, bytes, "a")?.to_vec1()
    }

    #[test]
    fn sizes_that_cannot_be_are_errors() {
        let good = file(32);
        assert_eq!(read(&good).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert!(read(&file(0)).unwrap_err().to_string().contains("alignment must not be 0"));
        // The shape's one size, behind the name and the number of sizes.
        let at = memmem::find(&good, b"\x01\0\0\0\0\0\0\0a\x01\0\0\0").unwrap() + 13;
        for (size, expected) in [(0, "holds nothing"), (u64::MAX, "more than can be counted"), (1 << 62, "than can be")]
        {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&size.to_le_bytes());
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{size}: {error}");
        }
        let mut old = good.clone();
        old[4] = 1;
        assert!(read(&old).unwrap_err().to_string().contains("version Some(1)"));
        // Behind the values is padding.
        let last = good.iter().rposition(|&byte| byte != 0).unwrap();
        for length in 0..=last {
            assert!(read(&good[..length]).is_err(), "{length} bytes");
        }
    }
}
