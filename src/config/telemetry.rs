//! Settings of logs, metrics and traces.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use http::Uri;

/// What the server tells of itself.
#[derive(Debug, Clone, Args)]
pub struct TelemetrySettings {
    /// Address and port to offer Prometheus metrics on, over HTTP; nowhere unless given.
    #[arg(long, env = "RASID_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Form of the log, on standard error.
    #[arg(long, env = "RASID_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// What to log: error, warn, info, debug, trace, or a filter like "rasid=debug,h2=warn"; "info,rasid::access=warn" leaves the
    /// line of each call out. Never holds text of documents.
    #[arg(long, env = "RASID_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// Where to send traces: an OpenTelemetry collector that takes OTLP over gRPC without TLS, such as http://127.0.0.1:4317;
    /// nowhere unless given. Needs a build with the feature otlp.
    #[arg(long, env = "RASID_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Uri>,

    /// Part of the calls to trace, of those that come without a trace of their own; else the caller's decision is followed.
    #[arg(long, env = "RASID_OTLP_SAMPLING_RATIO", default_value = "1", value_name = "RATIO", value_parser = ratio)]
    pub otlp_sampling_ratio: f64,

    /// Name of this service in traces.
    #[arg(long, env = "RASID_OTLP_SERVICE_NAME", default_value = "rasid", value_name = "NAME")]
    pub otlp_service_name: String,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for a person.
    Text,
    /// One JSON object a line.
    Json,
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("it is no URL: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(uri),
        _ => Err("it must be http://HOST:PORT".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(format!("{text} is not in 0..=1")) }
}
