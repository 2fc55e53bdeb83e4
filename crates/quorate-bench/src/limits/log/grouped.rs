//! A log that many threads write to: who comes first writes for all that wait, and the next of them goes on.

use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};

use anyhow::ensure;

use super::{RECORD, preallocated};

#[derive(Debug)]
pub(crate) struct Grouped {
    file: File,
    size: u64,
    state: Mutex<State>,
    /// Those of even and of odd groups, so that a finished group wakes its own.
    finished: [Condvar; 2],
}

#[derive(Debug, Default)]
struct State {
    /// What the next group writes.
    pending: Vec<u8>,
    /// Kept, so that no group allocates.
    spare: Vec<u8>,
    /// The group that is filled now.
    group: u64,
    /// Groups that are durable: all with a smaller number.
    durable: u64,
    writing: bool,
    failed: bool,
    at: u64,
}

impl Grouped {
    pub(crate) fn create(path: &Path, size: u64) -> anyhow::Result<Self> {
        let file = preallocated(path, size)?;
        Ok(Self { file, size, state: Mutex::default(), finished: Default::default() })
    }

    /// Returns when the record is durable.
    pub(crate) fn append(&self, record: &[u8]) -> anyhow::Result<()> {
        let mut state = self.lock();
        state.pending.extend_from_slice(record);
        let own = state.group;
        while state.durable <= own {
            ensure!(!state.failed, "the log could not be written");
            state = if state.writing {
                self.finished[own as usize % 2].wait(state).expect("no holder of the lock panics")
            } else {
                self.write(state)?
            };
        }
        Ok(())
    }

    fn write<'a>(&'a self, mut state: MutexGuard<'a, State>) -> anyhow::Result<MutexGuard<'a, State>> {
        let spare = mem::take(&mut state.spare);
        let mut bytes = mem::replace(&mut state.pending, spare);
        let at = state.at;
        state.at += bytes.len() as u64;
        state.group += 1;
        state.writing = true;
        let fits = state.at <= self.size;
        drop(state);
        let written = self.file.write_all_at(&bytes, at).and_then(|()| self.file.sync_data());
        let mut state = self.lock();
        bytes.clear();
        state.spare = bytes;
        state.writing = false;
        if fits && written.is_ok() {
            state.durable += 1;
        } else {
            state.failed = true;
        }
        let next = &self.finished[state.group as usize % 2];
        if state.failed {
            next.notify_all();
        } else {
            // One of those that wait for the next group writes it, while those of this one wake.
            next.notify_one();
        }
        self.finished[(state.group - 1) as usize % 2].notify_all();
        written?;
        ensure!(fits, "the log is full");
        Ok(state)
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
        std::thread::scope(|scope| {
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
        let failures = std::thread::scope(|scope| {
            let append = |writer| (0..2_000).any(|n| log.append(&record(writer, n)).is_err());
            let threads: Vec<_> = (0..4).map(|writer| scope.spawn(move || append(writer))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|full| *full).count()
        });
        assert_eq!(failures, 4);
    }
}
