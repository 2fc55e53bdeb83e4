//! The shared memory and the search over it, beside a map and the stores that it is compared with.

mod quorate;
mod reads;
mod recover;
mod search;
mod watch;
mod writes;

pub(crate) use reads::claims as reads;
pub(crate) use recover::{claims as recover, fill, recover_once};
pub(crate) use search::claims as search;
pub(crate) use watch::claims as watch;
pub(crate) use writes::{durable, relaxed};
