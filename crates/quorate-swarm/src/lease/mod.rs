//! Leases on files, folders and named things, so that tasks that would be in each other's way do not run side by side.
//!
//! [`Leases`] is a state machine without clock, file or thread: the time is an argument, and what it grants is written to
//! the journal by whoever asked. Its promises:
//!
//! - **Exclusion.** Two holders never have leases that conflict. Leases conflict where one covers what the other is on (a
//!   folder covers all below it) and not both are shared.
//! - **Fencing.** Every grant has a token, greater than every one before it. A lease that ended or expired is taken over with
//!   a greater token, and [`Leases::check`] refuses the old one.
//! - **All or nothing.** A request is granted whole, its resources in one fixed order, or it waits in line.
//! - **Fairness.** The line is first come, first served among requests that conflict: a reader that comes after a waiting
//!   writer waits behind it. There is one exception, without which the line itself could deadlock: a holder that asks for
//!   more passes those who wait for that very holder, and so could not go first anyhow.
//! - **No deadlock stays.** Who holds something and asks for more can close a circle of holders that wait for each other. It
//!   is found at once, and one request in it is refused: that of the holder whose oldest lease is the youngest, because it
//!   has done the least. It keeps what it holds; giving that back and asking for all at once is how it goes on.
//!
//! Of a holder that keeps asking for more there is no promise that those who wait for it are ever served: holders must end.

mod leases;
mod resource;
mod waits;

pub use leases::{Denied, Event, Grant, Leases, Stale, Waiting};
pub use resource::{InvalidLease, Mode, Resource, Wanted};

#[cfg(test)]
mod tests;
