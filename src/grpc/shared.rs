//! What the calls of a server share.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::status::CallError;
use crate::{
    config::ServeSettings,
    engine::{Engine, Held, ModelHost, Tenant},
};

/// What the calls share.
#[derive(Debug)]
pub struct Shared {
    /// The model.
    pub host: ModelHost,
    /// Cancelled when the server shuts down.
    pub draining: CancellationToken,
    /// Most documents in a batch.
    pub max_batch_documents: usize,
    /// Most bytes in a request.
    pub max_request_bytes: usize,
    /// Most documents of a batch or stream worked on at a time.
    pub max_in_flight: usize,
    /// How long a stream may be silent.
    pub stream_idle: Duration,
}

impl Shared {
    /// Nothing loaded yet.
    pub fn new(settings: &ServeSettings) -> Self {
        Self {
            host: ModelHost::new(settings.model.clone(), settings.engine()),
            draining: CancellationToken::new(),
            max_batch_documents: settings.max_batch_documents,
            max_request_bytes: settings.max_request_bytes,
            max_in_flight: settings.max_in_flight.max(1),
            stream_idle: settings.connections.stream_idle(),
        }
    }

    /// The engine, for work that is new.
    pub fn engine(&self) -> Result<Arc<Engine>, CallError> {
        if self.draining.is_cancelled() {
            return Err(CallError::Draining);
        }
        self.host.current().ok_or(CallError::Loading)
    }

    /// Holds bytes for a call; `path` is what they are of in its request.
    pub fn hold(&self, tenant: &Tenant, bytes: usize, path: &str) -> Result<Held, CallError> {
        self.host.memory().hold(tenant, bytes).map_err(|source| CallError::Engine { path: path.to_owned(), source })
    }
}
