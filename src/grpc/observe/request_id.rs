//! The id of a call, by which a caller and the log speak of the same one.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where a caller may give its own id, and where it finds the id of the answer.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a caller, in bytes.
const MAX_BYTES: usize = 128;

/// The id of a call: ASCII letters, digits and `-_.:`, so that it cannot break a line of the log. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's, if it is sane; else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
        given.filter(|id| is_sane(id)).map_or_else(Self::new, |id| Self(id.into()))
    }

    /// One that no other call has: 128 random bits.
    pub fn new() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)).into())
    }

    /// As it stands in the header.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_sane(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value).unwrap());
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn takes_what_is_sane() {
        for id in ["a", "7f3c-11ee:2.b_9", "x".repeat(128).as_str()] {
            assert_eq!(of(id.as_bytes()), id);
        }
    }

    #[test]
    fn makes_one_where_there_is_none() {
        let long = "x".repeat(129);
        for id in ["", " ", "a b", "a\tb", "{\"a\":1}", "مرحبا", "a\"", "%0a", long.as_str()] {
            let made = of(id.as_bytes());
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}: {made}");
        }
        assert_ne!(RequestId::new(), RequestId::new());
    }
}
