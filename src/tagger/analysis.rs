//! What was found in a document.

use crate::text::Span;

/// What one document is about and whom it names. Offsets are UTF-8 bytes of the document's fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analysis {
    /// By falling probability, then by name.
    pub topics: Vec<TopicScore>,
    /// By position, never overlapping.
    pub entities: Vec<Entity>,
    /// How much was read.
    pub coverage: Coverage,
    /// The document's language; `None` if not asked for or not to be told.
    pub language: Option<Language>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
    /// Sentences that speak for the assigned topics; empty if not asked for.
    pub evidence: Vec<Evidence>,
    /// Mean last hidden state scaled to length 1; `None` if not asked for.
    pub embedding: Option<Vec<f32>>,
}

/// How likely a topic is.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicScore {
    /// Index in the manifest's topics.
    pub topic: usize,
    /// Calibrated probability in [0, 1].
    pub probability: f32,
    /// What was calibrated: the logit, pooled over the windows.
    pub logit: f32,
    /// The threshold that was applied.
    pub threshold: f32,
    /// Whether `probability >= threshold`.
    pub assigned: bool,
}

/// A name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entity {
    /// Index in the manifest's entity types.
    pub kind: usize,
    /// Where it stands.
    pub span: Span,
    /// Calibrated probability that span and type are right, in [0, 1].
    pub probability: f32,
    /// What was calibrated: the model's own probability, in [0, 1].
    pub score: f32,
}

/// How much of a document was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Tokens of the whole document, special tokens not counted.
    pub total_tokens: usize,
    /// Tokens that the model read.
    pub analyzed_tokens: usize,
    /// Windows that it read them in.
    pub windows: usize,
}

/// A document's language.
#[derive(Debug, Clone, PartialEq)]
pub struct Language {
    /// BCP 47 tag.
    pub code: String,
    /// The detector's confidence; `None` if the caller gave the language.
    pub confidence: Option<f32>,
}

/// Something the caller should know about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Only the first window was read.
    Truncated {
        /// Tokens that were read.
        analyzed: usize,
        /// Tokens that there are.
        total: usize,
    },
}

/// A sentence that speaks for a topic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Index in the manifest's topics.
    pub topic: usize,
    /// The sentence.
    pub span: Span,
    /// What it adds to the topic's logit.
    pub weight: f32,
}
