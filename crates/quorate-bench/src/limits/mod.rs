//! What the machine allows: the figures that no design gets below.

pub(crate) mod copy;
pub(crate) mod log;
pub(crate) mod threads;
