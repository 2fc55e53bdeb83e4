//! What snapshots hold: namespaces, and keys with all that is kept of their past.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_base::Timestamp;

use crate::entry::{Body, Entry, NEVER, Older};
use crate::error::Error;
use crate::index::{Index, Ledger, Tombstone, VERSION_OVERHEAD};
use crate::key::Key;
use crate::namespace::Namespace;
use crate::record::{self, Metas, Reader, bytes, number};
use crate::snapshot::Writer;

const SPACE: u8 = 0;
const KEY: u8 = 1;
const PUT: u8 = 0;
const GONE: u8 = 1;

/// Writes everything up to `version`, which a view must be keeping.
pub(crate) fn write(index: &Index, version: u64, writer: &mut Writer<'_>) -> Result<(), Error> {
    let spaces = index.spaces();
    for space in &spaces {
        writer.add(false, |out| {
            out.push(SPACE);
            number(out, u64::from(space.id));
            bytes(out, space.name.as_bytes());
            bytes(out, &record::encode_policy(&space.policy()));
            number(out, space.gone_floor.load(Ordering::Acquire).min(version));
        })?;
    }
    for space in &spaces {
        for key in space.keys_from(std::ops::Bound::Unbounded) {
            let Ok(Some(entry)) = space.at(key.as_bytes(), version) else {
                continue;
            };
            writer.add(true, |out| write_key(out, space.id, &key, entry))?;
        }
    }
    Ok(())
}

fn write_key(out: &mut Vec<u8>, space: u32, key: &Key, entry: Arc<Entry>) {
    out.push(KEY);
    number(out, u64::from(space));
    bytes(out, key.as_bytes());
    let mut next = Older::Entry(entry);
    while let Older::Entry(entry) = next {
        match (entry.shared_meta(), entry.gone()) {
            (Some(meta), _) => {
                out.push(PUT);
                number(out, entry.version());
                number(out, entry.time().0);
                record::encode_value(out, entry.value(), meta, entry.expires_at());
            }
            (None, gone) => {
                out.push(GONE);
                number(out, entry.version());
                number(out, entry.time().0);
                out.push(gone.map_or(0, record::gone_code));
            }
        }
        next = entry.older();
    }
    out.push(match next {
        Older::Forgotten => 3,
        _ => 2,
    });
}

/// What the keys of some blocks add to the ledger.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    expiring: Vec<(u32, u64, Key)>,
    tombstones: Vec<Tombstone>,
    time: Timestamp,
}

impl Gathered {
    pub(crate) fn add(&mut self, other: Self) {
        self.expiring.extend(other.expiring);
        self.tombstones.extend(other.tombstones);
        self.time = self.time.max(other.time);
    }

    pub(crate) fn into_ledger(mut self) -> Ledger {
        let mut ledger = Ledger { time: self.time, ..Ledger::default() };
        for (space, at, key) in self.expiring {
            ledger.expiring.entry(space).or_default().insert((at, key));
        }
        self.tombstones.sort_unstable_by_key(|tombstone| tombstone.version);
        ledger.tombstones = VecDeque::from(self.tombstones);
        ledger
    }
}

/// Reads the namespaces that a block holds; they stand before all keys.
pub(crate) fn read_spaces(index: &Index, body: &[u8]) -> Result<bool, &'static str> {
    let mut reader = Reader { rest: body };
    while let Some(&kind) = reader.rest.first() {
        if kind != SPACE {
            return Ok(true);
        }
        reader.byte()?;
        let id = reader.space()?;
        let (name, policy) = reader.named_policy()?;
        let floor = reader.number()?;
        if !index.put_space(id, &name, *policy) {
            return Err("a namespace has an unexpected number");
        }
        if let Some(space) = index.space_by_id(id) {
            space.gone_floor.store(floor, Ordering::Release);
        }
    }
    Ok(false)
}

/// Reads the keys that a block holds. Blocks can be read by several threads.
pub(crate) fn read_keys(
    index: &Index,
    body: &[u8],
    metas: &mut Metas,
    gathered: &mut Gathered,
) -> Result<(), &'static str> {
    let mut reader = Reader { rest: body };
    let mut known: Option<Arc<Namespace>> = None;
    let mut resident = 0;
    while let Some(&kind) = reader.rest.first() {
        reader.byte()?;
        let id = reader.space()?;
        if kind == SPACE {
            reader.named_policy()?;
            reader.number()?;
            continue;
        }
        if known.as_ref().is_none_or(|space| space.id != id) {
            known = index.space_by_id(id);
        }
        let space = known.as_ref().ok_or("a key of a namespace that is not there")?;
        let key = Key::new(reader.bytes()?);
        resident += read_key(&mut reader, space, key, metas, gathered)?;
    }
    index.resident.fetch_add(resident, Ordering::Relaxed);
    Ok(())
}

fn read_key(
    reader: &mut Reader<'_>,
    space: &Arc<Namespace>,
    key: Key,
    metas: &mut Metas,
    gathered: &mut Gathered,
) -> Result<u64, &'static str> {
    let mut versions = Vec::new();
    let end = loop {
        let kind = reader.byte()?;
        if kind > GONE {
            break kind;
        }
        let (version, time) = (reader.number()?, Timestamp(reader.number()?));
        let (body, expires) = if kind == PUT {
            let (value, meta, expires) = reader.value(metas)?;
            (Body::Live { value, meta }, expires)
        } else {
            (Body::Gone(reader.gone()?), NEVER)
        };
        versions.push((version, time, expires, body));
    };
    let mut older = match end {
        2 => Older::Nothing,
        3 => Older::Forgotten,
        _ => return Err("a version of an unknown kind"),
    };
    let (mut depth, mut resident) = (0, 0);
    for (version, time, expires, body) in versions.into_iter().rev() {
        let entry = Arc::new(Entry::new(version, time, expires, body, older, depth));
        resident += entry.size() + key.as_bytes().len() as u64 + VERSION_OVERHEAD;
        older = Older::Entry(entry);
        depth += 1;
    }
    let Older::Entry(head) = older else {
        return Err("a key without a version");
    };
    gathered.time = gathered.time.max(head.time());
    if head.is_put() {
        space.entries.fetch_add(1, Ordering::Relaxed);
        space.bytes.fetch_add(head.size() + key.as_bytes().len() as u64, Ordering::Relaxed);
        if head.expires_at() != NEVER {
            gathered.expiring.push((space.id, head.expires_at(), key.clone()));
        }
        for tag in &head.meta().tags {
            space.tags.insert((Arc::clone(tag), key.clone()));
        }
    } else {
        let (version, time, space) = (head.version(), head.time(), space.id);
        gathered.tombstones.push(Tombstone { version, time, space, key: key.clone() });
    }
    space.order.insert(key.clone());
    space.map.pin().insert(key, head);
    Ok(resident)
}
