//! Catching up where the log no longer has what this process has not seen: the newest snapshot takes the place of what is missing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::entry::{Entry, Meta};
use crate::error::Error;
use crate::index::{Index, chain_size};
use crate::inner::Inner;
use crate::key::Key;
use crate::namespace::Namespace;
use crate::recover::Loaded;
use crate::tail::{Tail, locked};

impl Inner {
    /// For a reader that found itself behind.
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let turn = locked(&self.turn);
        // Taking the lock among processes catches up, by reloading where it must.
        let mut tail = self.seize(&turn)?;
        self.release(&mut tail);
        Ok(())
    }

    /// The caller holds the lock among processes, and has nothing of its own that is not written.
    pub(crate) fn reload_held(&self, tail: &mut Tail) -> Result<(), Error> {
        let place = &self.place;
        let mut options = self.options.clone();
        options.keys = locked(&self.keys).clone();
        let mut loaded = Loaded::newest(&place.disk, &place.dir, &options.keys, u64::MAX)?;
        let bytes = loaded.replay(&place.disk, &place.dir, &options, &|_, _| true)?;
        let Loaded { index, ledger, log, .. } = loaded;
        let Some(mut log) = log else {
            return Err(Error::NothingThere { path: place.dir.clone() });
        };
        log.cut(place.control.synced().unwrap_or(0))?;
        log.sync()?;
        self.index.take_over(&index);
        let held = tail.held;
        *tail = Tail::new(log, ledger, bytes);
        tail.held = held;
        self.publish(tail, None);
        Ok(())
    }
}

impl Index {
    /// Makes this say what a newer state of the same store says. Readers go on meanwhile; what they ask of the past that is missing
    /// is forgotten to them.
    fn take_over(&self, newer: &Self) {
        for (id, there) in (0..).zip(newer.spaces()) {
            self.put_space(id, &there.name, (*there.policy()).clone());
            let Some(here) = self.space_by_id(id) else {
                continue;
            };
            // First: who misses a key that goes below knows since when it may be missing.
            here.gone_floor.fetch_max(there.gone_floor.load(Ordering::Acquire), Ordering::AcqRel);
            for key in there.keys_from(std::ops::Bound::Unbounded) {
                if let Some(entry) = there.head(key.as_bytes()) {
                    self.install(&here, &key, &entry);
                }
            }
            for key in here.keys_from(std::ops::Bound::Unbounded) {
                if there.head(key.as_bytes()).is_none() {
                    here.order.remove(key.as_bytes());
                    if let Some(old) = here.head(key.as_bytes()) {
                        here.map.pin().remove(&key);
                        self.discount(&here, &key, &old, &Meta::default());
                    }
                }
            }
        }
    }

    fn install(&self, space: &Arc<Namespace>, key: &Key, entry: &Arc<Entry>) {
        let old = space.head(key.as_bytes());
        if old.as_ref().is_some_and(|old| old.version() == entry.version()) {
            return;
        }
        self.resident.fetch_add(chain_size(entry, key.as_bytes()), Ordering::Relaxed);
        if entry.is_put() {
            space.entries.fetch_add(1, Ordering::Relaxed);
            space.bytes.fetch_add(entry.size() + key.as_bytes().len() as u64, Ordering::Relaxed);
        }
        for tag in &entry.meta().tags {
            space.tags.insert((Arc::clone(tag), key.clone()));
        }
        space.order.insert(key.clone());
        space.map.pin().insert(key.clone(), Arc::clone(entry));
        if let Some(old) = old {
            self.discount(space, key, &old, entry.meta());
        }
    }

    /// Takes an entry out of the counts and the tag index, but for the tags that what took its place has too.
    fn discount(&self, space: &Namespace, key: &Key, old: &Entry, new: &Meta) {
        self.resident.fetch_sub(chain_size(old, key.as_bytes()), Ordering::Relaxed);
        if old.is_put() {
            space.entries.fetch_sub(1, Ordering::Relaxed);
            space.bytes.fetch_sub(old.size() + key.as_bytes().len() as u64, Ordering::Relaxed);
        }
        for tag in &old.meta().tags {
            if new.tags.binary_search(tag).is_err() {
                space.tags.remove(&(Arc::clone(tag), key.clone()));
            }
        }
    }
}
