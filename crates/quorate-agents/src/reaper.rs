//! Processes that came to this one because their own parents ended.
//!
//! Once anything has been started, this process adopts orphans of the trees below it, so that ancestry never ends
//! before it does. A process is adopted if its parent is this one, its session is not, and no supervisor waits for it:
//! every tree has sessions of its own, while other children (git, for one) share this process's.

use std::collections::BTreeMap;
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

/// The adopted among all processes. Those that have ended are waited for and gone; those in the group of a leader that
/// lives are its own and not answered.
pub(crate) fn adopted(all: &BTreeMap<u32, Process>) -> Vec<u32> {
    let own = std::process::id();
    let Some(session) = all.get(&own).map(|process| process.session) else { return Vec::new() };
    let leaders = leaders();
    let mut alive = Vec::new();
    for (pid, process) in all {
        if process.parent != own || process.session == session || leaders.contains_key(pid) {
            continue;
        }
        // Looked at again under the lock: a leader may have come since.
        let Some(now) = tree::process(*pid).filter(|now| now.started == process.started && now.parent == own)
        else {
            continue;
        };
        if now.session == session {
            continue;
        }
        if !now.ended {
            alive.push(*pid);
        } else if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
    if !alive.is_empty() {
        let owned = containment::members(leaders.values().flatten());
        alive.retain(|pid| !owned.contains(pid));
    }
    alive
}
