//! Bytes of requests and answers that are held over all calls. What waits must not fill the machine, whoever sends it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    EngineError, Tenant,
    drain::{DrainRate, estimate},
    shares::Shares,
};
use crate::metrics::{self, Scarce};

/// Grants calls the bytes that they hold, and each tenant no more than its share.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Mutex<Shares>,
    limit: usize,
    drain: DrainRate,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Held {
    memory: Memory,
    tenant: Tenant,
    bytes: usize,
}

impl Memory {
    /// Nothing held of `limit` bytes.
    pub(super) fn new(limit: usize, drain: DrainRate) -> Self {
        metrics::held_limit(limit);
        Self(Arc::new(Inner { held: Mutex::default(), limit, drain }))
    }

    /// As [`Self::new`], beside no engine.
    #[cfg(test)]
    pub(crate) fn alone(limit: usize) -> Self {
        Self::new(limit, DrainRate::default())
    }

    /// Most bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes held by each tenant that holds any.
    pub(crate) fn by_tenant(&self) -> Vec<(Tenant, usize)> {
        self.0.held.lock().iter().map(|(tenant, bytes)| (tenant.clone(), bytes)).collect()
    }

    /// Takes bytes for a tenant.
    ///
    /// # Errors
    /// [`EngineError::MemoryFull`], if it would hold more than twice what is then free.
    pub fn hold(&self, tenant: &Tenant, bytes: usize) -> Result<Held, EngineError> {
        let mut held = self.0.held.lock();
        let free = self.0.limit.saturating_sub(held.total());
        if !held.try_take(tenant, bytes, free) {
            metrics::refused(Scarce::Memory, tenant.label());
            let retry_after = self.0.drain.retry_after(estimate(held.in_the_way(tenant)));
            return Err(EngineError::MemoryFull { retry_after });
        }
        metrics::held(bytes as f64);
        drop(held);
        Ok(Held { memory: self.clone(), tenant: tenant.clone(), bytes })
    }
}

impl Held {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a part of the bytes under a guard of its own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { memory: self.memory.clone(), tenant: self.tenant.clone(), bytes }
    }

    /// Takes over another's bytes.
    pub fn absorb(&mut self, mut other: Self) {
        // Both are of one call, so of one tenant and one memory.
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Holds so many bytes from now on: an answer in a document's place. Never refused, since an answer that has been computed costs
    /// more to throw away; while the limit is passed nothing new is taken.
    pub fn resize(&mut self, bytes: usize) {
        let mut held = self.memory.0.held.lock();
        held.give_back(&self.tenant, self.bytes);
        held.take(&self.tenant, bytes);
        metrics::held(bytes as f64 - self.bytes as f64);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_becomes_of_their_guards() {
        let memory = Memory::alone(1000);
        let [a, b] = ["a", "b"].map(Tenant::new);
        let mut call = memory.hold(&a, 500).unwrap();
        assert!(memory.hold(&a, 200).is_err(), "a would hold more than twice what is free");
        assert!(memory.hold(&b, 200).is_ok());
        let mut document = call.split(100);
        assert_eq!(memory.by_tenant(), [(a.clone(), 500)]);
        document.resize(700);
        assert!(memory.hold(&b, 1).is_err(), "an answer passes the limit, and nothing new is taken");
        call.absorb(document);
        assert_eq!(memory.by_tenant(), [(a, 1100)]);
        drop(call);
        assert_eq!(memory.by_tenant(), []);
    }
}
