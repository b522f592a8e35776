//! From scores to probabilities.

use crate::model::BetaSpec;

/// Beta calibration (Kull, Silva Filho and Flach 2017): the probability behind a logit,
/// `sigmoid(scale · softplus(logit) − scale_below · softplus(−logit) + bias)`; with both slopes alike `sigmoid(scale · logit + bias)`.
pub fn probability(logit: f32, calibration: BetaSpec) -> f32 {
    let BetaSpec { scale, bias, .. } = calibration;
    let calibrated = scale * softplus(logit) - calibration.scale_below() * softplus(-logit) + bias;
    1.0 / (1.0 + (-calibrated).exp())
}

/// `ln(1 + exp(x))`, without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The logit of a probability, kept finite at 0 and 1.
pub fn logit(probability: f32) -> f32 {
    let inside = probability.clamp(1e-6, 1.0 - 1e-6);
    (inside / (1.0 - inside)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(scale: f32, scale_below: Option<f32>, bias: f32) -> BetaSpec {
        BetaSpec { scale, scale_below, bias }
    }

    #[test]
    fn undo_each_other() {
        for value in [0.001, 0.3, 0.5, 0.97] {
            assert!((probability(logit(value), by(1.0, None, 0.0)) - value).abs() < 1e-6);
        }
        assert!(logit(0.0).is_finite() && logit(1.0).is_finite());
    }

    #[test]
    fn scale_sharpens_and_bias_shifts() {
        assert!(probability(1.0, by(2.0, None, 0.0)) > probability(1.0, by(1.0, None, 0.0)));
        assert!((probability(-2.0, by(1.0, None, 2.0)) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn one_slope_is_read_as_platt_scaling() {
        let read: BetaSpec = serde_json::from_str(r#"{"scale": 0.7, "bias": -0.3}"#).unwrap();
        for logit in [-3.0_f32, 0.0, 2.0] {
            let platt = 1.0 / (1.0 + (-(0.7 * logit - 0.3)).exp());
            assert!((probability(logit, read) - platt).abs() < 1e-6, "{logit}");
        }
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"scale":0.7,"bias":-0.3}"#);
    }

    #[test]
    fn is_the_formula_of_the_paper_and_rises() {
        let (above, below, bias) = (0.5_f32, 2.0_f32, 0.3_f32);
        let mut last = 0.0;
        for logit in [-4.0_f32, -2.0, -0.5, 0.0, 0.5, 2.0, 4.0] {
            let own = 1.0 / (1.0 + (-logit).exp());
            // Its a, b and c.
            let expected = 1.0 / (1.0 + 1.0 / (bias.exp() * own.powf(below) / (1.0 - own).powf(above)));
            let found = probability(logit, by(above, Some(below), bias));
            assert!((found - expected).abs() < 1e-5 && found > last, "{found} at {logit}, not {expected}");
            last = found;
        }
    }
}
