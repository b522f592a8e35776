//! Entities as spans of units, and how those of the model compare with those of the annotation.

use std::{collections::BTreeMap, ops::Range};

use serde::Serialize;

use super::statistics::{f1, ratio};

/// An entity among the units of a text: its tokens, where it came in tokens, else its words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitSpan {
    /// First unit.
    pub start: usize,
    /// First unit after.
    pub end: usize,
    /// Index of the type.
    pub kind: usize,
}

/// The entities of a BIO sequence by seqeval's strict reading of IOB2: `B-X` and every `I-X` directly behind it. An `I-X` behind anything else
/// begins nothing. `kind` gives the index of a type's name; a type that it does not know is none.
///
/// # Errors
/// The first tag that is neither `O` nor `B-` or `I-` and a type that is known.
pub fn from_bio<'a>(
    tags: impl IntoIterator<Item = &'a str>,
    kind: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<UnitSpan>, &'a str> {
    let mut spans: Vec<UnitSpan> = Vec::new();
    for (unit, tag) in tags.into_iter().enumerate() {
        let (begins, name) = match tag.split_at_checked(2) {
            _ if tag == "O" => continue,
            Some(("B-", name)) => (true, name),
            Some(("I-", name)) => (false, name),
            _ => return Err(tag),
        };
        let kind = kind(name).ok_or(tag)?;
        match spans.last_mut() {
            _ if begins => spans.push(UnitSpan { start: unit, end: unit + 1, kind }),
            Some(last) if last.end == unit && last.kind == kind => last.end = unit + 1,
            _ => {}
        }
    }
    Ok(spans)
}

/// Puts spans of bytes onto units: a unit is in a span if they overlap, and where two spans overlap one unit it is the first one's. A
/// span that overlaps no unit of its own is none. `units` and `spans` are sorted and do not overlap among themselves; gives the index of
/// each span that is left, with its units.
pub fn onto_units(units: &[Range<usize>], spans: &[Range<usize>]) -> Vec<(usize, Range<usize>)> {
    let mut placed = Vec::with_capacity(spans.len());
    let mut free = 0;
    for (index, span) in spans.iter().enumerate() {
        let start = units.partition_point(|unit| unit.end <= span.start).max(free);
        let end = units.partition_point(|unit| unit.start < span.end);
        if start < end {
            placed.push((index, start..end));
            free = end;
        }
    }
    placed
}

/// Entities of a type, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Predicted with the annotation's very units and type.
    pub correct: usize,
    /// Predicted.
    pub predicted: usize,
    /// Annotated.
    pub gold: usize,
}

impl Counts {
    /// Both together.
    pub fn add(&mut self, other: Counts) {
        self.correct += other.correct;
        self.predicted += other.predicted;
        self.gold += other.gold;
    }

    /// Precision, recall and F1.
    pub fn score(&self) -> SpanScore {
        let (correct, predicted, gold) = (self.correct as f64, self.predicted as f64, self.gold as f64);
        SpanScore {
            precision: ratio(correct, predicted),
            recall: ratio(correct, gold),
            f1: f1(correct, predicted, gold),
            support: self.gold,
            predicted: self.predicted,
        }
    }
}

/// Precision, recall and F1 of spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SpanScore {
    /// Share of the predicted ones that are right.
    pub precision: f64,
    /// Share of the annotated ones that were found.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// How many are annotated.
    pub support: usize,
    /// How many were predicted.
    pub predicted: usize,
}

/// Counts by type of one text; only types that occur.
pub fn count(gold: &[UnitSpan], predicted: &[UnitSpan]) -> BTreeMap<usize, Counts> {
    let mut counts: BTreeMap<usize, Counts> = BTreeMap::new();
    for span in gold {
        counts.entry(span.kind).or_default().gold += 1;
    }
    for span in predicted {
        let counts = counts.entry(span.kind).or_default();
        counts.predicted += 1;
        counts.correct += usize::from(gold.contains(span));
    }
    counts
}

/// What became of the entities, by kind of mistake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Mistakes {
    /// Right in units and type.
    pub correct: usize,
    /// Right units, wrong type.
    pub wrong_type: usize,
    /// Right type, but only overlapping.
    pub wrong_boundary: usize,
    /// Overlapping, and another type.
    pub wrong_both: usize,
    /// Annotated, and nothing predicted there.
    pub missed: usize,
    /// Predicted, and nothing annotated there.
    pub spurious: usize,
}

impl Mistakes {
    /// Compares the entities of one text. Each annotated one is set against one predicted one at most, best match first: exact, then same
    /// units, then same type overlapping, then overlapping.
    pub fn of(gold: &[UnitSpan], predicted: &[UnitSpan]) -> Self {
        let mut gold: Vec<&UnitSpan> = gold.iter().collect();
        let mut predicted: Vec<&UnitSpan> = predicted.iter().collect();
        let mut take = |matches: fn(&UnitSpan, &UnitSpan) -> bool| {
            let before = gold.len();
            gold.retain(|gold| match predicted.iter().position(|predicted| matches(gold, predicted)) {
                Some(at) => {
                    predicted.remove(at);
                    false
                }
                None => true,
            });
            before - gold.len()
        };
        let same_units = |a: &UnitSpan, b: &UnitSpan| (a.start, a.end) == (b.start, b.end);
        let overlap = |a: &UnitSpan, b: &UnitSpan| a.start < b.end && b.start < a.end;
        let correct = take(|a, b| a == b);
        let wrong_type = take(same_units);
        let wrong_boundary = take(|a, b| a.kind == b.kind && a.start < b.end && b.start < a.end);
        let wrong_both = take(overlap);
        Self { correct, wrong_type, wrong_boundary, wrong_both, missed: gold.len(), spurious: predicted.len() }
    }

    /// Both together.
    pub fn add(&mut self, other: Mistakes) {
        self.correct += other.correct;
        self.wrong_type += other.wrong_type;
        self.wrong_boundary += other.wrong_boundary;
        self.wrong_both += other.wrong_both;
        self.missed += other.missed;
        self.spurious += other.spurious;
    }

    /// The scores that give credit for less than everything.
    pub fn partial(&self) -> PartialScores {
        let matched = (self.correct + self.wrong_type + self.wrong_boundary + self.wrong_both) as f64;
        let (gold, predicted) = (matched + self.missed as f64, matched + self.spurious as f64);
        let score = |credit: f64| f1(credit, predicted, gold);
        PartialScores {
            half_credit_f1: score(self.correct as f64 + self.wrong_boundary as f64 / 2.0),
            overlap_f1: score((self.correct + self.wrong_boundary) as f64),
            untyped_f1: score((self.correct + self.wrong_type) as f64),
            mistakes: *self,
        }
    }
}

/// F1 of spans with partial credit, beside the strict one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PartialScores {
    /// A span of the right type that only overlaps counts half (MUC's partial match).
    pub half_credit_f1: f64,
    /// A span of the right type that overlaps counts whole (SemEval 2013's "type").
    pub overlap_f1: f64,
    /// The units count, the type does not (SemEval 2013's "exact").
    pub untyped_f1: f64,
    /// What became of the entities.
    pub mistakes: Mistakes,
}
