//! Identity, time as data, units and digests: the few things every other room of the house shares.
//!
//! This crate knows no file, no socket, no clock and no other crate of the workspace. Time enters as a
//! [`Timestamp`] that somebody else read, sizes and durations as [`ByteCount`] and [`Millis`].
//!
//! Read [`id`] first, then [`digest`].

pub mod digest;
pub mod exit;
pub mod id;
pub mod time;
pub mod units;

pub use digest::{Digest, GitOid};
pub use exit::ExitStatus;
pub use id::{AgentId, BallotId, ChangeId, RunId, TaskId, ValidatorId};
pub use time::{Millis, Timestamp};
pub use units::ByteCount;
