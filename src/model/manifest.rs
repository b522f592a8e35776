//! The manifest of a model bundle: everything about a model that is not a weight.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ModelError;
use crate::{encoder::EncoderConfig, text::WindowConfig};

/// The file that describes a bundle, at its root.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The bundle format this version reads.
const FORMAT: u32 = 1;

/// What a bundle says of itself, as `manifest.json` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Bundle format; this version reads format 1.
    pub format: u32,
    /// Name of the model.
    pub name: String,
    /// Semantic version of the model. Thresholds that a caller stores belong to it.
    pub version: String,
    /// `sha256:` and the hash of the rest of this manifest, which in turn holds the hash of every other file: the content hash
    /// of the bundle.
    pub revision: String,
    /// SPDX expression of the licence of the weights.
    pub license: String,
    /// The other files of the bundle.
    pub files: Files,
    /// Shape of the transformer.
    pub encoder: EncoderConfig,
    /// How a document is cut into windows.
    pub window: WindowConfig,
    /// Labels of the token head, in the order of its rows, in BIO notation.
    pub tags: Vec<String>,
    /// The types of entity that `tags` speaks of.
    pub entity_types: Vec<EntityTypeSpec>,
    /// Topics of the document head, in the order of its rows.
    pub topics: Vec<TopicSpec>,
    /// How scores were made probabilities.
    pub calibration: CalibrationSpec,
    /// BCP 47 tags of the languages on which the model was evaluated.
    pub evaluated_languages: Vec<String>,
}

/// The files of a bundle besides the manifest and the card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// `tokenizer.json` of the tokenizers crate.
    pub tokenizer: FileSpec,
    /// The compact form of the same tokenizer, which is loaded instead if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_tokenizer: Option<FileSpec>,
    /// GGUF with the word embeddings in Q4_0.
    pub embeddings: FileSpec,
    /// Encoder and heads: safetensors (F16, F32) or GGUF (Q8_0, F16, F32), by extension.
    pub encoder: FileSpec,
}

impl Files {
    /// All files, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &FileSpec> {
        [&self.tokenizer].into_iter().chain(&self.compact_tokenizer).chain([&self.embeddings, &self.encoder])
    }

    /// All files, in the same order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut FileSpec> {
        let tokenizers = [&mut self.tokenizer].into_iter().chain(&mut self.compact_tokenizer);
        tokenizers.chain([&mut self.embeddings, &mut self.encoder])
    }
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// File name, without a folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A type of entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityTypeSpec {
    /// Name, as the tags have it behind `B-` and `I-`.
    pub id: String,
    /// What it covers, in a sentence.
    pub description: String,
    /// How the model's own probability of an entity becomes a calibrated one; none takes it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<BetaSpec>,
}

/// Beta calibration of a probability or of a logit; see [`crate::heads::calibration`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetaSpec {
    /// Slope of the calibrated logit far above zero; above 0.
    pub scale: f32,
    /// Slope far below zero, above 0; that above unless given (Platt scaling).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_below: Option<f32>,
    /// Added to it.
    pub bias: f32,
}

impl BetaSpec {
    /// Slope far below zero.
    pub fn scale_below(&self) -> f32 {
        self.scale_below.unwrap_or(self.scale)
    }

    /// What is wrong with it.
    fn problem(&self, of: &str) -> Option<String> {
        let slopes = [("scale", self.scale), ("scale_below", self.scale_below())];
        let slope = slopes.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0));
        if let Some((name, value)) = slope {
            return Some(format!("{name} of {of:?} is {value}, must be finite and above 0"));
        }
        (!self.bias.is_finite()).then(|| format!("bias of {of:?} is {}, must be finite", self.bias))
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// Name in requests and answers.
    pub id: String,
    /// What it covers, in a sentence.
    pub description: String,
    /// IPTC Media Topic code, `medtop:16000000`.
    pub iptc_code: String,
    /// Probability from which the topic is assigned, in [0, 1].
    pub threshold: f32,
    /// Of its calibration, as all of these: see [`BetaSpec`].
    pub scale: f32,
    /// See [`BetaSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_below: Option<f32>,
    /// See [`BetaSpec`].
    pub bias: f32,
    /// Whether there were enough examples of it to fit on. If not, slopes, bias and threshold are nearly those of all topics together.
    /// Without meaning in a bundle that is not calibrated.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub fitted: bool,
}

impl TopicSpec {
    /// How its logit becomes a probability.
    pub fn calibration(&self) -> BetaSpec {
        BetaSpec { scale: self.scale, scale_below: self.scale_below, bias: self.bias }
    }

    /// Sets it.
    pub fn set_calibration(&mut self, BetaSpec { scale, scale_below, bias }: BetaSpec) {
        (self.scale, self.scale_below, self.bias) = (scale, scale_below, bias);
    }
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// How scores were made probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationSpec {
    /// Names the calibration in every answer.
    pub id: String,
    /// Whether it was fitted on held-out data.
    pub calibrated: bool,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ModelError::Manifest`] if the text is not a manifest, [`ModelError::Revision`] if its content hash differs, and
    /// [`ModelError::Invalid`] naming the field if its parts contradict each other.
    pub fn from_json(json: &[u8]) -> Result<Self, ModelError> {
        let manifest: Manifest = serde_json::from_slice(json).map_err(ModelError::Manifest)?;
        let actual = manifest.content_hash()?;
        if manifest.revision != actual {
            return Err(ModelError::Revision { expected: manifest.revision, actual });
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as the text of `manifest.json`, its revision computed anew.
    ///
    /// # Errors
    /// As [`Manifest::from_json`].
    pub fn to_sealed_json(&self) -> Result<String, ModelError> {
        self.check()?;
        let sealed = Manifest { revision: self.content_hash()?, ..self.clone() };
        serde_json::to_string_pretty(&sealed).map(|json| json + "\n").map_err(ModelError::Manifest)
    }

    /// SHA-256 of the manifest with an empty revision: keys sorted, no white space.
    fn content_hash(&self) -> Result<String, ModelError> {
        let unsealed = Manifest { revision: String::new(), ..self.clone() };
        // Through `Value`, whose objects are sorted by key: the order of fields in the file does not matter.
        let value = serde_json::to_value(unsealed).map_err(ModelError::Manifest)?;
        Ok(format!("sha256:{}", hex(&Sha256::digest(value.to_string()))))
    }

    fn check(&self) -> Result<(), ModelError> {
        let invalid = |field: &'static str, problem: String| Err(ModelError::Invalid { field, problem });
        if self.format != FORMAT {
            return invalid("format", format!("is {}, this version reads {FORMAT}", self.format));
        }
        for file in self.files.iter() {
            let plain = !file.name.is_empty() && !file.name.contains(['/', '\\', '\0']) && !file.name.starts_with('.');
            if !plain {
                return invalid("files", format!("{:?} is not a plain file name", file.name));
            }
        }
        if let Err(problem) = self.encoder.check() {
            return invalid("encoder", problem);
        }
        let WindowConfig { tokens, overlap } = self.window;
        if tokens < 8 || tokens > self.encoder.max_position_embeddings {
            let most = self.encoder.max_position_embeddings;
            return invalid("window.tokens", format!("is {tokens}, must be 8 to {most}"));
        }
        if overlap > (tokens - 2) / 2 {
            return invalid("window.overlap", format!("is {overlap}, must be at most {}", (tokens - 2) / 2));
        }
        self.check_labels()
    }

    fn check_labels(&self) -> Result<(), ModelError> {
        let invalid = |field: &'static str, problem: String| Err(ModelError::Invalid { field, problem });
        let mut expected = vec!["O".to_owned()];
        for EntityTypeSpec { id, .. } in &self.entity_types {
            expected.extend([format!("B-{id}"), format!("I-{id}")]);
        }
        if self.tags != expected {
            return invalid("tags", format!("must be {expected:?} to match entity_types"));
        }
        let calibrated = |kind: &EntityTypeSpec| kind.calibration.and_then(|calibration| calibration.problem(&kind.id));
        if let Some(problem) = self.entity_types.iter().find_map(calibrated) {
            return invalid("entity_types", problem);
        }
        let mut seen = HashSet::new();
        for topic in &self.topics {
            if !seen.insert(&topic.id) {
                return invalid("topics", format!("{:?} stands twice", topic.id));
            }
            if !(0.0..=1.0).contains(&topic.threshold) {
                return invalid(
                    "topics",
                    format!("threshold of {:?} is {}, must be 0 to 1", topic.id, topic.threshold),
                );
            }
            if let Some(problem) = topic.calibration().problem(&topic.id) {
                return invalid("topics", problem);
            }
        }
        if self.topics.is_empty() {
            return invalid("topics", "is empty".to_owned());
        }
        Ok(())
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
