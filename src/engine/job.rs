//! A document on its way through the engine.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{EngineError, admission::Permit};
use crate::{
    tagger::{Analysis, DocumentError, DocumentScores, InferenceError, Plan, Reading, Tagger, WindowScores},
    text::Document,
};

/// A document, what is wanted of it, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Job {
    pub document: Arc<Document>,
    pub plan: Arc<Plan>,
    pub deadline: Option<Instant>,
    pub arrived: Instant,
    pub reply: oneshot::Sender<Result<Answer, EngineError>>,
    /// Given back when the job is answered or dropped.
    pub permit: Permit,
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

impl Job {
    /// Whether nobody waits for it any more.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed() || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Answers with an error.
    pub fn fail(self, error: EngineError) {
        // A caller that has gone needs no answer.
        let _ = self.reply.send(Err(error));
    }
}

/// A job whose document has been read: its windows are encoded one batch or another, then it is answered.
#[derive(Debug)]
pub(super) struct ActiveJob {
    pub document: Arc<Document>,
    pub plan: Arc<Plan>,
    pub reading: Reading,
    deadline: Option<Instant>,
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
    /// Gone once answered.
    waiting: Option<(oneshot::Sender<Result<Answer, EngineError>>, Permit)>,
}

impl ActiveJob {
    pub fn new(job: Job, reading: Reading, tokenize: Duration) -> Self {
        let progress = Progress {
            scores: DocumentScores::default(),
            missing: reading.windows().len(),
            inference: Duration::ZERO,
            waiting: Some((job.reply, job.permit)),
        };
        Self {
            document: job.document,
            plan: job.plan,
            reading,
            deadline: job.deadline,
            arrived: job.arrived,
            tokenize,
            progress: Mutex::new(progress),
        }
    }

    /// Whether it is answered already, or nobody waits for it any more.
    pub fn is_abandoned(&self) -> bool {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        is_late || self.progress.lock().waiting.as_ref().is_none_or(|(reply, _)| reply.is_closed())
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

    /// Adds the time of a batch that held windows of this document.
    pub fn add_inference(&self, elapsed: Duration) {
        self.progress.lock().inference += elapsed;
    }

    /// Answers with what is known.
    pub fn finish(&self, tagger: &Tagger) {
        let (scores, inference) = {
            let mut progress = self.progress.lock();
            (std::mem::take(&mut progress.scores), progress.inference)
        };
        let analysis = tagger.finish(&self.document, &self.plan, &self.reading, &scores);
        let total = self.arrived.elapsed();
        let queue = total.saturating_sub(self.tokenize + inference);
        let timings = StageTimings { total, tokenize: self.tokenize, queue, inference };
        self.reply(Ok(Answer { document: Arc::clone(&self.document), analysis, timings }));
    }

    /// Answers with an error, if it is not answered yet.
    pub fn fail(&self, error: EngineError) {
        self.reply(Err(error));
    }

    /// Answers, and gives the room in the queue back.
    fn reply(&self, result: Result<Answer, EngineError>) {
        if let Some((reply, _permit)) = self.progress.lock().waiting.take() {
            // A caller that has gone needs no answer.
            let _ = reply.send(result);
        }
    }
}
