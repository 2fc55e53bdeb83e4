//! Writing snapshots, giving back what they replace, and changing keys.

use std::sync::Arc;

use quorate_wal::{Batch, Key};

use crate::contents;
use crate::error::Error;
use crate::inner::Inner;
use crate::record;
use crate::snapshot::{self, Head, Writer};
use crate::store::Store;
use crate::tail::{Tail, locked};
use crate::view::View;

impl Store {
    /// Writes a snapshot, reads it back, and gives back the log it replaces; answers the version it shows. Writers go on
    /// meanwhile.
    pub fn snapshot(&self) -> Result<u64, Error> {
        self.inner.snapshot()
    }

    /// Seals everything with another key from now on: a snapshot is written under it, and all that the old one sealed is
    /// removed, with it what a restore could have gone back to. Writers wait meanwhile. Where it is interrupted, opening takes
    /// both keys until it was done again; other processes need the new key when this returns.
    pub fn rotate_key(&self, new: Key) -> Result<u64, Error> {
        let inner = &self.inner;
        let _one = locked(&inner.snapshotting);
        let turn = locked(&inner.turn);
        let mut tail = inner.seize(&turn)?;
        let rotated = inner.rotate(&mut tail, new);
        inner.release(&mut tail);
        rotated
    }
}

impl Inner {
    /// What a snapshot of now would show, durable. A view of it is entered.
    fn durable_head(&self) -> Result<(u64, Head), Error> {
        let turn = locked(&self.turn);
        let mut tail = self.seize(&turn)?;
        let outcome = self.flush_all(&mut tail);
        let head = self.head(&tail);
        let version = self.index.enter();
        self.release(&mut tail);
        match outcome {
            Ok(()) => Ok((version, head)),
            Err(error) => {
                self.index.leave(version);
                Err(error)
            }
        }
    }

    fn head(&self, tail: &Tail) -> Head {
        Head { id: tail.log.id(), version: self.index.visible(), time: tail.ledger.time, key: 0 }
    }

    fn write_snapshot(&self, head: Head) -> Result<(), Error> {
        let keys = locked(&self.keys).clone();
        let path = self.place.dir.join(snapshot::name(head.version));
        let mut writer = Writer::begin(&*self.place.disk, path, &keys, head)?;
        contents::write(&self.index, head.version, &mut writer)?;
        writer.finish(&keys)
    }

    /// Gives back what the snapshot at `version` replaces, as far as no restore is to reach back to it.
    fn forget(&self, version: u64) -> Result<(), Error> {
        let (disk, dir) = (&*self.place.disk, &self.place.dir);
        let turn = locked(&self.turn);
        let mut tail = self.seize(&turn)?;
        let outcome = (|| {
            let since = quorate_base::Timestamp(tail.ledger.time.0.saturating_sub(self.options.retain.0));
            let mut needed = version;
            let snapshots = snapshot::list(disk, dir)?;
            if self.options.retain.0 > 0 {
                // The newest that is old enough is what a restore to the oldest moment begins with.
                let mut oldest = 0;
                for &old in &snapshots {
                    if Head::read(disk, &dir.join(snapshot::name(old)))?.time <= since {
                        oldest = old;
                    }
                }
                needed = needed.min(oldest);
            }
            for old in snapshots.into_iter().filter(|&old| old < needed) {
                let path = dir.join(snapshot::name(old));
                match disk.remove(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io(path)(error));
                    }
                    _ => {}
                }
            }
            snapshot::clear(disk, dir, version)?;
            // With no snapshot old enough the whole log is what such a restore begins with.
            if needed > 0 {
                tail.log.forget(needed + 1)?;
            }
            tail.since_snapshot = 0;
            Ok(())
        })();
        self.release(&mut tail);
        outcome
    }

    fn rotate(&self, tail: &mut Tail, new: Key) -> Result<u64, Error> {
        let keys = {
            let mut keys = locked(&self.keys);
            *keys = keys.rotated(new);
            keys.clone()
        };
        self.flush_all(tail)?;
        tail.log.set_keys(keys);
        // An empty transaction, so that the new segment is not the old one again.
        let time = self.options.clock.now().max(tail.ledger.time);
        let mut batch = Batch::new();
        let version = tail.next();
        batch.push_with(|out| record::encode(out, time, &[]));
        self.write(tail, &mut batch, time)?;
        self.apply_own(tail, [(version, time, Vec::new())]);
        self.start_anew(tail)?;
        Ok(version)
    }

    /// Begins a new segment, writes a snapshot of all before it, and removes everything older.
    fn start_anew(&self, tail: &mut Tail) -> Result<(), Error> {
        let (disk, dir) = (&*self.place.disk, &self.place.dir);
        self.roll(tail)?;
        let head = self.head(tail);
        self.write_snapshot(head)?;
        for old in snapshot::list(disk, dir)?.into_iter().filter(|&old| old < head.version) {
            let path = dir.join(snapshot::name(old));
            disk.remove(&path).map_err(Error::io(path))?;
        }
        snapshot::clear(disk, dir, head.version)?;
        tail.log.forget(tail.log.next())?;
        disk.sync_dir(&self.place.log_dir()).map_err(Error::io(dir))?;
        disk.sync_dir(dir).map_err(Error::io(dir))?;
        tail.since_snapshot = 0;
        Ok(())
    }

    /// After a sync that failed: what is seen may not be on the disk, and would not be written again by itself. The caller holds
    /// the lock among processes.
    pub(crate) fn write_anew(&self) -> Result<(), Error> {
        let mut tail = self.tail();
        let time = tail.ledger.time;
        let mut batch = Batch::new();
        let version = tail.next();
        batch.push_with(|out| record::encode(out, time, &[]));
        self.write(&mut tail, &mut batch, time)?;
        self.apply_own(&mut tail, [(version, time, Vec::new())]);
        self.start_anew(&mut tail)?;
        self.place.control.set_doubt(false);
        Ok(())
    }

    pub(crate) fn snapshot(self: &Arc<Self>) -> Result<u64, Error> {
        let _one = locked(&self.snapshotting);
        self.running()?;
        let (version, head) = self.durable_head()?;
        // Kept by the view entered there until it is written.
        let view = View::entered(Arc::clone(self), version);
        let written = self.write_snapshot(head);
        drop(view);
        written?;
        self.forget(version)?;
        Ok(version)
    }
}
