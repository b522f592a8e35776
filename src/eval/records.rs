//! Every score of an evaluation, one a line: what a calibration is fitted on.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

use super::{Format, Outcome};
use crate::model::Manifest;

/// A line of a scores file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A text with its topics' logits.
    Topics {
        /// The file it is in.
        file: String,
        /// Its row there, from 0.
        row: usize,
        /// BCP 47 tag.
        lang: String,
        /// The topics it has.
        gold: Vec<String>,
        /// The topics that are annotated.
        covered: Vec<String>,
        /// Whether all of its covered topics are named: a covered topic that is not in `gold` is absent, not unknown.
        multi_label: bool,
        /// By topic, before calibration.
        logits: BTreeMap<String, f32>,
    },
    /// An entity that was predicted.
    Entity {
        /// The file it is in.
        file: String,
        /// Its row there, from 0.
        row: usize,
        /// BCP 47 tag.
        lang: String,
        /// Its type.
        #[serde(rename = "type")]
        entity_type: String,
        /// The model's own probability, before calibration.
        score: f32,
        /// Whether span and type are right; none if the type is not annotated there.
        correct: Option<bool>,
    },
}

/// Writes the records of an outcome.
///
/// # Errors
/// The writer's.
pub fn write(outcome: &Outcome, manifest: &Manifest, out: &mut impl Write) -> io::Result<()> {
    let set = &outcome.set;
    let names = |wanted: &[bool]| {
        let topics = manifest.topics.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        topics.map(|(topic, _)| topic.id.clone()).collect::<Vec<_>>()
    };
    for (example, answer) in outcome.rows() {
        let (file, row, lang) = (&set.file, example.row, &example.language);
        if set.format != Format::Entities {
            let logits = manifest.topics.iter().zip(&answer.topics);
            let record = Record::Topics {
                file: file.clone(),
                row,
                lang: lang.clone(),
                gold: names(&example.topics),
                covered: names(&set.covered),
                multi_label: set.multi_label,
                logits: logits.map(|(topic, answer)| (topic.id.clone(), answer.logit)).collect(),
            };
            write_line(&record, out)?;
        }
        let known = answer.entities.iter();
        let known = known.map(|found| (found.span.kind, found.score, Some(example.entities.contains(&found.span))));
        let unknown = answer.unscored.iter().map(|&(kind, score)| (kind, score, None));
        for (kind, score, correct) in known.chain(unknown) {
            let entity_type = manifest.entity_types[kind].id.clone();
            let record = Record::Entity { file: file.clone(), row, lang: lang.clone(), entity_type, score, correct };
            write_line(&record, out)?;
        }
    }
    Ok(())
}

fn write_line(record: &Record, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}
