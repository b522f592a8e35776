//! The span of a call, after the semantic conventions of OpenTelemetry for RPC.

use http::HeaderMap;
use tonic::Code;
use tracing::{Span, field::Empty};

use super::{names, record::Record};

/// Opens the span of a call, within the trace of the caller if it sent one along.
pub fn open(record: &mut Record, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "call",
        otel.name = format_args!("{}/{}", record.service, record.method),
        otel.kind = "server",
        otel.status_code = Empty,
        request_id = %record.id,
    );
    #[cfg(feature = "otlp")]
    if let Some(trace) = crate::telemetry::otlp::adopt(&span, headers) {
        record.trace = Some(trace);
    }
    #[cfg(not(feature = "otlp"))]
    let _ = headers;
    span
}

/// Notes what is known at the end of a call.
pub fn close(span: &Span, record: &Record, code: Code) {
    if names::is_server_fault(code) {
        span.record("otel.status_code", "ERROR");
    }
    #[cfg(feature = "otlp")]
    crate::telemetry::otlp::describe(
        span,
        [
            ("rpc.system", "grpc".into()),
            ("rpc.service", record.service.into()),
            ("rpc.method", record.method.into()),
            ("rpc.grpc.status_code", i64::from(code as i32).into()),
            ("rasid.key", record.key().to_string().into()),
            ("rasid.documents", (record.documents() as i64).into()),
            ("rasid.tokens", (record.tokens() as i64).into()),
        ],
    );
    #[cfg(not(feature = "otlp"))]
    let _ = record;
}
