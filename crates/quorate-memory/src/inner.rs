//! What the handles of one store share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use quorate_wal::{Group, Keyring};

use crate::background::Signal;
use crate::error::Error;
use crate::feed::Feed;
use crate::index::Index;
use crate::options::Options;
use crate::place::Place;
use crate::put::{Commit, Job};
use crate::search::Search;
use crate::tail::Tail;

/// Locks are taken in this order: `turn`, the lock among processes, `tail`, and what the index guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) place: Place,
    pub(crate) options: Options,
    pub(crate) keys: Mutex<Keyring>,
    pub(crate) index: Index,
    /// One thread of this process at a time writes or asks for the lock among processes.
    pub(crate) turn: Mutex<()>,
    pub(crate) tail: Mutex<Tail>,
    /// Records below this number are applied.
    pub(crate) applied: AtomicU64,
    pub(crate) group: Group<Job, Result<Commit, Error>>,
    pub(crate) feed: Feed,
    pub(crate) stopped: OnceLock<Arc<str>>,
    pub(crate) signal: Arc<Signal>,
    /// Made by the first search.
    pub(crate) search: Mutex<Option<Search>>,
    /// One snapshot is written at a time.
    pub(crate) snapshotting: Mutex<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever needs to know whether this succeeds closes the store instead.
        let _ = self.flush();
    }
}
