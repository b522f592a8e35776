//! The whole job, synchronous and without a transport: documents in, analyses out.
//!
//! A document goes through three steps, so that a server can batch the middle one over many documents:
//! [`Tagger::read`] (sentences, tokens, windows), [`Tagger::encode`] (the model, over any windows side by side) and
//! [`Tagger::finish`] (one analysis from its windows' scores). [`Tagger::tag`] is the three in a row.

mod analysis;
mod options;
mod scores;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use thiserror::Error;

pub use self::{
    analysis::{Analysis, Coverage, Entity, Evidence, Language, TopicScore, Warning},
    options::{Feature, OptionsError, Overflow, Plan, TagOptions},
    scores::{DocumentScores, WindowScores},
};
use crate::{
    encoder::{Encoder, PackedBatch, WordEmbeddings},
    heads::{EntityHead, TopicHead, entities, topics},
    model::{Bundle, Manifest, ModelError},
    text::{self, Document, Field, Span, Token, TokenizedDocument, Tokenizer, TokenizerError, Window},
};

/// Most sentences given as evidence for a topic.
const MAX_EVIDENCE: usize = 3;

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
}

impl Default for TaggerConfig {
    fn default() -> Self {
        Self { max_document_bytes: 1 << 20, batch_tokens: 2048 }
    }
}

/// Why one document has no analysis.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Title and text hold nothing to read.
    #[error("holds no text: title and text are empty or white space")]
    Blank,
    /// A short field is too long.
    #[error("is {actual} bytes long, at most {limit} are allowed")]
    FieldTooLong {
        /// The field, below the document.
        field: &'static str,
        /// Most bytes.
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// Title and text are too long.
    #[error("title and text hold {actual} bytes, at most {limit} are allowed")]
    TooManyBytes {
        /// Most bytes.
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// The document does not fit one window, and the caller wanted it refused then.
    #[error("the document holds {actual} tokens, one window holds {limit} and the overflow policy is REJECT")]
    TooManyTokens {
        /// Most tokens.
        limit: usize,
        /// Its tokens.
        actual: usize,
    },
    /// The tokeniser failed.
    #[error("tokenisation failed: {0}")]
    Tokenizer(#[source] TokenizerError),
    /// The model failed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// A failure of the model itself; never a document's fault.
#[derive(Debug, Error)]
pub enum InferenceError {
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The model answered with something that is no number.
    #[error("the model answered with a value that is not finite")]
    NotFinite,
}

/// A document cut for the model.
#[derive(Debug)]
pub struct Reading {
    tokenized: TokenizedDocument,
    windows: Vec<Window>,
}

impl Reading {
    /// The windows to encode, in order.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The tokens of a window, without special tokens.
    pub fn window_tokens(&self, window: &Window) -> &[Token] {
        &self.tokenized.tokens[window.tokens.clone()]
    }

    /// The document's sentences.
    pub fn sentences(&self) -> &[text::Sentence] {
        &self.tokenized.sentences
    }

    fn analyzed_tokens(&self) -> usize {
        self.windows.last().map_or(0, |window| window.owned.end)
    }
}

/// A window of some document, to be encoded by a plan.
#[derive(Debug, Clone, Copy)]
pub struct WindowRequest<'a> {
    /// The document.
    pub reading: &'a Reading,
    /// Which of its windows.
    pub window: &'a Window,
    /// What is wanted of it.
    pub plan: &'a Plan,
}

impl WindowRequest<'_> {
    /// Tokens that the model has to read for it, special tokens included.
    pub fn tokens(&self) -> usize {
        self.window.tokens.len() + 2
    }
}

/// A loaded model that tags documents. Cheap to share between threads behind an `Arc`.
#[derive(Debug)]
pub struct Tagger {
    manifest: Manifest,
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
        let tokenizer =
            Tokenizer::from_json(&bundle.tokenizer()?, shape.vocab_size).map_err(ModelError::Tokenizer)?;
        let words = WordEmbeddings::from_gguf(bundle.embeddings()?, shape.vocab_size, shape.hidden_size)?;
        let mut weights = bundle.weights(device)?;
        Ok(Self {
            encoder: Encoder::load(&mut weights, words, shape, device)?,
            topic_head: TopicHead::load(&mut weights, manifest.topics.len(), shape.hidden_size)?,
            entity_head: EntityHead::load(&mut weights, manifest.tags.len(), shape.hidden_size)?,
            tokenizer,
            config,
            manifest: bundle.into_manifest(),
        })
    }

    /// What the loaded model says of itself.
    pub fn manifest(&self) -> &Manifest {
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
        let requests: Vec<(usize, WindowRequest<'_>)> = readings
            .iter()
            .enumerate()
            .filter_map(|(index, reading)| Some((index, reading.as_ref().ok()?)))
            .flat_map(|(index, reading)| {
                reading.windows().iter().map(move |window| (index, WindowRequest { reading, window, plan }))
            })
            .collect();
        let mut scores: Vec<Result<DocumentScores, InferenceError>> = Vec::new();
        scores.resize_with(documents.len(), || Ok(DocumentScores::default()));
        for batch in self.batches(&requests) {
            let windows: Vec<_> = batch.iter().map(|&(_, request)| request).collect();
            for ((index, request), result) in batch.iter().zip(self.encode_each(&windows)) {
                match (&mut scores[*index], result) {
                    (Ok(scores), Ok(window)) => scores.add(request.window, &window, request.reading.sentences()),
                    (Ok(_), Err(error)) => scores[*index] = Err(error),
                    (Err(_), _) => {}
                }
            }
        }
        let finish = |((document, reading), scores): ((&Document, Result<Reading, _>), Result<_, _>)| {
            let reading = reading?;
            Ok(self.finish(document, plan, &reading, &scores?))
        };
        documents.iter().zip(readings).zip(scores).map(finish).collect()
    }

    /// Cuts requests into batches of at most [`TaggerConfig::batch_tokens`].
    fn batches<'r, 'd>(
        &self,
        mut rest: &'r [(usize, WindowRequest<'d>)],
    ) -> impl Iterator<Item = &'r [(usize, WindowRequest<'d>)]> + use<'r, 'd> {
        let most = self.config.batch_tokens;
        std::iter::from_fn(move || {
            let mut tokens = 0;
            let fits = |(_, request): &&(usize, WindowRequest<'_>)| {
                tokens += request.tokens();
                tokens <= most
            };
            let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
            let (batch, later) = rest.split_at(count);
            rest = later;
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Checks a document and cuts it for the model.
    ///
    /// # Errors
    /// Every [`DocumentError`] but an inference error.
    pub fn read(&self, document: &Document, plan: &Plan) -> Result<Reading, DocumentError> {
        self.check(document)?;
        let tokenized = self.tokenizer.tokenize(document).map_err(DocumentError::Tokenizer)?;
        if tokenized.tokens.is_empty() {
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
        let short = [
            ("id", &document.id, MAX_ID_BYTES),
            ("language_code", &document.language_code, MAX_LANGUAGE_CODE_BYTES),
        ];
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
            let first_row = bounds[index] + 1 - request.window.tokens.start;
            let owned = first_row + request.window.owned.start..first_row + request.window.owned.end;
            let window = &contributions[..];
            WindowScores {
                tag_logits: if plan.entities { tag_logits[owned.start * tags..owned.end * tags].to_vec() } else { Vec::new() },
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
                let probability = topics::probability(logit, spec.scale, spec.bias);
                Some(TopicScore { topic, probability, threshold, assigned: probability >= threshold })
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
                if plan.entity_types[span.kind] && span.probability >= plan.entity_threshold {
                    let place = Span { field, start: span.start, end: span.end };
                    found.push(Entity { kind: span.kind, span: place, probability: span.probability });
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
            let mut weights: Vec<_> = scores.sentence_weights(score.topic).filter(|&(_, weight)| weight > 0.0).collect();
            weights.sort_by(|a, b| b.1.total_cmp(&a.1));
            for &(sentence, weight) in weights.iter().take(MAX_EVIDENCE) {
                let sentence = &reading.tokenized.sentences[sentence];
                let text = &document.field(sentence.field)[sentence.bytes.clone()];
                let start = sentence.bytes.start + text.len() - text.trim_start().len();
                let span = Span { field: sentence.field, start, end: start + text.trim().len() };
                evidence.push(Evidence { topic: score.topic, span, weight });
            }
        }
        evidence
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
