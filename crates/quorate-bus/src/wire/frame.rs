//! The frames of the wire. Numbers are little endian; a text is a u16 length and UTF-8.
//!
//! A client begins with [`PREFACE`]; the server answers with the same. Then both send frames: a u32 length of what follows, a u8 kind, a body.
//!
//! | to the server | kind | body |
//! |---|---|---|
//! | publish | 1 | u32 number (0: no answer wanted), message |
//! | subscribe | 2 | u32 number, u32 subscription, JSON [`SubscribeBody`] |
//! | unsubscribe | 3 | u32 number, u32 subscription |
//! | request | 4 | u32 number, u32 ms, message |
//! | answer a delivery | 5 | u32 subscription, u64 message, u32 attempt, u8 0 ack, 1 nack, 2 reject, 3 extend; u32 ms of pause (max: the policy's) |
//! | command | 6 | u32 number, JSON |
//!
//! | to the client | kind | body |
//! |---|---|---|
//! | done | 1 | u32 number, u32 delivered, u64 shed, u32 refused, u32 stored |
//! | failed | 2 | u32 number, text code, text |
//! | message | 3 | u32 subscription, message |
//! | delivery | 4 | u32 subscription, u64 message, u32 attempt, u64 ms, message |
//! | reply | 5 | u32 number, message |
//! | ended | 6 | u32 subscription, text |
//! | result | 7 | u32 number, JSON |
//!
//! A message is as in [`crate::codec`].

use serde::{Deserialize, Serialize};

use crate::bus::Sent;
use crate::codec::{self, Malformed, Reader};
use crate::message::{Message, MessageId, Priority};

/// What a client of this version says first: a zero byte, so that it is no line, a name and the version.
pub const PREFACE: [u8; 8] = *b"\0QRTBUS\x01";
/// Bytes of a frame beside a payload.
pub const OVERHEAD_MAX: usize = 256 << 10;

/// What a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct SubscribeBody {
    /// Topics; empty for a consumer of a stream.
    pub pattern: String,
    pub name: String,
    pub filter: Option<String>,
    pub group: Option<String>,
    /// `round-robin`, `least-busy` or `sticky`.
    pub balance: Option<String>,
    pub messages: Option<usize>,
    pub bytes: Option<u64>,
    /// `shed-oldest`, `shed-lowest`, `refuse` or `disconnect`. A remote subscriber cannot make publishers wait.
    pub full: Option<String>,
    /// A durable stream, for at least once.
    pub stream: Option<String>,
    pub consumer: Option<String>,
    /// `first`, `next`, a number, or `time:` and milliseconds.
    pub start: Option<String>,
    pub ack_timeout_ms: Option<u64>,
    pub attempts_max: Option<u32>,
    pub ordered: bool,
}

/// How a delivery was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ack,
    Nack,
    Reject,
    Extend,
}

/// A frame to the server.
#[derive(Debug)]
pub enum ToServer<'a> {
    Publish { number: u32, topic: &'a str, message: Message },
    Subscribe { number: u32, subscription: u32, body: SubscribeBody },
    Unsubscribe { number: u32, subscription: u32 },
    Request { number: u32, timeout_ms: u32, topic: &'a str, message: Message },
    Answer { subscription: u32, offset: u64, attempt: u32, verdict: Verdict, pause_ms: Option<u32> },
    Command { number: u32, json: &'a [u8] },
}

/// A frame to the client.
#[derive(Debug)]
pub enum ToClient<'a> {
    Done { number: u32, sent: Sent },
    Failed { number: u32, code: &'a str, text: &'a str },
    Message { subscription: u32, topic: &'a str, message: Message },
    Delivery { subscription: u32, offset: u64, attempt: u32, time_ms: u64, topic: &'a str, message: Message },
    Reply { number: u32, topic: &'a str, message: Message },
    Ended { subscription: u32, reason: &'a str },
    Result { number: u32, json: &'a [u8] },
}

/// Appends a frame whose body `write` appends.
fn frame(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    out.push(kind);
    write(out);
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a text, cut where it is too long for its length.
fn text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend((end as u16).to_le_bytes());
    out.extend(&text.as_bytes()[..end]);
}

/// The length of the frame at the start of `bytes`, with its length field; `None` where more bytes are needed to tell.
pub fn length(bytes: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
    let Some(field) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    match u32::from_le_bytes(*field) as usize {
        0 => Err(Malformed("a frame has no kind")),
        length if length > max => Err(Malformed("a frame is too long")),
        length => Ok(Some(4 + length)),
    }
}

pub(crate) fn put_publish(out: &mut Vec<u8>, number: u32, topic: &str, message: &Message) {
    frame(out, 1, |out| {
        out.extend(number.to_le_bytes());
        codec::encode(out, topic, message);
    });
}

/// As [`put_publish`], of a message of the usual priority that has nothing but a payload, and without an answer.
pub(crate) fn put_payload(out: &mut Vec<u8>, topic: &str, payload: &[u8]) {
    frame(out, 1, |out| {
        out.extend(0_u32.to_le_bytes());
        codec::put(out, topic, Priority::Normal, MessageId { producer: 0, seq: 0 }, None, payload);
    });
}

pub(crate) fn put_message(out: &mut Vec<u8>, subscription: u32, topic: &str, message: &Message) {
    frame(out, 3, |out| {
        out.extend(subscription.to_le_bytes());
        codec::encode(out, topic, message);
    });
}

impl ToServer<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Publish { number, topic, message } => put_publish(out, *number, topic, message),
            Self::Subscribe { number, subscription, body } => frame(out, 2, |out| {
                out.extend(number.to_le_bytes());
                out.extend(subscription.to_le_bytes());
                out.extend(serde_json::to_vec(body).unwrap_or_default());
            }),
            Self::Unsubscribe { number, subscription } => frame(out, 3, |out| {
                out.extend(number.to_le_bytes());
                out.extend(subscription.to_le_bytes());
            }),
            Self::Request { number, timeout_ms, topic, message } => frame(out, 4, |out| {
                out.extend(number.to_le_bytes());
                out.extend(timeout_ms.to_le_bytes());
                codec::encode(out, topic, message);
            }),
            Self::Answer { subscription, offset, attempt, verdict, pause_ms } => frame(out, 5, |out| {
                out.extend(subscription.to_le_bytes());
                out.extend(offset.to_le_bytes());
                out.extend(attempt.to_le_bytes());
                out.push(*verdict as u8);
                out.extend(pause_ms.unwrap_or(u32::MAX).to_le_bytes());
            }),
            Self::Command { number, json } => frame(out, 6, |out| {
                out.extend(number.to_le_bytes());
                out.extend(*json);
            }),
        }
    }
}

impl<'a> ToServer<'a> {
    /// Reads a frame without its length field.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let kind = reader.u8()?;
        Ok(match kind {
            1 => {
                let number = reader.u32()?;
                let (topic, message) = codec::decode(reader.0)?;
                Self::Publish { number, topic, message }
            }
            2 => {
                let (number, subscription) = (reader.u32()?, reader.u32()?);
                let body = serde_json::from_slice(reader.0)
                    .map_err(|_| Malformed("a subscription is not the JSON it should be"))?;
                Self::Subscribe { number, subscription, body }
            }
            3 => {
                let (number, subscription) = (reader.u32()?, reader.u32()?);
                reader.end()?;
                Self::Unsubscribe { number, subscription }
            }
            4 => {
                let (number, timeout_ms) = (reader.u32()?, reader.u32()?);
                let (topic, message) = codec::decode(reader.0)?;
                Self::Request { number, timeout_ms, topic, message }
            }
            5 => {
                let (subscription, offset, attempt) = (reader.u32()?, reader.u64()?, reader.u32()?);
                let verdict = match reader.u8()? {
                    0 => Verdict::Ack,
                    1 => Verdict::Nack,
                    2 => Verdict::Reject,
                    3 => Verdict::Extend,
                    _ => return Err(Malformed("there is no such answer")),
                };
                let pause_ms = Some(reader.u32()?).filter(|pause| *pause != u32::MAX);
                reader.end()?;
                Self::Answer { subscription, offset, attempt, verdict, pause_ms }
            }
            6 => Self::Command { number: reader.u32()?, json: reader.0 },
            _ => return Err(Malformed("there is no such kind of frame")),
        })
    }
}

impl ToClient<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done { number, sent } => frame(out, 1, |out| {
                out.extend(number.to_le_bytes());
                out.extend(sent.delivered.to_le_bytes());
                out.extend(sent.shed.to_le_bytes());
                out.extend(sent.refused.to_le_bytes());
                out.extend(sent.stored.to_le_bytes());
            }),
            Self::Failed { number, code, text: reason } => frame(out, 2, |out| {
                out.extend(number.to_le_bytes());
                text(out, code);
                text(out, reason);
            }),
            Self::Message { subscription, topic, message } => put_message(out, *subscription, topic, message),
            Self::Delivery { subscription, offset, attempt, time_ms, topic, message } => {
                frame(out, 4, |out| {
                    out.extend(subscription.to_le_bytes());
                    out.extend(offset.to_le_bytes());
                    out.extend(attempt.to_le_bytes());
                    out.extend(time_ms.to_le_bytes());
                    codec::encode(out, topic, message);
                })
            }
            Self::Reply { number, topic, message } => frame(out, 5, |out| {
                out.extend(number.to_le_bytes());
                codec::encode(out, topic, message);
            }),
            Self::Ended { subscription, reason } => frame(out, 6, |out| {
                out.extend(subscription.to_le_bytes());
                text(out, reason);
            }),
            Self::Result { number, json } => frame(out, 7, |out| {
                out.extend(number.to_le_bytes());
                out.extend(*json);
            }),
        }
    }
}

impl<'a> ToClient<'a> {
    /// Reads a frame without its length field.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let kind = reader.u8()?;
        Ok(match kind {
            1 => {
                let number = reader.u32()?;
                let (delivered, shed) = (reader.u32()?, reader.u64()?);
                let sent = Sent { delivered, shed, refused: reader.u32()?, stored: reader.u32()? };
                reader.end()?;
                Self::Done { number, sent }
            }
            2 => {
                let number = reader.u32()?;
                let (code, text) = (reader.text()?, reader.text()?);
                reader.end()?;
                Self::Failed { number, code, text }
            }
            3 => {
                let subscription = reader.u32()?;
                let (topic, message) = codec::decode(reader.0)?;
                Self::Message { subscription, topic, message }
            }
            4 => {
                let (subscription, offset) = (reader.u32()?, reader.u64()?);
                let (attempt, time_ms) = (reader.u32()?, reader.u64()?);
                let (topic, message) = codec::decode(reader.0)?;
                Self::Delivery { subscription, offset, attempt, time_ms, topic, message }
            }
            5 => {
                let number = reader.u32()?;
                let (topic, message) = codec::decode(reader.0)?;
                Self::Reply { number, topic, message }
            }
            6 => {
                let (subscription, reason) = (reader.u32()?, reader.text()?);
                reader.end()?;
                Self::Ended { subscription, reason }
            }
            7 => Self::Result { number: reader.u32()?, json: reader.0 },
            _ => return Err(Malformed("there is no such kind of frame")),
        })
    }
}
