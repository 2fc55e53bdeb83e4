//! One version of one key.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_base::Timestamp;

/// A version of a key that was put: immutable, shared with whoever read it.
pub struct Entry {
    version: u64,
    time: Timestamp,
    /// Milliseconds since the epoch; [`NEVER`] where it does not expire.
    expires: u64,
    body: Body,
    /// Versions that may stand behind this one, an upper bound.
    depth: u32,
    used: AtomicBool,
    older: Mutex<Older>,
}

pub(crate) const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) enum Body {
    Live { value: Box<[u8]>, meta: Arc<Meta> },
    Gone(Gone),
}

/// Why a key is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Somebody removed it.
    Deleted,
    /// Its time to live was over.
    Expired,
    /// It made room, because its namespace says so.
    Evicted,
}

/// What is said of a value beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Meta {
    /// As in HTTP; `application/octet-stream` where nothing was said.
    pub content_type: Arc<str>,
    /// Sorted, each once.
    pub tags: Box<[Arc<str>]>,
    /// Name of the actor that wrote this version.
    pub owner: Arc<str>,
    /// Little-endian `f32`s; empty for none.
    pub(crate) vector: Box<[u8]>,
}

impl Meta {
    pub(crate) fn size(&self) -> u64 {
        let tags = self.tags.iter().map(|tag| tag.len() as u64).sum::<u64>();
        tags + self.content_type.len() as u64 + self.vector.len() as u64
    }

    /// What the value means, as its writer computed it for the search.
    pub fn vector(&self) -> Option<Vec<f32>> {
        let floats = self.vector.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok());
        let vector: Vec<f32> = floats.map(f32::from_le_bytes).collect();
        (!vector.is_empty()).then_some(vector)
    }
}

/// What stands behind a version.
#[derive(Debug, Default, Clone)]
pub(crate) enum Older {
    /// Nothing that is known of.
    #[default]
    Nothing,
    /// Versions that are no longer kept.
    Forgotten,
    Entry(Arc<Entry>),
}

impl Entry {
    pub(crate) fn new(
        version: u64,
        time: Timestamp,
        expires: u64,
        body: Body,
        older: Older,
        depth: u32,
    ) -> Self {
        Self { version, time, expires, body, depth, used: AtomicBool::new(true), older: Mutex::new(older) }
    }

    /// Number of the transaction that wrote it: unique and rising over the whole store.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was written.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// When it is no longer there; `None` for never.
    pub fn expires(&self) -> Option<Timestamp> {
        (self.expires != NEVER).then_some(Timestamp(self.expires))
    }

    /// The bytes.
    pub fn value(&self) -> &[u8] {
        match &self.body {
            Body::Live { value, .. } => value,
            Body::Gone(_) => &[],
        }
    }

    /// Content type, tags and owner.
    pub fn meta(&self) -> &Meta {
        static NOTHING: std::sync::LazyLock<Meta> = std::sync::LazyLock::new(Meta::default);
        match &self.body {
            Body::Live { meta, .. } => meta,
            Body::Gone(_) => &NOTHING,
        }
    }

    pub(crate) fn shared_meta(&self) -> Option<&Arc<Meta>> {
        match &self.body {
            Body::Live { meta, .. } => Some(meta),
            Body::Gone(_) => None,
        }
    }

    pub(crate) fn expires_at(&self) -> u64 {
        self.expires
    }

    pub(crate) fn gone(&self) -> Option<Gone> {
        match self.body {
            Body::Live { .. } => None,
            Body::Gone(gone) => Some(gone),
        }
    }

    /// Put, whether expired since or not.
    pub(crate) fn is_put(&self) -> bool {
        matches!(self.body, Body::Live { .. })
    }

    pub(crate) fn is_live(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.is_put() && (self.expires == NEVER || self.expires > now().0)
    }

    /// Bytes it counts with, beside its key.
    pub(crate) fn size(&self) -> u64 {
        match &self.body {
            Body::Live { value, meta } => value.len() as u64 + meta.size(),
            Body::Gone(_) => 0,
        }
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since this was last asked.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn older_slot(&self) -> MutexGuard<'_, Older> {
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version before this one. Held for the copy of a pointer only.
    pub(crate) fn older(&self) -> Older {
        self.older_slot().clone()
    }

    pub(crate) fn set_older(&self, older: Older) -> Older {
        std::mem::replace(&mut *self.older_slot(), older)
    }
}

/// Long chains are taken apart one by one, not by recursion.
impl Drop for Entry {
    fn drop(&mut self) {
        let mut next = std::mem::take(self.older.get_mut().unwrap_or_else(PoisonError::into_inner));
        while let Older::Entry(entry) = next {
            match Arc::into_inner(entry) {
                Some(entry) => next = entry.set_older(Older::Nothing),
                None => return,
            }
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("version", &self.version)
            .field("time", &self.time)
            .field("expires", &self.expires())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}
