//! Channels between threads: what a bus is compared with when it carries messages within one process.

pub(crate) mod channel;
mod claims;
#[cfg(feature = "peers")]
mod crossbeam;
#[cfg(feature = "peers")]
mod flume;
#[cfg(feature = "peers")]
mod kanal;
#[cfg(feature = "peers")]
mod rtrb;
mod std;
#[cfg(feature = "peers")]
mod tokio;

pub(crate) use claims::{
    PRODUCERS, RATE, TIME, latency, latency_candidates, mpsc, mpsc_candidates, spsc, spsc_candidates,
};
