//! What is written: values, batches, and what came of them.

use std::ops::Bound;
use std::sync::Arc;

use quorate_base::{Millis, Timestamp};

use crate::actor::Access;
use crate::entry::Meta;
use crate::error::Error;
use crate::key::Key;
use crate::namespace::Namespace;
use crate::policy::Policy;
use crate::space::Space;

pub(crate) const OCTETS: &str = "application/octet-stream";

/// A value to be written, with what is said of it.
#[derive(Debug, Clone, Default)]
pub struct Put {
    pub(crate) value: Vec<u8>,
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) ttl: Option<Millis>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) expect: Option<u64>,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) vector: Vec<f32>,
}

impl Put {
    /// A value of which nothing is said: octets without tags, that live as long as the namespace says.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// Says what the bytes are, as in HTTP.
    pub fn content_type(mut self, name: impl Into<Arc<str>>) -> Self {
        self.content_type = Some(name.into());
        self
    }

    /// Adds a tag. A tag given twice is one.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// It is no longer there this long after it was written.
    pub fn ttl(mut self, span: Millis) -> Self {
        self.ttl = Some(span);
        self
    }

    /// What the value means, as a vector that the caller computed: the search finds what is near to another. All of a
    /// namespace have one length; one of another length, or without a direction, is kept and not found by.
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = vector;
        self
    }

    /// Only where the key has this version now; 0 says that it must not be there.
    pub fn expect(mut self, version: u64) -> Self {
        self.expect = Some(version);
        self
    }

    fn is_plain(&self) -> bool {
        self.content_type.is_none() && self.tags.is_empty() && self.owner.is_none() && self.vector.is_empty()
    }
}

impl From<Vec<u8>> for Put {
    fn from(value: Vec<u8>) -> Self {
        Self::new(value)
    }
}

impl From<&[u8]> for Put {
    fn from(value: &[u8]) -> Self {
        Self::new(value)
    }
}

impl From<&str> for Put {
    fn from(value: &str) -> Self {
        Self::new(value).content_type("text/plain; charset=utf-8")
    }
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// Once it survives a power cut.
    #[default]
    Durable,
    /// Once it is in the memory of this process, which sees it at once. It is on the disk, and seen by other processes,
    /// within [`Options::flush_within`](crate::Options::flush_within). A crash may take the last moments, all from some
    /// transaction on; it never takes one and leaves a later one.
    Relaxed,
}

/// A transaction that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its number. Where nothing had to be changed, that of the newest transaction it was decided on.
    pub version: u64,
    /// When it was written.
    pub time: Timestamp,
    /// Keys put or removed, those that were evicted for it among them.
    pub changed: usize,
}

/// Several writes that happen together or not at all. A later write of a key takes the place of an earlier one.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) ops: Vec<JobOp>,
    pub(crate) expects: Vec<Expect>,
    slots: std::collections::HashMap<(u32, Key), usize>,
}

#[derive(Debug)]
pub(crate) struct JobOp {
    pub(crate) space: Arc<Namespace>,
    pub(crate) key: Key,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Put {
        value: Box<[u8]>,
        meta: Arc<Meta>,
        ttl: Option<Millis>,
        expires: Option<Timestamp>,
    },
    Delete,
    /// By a sweep: only where it has expired.
    Expire,
}

/// What must be so when a transaction is written.
#[derive(Debug)]
pub(crate) enum Expect {
    /// The key has this version; 0 where it is not there.
    Version { space: Arc<Namespace>, key: Key, version: u64 },
    /// No key from `start` to before `end` was changed after `since`.
    Unchanged { space: Arc<Namespace>, start: Bound<Key>, end: Option<Key>, since: u64 },
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put; with [`Put::expect`], the whole batch depends on it.
    pub fn put(&mut self, space: &Space, key: impl Into<Key>, put: impl Into<Put>) -> Result<(), Error> {
        space.check(Access::Write)?;
        let (key, put) = (key.into(), put.into());
        if let Some(version) = put.expect {
            self.expects.push(Expect::Version {
                space: Arc::clone(&space.namespace),
                key: key.clone(),
                version,
            });
        }
        let action = action(space, put);
        self.push(space, key, action);
        Ok(())
    }

    /// Adds a removal. What is not there is not removed.
    pub fn delete(&mut self, space: &Space, key: impl Into<Key>) -> Result<(), Error> {
        space.check(Access::Write)?;
        self.push(space, key.into(), Action::Delete);
        Ok(())
    }

    /// The batch is written only where the key has this version; 0 says that it must not be there.
    pub fn expect(&mut self, space: &Space, key: impl Into<Key>, version: u64) -> Result<(), Error> {
        space.check(Access::Read)?;
        let space = Arc::clone(&space.namespace);
        self.expects.push(Expect::Version { space, key: key.into(), version });
        Ok(())
    }

    /// Keys that it writes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it writes none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn push(&mut self, space: &Space, key: Key, action: Action) {
        let slot = self.slots.entry((space.namespace.id, key.clone())).or_insert(self.ops.len());
        let op = JobOp { space: Arc::clone(&space.namespace), key, action };
        match self.ops.get_mut(*slot) {
            Some(old) => *old = op,
            None => self.ops.push(op),
        }
    }
}

pub(crate) fn action(space: &Space, put: Put) -> Action {
    let meta = if put.is_plain() {
        Arc::clone(&space.plain)
    } else {
        let mut tags = put.tags;
        tags.sort_unstable();
        tags.dedup();
        let content_type = put.content_type.unwrap_or_else(|| Arc::clone(&space.plain.content_type));
        let owner = put.owner.unwrap_or_else(|| Arc::clone(space.actor.name()));
        let vector = put.vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        Arc::new(Meta { content_type, tags: tags.into(), owner, vector })
    };
    Action::Put { value: put.value.into_boxed_slice(), meta, ttl: put.ttl, expires: put.expires }
}

/// What a commit is asked to do.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) ops: Vec<JobOp>,
    pub(crate) expects: Vec<Expect>,
    pub(crate) govern: Option<Govern>,
}

/// A namespace to create or change.
#[derive(Debug)]
pub(crate) struct Govern {
    pub(crate) name: Arc<str>,
    pub(crate) policy: Policy,
    pub(crate) mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must not be there.
    Create,
    /// It may be there, and is left as it is then.
    Ensure,
    /// It must be there.
    Change,
}

impl From<Batch> for Job {
    fn from(batch: Batch) -> Self {
        Self { ops: batch.ops, expects: batch.expects, govern: None }
    }
}
