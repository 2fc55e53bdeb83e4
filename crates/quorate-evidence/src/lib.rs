//! Evidence and what is built on it: records of checks, signed reports and votes, certificates, and their verification.
//!
//! Everything here is bytes in and values out. Files, processes and clocks are somebody else's; so is the question
//! whose keys to trust. Formats are the field's: in-toto Statement v1 in a DSSE v1 envelope, Ed25519 signatures.
//!
//! Read [`statement::Predicate`] first, then [`certificate::verify`].

pub mod certificate;
pub mod check;
pub mod dsse;
pub mod key;
pub mod record;
pub mod statement;
pub mod vote;
