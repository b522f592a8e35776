//! What `datasets.json` says of data sets.

use std::{fs, path::Path};

use serde::Deserialize;

use super::EvalError;

/// A list of data sets, as `datasets.json` holds it.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
}

/// What is known of a data set beside its rows.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct CatalogEntry {
    /// Path, of which the last parts must be those of the file in question.
    pub file: String,
    /// Name of the set that the file belongs to.
    #[serde(default)]
    pub name: Option<String>,
    /// Entity types that were annotated; what carries another is unknown, not nothing.
    #[serde(default)]
    pub annotated_types: Option<Vec<String>>,
    /// Topics that were annotated.
    #[serde(default)]
    pub covered_topics: Option<Covered>,
    /// Whether rows name all of their topics, so that a covered topic that is not named is absent.
    #[serde(default)]
    pub multi_label: Option<bool>,
    /// What stands between tokens: a space or nothing.
    #[serde(default)]
    pub join: Option<String>,
    /// Licence of the data.
    #[serde(default)]
    pub licence: Option<String>,
}

/// Topics that a data set covers.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Covered {
    /// These.
    Some(Vec<String>),
    /// All, whatever the words ("all 17").
    All(String),
}

impl Catalog {
    /// Reads a `datasets.json`.
    ///
    /// # Errors
    /// [`EvalError::Read`] and [`EvalError::Datasets`].
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let json = fs::read(path).map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
        let entries =
            serde_json::from_slice(&json).map_err(|source| EvalError::Datasets { path: path.to_owned(), source })?;
        Ok(Self { entries })
    }

    /// The entry of a file: the one whose path ends the file's, else the one of the same file name.
    pub fn find(&self, path: &Path) -> Option<&CatalogEntry> {
        let same_name = |entry: &&CatalogEntry| Path::new(&entry.file).file_name() == path.file_name();
        let ends = |entry: &&CatalogEntry| path.ends_with(&entry.file);
        self.entries.iter().find(ends).or_else(|| self.entries.iter().find(same_name))
    }
}
