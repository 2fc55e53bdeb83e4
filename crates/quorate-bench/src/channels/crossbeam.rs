//! crossbeam-channel, bounded: with a receiver that parks, and with one that asks again and again.

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::channel::Channel;
use crate::harness::message::Message;

#[derive(Debug)]
pub(super) struct Parking;

#[derive(Debug)]
pub(super) struct Spinning;

impl Channel for Parking {
    const NAME: &'static str = "crossbeam";
    type Sender = Sender<Message>;
    type Receiver = Receiver<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        let (sender, receiver) = bounded(capacity);
        Ok((vec![sender; producers], receiver))
    }

    fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        messages.for_each(|message| sender.send(message).expect("the receiver waits for it"));
    }

    fn receive_all(receiver: Self::Receiver, count: u64, each: impl FnMut(Message)) {
        receiver.into_iter().take(count as usize).for_each(each);
    }
}

impl Channel for Spinning {
    const NAME: &'static str = "crossbeam-spin";
    type Sender = Sender<Message>;
    type Receiver = Receiver<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        Parking::open(producers, capacity)
    }

    fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        Parking::send_all(sender, messages);
    }

    fn receive_all(receiver: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        let mut received = 0;
        while received < count {
            match receiver.try_recv() {
                Ok(message) => {
                    each(message);
                    received += 1;
                }
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}
