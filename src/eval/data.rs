//! Annotated data as examples: a document, and what is known of it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    ops::Range,
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::{Catalog, CatalogEntry, EvalError, UnitSpan, rows};
use crate::{model::Manifest, text::Document};

/// What a file of examples holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tokens with BIO tags: `{"lang", "tokens", "tags", "space_after"?}`.
    Entities,
    /// Texts with topics: `{"lang", "text", "title"?, "topics"}`.
    Topics,
    /// Articles with both: `{"id", "lang", "title", "text", "topics", "entities": [{"type", "start", "end", "field"}]}`, offsets in code points.
    Articles,
}

/// A file of examples.
#[derive(Debug)]
pub struct DataSet {
    /// The file's name, without its folder.
    pub file: String,
    /// The set it belongs to: by the catalogue, else what stands before the first stop of the file's name.
    pub name: String,
    /// Licence of the data, where the catalogue tells it.
    pub licence: Option<String>,
    /// What is in it.
    pub format: Format,
    /// By entity type of the model: whether it was annotated.
    pub annotated: Vec<bool>,
    /// By topic of the model: whether it was annotated.
    pub covered: Vec<bool>,
    /// Whether rows name all of their topics. Where not, a topic that is not named is unknown; scores then count it as absent, since
    /// nothing better is to be had, and understate a model that is right about it.
    pub multi_label: bool,
    /// The examples.
    pub examples: Vec<Example>,
    /// Rows without anything to score: no text, or no topic where topics name one each.
    pub skipped: usize,
}

/// A text and what is known of it.
#[derive(Debug)]
pub struct Example {
    /// Its row in the file, from 0.
    pub row: usize,
    /// BCP 47 tag.
    pub language: String,
    /// What the model reads.
    pub document: Document,
    /// Bytes of the units that entities are counted in, by field (title, text).
    pub units: [Vec<Range<usize>>; 2],
    /// Its entities, over the units of the title and then those of the text.
    pub entities: Vec<UnitSpan>,
    /// By topic of the model: whether it has it.
    pub topics: Vec<bool>,
}

/// A row on its way to an example.
pub(super) struct Row {
    /// From 0, blank lines counted too.
    pub index: usize,
    pub json: String,
}

impl DataSet {
    /// Reads a file, of which at most `limit` rows become examples; all of them count for what it annotates.
    ///
    /// # Errors
    /// If it cannot be read, a row is not of the format, or its labels are not the model's.
    pub fn read(
        path: &Path,
        format: Format,
        limit: Option<usize>,
        catalog: &Catalog,
        manifest: &Manifest,
    ) -> Result<Self, EvalError> {
        let rows = read_rows(path)?;
        let entry = catalog.find(path).cloned().unwrap_or_default();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = file.split('.').next().unwrap_or_default().to_owned();
        let reader = rows::Reader { path, manifest, entry: &entry };
        let mut parsed = match format {
            Format::Entities => reader.sentences(&rows)?,
            Format::Topics => reader.texts(&rows)?,
            Format::Articles => reader.articles(&rows)?,
        };
        let annotated = reader.annotated(format, &parsed);
        let covered = reader.covered(format, &parsed)?;
        let multi_label = entry
            .multi_label
            .unwrap_or_else(|| format == Format::Articles || parsed.iter().any(|example| topics_of(example) > 1));
        let before = parsed.len();
        parsed.retain(|example| {
            let unlabelled = format == Format::Topics && !multi_label && topics_of(example) == 0;
            !unlabelled && !example.document.is_blank()
        });
        let skipped = before - parsed.len();
        parsed.truncate(limit.unwrap_or(usize::MAX));
        if parsed.is_empty() {
            return Err(EvalError::Empty { path: path.to_owned() });
        }
        Ok(Self {
            name: entry.name.clone().unwrap_or(stem),
            licence: entry.licence.clone(),
            file,
            format,
            annotated,
            covered,
            multi_label,
            examples: parsed,
            skipped,
        })
    }

    /// Languages of the examples, in order of their first.
    pub fn languages(&self) -> Vec<&str> {
        let mut languages: Vec<&str> = Vec::new();
        for example in &self.examples {
            if !languages.contains(&example.language.as_str()) {
                languages.push(&example.language);
            }
        }
        languages
    }
}

fn topics_of(example: &Example) -> usize {
    example.topics.iter().filter(|&&has| has).count()
}

/// The lines of a file that is perhaps packed with gzip.
fn read_rows(path: &Path) -> Result<Vec<Row>, EvalError> {
    let failed = |source| EvalError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(reader).lines().enumerate() {
        let json = line.map_err(failed)?;
        if !json.trim().is_empty() {
            rows.push(Row { index, json });
        }
    }
    Ok(rows)
}

/// Whether tokens are characters or words without spaces between: by the catalogue, by the language, else by their lengths.
pub(super) fn is_joined(entry: &CatalogEntry, language: &str, characters: bool) -> bool {
    match &entry.join {
        Some(join) => join.is_empty(),
        None => matches!(language, "zh" | "ja" | "th" | "lo" | "km" | "my" | "bo") || characters,
    }
}
