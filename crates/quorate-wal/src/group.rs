//! Group commit: many threads wait for one write and one sync.
//!
//! The first to come leads: it takes all that wait, does the work for them together, and tells each what came of it. While it
//! works, others gather, and one of them leads the next round. There is no thread of its own, so one caller alone pays no
//! hand-over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

/// Jobs `J` that are answered with `R`, some at a time.
#[derive(Debug)]
pub struct Group<J, R> {
    state: Mutex<State<J, R>>,
    most: usize,
}

#[derive(Debug)]
struct State<J, R> {
    waiting: VecDeque<(J, Arc<Ticket<R>>)>,
    led: bool,
}

#[derive(Debug)]
struct Ticket<R> {
    /// WAITING, LEAD or DONE.
    state: AtomicU32,
    thread: Thread,
    answer: Mutex<Option<R>>,
}

const WAITING: u32 = 0;
const LEAD: u32 = 1;
const DONE: u32 = 2;

impl<J, R> Group<J, R> {
    /// At most `most` jobs are done together.
    pub fn new(most: usize) -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), led: false }), most: most.max(1) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<J, R>> {
        // A panic in `work` happens outside this lock; what it guards is whole whatever happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in a job and waits for its answer. `work` gets jobs in the order in which they came and answers each, in that order;
    /// it is called by one thread at a time, for its own job and those of others.
    ///
    /// # Panics
    ///
    /// Where `work` panicked or answered fewer jobs than it was given.
    pub fn submit(&self, job: J, work: impl FnOnce(Vec<J>) -> Vec<R>) -> R {
        let ticket = {
            let mut state = self.state();
            if !state.led && state.waiting.is_empty() {
                state.led = true;
                drop(state);
                let lead = Lead { group: self };
                let mut answers = work(vec![job]);
                drop(lead);
                return answers.pop().expect("the work answers the one job it was given");
            }
            let ticket = Arc::new(Ticket {
                state: AtomicU32::new(WAITING),
                thread: std::thread::current(),
                answer: Mutex::new(None),
            });
            state.waiting.push_back((job, Arc::clone(&ticket)));
            if state.led {
                drop(state);
                while ticket.state.load(Ordering::Acquire) == WAITING {
                    std::thread::park();
                }
            } else {
                state.led = true;
                ticket.state.store(LEAD, Ordering::Release);
            }
            ticket
        };
        if ticket.state.load(Ordering::Acquire) == LEAD {
            let lead = Lead { group: self };
            let (jobs, tickets): (Vec<J>, Vec<Arc<Ticket<R>>>) = {
                let mut state = self.state();
                let count = state.waiting.len().min(self.most);
                state.waiting.drain(..count).unzip()
            };
            let mut abandoned = Abandoned(tickets);
            let answers = work(jobs);
            let tickets = std::mem::take(&mut abandoned.0);
            // The next leader starts before this round's waiters are told: its write overlaps with their waking.
            drop(lead);
            let mut answers = answers.into_iter();
            for ticket in &tickets {
                // One that has no answer is told so too, and panics instead of waiting for ever.
                *ticket.answer.lock().unwrap_or_else(PoisonError::into_inner) = answers.next();
                ticket.state.store(DONE, Ordering::Release);
                ticket.thread.unpark();
            }
        }
        let mut answer = ticket.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.take().expect("the work answers every job it was given and does not panic")
    }
}

/// The lead, handed on when dropped, also by a panic.
struct Lead<'a, J, R> {
    group: &'a Group<J, R>,
}

impl<J, R> Drop for Lead<'_, J, R> {
    fn drop(&mut self) {
        let mut state = self.group.state();
        match state.waiting.front() {
            Some((_, next)) => {
                next.state.store(LEAD, Ordering::Release);
                next.thread.unpark();
            }
            None => state.led = false,
        }
    }
}

/// Waiters whose leader panicked: they must not wait for ever.
struct Abandoned<R>(Vec<Arc<Ticket<R>>>);

impl<R> Drop for Abandoned<R> {
    fn drop(&mut self) {
        for ticket in &self.0 {
            ticket.state.store(DONE, Ordering::Release);
            ticket.thread.unpark();
        }
    }
}
