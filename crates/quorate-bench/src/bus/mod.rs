//! The bus, beside the channels, brokers and limits that it is compared with.

mod actors;
mod channel;
mod channels;
mod durable;
mod paths;
mod routed;
mod socket;

pub(crate) use actors::{actors, count_actors, idle};
pub(crate) use channels::{latency, mpsc, spsc};
pub(crate) use durable::claims as durable;
pub(crate) use paths::{coding, intern, matching, message, ring};
pub(crate) use routed::{fan4, floor, scaling};
pub(crate) use socket::{latency as socket_latency, serve, throughput as socket_throughput};
