//! The bus of a swarm: topics, subscriptions, priorities, acknowledgements and back-pressure, in one process and over a local socket.
//!
//! Read [`Bus`] first, then [`Sender`] and [`Subscription`] (at most once, in memory), [`Shard`] (many small subscribers on one thread) and
//! [`stream`] (at least once, and exactly once in effect, on disk). [`filter`] is the language of conditions, [`codec`] the bytes of a message.
//!
//! What is promised:
//!
//! - *At most once*: a [`Subscription`] gets each message once or not at all, and every one it did not get is counted, with the reason.
//! - *At least once*: a [`stream::Consumer`] gets each message until it has answered for it, or until the message is a dead letter.
//! - *Once in effect*: what a producer repeats is stored once; what [`stream::Stream::once`] stores happens once.
//! - *Order*: what one sender sends of one priority arrives in order; a more urgent message may overtake a less urgent one.
//! - *Bounds*: each subscriber holds as many messages and bytes as its limits say, all together what the bus' limit says. A publisher learns of a
//!   full subscriber with the return of its call, and no subscriber waits for another, unless its policy is to make the publisher wait.
//!
//! The bus knows no agents, no files but its own log, and no HTTP.

mod barrier;
pub mod bus;
pub mod codec;
pub mod filter;
mod inbox;
pub mod message;
#[cfg(not(loom))]
mod pin;
mod prefetch;
pub mod report;
mod ring;
mod router;
mod shard;
pub mod stream;
mod subscription;
mod sync;
mod timer;
pub mod topic;
mod wait;
#[cfg(not(loom))]
pub mod wire;

#[cfg(all(test, not(loom)))]
mod tests;

pub use bus::{Bus, Error, Options, RequestError, Sender, Sent, Subscribe};
pub use bytes::Bytes;
pub use filter::Filter;
pub use inbox::{Closed, Full, Limits};
pub use message::{Message, MessageId, Priority, Trace};
#[cfg(not(loom))]
pub use pin::pin_to_core;
pub use report::Report;
pub use router::{Balance, TooManyTopics};
pub use shard::{HandlerId, Shard, Stop};
pub use subscription::{Ended, Losses, Subscription};
pub use topic::Pattern;
pub use wait::Wait;
