//! The memory with real files and real processes.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod checker;
mod linear;
mod place;
mod processes;
