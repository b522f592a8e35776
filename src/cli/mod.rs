//! The command line: `rasid tag`, `rasid serve`, `rasid eval`, `rasid model`, `rasid key`, `rasid bench`.

mod bench;
mod calibrate;
mod eval;
mod health;
mod input;
mod key;
mod model;
mod pretty;
mod serve;
mod tag;

use std::{env, ffi::OsString, io, path::PathBuf, process::ExitCode};

use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use thiserror::Error;

use self::input::{InputFormat, InputOptions, Unreadable};
use crate::{
    auth::{KeyError, Problem},
    calibration::CalibrationError,
    config::ConfigError,
    engine::ReloadError,
    eval::EvalError,
    grpc::ServeError,
    model::ModelError,
    proto::JsonError,
    tagger::{DocumentError, InferenceError, OptionsError},
    telemetry::TelemetryError,
    text::Document,
};

/// Reads news articles in about a hundred languages: which topics they are about (calibrated probabilities) and whom they name
/// (people, organisations, places, other names, with exact offsets).
#[derive(Debug, Parser)]
#[command(name = "rasid", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tag articles here, without a server.
    Tag(tag::TagArgs),
    /// Serve over gRPC.
    Serve(Box<serve::ServeArgs>),
    /// Score a model on annotated data, by the same code that serves.
    Eval(eval::EvalArgs),
    /// Ask a server whether it serves, as an orchestrator does; the exit status is the answer.
    Health(health::HealthArgs),
    /// Look at model bundles, and make them.
    Model(model::ModelArgs),
    /// Make keys for clients, and check a keys file.
    Key(key::KeyArgs),
    /// Measure how fast it is on this machine.
    Bench(bench::BenchArgs),
}

/// Why a command failed.
#[derive(Debug, Error)]
enum CliError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{} {source}", source.field())]
    Options {
        #[from]
        source: OptionsError,
    },
    #[error("cannot read {}: {source}", path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    #[error("cannot write a result as JSON: {0}")]
    Json(#[from] JsonError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot listen on the socket that systemd has handed over: {0}")]
    Activation(#[source] io::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Health(#[from] health::HealthError),
    #[error("cannot start the compute threads: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{}: {} {}", .0.id, .0.field, .0.problem)]
    Unreadable(Unreadable),
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error("nothing to evaluate: name files with --ner, --topics or --articles")]
    NothingToEvaluate,
    #[error("no documents in the files")]
    NoDocuments,
    #[error(transparent)]
    Document(DocumentError),
    #[error(transparent)]
    Inference(InferenceError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{0}")]
    KeyName(#[source] Problem),
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[source] getrandom::Error),
    #[error("cannot reach the server: {0}")]
    Connect(#[source] tonic::transport::Error),
    #[error("cannot write the figures as JSON: {0}")]
    Figures(#[source] serde_json::Error),
    #[error("{} is no JSON list of lengths: {source}", path.display())]
    Lengths { path: PathBuf, source: serde_json::Error },
}

impl CliError {
    /// What to do about it, where that is not plain.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Model(ModelError::Read { .. })
            | Self::Serve(ServeError::Model(ReloadError::Model(ModelError::Read { .. }))) => {
                Some("name the folder of a model bundle, or hf:ORG/NAME@REVISION, with --model or RASID_MODEL")
            }
            Self::Model(ModelError::Size { .. } | ModelError::Checksum { .. })
            | Self::Serve(ServeError::Model(ReloadError::Model(
                ModelError::Size { .. } | ModelError::Checksum { .. },
            ))) => Some("fetch the model again"),
            Self::Listen { .. } => Some("choose another address with --listen"),
            _ => None,
        }
    }
}

/// Runs the command that the process was started with; the exit status is 0 if all went well, 1 if something failed, 2 for a wrong
/// command line or settings.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let (command, layers) = match serve::lay_settings(Cli::command(), &arguments) {
        Ok(laid) => laid,
        Err(error) => {
            report(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let matches = command.clone().get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Tag(args) => tag::run(&args),
        Command::Serve(args) => serve::run(*args, &command, &matches, &layers),
        Command::Eval(args) => eval::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(code) => code,
        // Whoever reads the output has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            report(&error.to_string());
            if let Some(hint) = error.hint() {
                eprintln!("  {hint}");
            }
            ExitCode::from(if matches!(error, CliError::Settings(_)) { 2 } else { 1 })
        }
    }
}

/// Tells the user on standard error that something failed.
fn report(message: &str) {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    eprintln!("{red}error:{red:#} {message}");
}

/// All documents of some files, for commands that want them all at once.
fn documents(files: &[PathBuf]) -> Result<Vec<Document>, CliError> {
    let options = InputOptions { format: InputFormat::Auto, title_first: false };
    let documents = input::documents(files, options).map(|item| item?.map_err(CliError::Unreadable));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    if documents.is_empty() { Err(CliError::NoDocuments) } else { Ok(documents) }
}
