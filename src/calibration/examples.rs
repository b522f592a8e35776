//! What a calibration is fitted on.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use super::CalibrationError;
use crate::{eval::Record, heads::calibration::logit, model::Manifest};

/// Parts that texts are divided into, for cross-validation.
pub const FOLDS: usize = 10;

/// Logits with the truth of each.
#[derive(Debug, Clone)]
pub struct Examples {
    /// By topic of the model: texts that name all of their topics.
    pub topics: Vec<Vec<(f64, bool)>>,
    /// By entity type: predicted entities whose type is annotated, by the logit of the model's own probability.
    pub entities: Vec<Vec<(f64, bool)>>,
}

/// What a file of scores holds, divided by text.
#[derive(Debug, Clone)]
pub struct Scores {
    /// [`FOLDS`] of them, of every tenth text each.
    pub folds: Vec<Examples>,
    /// Texts left out, since they do not name all of their topics.
    pub incomplete_texts: usize,
}

impl Examples {
    fn none(topics: usize, entity_types: usize) -> Self {
        Self { topics: vec![Vec::new(); topics], entities: vec![Vec::new(); entity_types] }
    }

    fn extend(&mut self, other: &Self) {
        let groups = self.topics.iter_mut().zip(&other.topics).chain(self.entities.iter_mut().zip(&other.entities));
        groups.for_each(|(own, more)| own.extend(more));
    }
}

impl Scores {
    /// All of them.
    pub fn all(&self) -> Examples {
        self.merged(|_| true)
    }

    /// All but those of one fold.
    pub fn without(&self, fold: usize) -> Examples {
        self.merged(|other| other != fold)
    }

    fn merged(&self, keep: impl Fn(usize) -> bool) -> Examples {
        let mut all = Examples::none(self.folds[0].topics.len(), self.folds[0].entities.len());
        self.folds.iter().enumerate().filter(|(fold, _)| keep(*fold)).for_each(|(_, fold)| all.extend(fold));
        all
    }

    /// Reads what `rasid eval --scores` wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or is not of the model of the manifest.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Self, CalibrationError> {
        let failed = |source| CalibrationError::Read { path: path.to_owned(), source };
        let none = Examples::none(manifest.topics.len(), manifest.entity_types.len());
        let mut scores = Self { folds: vec![none; FOLDS], incomplete_texts: 0 };
        let mut texts = HashMap::new();
        for (index, line) in BufReader::new(File::open(path).map_err(failed)?).lines().enumerate() {
            let line_number = index + 1;
            let record = serde_json::from_str(&line.map_err(failed)?);
            let record: Record = record.map_err(|source| CalibrationError::Record {
                path: path.to_owned(),
                line: line_number,
                source,
            })?;
            if let Some((name, value)) = not_finite(&record) {
                return Err(CalibrationError::NotFinite { path: path.to_owned(), line: line_number, name, value });
            }
            let Some((file, row)) = text_of(&record) else {
                scores.incomplete_texts += usize::from(matches!(record, Record::Topics { .. }));
                continue;
            };
            let text = texts.len();
            let fold = *texts.entry((file.to_owned(), row)).or_insert(text) % FOLDS;
            scores.add(&record, fold, manifest).map_err(|(what, name)| CalibrationError::Unknown {
                path: path.to_owned(),
                line: line_number,
                name,
                what,
            })?;
        }
        Ok(scores)
    }

    /// Takes a record into a fold; fails with what it names and the model has not.
    fn add(&mut self, record: &Record, fold: usize, manifest: &Manifest) -> Result<(), (&'static str, String)> {
        match record {
            Record::Topics { gold, covered, logits, .. } => {
                for name in covered {
                    let unknown = || ("topic", name.clone());
                    let topic = manifest.topics.iter().position(|topic| topic.id == *name).ok_or_else(unknown)?;
                    let &logit = logits.get(name).ok_or_else(unknown)?;
                    self.folds[fold].topics[topic].push((f64::from(logit), gold.contains(name)));
                }
            }
            Record::Entity { entity_type, score, correct, .. } => {
                let kind = manifest.entity_types.iter().position(|kind| kind.id == *entity_type);
                let kind = kind.ok_or_else(|| ("entity type", entity_type.clone()))?;
                self.folds[fold].entities[kind].push((f64::from(logit(*score)), *correct == Some(true)));
            }
        }
        Ok(())
    }
}

/// A score of a record that is no finite number, with the name of what it is of.
fn not_finite(record: &Record) -> Option<(String, f32)> {
    match record {
        Record::Topics { logits, .. } => {
            let found = logits.iter().find(|(_, value)| !value.is_finite());
            found.map(|(name, value)| (name.clone(), *value))
        }
        Record::Entity { entity_type, score, .. } => (!score.is_finite()).then(|| (entity_type.clone(), *score)),
    }
}

/// File and row of a record that can be fitted on: of a text that names all of its topics, of an entity whose type is annotated.
fn text_of(record: &Record) -> Option<(&str, usize)> {
    match record {
        Record::Topics { multi_label: false, .. } | Record::Entity { correct: None, .. } => None,
        Record::Topics { file, row, .. } | Record::Entity { file, row, .. } => Some((file, *row)),
    }
}
