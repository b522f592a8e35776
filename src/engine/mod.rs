//! The tagger behind a queue: many callers, few threads, batches over all of them.
//!
//! A document finds its place (by the tokens it will probably have, so that waiting work is bounded), is read on its lane's reading
//! thread, queued as windows, encoded next to other documents' windows on an encoding thread, and answered. Nothing of this runs on the
//! caller's async runtime. Work whose caller has gone or whose deadline has passed is dropped at every step.

mod admission;
mod desk;
mod drain;
mod fault;
mod host;
mod job;
mod memory;
mod place;
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

pub use self::{
    admission::TenantLoad,
    host::{Load, ModelHost, ModelLoader, Reload, ReloadError},
    job::{Answer, StageTimings},
    memory::{Held, Memory},
    place::Place,
    ticket::{Lane, Tenant, Ticket},
};
use self::{drain::DrainRate, job::Job, workers::Workers};
use crate::{
    metrics::Outcome,
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
    workers: Workers,
}

impl Engine {
    /// Starts the threads and runs the model once, so that the first caller does not wait for cold memory.
    fn start(tagger: Tagger, drain: &DrainRate, config: EngineConfig) -> Result<Self, StartError> {
        let tagger = Arc::new(tagger);
        let started = Instant::now();
        let tokens = warm_up(&tagger)?;
        drain.begin(tokens, started.elapsed());
        let workers = Workers::start(&tagger, drain, config)?;
        Ok(Self { tagger, workers })
    }

    /// The tagger.
    pub fn tagger(&self) -> &Tagger {
        &self.tagger
    }

    /// Analyses a document that has its place. Dropping the future drops the work. Whoever waits for the answer does not hold the engine.
    ///
    /// # Errors
    /// [`EngineError`], but for what there is no room for.
    pub async fn tag(
        self: Arc<Self>,
        document: Document,
        plan: Arc<Plan>,
        place: Place,
    ) -> Result<Answer, EngineError> {
        let Place { entry, permit, ticket, arrived } = place;
        let (lane, deadline) = (ticket.lane, ticket.deadline);
        let (reply, answer) = oneshot::channel();
        let span = tracing::debug_span!("document", lane = lane.name(), bytes = document.bytes());
        self.workers.submit(Job { document: Arc::new(document), plan, ticket, arrived, reply, permit, span });
        drop(self);
        // A thread answers what it has, unless it panicked outside of what is caught for each document.
        let answer = async { answer.await.unwrap_or(Err(EngineError::Panicked)) };
        let result = in_time(deadline, answer).await;
        if let Ok(answer) = &result {
            answer.timings.record(lane);
        }
        entry.close(result.as_ref().map_or_else(EngineError::outcome, |_| Outcome::Answered));
        result
    }
}

/// What comes of some work before its deadline.
async fn in_time<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match deadline {
        Some(deadline) if deadline <= Instant::now() => Err(EngineError::DeadlineExceeded),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(EngineError::DeadlineExceeded)),
        None => work.await,
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
