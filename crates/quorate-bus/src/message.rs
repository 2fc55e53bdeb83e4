//! What travels.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use quorate_base::Timestamp;

/// Payloads up to this many bytes travel inside the message; longer ones by reference, shared by all who receive them.
pub const INLINE_MAX: usize = 64;
/// Headers of a message.
pub const HEADERS_MAX: usize = 32;
/// Bytes of a header's name and value together, of a key, and of a reply.
pub const HEADER_LENGTH_MAX: usize = 4096;
/// Bytes a header takes beside its name and value.
const HEADER_BYTES: usize = 64;

/// How urgent a message is. Lanes are served in this order, with ageing, so that nothing starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    Critical = 0,
    High = 1,
    #[default]
    Normal = 2,
    Low = 3,
    Background = 4,
}

impl Priority {
    /// From most to least urgent.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Normal, Self::Low, Self::Background];

    pub const fn lane(self) -> usize {
        self as usize
    }

    /// Greater is more urgent.
    pub(crate) const fn urgency(self) -> u8 {
        4 - self as u8
    }

    /// The priority with that number on the wire and on disk.
    pub const fn from_lane(lane: u8) -> Option<Self> {
        match lane {
            0 => Some(Self::Critical),
            1 => Some(Self::High),
            2 => Some(Self::Normal),
            3 => Some(Self::Low),
            4 => Some(Self::Background),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Background => "background",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no priority: use critical, high, normal, low or background")]
pub struct NotAPriority(String);

impl FromStr for Priority {
    type Err = NotAPriority;

    fn from_str(text: &str) -> Result<Self, NotAPriority> {
        let found = Self::ALL.into_iter().find(|priority| priority.as_str() == text);
        found.ok_or_else(|| NotAPriority(text.chars().take(40).collect()))
    }
}

/// Names one message of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    pub producer: u64,
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.producer, self.seq)
    }
}

/// Where a trace was when the message was sent: the two ids of W3C Trace Context and its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    pub trace: u128,
    pub span: u64,
    pub flags: u8,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// A text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent of version 00")]
pub struct NotATrace;

impl FromStr for Trace {
    type Err = NotATrace;

    fn from_str(text: &str) -> Result<Self, NotATrace> {
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let part = parts.next()?;
            let hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (part.len() == length && hex).then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let parsed = (|| {
            let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
            let valid = version == 0 && trace != 0 && span != 0;
            valid.then_some(Self { trace, span: span as u64, flags: flags as u8 })
        })();
        parsed.filter(|_| parts.next().is_none()).ok_or(NotATrace)
    }
}

/// What few messages carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// The exchange this message belongs to.
    pub correlation: Option<MessageId>,
    /// The message that caused this one.
    pub causation: Option<MessageId>,
    pub trace: Option<Trace>,
    /// Not delivered after this.
    pub deadline: Option<Timestamp>,
    /// Where an answer is expected.
    pub reply: Option<Arc<str>>,
    /// Groups deliver messages with the same key to the same member; compacted logs keep the last of each.
    pub key: Option<Arc<str>>,
    /// A payload too long to travel inside the message.
    payload: Option<Bytes>,
}

impl Extra {
    /// Bytes of a long payload and of the texts, of which somebody outside decides how long they are.
    fn weight(&self) -> u64 {
        (self.payload.as_ref().map_or(0, Bytes::len) + self.texts()) as u64
    }

    fn texts(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| HEADER_BYTES + name.len() + value.len());
        let texts = [&self.reply, &self.key].into_iter().flatten().map(|text| text.len());
        headers.chain(texts).sum()
    }

    fn is_within_bounds(&self) -> bool {
        let long = |(name, value): &(Arc<str>, Arc<str>)| name.len() + value.len() > HEADER_LENGTH_MAX;
        let texts = [&self.reply, &self.key];
        self.headers.len() <= HEADERS_MAX
            && !self.headers.iter().any(long)
            && texts.into_iter().flatten().all(|text| text.len() <= HEADER_LENGTH_MAX)
    }
}

/// One message. A clone shares a long payload and everything in [`Extra`].
#[derive(Clone)]
#[repr(C, align(16))]
pub struct Message {
    // First, and so aligned: what is copied most is copied in whole words.
    inline: [u8; INLINE_MAX],
    /// Bytes in use of `inline`.
    length: u8,
    /// [`Priority::lane`]. A number, and not the priority itself: an `Option` of a message would hide its tag in values that no priority has, and
    /// each move of it would then be a move of the pieces around that byte, which the next one waits for.
    lane: u8,
    topic: u32,
    producer: u64,
    seq: u64,
    extra: Option<Arc<Extra>>,
}

const _: () = assert!(size_of::<Message>() == 96, "a message is a line and a half");
const _: () = assert!(size_of::<Option<Message>>() > size_of::<Message>(), "its tag is beside it");

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Message");
        out.field("id", &self.id()).field("priority", &self.priority()).field("bytes", &self.payload().len());
        if let Some(extra) = &self.extra {
            out.field("extra", extra);
        }
        out.finish_non_exhaustive()
    }
}

impl Message {
    /// A message with a copy of these bytes.
    #[inline]
    pub fn new(payload: &[u8]) -> Self {
        // The usual sizes are copied without a loop.
        if let Ok(inline) = <[u8; INLINE_MAX]>::try_from(payload) {
            return Self::inline(inline, INLINE_MAX as u8);
        }
        if payload.len() < INLINE_MAX {
            let mut inline = [0; INLINE_MAX];
            inline[..payload.len()].copy_from_slice(payload);
            return Self::inline(inline, payload.len() as u8);
        }
        Self::long(Bytes::copy_from_slice(payload))
    }

    /// A message that shares these bytes with whoever else has them; short ones are copied, which is cheaper.
    pub fn shared(payload: Bytes) -> Self {
        if payload.len() <= INLINE_MAX { Self::new(&payload) } else { Self::long(payload) }
    }

    #[inline]
    const fn inline(inline: [u8; INLINE_MAX], length: u8) -> Self {
        Self { inline, length, lane: Priority::Normal as u8, topic: 0, producer: 0, seq: 0, extra: None }
    }

    #[cold]
    fn long(payload: Bytes) -> Self {
        let extra = Extra { payload: Some(payload), ..Extra::default() };
        Self { extra: Some(Arc::new(extra)), ..Self::inline([0; INLINE_MAX], 0) }
    }

    #[inline]
    pub fn payload(&self) -> &[u8] {
        match &self.extra {
            Some(extra) if extra.payload.is_some() => extra.payload.as_deref().unwrap_or_default(),
            _ => &self.inline[..usize::from(self.length)],
        }
    }

    /// The payload, shared where it is long.
    pub fn bytes(&self) -> Bytes {
        match self.extra.as_ref().and_then(|extra| extra.payload.clone()) {
            Some(bytes) => bytes,
            None => Bytes::copy_from_slice(&self.inline[..usize::from(self.length)]),
        }
    }

    /// Bytes it holds beside its slot in a queue.
    #[inline]
    pub(crate) fn weight(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.weight())
    }

    /// Bytes of its headers, its key and its reply.
    pub(crate) fn texts(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.texts())
    }

    /// Whether its headers, its key and its reply are as long as they may be.
    #[inline]
    pub(crate) fn is_within_bounds(&self) -> bool {
        self.extra.as_ref().is_none_or(|extra| extra.is_within_bounds())
    }

    pub const fn priority(&self) -> Priority {
        match Priority::from_lane(self.lane) {
            Some(priority) => priority,
            None => Priority::Background,
        }
    }

    /// The producer and the producer's number for it; numbers of one producer only grow.
    pub const fn id(&self) -> MessageId {
        MessageId { producer: self.producer, seq: self.seq }
    }

    pub const fn producer(&self) -> u64 {
        self.producer
    }

    /// The bus' number for the topic; [`crate::Bus::topic_name`] has the text.
    pub const fn topic(&self) -> u32 {
        self.topic
    }

    pub fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = &self.extra.as_ref()?.headers;
        headers.iter().find(|(found, _)| &**found == name).map(|(_, value)| &**value)
    }

    pub fn key(&self) -> Option<&str> {
        self.extra.as_ref()?.key.as_deref()
    }

    pub fn reply(&self) -> Option<&str> {
        self.extra.as_ref()?.reply.as_deref()
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.extra.as_ref()?.deadline
    }

    #[must_use]
    pub const fn with_priority(mut self, priority: Priority) -> Self {
        self.lane = priority as u8;
        self
    }

    /// Adds a header. Beyond [`HEADERS_MAX`] publishing refuses the message.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.extra_mut().headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn with_correlation(mut self, id: MessageId) -> Self {
        self.extra_mut().correlation = Some(id);
        self
    }

    #[must_use]
    pub fn with_causation(mut self, id: MessageId) -> Self {
        self.extra_mut().causation = Some(id);
        self
    }

    #[must_use]
    pub fn with_trace(mut self, trace: Trace) -> Self {
        self.extra_mut().trace = Some(trace);
        self
    }

    /// Not delivered after `deadline`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Timestamp) -> Self {
        self.extra_mut().deadline = Some(deadline);
        self
    }

    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.extra_mut().key = Some(key.into());
        self
    }

    #[must_use]
    pub fn with_reply(mut self, topic: &str) -> Self {
        self.extra_mut().reply = Some(topic.into());
        self
    }

    /// The message of which these were read.
    #[inline]
    pub(crate) fn rebuilt(mut self, id: MessageId, priority: Priority, extra: Option<Box<Extra>>) -> Self {
        (self.producer, self.seq, self.lane) = (id.producer, id.seq, priority as u8);
        match extra {
            None => self,
            Some(extra) => self.with_extra(*extra),
        }
    }

    /// Gives it these fields in place of those it has.
    #[must_use]
    pub fn with_extra(mut self, extra: Extra) -> Self {
        let payload = self.extra.take().and_then(|extra| extra.payload.clone());
        let extra = Extra { payload, ..extra };
        self.extra = (extra != Extra::default()).then(|| Arc::new(extra));
        self
    }

    fn extra_mut(&mut self) -> &mut Extra {
        Arc::make_mut(self.extra.get_or_insert_default())
    }

    /// The message with what publishing fills in.
    #[inline]
    pub(crate) const fn stamp(&mut self, stamp: Stamp) {
        self.topic = stamp.topic;
        self.producer = stamp.producer;
        self.seq = stamp.seq;
    }

    /// For those who store without a bus ([`crate::stream::Stream::publish`]); a bus gives its own.
    #[must_use]
    pub const fn with_id(mut self, id: MessageId) -> Self {
        self.producer = id.producer;
        self.seq = id.seq;
        self
    }
}

/// What publishing fills in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) topic: u32,
    pub(crate) producer: u64,
    pub(crate) seq: u64,
}

/// A copy of a message on its way to a slot, with its stamp.
#[derive(Debug)]
pub(crate) struct Stamped<'a>(pub(crate) &'a Message, pub(crate) Stamp);

#[expect(unsafe_code, reason = "a message is written to its slot field by field")]
// SAFETY: every field is written once: the pattern below names them all, so that a new one cannot be forgotten.
unsafe impl crate::ring::Emplace<Message> for Stamped<'_> {
    // A copy of the whole would read fields in wider pieces than they were just written in, and wait for each until it has left the store buffer: that
    // costs more than everything else a publisher does.
    #[inline]
    fn emplace(self, place: &mut std::mem::MaybeUninit<Message>) {
        let Self(message, stamp) = self;
        let Message { inline, length, lane, extra, topic: _, producer: _, seq: _ } = message;
        let place = place.as_mut_ptr();
        // SAFETY: the pointer comes from a reference to a place for a message; each of these is a field of it.
        unsafe {
            (&raw mut (*place).inline).write(*inline);
            (&raw mut (*place).length).write(*length);
            (&raw mut (*place).lane).write(*lane);
            (&raw mut (*place).topic).write(stamp.topic);
            (&raw mut (*place).producer).write(stamp.producer);
            (&raw mut (*place).seq).write(stamp.seq);
            (&raw mut (*place).extra).write(extra.clone());
        }
    }
}
