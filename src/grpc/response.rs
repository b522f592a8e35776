//! Answers from the domain to the wire.

use std::time::Duration;

use candle_core::Device;

use super::shared::Shared;
use crate::{
    engine::{Engine, StageTimings},
    model::{EntityTypeSpec, Manifest, TopicSpec},
    proto::v1,
    tagger::{Analysis, Warning},
    text::{Document, Field, OffsetMap, OffsetUnit, Span},
};

/// The model that answers, as every answer names it.
pub fn model_descriptor(manifest: &Manifest) -> v1::ModelDescriptor {
    v1::ModelDescriptor {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        revision: manifest.revision.clone(),
        calibration_id: manifest.calibration.id.clone(),
    }
}

/// An analysis with offsets in the caller's unit: one pass over each field of the document.
pub fn analysis(analysis: Analysis, document: &Document, unit: OffsetUnit, manifest: &Manifest) -> v1::Analysis {
    let spans: Vec<Span> = analysis
        .entities
        .iter()
        .map(|entity| entity.span)
        .chain(analysis.evidence.iter().map(|evidence| evidence.span))
        .collect();
    let spans = SpanConverter::new(document, unit, &spans);
    let topic_name = |topic: usize| manifest.topics[topic].id.clone();
    v1::Analysis {
        topics: analysis
            .topics
            .iter()
            .map(|score| v1::TopicScore {
                topic: topic_name(score.topic),
                probability: score.probability,
                threshold: score.threshold,
                assigned: score.assigned,
                iptc_code: manifest.topics[score.topic].iptc_code.clone(),
            })
            .collect(),
        entities: analysis
            .entities
            .iter()
            .map(|entity| v1::Entity {
                r#type: manifest.entity_types[entity.kind].id.clone(),
                span: Some(spans.convert(entity.span)),
                probability: entity.probability,
            })
            .collect(),
        offset_unit: offset_unit(unit).into(),
        coverage: Some(v1::Coverage {
            total_tokens: count(analysis.coverage.total_tokens),
            analyzed_tokens: count(analysis.coverage.analyzed_tokens),
            windows: count(analysis.coverage.windows),
        }),
        language: analysis.language.map(|language| v1::Language {
            code: language.code,
            detected: language.confidence.is_some(),
            confidence: language.confidence.unwrap_or_default(),
        }),
        warnings: analysis.warnings.iter().map(warning).collect(),
        evidence: analysis
            .evidence
            .iter()
            .map(|evidence| v1::Evidence {
                topic: topic_name(evidence.topic),
                span: Some(spans.convert(evidence.span)),
                weight: evidence.weight,
            })
            .collect(),
        embedding: analysis.embedding.map(|values| v1::Embedding { values }),
    }
}

/// Timings as the contract has them.
pub fn timings(timings: StageTimings) -> v1::Timings {
    let duration = |duration: Duration| prost_types::Duration::try_from(duration).ok();
    v1::Timings {
        total: duration(timings.total),
        tokenize: duration(timings.tokenize),
        queue: duration(timings.queue),
        inference: duration(timings.inference),
    }
}

/// The model and the limits of the service.
pub fn model_info(engine: &Engine, shared: &Shared) -> v1::GetModelInfoResponse {
    let tagger = engine.tagger();
    let manifest = tagger.manifest();
    let topic = |topic: &TopicSpec| v1::TopicInfo {
        topic: topic.id.clone(),
        description: topic.description.clone(),
        default_threshold: topic.threshold,
        iptc_code: topic.iptc_code.clone(),
        calibrated: manifest.calibration.calibrated && topic.fitted,
    };
    let entity_type =
        |kind: &EntityTypeSpec| v1::EntityTypeInfo { r#type: kind.id.clone(), description: kind.description.clone() };
    v1::GetModelInfoResponse {
        model: Some(model_descriptor(manifest)),
        topics: manifest.topics.iter().map(topic).collect(),
        entity_types: manifest.entity_types.iter().map(entity_type).collect(),
        evaluated_languages: manifest.evaluated_languages.clone(),
        limits: Some(v1::Limits {
            max_document_bytes: tagger.config().max_document_bytes as u64,
            max_batch_documents: count(shared.max_batch_documents),
            max_request_bytes: shared.max_request_bytes as u64,
            max_window_tokens: count(manifest.window.tokens),
            max_in_flight_documents: count(shared.max_in_flight),
            max_queued_tokens: count(shared.host.max_queued_tokens()),
        }),
        embedding_size: count(manifest.encoder.hidden_size),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device(tagger.encoder().device()).to_owned(),
        dtype: "f32".to_owned(),
        license: manifest.license.clone(),
    }
}

fn device(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

fn warning(warning: &Warning) -> v1::Warning {
    match warning {
        Warning::Truncated { analyzed, total } => v1::Warning {
            code: "TRUNCATED".to_owned(),
            message: format!("only the first {analyzed} of {total} tokens were read, as the overflow policy asks"),
        },
    }
}

fn offset_unit(unit: OffsetUnit) -> v1::OffsetUnit {
    match unit {
        OffsetUnit::Utf8Byte => v1::OffsetUnit::Utf8Byte,
        OffsetUnit::Utf16CodeUnit => v1::OffsetUnit::Utf16CodeUnit,
        OffsetUnit::CodePoint => v1::OffsetUnit::UnicodeCodePoint,
    }
}

/// Counts of the contract are 32 bits wide, which no document within the limits exceeds.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Turns byte spans of one document into the contract's.
struct SpanConverter<'a> {
    document: &'a Document,
    title: OffsetMap,
    text: OffsetMap,
}

impl<'a> SpanConverter<'a> {
    fn new(document: &'a Document, unit: OffsetUnit, spans: &[Span]) -> Self {
        let map = |field| {
            let own = spans.iter().filter(|span| span.field == field);
            OffsetMap::new(document.field(field), unit, own.flat_map(|span| [span.start, span.end]))
        };
        Self { document, title: map(Field::Title), text: map(Field::Text) }
    }

    fn convert(&self, span: Span) -> v1::TextSpan {
        let (map, field) = match span.field {
            Field::Title => (&self.title, v1::TextField::Title),
            Field::Text => (&self.text, v1::TextField::Text),
        };
        v1::TextSpan {
            field: field.into(),
            start: map.get(span.start).unwrap_or_default(),
            end: map.get(span.end).unwrap_or_default(),
            content: self.document.slice(span).to_owned(),
        }
    }
}
