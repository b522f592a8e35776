//! From what the model says of a document's windows to its analysis.

use std::ops::Range;

use super::{
    Analysis, Coverage, DocumentScores, Entity, Evidence, Language, Plan, Reading, Tagger, TopicScore, Warning,
};
use crate::{
    heads::{calibration, entities},
    text::{self, Document, Field, Sentence, Span},
};

/// Most sentences given as evidence for a topic.
const MAX_EVIDENCE: usize = 3;

impl Tagger {
    /// Puts a document's analysis together from the scores of all its windows.
    pub fn finish(&self, document: &Document, plan: &Plan, reading: &Reading, scores: &DocumentScores) -> Analysis {
        let coverage = Coverage {
            total_tokens: reading.tokenized.tokens.len(),
            analyzed_tokens: reading.analyzed_tokens(),
            windows: reading.windows.len(),
        };
        let (analyzed, total) = (coverage.analyzed_tokens, coverage.total_tokens);
        let truncated = plan.needs_model() && analyzed < total;
        let topics = if plan.topics { self.topics(plan, scores) } else { Vec::new() };
        Analysis {
            evidence: if plan.evidence { self.evidence(document, &topics, reading, scores) } else { Vec::new() },
            topics,
            entities: if plan.entities { self.entities(document, plan, reading, scores) } else { Vec::new() },
            coverage,
            language: if plan.language { language(document) } else { None },
            warnings: if truncated { vec![Warning::Truncated { analyzed, total }] } else { Vec::new() },
            embedding: plan.embedding.then(|| unit_length(scores.pooled.mean())),
        }
    }

    fn topics(&self, plan: &Plan, scores: &DocumentScores) -> Vec<TopicScore> {
        let specs = self.manifest.topics.iter().zip(scores.topic_logits.mean()).zip(&plan.thresholds).enumerate();
        let mut topics: Vec<TopicScore> = specs
            .filter_map(|(topic, ((spec, logit), threshold))| {
                let threshold = (*threshold)?;
                let probability = calibration::probability(logit, spec.calibration());
                Some(TopicScore { topic, probability, logit, threshold, assigned: probability >= threshold })
            })
            .filter(|score| score.assigned || plan.all_scores)
            .collect();
        let name = |score: &TopicScore| &self.manifest.topics[score.topic].id;
        topics.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| name(a).cmp(name(b))));
        topics
    }

    fn entities(&self, document: &Document, plan: &Plan, reading: &Reading, scores: &DocumentScores) -> Vec<Entity> {
        let tags = self.manifest.tags.len();
        let mut found = Vec::new();
        for field in Field::ALL {
            let tokens = reading.tokenized.field_tokens(field);
            let read = tokens.start..tokens.end.min(reading.analyzed_tokens()).max(tokens.start);
            let logits = &scores.tag_logits[read.start * tags..read.end * tags];
            let words = text::words(document.field(field));
            for span in entities::decode(&words, &reading.tokenized.tokens[read], logits, tags) {
                let probability = match self.manifest.entity_types[span.kind].calibration {
                    Some(by) => calibration::probability(calibration::logit(span.score), by),
                    None => span.score,
                };
                if plan.entity_types[span.kind] && probability >= plan.entity_threshold {
                    let place = Span { field, start: span.start, end: span.end };
                    found.push(Entity { kind: span.kind, span: place, probability, score: span.score });
                }
            }
        }
        found
    }

    fn evidence(
        &self,
        document: &Document,
        topics: &[TopicScore],
        reading: &Reading,
        scores: &DocumentScores,
    ) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for score in topics.iter().filter(|score| score.assigned) {
            let weights = scores.sentence_weights(score.topic).filter(|&(_, weight)| weight > 0.0);
            let mut sentences: Vec<_> = weights
                .filter_map(|(sentence, weight)| Some((trimmed(document, &reading.sentences()[sentence])?, weight)))
                .collect();
            sentences.sort_by(|a, b| b.1.total_cmp(&a.1));
            sentences.truncate(MAX_EVIDENCE);
            evidence.extend(sentences.into_iter().map(|(span, weight)| Evidence { topic: score.topic, span, weight }));
        }
        evidence
    }
}

/// A sentence without the white space around it; `None` if it is nothing else.
fn trimmed(document: &Document, sentence: &Sentence) -> Option<Span> {
    let Range { start, end } = text::trimmed(document.field(sentence.field), sentence.bytes.clone());
    (start < end).then_some(Span { field: sentence.field, start, end })
}

/// The language that the caller names, else the detected one.
fn language(document: &Document) -> Option<Language> {
    if !document.language_code.is_empty() {
        return Some(Language { code: document.language_code.clone(), confidence: None });
    }
    let sample = if document.text.trim().is_empty() { &document.title } else { &document.text };
    let detected = text::detect(sample)?;
    Some(Language { code: detected.code.to_owned(), confidence: Some(detected.confidence) })
}

/// The vector scaled to length 1.
fn unit_length(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}
