//! Names of methods and codes, as metrics, logs and traces have them.

use tonic::Code;

/// The service and the name of a method, from a list, so that a caller cannot make metrics grow.
pub fn method(path: &str) -> (&'static str, &'static str) {
    const TAGGER: &str = "rasid.v1.TaggerService";
    const ADMIN: &str = "rasid.admin.v1.AdminService";
    match path {
        "/rasid.v1.TaggerService/Tag" => (TAGGER, "Tag"),
        "/rasid.v1.TaggerService/BatchTag" => (TAGGER, "BatchTag"),
        "/rasid.v1.TaggerService/StreamTag" => (TAGGER, "StreamTag"),
        "/rasid.v1.TaggerService/GetModelInfo" => (TAGGER, "GetModelInfo"),
        "/rasid.admin.v1.AdminService/ReloadModel" => (ADMIN, "ReloadModel"),
        "/rasid.admin.v1.AdminService/GetServerStatus" => (ADMIN, "GetServerStatus"),
        _ if path.starts_with("/grpc.health.v1.Health/") => ("grpc.health.v1.Health", "Health"),
        _ if path.starts_with("/grpc.reflection.") => ("grpc.reflection", "Reflection"),
        _ => ("other", "other"),
    }
}

/// Whether a method is called by machines that watch, many times a minute, with nothing to tell.
pub fn is_probe(method: &str) -> bool {
    matches!(method, "Health" | "Reflection")
}

/// As it is written in the gRPC specification.
pub fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Whether a code tells of a fault of the server, by the semantic conventions of OpenTelemetry.
pub fn is_server_fault(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}
