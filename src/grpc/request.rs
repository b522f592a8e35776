//! Requests from the wire to the domain.

use std::collections::HashSet;

use super::status::CallError;
use crate::{
    proto::v1,
    tagger::{Feature, Overflow, TagOptions},
    text::{Document, OffsetUnit},
};

/// What a caller asks for: what to compute, and the unit to answer in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// What to compute.
    pub tag: TagOptions,
    /// The unit of every offset in the answer.
    pub unit: OffsetUnit,
}

impl From<v1::Document> for Document {
    fn from(document: v1::Document) -> Self {
        let v1::Document { id, title, text, language_code } = document;
        Self { id, title, text, language_code }
    }
}

impl TryFrom<Option<v1::TagOptions>> for Options {
    type Error = CallError;

    fn try_from(options: Option<v1::TagOptions>) -> Result<Self, CallError> {
        let options = options.unwrap_or_default();
        let tag = TagOptions {
            features: features(&options.features)?,
            overflow: overflow(options.overflow_policy)?,
            min_probability: options.min_probability,
            topic_thresholds: options.topic_thresholds.into_iter().collect(),
            topics: options.topics,
            entity_types: options.entity_types,
            include_all_scores: options.include_all_scores,
            include_evidence: options.include_evidence,
            include_embedding: options.include_embedding,
            required_model_version: options.required_model_version,
        };
        Ok(Self { tag, unit: unit(options.offset_unit)? })
    }
}

fn features(numbers: &[i32]) -> Result<HashSet<Feature>, CallError> {
    let feature = |(at, &number)| match v1::Feature::try_from(number) {
        Ok(v1::Feature::Topics) => Ok(Feature::Topics),
        Ok(v1::Feature::Entities) => Ok(Feature::Entities),
        Ok(v1::Feature::Language) => Ok(Feature::Language),
        Ok(v1::Feature::Unspecified) | Err(_) => {
            Err(unknown_number(format!("options.features[{at}]"), number, "rasid.v1.Feature"))
        }
    };
    numbers.iter().enumerate().map(feature).collect()
}

fn overflow(number: i32) -> Result<Overflow, CallError> {
    match v1::OverflowPolicy::try_from(number) {
        Ok(v1::OverflowPolicy::Unspecified | v1::OverflowPolicy::Window) => Ok(Overflow::Window),
        Ok(v1::OverflowPolicy::Truncate) => Ok(Overflow::Truncate),
        Ok(v1::OverflowPolicy::Reject) => Ok(Overflow::Reject),
        Err(_) => Err(unknown_number("options.overflow_policy".to_owned(), number, "rasid.v1.OverflowPolicy")),
    }
}

fn unit(number: i32) -> Result<OffsetUnit, CallError> {
    match v1::OffsetUnit::try_from(number) {
        Ok(v1::OffsetUnit::Unspecified | v1::OffsetUnit::UnicodeCodePoint) => Ok(OffsetUnit::CodePoint),
        Ok(v1::OffsetUnit::Utf8Byte) => Ok(OffsetUnit::Utf8Byte),
        Ok(v1::OffsetUnit::Utf16CodeUnit) => Ok(OffsetUnit::Utf16CodeUnit),
        Err(_) => Err(unknown_number("options.offset_unit".to_owned(), number, "rasid.v1.OffsetUnit")),
    }
}

fn unknown_number(field: String, number: i32, kind: &str) -> CallError {
    CallError::Field { field, problem: format!("is {number}, which is no value to ask for of {kind}") }
}
