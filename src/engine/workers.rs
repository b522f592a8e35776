//! The threads of the engine: readers and encoders.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use rayon::ThreadPool;
use tokio::time::Instant;
use tracing::debug_span;

use super::{
    EngineConfig, EngineError, Lane, StartError,
    desk::Desk,
    drain::DrainRate,
    fault,
    job::{ActiveJob, Job},
    queue::{Batch, Queue, Slice},
    turns::Turns,
};
use crate::{
    metrics,
    tagger::{InferenceError, Tagger, WindowRequest, WindowScores},
};

/// Bytes that a tenant may have read in a turn: some five articles.
const READ_QUANTUM: usize = 16 << 10;

/// One thread for each lane reads documents (splits them into tokens, far faster than the model takes them), the others encode them.
///
/// When this is dropped, the threads finish what is queued and end by themselves: readers when their inbox is empty, encoders when the
/// last reader has gone and the queue is empty. Nobody waits for them, since that would block an async runtime.
#[derive(Debug)]
pub(super) struct Workers {
    interactive: Arc<Inbox>,
    bulk: Arc<Inbox>,
}

/// Documents to be read, of one lane: a lone document must not wait until the thousand before it are read.
type Inbox = Desk<Turns<Job>>;

impl Workers {
    /// Starts the threads.
    pub fn start(tagger: &Arc<Tagger>, drain: &DrainRate, config: EngineConfig) -> Result<Self, StartError> {
        let inbox = || Arc::new(Inbox::new(Turns::new(READ_QUANTUM)));
        // Dropped on an early return, it lets the threads end that have been started.
        let this = Self { interactive: inbox(), bulk: inbox() };
        let queue = Arc::new(Desk::new(Queue::new(tagger.config().batch_tokens)));
        let sink = Arc::new(Sink(Arc::clone(&queue)));
        for (name, inbox) in [("rasid-read", &this.interactive), ("rasid-read-bulk", &this.bulk)] {
            let (inbox, sink) = (Arc::clone(inbox), Arc::clone(&sink));
            let reader = Reader { tagger: Arc::clone(tagger), inbox, sink };
            thread::Builder::new().name(name.to_owned()).spawn(move || keep_on(|| reader.run()))?;
        }
        let workers = config.workers.max(1);
        let cores = if config.threads == 0 { thread::available_parallelism()?.get() } else { config.threads };
        for index in 0..workers {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads((cores / workers).max(1))
                .thread_name(move |thread| format!("rasid-{index}-{thread}"))
                .build()?;
            let (tagger, queue, drain) = (Arc::clone(tagger), Arc::clone(&queue), drain.clone());
            let encoder = Encoder { tagger, queue, drain, workers, pool };
            let name = format!("rasid-encode-{index}");
            thread::Builder::new().name(name).spawn(move || keep_on(|| encoder.run()))?;
        }
        Ok(this)
    }

    /// Hands a job to a reader.
    pub fn submit(&self, job: Job) {
        let inbox = match job.ticket.lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        };
        inbox.put(|jobs| jobs.push(&job.ticket.tenant.clone(), job));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.interactive.close();
        self.bulk.close();
    }
}

/// The readers' way into the queue, which is closed when they have gone.
#[derive(Debug)]
struct Sink(Arc<Desk<Queue>>);

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Reader {
    tagger: Arc<Tagger>,
    inbox: Arc<Inbox>,
    sink: Arc<Sink>,
}

/// Runs a thread's work again if it panics outside of what is caught for each document: the server must not say that it serves while nobody
/// works. Who waits for what was dropped is told.
fn keep_on(work: impl Fn()) {
    while catch_unwind(AssertUnwindSafe(&work)).is_err() {
        tracing::error!("a thread of the engine panicked outside of a document and goes on");
        // Should it do so without end, others need the machine.
        thread::sleep(Duration::from_millis(100));
    }
}

impl Reader {
    fn run(&self) {
        while let Some(job) = self.inbox.take(Turns::next) {
            match job.unwanted(Instant::now()) {
                Some(reason) => job.discard(reason),
                None => {
                    fault::trip("turn", &job.document);
                    self.read(job);
                }
            }
        }
    }

    fn read(&self, job: Job) {
        let started = Instant::now();
        let read = || {
            let _span = debug_span!(parent: &job.span, "read").entered();
            fault::trip("read", &job.document);
            self.tagger.read(&job.document, &job.plan)
        };
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(reading)) => {
                let job = Arc::new(ActiveJob::new(job, reading, started.elapsed()));
                if job.reading.windows().is_empty() {
                    job.finish(&self.tagger);
                } else {
                    self.sink.0.put(|queue| queue.push(job));
                }
            }
            Ok(Err(error)) => job.fail(error.into()),
            Err(_) => job.fail(EngineError::Panicked),
        }
    }
}

struct Encoder {
    tagger: Arc<Tagger>,
    queue: Arc<Desk<Queue>>,
    drain: DrainRate,
    workers: usize,
    pool: ThreadPool,
}

impl Encoder {
    fn run(&self) {
        while let Some(Batch { slices, unwanted }) = self.queue.take(Queue::next_batch) {
            slices.iter().for_each(|slice| fault::trip("batch", &slice.job.document));
            for slice in unwanted {
                slice.job.discard(slice.tokens());
            }
            if !slices.is_empty() {
                // candle computes in the pool that it is called from.
                self.pool.install(|| self.encode(&slices));
            }
        }
    }

    fn encode(&self, batch: &[Slice]) {
        let requests: Vec<_> = batch.iter().flat_map(Slice::requests).collect();
        let tokens = requests.iter().map(WindowRequest::tokens).sum();
        let spans: Vec<_> = batch.iter().map(|slice| slice.job.encoding(slice.windows.len(), tokens)).collect();
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            batch.iter().for_each(|slice| fault::trip("encode", &slice.job.document));
            self.tagger.encode_each(&requests)
        }));
        let elapsed = started.elapsed();
        drop(spans);
        match (outcome, batch) {
            (Ok(results), _) => {
                self.drain.note_batch(tokens, elapsed, self.workers);
                metrics::batch(requests.len(), tokens, self.tagger.config().batch_tokens);
                self.record(batch, results, elapsed);
            }
            (Err(_), [slice]) => slice.job.fail(EngineError::Panicked),
            // Each document by itself, so that only the one at fault fails.
            (Err(_), _) => batch.iter().for_each(|slice| self.encode(std::slice::from_ref(slice))),
        }
    }

    fn record(&self, batch: &[Slice], results: Vec<Result<WindowScores, InferenceError>>, elapsed: Duration) {
        let mut results = results.into_iter();
        for slice in batch {
            let own: Vec<_> = slice.windows.clone().zip(&mut results).collect();
            slice.job.add_inference(elapsed);
            let record = || own.into_iter().for_each(|(index, result)| slice.job.record(index, result, &self.tagger));
            if catch_unwind(AssertUnwindSafe(record)).is_err() {
                slice.job.fail(EngineError::Panicked);
            }
        }
    }
}

impl Slice {
    fn requests(&self) -> impl Iterator<Item = WindowRequest<'_>> {
        let reading = &self.job.reading;
        let windows = reading.windows()[self.windows.clone()].iter();
        windows.map(|window| WindowRequest { reading, window, plan: &self.job.plan })
    }
}
