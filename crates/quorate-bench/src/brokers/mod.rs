//! Servers that carry messages between processes, reached over loopback by clients that are as plain and as fast as can be: raw, with
//! many messages a system call. Where a server is not installed, its claims say so.

mod claims;
mod nats;
mod redis;
mod server;
mod wire;
#[cfg(feature = "peer-zenoh")]
mod zenoh;

pub(crate) use claims::{nats_core, nats_latency, nats_memory, streams};
#[cfg(feature = "peer-zenoh")]
pub(crate) use zenoh::claims as zenoh_claims;
