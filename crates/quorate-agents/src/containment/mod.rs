//! What this machine offers to hold a tree of processes together and within bounds.
//!
//! Each bound is held by the strongest layer there is: a cgroup v2 with the controller for it, else a cgroup v1, else
//! limits of single processes with a watchdog over the tree. Groups of both versions can be in use for one tree, since
//! a controller belongs to one of them.

mod group;
mod mounts;
mod offer;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use group::Group;
pub(crate) use group::{kill_marked, members_marked, remove_marked};
use offer::Offer;

use crate::command::Limits;
use crate::sandbox::{self, SandboxLayer};

/// Name of the folder all groups are made in.
const FOLDER: &str = "quorate";

/// The layers a machine offers, found out once.
#[derive(Debug, Clone)]
pub struct Containment {
    offer: Option<Arc<Offer>>,
    sandbox: sandbox::Offer,
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

/// What a control group can bound or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    Freezer,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Freezer];

    /// The kernel's name for it.
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Freezer => "freezer",
        }
    }

    /// A file that a v1 group with it has, and the top of the hierarchy need not have.
    const fn file(self) -> &'static str {
        match self {
            Self::Memory => "memory.limit_in_bytes",
            Self::Pids => "pids.max",
            Self::Cpu => "cpu.cfs_quota_us",
            Self::Freezer => "freezer.state",
        }
    }
}

impl Containment {
    /// Finds out what works here, by trying it.
    pub fn probe() -> Self {
        Self::of(Offer::find(FOLDER), sandbox::Offer::probe())
    }

    /// As [`Containment::probe`], without cgroup v2, whatever the machine offers.
    pub fn probe_v1() -> Self {
        Self::of(Offer { v2: None, ..Offer::find(FOLDER) }, sandbox::Offer::probe())
    }

    /// For a process that is itself contained: groups of its children lie inside its own, and die with it.
    pub fn nested() -> Self {
        Self::of(Offer::inside(FOLDER), sandbox::Offer::probe())
    }

    /// Without any layer but sessions and `/proc`, whatever the machine offers.
    pub fn plain() -> Self {
        Self::of(Offer::default(), sandbox::Offer::default())
    }

    fn of(offer: Offer, sandbox: sandbox::Offer) -> Self {
        Self { offer: (!offer.is_empty()).then(|| Arc::new(offer)), sandbox }
    }

    /// What it offers for a sandbox.
    pub(crate) fn sandbox(&self) -> &sandbox::Offer {
        &self.sandbox
    }

    /// What holds here, for people.
    pub fn describe(&self) -> Vec<Layer> {
        let layer = |name: &str, works: bool, detail: String, hint: &str| Layer {
            name: name.to_owned(),
            works,
            detail,
            hint: hint.to_owned(),
        };
        let holds = |controller| self.offer.as_ref().and_then(|offer| offer.holds(controller));
        let version = |controller, what: &str| holds(controller).map(|version| format!("{version}: {what}"));
        let delegate = "run where this user may make groups at the top of cgroup v2 or v1, as root or in a container of its own";
        let ending = self.offer.as_ref().and_then(|offer| offer.ending());
        let pausing = self.offer.as_ref().and_then(|offer| offer.pausing());
        let memory = version(Controller::Memory, "the kernel holds it over the whole tree");
        let pids = version(Controller::Pids, "the kernel holds it over the whole tree");
        let cpu = version(Controller::Cpu, "the kernel holds `cpus` over the whole tree");
        let pressure = std::fs::metadata("/proc/pressure/memory").is_ok();
        let mut layers = vec![
            layer("process group and session", true, "every process starts in its own".into(), ""),
            layer(
                "end of whole trees",
                ending.is_some(),
                ending.unwrap_or("no control group: by session, ancestry and marker, one by one").into(),
                delegate,
            ),
            layer(
                "memory limit",
                memory.is_some(),
                memory.unwrap_or_else(|| {
                    "no memory controller: a watchdog samples resident memory, RLIMIT_DATA is the backstop"
                        .into()
                }),
                delegate,
            ),
            layer(
                "process limit",
                pids.is_some(),
                pids.unwrap_or_else(|| {
                    format!("no pids controller: for this user {} over the tree", processes_without_group())
                }),
                delegate,
            ),
            layer(
                "CPU share limit",
                cpu.is_some(),
                cpu.unwrap_or_else(|| "no cpu controller: `cpus` is not held".into()),
                delegate,
            ),
            layer(
                "pausing",
                true,
                pausing.unwrap_or("SIGSTOP to every member, again at every look").into(),
                "",
            ),
            layer("CPU time limit", true, "a watchdog sums the tree; RLIMIT_CPU for each process".into(), ""),
            layer(
                "disk limit",
                true,
                "a watchdog walks the worktree and the temporary folder; RLIMIT_FSIZE for each file".into(),
                "",
            ),
            layer("output limit", true, "a watchdog sums both files; RLIMIT_FSIZE for each file".into(), ""),
            layer("idle limit", true, "a watchdog looks for output, CPU time and changed files".into(), ""),
            layer("open files limit", true, "RLIMIT_NOFILE for each process".into(), ""),
            layer(
                "memory pressure",
                pressure,
                if pressure {
                    "the kernel tells it in /proc/pressure/memory".into()
                } else {
                    "no /proc/pressure/memory: judged by what is available alone".into()
                },
                "a kernel with CONFIG_PSI, started without psi=0",
            ),
        ];
        for (wall, name) in [
            (SandboxLayer::Landlock, "sandbox: landlock"),
            (SandboxLayer::Seccomp, "sandbox: seccomp"),
            (SandboxLayer::Namespaces, "sandbox: namespaces"),
        ] {
            layers.push(layer(name, self.sandbox.has(wall), self.sandbox.detail(wall), wall.hint()));
        }
        layers
    }

    /// A group for one tree, where the machine has groups.
    pub(crate) fn group(&self, marker: &str, limits: &Limits) -> Option<Group> {
        Group::create(self.offer.as_ref()?, &folder_name(marker), limits)
    }
}

/// What bounds processes where no group does. The kernel does not hold root to RLIMIT_NPROC.
pub(crate) fn processes_without_group() -> &'static str {
    if rustix::process::getuid().is_root() { "watchdog" } else { "watchdog and RLIMIT_NPROC" }
}

/// Where groups are mounted that can bound the memory of this process, the group it is in, and whether that is of
/// version 2.
pub(crate) fn own_memory_group() -> Option<(PathBuf, PathBuf, bool)> {
    if let Some((mount, own)) = mounts::v1(Controller::Memory).zip(mounts::own(Some(Controller::Memory))) {
        let group = mount.join(own);
        // Seen from inside a container, the mount is the container's own group.
        let group = if group.is_dir() { group } else { mount.clone() };
        return Some((mount, group, false));
    }
    let (mount, own) = mounts::v2().zip(mounts::own(None))?;
    let group = mount.join(own);
    let group = if group.is_dir() { group } else { mount.clone() };
    Some((mount, group, true))
}

/// A marker as a folder name: never a path.
fn folder_name(marker: &str) -> PathBuf {
    let name: String = marker
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' })
        .collect();
    PathBuf::from(name)
}
