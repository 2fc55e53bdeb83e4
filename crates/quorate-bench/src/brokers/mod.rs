//! Servers that carry messages between processes, reached over loopback by clients that are as plain and as fast as can be: raw, with
//! many messages a system call. Where a server is not installed, its claims say so.

mod claims;
mod nats;
mod redis;
mod server;
mod wire;
#[cfg(feature = "peer-zenoh")]
mod zenoh;

pub(crate) use claims::{
    nats_candidates, nats_core, nats_latency, nats_latency_candidates, nats_memory, stream_candidates,
    streams,
};
pub(crate) use nats::{Delivered, start as start_nats};
pub(crate) use redis::start as start_redis;
#[cfg(feature = "peer-zenoh")]
pub(crate) use zenoh::{candidates as zenoh_candidates, claims as zenoh_claims};
