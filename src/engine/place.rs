//! A document's place: in the books from its coming, in the queue from its admission, both until its answer.

use tokio::time::Instant;

use super::{
    EngineError, Tenant, Ticket,
    admission::{Admission, Permit},
    in_time,
};
use crate::metrics::{self, Outcome};

/// Room for one document in the engine, whichever model will answer it: who waits for room need hold none. Given back when dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) entry: Entry,
    pub(super) permit: Permit,
    pub(super) ticket: Ticket,
    pub(super) arrived: Instant,
}

impl Place {
    /// Finds a place for a document of so many bytes.
    pub(super) async fn find(admission: &Admission, bytes: usize, ticket: &Ticket) -> Result<Self, EngineError> {
        let (entry, arrived) = (Entry::new(ticket.tenant.clone()), Instant::now());
        match in_time(ticket.deadline, admission.admit(bytes, ticket)).await {
            Ok(permit) => Ok(Self { entry, permit, ticket: ticket.clone(), arrived }),
            Err(error) => {
                entry.close(error.outcome());
                Err(error)
            }
        }
    }

    /// Gives it back, since the current model cannot do what is wanted of it.
    pub fn fail(self) {
        self.entry.close(Outcome::Failed);
    }
}

/// A document in the books: it is counted when it comes, and once when it goes, as cancelled if that is before its answer.
#[derive(Debug)]
pub(super) struct Entry {
    tenant: Tenant,
    outcome: Outcome,
}

impl Entry {
    fn new(tenant: Tenant) -> Self {
        metrics::document_received(tenant.label());
        Self { tenant, outcome: Outcome::Cancelled }
    }

    /// Counts what has become of it.
    pub fn close(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        metrics::document(self.outcome, self.tenant.label());
    }
}
