//! What the service counts and times, as Prometheus reads it. Nothing is kept unless [`serve`] has installed the recorder.

pub mod security;

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use thiserror::Error;
use tokio::time::Instant;

/// How often the figures of the process are looked at.
const PROCESS_INTERVAL: Duration = Duration::from_secs(5);

/// Seconds: from a headline on an idle machine to a batch of a thousand articles.
const SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Seconds of splitting a document: from a headline to the largest document.
const TOKENIZE_SECONDS: [f64; 11] = [0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Tokens of a batch, up to the largest budget.
const TOKENS: [f64; 11] = [32.0, 64.0, 128.0, 256.0, 512.0, 768.0, 1024.0, 2048.0, 4096.0, 16_384.0, 65_536.0];

/// Parts of a batch's budget.
const PARTS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// The figures could not be offered.
#[derive(Debug, Error)]
#[error("cannot offer metrics on {address}: {source}")]
pub struct MetricsError {
    address: SocketAddr,
    source: BuildError,
}

/// Installs the recorder and returns the work of answering `GET /metrics` at an address. Must be called within a runtime.
///
/// # Errors
/// If the address cannot be used, or a recorder is installed already.
pub fn serve(address: SocketAddr) -> Result<impl Future<Output = ()> + Send, MetricsError> {
    let failed = |source| MetricsError { address, source };
    let builder = PrometheusBuilder::new().with_http_listener(address);
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS).map_err(failed)?;
    let builder = [
        ("rasid_tokenize_seconds", &TOKENIZE_SECONDS[..]),
        ("rasid_batch_tokens", &TOKENS),
        ("rasid_batch_fill", &PARTS),
    ]
    .into_iter()
    .try_fold(builder, |builder, (name, buckets)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
    })
    .map_err(failed)?;
    let (recorder, exporter) = builder.build().map_err(failed)?;
    metrics::set_global_recorder(recorder).map_err(|error| failed(error.into()))?;
    describe();
    security::begin();
    gauge!("rasid_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let process = metrics_process::Collector::default();
    process.describe();
    Ok(async move {
        let figures = async {
            loop {
                process.collect();
                tokio::time::sleep(PROCESS_INTERVAL).await;
            }
        };
        tokio::select! {
            () = figures => {}
            ended = exporter => if let Err(error) = ended {
                tracing::error!(?error, "metrics are no longer offered");
            }
        }
    })
}

fn describe() {
    describe_counter!("rasid_requests_total", Unit::Count, "Calls that have ended, by method, status code and key.");
    describe_gauge!("rasid_requests_in_flight", Unit::Count, "Calls that have not ended, by method.");
    describe_histogram!("rasid_request_seconds", Unit::Seconds, "Time of a call, by method.");
    describe_counter!("rasid_documents_received_total", Unit::Count, "Documents that have come to the engine, by key.");
    describe_counter!(
        "rasid_documents_total",
        Unit::Count,
        "Documents that have left the engine, by outcome and key: each that came, once; answered, whether or not its caller took it."
    );
    describe_counter!(
        "rasid_refused_total",
        Unit::Count,
        "Calls refused for want of room, or streams ended, by what there was no room in (queue, memory) and key."
    );
    describe_counter!(
        "rasid_tokens_saved_total",
        Unit::Count,
        "Tokens that the model was spared, since nobody waited for them any more, by reason; estimated for documents not yet read."
    );
    describe_histogram!("rasid_document_seconds", Unit::Seconds, "From a document's arrival to its answer, by lane.");
    describe_histogram!("rasid_tokenize_seconds", Unit::Seconds, "Finding a document's sentences, tokens and windows.");
    describe_histogram!("rasid_queue_seconds", Unit::Seconds, "A document's waiting, by lane.");
    describe_histogram!("rasid_inference_seconds", Unit::Seconds, "The batches that held a document's windows.");
    describe_counter!("rasid_windows_total", Unit::Count, "Windows that the model has read.");
    describe_counter!("rasid_tokens_total", Unit::Count, "Tokens that the model has read, special tokens included.");
    describe_histogram!("rasid_batch_tokens", Unit::Count, "Tokens of a batch.");
    describe_histogram!("rasid_batch_fill", "Part of its token budget that a batch holds.");
    describe_gauge!(
        "rasid_queue_tokens",
        Unit::Count,
        "Tokens admitted and not answered, by an estimate from their bytes."
    );
    describe_gauge!("rasid_queue_capacity_tokens", Unit::Count, "Tokens that may be admitted at a time.");
    describe_gauge!("rasid_held_bytes", Unit::Bytes, "Bytes of requests and answers that calls hold.");
    describe_gauge!("rasid_held_capacity_bytes", Unit::Bytes, "Bytes beyond which new calls are refused.");
    describe_gauge!("rasid_build_info", "1, with the version of the program.");
    describe_gauge!(
        "rasid_model_info",
        "1 for the model that answers, 0 for those before it, with name, version and revision."
    );
    describe_gauge!(
        "rasid_model_loaded_timestamp_seconds",
        Unit::Seconds,
        "When the model was last loaded, or found to be the one that its source holds, in Unix time."
    );
    security::describe();
}

/// How a document left the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an analysis.
    Answered,
    /// With an error of its own.
    Failed,
    /// With a defect of ours.
    Defect,
    /// Not admitted: the queue was full.
    Refused,
    /// The engine was shutting down.
    Stopped,
    /// Its deadline passed.
    Expired,
    /// Its caller went away.
    Cancelled,
}

impl Outcome {
    /// As it stands in the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Defect => "defect",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A call has come in.
pub fn request_started(method: &'static str) {
    gauge!("rasid_requests_in_flight", "method" => method).increment(1);
}

/// A call has ended; `key` is the name of whoever called.
pub fn request_ended(method: &'static str, code: &'static str, key: &Arc<str>, elapsed: Duration) {
    gauge!("rasid_requests_in_flight", "method" => method).decrement(1);
    counter!("rasid_requests_total", "method" => method, "code" => code, "key" => Arc::clone(key)).increment(1);
    histogram!("rasid_request_seconds", "method" => method).record(elapsed);
}

/// A document has come to the engine.
pub fn document_received(key: Arc<str>) {
    counter!("rasid_documents_received_total", "key" => key).increment(1);
}

/// A document has left the engine.
pub fn document(outcome: Outcome, key: Arc<str>) {
    counter!("rasid_documents_total", "outcome" => outcome.name(), "key" => key).increment(1);
}

/// What there is only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// Tokens that wait.
    Queue,
    /// Bytes that calls hold.
    Memory,
}

impl Scarce {
    /// As it stands in the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Memory => "memory",
        }
    }
}

/// A call found no room.
pub fn refused(scarce: Scarce, key: Arc<str>) {
    counter!("rasid_refused_total", "reason" => scarce.name(), "key" => key).increment(1);
}

/// Why work was dropped before it was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// The deadline passed.
    Expired,
    /// The caller went away.
    Cancelled,
    /// Another part of the document failed.
    Failed,
}

impl Unwanted {
    /// Why a caller with this deadline does not wait any more.
    pub fn by(deadline: Option<Instant>) -> Self {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) { Self::Expired } else { Self::Cancelled }
    }

    /// As it stands in the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Tokens were not computed.
pub fn tokens_saved(reason: Unwanted, tokens: usize) {
    counter!("rasid_tokens_saved_total", "reason" => reason.name()).increment(tokens as u64);
}

/// A document was answered; where its time went.
pub fn stages(lane: &'static str, total: Duration, tokenize: Duration, queue: Duration, inference: Duration) {
    histogram!("rasid_document_seconds", "lane" => lane).record(total);
    histogram!("rasid_tokenize_seconds").record(tokenize);
    histogram!("rasid_queue_seconds", "lane" => lane).record(queue);
    histogram!("rasid_inference_seconds").record(inference);
}

/// The model has read a batch.
pub fn batch(windows: usize, tokens: usize, budget: usize) {
    counter!("rasid_windows_total").increment(windows as u64);
    counter!("rasid_tokens_total").increment(tokens as u64);
    histogram!("rasid_batch_tokens").record(tokens as f64);
    histogram!("rasid_batch_fill").record(tokens as f64 / budget as f64);
}

/// How much the queue can hold.
pub fn queue_capacity(tokens: usize) {
    gauge!("rasid_queue_capacity_tokens").set(tokens as f64);
}

/// Room in the queue was taken.
pub fn queue_taken(tokens: usize) {
    gauge!("rasid_queue_tokens").increment(tokens as f64);
}

/// Room in the queue was given back.
pub fn queue_given_back(tokens: usize) {
    gauge!("rasid_queue_tokens").decrement(tokens as f64);
}

/// How many bytes calls may hold.
pub fn held_limit(bytes: usize) {
    gauge!("rasid_held_capacity_bytes").set(bytes as f64);
}

/// Calls hold so many bytes more.
pub fn held(more: f64) {
    gauge!("rasid_held_bytes").increment(more);
}

/// A model answers from now on, or no longer.
pub fn model(name: &str, version: &str, revision: &str, answers: bool) {
    let labels =
        [("name", name), ("version", version), ("revision", revision)].map(|(key, value)| (key, value.to_owned()));
    gauge!("rasid_model_info", &labels).set(if answers { 1.0 } else { 0.0 });
}

/// The model is the one that its source holds now.
pub fn model_loaded() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("rasid_model_loaded_timestamp_seconds").set(now.as_secs_f64());
}
