//! The Unigram model of a tokenizer (Kudo 2018) in a compact form that is ready once it is in memory.
//!
//! The tokenizers crate keeps a vocabulary in a hash map, a trie of hash maps and a list of strings: 300 MB and two thirds of a second
//! for 250,000 tokens. Here it is a double-array trie and a list of scores, 6 MB. All around the model (special tokens,
//! normalisation, words, offsets) stays the tokenizers crate's work, and `tests/tokenizer_identity.rs` holds the two together.
//!
//! The file is safetensors with the metadata `format` and four tensors: `trie` (U8, yada's double array: bytes of a token to its id),
//! `scores` (F64, log probability by id), `unknown` (U32, the id of the unknown token) and `pipeline` (U8, a `tokenizer.json` whose
//! model holds no more than the special tokens).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::Token;
use yada::{DoubleArray, builder::DoubleArrayBuilder};

use super::TokenizerError;

const FORMAT: &str = "rasid.unigram.1";

/// What an unknown character costs beyond the least likely token (sentencepiece's `kUnkPenalty`).
const UNKNOWN_PENALTY: f64 = 10.0;

/// Scores and spellings of all tokens.
pub struct Unigram {
    trie: DoubleArray<Bytes>,
    /// `f64`, little-endian.
    scores: Bytes,
    unknown: u32,
    unknown_score: f64,
}

/// The best way to a place in the text.
#[derive(Clone, Copy)]
struct Node {
    score: f64,
    start: usize,
    id: u32,
}

impl Unigram {
    /// Reads the compact form; also returns the JSON of the pipeline around the model.
    ///
    /// # Errors
    /// If the bytes are not what [`compile`] writes.
    pub fn from_bytes(file: &Bytes) -> Result<(Self, Bytes), TokenizerError> {
        let (_, header) = SafeTensors::read_metadata(file)?;
        let format = header.metadata().as_ref().and_then(|metadata| metadata.get("format"));
        if format.is_none_or(|format| format != FORMAT) {
            return Err(format!("its format is {format:?}, must be {FORMAT:?}").into());
        }
        let tensors = SafeTensors::deserialize(file)?;
        let part = |name| Ok::<_, safetensors::SafeTensorError>(file.slice_ref(tensors.tensor(name)?.data()));
        let unknown = u32::from_le_bytes(part("unknown")?.as_ref().try_into()?);
        let scores = part("scores")?;
        let least = scores.chunks_exact(8).map(score).fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return Err("its scores are not finite".into());
        }
        let trie = DoubleArray::new(part("trie")?)?;
        Ok((Self { trie, scores, unknown, unknown_score: least - UNKNOWN_PENALTY }, part("pipeline")?))
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.scores.len() / 8
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        let mut prefixes = self.trie.common_prefix_search(token);
        prefixes.find(|&(_, length)| length == token.len()).map(|(id, _)| id)
    }

    /// The likeliest tokens of a text, with their bytes in it and without their spelling: the Viterbi search of the tokenizers
    /// crate's `Unigram::encode_optimized`, ties decided as there.
    pub fn tokenize(&self, text: &str) -> Vec<Token> {
        let mut best: Vec<Option<Node>> = vec![None; text.len() + 1];
        for (start, character) in text.char_indices() {
            let score = best[start].map_or(0.0, |node| node.score);
            let mut reach = |end: usize, id: u32, token_score: f64| {
                let score = score + token_score;
                if best[end].is_none_or(|node| score > node.score) {
                    best[end] = Some(Node { score, start, id });
                }
            };
            let mut is_known = false;
            for (id, length) in self.tokens_at(&text[start..]) {
                reach(start + length, id, self.score(id));
                is_known |= length == character.len_utf8();
            }
            if !is_known {
                reach(start + character.len_utf8(), self.unknown, self.unknown_score);
            }
        }
        self.walk_back(&best)
    }

    /// Unknown characters beside one another are one token. It is in no vocabulary: a token of two characters is likelier than
    /// two unknown ones.
    fn walk_back(&self, best: &[Option<Node>]) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut end = best.len() - 1;
        while let Some(node) = best[end] {
            match tokens.last_mut() {
                Some(next) if node.id == self.unknown && next.id == self.unknown => next.offsets.0 = node.start,
                _ => tokens.push(Token::new(node.id, String::new(), (node.start, end))),
            }
            end = node.start;
        }
        tokens.reverse();
        tokens
    }

    /// All tokens that a text begins with, shortest first: id and bytes.
    fn tokens_at<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (u32, usize)> + 'a {
        // The double array takes the byte 0 for the end of a token. None has one within.
        let mut bytes = 0;
        let tokens = self.trie.common_prefix_search(text);
        tokens.take_while(move |&(_, length)| {
            let is_whole = !text.as_bytes()[bytes..length].contains(&0);
            bytes = length;
            is_whole
        })
    }

    fn score(&self, id: u32) -> f64 {
        // A token without a score is never the likeliest.
        self.scores.chunks_exact(8).nth(id as usize).map_or(f64::NEG_INFINITY, score)
    }
}

impl std::fmt::Debug for Unigram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unigram").field("tokens", &self.len()).field("unknown", &self.unknown).finish_non_exhaustive()
    }
}

fn score(bytes: &[u8]) -> f64 {
    bytes.try_into().map_or(f64::NAN, f64::from_le_bytes)
}

/// The `model` of a `tokenizer.json`, if it is a Unigram.
#[derive(Deserialize)]
struct Model {
    unk_id: Option<u32>,
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

/// Makes the compact form of a `tokenizer.json`; none if its model is not a Unigram with an unknown token and without bytes to fall
/// back on.
///
/// # Errors
/// If it is a Unigram that cannot be understood.
pub fn compile(json: &[u8]) -> Result<Option<Vec<u8>>, TokenizerError> {
    let mut tokenizer: Value = serde_json::from_slice(json)?;
    if tokenizer["model"]["type"] != "Unigram" {
        return Ok(None);
    }
    let model: Model = serde_json::from_value(tokenizer["model"].take())?;
    let Some(unknown) = model.unk_id.filter(|_| !model.byte_fallback) else { return Ok(None) };
    if model.vocab.iter().any(|(token, score)| token.is_empty() || token.contains('\0') || *score > 0.0) {
        return Ok(None);
    }
    // Of tokens spelled alike the last counts, as in the tokenizers crate.
    let ids: BTreeMap<&[u8], u32> = model.vocab.iter().map(|(token, _)| token.as_bytes()).zip(0..).collect();
    let trie = DoubleArrayBuilder::build(&ids.into_iter().collect::<Vec<_>>())?;
    let scores: Vec<u8> = model.vocab.iter().flat_map(|(_, score)| score.to_le_bytes()).collect();
    tokenizer["model"] = special_tokens(&tokenizer["added_tokens"], &model.vocab, unknown)?;
    let pipeline = serde_json::to_vec(&tokenizer)?;
    let unknown = unknown.to_le_bytes();
    let tensors = [
        ("trie", TensorView::new(Dtype::U8, vec![trie.len()], &trie)?),
        ("scores", TensorView::new(Dtype::F64, vec![model.vocab.len()], &scores)?),
        ("unknown", TensorView::new(Dtype::U32, vec![1], &unknown)?),
        ("pipeline", TensorView::new(Dtype::U8, vec![pipeline.len()], &pipeline)?),
    ];
    let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    Ok(Some(safetensors::serialize(tensors, Some(metadata))?))
}

/// A model for the pipeline that knows the special tokens, which have to keep their ids.
fn special_tokens(added: &Value, vocab: &[(String, f64)], unknown: u32) -> Result<Value, TokenizerError> {
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    let added: Vec<Added> = serde_json::from_value(added.clone())?;
    let (unknown_token, _) = vocab.get(unknown as usize).ok_or("its unknown token is not in its vocabulary")?;
    let mut ids: BTreeMap<&str, u32> = added.iter().map(|token| (token.content.as_str(), token.id)).collect();
    ids.insert(unknown_token, unknown);
    Ok(json!({"type": "WordLevel", "vocab": ids, "unk_token": unknown_token}))
}
