//! Windows waiting for the model.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use parking_lot::{Condvar, Mutex};

use super::{Lane, job::ActiveJob};

/// Windows of one document in a batch.
#[derive(Debug)]
pub(super) struct Slice {
    pub job: Arc<ActiveJob>,
    pub windows: Range<usize>,
}

/// Documents that have been read, in turn. Encoders wait when it is empty; admission bounds what it holds.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    not_empty: Condvar,
    batch_tokens: usize,
}

#[derive(Debug, Default)]
struct State {
    interactive: Line,
    bulk: Line,
    closed: bool,
}

/// Documents in turn: each gets a part of a batch, then goes to the back.
#[derive(Debug, Default)]
struct Line(VecDeque<Slice>);

impl Queue {
    /// A queue that hands out batches of `batch_tokens`.
    pub fn new(batch_tokens: usize) -> Self {
        Self { state: Mutex::default(), not_empty: Condvar::new(), batch_tokens }
    }

    /// Appends a document.
    pub fn push(&self, job: Arc<ActiveJob>, lane: Lane) {
        let windows = 0..job.reading.windows().len();
        let mut state = self.state.lock();
        let line = match lane {
            Lane::Interactive => &mut state.interactive,
            Lane::Bulk => &mut state.bulk,
        };
        line.0.push_back(Slice { job, windows });
        drop(state);
        self.not_empty.notify_one();
    }

    /// The next batch, without waiting for it to become full; waits while there is nothing at all, and is `None` when the queue
    /// is closed and empty.
    pub fn next_batch(&self) -> Option<Vec<Slice>> {
        let mut state = self.state.lock();
        loop {
            let batch = state.take_batch(self.batch_tokens);
            if !batch.is_empty() {
                return Some(batch);
            }
            if state.closed {
                return None;
            }
            self.not_empty.wait(&mut state);
        }
    }

    /// Lets encoders finish what is queued and then end.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.not_empty.notify_all();
    }
}

impl State {
    /// Interactive documents first; a quarter of the batch is kept for bulk work that waits, so that neither can starve the other.
    fn take_batch(&mut self, budget: usize) -> Vec<Slice> {
        let mut batch = Vec::new();
        let kept = if self.bulk.0.is_empty() { 0 } else { budget / 4 };
        let used = self.interactive.take(budget - kept, &mut batch);
        let used = used + self.bulk.take(budget.saturating_sub(used), &mut batch);
        self.interactive.take(budget.saturating_sub(used), &mut batch);
        batch
    }
}

impl Line {
    /// Moves windows of the documents in front into a batch, up to a token budget, but at least one if the batch is empty; returns
    /// how many tokens they are. A document with windows left goes to the back, so that a long one cannot keep the others waiting.
    /// Abandoned documents are dropped.
    fn take(&mut self, room: usize, batch: &mut Vec<Slice>) -> usize {
        let mut used = 0;
        // Every document is looked at once a batch at the most.
        for _ in 0..self.0.len() {
            let Some(mut slice) = self.0.pop_front() else {
                break;
            };
            if slice.job.is_abandoned() {
                continue;
            }
            let taken = slice.split_front(room.saturating_sub(used), batch.is_empty());
            if taken.windows.is_empty() {
                self.0.push_front(slice);
                break;
            }
            used += taken.tokens();
            batch.push(taken);
            if !slice.windows.is_empty() {
                self.0.push_back(slice);
                break;
            }
        }
        used
    }
}

impl Slice {
    /// Tokens that the model has to read for it, special tokens included.
    fn tokens(&self) -> usize {
        self.job.reading.windows()[self.windows.clone()].iter().map(|window| window.tokens.len() + 2).sum()
    }

    /// Takes the first windows that fit `room`; one even if it does not, if `at_least_one`.
    fn split_front(&mut self, room: usize, at_least_one: bool) -> Slice {
        let mut tokens = 0;
        let mut end = self.windows.start;
        for window in &self.job.reading.windows()[self.windows.clone()] {
            tokens += window.tokens.len() + 2;
            let is_first = at_least_one && end == self.windows.start;
            if tokens > room && !is_first {
                break;
            }
            end += 1;
        }
        let windows = self.windows.start..end;
        self.windows.start = end;
        Slice { job: Arc::clone(&self.job), windows }
    }
}
