//! The clients' book: every call is entered once, when it ends, however it ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;

/// A way to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Tag with ten seconds' time, again after a refusal as told.
    Single,
    /// BatchTag of up to fifty documents, a bad one among them now and then; again after a refusal as told.
    Batch,
    /// StreamTag of up to two hundred, in order or not, read fast or slowly.
    Stream,
    /// Tag with a deadline that often cannot be met.
    Hurried,
    /// Any of these, given up half-way.
    Fickle,
    /// A part of an attack.
    Attack,
}

/// A method, as the server counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// One document.
    Tag,
    /// Many in one message.
    BatchTag,
    /// Many, one after the other.
    StreamTag,
}

/// The codes that only the server says, as it counts them. What else a client is told may be of its own making.
pub const SAID: [&str; 7] = [
    "OK",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "ABORTED",
    "FAILED_PRECONDITION",
];

fn said(code: Code) -> Option<&'static str> {
    let place = match code {
        Code::Ok => 0,
        Code::ResourceExhausted => 1,
        Code::DeadlineExceeded => 2,
        Code::InvalidArgument => 3,
        Code::Unauthenticated => 4,
        Code::Aborted => 5,
        Code::FailedPrecondition => 6,
        _ => return None,
    };
    Some(SAID[place])
}

/// What became of documents, as far as the clients know.
#[derive(Debug, Default, Clone, Copy)]
pub struct Documents {
    /// Sent, or begun to be sent.
    pub offered: u64,
    /// Came back with an analysis.
    pub answered: u64,
    /// Came back with an error of their own.
    pub failed: u64,
    /// Of Tag calls refused for want of room: by the engine or before it.
    pub refused: u64,
    /// Of calls refused before the engine saw them: batches for want of room, wrong keys, wrong options.
    pub unread: u64,
    /// Of Tag calls whose deadline passed, as the server said.
    pub late: u64,
    /// Of calls given up or broken off: the client cannot know.
    pub unsettled: u64,
}

/// Calls and documents of some clients.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Calls begun.
    pub begun: BTreeMap<Method, u64>,
    /// Calls that ended with a code of the server's.
    pub ended: BTreeMap<(Method, &'static str), u64>,
    /// Their documents.
    pub documents: Documents,
}

impl Tally {
    fn enter(&mut self, call: &Open) {
        *self.begun.entry(call.method).or_default() += 1;
        let said = call.code.and_then(said);
        if let Some(code) = said {
            *self.ended.entry((call.method, code)).or_default() += 1;
        }
        let documents = &mut self.documents;
        documents.offered += call.documents;
        documents.answered += call.answered;
        documents.failed += call.failed;
        let rest = call.documents.saturating_sub(call.answered + call.failed);
        *match (said, call.method) {
            (Some("RESOURCE_EXHAUSTED"), Method::Tag) => &mut documents.refused,
            (Some("DEADLINE_EXCEEDED"), Method::Tag) => &mut documents.late,
            (Some("RESOURCE_EXHAUSTED"), Method::BatchTag) => &mut documents.unread,
            (Some("INVALID_ARGUMENT" | "UNAUTHENTICATED"), Method::Tag) => &mut documents.unread,
            _ => &mut documents.unsettled,
        } += rest;
    }

    /// Calls that ended with a code.
    pub fn ended(&self, method: Method, code: &'static str) -> u64 {
        self.ended.get(&(method, code)).copied().unwrap_or_default()
    }

    /// Calls begun.
    pub fn begun(&self, method: Method) -> u64 {
        self.begun.get(&method).copied().unwrap_or_default()
    }

    /// Calls whose end the client does not know.
    pub fn given_up(&self, method: Method) -> u64 {
        self.begun(method) - SAID.iter().map(|code| self.ended(method, code)).sum::<u64>()
    }
}

/// The clients' side.
#[derive(Debug, Default)]
pub struct Books {
    all: Mutex<Tally>,
    steady: Mutex<Tally>,
    latencies: Mutex<BTreeMap<Kind, Vec<f64>>>,
    codes: Mutex<BTreeMap<(Kind, String), u64>>,
    /// Refusals that came with RetryInfo.
    pub advised: AtomicU64,
    /// Refusals without.
    pub unadvised: AtomicU64,
    /// Calls that waited as they were told and then were answered.
    pub honoured: AtomicU64,
    /// Calls that found no connection.
    pub unconnected: AtomicU64,
    /// Calls not begun, since too many were open.
    pub held_back: AtomicU64,
    /// Calls open long after the load had ended.
    pub left_open: AtomicU64,
    /// What must never happen: another's answer, a second answer, an order mixed up.
    wrong: Mutex<Vec<String>>,
    next: AtomicU64,
}

/// A call that is open; given up if it is dropped before its end.
#[derive(Debug)]
pub struct Open {
    books: Arc<Books>,
    kind: Kind,
    method: Method,
    steady: bool,
    documents: u64,
    /// Documents that came back with an analysis.
    pub answered: u64,
    /// Documents that came back with an error of their own.
    pub failed: u64,
    started: Instant,
    code: Option<Code>,
}

impl Open {
    /// Enters how it ended.
    pub fn end(mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let books = Arc::clone(&self.books);
        books.enter(self);
    }
}

impl Books {
    /// An id that no other document of this run has.
    pub fn id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A call begins; `steady` is one that is never given up.
    pub fn open(self: &Arc<Self>, kind: Kind, method: Method, steady: bool, documents: usize) -> Open {
        let (books, started, documents) = (Arc::clone(self), Instant::now(), documents as u64);
        Open { books, kind, method, steady, documents, answered: 0, failed: 0, started, code: None }
    }

    fn enter(&self, call: &Open) {
        self.all.lock().enter(call);
        if call.steady {
            self.steady.lock().enter(call);
        }
        let code = call.code.map_or_else(|| "given up".to_owned(), |code| format!("{code:?}"));
        *self.codes.lock().entry((call.kind, code)).or_default() += 1;
        // A single call gives up by itself only when its time is up: it was admitted, and not answered in time.
        let is_late = matches!(call.code, Some(Code::DeadlineExceeded | Code::Cancelled));
        if call.code == Some(Code::Ok) || (call.kind == Kind::Single && is_late) {
            self.latencies.lock().entry(call.kind).or_default().push(call.started.elapsed().as_secs_f64());
        }
    }

    /// Something that must never happen.
    pub fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    /// Everything of that kind.
    pub fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }

    /// All calls, and those of clients that never give up.
    pub fn tallies(&self) -> (Tally, Tally) {
        (self.all.lock().clone(), self.steady.lock().clone())
    }

    /// Seconds that so many percent of the calls took at most; of single calls also those that were not answered in time.
    pub fn percentile(&self, kind: Kind, percent: usize) -> Option<f64> {
        let mut all = self.latencies.lock().get(&kind)?.clone();
        all.sort_by(f64::total_cmp);
        all.get((all.len() * percent).div_ceil(100).max(1) - 1).copied()
    }

    /// Latency of a kind of calls.
    pub fn latency(&self, kind: Kind) -> Value {
        let count = self.latencies.lock().get(&kind).map_or(0, Vec::len);
        let at = |percent| self.percentile(kind, percent).map(|seconds| (seconds * 1e4).round() / 1e4);
        json!({"calls": count, "p50_seconds": at(50), "p99_seconds": at(99), "max_seconds": at(100)})
    }

    /// All of it.
    pub fn report(&self) -> Value {
        let codes: BTreeMap<String, u64> =
            self.codes.lock().iter().map(|((kind, code), count)| (format!("{kind:?} {code}"), *count)).collect();
        let kinds: Vec<Kind> = self.latencies.lock().keys().copied().collect();
        let latencies: BTreeMap<String, Value> =
            kinds.into_iter().map(|kind| (format!("{kind:?}"), self.latency(kind))).collect();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "calls": codes,
            "latency": latencies,
            "refusals_with_retry_info": count(&self.advised),
            "refusals_without": count(&self.unadvised),
            "retry_info_honoured_and_answered": count(&self.honoured),
            "without_connection": count(&self.unconnected),
            "held_back_since_too_many_were_open": count(&self.held_back),
            "left_open": count(&self.left_open),
        })
    }
}
