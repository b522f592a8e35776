//! Why a model could not be loaded.

use std::path::PathBuf;

use thiserror::Error;

use crate::encoder::without_backtrace;

/// A failure to find, read, check or build a model bundle. Each is one sentence that says what to look at.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file of the bundle could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the bundle could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `manifest.json` is not the JSON of a manifest.
    #[error("the manifest is not valid: {0}")]
    Manifest(#[source] serde_json::Error),
    /// The manifest was changed after it was sealed.
    #[error(
        "the manifest is damaged: its revision is {expected}, its content has {actual} (after an edit, seal it: rasid model seal DIR)"
    )]
    Revision {
        /// The revision it states.
        expected: String,
        /// The hash of what it holds.
        actual: String,
    },
    /// A field of the manifest contradicts another or this version's limits.
    #[error("the manifest's field {field} {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file is shorter or longer than the manifest says.
    #[error("{} has {actual} bytes, the manifest says {expected}: the file is truncated or not of this bundle", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes on disk.
        actual: u64,
    },
    /// A file's content is not what the manifest says.
    #[error("{} is damaged: its SHA-256 is {actual}, the manifest says {expected}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Hash by the manifest.
        expected: String,
        /// Hash of the file.
        actual: String,
    },
    /// `tokenizer.json` could not be understood.
    #[error("cannot load the tokenizer: {0}")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Weights are missing, of another shape, or in a format that cannot be read.
    #[error("cannot load the weights: {0}")]
    Weights(#[source] candle_core::Error),
    /// There is no such device, or this build cannot use it.
    #[error("cannot compute on {device}: {source}")]
    Device {
        /// The device.
        device: String,
        /// Why.
        source: candle_core::Error,
    },
    /// A reference to the hub that is not `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`.
    #[error("{0:?} is not a model on the hub: write hf:ORG/NAME or hf:ORG/NAME@REVISION")]
    HubReference(String),
    /// The hub did not give a file.
    #[error("cannot fetch {file} of {repo} from the hub: {source}")]
    Hub {
        /// Organisation and name.
        repo: String,
        /// The file.
        file: String,
        /// Why.
        source: Box<hf_hub::api::sync::ApiError>,
    },
    /// Offline mode, and the file was not fetched before.
    #[error(
        "{file} of {repo} is not in the cache and HF_HUB_OFFLINE is set: unset it, or fetch the model once with a network"
    )]
    Offline {
        /// Organisation and name.
        repo: String,
        /// The file.
        file: String,
    },
}

impl ModelError {
    /// [`ModelError::Device`].
    pub(crate) fn device(device: impl ToString, source: candle_core::Error) -> Self {
        Self::Device { device: device.to_string(), source: without_backtrace(source) }
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        Self::Weights(without_backtrace(error))
    }
}
