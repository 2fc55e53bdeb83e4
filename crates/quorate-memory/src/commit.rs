//! How transactions are written: durable ones together, relaxed ones at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_base::Timestamp;
use quorate_wal::Batch;

use crate::error::Error;
use crate::index::VERSION_OVERHEAD;
use crate::inner::Inner;
use crate::key::Key;
use crate::namespace::Namespace;
use crate::plan::{Plan, TRANSACTION_MAX};
use crate::put::{Action, Class, Commit, Job};
use crate::record;
use crate::tail::{Tail, locked};

/// The most transactions that are written together.
pub(crate) const GROUP_MAX: usize = 4096;
/// Bytes written together, about.
const ROUND_BYTES: usize = 16 << 20;
/// Relaxed bytes that are written without waiting for the time to do so.
const RELAXED_BYTES: usize = 32 << 20;

type Answer = Result<Commit, Error>;

impl Inner {
    pub(crate) fn commit(&self, job: Job, class: Class) -> Answer {
        self.running()?;
        match class {
            Class::Durable => self.group.submit(job, |jobs| self.lead(jobs)),
            Class::Relaxed => self.relaxed(job),
        }
    }

    fn now(&self, tail: &Tail) -> Timestamp {
        self.options.clock.now().max(tail.ledger.time)
    }

    fn lead(&self, jobs: Vec<Job>) -> Vec<Answer> {
        let turn = locked(&self.turn);
        let mut tail = match self.seize(&turn) {
            Ok(tail) => tail,
            Err(error) => return jobs.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut answers = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter();
        while jobs.len() > 0 {
            self.round(&mut tail, &mut jobs, &mut answers);
        }
        self.release(&mut tail);
        let snapshot = tail.since_snapshot >= self.options.snapshot_bytes;
        let expiry = tail.ledger.next_expiry();
        drop(tail);
        self.signal.written(snapshot, expiry);
        answers
    }

    /// Decides on as many jobs as are written together, and writes them.
    fn round(&self, tail: &mut Tail, jobs: &mut std::vec::IntoIter<Job>, answers: &mut Vec<Answer>) {
        let time = self.now(tail);
        let start = answers.len();
        let mut version = tail.next();
        let mut batch = std::mem::take(&mut tail.batch);
        let mut accepted = Vec::with_capacity(jobs.len());
        let mut plan =
            Plan::new(&self.index, &mut tail.ledger, self.options.memory_max, time, jobs.len() > 1);
        for job in jobs {
            match plan.admit(job, version) {
                Ok(ops) if ops.is_empty() => {
                    answers.push(Ok(Commit { version: version - 1, time, changed: 0 }));
                }
                Ok(ops) => {
                    batch.push_with(|out| record::encode(out, time, &ops));
                    answers.push(Ok(Commit { version, time, changed: ops.len() }));
                    accepted.push((version, time, ops));
                    version += 1;
                }
                Err(error) => answers.push(Err(error)),
            }
            if batch.size() > ROUND_BYTES {
                break;
            }
        }
        let written = self
            .running()
            .and_then(|()| if batch.is_empty() { Ok(()) } else { self.write(tail, &mut batch, time) });
        match written {
            Ok(()) if accepted.is_empty() => {}
            Ok(()) => self.apply_own(tail, accepted),
            // What was decided took for granted that all of it is written.
            Err(error) => answers[start..].iter_mut().for_each(|answer| *answer = Err(error.clone())),
        }
    }

    fn relaxed(&self, job: Job) -> Answer {
        let mut tail = self.tail();
        let mut began = false;
        if !tail.held {
            drop(tail);
            let turn = locked(&self.turn);
            tail = self.seize(&turn)?;
            began = true;
        }
        let outcome = self.running().and_then(|()| self.relaxed_held(&mut tail, job));
        if began && tail.batch.is_empty() {
            self.release(&mut tail);
            began = false;
        }
        let full = tail.batch.size() >= RELAXED_BYTES;
        let expiry = outcome.as_ref().ok().and_then(|(_, expires)| *expires);
        drop(tail);
        if began {
            self.signal.flush_soon();
        }
        if expiry.is_some() {
            self.signal.written(false, expiry);
        }
        if full {
            self.flush()?;
        }
        outcome.map(|(commit, _)| commit)
    }

    /// The usual relaxed write, of one value that lives for ever into a namespace with room, in memory and in the batch without
    /// more ado. `None`, and the action given back, where it is not that.
    pub(crate) fn relaxed_put(
        &self,
        space: &Arc<Namespace>,
        key: Key,
        action: Action,
        expect: Option<u64>,
    ) -> Result<Commit, (Key, Action)> {
        let Action::Put { value, meta, ttl: None, expires: None } = action else {
            return Err((key, action));
        };
        let mut tail = self.tail();
        let now = self.now(&tail);
        let size = value.len() as u64 + meta.size() + key.as_bytes().len() as u64;
        let resident = self.index.resident.load(Ordering::Relaxed) + size + VERSION_OVERHEAD;
        let usual = tail.held
            && self.stopped.get().is_none()
            && space.lives_for_ever()
            && space.has_room(key.as_bytes().len() as u64, value.len() as u64, 1, size)
            && size <= TRANSACTION_MAX
            && resident <= self.options.memory_max
            && tail.batch.size() < RELAXED_BYTES
            && expect.is_none_or(|version| {
                let map = space.map.pin();
                let found = map.get(&key).filter(|entry| entry.is_live(|| now));
                found.map_or(0, |entry| entry.version()) == version
            });
        if !usual {
            return Err((key, Action::Put { value, meta, ttl: None, expires: None }));
        }
        let version = tail.next();
        tail.batch.push_with(|out| record::encode_put(out, now, space.id, &key, &value, &meta));
        self.put_own(&mut tail, version, now, space, key, value, meta);
        Ok(Commit { version, time: now, changed: 1 })
    }

    fn relaxed_held(&self, tail: &mut Tail, job: Job) -> Result<(Commit, Option<u64>), Error> {
        let (time, version) = (self.now(tail), tail.next());
        let ops = Plan::new(&self.index, &mut tail.ledger, self.options.memory_max, time, false)
            .admit(job, version)?;
        if ops.is_empty() {
            return Ok((Commit { version: version - 1, time, changed: 0 }, None));
        }
        encode(&mut tail.batch, time, &ops);
        let expires = ops.iter().filter_map(|op| match op {
            record::Op::Put { expires, .. } => Some(*expires),
            _ => None,
        });
        let expires = expires.min().filter(|&at| at != crate::entry::NEVER);
        let changed = ops.len();
        self.apply_own(tail, [(version, time, ops)]);
        Ok((Commit { version, time, changed }, expires))
    }
}

fn encode(batch: &mut Batch, time: Timestamp, ops: &[record::Op]) {
    batch.push_with(|out| record::encode(out, time, ops));
}
