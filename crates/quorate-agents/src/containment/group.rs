//! The control groups of one tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::offer::Offer;
use super::{Controller, FOLDER, folder_name, mounts};
use crate::command::Limits;

/// The period over which the kernel counts CPU time against `cpus`, and the smallest share of it that it takes.
const PERIOD_US: u64 = 100_000;
const QUOTA_US_MIN: u64 = 1_000;
/// How long freezing or removing a group of version 1 may take before it is given up.
const PATIENCE: Duration = Duration::from_millis(200);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The control groups of one tree, at most one in each hierarchy; removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    v2: Option<PathBuf>,
    v2_holds: Vec<Controller>,
    v1: BTreeMap<Controller, PathBuf>,
}

impl Group {
    /// Makes the groups and sets their limits. What cannot be made is left to the layers below; nothing where that is
    /// everything.
    pub(super) fn create(offer: &Offer, run: &Path, limits: &Limits) -> Option<Self> {
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut group = Self { v2: None, v2_holds: Vec::new(), v1: BTreeMap::new() };
        if let Some(v2) = &offer.v2 {
            let run = v2.root.join(run);
            let path = run.join(&name);
            fs::create_dir_all(&run).ok();
            let bounding =
                || v2.controllers.iter().filter(|one| wanted(**one, limits) && **one != Controller::Freezer);
            for controller in bounding() {
                let _ = fs::write(run.join("cgroup.subtree_control"), format!("+{}", controller.name()));
            }
            if fs::create_dir(&path).is_ok() {
                let set = |controller: &Controller| set_v2(&path, *controller, limits).is_ok();
                group.v2_holds = bounding().copied().filter(set).collect();
                group.v2 = Some(path);
            }
        }
        for (controller, root) in &offer.v1 {
            // Version 2 pauses better, where it is there.
            if !wanted(*controller, limits) || (*controller == Controller::Freezer && group.v2.is_some()) {
                continue;
            }
            let path = root.join(run).join(&name);
            if fs::create_dir_all(&path).is_err() {
                continue;
            }
            if set_v1(&path, *controller, limits).is_ok() {
                group.v1.insert(*controller, path);
            } else {
                remove_with_run(&path);
            }
        }
        (group.v2.is_some() || !group.v1.is_empty()).then_some(group)
    }

    /// Files whose writer moves itself into the groups.
    pub(crate) fn entrances(&self) -> io::Result<Vec<File>> {
        let open = |path: &PathBuf| OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        self.paths().map(open).collect()
    }

    /// The version whose kernel side holds this limit.
    pub(crate) fn holds(&self, controller: Controller) -> Option<&'static str> {
        if self.v2_holds.contains(&controller) {
            return Some("cgroup v2");
        }
        self.v1.contains_key(&controller).then_some("cgroup v1")
    }

    /// How the tree is ended.
    pub(crate) fn ending(&self) -> &'static str {
        match (&self.v2, self.v1.contains_key(&Controller::Freezer)) {
            (Some(_), _) => "cgroup v2 kill",
            (None, true) => "cgroup v1 freezer",
            (None, false) => "cgroup v1",
        }
    }

    /// Whether one call ends everybody in it, those included who are being started.
    pub(crate) fn ends_at_once(&self) -> bool {
        self.v2.is_some()
    }

    /// Ends everything in the groups, as far as one call can.
    pub(crate) fn kill(&self) {
        let killed = self.v2.as_ref().is_some_and(|path| fs::write(path.join("cgroup.kill"), "1").is_ok());
        // Nobody in it starts another process from now on.
        if let Some(path) = self.v1.get(&Controller::Pids) {
            let _ = fs::write(path.join("pids.max"), "0");
        }
        if killed {
            return;
        }
        let frozen = self.freeze();
        for pid in self.pids() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        // What is frozen dies only once it is thawed.
        if frozen {
            self.thaw();
        }
    }

    /// Stops everything in the groups where it is; whether that worked.
    pub(crate) fn freeze(&self) -> bool {
        if let Some(path) = &self.v2 {
            return fs::write(path.join("cgroup.freeze"), "1").is_ok();
        }
        let Some(path) = self.v1.get(&Controller::Freezer) else { return false };
        let state = path.join("freezer.state");
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Written again, it also takes those who came while the others were being stopped.
            if fs::write(&state, "FROZEN").is_err() {
                return false;
            }
            let frozen = fs::read_to_string(&state).is_ok_and(|state| state.trim() == "FROZEN");
            if frozen || Instant::now() > deadline {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn thaw(&self) {
        if let Some(path) = &self.v2 {
            let _ = fs::write(path.join("cgroup.freeze"), "0");
        }
        if let Some(path) = self.v1.get(&Controller::Freezer) {
            let _ = fs::write(path.join("freezer.state"), "THAWED");
        }
    }

    /// Whether [`Group::freeze`] can work.
    pub(crate) fn can_freeze(&self) -> bool {
        self.v2.is_some() || self.v1.contains_key(&Controller::Freezer)
    }

    pub(crate) fn pids(&self) -> BTreeSet<u32> {
        let mut pids = BTreeSet::new();
        for path in self.paths() {
            pids_below(path, &mut pids);
        }
        pids
    }

    /// The folders, for somebody who wants to know who is in them later.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.v2.iter().chain(self.v1.values())
    }

    /// The kernel ended something in here for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let path = match (&self.v2, self.v1.get(&Controller::Memory)) {
            (_, Some(path)) => path.join("memory.oom_control"),
            (Some(path), None) => path.join("memory.events"),
            (None, None) => return false,
        };
        counted(&path, "oom_kill").is_some_and(|count| count > 0)
    }

    /// The kernel refused to start something in here.
    pub(crate) fn ran_out_of_processes(&self) -> bool {
        let path = match (&self.v2, self.v1.get(&Controller::Pids)) {
            (_, Some(path)) => path,
            (Some(path), None) => path,
            (None, None) => return false,
        };
        counted(&path.join("pids.events"), "max").is_some_and(|count| count > 0)
    }

    /// Largest use of memory the kernel counted, caches of files included.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        let path = match (&self.v2, self.v1.get(&Controller::Memory)) {
            (_, Some(path)) => path.join("memory.max_usage_in_bytes"),
            (Some(path), None) => path.join("memory.peak"),
            (None, None) => return None,
        };
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// CPU time of everything that was ever in the group, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> Option<u64> {
        let path = self.v2.as_ref()?;
        Some(counted(&path.join("cpu.stat"), "usage_usec")? / 1000)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in self.paths() {
            remove_with_run(path);
        }
    }
}

/// Whether a controller has anything to do. One for the CPU would weigh a whole tree as one process, so it is left out
/// where no share was asked for.
fn wanted(controller: Controller, limits: &Limits) -> bool {
    controller != Controller::Cpu || limits.cpus.is_some()
}

fn set_v2(path: &Path, controller: Controller, limits: &Limits) -> io::Result<()> {
    match controller {
        Controller::Memory => {
            fs::write(path.join("memory.max"), limits.memory.0.to_string())?;
            // Where swap is accounted, it must not be a way around the limit.
            let _ = fs::write(path.join("memory.swap.max"), "0");
            let _ = fs::write(path.join("memory.oom.group"), "1");
            Ok(())
        }
        Controller::Pids => fs::write(path.join("pids.max"), limits.processes.to_string()),
        Controller::Cpu => match limits.cpus {
            Some(cpus) => fs::write(path.join("cpu.max"), format!("{} {PERIOD_US}", quota_us(cpus))),
            None => Ok(()),
        },
        Controller::Freezer => Ok(()),
    }
}

fn set_v1(path: &Path, controller: Controller, limits: &Limits) -> io::Result<()> {
    match controller {
        Controller::Memory => {
            fs::write(path.join("memory.limit_in_bytes"), limits.memory.0.to_string())?;
            // Swap must not be a way around the limit: it is counted in, and not used where the kernel cannot count it.
            let both = path.join("memory.memsw.limit_in_bytes");
            if fs::write(both, limits.memory.0.to_string()).is_err() {
                fs::write(path.join("memory.swappiness"), "0")?;
            }
            Ok(())
        }
        Controller::Pids => fs::write(path.join("pids.max"), limits.processes.to_string()),
        Controller::Cpu => {
            if let Some(cpus) = limits.cpus {
                fs::write(path.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(path.join("cpu.cfs_quota_us"), quota_us(cpus).to_string())?;
            }
            Ok(())
        }
        Controller::Freezer => Ok(()),
    }
}

fn quota_us(cpus: u32) -> u64 {
    (u64::from(cpus) * PERIOD_US / 1000).max(QUOTA_US_MIN)
}

/// A number in a file of lines with a name and a number each.
fn counted(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}

/// Adds everybody in a group and in those below it.
fn pids_below(path: &Path, pids: &mut BTreeSet<u32>) {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    pids.extend(own.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids_below(&entry.path(), pids);
        }
    }
}

/// Everybody in the groups of these folders.
pub(crate) fn members<'a>(folders: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    folders.for_each(|folder| pids_below(folder, &mut pids));
    pids
}

fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let deadline = Instant::now() + PATIENCE;
    // A process that has just ended may still count for a moment.
    while fs::remove_dir(path).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        && Instant::now() < deadline
    {
        thread::sleep(Duration::from_millis(1));
    }
}

fn remove_with_run(path: &Path) {
    remove(path);
    // The run's own folder goes with its last group.
    if let Some(run) = path.parent() {
        let _ = fs::remove_dir(run);
    }
}

/// Every folder of a marker, in all hierarchies.
fn marked(marker: &str) -> Vec<PathBuf> {
    let name = folder_name(marker);
    let mut folders: Vec<PathBuf> = mounts::v2()
        .map(|root| root.join(FOLDER).join(&name))
        .filter(|run| run.is_dir())
        .into_iter()
        .collect();
    for controller in Controller::ALL {
        if let Some(mount) = mounts::v1(controller) {
            folders.extend(mounts::below(&mount, FOLDER, &name));
        }
    }
    folders.sort();
    folders.dedup();
    folders
}

/// Everybody in the groups of a marker.
pub(crate) fn members_marked(marker: &str) -> BTreeSet<u32> {
    members(marked(marker).iter())
}

/// Ends everybody in the groups of a marker where one call can, and else lets them be ended one by one.
pub(crate) fn kill_marked(marker: &str) {
    for run in marked(marker) {
        let _ = fs::write(run.join("cgroup.kill"), "1");
        thaw_below(&run);
    }
}

/// A node that was killed may have left groups frozen, in which nothing can end.
fn thaw_below(path: &Path) {
    for (file, word) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        let file = path.join(file);
        if file.exists() {
            let _ = fs::write(file, word);
        }
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw_below(&entry.path());
        }
    }
}

/// Removes the empty groups of a marker.
pub(crate) fn remove_marked(marker: &str) {
    for run in marked(marker) {
        remove(&run);
    }
}
