//! Receiving, from a thread or a task of any runtime.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::bus::{Core, Registered};
use crate::inbox::{Ages, Closed, Inbox};
use crate::message::Message;
use crate::wait::{self, Wait};

/// There is nothing more to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the subscription was ended because its subscriber was too slow")]
    TooSlow,
    #[error("the bus has been shut down")]
    BusDown,
}

/// Receives at most once what is published; what waits here is gone with the process. One that is dropped is forgotten by the bus.
#[derive(Debug)]
pub struct Subscription {
    core: Arc<Core>,
    inbox: Arc<Inbox>,
    binding: u64,
    _registered: Arc<Registered>,
    wait: Wait,
    ages: Ages,
}

impl Subscription {
    pub(crate) fn new(
        core: Arc<Core>,
        inbox: Arc<Inbox>,
        binding: u64,
        registered: Arc<Registered>,
        wait: Wait,
    ) -> Self {
        Self { core, inbox, binding, _registered: registered, wait, ages: Ages::default() }
    }

    pub(crate) const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// A message that is waiting.
    #[inline]
    pub fn try_receive(&mut self) -> Result<Option<Message>, Ended> {
        loop {
            match self.inbox.take_one(&mut self.ages) {
                Some(message) if self.is_late(&message) => {}
                Some(message) => return Ok(Some(message)),
                None => return self.ended().map_or(Ok(None), Err),
            }
        }
    }

    /// Whether its deadline has passed; counted where it has.
    #[inline]
    fn is_late(&self, message: &Message) -> bool {
        let late = message.deadline().is_some_and(|deadline| (self.core.options.clock)() > deadline);
        if late {
            self.inbox.counts.expired.fetch_add(1, Ordering::Relaxed);
        }
        late
    }

    fn ended(&self) -> Option<Ended> {
        match self.inbox.closed()? {
            // What was put in before it was closed is still received.
            _ if self.inbox.depth() > 0 => None,
            Closed::TooSlow => Some(Ended::TooSlow),
            Closed::BusDown | Closed::Dropped => Some(Ended::BusDown),
        }
    }

    #[inline]
    fn look(&mut self) -> Option<Result<Message, Ended>> {
        self.try_receive().transpose()
    }

    /// Waits for a message.
    #[inline]
    pub fn receive(&mut self) -> Result<Message, Ended> {
        match self.inbox.take_one(&mut self.ages) {
            Some(message) if message.extra().is_none() => Ok(message),
            Some(message) if !self.is_late(&message) => Ok(message),
            _ => self.receive_later(),
        }
    }

    #[cold]
    fn receive_later(&mut self) -> Result<Message, Ended> {
        let (wait, inbox) = (self.wait, Arc::clone(&self.inbox));
        wait::until(wait, &inbox.bell, None, || self.look()).unwrap_or(Err(Ended::BusDown))
    }

    /// Waits for a message, so long at most.
    pub fn receive_for(&mut self, time: Duration) -> Result<Option<Message>, Ended> {
        let (wait, inbox, end) = (self.wait, Arc::clone(&self.inbox), Instant::now().checked_add(time));
        wait::until(wait, &inbox.bell, end, || self.look()).transpose()
    }

    /// Waits for messages and hands up to `most` of those that are there to `each`. Answers how many, 1 at least.
    #[inline]
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(Message)) -> Result<usize, Ended> {
        let (wait, inbox) = (self.wait, Arc::clone(&self.inbox));
        wait::until(wait, &inbox.bell, None, || match self.try_drain(most, &mut each) {
            Ok(0) => None,
            other => Some(other),
        })
        .unwrap_or(Err(Ended::BusDown))
    }

    /// Hands up to `most` waiting messages to `each`. Answers how many were taken.
    #[inline]
    pub fn try_drain(&mut self, most: usize, mut each: impl FnMut(Message)) -> Result<usize, Ended> {
        let mut ages = std::mem::take(&mut self.ages);
        let taken = self.inbox.take(&mut ages, most, |message| {
            if message.extra().is_none() || !self.is_late(&message) {
                each(message);
            }
        });
        self.ages = ages;
        if taken == 0 {
            return self.ended().map_or(Ok(0), Err);
        }
        Ok(taken)
    }

    /// For a task: the next message, or a promise to wake it.
    pub fn poll_receive(&mut self, cx: &Context<'_>) -> Poll<Result<Message, Ended>> {
        let inbox = Arc::clone(&self.inbox);
        wait::poll(&inbox.bell, cx, || self.look())
    }

    /// For a task of any runtime: waits for a message. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Message, Ended> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Messages that wait.
    pub fn depth(&self) -> usize {
        self.inbox.depth()
    }

    /// Messages that made room for others, were refused, or whose deadline had passed.
    pub fn losses(&self) -> Losses {
        let counts = &self.inbox.counts;
        Losses {
            shed: counts.shed.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            expired: counts.expired.load(Ordering::Relaxed),
        }
    }

    /// The text of a message's topic.
    pub fn topic_name(&self, message: &Message) -> String {
        self.core.router.by_id(message.topic()).map_or_else(String::new, |entry| entry.name.to_string())
    }
}

/// What a subscriber did not get, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    pub shed: u64,
    pub refused: u64,
    pub expired: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.close(Closed::Dropped);
        self.core.router.unbind(self.binding);
        self.inbox.clear();
    }
}
