//! Analyses for a person at a terminal.

use std::{collections::BTreeMap, fmt::Write};

use anstyle::{AnsiColor, Style};

use crate::{
    model::Manifest,
    tagger::{Analysis, Warning},
    text::{Document, Field, Span},
};

/// Cells of a full bar.
const BAR: usize = 20;

/// Colours of entity types, in the order of the model's types; more types take them again.
const COLOURS: [AnsiColor; 4] = [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta];

/// Isolates keep a right-to-left name from reordering the line around it (UAX 9: FSI, PDI).
const ISOLATE: (char, char) = ('\u{2068}', '\u{2069}');

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Topics as bars, the text with its entities in colour, and the list of names.
pub fn render(document: &Document, analysis: &Analysis, manifest: &Manifest) -> String {
    let mut out = header(document, analysis);
    topics(&mut out, analysis, manifest);
    evidence(&mut out, document, analysis, manifest);
    for field in Field::ALL {
        text(&mut out, document, field, analysis);
    }
    names(&mut out, document, analysis, manifest);
    out.push('\n');
    out
}

/// A document without an analysis.
pub fn render_error(id: &str, message: &str) -> String {
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    format!("{BOLD}{id}{BOLD:#}\n  {red}{message}{red:#}\n\n")
}

fn header(document: &Document, analysis: &Analysis) -> String {
    let coverage = analysis.coverage;
    let language = analysis.language.as_ref().map_or(String::new(), |language| format!("{} · ", language.code));
    let mut out = format!(
        "{BOLD}{}{BOLD:#}  {DIM}{language}{} tokens in {} windows{DIM:#}\n",
        document.id, coverage.analyzed_tokens, coverage.windows
    );
    for Warning::Truncated { analyzed, total } in &analysis.warnings {
        line(&mut out, format_args!("  {DIM}only {analyzed} of {total} tokens were read{DIM:#}"));
    }
    out
}

fn topics(out: &mut String, analysis: &Analysis, manifest: &Manifest) {
    for score in &analysis.topics {
        let full = (score.probability * BAR as f32).round() as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full.min(BAR)));
        let style = if score.assigned { BOLD } else { DIM };
        let name = &manifest.topics[score.topic].id;
        line(out, format_args!("  {style}{name:<26}{style:#} {bar} {:.2}", score.probability));
    }
}

fn evidence(out: &mut String, document: &Document, analysis: &Analysis, manifest: &Manifest) {
    for evidence in &analysis.evidence {
        let name = &manifest.topics[evidence.topic].id;
        let sentence = isolated(document.slice(evidence.span));
        line(out, format_args!("  {DIM}{name} {:+.2}{DIM:#} {sentence}", evidence.weight));
    }
}

/// A field with its entities in colour, paragraphs indented.
fn text(out: &mut String, document: &Document, field: Field, analysis: &Analysis) {
    let content = document.field(field);
    if content.trim().is_empty() {
        return;
    }
    let mut coloured = String::with_capacity(content.len() * 2);
    let mut position = 0;
    for entity in analysis.entities.iter().filter(|entity| entity.span.field == field) {
        let style = colour(entity.kind);
        let between = document.slice(Span { field, start: position, end: entity.span.start });
        let name = document.slice(entity.span);
        coloured.push_str(&format!("{between}{style}{name}{style:#}"));
        position = entity.span.end;
    }
    coloured.push_str(document.slice(Span { field, start: position, end: content.len() }));
    out.push('\n');
    let style = if field == Field::Title { BOLD } else { Style::new() };
    for paragraph in coloured.trim().lines().map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        line(out, format_args!("  {style}{paragraph}{style:#}"));
    }
}

/// Each name once, with how often it stands and its best probability.
fn names(out: &mut String, document: &Document, analysis: &Analysis, manifest: &Manifest) {
    let mut names: BTreeMap<(usize, &str), (usize, f32)> = BTreeMap::new();
    for entity in &analysis.entities {
        let (count, best) = names.entry((entity.kind, document.slice(entity.span))).or_default();
        *count += 1;
        *best = best.max(entity.probability);
    }
    if !names.is_empty() {
        out.push('\n');
    }
    for ((kind, name), (count, best)) in names {
        let style = colour(kind);
        let times = if count > 1 { format!(" ×{count}") } else { String::new() };
        let label = &manifest.entity_types[kind].id;
        line(out, format_args!("  {style}{label:<5}{style:#} {best:.2}  {}{DIM}{times}{DIM:#}", isolated(name)));
    }
}

fn colour(kind: usize) -> Style {
    Style::new().bold().fg_color(Some(COLOURS[kind % COLOURS.len()].into()))
}

fn isolated(text: &str) -> String {
    // A name over a line break would break the list.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}{text}{}", ISOLATE.0, ISOLATE.1)
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{arguments}");
}
