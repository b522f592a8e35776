//! The figures of `rasid eval` are those of seqeval, scikit-learn and scipy (tests/data/reference_scores.py).

use std::collections::BTreeMap;

use rasid::{
    eval::{
        Answer, Bootstrap, EntityFigures, Example, Found, Mistakes, TopicAnswer, TopicFigures, UnitSpan, from_bio,
        onto_units,
        statistics::{Reliability, average_precision, best_threshold, mean},
    },
    text::Document,
};
use serde::Deserialize;

const TYPES: [&str; 4] = ["PER", "ORG", "LOC", "MISC"];
const NO_INTERVALS: Bootstrap = Bootstrap { samples: 0, seed: 0 };

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

fn example(entities: Vec<UnitSpan>, topics: Vec<bool>) -> Example {
    let units = [Vec::new(), Vec::new()];
    Example { row: 0, language: String::new(), document: Document::default(), units, entities, topics }
}

fn entities(tags: &[String]) -> Vec<UnitSpan> {
    from_bio(tags.iter().map(String::as_str), |name| TYPES.iter().position(|kind| *kind == name)).unwrap()
}

#[derive(Deserialize)]
struct SpanCase {
    gold: Vec<Vec<String>>,
    predicted: Vec<Vec<String>>,
    /// Precision, recall, F1 and support by type, "micro avg" and "macro avg".
    scores: BTreeMap<String, (f64, f64, f64, usize)>,
}

#[test]
fn strict_span_scores_are_seqevals() {
    let types = TYPES.map(str::to_owned);
    for SpanCase { gold, predicted, scores } in read::<Vec<SpanCase>>("seqeval.json") {
        let examples: Vec<Example> = gold.iter().map(|tags| example(entities(tags), Vec::new())).collect();
        let found = |span| Found { span, probability: 0.5, score: 0.5 };
        let answers: Vec<Answer> = predicted
            .iter()
            .map(|tags| Answer { entities: entities(tags).into_iter().map(found).collect(), ..Answer::default() })
            .collect();
        let rows: Vec<_> = examples.iter().zip(&answers).collect();
        let figures = EntityFigures::new(&rows, &types, &NO_INTERVALS);
        let mut expected = scores;
        let (_, _, macro_f1, _) = expected.remove("macro avg").unwrap();
        near(figures.macro_f1, macro_f1);
        let (precision, recall, f1, support) = expected.remove("micro avg").unwrap();
        near(figures.micro.precision, precision);
        near(figures.micro.recall, recall);
        near(figures.micro.f1, f1);
        assert_eq!(figures.micro.support, support);
        assert!(figures.per_type.keys().eq(expected.keys()));
        for (name, (precision, recall, f1, support)) in expected {
            let score = figures.per_type[&name];
            near(score.precision, precision);
            near(score.recall, recall);
            near(score.f1, f1);
            assert_eq!(score.support, support);
        }
    }
}

#[derive(Deserialize)]
struct RankedCase {
    scores: Vec<f32>,
    labels: Vec<u8>,
    average_precision: f64,
    best_f1: f64,
    brier: f64,
    ece: f64,
}

#[derive(Deserialize)]
struct TopicCase {
    gold: Vec<Vec<u8>>,
    probabilities: Vec<Vec<f32>>,
    macro_f1: Option<f64>,
    micro_f1: Option<f64>,
    micro_precision: Option<f64>,
    micro_recall: Option<f64>,
    top1: f64,
    top1_macro_f1: Option<f64>,
}

#[derive(Deserialize)]
struct BootstrapCase {
    values: Vec<f64>,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct Statistics {
    ranked: Vec<RankedCase>,
    topics: Vec<TopicCase>,
    bootstrap: BootstrapCase,
}

#[test]
fn rankings_and_calibration_are_scikit_learns() {
    for case in read::<Statistics>("statistics.json").ranked {
        let scored: Vec<(f32, bool)> =
            case.scores.iter().copied().zip(case.labels.iter().map(|&label| label == 1)).collect();
        near(average_precision(&scored).unwrap(), case.average_precision);
        let (threshold, f1) = best_threshold(&scored).unwrap();
        near(f1, case.best_f1);
        let taken = |is: bool| {
            scored.iter().filter(|(score, label)| f64::from(*score) >= threshold && *label == is).count() as f64
        };
        let positives = scored.iter().filter(|(_, label)| *label).count() as f64;
        near(2.0 * taken(true) / (taken(true) + taken(false) + positives), case.best_f1);
        let reliability = Reliability::new(&scored);
        near(reliability.ece.unwrap(), case.ece);
        near(reliability.brier.unwrap(), case.brier);
    }
    assert_eq!(average_precision(&[(0.3, false)]), None);
    assert_eq!(best_threshold(&[]), None);
    assert_eq!(Reliability::new(&[]).ece, None);
}

#[test]
fn topic_scores_are_scikit_learns() {
    let topics: Vec<(String, f32)> = (0..5).map(|topic| (format!("topic{topic}"), 0.5)).collect();
    for case in read::<Statistics>("statistics.json").topics {
        let examples: Vec<Example> =
            case.gold.iter().map(|row| example(Vec::new(), row.iter().map(|&has| has == 1).collect())).collect();
        let answer = |&probability: &f32| TopicAnswer { probability, logit: 0.0, assigned: probability >= 0.5 };
        let answers: Vec<Answer> = case
            .probabilities
            .iter()
            .map(|row| Answer { topics: row.iter().map(answer).collect(), ..Answer::default() })
            .collect();
        let rows: Vec<_> = examples.iter().zip(&answers).collect();
        let figures = TopicFigures::new(&rows, &topics, &[true; 5], &NO_INTERVALS);
        near(figures.top1, case.top1);
        for (figure, expected) in [
            (figures.macro_f1, case.macro_f1),
            (figures.micro_f1, case.micro_f1),
            (figures.micro_precision, case.micro_precision),
            (figures.micro_recall, case.micro_recall),
            (figures.top1_macro_f1, case.top1_macro_f1),
        ] {
            if let Some(expected) = expected {
                near(figure, expected);
            }
        }
    }
}

#[test]
fn bootstrap_intervals_are_scipys() {
    let BootstrapCase { values, interval } = read::<Statistics>("statistics.json").bootstrap;
    let weighted = |weights: &[u32]| {
        let sum: f64 = values.iter().zip(weights).map(|(value, &weight)| value * f64::from(weight)).sum();
        vec![sum / values.len() as f64]
    };
    let bootstrap = Bootstrap { samples: 4000, seed: 17 };
    let ours = bootstrap.intervals(values.len(), weighted);
    for (bound, expected) in ours[0].iter().zip(interval) {
        assert!((bound - expected).abs() < 0.01, "{bound} is not near {expected}");
    }
    assert_eq!(bootstrap.intervals(values.len(), weighted), ours, "the same seed gives the same interval");
    assert!(mean(values.iter().copied()).is_some_and(|mean| ours[0][0] < mean && mean < ours[0][1]));
    assert!(NO_INTERVALS.intervals(values.len(), weighted).is_empty());
}

#[test]
fn a_unit_is_in_the_first_span_that_overlaps_it() {
    let units = [0..5, 6..9, 9..10, 11..20];
    // Within a unit; over two and a half; behind the last.
    assert_eq!(onto_units(&units, &[1..3, 6..12, 25..30]), [(0, 0..1), (1, 1..4)]);
    // Two in one unit: it is the first one's, and the second keeps what else it overlaps.
    assert_eq!(onto_units(&units, &[11..14, 15..20]), [(0, 3..4)]);
    assert_eq!(onto_units(&units, &[0..7, 8..10]), [(0, 0..2), (1, 2..3)]);
    // In a gap.
    assert_eq!(onto_units(&units, &[5..6, 10..11]), []);
}

#[test]
fn every_entity_is_one_kind_of_mistake_at_most() {
    let span = |start, end, kind| UnitSpan { start, end, kind };
    let gold = [span(0, 2, 0), span(3, 4, 1), span(5, 8, 2), span(9, 10, 0), span(12, 13, 1)];
    let predicted = [span(0, 2, 0), span(3, 4, 2), span(6, 8, 2), span(9, 11, 1), span(20, 21, 0)];
    let mistakes = Mistakes::of(&gold, &predicted);
    let each = Mistakes { correct: 1, wrong_type: 1, wrong_boundary: 1, wrong_both: 1, missed: 1, spurious: 1 };
    assert_eq!(mistakes, each);
    let partial = mistakes.partial();
    near(partial.half_credit_f1, 2.0 * 1.5 / 10.0);
    near(partial.overlap_f1, 2.0 * 2.0 / 10.0);
    near(partial.untyped_f1, 2.0 * 2.0 / 10.0);
}
