//! The bytes of a transaction in the log and of versions in snapshots.
//!
//! A record is a kind (0 the store's first record, 1 a transaction), and for a transaction its time and its operations. Numbers are
//! LEB128, texts and bytes are a length and their bytes. A new kind of operation is a new format version.

use std::sync::Arc;

use quorate_base::Timestamp;

use crate::entry::{Gone, Meta, NEVER};
use crate::key::Key;
use crate::policy::Policy;

/// Version of what records and snapshots say.
pub(crate) const FORMAT: u16 = 1;

const GENESIS: u8 = 0;
const TRANSACTION: u8 = 1;

const SPACE: u8 = 0;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// One effect of a transaction.
#[derive(Debug)]
pub(crate) enum Op {
    /// A namespace is there from now on, or has another policy.
    Space {
        id: u32,
        name: Arc<str>,
        policy: Box<Policy>,
    },
    Put {
        space: u32,
        key: Key,
        value: Box<[u8]>,
        meta: Arc<Meta>,
        expires: u64,
    },
    Delete {
        space: u32,
        key: Key,
        gone: Gone,
    },
}

#[derive(Debug)]
pub(crate) enum Record {
    Genesis { format: u16 },
    Transaction { time: Timestamp, ops: Vec<Op> },
}

pub(crate) fn encode_genesis(out: &mut Vec<u8>) {
    out.push(GENESIS);
    out.extend_from_slice(&FORMAT.to_le_bytes());
}

/// A transaction of one put that does not expire.
pub(crate) fn encode_put(
    out: &mut Vec<u8>,
    time: Timestamp,
    space: u32,
    key: &Key,
    value: &[u8],
    meta: &Meta,
) {
    out.push(TRANSACTION);
    number(out, time.0);
    number(out, 1);
    out.push(PUT);
    number(out, u64::from(space));
    bytes(out, key.as_bytes());
    encode_value(out, value, meta, NEVER);
}

pub(crate) fn encode(out: &mut Vec<u8>, time: Timestamp, ops: &[Op]) {
    out.push(TRANSACTION);
    number(out, time.0);
    number(out, ops.len() as u64);
    for op in ops {
        match op {
            Op::Space { id, name, policy } => {
                out.push(SPACE);
                number(out, u64::from(*id));
                bytes(out, name.as_bytes());
                bytes(out, &encode_policy(policy));
            }
            Op::Put { space, key, value, meta, expires } => {
                out.push(PUT);
                number(out, u64::from(*space));
                bytes(out, key.as_bytes());
                encode_value(out, value, meta, *expires);
            }
            Op::Delete { space, key, gone } => {
                out.push(DELETE);
                number(out, u64::from(*space));
                bytes(out, key.as_bytes());
                out.push(gone_code(*gone));
            }
        }
    }
}

pub(crate) fn encode_policy(policy: &Policy) -> Vec<u8> {
    serde_json::to_vec(policy).unwrap_or_default()
}

pub(crate) fn encode_value(out: &mut Vec<u8>, value: &[u8], meta: &Meta, expires: u64) {
    number(out, if expires == NEVER { 0 } else { expires });
    bytes(out, meta.owner.as_bytes());
    bytes(out, meta.content_type.as_bytes());
    number(out, meta.tags.len() as u64);
    for tag in &meta.tags {
        bytes(out, tag.as_bytes());
    }
    bytes(out, &meta.vector);
    bytes(out, value);
}

pub(crate) fn gone_code(gone: Gone) -> u8 {
    match gone {
        Gone::Deleted => 0,
        Gone::Expired => 1,
        Gone::Evicted => 2,
    }
}

/// What bytes say; the reason where they say nothing known.
pub(crate) fn decode(bytes: &[u8], metas: &mut Metas) -> Result<Record, &'static str> {
    let mut reader = Reader { rest: bytes };
    let record = match reader.byte()? {
        GENESIS => {
            let format: [u8; 2] = reader.take(2)?.try_into().map_err(|_| SHORT)?;
            Record::Genesis { format: u16::from_le_bytes(format) }
        }
        TRANSACTION => {
            let time = Timestamp(reader.number()?);
            let count = reader.number()?;
            let mut ops = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(bytes.len() / 3 + 1));
            for _ in 0..count {
                ops.push(reader.op(metas)?);
            }
            Record::Transaction { time, ops }
        }
        _ => return Err("a record of an unknown kind"),
    };
    if reader.rest.is_empty() { Ok(record) } else { Err("there is more than it says") }
}

const SHORT: &str = "it ends too soon";

/// A value's bytes, what is said of it, and when it expires.
type Value = (Box<[u8]>, Arc<Meta>, u64);

/// Reads what the functions above write.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    pub(crate) fn space(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.number()?).map_err(|_| "a namespace's number is too large")
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(self.number()?).map_err(|_| SHORT)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    pub(crate) fn named_policy(&mut self) -> Result<(Arc<str>, Box<Policy>), &'static str> {
        let name = self.text()?.into();
        let policy = serde_json::from_slice(self.bytes()?).map_err(|_| "a policy cannot be read")?;
        Ok((name, Box::new(policy)))
    }

    pub(crate) fn gone(&mut self) -> Result<Gone, &'static str> {
        match self.byte()? {
            0 => Ok(Gone::Deleted),
            1 => Ok(Gone::Expired),
            2 => Ok(Gone::Evicted),
            _ => Err("a deletion for an unknown reason"),
        }
    }

    /// Value, meta and expiry.
    pub(crate) fn value(&mut self, metas: &mut Metas) -> Result<Value, &'static str> {
        let expires = match self.number()? {
            0 => NEVER,
            at => at,
        };
        let start = self.rest;
        let owner = self.text()?;
        let content_type = self.text()?;
        let count = self.number()?;
        let tags = self.rest;
        for _ in 0..count {
            self.text()?;
        }
        let vector = self.bytes()?;
        let raw = &start[..start.len() - self.rest.len()];
        let meta = match metas.last(raw) {
            Some(meta) => meta,
            None => {
                let mut reader = Reader { rest: tags };
                let tags = (0..count).map(|_| Ok(reader.text()?.into())).collect::<Result<_, &str>>()?;
                metas.add(
                    raw,
                    Meta {
                        content_type: content_type.into(),
                        tags,
                        owner: owner.into(),
                        vector: vector.into(),
                    },
                )
            }
        };
        Ok((self.bytes()?.into(), meta, expires))
    }

    fn op(&mut self, metas: &mut Metas) -> Result<Op, &'static str> {
        match self.byte()? {
            SPACE => {
                let id = self.space()?;
                let (name, policy) = self.named_policy()?;
                Ok(Op::Space { id, name, policy })
            }
            PUT => {
                let (space, key) = (self.space()?, Key::new(self.bytes()?));
                let (value, meta, expires) = self.value(metas)?;
                Ok(Op::Put { space, key, value, meta, expires })
            }
            DELETE => {
                let (space, key) = (self.space()?, Key::new(self.bytes()?));
                Ok(Op::Delete { space, key, gone: self.gone()? })
            }
            _ => Err("an operation of an unknown kind"),
        }
    }
}

/// Metas that were met, so that those that say the same are one. Bounded.
#[derive(Debug, Default)]
pub(crate) struct Metas {
    known: std::collections::HashMap<Box<[u8]>, Arc<Meta>>,
}

const METAS_MAX: usize = 4096;

impl Metas {
    fn last(&self, raw: &[u8]) -> Option<Arc<Meta>> {
        self.known.get(raw).cloned()
    }

    fn add(&mut self, raw: &[u8], meta: Meta) -> Arc<Meta> {
        let meta = Arc::new(meta);
        // Long ones are rarely met twice.
        if raw.len() <= 256 {
            if self.known.len() >= METAS_MAX {
                self.known.clear();
            }
            self.known.insert(raw.into(), Arc::clone(&meta));
        }
        meta
    }
}

pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
