//! Platt scaling, fitted with a prior.

/// Newton steps; far more than a convex problem in two variables takes.
const MAX_STEPS: usize = 100;

/// A scale and a bias that make probabilities of logits: `sigmoid(scale · logit + bias)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Platt {
    /// Above 0.
    pub scale: f64,
    /// See `scale`.
    pub bias: f64,
}

/// What is believed of a fit before it: a normal distribution of scale and bias, each by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Its mean.
    pub mean: Platt,
    /// Standard deviation of the scale.
    pub scale_deviation: f64,
    /// Standard deviation of the bias.
    pub bias_deviation: f64,
}

impl Platt {
    /// Takes logits for what they say.
    pub const IDENTITY: Self = Self { scale: 1.0, bias: 0.0 };

    /// The calibrated logit.
    pub fn logit(&self, logit: f64) -> f64 {
        self.scale * logit + self.bias
    }

    /// The calibrated probability.
    pub fn probability(&self, logit: f64) -> f64 {
        sigmoid(self.logit(logit))
    }

    /// The most probable scale and bias given examples, as pairs of logit and truth: penalised logistic regression by Newton's method. Without
    /// examples it is the prior's mean. A fit that would turn the order of the logits around is the prior's mean too.
    pub fn fit(examples: &[(f64, bool)], prior: &Prior) -> Self {
        let mut at = prior.mean;
        let mut loss = prior.loss(examples, at);
        for _ in 0..MAX_STEPS {
            let [scale_step, bias_step] = prior.newton_step(examples, at);
            // Halved until it helps: a whole step may overshoot where probabilities saturate.
            let steps = (0..30).map(|halvings| 0.5_f64.powi(halvings));
            let tried =
                steps.map(|length| Self { scale: at.scale - length * scale_step, bias: at.bias - length * bias_step });
            let better = tried.map(|next| (next, prior.loss(examples, next))).find(|(_, tried)| *tried < loss);
            let Some((next, lower)) = better else { break };
            let gained = loss - lower;
            (at, loss) = (next, lower);
            if gained < 1e-10 {
                break;
            }
        }
        if at.scale > 0.0 { at } else { prior.mean }
    }
}

impl Prior {
    fn precisions(&self) -> [f64; 2] {
        [1.0 / (self.scale_deviation * self.scale_deviation), 1.0 / (self.bias_deviation * self.bias_deviation)]
    }

    /// Negative log posterior, up to a constant.
    fn loss(&self, examples: &[(f64, bool)], at: Platt) -> f64 {
        let [scale, bias] = self.precisions();
        let penalty = scale * (at.scale - self.mean.scale).powi(2) + bias * (at.bias - self.mean.bias).powi(2);
        penalty / 2.0 + log_loss(examples, at)
    }

    /// Inverse Hessian times gradient.
    fn newton_step(&self, examples: &[(f64, bool)], at: Platt) -> [f64; 2] {
        let [scale, bias] = self.precisions();
        let mut gradient = [scale * (at.scale - self.mean.scale), bias * (at.bias - self.mean.bias)];
        let [mut aa, mut ab, mut bb] = [scale, 0.0, bias];
        for &(logit, truth) in examples {
            let probability = at.probability(logit);
            let error = probability - f64::from(u8::from(truth));
            let weight = probability * (1.0 - probability);
            gradient[0] += error * logit;
            gradient[1] += error;
            aa += weight * logit * logit;
            ab += weight * logit;
            bb += weight;
        }
        // Positive: the prior alone makes it so.
        let determinant = aa * bb - ab * ab;
        [(bb * gradient[0] - ab * gradient[1]) / determinant, (aa * gradient[1] - ab * gradient[0]) / determinant]
    }
}

/// Sum of the negative log-likelihoods.
pub fn log_loss(examples: &[(f64, bool)], platt: Platt) -> f64 {
    let loss = |&(logit, truth): &(f64, bool)| {
        let logit = platt.logit(logit);
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

    const FLAT: Prior = Prior { mean: Platt::IDENTITY, scale_deviation: 1e3, bias_deviation: 1e3 };

    /// Examples whose truth follows a scale and bias.
    fn drawn(count: usize, truth: Platt) -> Vec<(f64, bool)> {
        let mut random = fastrand::Rng::with_seed(3);
        let logits = (0..count).map(|index| 12.0 * index as f64 / count as f64 - 6.0);
        logits.map(|logit| (logit, random.f64() < truth.probability(logit))).collect()
    }

    #[test]
    fn finds_what_the_examples_follow() {
        let truth = Platt { scale: 0.6, bias: -1.2 };
        let found = Platt::fit(&drawn(20_000, truth), &FLAT);
        assert!((found.scale - truth.scale).abs() < 0.03 && (found.bias - truth.bias).abs() < 0.06, "{found:?}");
    }

    #[test]
    fn is_where_the_loss_is_least() {
        let examples = drawn(300, Platt { scale: 2.0, bias: 0.7 });
        let prior = Prior { scale_deviation: 0.3, bias_deviation: 1.0, ..FLAT };
        let found = Platt::fit(&examples, &prior);
        let least = prior.loss(&examples, found);
        for (scale, bias) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
            let beside = Platt { scale: found.scale + scale, bias: found.bias + bias };
            assert!(prior.loss(&examples, beside) > least);
        }
    }

    #[test]
    fn stays_with_the_prior_without_examples_and_leaves_it_with_many() {
        let prior = Prior { mean: Platt { scale: 0.8, bias: 0.4 }, scale_deviation: 0.3, bias_deviation: 1.0 };
        assert_eq!(Platt::fit(&[], &prior), prior.mean);
        let truth = Platt { scale: 0.6, bias: -1.2 };
        let distance = |count| (Platt::fit(&drawn(count, truth), &prior).bias - truth.bias).abs();
        assert!(distance(10) > distance(5000));
    }

    #[test]
    fn one_sided_and_separable_examples_stay_finite() {
        let prior = Prior { scale_deviation: 0.3, bias_deviation: 1.0, ..FLAT };
        let separable: Vec<(f64, bool)> = (0..50).map(|index| (f64::from(index) - 25.0, index >= 25)).collect();
        let negatives: Vec<(f64, bool)> = (0..500).map(|index| (f64::from(index) / 50.0, false)).collect();
        for examples in [separable, negatives, vec![(1e4, false), (-1e4, true)]] {
            let Platt { scale, bias } = Platt::fit(&examples, &prior);
            assert!(scale.is_finite() && scale > 0.0 && bias.is_finite());
        }
    }
}
