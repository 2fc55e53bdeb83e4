//! A message's bytes, on disk and on the wire. Numbers are little endian.
//!
//! ```text
//! u8 priority   u16 which of the fields in brackets follow   u64 producer   u64 seq   u16 length, topic
//! [0 correlation: u64 u64] [1 causation: u64 u64] [2 trace: u128 u64 u8] [3 deadline: u64 ms] [4 reply: u16 length, text]
//! [5 key: u16 length, text] [6 headers: u8 count, each u16 length, name, u16 length, value]
//! u32 length, payload
//! ```

use std::sync::Arc;

use bytes::Bytes;
use quorate_base::Timestamp;

use crate::message::{Extra, HEADERS_MAX, Message, MessageId, Priority, Trace};

/// Bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message: {0}")]
pub struct Malformed(pub &'static str);

const CORRELATION: u16 = 1;
const CAUSATION: u16 = 1 << 1;
const TRACE: u16 = 1 << 2;
const DEADLINE: u16 = 1 << 3;
const REPLY: u16 = 1 << 4;
const KEY: u16 = 1 << 5;
const HEADERS: u16 = 1 << 6;
const KNOWN: u16 = (1 << 7) - 1;

/// Bytes before the topic.
const HEAD: usize = 21;

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = text.floor_char_boundary(usize::from(u16::MAX));
    out.extend((length as u16).to_le_bytes());
    out.extend(&text.as_bytes()[..length]);
}

/// Which of the fields in brackets a message has.
fn fields(extra: &Extra) -> u16 {
    let present = [
        (CORRELATION, extra.correlation.is_some()),
        (CAUSATION, extra.causation.is_some()),
        (TRACE, extra.trace.is_some()),
        (DEADLINE, extra.deadline.is_some()),
        (REPLY, extra.reply.is_some()),
        (KEY, extra.key.is_some()),
        (HEADERS, !extra.headers.is_empty()),
    ];
    present.into_iter().filter(|(_, present)| *present).fold(0, |fields, (field, _)| fields | field)
}

/// Appends a message and the topic it was published to.
pub fn encode(out: &mut Vec<u8>, topic: &str, message: &Message) {
    put(out, topic, message.priority(), message.id(), message.extra(), message.payload());
}

/// As [`encode`], of a message that is not made.
pub(crate) fn put(
    out: &mut Vec<u8>,
    topic: &str,
    priority: Priority,
    id: MessageId,
    extra: Option<&Extra>,
    payload: &[u8],
) {
    let fields = extra.map_or(0, fields);
    let topic = &topic[..topic.floor_char_boundary(usize::from(u16::MAX))];
    out.reserve(HEAD + topic.len() + 4 + payload.len());
    let mut head = [0; HEAD];
    head[0] = priority as u8;
    head[1..3].copy_from_slice(&fields.to_le_bytes());
    head[3..11].copy_from_slice(&id.producer.to_le_bytes());
    head[11..19].copy_from_slice(&id.seq.to_le_bytes());
    head[19..].copy_from_slice(&(topic.len() as u16).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(topic.as_bytes());
    if let Some(extra) = extra.filter(|_| fields != 0) {
        put_fields(out, extra);
    }
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
}

fn put_fields(out: &mut Vec<u8>, extra: &Extra) {
    for id in [extra.correlation, extra.causation].into_iter().flatten() {
        out.extend(id.producer.to_le_bytes());
        out.extend(id.seq.to_le_bytes());
    }
    if let Some(trace) = extra.trace {
        out.extend(trace.trace.to_le_bytes());
        out.extend(trace.span.to_le_bytes());
        out.push(trace.flags);
    }
    if let Some(deadline) = extra.deadline {
        out.extend(deadline.0.to_le_bytes());
    }
    for text in [&extra.reply, &extra.key].into_iter().flatten() {
        put_text(out, text);
    }
    if !extra.headers.is_empty() {
        out.push(extra.headers.len().min(HEADERS_MAX) as u8);
        for (name, value) in extra.headers.iter().take(HEADERS_MAX) {
            put_text(out, name);
            put_text(out, value);
        }
    }
}

/// Reads fields off the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Malformed("it ends within a field"))?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed("it ends within a field"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u16()?;
        let bytes = self.bytes(usize::from(length))?;
        std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("something follows its last field")) }
    }

    pub(crate) fn id(&mut self) -> Result<MessageId, Malformed> {
        Ok(MessageId { producer: self.u64()?, seq: self.u64()? })
    }
}

/// Reads a message that fills `bytes`: its topic and itself. A long payload is copied; [`decode_shared`] shares it.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<(&str, Message), Malformed> {
    let (topic, head, payload) = head(bytes)?;
    Ok((topic, Message::new(payload).rebuilt(head.id, head.priority, head.extra)))
}

/// As [`decode`], with a payload that shares the memory of `bytes`.
pub fn decode_shared(bytes: &Bytes) -> Result<(&str, Message), Malformed> {
    let (topic, head, payload) = head(bytes)?;
    let message = Message::shared(bytes.slice_ref(payload));
    Ok((topic, message.rebuilt(head.id, head.priority, head.extra)))
}

struct Head {
    id: MessageId,
    priority: Priority,
    extra: Option<Box<Extra>>,
}

#[inline]
fn head(bytes: &[u8]) -> Result<(&str, Head, &[u8]), Malformed> {
    let mut reader = Reader(bytes);
    let priority = Priority::from_lane(reader.u8()?).ok_or(Malformed("there is no such priority"))?;
    let fields = reader.u16()?;
    let id = reader.id()?;
    let topic = reader.text()?;
    let extra = if fields == 0 { None } else { Some(read_fields(&mut reader, fields)?) };
    let length = reader.u32()? as usize;
    let payload = reader.bytes(length)?;
    if !reader.0.is_empty() {
        return Err(Malformed("something follows the payload"));
    }
    Ok((topic, Head { id, priority, extra }, payload))
}

#[cold]
fn read_fields(reader: &mut Reader<'_>, fields: u16) -> Result<Box<Extra>, Malformed> {
    if fields & !KNOWN != 0 {
        return Err(Malformed("it has fields that this version does not know"));
    }
    let mut extra = Box::<Extra>::default();
    if fields & CORRELATION != 0 {
        extra.correlation = Some(reader.id()?);
    }
    if fields & CAUSATION != 0 {
        extra.causation = Some(reader.id()?);
    }
    if fields & TRACE != 0 {
        let trace = u128::from_le_bytes(reader.array()?);
        extra.trace = Some(Trace { trace, span: reader.u64()?, flags: reader.u8()? });
    }
    if fields & DEADLINE != 0 {
        extra.deadline = Some(Timestamp(reader.u64()?));
    }
    if fields & REPLY != 0 {
        extra.reply = Some(reader.text()?.into());
    }
    if fields & KEY != 0 {
        extra.key = Some(reader.text()?.into());
    }
    if fields & HEADERS != 0 {
        let count = usize::from(reader.u8()?);
        if count == 0 || count > HEADERS_MAX {
            return Err(Malformed("it has no headers, or too many"));
        }
        for _ in 0..count {
            let name: Arc<str> = reader.text()?.into();
            extra.headers.push((name, reader.text()?.into()));
        }
    }
    Ok(extra)
}
