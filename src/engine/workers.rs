//! The threads of the engine: readers and encoders.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};
use rayon::ThreadPool;
use tokio::time::Instant;

use super::{
    EngineConfig, EngineError, Lane, StartError,
    admission::Admission,
    job::{ActiveJob, Job},
    queue::{Queue, Slice},
};
use crate::{
    metrics,
    tagger::{InferenceError, Tagger, WindowRequest, WindowScores},
};

/// One thread for each lane reads documents (splits them into tokens, far faster than the model takes them), the others encode them.
#[derive(Debug)]
pub(super) struct Workers {
    /// Where the readers take documents from; taken on drop, so that they end.
    inboxes: Option<Inboxes>,
    queue: Arc<Queue>,
    readers: Vec<JoinHandle<()>>,
    encoders: Vec<JoinHandle<()>>,
}

/// A lone document must not wait until the thousand before it are read. Unbounded, since admission bounds what is in them.
#[derive(Debug)]
struct Inboxes {
    interactive: Sender<Job>,
    bulk: Sender<Job>,
}

impl Workers {
    /// Starts the threads.
    pub fn start(tagger: &Arc<Tagger>, admission: &Admission, config: EngineConfig) -> Result<Self, StartError> {
        let workers = config.workers.max(1);
        let queue = Arc::new(Queue::new(tagger.config().batch_tokens));
        let mut this = Self { inboxes: None, queue: Arc::clone(&queue), readers: Vec::new(), encoders: Vec::new() };
        let mut reader = |lane, name: &str| {
            let (sender, inbox) = crossbeam_channel::unbounded();
            let reader = Reader { tagger: Arc::clone(tagger), queue: Arc::clone(&queue), inbox, lane };
            this.readers.push(thread::Builder::new().name(name.to_owned()).spawn(move || reader.run())?);
            Ok::<_, StartError>(sender)
        };
        this.inboxes = Some(Inboxes {
            interactive: reader(Lane::Interactive, "rasid-read")?,
            bulk: reader(Lane::Bulk, "rasid-read-bulk")?,
        });
        let cores = if config.threads == 0 { thread::available_parallelism()?.get() } else { config.threads };
        for index in 0..workers {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads((cores / workers).max(1))
                .thread_name(move |thread| format!("rasid-{index}-{thread}"))
                .build()?;
            let encoder = Encoder {
                tagger: Arc::clone(tagger),
                queue: Arc::clone(&queue),
                admission: admission.clone(),
                workers,
                pool,
            };
            let name = format!("rasid-encode-{index}");
            this.encoders.push(thread::Builder::new().name(name).spawn(move || encoder.run())?);
        }
        Ok(this)
    }

    /// Hands a job to a reader.
    pub fn submit(&self, job: Job, lane: Lane) -> Result<(), EngineError> {
        let inboxes = self.inboxes.as_ref().ok_or(EngineError::Stopped)?;
        let inbox = match lane {
            Lane::Interactive => &inboxes.interactive,
            Lane::Bulk => &inboxes.bulk,
        };
        inbox.send(job).map_err(|_| EngineError::Stopped)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.inboxes = None;
        // A thread that panicked has nothing left to wait for.
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.queue.close();
        for encoder in self.encoders.drain(..) {
            let _ = encoder.join();
        }
    }
}

struct Reader {
    tagger: Arc<Tagger>,
    queue: Arc<Queue>,
    inbox: Receiver<Job>,
    lane: Lane,
}

impl Reader {
    fn run(self) {
        for job in self.inbox {
            if job.is_abandoned() {
                continue;
            }
            let started = Instant::now();
            let reading = catch_unwind(AssertUnwindSafe(|| self.tagger.read(&job.document, &job.plan)));
            match reading {
                Ok(Ok(reading)) => {
                    let job = Arc::new(ActiveJob::new(job, reading, started.elapsed()));
                    if job.reading.windows().is_empty() {
                        job.finish(&self.tagger);
                    } else {
                        self.queue.push(job, self.lane);
                    }
                }
                Ok(Err(error)) => job.fail(error.into()),
                Err(_) => job.fail(EngineError::Panicked),
            }
        }
    }
}

struct Encoder {
    tagger: Arc<Tagger>,
    queue: Arc<Queue>,
    admission: Admission,
    workers: usize,
    pool: ThreadPool,
}

impl Encoder {
    fn run(self) {
        while let Some(batch) = self.queue.next_batch() {
            // candle computes in the pool that it is called from.
            self.pool.install(|| self.encode(&batch));
        }
    }

    fn encode(&self, batch: &[Slice]) {
        let requests: Vec<_> = batch.iter().flat_map(Slice::requests).collect();
        let tokens = requests.iter().map(WindowRequest::tokens).sum();
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.tagger.encode_each(&requests)));
        let elapsed = started.elapsed();
        self.admission.note_batch(tokens, elapsed, self.workers);
        match (outcome, batch) {
            (Ok(results), _) => {
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
