//! Until when a certificate is valid, for the metric that warns of its end. rustls checks certificates of others and does not tell of ours.

use crate::time::days;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// Seconds from 1970 to the end of a certificate's validity; `None` if it is no X.509 certificate in DER (RFC 5280, section 4.1).
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(certificate, SEQUENCE)?;
    // Not there in version 1.
    let fields = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_serial, fields) = element(fields, INTEGER)?;
    let (_signature, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_not_before, validity) = time(validity)?;
    time(validity).map(|(not_after, _)| not_after)
}

/// The contents of an element, and what comes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        // So many bytes of length follow; more than three are no certificate.
        0x81..=0x83 => {
            let (length, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), bytes)
        }
        _ => return None,
    };
    (found == tag).then(|| bytes.split_at_checked(length))?
}

/// Seconds from 1970 to a time, and what comes after it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (year_digits, (text, rest)) = match element(bytes, UTC_TIME) {
        Some(element) => (2, element),
        None => (4, element(bytes, GENERALIZED_TIME)?),
    };
    let (year, text) = number(text, year_digits)?;
    // RFC 5280: two digits stand for 1950 to 2049.
    let year = match (year_digits, year) {
        (2, 50..) => 1900 + year,
        (2, _) => 2000 + year,
        _ => year,
    };
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    (text == b"Z").then_some((days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second, rest))
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    std::str::from_utf8(number).ok()?.parse().ok().map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn ending(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(1990, 1, 1);
        params.not_after = date_time_ymd(year, 2, 28);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_either_form() {
        // Two digits until 2049, four from then on.
        for year in [1999, 2024, 2049, 2050, 2100] {
            assert_eq!(not_after(&ending(year)), Some(days(i64::from(year), 2, 28) * 86_400), "{year}");
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_no_certificate() {
        let whole = ending(2030);
        for length in 0..whole.len() {
            let _ = not_after(&whole[..length]);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = not_after(&damaged);
        }
        assert_eq!(not_after(&whole[..40]), None);
        assert_eq!(not_after(b"certificate"), None);
    }
}
