//! Processes that came to this one because their own parents ended.
//!
//! Once anything has been started, this process adopts orphans of the trees below it, so that ancestry never ends
//! before it does. A process is adopted if its parent is this one, its session is not, and no supervisor waits for it:
//! every tree has sessions of its own, while other children (git, for one) share this process's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, Once, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::containment::Group;
use crate::tree::{self, Process};

/// The leaders that supervisors wait for, with the folders of their groups.
static LEADERS: Mutex<BTreeMap<u32, Vec<PathBuf>>> = Mutex::new(BTreeMap::new());
/// The folders of the groups of all trees, those included that are being started: a process is in its groups before it has
/// a session of its own.
static GROUPS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Held by those who start a leader without a group until it is entered, many at once; and by whoever tells the adopted
/// from all others.
static STARTING: RwLock<()> = RwLock::new(());
static ADOPTS: Once = Once::new();
/// Between looks for adopted processes that have ended, by whoever comes first.
const AGAIN: Duration = Duration::from_secs(1);

fn groups() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a process is in one of these groups, or in one below.
fn is_in(pid: u32, groups: &BTreeSet<PathBuf>) -> bool {
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut groups_of = paths.map(|path| Path::new(path.trim_start_matches('/')).ancestors());
    groups_of.any(|mut ancestors| {
        ancestors.any(|path| path != Path::new("") && groups.iter().any(|group| group.ends_with(path)))
    })
}

fn leaders() -> MutexGuard<'static, BTreeMap<u32, Vec<PathBuf>>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child and enters it as a leader, with nobody in between who could take it for adopted.
pub(crate) fn start(command: &mut std::process::Command, group: Option<&Group>) -> io::Result<Child> {
    ADOPTS.call_once(|| {
        // Where the kernel refuses, orphans go to the next process that adopts, and are found by group and marker.
        let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    });
    let starting = || STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let _starting = group.is_none().then(starting);
    let folders: Vec<PathBuf> = group.map(|group| group.paths().cloned().collect()).unwrap_or_default();
    groups().extend(folders.iter().cloned());
    match command.spawn() {
        Ok(child) => {
            leaders().insert(child.id(), folders);
            Ok(child)
        }
        Err(error) => {
            forget(&folders);
            Err(error)
        }
    }
}

/// A leader has been waited for.
pub(crate) fn left(leader: u32) {
    let folders = leaders().remove(&leader).unwrap_or_default();
    forget(&folders);
}

fn forget(folders: &[PathBuf]) {
    let mut groups = groups();
    for folder in folders {
        groups.remove(folder);
    }
}

/// The adopted processes among those that were seen. As long as it lives, nobody is started, and no number of theirs is
/// anybody else's.
#[derive(Debug)]
pub(crate) struct Adopted {
    pids: BTreeSet<u32>,
    _nobody_starts: Option<RwLockWriteGuard<'static, ()>>,
}

impl Adopted {
    /// Of those that there are now.
    pub(crate) fn now() -> Self {
        Self::of(&tree::all())
    }

    /// Of those that there were a moment ago, and still are.
    pub(crate) fn of(all: &BTreeMap<u32, Process>) -> Self {
        let own = std::process::id();
        // Without `/proc` nobody is found at all.
        let session = all.get(&own).map_or(0, |process| process.session);
        let is_child = |process: &Process| process.parent == own && process.session != session;
        let apart = |leaders: &BTreeMap<u32, Vec<PathBuf>>| -> Vec<(u32, u64)> {
            let apart = all.iter().filter(|(pid, process)| is_child(process) && !leaders.contains_key(pid));
            apart.map(|(pid, process)| (*pid, process.started)).collect()
        };
        // Nearly always nobody: then nothing has to stand still for it.
        let mut found = apart(&leaders());
        if !found.is_empty() {
            let groups = groups().clone();
            found.retain(|(pid, _)| !is_in(*pid, &groups));
        }
        if found.is_empty() {
            return Self { pids: BTreeSet::new(), _nobody_starts: None };
        }
        let nobody_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        let leaders = leaders();
        let still = |(pid, started): &(u32, u64)| {
            let now = tree::process(*pid);
            now.is_some_and(|now| now.started == *started && is_child(&now)) && !leaders.contains_key(pid)
        };
        let mut pids: BTreeSet<u32> = found.into_iter().filter(still).map(|(pid, _)| pid).collect();
        if !pids.is_empty() {
            let groups = groups().clone();
            pids.retain(|pid| !is_in(*pid, &groups));
        }
        Self { pids, _nobody_starts: Some(nobody_starts) }
    }

    /// Whether a process has come to this one, and belongs to no tree that lives.
    pub(crate) fn has(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }

    /// Waits for the adopted who have ended, so that nothing is left of them.
    pub(crate) fn reap(&self) {
        for pid in self.pids.iter().filter_map(|pid| i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Waits for adopted processes that have ended, now and then: nobody else does.
pub(crate) fn reap_now_and_then() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let Ok(mut last) = LAST.try_lock() else { return };
    if last.is_none_or(|last| last.elapsed() >= AGAIN) {
        *last = Some(Instant::now());
        Adopted::of(&tree::all_since(Instant::now())).reap();
    }
}
