//! `rasid eval`.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anstream::eprintln;
use clap::Args;

use super::CliError;
use crate::{
    config::ModelSettings,
    eval::{self, Bootstrap, Catalog, DataSet, EvalError, Format, Outcome, Report, records},
    model::Manifest,
    tagger::Tagger,
};

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Sentences with entities, JSON Lines: {"lang", "tokens", "tags" in BIO, "space_after"?}. Files may end in .gz.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    ner: Vec<PathBuf>,

    /// Texts with topics, JSON Lines: {"lang", "text", "title"?, "topics"}. Texts that name one topic each are taken to say nothing
    /// certain of the others.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    topics: Vec<PathBuf>,

    /// Articles with both, JSON Lines: {"id", "lang", "title", "text", "topics", "entities": [{"type", "start", "end", "field"}]},
    /// offsets in code points.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    articles: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelSettings,

    /// Rows to take from each file, from its beginning [default: all].
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// What is known of the files: a JSON list of {"file", "annotated_types"?, "covered_topics"?, "multi_label"?, "join"?, "licence"?}. What
    /// it does not say is told from the rows: a file annotates PER, ORG and LOC and whatever else occurs, and covers the topics that occur.
    #[arg(long, value_name = "FILE")]
    datasets: Option<PathBuf>,

    /// Bootstrap samples for the intervals; 0 for none.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    bootstrap: usize,

    /// Where the bootstrap's random numbers begin.
    #[arg(long, default_value_t = 17, value_name = "N")]
    seed: u64,

    /// Write every score, one a line, for `rasid model calibrate`.
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,

    /// Write report.json, tables.md and reliability diagrams into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl EvalArgs {
    /// The files with their formats.
    fn files(&self) -> impl Iterator<Item = (&Path, Format)> {
        let all = [(&self.ner, Format::Entities), (&self.topics, Format::Topics), (&self.articles, Format::Articles)];
        all.into_iter().flat_map(|(files, format)| files.iter().map(move |file| (file.as_path(), format)))
    }
}

/// Evaluates the model on the files and prints its scores.
pub fn run(args: &EvalArgs) -> Result<ExitCode, CliError> {
    if args.files().next().is_none() {
        return Err(CliError::NothingToEvaluate);
    }
    rayon::ThreadPoolBuilder::new().num_threads(args.model.threads).build_global()?;
    let catalog = args.datasets.as_deref().map(Catalog::read).transpose()?.unwrap_or_default();
    let tagger = args.model.load()?;
    let outcomes = outcomes(args, &tagger, &catalog)?;
    let bootstrap = Bootstrap { samples: args.bootstrap, seed: args.seed };
    let report = Report::new(&outcomes, tagger.manifest(), &bootstrap);
    if let Some(folder) = &args.report {
        write_report(&report, folder)?;
    }
    let text = if args.json { to_json(&report)? } else { eval::plain(&report) };
    anstream::stdout().lock().write_all(text.as_bytes()).map_err(CliError::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Evaluates file by file; scores are written as soon as they are there.
fn outcomes(args: &EvalArgs, tagger: &Tagger, catalog: &Catalog) -> Result<Vec<Outcome>, CliError> {
    let manifest = tagger.manifest();
    let mut scores = args.scores.as_deref().map(Scores::create).transpose()?;
    let mut outcomes = Vec::new();
    for (path, format) in args.files() {
        let started = Instant::now();
        let set = DataSet::read(path, format, args.limit, catalog, manifest)?;
        let outcome = eval::evaluate(tagger, set)?;
        if let Some(scores) = &mut scores {
            scores.write(&outcome, manifest)?;
        }
        eprintln!("{}: {} rows in {:.1} s", outcome.set.file, outcome.answers.len(), started.elapsed().as_secs_f64());
        outcomes.push(outcome);
    }
    if let Some(mut scores) = scores {
        scores.out.flush().map_err(|source| scores.failed(source))?;
    }
    Ok(outcomes)
}

/// The file of scores.
struct Scores {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Scores {
    fn create(path: &Path) -> Result<Self, EvalError> {
        match File::create(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), out: BufWriter::new(file) }),
            Err(source) => Err(EvalError::Write { path: path.to_owned(), source }),
        }
    }

    fn write(&mut self, outcome: &Outcome, manifest: &Manifest) -> Result<(), EvalError> {
        records::write(outcome, manifest, &mut self.out).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> EvalError {
        EvalError::Write { path: self.path.clone(), source }
    }
}

fn to_json(report: &Report) -> Result<String, CliError> {
    serde_json::to_string_pretty(report).map(|json| json + "\n").map_err(CliError::Figures)
}

fn write_report(report: &Report, folder: &Path) -> Result<(), CliError> {
    let write = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content).map_err(|source| EvalError::Write { path, source })
    };
    fs::create_dir_all(folder).map_err(|source| EvalError::Write { path: folder.to_owned(), source })?;
    write("report.json", &to_json(report)?)?;
    write("tables.md", &eval::markdown(report))?;
    for (kind, reliability) in &report.reliability {
        let title = match *kind {
            "ner_entities" => "Entities of sentences",
            "article_entities" => "Entities of whole articles",
            "article_topics" => "Assigned topics of whole articles",
            "topics" => "Assigned topics",
            _ => "Assigned topics, of which sets name one each",
        };
        write(&format!("reliability_{kind}.svg"), &eval::reliability_diagram(title, reliability))?;
    }
    Ok(())
}
