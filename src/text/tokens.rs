//! Text to tokens, with the bytes that each token stands for.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use serde::de::IgnoredAny;
use tokenizers::{Encoding, OffsetType, PreTokenizer, Tokenizer as Pipeline};

use super::{
    Document, Field,
    sentences::{self, trimmed},
    unigram::Unigram,
};

/// A token and the bytes of its field that it stands for: without leading white space, on code point boundaries; empty for a
/// token that carries no character of the text, such as a lone word separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Row of the word embedding.
    pub id: u32,
    /// First byte.
    pub start: u32,
    /// First byte after.
    pub end: u32,
}

/// A document as the model reads it: the tokens of the title, then those of the text.
#[derive(Debug, Default)]
pub struct TokenizedDocument {
    /// All tokens, special tokens not included.
    pub tokens: Vec<Token>,
    /// How many of them are the title's.
    pub title_tokens: usize,
    /// Sentences in reading order; their token ranges follow one another and cover `tokens`.
    pub sentences: Vec<Sentence>,
}

/// A sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The field it stands in.
    pub field: Field,
    /// Its bytes there, trailing white space included.
    pub bytes: Range<usize>,
    /// Its tokens.
    pub tokens: Range<usize>,
}

impl TokenizedDocument {
    /// The tokens of a field.
    pub fn field_tokens(&self, field: Field) -> Range<usize> {
        match field {
            Field::Title => 0..self.title_tokens,
            Field::Text => self.title_tokens..self.tokens.len(),
        }
    }
}

/// Splits text into the model's tokens.
pub struct Tokenizer {
    pipeline: Pipeline,
    /// Stands in for the pipeline's model.
    unigram: Option<Unigram>,
    /// Stands before every window.
    first: u32,
    /// Stands behind every window.
    last: u32,
    /// The lone word separator `▁`, if the vocabulary has one.
    separator: Option<u32>,
}

/// Failures of the tokenizers crate, which has no error type of its own.
pub type TokenizerError = Box<dyn std::error::Error + Send + Sync>;

/// JSON, whatever it says: the tokenizers crate panics where it expects any.
fn checked(json: &[u8]) -> Result<&[u8], TokenizerError> {
    serde_json::from_slice::<IgnoredAny>(json)?;
    Ok(json)
}

/// Makes an error of a panic: the tokenizers crate also expects that what a normaliser says makes sense.
fn guarded<T>(load: impl FnOnce() -> Result<T, TokenizerError>) -> Result<T, TokenizerError> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err("a part of it makes no sense".into()))
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, for texts framed by one special token on each side and a vocabulary of at most `vocabulary` ids.
    ///
    /// # Errors
    /// If it is not one, frames texts in another way, or has more ids.
    pub fn from_json(json: &[u8], vocabulary: usize) -> Result<Self, TokenizerError> {
        guarded(|| Self::new(Pipeline::from_bytes(checked(json)?)?, None, vocabulary))
    }

    /// Reads the compact form that [`compile_tokenizer`](super::compile_tokenizer) makes of a `tokenizer.json`; gives the same
    /// tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`].
    pub fn from_compact(file: &Bytes, vocabulary: usize) -> Result<Self, TokenizerError> {
        let (unigram, pipeline) = Unigram::from_bytes(file)?;
        guarded(|| Self::new(Pipeline::from_bytes(checked(&pipeline)?)?, Some(unigram), vocabulary))
    }

    fn new(mut pipeline: Pipeline, unigram: Option<Unigram>, vocabulary: usize) -> Result<Self, TokenizerError> {
        pipeline.with_truncation(None)?;
        pipeline.with_padding(None);
        let added = pipeline.get_added_vocabulary().get_added_tokens_decoder();
        let added = added.keys().max().map_or(0, |&id| id as usize + 1);
        let size = unigram.as_ref().map_or_else(|| pipeline.get_vocab_size(false), Unigram::len).max(added);
        if size > vocabulary {
            return Err(format!("it has {size} tokens, the model {vocabulary}").into());
        }
        let frame = pipeline.encode("", true)?;
        let &[first, last] = frame.get_ids() else {
            return Err(format!("it frames a text with {} special tokens, not two", frame.len()).into());
        };
        let separator = match &unigram {
            Some(unigram) => unigram.id("▁"),
            None => pipeline.token_to_id("▁"),
        };
        Ok(Self { pipeline, unigram, first, last, separator })
    }

    /// The special tokens before and behind every window.
    pub fn frame(&self) -> (u32, u32) {
        (self.first, self.last)
    }

    /// Tokens and sentences of a document. Time is linear in its length.
    ///
    /// # Errors
    /// If the tokenizers crate fails.
    pub fn tokenize(&self, document: &Document) -> Result<TokenizedDocument, TokenizerError> {
        let mut tokenized = TokenizedDocument::default();
        for field in Field::ALL {
            let text = document.field(field);
            let first = tokenized.tokens.len();
            let sentences = sentences::sentences(text);
            // White space around a line is no part of what the model learned to read.
            let pieces = sentences::pieces(text, &sentences).into_iter().map(|piece| trimmed(text, piece));
            for piece in pieces.filter(|piece| !piece.is_empty()) {
                self.push_piece(text, piece, &mut tokenized.tokens)?;
            }
            push_sentences(field, &sentences, first, &mut tokenized);
            if field == Field::Title {
                tokenized.title_tokens = tokenized.tokens.len();
            }
        }
        Ok(tokenized)
    }

    /// Ids and byte offsets of a text, as the tokenizers crate's `encode` gives them.
    fn encode(&self, text: &str) -> Result<Encoding, TokenizerError> {
        let Some(unigram) = &self.unigram else { return self.pipeline.encode(text, false) };
        let special = self.pipeline.get_added_vocabulary();
        let mut words = special.extract_and_normalize(self.pipeline.get_normalizer(), text);
        if let Some(splitter) = self.pipeline.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut words)?;
        }
        words.tokenize(|word| Ok(unigram.tokenize(word.get())))?;
        words.into_encoding(None, 0, OffsetType::Byte)
    }

    fn push_piece(&self, text: &str, piece: Range<usize>, tokens: &mut Vec<Token>) -> Result<(), TokenizerError> {
        let encoding = self.encode(&text[piece.clone()])?;
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let (mut start, mut end) = (piece.start + start.min(piece.len()), piece.start + end.min(piece.len()));
            if Some(id) == self.separator {
                // Its offset covers the space before a word or, at the start of a text, the word's first character.
                end = start;
            }
            start = text.floor_char_boundary(start);
            end = text.ceil_char_boundary(end.max(start));
            let bytes = &text[start..end];
            start += bytes.len() - bytes.trim_start().len();
            tokens.push(Token { id, start: start as u32, end: end as u32 });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("frame", &self.frame()).finish_non_exhaustive()
    }
}

/// Gives each sentence of a field its tokens: a token belongs to the sentence in which it starts.
fn push_sentences(field: Field, ranges: &[Range<usize>], first: usize, tokenized: &mut TokenizedDocument) {
    let mut next = first;
    for (index, bytes) in ranges.iter().enumerate() {
        let rest = &tokenized.tokens[next..];
        let is_last = index + 1 == ranges.len();
        let inside = if is_last {
            rest.len()
        } else {
            rest.iter().take_while(|token| (token.start as usize) < bytes.end).count()
        };
        tokenized.sentences.push(Sentence { field, bytes: bytes.clone(), tokens: next..next + inside });
        next += inside;
    }
}
