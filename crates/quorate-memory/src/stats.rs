//! The store in numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_base::ByteCount;

use crate::inner::Inner;

/// What is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Number of the newest transaction.
    pub version: u64,
    /// The oldest transaction whose changes can still be watched from.
    pub log_first: u64,
    /// Bytes of the log.
    pub log: ByteCount,
    /// Bytes of all versions in memory, about.
    pub memory: ByteCount,
    /// Why nothing more is written, where that is so.
    pub stopped: Option<Arc<str>>,
    /// Each namespace, in the order in which they were created.
    pub namespaces: Vec<SpaceStats>,
}

/// What is in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceStats {
    /// Of the namespace.
    pub name: Arc<str>,
    /// Entries, those that have expired and are not swept yet among them.
    pub entries: u64,
    /// Bytes as the quota counts them.
    pub bytes: ByteCount,
    /// Reads by this process that found something.
    pub hits: u64,
    /// Reads by this process that found nothing.
    pub misses: u64,
}

impl Inner {
    pub(crate) fn stats(&self) -> Stats {
        let spaces = self.index.spaces();
        let namespaces = spaces.iter().map(|space| SpaceStats {
            name: Arc::clone(&space.name),
            entries: space.entries.load(Ordering::Relaxed),
            bytes: ByteCount(space.bytes.load(Ordering::Relaxed)),
            hits: space.hits.total(),
            misses: space.misses.total(),
        });
        let namespaces = namespaces.collect();
        let tail = self.tail();
        Stats {
            version: self.index.visible(),
            log_first: tail.log.first(),
            log: ByteCount(tail.log.bytes()),
            memory: ByteCount(self.index.resident.load(Ordering::Relaxed)),
            stopped: self.stopped.get().cloned(),
            namespaces,
        }
    }
}
