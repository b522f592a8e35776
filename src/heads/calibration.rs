//! From scores to probabilities.

/// Platt scaling (Platt 1999): the probability behind a logit.
pub fn probability(logit: f32, scale: f32, bias: f32) -> f32 {
    1.0 / (1.0 + (-(scale * logit + bias)).exp())
}

/// The logit of a probability, kept finite at 0 and 1.
pub fn logit(probability: f32) -> f32 {
    let inside = probability.clamp(1e-6, 1.0 - 1e-6);
    (inside / (1.0 - inside)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_each_other() {
        for value in [0.001, 0.3, 0.5, 0.97] {
            assert!((probability(logit(value), 1.0, 0.0) - value).abs() < 1e-6);
        }
        assert!(logit(0.0).is_finite() && logit(1.0).is_finite());
    }

    #[test]
    fn scale_sharpens_and_bias_shifts() {
        assert!(probability(1.0, 2.0, 0.0) > probability(1.0, 1.0, 0.0));
        assert_eq!(probability(-2.0, 1.0, 2.0), 0.5);
    }
}
