//! Stores of values by key: what a memory is compared with.

mod claims;
#[cfg(feature = "peers")]
mod fjall;
#[cfg(feature = "peers")]
mod heed;
pub(crate) mod map;
mod queued;
mod raw;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "peers")]
mod sqlite;
pub(crate) mod store;

pub(crate) use claims::{reads, write_candidates, writes, writing};
