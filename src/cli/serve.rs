//! `rasid serve`.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use super::CliError;
use crate::{
    config::{LogFormat, ServeSettings},
    grpc,
};

/// Serves until SIGTERM or Ctrl-C.
pub fn run(settings: ServeSettings) -> Result<ExitCode, CliError> {
    start_log(&settings)?;
    quiet_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Computing has its own threads; these only move bytes.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let result = runtime.block_on(serve(settings));
    // A model that is still loading is of no use any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(settings: ServeSettings) -> Result<(), CliError> {
    let failed = |source| CliError::Listen { address: settings.listen, source };
    let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, model = %settings.model.model, "listening");
    Ok(grpc::serve(listener, settings, asked_to_stop()).await?)
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

fn start_log(settings: &ServeSettings) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| CliError::LogFilter(settings.log.clone(), error))?;
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Logs where a thread panicked, but not the message: that of a failed slice holds the text that was sliced.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "a thread panicked");
    }));
}
