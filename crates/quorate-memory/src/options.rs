//! How a store is opened.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use quorate_base::{Millis, Timestamp};
use quorate_wal::Keyring;

use crate::policy::Policy;

/// Tells the time. It may stand still or jump; times of transactions never go back.
pub trait Clock: Debug + Send + Sync {
    /// What time it is.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands where it was set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Shows another time; an earlier one too.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Goes on by `span`.
    pub fn advance(&self, span: Millis) {
        self.0.fetch_add(span.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// How a store is kept by this process.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells the time of transactions, and what has expired.
    pub clock: Arc<dyn Clock>,
    /// Keys that seal the log and snapshots.
    pub keys: Keyring,
    /// Bytes of all versions in memory, about; a write beyond it is refused. The whole store is in memory.
    pub memory_max: u64,
    /// Rules of a namespace that is written to before it was created; `None` refuses that.
    pub implicit: Option<Policy>,
    /// A relaxed write is on the disk after this at the latest. Longer costs more at a crash, shorter more syncs.
    pub flush_within: Millis,
    /// A snapshot is written when this many bytes of log have gathered since the last: what a start has to read at most, and
    /// what a snapshot's writing is spread over.
    pub snapshot_bytes: u64,
    /// How far back a restore may reach: snapshots and log this old are kept. 0 keeps what a start needs.
    pub retain: Millis,
    /// A log file that has grown past this is followed by another.
    pub segment_bytes: u64,
    /// Zeros written ahead in the log, so that a sync has nothing to allocate.
    pub ahead_bytes: u64,
    /// Whether a thread of the store flushes relaxed writes, removes what has expired and writes snapshots. Without it all that
    /// is done when [`Store::flush`](crate::Store::flush), [`sweep`](crate::Store::sweep) and
    /// [`snapshot`](crate::Store::snapshot) are called.
    pub background: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            keys: Keyring::plain(),
            memory_max: 4 << 30,
            implicit: None,
            flush_within: Millis(20),
            snapshot_bytes: 256 << 20,
            retain: Millis(0),
            segment_bytes: 64 << 20,
            ahead_bytes: 1 << 20,
            background: true,
        }
    }
}

impl Options {
    pub(crate) fn log(&self) -> quorate_wal::Options {
        quorate_wal::Options {
            segment_bytes: self.segment_bytes,
            ahead_bytes: self.ahead_bytes,
            keys: self.keys.clone(),
        }
    }
}
