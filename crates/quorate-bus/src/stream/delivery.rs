//! At least once, as a state machine: which message a consumer gets next, and what an answer, a silence or a death changes.
//!
//! Time is an argument and nothing waits here. A message is *out* from its delivery to its acknowledgement, its refusal, the end of its time
//! or the death of its holder; then it comes again after a pause that grows, until it is acknowledged or buried.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quorate_base::{Millis, Timestamp};

/// How a consumer is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A message that is not answered for so long comes again.
    pub ack_timeout: Millis,
    /// The pause before the second delivery; each further one doubles, up to `backoff_max`.
    pub backoff: Millis,
    pub backoff_max: Millis,
    /// Deliveries of a message before it is buried.
    pub attempts_max: u32,
    /// Holders that died with a message before it is buried as poison.
    pub deaths_max: u32,
    /// Messages out at once.
    pub out_max: usize,
    /// Whether a message waits until those before it from the same producer are done: order holds across redelivery then.
    pub ordered: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ack_timeout: Millis(30_000),
            backoff: Millis(1_000),
            backoff_max: Millis(30_000),
            attempts_max: 5,
            deaths_max: 3,
            out_max: 256,
            ordered: false,
        }
    }
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Delivered as often as the policy allows.
    Attempts = 1,
    /// Its holders kept dying.
    Poison = 2,
    /// A consumer said that it can never be handled.
    Rejected = 3,
    /// Its deadline passed before it was handled.
    Expired = 4,
}

impl Reason {
    pub(crate) const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Attempts),
            2 => Some(Self::Poison),
            3 => Some(Self::Rejected),
            4 => Some(Self::Expired),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Poison => "poison",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// A message that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    pub reason: Reason,
    pub attempts: u32,
    pub time: Timestamp,
}

/// An answer that came too late, or to something that was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "message {0} is not out in this delivery: it was answered before, or its time was over and it is delivered again"
)]
pub struct Stale(pub u64);

/// What to do for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Deliver {
        offset: u64,
        attempt: u32,
    },
    /// Nothing until something is published or answered, or this time.
    Wait(Option<Timestamp>),
}

/// What the state needs to know of a message that it looks at for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is for this consumer.
    Wanted { producer: u64, deadline: Option<Timestamp> },
    /// It is there and not for this consumer.
    Unwanted,
    /// It is no longer there.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    out: Option<(Timestamp, u64)>,
    due: Timestamp,
    attempt: u32,
    deaths: u32,
    producer: u64,
    deadline: Option<Timestamp>,
}

/// The state of one consumer.
#[derive(Debug, Clone)]
pub struct Delivery {
    policy: Policy,
    /// All below are done.
    floor: u64,
    /// The first that was never looked at.
    next: u64,
    /// Done at or above the floor, as ranges from their first to the one behind their last.
    done: BTreeMap<u64, u64>,
    pending: BTreeMap<u64, Pending>,
    /// When something is to happen to which pending message.
    times: BTreeSet<(Timestamp, u64)>,
    out: usize,
    /// In an ordered consumer, the messages of each producer that are not done, in order.
    queues: HashMap<u64, BTreeSet<u64>>,
    dead: BTreeMap<u64, Dead>,
    /// Buried ones that are being delivered again: dead still, should this process die.
    replayed: BTreeMap<u64, Dead>,
    /// Attempts and deaths before a restart, of messages not looked at again yet.
    tried: HashMap<u64, (u32, u32)>,
    redelivered: u64,
}

/// Dead letters of a consumer. Past that the oldest goes first.
pub const DEAD_MAX: usize = 10_000;

/// Messages looked at ahead of those an ordered consumer waits for, in multiples of `out_max`.
const AHEAD: usize = 4;

impl Delivery {
    /// A consumer that begins with message `from`.
    pub fn new(policy: Policy, from: u64) -> Self {
        Self {
            policy,
            floor: from,
            next: from,
            done: BTreeMap::new(),
            pending: BTreeMap::new(),
            times: BTreeSet::new(),
            out: 0,
            queues: HashMap::new(),
            dead: BTreeMap::new(),
            replayed: BTreeMap::new(),
            tried: HashMap::new(),
            redelivered: 0,
        }
    }

    /// All messages below this one are done.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether a message needs no delivery any more. One that was never looked at does.
    pub fn is_done(&self, offset: u64) -> bool {
        offset < self.floor || self.done.range(..=offset).next_back().is_some_and(|(_, end)| *end > offset)
    }

    /// Messages below `end` that are not done.
    pub fn lag(&self, end: u64) -> u64 {
        let done: u64 = self.done.iter().map(|(first, end)| end - first).sum();
        end.saturating_sub(self.floor).saturating_sub(done)
    }

    /// The lowest message that must not be forgotten.
    pub fn needed(&self) -> u64 {
        let dead = self.dead.keys().chain(self.replayed.keys()).min().copied().unwrap_or(u64::MAX);
        self.floor.min(dead)
    }

    /// Messages delivered and not answered.
    pub const fn out(&self) -> usize {
        self.out
    }

    /// Messages that wait for another delivery.
    pub fn waiting(&self) -> usize {
        self.pending.len() - self.out
    }

    /// Deliveries beyond the first of each message.
    pub const fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// The lowest message that is not done.
    pub fn oldest(&self) -> Option<u64> {
        self.pending.keys().next().copied()
    }

    pub const fn dead(&self) -> &BTreeMap<u64, Dead> {
        &self.dead
    }

    /// Messages that are buried, and those of them that are being delivered again.
    pub(crate) fn buried(&self) -> impl Iterator<Item = u64> + '_ {
        self.dead.keys().chain(self.replayed.keys()).copied()
    }

    /// Whether a message is out with this holder.
    pub(crate) fn is_held(&self, offset: u64, attempt: u32, holder: u64) -> bool {
        let held = |pending: &Pending| {
            pending.attempt == attempt && pending.out.is_some_and(|(_, found)| found == holder)
        };
        self.pending.get(&offset).is_some_and(held)
    }

    /// What to deliver to `holder` now. `end` is the number behind the last message of the stream.
    pub fn poll(&mut self, now: Timestamp, end: u64, holder: u64, look: &mut dyn FnMut(u64) -> Look) -> Next {
        self.expire(now);
        if self.out >= self.policy.out_max {
            return Next::Wait(self.times.first().map(|(time, _)| *time));
        }
        // What comes again goes before what is new.
        let ready = self.times.iter().take_while(|(due, _)| *due <= now).find_map(|(_, offset)| {
            let pending = &self.pending[offset];
            (pending.out.is_none() && self.is_first(*offset, pending.producer)).then_some(*offset)
        });
        if let Some(offset) = ready {
            return self.deliver(now, offset, holder);
        }
        while self.next < end && self.pending.len() < self.policy.out_max.saturating_mul(AHEAD) {
            // The floor may have moved past what was done before a restart.
            self.next = self.next.max(self.floor);
            let offset = self.next;
            if offset >= end {
                break;
            }
            if let Some((_, &end)) = self.done.range(..=offset).next_back().filter(|(_, end)| **end > offset)
            {
                self.next = end;
                continue;
            }
            self.next += 1;
            let (producer, deadline) = match look(offset) {
                Look::Wanted { deadline: Some(deadline), .. } if deadline < now => {
                    self.bury(now, offset, 0, Reason::Expired);
                    continue;
                }
                Look::Wanted { producer, deadline } => (producer, deadline),
                Look::Unwanted | Look::Gone => {
                    self.finish(offset);
                    continue;
                }
            };
            let (attempt, deaths) = self.tried.remove(&offset).unwrap_or_default();
            let pending = Pending { out: None, due: now, attempt, deaths, producer, deadline };
            self.pending.insert(offset, pending);
            self.times.insert((now, offset));
            if self.policy.ordered {
                self.queues.entry(producer).or_default().insert(offset);
            }
            if attempt >= self.policy.attempts_max {
                self.bury(now, offset, attempt, Reason::Attempts);
                continue;
            }
            if self.is_first(offset, producer) {
                return self.deliver(now, offset, holder);
            }
        }
        // Waiting for an answer that lets the next of its producer go is no time to wake at.
        let next = self.times.iter().find(|(due, _)| *due > now).map(|(due, _)| *due);
        Next::Wait(next)
    }

    fn is_first(&self, offset: u64, producer: u64) -> bool {
        !self.policy.ordered
            || self.queues.get(&producer).and_then(BTreeSet::first).is_none_or(|first| *first == offset)
    }

    fn deliver(&mut self, now: Timestamp, offset: u64, holder: u64) -> Next {
        let until = Timestamp(now.0.saturating_add(self.policy.ack_timeout.0));
        let mut attempt = 1;
        if let Some(pending) = self.pending.get_mut(&offset) {
            self.times.remove(&(pending.due, offset));
            pending.attempt += 1;
            pending.out = Some((until, holder));
            pending.due = until;
            attempt = pending.attempt;
            self.times.insert((until, offset));
            self.out += 1;
            self.redelivered += u64::from(attempt > 1);
        }
        Next::Deliver { offset, attempt }
    }

    /// Takes back what was not answered in time.
    fn expire(&mut self, now: Timestamp) {
        while let Some(&(due, offset)) = self.times.first().filter(|(due, _)| *due <= now) {
            match self.pending.get(&offset) {
                Some(pending) if pending.out.is_some() => self.take_back(now, offset, None),
                Some(pending) if pending.deadline.is_some_and(|deadline| deadline < now) => {
                    let attempts = pending.attempt;
                    self.bury(now, offset, attempts, Reason::Expired);
                }
                // Ready: this and all behind it are looked at by the caller, those out among them first.
                Some(_) => {
                    let late: Vec<u64> = self
                        .times
                        .iter()
                        .take_while(|(due, _)| *due <= now)
                        .filter(|(_, offset)| self.pending[offset].out.is_some())
                        .map(|(_, offset)| *offset)
                        .collect();
                    if late.is_empty() {
                        return;
                    }
                    for offset in late {
                        self.take_back(now, offset, None);
                    }
                }
                None => {
                    self.times.remove(&(due, offset));
                }
            }
        }
    }

    /// Ends a delivery without an acknowledgement: the message comes again after `pause`, or is buried.
    fn take_back(&mut self, now: Timestamp, offset: u64, pause: Option<Millis>) {
        let Some(pending) = self.pending.get_mut(&offset) else {
            return;
        };
        self.times.remove(&(pending.due, offset));
        if pending.out.take().is_some() {
            self.out -= 1;
        }
        let (attempt, deaths) = (pending.attempt, pending.deaths);
        if deaths >= self.policy.deaths_max {
            return self.bury(now, offset, attempt, Reason::Poison);
        }
        if attempt >= self.policy.attempts_max {
            return self.bury(now, offset, attempt, Reason::Attempts);
        }
        let doubled = self.policy.backoff.0.saturating_mul(1 << attempt.saturating_sub(1).min(32));
        let pause = pause.map_or_else(|| doubled.min(self.policy.backoff_max.0), |pause| pause.0);
        pending.due = Timestamp(now.0.saturating_add(pause));
        self.times.insert((pending.due, offset));
    }

    fn remove(&mut self, offset: u64) {
        if let Some(pending) = self.pending.remove(&offset) {
            self.times.remove(&(pending.due, offset));
            if pending.out.is_some() {
                self.out -= 1;
            }
            if let Some(queue) = self.queues.get_mut(&pending.producer) {
                queue.remove(&offset);
                if queue.is_empty() {
                    self.queues.remove(&pending.producer);
                }
            }
        }
    }

    fn finish(&mut self, offset: u64) {
        self.remove(offset);
        self.replayed.remove(&offset);
        if offset < self.floor {
            return;
        }
        // Joins the range that ends here and the one that begins behind.
        let mut range = (offset, offset + 1);
        if let Some((&first, &end)) = self.done.range(..=offset).next_back() {
            if end > offset {
                return;
            }
            if end == offset {
                range.0 = first;
                self.done.remove(&first);
            }
        }
        if let Some(end) = self.done.remove(&(offset + 1)) {
            range.1 = end;
        }
        if range.0 == self.floor {
            self.floor = range.1;
        } else {
            self.done.insert(range.0, range.1);
        }
    }

    fn bury(&mut self, now: Timestamp, offset: u64, attempts: u32, reason: Reason) {
        self.dead.insert(offset, Dead { reason, attempts, time: now });
        if self.dead.len() > DEAD_MAX {
            self.dead.pop_first();
        }
        self.finish(offset);
    }

    fn is_out(&self, offset: u64, attempt: u32) -> Result<(), Stale> {
        let out = self.pending.get(&offset).is_some_and(|p| p.out.is_some() && p.attempt == attempt);
        if out { Ok(()) } else { Err(Stale(offset)) }
    }

    /// The message is done.
    pub fn ack(&mut self, offset: u64, attempt: u32) -> Result<(), Stale> {
        self.is_out(offset, attempt)?;
        self.finish(offset);
        Ok(())
    }

    /// The message was not handled; it comes again after `pause`, or the policy's.
    pub fn nack(
        &mut self,
        now: Timestamp,
        offset: u64,
        attempt: u32,
        pause: Option<Millis>,
    ) -> Result<(), Stale> {
        self.is_out(offset, attempt)?;
        self.take_back(now, offset, pause);
        Ok(())
    }

    /// The message can never be handled.
    pub fn reject(&mut self, now: Timestamp, offset: u64, attempt: u32) -> Result<(), Stale> {
        self.is_out(offset, attempt)?;
        self.bury(now, offset, attempt, Reason::Rejected);
        Ok(())
    }

    /// The message is being worked on: its time begins anew.
    pub fn extend(&mut self, now: Timestamp, offset: u64, attempt: u32) -> Result<(), Stale> {
        self.is_out(offset, attempt)?;
        if let Some(pending) = self.pending.get_mut(&offset) {
            self.times.remove(&(pending.due, offset));
            let until = Timestamp(now.0.saturating_add(self.policy.ack_timeout.0));
            pending.due = until;
            pending.out = pending.out.map(|(_, holder)| (until, holder));
            self.times.insert((until, offset));
        }
        Ok(())
    }

    /// A holder is gone: what it had comes again, and one that several died with is buried.
    pub fn holder_died(&mut self, now: Timestamp, holder: u64) {
        self.take_back_from(now, holder, None, |pending| pending.deaths += 1);
    }

    /// A holder went in order: what it had comes again at once, and this counts neither as a delivery nor against the message.
    pub fn holder_left(&mut self, now: Timestamp, holder: u64) {
        self.take_back_from(now, holder, Some(Millis(0)), |pending| {
            pending.attempt = pending.attempt.saturating_sub(1)
        });
    }

    /// Takes back all that somebody holds.
    fn take_back_from(
        &mut self,
        now: Timestamp,
        holder: u64,
        pause: Option<Millis>,
        note: impl Fn(&mut Pending),
    ) {
        let is_held = |pending: &Pending| pending.out.is_some_and(|(_, found)| found == holder);
        let mut held = Vec::new();
        for (offset, pending) in self.pending.iter_mut().filter(|(_, pending)| is_held(pending)) {
            note(pending);
            held.push(*offset);
        }
        held.into_iter().for_each(|offset| self.take_back(now, offset, pause));
    }

    /// Delivers a buried message again, from its first attempt. `false` where none is buried under that number.
    pub fn replay(&mut self, now: Timestamp, offset: u64, producer: u64) -> bool {
        let Some(dead) = self.dead.remove(&offset) else {
            return false;
        };
        self.replayed.insert(offset, dead);
        let pending = Pending { out: None, due: now, attempt: 0, deaths: 0, producer, deadline: None };
        self.pending.insert(offset, pending);
        self.times.insert((now, offset));
        if self.policy.ordered {
            self.queues.entry(producer).or_default().insert(offset);
        }
        true
    }

    /// Forgets a buried message.
    pub fn purge(&mut self, offset: u64) -> bool {
        self.dead.remove(&offset).is_some()
    }

    /// Changes how it is served from now on.
    pub const fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What must survive: all that is done and all that is dead. What is out or waits is delivered again from its first attempt, but for its
    /// attempts and deaths so far.
    pub fn save(&self) -> Saved {
        let tried = self.pending.iter().filter(|(_, p)| p.attempt > 0 || p.deaths > 0);
        let tried = tried.map(|(offset, p)| (*offset, p.attempt, p.deaths));
        // Those of before a restart count on, whether or not they were looked at again since.
        let before = self.tried.iter().map(|(offset, (attempt, deaths))| (*offset, *attempt, *deaths));
        let mut tried: Vec<_> = tried.chain(before).collect();
        tried.sort_unstable();
        Saved {
            floor: self.floor,
            done: self.done.iter().map(|(first, end)| (*first, *end)).collect(),
            dead: self.dead.iter().chain(&self.replayed).map(|(offset, dead)| (*offset, *dead)).collect(),
            tried,
        }
    }

    /// A consumer as it was saved.
    pub fn restore(policy: Policy, saved: Saved) -> Self {
        let mut state = Self::new(policy, saved.floor);
        state.done = saved.done.into_iter().collect();
        state.dead = saved.dead.into_iter().collect();
        state.tried =
            saved.tried.into_iter().map(|(offset, attempt, deaths)| (offset, (attempt, deaths))).collect();
        state
    }
}

/// A consumer's state as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    pub floor: u64,
    pub done: Vec<(u64, u64)>,
    pub dead: Vec<(u64, Dead)>,
    /// Number, attempts and deaths of messages that were tried and are not done.
    pub tried: Vec<(u64, u32, u32)>,
}
