//! What the model says of a document, put together window by window.

use crate::{
    heads::WeightedMean,
    text::{Sentence, Window},
};

/// What the model says of one window. Parts that were not asked for are empty.
#[derive(Debug, Clone, Default)]
pub struct WindowScores {
    /// `[owned tokens, tags]`.
    pub tag_logits: Vec<f32>,
    /// `[topics]`.
    pub topic_logits: Vec<f32>,
    /// `[tokens, topics]`: what each token adds to the window's topic logits; the special tokens' part is spread evenly.
    pub contributions: Vec<f32>,
    /// `[hidden]`: mean hidden state.
    pub pooled: Vec<f32>,
}

/// What the model says of a document. Windows may be added in any order; each counts as many times as it owns tokens.
#[derive(Debug, Clone, Default)]
pub struct DocumentScores {
    /// `[tokens read, tags]`.
    pub tag_logits: Vec<f32>,
    /// `[topics]`.
    pub topic_logits: WeightedMean,
    /// `[hidden]`.
    pub pooled: WeightedMean,
    /// By sentence, `[topics]`, times the weight of its windows.
    contributions: Vec<Vec<f32>>,
}

impl DocumentScores {
    /// Adds what the model says of a window.
    pub fn add(&mut self, window: &Window, scores: &WindowScores, sentences: &[Sentence]) {
        let weight = window.owned.len() as f64;
        if !scores.topic_logits.is_empty() {
            self.topic_logits.add(&scores.topic_logits, weight);
        }
        if !scores.pooled.is_empty() {
            self.pooled.add(&scores.pooled, weight);
        }
        if !scores.tag_logits.is_empty() {
            let tags = scores.tag_logits.len() / window.owned.len();
            let (start, end) = (window.owned.start * tags, window.owned.end * tags);
            if self.tag_logits.len() < end {
                self.tag_logits.resize(end, 0.0);
            }
            self.tag_logits[start..end].copy_from_slice(&scores.tag_logits);
        }
        if !scores.contributions.is_empty() {
            self.add_contributions(window, scores, sentences, weight as f32);
        }
    }

    fn add_contributions(&mut self, window: &Window, scores: &WindowScores, sentences: &[Sentence], weight: f32) {
        self.contributions.resize(sentences.len(), Vec::new());
        let topics = scores.contributions.len() / window.tokens.len();
        let mut index = sentences.partition_point(|sentence| sentence.tokens.end <= window.tokens.start);
        for (token, row) in window.tokens.clone().zip(scores.contributions.chunks_exact(topics)) {
            while sentences[index].tokens.end <= token {
                index += 1;
            }
            let sum = &mut self.contributions[index];
            sum.resize(topics, 0.0);
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * weight);
        }
    }

    /// What each sentence adds to a topic's logit, as pairs of sentence index and weight.
    pub fn sentence_weights(&self, topic: usize) -> impl Iterator<Item = (usize, f32)> {
        let total = self.topic_logits.weight() as f32;
        let weights = self.contributions.iter().enumerate();
        weights.filter_map(move |(sentence, sums)| Some((sentence, sums.get(topic)? / total)))
    }
}
