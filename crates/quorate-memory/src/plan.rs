//! Decides, under the lock, whether a transaction may be written, and turns it into its effects.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_base::Timestamp;

use crate::entry::{Gone, NEVER};
use crate::error::{Error, Limit};
use crate::index::{Index, Ledger, VERSION_OVERHEAD};
use crate::key::Key;
use crate::namespace::Namespace;
use crate::policy::{Eviction, Policy};
use crate::put::{Action, Expect, Govern, Job, JobOp, Mode};
use crate::record::Op;

/// The most bytes of one transaction.
pub(crate) const TRANSACTION_MAX: u64 = 64 << 20;
/// The most namespaces of a store.
const SPACES_MAX: u32 = 1 << 16;

/// Decides on transactions that are written together: each sees those before it.
pub(crate) struct Plan<'a> {
    index: &'a Index,
    ledger: &'a mut Ledger,
    memory_max: u64,
    now: Timestamp,
    /// Keys that transactions before this one write.
    overlay: HashMap<(u32, Key), Seen>,
    used: HashMap<u32, Use>,
    resident: u64,
    new_spaces: Vec<Arc<str>>,
    /// Whether others follow, so that the overlay is needed.
    several: bool,
}

/// What stands at a key.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// 0 where a reader finds nothing.
    version: u64,
    /// Bytes it counts with in its namespace; `None` where it does not count.
    charge: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    entries: i64,
    bytes: i64,
}

/// What one transaction adds, while it is decided on.
#[derive(Default)]
struct Draft {
    ops: Vec<Op>,
    writes: Vec<(u32, Key, Seen)>,
    used: Vec<(Arc<Namespace>, Arc<Policy>, Use)>,
    resident: u64,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        index: &'a Index,
        ledger: &'a mut Ledger,
        memory_max: u64,
        now: Timestamp,
        several: bool,
    ) -> Self {
        let resident = index.resident.load(Ordering::Relaxed);
        Self {
            index,
            ledger,
            memory_max,
            now,
            overlay: HashMap::new(),
            used: HashMap::new(),
            resident,
            new_spaces: Vec::new(),
            several,
        }
    }

    fn seen(&self, space: &Namespace, key: &Key) -> Seen {
        if !self.overlay.is_empty()
            && let Some(seen) = self.overlay.get(&(space.id, key.clone()))
        {
            return *seen;
        }
        let map = space.map.pin();
        let Some(entry) = map.get(key).filter(|entry| entry.is_put()) else {
            return Seen::default();
        };
        let version = if entry.is_live(|| self.now) { entry.version() } else { 0 };
        Seen { version, charge: Some(entry.size() + key.as_bytes().len() as u64) }
    }

    /// The effects of a transaction that will have this version; none where there is nothing to change.
    pub(crate) fn admit(&mut self, job: Job, version: u64) -> Result<Vec<Op>, Error> {
        for expect in &job.expects {
            self.expect(expect)?;
        }
        let mut draft = Draft { ops: Vec::with_capacity(job.ops.len()), ..Draft::default() };
        if let Some(govern) = job.govern {
            self.govern(govern, &mut draft)?;
        }
        let mut bytes = 0;
        for op in job.ops {
            bytes += self.op(op, version, &mut draft)?;
        }
        if bytes > TRANSACTION_MAX {
            return Err(Error::TooLarge { what: "a transaction", bytes, max: TRANSACTION_MAX });
        }
        self.quotas(&mut draft)?;
        if draft.resident > 0 && self.resident + draft.resident > self.memory_max {
            let (max, used) = (self.memory_max, self.resident);
            return Err(Error::StoreFull { max, used, wanted: draft.resident });
        }
        self.resident += draft.resident;
        if self.several {
            for (space, key, seen) in draft.writes {
                self.overlay.insert((space, key), seen);
            }
            for (space, _, change) in draft.used {
                let used = self.used.entry(space.id).or_default();
                used.entries += change.entries;
                used.bytes += change.bytes;
            }
        }
        Ok(draft.ops)
    }

    fn expect(&self, expect: &Expect) -> Result<(), Error> {
        match expect {
            Expect::Version { space, key, version } => {
                let found = self.seen(space, key).version;
                if found == *version {
                    return Ok(());
                }
                let (namespace, key) = (Arc::clone(&space.name), key.clone());
                Err(Error::Conflict { namespace, key, expected: *version, found })
            }
            Expect::Unchanged { space, start, end, since } => {
                let conflict = |key| Error::RangeConflict { namespace: Arc::clone(&space.name), key };
                let inside = |key: &Key| end.as_ref().is_none_or(|end| key < end);
                for key in space.keys_from(start.clone()).take_while(inside) {
                    if space.head(key.as_bytes()).is_some_and(|head| head.version() > *since) {
                        return Err(conflict(key));
                    }
                }
                let behind = |key: &Key| match start {
                    Bound::Included(start) => key >= start,
                    Bound::Excluded(start) => key > start,
                    Bound::Unbounded => true,
                };
                let mut ahead = self.overlay.keys().filter(|(id, _)| *id == space.id).map(|(_, key)| key);
                match ahead.find(|key| behind(key) && inside(key)) {
                    Some(key) => Err(conflict(key.clone())),
                    None => Ok(()),
                }
            }
        }
    }

    fn govern(&mut self, govern: Govern, draft: &mut Draft) -> Result<(), Error> {
        let Govern { name, policy, mode } = govern;
        let here = self.index.space(&name);
        let soon = self.new_spaces.contains(&name);
        let id = match (mode, &here, soon) {
            (Mode::Create, None, false) | (Mode::Ensure, None, false) => {
                let id = u32::try_from(self.index.space_count() + self.new_spaces.len()).unwrap_or(u32::MAX);
                if id >= SPACES_MAX {
                    return Err(Error::NamespacesFull { max: SPACES_MAX });
                }
                self.new_spaces.push(Arc::clone(&name));
                id
            }
            (Mode::Create, ..) => return Err(Error::NamespaceExists { name }),
            (Mode::Ensure, ..) => return Ok(()),
            (Mode::Change, Some(space), _) => space.id,
            (Mode::Change, None, _) => return Err(Error::NamespaceMissing { name }),
        };
        draft.ops.push(Op::Space { id, name, policy: Box::new(policy) });
        Ok(())
    }

    /// Answers about how many bytes it takes in the log.
    fn op(&self, op: JobOp, version: u64, draft: &mut Draft) -> Result<u64, Error> {
        let JobOp { space, key, action } = op;
        let seen = self.seen(&space, &key);
        let slot = self.slot(&space, draft)?;
        let key_bytes = key.as_bytes().len() as u64;
        let (new, op, bytes) = match action {
            Action::Put { value, meta, ttl, expires } => {
                let policy = Arc::clone(&draft.used[slot].1);
                let quota = policy.quota;
                let exceeded = |limit, max, wanted| Error::QuotaExceeded {
                    namespace: Arc::clone(&space.name),
                    limit,
                    max,
                    used: 0,
                    wanted,
                };
                if key_bytes == 0 {
                    return Err(Error::EmptyKey);
                }
                if key_bytes > quota.key_bytes_max {
                    return Err(exceeded(Limit::KeyBytes, quota.key_bytes_max, key_bytes));
                }
                if value.len() as u64 > quota.value_bytes_max {
                    return Err(exceeded(Limit::ValueBytes, quota.value_bytes_max, value.len() as u64));
                }
                let ttl = ttl.or(policy.ttl).map(|ttl| self.now.plus(ttl).0);
                let expires = expires.map(|at| at.0).or(ttl).unwrap_or(NEVER).max(1);
                let charge = value.len() as u64 + meta.size() + key_bytes;
                draft.resident += charge + VERSION_OVERHEAD;
                let new = Seen { version, charge: Some(charge) };
                (new, Op::Put { space: space.id, key: key.clone(), value, meta, expires }, charge + 64)
            }
            Action::Delete | Action::Expire => {
                let expired = seen.version == 0;
                if seen.charge.is_none() || (matches!(action, Action::Expire) && !expired) {
                    return Ok(0);
                }
                let gone = if expired { Gone::Expired } else { Gone::Deleted };
                (Seen::default(), Op::Delete { space: space.id, key: key.clone(), gone }, key_bytes + 16)
            }
        };
        let used = &mut draft.used[slot].2;
        used.entries += i64::from(new.charge.is_some()) - i64::from(seen.charge.is_some());
        used.bytes += signed(new.charge.unwrap_or(0)) - signed(seen.charge.unwrap_or(0));
        draft.writes.push((space.id, key, new));
        draft.ops.push(op);
        Ok(bytes)
    }

    /// The place of a namespace in the draft. Refuses one of another store.
    fn slot(&self, space: &Arc<Namespace>, draft: &mut Draft) -> Result<usize, Error> {
        if let Some(at) = draft.used.iter().position(|(other, ..)| Arc::ptr_eq(other, space)) {
            return Ok(at);
        }
        if !self.index.space_by_id(space.id).is_some_and(|here| Arc::ptr_eq(&here, space)) {
            return Err(Error::NamespaceMissing { name: Arc::clone(&space.name) });
        }
        draft.used.push((Arc::clone(space), space.policy(), Use::default()));
        Ok(draft.used.len() - 1)
    }

    /// Makes room where a namespace says how, and refuses what does not fit.
    fn quotas(&mut self, draft: &mut Draft) -> Result<(), Error> {
        for slot in 0..draft.used.len() {
            let (space, policy, change) = draft.used[slot].clone();
            let before = self.used.get(&space.id).copied().unwrap_or_default();
            let quota = policy.quota;
            let entries = signed(space.entries.load(Ordering::Relaxed)) + before.entries;
            let bytes = signed(space.bytes.load(Ordering::Relaxed)) + before.bytes;
            let over = |change: Use| Use {
                entries: (entries + change.entries).saturating_sub(signed(quota.entries_max)),
                bytes: (bytes + change.bytes).saturating_sub(signed(quota.bytes_max)),
            };
            let grows = change.entries > 0 || change.bytes > 0;
            let need = over(change);
            if !grows || (need.entries <= 0 && need.bytes <= 0) {
                continue;
            }
            let freed = self.make_room(&space, policy.eviction, need, draft);
            let change = &mut draft.used[slot].2;
            change.entries -= freed.entries;
            change.bytes -= freed.bytes;
            let change = *change;
            let left = over(change);
            let (limit, max, used, wanted) = if left.entries > 0 && change.entries > 0 {
                (Limit::Entries, quota.entries_max, entries, change.entries)
            } else if left.bytes > 0 && change.bytes > 0 {
                (Limit::Bytes, quota.bytes_max, bytes, change.bytes)
            } else {
                continue;
            };
            let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
            return Err(Error::QuotaExceeded {
                namespace: Arc::clone(&space.name),
                limit,
                max,
                used: unsigned(used),
                wanted: unsigned(wanted),
            });
        }
        Ok(())
    }

    /// Adds removals until enough is freed or nothing is left that may go.
    fn make_room(&mut self, space: &Arc<Namespace>, eviction: Eviction, need: Use, draft: &mut Draft) -> Use {
        let mut freed = Use::default();
        let enough = |freed: &Use| freed.entries >= need.entries && freed.bytes >= need.bytes;
        for (at, key) in self.ledger.expiring.get(&space.id).into_iter().flatten() {
            let expired = *at <= self.now.0;
            if enough(&freed) || (!expired && eviction != Eviction::TtlOnly) {
                break;
            }
            let gone = if expired { Gone::Expired } else { Gone::Evicted };
            self.evict(space, key, gone, draft, &mut freed);
        }
        if eviction != Eviction::Lru || enough(&freed) {
            return freed;
        }
        // Second chance: a hand goes around; what was used since it last came by is passed over once.
        let mut hand = self.ledger.hands.get(&space.id).cloned().unwrap_or_else(|| Key::new(&[]));
        let around = 2 * space.map.len() + 2;
        let mut passed = 0;
        while passed <= around && !enough(&freed) {
            let mut wrapped = true;
            for key in space.keys_from(Bound::Excluded(hand.clone())) {
                passed += 1;
                hand = key.clone();
                let idle = space.head(key.as_bytes()).is_some_and(|head| head.is_put() && !head.take_used());
                if idle {
                    self.evict(space, &key, Gone::Evicted, draft, &mut freed);
                }
                if enough(&freed) || passed > around {
                    wrapped = false;
                    break;
                }
            }
            if wrapped {
                hand = Key::new(&[]);
                passed += 1;
            }
        }
        self.ledger.hands.insert(space.id, hand);
        freed
    }

    fn evict(&self, space: &Arc<Namespace>, key: &Key, gone: Gone, draft: &mut Draft, freed: &mut Use) {
        // What this transaction or one before it in the same append writes is not what makes room.
        let own = draft.writes.iter().any(|(id, other, _)| *id == space.id && other == key);
        if own || self.overlay.contains_key(&(space.id, key.clone())) {
            return;
        }
        let Some(charge) = self.seen(space, key).charge else {
            return;
        };
        freed.entries += 1;
        freed.bytes += signed(charge);
        draft.writes.push((space.id, key.clone(), Seen::default()));
        draft.ops.push(Op::Delete { space: space.id, key: key.clone(), gone });
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
