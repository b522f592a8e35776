//! Windows waiting for the model.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use parking_lot::{Condvar, Mutex};

use super::job::ActiveJob;

/// Windows of one document in a batch.
#[derive(Debug)]
pub(super) struct Slice {
    pub job: Arc<ActiveJob>,
    pub windows: Range<usize>,
}

/// Read documents in turn, bounded by tokens: readers wait when it is full, encoders when it is empty.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    not_empty: Condvar,
    not_full: Condvar,
    max_tokens: usize,
    batch_tokens: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Slice>,
    tokens: usize,
    closed: bool,
}

impl Queue {
    /// A queue that hands out batches of `batch_tokens` and is full when it holds a few of them.
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        Self {
            state: Mutex::default(),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            // Enough that no encoder waits for a reader; more would only hold memory.
            max_tokens: batch_tokens.saturating_mul(2 * (workers + 1)),
            batch_tokens,
        }
    }

    /// Appends a document; waits while the queue is full.
    pub fn push(&self, job: Arc<ActiveJob>) {
        let windows = 0..job.reading.windows().len();
        let slice = Slice { job, windows };
        let mut state = self.state.lock();
        while state.tokens >= self.max_tokens && !state.closed {
            self.not_full.wait(&mut state);
        }
        state.tokens += slice.tokens();
        state.entries.push_back(slice);
        drop(state);
        self.not_empty.notify_one();
    }

    /// The next batch: windows of the documents in front, up to the token budget, at least one. Waits while there is none; `None`
    /// when the queue is closed and empty. A document with windows left goes to the back, so that a long one cannot keep the
    /// others waiting. Abandoned documents are dropped.
    pub fn next_batch(&self) -> Option<Vec<Slice>> {
        let mut state = self.state.lock();
        loop {
            let batch = state.take_batch(self.batch_tokens);
            if !batch.is_empty() {
                drop(state);
                self.not_full.notify_all();
                return Some(batch);
            }
            if state.closed {
                return None;
            }
            // Dropped documents may have made room.
            self.not_full.notify_all();
            self.not_empty.wait(&mut state);
        }
    }

    /// Lets encoders finish what is queued and then end.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.not_empty.notify_all();
        self.not_full.notify_all();
    }
}

impl State {
    fn take_batch(&mut self, budget: usize) -> Vec<Slice> {
        let mut batch = Vec::new();
        let mut room = budget;
        // Every document is looked at once a batch at the most.
        for _ in 0..self.entries.len() {
            let Some(mut slice) = self.entries.pop_front() else {
                break;
            };
            self.tokens -= slice.tokens();
            if slice.job.is_abandoned() {
                continue;
            }
            let taken = slice.split_front(room, batch.is_empty());
            if taken.windows.is_empty() {
                self.tokens += slice.tokens();
                self.entries.push_front(slice);
                break;
            }
            room = room.saturating_sub(taken.tokens());
            batch.push(taken);
            if !slice.windows.is_empty() {
                self.tokens += slice.tokens();
                self.entries.push_back(slice);
                break;
            }
        }
        batch
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
