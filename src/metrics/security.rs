//! What is counted of keys, connections and refusals.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

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
    describe_gauge!("rasid_keys", Unit::Count, "Keys in force, expired ones included.");
    describe_counter!("rasid_reloads_total", Unit::Count, "Files read again, by what they hold and result.");
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
pub fn keys(keys: usize) {
    gauge!("rasid_keys").set(keys as f64);
}

/// Something was read again, or could not be.
pub fn reload(what: &'static str, is_done: bool) {
    reload_result(what, if is_done { "done" } else { "failed" });
}

/// Something was read again, with a result of its own.
pub fn reload_result(what: &'static str, result: &'static str) {
    counter!("rasid_reloads_total", "what" => what, "result" => result).increment(1);
}
