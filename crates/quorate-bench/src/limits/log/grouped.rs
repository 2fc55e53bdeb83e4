//! A log that many threads write to: who comes first writes for all that wait, and the next of them goes on.

use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};

use anyhow::ensure;

use super::{RECORD, preallocated};

#[derive(Debug)]
pub(crate) struct Grouped {
    file: File,
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the next group writes, and who waits for it.
    pending: Vec<u8>,
    waiting: Vec<Arc<Waiter>>,
    /// Kept, so that no group allocates.
    spare: Vec<u8>,
    /// Somebody writes, or was told to.
    writing: bool,
    failed: bool,
    at: u64,
}

/// A thread that sleeps until its record is durable, or until it is its turn to write: woken without the lock, which a hundred woken
/// threads would otherwise wait for.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    told: AtomicU8,
}

const NOTHING: u8 = 0;
const WRITE: u8 = 1;
const DURABLE: u8 = 2;
const FAILED: u8 = 3;

impl Waiter {
    fn tell(&self, what: u8) {
        self.told.store(what, Ordering::Release);
        self.thread.unpark();
    }
}

impl Grouped {
    pub(crate) fn create(path: &Path, size: u64) -> anyhow::Result<Self> {
        let file = preallocated(path, size)?;
        Ok(Self { file, size, state: Mutex::default() })
    }

    /// Returns when the record is durable.
    pub(crate) fn append(&self, record: &[u8]) -> anyhow::Result<()> {
        let own = Arc::new(Waiter { thread: thread::current(), told: AtomicU8::new(NOTHING) });
        let mut state = self.lock();
        ensure!(!state.failed, "the log could not be written");
        state.pending.extend_from_slice(record);
        state.waiting.push(Arc::clone(&own));
        if !mem::replace(&mut state.writing, true) {
            own.told.store(WRITE, Ordering::Release);
        }
        drop(state);
        loop {
            match own.told.load(Ordering::Acquire) {
                NOTHING => thread::park(),
                WRITE => self.write(),
                told => {
                    ensure!(told == DURABLE, "the log is full, or could not be written");
                    return Ok(());
                }
            }
        }
    }

    /// Writes for all that wait, the calling thread among them, and passes the turn on.
    fn write(&self) {
        let mut state = self.lock();
        let spare = mem::take(&mut state.spare);
        let mut bytes = mem::replace(&mut state.pending, spare);
        let waiting = mem::take(&mut state.waiting);
        let at = state.at;
        state.at += bytes.len() as u64;
        let fits = state.at <= self.size;
        drop(state);
        let written = fits && self.file.write_all_at(&bytes, at).and_then(|()| self.file.sync_data()).is_ok();
        bytes.clear();
        let mut state = self.lock();
        state.spare = bytes;
        state.failed |= !written;
        let next = state.waiting.first().map(Arc::clone);
        state.writing = next.is_some();
        let refused = if state.failed { mem::take(&mut state.waiting) } else { Vec::new() };
        drop(state);
        // The next group is written while those of this one wake.
        if let Some(next) = next.filter(|_| written) {
            next.tell(WRITE);
        }
        waiting.iter().for_each(|waiter| waiter.tell(if written { DURABLE } else { FAILED }));
        refused.iter().for_each(|waiter| waiter.tell(FAILED));
    }

    /// How many records of each writer lie in the file, in order from nought.
    pub(crate) fn records(&self) -> anyhow::Result<Vec<u64>> {
        let mut bytes = vec![0; self.lock().at as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        let mut found = Vec::new();
        for record in bytes.chunks_exact(RECORD) {
            let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
            let writer = number(0) as usize - 1;
            if found.len() <= writer {
                found.resize(writer + 1, 0);
            }
            ensure!(found[writer] == number(8), "a record of writer {writer} is out of order");
            found[writer] += 1;
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;

    #[test]
    fn what_many_threads_appended_lies_in_the_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = Grouped::create(&folder.path().join("log"), 1 << 20).unwrap();
        thread::scope(|scope| {
            for writer in 0..8 {
                let log = &log;
                scope.spawn(move || (0..20).for_each(|n| log.append(&record(writer, n)).unwrap()));
            }
        });
        assert_eq!(log.records().unwrap(), [20; 8]);
    }

    #[test]
    fn a_full_log_says_so_to_everyone() {
        let folder = tempfile::tempdir().unwrap();
        let log = Grouped::create(&folder.path().join("log"), 1 << 20).unwrap();
        let failures = thread::scope(|scope| {
            let append = |writer| (0..2_000).any(|n| log.append(&record(writer, n)).is_err());
            let threads: Vec<_> = (0..4).map(|writer| scope.spawn(move || append(writer))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|full| *full).count()
        });
        assert_eq!(failures, 4);
    }
}
