//! The program as its users meet it: real processes, real git, a real store.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the answer")]

mod bad_input;
mod budget;
mod bus;
mod certify;
mod control;
mod egress;
mod example;
mod exchange;
mod fleet;
mod kit;
mod limits;
mod memory;
mod python;
mod room;
mod run;
mod sandbox;
mod secret;
mod stop;
mod survival;
mod topology;
mod worktree;
