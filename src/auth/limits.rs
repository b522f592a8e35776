//! What one client may ask for: calls and documents a second, calls at a time.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota,
    clock::{Clock, DefaultClock},
};
use thiserror::Error;

use crate::metrics::security as metrics;

/// Advice to a client that has too many calls open: nobody knows when one of them ends.
const CALL_RETRY: Duration = Duration::from_millis(250);

/// So many a second in the long run, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// In the long run.
    pub per_second: f64,
    /// At once.
    pub burst: NonZeroU32,
}

/// The limits of a client; what is not given is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LimitSpec {
    /// Calls that may begin.
    pub calls: Option<Rate>,
    /// Documents that may be sent.
    pub documents: Option<Rate>,
    /// Calls that may be open at a time.
    pub concurrent_calls: Option<NonZeroU32>,
}

/// A client asks for more than it may.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LimitError {
    /// Too many calls.
    #[error("more than {} calls a second with this key", rate.per_second)]
    Calls {
        /// What is allowed.
        rate: Rate,
        /// When the next may begin.
        retry_after: Duration,
    },
    /// Too many calls at a time.
    #[error("{actual} calls at a time with this key, at most {limit} are allowed")]
    ConcurrentCalls {
        /// Most calls.
        limit: u32,
        /// Calls with this one.
        actual: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many documents.
    #[error("more than {} documents a second with this key", rate.per_second)]
    Documents {
        /// What is allowed.
        rate: Rate,
        /// Documents in this request.
        actual: usize,
        /// When this request may come again.
        retry_after: Duration,
    },
    /// A batch that would never be allowed.
    #[error(
        "documents holds {actual} documents, at most {limit} at once are allowed with this key: send smaller batches, or use StreamTag"
    )]
    Batch {
        /// Most documents at once.
        limit: u32,
        /// Documents in the request.
        actual: usize,
    },
}

impl LimitError {
    /// As it stands in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Calls { .. } => "calls_per_second",
            Self::ConcurrentCalls { .. } => "concurrent_calls",
            Self::Documents { .. } => "documents_per_second",
            Self::Batch { .. } => "documents_burst",
        }
    }
}

/// A rate, and how much of it is used.
#[derive(Debug, Clone)]
struct Bucket {
    rate: Rate,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Bucket {
    /// A full bucket.
    fn new(rate: Rate) -> Self {
        let period = Duration::from_secs_f64(1.0 / rate.per_second).max(Duration::from_nanos(1));
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(rate.burst);
        Self { rate, limiter: Arc::new(DefaultDirectRateLimiter::direct(quota)) }
    }

    /// Takes `n`, or says when there will be as many; `None` if never.
    fn take(&self, n: NonZeroU32) -> Result<(), Option<Duration>> {
        match self.limiter.check_n(n) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(early)) => Err(Some(early.wait_time_from(DefaultClock::default().now()))),
            Err(_) => Err(None),
        }
    }
}

/// The limits in force.
#[derive(Debug, Default)]
pub(super) struct Limits {
    spec: LimitSpec,
    calls: Option<Bucket>,
    documents: Option<Bucket>,
}

impl Limits {
    /// Limits that take the place of others: a rate that stays the same stays as used as it is.
    pub fn renew(&self, spec: LimitSpec) -> Self {
        let renew = |old: &Option<Bucket>, rate: Option<Rate>| {
            rate.map(|rate| old.clone().filter(|old| old.rate == rate).unwrap_or_else(|| Bucket::new(rate)))
        };
        Self { spec, calls: renew(&self.calls, spec.calls), documents: renew(&self.documents, spec.documents) }
    }

    /// Counts a call that begins, if it may.
    pub fn begin_call(&self, open: &Arc<OpenCalls>) -> Result<CallGuard, LimitError> {
        let guard = CallGuard::new(open);
        if let Some(limit) = self.spec.concurrent_calls
            && guard.open > limit.get() as usize
        {
            let (limit, actual) = (limit.get(), guard.open);
            return Err(LimitError::ConcurrentCalls { limit, actual, retry_after: CALL_RETRY });
        }
        if let Some(bucket) = &self.calls {
            let failed =
                |wait: Option<Duration>| LimitError::Calls { rate: bucket.rate, retry_after: wait.unwrap_or_default() };
            bucket.take(NonZeroU32::MIN).map_err(failed)?;
        }
        Ok(guard)
    }

    /// Counts documents of a request, if it may hold them.
    pub fn take_documents(&self, documents: usize) -> Result<(), LimitError> {
        let (Some(bucket), Some(n)) = (&self.documents, NonZeroU32::new(documents.try_into().unwrap_or(u32::MAX)))
        else {
            return Ok(());
        };
        bucket.take(n).map_err(|wait| match wait {
            Some(retry_after) => LimitError::Documents { rate: bucket.rate, actual: documents, retry_after },
            None => LimitError::Batch { limit: bucket.rate.burst.get(), actual: documents },
        })
    }
}

/// The calls that a client has open.
#[derive(Debug)]
pub(super) struct OpenCalls {
    name: Arc<str>,
    count: AtomicUsize,
}

impl OpenCalls {
    pub fn new(name: Arc<str>) -> Self {
        Self { name, count: AtomicUsize::new(0) }
    }
}

/// An open call; over when dropped.
#[derive(Debug)]
pub struct CallGuard {
    calls: Arc<OpenCalls>,
    /// Calls open with this one.
    open: usize,
}

impl CallGuard {
    fn new(calls: &Arc<OpenCalls>) -> Self {
        let open = calls.count.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::key_calls_open(&calls.name, 1.0);
        Self { calls: Arc::clone(calls), open }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.calls.count.fetch_sub(1, Ordering::Relaxed);
        metrics::key_calls_open(&self.calls.name, -1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64, burst: u32) -> Option<Rate> {
        Some(Rate { per_second, burst: NonZeroU32::new(burst).unwrap() })
    }

    fn limits(spec: LimitSpec) -> Limits {
        Limits::default().renew(spec)
    }

    #[test]
    fn calls_at_a_time_are_given_back() {
        let open = Arc::new(OpenCalls::new("a".into()));
        let limits = limits(LimitSpec { concurrent_calls: NonZeroU32::new(2), ..LimitSpec::default() });
        let (one, _two) = (limits.begin_call(&open).unwrap(), limits.begin_call(&open).unwrap());
        let error = limits.begin_call(&open).unwrap_err();
        assert!(matches!(error, LimitError::ConcurrentCalls { limit: 2, actual: 3, .. }), "{error:?}");
        drop(one);
        assert!(limits.begin_call(&open).is_ok());
    }

    #[test]
    fn a_call_that_is_one_too_many_uses_nothing_up() {
        let open = Arc::new(OpenCalls::new("a".into()));
        let concurrent_calls = NonZeroU32::new(1);
        let limits = limits(LimitSpec { calls: rate(0.001, 2), concurrent_calls, ..LimitSpec::default() });
        let one = limits.begin_call(&open).unwrap();
        for _ in 0..10 {
            assert!(matches!(limits.begin_call(&open), Err(LimitError::ConcurrentCalls { .. })));
        }
        drop(one);
        drop(limits.begin_call(&open).unwrap());
        assert!(matches!(limits.begin_call(&open), Err(LimitError::Calls { .. })));
    }

    #[test]
    fn a_batch_beyond_the_burst_is_never_allowed_and_one_within_it_later() {
        let limits = limits(LimitSpec { documents: rate(0.5, 10), ..LimitSpec::default() });
        assert!(limits.take_documents(0).is_ok());
        assert_eq!(limits.take_documents(11), Err(LimitError::Batch { limit: 10, actual: 11 }));
        assert!(limits.take_documents(10).is_ok());
        let Err(LimitError::Documents { retry_after, actual: 5, .. }) = limits.take_documents(5) else {
            panic!("the bucket is empty");
        };
        assert!(retry_after > Duration::from_secs(8) && retry_after <= Duration::from_secs(10), "{retry_after:?}");
    }

    #[test]
    fn a_rate_that_stays_stays_used() {
        let spec = LimitSpec { calls: rate(0.001, 1), documents: rate(0.001, 1), ..LimitSpec::default() };
        let old = limits(spec);
        old.take_documents(1).unwrap();
        assert!(old.renew(spec).take_documents(1).is_err());
        assert!(old.renew(LimitSpec { documents: rate(0.001, 2), ..spec }).take_documents(1).is_ok());
        assert!(old.renew(LimitSpec::default()).take_documents(1).is_ok());
    }
}
