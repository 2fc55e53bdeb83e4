//! The journal's file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use quorate_base::{Digest, Timestamp};
use rustix::fs::{FlockOperation, flock};

use super::frame::{self, BODY_MAX, Damaged, Entry, HEADER_LEN, Tail};

/// A journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("journal {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("journal {}: {damage}", path.display())]
    Damaged { path: PathBuf, damage: Damaged },
    #[error("journal {} is being written by another process", path.display())]
    Locked { path: PathBuf },
    #[error("journal {} took no more records since a write failed; nothing after the failure is true", path.display())]
    Poisoned { path: PathBuf },
    #[error("a record of {bytes} bytes does not fit into a journal ({BODY_MAX} at most)")]
    TooLarge { bytes: usize },
}

impl Error {
    /// The disk failed, not the journal: with room or a healthy disk again, it goes on.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Poisoned { .. })
    }
}

/// What a journal is written to. A file in life; in tests also something that fails.
pub trait Storage: std::fmt::Debug + Send {
    /// Writes all bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written will survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

impl Storage for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A journal open for writing. One process at a time has it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    storage: Box<dyn Storage>,
    chain: Digest,
    next: u64,
    poisoned: bool,
}

/// What was cut off when a journal was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    pub offset: u64,
    pub bytes: u64,
}

impl Journal {
    /// Begins a journal; the file must not exist.
    pub fn create(path: &Path, id: [u8; 16]) -> Result<Self, Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let header = frame::header(id);
        // Written aside and moved, so that a journal that is there has its header.
        let aside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .map_err(at)?;
        file.write_all(&header).and_then(|()| file.sync_all()).map_err(at)?;
        std::fs::hard_link(&aside, path).and_then(|()| std::fs::remove_file(&aside)).map_err(at)?;
        if let Some(folder) = path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at)?;
        }
        lock(&file, path)?;
        Ok(Self::on(path, Box::new(file), frame::genesis(&header), 0))
    }

    /// Opens a journal for more records, with those that are there. A torn tail is cut off and told.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>, Option<TornTail>), Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(at)?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at)?;
        let (entries, tail) = decode(path, &bytes)?;
        let torn = match tail {
            Tail::Clean => None,
            Tail::Torn { offset, bytes } => {
                file.set_len(offset).and_then(|()| file.sync_all()).map_err(at)?;
                Some(TornTail { offset, bytes })
            }
        };
        file.seek(SeekFrom::End(0)).map_err(at)?;
        let chain = entries.last().map_or_else(|| frame::genesis(&bytes[..HEADER_LEN]), |entry| entry.chain);
        let next = entries.len() as u64;
        Ok((Self::on(path, Box::new(file), chain, next), entries, torn))
    }

    /// A journal on other storage, which has its header and `next` records already.
    pub fn on(path: &Path, storage: Box<dyn Storage>, chain: Digest, next: u64) -> Self {
        Self { path: path.to_owned(), storage, chain, next, poisoned: false }
    }

    /// Appends records together and answers their numbers once all of them are durable.
    ///
    /// After a failed write nobody knows what is on the disk: the journal takes nothing more until it is opened again.
    pub fn append(&mut self, time: Timestamp, payloads: &[&[u8]]) -> Result<Vec<u64>, Error> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        if let Some(long) = payloads.iter().find(|payload| payload.len() > BODY_MAX - 64) {
            return Err(Error::TooLarge { bytes: long.len() });
        }
        let mut bytes = Vec::new();
        let mut chain = self.chain;
        let mut next = self.next;
        for payload in payloads {
            chain = frame::encode(&mut bytes, &chain, next, time, payload);
            next += 1;
        }
        let written = self.storage.append(&bytes).and_then(|()| self.storage.sync());
        if let Err(source) = written {
            self.poisoned = true;
            return Err(Error::Io { path: self.path.clone(), source });
        }
        let seqs = (self.next..next).collect();
        (self.chain, self.next) = (chain, next);
        Ok(seqs)
    }

    /// Reads a journal that somebody else may be writing; changes nothing.
    pub fn read(path: &Path) -> Result<(Vec<Entry>, Tail), Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        decode(path, &bytes)
    }
}

fn decode(path: &Path, bytes: &[u8]) -> Result<(Vec<Entry>, Tail), Error> {
    let damaged = |damage| Error::Damaged { path: path.to_owned(), damage };
    frame::check_header(bytes).map_err(damaged)?;
    frame::decode(bytes, HEADER_LEN, frame::genesis(&bytes[..HEADER_LEN]), 0).map_err(damaged)
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path: path.to_owned() }),
        Err(errno) => Err(Error::Io { path: path.to_owned(), source: errno.into() }),
    }
}

/// Reads a journal as it grows.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    seen: usize,
}

impl Follower {
    /// Follows a journal behind its first `seen` records.
    pub fn after(path: &Path, seen: usize) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), seen })
    }

    /// Records that have come since; a frame half written is left for later.
    pub fn poll(&mut self) -> Result<Vec<Entry>, Error> {
        let (mut entries, _) = Journal::read(&self.path)?;
        let fresh = entries.split_off(self.seen.min(entries.len()));
        self.seen += fresh.len();
        Ok(fresh)
    }
}
