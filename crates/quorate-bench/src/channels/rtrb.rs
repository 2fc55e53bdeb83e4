//! rtrb, a ring for one producer and one consumer that both spin: message by message, and up to 32 at once.

use anyhow::ensure;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::channel::Channel;
use crate::harness::message::Message;

#[derive(Debug)]
pub(super) struct Single;

#[derive(Debug)]
pub(super) struct Chunks;

/// Messages that become visible at once.
const CHUNK: usize = 32;

impl Channel for Single {
    const NAME: &'static str = "rtrb";
    type Sender = Producer<Message>;
    type Receiver = Consumer<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        ensure!(producers == 1, "rtrb is for one producer, not for {producers}");
        let (sender, receiver) = RingBuffer::new(capacity);
        Ok((vec![sender], receiver))
    }

    fn send_all(mut sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        for mut message in messages {
            while let Err(PushError::Full(back)) = sender.push(message) {
                message = back;
                std::hint::spin_loop();
            }
        }
    }

    fn receive_all(mut receiver: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        let mut received = 0;
        while received < count {
            if let Ok(message) = receiver.pop() {
                each(message);
                received += 1;
            } else if receiver.is_abandoned() && receiver.is_empty() {
                return;
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

impl Channel for Chunks {
    const NAME: &'static str = "rtrb-chunks";
    type Sender = Producer<Message>;
    type Receiver = Consumer<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        Single::open(producers, capacity)
    }

    fn send_all(mut sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        let mut messages = messages.peekable();
        while messages.peek().is_some() {
            let free = sender.slots().min(CHUNK);
            if free == 0 {
                std::hint::spin_loop();
                continue;
            }
            let chunk = sender.write_chunk_uninit(free).expect("the slots are free");
            chunk.fill_from_iter(messages.by_ref());
        }
    }

    fn receive_all(mut receiver: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        let mut received = 0;
        while received < count {
            let filled = receiver.slots().min(CHUNK);
            if filled > 0 {
                let chunk = receiver.read_chunk(filled).expect("the slots are filled");
                received += filled as u64;
                chunk.into_iter().for_each(&mut each);
            } else if receiver.is_abandoned() && receiver.is_empty() {
                return;
            } else {
                std::hint::spin_loop();
            }
        }
    }
}
