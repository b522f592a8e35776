//! How good a model is: scores on annotated data, by the same code that serves.
//!
//! A [`DataSet`] of annotated examples goes through a [`Tagger`] as any documents do, [`evaluate`] sets what it finds beside the
//! annotation, and a [`Report`] puts the figures of all sets together. [`Record`]s of every score are what a calibration is fitted on.

mod catalog;
mod data;
pub mod detokenize;
mod entities;
mod error;
pub mod records;
mod report;
mod rows;
mod spans;
pub mod statistics;
mod svg;
mod tables;
mod topics;

pub use self::{
    catalog::{Catalog, CatalogEntry, Covered},
    data::{DataSet, Example, Format},
    entities::EntityFigures,
    error::EvalError,
    records::Record,
    report::{ArticleResult, EntityResult, Means, Report, TopicResult},
    spans::{Counts, Mistakes, PartialScores, SpanScore, UnitSpan, count, from_bio, onto_units},
    statistics::Bootstrap,
    svg::reliability_diagram,
    tables::{markdown, plain},
    topics::{TopicFigures, TopicScores},
};
use crate::{
    tagger::{Analysis, DocumentError, Entity, Feature, TagOptions, Tagger, TopicScore},
    text::{Document, Field},
};

/// Documents tagged together: enough short ones to fill batches.
const GROUP: usize = 512;

/// What the model says of a data set.
#[derive(Debug)]
pub struct Outcome {
    /// The data set.
    pub set: DataSet,
    /// By example.
    pub answers: Vec<Answer>,
}

/// What the model says of an example.
#[derive(Debug, Default)]
pub struct Answer {
    /// Entities of the types that are annotated, by position.
    pub entities: Vec<Found>,
    /// Entities of other types, of which nothing is known: type and score.
    pub unscored: Vec<(usize, f32)>,
    /// By topic of the model; empty if nothing was asked of topics.
    pub topics: Vec<TopicAnswer>,
}

/// An entity that the model found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where, and its type.
    pub span: UnitSpan,
    /// Calibrated probability.
    pub probability: f32,
    /// What was calibrated.
    pub score: f32,
}

/// What the model says of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TopicAnswer {
    /// Calibrated probability.
    pub probability: f32,
    /// What was calibrated.
    pub logit: f32,
    /// Whether it is assigned by the model's own threshold.
    pub assigned: bool,
}

/// Tags the examples of a data set.
///
/// # Errors
/// If a document has no analysis; one without anything to read has an empty one.
pub fn evaluate(tagger: &Tagger, set: DataSet) -> Result<Outcome, EvalError> {
    let features = match set.format {
        Format::Entities => vec![Feature::Entities],
        Format::Topics => vec![Feature::Topics],
        Format::Articles => vec![Feature::Entities, Feature::Topics],
    };
    let options =
        TagOptions { features: features.into_iter().collect(), include_all_scores: true, ..TagOptions::default() };
    let plan = tagger.plan(&options)?;
    let mut answers = Vec::with_capacity(set.examples.len());
    for group in set.examples.chunks(GROUP) {
        let documents: Vec<Document> = group.iter().map(|example| example.document.clone()).collect();
        // From within the pool, as the server computes.
        let analyses = rayon::scope(|_| tagger.tag(&documents, &plan));
        for (example, analysis) in group.iter().zip(analyses) {
            answers.push(match analysis {
                Ok(analysis) => answer(&set, example, &analysis),
                Err(DocumentError::Blank) => Answer::default(),
                Err(source) => {
                    return Err(EvalError::Document { path: set.file.clone().into(), row: example.row, source });
                }
            });
        }
    }
    Ok(Outcome { set, answers })
}

fn answer(set: &DataSet, example: &Example, analysis: &Analysis) -> Answer {
    let mut answer = Answer::default();
    let mut first = 0;
    for (field, units) in Field::ALL.into_iter().zip(&example.units) {
        let entities = analysis.entities.iter().filter(|entity| entity.span.field == field);
        let (known, unknown): (Vec<&Entity>, Vec<&Entity>) = entities.partition(|entity| set.annotated[entity.kind]);
        let ranges: Vec<_> = known.iter().map(|entity| entity.span.start..entity.span.end).collect();
        answer.entities.extend(onto_units(units, &ranges).into_iter().map(|(index, units)| Found {
            span: UnitSpan { start: first + units.start, end: first + units.end, kind: known[index].kind },
            probability: known[index].probability,
            score: known[index].score,
        }));
        answer.unscored.extend(unknown.iter().map(|entity| (entity.kind, entity.score)));
        first += units.len();
    }
    if set.format != Format::Entities {
        answer.topics.resize(example.topics.len(), TopicAnswer::default());
        for &TopicScore { topic, probability, logit, assigned, .. } in &analysis.topics {
            answer.topics[topic] = TopicAnswer { probability, logit, assigned };
        }
    }
    answer
}

impl Outcome {
    /// Examples with their answers.
    pub fn rows(&self) -> impl Iterator<Item = (&Example, &Answer)> {
        self.set.examples.iter().zip(&self.answers)
    }
}
