//! A document on its way to the model.

use super::Plan;
use crate::text::{Sentence, Token, TokenizedDocument, Window};

/// A document cut for the model.
#[derive(Debug)]
pub struct Reading {
    pub(super) tokenized: TokenizedDocument,
    pub(super) windows: Vec<Window>,
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
    pub fn sentences(&self) -> &[Sentence] {
        &self.tokenized.sentences
    }

    /// Tokens of the windows, each counted once.
    pub fn analyzed_tokens(&self) -> usize {
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
