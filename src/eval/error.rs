//! Why an evaluation failed.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::tagger::{DocumentError, OptionsError};

/// Why an evaluation failed.
#[derive(Debug, Error)]
pub enum EvalError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `datasets.json` is not a list of data sets.
    #[error("{} is no list of data sets: {source}", path.display())]
    Datasets {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A line is not a row of the kind that was asked for.
    #[error("{}:{line} is no {expected}: {source}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A row contradicts itself or the model.
    #[error("{}:{line}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file has no row that can be scored.
    #[error("{} has no row to score", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The model lacks what the evaluation asks it for.
    #[error("{} {source}", source.field())]
    Options {
        /// Why.
        #[from]
        source: OptionsError,
    },
    /// A document has no analysis.
    #[error("{}, row {row}: {source}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// Why.
        source: DocumentError,
    },
}
