//! A namespace as one actor sees it: points, ranges, tags, the past.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::actor::{Access, Actor};
use crate::entry::{Entry, Meta, Older};
use crate::error::Error;
use crate::key::Key;
use crate::namespace::Namespace;
use crate::policy::Policy;
use crate::put::{Action, Batch, Class, Commit, Expect, Job, JobOp, OCTETS, Put, action};
use crate::store::Store;
use crate::view::{Item, Range, View};
use crate::watch::Watch;

/// A namespace and who works with it. Cheap to clone; keep it where the namespace is used often.
#[derive(Debug, Clone)]
pub struct Space {
    store: Store,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) actor: Actor,
    class: Class,
    /// What is said of a value of which nothing was said.
    pub(crate) plain: Arc<Meta>,
    admitted: Arc<Admitted>,
}

/// Under which epoch of the policy reading and writing were allowed; 0 for none.
#[derive(Debug, Default)]
struct Admitted {
    read: AtomicU64,
    write: AtomicU64,
}

/// A version of the past.
#[derive(Debug, Clone)]
pub struct Past {
    /// Of the transaction that wrote it.
    pub version: u64,
    /// When it was written.
    pub time: quorate_base::Timestamp,
    /// `None` where the key was removed.
    pub entry: Option<Arc<Entry>>,
}

/// What is kept of a key's past.
#[derive(Debug, Clone)]
pub struct Versions {
    /// Newest first.
    pub versions: Vec<Past>,
    /// Whether there may have been older ones.
    pub forgotten: bool,
}

impl Space {
    pub(crate) fn new(store: Store, namespace: Arc<Namespace>, actor: Actor) -> Self {
        let plain = Arc::new(Meta {
            content_type: OCTETS.into(),
            tags: Box::default(),
            owner: Arc::clone(actor.name()),
            vector: Box::default(),
        });
        Self { store, namespace, actor, class: Class::Durable, plain, admitted: Arc::default() }
    }

    /// The same namespace, written to under another class of durability.
    pub fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The namespace's name.
    pub fn name(&self) -> &Arc<str> {
        &self.namespace.name
    }

    /// The namespace's rules as they are now.
    pub fn policy(&self) -> Arc<Policy> {
        self.namespace.policy()
    }

    /// The store it is of.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    #[inline]
    pub(crate) fn check(&self, access: Access) -> Result<(), Error> {
        let epoch = self.namespace.epoch();
        let known = match access {
            Access::Read => &self.admitted.read,
            Access::Write => &self.admitted.write,
            Access::Govern => return self.namespace.admit(&self.actor, access),
        };
        if known.load(Ordering::Relaxed) == epoch {
            return Ok(());
        }
        self.namespace.admit(&self.actor, access)?;
        known.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    /// The value at a key. Sees every write, of any process, that was acknowledged before this was called.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Error> {
        self.read(key, Arc::clone)
    }

    /// As [`get`](Self::get), without taking a reference: `found` should be short.
    #[inline]
    pub fn read<T>(&self, key: &[u8], found: impl FnOnce(&Arc<Entry>) -> T) -> Result<Option<T>, Error> {
        self.check(Access::Read)?;
        self.store.inner.catch_up()?;
        Ok(self.namespace.live(key, || self.store.inner.options.clock.now(), found))
    }

    /// Writes a value.
    pub fn put(&self, key: impl Into<Key>, put: impl Into<Put>) -> Result<Commit, Error> {
        self.check(Access::Write)?;
        let (mut key, put) = (key.into(), put.into());
        let expect = put.expect;
        let mut action = action(self, put);
        if self.class == Class::Relaxed {
            match self.store.inner.relaxed_put(&self.namespace, key, action, expect) {
                Ok(commit) => return Ok(commit),
                Err(back) => (key, action) = back,
            }
        }
        let expects = match expect {
            Some(version) => {
                vec![Expect::Version { space: Arc::clone(&self.namespace), key: key.clone(), version }]
            }
            None => Vec::new(),
        };
        self.one(key, action, expects)
    }

    /// Writes a value where the key has this version; 0 says that it must not be there. The loser of a race is told
    /// [`Error::Conflict`] with the version that is there.
    pub fn compare_and_set(
        &self,
        key: impl Into<Key>,
        version: u64,
        put: impl Into<Put>,
    ) -> Result<Commit, Error> {
        self.put(key, put.into().expect(version))
    }

    /// Removes a key; [`Commit::changed`] is 0 where it was not there.
    pub fn delete(&self, key: impl Into<Key>) -> Result<Commit, Error> {
        self.check(Access::Write)?;
        self.one(key.into(), Action::Delete, Vec::new())
    }

    /// Removes a key where it has this version.
    pub fn delete_at(&self, key: impl Into<Key>, version: u64) -> Result<Commit, Error> {
        self.check(Access::Write)?;
        let key = key.into();
        let expect = Expect::Version { space: Arc::clone(&self.namespace), key: key.clone(), version };
        self.one(key, Action::Delete, vec![expect])
    }

    fn one(&self, key: Key, action: Action, expects: Vec<Expect>) -> Result<Commit, Error> {
        let ops = vec![JobOp { space: Arc::clone(&self.namespace), key, action }];
        self.store.inner.commit(Job { ops, expects, govern: None }, self.class)
    }

    /// Writes a batch under this handle's class.
    pub fn commit(&self, batch: Batch) -> Result<Commit, Error> {
        self.store.inner.commit(batch.into(), self.class)
    }

    /// Entries of a range as they are now, in order of keys, at most `limit`. Consistent: all of one moment.
    pub fn scan(&self, range: impl Into<Range>, limit: usize) -> Result<Vec<Item>, Error> {
        View::open(&self.store.inner)?.scan(self, range, limit)
    }

    /// Entries tagged with `tag` now, in order of keys, behind `after`, at most `limit`.
    pub fn tagged(&self, tag: &str, after: Option<&[u8]>, limit: usize) -> Result<Vec<Item>, Error> {
        self.check(Access::Read)?;
        self.store.inner.catch_up()?;
        let tag: Arc<str> = tag.into();
        let now = self.store.inner.options.clock.now();
        let mut items = Vec::new();
        for key in self.namespace.tagged(&tag, after.map(Key::new)) {
            if items.len() >= limit {
                break;
            }
            // The index is changed beside the entry: the entry decides.
            let entry = self.namespace.head(key.as_bytes());
            let tagged =
                |entry: &Arc<Entry>| entry.is_live(|| now) && entry.meta().tags.binary_search(&tag).is_ok();
            if let Some(entry) = entry.filter(tagged) {
                items.push(Item { key, entry });
            }
        }
        Ok(items)
    }

    /// The value at a key when `version` was the newest transaction. [`Error::Forgotten`] where that is no longer known.
    pub fn get_at(&self, key: &[u8], version: u64) -> Result<Option<Arc<Entry>>, Error> {
        self.check(Access::Read)?;
        self.store.inner.catch_up()?;
        let newest = self.store.inner.index.visible();
        if version > newest {
            return Err(Error::NotYet { wanted: version, newest });
        }
        self.store.inner.entry_at(&self.namespace, key, version)
    }

    /// What is kept of a key's past, newest first. Versions that have expired are left out.
    pub fn history(&self, key: &[u8]) -> Result<Versions, Error> {
        self.check(Access::Read)?;
        self.store.inner.catch_up()?;
        let now = self.store.inner.options.clock.now();
        let mut found = Versions { versions: Vec::new(), forgotten: false };
        let Some(mut entry) = self.namespace.head(key) else {
            found.forgotten = self.namespace.gone_floor.load(Ordering::Acquire) > 0;
            return Ok(found);
        };
        loop {
            if !entry.is_put() || entry.is_live(|| now) {
                let (version, time) = (entry.version(), entry.time());
                let entry = entry.is_put().then(|| Arc::clone(&entry));
                found.versions.push(Past { version, time, entry });
            }
            entry = match entry.older() {
                Older::Entry(older) => older,
                Older::Forgotten => {
                    found.forgotten = true;
                    return Ok(found);
                }
                Older::Nothing => {
                    found.forgotten = self.namespace.gone_floor.load(Ordering::Acquire) > 0;
                    return Ok(found);
                }
            };
        }
    }

    /// Every change of keys that begin with `prefix`, of the transactions after version `after`, in order and without a gap.
    /// With `after` 0, from the beginning, as long as the log has it.
    pub fn watch(&self, prefix: &[u8], after: u64) -> Result<Watch, Error> {
        self.check(Access::Read)?;
        Ok(Watch::new(Arc::clone(&self.store.inner), Some((self.clone(), Key::new(prefix))), after))
    }
}
