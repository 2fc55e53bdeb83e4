//! kanal, bounded: its receiver yields for a while before it parks.

use kanal::{Receiver, Sender, bounded};

use super::channel::Channel;
use crate::harness::message::Message;

#[derive(Debug)]
pub(super) struct Kanal;

impl Channel for Kanal {
    const NAME: &'static str = "kanal";
    type Sender = Sender<Message>;
    type Receiver = Receiver<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        let (sender, receiver) = bounded(capacity);
        Ok((vec![sender; producers], receiver))
    }

    fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        messages.for_each(|message| sender.send(message).expect("the receiver waits for it"));
    }

    fn receive_all(receiver: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        for _ in 0..count {
            let Ok(message) = receiver.recv() else {
                return;
            };
            each(message);
        }
    }
}
