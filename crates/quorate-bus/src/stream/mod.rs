//! Messages that stay: a log of what was published, and consumers that each have their place in it.
//!
//! [`Stream::publish`] returns when the message will survive a power cut. Each [`Consumer`] gets every message until it has acknowledged it
//! ([`delivery`] says when it comes again and when it is given up). A message that was published twice under the same producer and number is stored
//! once. [`Stream::once`] stores what a consumer made of a message together with the fact that it did, in one write: the effect happens
//! exactly once, whatever dies.

mod consumer;
pub mod delivery;
mod record;
mod state;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_base::{Millis, Timestamp};
use quorate_wal::log::Enough;
use quorate_wal::{Batch, Disk, Group, Log, OsDisk};

pub use self::consumer::{AnswerError, Consumer, Received};
use self::delivery::{Dead, Delivery, Policy};
use self::record::Record;
use self::state::{Slot, State};
use crate::codec;
use crate::message::{HEADER_LENGTH_MAX, HEADERS_MAX, Message, MessageId};
use crate::topic::{self, Pattern};

/// What of a stream may be forgotten. A message that a consumer still needs goes too when a bound is reached: retention wins, and the consumer's
/// count of missed messages says so. Messages that are dead letters stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Messages older than this.
    pub age: Option<Millis>,
    /// The oldest ones while all together have more bytes.
    pub bytes: Option<u64>,
    /// The oldest ones while there are more.
    pub messages: Option<u64>,
    /// All but the last with the same key ([`Message::with_key`]). Messages without a key are not concerned.
    pub latest_by_key: bool,
}

/// How a stream is kept.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    /// What is published to topics that match is kept.
    pub patterns: Vec<String>,
    /// The folder of its log; `None` keeps it in memory, for as long as the process lives.
    pub folder: Option<PathBuf>,
    pub retention: Retention,
    /// Bytes of recent messages kept in memory, so that a consumer that keeps up needs no disk.
    pub cache_bytes: u64,
    /// Producers remembered for telling repetitions; the one heard of longest ago is forgotten first.
    pub producers_max: usize,
    /// Consumers it has at most.
    pub consumers_max: usize,
    pub log: quorate_wal::Options,
    pub disk: Arc<dyn Disk>,
    pub clock: fn() -> Timestamp,
}

impl Options {
    /// A stream of that name, which keeps everything, with its log in `folder`.
    pub fn new(name: &str, patterns: &[&str], folder: Option<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            folder,
            retention: Retention::default(),
            cache_bytes: 16 << 20,
            producers_max: 100_000,
            consumers_max: 10_000,
            log: quorate_wal::Options::default(),
            disk: Arc::new(OsDisk),
            clock: crate::bus::wall_clock,
        }
    }
}

/// A stream cannot do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("stream {name}: {reason}")]
    Log { name: String, reason: Arc<quorate_wal::Error> },
    #[error(
        "stream {name}: record {seq} is not what was written: {reason}; restore the stream from a backup"
    )]
    Malformed { name: String, seq: u64, reason: codec::Malformed },
    #[error(transparent)]
    Pattern(#[from] topic::Error),
    #[error("stream {name} has {max} consumers, its bound")]
    TooManyConsumers { name: String, max: usize },
    #[error("stream {name} has no consumer {consumer}")]
    NoSuchConsumer { name: String, consumer: String },
    #[error("stream {name} no longer has message {offset}; its first is {first}")]
    Forgotten { name: String, offset: u64, first: u64 },
    #[error("a consumer's name has 1 to 200 bytes, this one has {0}")]
    ConsumerName(usize),
    #[error("the name of work that is done once has at most {KEY_MAX} bytes, this one has {0}")]
    Key(usize),
    #[error("stream {name} takes at most {max} bytes at once, these are {bytes}")]
    TooLarge { name: String, bytes: u64, max: u64 },
    #[error(
        "a message has at most {HEADERS_MAX} headers, and {HEADER_LENGTH_MAX} bytes in each, in its key and in its reply"
    )]
    Headers,
    #[error("stream {name} is open already, here or in another process")]
    Busy { name: String },
}

/// Where a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the stream.
    pub offset: u64,
    /// It was there already: the producer published it before.
    pub duplicate: bool,
}

/// Where a consumer that is new begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first message there is.
    First,
    /// With what is published from now on.
    Next,
    /// With the message of this number.
    At(u64),
    /// With the first published at this time or later.
    Time(Timestamp),
}

/// Bytes of the name of work that is done once.
const KEY_MAX: usize = 1000;
/// Bytes stored at once.
const AT_ONCE_MAX: u64 = 64 << 20;
/// A batch that has so many bytes is followed by another: all the batches of those who wait together may be more than one append can hold.
const BATCH_BYTES: usize = if cfg!(test) { 2 << 10 } else { 16 << 20 };
/// Bytes of a record beside texts and payload, at most.
const RECORD_BYTES: usize = 128;
/// Bytes of messages read at once from the log.
const READ_AHEAD: usize = 256 << 10;

#[derive(Debug)]
enum Job {
    Publish { topic: Arc<str>, message: Message },
    Many(Vec<(Arc<str>, Message)>),
    Once { key: Arc<str>, offset: u64, outputs: Vec<(Arc<str>, Message)> },
    Save { consumer: Arc<str> },
    Remove { consumer: Arc<str> },
}

type Answer = Result<Vec<Stored>, Error>;

/// A stream. One process has it open.
#[derive(Debug)]
pub struct Stream {
    name: Box<str>,
    patterns: Vec<Pattern>,
    options: Options,
    group: Group<Job, Answer>,
    /// Only the leader of the group has it, and those who read what is no longer in memory.
    log: Mutex<Option<Log>>,
    state: Mutex<State>,
    timer: crate::timer::Timer,
    _held: Option<std::fs::File>,
}

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Info {
    pub name: String,
    pub patterns: Vec<String>,
    /// Numbers of the first message that is there and behind the last.
    pub first: u64,
    pub end: u64,
    pub messages: u64,
    pub bytes: u64,
    pub duplicates: u64,
    pub durable: bool,
    pub consumers: Vec<ConsumerInfo>,
}

/// Where a consumer stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConsumerInfo {
    pub name: String,
    /// Messages below are done.
    pub floor: u64,
    /// Messages behind the floor that are not done.
    pub lag: u64,
    pub out: u64,
    pub waiting: u64,
    pub redelivered: u64,
    pub dead: u64,
    /// Messages retention took before they were done.
    pub missed: u64,
    /// When the oldest message that is out or waits was published.
    pub oldest: Option<Timestamp>,
}

impl Stream {
    /// Opens a stream, or begins it where there is none.
    pub fn open(options: Options) -> Result<Arc<Self>, Error> {
        let patterns =
            options.patterns.iter().map(|text| Pattern::new(text)).collect::<Result<Vec<_>, _>>()?;
        let mut state = State::new(options.producers_max);
        let mut log = None;
        let mut held = None;
        if let Some(folder) = &options.folder {
            let failed = |error| Error::Log { name: options.name.clone(), reason: Arc::new(error) };
            let disk = Arc::clone(&options.disk);
            held = disk.hold(folder).map_err(|source| match source.kind() {
                std::io::ErrorKind::WouldBlock => Error::Busy { name: options.name.clone() },
                _ => failed(quorate_wal::Error::Io { path: folder.clone(), source }),
            })?;
            if Log::exists(&*disk, folder).map_err(failed)? {
                let mut bad = None;
                let first = first_record(&*disk, folder).map_err(failed)?;
                let (opened, _) = Log::open(disk, folder, options.log.clone(), first, 0, &mut |found| {
                    if let Err(reason) = state.replay(found.seq, found.bytes)
                        && bad.is_none()
                    {
                        bad = Some(Error::Malformed { name: options.name.clone(), seq: found.seq, reason });
                    }
                })
                .map_err(failed)?;
                if let Some(error) = bad {
                    return Err(error);
                }
                log = Some(opened);
            } else {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&(options.clock)().0.to_le_bytes());
                id[8..12].copy_from_slice(&std::process::id().to_le_bytes());
                log = Some(Log::create(disk, folder, id, 0, options.log.clone()).map_err(failed)?);
            }
        }
        state.retain(&options.retention, (options.clock)());
        Ok(Arc::new(Self {
            name: options.name.as_str().into(),
            patterns,
            group: Group::new(4096),
            log: Mutex::new(log),
            state: Mutex::new(state),
            timer: crate::timer::Timer::new(1 << 20),
            _held: held,
            options,
        }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        (self.options.clock)()
    }

    fn failed(&self, error: quorate_wal::Error) -> Error {
        Error::Log { name: self.name.to_string(), reason: Arc::new(error) }
    }

    /// Stores a message; returns when it is durable. Repetitions of a producer's number are not stored again.
    pub fn publish(&self, topic: &str, message: &Message) -> Result<Stored, Error> {
        self.check([(topic, message)])?;
        let job = Job::Publish { topic: topic.into(), message: message.clone() };
        let stored = self.submit(job)?;
        Ok(stored[0])
    }

    /// Stores messages together, in order, with one wait.
    pub fn publish_all(&self, messages: Vec<(Arc<str>, Message)>) -> Result<Vec<Stored>, Error> {
        self.check(messages.iter().map(|(topic, message)| (&**topic, message)))?;
        if messages.is_empty() { Ok(Vec::new()) } else { self.submit(Job::Many(messages)) }
    }

    /// Refuses what could not be stored, or not be read again, before others' messages share its fate.
    fn check<'a>(&self, messages: impl IntoIterator<Item = (&'a str, &'a Message)>) -> Result<(), Error> {
        let mut bytes = 0;
        for (topic, message) in messages {
            if topic.len() > topic::LENGTH_MAX {
                return Err(topic::Error::Length(topic.len()).into());
            }
            if !message.is_within_bounds() {
                return Err(Error::Headers);
            }
            bytes += (message.payload().len() + message.texts() + topic.len() + RECORD_BYTES) as u64;
        }
        if bytes > AT_ONCE_MAX {
            return Err(Error::TooLarge { name: self.name.to_string(), bytes, max: AT_ONCE_MAX });
        }
        Ok(())
    }

    /// Stores what came of message `offset` of another stream, once: `outputs` and the fact that `key` has done it are durable together or not
    /// at all. `None` where it was done before. `key` names the work and the other stream; its messages are done in order.
    pub fn once(
        &self,
        key: &str,
        offset: u64,
        outputs: Vec<(Arc<str>, Message)>,
    ) -> Result<Option<Vec<Stored>>, Error> {
        if key.len() > KEY_MAX {
            return Err(Error::Key(key.len()));
        }
        self.check(outputs.iter().map(|(topic, message)| (&**topic, message)))?;
        if self.done(key).is_some_and(|done| done >= offset) {
            return Ok(None);
        }
        let count = outputs.len();
        let stored = self.submit(Job::Once { key: key.into(), offset, outputs })?;
        Ok((stored.len() == count + 1).then(|| stored[..count].to_vec()))
    }

    /// The last message of another stream that `key` has done.
    pub fn done(&self, key: &str) -> Option<u64> {
        self.state().done.get(key).copied()
    }

    fn submit(&self, job: Job) -> Answer {
        self.group.submit(job, |jobs| self.commit(jobs))
    }

    /// Does jobs together: one write, one sync.
    fn commit(&self, jobs: Vec<Job>) -> Vec<Answer> {
        let now = self.now();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batches, mut batch, mut before) = (Vec::new(), Batch::new(), 0);
        let mut slots: Vec<(u64, Slot)> = Vec::new();
        let mut answers: Vec<Answer> = Vec::with_capacity(jobs.len());
        let first_seq = log.as_ref().map_or(0, Log::next);
        let mut marks = Vec::new();
        {
            let mut state = self.state();
            let mut next = state.end;
            for job in jobs {
                if batch.size() >= BATCH_BYTES {
                    before += batch.len() as u64;
                    batches.push(std::mem::take(&mut batch));
                }
                let first = slots.len();
                answers.push(Ok(
                    self.prepare(job, now, &mut state, &mut next, &mut batch, &mut slots, &mut marks)
                ));
                slots[first..].iter_mut().for_each(|(_, slot)| slot.seq += before);
            }
            batches.push(batch);
        }
        let in_memory = log.is_none();
        for (_, slot) in &mut slots {
            // Without a log a message's place is itself, in memory.
            slot.seq = if in_memory { u64::MAX } else { first_seq + slot.seq };
        }
        if let Some(log) = &mut *log
            && batches.iter().any(|batch| !batch.is_empty())
        {
            let written = batches.iter_mut().try_for_each(|batch| log.append(now, batch).map(drop));
            let written = written.and_then(|()| log.sync());
            if let Err(error) = written {
                let error = self.failed(error);
                self.state().forget_unwritten();
                return answers.iter().map(|_| Err(error.clone())).collect();
            }
        }
        let mut state = self.state();
        state.accept(slots, marks, self.options.cache_bytes, in_memory);
        state.retain(&self.options.retention, now);
        if let Some(log) = &mut *log {
            // A failure here takes nothing back: what was acknowledged is durable, and the log tells the next one who writes.
            let _ = state.reclaim(log, now, self.options.log.segment_bytes);
        }
        state.ring();
        answers
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one commit, filled side by side")]
    fn prepare(
        &self,
        job: Job,
        now: Timestamp,
        state: &mut State,
        next: &mut u64,
        batch: &mut Batch,
        slots: &mut Vec<(u64, Slot)>,
        marks: &mut Vec<(Arc<str>, u64)>,
    ) -> Vec<Stored> {
        let mut store = |topic: &Arc<str>, message: Message, state: &mut State| {
            let id = message.id();
            if let Some(offset) = state.known(id) {
                state.duplicates += 1;
                return Stored { offset, duplicate: true };
            }
            let offset = *next;
            *next += 1;
            state.remember(id, offset);
            let seq = batch.len() as u64;
            let mut size = 0;
            batch.push_with(|out| {
                let before = out.len();
                record::message_head(out, offset, now);
                codec::encode(out, topic, &message);
                size = (out.len() - before) as u64;
            });
            slots.push((offset, Slot::new(seq, now, size, topic, message)));
            Stored { offset, duplicate: false }
        };
        match job {
            Job::Publish { topic, message } => vec![store(&topic, message, state)],
            Job::Many(messages) => {
                messages.into_iter().map(|(topic, message)| store(&topic, message, state)).collect()
            }
            Job::Once { key, offset, outputs } => {
                let pending = marks.iter().rev().find(|(found, _)| *found == key).map(|(_, offset)| *offset);
                if pending.or_else(|| state.done.get(&key).copied()).is_some_and(|done| done >= offset) {
                    return Vec::new();
                }
                let mut stored: Vec<_> =
                    outputs.into_iter().map(|(topic, message)| store(&topic, message, state)).collect();
                batch.push_with(|out| record::done(out, &key, offset));
                marks.push((key, offset));
                // One more than the outputs says that it was done now.
                stored.push(Stored { offset, duplicate: false });
                stored
            }
            Job::Save { consumer } => {
                if let Some(found) = state.consumers.get_mut(&*consumer) {
                    found.unsaved = 0;
                    let saved = found.delivery.save();
                    let before = batch.size();
                    batch.push_with(|out| record::consumer(out, &consumer, &saved));
                    state.supersede((batch.size() - before) as u64);
                }
                Vec::new()
            }
            Job::Remove { consumer } => {
                if state.consumers.remove(&*consumer).is_some() {
                    batch.push_with(|out| record::gone(out, &consumer));
                }
                Vec::new()
            }
        }
    }

    /// Writes down what a consumer has done; returns when it is durable.
    fn save(&self, consumer: &Arc<str>) -> Result<(), Error> {
        self.submit(Job::Save { consumer: Arc::clone(consumer) }).map(|_| ())
    }

    /// Writes down what consumers have done, without waiting for the disk: it survives the death of the process, not a power cut.
    fn note(&self, consumer: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = &mut *log else {
            return;
        };
        let mut state = self.state();
        let Some(found) = state.consumers.get_mut(consumer) else {
            return;
        };
        found.unsaved = 0;
        let saved = found.delivery.save();
        drop(state);
        let mut batch = Batch::new();
        batch.push_with(|out| record::consumer(out, consumer, &saved));
        let (now, bytes) = (self.now(), batch.size() as u64);
        // What is not noted is delivered again, which is what this delivery promises; the log tells whoever publishes.
        if log.append(now, &mut batch).is_ok() {
            let mut state = self.state();
            state.supersede(bytes);
            // Somebody may answer and answer while nobody publishes.
            let _ = state.reclaim(log, now, self.options.log.segment_bytes);
        }
    }

    /// A consumer of that name, which begins at `start` where it is new, and where it was where it is known. Several handles of one name share the
    /// messages between them.
    pub fn consumer(self: &Arc<Self>, name: &str, policy: Policy, start: Start) -> Result<Consumer, Error> {
        self.filtered_consumer(name, policy, start, None)
    }

    /// As [`consumer`](Self::consumer), of the messages that a filter accepts.
    pub fn filtered_consumer(
        self: &Arc<Self>,
        name: &str,
        policy: Policy,
        start: Start,
        filter: Option<crate::Filter>,
    ) -> Result<Consumer, Error> {
        if name.is_empty() || name.len() > 200 {
            return Err(Error::ConsumerName(name.len()));
        }
        let name: Arc<str> = name.into();
        let mut made = false;
        let holder = {
            let mut state = self.state();
            if !state.consumers.contains_key(&*name) {
                if state.consumers.len() >= self.options.consumers_max {
                    let max = self.options.consumers_max;
                    return Err(Error::TooManyConsumers { name: self.name.to_string(), max });
                }
                let from = state.start(start);
                state.consumers.insert(name.to_string(), state::Consuming::new(Delivery::new(policy, from)));
                made = true;
            }
            if let Some(found) = state.consumers.get_mut(&*name) {
                found.delivery.set_policy(policy);
            }
            state.next_holder()
        };
        if made {
            // A consumer that begins now must not begin later than that after a restart.
            self.save(&name)?;
        }
        Ok(Consumer::new(Arc::clone(self), name, holder, filter, Arc::new(crate::wait::Bell::new())))
    }

    /// Forgets a consumer and where it was.
    pub fn remove_consumer(&self, name: &str) -> Result<(), Error> {
        drop(self.state_of(name)?);
        self.submit(Job::Remove { consumer: name.into() }).map(|_| ())
    }

    fn state_of(&self, consumer: &str) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.consumers.contains_key(consumer) {
            return Ok(state);
        }
        Err(Error::NoSuchConsumer { name: self.name.to_string(), consumer: consumer.to_owned() })
    }

    /// Messages that a consumer gave up, with their numbers.
    pub fn dead_letters(&self, consumer: &str) -> Result<Vec<(u64, Dead)>, Error> {
        let state = self.state_of(consumer)?;
        let dead = state.consumers[consumer].delivery.dead();
        Ok(dead.iter().map(|(offset, dead)| (*offset, *dead)).collect())
    }

    /// Delivers a dead letter again. `false` where there is none of that number.
    pub fn replay(&self, consumer: &str, offset: u64) -> Result<bool, Error> {
        let now = self.now();
        let mut state = self.state_of(consumer)?;
        let producer = state.slots.get(&offset).map_or(0, |slot| slot.producer);
        let found = state
            .consumers
            .get_mut(consumer)
            .is_some_and(|consuming| consuming.delivery.replay(now, offset, producer));
        state.ring();
        Ok(found)
    }

    /// Forgets a dead letter. `false` where there is none of that number.
    pub fn purge(&self, consumer: &str, offset: u64) -> Result<bool, Error> {
        let found = {
            let mut state = self.state_of(consumer)?;
            state.consumers.get_mut(consumer).is_some_and(|consuming| consuming.delivery.purge(offset))
        };
        if found {
            self.save(&consumer.into())?;
        }
        Ok(found)
    }

    /// The topic, time and text of a message.
    pub fn message(&self, offset: u64) -> Result<(Arc<str>, Timestamp, Message), Error> {
        let forgotten =
            |state: &State| Error::Forgotten { name: self.name.to_string(), offset, first: state.first() };
        {
            let state = self.state();
            let slot = state.slots.get(&offset).ok_or_else(|| forgotten(&state))?;
            if let Some((topic, message)) = &slot.body {
                return Ok((Arc::clone(topic), slot.time, message.clone()));
            }
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it is, is looked up with the log in hand: until then compaction may have moved it.
        let (seq, time) = {
            let state = self.state();
            let slot = state.slots.get(&offset).ok_or_else(|| forgotten(&state))?;
            (slot.seq, slot.time)
        };
        let log = log.as_ref().ok_or_else(|| forgotten(&self.state()))?;
        // Whoever reads one that is no longer in memory will want those behind it too.
        let mut found = Vec::new();
        let mut bytes = 0;
        log.read(seq, &mut |record| {
            bytes += record.bytes.len();
            found.push(self.decode(record.seq, record.bytes));
            if bytes < READ_AHEAD { Enough::No } else { Enough::Yes }
        })
        .map_err(|error| self.failed(error))?;
        let mut state = self.state();
        let mut wanted = None;
        for message in found {
            let Some((number, topic, message)) = message? else {
                continue;
            };
            if number == offset {
                wanted = Some((Arc::clone(&topic), time, message.clone()));
            }
            state.keep(number, topic, message);
        }
        state.trim_cache(self.options.cache_bytes);
        wanted.ok_or_else(|| forgotten(&state))
    }

    /// A record of the log, where it is a message.
    fn decode(&self, seq: u64, bytes: &[u8]) -> Result<Option<(u64, Arc<str>, Message)>, Error> {
        let malformed = |reason| Error::Malformed { name: self.name.to_string(), seq, reason };
        match record::read(bytes).map_err(malformed)? {
            Record::Message { offset, bytes, .. } => {
                let (topic, message) = codec::decode(bytes).map_err(malformed)?;
                Ok(Some((offset, topic.into(), message)))
            }
            _ => Ok(None),
        }
    }

    /// The number of the first message published at `time` or later; the next number where there is none.
    pub fn at_time(&self, time: Timestamp) -> u64 {
        self.state().start(Start::Time(time))
    }

    /// The last number a producer stored under.
    pub fn last_of(&self, producer: u64) -> Option<MessageId> {
        self.state().last_of(producer)
    }

    /// How it stands.
    pub fn info(&self) -> Info {
        let durable = self.options.folder.is_some();
        let patterns = self.options.patterns.clone();
        self.state().info(&self.name, patterns, durable)
    }
}

/// The number of the first record a log still has.
fn first_record(disk: &dyn Disk, folder: &std::path::Path) -> Result<u64, quorate_wal::Error> {
    let names =
        disk.list(folder).map_err(|source| quorate_wal::Error::Io { path: folder.to_owned(), source })?;
    let firsts = names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok());
    Ok(firsts.min().unwrap_or(0))
}
