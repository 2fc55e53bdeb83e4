//! Recent changes, for those who watch.
//!
//! They are kept only while somebody watches. Who falls behind what is kept reads from the log instead, so that a slow watcher
//! neither loses changes nor costs memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::change::Change;
use crate::tail::locked;

/// The most changes kept.
const CHANGES_MAX: usize = 16_384;
/// The most bytes of them, about.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(crate) struct Feed {
    watchers: AtomicUsize,
    ring: Mutex<Ring>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Ring {
    /// All changes of transactions after this one, up to `until`, are here. `None` where nothing is kept.
    after: Option<u64>,
    until: u64,
    changes: VecDeque<Change>,
    bytes: usize,
}

/// What the feed has for a watcher.
#[derive(Debug)]
pub(crate) enum Next {
    /// Seen up to this version, with these changes.
    Changes(Vec<Change>, u64),
    /// It is further back than what is kept.
    Behind,
    /// Nothing new.
    Nothing,
}

impl Feed {
    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn enter(&self) {
        self.watchers.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        if self.watchers.fetch_sub(1, Ordering::SeqCst) == 1 {
            locked(&self.ring).forget();
        }
    }

    /// Takes the changes of the transactions after `before` up to `until`, and wakes who waits. `None` where nobody watched when
    /// they were gathered.
    pub(crate) fn publish(&self, before: u64, until: u64, changes: Option<Vec<Change>>) {
        if !self.is_watched() {
            return;
        }
        let mut ring = locked(&self.ring);
        match changes {
            Some(changes) => ring.add(before, until, changes),
            None => ring.forget(),
        }
        drop(ring);
        self.more.notify_all();
    }

    /// What came after version `seen`; only what `wanted` wants, at most about `most` changes.
    pub(crate) fn next(&self, seen: u64, most: usize, wanted: impl Fn(&Change) -> bool) -> Next {
        let ring = locked(&self.ring);
        let Some(after) = ring.after else {
            return Next::Behind;
        };
        if seen >= ring.until {
            return Next::Nothing;
        }
        if seen < after {
            return Next::Behind;
        }
        let from = ring.changes.partition_point(|change| change.version <= seen);
        let (mut found, mut until) = (Vec::new(), ring.until);
        for change in ring.changes.range(from..) {
            if found.len() >= most && found.last().is_some_and(|last: &Change| last.version < change.version)
            {
                until = change.version - 1;
                break;
            }
            if wanted(change) {
                found.push(change.clone());
            }
        }
        Next::Changes(found, until)
    }

    /// Waits for something after version `seen`, as long as `span`.
    pub(crate) fn wait(&self, span: Duration, is_new: impl Fn() -> bool) {
        let ring = locked(&self.ring);
        if !is_new() {
            // Woken or not, the caller looks again.
            drop(self.more.wait_timeout(ring, span));
        }
    }
}

impl Ring {
    fn add(&mut self, before: u64, until: u64, changes: Vec<Change>) {
        if self.until != before {
            self.forget();
        }
        self.after.get_or_insert(before);
        self.until = until;
        self.bytes += changes.iter().map(Change::size).sum::<usize>();
        self.changes.extend(changes);
        while self.changes.len() > CHANGES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.size());
            // A transaction is kept whole or not at all.
            self.after = Some(oldest.version);
        }
        let after = self.after.unwrap_or(0);
        while let Some(oldest) = self.changes.front().filter(|oldest| oldest.version <= after) {
            self.bytes = self.bytes.saturating_sub(oldest.size());
            self.changes.pop_front();
        }
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}
