//! The trace that a call belongs to: W3C Trace Context, as a caller sends it along.

use http::HeaderMap;

/// The trace id of `traceparent`; none if there is no such header, or it is not as the specification says.
pub fn trace_id(headers: &HeaderMap) -> Option<String> {
    let header = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = header.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let fits = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    // Later versions may add parts at the end; ff is none.
    let is_known = version != "ff" && (version != "00" || parts.next().is_none());
    (fits && is_known && !is_zero(trace) && !is_zero(parent)).then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(header: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", header.parse().unwrap());
        trace_id(&headers)
    }

    #[test]
    fn reads_the_trace() {
        for header in [
            format!("00-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-00"),
            format!("01-{TRACE}-b7ad6b7169203331-01-what-is-to-come"),
        ] {
            assert_eq!(of(&header).as_deref(), Some(TRACE), "{header}");
        }
    }

    #[test]
    fn ignores_what_is_none() {
        let zero = "0".repeat(32);
        for header in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{zero}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-b7ad6b7169203331"),
        ] {
            assert_eq!(of(&header), None, "{header}");
        }
    }
}
