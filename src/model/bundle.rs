//! A bundle on disk: its manifest, and its files checked against it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use candle_core::Device;
use sha2::{Digest, Sha256};

use super::{FileSpec, MANIFEST_FILE, Manifest, ModelError, manifest::hex};
use crate::encoder::Weights;

/// A bundle whose manifest has been read and checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
}

impl Bundle {
    /// Opens the bundle in a folder.
    ///
    /// # Errors
    /// If the manifest is missing, damaged or contradicts itself.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, ModelError> {
        let folder = folder.into();
        let manifest = Manifest::from_json(&read(&folder.join(MANIFEST_FILE))?)?;
        Ok(Self { folder, manifest })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the bundle says of itself.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// The bytes of `tokenizer.json`, verified.
    pub(crate) fn tokenizer(&self) -> Result<Vec<u8>, ModelError> {
        self.verified(&self.manifest.files.tokenizer)
    }

    /// The bytes of the GGUF with the word embeddings, verified.
    pub(crate) fn embeddings(&self) -> Result<Vec<u8>, ModelError> {
        self.verified(&self.manifest.files.embeddings)
    }

    /// Encoder and heads, verified.
    pub(crate) fn weights(&self, device: &Device) -> Result<Weights, ModelError> {
        let bytes = self.verified(&self.manifest.files.encoder)?;
        Ok(Weights::from_bytes(&bytes, device)?)
    }

    /// Reads a file and checks it against the manifest.
    fn verified(&self, file: &FileSpec) -> Result<Vec<u8>, ModelError> {
        let path = self.folder.join(&file.name);
        let size = fs::metadata(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?.len();
        if size != file.bytes {
            return Err(ModelError::Size { path, expected: file.bytes, actual: size });
        }
        let bytes = read(&path)?;
        let actual = hex(&Sha256::digest(&bytes));
        if actual != file.sha256 {
            return Err(ModelError::Checksum { path, expected: file.sha256.clone(), actual });
        }
        Ok(bytes)
    }
}

/// Reads a file whole; the error names it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })
}
