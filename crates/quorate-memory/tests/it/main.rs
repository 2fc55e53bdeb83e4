//! The memory with real files and real processes.

mod checker;
mod linear;
mod place;
mod processes;
