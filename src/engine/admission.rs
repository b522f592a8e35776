//! Who may join the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::{EngineError, Lane};
use crate::metrics;

/// UTF-8 bytes a token stands for, on the low side of what the vocabulary needs for news, so that the estimate is a high one.
const BYTES_PER_TOKEN: usize = 4;

/// Shortest and longest advice to a refused caller.
const RETRY_RANGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// Counts the tokens that are in the engine, by an estimate from their bytes.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    /// Room for all work, in tokens.
    room: Arc<Semaphore>,
    /// Room for bulk work, in tokens.
    bulk: Arc<Semaphore>,
    capacity: usize,
    /// Moving average of the time a token takes, in nanoseconds; 0 before the first batch.
    nanoseconds_per_token: Arc<AtomicU64>,
}

/// Room taken by a document; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _room: OwnedSemaphorePermit,
    _bulk: Option<OwnedSemaphorePermit>,
    tokens: u32,
}

impl Permit {
    fn new(room: OwnedSemaphorePermit, bulk: Option<OwnedSemaphorePermit>, tokens: u32) -> Self {
        metrics::queue_taken(tokens);
        Self { _room: room, _bulk: bulk, tokens }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        metrics::queue_given_back(self.tokens);
    }
}

impl Admission {
    pub(super) fn new(max_queued_tokens: usize) -> Self {
        let capacity = max_queued_tokens.clamp(4, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        metrics::queue_capacity(capacity);
        Self {
            room: Arc::new(Semaphore::new(capacity)),
            bulk: Arc::new(Semaphore::new(capacity - capacity / 4)),
            capacity,
            nanoseconds_per_token: Arc::default(),
        }
    }

    /// Most tokens at a time.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes room for a document of so many bytes.
    pub(super) async fn admit(&self, bytes: usize, lane: Lane) -> Result<Permit, EngineError> {
        // A document larger than a quarter of the queue still has to find its place.
        let tokens = (bytes / BYTES_PER_TOKEN).clamp(1, self.capacity / 4) as u32;
        let closed = |_| EngineError::Stopped;
        match lane {
            Lane::Interactive => match Arc::clone(&self.room).try_acquire_many_owned(tokens) {
                Ok(room) => Ok(Permit::new(room, None, tokens)),
                Err(TryAcquireError::NoPermits) => Err(self.queue_full()),
                Err(TryAcquireError::Closed) => Err(EngineError::Stopped),
            },
            Lane::Bulk => {
                let bulk = Arc::clone(&self.bulk).acquire_many_owned(tokens).await.map_err(closed)?;
                let room = Arc::clone(&self.room).acquire_many_owned(tokens).await.map_err(closed)?;
                Ok(Permit::new(room, Some(bulk), tokens))
            }
        }
    }

    /// Refuses if bulk work would have to wait.
    pub(super) fn check_room(&self) -> Result<(), EngineError> {
        if self.bulk.available_permits() == 0 { Err(self.queue_full()) } else { Ok(()) }
    }

    /// Notes that a batch of so many tokens took so long.
    pub(super) fn note_batch(&self, tokens: usize, elapsed: Duration, workers: usize) {
        let new = elapsed.as_nanos() as u64 / (tokens.max(1) * workers.max(1)) as u64;
        let old = self.nanoseconds_per_token.load(Ordering::Relaxed);
        let average = if old == 0 { new } else { (old * 7 + new) / 8 };
        self.nanoseconds_per_token.store(average, Ordering::Relaxed);
    }

    /// Advises to come back when half of what waits now will be done.
    fn queue_full(&self) -> EngineError {
        let queued = (self.capacity - self.room.available_permits()) as u64;
        let drain = Duration::from_nanos(queued * self.nanoseconds_per_token.load(Ordering::Relaxed) / 2);
        EngineError::QueueFull { retry_after: drain.clamp(RETRY_RANGE.0, RETRY_RANGE.1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn interactive_work_is_refused_where_bulk_work_waits() {
        let admission = Admission::new(400);
        let mut bulk = Vec::new();
        for _ in 0..3 {
            bulk.push(admission.admit(400, Lane::Bulk).await.unwrap());
        }
        assert!(admission.check_room().is_err());
        let waiting = admission.admit(400, Lane::Bulk);
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());

        let last = admission.admit(400, Lane::Interactive).await.unwrap();
        assert!(matches!(admission.admit(4, Lane::Interactive).await, Err(EngineError::QueueFull { .. })));
        drop(last);
        assert!(admission.admit(4, Lane::Interactive).await.is_ok());
    }

    #[tokio::test]
    async fn advice_grows_with_what_waits() {
        let admission = Admission::new(4000);
        admission.note_batch(1000, Duration::from_secs(4), 1);
        let _permits = [(); 4].map(|()| admission.room.clone().try_acquire_many_owned(1000).unwrap());
        let Err(EngineError::QueueFull { retry_after }) = admission.admit(4, Lane::Interactive).await else {
            panic!("there must be no room");
        };
        assert_eq!(retry_after, Duration::from_secs(8));
    }

    #[tokio::test]
    async fn a_huge_document_finds_its_place() {
        let admission = Admission::new(400);
        assert!(admission.admit(1 << 20, Lane::Interactive).await.is_ok());
    }
}
