//! The tagger behind a queue: many callers, few threads, batches over all of them.
//!
//! A document is admitted (by the tokens it will probably have, so that waiting work is bounded), read on its lane's reading thread, queued
//! as windows, encoded next to other documents' windows on an encoding thread, and answered. Nothing of this runs on the
//! caller's async runtime. Work whose caller has gone or whose deadline has passed is dropped at every step.

mod admission;
mod desk;
mod drain;
mod fault;
mod host;
mod job;
mod memory;
mod queue;
mod shares;
#[cfg(test)]
mod tests;
mod ticket;
mod turns;
mod workers;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{sync::oneshot, time::Instant};

use self::{admission::Admission, drain::DrainRate, job::Job, workers::Workers};
pub use self::{
    admission::TenantLoad,
    host::{Load, ModelHost, ModelLoader, Reload, ReloadError},
    job::{Answer, StageTimings},
    memory::{Held, Memory},
    ticket::{Lane, Tenant, Ticket},
};
use crate::{
    metrics::{self, Outcome},
    tagger::{DocumentError, Plan, TagOptions, Tagger},
    text::Document,
};

/// How an engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens waiting or being worked on, over all callers.
    pub max_queued_tokens: usize,
    /// Bytes of requests and answers held, over all calls.
    pub max_held_bytes: usize,
    /// Threads that encode, each with its share of the cores.
    pub workers: usize,
    /// Cores to compute on; 0 for all of the machine.
    pub threads: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_queued_tokens: 1 << 17, max_held_bytes: 1 << 28, workers: 1, threads: 0 }
    }
}

/// Why the engine did not analyse a document.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Too much is waiting already.
    #[error("the queue is full")]
    QueueFull {
        /// When there will probably be room.
        retry_after: Duration,
    },
    /// All calls together hold too many bytes already.
    #[error("the server holds as many bytes of requests and answers as it may")]
    MemoryFull {
        /// When there will probably be room.
        retry_after: Duration,
    },
    /// The deadline passed before the answer was there.
    #[error("the deadline passed before the document was analysed")]
    DeadlineExceeded,
    /// The engine is shutting down.
    #[error("the engine has stopped")]
    Stopped,
    /// A defect: a thread panicked over this document.
    #[error("a worker panicked")]
    Panicked,
    /// The document has no analysis.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// A tagger behind a queue. Dropping it lets its threads answer what is queued and end.
#[derive(Debug)]
pub struct Engine {
    tagger: Arc<Tagger>,
    admission: Admission,
    workers: Workers,
}

impl Engine {
    /// Starts the threads and runs the model once, so that the first caller does not wait for cold memory.
    ///
    /// # Errors
    /// If a thread cannot be started or the model does not run.
    pub fn start(tagger: Tagger, config: EngineConfig) -> Result<Self, StartError> {
        Self::behind(Admission::new(config.max_queued_tokens, DrainRate::default()), tagger, config)
    }

    /// An engine behind an admission that others may share.
    fn behind(admission: Admission, tagger: Tagger, config: EngineConfig) -> Result<Self, StartError> {
        let tagger = Arc::new(tagger);
        let started = Instant::now();
        let tokens = warm_up(&tagger)?;
        admission.drain().begin(tokens, started.elapsed());
        let workers = Workers::start(&tagger, admission.drain(), config)?;
        Ok(Self { tagger, admission, workers })
    }

    /// The tagger.
    pub fn tagger(&self) -> &Tagger {
        &self.tagger
    }

    /// Most tokens waiting or being worked on.
    pub fn max_queued_tokens(&self) -> usize {
        self.admission.capacity()
    }

    /// Refuses at once if bulk work of a tenant already waits for room.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`].
    pub fn check_room(&self, tenant: &Tenant) -> Result<(), EngineError> {
        self.admission.check_room(tenant)
    }

    /// Analyses one document. Dropping the future drops the work.
    ///
    /// # Errors
    /// [`EngineError`]; `QueueFull` only in [`Lane::Interactive`], other lanes wait for room.
    pub async fn tag(&self, document: Document, plan: Arc<Plan>, ticket: &Ticket) -> Result<Answer, EngineError> {
        let mut entry = Entry::new(ticket.tenant.clone());
        let work = self.work(document, plan, ticket);
        let result = match ticket.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(EngineError::DeadlineExceeded),
            Some(deadline) => {
                tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(EngineError::DeadlineExceeded))
            }
            None => work.await,
        };
        entry.outcome = match &result {
            Ok(answer) => {
                answer.timings.record(ticket.lane);
                Outcome::Answered
            }
            Err(error) => error.outcome(),
        };
        result
    }

    async fn work(&self, document: Document, plan: Arc<Plan>, ticket: &Ticket) -> Result<Answer, EngineError> {
        let arrived = Instant::now();
        let permit = self.admission.admit(document.bytes(), ticket).await?;
        let (reply, answer) = oneshot::channel();
        let span = tracing::debug_span!("document", lane = ticket.lane.name(), bytes = document.bytes());
        let (document, ticket) = (Arc::new(document), ticket.clone());
        self.workers.submit(Job { document, plan, ticket, arrived, reply, permit, span });
        // A thread answers what it has, unless it panicked outside of what is caught for each document.
        answer.await.map_err(|_| EngineError::Panicked)?
    }
}

/// A document in the books: it is counted when it comes, and once when it goes, as cancelled if that is before its answer.
struct Entry {
    tenant: Tenant,
    outcome: Outcome,
}

impl Entry {
    fn new(tenant: Tenant) -> Self {
        metrics::document_received(tenant.label());
        Self { tenant, outcome: Outcome::Cancelled }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        metrics::document(self.outcome, self.tenant.label());
    }
}

impl StageTimings {
    fn record(&self, lane: Lane) {
        metrics::stages(lane.name(), self.total, self.tokenize, self.queue, self.inference);
    }
}

impl EngineError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::QueueFull { .. } | Self::MemoryFull { .. } => Outcome::Refused,
            Self::DeadlineExceeded => Outcome::Expired,
            Self::Stopped => Outcome::Stopped,
            Self::Panicked | Self::Document(DocumentError::Tokenizer(_) | DocumentError::Inference(_)) => {
                Outcome::Defect
            }
            Self::Document(_) => Outcome::Failed,
        }
    }
}

/// Why an engine could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A pool of threads could not be started.
    #[error("cannot start the compute threads: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
    /// The model does not run.
    #[error("the model does not run: {0}")]
    Model(#[from] DocumentError),
}

/// Runs the whole job once on a text as long as a batch; returns how many tokens the model read.
fn warm_up(tagger: &Tagger) -> Result<usize, StartError> {
    const SENTENCE: &str = "Warm up. ";
    let config = tagger.config();
    let mut text = SENTENCE.repeat(config.batch_tokens / 4);
    text.truncate(config.max_document_bytes.max(1));
    let document = Document { text, ..Document::default() };
    let mut tokens = 0;
    // The default options fit every model.
    if let Ok(plan) = tagger.plan(&TagOptions::default()) {
        for result in tagger.tag(&[document], &plan) {
            tokens += result?.coverage.analyzed_tokens;
        }
    }
    Ok(tokens)
}
