//! The tagger behind a queue: many callers, few threads, batches over all of them.
//!
//! A document is admitted (by the tokens it will probably have, so that waiting work is bounded), read on its lane's reading thread, queued
//! as windows, encoded next to other documents' windows on an encoding thread, and answered. Nothing of this runs on the
//! caller's async runtime. Work whose caller has gone or whose deadline has passed is dropped at every step.

mod admission;
mod job;
mod queue;
mod ticket;
mod workers;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{sync::oneshot, time::Instant};

use self::{admission::Admission, job::Job, workers::Workers};
pub use self::{
    job::{Answer, StageTimings},
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
    /// Threads that encode, each with its share of the cores.
    pub workers: usize,
    /// Cores to compute on; 0 for all of the machine.
    pub threads: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_queued_tokens: 1 << 17, workers: 1, threads: 0 }
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

/// A tagger behind a queue. Dropping it answers what is queued and stops its threads.
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
        let tagger = Arc::new(tagger);
        warm_up(&tagger)?;
        let admission = Admission::new(config.max_queued_tokens);
        let workers = Workers::start(&tagger, &admission, config)?;
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

    /// Refuses at once if bulk work would have to wait.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`].
    pub fn check_room(&self) -> Result<(), EngineError> {
        self.admission.check_room()
    }

    /// Analyses one document. Dropping the future drops the work.
    ///
    /// # Errors
    /// [`EngineError`]; `QueueFull` only in [`Lane::Interactive`], other lanes wait for room.
    pub async fn tag(&self, document: Document, plan: Arc<Plan>, ticket: &Ticket) -> Result<Answer, EngineError> {
        let Ticket { lane, deadline, .. } = *ticket;
        let arrived = Instant::now();
        let mut count = Count(Outcome::Cancelled);
        let work = async {
            let permit = self.admission.admit(document.bytes(), lane).await?;
            let (reply, answer) = oneshot::channel();
            let document = Arc::new(document);
            self.workers.submit(Job { document, plan, deadline, arrived, reply, permit }, lane)?;
            answer.await.map_err(|_| EngineError::Stopped)?
        };
        let result = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(EngineError::DeadlineExceeded))
            }
            None => work.await,
        };
        match &result {
            Ok(answer) => {
                count.0 = Outcome::Answered;
                metrics::stages(
                    lane.name(),
                    answer.timings.total,
                    answer.timings.tokenize,
                    answer.timings.queue,
                    answer.timings.inference,
                );
            }
            Err(error) => count.0 = error.outcome(),
        }
        result
    }
}

/// Counts a document when dropped: as cancelled, if that comes before its answer.
struct Count(Outcome);

impl Drop for Count {
    fn drop(&mut self) {
        metrics::document(self.0);
    }
}

impl EngineError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::QueueFull { .. } => Outcome::Refused,
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

/// Runs the whole job once on a text as long as a batch.
fn warm_up(tagger: &Tagger) -> Result<(), StartError> {
    const SENTENCE: &str = "Warm up. ";
    let config = tagger.config();
    let mut text = SENTENCE.repeat(config.batch_tokens / 4);
    text.truncate(config.max_document_bytes.max(1));
    let document = Document { text, ..Document::default() };
    // The default options fit every model.
    if let Ok(plan) = tagger.plan(&TagOptions::default()) {
        for result in tagger.tag(&[document], &plan) {
            result?;
        }
    }
    Ok(())
}
