//! The command line: `rasid tag`, `rasid serve`, `rasid model`.

mod input;
mod model;
mod pretty;
mod serve;
mod tag;

use std::{io, path::PathBuf, process::ExitCode};

use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::{grpc::ServeError, model::ModelError, proto::JsonError, tagger::OptionsError};

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
    Serve(crate::config::ServeSettings),
    /// Look at model bundles, and make them.
    Model(model::ModelArgs),
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
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("{0:?} is not a log filter: {1}")]
    LogFilter(String, #[source] tracing_subscriber::filter::ParseError),
    #[error("cannot start the compute threads: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl CliError {
    /// What to do about it, where that is not plain.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Model(ModelError::Read { .. }) | Self::Serve(ServeError::Model(ModelError::Read { .. })) => {
                Some("name the folder of a model bundle, or hf:ORG/NAME@REVISION, with --model or RASID_MODEL")
            }
            Self::Model(ModelError::Size { .. } | ModelError::Checksum { .. })
            | Self::Serve(ServeError::Model(ModelError::Size { .. } | ModelError::Checksum { .. })) => {
                Some("fetch the model again")
            }
            Self::Listen { .. } => Some("choose another address with --listen"),
            _ => None,
        }
    }
}

/// Runs the command that the process was started with; the exit status is 0 if all went well, 1 if something failed, 2 for a wrong
/// command line.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Tag(args) => tag::run(&args),
        Command::Serve(settings) => serve::run(settings),
        Command::Model(args) => model::run(&args),
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
            ExitCode::FAILURE
        }
    }
}

/// Tells the user on standard error that something failed.
fn report(message: &str) {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    eprintln!("{red}error:{red:#} {message}");
}
