//! Figures over scores and outcomes: average precision, calibration, bootstrap intervals.

use serde::Serialize;

/// Bins of equal width over [0, 1] that calibration is measured in.
pub const BINS: usize = 15;

/// Share of the bootstrap distribution that an interval holds.
const CONFIDENCE: f64 = 0.95;

/// Harmonic mean of precision and recall from counts; 0 where there is nothing to find and nothing found.
pub fn f1(correct: f64, predicted: f64, gold: f64) -> f64 {
    ratio(2.0 * correct, predicted + gold)
}

/// A part of a whole; 0 of nothing.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The mean; none of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Average precision: the mean of the precision at every threshold, weighted by the recall gained there, as scikit-learn's
/// `average_precision_score` has it. None where nothing is positive.
pub fn average_precision(scored: &[(f32, bool)]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    if positives == 0 {
        return None;
    }
    let mut ranked = scored.to_vec();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut sum, mut hits, mut seen) = (0.0, 0, 0);
    // Equal scores share one threshold.
    for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
        let gained = tied.iter().filter(|(_, positive)| *positive).count();
        hits += gained;
        seen += tied.len();
        sum += gained as f64 * hits as f64 / seen as f64;
    }
    Some(sum / positives as f64)
}

/// The threshold with the highest F1 and that F1: half-way between the lowest score taken and the highest left. None where nothing
/// is positive.
pub fn best_threshold(scored: &[(f32, bool)]) -> Option<(f64, f64)> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count() as f64;
    if positives == 0.0 {
        return None;
    }
    let mut ranked = scored.to_vec();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let groups: Vec<&[(f32, bool)]> = ranked.chunk_by(|a, b| a.0 == b.0).collect();
    let (mut hits, mut seen) = (0.0, 0.0);
    let mut best = (0.0, -1.0);
    for (index, tied) in groups.iter().enumerate() {
        hits += tied.iter().filter(|(_, positive)| *positive).count() as f64;
        seen += tied.len() as f64;
        let f1 = f1(hits, seen, positives);
        if f1 > best.1 {
            let below = groups.get(index + 1).map_or(0.0, |next| f64::from(next[0].0));
            best = (f64::midpoint(f64::from(tied[0].0), below), f1);
        }
    }
    Some(best)
}

/// How far probabilities are from shares of correct answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Expected calibration error (Naeini et al. 2015): the mean distance of a bin's probability from its share of correct answers,
    /// weighted by how many fall into it. None where nothing was predicted.
    pub ece: Option<f64>,
    /// What the error would be on average if all probabilities were exactly right: few predictions show no less.
    pub ece_floor: Option<f64>,
    /// Mean squared distance of probability and outcome (Brier score).
    pub brier: Option<f64>,
    /// The bins that hold anything: [`BINS`] of equal width over [0, 1], lower bound not included but for 0.
    pub bins: Vec<ReliabilityBin>,
}

/// Predictions of like probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower bound of the probability.
    pub from: f64,
    /// Upper bound.
    pub to: f64,
    /// Predictions within.
    pub count: usize,
    /// Their mean probability.
    pub probability: f64,
    /// The share that was correct.
    pub accuracy: f64,
}

impl Reliability {
    /// Bins predictions: probability and whether it was correct.
    pub fn new(predictions: &[(f32, bool)]) -> Self {
        let bins = bins(predictions);
        let squares = predictions.iter().map(|&(probability, correct)| {
            let distance = f64::from(probability) - f64::from(u8::from(correct));
            distance * distance
        });
        Self { ece: ece(&bins), ece_floor: ece_floor(predictions), brier: mean(squares), bins }
    }
}

/// Outcomes that are drawn for [`Reliability::ece_floor`].
const FLOOR_SAMPLES: usize = 50;

fn ece_floor(predictions: &[(f32, bool)]) -> Option<f64> {
    let mut random = fastrand::Rng::with_seed(0);
    let mut drawn = predictions.to_vec();
    let samples = (0..FLOOR_SAMPLES).filter_map(|_| {
        drawn.iter_mut().for_each(|(probability, correct)| *correct = random.f32() < *probability);
        ece(&bins(&drawn))
    });
    mean(samples)
}

fn ece(bins: &[ReliabilityBin]) -> Option<f64> {
    let total = bins.iter().map(|bin| bin.count).sum::<usize>() as f64;
    let distance = |bin: &ReliabilityBin| (bin.probability - bin.accuracy).abs() * bin.count as f64 / total;
    (!bins.is_empty()).then(|| bins.iter().map(distance).sum())
}

fn bins(predictions: &[(f32, bool)]) -> Vec<ReliabilityBin> {
    let mut sums = [(0_usize, 0.0, 0_usize); BINS];
    for &(probability, correct) in predictions {
        // As numpy's digitize with right-closed bins.
        let bin = ((f64::from(probability) * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        sums[bin].0 += 1;
        sums[bin].1 += f64::from(probability);
        sums[bin].2 += usize::from(correct);
    }
    let bin = |(bin, &(count, probability, correct)): (usize, &(usize, f64, usize))| ReliabilityBin {
        from: bin as f64 / BINS as f64,
        to: (bin + 1) as f64 / BINS as f64,
        count,
        probability: probability / count as f64,
        accuracy: correct as f64 / count as f64,
    };
    sums.iter().enumerate().filter(|(_, (count, ..))| *count > 0).map(bin).collect()
}

/// How to draw bootstrap samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// How many; 0 for no intervals.
    pub samples: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Bootstrap {
    /// Percentile intervals (Efron 1979) of figures over rows drawn with replacement: what `figures` makes of a sample, given as how
    /// often each row is in it. 95 % of the samples lie within. As many as `figures` gives; nothing if no samples are wanted.
    pub fn intervals(&self, rows: usize, figures: impl Fn(&[u32]) -> Vec<f64>) -> Vec<[f64; 2]> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut drawn: Vec<Vec<f64>> = Vec::new();
        let mut weights = vec![0_u32; rows];
        for _ in 0..self.samples {
            weights.fill(0);
            (0..rows).for_each(|_| weights[random.usize(..rows)] += 1);
            let figures = figures(&weights);
            drawn.resize(figures.len(), Vec::new());
            drawn.iter_mut().zip(figures).for_each(|(drawn, figure)| drawn.push(figure));
        }
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let interval = |mut drawn: Vec<f64>| {
            drawn.sort_by(f64::total_cmp);
            [quantile(&drawn, tail), quantile(&drawn, 1.0 - tail)]
        };
        drawn.into_iter().map(interval).collect()
    }
}

/// A quantile of sorted values, interpolated linearly between neighbours, as numpy does by default.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let below = place.floor() as usize;
    match (sorted.get(below), sorted.get(below + 1)) {
        (Some(&low), Some(&high)) => low + (high - low) * place.fract(),
        (Some(&low), None) => low,
        (None, _) => 0.0,
    }
}
