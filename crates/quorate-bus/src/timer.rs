//! What is done at a time to come. One thread, started when it is first needed, asleep until the next thing is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

type Job = Box<dyn FnOnce() + Send>;

/// Jobs and their times.
#[derive(Debug)]
pub(crate) struct Timer {
    shared: Arc<Shared>,
    most: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    jobs: std::collections::HashMap<u64, Job>,
    next: u64,
    running: bool,
    stopped: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("waiting", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl Timer {
    pub(crate) fn new(most: usize) -> Self {
        Self { shared: Arc::default(), most }
    }

    /// Has `job` done at `time`. Jobs of the same time are done in the order in which they came. `false` where too many wait.
    pub(crate) fn add(&self, time: Instant, job: impl FnOnce() + Send + 'static) -> bool {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.jobs.len() >= self.most || state.stopped {
            return false;
        }
        let number = state.next;
        state.next += 1;
        state.due.push(Reverse((time, number)));
        state.jobs.insert(number, Box::new(job));
        if !state.running {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new().name("bus-timer".into()).spawn(move || run(&shared));
            state.running = started.is_ok();
            if !state.running {
                state.jobs.remove(&number);
                return false;
            }
        }
        drop(state);
        self.shared.changed.notify_one();
        true
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).jobs.len()
    }

    /// Forgets what waits and ends the thread.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
        let jobs = std::mem::take(&mut state.jobs);
        state.due.clear();
        drop(state);
        // A job may hold what takes the lock when it goes.
        drop(jobs);
        self.shared.changed.notify_one();
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.stopped {
            return;
        }
        let now = Instant::now();
        match state.due.peek() {
            None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(Reverse((time, _))) if *time > now => {
                let left = *time - now;
                state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            Some(_) => {
                let job = state.due.pop().and_then(|Reverse((_, number))| state.jobs.remove(&number));
                drop(state);
                if let Some(job) = job {
                    job();
                }
                state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
