//! Logs and traces of the process. What they hold: names, numbers, ids; never the text of a document.

#[cfg(feature = "otlp")]
pub(crate) mod otlp;

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::ParseError,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{Contradiction, LogFormat, TelemetrySettings};

/// Why logs or traces could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter of the log cannot be read.
    #[error("{filter:?} is not a log filter: {source}")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Traces are asked of a program that cannot send them.
    #[error("otlp_endpoint is set, but {0}")]
    NoOtlp(#[from] Contradiction),
    /// Traces cannot be sent.
    #[cfg(feature = "otlp")]
    #[error("cannot send traces: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// There is a log already.
    #[error("cannot start the log: {0}")]
    Init(#[from] TryInitError),
}

/// The logs and traces of the process, until [`Telemetry::end`].
#[derive(Debug)]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<otlp::Traces>,
}

impl Telemetry {
    /// Starts both, and takes panics into the log. Traces are sent by the runtime that this is called in.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn start(settings: &TelemetrySettings) -> Result<Self, TelemetryError> {
        settings.check()?;
        let filter = EnvFilter::try_new(&settings.log)
            .map_err(|source| TelemetryError::Filter { filter: settings.log.clone(), source })?;
        let log = log(settings.log_format).with_filter(filter);
        #[cfg(feature = "otlp")]
        let traces = settings.otlp_endpoint.as_ref().map(|at| otlp::Traces::start(at, settings)).transpose()?;
        #[cfg(feature = "otlp")]
        let this = {
            let layer = traces.as_ref().map(otlp::Traces::layer);
            tracing_subscriber::registry().with(log).with(layer).try_init()?;
            Self { traces }
        };
        #[cfg(not(feature = "otlp"))]
        let this = {
            tracing_subscriber::registry().with(log).try_init()?;
            Self {}
        };
        quiet_panics();
        Ok(this)
    }

    /// Sends what is left to send. Blocks for a few seconds at the most; the runtime must still be there.
    pub fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
}

/// Lines on standard error.
fn log<S: Subscriber + for<'a> LookupSpan<'a>>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync> {
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

/// Logs where a thread panicked, but not the message: that of a failed slice holds the text that was sliced.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "a thread panicked");
    }));
}
