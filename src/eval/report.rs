//! The figures of all data sets together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Answer, Bootstrap, Counts, DataSet, EntityFigures, Example, Format, Outcome, SpanScore, TopicFigures, UnitSpan,
    spans,
    statistics::{Reliability, mean},
};
use crate::model::Manifest;

/// Scores of a model on any number of files.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was evaluated.
    pub model: ModelName,
    /// Bootstrap samples behind every interval.
    pub bootstrap: usize,
    /// Files of sentences with entities.
    pub ner: Vec<EntityResult>,
    /// Files of texts with topics.
    pub topics: Vec<TopicResult>,
    /// Files of articles with both.
    pub articles: Vec<ArticleResult>,
    /// By language.
    pub languages: BTreeMap<String, LanguageScores>,
    /// By the set that several files belong to.
    pub sets: BTreeMap<String, SetScores>,
    /// Over all files.
    pub means: Means,
    /// Calibration over all files of a kind.
    pub reliability: BTreeMap<&'static str, Reliability>,
}

/// Which model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelName {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The content hash of its bundle.
    pub revision: String,
    /// Its calibration.
    pub calibration_id: String,
}

/// Where figures come from.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// The file's name.
    pub file: String,
    /// The set it belongs to.
    pub name: String,
    /// Its language, `mul` for several.
    pub lang: String,
    /// Licence of the data, if it is known.
    pub licence: Option<String>,
    /// Rows that could not be scored.
    pub skipped: usize,
}

/// A file of sentences with entities.
#[derive(Debug, Clone, Serialize)]
pub struct EntityResult {
    /// The file.
    #[serde(flatten)]
    pub source: Source,
    /// Sentences scored.
    pub sentences: usize,
    /// Types that are annotated; others are not looked at.
    pub annotated_types: Vec<String>,
    /// The scores.
    #[serde(flatten)]
    pub figures: EntityFigures,
}

/// A file of texts with topics.
#[derive(Debug, Clone, Serialize)]
pub struct TopicResult {
    /// The file.
    #[serde(flatten)]
    pub source: Source,
    /// Texts scored.
    pub texts: usize,
    /// Whether texts name all of their topics. Where not, topics that are not named count as absent, and F1, precision and calibration
    /// are worse than they are.
    pub multi_label: bool,
    /// The scores.
    #[serde(flatten)]
    pub figures: TopicFigures,
}

/// A file of articles with topics and entities.
#[derive(Debug, Clone, Serialize)]
pub struct ArticleResult {
    /// The file.
    #[serde(flatten)]
    pub source: Source,
    /// Articles scored.
    pub articles: usize,
    /// Entities in title and text.
    pub entities: EntityFigures,
    /// Topics.
    pub topics: TopicFigures,
}

/// Scores of a language: means over its files, articles of all files together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LanguageScores {
    /// Mean entity F1 over its files of sentences.
    pub ner_f1: Option<f64>,
    /// Those files.
    pub ner_files: usize,
    /// Entity F1 over all its articles together.
    pub article_f1: Option<f64>,
    /// Those articles.
    pub articles: usize,
    /// Micro F1 of the topics of its articles.
    pub article_topics_micro_f1: Option<f64>,
    /// Mean top-1 over its files of texts with topics.
    pub topics_top1: Option<f64>,
    /// Those files.
    pub topic_files: usize,
}

/// Scores of a set: means over its files.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SetScores {
    /// Files.
    pub files: usize,
    /// Mean entity F1.
    pub ner_f1: Option<f64>,
    /// Mean top-1 of topics.
    pub topics_top1: Option<f64>,
    /// Mean macro F1 of topics.
    pub topics_macro_f1: Option<f64>,
}

/// Means over files, each counted once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Means {
    /// Entity F1 over files of sentences.
    pub ner_f1: Option<f64>,
    /// Expected calibration error of their entities.
    pub ner_ece: Option<f64>,
    /// Top-1 over files of texts with topics.
    pub topics_top1: Option<f64>,
    /// Macro F1 over the same.
    pub topics_macro_f1: Option<f64>,
    /// Average precision over the same.
    pub topics_average_precision: Option<f64>,
    /// Entity F1 over all articles together.
    pub article_f1: Option<f64>,
    /// Macro F1 of topics over all articles together.
    pub article_topics_macro_f1: Option<f64>,
}

/// Examples with their answers.
type Rows<'a> = Vec<(&'a Example, &'a Answer)>;

impl Report {
    /// Scores outcomes.
    pub fn new(outcomes: &[Outcome], manifest: &Manifest, bootstrap: &Bootstrap) -> Self {
        let scorer = Scorer::new(manifest, bootstrap);
        let of = |format: Format| outcomes.iter().filter(move |outcome| outcome.set.format == format);
        let ner: Vec<EntityResult> = of(Format::Entities).map(|outcome| scorer.sentences(outcome)).collect();
        let topics: Vec<TopicResult> = of(Format::Topics).map(|outcome| scorer.texts(outcome)).collect();
        let articles: Vec<ArticleResult> = of(Format::Articles).map(|outcome| scorer.articles(outcome)).collect();
        let all_articles: Rows<'_> = of(Format::Articles).flat_map(Outcome::rows).collect();
        Self {
            model: ModelName {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                revision: manifest.revision.clone(),
                calibration_id: manifest.calibration.id.clone(),
            },
            bootstrap: bootstrap.samples,
            languages: scorer.languages(outcomes),
            sets: sets(&ner, &topics),
            means: Means {
                ner_f1: mean(ner.iter().map(|result| result.figures.micro.f1)),
                ner_ece: mean(ner.iter().filter_map(|result| result.figures.reliability.ece)),
                topics_top1: mean(topics.iter().map(|result| result.figures.top1)),
                topics_macro_f1: mean(topics.iter().map(|result| result.figures.macro_f1)),
                topics_average_precision: mean(topics.iter().filter_map(|result| result.figures.average_precision)),
                article_f1: (!all_articles.is_empty()).then(|| span_score(&all_articles).f1),
                article_topics_macro_f1: (!all_articles.is_empty()).then(|| scorer.all_topics(&all_articles).macro_f1),
            },
            reliability: reliability(outcomes),
            ner,
            topics,
            articles,
        }
    }
}

struct Scorer<'a> {
    types: Vec<String>,
    topics: Vec<(String, f32)>,
    bootstrap: &'a Bootstrap,
}

impl<'a> Scorer<'a> {
    fn new(manifest: &Manifest, bootstrap: &'a Bootstrap) -> Self {
        Self {
            types: manifest.entity_types.iter().map(|kind| kind.id.clone()).collect(),
            topics: manifest.topics.iter().map(|topic| (topic.id.clone(), topic.threshold)).collect(),
            bootstrap,
        }
    }

    fn sentences(&self, outcome: &Outcome) -> EntityResult {
        let rows: Rows<'_> = outcome.rows().collect();
        let annotated = self.types.iter().zip(&outcome.set.annotated).filter(|(_, annotated)| **annotated);
        EntityResult {
            source: source(&outcome.set),
            sentences: rows.len(),
            annotated_types: annotated.map(|(name, _)| name.clone()).collect(),
            figures: EntityFigures::new(&rows, &self.types, self.bootstrap),
        }
    }

    fn texts(&self, outcome: &Outcome) -> TopicResult {
        let rows: Rows<'_> = outcome.rows().collect();
        TopicResult {
            source: source(&outcome.set),
            texts: rows.len(),
            multi_label: outcome.set.multi_label,
            figures: TopicFigures::new(&rows, &self.topics, &outcome.set.covered, self.bootstrap),
        }
    }

    fn articles(&self, outcome: &Outcome) -> ArticleResult {
        let rows: Rows<'_> = outcome.rows().collect();
        ArticleResult {
            source: source(&outcome.set),
            articles: rows.len(),
            entities: EntityFigures::new(&rows, &self.types, self.bootstrap),
            topics: TopicFigures::new(&rows, &self.topics, &outcome.set.covered, self.bootstrap),
        }
    }

    /// Topic scores over all of the model's topics, without intervals.
    fn all_topics(&self, rows: &Rows<'_>) -> TopicFigures {
        self.some_topics(rows, &vec![true; self.topics.len()])
    }

    fn some_topics(&self, rows: &Rows<'_>, covered: &[bool]) -> TopicFigures {
        TopicFigures::new(rows, &self.topics, covered, &Bootstrap { samples: 0, seed: 0 })
    }

    fn languages(&self, outcomes: &[Outcome]) -> BTreeMap<String, LanguageScores> {
        let mut names: Vec<&str> = outcomes.iter().flat_map(|outcome| outcome.set.languages()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| (name.to_owned(), self.language(name, outcomes))).collect()
    }

    fn language(&self, name: &str, outcomes: &[Outcome]) -> LanguageScores {
        let rows = |format: Format| {
            let files = outcomes.iter().filter(move |outcome| outcome.set.format == format);
            let files = files.map(|outcome| -> (&DataSet, Rows<'_>) {
                (&outcome.set, outcome.rows().filter(|(example, _)| example.language == name).collect())
            });
            files.filter(|(_, rows)| !rows.is_empty()).collect::<Vec<_>>()
        };
        let ner = rows(Format::Entities);
        let articles: Rows<'_> = rows(Format::Articles).into_iter().flat_map(|(_, rows)| rows).collect();
        let topics = rows(Format::Topics);
        LanguageScores {
            ner_f1: mean(ner.iter().map(|(_, rows)| span_score(rows).f1)),
            ner_files: ner.len(),
            article_f1: (!articles.is_empty()).then(|| span_score(&articles).f1),
            articles: articles.len(),
            article_topics_micro_f1: (!articles.is_empty()).then(|| self.all_topics(&articles).micro_f1),
            topics_top1: mean(topics.iter().map(|(set, rows)| self.some_topics(rows, &set.covered).top1)),
            topic_files: topics.len(),
        }
    }
}

fn source(set: &DataSet) -> Source {
    let languages = set.languages();
    Source {
        file: set.file.clone(),
        name: set.name.clone(),
        lang: if let [one] = languages[..] { one.to_owned() } else { "mul".to_owned() },
        licence: set.licence.clone(),
        skipped: set.skipped,
    }
}

/// Entity scores of texts, all types together.
fn span_score(rows: &Rows<'_>) -> SpanScore {
    let mut total = Counts::default();
    for (example, answer) in rows {
        let predicted: Vec<UnitSpan> = answer.entities.iter().map(|found| found.span.clone()).collect();
        spans::count(&example.entities, &predicted).values().for_each(|&counts| total.add(counts));
    }
    total.score()
}

fn sets(ner: &[EntityResult], topics: &[TopicResult]) -> BTreeMap<String, SetScores> {
    let names = ner.iter().map(|result| &result.source.name).chain(topics.iter().map(|result| &result.source.name));
    let scores = |name: &String| {
        let ner: Vec<_> = ner.iter().filter(|result| result.source.name == *name).collect();
        let topics: Vec<_> = topics.iter().filter(|result| result.source.name == *name).collect();
        SetScores {
            files: ner.len() + topics.len(),
            ner_f1: mean(ner.iter().map(|result| result.figures.micro.f1)),
            topics_top1: mean(topics.iter().map(|result| result.figures.top1)),
            topics_macro_f1: mean(topics.iter().map(|result| result.figures.macro_f1)),
        }
    };
    let all: BTreeMap<String, SetScores> = names.map(|name| (name.clone(), scores(name))).collect();
    all.into_iter().filter(|(_, scores)| scores.files > 1).collect()
}

/// Calibration by kind of data: entities of sentences and of articles, assigned topics of texts and of articles.
fn reliability(outcomes: &[Outcome]) -> BTreeMap<&'static str, Reliability> {
    let mut predictions: BTreeMap<&'static str, Vec<(f32, bool)>> = BTreeMap::new();
    for outcome in outcomes {
        let (entities, topics) = match outcome.set.format {
            Format::Entities => (Some("ner_entities"), None),
            Format::Topics => (None, Some(if outcome.set.multi_label { "topics" } else { "single_label_topics" })),
            Format::Articles => (Some("article_entities"), Some("article_topics")),
        };
        for (example, answer) in outcome.rows() {
            if let Some(kind) = entities {
                let found = answer.entities.iter();
                let found = found.map(|found| (found.probability, example.entities.contains(&found.span)));
                predictions.entry(kind).or_default().extend(found);
            }
            if let Some(kind) = topics {
                let pairs = answer.topics.iter().zip(&example.topics).zip(&outcome.set.covered);
                let assigned = pairs.filter(|((answer, _), covered)| answer.assigned && **covered);
                let assigned = assigned.map(|((answer, &has), _)| (answer.probability, has));
                predictions.entry(kind).or_default().extend(assigned);
            }
        }
    }
    predictions.into_iter().map(|(kind, predictions)| (kind, Reliability::new(&predictions))).collect()
}
