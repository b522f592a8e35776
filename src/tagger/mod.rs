//! The whole job, synchronous and without a transport: documents in, analyses out.
//!
//! A document goes through three steps, so that a server can batch the middle one over many documents:
//! [`Tagger::read`] (sentences, tokens, windows), [`Tagger::encode`] (the model, over any windows side by side) and
//! [`Tagger::finish`] (one analysis from its windows' scores). [`Tagger::tag`] is the three in a row.

mod analysis;
mod error;
mod finish;
mod options;
mod reading;
mod scores;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

pub use self::{
    analysis::{Analysis, Coverage, Entity, Evidence, Language, TopicScore, Warning},
    error::{DocumentError, InferenceError},
    options::{Feature, OptionsError, Overflow, Plan, TagOptions},
    reading::{Reading, WindowRequest},
    scores::{DocumentScores, WindowScores},
};
use crate::{
    encoder::{Backend, Encoder, PackedBatch, Weights, WordEmbeddings},
    heads::{EntityHead, TopicHead},
    model::{Bundle, Manifest, ModelError},
    text::{self, Document, Tokenizer},
};

/// Longest `id` and `language_code`, in bytes.
const MAX_ID_BYTES: usize = 1024;
const MAX_LANGUAGE_CODE_BYTES: usize = 64;

/// How a tagger works; all else comes from the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaggerConfig {
    /// Largest document, in UTF-8 bytes of title and text.
    pub max_document_bytes: usize,
    /// Tokens that the model reads at a time, special tokens included, unless a single window has more.
    pub batch_tokens: usize,
    /// What computes the encoder; none takes the fastest for the device.
    pub backend: Option<Backend>,
}

impl Default for TaggerConfig {
    fn default() -> Self {
        Self { max_document_bytes: 1 << 20, batch_tokens: 1024, backend: None }
    }
}

/// A loaded model that tags documents. Cheap to share between threads behind an `Arc`.
#[derive(Debug)]
pub struct Tagger {
    manifest: Arc<Manifest>,
    config: TaggerConfig,
    tokenizer: Tokenizer,
    encoder: Encoder,
    topic_head: TopicHead,
    entity_head: EntityHead,
}

impl Tagger {
    /// Loads a model.
    ///
    /// # Errors
    /// If a file of the bundle is missing or damaged, or its parts do not fit together.
    pub fn load(bundle: Bundle, config: TaggerConfig, device: &Device) -> Result<Self, ModelError> {
        let manifest = bundle.manifest();
        let shape = &manifest.encoder;
        let files = &manifest.files;
        bundle.verify()?;
        let tokenizer = match &files.compact_tokenizer {
            // Read, not mapped: its trie is trusted once it has been checked.
            Some(compact) => Tokenizer::from_compact(&bundle.read(compact)?, shape.vocab_size),
            None => Tokenizer::from_json(&bundle.read(&files.tokenizer)?, shape.vocab_size),
        };
        let tokenizer = tokenizer.map_err(ModelError::Tokenizer)?;
        let words = WordEmbeddings::from_gguf(&bundle.map(&files.embeddings)?, shape.vocab_size, shape.hidden_size)?;
        let mut weights = Weights::from_bytes(&bundle.map(&files.encoder)?, device)?;
        let backend = config.backend.unwrap_or_else(|| Backend::of(device));
        Ok(Self {
            encoder: Encoder::load(&mut weights, words, shape, device, backend)?,
            topic_head: TopicHead::load(&mut weights, manifest.topics.len(), shape.hidden_size)?,
            entity_head: EntityHead::load(&mut weights, manifest.tags.len(), shape.hidden_size)?,
            tokenizer,
            config,
            manifest: Arc::new(bundle.into_manifest()),
        })
    }

    /// What the loaded model says of itself.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// How this tagger works.
    pub fn config(&self) -> &TaggerConfig {
        &self.config
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The head over tokens.
    pub fn entity_head(&self) -> &EntityHead {
        &self.entity_head
    }

    /// The head over windows.
    pub fn topic_head(&self) -> &TopicHead {
        &self.topic_head
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Checks options against the model.
    ///
    /// # Errors
    /// [`OptionsError`], naming the field.
    pub fn plan(&self, options: &TagOptions) -> Result<Plan, OptionsError> {
        Plan::new(options, &self.manifest)
    }

    /// The whole job for any number of documents: one answer each, in order.
    pub fn tag(&self, documents: &[Document], plan: &Plan) -> Vec<Result<Analysis, DocumentError>> {
        let readings: Vec<_> = documents.par_iter().map(|document| self.read(document, plan)).collect();
        let requests: Vec<_> = readings.iter().flatten().flat_map(|reading| reading.requests(plan)).collect();
        let mut windows = self.encode_all(&requests).into_iter();
        let mut scores = Vec::with_capacity(documents.len());
        for reading in readings {
            scores.push(reading.and_then(|reading| {
                let scores = reading.collect_scores(&mut windows)?;
                Ok((reading, scores))
            }));
        }
        let results = documents.par_iter().zip(scores);
        results
            .map(|(document, scores)| scores.map(|(reading, scores)| self.finish(document, plan, &reading, &scores)))
            .collect()
    }

    /// Runs the model over any number of windows, in batches of at most [`TaggerConfig::batch_tokens`].
    pub fn encode_all(&self, requests: &[WindowRequest<'_>]) -> Vec<Result<WindowScores, InferenceError>> {
        let mut scores = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|request| {
                tokens += request.tokens();
                tokens <= self.config.batch_tokens
            });
            let (batch, later) = rest.split_at(fits.count().max(1));
            scores.extend(self.encode_each(batch));
            rest = later;
        }
        scores
    }

    /// Checks a document and cuts it for the model.
    ///
    /// # Errors
    /// Every [`DocumentError`] but an inference error.
    pub fn read(&self, document: &Document, plan: &Plan) -> Result<Reading, DocumentError> {
        self.check(document)?;
        let tokenized = self.tokenizer.tokenize(document).map_err(DocumentError::Tokenizer)?;
        // Zero-width characters alone become tokens that stand for no text.
        if tokenized.tokens.iter().all(|token| token.start == token.end) {
            return Err(DocumentError::Blank);
        }
        let mut windows = Vec::new();
        if plan.needs_model() {
            let sentences = tokenized.sentences.iter().map(|sentence| sentence.tokens.clone());
            windows = text::windows(sentences, self.manifest.window);
            match plan.overflow {
                Overflow::Reject if windows.len() > 1 => {
                    let limit = self.manifest.window.tokens - 2;
                    return Err(DocumentError::TooManyTokens { limit, actual: tokenized.tokens.len() });
                }
                Overflow::Truncate => windows.truncate(1),
                Overflow::Window | Overflow::Reject => {}
            }
        }
        Ok(Reading { tokenized, windows })
    }

    fn check(&self, document: &Document) -> Result<(), DocumentError> {
        let short =
            [("id", &document.id, MAX_ID_BYTES), ("language_code", &document.language_code, MAX_LANGUAGE_CODE_BYTES)];
        for (field, value, limit) in short {
            if value.len() > limit {
                return Err(DocumentError::FieldTooLong { field, limit, actual: value.len() });
            }
        }
        let (actual, limit) = (document.bytes(), self.config.max_document_bytes);
        if actual > limit {
            return Err(DocumentError::TooManyBytes { limit, actual });
        }
        if document.is_blank() { Err(DocumentError::Blank) } else { Ok(()) }
    }

    /// Runs the model over windows, which may be of different documents; answers in their order. What it says of a window does
    /// not depend on the others.
    ///
    /// # Errors
    /// If a tensor operation fails or an answer is not finite.
    pub fn encode(&self, requests: &[WindowRequest<'_>]) -> Result<Vec<WindowScores>, InferenceError> {
        let (first, last) = self.tokenizer.frame();
        let mut batch = PackedBatch::default();
        for request in requests {
            let tokens = request.reading.window_tokens(request.window);
            batch.push([first].into_iter().chain(tokens.iter().map(|token| token.id)).chain([last]));
        }
        let hidden = self.encoder.forward(&batch)?;
        let bounds = batch.bounds();
        let pooled = self.topic_head.pool(&hidden, bounds)?;
        let topic_logits = rows(&self.topic_head.logits(&pooled)?)?;
        let any = |wants: fn(&Plan) -> bool| requests.iter().any(|request| wants(request.plan));
        let tag_logits = if any(|plan| plan.entities) { flat(&self.entity_head.logits(&hidden)?)? } else { Vec::new() };
        let contributions =
            if any(|plan| plan.evidence) { flat(&self.topic_head.contributions(&hidden)?)? } else { Vec::new() };
        let pooled = if any(|plan| plan.embedding) { rows(&pooled)? } else { Vec::new() };

        let (tags, topics) = (self.manifest.tags.len(), self.manifest.topics.len());
        let scores = requests.iter().zip(topic_logits).enumerate().map(|(index, (request, topic_logits))| {
            let plan = request.plan;
            // Rows of the window's own tokens begin behind the first special token.
            let row = |token: usize| bounds[index] + 1 + token - request.window.tokens.start;
            let owned = row(request.window.owned.start)..row(request.window.owned.end);
            let window = &contributions[..];
            WindowScores {
                tag_logits: if plan.entities {
                    tag_logits[owned.start * tags..owned.end * tags].to_vec()
                } else {
                    Vec::new()
                },
                topic_logits: if plan.topics { topic_logits } else { Vec::new() },
                contributions: if plan.evidence {
                    token_contributions(&window[bounds[index] * topics..bounds[index + 1] * topics], topics)
                } else {
                    Vec::new()
                },
                pooled: if plan.embedding { pooled[index].clone() } else { Vec::new() },
            }
        });
        Ok(scores.collect())
    }

    /// As [`Tagger::encode`], but a window at which the model fails fails alone: after a failure each is tried by itself.
    pub fn encode_each(&self, requests: &[WindowRequest<'_>]) -> Vec<Result<WindowScores, InferenceError>> {
        match self.encode(requests) {
            Ok(scores) => scores.into_iter().map(Ok).collect(),
            Err(error) if requests.len() == 1 => vec![Err(error)],
            Err(_) => requests.iter().flat_map(|request| self.encode_each(std::slice::from_ref(request))).collect(),
        }
    }
}

/// A matrix's rows; fails if a value is not finite.
fn rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>, InferenceError> {
    let rows: Vec<Vec<f32>> = tensor.to_vec2()?;
    if rows.iter().flatten().all(|value| value.is_finite()) { Ok(rows) } else { Err(InferenceError::NotFinite) }
}

/// A matrix's values, row by row; fails if one is not finite.
fn flat(tensor: &Tensor) -> Result<Vec<f32>, InferenceError> {
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(InferenceError::NotFinite) }
}

/// What each token of a window adds to its logits, from `[1 + tokens + 1, topics]`: the special tokens' part is spread evenly.
fn token_contributions(window: &[f32], topics: usize) -> Vec<f32> {
    let length = (window.len() / topics) as f32;
    let special = window[..topics].iter().zip(&window[window.len() - topics..]);
    let shared: Vec<f32> = special.map(|(first, last)| (first + last) / (length - 2.0)).collect();
    let own = window[topics..window.len() - topics].chunks_exact(topics);
    own.flat_map(|row| row.iter().zip(&shared).map(|(own, shared)| (own + shared) / length)).collect()
}
