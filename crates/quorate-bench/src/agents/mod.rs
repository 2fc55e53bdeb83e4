//! Agents as processes: how long until one works, how many stand side by side, how soon all have ended.

mod many;
mod room;
mod spawn;

pub(crate) use many::{held_bytes, memory, recover, stop150, up100};
pub(crate) use spawn::spawn;
