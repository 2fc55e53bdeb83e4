//! The shared durable memory of a swarm: namespaces of keys with versions, in memory for reading, in a log for keeping.
//!
//! Every process that opens a store has all of it in memory and follows the log; there is no server. A write is acknowledged when
//! it survives a power cut, unless it asked for less ([`Class`]). Reads take no lock, and see what any process was
//! acknowledged before. The crate knows nothing of agents' work, of the network, or of what values mean.
//!
//! What is found by words or vectors is `quorate-search`'s; the store keeps its index in step.
//!
//! Read [`Store`] first, then [`Space`] (a namespace as one [`Actor`] sees it). Inside: `tail` is how the log is followed and
//! written, `plan` what a transaction may do, `index` what it does, `snapshot` and `recover` how a start finds everything again.

#![warn(missing_docs)]

mod actor;
mod background;
mod backup;
mod change;
mod commit;
mod compact;
mod contents;
mod counter;
mod entry;
mod error;
mod feed;
mod index;
mod inner;
mod key;
mod namespace;
mod options;
mod place;
mod plan;
mod policy;
mod put;
mod record;
mod recover;
mod reload;
mod restore;
mod search;
mod snapshot;
mod space;
mod stats;
mod store;
mod tail;
mod transaction;
mod transfer;
mod view;
mod watch;

#[cfg(test)]
mod tests;

pub use actor::{Access, Actor};
pub use backup::{Backup, BackupFile};
pub use change::{Change, Event};
pub use entry::{Entry, Gone, Meta};
pub use error::{Error, Limit};
pub use key::Key;
pub use options::{Clock, ManualClock, Options, SystemClock};
pub use place::{FileLock, Lock, MemoryLock, Place};
pub use policy::{Eviction, History, Kind, Policy, Quota};
pub use put::{Batch, Class, Commit, Put};
pub use quorate_search::{Namespaces, Query};
pub use quorate_wal::{Key as SealKey, Keyring};
pub use restore::{Point, restore};
pub use search::Found;
pub use space::{Past, Space, Versions};
pub use stats::{SpaceStats, Stats};
pub use store::Store;
pub use transaction::Transaction;
pub use transfer::Transfer;
pub use view::{Item, Range, View};
pub use watch::Watch;
