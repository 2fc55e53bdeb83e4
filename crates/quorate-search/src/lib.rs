//! Search over many short entries: ranked full text, vectors that the caller computed, the two merged, and the packing
//! of what was found into a token budget.
//!
//! An [`Index`] lives in memory only: it writes no file, so that nothing it was given reaches a disk. It knows nothing
//! of where entries are kept or whether they are durable; whoever owns them feeds it, and rebuilds it at start. A
//! search sees every [`Index::upsert`] and [`Index::remove`] that returned before it.
//!
//! Read [`Index`] first, then [`Query`] for what can be asked, then [`pack`] for what becomes of the answer.

#![warn(missing_docs)]

mod document;
mod error;
mod fusion;
mod index;
mod options;
pub mod pack;
mod query;
mod text;
mod vector;

pub use crate::document::{
    DIMENSIONS_MAX, Document, KEY_BYTES_MAX, NAME_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX,
};
pub use crate::error::Error;
pub use crate::fusion::RANK_CONSTANT;
pub use crate::index::Index;
pub use crate::options::Options;
pub use crate::query::{
    FILTERS_MAX, Hit, LIMIT_MAX, Namespaces, OFFSET_MAX, QUERY_BYTES_MAX, QUERY_WORDS_MAX, Query, Ranked,
    Weights, Words,
};
