//! What is counted of keys, connections and refusals.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::{Outcome, Scarce};

pub(super) fn describe() {
    describe_counter!("rasid_unauthenticated_total", Unit::Count, "Calls refused for want of a valid key, by reason.");
    describe_counter!(
        "rasid_limited_total",
        Unit::Count,
        "Requests refused by a limit of their key, by key and reason."
    );
    describe_counter!("rasid_key_calls_total", Unit::Count, "Calls admitted, by key.");
    describe_counter!("rasid_key_documents_total", Unit::Count, "Documents admitted, by key.");
    describe_gauge!("rasid_key_calls_open", Unit::Count, "Calls that are open, by key.");
    describe_gauge!("rasid_keys", Unit::Count, "Keys in force, expired ones included, by what they open.");
    describe_gauge!("rasid_connections_open", Unit::Count, "Connections, those in their handshake included.");
    describe_counter!("rasid_connections_total", Unit::Count, "Connections accepted.");
    describe_counter!(
        "rasid_connections_refused_total",
        Unit::Count,
        "Connections closed at once, by the limit passed."
    );
    describe_counter!("rasid_connections_closed_total", Unit::Count, "Connections that the server cut off, by reason.");
    describe_counter!("rasid_handshakes_failed_total", Unit::Count, "Connections that came to nothing, by reason.");
    describe_counter!("rasid_accept_failures_total", Unit::Count, "Times that the machine could not accept.");
    describe_counter!("rasid_resets_total", Unit::Count, "Calls that their client cancelled within a second.");
    describe_counter!(
        "rasid_calls_given_up_total",
        Unit::Count,
        "Calls ended since their client did nothing, by reason."
    );
    describe_gauge!(
        "rasid_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the first certificate of the server's chain ends, in seconds from 1970."
    );
    describe_counter!("rasid_reloads_total", Unit::Count, "Files read again, by what they hold and result.");
}

/// Begins what alerts watch for its first increment: an increase can only be seen from a zero.
pub(super) fn begin() {
    for what in ["model", "keys", "admin_keys", "certificates"] {
        counter!("rasid_reloads_total", "what" => what, "result" => "failed").increment(0);
    }
}

/// Somebody of this name may call: begins what alerts watch of their documents and calls.
pub fn caller(key: &str) {
    for scarce in [Scarce::Queue, Scarce::Memory] {
        counter!("rasid_refused_total", "reason" => scarce.name(), "key" => key.to_owned()).increment(0);
    }
    counter!("rasid_documents_total", "outcome" => Outcome::Defect.name(), "key" => key.to_owned()).increment(0);
}

/// A call had no valid key.
pub fn unauthenticated(reason: &'static str) {
    counter!("rasid_unauthenticated_total", "reason" => reason).increment(1);
}

/// A limit of a key was passed.
pub fn limited(key: &str, reason: &'static str) {
    counter!("rasid_limited_total", "key" => key.to_owned(), "reason" => reason).increment(1);
}

/// A call was admitted.
pub fn key_call(key: &str) {
    counter!("rasid_key_calls_total", "key" => key.to_owned()).increment(1);
}

/// Documents were admitted.
pub fn key_documents(key: &str, documents: usize) {
    counter!("rasid_key_documents_total", "key" => key.to_owned()).increment(documents as u64);
}

/// The calls that a key has open became more or fewer.
pub fn key_calls_open(key: &str, change: f64) {
    gauge!("rasid_key_calls_open", "key" => key.to_owned()).increment(change);
}

/// So many keys are in force.
pub fn keys(what: &'static str, keys: usize) {
    gauge!("rasid_keys", "what" => what).set(keys as f64);
}

/// Something was read again, or could not be.
pub fn reload(what: &'static str, is_done: bool) {
    reload_result(what, if is_done { "done" } else { "failed" });
}

/// Something was read again, with a result of its own.
pub fn reload_result(what: &'static str, result: &'static str) {
    counter!("rasid_reloads_total", "what" => what, "result" => result).increment(1);
}

/// A connection took or gave back its seat.
pub fn connections_open(change: f64) {
    gauge!("rasid_connections_open").increment(change);
    if change > 0.0 {
        counter!("rasid_connections_total").increment(1);
    }
}

/// A connection found no seat.
pub fn connection_refused(limit: &'static str) {
    counter!("rasid_connections_refused_total", "limit" => limit).increment(1);
}

/// The server cut a connection off.
pub fn connection_closed(reason: &'static str) {
    counter!("rasid_connections_closed_total", "reason" => reason).increment(1);
}

/// A handshake came to nothing.
pub fn handshake_failed(reason: &'static str) {
    counter!("rasid_handshakes_failed_total", "reason" => reason).increment(1);
}

/// The machine could not accept.
pub fn accept_failed() {
    counter!("rasid_accept_failures_total").increment(1);
}

/// A client cancelled a call right after it began.
pub fn reset() {
    counter!("rasid_resets_total").increment(1);
}

/// A call was ended since its client did nothing.
pub fn call_given_up(reason: &'static str) {
    counter!("rasid_calls_given_up_total", "reason" => reason).increment(1);
}

/// When the server's certificate ends.
pub fn certificate_expiry(seconds: i64) {
    gauge!("rasid_certificate_expiry_timestamp_seconds").set(seconds as f64);
}
