//! What a calibration is worth on texts that it was not fitted on.

use super::{Fitted, Scores, fit_entity_types, fit_topics, predictions};
use crate::{
    eval::statistics::{Reliability, f1, mean},
    model::Manifest,
};

/// Figures of all texts, each by the fit on the folds that it is not in (k-fold cross-validation).
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Mean F1 of the topics that are annotated or assigned at least once, by the thresholds of those fits.
    pub topics_macro_f1: f64,
    /// Of assigned topics.
    pub topics: Reliability,
    /// Of entities.
    pub entities: Reliability,
}

impl Validation {
    /// None if a fold has no topics or no entities, or the others have none to fit on.
    pub(super) fn new(manifest: &Manifest, scores: &Scores) -> Option<Self> {
        let (mut assigned, mut entities) = (Vec::new(), Vec::new());
        // Correct, assigned, annotated.
        let mut counts = vec![[0.0; 3]; manifest.topics.len()];
        for (number, fold) in scores.folds.iter().enumerate() {
            let others = scores.without(number);
            let topics = fit_topics(manifest, &others).ok()?;
            let types = fit_entity_types(manifest, &others).ok()?;
            if fold.topics.iter().all(Vec::is_empty) || fold.entities.iter().all(Vec::is_empty) {
                return None;
            }
            for ((topic, examples), count) in topics.iter().zip(&fold.topics).zip(&mut counts) {
                assigned.extend(assign(topic, examples, count));
            }
            entities.extend(types.iter().zip(&fold.entities).flat_map(|(kind, of)| predictions(of, kind.calibration)));
        }
        let seen = counts.iter().filter(|[_, assigned, annotated]| assigned + annotated > 0.0);
        let topics_macro_f1 = mean(seen.map(|&[correct, assigned, annotated]| f1(correct, assigned, annotated)))?;
        Some(Self { topics_macro_f1, topics: Reliability::new(&assigned), entities: Reliability::new(&entities) })
    }
}

/// The texts that a topic is assigned to, as probability and truth.
fn assign(topic: &Fitted, examples: &[(f64, bool)], count: &mut [f64; 3]) -> Vec<(f32, bool)> {
    let all = predictions(examples, topic.calibration);
    let threshold = topic.threshold.unwrap_or(0.5) as f32;
    let assigned: Vec<_> = all.iter().copied().filter(|(probability, _)| *probability >= threshold).collect();
    count[0] += assigned.iter().filter(|(_, truth)| *truth).count() as f64;
    count[1] += assigned.len() as f64;
    count[2] += all.iter().filter(|(_, truth)| *truth).count() as f64;
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Beta, Examples, FOLDS};

    fn manifest() -> Manifest {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default/manifest.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Texts whose topics and entities follow `truth`, but for those of fold 0, which are more than all others and the other way round.
    fn scores(manifest: &Manifest, truth: Beta) -> Scores {
        let mut random = fastrand::Rng::with_seed(7);
        let mut column = |fold: usize| -> Vec<(f64, bool)> {
            let count = if fold == 0 { 1200 } else { 60 };
            let logits = (0..count).map(|index| 12.0 * f64::from(index) / f64::from(count) - 6.0);
            logits.map(|logit| (logit, (random.f64() < truth.probability(logit)) != (fold == 0))).collect()
        };
        let folds = (0..FOLDS).map(|fold| Examples {
            topics: manifest.topics.iter().map(|_| column(fold)).collect(),
            entities: manifest.entity_types.iter().map(|_| column(fold)).collect(),
        });
        Scores { folds: folds.collect(), incomplete_texts: 0 }
    }

    #[test]
    fn a_fold_has_no_say_in_its_own_fit() {
        let (manifest, truth) = (manifest(), Beta { scale: 0.8, scale_below: 1.4, bias: 0.2 });
        let scores = scores(&manifest, truth);
        let sums = |examples: &Examples| examples.topics.concat().len() + examples.entities.concat().len();
        assert_eq!(sums(&scores.all()), sums(&scores.without(0)) + sums(&scores.folds[0]));
        let fitted = fit_topics(&manifest, &scores.without(0)).unwrap();
        for logit in [-3.0, -1.0, 1.0, 4.0] {
            let near = |of: &Fitted| (of.calibration.probability(logit) - truth.probability(logit)).abs() < 0.07;
            assert!(fitted.iter().all(near), "{logit}");
        }
        // The others know nothing of fold 0, so that what they assign there is sure and wrong; a fit with it would be sure of nothing.
        let validation = Validation::new(&manifest, &scores).unwrap();
        assert!(validation.topics.ece.unwrap() > 0.4 && validation.entities.ece.unwrap() > 0.4, "{validation:?}");
    }

    #[test]
    fn needs_something_in_every_fold() {
        let manifest = manifest();
        let mut scores = scores(&manifest, Beta::IDENTITY);
        scores.folds[4].topics.iter_mut().for_each(Vec::clear);
        assert_eq!(Validation::new(&manifest, &scores), None);
    }
}
