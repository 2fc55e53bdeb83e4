//! What every comparison uses: candidates in turn, messages that show loss, open-loop latency, cores and processor time.

pub(crate) mod cores;
pub(crate) mod goal;
pub(crate) mod latency;
pub(crate) mod line;
pub(crate) mod message;
pub(crate) mod priority;
pub(crate) mod rounds;
pub(crate) mod scratch;
pub(crate) mod usage;
pub(crate) mod writers;
