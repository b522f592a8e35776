//! Model bundles: a folder with a manifest, a tokenizer and weights, on disk or on the Hugging Face hub.

mod bundle;
mod error;
mod hub;
mod manifest;
mod pack;
mod source;

pub use self::{
    bundle::Bundle,
    error::ModelError,
    manifest::{BetaSpec, CalibrationSpec, EntityTypeSpec, FileSpec, Files, MANIFEST_FILE, Manifest, TopicSpec},
    pack::{EncoderFormat, pack, seal, write_manifest},
    source::ModelSource,
};
