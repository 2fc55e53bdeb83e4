//! What the memory promises.

mod access;
mod basics;
mod crashes;
mod keeping;
mod model;
mod past;
mod rig;
mod searching;
mod several;
mod watching;
