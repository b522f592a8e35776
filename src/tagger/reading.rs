//! A document on its way to the model.

use super::{DocumentScores, InferenceError, Plan, WindowScores};
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

    /// What the model has to be asked, window by window.
    pub fn requests<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = WindowRequest<'a>> {
        self.windows.iter().map(move |window| WindowRequest { reading: self, window, plan })
    }

    /// Puts the answers to [`Reading::requests`] together, taking one a window.
    ///
    /// # Errors
    /// The first window's that failed.
    pub fn collect_scores(
        &self,
        windows: &mut impl Iterator<Item = Result<WindowScores, InferenceError>>,
    ) -> Result<DocumentScores, InferenceError> {
        // All of them are taken, so that the next document begins with its own.
        let scores: Vec<_> = windows.take(self.windows.len()).collect();
        let mut document = DocumentScores::default();
        for (window, scores) in self.windows.iter().zip(scores) {
            document.add(window, &scores?, self.sentences());
        }
        Ok(document)
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
