//! What the calls of a server share.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use super::status::CallError;
use crate::{config::ServeSettings, engine::Engine};

/// What the calls share.
#[derive(Debug)]
pub struct Shared {
    /// Set once the model is loaded and warm.
    pub engine: OnceLock<Engine>,
    /// Cancelled when the server shuts down.
    pub draining: CancellationToken,
    /// Most documents in a batch.
    pub max_batch_documents: usize,
    /// Most bytes in a request.
    pub max_request_bytes: usize,
    /// Most documents of a batch or stream worked on at a time.
    pub max_in_flight: usize,
}

impl Shared {
    /// Nothing loaded yet.
    pub fn new(settings: &ServeSettings) -> Self {
        Self {
            engine: OnceLock::new(),
            draining: CancellationToken::new(),
            max_batch_documents: settings.max_batch_documents,
            max_request_bytes: settings.max_request_bytes,
            max_in_flight: settings.max_in_flight.get(),
        }
    }

    /// The engine, for work that is new.
    pub fn engine(&self) -> Result<&Engine, CallError> {
        if self.draining.is_cancelled() {
            return Err(CallError::Draining);
        }
        self.engine.get().ok_or(CallError::Loading)
    }
}
