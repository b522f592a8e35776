//! Windows waiting for the model, and the batches that they go into.

use std::{mem, ops::Range, sync::Arc};

use tokio::time::Instant;

use super::{
    Lane,
    job::ActiveJob,
    turns::{Cost, Turns},
};

/// Windows of one document.
#[derive(Debug)]
pub(super) struct Slice {
    pub job: Arc<ActiveJob>,
    pub windows: Range<usize>,
    /// Whether some of the document are in the batch that is being made.
    served: bool,
}

/// Documents that have been read. Admission bounds what it holds.
#[derive(Debug)]
pub(super) struct Queue {
    interactive: Turns<Slice>,
    bulk: Turns<Slice>,
    batch_tokens: usize,
    /// Tokens of its share that bulk work has not had yet, since its next window is longer.
    saved: usize,
}

/// What encoders take from a queue.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Windows to encode.
    pub slices: Vec<Slice>,
    /// Windows that nobody waits for any more.
    pub unwanted: Vec<Slice>,
}

impl Queue {
    /// A queue that hands out batches of `batch_tokens`.
    pub fn new(batch_tokens: usize) -> Self {
        // Small parts of a batch, so that several tenants find a place in one.
        let line = || Turns::new((batch_tokens / 4).max(1));
        Self { interactive: line(), bulk: line(), batch_tokens, saved: 0 }
    }

    /// Appends a document that has windows.
    pub fn push(&mut self, job: Arc<ActiveJob>) {
        let windows = 0..job.reading.windows().len();
        let line = match job.ticket.lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        };
        line.push(&Arc::clone(&job).ticket.tenant, Slice { job, windows, served: false });
    }

    /// The next batch, without waiting for it to become full; `None` if there is nothing at all.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let now = Instant::now();
        let mut unwanted = Vec::new();
        for line in [&mut self.interactive, &mut self.bulk] {
            unwanted.append(&mut line.extract(|slice| slice.job.unwanted(now).is_some()));
        }
        let slices = self.take_batch();
        (!slices.is_empty() || !unwanted.is_empty()).then_some(Batch { slices, unwanted })
    }

    /// Interactive documents first, but for a quarter of the batch that is kept for bulk work that waits, so that neither can starve the
    /// other. What bulk work does not get of its quarters, since windows are long for such small batches, it saves until it has enough for
    /// one that goes before.
    fn take_batch(&mut self) -> Vec<Slice> {
        let (budget, mut batch) = (self.batch_tokens, Vec::new());
        let due = if self.interactive.is_empty() || self.bulk.is_empty() { 0 } else { self.saved + budget / 4 };
        let has_saved_enough = self.saved > 0 && self.bulk.peek().is_some_and(|slice| slice.cost() <= due);
        let first = if has_saved_enough { take(&mut self.bulk, due, budget, &mut batch) } else { 0 };
        let room = if has_saved_enough { budget.saturating_sub(first) } else { budget - due.min(budget / 4) };
        let used = first + take(&mut self.interactive, usize::MAX, room, &mut batch);
        let bulk = take(&mut self.bulk, usize::MAX, budget.saturating_sub(used), &mut batch);
        take(&mut self.interactive, usize::MAX, budget.saturating_sub(used + bulk), &mut batch);
        self.saved = if self.bulk.is_empty() { 0 } else { due.saturating_sub(first + bulk) };
        for line in [&mut self.interactive, &mut self.bulk] {
            line.rotate(|slice| mem::take(&mut slice.served));
        }
        batch
    }
}

/// Moves windows of at most `share` tokens into a batch, up to what it has room for, but at least one if it is empty; returns how many
/// tokens they are. Tenants have their turns, and so have the documents of one tenant: after the batch, one with windows left goes to
/// the back, so that a long one cannot keep the others waiting.
fn take(line: &mut Turns<Slice>, share: usize, room: usize, batch: &mut Vec<Slice>) -> usize {
    let mut used = 0;
    while let Some(slice) = line.peek() {
        let tokens = slice.cost();
        if used + tokens > share || (used + tokens > room && !batch.is_empty()) {
            break;
        }
        used += tokens;
        slice.move_window(batch);
        let is_done = slice.windows.is_empty();
        line.pay(tokens);
        if is_done {
            line.pop();
        }
    }
    used
}

impl Cost for Slice {
    /// Tokens of the next window.
    fn cost(&self) -> usize {
        self.job.window_tokens(self.windows.start..self.windows.start + 1)
    }
}

impl Slice {
    /// Tokens that the model has to read for it, special tokens included.
    pub fn tokens(&self) -> usize {
        self.job.window_tokens(self.windows.clone())
    }

    /// Moves the first window into a batch.
    fn move_window(&mut self, batch: &mut Vec<Self>) {
        let window = self.windows.start..self.windows.start + 1;
        self.windows.start = window.end;
        let earlier = if self.served { batch.iter_mut().rfind(|own| Arc::ptr_eq(&own.job, &self.job)) } else { None };
        match earlier {
            Some(own) => own.windows.end = window.end,
            None => batch.push(Self { job: Arc::clone(&self.job), windows: window, served: true }),
        }
        self.served = true;
    }
}
