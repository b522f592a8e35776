//! What a document brings along beside its text: who sent it, how it waits, and until when.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use tokio::time::Instant;

/// Who a call belongs to: the unit of fairness, and a label in metrics. Cheap to clone.
///
/// Names must come from configuration, never from a caller, so that there are only so many of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// A tenant by the name it is configured under.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The one tenant of all who do not say who they are.
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Tenant> = LazyLock::new(|| Tenant::new("anonymous"));
        ANONYMOUS.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Its name, as a label in metrics.
    pub(super) fn label(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self::anonymous()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a document waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Refused at once if the queue is full; goes before bulk work.
    Interactive,
    /// Waits for room, and leaves a quarter of the queue to interactive work; keeps a quarter of each batch.
    Bulk,
}

impl Lane {
    /// As it stands in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// What a document shows at the engine's door.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Who sent it.
    pub tenant: Tenant,
    /// How it waits.
    pub lane: Lane,
    /// When the answer must be on its way; `None` for no hurry.
    pub deadline: Option<Instant>,
}
