//! Opening: the newest snapshot, and the log behind it.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use quorate_wal::disk::folder;
use quorate_wal::{Batch, Disk, Group, Keyring, Log};

use crate::commit::GROUP_MAX;
use crate::contents::{self, Gathered};
use crate::error::Error;
use crate::feed::Feed;
use crate::index::{Index, Ledger};
use crate::inner::Inner;
use crate::options::Options;
use crate::place::{Place, log_dir};
use crate::record::{self, FORMAT, Metas, Record};
use crate::snapshot::{self, Head};
use crate::tail::Tail;

/// Blocks that wait for a thread to read them.
const BLOCKS_WAITING: usize = 16;
/// How often opening begins anew because another process gave back what was to be read.
const TRIES: u32 = 5;

impl Inner {
    pub(crate) fn open(place: Place, options: Options) -> Result<Self, Error> {
        let lock = Arc::clone(&place.lock);
        lock.acquire().map_err(Error::io(&place.dir))?;
        let opened = Self::open_held(&place, &options);
        let inner = opened.map(|(index, tail)| Self {
            applied: AtomicU64::new(tail.log.next()),
            keys: Mutex::new(options.keys.clone()),
            index,
            turn: Mutex::new(()),
            tail: Mutex::new(tail),
            group: Group::new(GROUP_MAX),
            feed: Feed::default(),
            stopped: OnceLock::new(),
            signal: Arc::default(),
            search: Mutex::new(None),
            snapshotting: Mutex::new(()),
            options,
            place,
        });
        let inner = inner.and_then(|inner| {
            if inner.place.control.doubt() {
                inner.write_anew()?;
            }
            Ok(inner)
        });
        lock.release();
        inner
    }

    fn open_held(place: &Place, options: &Options) -> Result<(Index, Tail), Error> {
        let (disk, dir) = (&place.disk, &place.dir);
        disk.create_dir(dir).map_err(Error::io(dir))?;
        let control = &place.control;
        let snapshots = snapshot::list(&**disk, dir)?;
        if !Log::exists(&**disk, &place.log_dir())? {
            if !snapshots.is_empty() {
                return Err(Error::Incomplete { path: dir.clone() });
            }
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(|_| Error::NoRandomness)?;
            disk.create_dir(&place.log_dir()).map_err(Error::io(dir))?;
            disk.sync_dir(dir).and_then(|()| disk.sync_dir(folder(dir))).map_err(Error::io(dir))?;
            drop(Log::create(Arc::clone(disk), &place.log_dir(), id, 0, options.log())?);
        }
        let mut loaded = Loaded::newest(disk, dir, &options.keys, u64::MAX)?;
        let log_bytes = loaded.replay(disk, dir, options, &|_, _| true)?;
        let Loaded { index, ledger, head, log, .. } = loaded;
        let Some(mut log) = log else {
            return Err(Error::NothingThere { path: dir.clone() });
        };
        let durable = control.synced().unwrap_or(0).max(head.map_or(0, |head| head.version + 1));
        log.cut(durable)?;
        if log.next() == 0 {
            let mut batch = Batch::new();
            batch.push_with(record::encode_genesis);
            log.append(options.clock.now(), &mut batch)?;
        }
        log.sync()?;
        // A process that was killed may have given a file its name and not made that durable.
        disk.sync_dir(&place.log_dir()).and_then(|()| disk.sync_dir(dir)).map_err(Error::io(dir))?;
        index.set_visible(log.next() - 1);
        control.set_synced(log.synced());
        control.set_committed(log.next());
        control.set_busy(false);
        Ok((index, Tail::new(log, ledger, log_bytes)))
    }
}

/// A store read into memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) index: Index,
    pub(crate) ledger: Ledger,
    /// Of the snapshot that was read.
    pub(crate) head: Option<Head>,
    pub(crate) log: Option<Log>,
    /// The newest transaction in here.
    pub(crate) version: u64,
}

impl Loaded {
    /// Reads the newest snapshot that is not newer than `until`.
    pub(crate) fn newest(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        keys: &Keyring,
        until: u64,
    ) -> Result<Self, Error> {
        for _ in 0..TRIES {
            let versions = snapshot::list(&**disk, dir)?;
            let Some(version) = versions.into_iter().rfind(|&version| version <= until) else {
                return Ok(Self::empty());
            };
            let path = dir.join(snapshot::name(version));
            match Self::read(&**disk, &path, keys) {
                // Another process has written a newer one and removed this.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                read => return read,
            }
        }
        Err(Error::NothingThere { path: dir.to_owned() })
    }

    fn empty() -> Self {
        Self { index: Index::default(), ledger: Ledger::default(), head: None, log: None, version: 0 }
    }

    fn read(disk: &dyn Disk, path: &Path, keys: &Keyring) -> Result<Self, Error> {
        let index = Index::default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let (send, receive) = mpsc::sync_channel::<Vec<u8>>(BLOCKS_WAITING);
        let receive = Mutex::new(receive);
        let (head, gathered) = std::thread::scope(|scope| {
            let (index, receive) = (&index, &receive);
            let work = move || {
                let (mut metas, mut gathered) = (Metas::default(), Gathered::default());
                let mut outcome = Ok(());
                loop {
                    let next = crate::tail::locked(receive).recv();
                    let Ok(body) = next else {
                        return outcome.map(|()| gathered);
                    };
                    // After a failure what is sent is still taken, so that nobody waits to send it.
                    if outcome.is_ok() {
                        outcome = contents::read_keys(index, &body, &mut metas, &mut gathered);
                    }
                }
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut in_spaces = true;
            let head = snapshot::read(disk, path, keys, &mut |body| {
                if in_spaces {
                    let more = contents::read_spaces(index, &body);
                    in_spaces = !more.map_err(|reason| Error::Damaged { path: path.to_owned(), reason })?;
                }
                // Only a worker that panicked is gone, which is told below.
                let _ = send.send(body);
                Ok(())
            });
            drop(send);
            let mut all = Gathered::default();
            let mut failed = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(gathered)) => all.add(gathered),
                    Ok(Err(reason)) => failed = Some(reason),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            let head = head?;
            match failed {
                Some(reason) => Err(Error::Damaged { path: path.to_owned(), reason }),
                None => Ok((head, all)),
            }
        })?;
        let version = head.version;
        index.set_visible(version);
        Ok(Self { index, ledger: gathered.into_ledger(), head: Some(head), log: None, version })
    }

    /// Applies what the log has behind the snapshot, while `wanted` says so of a transaction's version and time. Answers the log's
    /// bytes behind the snapshot, about.
    pub(crate) fn replay(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        options: &Options,
        wanted: &dyn Fn(u64, quorate_base::Timestamp) -> bool,
    ) -> Result<u64, Error> {
        let from = self.head.map_or(0, |head| head.version + 1);
        let (mut failed, mut bytes, mut done) = (None, 0, false);
        let Self { index, ledger, version, .. } = self;
        let log = Log::attach(Arc::clone(disk), &log_dir(dir), options.log(), from, &mut |found| {
            bytes += found.bytes.len() as u64;
            if done || failed.is_some() {
                return;
            }
            let decoded = record::decode(found.bytes, &mut ledger.metas);
            let applied = decoded.and_then(|decoded| match decoded {
                Record::Genesis { format } if format == FORMAT => Ok(()),
                Record::Genesis { .. } => Err("its format version is another"),
                Record::Transaction { time, ops } => {
                    if !wanted(found.seq, time) {
                        done = true;
                        return Ok(());
                    }
                    index.set_visible(found.seq - 1);
                    index.apply(ledger, index.floor(), found.seq, time, ops, None)
                }
            });
            match applied {
                Ok(()) if done => {}
                Ok(()) => *version = found.seq,
                Err(reason) => failed = Some(Error::RecordUnknown { seq: found.seq, reason }),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.index.set_visible(self.version);
        if self.head.is_some_and(|head| head.id != log.id()) {
            let path = dir.join(snapshot::name(self.version));
            return Err(Error::Damaged { path, reason: "it belongs to another store" });
        }
        self.log = Some(log);
        Ok(bytes)
    }
}
