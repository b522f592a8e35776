//! Sequences side by side, without padding.

use std::ops::Range;

/// Token sequences, one behind the other.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    ids: Vec<u32>,
    bounds: Vec<usize>,
}

impl Default for PackedBatch {
    fn default() -> Self {
        Self { ids: Vec::new(), bounds: vec![0] }
    }
}

impl PackedBatch {
    /// Appends a sequence of token ids, special tokens included. An empty one is ignored.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.ids.extend(ids);
        if self.bounds.last() != Some(&self.ids.len()) {
            self.bounds.push(self.ids.len());
        }
    }

    /// Tokens in all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Ids of all tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where sequences begin and end: sequence `i` is `bounds()[i]..bounds()[i + 1]`.
    pub fn bounds(&self) -> &[usize] {
        &self.bounds
    }
}

/// The sequences that have a token among `tokens`: the tokens of each, and those of them that are among `tokens`.
pub(super) fn sequences_within(
    bounds: &[usize],
    tokens: Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let first = bounds.partition_point(|&bound| bound <= tokens.start).saturating_sub(1);
    let sequences = bounds[first..].windows(2).map(|pair| pair[0]..pair[1]);
    sequences.take_while(move |sequence| sequence.start < tokens.end).map(move |sequence| {
        let own = sequence.start.max(tokens.start)..sequence.end.min(tokens.end);
        (sequence, own)
    })
}
