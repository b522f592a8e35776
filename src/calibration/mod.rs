//! Scores to probabilities, and thresholds: fitted on what `rasid eval --scores` wrote of held-out data.
//!
//! A topic's logit and an entity's probability become calibrated by beta calibration, first one fit for all topics (types) together, then
//! one for each with that as its prior: what there is little evidence of stays near the others. Topics are fitted only on texts that name
//! all of their topics, since a topic that is not named is unknown elsewhere.

mod beta;
mod error;
mod examples;
mod threshold;
mod validation;

use self::threshold::F1Curve;
pub use self::{
    beta::{Beta, Prior},
    error::CalibrationError,
    examples::{Examples, FOLDS, Scores},
    validation::Validation,
};
use crate::{
    eval::statistics::Reliability,
    model::{BetaSpec, CalibrationSpec, Manifest},
};

/// Fewest texts with a topic from which it is called calibrated. With none, it has the fit of all topics together.
pub const MIN_POSITIVES: usize = 8;

/// All topics or types together: whatever the examples say, if there are some dozens.
const BROAD: Prior = Prior { mean: Beta::IDENTITY, scale_deviation: 1.0, bias_deviation: 10.0 };

/// How far a topic or type is expected from all of them together. Of 0.1, 0.25 and 0.5 for each, these gave the best log-likelihood of
/// articles that were left out of the fit (ten folds of 429); the others were nearly as good.
fn around(mean: Beta) -> Prior {
    Prior { mean, scale_deviation: 0.25, bias_deviation: 0.25 }
}

/// What became of a topic or an entity type.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Its name.
    pub name: String,
    /// Examples that have it, or that are right.
    pub positives: usize,
    /// Examples that have it not, or that are wrong.
    pub negatives: usize,
    /// Whether there are [`MIN_POSITIVES`] texts with it.
    pub enough: bool,
    /// Its slopes and bias.
    pub calibration: Beta,
    /// Its threshold; none for an entity type.
    pub threshold: Option<f64>,
    /// Expected calibration error on the same examples before and after.
    pub ece: [Option<f64>; 2],
}

/// What a calibration did.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// In the manifest's order.
    pub topics: Vec<Fitted>,
    /// In the manifest's order.
    pub entity_types: Vec<Fitted>,
    /// What such a calibration is worth on texts that it was not fitted on; none if a fold would be empty.
    pub validation: Option<Validation>,
    /// Texts that were left out, since they do not name all of their topics.
    pub incomplete_texts: usize,
}

/// Fits a calibration and writes it into a manifest, which has to be sealed then.
///
/// # Errors
/// [`CalibrationError::NoTopics`] and [`CalibrationError::NoEntities`].
pub fn calibrate(manifest: &mut Manifest, scores: &Scores, id: &str) -> Result<Summary, CalibrationError> {
    let examples = scores.all();
    let topics = fit_topics(manifest, &examples)?;
    let entity_types = fit_entity_types(manifest, &examples)?;
    let validation = Validation::new(manifest, scores);
    for (spec, fitted) in manifest.topics.iter_mut().zip(&topics) {
        spec.set_calibration(spec_of(fitted.calibration));
        spec.fitted = fitted.enough;
        spec.threshold = fitted.threshold.map_or(spec.threshold, |threshold| threshold as f32);
    }
    for (spec, fitted) in manifest.entity_types.iter_mut().zip(&entity_types) {
        spec.calibration = Some(spec_of(fitted.calibration));
    }
    manifest.calibration = CalibrationSpec { id: id.to_owned(), calibrated: true };
    Ok(Summary { topics, entity_types, validation, incomplete_texts: scores.incomplete_texts })
}

fn spec_of(Beta { scale, scale_below, bias }: Beta) -> BetaSpec {
    BetaSpec { scale: scale as f32, scale_below: Some(scale_below as f32), bias: bias as f32 }
}

fn beta_of(spec: BetaSpec) -> Beta {
    let [scale, scale_below, bias] = [spec.scale, spec.scale_below(), spec.bias].map(f64::from);
    Beta { scale, scale_below, bias }
}

fn fit_topics(manifest: &Manifest, examples: &Examples) -> Result<Vec<Fitted>, CalibrationError> {
    let pooled: Vec<(f64, bool)> = examples.topics.concat();
    if pooled.is_empty() {
        return Err(CalibrationError::NoTopics);
    }
    let all = Beta::fit(&pooled, &BROAD);
    let fits: Vec<Beta> = examples
        .topics
        .iter()
        .map(|examples| if positives(examples) == 0 { all } else { Beta::fit(examples, &around(all)) })
        .collect();
    // Thresholds are chosen among calibrated probabilities.
    let calibrated = |(examples, beta): (&Vec<(f64, bool)>, &Beta)| -> Vec<(f64, bool)> {
        examples.iter().map(|&(logit, truth)| (beta.logit(logit), truth)).collect()
    };
    let curves: Vec<Vec<(f64, bool)>> = examples.topics.iter().zip(&fits).map(calibrated).collect();
    let shared = F1Curve::new(&curves.concat());
    let topics = manifest.topics.iter().zip(&examples.topics).zip(fits.iter().zip(&curves));
    let fitted = topics.map(|((spec, examples), (&beta, curve))| {
        let enough = positives(examples) >= MIN_POSITIVES;
        let threshold = F1Curve::new(curve).best_threshold(&shared);
        let described = describe(&spec.id, examples, beta_of(spec.calibration()), beta);
        Fitted { threshold: Some(threshold), enough, ..described }
    });
    Ok(fitted.collect())
}

fn fit_entity_types(manifest: &Manifest, examples: &Examples) -> Result<Vec<Fitted>, CalibrationError> {
    let pooled: Vec<(f64, bool)> = examples.entities.concat();
    if pooled.is_empty() {
        return Err(CalibrationError::NoEntities);
    }
    let all = Beta::fit(&pooled, &BROAD);
    let types = manifest.entity_types.iter().zip(&examples.entities);
    let fitted = types.map(|(spec, examples)| {
        let before = spec.calibration.map_or(Beta::IDENTITY, beta_of);
        describe(&spec.id, examples, before, Beta::fit(examples, &around(all)))
    });
    Ok(fitted.collect())
}

fn describe(name: &str, examples: &[(f64, bool)], before: Beta, after: Beta) -> Fitted {
    let ece = |calibration: Beta| Reliability::new(&predictions(examples, calibration)).ece;
    Fitted {
        name: name.to_owned(),
        positives: positives(examples),
        negatives: examples.len() - positives(examples),
        enough: true,
        calibration: after,
        threshold: None,
        ece: [ece(before), ece(after)],
    }
}

/// Calibrated probabilities with the truth of each.
fn predictions(examples: &[(f64, bool)], calibration: Beta) -> Vec<(f32, bool)> {
    examples.iter().map(|&(logit, truth)| (calibration.probability(logit) as f32, truth)).collect()
}

fn positives(examples: &[(f64, bool)]) -> usize {
    examples.iter().filter(|(_, truth)| *truth).count()
}
