//! Which nodes of this user work on this machine now, and how to end them.
//!
//! Each node holds a file in a folder of the user's, locked for as long as its process lives: the lock, not what is written, says that it is
//! there.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_base::RunId;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Between looks at whether a node has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long a node that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use {}, where nodes are found: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} belongs to somebody else: remove it, or set XDG_RUNTIME_DIR to a folder of your own", path.display())]
    Foreign { path: PathBuf },
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

/// Where the nodes of this user are found: below `XDG_RUNTIME_DIR`, or in the folder for temporary files.
fn folder() -> Result<PathBuf, Error> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute());
    let user = rustix::process::geteuid().as_raw();
    let path = match own {
        Some(own) => PathBuf::from(own).join("quorate"),
        None => std::env::temp_dir().join(format!("quorate-{user}")),
    };
    let failed = |source| Error::Folder { path: path.clone(), source };
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    // In a folder that others can write to, somebody may have been there first.
    let metadata = fs::symlink_metadata(&path).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != user {
        return Err(Error::Foreign { path });
    }
    let nodes = path.join("nodes");
    match fs::DirBuilder::new().mode(0o700).create(&nodes) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(nodes),
    }
}

/// Makes this process known as the node of a run.
pub fn register(run: &RunId, workspace: &Path) -> Result<Registered, Error> {
    let path = folder()?.join(format!("{}-{run}", std::process::id()));
    let failed = |source| Error::Folder { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let mut file = file.map_err(failed)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(errno.into()))?;
    let text = [workspace.as_os_str().as_bytes(), b"\n"].concat();
    file.write_all(&text).map_err(failed)?;
    Ok(Registered { path, _file: file })
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
        let _ = fs::remove_file(path);
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
        }
        // A node that ends well leaves nothing, and one that was killed takes its agents with it, but for those that have made sure not to.
        quorate_agents::reap_orphans(node.run.as_str());
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
