//! The clients' book beside the server's. Both count by themselves; where a client saw a call to its end the figures must agree exactly,
//! and where it gave up they may differ by so many calls and documents and no more. The steady clients never give up, under a key of
//! their own: for them everything is exact.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
};

use serde_json::{Value, json};

use super::{
    books::{Books, Method, SAID, Tally},
    server::{BUSY, STEADY},
};

/// Figures of the server by name and labels.
pub type Figures = HashMap<String, f64>;

/// The sum of a metric over all its labels that hold every part.
pub fn sum(figures: &Figures, name: &str, parts: &[&str]) -> f64 {
    let of = |key: &str| key.split('{').next() == Some(name) && parts.iter().all(|part| key.contains(part));
    figures.iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
}

/// How documents leave the engine.
const OUTCOMES: [&str; 7] = ["answered", "failed", "defect", "refused", "stopped", "expired", "cancelled"];

/// Both books of some clients.
struct Balance<'a> {
    who: &'static str,
    /// What the labels of their key hold; empty for all keys.
    key: String,
    tally: Tally,
    before: &'a Figures,
    after: &'a Figures,
    broken: Vec<String>,
}

fn both<'a>(books: &Books, before: &'a Figures, after: &'a Figures) -> [Balance<'a>; 2] {
    let (all, steady) = books.tallies();
    let of = |who, key, tally| Balance { who, key, tally, before, after, broken: Vec::new() };
    [of("all clients", String::new(), all), of("steady clients", format!("key=\"{STEADY}\""), steady)]
}

impl Balance<'_> {
    /// How much a metric of these clients has grown.
    fn grown(&self, name: &str, parts: &[&str]) -> f64 {
        let parts: Vec<&str> = parts.iter().copied().chain([self.key.as_str()]).collect();
        sum(self.after, name, &parts) - sum(self.before, name, &parts)
    }

    fn outcome(&self, outcome: &str) -> f64 {
        self.grown("rasid_documents_total", &[&format!("outcome=\"{outcome}\"")])
    }

    fn received(&self) -> f64 {
        self.grown("rasid_documents_received_total", &[])
    }

    fn calls(&self, method: Method, code: Option<&str>) -> f64 {
        let code = code.map(|code| format!("code=\"{code}\"")).unwrap_or_default();
        self.grown("rasid_requests_total", &[&format!("method=\"{method:?}\""), &code])
    }

    fn within(&mut self, what: &str, least: f64, value: f64, most: f64) {
        if value < least || value > most {
            let who = self.who;
            self.broken.push(format!("{who}: {what}: {value} by the server's book, {least} to {most} by the clients'"));
        }
    }

    /// Documents offered that neither came to the engine nor were refused before it.
    fn never_arrived(&self) -> f64 {
        let documents = &self.tally.documents;
        let refused_before = (documents.refused as f64 - self.outcome("refused")).max(0.0);
        documents.offered as f64 - documents.unread as f64 - refused_before - self.received()
    }

    fn check_documents(&mut self) {
        let documents = self.tally.documents;
        let [answered, failed, refused, late, unsettled] =
            [documents.answered, documents.failed, documents.refused, documents.late, documents.unsettled]
                .map(|count| count as f64);
        for (outcome, least, most) in [
            ("answered", answered, answered + unsettled),
            ("failed", failed, failed + unsettled),
            ("refused", 0.0, refused + unsettled),
            ("expired", 0.0, late + unsettled),
            ("cancelled", 0.0, unsettled),
            ("defect", 0.0, 0.0),
            ("stopped", 0.0, 0.0),
        ] {
            self.within(&format!("documents {outcome}"), least, self.outcome(outcome), most);
        }
        let left = self.grown("rasid_documents_total", &[]);
        self.within("documents that came to the engine", left, self.received(), left);
        self.within("documents that never arrived", 0.0, self.never_arrived(), unsettled + late);
    }

    fn check_calls(&mut self) {
        for method in [Method::Tag, Method::BatchTag, Method::StreamTag] {
            let (begun, given_up) = (self.tally.begun(method) as f64, self.tally.given_up(method) as f64);
            for code in SAID {
                let seen = self.tally.ended(method, code) as f64;
                self.within(&format!("{method:?} {code}"), seen, self.calls(method, Some(code)), seen + given_up);
            }
            self.within(&format!("{method:?} in all"), begun - given_up, self.calls(method, None), begun);
            for code in ["INTERNAL", "UNKNOWN", "DATA_LOSS"] {
                self.within(&format!("{method:?} {code}"), 0.0, self.calls(method, Some(code)), 0.0);
            }
        }
    }

    /// What only all clients together can be held to.
    fn check_lanes_and_keys(&mut self) {
        let (seen, given_up) = (self.tally.ended(Method::Tag, "OK") as f64, self.tally.given_up(Method::Tag) as f64);
        let answered = self.grown("rasid_document_seconds_count", &["lane=\"interactive\""]);
        self.within("single documents answered", seen, answered, seen + given_up);
        let refused = self.tally.ended(Method::Tag, "UNAUTHENTICATED") as f64;
        self.within("wrong keys", refused, self.grown("rasid_unauthenticated_total", &[]), refused);
        let stalled = self.tally.ended(Method::StreamTag, "ABORTED") as f64;
        let ended = self.grown("rasid_calls_given_up_total", &["reason=\"stalled\""]);
        self.within("readers that stopped", stalled, ended, f64::INFINITY);
    }

    fn report(&self) -> Value {
        let documents = &self.tally.documents;
        let server: BTreeMap<&str, f64> = OUTCOMES.into_iter().map(|name| (name, self.outcome(name))).collect();
        json!({
            "clients": {
                "offered": documents.offered,
                "answered": documents.answered,
                "failed": documents.failed,
                "refused_single": documents.refused,
                "refused_before_the_engine": documents.unread,
                "deadline_exceeded_single": documents.late,
                "given_up_or_broken_off": documents.unsettled,
            },
            "server": {"received": self.received(), "left": server},
            "never_arrived": self.never_arrived(),
        })
    }
}

/// Both books, of all clients and of the steady ones.
pub fn report(books: &Books, before: &Figures, after: &Figures) -> Value {
    let [all, steady] = both(books, before, after);
    json!({"all_clients": all.report(), "steady_clients": steady.report()})
}

/// What did not hold.
pub fn check(books: &Books, before: &Figures, after: &Figures) -> Vec<String> {
    let [mut all, mut steady] = both(books, before, after);
    all.check_lanes_and_keys();
    for balance in [&mut all, &mut steady] {
        balance.check_documents();
        balance.check_calls();
    }
    let lost: u64 = [Method::Tag, Method::BatchTag, Method::StreamTag].map(|it| steady.tally.given_up(it)).iter().sum();
    if lost > 0 {
        steady.broken.push(format!("{lost} calls of the steady clients had no end that the server said"));
    }
    if steady.tally.documents.offered == 0 {
        steady.broken.push("no steady client has called".to_owned());
    }
    let mut broken = books.wrongs();
    broken.append(&mut all.broken);
    broken.append(&mut steady.broken);
    broken.extend(check_rest(books, after));
    broken
}

/// What the clients alone, or the server alone, must show.
fn check_rest(books: &Books, after: &Figures) -> Vec<String> {
    let mut broken = Vec::new();
    for gauge in BUSY {
        let value = sum(after, gauge, &[]);
        if value != 0.0 {
            broken.push(format!("{gauge} is {value} when all is done"));
        }
    }
    let [unadvised, advised, honoured, left_open] =
        [&books.unadvised, &books.advised, &books.honoured, &books.left_open]
            .map(|count| count.load(Ordering::Relaxed));
    if unadvised > 0 {
        broken.push(format!("{unadvised} refusals without RetryInfo"));
    }
    if honoured == 0 && advised > 100 {
        broken.push("nobody who waited as told was answered".to_owned());
    }
    if left_open > 0 {
        broken.push(format!("{left_open} calls were still open long after the load had ended"));
    }
    broken
}

/// What the server counted meanwhile.
pub fn server_report(before: &Figures, after: &Figures) -> Value {
    let mut grown: BTreeMap<&str, f64> = BTreeMap::new();
    for (key, value) in after {
        let counted = key.split('{').next().is_some_and(|name| name.ends_with("_total")) && key.starts_with("rasid_");
        let difference = value - before.get(key).copied().unwrap_or_default();
        if counted && difference > 0.0 {
            grown.insert(key, difference);
        }
    }
    json!(grown)
}
