//! The encoder gives the hidden states and logits of the reference implementation (PyTorch, float32, the same stored weights).

mod support;

use rasid::{
    encoder::{Backend, PackedBatch},
    tagger::{Tagger, TaggerConfig},
    text::Document,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    text: String,
    input_ids: Vec<u32>,
    hidden_first_token: Vec<f32>,
    hidden_last_token: Vec<f32>,
    pooled: Vec<f32>,
    ner_logits: Vec<Vec<f32>>,
    topic_logits: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("data/golden.json")).unwrap()
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn kernels_give_the_hidden_states_and_logits_of_the_reference() {
    compare(support::tagger());
}

#[test]
fn candle_gives_the_hidden_states_and_logits_of_the_reference() {
    let config = TaggerConfig { backend: Some(Backend::Candle), ..TaggerConfig::default() };
    compare(&support::load_tagger(config));
}

fn compare(tagger: &Tagger) {
    let mut batch = PackedBatch::default();
    let cases = golden();
    // All in one packed batch: sequences of different lengths must not see each other.
    for case in &cases {
        batch.push(case.input_ids.iter().copied());
    }
    let hidden = tagger.encoder().forward(&batch).unwrap();
    let pooled = tagger.topic_head().pool(&hidden, batch.bounds()).unwrap();
    let topics: Vec<Vec<f32>> = tagger.topic_head().logits(&pooled).unwrap().to_vec2().unwrap();
    let tags: Vec<Vec<f32>> = tagger.entity_head().logits(&hidden).unwrap().to_vec2().unwrap();
    let hidden: Vec<Vec<f32>> = hidden.to_vec2().unwrap();
    let pooled: Vec<Vec<f32>> = pooled.to_vec2().unwrap();
    let (mut worst_hidden, mut worst_logit) = (0.0_f32, 0.0_f32);
    for (index, case) in cases.iter().enumerate() {
        let (start, end) = (batch.bounds()[index], batch.bounds()[index + 1]);
        worst_hidden = worst_hidden
            .max(max_difference(&hidden[start], &case.hidden_first_token))
            .max(max_difference(&hidden[end - 1], &case.hidden_last_token))
            .max(max_difference(&pooled[index], &case.pooled));
        worst_logit = worst_logit.max(max_difference(&topics[index], &case.topic_logits));
        for (row, expected) in tags[start..end].iter().zip(&case.ner_logits) {
            worst_logit = worst_logit.max(max_difference(row, expected));
        }
    }
    println!("largest difference: hidden states {worst_hidden:.2e}, logits {worst_logit:.2e}");
    assert!(worst_hidden <= 1e-4, "hidden states differ by {worst_hidden}");
    assert!(worst_logit <= 1e-3, "logits differ by {worst_logit}");
}

#[test]
fn tokens_are_those_of_the_reference() {
    let tagger = support::tagger();
    let (first, last) = tagger.tokenizer().frame();
    for case in golden() {
        let document = Document { text: case.text, ..Document::default() };
        let tokens = tagger.tokenizer().tokenize(&document).unwrap().tokens;
        let ids: Vec<u32> = [first].into_iter().chain(tokens.iter().map(|token| token.id)).chain([last]).collect();
        assert_eq!(ids, case.input_ids);
    }
}
