//! The one place where failures become gRPC statuses.

use std::{collections::HashMap, fmt, time::Duration};

use prost::Message;
use thiserror::Error;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt, pb};

use super::{auth::AccessError, observe::request_id};
use crate::{
    auth::{LimitError, Rate},
    engine::{EngineError, ReloadError},
    tagger::{DocumentError, OptionsError},
};

/// The `domain` of every `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "rasid.dev";

/// Milliseconds that a client is to wait before it tries again.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Advice to a caller that comes while the model loads or the server shuts down.
const NOT_READY_RETRY: Duration = Duration::from_secs(1);

/// Why a call, or one document of it, has no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// A field of the request cannot be used.
    #[error("{field} {problem}")]
    Field {
        /// Its path in the request.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The options do not fit the model.
    #[error("{} {source}", source.field())]
    Options {
        /// What is wrong with them.
        #[from]
        source: OptionsError,
    },
    /// More documents than a batch may hold.
    #[error(
        "documents holds {actual} documents, at most {limit} are allowed in one batch: send several, or use StreamTag"
    )]
    BatchTooLarge {
        /// Most documents.
        limit: usize,
        /// Documents in the request.
        actual: usize,
    },
    /// A request larger than a message may be.
    #[error("the request is {actual} bytes long, at most {limit} are allowed")]
    RequestTooLarge {
        /// Most bytes.
        limit: usize,
        /// Bytes of the request.
        actual: usize,
    },
    /// There is no valid key.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The key allows no more.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A stream in which nothing happened.
    #[error("nothing was sent for {} s", limit.as_secs())]
    StreamIdle {
        /// How long a stream may be silent.
        limit: Duration,
    },
    /// A client that does not take its results.
    #[error("what was ready was not taken for {} s", limit.as_secs())]
    Stalled {
        /// How long it may wait.
        limit: Duration,
    },
    /// A request that does not come to an end.
    #[error("the request was not complete after {} s", limit.as_secs())]
    UploadTooSlow {
        /// How long it may take.
        limit: Duration,
    },
    /// The model is not there yet.
    #[error("the model is loading")]
    Loading,
    /// The server takes nothing new.
    #[error("the server is shutting down")]
    Draining,
    /// The engine has no analysis of the document at this path.
    #[error("{path}: {source}")]
    Engine {
        /// Path of the document in the request.
        path: String,
        /// Why.
        source: EngineError,
    },
    /// There is no new model.
    #[error("the model stays as it is: {0}")]
    Reload(#[from] ReloadError),
}

impl CallError {
    /// Whether this is one document's fault, to be told in its result and not to the whole call.
    pub fn is_documents_own(&self) -> bool {
        match self {
            Self::Engine { source, .. } => matches!(source, EngineError::Document(_) | EngineError::Panicked),
            _ => false,
        }
    }
}

impl From<&CallError> for Status {
    fn from(error: &CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Field { field, problem } => bad_request(message, field, problem),
            CallError::Options { source } => options_status(message, source),
            CallError::BatchTooLarge { limit, actual } => {
                too_large(message, "BATCH_TOO_LARGE", *limit, *actual, "documents")
            }
            CallError::RequestTooLarge { limit, actual } => {
                too_large(message, "REQUEST_TOO_LARGE", *limit, *actual, "bytes")
            }
            CallError::Access(error) => {
                Status::with_error_details(Code::Unauthenticated, message, error_info(error.reason(), []))
            }
            CallError::Limit(error) => limit_status(message, error),
            CallError::StreamIdle { limit } => idle_status("STREAM_IDLE", message, *limit),
            CallError::Stalled { limit } => idle_status("CLIENT_STALLED", message, *limit),
            CallError::UploadTooSlow { limit } => idle_status("UPLOAD_TOO_SLOW", message, *limit),
            CallError::Loading | CallError::Draining => retry(Code::Unavailable, message, NOT_READY_RETRY),
            CallError::Engine { path, source } => engine_status(message, path, source),
            CallError::Reload(error) => reload_status(message, error),
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        Self::from(&error)
    }
}

fn engine_status(message: String, path: &str, error: &EngineError) -> Status {
    match error {
        EngineError::QueueFull { retry_after } | EngineError::MemoryFull { retry_after } => {
            retry(Code::ResourceExhausted, error.to_string(), *retry_after)
        }
        EngineError::DeadlineExceeded => Status::deadline_exceeded(error.to_string()),
        EngineError::Stopped => retry(Code::Unavailable, error.to_string(), NOT_READY_RETRY),
        EngineError::Panicked => internal(path, error),
        EngineError::Document(document) => match document {
            DocumentError::Blank => {
                let field = format!("{path}.text");
                bad_request(format!("{field} {document}"), &field, &document.to_string())
            }
            DocumentError::FieldTooLong { field, .. } => {
                let field = format!("{path}.{field}");
                bad_request(format!("{field} {document}"), &field, &document.to_string())
            }
            DocumentError::TooManyBytes { limit, actual } => {
                too_large(message, "DOCUMENT_TOO_LARGE", *limit, *actual, "bytes")
            }
            DocumentError::TooManyTokens { limit, actual } => {
                too_large(message, "DOCUMENT_TOO_LARGE", *limit, *actual, "tokens")
            }
            DocumentError::Tokenizer(_) | DocumentError::Inference(_) => internal(path, error),
        },
    }
}

/// What a key does not allow: never, or not now.
fn limit_status(message: String, error: &LimitError) -> Status {
    let rate = |rate: &Rate, unit: &str| {
        [("limit", rate.per_second.to_string()), ("burst", rate.burst.to_string()), ("unit", unit.to_owned())]
    };
    let (details, retry_after) = match error {
        LimitError::Batch { limit, actual } => {
            return too_large(message, "BATCH_TOO_LARGE", *limit as usize, *actual, "documents");
        }
        LimitError::Calls { rate: allowed, retry_after } => {
            (error_info("CALL_RATE_EXCEEDED", rate(allowed, "calls per second")), retry_after)
        }
        LimitError::Documents { rate: allowed, actual, retry_after } => {
            let [limit, burst, unit] = rate(allowed, "documents per second");
            let actual = ("actual", actual.to_string());
            (error_info("DOCUMENT_RATE_EXCEEDED", [limit, burst, actual, unit]), retry_after)
        }
        LimitError::ConcurrentCalls { limit, actual, retry_after } => {
            let metadata = [("limit", limit.to_string()), ("actual", actual.to_string()), ("unit", "calls".to_owned())];
            (error_info("CONCURRENT_CALLS_EXCEEDED", metadata), retry_after)
        }
    };
    come_back(Code::ResourceExhausted, message, details, *retry_after)
}

/// A call that was given up since the client did nothing, or too slowly: it may begin anew.
fn idle_status(reason: &str, message: String, limit: Duration) -> Status {
    let metadata = [("limit", limit.as_secs().to_string()), ("unit", "seconds".to_owned())];
    Status::with_error_details(Code::Aborted, message, error_info(reason, metadata))
}

fn options_status(message: String, error: &OptionsError) -> Status {
    match error {
        OptionsError::ModelVersion { required, actual } => {
            let metadata = [("required", required.clone()), ("actual", actual.clone())];
            let details = error_info("MODEL_VERSION_MISMATCH", metadata);
            Status::with_error_details(Code::FailedPrecondition, message, details)
        }
        _ => bad_request(message, error.field(), &error.to_string()),
    }
}

fn reload_status(message: String, error: &ReloadError) -> Status {
    let reason = match error {
        ReloadError::Busy => "MODEL_LOAD_BUSY",
        ReloadError::Model(_) | ReloadError::Start(_) => "MODEL_UNUSABLE",
        ReloadError::Panicked => return defect(error),
    };
    Status::with_error_details(Code::FailedPrecondition, message, error_info(reason, []))
}

fn bad_request(message: String, field: &str, problem: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, problem);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn too_large(message: String, reason: &str, limit: usize, actual: usize, unit: &str) -> Status {
    let metadata = [("limit", limit.to_string()), ("actual", actual.to_string()), ("unit", unit.to_owned())];
    Status::with_error_details(Code::InvalidArgument, message, error_info(reason, metadata))
}

fn error_info<const N: usize>(reason: &str, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata)
}

fn retry(code: Code, message: String, after: Duration) -> Status {
    come_back(code, message, ErrorDetails::new(), after)
}

/// Tells twice when to come back: in a detail for the caller's code, and for clients whose gRPC retries by itself (proposal A6).
fn come_back(code: Code, message: String, mut details: ErrorDetails, after: Duration) -> Status {
    details.set_retry_info(Some(after));
    let mut metadata = MetadataMap::new();
    metadata.insert(PUSHBACK, MetadataValue::from(after.as_millis() as u64));
    Status::with_error_details_and_metadata(code, message, details, metadata)
}

/// A defect of ours: the caller learns the id of its call, the log under that id what happened.
fn internal(path: &str, error: &EngineError) -> Status {
    defect(format_args!("{path}: {error}"))
}

/// As [`internal`], for what is no document's.
pub fn defect(what: impl fmt::Display) -> Status {
    let id = request_id();
    tracing::error!(request_id = %id, what = %what, "internal error");
    let details = ErrorDetails::with_request_info(id.to_string(), "");
    Status::with_error_details(Code::Internal, "internal error", details)
}

/// The same status as it stands in a result: `google.rpc.Status`.
pub fn to_rpc_status(status: &Status) -> pb::Status {
    pb::Status::decode(status.details()).ok().filter(|decoded| decoded.code != 0).unwrap_or_else(|| pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
