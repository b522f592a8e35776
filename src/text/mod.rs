//! Text before and after the model: documents, sentences, tokens, windows, words, offsets, language.

mod document;
mod language;
mod offsets;
mod sentences;
mod tokens;
mod unigram;
mod windows;
mod words;

pub use self::{
    document::{Document, Field, Span},
    language::{DetectedLanguage, detect},
    offsets::{OffsetMap, OffsetUnit},
    sentences::trimmed,
    tokens::{Sentence, Token, TokenizedDocument, Tokenizer, TokenizerError},
    unigram::compile as compile_tokenizer,
    windows::{Window, WindowConfig, windows},
    words::{Word, WordKind, words},
};
