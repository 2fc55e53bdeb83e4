//! The channel of the standard library.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::channel::Channel;
use crate::harness::message::Message;

#[derive(Debug)]
pub(super) struct Std;

impl Channel for Std {
    const NAME: &'static str = "std";
    type Sender = SyncSender<Message>;
    type Receiver = Receiver<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        let (sender, receiver) = sync_channel(capacity);
        Ok((vec![sender; producers], receiver))
    }

    fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        messages.for_each(|message| sender.send(message).expect("the receiver waits for it"));
    }

    fn receive_all(receiver: Self::Receiver, count: u64, each: impl FnMut(Message)) {
        receiver.into_iter().take(count as usize).for_each(each);
    }
}
