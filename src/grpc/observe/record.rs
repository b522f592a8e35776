//! What is known of one call while it runs. Whatever is polled within the call reaches it without being handed it.

use std::{
    future::{pending, ready},
    net::SocketAddr,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::FutureExt;
use http::Request;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, task_tracker::TaskTrackerToken};
use tonic::{
    Code,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tracing::Instrument;

use super::{names, request_id::RequestId, trace_context};
use crate::metrics;

tokio::task_local! {
    /// The call that is being worked on.
    pub(super) static CURRENT: Arc<Record>;
}

/// The name under which callers count where no key is asked for.
const ANONYMOUS: &str = "anonymous";

/// Names whoever calls, for metrics and the log: a key's configured name, `anonymous` where none is asked for (so it is unless
/// noted), `none` for a call refused for want of one. Never what a caller sends.
pub fn note_key(name: &str) {
    // Outside of a call there is nobody to name.
    let _ = CURRENT.try_with(|record| *record.key.lock() = name.into());
}

/// Notes that a document of the call has been answered, `tokens` of it read by the model; none for an error.
pub fn note_document(tokens: Option<usize>) {
    let _ = CURRENT.try_with(|record| {
        record.documents.fetch_add(1, Ordering::Relaxed);
        match tokens {
            Some(tokens) => record.tokens.fetch_add(tokens as u64, Ordering::Relaxed),
            None => record.failed.fetch_add(1, Ordering::Relaxed),
        }
    });
}

/// Begins a part of the current call's work, and goes on with it in a task of its own, even while the call is not polled. Dropping the future
/// ends it; a panic goes on in whoever awaits it.
pub fn spawn<F>(work: F) -> impl Future<Output = F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut work = Box::pin(work.in_current_span());
    // Tasks run in no order; what is begun here comes to the queue in the order of the call.
    if let Some(output) = work.as_mut().now_or_never() {
        return ready(output).left_future();
    }
    let task = match CURRENT.try_with(Arc::clone) {
        Ok(record) => tokio::spawn(CURRENT.scope(record, work)),
        Err(_) => tokio::spawn(work),
    };
    let task = AbortOnDropHandle::new(task);
    let output = async {
        match task.await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime ends, and with it whoever waits.
                Err(_) => pending().await,
            },
        }
    };
    output.right_future()
}

/// The id of the call; outside of a call a new one.
pub fn request_id() -> RequestId {
    CURRENT.try_with(|record| record.id.clone()).unwrap_or_default()
}

/// What is known of a call.
#[derive(Debug)]
pub struct Record {
    /// By which the caller and the log speak of it.
    pub id: RequestId,
    /// The service that is called.
    pub service: &'static str,
    /// The method that is called.
    pub method: &'static str,
    /// The trace it belongs to, in hexadecimal digits.
    pub trace: Option<String>,
    peer: Option<SocketAddr>,
    started: Instant,
    key: Mutex<Arc<str>>,
    documents: AtomicU64,
    failed: AtomicU64,
    tokens: AtomicU64,
    /// The call is not over while a part of its work has this record.
    _token: TaskTrackerToken,
}

impl Record {
    /// What a call's headers and connection tell.
    pub fn of<B>(request: &Request<B>, token: TaskTrackerToken) -> Self {
        let (service, method) = names::method(request.uri().path());
        metrics::request_started(method);
        Self {
            id: RequestId::of(request.headers()),
            service,
            method,
            trace: trace_context::trace_id(request.headers()),
            peer: peer(request),
            started: Instant::now(),
            key: Mutex::new(ANONYMOUS.into()),
            documents: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            _token: token,
        }
    }

    /// The name of whoever calls.
    pub fn key(&self) -> Arc<str> {
        Arc::clone(&self.key.lock())
    }

    /// Documents answered, failed ones among them.
    pub fn documents(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }

    /// Tokens of them that the model has read.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Counts and logs the call at its end.
    pub fn end(&self, status: Code) {
        let (elapsed, key, code) = (self.started.elapsed(), self.key(), names::code(status));
        metrics::request_ended(self.method, code, &key, elapsed);
        // All in the event itself, by no span, so that a line is whole whatever the filter.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    target: "rasid::access",
                    parent: None,
                    method = self.method,
                    code,
                    key = &*key,
                    peer = self.peer.map(tracing::field::display),
                    documents = self.documents(),
                    failed = self.failed.load(Ordering::Relaxed),
                    tokens = self.tokens(),
                    milliseconds = elapsed.as_micros() as f64 / 1e3,
                    request_id = %self.id,
                    trace_id = self.trace.as_deref(),
                    "call"
                )
            };
        }
        // Probes are many, and whoever has no key must not fill the disk.
        let is_quiet = names::is_probe(self.method) || status == Code::Unauthenticated;
        match status {
            Code::Internal | Code::Unknown | Code::DataLoss => log!(warn),
            _ if is_quiet => log!(debug),
            _ => log!(info),
        }
    }
}

fn peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    match (extensions.get::<TcpConnectInfo>(), extensions.get::<TlsConnectInfo<TcpConnectInfo>>()) {
        (Some(plain), _) => plain.remote_addr(),
        (None, Some(tls)) => tls.get_ref().remote_addr(),
        (None, None) => None,
    }
}
