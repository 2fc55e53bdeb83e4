//! Opening what lies below a folder without ever going through a symbolic link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;

/// Whether folders that are missing on the way are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Make,
    Refuse,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder to start from.
pub(crate) fn root(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The folder of a path below `root`, and the path's last part. `ELOOP` or `ENOTDIR` where a link is on the way.
pub(crate) fn parent<'a>(
    root: &OwnedFd,
    path: &'a Path,
    missing: Missing,
) -> io::Result<(OwnedFd, &'a OsStr)> {
    let mut folder = root.try_clone()?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(Errno::INVAL.into()) };
        if parts.peek().is_none() {
            return Ok((folder, name));
        }
        if missing == Missing::Make {
            match mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        folder = openat(&folder, name, FOLDER, Mode::empty())?;
    }
    Err(Errno::INVAL.into())
}
