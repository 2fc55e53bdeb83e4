//! The end of the log: what is not yet applied, and what is not yet written.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_base::Timestamp;
use quorate_wal::{Batch, Log};

use crate::change::Change;
use crate::entry::{Meta, NEVER};
use crate::error::Error;
use crate::index::{At, Ledger};
use crate::inner::Inner;
use crate::key::Key;
use crate::namespace::Namespace;
use crate::record::{self, Record};

/// Guarded by one lock; held through a durable write, and by a reader only where others have written.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) log: Log,
    pub(crate) ledger: Ledger,
    /// Relaxed transactions: applied, not yet written. Not empty only while `held`.
    pub(crate) batch: Batch,
    /// Records that are whole in the log and of which nobody has said that they are committed.
    ahead: VecDeque<(u64, Vec<u8>)>,
    /// Number of the next record to apply.
    applied: u64,
    /// Whether this process holds the lock among processes.
    pub(crate) held: bool,
    /// Whether the log's end is being written by who does not hold this, but `turn`.
    pub(crate) in_flight: bool,
    /// Bytes of log since the last snapshot, about.
    pub(crate) since_snapshot: u64,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    pub(crate) fn new(log: Log, ledger: Ledger, since_snapshot: u64) -> Self {
        let applied = log.next();
        Self {
            log,
            ledger,
            batch: Batch::new(),
            ahead: VecDeque::new(),
            applied,
            held: false,
            in_flight: false,
            since_snapshot,
        }
    }

    /// The version of the next transaction.
    pub(crate) fn next(&self) -> u64 {
        self.log.next() + self.batch.len() as u64
    }

    fn read_on(&mut self) -> Result<(), Error> {
        let Self { log, ahead, since_snapshot, .. } = self;
        let read = log.refresh(&mut |record| {
            *since_snapshot += record.bytes.len() as u64;
            ahead.push_back((record.seq, record.bytes.to_vec()));
        });
        match read {
            Ok(()) => Ok(()),
            // What follows what this process knows was given back by another that had written a snapshot.
            Err(quorate_wal::Error::Gap { .. }) => Err(Error::Behind),
            Err(error) => Err(error.into()),
        }
    }
}

impl Inner {
    /// The end of the log. A panic while it was held leaves the store stopped.
    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(|poison| {
            self.stop_for("a panic interrupted a write".into());
            poison.into_inner()
        })
    }

    /// Applies what other processes have committed, where they have. The check alone is two loads.
    #[inline]
    pub(crate) fn catch_up(&self) -> Result<(), Error> {
        if self.place.control.is_ahead_of(self.applied.load(Ordering::Acquire)) {
            return self.catch_up_now();
        }
        Ok(())
    }

    #[cold]
    fn catch_up_now(&self) -> Result<(), Error> {
        if self.stopped.get().is_some() {
            return Ok(());
        }
        let mut tail = self.tail();
        match self.place.control.committed() {
            Some(committed) if committed > tail.applied && !tail.held => match tail.read_on() {
                Ok(()) => self.follow(&mut tail, committed),
                Err(Error::Behind) => {
                    drop(tail);
                    self.reload()
                }
                Err(error) => Err(error),
            },
            _ => Ok(()),
        }
    }

    /// Applies records that were read, up to number `until`.
    fn follow(&self, tail: &mut Tail, until: u64) -> Result<(), Error> {
        let floor = self.index.floor();
        let mut changes = self.feed.is_watched().then(Vec::new);
        while let Some((seq, bytes)) = tail.ahead.front() {
            let seq = *seq;
            if seq >= until {
                break;
            }
            let unknown = |reason| Error::RecordUnknown { seq, reason };
            match record::decode(bytes, &mut tail.ledger.metas).map_err(unknown)? {
                Record::Genesis { .. } => {}
                Record::Transaction { time, ops } => {
                    let Tail { ledger, .. } = &mut *tail;
                    self.index.apply(ledger, floor, seq, time, ops, changes.as_mut()).map_err(unknown)?;
                }
            }
            tail.ahead.pop_front();
            tail.applied = seq + 1;
        }
        self.publish(tail, changes);
        if !tail.ledger.expiring.is_empty() {
            self.signal.written(false, tail.ledger.next_expiry());
        }
        Ok(())
    }

    /// Shows what was applied to readers and watchers.
    pub(crate) fn publish(&self, tail: &Tail, changes: Option<Vec<Change>>) {
        let before = self.index.visible();
        self.index.set_visible(tail.applied.saturating_sub(1));
        self.applied.store(tail.applied, Ordering::Release);
        self.feed.publish(before, tail.applied.saturating_sub(1), changes);
    }

    /// Takes the lock among processes and catches up; the caller holds `turn`. What a dead writer left is settled.
    pub(crate) fn seize(&self, _turn: &MutexGuard<'_, ()>) -> Result<MutexGuard<'_, Tail>, Error> {
        self.running()?;
        let tail = self.tail();
        if tail.held {
            return Ok(tail);
        }
        drop(tail);
        self.place.control.want();
        let acquired = self.place.lock.acquire();
        self.place.control.unwant();
        acquired.map_err(Error::io(&self.place.dir))?;
        let mut tail = self.tail();
        tail.held = true;
        match self.settle(&mut tail) {
            Ok(()) => Ok(tail),
            Err(error) => {
                self.release(&mut tail);
                Err(error)
            }
        }
    }

    fn settle(&self, tail: &mut Tail) -> Result<(), Error> {
        let control = &self.place.control;
        self.running()?;
        if control.doubt() {
            return Err(Error::Stopped { reason: "another process saw a sync fail".into() });
        }
        let busy = control.busy();
        if !busy && !control.is_ahead_of(tail.applied) {
            return Ok(());
        }
        match tail.read_on() {
            Err(Error::Behind) => self.reload_held(tail)?,
            read => read?,
        }
        if busy {
            tail.log.cut(control.synced().unwrap_or(0))?;
            // It may have begun a segment and not made its name durable.
            let dir = self.place.log_dir();
            self.place.disk.sync_dir(&dir).map_err(Error::io(dir))?;
            if tail.log.next() > control.committed().unwrap_or(0) {
                // Whole, and perhaps not durable: its writer died before it could say. Shown only when it is.
                self.synced(tail.log.sync())?;
            }
        }
        let next = tail.log.next();
        self.follow(tail, next)?;
        self.tell(tail);
        Ok(())
    }

    /// Gives the lock among processes back.
    pub(crate) fn release(&self, tail: &mut Tail) {
        if std::mem::take(&mut tail.held) {
            self.place.lock.release();
        }
    }

    /// Tells other processes what is durable.
    fn tell(&self, tail: &Tail) {
        let control = &self.place.control;
        control.set_synced(tail.log.synced());
        control.set_committed(tail.log.next());
        control.set_busy(false);
    }

    /// Appends and syncs. After a failure the store is stopped.
    pub(crate) fn write(&self, tail: &mut Tail, batch: &mut Batch, time: Timestamp) -> Result<(), Error> {
        self.append(tail, batch, time)?;
        self.synced(tail.log.sync())?;
        self.tell(tail);
        Ok(())
    }

    /// Begins a new segment of the log.
    pub(crate) fn roll(&self, tail: &mut Tail) -> Result<(), Error> {
        self.place.control.set_busy(true);
        tail.log.roll().map_err(|error| self.stop(error))?;
        self.tell(tail);
        Ok(())
    }

    fn append(&self, tail: &mut Tail, batch: &mut Batch, time: Timestamp) -> Result<(), Error> {
        self.place.control.set_busy(true);
        tail.since_snapshot += batch.size() as u64;
        tail.log.append(time, batch).map_err(|error| self.stop(error))?;
        Ok(())
    }

    fn synced(&self, outcome: Result<(), quorate_wal::Error>) -> Result<(), Error> {
        outcome.map_err(|error| {
            self.place.control.set_doubt(true);
            self.stop(error)
        })
    }

    /// Applies a transaction of this process. It was decided on under the same lock, so it fits.
    pub(crate) fn apply_own(
        &self,
        tail: &mut Tail,
        transactions: impl IntoIterator<Item = (u64, Timestamp, Vec<record::Op>)>,
    ) {
        let floor = self.index.floor();
        let mut changes = self.feed.is_watched().then(Vec::new);
        for (version, time, ops) in transactions {
            if let Err(reason) =
                self.index.apply(&mut tail.ledger, floor, version, time, ops, changes.as_mut())
            {
                self.stop_for(reason.into());
            }
            tail.applied = version + 1;
        }
        self.publish(tail, changes);
    }

    /// As [`apply_own`](Self::apply_own), of one value that does not expire.
    #[expect(clippy::too_many_arguments, reason = "the parts of one operation")]
    pub(crate) fn put_own(
        &self,
        tail: &mut Tail,
        version: u64,
        time: Timestamp,
        space: &Arc<Namespace>,
        key: Key,
        value: Box<[u8]>,
        meta: Arc<Meta>,
    ) {
        let watched = self.feed.is_watched();
        let at = At::new(&self.index, self.index.floor(), version, time);
        let change = at.put(&mut tail.ledger, space, key, value, meta, NEVER, watched);
        tail.ledger.time = time;
        tail.applied = version + 1;
        let changes =
            watched.then(|| change.into_iter().map(|change| Change { last: true, ..change }).collect());
        self.publish(tail, changes);
    }

    /// Writes relaxed transactions and syncs them. Writers of relaxed ones go on meanwhile, and the lock among processes is kept for
    /// them where no other process waits for it.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let _turn = locked(&self.turn);
        let tail = self.tail();
        if !tail.held {
            return Ok(());
        }
        let flushed = self.flush_held(tail);
        let mut tail = self.tail();
        if flushed.is_err() || tail.batch.is_empty() {
            self.release(&mut tail);
        } else {
            drop(tail);
            self.signal.flush_soon();
        }
        flushed
    }

    fn flush_held(&self, mut tail: MutexGuard<'_, Tail>) -> Result<(), Error> {
        self.running()?;
        let mut batch = std::mem::take(&mut tail.batch);
        let time = tail.ledger.time;
        self.place.control.set_busy(true);
        tail.since_snapshot += batch.size() as u64;
        let pending = tail.log.begin(time, &mut batch).map_err(|error| self.stop(error))?;
        tail.in_flight = true;
        drop(tail);
        let outcome = pending.run();
        let mut tail = self.tail();
        tail.in_flight = false;
        let synced = tail.log.finish(&pending, outcome);
        self.synced(synced)?;
        if self.place.control.is_wanted() {
            // What came meanwhile too, so that the lock can be given to who waits.
            self.flush_all(&mut tail)?;
        }
        self.tell(&tail);
        Ok(())
    }

    /// Writes what is pending, if anything is; the caller holds the lock among processes.
    pub(crate) fn flush_all(&self, tail: &mut Tail) -> Result<(), Error> {
        if tail.batch.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut tail.batch);
        let time = tail.ledger.time;
        self.write(tail, &mut batch, time)
    }

    pub(crate) fn running(&self) -> Result<(), Error> {
        match self.stopped.get() {
            Some(reason) => Err(Error::Stopped { reason: Arc::clone(reason) }),
            None => Ok(()),
        }
    }

    fn stop(&self, error: quorate_wal::Error) -> Error {
        self.stop_for(error.to_string());
        match self.running() {
            Err(stopped) => stopped,
            Ok(()) => error.into(),
        }
    }

    fn stop_for(&self, reason: String) {
        let _ = self.stopped.set(reason.into());
    }
}
