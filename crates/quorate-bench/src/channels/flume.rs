//! flume, bounded: its receiver parks.

use flume::{Receiver, Sender, bounded};

use super::channel::Channel;
use crate::harness::message::Message;

#[derive(Debug)]
pub(super) struct Flume;

impl Channel for Flume {
    const NAME: &'static str = "flume";
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
