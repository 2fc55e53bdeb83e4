//! Transactions: read at one moment, write if nothing that was read has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::actor::Access;
use crate::entry::{Body, Entry, NEVER, Older};
use crate::error::Error;
use crate::inner::Inner;
use crate::key::Key;
use crate::put::{Action, Batch, Class, Commit, Expect, Job, Put};
use crate::space::Space;
use crate::view::{Item, Range, View};

/// How often a transaction is tried before it is given up.
const TRIES_MAX: u32 = 1000;

/// A transaction under way. It sees the store as it was when it began, and its own writes.
#[derive(Debug)]
pub struct Transaction {
    view: View,
    expects: Vec<Expect>,
    batch: Batch,
    writes: BTreeMap<(u32, Key), Option<Arc<Entry>>>,
}

impl Transaction {
    /// The version of the store it reads.
    pub fn version(&self) -> u64 {
        self.view.version()
    }

    /// The value at a key. The transaction fails and is tried again where somebody else changes the key before it is written.
    pub fn get(&mut self, space: &Space, key: &[u8]) -> Result<Option<Arc<Entry>>, Error> {
        space.check(Access::Read)?;
        let key = Key::new(key);
        if let Some(own) = self.writes.get(&(space.namespace.id, key.clone())) {
            return Ok(own.clone());
        }
        let found = self.view.get(space, key.as_bytes())?;
        let version = found.as_ref().map_or(0, |entry| entry.version());
        self.expects.push(Expect::Version { space: Arc::clone(&space.namespace), key, version });
        Ok(found)
    }

    /// Entries of a range, at most `limit`. The transaction fails and is tried again where somebody else changes, adds or removes a
    /// key of what was looked at.
    pub fn scan(&mut self, space: &Space, range: impl Into<Range>, limit: usize) -> Result<Vec<Item>, Error> {
        let range = range.into();
        // Own writes may take the place of what is there: up to as many more are read.
        let own = self.writes.len();
        let mut items = self.view.scan(space, range.clone(), limit.saturating_add(own))?;
        let full = items.len() >= limit.saturating_add(own);
        let end = if full { items.last().map(|item| item.key.next()) } else { range.end.clone() };
        let mut merged: BTreeMap<Key, Arc<Entry>> =
            items.drain(..).map(|item| (item.key, item.entry)).collect();
        for ((id, key), entry) in &self.writes {
            if *id == space.namespace.id && range.contains(key) && end.as_ref().is_none_or(|end| key < end) {
                match entry {
                    Some(entry) => merged.insert(key.clone(), Arc::clone(entry)),
                    None => merged.remove(key),
                };
            }
        }
        self.expects.push(Expect::Unchanged {
            space: Arc::clone(&space.namespace),
            start: range.start,
            end,
            since: self.view.version(),
        });
        Ok(merged.into_iter().take(limit).map(|(key, entry)| Item { key, entry }).collect())
    }

    /// Puts a value when the transaction is written.
    pub fn put(&mut self, space: &Space, key: impl Into<Key>, put: impl Into<Put>) -> Result<(), Error> {
        let key = key.into();
        self.batch.put(space, key.clone(), put)?;
        let entry = match self.batch.ops.iter().rev().find(|op| op.key == key).map(|op| &op.action) {
            Some(Action::Put { value, meta, .. }) => {
                let body = Body::Live { value: value.clone(), meta: Arc::clone(meta) };
                let time = quorate_base::Timestamp::default();
                Some(Arc::new(Entry::new(0, time, NEVER, body, Older::Nothing, 0)))
            }
            _ => None,
        };
        self.writes.insert((space.namespace.id, key), entry);
        Ok(())
    }

    /// Removes a key when the transaction is written.
    pub fn delete(&mut self, space: &Space, key: impl Into<Key>) -> Result<(), Error> {
        let key = key.into();
        self.batch.delete(space, key.clone())?;
        self.writes.insert((space.namespace.id, key), None);
        Ok(())
    }
}

impl Inner {
    /// Runs `body` and writes what it wrote; runs it again where it lost against others.
    pub(crate) fn transact<T, E: From<Error>>(
        self: &Arc<Self>,
        class: Class,
        mut body: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<(T, Commit), E> {
        for _ in 0..TRIES_MAX {
            let mut transaction = Transaction {
                view: View::open(self)?,
                expects: Vec::new(),
                batch: Batch::new(),
                writes: BTreeMap::new(),
            };
            let value = body(&mut transaction)?;
            let Transaction { view, mut expects, batch, .. } = transaction;
            expects.extend(batch.expects);
            // The view lives until the outcome is known: what a range expects can then be told from what is kept.
            let outcome = self.commit(Job { ops: batch.ops, expects, govern: None }, class);
            drop(view);
            match outcome {
                Ok(commit) => return Ok((value, commit)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { tries: TRIES_MAX }.into())
    }
}
