//! One namespace in memory: a hash index for points, an ordered one for ranges, one for tags.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_skiplist::SkipSet;
use foldhash::quality::RandomState;
use papaya::HashMap;
use quorate_base::{Millis, Timestamp};
use seize::Collector;

use crate::actor::{Access, Actor};
use crate::counter::Counter;
use crate::entry::{Entry, Older};
use crate::error::Error;
use crate::key::Key;
use crate::policy::{Eviction, Policy};

pub(crate) struct Namespace {
    pub(crate) id: u32,
    pub(crate) name: Arc<str>,
    policy: RwLock<Arc<Policy>>,
    /// Raised with each change of policy, so that who was let in is asked again.
    epoch: AtomicU64,
    lru: AtomicBool,
    keep: AtomicU32,
    /// `u64::MAX` where old versions do not age.
    age: AtomicU64,
    quota: [AtomicU64; 4],
    /// What lives for a while when nothing is said; 0 where it lives for ever.
    ttl: AtomicU64,
    /// The newest version of each key, tombstones among them.
    pub(crate) map: HashMap<Key, Arc<Entry>, RandomState>,
    /// The same keys, in order.
    pub(crate) order: SkipSet<Key>,
    /// What the newest versions are tagged with.
    pub(crate) tags: SkipSet<(Arc<str>, Key)>,
    /// No tombstone newer than this was given back: an absent key was absent since then at least.
    pub(crate) gone_floor: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Namespace({})", self.name)
    }
}

/// Versions that leave the map together: each time every core is interrupted for a barrier, and until then they hold their memory.
const RETIRED_TOGETHER: usize = 128;

/// The past asked for is no longer kept.
#[derive(Debug)]
pub(crate) struct ForgottenAt {
    pub(crate) oldest: u64,
}

impl Namespace {
    pub(crate) fn new(id: u32, name: Arc<str>, policy: Policy) -> Self {
        let namespace = Self {
            id,
            name,
            policy: RwLock::new(Arc::new(policy.clone())),
            epoch: AtomicU64::new(0),
            lru: AtomicBool::new(false),
            keep: AtomicU32::new(0),
            age: AtomicU64::new(u64::MAX),
            quota: Default::default(),
            ttl: AtomicU64::new(0),
            map: HashMap::builder()
                .hasher(RandomState::default())
                .collector(Collector::new().batch_size(RETIRED_TOGETHER))
                .build(),
            order: SkipSet::new(),
            tags: SkipSet::new(),
            gone_floor: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            hits: Counter::default(),
            misses: Counter::default(),
        };
        namespace.set_policy(policy);
        namespace
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        self.lru.store(policy.eviction == Eviction::Lru, Ordering::Relaxed);
        self.keep.store(policy.history.versions_max, Ordering::Relaxed);
        self.age.store(policy.history.age_max.map_or(u64::MAX, |age| age.0), Ordering::Relaxed);
        let quota = policy.quota;
        let limits = [quota.entries_max, quota.bytes_max, quota.value_bytes_max, quota.key_bytes_max];
        for (cell, limit) in self.quota.iter().zip(limits) {
            cell.store(limit, Ordering::Relaxed);
        }
        self.ttl.store(policy.ttl.map_or(0, |ttl| ttl.0.max(1)), Ordering::Relaxed);
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn keep(&self) -> u32 {
        self.keep.load(Ordering::Relaxed)
    }

    /// Whether an entry of this size can be put without asking what the namespace does at its limits.
    pub(crate) fn has_room(&self, key: u64, value: u64, entries_more: u64, bytes_more: u64) -> bool {
        let [entries_max, bytes_max, value_max, key_max] =
            [0, 1, 2, 3].map(|index: usize| self.quota[index].load(Ordering::Relaxed));
        let entries = self.entries.load(Ordering::Relaxed).saturating_add(entries_more);
        let bytes = self.bytes.load(Ordering::Relaxed).saturating_add(bytes_more);
        key > 0 && key <= key_max && value <= value_max && entries <= entries_max && bytes <= bytes_max
    }

    pub(crate) fn lives_for_ever(&self) -> bool {
        self.ttl.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn age(&self) -> Option<Millis> {
        Some(self.age.load(Ordering::Relaxed)).filter(|&age| age != u64::MAX).map(Millis)
    }

    pub(crate) fn admit(&self, actor: &Actor, access: Access) -> Result<(), Error> {
        let policy = self.policy();
        if policy.kind.admits(actor, access) {
            return Ok(());
        }
        let kind = policy.kind.name();
        Err(Error::Denied {
            actor: Arc::clone(actor.name()),
            namespace: Arc::clone(&self.name),
            access,
            kind,
        })
    }

    /// The newest version, tombstones and expired ones too.
    pub(crate) fn head(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.map.pin().get(key).cloned()
    }

    /// The hot path: one lookup, and no lock.
    #[inline]
    pub(crate) fn live<T>(
        &self,
        key: &[u8],
        now: impl FnOnce() -> Timestamp,
        found: impl FnOnce(&Arc<Entry>) -> T,
    ) -> Option<T> {
        let map = self.map.pin();
        match map.get(key) {
            Some(entry) if entry.is_live(now) => {
                if self.lru.load(Ordering::Relaxed) {
                    entry.touch();
                }
                self.hits.add_one();
                Some(found(entry))
            }
            _ => {
                self.misses.add_one();
                None
            }
        }
    }

    /// What stood at `key` when `version` was the newest transaction; tombstones are answered too.
    pub(crate) fn at(&self, key: &[u8], version: u64) -> Result<Option<Arc<Entry>>, ForgottenAt> {
        let Some(mut entry) = self.head(key) else {
            return self.absent_at(version);
        };
        while entry.version() > version {
            let oldest = entry.version();
            entry = match entry.older() {
                Older::Entry(older) => older,
                Older::Forgotten => return Err(ForgottenAt { oldest }),
                Older::Nothing => return self.absent_at(version),
            };
        }
        Ok(Some(entry))
    }

    fn absent_at(&self, version: u64) -> Result<Option<Arc<Entry>>, ForgottenAt> {
        // Read after the miss: it was raised before the tombstone went.
        let floor = self.gone_floor.load(Ordering::Acquire);
        if version < floor { Err(ForgottenAt { oldest: floor }) } else { Ok(None) }
    }

    /// Keys from `start` on, in order.
    pub(crate) fn keys_from(&self, start: Bound<Key>) -> impl Iterator<Item = Key> + '_ {
        self.order.range((start, Bound::Unbounded)).map(|entry| entry.value().clone())
    }

    /// Keys whose newest version has this tag, in order.
    pub(crate) fn tagged<'a>(
        &'a self,
        tag: &'a Arc<str>,
        after: Option<Key>,
    ) -> impl Iterator<Item = Key> + 'a {
        let start = match after {
            Some(key) => Bound::Excluded((Arc::clone(tag), key)),
            None => Bound::Included((Arc::clone(tag), Key::new(&[]))),
        };
        self.tags
            .range((start, Bound::Unbounded))
            .take_while(move |entry| entry.value().0 == *tag)
            .map(|entry| entry.value().1.clone())
    }
}

/// Whether a text can name a namespace.
pub(crate) fn valid_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 128
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':'))
}
