//! Scores to probabilities, and thresholds: fitted on what `rasid eval --scores` wrote of held-out data.
//!
//! A topic's logit and an entity's probability become calibrated by Platt scaling, first one fit for all topics (types) together, then one
//! for each with that as its prior: what there is little evidence of stays near the others. Topics are fitted only on texts that name
//! all of their topics, since a topic that is not named is unknown elsewhere.

mod error;
mod examples;
mod platt;
mod threshold;

use self::threshold::F1Curve;
pub use self::{
    error::CalibrationError,
    examples::Examples,
    platt::{Platt, Prior, log_loss, sigmoid},
};
use crate::{
    eval::statistics::Reliability,
    model::{CalibrationSpec, Manifest, PlattSpec},
};

/// Fewest texts with a topic from which its fit is called its own. With none, it has that of all topics together.
pub const MIN_POSITIVES: usize = 8;

/// All topics or types together: whatever the examples say.
const BROAD: Prior = Prior { mean: Platt::IDENTITY, scale_deviation: 10.0, bias_deviation: 10.0 };

/// How far a topic or type is expected from all of them together: wide. From 60 to 350 articles, nothing narrower gave better
/// probabilities of other articles, since a model knows some topics much better than others.
fn around(mean: Platt) -> Prior {
    Prior { mean, scale_deviation: mean.scale, bias_deviation: 5.0 }
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
    /// Whether there was enough of it for a fit of its own.
    pub own: bool,
    /// Its scale and bias.
    pub platt: Platt,
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
    /// Texts that were left out, since they do not name all of their topics.
    pub incomplete_texts: usize,
}

/// Fits a calibration and writes it into a manifest, which has to be sealed then.
///
/// # Errors
/// [`CalibrationError::NoTopics`] and [`CalibrationError::NoEntities`].
pub fn calibrate(manifest: &mut Manifest, examples: &Examples, id: &str) -> Result<Summary, CalibrationError> {
    let topics = fit_topics(manifest, examples)?;
    let entity_types = fit_entity_types(manifest, examples)?;
    for (spec, fitted) in manifest.topics.iter_mut().zip(&topics) {
        let PlattSpec { scale, bias } = spec_of(fitted.platt);
        (spec.scale, spec.bias, spec.fitted) = (scale, bias, fitted.own);
        spec.threshold = fitted.threshold.map_or(spec.threshold, |threshold| threshold as f32);
    }
    for (spec, fitted) in manifest.entity_types.iter_mut().zip(&entity_types) {
        spec.calibration = Some(spec_of(fitted.platt));
    }
    manifest.calibration = CalibrationSpec { id: id.to_owned(), calibrated: true };
    Ok(Summary { topics, entity_types, incomplete_texts: examples.incomplete_texts })
}

fn spec_of(platt: Platt) -> PlattSpec {
    PlattSpec { scale: platt.scale as f32, bias: platt.bias as f32 }
}

fn fit_topics(manifest: &Manifest, examples: &Examples) -> Result<Vec<Fitted>, CalibrationError> {
    let pooled: Vec<(f64, bool)> = examples.topics.concat();
    if pooled.is_empty() {
        return Err(CalibrationError::NoTopics);
    }
    let all = Platt::fit(&pooled, &BROAD);
    let fits: Vec<Platt> = examples
        .topics
        .iter()
        .map(|examples| if positives(examples) == 0 { all } else { Platt::fit(examples, &around(all)) })
        .collect();
    // Thresholds are chosen among calibrated probabilities.
    let calibrated = |(examples, platt): (&Vec<(f64, bool)>, &Platt)| -> Vec<(f64, bool)> {
        examples.iter().map(|&(logit, truth)| (platt.logit(logit), truth)).collect()
    };
    let curves: Vec<Vec<(f64, bool)>> = examples.topics.iter().zip(&fits).map(calibrated).collect();
    let shared = F1Curve::new(&curves.concat());
    let topics = manifest.topics.iter().zip(&examples.topics).zip(fits.iter().zip(&curves));
    let fitted = topics.map(|((spec, examples), (&platt, curve))| {
        let before = Platt { scale: f64::from(spec.scale), bias: f64::from(spec.bias) };
        let own = positives(examples) >= MIN_POSITIVES;
        let threshold = F1Curve::new(curve).best_threshold(&shared);
        Fitted { threshold: Some(threshold), own, ..describe(&spec.id, examples, before, platt) }
    });
    Ok(fitted.collect())
}

fn fit_entity_types(manifest: &Manifest, examples: &Examples) -> Result<Vec<Fitted>, CalibrationError> {
    let pooled: Vec<(f64, bool)> = examples.entities.concat();
    if pooled.is_empty() {
        return Err(CalibrationError::NoEntities);
    }
    let all = Platt::fit(&pooled, &BROAD);
    let types = manifest.entity_types.iter().zip(&examples.entities);
    let fitted = types.map(|(spec, examples)| {
        let before = spec.calibration.map_or(Platt::IDENTITY, |PlattSpec { scale, bias }| Platt {
            scale: f64::from(scale),
            bias: f64::from(bias),
        });
        describe(&spec.id, examples, before, Platt::fit(examples, &around(all)))
    });
    Ok(fitted.collect())
}

fn describe(name: &str, examples: &[(f64, bool)], before: Platt, after: Platt) -> Fitted {
    let ece = |platt: Platt| {
        let predictions: Vec<(f32, bool)> =
            examples.iter().map(|&(logit, truth)| (platt.probability(logit) as f32, truth)).collect();
        Reliability::new(&predictions).ece
    };
    Fitted {
        name: name.to_owned(),
        positives: positives(examples),
        negatives: examples.len() - positives(examples),
        own: true,
        platt: after,
        threshold: None,
        ece: [ece(before), ece(after)],
    }
}

fn positives(examples: &[(f64, bool)]) -> usize {
    examples.iter().filter(|(_, truth)| *truth).count()
}
