//! What this machine offers to hold a tree of processes together and within bounds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::command::Limits;
use crate::sandbox::{Offer, SandboxLayer};

/// The layers a machine offers, found out once.
#[derive(Debug, Clone)]
pub struct Containment {
    hierarchy: Option<Arc<Hierarchy>>,
    sandbox: Offer,
}

/// A writable cgroup v2 hierarchy.
#[derive(Debug)]
struct Hierarchy {
    /// The folder below which groups are made.
    root: PathBuf,
    memory: bool,
    pids: bool,
    next: AtomicU64,
}

/// One thing this machine can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub name: String,
    pub works: bool,
    pub detail: String,
    /// How to get it.
    pub hint: String,
}

/// Name of the folder all groups are made in.
const FOLDER: &str = "quorate";

impl Containment {
    /// Finds out what works here, by trying it.
    pub fn probe() -> Self {
        let found = mount_point().and_then(|root| Hierarchy::open(&root.join(FOLDER)).ok());
        Self { hierarchy: found.map(Arc::new), sandbox: Offer::probe() }
    }

    /// For a process that is itself contained: groups of its children lie inside its own, and die with it.
    pub fn nested() -> Self {
        let found = mount_point().zip(own_group()).and_then(|(root, own)| Hierarchy::inside(&root.join(own)));
        Self { hierarchy: found.map(Arc::new), sandbox: Offer::probe() }
    }

    /// Without any layer but sessions and `/proc`, whatever the machine offers.
    pub fn plain() -> Self {
        Self { hierarchy: None, sandbox: Offer::default() }
    }

    /// What holds here, for people.
    pub fn describe(&self) -> Vec<Layer> {
        let layer = |name: &str, works: bool, detail: &str, hint: &str| Layer {
            name: name.to_owned(),
            works,
            detail: detail.to_owned(),
            hint: hint.to_owned(),
        };
        let group = self.hierarchy.as_deref();
        let delegate = "run as a user with a delegated cgroup v2 (systemd: Delegate=yes)";
        let mut layers = vec![
            layer("process group and session", true, "every process starts in its own", ""),
            layer(
                "cgroup v2 kill",
                group.is_some(),
                group.map_or("no writable cgroup v2 with cgroup.kill", |_| "whole trees end at once"),
                delegate,
            ),
            layer(
                "cgroup v2 memory",
                group.is_some_and(|group| group.memory),
                if group.is_some_and(|group| group.memory) {
                    "the kernel holds the memory limit"
                } else {
                    "no memory controller: a watchdog samples resident memory, RLIMIT_DATA is the backstop"
                },
                delegate,
            ),
            layer(
                "cgroup v2 pids",
                group.is_some_and(|group| group.pids),
                if group.is_some_and(|group| group.pids) {
                    "the kernel holds the process limit"
                } else {
                    "no pids controller: the number of processes is not bounded"
                },
                delegate,
            ),
            layer("CPU time limit", true, "a watchdog sums the tree; RLIMIT_CPU for each process", ""),
            layer("open files limit", true, "RLIMIT_NOFILE", ""),
        ];
        for (wall, name) in [
            (SandboxLayer::Landlock, "sandbox: landlock"),
            (SandboxLayer::Seccomp, "sandbox: seccomp"),
            (SandboxLayer::Namespaces, "sandbox: namespaces"),
        ] {
            layers.push(layer(name, self.sandbox.has(wall), &self.sandbox.detail(wall), wall.hint()));
        }
        layers
    }

    /// What it offers for a sandbox.
    pub(crate) fn sandbox(&self) -> &Offer {
        &self.sandbox
    }

    /// A group for one tree, where the machine has groups.
    pub(crate) fn group(&self, marker: &str, limits: &Limits) -> Option<Group> {
        self.hierarchy.as_ref()?.group(marker, limits).ok()
    }
}

/// The group this process is in, below the mount point, if it is one of ours.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    own.starts_with(&format!("{FOLDER}/")).then(|| PathBuf::from(own))
}

fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (point, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// A marker as a folder name: never a path.
fn folder_name(marker: &str) -> String {
    marker
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' })
        .collect()
}

impl Hierarchy {
    fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        // Without it a tree cannot be ended at once, and the group would be worth little.
        fs::metadata(root.join("cgroup.kill"))?;
        let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let enable = |name: &str| {
            offered.split_whitespace().any(|offer| offer == name)
                && fs::write(root.join("cgroup.subtree_control"), format!("+{name}")).is_ok()
        };
        Ok(Self {
            root: root.to_owned(),
            memory: enable("memory"),
            pids: enable("pids"),
            next: AtomicU64::new(0),
        })
    }

    /// Groups inside a group that has processes: the kernel gives those no controllers, but ends them all the same.
    fn inside(own: &Path) -> Option<Self> {
        fs::metadata(own.join("cgroup.kill")).ok()?;
        Some(Self { root: own.to_owned(), memory: false, pids: false, next: AtomicU64::new(0) })
    }

    fn group(&self, marker: &str, limits: &Limits) -> io::Result<Group> {
        let run = self.root.join(folder_name(marker));
        fs::create_dir_all(&run)?;
        for (held, name) in [(self.memory, "memory"), (self.pids, "pids")] {
            if held {
                fs::write(run.join("cgroup.subtree_control"), format!("+{name}"))?;
            }
        }
        let name = format!("{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let path = run.join(name);
        fs::create_dir(&path)?;
        let group = Group { path, memory: self.memory, pids: self.pids };
        if self.memory {
            fs::write(group.path.join("memory.max"), limits.memory.0.to_string())?;
            // Where swap is accounted, it must not be a way around the limit.
            let _ = fs::write(group.path.join("memory.swap.max"), "0");
            let _ = fs::write(group.path.join("memory.oom.group"), "1");
        }
        if self.pids {
            fs::write(group.path.join("pids.max"), limits.processes.to_string())?;
        }
        Ok(group)
    }
}

/// The control group of one tree; removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    pub(crate) memory: bool,
    pub(crate) pids: bool,
}

impl Group {
    /// File whose writer moves itself into the group.
    pub(crate) fn entrance(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    pub(crate) fn kill(&self) -> bool {
        fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }

    /// Stops everything in the group where it is; whoever is started in it later stands still too.
    pub(crate) fn freeze(&self) -> bool {
        fs::write(self.path.join("cgroup.freeze"), "1").is_ok()
    }

    pub(crate) fn thaw(&self) {
        let _ = fs::write(self.path.join("cgroup.freeze"), "0");
    }

    /// Whether [`Group::freeze`] can work.
    pub(crate) fn can_freeze(&self) -> bool {
        self.path.join("cgroup.freeze").exists()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        pids_below(&self.path)
    }

    /// The kernel ended something in here for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }

    pub(crate) fn memory_peak(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.peak")).ok()?.trim().parse().ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
        // The run's own folder goes with its last group.
        if let Some(run) = self.path.parent() {
            let _ = fs::remove_dir(run);
        }
    }
}

fn pids_below(path: &Path) -> Vec<u32> {
    let mut pids: Vec<u32> = fs::read_to_string(path.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(pids_below(&entry.path()));
        }
    }
    pids
}

fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Ends everything in the groups of a marker; answers which processes that were.
pub(crate) fn kill_marked(marker: &str) -> Vec<u32> {
    let Some(root) = mount_point() else { return Vec::new() };
    let run = root.join(FOLDER).join(folder_name(marker));
    if !run.is_dir() {
        return Vec::new();
    }
    let pids = pids_below(&run);
    let _ = fs::write(run.join("cgroup.kill"), "1");
    pids
}

/// Removes the empty groups of a marker.
pub(crate) fn remove_marked(marker: &str) {
    if let Some(root) = mount_point() {
        remove(&root.join(FOLDER).join(folder_name(marker)));
    }
}
