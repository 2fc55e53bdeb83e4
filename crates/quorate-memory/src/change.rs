//! Changes, as watchers and the search see them.

use std::sync::Arc;

use quorate_base::Timestamp;

use crate::entry::{Entry, Gone};
use crate::key::Key;

/// One key was put or is gone.
#[derive(Debug, Clone)]
pub struct Change {
    /// Of the transaction.
    pub version: u64,
    /// Of the transaction.
    pub time: Timestamp,
    /// Name of the namespace.
    pub namespace: Arc<str>,
    pub(crate) space: u32,
    /// What changed.
    pub key: Key,
    /// How it changed.
    pub event: Event,
    /// Whether it is the last change of its transaction: up to here, what was seen is consistent.
    pub last: bool,
}

/// What happened to a key.
#[derive(Debug, Clone)]
pub enum Event {
    /// It was put; this is the new version.
    Put(Arc<Entry>),
    /// It is gone.
    Removed(Gone),
}

impl Change {
    /// About how many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        let value = match &self.event {
            Event::Put(entry) => usize::try_from(entry.size()).unwrap_or(0),
            Event::Removed(_) => 0,
        };
        128 + self.key.as_bytes().len() + value
    }
}
