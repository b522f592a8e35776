//! Scores of entities.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Answer, Bootstrap, Counts, Example, Mistakes, PartialScores, SpanScore, UnitSpan, spans,
    statistics::{Reliability, mean},
};

/// How well entities were found. Strict: units and type must be right.
#[derive(Debug, Clone, Serialize)]
pub struct EntityFigures {
    /// Over all types together (micro average).
    #[serde(flatten)]
    pub micro: SpanScore,
    /// 95 % bootstrap interval of the F1 over texts.
    pub f1_ci: Option<[f64; 2]>,
    /// The same of the precision.
    pub precision_ci: Option<[f64; 2]>,
    /// The same of the recall.
    pub recall_ci: Option<[f64; 2]>,
    /// Mean F1 of the types that are annotated or predicted at least once.
    pub macro_f1: f64,
    /// By type.
    pub per_type: BTreeMap<String, SpanScore>,
    /// With credit for less than everything.
    pub partial: PartialScores,
    /// Whether probabilities are the share of entities that are right.
    #[serde(flatten)]
    pub reliability: Reliability,
}

impl EntityFigures {
    /// Scores texts; `types` are the names of the model's entity types.
    pub fn new(rows: &[(&Example, &Answer)], types: &[String], bootstrap: &Bootstrap) -> Self {
        let mut per_type: BTreeMap<usize, Counts> = BTreeMap::new();
        let mut mistakes = Mistakes::default();
        let mut totals = Vec::with_capacity(rows.len());
        let mut predictions = Vec::new();
        for (example, answer) in rows {
            let predicted: Vec<UnitSpan> = answer.entities.iter().map(|found| found.span.clone()).collect();
            let mut total = Counts::default();
            for (kind, counts) in spans::count(&example.entities, &predicted) {
                per_type.entry(kind).or_default().add(counts);
                total.add(counts);
            }
            totals.push(total);
            mistakes.add(Mistakes::of(&example.entities, &predicted));
            predictions.extend(
                answer.entities.iter().map(|found| (found.probability, example.entities.contains(&found.span))),
            );
        }
        let intervals = bootstrap.intervals(totals.len(), |weights| {
            let mut sample = Counts::default();
            for (counts, &weight) in totals.iter().zip(weights) {
                sample.correct += counts.correct * weight as usize;
                sample.predicted += counts.predicted * weight as usize;
                sample.gold += counts.gold * weight as usize;
            }
            let SpanScore { f1, precision, recall, .. } = sample.score();
            vec![f1, precision, recall]
        });
        let mut all = Counts::default();
        per_type.values().for_each(|&counts| all.add(counts));
        Self {
            micro: all.score(),
            f1_ci: intervals.first().copied(),
            precision_ci: intervals.get(1).copied(),
            recall_ci: intervals.get(2).copied(),
            macro_f1: mean(per_type.values().map(|counts| counts.score().f1)).unwrap_or_default(),
            per_type: per_type.iter().map(|(&kind, counts)| (types[kind].clone(), counts.score())).collect(),
            partial: mistakes.partial(),
            reliability: Reliability::new(&predictions),
        }
    }
}
