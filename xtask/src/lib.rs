//! Repository hygiene: what `cargo xtask` does, as functions over what they are given.
//!
//! This crate knows no quorate crate, so that it builds and speaks when they do not. [`mod@test`] is the one command a person or
//! a machine runs before a change; [`tidy`] holds the rules that no compiler checks, [`layers`] the rule of the house.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for the terminal of whoever works on the project"
)]

pub mod fuzz;
pub mod layers;
pub mod loom;
pub mod miri;
pub mod python;
pub mod test;
pub mod tidy;
pub mod tools;
