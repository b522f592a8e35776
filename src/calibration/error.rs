//! Why a calibration could not be fitted.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a calibration could not be fitted.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// The file of scores could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no record of scores.
    #[error("{}:{line} is no score as rasid eval --scores writes it: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A record is of another model.
    #[error("{}:{line}: {name:?} is no {what} of the model to calibrate", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the record names.
        name: String,
        /// What it should be.
        what: &'static str,
    },
    /// A score is no finite number.
    #[error("{}:{line}: the score of {name:?} is {value}, must be finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Of which topic or entity type.
        name: String,
        /// The score.
        value: f32,
    },
    /// There is nothing to fit topics on.
    #[error(
        "no score is of a text that names all of its topics: evaluate --articles, or a topics file with several topics a text"
    )]
    NoTopics,
    /// There is nothing to fit entities on.
    #[error("no score is of an entity whose type is annotated: evaluate --articles or --ner")]
    NoEntities,
}
