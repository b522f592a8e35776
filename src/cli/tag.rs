//! `rasid tag`.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use tonic::Status;

use super::{
    CliError,
    input::{self, InputFormat, InputOptions, Item, Unreadable},
    pretty, report,
};
use crate::{
    config::ModelSettings,
    grpc::{
        response,
        status::{CallError, to_rpc_status},
    },
    proto::{self, v1},
    tagger::{Analysis, Feature, Overflow, Plan, TagOptions, Tagger},
    text::{Document, OffsetUnit},
};

/// Documents tagged together: enough to fill batches, few enough that results come soon and memory stays small.
const GROUP: usize = 32;

#[derive(Debug, Args)]
pub struct TagArgs {
    /// Files to read, - for standard input. Text files hold one article each; .jsonl files one rasid.v1.Document a line.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelSettings,

    /// What the files hold.
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    input_format: InputFormat,

    /// The first line of a text file is the article's title.
    #[arg(long)]
    title_first: bool,

    /// How to print: one rasid.v1.DocumentResult a line in JSON, or for a person to read [default: pretty on a terminal, else
    /// json].
    #[arg(long, value_name = "FORMAT")]
    format: Option<OutputFormat>,

    /// Parts of the analysis, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "FEATURES")]
    features: Vec<FeatureArg>,

    /// Unit of offsets.
    #[arg(long, default_value = "code-point", value_name = "UNIT")]
    offset_unit: UnitArg,

    /// What to do with articles longer than one model window.
    #[arg(long, default_value = "window", value_name = "POLICY")]
    overflow: OverflowArg,

    /// One threshold for all topics and entities, 0 to 1.
    #[arg(long, value_name = "P")]
    min_probability: Option<f32>,

    /// Threshold of one topic, 0 to 1; may be given for several.
    #[arg(long = "threshold", value_name = "TOPIC=P", value_parser = threshold)]
    thresholds: Vec<(String, f32)>,

    /// Topics to answer for, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "TOPICS")]
    topics: Vec<String>,

    /// Entity types to answer with, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "TYPES")]
    entity_types: Vec<String>,

    /// Print the topics that are not assigned too.
    #[arg(long)]
    all_scores: bool,

    /// Print the sentences that speak most for each assigned topic.
    #[arg(long)]
    evidence: bool,

    /// Print the article's embedding (json only).
    #[arg(long)]
    embedding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Json,
    Pretty,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FeatureArg {
    Topics,
    Entities,
    Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnitArg {
    Utf8Byte,
    Utf16CodeUnit,
    CodePoint,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OverflowArg {
    /// Read all of it.
    Window,
    /// Read the first window.
    Truncate,
    /// Report an error.
    Reject,
}

fn threshold(text: &str) -> Result<(String, f32), String> {
    let (topic, value) = text.split_once('=').ok_or("write TOPIC=P, for example security=0.6")?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok((topic.to_owned(), value))
}

impl TagArgs {
    fn options(&self) -> TagOptions {
        let feature = |feature: &FeatureArg| match feature {
            FeatureArg::Topics => Feature::Topics,
            FeatureArg::Entities => Feature::Entities,
            FeatureArg::Language => Feature::Language,
        };
        TagOptions {
            features: self.features.iter().map(feature).collect(),
            overflow: match self.overflow {
                OverflowArg::Window => Overflow::Window,
                OverflowArg::Truncate => Overflow::Truncate,
                OverflowArg::Reject => Overflow::Reject,
            },
            min_probability: self.min_probability,
            topic_thresholds: self.thresholds.iter().cloned().collect(),
            topics: self.topics.clone(),
            entity_types: self.entity_types.clone(),
            include_all_scores: self.all_scores,
            include_evidence: self.evidence,
            include_embedding: self.embedding,
            required_model_version: String::new(),
        }
    }

    fn unit(&self) -> OffsetUnit {
        match self.offset_unit {
            UnitArg::Utf8Byte => OffsetUnit::Utf8Byte,
            UnitArg::Utf16CodeUnit => OffsetUnit::Utf16CodeUnit,
            UnitArg::CodePoint => OffsetUnit::CodePoint,
        }
    }
}

/// Tags the files' articles; the exit status is 1 if one has no analysis.
pub fn run(args: &TagArgs) -> Result<ExitCode, CliError> {
    rayon::ThreadPoolBuilder::new().num_threads(args.model.threads).build_global()?;
    let tagger = args.model.load()?;
    let plan = tagger.plan(&args.options())?;
    let default = if io::stdout().is_terminal() { OutputFormat::Pretty } else { OutputFormat::Json };
    let mut run = Run { tagger: &tagger, plan, args, format: args.format.unwrap_or(default), index: 0, tagged: 0 };
    let input = InputOptions { format: args.input_format, title_first: args.title_first };
    let mut documents = input::documents(&args.files, input);
    loop {
        let group: Vec<_> = documents.by_ref().take(GROUP).collect();
        if group.is_empty() {
            break;
        }
        run.tag(group)?;
    }
    if run.tagged < run.index {
        report(&format!("{} of {} documents have no analysis", run.index - run.tagged, run.index));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Run<'a> {
    tagger: &'a Tagger,
    plan: Plan,
    args: &'a TagArgs,
    format: OutputFormat,
    /// Documents so far, and how many of them have an analysis.
    index: u64,
    tagged: u64,
}

/// A document with its analysis, or the id of one that has none and why.
type Outcome = Result<(Document, Analysis), (String, CallError)>;

impl Run<'_> {
    /// Tags a group of documents and prints the results. A file that cannot be read is reported and counts as failed.
    fn tag(&mut self, group: Vec<Result<Item, CliError>>) -> Result<(), CliError> {
        let readable = |item: &Result<Item, CliError>| item.as_ref().ok()?.as_ref().ok().cloned();
        let documents: Vec<Document> = group.iter().filter_map(readable).collect();
        let mut analyses = self.tagger.tag(&documents, &self.plan).into_iter();
        for item in group {
            match item {
                Err(error) => report(&error.to_string()),
                Ok(Err(Unreadable { id, field, problem })) => {
                    self.print(Err((id, CallError::Field { field, problem })))?
                }
                Ok(Ok(document)) => match analyses.next() {
                    Some(Ok(analysis)) => self.print(Ok((document, analysis)))?,
                    Some(Err(error)) => {
                        let path = format!("documents[{}]", self.index);
                        self.print(Err((document.id, CallError::Engine { path, source: error.into() })))?;
                    }
                    None => {}
                },
            }
            self.index += 1;
        }
        Ok(())
    }

    fn print(&mut self, outcome: Outcome) -> Result<(), CliError> {
        self.tagged += u64::from(outcome.is_ok());
        let text = match self.format {
            OutputFormat::Json => proto::to_json("rasid.v1.DocumentResult", &self.result(outcome))? + "\n",
            OutputFormat::Pretty => match outcome {
                Ok((document, analysis)) => pretty::render(&document, &analysis, self.tagger.manifest()),
                Err((id, error)) => pretty::render_error(&id, &error.to_string()),
            },
        };
        anstream::stdout().lock().write_all(text.as_bytes()).map_err(CliError::Output)
    }

    fn result(&self, outcome: Outcome) -> v1::DocumentResult {
        let manifest = self.tagger.manifest();
        let (id, outcome) = match outcome {
            Ok((document, analysis)) => {
                let analysis = response::analysis(analysis, &document, self.args.unit(), manifest);
                (document.id, v1::document_result::Outcome::Analysis(analysis))
            }
            Err((id, error)) => (id, v1::document_result::Outcome::Error(to_rpc_status(&Status::from(error)))),
        };
        let model = Some(response::model_descriptor(manifest));
        v1::DocumentResult { id, index: self.index, outcome: Some(outcome), model }
    }
}
