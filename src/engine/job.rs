//! A document on its way through the engine.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};
use tracing::{Span, debug_span};

use super::{EngineError, Lane, Ticket, admission::Permit, drain::estimate, fault, turns::Cost};
use crate::{
    metrics::{self, Unwanted},
    tagger::{Analysis, DocumentError, DocumentScores, InferenceError, Plan, Reading, Tagger, WindowScores},
    text::Document,
};

/// A document, what is wanted of it, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Job {
    pub document: Arc<Document>,
    pub plan: Arc<Plan>,
    pub ticket: Ticket,
    pub arrived: Instant,
    pub reply: oneshot::Sender<Result<Answer, EngineError>>,
    /// Given back when the job is answered or dropped.
    pub permit: Permit,
    /// What becomes of it, within the span of its call.
    pub span: Span,
}

/// A document and its analysis.
#[derive(Debug)]
pub struct Answer {
    /// The document, as it was given.
    pub document: Arc<Document>,
    /// What was found.
    pub analysis: Analysis,
    /// Where the time went.
    pub timings: StageTimings,
}

/// Where the time of a document went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimings {
    /// From arrival to answer.
    pub total: Duration,
    /// Finding sentences, tokens and windows.
    pub tokenize: Duration,
    /// Waiting: what the other stages leave of the total.
    pub queue: Duration,
    /// The batches that held its windows.
    pub inference: Duration,
}

impl StageTimings {
    pub(super) fn record(&self, lane: Lane) {
        metrics::stages(lane.name(), self.total, self.tokenize, self.queue, self.inference);
    }
}

impl Job {
    /// Why nobody waits for it any more, if so.
    pub fn unwanted(&self, now: Instant) -> Option<Unwanted> {
        unwanted(&self.ticket, &self.reply, now)
    }

    /// Answers with an error.
    pub fn fail(self, error: EngineError) {
        drop(self.permit);
        // A caller that has gone needs no answer.
        let _ = self.reply.send(Err(error));
    }

    /// Drops it unread.
    pub fn discard(self, reason: Unwanted) {
        metrics::tokens_saved(reason, estimate(self.document.bytes()));
        self.fail(EngineError::DeadlineExceeded);
    }
}

impl Cost for Job {
    /// Bytes to read.
    fn cost(&self) -> usize {
        self.document.bytes().max(1)
    }
}

fn unwanted<T>(ticket: &Ticket, reply: &oneshot::Sender<T>, now: Instant) -> Option<Unwanted> {
    if ticket.deadline.is_some_and(|deadline| deadline <= now) {
        Some(Unwanted::Expired)
    } else {
        reply.is_closed().then_some(Unwanted::Cancelled)
    }
}

/// A job whose document has been read: its windows are encoded one batch or another, then it is answered.
#[derive(Debug)]
pub(super) struct ActiveJob {
    pub document: Arc<Document>,
    pub plan: Arc<Plan>,
    pub ticket: Ticket,
    pub reading: Reading,
    arrived: Instant,
    tokenize: Duration,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    scores: DocumentScores,
    /// Windows without scores.
    missing: usize,
    inference: Duration,
    /// Open until it is answered.
    span: Span,
    /// Open until the first batch with a window of it.
    queued: Span,
    /// Gone once answered.
    waiting: Option<(oneshot::Sender<Result<Answer, EngineError>>, Permit)>,
}

impl ActiveJob {
    pub fn new(job: Job, reading: Reading, tokenize: Duration) -> Self {
        let progress = Progress {
            scores: DocumentScores::default(),
            missing: reading.windows().len(),
            inference: Duration::ZERO,
            queued: debug_span!(parent: &job.span, "queue"),
            span: job.span,
            waiting: Some((job.reply, job.permit)),
        };
        Self {
            document: job.document,
            plan: job.plan,
            ticket: job.ticket,
            reading,
            arrived: job.arrived,
            tokenize,
            progress: Mutex::new(progress),
        }
    }

    /// Why nobody waits for it any more, if so.
    pub fn unwanted(&self, now: Instant) -> Option<Unwanted> {
        match &self.progress.lock().waiting {
            Some((reply, _)) => unwanted(&self.ticket, reply, now),
            None => Some(Unwanted::Failed),
        }
    }

    /// Tokens that the model has to read for some of its windows, special tokens included.
    pub fn window_tokens(&self, windows: Range<usize>) -> usize {
        self.reading.windows()[windows].iter().map(|window| window.tokens.len() + 2).sum()
    }

    /// Drops the windows that are left, so many tokens.
    pub fn discard(&self, tokens: usize) {
        metrics::tokens_saved(self.unwanted(Instant::now()).unwrap_or(Unwanted::Cancelled), tokens);
        self.fail(EngineError::DeadlineExceeded);
    }

    /// Notes what the model says of window `index`, or that it failed there. Answers when no window is missing.
    pub fn record(&self, index: usize, result: Result<WindowScores, InferenceError>, tagger: &Tagger) {
        let mut progress = self.progress.lock();
        match result {
            Ok(scores) => {
                progress.scores.add(&self.reading.windows()[index], &scores, self.reading.sentences());
                progress.missing -= 1;
                if progress.missing == 0 {
                    drop(progress);
                    self.finish(tagger);
                }
            }
            Err(error) => {
                drop(progress);
                self.fail(EngineError::Document(DocumentError::Inference(error)));
            }
        }
    }

    /// The span of a batch with some of its windows, to be kept until that is encoded.
    pub fn encoding(&self, windows: usize, batch_tokens: usize) -> Span {
        let mut progress = self.progress.lock();
        progress.queued = Span::none();
        debug_span!(parent: &progress.span, "encode", windows, batch_tokens)
    }

    /// Adds the time of a batch that held windows of this document.
    pub fn add_inference(&self, elapsed: Duration) {
        self.progress.lock().inference += elapsed;
    }

    /// Answers with what is known; with an error if that panics.
    pub fn finish(&self, tagger: &Tagger) {
        let (scores, inference, span) = {
            let mut progress = self.progress.lock();
            let span = debug_span!(parent: &progress.span, "finish");
            (std::mem::take(&mut progress.scores), progress.inference, span)
        };
        let finish = || {
            let _span = span.entered();
            fault::trip("finish", &self.document);
            tagger.finish(&self.document, &self.plan, &self.reading, &scores)
        };
        let result = catch_unwind(AssertUnwindSafe(finish)).map_err(|_| EngineError::Panicked);
        self.reply(result.map(|analysis| {
            let total = self.arrived.elapsed();
            let queue = total.saturating_sub(self.tokenize + inference);
            let timings = StageTimings { total, tokenize: self.tokenize, queue, inference };
            Answer { document: Arc::clone(&self.document), analysis, timings }
        }));
    }

    /// Answers with an error, if it is not answered yet.
    pub fn fail(&self, error: EngineError) {
        self.reply(Err(error));
    }

    /// Closes its spans, gives the room in the queue back and answers, in this order, so that there is room for what the caller does
    /// next, and no trace is behind its answer.
    fn reply(&self, result: Result<Answer, EngineError>) {
        let mut progress = self.progress.lock();
        progress.queued = Span::none();
        progress.span = Span::none();
        let waiting = progress.waiting.take();
        drop(progress);
        if let Some((reply, permit)) = waiting {
            drop(permit);
            // A caller that has gone needs no answer.
            let _ = reply.send(result);
        }
    }
}
