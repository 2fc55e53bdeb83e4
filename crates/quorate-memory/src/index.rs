//! All namespaces in memory, and how a transaction changes them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::quality::RandomState;
use quorate_base::Timestamp;

use crate::change::{Change, Event};
use crate::entry::{Body, Entry, Gone, Meta, NEVER, Older};
use crate::key::Key;
use crate::namespace::Namespace;
use crate::record::{Metas, Op};

/// Bytes a version takes beside key and value, about.
pub(crate) const VERSION_OVERHEAD: u64 = 160;
/// The most tombstones that are kept.
const TOMBSTONES_MAX: usize = 1 << 16;

/// What readers look at.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: papaya::HashMap<Arc<str>, Arc<Namespace>, RandomState>,
    by_id: RwLock<Vec<Arc<Namespace>>>,
    /// The newest transaction that is whole in here.
    visible: AtomicU64,
    views: Mutex<BTreeMap<u64, u32>>,
    /// The first of `views`; `u64::MAX` where there is none, kept as its complement so that it begins so.
    oldest_view: AtomicU64,
    /// Bytes of all versions, old ones too, about.
    pub(crate) resident: AtomicU64,
}

/// What only the one who applies looks at.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Time of the newest transaction: times never go back, whatever the clock does.
    pub(crate) time: Timestamp,
    /// What expires, by namespace and time.
    pub(crate) expiring: BTreeMap<u32, BTreeSet<(u64, Key)>>,
    pub(crate) tombstones: VecDeque<Tombstone>,
    /// Where the search for something to evict goes on.
    pub(crate) hands: HashMap<u32, Key>,
    pub(crate) metas: Metas,
}

#[derive(Debug)]
pub(crate) struct Tombstone {
    pub(crate) version: u64,
    pub(crate) time: Timestamp,
    pub(crate) space: u32,
    pub(crate) key: Key,
}

impl Ledger {
    /// When the next entry expires.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.expiring.values().filter_map(|set| set.first()).map(|(at, _)| *at).min()
    }
}

/// What bounds forgetting while some transactions are applied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    /// The newest version of each key up to this one stays.
    all: u64,
    /// The same, for namespaces that keep no history.
    views: u64,
}

impl Index {
    pub(crate) fn space(&self, name: &str) -> Option<Arc<Namespace>> {
        self.names.pin().get(name).cloned()
    }

    pub(crate) fn spaces(&self) -> Vec<Arc<Namespace>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn space_count(&self) -> usize {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn space_by_id(&self, id: u32) -> Option<Arc<Namespace>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id as usize).cloned()
    }

    pub(crate) fn visible(&self) -> u64 {
        self.visible.load(Ordering::SeqCst)
    }

    pub(crate) fn set_visible(&self, version: u64) {
        self.visible.store(version, Ordering::SeqCst);
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what the newest version shows until [`Self::leave`].
    pub(crate) fn enter(&self) -> u64 {
        let mut views = self.views();
        let version = self.visible();
        *views.entry(version).or_default() += 1;
        self.note_oldest(&views);
        version
    }

    pub(crate) fn leave(&self, version: u64) {
        let mut views = self.views();
        if let Some(count) = views.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                views.remove(&version);
            }
        }
        self.note_oldest(&views);
    }

    fn note_oldest(&self, views: &BTreeMap<u64, u32>) {
        let oldest = views.first_key_value().map_or(u64::MAX, |(version, _)| *version);
        self.oldest_view.store(!oldest, Ordering::SeqCst);
    }

    /// Taken before transactions are applied: a view that begins meanwhile begins at what is visible now, because only who applies
    /// makes more visible.
    pub(crate) fn floor(&self) -> Floor {
        let oldest = !self.oldest_view.load(Ordering::SeqCst);
        Floor { all: oldest.min(self.visible()), views: oldest }
    }

    /// Adds a namespace, or changes its policy. `false` where its number is not the next.
    pub(crate) fn put_space(&self, id: u32, name: &Arc<str>, policy: crate::policy::Policy) -> bool {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(space) = by_id.get(id as usize) {
            space.set_policy(policy);
            return space.name == *name;
        }
        if id as usize != by_id.len() {
            return false;
        }
        let space = Arc::new(Namespace::new(id, Arc::clone(name), policy));
        by_id.push(Arc::clone(&space));
        self.names.pin().insert(Arc::clone(name), space);
        true
    }

    /// Applies a transaction. `changes` gathers what watchers are told. The reason where it does not fit what is here.
    pub(crate) fn apply(
        &self,
        ledger: &mut Ledger,
        floor: Floor,
        version: u64,
        time: Timestamp,
        ops: Vec<Op>,
        mut changes: Option<&mut Vec<Change>>,
    ) -> Result<(), &'static str> {
        ledger.time = ledger.time.max(time);
        let mut space: Option<Arc<Namespace>> = None;
        let told = changes.as_ref().map_or(0, |changes| changes.len());
        for op in ops {
            if let Op::Put { space: id, .. } | Op::Delete { space: id, .. } = op
                && space.as_ref().is_none_or(|space| space.id != id)
            {
                space = self.space_by_id(id);
            }
            let at = At::new(self, floor, version, time);
            let changed = match op {
                Op::Space { id, name, policy } => {
                    if !self.put_space(id, &name, *policy) {
                        return Err("a namespace has an unexpected number");
                    }
                    continue;
                }
                Op::Put { key, value, meta, expires, .. } => {
                    let space = space.as_ref().ok_or("it writes to a namespace that is not there")?;
                    at.put(ledger, space, key, value, meta, expires, changes.is_some())
                }
                Op::Delete { key, gone, .. } => {
                    let space = space.as_ref().ok_or("it writes to a namespace that is not there")?;
                    at.delete(ledger, space, key, gone, changes.is_some())
                }
            };
            if let (Some(changes), Some(change)) = (&mut changes, changed) {
                changes.push(change);
            }
        }
        if let Some(changes) = changes
            && changes.len() > told
            && let Some(last) = changes.last_mut()
        {
            last.last = true;
        }
        if !ledger.tombstones.is_empty() {
            self.give_back(ledger, floor);
        }
        Ok(())
    }

    /// Gives back tombstones that are old enough or too many.
    fn give_back(&self, ledger: &mut Ledger, floor: Floor) {
        while let Some(oldest) = ledger.tombstones.front() {
            let Some(space) = self.space_by_id(oldest.space) else {
                ledger.tombstones.pop_front();
                continue;
            };
            let old = match space.age() {
                _ if space.keep() == 0 => true,
                Some(age) => oldest.time.plus(age) < ledger.time,
                None => false,
            };
            if oldest.version > floor.all || (!old && ledger.tombstones.len() <= TOMBSTONES_MAX) {
                return;
            }
            let map = space.map.pin();
            if let Some(head) = map.get(&oldest.key)
                && head.version() == oldest.version
            {
                // First, so that who misses the key knows since when.
                space.gone_floor.fetch_max(oldest.version, Ordering::AcqRel);
                self.resident.fetch_sub(chain_size(head, oldest.key.as_bytes()), Ordering::Relaxed);
                space.order.remove(oldest.key.as_bytes());
                map.remove(&oldest.key);
            }
            drop(map);
            ledger.tombstones.pop_front();
        }
    }
}

fn version_size(entry: &Entry, key: &[u8]) -> u64 {
    entry.size() + key.len() as u64 + VERSION_OVERHEAD
}

pub(crate) fn chain_size(head: &Entry, key: &[u8]) -> u64 {
    let mut total = version_size(head, key);
    let mut next = head.older();
    while let Older::Entry(entry) = next {
        total += version_size(&entry, key);
        next = entry.older();
    }
    total
}

/// Where a transaction is applied.
pub(crate) struct At<'a> {
    index: &'a Index,
    floor: Floor,
    version: u64,
    time: Timestamp,
}

impl<'a> At<'a> {
    pub(crate) fn new(index: &'a Index, floor: Floor, version: u64, time: Timestamp) -> Self {
        Self { index, floor, version, time }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one operation")]
    pub(crate) fn put(
        &self,
        ledger: &mut Ledger,
        space: &Arc<Namespace>,
        key: Key,
        value: Box<[u8]>,
        meta: Arc<Meta>,
        expires: u64,
        tell: bool,
    ) -> Option<Change> {
        let map = space.map.pin();
        let old = map.get(&key);
        if old.is_some_and(|old| old.version() >= self.version) {
            return None;
        }
        let (older, depth) = old.map_or((Older::Nothing, 0), |old| self.behind(space, old, &key));
        let body = Body::Live { value, meta };
        let entry = Arc::new(Entry::new(self.version, self.time, expires, body, older, depth));
        let size = entry.size() + key.as_bytes().len() as u64;
        match old.filter(|old| old.is_put()) {
            Some(old) => {
                self.untag(space, old, &key, Some(entry.meta()));
                if old.expires_at() != NEVER {
                    forget_expiry(ledger, space.id, old.expires_at(), &key);
                }
                space.bytes.fetch_add(
                    size.wrapping_sub(old.size() + key.as_bytes().len() as u64),
                    Ordering::Relaxed,
                );
            }
            None => {
                space.entries.fetch_add(1, Ordering::Relaxed);
                space.bytes.fetch_add(size, Ordering::Relaxed);
            }
        }
        self.index.resident.fetch_add(size + VERSION_OVERHEAD, Ordering::Relaxed);
        if old.is_none() {
            space.order.insert(key.clone());
        }
        for tag in &entry.meta().tags {
            space.tags.insert((Arc::clone(tag), key.clone()));
        }
        if expires != NEVER {
            ledger.expiring.entry(space.id).or_default().insert((expires, key.clone()));
        }
        let change = tell.then(|| self.change(space, &key, Event::Put(Arc::clone(&entry))));
        map.insert(key, entry);
        change
    }

    fn delete(
        &self,
        ledger: &mut Ledger,
        space: &Arc<Namespace>,
        key: Key,
        gone: Gone,
        tell: bool,
    ) -> Option<Change> {
        let map = space.map.pin();
        let old = map.get(&key).filter(|old| old.is_put() && old.version() < self.version)?;
        self.untag(space, old, &key, None);
        if old.expires_at() != NEVER {
            forget_expiry(ledger, space.id, old.expires_at(), &key);
        }
        space.entries.fetch_sub(1, Ordering::Relaxed);
        space.bytes.fetch_sub(old.size() + key.as_bytes().len() as u64, Ordering::Relaxed);
        let (older, depth) = self.behind(space, old, &key);
        let entry = Arc::new(Entry::new(self.version, self.time, NEVER, Body::Gone(gone), older, depth));
        self.index.resident.fetch_add(version_size(&entry, key.as_bytes()), Ordering::Relaxed);
        let change = tell.then(|| self.change(space, &key, Event::Removed(gone)));
        let tombstone =
            Tombstone { version: self.version, time: self.time, space: space.id, key: key.clone() };
        ledger.tombstones.push_back(tombstone);
        map.insert(key, entry);
        change
    }

    fn change(&self, space: &Namespace, key: &Key, event: Event) -> Change {
        Change {
            version: self.version,
            time: self.time,
            namespace: Arc::clone(&space.name),
            space: space.id,
            key: key.clone(),
            event,
            last: false,
        }
    }

    fn untag(&self, space: &Namespace, old: &Entry, key: &Key, new: Option<&Meta>) {
        for tag in &old.meta().tags {
            if new.is_none_or(|new| new.tags.binary_search(tag).is_err()) {
                space.tags.remove(&(Arc::clone(tag), key.clone()));
            }
        }
    }

    /// What stands behind a new version: as many old ones as the namespace keeps, at least; about twice as many at most, so that
    /// the chain is walked once in a while and not with each write.
    fn behind(&self, space: &Namespace, old: &Arc<Entry>, key: &Key) -> (Older, u32) {
        let keep = space.keep();
        if keep == 0 && self.floor.views == u64::MAX {
            self.index.resident.fetch_sub(chain_size(old, key.as_bytes()), Ordering::Relaxed);
            return (Older::Forgotten, 0);
        }
        let floor = if keep == 0 { self.floor.views } else { self.floor.all };
        let age = space.age();
        if age.is_some_and(|age| old.time().plus(age) < self.time) && old.version() <= floor {
            self.cut(old, key);
            return (Older::Entry(Arc::clone(old)), 1);
        }
        if old.depth() + 1 < 2 * keep.max(1) {
            return (Older::Entry(Arc::clone(old)), old.depth() + 1);
        }
        let (mut entry, mut count) = (Arc::clone(old), 1);
        loop {
            if count >= keep && entry.version() <= floor {
                self.cut(&entry, key);
                break;
            }
            match entry.older() {
                Older::Entry(older) => entry = older,
                _ => break,
            }
            count += 1;
        }
        (Older::Entry(Arc::clone(old)), count)
    }

    fn cut(&self, entry: &Entry, key: &Key) {
        if let Older::Entry(older) = entry.older() {
            self.index.resident.fetch_sub(chain_size(&older, key.as_bytes()), Ordering::Relaxed);
            drop(entry.set_older(Older::Forgotten));
        }
    }
}

fn forget_expiry(ledger: &mut Ledger, space: u32, at: u64, key: &Key) {
    if let Some(set) = ledger.expiring.get_mut(&space) {
        set.remove(&(at, key.clone()));
        if set.is_empty() {
            ledger.expiring.remove(&space);
        }
    }
}
