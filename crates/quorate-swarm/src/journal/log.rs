//! The journal's file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use quorate_base::{Digest, Timestamp};
use rustix::fs::{FlockOperation, flock};

use super::frame::{self, Damaged, Entry, HEADER_LEN, PAYLOAD_MAX, Tail};

/// A journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("journal {}: {source}{}", path.display(), hint(source))]
    Io { path: PathBuf, source: io::Error },
    #[error("journal {}: {damage}", path.display())]
    Damaged { path: PathBuf, damage: Damaged },
    #[error("journal {} is being written by another process", path.display())]
    Locked { path: PathBuf },
    #[error("journal {} took no more records since a write failed; nothing after the failure is true", path.display())]
    Poisoned { path: PathBuf },
    #[error("a record of {bytes} bytes does not fit into a journal ({PAYLOAD_MAX} at most)")]
    TooLarge { bytes: usize },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, then `quorate resume`: what was recorded before is safe"
        }
        io::ErrorKind::AlreadyExists => "; a journal is never written over",
        _ => "",
    }
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
        // Written aside and linked, so that a journal that is there has its header; locked before anybody can see it.
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".new-{}", std::process::id()));
        let aside = Aside(aside.into());
        let mut file =
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(&aside.0).map_err(at)?;
        lock(&file, path)?;
        file.write_all(&header).and_then(|()| file.sync_all()).map_err(at)?;
        std::fs::hard_link(&aside.0, path).map_err(at)?;
        drop(aside);
        if let Some(folder) = path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at)?;
        }
        Ok(Self::on(path, Box::new(file), frame::genesis(&header), 0))
    }

    /// Opens a journal for more records, with those that are there. A torn tail is cut off and told.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>, Option<TornTail>), Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(at)?;
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
    /// One write and one sync, however many there are. After a failed write nobody knows what is on the disk: the journal takes nothing more until it is opened again.
    pub fn append(&mut self, time: Timestamp, payloads: &[&[u8]]) -> Result<Vec<u64>, Error> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        if let Some(long) = payloads.iter().find(|payload| payload.len() > PAYLOAD_MAX) {
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

/// The name a file has until it is whole.
#[derive(Debug)]
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads a journal as it grows, from where it left off.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: File,
    offset: u64,
    chain: Digest,
    next: u64,
}

impl Follower {
    /// Follows a journal behind its first `seen` records, or behind all of them where there are fewer.
    pub fn after(path: &Path, seen: usize) -> Result<Self, Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(at)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at)?;
        let (mut entries, tail) = decode(path, &bytes)?;
        let end = match tail {
            Tail::Clean => bytes.len() as u64,
            Tail::Torn { offset, .. } => offset,
        };
        let offset = entries.get(seen).map_or(end, |entry| entry.offset);
        entries.truncate(seen);
        let chain = entries.last().map_or_else(|| frame::genesis(&bytes[..HEADER_LEN]), |entry| entry.chain);
        Ok(Self { path: path.to_owned(), file, offset, chain, next: entries.len() as u64 })
    }

    /// Records that have come since; a frame half written is left for later.
    pub fn poll(&mut self) -> Result<Vec<Entry>, Error> {
        let at = |source| Error::Io { path: self.path.clone(), source };
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.offset)).map_err(at)?;
        self.file.read_to_end(&mut bytes).map_err(at)?;
        let damaged = |damage| Error::Damaged { path: self.path.clone(), damage };
        let length = self.file.metadata().map_err(at)?.len();
        if length < self.offset {
            let reason = "records that were there are gone";
            return Err(damaged(Damaged::Frame { offset: length, reason }));
        }
        let (mut entries, tail) =
            frame::decode(&bytes, 0, self.chain, self.next).map_err(|damage| match damage {
                Damaged::Frame { offset, reason } => {
                    damaged(Damaged::Frame { offset: self.offset + offset, reason })
                }
                other => damaged(other),
            })?;
        for entry in &mut entries {
            entry.offset += self.offset;
        }
        self.offset += match tail {
            Tail::Clean => bytes.len() as u64,
            Tail::Torn { offset, .. } => offset,
        };
        if let Some(last) = entries.last() {
            (self.chain, self.next) = (last.chain, last.seq + 1);
        }
        Ok(entries)
    }
}
