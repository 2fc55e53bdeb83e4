//! The journal of a run: append-only, framed, hash-chained, and durable before anything depends on it.
//!
//! [`frame`] is the format, bytes in and out; [`Journal`] is the file. Format version 1, all integers little-endian:
//!
//! ```text
//! header  magic "QRTEJRN\0" · u16 version · u16 zero · 16 bytes journal id · u32 CRC-32C of the 28 bytes before
//! frame   u32 length of the body · u32 CRC-32C of length and body · body
//! body    32 bytes chain · u64 seq · u64 Unix time in ms · payload
//! chain   SHA-256(chain before · seq · time · payload); before the first frame: SHA-256(header)
//! ```
//!
//! A bad frame with no good one after it is a torn tail: an append that a crash cut short, of which nobody has been told.
//! It is cut. A bad frame with a good one after it is damage, and refused with its offset.

pub mod frame;
mod log;

pub use frame::{Damaged, Entry, Tail};
pub use log::{Error, Follower, Journal, Storage, TornTail};

#[cfg(test)]
mod tests;
