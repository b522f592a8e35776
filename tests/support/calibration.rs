//! Beta calibration by its own formula (Kull, Silva Filho and Flach 2017): `a ln s − b ln(1 − s) + c` is the logit of the calibrated
//! probability, where s is the model's own.

use rasid::model::BetaSpec;

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The calibrated probability behind a logit.
pub fn probability(spec: &BetaSpec, logit: f64) -> f64 {
    let (above, below) = (f64::from(spec.scale), f64::from(spec.scale_below.unwrap_or(spec.scale)));
    sigmoid(below * sigmoid(logit).ln() - above * sigmoid(-logit).ln() + f64::from(spec.bias))
}

/// The logit behind a calibrated probability.
pub fn logit(spec: &BetaSpec, calibrated: f32) -> f64 {
    let (mut low, mut high) = (-30.0, 30.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        *(if probability(spec, middle) < f64::from(calibrated) { &mut low } else { &mut high }) = middle;
    }
    low
}
