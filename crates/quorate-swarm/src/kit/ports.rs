//! Blocks of ports, each held by one agent of this user's.
//!
//! A block is a file named by its first and last port in one folder of the user's, locked while it is held: every
//! Quorate of the user sees the same blocks, whatever size they have, and the system lets go of the lock of a process
//! that is killed. What else listens on the machine is found by binding.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::spec::PortRange;
use super::{Error, io_at};
use crate::user;

/// Name of the file whose lock keeps takers apart.
const TURN: &str = "turn";

/// The blocks of one user.
#[derive(Debug, Clone)]
pub struct Ports {
    folder: PathBuf,
}

/// Ports that are this process's until it drops them.
#[derive(Debug)]
pub struct Block {
    pub ports: PortRange,
    path: PathBuf,
    _lock: File,
}

impl Ports {
    /// Those of the user whose process this is, wherever it was started from.
    pub fn of_user() -> Self {
        Self::at(user::folder("ports"))
    }

    /// Those that are kept in this folder, which is made where it is missing.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Takes a block of so many ports, the lowest that is free; none where all are taken.
    pub fn take(&self, range: PortRange, each: u16) -> Result<Option<Block>, Error> {
        self.prepare()?;
        let _turn = self.turn()?;
        let taken = self.taken()?;
        let mut first = u32::from(range.first);
        while let Ok(ports) = block(first, each, range) {
            if let Some(other) = taken.iter().find(|other| overlap(**other, ports)) {
                first = u32::from(other.last) + 1;
            } else if let Some(busy) = busy(ports)? {
                first = u32::from(busy) + 1;
            } else {
                return self.hold(ports).map(Some);
            }
        }
        Ok(None)
    }

    fn prepare(&self) -> Result<(), Error> {
        let wrong = |reason| Error::PortsFolder { path: self.folder.clone(), reason };
        user::prepare(&self.folder).map_err(wrong)
    }

    fn turn(&self) -> Result<File, Error> {
        let path = self.folder.join(TURN);
        let file = open(&path).map_err(io_at(&path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| io_at(&path)(errno.into()))?;
        Ok(file)
    }

    /// The blocks somebody holds. Those of processes that were killed are cleared away, in whose turn this is called.
    fn taken(&self) -> Result<Vec<PortRange>, Error> {
        let mut taken = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io_at(&self.folder))? {
            let path = entry.map_err(io_at(&self.folder))?.path();
            let ports = path.file_name().and_then(|name| PortRange::try_from(name.to_str()?.to_owned()).ok());
            let Some(ports) = ports else { continue };
            let file = match OpenOptions::new().read(true).write(true).open(&path) {
                // Given back this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(io_at(&path))?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => taken.push(ports),
                Err(errno) => return Err(io_at(&path)(errno.into())),
                // Its holder was killed; an agent it started may have outlived it.
                Ok(()) if told(ports.first) => taken.push(ports),
                Ok(()) => match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&path)(error)),
                    _ => {}
                },
            }
        }
        Ok(taken)
    }

    fn hold(&self, ports: PortRange) -> Result<Block, Error> {
        let path = self.folder.join(ports.to_string());
        let file = open(&path).map_err(io_at(&path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| io_at(&path)(errno.into()))?;
        Ok(Block { ports, path, _lock: file })
    }
}

impl Block {
    /// What an agent is told: the first port twice, by our name and by the one servers look for, and all of them.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let all: Vec<String> = (self.ports.first..=self.ports.last).map(|port| port.to_string()).collect();
        let first = self.ports.first.to_string();
        [("QUORATE_PORT", first.clone()), ("QUORATE_PORTS", all.join(",")), ("PORT", first)]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // The lock goes with the file right after; a file that stays is taken for one of a process that was killed.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The block that begins there; an error where the range ends before it does.
fn block(first: u32, each: u16, range: PortRange) -> Result<PortRange, ()> {
    let last = first + u32::from(each.max(1)) - 1;
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) if last <= range.last => Ok(PortRange { first, last }),
        _ => Err(()),
    }
}

fn overlap(a: PortRange, b: PortRange) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The last of the ports that somebody listens on; a block may begin behind it.
fn busy(ports: PortRange) -> Result<Option<u16>, Error> {
    for port in (ports.first..=ports.last).rev() {
        let four = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        match four.map(drop).map_err(|error| (error.kind(), error)) {
            Ok(()) => {}
            Err((io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied, _)) => return Ok(Some(port)),
            Err((_, error)) => return Err(Error::NoNetwork(error)),
        }
        // A machine may be without version 6.
        let six = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        if six.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            return Ok(Some(port));
        }
    }
    Ok(None)
}

/// Whether a process lives that was told this block. Where the system does not say, binding has to do.
fn told(first: u16) -> bool {
    let needle = format!("QUORATE_PORT={first}");
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).any(
        |entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes())
        },
    )
}
