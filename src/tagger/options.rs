//! What a caller wants, and the plan that comes of it for one model.

use std::collections::{BTreeMap, HashSet};

use thiserror::Error;

use crate::model::Manifest;

/// What to compute; the default asks for everything with the model's own thresholds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TagOptions {
    /// Parts to compute; empty for all.
    pub features: HashSet<Feature>,
    /// What to do with a document longer than one window.
    pub overflow: Overflow,
    /// One threshold for all topics and entities, in [0, 1].
    pub min_probability: Option<f32>,
    /// Threshold of single topics, in [0, 1]; comes before `min_probability`.
    pub topic_thresholds: BTreeMap<String, f32>,
    /// Topics to answer for; empty for all.
    pub topics: Vec<String>,
    /// Entity types to answer with; empty for all.
    pub entity_types: Vec<String>,
    /// Return topics that are not assigned too.
    pub include_all_scores: bool,
    /// Return the sentences that speak for each assigned topic.
    pub include_evidence: bool,
    /// Return the document's embedding.
    pub include_embedding: bool,
    /// The only model version that may answer; empty for any.
    pub required_model_version: String,
}

/// A part of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Topics.
    Topics,
    /// Entities.
    Entities,
    /// Language.
    Language,
}

/// What to do with a document longer than one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Read all of it, window by window.
    #[default]
    Window,
    /// Read the first window and say so.
    Truncate,
    /// Refuse it.
    Reject,
}

/// Options that cannot be met.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OptionsError {
    /// A topic that the model does not know.
    #[error("{name:?} is not a topic of this model (see GetModelInfo)")]
    UnknownTopic {
        /// Path of the field.
        field: String,
        /// What was asked for.
        name: String,
    },
    /// An entity type that the model does not know.
    #[error("{name:?} is not an entity type of this model (see GetModelInfo)")]
    UnknownEntityType {
        /// Path of the field.
        field: String,
        /// What was asked for.
        name: String,
    },
    /// A threshold that is no probability.
    #[error("is {value}, must be a number from 0 to 1")]
    Threshold {
        /// Path of the field.
        field: String,
        /// What was given.
        value: f32,
    },
    /// A version other than the model's was required.
    #[error("model version {required:?} is required, this server has {actual:?}")]
    ModelVersion {
        /// What was asked for.
        required: String,
        /// What there is.
        actual: String,
    },
}

impl OptionsError {
    /// Path of the field at fault, below the request.
    pub fn field(&self) -> &str {
        match self {
            Self::UnknownTopic { field, .. }
            | Self::UnknownEntityType { field, .. }
            | Self::Threshold { field, .. } => field,
            Self::ModelVersion { .. } => "options.required_model_version",
        }
    }
}

/// Options checked against a model: what to compute and by which thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// By topic: its threshold, `None` if it was not asked for.
    pub(super) thresholds: Vec<Option<f32>>,
    /// By entity type: whether it was asked for.
    pub(super) entity_types: Vec<bool>,
    pub(super) entity_threshold: f32,
    pub(super) topics: bool,
    pub(super) entities: bool,
    pub(super) language: bool,
    pub(super) all_scores: bool,
    pub(super) evidence: bool,
    pub(super) embedding: bool,
    pub(super) overflow: Overflow,
}

impl Plan {
    /// Checks options against a model.
    ///
    /// # Errors
    /// [`OptionsError`], naming the field.
    pub fn new(options: &TagOptions, manifest: &Manifest) -> Result<Self, OptionsError> {
        let required = &options.required_model_version;
        if !required.is_empty() && *required != manifest.version {
            return Err(OptionsError::ModelVersion { required: required.clone(), actual: manifest.version.clone() });
        }
        if let Some(value) = options.min_probability {
            check_threshold("options.min_probability", value)?;
        }
        let has = |feature| options.features.is_empty() || options.features.contains(&feature);
        Ok(Self {
            thresholds: thresholds(options, manifest)?,
            entity_types: entity_types(options, manifest)?,
            entity_threshold: options.min_probability.unwrap_or(0.0),
            topics: has(Feature::Topics),
            entities: has(Feature::Entities),
            language: has(Feature::Language),
            all_scores: options.include_all_scores,
            evidence: options.include_evidence && has(Feature::Topics),
            embedding: options.include_embedding,
            overflow: options.overflow,
        })
    }

    /// Whether the transformer has to run.
    pub fn needs_model(&self) -> bool {
        self.topics || self.entities || self.embedding
    }
}

fn check_threshold(field: &str, value: f32) -> Result<(), OptionsError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(OptionsError::Threshold { field: field.to_owned(), value }) }
}

fn thresholds(options: &TagOptions, manifest: &Manifest) -> Result<Vec<Option<f32>>, OptionsError> {
    let index = |field: String, name: &str| {
        let found = manifest.topics.iter().position(|topic| topic.id == name);
        found.ok_or_else(|| OptionsError::UnknownTopic { field, name: name.to_owned() })
    };
    let mut thresholds: Vec<Option<f32>> =
        manifest.topics.iter().map(|topic| Some(options.min_probability.unwrap_or(topic.threshold))).collect();
    for (name, &value) in &options.topic_thresholds {
        let field = format!("options.topic_thresholds[{name:?}]");
        check_threshold(&field, value)?;
        thresholds[index(field, name)?] = Some(value);
    }
    if !options.topics.is_empty() {
        let mut wanted = vec![false; thresholds.len()];
        for (at, name) in options.topics.iter().enumerate() {
            wanted[index(format!("options.topics[{at}]"), name)?] = true;
        }
        thresholds.iter_mut().zip(wanted).filter(|(_, wanted)| !wanted).for_each(|(threshold, _)| *threshold = None);
    }
    Ok(thresholds)
}

fn entity_types(options: &TagOptions, manifest: &Manifest) -> Result<Vec<bool>, OptionsError> {
    let mut wanted = vec![options.entity_types.is_empty(); manifest.entity_types.len()];
    for (at, name) in options.entity_types.iter().enumerate() {
        let found = manifest.entity_types.iter().position(|kind| kind.id == *name);
        let index = found.ok_or_else(|| OptionsError::UnknownEntityType {
            field: format!("options.entity_types[{at}]"),
            name: name.clone(),
        })?;
        wanted[index] = true;
    }
    Ok(wanted)
}
