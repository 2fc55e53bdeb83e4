//! tokio's bounded mpsc, between runtimes of one thread each.

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::channel::Channel;
use crate::harness::message::Message;

#[derive(Debug)]
pub(super) struct Tokio;

impl Channel for Tokio {
    const NAME: &'static str = "tokio";
    type Sender = Sender<Message>;
    type Receiver = Receiver<Message>;

    fn open(producers: usize, capacity: usize) -> anyhow::Result<(Vec<Self::Sender>, Self::Receiver)> {
        let (sender, receiver) = channel(capacity);
        Ok((vec![sender; producers], receiver))
    }

    fn send_all(sender: Self::Sender, messages: impl Iterator<Item = Message>) {
        runtime().block_on(async move {
            for message in messages {
                sender.send(message).await.expect("the receiver waits for it");
            }
        });
    }

    fn receive_all(mut receiver: Self::Receiver, count: u64, mut each: impl FnMut(Message)) {
        runtime().block_on(async move {
            for _ in 0..count {
                let Some(message) = receiver.recv().await else {
                    return;
                };
                each(message);
            }
        });
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime without drivers needs nothing")
}
