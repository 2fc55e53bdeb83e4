//! Objectives, task graphs, worktrees, panels, the merge queue, and the journal that remembers all of it.
//!
//! The logic of a run is pure and in four small rooms: [`record`] says what can happen, [`state`] folds it,
//! [`decide`] draws conclusions, [`plan`] says what to do next. [`node`] is the only part with threads: it does the
//! work, writes what came of it to the [`journal`], and asks again. It knows no HTTP, no MCP and no command line.
//!
//! Read [`state::State`] first.

pub mod budget;
pub mod control;
pub mod decide;
pub mod enclose;
pub mod exchange;
pub mod git;
pub mod journal;
pub mod kit;
pub mod lease;
pub mod node;
pub mod nodes;
pub mod panel;
pub mod plan;
pub mod pressure;
pub mod record;
pub mod replay;
pub mod roster;
pub mod secrets;
pub mod spec;
pub mod state;
pub mod store;
pub mod summary;
pub mod topology;
mod user;
pub mod validator;
pub mod workspace;
