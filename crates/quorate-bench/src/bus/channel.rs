//! The bus as a channel: publishers of one topic and one subscription to it.

use std::marker::PhantomData;
use std::thread;
use std::time::Duration;

use quorate_bus::{Bus, Full, Limits, Message as Carried, Priority, Sender, Subscribe, Subscription, Wait};

use crate::channels::channel::Channel;
use crate::harness::message::Message;

const TOPIC: &str = "bench.messages";
/// Messages sent and received together.
const BATCH: usize = 32;
/// Longer than any run: a publisher waits for room.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the receiver waits.
pub(super) trait Way: 'static {
    const NAME: &'static str;
    const WAIT: Wait;
}

#[derive(Debug)]
pub(super) struct Spin;

#[derive(Debug)]
pub(super) struct Yield;

#[derive(Debug)]
pub(super) struct Park;

impl Way for Spin {
    const NAME: &'static str = "quorate";
    const WAIT: Wait = Wait::Spin;
}

impl Way for Yield {
    const NAME: &'static str = "quorate-yield";
    const WAIT: Wait = Wait::Yield;
}

impl Way for Park {
    const NAME: &'static str = "quorate-park";
    const WAIT: Wait = Wait::Park;
}

/// Message by message.
#[derive(Debug)]
pub(super) struct Singly<W>(PhantomData<W>);

/// Up to 32 at once.
#[derive(Debug)]
pub(super) struct Batched;

#[derive(Debug)]
pub(super) struct Publisher {
    bus: Bus,
    sender: Sender,
}

/// Where a publisher fails, its receiver must not wait for ever.
impl Drop for Publisher {
    fn drop(&mut self) {
        if thread::panicking() {
            self.bus.shut_down();
        }
    }
}

fn open(producers: usize, capacity: usize, wait: Wait) -> anyhow::Result<(Vec<Publisher>, Subscription)> {
    let bus = Bus::default();
    let limits = Limits { messages: capacity, full: Full::Block(PATIENCE), ..Limits::default() };
    let subscription = bus.subscribe(TOPIC, Subscribe::new().limits(limits).wait(wait))?;
    let publisher = |_| Ok(Publisher { bus: bus.clone(), sender: bus.sender(TOPIC)? });
    Ok(((0..producers).map(publisher).collect::<anyhow::Result<_>>()?, subscription))
}

impl<W: Way> Channel for Singly<W> {
    const NAME: &'static str = W::NAME;
    type Sender = Publisher;
    type Receiver = Subscription;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        open(producers, capacity, W::WAIT)
    }

    fn send_all(mut publisher: Self::Sender, messages: impl Iterator<Item = Message>) {
        for message in messages {
            let sent = publisher.sender.send(Carried::new(&message.to_bytes())).expect("the bus is up");
            assert_eq!(sent.delivered, 1, "the receiver waits for it");
        }
    }

    fn receive_all(mut subscription: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        for _ in 0..count {
            let Ok(message) = subscription.receive() else {
                return;
            };
            each(Message::from_bytes(message.payload()));
        }
    }
}

impl Channel for Batched {
    const NAME: &'static str = "quorate-batch";
    type Sender = Publisher;
    type Receiver = Subscription;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        open(producers, capacity, Wait::Spin)
    }

    fn send_all(mut publisher: Self::Sender, messages: impl Iterator<Item = Message>) {
        let mut payloads = messages.map(Message::to_bytes);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            batch.extend(payloads.by_ref().take(BATCH));
            if batch.is_empty() {
                return;
            }
            let sent = publisher.sender.send_each(Priority::Normal, &batch).expect("the bus is up");
            assert_eq!(sent.delivered as usize, batch.len(), "the receiver waits for them");
        }
    }

    fn receive_all(mut subscription: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        let mut received = 0;
        while received < count {
            match subscription.drain(BATCH, |message| each(Message::from_bytes(message.payload()))) {
                Ok(taken) => received += taken as u64,
                Err(_) => return,
            }
        }
    }
}
