//! How fast the engine works off what waits, and what that means for a caller who is refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// UTF-8 bytes a token stands for, on the low side of what the vocabulary needs for news, so that an estimate of tokens is a high one.
const BYTES_PER_TOKEN: usize = 4;

/// Tokens that a text of so many bytes has at the most, if it is news.
pub(super) fn estimate(bytes: usize) -> usize {
    (bytes / BYTES_PER_TOKEN).max(1)
}

/// Shortest and longest advice to a refused caller.
const RETRY_RANGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// Moving average of the time a token takes, in nanoseconds; 0 before the first batch.
#[derive(Debug, Clone, Default)]
pub(super) struct DrainRate(Arc<AtomicU64>);

impl DrainRate {
    /// Notes that one of so many workers took so long for a batch of so many tokens.
    pub fn note_batch(&self, tokens: usize, elapsed: Duration, workers: usize) {
        let new = elapsed.as_nanos() as u64 / (tokens.max(1) * workers.max(1)) as u64;
        let old = self.0.load(Ordering::Relaxed);
        let average = if old == 0 { new } else { (old * 7 + new) / 8 };
        self.0.store(average, Ordering::Relaxed);
    }

    /// What holds until the first batch: the time of the warm-up, so that the first to be refused are told no nonsense.
    pub fn begin(&self, tokens: usize, elapsed: Duration) {
        if self.0.load(Ordering::Relaxed) == 0 {
            // It had all cores, as all workers together have.
            self.note_batch(tokens, elapsed, 1);
        }
    }

    /// When a refused caller should come back, if so many tokens have to go before.
    pub fn retry_after(&self, tokens: usize) -> Duration {
        let drain = Duration::from_nanos((tokens as u64).saturating_mul(self.0.load(Ordering::Relaxed)));
        drain.clamp(RETRY_RANGE.0, RETRY_RANGE.1)
    }
}
