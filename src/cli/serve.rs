//! `rasid serve`.

use std::{ffi::OsString, net, path::PathBuf, process::ExitCode, time::Duration};

use anstream::{eprintln, println};
use clap::{ArgMatches, Args, Command};
use tokio::net::TcpListener;

use super::CliError;
use crate::{
    config::{ConfigError, Layers, ServeSettings, unknown_variables},
    grpc, systemd,
    telemetry::Telemetry,
};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Settings in TOML, each named as its flag with underscores. The environment comes before the file, flags before both.
    #[arg(long, env = "RASID_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the settings it would run with, each with where it comes from, and end.
    #[arg(long)]
    print_config: bool,

    #[command(flatten)]
    settings: ServeSettings,
}

/// Lays the settings of the file and the environment under the flags of `serve`, if that is what is called.
pub fn lay_settings(command: Command, arguments: &[OsString]) -> Result<(Command, Layers), ConfigError> {
    let probe = command.clone().ignore_errors(true).try_get_matches_from(arguments).ok();
    let Some((called, serve)) = probe.as_ref().and_then(of_serve).zip(command.find_subcommand("serve")) else {
        return Ok((command, Layers::default()));
    };
    let file = called.get_one::<PathBuf>("config");
    let (serve, layers) = Layers::lay(serve.clone(), file.map(PathBuf::as_path))?;
    Ok((command.mut_subcommand("serve", |_| serve), layers))
}

fn of_serve(matches: &ArgMatches) -> Option<&ArgMatches> {
    matches.subcommand_matches("serve")
}

/// Serves until SIGTERM or Ctrl-C, or prints the settings.
pub fn run(args: ServeArgs, command: &Command, matches: &ArgMatches, layers: &Layers) -> Result<ExitCode, CliError> {
    let command = command.find_subcommand("serve").unwrap_or(command);
    let settings = args.settings;
    let effective = layers.effective(command, of_serve(matches).unwrap_or(matches));
    let contradiction = settings.check().err();
    if args.print_config || contradiction.is_some() {
        // One that is misspelt may be why something is not set.
        for name in unknown_variables(command) {
            eprintln!("warning: there is no setting for the variable {name}");
        }
    }
    if let Some(problem) = contradiction {
        return Err(ConfigError::contradiction(problem, effective).into());
    }
    if args.print_config {
        for setting in effective {
            println!("{setting}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let handed_over = systemd::listener().map_err(CliError::Activation)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Computing has its own threads; these only move bytes.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    // Traces are sent by the runtime.
    let telemetry = runtime.block_on(async { Telemetry::start(&settings.telemetry) })?;
    for name in unknown_variables(command) {
        tracing::warn!(name, "there is no setting for this variable");
    }
    let result = runtime.block_on(serve(handed_over, settings));
    telemetry.end();
    // A model that is still loading is of no use any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(handed_over: Option<net::TcpListener>, settings: ServeSettings) -> Result<(), CliError> {
    let failed = |source| CliError::Listen { address: settings.listen, source };
    let listener = match handed_over {
        Some(listener) => TcpListener::from_std(listener).map_err(failed)?,
        None => TcpListener::bind(settings.listen).await.map_err(failed)?,
    };
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, model = %settings.model.model, "listening");
    tokio::select! {
        served = grpc::serve(listener, settings, asked_to_stop()) => Ok(served?),
        () = systemd::watchdog() => Ok(()),
    }
}

async fn asked_to_stop() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
