//! The store as it was at one moment.

use std::ops::Bound;
use std::sync::Arc;

use crate::actor::Access;
use crate::entry::Entry;
use crate::error::Error;
use crate::inner::Inner;
use crate::key::Key;
use crate::namespace::Namespace;
use crate::space::Space;

/// Everything as it was after one transaction, whatever is written meanwhile. What it shows is kept while it lives: drop it soon.
#[derive(Debug)]
pub struct View {
    inner: Arc<Inner>,
    version: u64,
}

/// A key and what is there.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where it is.
    pub key: Key,
    /// What is there.
    pub entry: Arc<Entry>,
}

/// Some keys of a namespace, in order.
#[derive(Debug, Clone)]
pub struct Range {
    pub(crate) start: Bound<Key>,
    /// Not part of it; `None` for up to the last.
    pub(crate) end: Option<Key>,
}

impl Range {
    /// All keys.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: None }
    }

    /// Keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bound::Included(Key::new(prefix)), end: Key::after_prefix(prefix) }
    }

    /// Keys from `start` to before `end`.
    pub fn between(start: &[u8], end: &[u8]) -> Self {
        Self { start: Bound::Included(Key::new(start)), end: Some(Key::new(end)) }
    }

    /// What of it is behind `key`: to go on where a scan with a limit ended.
    pub fn after(self, key: &[u8]) -> Self {
        let next = Key::new(key).next();
        let start = match self.start {
            Bound::Included(start) | Bound::Excluded(start) if start > next => Bound::Included(start),
            _ => Bound::Included(next),
        };
        Self { start, end: self.end }
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        let behind = match &self.start {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        };
        behind && self.end.as_ref().is_none_or(|end| key < end)
    }
}

/// Keys that begin with these bytes.
impl From<&[u8]> for Range {
    fn from(prefix: &[u8]) -> Self {
        Self::prefix(prefix)
    }
}

/// Keys that begin with this text.
impl From<&str> for Range {
    fn from(prefix: &str) -> Self {
        Self::prefix(prefix.as_bytes())
    }
}

impl View {
    pub(crate) fn open(inner: &Arc<Inner>) -> Result<Self, Error> {
        inner.catch_up()?;
        Ok(Self { version: inner.index.enter(), inner: Arc::clone(inner) })
    }

    /// A view of a version that was entered.
    pub(crate) fn entered(inner: Arc<Inner>, version: u64) -> Self {
        Self { inner, version }
    }

    /// The transaction it shows, and all before.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The value at a key.
    pub fn get(&self, space: &Space, key: &[u8]) -> Result<Option<Arc<Entry>>, Error> {
        space.check(Access::Read)?;
        self.inner.entry_at(&space.namespace, key, self.version)
    }

    /// Entries of a range in order of keys, at most `limit`.
    pub fn scan(&self, space: &Space, range: impl Into<Range>, limit: usize) -> Result<Vec<Item>, Error> {
        space.check(Access::Read)?;
        self.scan_where(&space.namespace, &range.into(), limit, |_| true)
    }

    /// Entries with a tag in order of keys, behind `after`, at most `limit`. Looks at every key; [`Space::tagged`] does not.
    pub fn tagged(
        &self,
        space: &Space,
        tag: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        space.check(Access::Read)?;
        let range = after.map_or_else(Range::all, |after| Range::all().after(after));
        let tagged = |entry: &Entry| entry.meta().tags.iter().any(|other| **other == *tag);
        self.scan_where(&space.namespace, &range, limit, tagged)
    }

    pub(crate) fn scan_where(
        &self,
        namespace: &Namespace,
        range: &Range,
        limit: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        let inside = |key: &Key| range.end.as_ref().is_none_or(|end| key < end);
        for key in namespace.keys_from(range.start.clone()).take_while(inside) {
            if items.len() >= limit {
                break;
            }
            let entry = self.inner.entry_at(namespace, key.as_bytes(), self.version)?;
            if let Some(entry) = entry.filter(|entry| wanted(entry)) {
                items.push(Item { key, entry });
            }
        }
        // Keys that went while this process was away from the log are in no order any more.
        let oldest = namespace.gone_floor.load(std::sync::atomic::Ordering::Acquire);
        if self.version < oldest {
            return Err(Error::Forgotten { wanted: self.version, oldest });
        }
        Ok(items)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.inner.index.leave(self.version);
    }
}

impl Inner {
    /// What stood at a key after a transaction, unless it has expired since.
    pub(crate) fn entry_at(
        &self,
        namespace: &Namespace,
        key: &[u8],
        version: u64,
    ) -> Result<Option<Arc<Entry>>, Error> {
        match namespace.at(key, version) {
            Ok(entry) => Ok(entry.filter(|entry| entry.is_live(|| self.options.clock.now()))),
            Err(forgotten) => Err(Error::Forgotten { wanted: version, oldest: forgotten.oldest }),
        }
    }
}
