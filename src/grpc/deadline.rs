//! The deadline that a client sends along.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::{Request, Status};

/// Time kept back from the client's budget: tonic itself answers CANCELLED when it has run out, and we answer
/// DEADLINE_EXCEEDED before that.
const MARGIN: Duration = Duration::from_millis(25);

/// When the answer must be on its way.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

/// Notes the deadline of a call when its headers arrive: reading a large message takes a part of the client's budget, too.
///
/// # Errors
/// None; the type is that of tonic's interceptors.
pub fn note_deadline(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(at) = from_now(request.metadata().as_ref()) {
        request.extensions_mut().insert(Deadline(at));
    }
    Ok(request)
}

/// The deadline that [`note_deadline`] noted; `None` if the client sets none.
pub fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(|deadline| deadline.0)
}

/// Now and the `grpc-timeout` header, less the margin. A header that cannot be read counts as none, as in tonic.
pub(super) fn from_now(headers: &HeaderMap) -> Option<Instant> {
    let timeout = parse(headers.get("grpc-timeout")?.to_str().ok()?)?;
    Instant::now().checked_add(timeout.saturating_sub(MARGIN.min(timeout / 10)))
}

/// Reads `TimeoutValue TimeoutUnit` of the gRPC over HTTP/2 specification: at most eight digits and one of H M S m u n.
fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn ignores_what_is_no_timeout() {
        for header in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "é"] {
            assert_eq!(parse(header), None, "{header}");
        }
    }
}
