//! Where messages wait for one subscriber: a ring a priority, bounds in messages and bytes, and what happens at the bound.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::message::{Message, Priority, Stamp, Stamped};
use crate::ring::{Ring, Takers, Who};
use crate::sync::Padded;
use crate::wait::Bell;

/// A lane that has messages is passed over at most this many times in a row by more urgent ones.
const AGEING: u32 = 32;
/// A publisher that waits for room and missed the word that there is some looks again after this.
const ROOM_CHECK: Duration = Duration::from_millis(1);

/// What happens to a message for which a subscriber has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The publisher waits, so long at most; then the message is refused and the publisher told. One that publishes to a subscriber while it is
    /// being handed that subscriber's messages is refused at once: nobody but itself could make room.
    Block(Duration),
    /// The oldest message of the same priority makes room.
    ShedOldest,
    /// The oldest message of the least urgent priority makes room, if it is not more urgent than the new one; else the new one is refused.
    ShedLowest,
    /// The message is refused and the publisher told.
    Refuse,
    /// The subscription ends, and its subscriber is told why.
    Disconnect,
}

/// Bounds of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages a priority; raised to a power of two. A ring of so many slots of 128 bytes is made when the first message of a priority
    /// comes.
    pub messages: usize,
    /// Bytes of all long payloads, headers and keys that wait. A message that has more is refused, whatever the policy.
    pub bytes: u64,
    pub full: Full,
}

impl Default for Limits {
    /// 1024 messages a priority and 64 MiB, and the publisher waits up to a second: nothing is lost in silence.
    fn default() -> Self {
        Self { messages: 1024, bytes: 64 << 20, full: Full::Block(Duration::from_secs(1)) }
    }
}

/// Bytes that all subscribers of a node may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Padded<AtomicU64>,
    max: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self { used: Padded(AtomicU64::new(0)), max }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.0.load(Ordering::Relaxed)
    }

    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// Takes bytes where they are within the bound.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        take(&self.used.0, bytes, self.max)
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.used.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn take(used: &AtomicU64, bytes: u64, max: u64) -> bool {
    let before = used.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) <= max {
        return true;
    }
    used.fetch_sub(bytes, Ordering::Relaxed);
    false
}

/// Why an inbox takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Closed {
    /// Its subscriber is gone.
    Dropped = 1,
    /// It was full and its policy is [`Full::Disconnect`].
    TooSlow = 2,
    /// The bus has been shut down.
    BusDown = 3,
}

/// What became of a message that was not put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    Full,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    lanes: [OnceLock<Box<Ring<Message>>>; 5],
    /// A bit for each lane that has a ring.
    used: AtomicU8,
    closed: AtomicU8,
    limits: Limits,
    /// Rung when something has come; several inboxes may have one.
    pub(crate) bell: Arc<Bell>,
    budget: Arc<Budget>,
    bytes: Padded<AtomicU64>,
    /// Publishers that wait for room.
    blocked: AtomicU32,
    waiting: Mutex<Vec<Thread>>,
    pub(crate) counts: Counts,
}

/// What happened to the messages of an inbox.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Only the receiver writes it.
    pub(crate) received: Padded<AtomicU64>,
    pub(crate) shed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) expired: AtomicU64,
}

const SLOT_BYTES: u64 = 128;

thread_local! {
    /// Where the inbox lies whose messages this thread is handing out; 0 for none.
    static HANDING: Cell<usize> = const { Cell::new(0) };
}

/// Messages of an inbox are handed out until this is dropped.
struct Handing(usize);

impl Handing {
    fn begin(inbox: &Inbox) -> Self {
        Self(HANDING.replace(std::ptr::from_ref(inbox).addr()))
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        HANDING.set(self.0);
    }
}

impl Inbox {
    pub(crate) fn new(limits: Limits, budget: Arc<Budget>, bell: Arc<Bell>) -> Self {
        Self {
            lanes: Default::default(),
            used: AtomicU8::new(0),
            closed: AtomicU8::new(0),
            limits,
            bell,
            budget,
            bytes: Padded::default(),
            blocked: AtomicU32::new(0),
            waiting: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// The ring of a priority, made when it is first needed. `None` where the node has no memory left for it.
    #[inline]
    fn lane(&self, lane: usize) -> Option<&Ring<Message>> {
        match self.lanes[lane].get() {
            Some(ring) => Some(ring),
            None => self.make_lane(lane),
        }
    }

    #[cold]
    fn make_lane(&self, lane: usize) -> Option<&Ring<Message>> {
        let bytes = self.lane_bytes();
        if !self.budget.take(bytes) {
            return None;
        }
        let mut made = false;
        let ring = self.lanes[lane].get_or_init(|| {
            made = true;
            // Before another publisher can find the ring: the receiver must look into every ring that has something.
            self.used.fetch_or(1 << lane, Ordering::Release);
            Box::new(Ring::new(self.limits.messages, self.takers()))
        });
        if !made {
            self.budget.give(bytes);
        }
        Some(ring)
    }

    /// Publishers take messages out too where they make room themselves.
    const fn takers(&self) -> Takers {
        match self.limits.full {
            Full::ShedOldest | Full::ShedLowest => Takers::Many,
            Full::Block(_) | Full::Refuse | Full::Disconnect => Takers::One,
        }
    }

    fn lane_bytes(&self) -> u64 {
        self.limits.messages.clamp(2, crate::ring::CAPACITY_MAX).next_power_of_two() as u64 * SLOT_BYTES
    }

    /// Puts a message in, by the policy; answers how many others it displaced.
    #[inline]
    pub(crate) fn push(&self, message: &Message, stamp: Stamp, who: &mut Who) -> Result<u64, Rejected> {
        if message.extra().is_none()
            && self.closed.load(Ordering::Relaxed) == 0
            && let Some(lane) = self.lanes[message.priority().lane()].get()
            && let Some(place) = lane.reserve(who)
        {
            place.fill(Stamped(message, stamp));
            self.bell.ring();
            return Ok(0);
        }
        self.push_slowly(message, stamp, who)
    }

    #[inline(never)]
    fn push_slowly(&self, message: &Message, stamp: Stamp, who: &mut Who) -> Result<u64, Rejected> {
        let mut message = message.clone();
        message.stamp(stamp);
        match self.try_push(message, who) {
            Ok(()) => {
                self.bell.ring();
                Ok(0)
            }
            Err(message) => self.push_when_full(message, who),
        }
    }

    #[inline]
    fn try_push(&self, message: Message, who: &mut Who) -> Result<(), Message> {
        let weight = message.weight();
        let Some(lane) = self.lane(message.priority().lane()) else {
            return Err(message);
        };
        if weight == 0 {
            return if self.closed.load(Ordering::Relaxed) == 0 {
                put(lane, message, who)
            } else {
                Err(message)
            };
        }
        if self.closed.load(Ordering::Relaxed) != 0 || !take(&self.bytes.0, weight, self.limits.bytes) {
            return Err(message);
        }
        if !self.budget.take(weight) {
            self.bytes.0.fetch_sub(weight, Ordering::Relaxed);
            return Err(message);
        }
        put(lane, message, who).inspect_err(|_| self.give_back(weight))
    }

    fn give_back(&self, weight: u64) {
        self.bytes.0.fetch_sub(weight, Ordering::Relaxed);
        self.budget.give(weight);
    }

    #[cold]
    fn push_when_full(&self, mut message: Message, who: &mut Who) -> Result<u64, Rejected> {
        if self.closed().is_some() {
            return Err(Rejected::Closed);
        }
        if message.weight() > self.limits.bytes.min(self.budget.max()) {
            // Whatever made room, it would not be enough.
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Rejected::Full);
        }
        let pushed = match self.limits.full {
            Full::Refuse => Err(Rejected::Full),
            Full::Disconnect => {
                self.close(Closed::TooSlow);
                Err(Rejected::Closed)
            }
            Full::Block(limit) => self.push_with_patience(message, limit, who),
            Full::ShedOldest | Full::ShedLowest => {
                let mut shed = 0;
                loop {
                    match self.try_push(message, who) {
                        Ok(()) => break Ok(shed),
                        Err(_) if self.closed().is_some() => break Err(Rejected::Closed),
                        Err(back) => message = back,
                    }
                    // Where it is others' bytes that leave none, making room here is in vain.
                    let in_vain = shed > 0 && message.weight() > 0 && self.bytes() == 0;
                    let victim = if in_vain { None } else { self.victim(message.priority()) };
                    let Some(victim) = victim else {
                        break Err(Rejected::Full);
                    };
                    self.settle(&victim);
                    self.counts.shed.fetch_add(1, Ordering::Relaxed);
                    shed += 1;
                }
            }
        };
        match pushed {
            Ok(_) => self.bell.ring(),
            Err(_) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        pushed
    }

    /// A message that makes room for one of this priority.
    fn victim(&self, priority: Priority) -> Option<Message> {
        let lanes = match self.limits.full {
            Full::ShedLowest => priority.lane()..5,
            // Where bytes are short, other lanes may have to give: never a more urgent one.
            _ => priority.lane()..priority.lane() + 1,
        };
        lanes.rev().find_map(|lane| self.lanes[lane].get()?.pop())
    }

    fn push_with_patience(
        &self,
        mut message: Message,
        limit: Duration,
        who: &mut Who,
    ) -> Result<u64, Rejected> {
        for look in 0..128 {
            match self.try_push(message, who) {
                Ok(()) => return Ok(0),
                Err(back) => message = back,
            }
            if look < 64 {
                crate::wait::relax();
            } else {
                std::thread::yield_now();
            }
        }
        if HANDING.get() == std::ptr::from_ref(self).addr() {
            return Err(Rejected::Full);
        }
        let me = std::thread::current();
        let end = Instant::now().checked_add(limit);
        self.blocked.fetch_add(1, Ordering::SeqCst);
        let pushed = loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.iter().all(|thread| thread.id() != me.id()) {
                    waiting.push(me.clone());
                }
            }
            match self.try_push(message, who) {
                Ok(()) => break Ok(0),
                Err(back) => message = back,
            }
            if self.closed().is_some() {
                break Err(Rejected::Closed);
            }
            let left = end.map_or(ROOM_CHECK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break Err(Rejected::Full);
            }
            std::thread::park_timeout(left.min(ROOM_CHECK));
        };
        self.blocked.fetch_sub(1, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|thread| thread.id() != me.id());
        drop(waiting);
        pushed
    }

    /// Puts in as many of `most` messages as there is room for, all of one priority and with short payloads.
    #[inline]
    pub(crate) fn push_some(
        &self,
        who: &mut Who,
        priority: Priority,
        most: usize,
        make: impl FnMut() -> Option<Message>,
    ) -> usize {
        if self.closed.load(Ordering::Relaxed) != 0 {
            return 0;
        }
        let pushed = self.lane(priority.lane()).map_or(0, |lane| lane.push_some(who, most, make));
        if pushed > 0 {
            self.bell.ring();
        }
        pushed
    }

    /// Accounts for a message that has left.
    #[inline]
    fn settle(&self, message: &Message) {
        let weight = message.weight();
        if weight > 0 {
            self.give_back(weight);
        }
    }

    /// Hands up to `most` messages to `each`, the most urgent first, with ageing. Answers how many.
    #[inline]
    pub(crate) fn take(&self, ages: &mut Ages, most: usize, mut each: impl FnMut(Message)) -> usize {
        let used = self.used.load(Ordering::Acquire);
        let _handing = Handing::begin(self);
        let mut settled = |message: Message| {
            self.settle(&message);
            each(message);
        };
        let taken = if used.is_power_of_two() {
            let lane = self.lanes[used.trailing_zeros() as usize].get();
            lane.map_or(0, |lane| lane.pop_some(most, &mut settled))
        } else {
            self.take_by_age(used, ages, most, &mut settled)
        };
        if taken > 0 {
            let received = &self.counts.received.0;
            received.store(received.load(Ordering::Relaxed) + taken as u64, Ordering::Relaxed);
            if self.blocked.load(Ordering::Relaxed) > 0 {
                self.tell_blocked();
            }
        }
        taken
    }

    /// As [`take`](Self::take), for one message and without a closure.
    #[inline]
    pub(crate) fn take_one(&self, ages: &mut Ages) -> Option<Message> {
        let used = self.used.load(Ordering::Acquire);
        let message = if used.is_power_of_two() {
            self.lanes[used.trailing_zeros() as usize].get()?.pop()?
        } else {
            let mut found = None;
            self.take_by_age(used, ages, 1, &mut |message| found = Some(message));
            found?
        };
        self.settle(&message);
        let received = &self.counts.received.0;
        received.store(received.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if self.blocked.load(Ordering::Relaxed) > 0 {
            self.tell_blocked();
        }
        Some(message)
    }

    fn take_by_age(&self, used: u8, ages: &mut Ages, most: usize, each: &mut dyn FnMut(Message)) -> usize {
        let mut taken = 0;
        while taken < most {
            let mut waiting = (0..5_usize).filter_map(|lane| {
                let ring = (used & (1 << lane) != 0).then(|| self.lanes[lane].get()).flatten()?;
                (!ring.is_empty()).then_some((lane, ring))
            });
            let Some((top, ring)) = waiting.next() else {
                break;
            };
            let passed: Vec<_> = waiting.collect();
            let oldest = passed.iter().max_by_key(|(lane, _)| ages.0[*lane]);
            if let Some((lane, ring)) = oldest.filter(|(lane, _)| ages.0[*lane] >= AGEING) {
                ages.0[*lane] = 0;
                taken += ring.pop_some(1, &mut *each);
                continue;
            }
            let patience = oldest.map_or(u32::MAX, |(lane, _)| AGEING - ages.0[*lane]) as usize;
            let count = ring.pop_some((most - taken).min(patience), &mut *each);
            ages.0[top] = 0;
            for (lane, _) in passed {
                ages.0[lane] += count as u32;
            }
            taken += count;
        }
        taken
    }

    #[cold]
    fn tell_blocked(&self) {
        for thread in std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)) {
            thread.unpark();
        }
    }

    /// Messages that wait.
    pub(crate) fn depth(&self) -> usize {
        self.lanes.iter().filter_map(OnceLock::get).map(|lane| lane.len()).sum()
    }

    /// Bytes of long payloads that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.0.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> Option<Closed> {
        match self.closed.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Closed::Dropped),
            2 => Some(Closed::TooSlow),
            _ => Some(Closed::BusDown),
        }
    }

    /// Takes no more; the first reason stays.
    pub(crate) fn close(&self, why: Closed) {
        let _ = self.closed.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire);
        self.bell.ring();
        self.tell_blocked();
    }

    /// Lets go of what waits.
    pub(crate) fn clear(&self) {
        for lane in self.lanes.iter().filter_map(OnceLock::get) {
            while let Some(message) = lane.pop() {
                self.settle(&message);
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.clear();
        let lanes = self.lanes.iter().filter(|lane| lane.get().is_some()).count() as u64;
        self.budget.give(lanes * self.lane_bytes());
    }
}

fn put(lane: &Ring<Message>, message: Message, who: &mut Who) -> Result<(), Message> {
    match lane.reserve(who) {
        Some(place) => {
            place.fill(message);
            Ok(())
        }
        None => Err(message),
    }
}

/// How often each lane was passed over since it was last served.
#[derive(Debug, Default)]
pub(crate) struct Ages([u32; 5]);
