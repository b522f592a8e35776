//! Cutting a document into windows that the model can read.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How a document is cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Tokens in a window, its two special tokens included.
    pub tokens: usize,
    /// Tokens that neighbouring windows share where a sentence is longer than a window.
    pub overlap: usize,
}

/// A window over a document's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The tokens it reads.
    pub tokens: Range<usize>,
    /// The tokens it answers for: those which it, of all windows, sees with most context. Over all windows these ranges follow one
    /// another and cover the document.
    pub owned: Range<usize>,
}

/// Cuts a document, given the token ranges of its sentences, which follow one another from 0.
///
/// Windows begin and end at sentence boundaries and hold as many sentences as fit. A sentence longer than a window gets windows
/// of its own that overlap by `config.overlap` tokens, each token being answered for by the window where it is most interior
/// (as in rust-bert's token classification).
pub fn windows(sentences: impl IntoIterator<Item = Range<usize>>, config: WindowConfig) -> Vec<Window> {
    // The two special tokens take their places.
    let capacity = config.tokens.saturating_sub(2).max(1);
    let mut windows = Vec::new();
    let mut open: Option<Range<usize>> = None;
    for sentence in sentences {
        match &mut open {
            Some(window) if sentence.end - window.start <= capacity => window.end = sentence.end,
            _ => {
                windows.extend(open.take().map(whole));
                if sentence.len() > capacity {
                    push_overlapping(sentence, capacity, config.overlap, &mut windows);
                } else {
                    open = Some(sentence);
                }
            }
        }
    }
    windows.extend(open.map(whole));
    windows.retain(|window| !window.tokens.is_empty());
    windows
}

fn whole(tokens: Range<usize>) -> Window {
    Window { owned: tokens.clone(), tokens }
}

/// Windows over a sentence longer than one, evenly spaced, so that the last is not a stump without context.
fn push_overlapping(sentence: Range<usize>, capacity: usize, overlap: usize, windows: &mut Vec<Window>) {
    let stride = capacity - overlap.min(capacity - 1);
    let count = (sentence.len() - capacity).div_ceil(stride) + 1;
    let last_start = sentence.len() - capacity;
    let start = |index: usize| sentence.start + index * last_start / (count - 1);
    let mut owned_start = sentence.start;
    for index in 0..count {
        let tokens = start(index)..start(index) + capacity;
        // Half of the overlap belongs to each of the two.
        let owned_end = if index + 1 == count { sentence.end } else { (start(index + 1) + tokens.end) / 2 };
        windows.push(Window { tokens, owned: owned_start..owned_end });
        owned_start = owned_end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: WindowConfig = WindowConfig { tokens: 12, overlap: 4 };

    #[test]
    fn packs_whole_sentences() {
        let windows = windows([0..4, 4..9, 9..12, 12..20], CONFIG);
        assert_eq!(windows, [whole(0..9), whole(9..12), whole(12..20)]);
    }

    #[test]
    fn overlaps_only_within_a_long_sentence() {
        let windows = windows([0..3, 3..19, 19..21], CONFIG);
        let tokens: Vec<_> = windows.iter().map(|window| window.tokens.clone()).collect();
        assert_eq!(tokens, [0..3, 3..13, 9..19, 19..21]);
        let owned: Vec<_> = windows.iter().map(|window| window.owned.clone()).collect();
        assert_eq!(owned, [0..3, 3..11, 11..19, 19..21]);
    }

    #[test]
    fn nothing_gives_no_window() {
        assert_eq!(windows([], CONFIG), []);
        assert_eq!(windows([0..0, 0..0], CONFIG), []);
    }

    proptest! {
        #[test]
        fn every_token_is_owned_once_and_seen_with_context(
            lengths in prop::collection::vec(0_usize..70, 0..40),
            tokens in 8_usize..40,
            overlap in 0_usize..20,
        ) {
            let config = WindowConfig { tokens, overlap: overlap.min((tokens - 2) / 2) };
            let mut end = 0;
            let sentences: Vec<_> = lengths.iter().map(|length| { end += length; end - length..end }).collect();
            let windows = windows(sentences.clone(), config);
            let mut next = 0;
            for window in &windows {
                prop_assert_eq!(window.owned.start, next);
                prop_assert!(!window.owned.is_empty());
                next = window.owned.end;
                prop_assert!(window.tokens.len() <= tokens - 2);
                prop_assert!(window.tokens.start <= window.owned.start && window.owned.end <= window.tokens.end);
                // A window cuts a sentence only if the sentence is longer than a window.
                for sentence in sentences.iter().filter(|sentence| sentence.len() <= tokens - 2 && !sentence.is_empty()) {
                    let apart = sentence.end <= window.tokens.start || window.tokens.end <= sentence.start;
                    let inside = window.tokens.start <= sentence.start && sentence.end <= window.tokens.end;
                    prop_assert!(apart || inside);
                }
            }
            prop_assert_eq!(next, end);
        }
    }
}
