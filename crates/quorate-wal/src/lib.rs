//! A write-ahead log: records in, sequence numbers out, and what was acknowledged is there after any crash.
//!
//! The log knows bytes and order. What a record means, who may write it and when it can be forgotten is the user's: the
//! memory keeps its changes here, the bus its durable topics.
//!
//! Read [`log`] first (append, sync, open, read), then [`frame`] (the bytes and what tells a torn write from damage),
//! [`group`] (many threads, one sync) and [`control`] (several processes, one log). [`disk`] is everything the log asks of an
//! operating system; with the feature `sim`, the module `sim` is a disk that loses, tears and reorders what was not synced.

pub mod control;
pub mod disk;
pub mod frame;
pub mod group;
pub mod log;
pub mod seal;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

#[cfg(test)]
mod tests;

pub use control::Control;
pub use disk::{Disk, DiskFile, OsDisk};
pub use frame::Batch;
pub use group::Group;
pub use log::{Enough, Error, Log, Opened, Options, Pending, Record};
pub use seal::{Key, Keyring};
