//! What the memory promises.

mod access;
mod basics;
mod past;
mod rig;
mod several;
mod watching;
