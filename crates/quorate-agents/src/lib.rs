//! Agents and tools as bounded processes of the operating system.
//!
//! A process started here has its own session, a complete environment that was given and nothing inherited, output in
//! files, and limits over its whole tree. In a [`Sandbox`] it reaches only the files and connections it was given. It is
//! ended with its whole tree, and what a killed node left behind is found again by a marker. This crate knows nothing of tasks, checks or votes.
//!
//! A process can be started ahead of its program ([`hold_ahead`]), which then begins in a fraction of the time.
//!
//! Read [`Command`] first, then [`spawn`].

mod command;
mod containment;
mod disk;
pub mod egress;
mod hold;
mod idle;
mod machine;
mod orphans;
mod output;
mod reaper;
pub mod sandbox;
mod supervise;
mod sys;
mod tree;

pub use command::{Command, Limits, Stdin};
pub use containment::{Containment, Layer};
pub use egress::Egress;
pub use hold::{FRAME_BYTES_MAX, FrameError, WORD_BYTES_MAX, hold};
pub use machine::Memory;
pub use orphans::{Reaped, reap_orphans};
pub use output::{ends, redact_copy};
pub use sandbox::{Network, Sandbox, SandboxLayer};
pub use supervise::{
    Claim, ClaimError, Control, Ended, Held, Note, Outcome, Running, SpawnError, Usage, WaitError,
    hold_ahead, spawn,
};
pub use sys::kill_self;
