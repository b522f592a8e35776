//! Beta calibration, fitted with a prior.

/// Newton steps; far more than a convex problem in three variables takes.
const MAX_STEPS: usize = 100;

/// Where the examples say less, or that logits stand in the wrong order, a slope is this: nearly flat, but still rising.
const LEAST_SLOPE: f64 = 0.05;

/// A map from logits to probabilities (Kull, Silva Filho and Flach 2017, there `b`, `a` and `c`):
/// `sigmoid(scale · softplus(logit) − scale_below · softplus(−logit) + bias)`. Far from zero it is a line of either slope. With both
/// alike it is Platt scaling, which takes a model that is too sure of what it assigns to be as much too sure of what it does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beta {
    /// Slope far above zero; above 0.
    pub scale: f64,
    /// Slope far below zero; above 0.
    pub scale_below: f64,
    /// See [`Beta`].
    pub bias: f64,
}

/// What is believed of a fit before it: a normal distribution of slopes and bias, each by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Its mean.
    pub mean: Beta,
    /// Standard deviation of either slope.
    pub scale_deviation: f64,
    /// Standard deviation of the bias.
    pub bias_deviation: f64,
}

impl Beta {
    /// Takes logits for what they say.
    pub const IDENTITY: Self = Self { scale: 1.0, scale_below: 1.0, bias: 0.0 };

    /// The calibrated logit.
    pub fn logit(&self, logit: f64) -> f64 {
        dot(self.parameters(), features(logit))
    }

    /// The calibrated probability.
    pub fn probability(&self, logit: f64) -> f64 {
        sigmoid(self.logit(logit))
    }

    /// The most probable slopes and bias given examples, as pairs of logit and truth, where slopes are at least 0.05: penalised
    /// logistic regression. Without examples it is the prior's mean. The problem is convex, so that the best of the fits with some slopes
    /// held at their least is the best of all (Kull et al. hold a negative one at zero).
    pub fn fit(examples: &[(f64, bool)], prior: &Prior) -> Self {
        let free = prior.fit(examples, [false, false]);
        if free.rises() {
            return free;
        }
        let held = [[true, false], [false, true], [true, true]].map(|held| prior.fit(examples, held));
        let rising = held.into_iter().filter(Self::rises).map(|fit| (prior.loss(examples, fit), fit));
        rising.min_by(|(a, _), (b, _)| a.total_cmp(b)).map_or(prior.mean, |(_, fit)| fit)
    }

    fn rises(&self) -> bool {
        self.scale >= LEAST_SLOPE && self.scale_below >= LEAST_SLOPE
    }

    fn parameters(&self) -> [f64; 3] {
        [self.scale, self.scale_below, self.bias]
    }

    fn moved(&self, by: [f64; 3]) -> Self {
        Self { scale: self.scale + by[0], scale_below: self.scale_below + by[1], bias: self.bias + by[2] }
    }
}

/// What the parameters are factors of.
fn features(logit: f64) -> [f64; 3] {
    [softplus(logit), -softplus(-logit), 1.0]
}

impl Prior {
    /// The most probable fit by Newton's method; slopes that are `held` (above, below zero) are [`LEAST_SLOPE`].
    fn fit(&self, examples: &[(f64, bool)], held: [bool; 2]) -> Beta {
        let slope = |mean: f64, held: bool| if held { LEAST_SLOPE } else { mean };
        let Beta { scale, scale_below, bias } = self.mean;
        let mut at = Beta { scale: slope(scale, held[0]), scale_below: slope(scale_below, held[1]), bias };
        let mut loss = self.loss(examples, at);
        for _ in 0..MAX_STEPS {
            let step = self.newton_step(examples, at, held);
            // Halved until it helps: a whole step may overshoot where probabilities saturate.
            let steps = (0..30).map(|halvings| 0.5_f64.powi(halvings));
            let tried = steps.map(|length| at.moved(step.map(|part| -length * part)));
            let better = tried.map(|next| (next, self.loss(examples, next))).find(|(_, tried)| *tried < loss);
            let Some((next, lower)) = better else { break };
            let gained = loss - lower;
            (at, loss) = (next, lower);
            if gained < 1e-10 {
                break;
            }
        }
        at
    }

    fn precisions(&self) -> [f64; 3] {
        [self.scale_deviation, self.scale_deviation, self.bias_deviation].map(|deviation| 1.0 / (deviation * deviation))
    }

    fn distances(&self, at: Beta) -> [f64; 3] {
        let (at, mean) = (at.parameters(), self.mean.parameters());
        std::array::from_fn(|index| at[index] - mean[index])
    }

    /// Negative log posterior, up to a constant.
    fn loss(&self, examples: &[(f64, bool)], at: Beta) -> f64 {
        dot(self.precisions(), self.distances(at).map(|distance| distance * distance)) / 2.0 + log_loss(examples, at)
    }

    /// Inverse Hessian times gradient; nothing for a slope that is held.
    fn newton_step(&self, examples: &[(f64, bool)], at: Beta, held: [bool; 2]) -> [f64; 3] {
        let (precisions, distances) = (self.precisions(), self.distances(at));
        let mut gradient: [f64; 3] = std::array::from_fn(|index| precisions[index] * distances[index]);
        let mut hessian = [[0.0; 3]; 3];
        for (index, precision) in precisions.into_iter().enumerate() {
            hessian[index][index] = precision;
        }
        for &(logit, truth) in examples {
            let features = features(logit);
            let probability = at.probability(logit);
            let error = probability - f64::from(u8::from(truth));
            let weight = probability * (1.0 - probability);
            for row in 0..3 {
                gradient[row] += error * features[row];
                for column in 0..3 {
                    hessian[row][column] += weight * features[row] * features[column];
                }
            }
        }
        for (index, _) in held.into_iter().enumerate().filter(|(_, held)| *held) {
            gradient[index] = 0.0;
            hessian.iter_mut().for_each(|row| row[index] = 0.0);
            hessian[index] = [0.0; 3];
            hessian[index][index] = 1.0;
        }
        solve(hessian, gradient)
    }
}

/// `matrix⁻¹ · right` by Cramer's rule. The matrix is symmetric, and positive definite: the prior alone makes it so.
fn solve([a, b, c]: [[f64; 3]; 3], right: [f64; 3]) -> [f64; 3] {
    let determinant = dot(a, cross(b, c));
    [dot(right, cross(b, c)), dot(a, cross(right, c)), dot(a, cross(b, right))].map(|part| part / determinant)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Sum of the negative log-likelihoods.
fn log_loss(examples: &[(f64, bool)], calibration: Beta) -> f64 {
    let loss = |&(logit, truth): &(f64, bool)| {
        let logit = calibration.logit(logit);
        softplus(if truth { -logit } else { logit })
    };
    examples.iter().map(loss).sum()
}

/// `ln(1 + exp(x))`, without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: Prior = Prior { mean: Beta::IDENTITY, scale_deviation: 1e3, bias_deviation: 1e3 };

    /// Examples whose truth follows a calibration.
    fn drawn(count: usize, truth: Beta) -> Vec<(f64, bool)> {
        let mut random = fastrand::Rng::with_seed(3);
        let logits = (0..count).map(|index| 12.0 * index as f64 / count as f64 - 6.0);
        logits.map(|logit| (logit, random.f64() < truth.probability(logit))).collect()
    }

    #[test]
    fn is_platt_scaling_if_both_slopes_are_alike() {
        let platt = Beta { scale: 0.7, scale_below: 0.7, bias: -0.3 };
        for logit in [-40.0, -2.0, 0.0, 0.5, 90.0] {
            assert!((platt.logit(logit) - (0.7 * logit - 0.3)).abs() < 1e-9);
        }
    }

    #[test]
    fn finds_what_the_examples_follow() {
        let truth = Beta { scale: 0.4, scale_below: 0.9, bias: -0.8 };
        let found = Beta::fit(&drawn(40_000, truth), &FLAT);
        let near = |a: f64, b: f64| (a - b).abs() < 0.08;
        assert!(
            near(found.scale, truth.scale)
                && near(found.scale_below, truth.scale_below)
                && near(found.bias, truth.bias),
            "{found:?}"
        );
    }

    #[test]
    fn is_where_the_loss_is_least() {
        let examples = drawn(300, Beta { scale: 2.0, scale_below: 1.2, bias: 0.7 });
        let prior = Prior { scale_deviation: 0.3, bias_deviation: 1.0, ..FLAT };
        let found = Beta::fit(&examples, &prior);
        let least = prior.loss(&examples, found);
        for index in 0..3 {
            for step in [1e-3, -1e-3] {
                let mut by = [0.0; 3];
                by[index] = step;
                assert!(prior.loss(&examples, found.moved(by)) > least);
            }
        }
    }

    #[test]
    fn stays_with_the_prior_without_examples_and_leaves_it_with_many() {
        let mean = Beta { scale: 0.8, scale_below: 0.8, bias: 0.4 };
        let prior = Prior { mean, scale_deviation: 0.3, bias_deviation: 1.0 };
        assert_eq!(Beta::fit(&[], &prior), prior.mean);
        let truth = Beta { scale: 0.6, scale_below: 0.6, bias: -1.2 };
        let distance = |count| (Beta::fit(&drawn(count, truth), &prior).bias - truth.bias).abs();
        assert!(distance(10) > distance(5000));
    }

    #[test]
    fn a_side_without_examples_costs_nothing() {
        // All above zero, few, and following one slope: what is fitted is no worse than Platt scaling fitted to the same.
        let truth = Beta { scale: 0.6, scale_below: 0.6, bias: -0.5 };
        let prior = Prior { scale_deviation: 10.0, bias_deviation: 10.0, ..FLAT };
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let logits = (0..100).map(|index| f64::from(index) * 0.08);
            let examples: Vec<_> = logits.map(|logit| (logit, random.f64() < truth.probability(logit))).collect();
            let found = Beta::fit(&examples, &prior);
            assert!(found.rises() && found != Beta::IDENTITY, "{found:?}");
            assert!(log_loss(&examples, found) < log_loss(&examples, truth) + 0.1, "{found:?}");
        }
    }

    #[test]
    fn the_wrong_order_becomes_nearly_flat() {
        let examples: Vec<_> = drawn(2000, Beta::IDENTITY).into_iter().map(|(logit, truth)| (logit, !truth)).collect();
        let found = Beta::fit(&examples, &FLAT);
        assert_eq!((found.scale, found.scale_below), (LEAST_SLOPE, LEAST_SLOPE));
        assert!((found.probability(0.0) - 0.5).abs() < 0.05);
    }

    #[test]
    fn one_sided_and_separable_examples_stay_finite() {
        let prior = Prior { scale_deviation: 0.3, bias_deviation: 1.0, ..FLAT };
        let separable: Vec<(f64, bool)> = (0..50).map(|index| (f64::from(index) - 25.0, index >= 25)).collect();
        let negatives: Vec<(f64, bool)> = (0..500).map(|index| (f64::from(index) / 50.0, false)).collect();
        for examples in [separable, negatives, vec![(1e4, false), (-1e4, true)]] {
            let Beta { scale, scale_below, bias } = Beta::fit(&examples, &prior);
            assert!(
                scale.is_finite() && scale > 0.0 && scale_below.is_finite() && scale_below > 0.0 && bias.is_finite()
            );
        }
    }
}
