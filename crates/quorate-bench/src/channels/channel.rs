//! What every channel, and whatever stands beside them, is asked to do.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::harness::cores;
use crate::harness::latency::{Latencies, Paced, Percentiles, nanos_since};
use crate::harness::message::{Message, Order};
use crate::harness::rounds::Candidate;

/// Messages that wait between a sender and a receiver, at most.
pub(crate) const CAPACITY: usize = 1024;

/// A way for messages from some threads to one thread. Each end lives in a thread of its own, and does its work there in its best way.
pub(crate) trait Channel: 'static {
    /// With how it is used, where there are several ways.
    const NAME: &'static str;
    type Sender: Send;
    type Receiver: Send;

    /// As many senders as there are producers, to one receiver.
    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)>;

    /// Sends each message as soon as it is yielded, waiting where there is no room. What waits to be sent with the next message is sent
    /// at the end at the latest.
    fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>);

    /// Receives until there were `count` messages, or until all senders are gone.
    fn receive_all(receiver: Self::Receiver, count: u64, each: impl FnMut(Message));
}

/// A candidate for messages a second: each producer sends as fast as it can.
pub(crate) fn throughput<C: Channel>(producers: usize, each: u64) -> Candidate<'static, f64> {
    Candidate::new(C::NAME, move || run_throughput::<C>(producers, each))
}

/// A candidate for the nanoseconds from when a message was to be sent until it is received, at a fixed rate.
pub(crate) fn open_loop<C: Channel>(per_second: u64, time: Duration) -> Candidate<'static, Percentiles> {
    Candidate::new(C::NAME, move || run_open_loop::<C>(per_second, time))
}

fn run_throughput<C: Channel>(producers: usize, each: u64) -> anyhow::Result<f64> {
    let (senders, receiver) = C::open(producers, CAPACITY)?;
    let barrier = &Barrier::new(producers + 1);
    thread::scope(|scope| {
        for (producer, sender) in senders.into_iter().enumerate() {
            scope.spawn(move || {
                cores::pin(beside_receiver(producer));
                barrier.wait();
                C::send_all(sender, (0..each).map(|sequence| Message::new(producer as u64, sequence, 0)));
            });
        }
        let receive = move || {
            cores::pin(0);
            let mut order = Order::new(producers);
            barrier.wait();
            let start = Instant::now();
            C::receive_all(receiver, each * producers as u64, |message| order.take(&message));
            let seconds = start.elapsed().as_secs_f64();
            order.finish(each)?;
            Ok((each * producers as u64) as f64 / seconds)
        };
        scope.spawn(receive).join().map_err(|_| anyhow!("the receiver panicked"))?
    })
}

/// The core of a producer: any but the receiver's, where there are several.
fn beside_receiver(producer: usize) -> usize {
    let others = thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1);
    1 + producer % others
}

fn run_open_loop<C: Channel>(per_second: u64, time: Duration) -> anyhow::Result<Percentiles> {
    let (mut senders, receiver) = C::open(1, CAPACITY)?;
    let sender = senders.pop().ok_or_else(|| anyhow!("there is no sender"))?;
    let count = (time.as_secs_f64() * per_second as f64) as u64;
    // Both threads are there when it begins. Threads that spin are stopped by the system when they have had 95 % of a second: a pause before
    // each run leaves it the rest.
    let start = Instant::now() + time / 5;
    thread::scope(|scope| {
        thread::sleep(time / 6);
        scope.spawn(move || {
            cores::pin(1);
            C::send_all(sender, Paced::new(start, per_second, count));
        });
        let receive = move || {
            cores::pin(0);
            let (mut order, mut latencies) = (Order::new(1), Latencies::new());
            C::receive_all(receiver, count, |message| {
                latencies.record(nanos_since(start).saturating_sub(message.due));
                order.take(&message);
            });
            order.finish(count)?;
            Ok(latencies.percentiles())
        };
        scope.spawn(receive).join().map_err(|_| anyhow!("the receiver panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::std::Std;

    #[test]
    fn everything_arrives_from_one_and_from_several() {
        assert!(run_throughput::<Std>(1, 5_000).unwrap() > 0.0);
        assert!(run_throughput::<Std>(8, 500).unwrap() > 0.0);
        assert!(run_open_loop::<Std>(100_000, Duration::from_millis(5)).unwrap().p50 > 0.0);
    }

    #[test]
    fn a_channel_that_loses_is_a_failure() {
        struct Losing;
        impl Channel for Losing {
            const NAME: &'static str = "losing";
            type Sender = <Std as Channel>::Sender;
            type Receiver = <Std as Channel>::Receiver;

            fn open(
                producers: usize,
                capacity: usize,
            ) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
                Std::open(producers, capacity)
            }

            fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>) {
                Std::send_all(sender, messages.filter(|message| message.sequence != 7));
            }

            fn receive_all(receiver: Self::Receiver, count: u64, each: impl FnMut(Message)) {
                Std::receive_all(receiver, count, each);
            }
        }
        assert!(run_throughput::<Losing>(1, 100).is_err());
        assert!(run_open_loop::<Losing>(100_000, Duration::from_millis(1)).is_err());
    }
}
