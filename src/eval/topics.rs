//! Scores of topics.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Answer, Bootstrap, Example,
    statistics::{Reliability, average_precision, best_threshold, f1, mean, ratio},
};

/// How well topics were told, over the topics that the data cover.
#[derive(Debug, Clone, Serialize)]
pub struct TopicFigures {
    /// Share of the texts with a covered topic of which the most probable covered one is right.
    pub top1: f64,
    /// 95 % bootstrap interval over texts.
    pub top1_ci: Option<[f64; 2]>,
    /// Macro F1 if each text with a covered topic is given its most probable one, the usual figure of single-label sets.
    pub top1_macro_f1: f64,
    /// Mean F1, by the model's own thresholds, of the covered topics that are annotated or assigned at least once.
    pub macro_f1: f64,
    /// 95 % bootstrap interval over texts.
    pub macro_f1_ci: Option<[f64; 2]>,
    /// F1 of all pairs of text and topic together.
    pub micro_f1: f64,
    /// 95 % bootstrap interval over texts.
    pub micro_f1_ci: Option<[f64; 2]>,
    /// Precision of all pairs together.
    pub micro_precision: f64,
    /// Recall of all pairs together.
    pub micro_recall: f64,
    /// Mean average precision of the topics that are annotated at least once.
    pub average_precision: Option<f64>,
    /// Whether the probabilities of assigned topics are the share of them that are right.
    #[serde(flatten)]
    pub reliability: Reliability,
    /// The same over every pair of text and covered topic, assigned or not.
    pub reliability_of_all: Reliability,
    /// By covered topic.
    pub per_topic: BTreeMap<String, TopicScores>,
}

/// How well one topic was told.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TopicScores {
    /// Share of the texts it was assigned to that have it.
    pub precision: f64,
    /// Share of the texts that have it to which it was assigned.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// 95 % bootstrap interval over texts.
    pub f1_ci: Option<[f64; 2]>,
    /// Texts that have it.
    pub support: usize,
    /// Texts it was assigned to.
    pub assigned: usize,
    /// The model's threshold.
    pub threshold: f32,
    /// Average precision; none if no text has it.
    pub average_precision: Option<f64>,
    /// The threshold with the best F1 on these very texts.
    pub best_threshold: Option<f64>,
    /// That F1: what the threshold could still give.
    pub best_f1: Option<f64>,
}

/// A covered topic's decisions, text by text.
struct Column<'a> {
    topic: usize,
    name: &'a str,
    threshold: f32,
    /// Whether the text has it, and whether it was assigned.
    decisions: Vec<(bool, bool)>,
}

impl Column<'_> {
    /// Correct, assigned and annotated, each text counted as often as `weight` says.
    fn counts(&self, weight: impl Fn(usize) -> u32) -> [f64; 3] {
        let mut counts = [0.0; 3];
        for (row, &(has, assigned)) in self.decisions.iter().enumerate() {
            let weight = f64::from(weight(row));
            counts[0] += weight * f64::from(u8::from(has && assigned));
            counts[1] += weight * f64::from(u8::from(assigned));
            counts[2] += weight * f64::from(u8::from(has));
        }
        counts
    }
}

impl TopicFigures {
    /// Scores texts. `topics` are the model's, with their thresholds, and `covered` says which of them the data cover.
    pub fn new(
        rows: &[(&Example, &Answer)],
        topics: &[(String, f32)],
        covered: &[bool],
        bootstrap: &Bootstrap,
    ) -> Self {
        let columns: Vec<Column<'_>> = (0..topics.len())
            .filter(|&topic| covered[topic])
            .map(|topic| Column {
                topic,
                name: &topics[topic].0,
                threshold: topics[topic].1,
                decisions: rows
                    .iter()
                    .map(|(example, answer)| {
                        (example.topics[topic], answer.topics.get(topic).is_some_and(|answer| answer.assigned))
                    })
                    .collect(),
            })
            .collect();
        let firsts: Vec<Option<First>> =
            rows.iter().map(|(example, answer)| First::of(&columns, example, answer)).collect();
        let intervals = bootstrap.intervals(rows.len(), |weights| {
            let counts: Vec<[f64; 3]> = columns.iter().map(|column| column.counts(|row| weights[row])).collect();
            let [_, _, micro] = micro(&counts);
            let figures = [top1(&firsts, |row| weights[row]), macro_f1(&counts), micro];
            figures
                .into_iter()
                .chain(counts.iter().map(|&[correct, assigned, has]| f1(correct, assigned, has)))
                .collect()
        });
        let interval = |index: usize| intervals.get(index).copied();
        let counts: Vec<[f64; 3]> = columns.iter().map(|column| column.counts(|_| 1)).collect();
        let [micro_precision, micro_recall, micro_f1] = micro(&counts);
        let pairs = |assigned_only: bool| pairs(rows, &columns, assigned_only);
        let per_topic: BTreeMap<String, TopicScores> = columns
            .iter()
            .zip(&counts)
            .enumerate()
            .map(|(index, (column, &counts))| {
                let scores = TopicScores { f1_ci: interval(3 + index), ..TopicScores::new(rows, column, counts) };
                (column.name.to_owned(), scores)
            })
            .collect();
        Self {
            top1: top1(&firsts, |_| 1),
            top1_ci: interval(0),
            top1_macro_f1: top1_macro_f1(&firsts, &columns),
            macro_f1: macro_f1(&counts),
            macro_f1_ci: interval(1),
            micro_f1,
            micro_f1_ci: interval(2),
            micro_precision,
            micro_recall,
            average_precision: mean(per_topic.values().filter_map(|scores| scores.average_precision)),
            reliability: Reliability::new(&pairs(true)),
            reliability_of_all: Reliability::new(&pairs(false)),
            per_topic,
        }
    }
}

impl TopicScores {
    fn new(rows: &[(&Example, &Answer)], column: &Column<'_>, [correct, assigned, has]: [f64; 3]) -> Self {
        let scored: Vec<(f32, bool)> = rows
            .iter()
            .map(|(example, answer)| {
                let probability = answer.topics.get(column.topic).map_or(0.0, |answer| answer.probability);
                (probability, example.topics[column.topic])
            })
            .collect();
        let best = best_threshold(&scored);
        Self {
            precision: ratio(correct, assigned),
            recall: ratio(correct, has),
            f1: f1(correct, assigned, has),
            f1_ci: None,
            support: has as usize,
            assigned: assigned as usize,
            threshold: column.threshold,
            average_precision: average_precision(&scored),
            best_threshold: best.map(|(threshold, _)| threshold),
            best_f1: best.map(|(_, f1)| f1),
        }
    }
}

/// The most probable covered topic of a text that has one.
struct First {
    topic: usize,
    right: bool,
    /// The annotated one, or the first of several.
    gold: usize,
}

impl First {
    fn of(columns: &[Column<'_>], example: &Example, answer: &Answer) -> Option<Self> {
        let covered = || columns.iter().map(|column| column.topic);
        let gold = covered().find(|&topic| example.topics[topic])?;
        let probability = |topic: usize| answer.topics.get(topic).map_or(0.0, |answer| answer.probability);
        let topic = covered().reduce(|best, next| if probability(next) > probability(best) { next } else { best })?;
        let right = example.topics[topic];
        Some(Self { topic, right, gold: if right { topic } else { gold } })
    }
}

fn top1(firsts: &[Option<First>], weight: impl Fn(usize) -> u32) -> f64 {
    let (mut right, mut all) = (0, 0);
    for (row, first) in firsts.iter().enumerate() {
        let Some(first) = first else { continue };
        right += weight(row) * u32::from(first.right);
        all += weight(row);
    }
    ratio(f64::from(right), f64::from(all))
}

fn top1_macro_f1(firsts: &[Option<First>], columns: &[Column<'_>]) -> f64 {
    let counts = columns.iter().map(|column| {
        let count = |is: &dyn Fn(&First) -> bool| firsts.iter().flatten().filter(|first| is(first)).count() as f64;
        let topic = column.topic;
        [
            count(&|first| first.right && first.topic == topic),
            count(&|first| first.topic == topic),
            count(&|first| first.gold == topic),
        ]
    });
    macro_f1(&counts.collect::<Vec<_>>())
}

/// Mean F1 of the topics that are annotated or assigned at all.
fn macro_f1(counts: &[[f64; 3]]) -> f64 {
    let seen = counts.iter().filter(|[_, assigned, has]| assigned + has > 0.0);
    mean(seen.map(|&[correct, assigned, has]| f1(correct, assigned, has))).unwrap_or_default()
}

/// Precision, recall and F1 of all topics together.
fn micro(counts: &[[f64; 3]]) -> [f64; 3] {
    let sum = |index: usize| counts.iter().map(|counts| counts[index]).sum::<f64>();
    let (correct, assigned, has) = (sum(0), sum(1), sum(2));
    [ratio(correct, assigned), ratio(correct, has), f1(correct, assigned, has)]
}

/// Probability and truth of every pair of text and covered topic, or of the assigned ones.
fn pairs(rows: &[(&Example, &Answer)], columns: &[Column<'_>], assigned_only: bool) -> Vec<(f32, bool)> {
    let pair = |(example, answer): &(&Example, &Answer), topic: usize| {
        let answer = answer.topics.get(topic)?;
        (answer.assigned || !assigned_only).then_some((answer.probability, example.topics[topic]))
    };
    rows.iter().flat_map(|row| columns.iter().filter_map(move |column| pair(row, column.topic))).collect()
}
