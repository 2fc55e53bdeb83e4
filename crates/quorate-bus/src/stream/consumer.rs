//! A handle on a consumer: takes messages, and answers for them.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quorate_base::{Millis, Timestamp};

use super::delivery::{Look, Next, Stale};
use super::{Error, Stream};
use crate::filter::{Filter, View};
use crate::message::Message;
use crate::wait::{self, Bell, Wait};

/// Answers after which a consumer's place is written down without being asked.
const NOTE_EVERY: u32 = 64;

/// Takes messages of a stream. Dropping it gives back what it has not answered, at once; a death without that ([`Consumer::died`], or of the whole
/// process) counts against the messages it had.
#[derive(Debug)]
pub struct Consumer {
    stream: Arc<Stream>,
    name: Arc<str>,
    holder: u64,
    filter: Option<Filter>,
    bell: Arc<Bell>,
    dead: bool,
}

/// A message that waits for an answer.
#[derive(Debug, Clone)]
pub struct Received {
    pub topic: Arc<str>,
    pub message: Message,
    /// Its number in the stream.
    pub offset: u64,
    /// Counted from 1.
    pub attempt: u32,
    pub time: Timestamp,
}

/// An answer cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error(transparent)]
    Stream(#[from] Error),
}

impl Consumer {
    pub(super) fn new(
        stream: Arc<Stream>,
        name: Arc<str>,
        holder: u64,
        filter: Option<Filter>,
        bell: Arc<Bell>,
    ) -> Self {
        stream.state().add_bell(&bell);
        Self { stream, name, holder, filter, bell, dead: false }
    }

    /// Rings this bell too when there may be something: for one who waits for several.
    pub(crate) fn also_ring(&self, bell: &Arc<Bell>) {
        self.stream.state().add_bell(bell);
    }

    /// A message that can be delivered now, or when to look again if nobody rings before.
    pub(crate) fn look(&self) -> Result<Result<Received, Option<Timestamp>>, Error> {
        self.poll()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// A message that can be delivered now, or when to look again.
    fn poll(&self) -> Result<Result<Received, Option<Timestamp>>, Error> {
        loop {
            let now = self.stream.now();
            let (offset, attempt) = {
                let mut state = self.stream.state();
                let super::state::State { consumers, slots, end, .. } = &mut *state;
                let Some(consuming) = consumers.get_mut(&*self.name) else {
                    return Err(Error::NoSuchConsumer {
                        name: self.stream.name().to_owned(),
                        consumer: self.name.to_string(),
                    });
                };
                let found = consuming.delivery.poll(now, *end, self.holder, &mut |offset| {
                    let Some(slot) = slots.get(&offset) else {
                        return Look::Gone;
                    };
                    match (&self.filter, &slot.body) {
                        (Some(filter), Some((topic, message)))
                            if !filter.accepts(&View::new(topic, message)) =>
                        {
                            Look::Unwanted
                        }
                        _ => Look::Wanted { producer: slot.producer, deadline: slot.deadline },
                    }
                });
                match found {
                    Next::Wait(until) => return Ok(Err(until)),
                    Next::Deliver { offset, attempt } => (offset, attempt),
                }
            };
            match self.stream.message(offset) {
                Ok((topic, time, message)) => {
                    // One that was no longer in memory is looked at only now.
                    let unwanted = self
                        .filter
                        .as_ref()
                        .is_some_and(|filter| !filter.accepts(&View::new(&topic, &message)));
                    if unwanted {
                        let _ = self.answer(|delivery, _| delivery.ack(offset, attempt));
                        continue;
                    }
                    return Ok(Ok(Received { topic, message, offset, attempt, time }));
                }
                // Retention took it in between.
                Err(Error::Forgotten { .. }) => {
                    let _ = self.answer(|delivery, _| delivery.ack(offset, attempt));
                }
                Err(error) => {
                    let _ = self.answer(|delivery, now| delivery.nack(now, offset, attempt, None));
                    return Err(error);
                }
            }
        }
    }

    /// A message that can be delivered now.
    pub fn try_next(&self) -> Result<Option<Received>, Error> {
        Ok(self.poll()?.ok())
    }

    /// Waits for a message, so long at most.
    pub fn next(&self, time: Duration) -> Result<Option<Received>, Error> {
        let end = Instant::now().checked_add(time);
        loop {
            // What comes again wakes nobody when its time has come: the wait ends then.
            let mut due = None;
            let mut look = || match self.poll() {
                Ok(Ok(received)) => Some(Ok(received)),
                Ok(Err(until)) => {
                    due = until;
                    None
                }
                Err(error) => Some(Err(error)),
            };
            if let Some(found) = look() {
                return found.map(Some);
            }
            let until = due.map(|due| {
                Instant::now() + Duration::from_millis(due.0.saturating_sub(self.stream.now().0).max(1))
            });
            let stop = match (until, end) {
                (Some(until), Some(end)) => Some(until.min(end)),
                (until, end) => until.or(end),
            };
            let found = wait::until(Wait::Park, &self.bell, stop, || match self.poll() {
                Ok(Ok(received)) => Some(Ok(received)),
                Ok(Err(_)) => None,
                Err(error) => Some(Err(error)),
            });
            if let Some(found) = found {
                return found.map(Some);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(None);
            }
        }
    }

    /// For a task of any runtime: the next message, or a promise to wake it.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<Received, Error>> {
        let mut due = None;
        let polled = wait::poll(&self.bell, cx, || match self.poll() {
            Ok(Ok(received)) => Some(Ok(received)),
            Ok(Err(until)) => {
                due = until;
                None
            }
            Err(error) => Some(Err(error)),
        });
        if polled.is_pending()
            && let Some(due) = due
        {
            let bell = Arc::clone(&self.bell);
            let pause = Duration::from_millis(due.0.saturating_sub(self.stream.now().0).max(1));
            self.stream.timer.add(Instant::now() + pause, move || bell.wake());
        }
        polled
    }

    /// For a task of any runtime: waits for a message. Dropping the future loses nothing.
    pub async fn receive(&self) -> Result<Received, Error> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn answer(
        &self,
        answer: impl FnOnce(&mut super::Delivery, Timestamp) -> Result<(), Stale>,
    ) -> Result<(), AnswerError> {
        let now = self.stream.now();
        let note = {
            let mut state = self.stream.state_of(&self.name)?;
            let Some(consuming) = state.consumers.get_mut(&*self.name) else {
                return Ok(());
            };
            answer(&mut consuming.delivery, now)?;
            consuming.unsaved += 1;
            let note = consuming.unsaved >= NOTE_EVERY;
            state.ring();
            note
        };
        if note {
            self.stream.note(&self.name);
        }
        Ok(())
    }

    /// Answers for a message that is out with this handle, and with no other.
    pub(crate) fn answer_held(
        &self,
        offset: u64,
        attempt: u32,
        answer: impl FnOnce(&mut super::Delivery, Timestamp) -> Result<(), Stale>,
    ) -> Result<(), AnswerError> {
        self.answer(|delivery, now| {
            if delivery.is_held(offset, attempt, self.holder) {
                answer(delivery, now)
            } else {
                Err(Stale(offset))
            }
        })
    }

    /// The message is done. This is written down now and then, and when the consumer is dropped: after a crash some messages come again.
    pub fn ack(&self, received: &Received) -> Result<(), AnswerError> {
        self.answer(|delivery, _| delivery.ack(received.offset, received.attempt))
    }

    /// The message is done, and that is durable when this returns.
    pub fn ack_durably(&self, received: &Received) -> Result<(), AnswerError> {
        self.answer(|delivery, _| delivery.ack(received.offset, received.attempt))?;
        Ok(self.stream.save(&self.name)?)
    }

    /// The message was not handled: it comes again after `pause`, or the policy's.
    pub fn nack(&self, received: &Received, pause: Option<Duration>) -> Result<(), AnswerError> {
        let pause = pause.map(|pause| Millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)));
        self.answer(|delivery, now| delivery.nack(now, received.offset, received.attempt, pause))
    }

    /// The message can never be handled: it becomes a dead letter.
    pub fn reject(&self, received: &Received) -> Result<(), AnswerError> {
        self.answer(|delivery, now| delivery.reject(now, received.offset, received.attempt))
    }

    /// The message is being worked on: its time begins anew.
    pub fn extend(&self, received: &Received) -> Result<(), AnswerError> {
        self.answer(|delivery, now| delivery.extend(now, received.offset, received.attempt))
    }

    /// Whoever used this is dead: what it had comes again, and messages that several died with become dead letters.
    pub fn died(mut self) {
        self.dead = true;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let (dead, holder) = (self.dead, self.holder);
        let _ = self.answer(|delivery, now| {
            if dead {
                delivery.holder_died(now, holder)
            } else {
                delivery.holder_left(now, holder)
            }
            Ok(())
        });
        self.stream.note(&self.name);
    }
}
