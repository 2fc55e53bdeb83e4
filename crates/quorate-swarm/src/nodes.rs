//! Which nodes of this user work on this machine now, and how to end them.
//!
//! Each node holds a file in a folder of the user's, locked for as long as its process lives: the lock, not what is written, says that it is
//! there.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_base::RunId;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::user;

/// Between looks at whether a node has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long a node that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use {}, where nodes are found: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("the folder {}, where nodes are found, {reason}; mend that, or name another with XDG_STATE_HOME", path.display())]
    Unusable { path: PathBuf, reason: String },
}

/// A node that is known to others until this is dropped.
#[derive(Debug)]
pub struct Registered {
    path: PathBuf,
    _file: File,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A node at work.
#[derive(Debug)]
pub struct Working {
    pub run: RunId,
    pub pid: u32,
    pub workspace: PathBuf,
    path: PathBuf,
}

/// How a node was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// As it ends when it is asked: the run can be resumed.
    Stopped,
    /// It did not end in time and was killed: the run can be resumed all the same.
    Killed,
    /// It had ended by itself.
    Gone,
}

fn folder() -> Result<PathBuf, Error> {
    let path = user::folder("nodes");
    match user::prepare(&path) {
        Ok(()) => Ok(path),
        Err(reason) => Err(Error::Unusable { path, reason }),
    }
}

/// Makes this process known as the node of a run.
pub fn register(run: &RunId, workspace: &Path) -> Result<Registered, Error> {
    hold(&folder()?.join(format!("{}-{run}", std::process::id())), workspace)
}

fn hold(path: &Path, workspace: &Path) -> Result<Registered, Error> {
    let failed = |source| Error::Folder { path: path.to_owned(), source };
    let _turn = turn(path).map_err(failed)?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.map_err(failed)?;
    // Whoever is looking now lets go at once.
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    let text = [workspace.as_os_str().as_bytes(), b"\n"].concat();
    file.write_all(&text).map_err(failed)?;
    Ok(Registered { path: path.to_owned(), _file: file })
}

/// Keeps apart those who make a file and those who remove what dead nodes left.
fn turn(path: &Path) -> io::Result<File> {
    let folder = File::open(path.parent().unwrap_or_else(|| Path::new("/")))?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Whether the process that made this file lives.
fn is_held(path: &Path) -> bool {
    let held = |file: File| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    };
    File::open(path).is_ok_and(held)
}

/// All nodes of this user that work now. What dead ones left is removed.
pub fn working() -> Result<Vec<Working>, Error> {
    let folder = folder()?;
    let entries = fs::read_dir(&folder).map_err(|source| Error::Folder { path: folder.clone(), source })?;
    let mut found: Vec<Working> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    found.sort_by(|one, other| one.run.cmp(&other.run));
    Ok(found)
}

fn read(path: &Path) -> Option<Working> {
    let name = path.file_name()?.to_str()?;
    let (pid, run) = name.split_once('-')?;
    let (pid, run) = (pid.parse().ok()?, RunId::new(run).ok()?);
    if !is_held(path) {
        let _turn = turn(path).ok()?;
        if !is_held(path) {
            let _ = fs::remove_file(path);
        }
        return None;
    }
    let mut workspace = Vec::new();
    File::open(path).ok()?.read_to_end(&mut workspace).ok()?;
    let workspace = workspace.strip_suffix(b"\n").unwrap_or(&workspace);
    Some(Working { run, pid, workspace: PathBuf::from(OsStr::from_bytes(workspace)), path: path.to_owned() })
}

/// Asks nodes to end, all at once, and kills those that have not after `patience`. Whatever processes of their runs are left is ended too.
pub fn stop(nodes: &[Working], patience: Duration) -> Vec<(Ended, Duration)> {
    let begun = Instant::now();
    let asked: Vec<_> = nodes.iter().map(|node| node.signal(Signal::TERM)).collect();
    let deadline = begun + patience;
    let stop = |(node, asked): (&Working, bool)| {
        let mut ended = if asked { Ended::Stopped } else { Ended::Gone };
        if !node.is_gone_by(deadline) {
            ended = Ended::Killed;
            node.signal(Signal::KILL);
            node.is_gone_by(Instant::now() + GONE);
            // It takes its agents with it, but for those that have made sure not to; a node that ends well leaves nothing.
            quorate_agents::reap_orphans(node.run.as_str());
        }
        (ended, begun.elapsed())
    };
    nodes.iter().zip(asked).map(stop).collect()
}

impl Working {
    /// Whether the signal reached the node, and not a later process of the same number.
    fn signal(&self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(handle)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return false };
        // Held now, and so by the process that the handle is of.
        is_held(&self.path) && pidfd_send_signal(&handle, signal).is_ok()
    }

    fn is_gone_by(&self, deadline: Instant) -> bool {
        while is_held(&self.path) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_looked_at_while_it_is_taken_is_held_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1-r");
        let looking = std::thread::spawn({
            let path = path.clone();
            move || (0..20_000).filter(|_| path.exists() && read(&path).is_none()).count()
        });
        for _ in 0..2_000 {
            let held = hold(&path, Path::new("/w")).unwrap();
            assert!(is_held(&path), "whoever looked has not removed it");
            drop(held);
        }
        looking.join().unwrap();
    }
}
