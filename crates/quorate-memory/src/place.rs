//! Where a store lives: a folder, what keeps its writers apart, and the page its processes share.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use quorate_wal::{Control, Disk, OsDisk};

use crate::error::Error;

/// Keeps the processes that write one store apart. One of them holds it at a time; it is given back when a process dies.
pub trait Lock: Debug + Send + Sync {
    /// Waits until it is held.
    fn acquire(&self) -> io::Result<()>;
    /// Gives it back. Only the holder does.
    fn release(&self);
}

/// A store's place. Clones are the same place, opened once: two stores of one process need two.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) lock: Arc<dyn Lock>,
    pub(crate) control: Arc<Control>,
}

impl Place {
    /// A folder of the operating system, made where it is missing.
    pub fn folder(dir: &Path) -> Result<Self, Error> {
        let disk = OsDisk;
        disk.create_dir(dir).map_err(Error::io(dir))?;
        let lock = FileLock::open(&dir.join("lock")).map_err(Error::io(dir.join("lock")))?;
        let control = Control::map(&dir.join("control")).map_err(Error::io(dir.join("control")))?;
        Ok(Self {
            disk: Arc::new(disk),
            dir: dir.to_owned(),
            lock: Arc::new(lock),
            control: Arc::new(control),
        })
    }

    /// Any disk, with a lock and a page that all stores on it share: for tests with a simulated disk.
    pub fn on(disk: Arc<dyn Disk>, dir: &Path, lock: Arc<dyn Lock>, control: Arc<Control>) -> Self {
        Self { disk, dir: dir.to_owned(), lock, control }
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        log_dir(&self.dir)
    }
}

pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// An advisory lock on a file (`flock`); the kernel gives it back when its process dies.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Opens the file, which is made where it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Self { file: options.open(path)? })
    }
}

impl Lock for FileLock {
    fn acquire(&self) -> io::Result<()> {
        loop {
            match rustix::fs::flock(&self.file, rustix::fs::FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                done => return done.map_err(Into::into),
            }
        }
    }

    fn release(&self) {
        // It cannot fail on an open file; were it to, the others would wait for this process to end.
        let _ = rustix::fs::flock(&self.file, rustix::fs::FlockOperation::Unlock);
    }
}

/// A lock among stores of one process.
#[derive(Debug, Default)]
pub struct MemoryLock {
    held: Mutex<bool>,
    free: Condvar,
}

impl Lock for MemoryLock {
    fn acquire(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while *held {
            held = self.free.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held = true;
        Ok(())
    }

    fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.free.notify_one();
    }
}
