//! Streams that are open and silent. One that waits for us is not silent, however long it waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::metrics::security as metrics;

/// What goes on in a stream.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: Duration,
    last: Mutex<Instant>,
    in_flight: AtomicUsize,
    has_ended: AtomicBool,
}

impl Activity {
    /// Of a stream that begins, and may be silent for so long.
    pub fn new(limit: Duration) -> Self {
        let last = Mutex::new(Instant::now());
        Self(Arc::new(Inner { limit, last, in_flight: AtomicUsize::new(0), has_ended: AtomicBool::new(false) }))
    }

    /// A document has come.
    pub fn begin(&self) {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The result of a document was taken.
    pub fn end(&self) {
        *self.0.last.lock() = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Done when the stream has been silent for too long.
    pub async fn silence(self) {
        let Inner { limit, last, in_flight, has_ended } = &*self.0;
        loop {
            if in_flight.load(Ordering::Relaxed) > 0 {
                sleep(*limit / 4).await;
                continue;
            }
            let end = *last.lock() + *limit;
            if end <= Instant::now() {
                has_ended.store(true, Ordering::Relaxed);
                metrics::call_given_up("idle");
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Whether it was ended for its silence.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Relaxed)
    }

    /// How long it may be silent.
    pub fn limit(&self) -> Duration {
        self.0.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_silence_without_work_ends_a_stream() {
        let limit = Duration::from_millis(200);
        let activity = Activity::new(limit);
        let silence = tokio::spawn(activity.clone().silence());
        activity.begin();
        sleep(3 * limit).await;
        assert!(!silence.is_finished() && !activity.has_ended());
        activity.end();
        let taken = Instant::now();
        silence.await.unwrap();
        assert!(activity.has_ended() && taken.elapsed() >= limit);
    }
}
