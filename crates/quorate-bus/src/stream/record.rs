//! What a stream writes into its log.
//!
//! ```text
//! 1 message    u64 number   u64 time, ms   the message as codec.rs has it
//! 2 consumer   text name   u64 floor   u32 count, u64 u64 ranges done   u32 count, u64 u8 u32 u64 dead   u32 count, u64 u32 u32 tried
//! 3 producers  u64 next number   u32 count, u64 producer u64 seq u64 number
//! 4 done       text key   u64 number: what `key` has done, once, up to this message of another stream
//! 5 gone       text name of a consumer that was removed
//! ```

use quorate_base::Timestamp;

use super::delivery::{Dead, Reason, Saved};
use crate::codec::{Malformed, Reader};

pub(super) const MESSAGE: u8 = 1;
const CONSUMER: u8 = 2;
const PRODUCERS: u8 = 3;
const DONE: u8 = 4;
const GONE: u8 = 5;

/// Bytes of a message's record before the message.
pub(super) const MESSAGE_HEAD: usize = 17;

/// One record, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Message { offset: u64, time: Timestamp, bytes: &'a [u8] },
    Consumer { name: &'a str, saved: Saved },
    Producers { next: u64, all: Vec<(u64, u64, u64)> },
    Done { key: &'a str, offset: u64 },
    Gone { name: &'a str },
}

pub(super) fn message_head(out: &mut Vec<u8>, offset: u64, time: Timestamp) {
    out.push(MESSAGE);
    out.extend(offset.to_le_bytes());
    out.extend(time.0.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
}

pub(super) fn consumer(out: &mut Vec<u8>, name: &str, saved: &Saved) {
    out.push(CONSUMER);
    text(out, name);
    out.extend(saved.floor.to_le_bytes());
    out.extend((saved.done.len() as u32).to_le_bytes());
    for (first, end) in &saved.done {
        out.extend(first.to_le_bytes());
        out.extend(end.to_le_bytes());
    }
    out.extend((saved.dead.len() as u32).to_le_bytes());
    for (offset, dead) in &saved.dead {
        out.extend(offset.to_le_bytes());
        out.push(dead.reason as u8);
        out.extend(dead.attempts.to_le_bytes());
        out.extend(dead.time.0.to_le_bytes());
    }
    out.extend((saved.tried.len() as u32).to_le_bytes());
    for (offset, attempts, deaths) in &saved.tried {
        out.extend(offset.to_le_bytes());
        out.extend(attempts.to_le_bytes());
        out.extend(deaths.to_le_bytes());
    }
}

pub(super) fn producers(out: &mut Vec<u8>, next: u64, all: impl ExactSizeIterator<Item = (u64, u64, u64)>) {
    out.push(PRODUCERS);
    out.extend(next.to_le_bytes());
    out.extend((all.len() as u32).to_le_bytes());
    for (producer, seq, offset) in all {
        for number in [producer, seq, offset] {
            out.extend(number.to_le_bytes());
        }
    }
}

pub(super) fn done(out: &mut Vec<u8>, key: &str, offset: u64) {
    out.push(DONE);
    text(out, key);
    out.extend(offset.to_le_bytes());
}

pub(super) fn gone(out: &mut Vec<u8>, name: &str) {
    out.push(GONE);
    text(out, name);
}

/// Reads `count` items, each at least `size` bytes; the count cannot make it reserve more than there is.
fn list<T>(
    reader: &mut Reader<'_>,
    size: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.u32()? as usize;
    if count > reader.0.len() / size {
        return Err(Malformed("a list is longer than its record"));
    }
    (0..count).map(|_| item(reader)).collect()
}

pub(super) fn read(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut reader = Reader(bytes);
    let record = match reader.u8()? {
        MESSAGE => {
            let (offset, time) = (reader.u64()?, Timestamp(reader.u64()?));
            return Ok(Record::Message { offset, time, bytes: reader.0 });
        }
        CONSUMER => {
            let name = reader.text()?;
            let floor = reader.u64()?;
            let done = list(&mut reader, 16, |reader| Ok((reader.u64()?, reader.u64()?)))?;
            let dead = list(&mut reader, 21, |reader| {
                let offset = reader.u64()?;
                let reason = Reason::from_u8(reader.u8()?).ok_or(Malformed("there is no such reason"))?;
                Ok((offset, Dead { reason, attempts: reader.u32()?, time: Timestamp(reader.u64()?) }))
            })?;
            let tried = list(&mut reader, 16, |reader| Ok((reader.u64()?, reader.u32()?, reader.u32()?)))?;
            Record::Consumer { name, saved: Saved { floor, done, dead, tried } }
        }
        PRODUCERS => {
            let next = reader.u64()?;
            let all = list(&mut reader, 24, |reader| Ok((reader.u64()?, reader.u64()?, reader.u64()?)))?;
            Record::Producers { next, all }
        }
        DONE => Record::Done { key: reader.text()?, offset: reader.u64()? },
        GONE => Record::Gone { name: reader.text()? },
        _ => return Err(Malformed("there is no such record")),
    };
    if reader.0.is_empty() { Ok(record) } else { Err(Malformed("something follows the record")) }
}
