//! Making a bundle from trained weights.

use std::{
    collections::HashMap,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use sha2::{Digest, Sha256};

use super::{FileSpec, MANIFEST_FILE, Manifest, ModelError, bundle::read, manifest::hex};
use crate::text;

/// How encoder and heads are stored. Either is computed with in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderFormat {
    /// Half precision in safetensors.
    F16,
    /// Eight-bit blocks of 32 (GGML Q8_0) in GGUF; vectors stay float32.
    Q8_0,
}

/// Writes a bundle into the folder `out`.
///
/// `weights` is a safetensors file named as [`crate::encoder::Encoder::load`] asks for, `embeddings` a GGUF with the Q4_0 word
/// embeddings, `tokenizer` a `tokenizer.json`, whose compact form is made too if it is a Unigram, and `manifest` a manifest whose
/// `files` and `revision` are replaced, so another bundle's will do as a draft.
///
/// # Errors
/// If a file cannot be read or written, or is not what it should be.
pub fn pack(
    manifest: &Path,
    weights: &Path,
    embeddings: &Path,
    tokenizer: &Path,
    format: EncoderFormat,
    out: &Path,
) -> Result<Manifest, ModelError> {
    fs::create_dir_all(out).map_err(|source| ModelError::Write { path: out.to_owned(), source })?;
    let (encoder_name, encoder) = encode_weights(&read(weights)?, format)?;
    let tokenizer = read(tokenizer)?;
    let compact = text::compile_tokenizer(&tokenizer).map_err(ModelError::Tokenizer)?;
    let files = [
        ("tokenizer", "tokenizer.json", Some(tokenizer)),
        ("compact_tokenizer", "tokenizer.safetensors", compact),
        ("embeddings", "embeddings.gguf", Some(read(embeddings)?)),
        ("encoder", encoder_name, Some(encoder)),
    ];
    let mut draft: serde_json::Value = serde_json::from_slice(&read(manifest)?).map_err(ModelError::Manifest)?;
    draft["revision"] = "".into();
    draft["files"] = serde_json::json!({});
    for (role, name, bytes) in files {
        let Some(bytes) = bytes else { continue };
        write(&out.join(name), &bytes)?;
        draft["files"][role] = serde_json::to_value(describe(name, &bytes)).map_err(ModelError::Manifest)?;
    }
    let manifest: Manifest = serde_json::from_value(draft).map_err(ModelError::Manifest)?;
    write_sealed(&manifest, out)
}

/// Takes a bundle's files and manifest as they are now for right: computes the hashes and the revision anew.
///
/// # Errors
/// If a file cannot be read or written, or the manifest contradicts itself.
pub fn seal(folder: &Path) -> Result<Manifest, ModelError> {
    let json = read(&folder.join(MANIFEST_FILE))?;
    write_manifest(serde_json::from_slice(&json).map_err(ModelError::Manifest)?, folder)
}

/// Writes a manifest into a bundle: with hashes of the files as they are now, and the revision that comes of it.
///
/// # Errors
/// As [`seal`].
pub fn write_manifest(mut manifest: Manifest, folder: &Path) -> Result<Manifest, ModelError> {
    for file in manifest.files.iter_mut() {
        *file = describe(&file.name, &read(&folder.join(&file.name))?);
    }
    write_sealed(&manifest, folder)
}

fn write_sealed(manifest: &Manifest, folder: &Path) -> Result<Manifest, ModelError> {
    let json = manifest.to_sealed_json()?;
    write(&folder.join(MANIFEST_FILE), json.as_bytes())?;
    Manifest::from_json(json.as_bytes())
}

fn describe(name: &str, bytes: &[u8]) -> FileSpec {
    FileSpec { name: name.to_owned(), bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
}

/// Name and bytes of the encoder's file.
fn encode_weights(safetensors: &[u8], format: EncoderFormat) -> Result<(&'static str, Vec<u8>), ModelError> {
    let tensors = candle_core::safetensors::load_buffer(safetensors, &Device::Cpu)?;
    match format {
        EncoderFormat::F16 => {
            let half: HashMap<String, Tensor> = tensors
                .into_iter()
                .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F16)?)))
                .collect::<candle_core::Result<_>>()?;
            let bytes = safetensors::serialize(&half, None).map_err(candle_core::Error::from)?;
            Ok(("encoder.safetensors", bytes))
        }
        EncoderFormat::Q8_0 => Ok(("encoder.gguf", to_gguf(tensors)?)),
    }
}

fn to_gguf(tensors: HashMap<String, Tensor>) -> candle_core::Result<Vec<u8>> {
    let mut quantized = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        // Vectors are few and sensitive.
        let dtype = if tensor.rank() == 2 { GgmlDType::Q8_0 } else { GgmlDType::F32 };
        quantized.push((name, QTensor::quantize(&tensor.to_dtype(DType::F32)?, dtype)?));
    }
    quantized.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors: Vec<(&str, &QTensor)> = quantized.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut bytes = Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &[], &tensors)?;
    Ok(bytes.into_inner())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    fs::write(path, bytes).map_err(|source| ModelError::Write { path: PathBuf::from(path), source })
}
