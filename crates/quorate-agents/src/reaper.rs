//! Processes that came to this one because their own parents ended.
//!
//! Once anything has been started, this process adopts orphans of the trees below it, so that ancestry never ends
//! before it does. A process is adopted if its parent is this one, its session is not, and no supervisor waits for it:
//! every tree has sessions of its own, while other children (git, for one) share this process's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::containment::{self, Group};
use crate::tree::{self, Process};

/// The leaders that supervisors wait for, with the folders of their groups.
static LEADERS: Mutex<BTreeMap<u32, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());
static ADOPTS: Once = Once::new();

fn leaders() -> MutexGuard<'static, BTreeMap<u32, Vec<PathBuf>>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child and enters it as a leader, with nobody in between who could take it for adopted.
pub(crate) fn start(command: &mut std::process::Command, group: Option<&Group>) -> io::Result<Child> {
    ADOPTS.call_once(|| {
        // Where the kernel refuses, orphans go to the next process that adopts, and are found by group and marker.
        let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    });
    let mut leaders = leaders();
    let child = command.spawn()?;
    let folders = group.map(|group| group.paths().cloned().collect()).unwrap_or_default();
    leaders.insert(child.id(), folders);
    Ok(child)
}

/// A leader has been waited for.
pub(crate) fn left(leader: u32) {
    leaders().remove(&leader);
}

/// Tells the adopted from all other processes. As long as it lives, nobody is started.
#[derive(Debug)]
pub(crate) struct Adopted {
    leaders: MutexGuard<'static, BTreeMap<u32, Vec<PathBuf>>>,
    own: u32,
    session: u32,
    /// Who is in the group of a leader that lives.
    owned: BTreeSet<u32>,
}

impl Adopted {
    pub(crate) fn now() -> Self {
        let leaders = leaders();
        let own = std::process::id();
        // Without `/proc` nobody is found at all.
        let session = tree::process(own).map_or(0, |process| process.session);
        Self { owned: containment::members(leaders.values().flatten()), leaders, own, session }
    }

    /// Whether a process has come to this one, and belongs to no tree that lives.
    pub(crate) fn has(&self, pid: u32, process: &Process) -> bool {
        self.is_child(pid, process) && !self.owned.contains(&pid)
    }

    fn is_child(&self, pid: u32, process: &Process) -> bool {
        process.parent == self.own && process.session != self.session && !self.leaders.contains_key(&pid)
    }

    /// Waits for the adopted who have ended, so that nothing is left of them.
    pub(crate) fn reap(&self) {
        tree::each(|pid, process| {
            if !process.ended || !self.is_child(pid, process) {
                return;
            }
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        });
    }
}
