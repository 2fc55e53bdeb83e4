//! What a stream has in memory: where each message is, what producers have sent, where consumers stand.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use quorate_base::Timestamp;
use quorate_wal::log::Enough;
use quorate_wal::{Batch, Log};

use super::delivery::{Delivery, Policy};
use super::record::{self, MESSAGE_HEAD, Record};
use super::{ConsumerInfo, Info, Retention, Start};
use crate::codec::{self, Malformed};
use crate::message::{Message, MessageId};
use crate::wait::Bell;

/// About so many bytes are written at once where a log is compacted.
const PIECE_BYTES: usize = if cfg!(test) { 1 << 10 } else { 8 << 20 };

/// One message: where it is in the log, and itself while it is recent.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) size: u64,
    pub(super) producer: u64,
    pub(super) deadline: Option<Timestamp>,
    pub(super) key: Option<Arc<str>>,
    pub(super) body: Option<(Arc<str>, Message)>,
}

impl Slot {
    pub(super) fn new(seq: u64, time: Timestamp, size: u64, topic: &Arc<str>, message: Message) -> Self {
        Self {
            seq,
            time,
            size,
            producer: message.producer(),
            deadline: message.deadline(),
            key: message.extra().and_then(|extra| extra.key.clone()),
            body: Some((Arc::clone(topic), message)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Consuming {
    pub(super) delivery: Delivery,
    /// Answers since it was last written down.
    pub(super) unsaved: u32,
    pub(super) missed: u64,
}

impl Consuming {
    pub(super) const fn new(delivery: Delivery) -> Self {
        Self { delivery, unsaved: 0, missed: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Last {
    seq: u64,
    offset: u64,
    heard: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) slots: BTreeMap<u64, Slot>,
    pub(super) end: u64,
    pub(super) bytes: u64,
    pub(super) consumers: BTreeMap<String, Consuming>,
    pub(super) done: HashMap<Arc<str>, u64>,
    pub(super) duplicates: u64,
    producers: HashMap<u64, Last>,
    /// What of `producers` a failed write may have to take back.
    unwritten: Vec<(u64, Option<Last>)>,
    producers_max: usize,
    heard: u64,
    keys: HashMap<Arc<str>, u64>,
    /// Messages below are in `keys`.
    keyed: u64,
    cached: VecDeque<u64>,
    cached_bytes: u64,
    /// Bytes of messages that are forgotten and still in the log.
    dead_bytes: u64,
    /// When there are so many, it is worth looking whether segments can go.
    reclaim_at: u64,
    bells: Vec<Weak<Bell>>,
    holders: u64,
}

impl State {
    pub(super) fn new(producers_max: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            end: 0,
            bytes: 0,
            consumers: BTreeMap::new(),
            done: HashMap::new(),
            duplicates: 0,
            producers: HashMap::new(),
            unwritten: Vec::new(),
            producers_max: producers_max.max(1),
            heard: 0,
            keys: HashMap::new(),
            keyed: 0,
            cached: VecDeque::new(),
            cached_bytes: 0,
            dead_bytes: 0,
            reclaim_at: 0,
            bells: Vec::new(),
            holders: 0,
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.slots.keys().next().copied().unwrap_or(self.end)
    }

    /// A record found in the log at start.
    pub(super) fn replay(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Malformed> {
        match record::read(bytes)? {
            Record::Message { offset, time, bytes } => {
                let (_, message) = codec::decode(bytes)?;
                let size = (MESSAGE_HEAD + bytes.len()) as u64;
                let mut slot = Slot::new(seq, time, size, &Arc::from(""), message);
                let id = slot.body.take().map(|(_, message)| message.id());
                if let Some(id) = id
                    && self.known(id).is_none()
                {
                    self.remember(id, offset);
                }
                self.insert(offset, slot);
            }
            Record::Consumer { name, saved } => {
                let delivery = Delivery::restore(Policy::default(), saved);
                self.consumers.insert(name.to_owned(), Consuming::new(delivery));
            }
            Record::Producers { next, all } => {
                self.end = self.end.max(next);
                for (producer, seq, offset) in all {
                    if self.known(MessageId { producer, seq }).is_none() {
                        self.remember(MessageId { producer, seq }, offset);
                    }
                }
            }
            Record::Done { key, offset } => {
                self.done.insert(key.into(), offset);
            }
            Record::Gone { name } => {
                self.consumers.remove(name);
            }
        }
        self.unwritten.clear();
        Ok(())
    }

    /// Where a message of that id is stored, if it is. Of each producer the last number is known; what is below it was stored before.
    pub(super) fn known(&self, id: MessageId) -> Option<u64> {
        // Producer 0 says that nobody counts.
        let last = self.producers.get(&id.producer).filter(|_| id.producer != 0)?;
        (id.seq <= last.seq).then_some(last.offset)
    }

    pub(super) fn last_of(&self, producer: u64) -> Option<MessageId> {
        self.producers.get(&producer).map(|last| MessageId { producer, seq: last.seq })
    }

    pub(super) fn remember(&mut self, id: MessageId, offset: u64) {
        if id.producer == 0 {
            return;
        }
        if self.producers.len() >= self.producers_max && !self.producers.contains_key(&id.producer) {
            // The quarter heard of longest ago goes at once, so that this is rare.
            let mut heard: Vec<u64> = self.producers.values().map(|last| last.heard).collect();
            heard.sort_unstable();
            let cut = heard[heard.len() / 4];
            self.producers.retain(|_, last| last.heard > cut);
        }
        self.heard += 1;
        let last = Last { seq: id.seq, offset, heard: self.heard };
        let before = self.producers.insert(id.producer, last);
        self.unwritten.push((id.producer, before));
    }

    /// The write of what was remembered since the last one failed.
    pub(super) fn forget_unwritten(&mut self) {
        for (producer, before) in std::mem::take(&mut self.unwritten).into_iter().rev() {
            match before {
                Some(last) => self.producers.insert(producer, last),
                None => self.producers.remove(&producer),
            };
        }
    }

    fn insert(&mut self, offset: u64, slot: Slot) {
        self.bytes += slot.size;
        self.end = self.end.max(offset + 1);
        if let Some(before) = self.slots.insert(offset, slot) {
            // Written again further on, when the log was compacted.
            self.bytes -= before.size;
            self.dead_bytes += before.size;
        }
    }

    /// Messages and marks that are durable now.
    pub(super) fn accept(
        &mut self,
        slots: Vec<(u64, Slot)>,
        marks: Vec<(Arc<str>, u64)>,
        cache_bytes: u64,
        in_memory: bool,
    ) {
        self.unwritten.clear();
        for (offset, slot) in slots {
            if !in_memory {
                self.cached.push_back(offset);
                self.cached_bytes += slot.size;
            }
            self.insert(offset, slot);
        }
        self.done.extend(marks);
        self.trim_cache(cache_bytes);
    }

    /// Keeps a message that was read from the log, for those who follow.
    pub(super) fn keep(&mut self, offset: u64, topic: Arc<str>, message: Message) {
        if let Some(slot) = self.slots.get_mut(&offset)
            && slot.body.is_none()
        {
            slot.body = Some((topic, message));
            self.cached.push_back(offset);
            self.cached_bytes += slot.size;
        }
    }

    pub(super) fn trim_cache(&mut self, cache_bytes: u64) {
        while self.cached_bytes > cache_bytes
            && let Some(offset) = self.cached.pop_front()
        {
            if let Some(slot) = self.slots.get_mut(&offset).filter(|slot| slot.body.is_some()) {
                slot.body = None;
                self.cached_bytes = self.cached_bytes.saturating_sub(slot.size);
            }
        }
        // Those that retention took are still in the row.
        if self.cached.len() > 2 * self.slots.len() + 64 {
            self.cached.retain(|offset| self.slots.get(offset).is_some_and(|slot| slot.body.is_some()));
        }
    }

    /// A record of so many bytes is of no use any more: a newer one says the same.
    pub(super) const fn supersede(&mut self, bytes: u64) {
        self.dead_bytes += bytes;
    }

    /// Whether it is worth looking what of the log can go.
    pub(super) const fn wants_room(&self) -> bool {
        self.dead_bytes >= self.reclaim_at
    }

    fn drop_slot(&mut self, offset: u64) {
        if let Some(slot) = self.slots.remove(&offset) {
            if let Some(key) = slot.key.as_ref().filter(|key| self.keys.get(*key) == Some(&offset)) {
                self.keys.remove(key);
            }
            self.bytes -= slot.size;
            self.dead_bytes += slot.size;
            if slot.body.is_some() {
                self.cached_bytes = self.cached_bytes.saturating_sub(slot.size);
            }
            for consuming in self.consumers.values_mut() {
                consuming.missed += u64::from(!consuming.delivery.is_done(offset));
            }
        }
    }

    /// Forgets what retention does not keep. Dead letters stay, and are no reason to keep or forget anything else.
    pub(super) fn retain(&mut self, retention: &Retention, now: Timestamp) {
        if retention.latest_by_key {
            let newest: Vec<(u64, Arc<str>)> = self
                .slots
                .range(self.keyed..)
                .filter_map(|(offset, slot)| Some((*offset, slot.key.clone()?)))
                .collect();
            self.keyed = self.end;
            for (offset, key) in newest {
                let older = self.keys.insert(key, offset).filter(|older| *older != offset);
                if let Some(older) = older.filter(|older| !self.is_buried(*older)) {
                    self.drop_slot(older);
                }
            }
        }
        let goes = |slot: &Slot, messages: u64, bytes: u64| {
            retention.age.is_some_and(|age| slot.time.0.saturating_add(age.0) < now.0)
                || retention.messages.is_some_and(|most| messages > most)
                || retention.bytes.is_some_and(|most| bytes > most)
        };
        let (mut messages, mut bytes) = (self.slots.len() as u64, self.bytes);
        if !self.slots.first_key_value().is_some_and(|(_, slot)| goes(slot, messages, bytes)) {
            return;
        }
        let buried: BTreeSet<u64> =
            self.consumers.values().flat_map(|consuming| consuming.delivery.buried()).collect();
        for slot in buried.iter().filter_map(|offset| self.slots.get(offset)) {
            messages -= 1;
            bytes -= slot.size;
        }
        let mut gone = Vec::new();
        for (offset, slot) in &self.slots {
            if buried.contains(offset) {
                continue;
            }
            if !goes(slot, messages, bytes) {
                break;
            }
            messages -= 1;
            bytes -= slot.size;
            gone.push(*offset);
        }
        for offset in gone {
            self.drop_slot(offset);
        }
    }

    fn is_buried(&self, offset: u64) -> bool {
        self.consumers.values().any(|consuming| consuming.delivery.buried().any(|buried| buried == offset))
    }

    /// Gives disk back: segments that hold nothing any more. Where forgotten messages take more than those that are left, what is left in
    /// full segments is written again at the end first.
    pub(super) fn reclaim(
        &mut self,
        log: &mut Log,
        now: Timestamp,
        segment_bytes: u64,
    ) -> Result<(), quorate_wal::Error> {
        if !self.wants_room() {
            return Ok(());
        }
        self.reclaim_at = self.dead_bytes + segment_bytes / 2;
        let segments: Vec<u64> = log.segments().collect();
        let (Some(&second), Some(&last)) = (segments.get(1), segments.last()) else {
            return Ok(());
        };
        let mut lowest = self.slots.values().map(|slot| slot.seq).min().unwrap_or(u64::MAX);
        let mut batch = Batch::new();
        let mut moved = Vec::new();
        if lowest < second && self.dead_bytes > self.bytes {
            let full = self.slots.iter().filter(|(_, slot)| slot.seq < last);
            let mut full: Vec<(u64, u64)> = full.map(|(offset, slot)| (slot.seq, *offset)).collect();
            full.sort_unstable();
            // A piece at a time: all of it may be more than fits into one append, or into memory.
            while let Some(&(from, _)) = full.get(moved.len()) {
                let next = log.next();
                log.read(from, &mut |found| {
                    if full.get(moved.len()).is_some_and(|(seq, _)| *seq == found.seq) {
                        moved.push((full[moved.len()].1, next + batch.len() as u64));
                        batch.push(found.bytes);
                    }
                    let enough = moved.len() == full.len() || batch.size() >= PIECE_BYTES;
                    if enough { Enough::Yes } else { Enough::No }
                })?;
                log.append(now, &mut batch)?;
            }
            lowest = last;
        }
        if lowest.min(log.next()) < second && moved.is_empty() {
            return Ok(());
        }
        // What is known from the records about to go is written again: producers, consumers, what was done once.
        let producers = self.producers.iter().map(|(producer, last)| (*producer, last.seq, last.offset));
        let producers: Vec<_> = producers.collect();
        let first = log.next();
        batch.push_with(|out| record::producers(out, self.end, producers.into_iter()));
        for (name, consuming) in &self.consumers {
            batch.push_with(|out| record::consumer(out, name, &consuming.delivery.save()));
            if batch.size() >= PIECE_BYTES {
                log.append(now, &mut batch)?;
            }
        }
        for (key, offset) in &self.done {
            batch.push_with(|out| record::done(out, key, *offset));
            if batch.size() >= PIECE_BYTES {
                log.append(now, &mut batch)?;
            }
        }
        log.append(now, &mut batch)?;
        log.sync()?;
        for (offset, seq) in moved {
            if let Some(slot) = self.slots.get_mut(&offset) {
                slot.seq = seq;
            }
        }
        let lowest = self.slots.values().map(|slot| slot.seq).min().unwrap_or(u64::MAX);
        log.forget(lowest.min(first))?;
        self.dead_bytes = 0;
        self.reclaim_at = segment_bytes / 2;
        Ok(())
    }

    pub(super) fn start(&self, start: Start) -> u64 {
        match start {
            Start::First => self.first(),
            Start::Next => self.end,
            Start::At(offset) => offset.clamp(self.first(), self.end),
            Start::Time(time) => {
                let found = self.slots.iter().find(|(_, slot)| slot.time >= time);
                found.map_or(self.end, |(offset, _)| *offset)
            }
        }
    }

    pub(super) const fn next_holder(&mut self) -> u64 {
        self.holders += 1;
        self.holders
    }

    pub(super) fn add_bell(&mut self, bell: &Arc<Bell>) {
        self.bells.retain(|bell| bell.strong_count() > 0);
        self.bells.push(Arc::downgrade(bell));
    }

    /// Tells all who wait that something has changed.
    pub(super) fn ring(&self) {
        for bell in self.bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }

    /// Keys, and places in the row of what is in memory.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.keys.len(), self.cached.len())
    }

    pub(super) fn info(&self, name: &str, patterns: Vec<String>, durable: bool) -> Info {
        let consumers = self.consumers.iter().map(|(name, consuming)| {
            let delivery = &consuming.delivery;
            let oldest = delivery.oldest().and_then(|offset| self.slots.get(&offset));
            ConsumerInfo {
                name: name.clone(),
                floor: delivery.floor(),
                lag: delivery.lag(self.end),
                out: delivery.out() as u64,
                waiting: delivery.waiting() as u64,
                redelivered: delivery.redelivered(),
                dead: delivery.dead().len() as u64,
                missed: consuming.missed,
                oldest: oldest.map(|slot| slot.time),
            }
        });
        Info {
            name: name.to_owned(),
            patterns,
            first: self.first(),
            end: self.end,
            messages: self.slots.len() as u64,
            bytes: self.bytes,
            duplicates: self.duplicates,
            durable,
            consumers: consumers.collect(),
        }
    }
}
