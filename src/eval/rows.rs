//! The three formats of annotated rows.

use std::{ops::Range, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    CatalogEntry, EvalError, Example, Format, UnitSpan,
    catalog::Covered,
    data::{Row, is_joined},
    detokenize::{NaturalText, Spacing, natural_text},
    spans,
};
use crate::{
    model::Manifest,
    text::{self, Document, Word, WordKind},
};

/// Types that every corpus annotates; any other counts only where it occurs.
const COMMON_TYPES: [&str; 3] = ["PER", "ORG", "LOC"];

/// Share of one-character tokens from which a file's tokens are characters.
const CHARACTER_SHARE: f64 = 0.9;

#[derive(Debug, Deserialize)]
struct SentenceRow {
    lang: String,
    tokens: Vec<String>,
    tags: Vec<String>,
    space_after: Option<Vec<bool>>,
}

#[derive(Debug, Deserialize)]
struct TextRow {
    lang: String,
    #[serde(default)]
    title: String,
    text: String,
    topics: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ArticleRow {
    lang: String,
    #[serde(default)]
    title: String,
    text: String,
    topics: Vec<String>,
    entities: Vec<EntityRow>,
}

#[derive(Debug, Deserialize)]
struct EntityRow {
    #[serde(rename = "type")]
    kind: String,
    start: usize,
    end: usize,
    field: FieldName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FieldName {
    Title,
    Text,
}

/// Turns rows into examples for a model.
pub(super) struct Reader<'a> {
    pub path: &'a Path,
    pub manifest: &'a Manifest,
    pub entry: &'a CatalogEntry,
}

impl Reader<'_> {
    /// Rows of tokens and tags.
    pub fn sentences(&self, rows: &[Row]) -> Result<Vec<Example>, EvalError> {
        let sentences: Vec<SentenceRow> =
            rows.iter().map(|row| self.parse(row, "row of tokens and tags")).collect::<Result<_, _>>()?;
        let tokens = || sentences.iter().flat_map(|sentence| &sentence.tokens);
        let single = tokens().filter(|token| token.chars().count() == 1).count();
        let characters = single as f64 > CHARACTER_SHARE * tokens().count() as f64;
        rows.iter().zip(sentences).map(|(row, sentence)| self.sentence(row, sentence, characters)).collect()
    }

    fn sentence(&self, row: &Row, sentence: SentenceRow, characters: bool) -> Result<Example, EvalError> {
        let SentenceRow { lang, tokens, tags, space_after } = sentence;
        let spaces = space_after.as_ref().map_or(tokens.len(), Vec::len);
        if (tags.len(), spaces) != (tokens.len(), tokens.len()) {
            let (tokens, tags) = (tokens.len(), tags.len());
            return Err(self.wrong(row, format!("{tokens} tokens have {tags} tags and {spaces} spaces")));
        }
        let spacing = match &space_after {
            Some(spaces) => Spacing::Given(spaces),
            None if is_joined(self.entry, &lang, characters) => Spacing::Joined,
            None => Spacing::Words,
        };
        let NaturalText { text, tokens } = natural_text(&tokens, &lang, spacing);
        let entities = spans::from_bio(tags.iter().map(String::as_str), |name| self.kind(name))
            .map_err(|tag| self.wrong(row, format!("{tag:?} is no BIO tag of a type that the model knows")))?;
        Ok(Example {
            row: row.index,
            document: Document { text, language_code: lang.clone(), ..Document::default() },
            language: lang,
            units: [Vec::new(), tokens],
            entities,
            topics: vec![false; self.manifest.topics.len()],
        })
    }

    /// Rows of a text and its topics.
    pub fn texts(&self, rows: &[Row]) -> Result<Vec<Example>, EvalError> {
        let example = |row| {
            let TextRow { lang, title, text, topics } = self.parse(row, "row of a text and its topics")?;
            Ok(Example {
                row: row.index,
                topics: self.topics(&topics).map_err(|problem| self.wrong(row, problem))?,
                document: Document { title, text, language_code: lang.clone(), ..Document::default() },
                language: lang,
                units: [Vec::new(), Vec::new()],
                entities: Vec::new(),
            })
        };
        rows.iter().map(example).collect()
    }

    /// Rows of articles with topics and entities. Their units are words of the text, with what an apostrophe attaches to them: annotators
    /// mark a name with it or without ("Ankara'da", "l'Europe").
    pub fn articles(&self, rows: &[Row]) -> Result<Vec<Example>, EvalError> {
        rows.iter().map(|row| self.article(row)).collect()
    }

    fn article(&self, row: &Row) -> Result<Example, EvalError> {
        let ArticleRow { lang, title, text, topics, entities } = self.parse(row, "annotated article")?;
        let units = [attached_words(&title), attached_words(&text)];
        let mut placed = Vec::with_capacity(entities.len());
        for (field, text, units, first) in
            [(FieldName::Title, &title, &units[0], 0), (FieldName::Text, &text, &units[1], units[0].len())]
        {
            let own: Vec<&EntityRow> = entities.iter().filter(|entity| entity.field == field).collect();
            placed.extend(self.place(&own, text, units, first).map_err(|problem| self.wrong(row, problem))?);
        }
        Ok(Example {
            row: row.index,
            topics: self.topics(&topics).map_err(|problem| self.wrong(row, problem))?,
            document: Document { title, text, language_code: lang.clone(), ..Document::default() },
            language: lang,
            units,
            entities: placed,
        })
    }

    /// The entities of one field, in code points, as spans of its words, the first of which has the number `first`.
    fn place(
        &self,
        entities: &[&EntityRow],
        text: &str,
        words: &[Range<usize>],
        first: usize,
    ) -> Result<Vec<UnitSpan>, String> {
        let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut located = Vec::with_capacity(entities.len());
        for entity in entities {
            let EntityRow { kind, start, end, .. } = entity;
            let name = self.kind(kind).ok_or_else(|| format!("{kind:?} is no type that the model knows"))?;
            match (bytes.get(*start), bytes.get(*end)) {
                (Some(&from), Some(&to)) if from < to => located.push((from..to, name)),
                _ => return Err(format!("an entity from {start} to {end} does not lie in its field")),
            }
        }
        located.sort_by_key(|(range, _)| range.start);
        if located.windows(2).any(|pair| pair[1].0.start < pair[0].0.end) {
            return Err("entities overlap".to_owned());
        }
        let ranges: Vec<Range<usize>> = located.iter().map(|(range, _)| range.clone()).collect();
        let placed = spans::onto_units(words, &ranges).into_iter();
        Ok(placed
            .map(|(index, units)| UnitSpan {
                start: first + units.start,
                end: first + units.end,
                kind: located[index].1,
            })
            .collect())
    }

    /// By entity type: whether the file annotates it.
    pub fn annotated(&self, format: Format, examples: &[Example]) -> Vec<bool> {
        let annotates = |(index, id): (usize, &str)| match (&self.entry.annotated_types, format) {
            (_, Format::Topics) => false,
            (Some(types), _) => types.iter().any(|name| name == id),
            (None, Format::Articles) => true,
            (None, Format::Entities) => {
                COMMON_TYPES.contains(&id)
                    || examples.iter().any(|example| example.entities.iter().any(|span| span.kind == index))
            }
        };
        self.manifest.entity_types.iter().map(|kind| kind.id.as_str()).enumerate().map(annotates).collect()
    }

    /// By topic: whether the file annotates it.
    pub fn covered(&self, format: Format, examples: &[Example]) -> Result<Vec<bool>, EvalError> {
        let every = vec![true; self.manifest.topics.len()];
        match (&self.entry.covered_topics, format) {
            (_, Format::Entities) => Ok(vec![false; self.manifest.topics.len()]),
            (Some(Covered::All(_)), _) | (None, Format::Articles) => Ok(every),
            (Some(Covered::Some(topics)), _) => self.topics(topics).map_err(|problem| EvalError::Content {
                path: self.path.to_owned(),
                line: 0,
                problem: format!("covered_topics: {problem}"),
            }),
            (None, Format::Topics) => {
                let occurs = |topic: usize| examples.iter().any(|example| example.topics[topic]);
                Ok((0..every.len()).map(occurs).collect())
            }
        }
    }

    fn topics(&self, names: &[String]) -> Result<Vec<bool>, String> {
        let topics = &self.manifest.topics;
        match names.iter().find(|name| !topics.iter().any(|topic| topic.id == **name)) {
            Some(unknown) => Err(format!("{unknown:?} is no topic that the model knows")),
            None => Ok(topics.iter().map(|topic| names.contains(&topic.id)).collect()),
        }
    }

    fn kind(&self, name: &str) -> Option<usize> {
        self.manifest.entity_types.iter().position(|kind| kind.id == name)
    }

    fn parse<T: DeserializeOwned>(&self, row: &Row, expected: &'static str) -> Result<T, EvalError> {
        serde_json::from_str(&row.json).map_err(|source| EvalError::Row {
            path: self.path.to_owned(),
            line: row.index + 1,
            expected,
            source,
        })
    }

    fn wrong(&self, row: &Row, problem: String) -> EvalError {
        EvalError::Content { path: self.path.to_owned(), line: row.index + 1, problem }
    }
}

/// The words of a text in bytes, a suffix or an elided article together with what it is attached to.
fn attached_words(text: &str) -> Vec<Range<usize>> {
    let mut units: Vec<Range<usize>> = Vec::new();
    let mut elided = false;
    for Word { start, end, kind, .. } in text::words(text) {
        match units.last_mut() {
            Some(last) if last.end == start && (elided || kind == WordKind::Suffix) => last.end = end,
            _ => units.push(start..end),
        }
        elided = kind == WordKind::Plain && text[start..end].ends_with(['\'', '’', 'ʼ']);
    }
    units
}
