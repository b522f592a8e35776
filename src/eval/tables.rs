//! The figures as tables, for a person and for a model card.

use std::fmt::Write;

use super::{
    ArticleResult, EntityFigures, Report, TopicFigures,
    report::{EntityResult, LanguageScores, Means, SetScores, TopicResult},
    statistics::BINS,
};

/// A heading and a table below it.
struct Section {
    heading: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Aligned columns for a terminal.
pub fn plain(report: &Report) -> String {
    let mut out = String::new();
    for Section { heading, columns, rows } in sections(report) {
        let mut widths: Vec<usize> = columns.iter().map(|column| column.chars().count()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = |cells: &[&str]| {
            let aligned = cells.iter().zip(&widths).enumerate().map(|(index, (cell, &width))| {
                if index == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let line = aligned.collect::<Vec<_>>().join("  ");
            out.push_str(line.trim_end());
            out.push('\n');
        };
        line(&[&heading]);
        line(&columns);
        rows.iter().for_each(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
        out.push('\n');
    }
    out.push_str(&means(&report.means));
    out
}

/// Markdown, with a heading for each table.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let model = &report.model;
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "# {} {}\n\nRevision `{}`, calibration `{}`. Intervals: 95 %, {} bootstrap samples of rows. ECE: expected calibration error \
         of found entities and of assigned topics, {BINS} bins of equal width; floor: what it would be on average if every probability were \
         exactly right.\n",
        model.name, model.version, model.revision, model.calibration_id, report.bootstrap
    );
    for Section { heading, columns, rows } in sections(report) {
        let _ = writeln!(
            out,
            "## {heading}\n\n| {} |\n|{}|",
            columns.join(" | "),
            "---|".repeat(columns.len() - 1) + "---"
        );
        for row in rows {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
    }
    out.push_str(&means(&report.means));
    out
}

fn sections(report: &Report) -> Vec<Section> {
    let mut sections = Vec::new();
    if !report.ner.is_empty() {
        sections.push(ner(&report.ner));
    }
    if !report.topics.is_empty() {
        sections.push(topics(&report.topics));
    }
    for result in &report.articles {
        sections.extend(articles(result));
    }
    if report.languages.len() > 1 {
        sections.push(languages(report));
    }
    if !report.sets.is_empty() {
        sections.push(sets(report));
    }
    sections
}

fn ner(results: &[EntityResult]) -> Section {
    let row = |result: &EntityResult| {
        let EntityResult { source, sentences, figures, .. } = result;
        let mut row = vec![source.file.clone(), source.lang.clone(), sentences.to_string()];
        row.extend(entity_cells(figures));
        row
    };
    Section {
        heading: "Entities, strict F1 of spans (only the types that are annotated)".to_owned(),
        columns: [&["file", "lang", "rows"][..], &ENTITY_COLUMNS].concat(),
        rows: results.iter().map(row).collect(),
    }
}

const ENTITY_COLUMNS: [&str; 12] =
    ["F1", "95 %", "P", "R", "PER", "ORG", "LOC", "MISC", "overlap", "untyped", "ECE", "floor"];

fn entity_cells(figures: &EntityFigures) -> Vec<String> {
    let kind = |name: &str| figures.per_type.get(name).map_or(String::new(), |score| number(score.f1));
    let mut cells = vec![number(figures.micro.f1), interval(figures.f1_ci)];
    cells.extend([figures.micro.precision, figures.micro.recall].map(number));
    cells.extend(["PER", "ORG", "LOC", "MISC"].map(kind));
    cells.extend([figures.partial.overlap_f1, figures.partial.untyped_f1].map(number));
    cells.extend([figures.reliability.ece, figures.reliability.ece_floor].map(optional));
    cells
}

fn topics(results: &[TopicResult]) -> Section {
    let row = |result: &TopicResult| {
        let TopicResult { source, texts, figures, .. } = result;
        let mut row = vec![source.file.clone(), source.lang.clone(), texts.to_string()];
        row.extend(topic_cells(figures));
        row
    };
    Section {
        heading: "Topics (where texts name one topic each, others count as absent)".to_owned(),
        columns: [&["file", "lang", "rows"][..], &TOPIC_COLUMNS].concat(),
        rows: results.iter().map(row).collect(),
    }
}

const TOPIC_COLUMNS: [&str; 9] =
    ["top-1", "95 %", "top-1 macro F1", "macro F1", "95 %", "micro F1", "AP", "ECE", "floor"];

fn topic_cells(figures: &TopicFigures) -> Vec<String> {
    vec![
        number(figures.top1),
        interval(figures.top1_ci),
        number(figures.top1_macro_f1),
        number(figures.macro_f1),
        interval(figures.macro_f1_ci),
        number(figures.micro_f1),
        optional(figures.average_precision),
        optional(figures.reliability.ece),
        optional(figures.reliability.ece_floor),
    ]
}

/// Entities, topics and each topic of a file of articles.
fn articles(result: &ArticleResult) -> [Section; 3] {
    let file = &result.source.file;
    let count = result.articles.to_string();
    let entities = Section {
        heading: format!("{file}: entities of whole articles, strict F1 of words"),
        columns: [&["file", "rows"][..], &ENTITY_COLUMNS].concat(),
        rows: vec![[vec![file.clone(), count.clone()], entity_cells(&result.entities)].concat()],
    };
    let topics = Section {
        heading: format!("{file}: topics of whole articles"),
        columns: [&["file", "rows"][..], &TOPIC_COLUMNS].concat(),
        rows: vec![[vec![file.clone(), count], topic_cells(&result.topics)].concat()],
    };
    let rows = result.topics.per_topic.iter().map(|(name, scores)| {
        vec![
            name.clone(),
            scores.support.to_string(),
            scores.assigned.to_string(),
            number(scores.f1),
            interval(scores.f1_ci),
            number(scores.precision),
            number(scores.recall),
            optional(scores.average_precision),
            format!("{:.2}", scores.threshold),
            scores.best_threshold.map_or(String::new(), |threshold| format!("{threshold:.2}")),
            optional(scores.best_f1),
        ]
    });
    let each = Section {
        heading: format!("{file}: each topic"),
        columns: vec!["topic", "has", "given", "F1", "95 %", "P", "R", "AP", "threshold", "best", "best F1"],
        rows: rows.collect(),
    };
    [entities, topics, each]
}

fn languages(report: &Report) -> Section {
    let row = |(name, scores): (&String, &LanguageScores)| {
        vec![
            name.clone(),
            count(scores.ner_files),
            optional(scores.ner_f1),
            count(scores.articles),
            optional(scores.article_f1),
            optional(scores.article_topics_micro_f1),
            count(scores.topic_files),
            optional(scores.topics_top1),
        ]
    };
    Section {
        heading: "By language".to_owned(),
        columns: vec!["lang", "files", "entity F1", "articles", "entity F1", "topic micro F1", "files", "topic top-1"],
        rows: report.languages.iter().map(row).collect(),
    }
}

/// Sets of several files; the others stand above by their files.
fn sets(report: &Report) -> Section {
    let row = |(name, scores): (&String, &SetScores)| {
        let figures = [scores.ner_f1, scores.topics_top1, scores.topics_macro_f1].map(optional);
        [vec![name.clone(), count(scores.files)], figures.to_vec()].concat()
    };
    Section {
        heading: "By set of several files, means".to_owned(),
        columns: vec!["set", "files", "entity F1", "topic top-1", "topic macro F1"],
        rows: report.sets.iter().map(row).collect(),
    }
}

fn means(means: &Means) -> String {
    let figures = [
        ("Mean entity F1 over files", means.ner_f1),
        ("Mean entity ECE over files", means.ner_ece),
        ("Mean topic top-1 over files", means.topics_top1),
        ("Mean topic macro F1 over files", means.topics_macro_f1),
        ("Mean topic average precision over files", means.topics_average_precision),
        ("Entity F1 over all articles", means.article_f1),
        ("Topic macro F1 over all articles", means.article_topics_macro_f1),
    ];
    figures.into_iter().filter_map(|(name, figure)| Some(format!("{name}: {}\n", number(figure?)))).collect()
}

fn count(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn number(figure: f64) -> String {
    format!("{figure:.3}")
}

fn optional(figure: Option<f64>) -> String {
    figure.map_or(String::new(), number)
}

fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or(String::new(), |[low, high]| format!("{low:.3}–{high:.3}"))
}
