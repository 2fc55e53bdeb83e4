//! Checks: what can be run on a change, running it, and judging what came of it.
//!
//! A check is a command or one of the [built-in](builtin) ones. [`examine`] runs one through a [`runner::Runner`], which
//! somebody else provides, and answers with an evidence record. A check that could not be run is inconclusive; nothing
//! here turns that into a pass.
//!
//! Built-in checks are deterministic: the same change gives the same findings.

pub mod builtin;
pub mod detect;
mod examine;
pub mod judge;
pub mod runner;
pub mod spec;
pub mod subject;

pub use detect::{Project, detect};
pub use examine::examine;
