//! Thresholds that make the most of F1.

use super::beta::sigmoid;

/// Thresholds that are looked at: hundredths within these bounds, so that a lucky example far out does not decide.
const HUNDREDTHS: std::ops::RangeInclusive<u32> = 20..=80;

/// How far around a threshold, in logits, an example counts for it in part: so the F1 is a smooth function of the threshold.
const BANDWIDTH: f64 = 0.5;

/// Positive examples that the curve of all topics together counts as, beside a topic's own.
const SHARED_WEIGHT: f64 = 10.0;

/// F1 by threshold.
#[derive(Debug, Clone)]
pub struct F1Curve {
    f1: Vec<f64>,
    positives: usize,
}

impl F1Curve {
    /// Of examples, as pairs of calibrated logit and truth. Examples near a threshold are taken in part: by `sigmoid` of their distance
    /// over [`BANDWIDTH`].
    pub fn new(examples: &[(f64, bool)]) -> Self {
        let positives = examples.iter().filter(|(_, truth)| *truth).count();
        let at = |hundredths: u32| {
            let threshold = logit(f64::from(hundredths) / 100.0);
            let (mut correct, mut taken) = (0.0, 0.0);
            for &(logit, truth) in examples {
                let share = sigmoid((logit - threshold) / BANDWIDTH);
                taken += share;
                correct += share * f64::from(u8::from(truth));
            }
            if taken + positives as f64 > 0.0 { 2.0 * correct / (taken + positives as f64) } else { 0.0 }
        };
        Self { f1: HUNDREDTHS.map(at).collect(), positives }
    }

    /// The threshold with the highest F1 where this curve counts by its positive examples and the `shared` one as
    /// [`SHARED_WEIGHT`] of them; of equal ones that nearest to a half.
    pub fn best_threshold(&self, shared: &F1Curve) -> f64 {
        let own = self.positives as f64;
        let value = |index: usize| (own * self.f1[index] + SHARED_WEIGHT * shared.f1[index]) / (own + SHARED_WEIGHT);
        let hundredths: Vec<u32> = HUNDREDTHS.collect();
        let best = (0..hundredths.len()).reduce(|best, next| {
            let nearer = hundredths[next].abs_diff(50) < hundredths[best].abs_diff(50);
            if value(next) > value(best) || value(next) == value(best) && nearer { next } else { best }
        });
        best.map_or(0.5, |best| f64::from(hundredths[best]) / 100.0)
    }
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Negatives up to one logit, positives from it on.
    fn parted(at: f64, count: usize) -> Vec<(f64, bool)> {
        let spread = (0..count).map(|index| 4.0 * index as f64 / count as f64 - 2.0);
        spread.map(|logit| (logit, logit >= at)).collect()
    }

    #[test]
    fn parts_what_can_be_parted() {
        let nothing = F1Curve::new(&[]);
        let threshold = F1Curve::new(&parted(0.8, 400)).best_threshold(&nothing);
        assert!((threshold - sigmoid(0.8)).abs() < 0.06, "{threshold}");
        // Bounded, wherever the positives are.
        assert!((0.2..=0.8).contains(&F1Curve::new(&parted(-30.0, 50)).best_threshold(&nothing)));
        assert_eq!(nothing.best_threshold(&nothing), 0.5);
    }

    #[test]
    fn few_examples_lean_on_all_topics() {
        let all = F1Curve::new(&parted(0.0, 2000));
        let usual = all.best_threshold(&all);
        let odd = |count| F1Curve::new(&parted(1.2, count));
        let few = odd(3).best_threshold(&all);
        let many = odd(3000).best_threshold(&all);
        assert!((few - usual).abs() < 0.1 && many > few + 0.05, "{usual} {few} {many}");
    }
}
