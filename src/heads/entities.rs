//! Entities: from token logits to spans that are a valid BIO sequence by construction.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module};

use crate::{
    encoder::Weights,
    text::{Token, Word, WordKind},
};

/// A token classification head over BIO tags.
#[derive(Debug)]
pub struct EntityHead {
    linear: Linear,
}

impl EntityHead {
    /// Takes `ner.weight` `[tags, hidden]` and `ner.bias` `[tags]`.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn load(weights: &mut Weights, tags: usize, hidden: usize) -> Result<Self> {
        Ok(Self { linear: weights.linear("ner", tags, hidden)? })
    }

    /// Logits: `[tokens, hidden]` to `[tokens, tags]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.linear.forward(hidden)
    }
}

/// An entity among the bytes of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct EntitySpan {
    /// Index of the type, in the order of the tags.
    pub kind: usize,
    /// First byte.
    pub start: usize,
    /// First byte after.
    pub end: usize,
    /// The mean probability of the chosen tags over the entity's words, times the probability that it ends with them, in [0, 1]. Of
    /// the products and means of these probabilities that were tried, this tells right entities best from wrong ones.
    pub score: f32,
}

/// Tag 0 is `O`; type `t` begins with tag `2t + 1` and goes on with `2t + 2`.
const OUTSIDE: usize = 0;

/// What an entity straight behind another of its type costs, in nats, unless it begins with "and" ("كركوك وديالى"). There rarely is one,
/// but the head decides on each word by itself, and so cuts names in two. Of 0, 1, 1.5, 2 and 3 (of all neighbours; the exception changes
/// F1 by at most 0.001) the best on each half of the articles that training held out.
const NEIGHBOUR_COST: f32 = 1.0;

fn is_inside(tag: usize) -> bool {
    tag != OUTSIDE && tag.is_multiple_of(2)
}

fn kind_of(tag: usize) -> Option<usize> {
    (tag != OUTSIDE).then(|| (tag - 1) / 2)
}

/// A word and what the model says of it.
struct Tagged {
    word: Word,
    /// Log-probability of each tag, read at the first token that carries a character of the word; empty if no token does.
    log_probabilities: Vec<f32>,
}

/// Finds the entities of one field.
///
/// `tokens` are the field's tokens and `logits` their `[tokens, tags]`; words behind the last token are not looked at. The most
/// probable sequence of tags is chosen among those that are valid BIO and do not go on over a line break (Viterbi), so the spans
/// never overlap. Punctuation is cut from their edges.
pub fn decode(words: &[Word], tokens: &[Token], logits: &[f32], tags: usize) -> Vec<EntitySpan> {
    let read = tokens.last().map_or(0, |token| token.end as usize);
    let words: Vec<Word> = words.iter().copied().take_while(|word| word.start < read).collect();
    let tagged = tag_words(&words, tokens, logits, tags);
    let lines = tagged.chunk_by(|_, next| !next.word.starts_line);
    lines.flat_map(|line| spans(line, &viterbi(line, tags))).collect()
}

/// Gives each word its token's log-probabilities. Characters of an unspaced script that share a token become one word.
fn tag_words(words: &[Word], tokens: &[Token], logits: &[f32], tags: usize) -> Vec<Tagged> {
    let mut tagged: Vec<Tagged> = Vec::with_capacity(words.len());
    let mut next = 0;
    let mut previous = None;
    for &word in words {
        while tokens.get(next).is_some_and(|token| token.end as usize <= word.start || token.start == token.end) {
            next += 1;
        }
        let token = tokens.get(next).filter(|token| (token.start as usize) < word.end).map(|_| next);
        let shares = token.is_some() && token == previous;
        previous = token;
        match (tagged.last_mut(), token) {
            (Some(last), _) if shares && last.word.kind == WordKind::Unspaced && word.kind == WordKind::Unspaced => {
                last.word.end = word.end;
            }
            // A suffix goes with the name around it: that it is in the middle of one only the next word can tell.
            _ if word.kind == WordKind::Suffix => tagged.push(Tagged { word, log_probabilities: Vec::new() }),
            // The token speaks of the word it begins with; a mark at its end says nothing of its own.
            (_, Some(_)) if shares && word.kind == WordKind::Punctuation => {
                tagged.push(Tagged { word, log_probabilities: Vec::new() });
            }
            (_, Some(token)) => {
                let log_probabilities = log_softmax(&logits[token * tags..(token + 1) * tags]);
                tagged.push(Tagged { word, log_probabilities });
            }
            (_, None) => tagged.push(Tagged { word, log_probabilities: Vec::new() }),
        }
    }
    tagged
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    logits.iter().map(|logit| logit - max - sum.ln()).collect()
}

/// The most probable valid sequence of tags of a line, less what neighbours cost. Valid: `I-X` only behind `B-X` or `I-X`.
fn viterbi(words: &[Tagged], tags: usize) -> Vec<usize> {
    let mut scores = vec![0.0_f32; tags];
    let mut back: Vec<Vec<usize>> = Vec::with_capacity(words.len());
    for (index, Tagged { word, log_probabilities }) in words.iter().enumerate() {
        let best_before = argmax(scores.iter().copied());
        let mut from = vec![best_before; tags];
        let mut now = vec![f32::NEG_INFINITY; tags];
        for tag in 0..tags {
            let own = log_probabilities.get(tag).copied().unwrap_or(0.0);
            let (before, score) = if is_inside(tag) {
                let before = if scores[tag - 1] > scores[tag] { tag - 1 } else { tag };
                (before, scores[before])
            } else if tag == OUTSIDE {
                (best_before, scores[best_before])
            } else {
                best_to_begin(&scores, tag, if word.conjoined { 0.0 } else { NEIGHBOUR_COST })
            };
            let nothing_before = index == 0 && is_inside(tag);
            // What carries no token of its own begins nothing.
            let begins_nothing = log_probabilities.is_empty() && tag != OUTSIDE && !is_inside(tag);
            if !nothing_before && !begins_nothing {
                from[tag] = before;
                now[tag] = score + own;
            }
        }
        back.push(from);
        scores = now;
    }
    let mut tag = argmax(scores.iter().copied());
    let mut best = vec![OUTSIDE; words.len()];
    for index in (0..words.len()).rev() {
        best[index] = tag;
        tag = back[index][tag];
    }
    best
}

/// The best tag before `tag`, which begins an entity, and the score on the way there, less `neighbour` behind an entity of its type.
fn best_to_begin(scores: &[f32], tag: usize, neighbour: f32) -> (usize, f32) {
    let cost = |before: usize| if kind_of(before) == kind_of(tag) { neighbour } else { 0.0 };
    let before = argmax(scores.iter().enumerate().map(|(before, score)| score - cost(before)));
    (before, scores[before] - cost(before))
}

/// The first of the largest values.
fn argmax(values: impl Iterator<Item = f32>) -> usize {
    values
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (index, value)| if value > best.1 { (index, value) } else { best })
        .0
}

fn spans(words: &[Tagged], tags: &[usize]) -> Vec<EntitySpan> {
    let mut spans = Vec::new();
    let mut index = 0;
    while index < words.len() {
        let end = (index + 1..words.len()).find(|&next| !is_inside(tags[next])).unwrap_or(words.len());
        if let Some(kind) = kind_of(tags[index]) {
            let next = words[end..].iter().find(|next| next.word.kind != WordKind::Suffix);
            let goes_on = next.and_then(|next| next.log_probabilities.get(2 * kind + 2));
            let ends = 1.0 - goes_on.map_or(0.0, |log_probability| log_probability.exp());
            spans.extend(span(kind, &words[index..end], &tags[index..end], ends));
            index = end;
        } else {
            index += 1;
        }
    }
    spans
}

/// The span of an entity's words, without punctuation at its edges; none if it is nothing but punctuation. `ends` is the probability
/// that the word behind them is not one more.
fn span(kind: usize, words: &[Tagged], tags: &[usize], ends: f32) -> Option<EntitySpan> {
    let is_word = |tagged: &Tagged| !matches!(tagged.word.kind, WordKind::Punctuation | WordKind::Suffix);
    let first = words.iter().position(is_word)?;
    let last = words.iter().rposition(is_word)?;
    let probabilities = words[first..=last].iter().zip(&tags[first..=last]);
    let known: Vec<f32> =
        probabilities.filter_map(|(tagged, &tag)| Some(tagged.log_probabilities.get(tag)?.exp())).collect();
    let score = if known.is_empty() { 0.0 } else { known.iter().sum::<f32>() / known.len() as f32 };
    Some(EntitySpan { kind, start: words[first].word.start, end: words[last].word.end, score: score * ends })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::words;

    /// One token a word, with logits that prefer the given tags.
    fn decode_words(text: &str, wanted: &[usize]) -> Vec<(usize, String)> {
        let words = words(text);
        let tokens: Vec<Token> =
            words.iter().map(|word| Token { id: 7, start: word.start as u32, end: word.end as u32 }).collect();
        let mut logits = vec![0.0; words.len() * 9];
        for (index, tag) in wanted.iter().enumerate() {
            logits[index * 9 + tag] = 5.0;
        }
        decode(&words, &tokens, &logits, 9)
            .into_iter()
            .map(|span| (span.kind, text[span.start..span.end].to_owned()))
            .collect()
    }

    #[test]
    fn reads_entities_of_one_and_more_words() {
        let spans = decode_words("Amina Said visited Erbil .", &[1, 2, 0, 5, 0]);
        assert_eq!(spans, [(0, "Amina Said".to_owned()), (2, "Erbil".to_owned())]);
    }

    #[test]
    fn neighbours_stay_apart_where_one_begins() {
        assert_eq!(decode_words("Paris London", &[5, 5]).len(), 2);
    }

    #[test]
    fn neighbours_of_one_type_are_one_where_that_is_nearly_as_likely() {
        let read = |text: &str, second: [(usize, f32); 2]| {
            let words = words(text);
            let tokens: Vec<Token> =
                words.iter().map(|word| Token { id: 7, start: word.start as u32, end: word.end as u32 }).collect();
            let mut logits = vec![0.0; 18];
            logits[5] = 8.0;
            second.iter().for_each(|&(tag, logit)| logits[9 + tag] = logit);
            decode(&words, &tokens, &logits, 9).len()
        };
        assert_eq!(read("Qara Taba", [(5, 4.0), (6, 3.5)]), 1);
        assert_eq!(read("Qara Taba", [(5, 4.0), (6, 2.5)]), 2);
        // Another type costs nothing, nor does "and".
        assert_eq!(read("Qara Taba", [(3, 4.0), (6, 3.5)]), 2);
        assert_eq!(read("كركوك وديالى", [(5, 4.0), (6, 3.5)]), 2);
    }

    #[test]
    fn cuts_punctuation_from_the_edges_only() {
        let spans = decode_words("( Smith & Sons ) .", &[3, 4, 4, 4, 4, 0]);
        assert_eq!(spans, [(1, "Smith & Sons".to_owned())]);
        assert_eq!(decode_words("! ?", &[1, 2]), []);
    }

    #[test]
    fn the_score_is_of_the_tags_and_of_the_end() {
        let words = words("Amina Said spoke");
        let tokens: Vec<Token> =
            words.iter().map(|word| Token { id: 7, start: word.start as u32, end: word.end as u32 }).collect();
        let tags = |chances: &[(usize, f32)]| {
            let mut logits = [f32::NEG_INFINITY; 9];
            chances.iter().for_each(|&(tag, chance)| logits[tag] = chance.ln());
            logits
        };
        let logits = [tags(&[(1, 0.9), (0, 0.1)]), tags(&[(2, 0.7), (0, 0.3)]), tags(&[(0, 0.75), (2, 0.25)])].concat();
        let spans = decode(&words, &tokens, &logits, 9);
        assert_eq!(spans.len(), 1);
        assert!((spans[0].score - 0.8 * 0.75).abs() < 1e-6, "{}", spans[0].score);
    }

    #[test]
    fn a_suffix_is_inside_a_name_or_no_part_of_it() {
        assert_eq!(decode_words("Cairo's mayor", &[5, 6, 0]), [(2, "Cairo".to_owned())]);
        assert_eq!(decode_words("Cairo's mayor", &[5, 0, 0]), [(2, "Cairo".to_owned())]);
        assert_eq!(decode_words("People's Party", &[3, 0, 4]), [(1, "People's Party".to_owned())]);
        assert_eq!(decode_words("Rome's Fiat", &[5, 0, 3]), [(2, "Rome".to_owned()), (1, "Fiat".to_owned())]);
    }

    #[test]
    fn no_entity_reaches_over_a_line() {
        let spans = decode_words("Erbil\nBaghdad", &[5, 6]);
        assert_eq!(spans, [(2, "Erbil".to_owned())]);
    }

    #[test]
    fn characters_of_one_token_are_one_word() {
        let text = "東京で";
        let tokens = [Token { id: 1, start: 0, end: 6 }, Token { id: 2, start: 6, end: 9 }];
        let mut logits = vec![0.0; 18];
        logits[5] = 5.0;
        logits[9] = 5.0;
        let spans = decode(&words(text), &tokens, &logits, 9);
        assert_eq!(spans.len(), 1);
        assert_eq!(&text[spans[0].start..spans[0].end], "東京");
    }

    proptest! {
        #[test]
        fn any_logits_give_ordered_disjoint_spans(
            text in "\\PC{0,60}",
            seed in prop::collection::vec(-9.0_f32..9.0, 9 * 64),
            length in 1_usize..5,
        ) {
            let mut tokens = Vec::new();
            let mut start = 0;
            while start < text.len() {
                let end = text.ceil_char_boundary(start + length);
                tokens.push(Token { id: 1, start: start as u32, end: end as u32 });
                start = end;
            }
            let logits: Vec<f32> = seed.iter().copied().cycle().take(tokens.len() * 9).collect();
            let mut before = 0;
            for span in decode(&words(&text), &tokens, &logits, 9) {
                prop_assert!(before <= span.start && span.start < span.end);
                let content = &text[span.start..span.end];
                prop_assert_eq!(content.trim(), content);
                prop_assert!(span.score > 0.0 && span.score <= 1.0);
                before = span.end;
            }
        }
    }
}
