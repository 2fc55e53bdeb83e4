//! The program as its users meet it: real processes, real git, a real store.

mod bad_input;
mod certify;
mod python;
mod room;
mod run;
mod survival;
