//! Why a document has no analysis.

use thiserror::Error;

use crate::{encoder::without_backtrace, text::TokenizerError};

/// Why one document has no analysis.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Title and text hold nothing to read.
    #[error("is empty or white space, and so is the title")]
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
    Tensor(#[source] candle_core::Error),
    /// The model answered with something that is no number.
    #[error("the model answered with a value that is not finite")]
    NotFinite,
}

impl From<candle_core::Error> for InferenceError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(without_backtrace(error))
    }
}
