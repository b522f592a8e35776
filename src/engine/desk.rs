//! Where threads wait for work.

use parking_lot::{Condvar, Mutex};

/// Work that some put down and others take, who wait while there is none.
#[derive(Debug, Default)]
pub(super) struct Desk<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State<W> {
    work: W,
    closed: bool,
}

impl<W> Desk<W> {
    /// A desk with this on it.
    pub fn new(work: W) -> Self {
        Self { state: Mutex::new(State { work, closed: false }), changed: Condvar::new() }
    }

    /// Puts something down, and wakes one who waits.
    pub fn put(&self, put: impl FnOnce(&mut W)) {
        put(&mut self.state.lock().work);
        self.changed.notify_one();
    }

    /// Takes something as soon as `take` finds it; `None` if there is nothing and the desk is closed.
    pub fn take<T>(&self, mut take: impl FnMut(&mut W) -> Option<T>) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(taken) = take(&mut state.work) {
                return Some(taken);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Nothing more will come: whoever waits takes what is left and then ends.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}
