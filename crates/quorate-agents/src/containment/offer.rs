//! The hierarchies of control groups that can be used here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Controller, mounts};

/// The folders in which groups can be made.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) v2: Option<Unified>,
    /// One hierarchy for each controller that cgroup v2 does not have.
    pub(super) v1: BTreeMap<Controller, PathBuf>,
}

/// A writable cgroup v2 hierarchy that can end and pause whole groups.
#[derive(Debug, Clone)]
pub(super) struct Unified {
    pub(super) root: PathBuf,
    pub(super) controllers: Vec<Controller>,
}

impl Offer {
    /// Groups at the top of the hierarchies; inside this process's own where that is bounded from outside, so that no
    /// agent gets more than the node was given.
    pub(super) fn find(folder: &str) -> Self {
        let v2 = mounts::v2().and_then(|mount| Unified::open(&mount.join(folder)));
        Self::with(v2, |controller| {
            let mount = mounts::v1(controller)?;
            let own = mounts::own(Some(controller)).unwrap_or_default();
            let base = if bounded(controller, &mount, &own) { mount.join(own) } else { mount };
            let root = base.join(folder);
            fs::create_dir_all(&root).ok()?;
            // Only kernels before 5.11 have and need it.
            if controller == Controller::Memory {
                let _ = fs::write(root.join("memory.use_hierarchy"), "1");
            }
            Some(root)
        })
    }

    /// Groups inside those this process is in, if they are ours.
    pub(super) fn inside(folder: &str) -> Self {
        let ours = |own: &Path| own.components().any(|part| part.as_os_str() == folder);
        let v2 = mounts::v2().zip(mounts::own(None).filter(|own| ours(own))).and_then(|(mount, own)| {
            let root = mount.join(own);
            fs::metadata(root.join("cgroup.kill")).ok()?;
            // The kernel gives no controllers to groups inside a group that has processes, but ends them all the same.
            Some(Unified { root, controllers: Vec::new() })
        });
        Self::with(v2, |controller| {
            let own = mounts::own(Some(controller)).filter(|own| ours(own))?;
            Some(mounts::v1(controller)?.join(own))
        })
    }

    fn with(v2: Option<Unified>, root: impl Fn(Controller) -> Option<PathBuf>) -> Self {
        let held = |controller| v2.as_ref().is_some_and(|v2| v2.controllers.contains(&controller));
        let v1 = Controller::ALL
            .into_iter()
            .filter(|controller| !held(*controller))
            .filter_map(|controller| Some((controller, root(controller)?)))
            .filter(|(controller, root)| usable(*controller, root))
            .collect();
        Self { v2, v1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v2.is_none() && self.v1.is_empty()
    }

    /// The version that bounds with this controller.
    pub(super) fn holds(&self, controller: Controller) -> Option<&'static str> {
        if self.v2.as_ref().is_some_and(|v2| v2.controllers.contains(&controller)) {
            return Some("cgroup v2");
        }
        self.v1.contains_key(&controller).then_some("cgroup v1")
    }

    /// How whole trees are ended.
    pub(super) fn ending(&self) -> Option<&'static str> {
        match (&self.v2, self.v1.contains_key(&Controller::Freezer), self.v1.is_empty()) {
            (Some(_), _, _) => Some("cgroup v2 kill: all at once"),
            (None, true, _) => Some("cgroup v1 freezer: stopped, then ended"),
            (None, false, false) => Some("cgroup v1: every member is known, and ended"),
            (None, false, true) => None,
        }
    }

    /// How whole trees are paused.
    pub(super) fn pausing(&self) -> Option<&'static str> {
        match (&self.v2, self.v1.contains_key(&Controller::Freezer)) {
            (Some(_), _) => Some("cgroup v2 freeze"),
            (None, true) => Some("cgroup v1 freezer"),
            (None, false) => None,
        }
    }
}

impl Unified {
    fn open(root: &Path) -> Option<Self> {
        fs::create_dir_all(root).ok()?;
        // Without it a tree cannot be ended at once, and the group would be worth little.
        fs::metadata(root.join("cgroup.kill")).ok()?;
        let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let enable = |controller: &Controller| {
            let name = controller.name();
            offered.split_whitespace().any(|offer| offer == name)
                && fs::write(root.join("cgroup.subtree_control"), format!("+{name}")).is_ok()
        };
        let mut controllers: Vec<_> =
            Controller::ALL[..3].iter().copied().filter(|controller| enable(controller)).collect();
        // Every group of version 2 can be frozen.
        controllers.push(Controller::Freezer);
        Some(Self { root: root.to_owned(), controllers })
    }
}

/// Whether groups with this controller can be made in a folder.
fn usable(controller: Controller, root: &Path) -> bool {
    let trial = root.join(format!("trial-{}", std::process::id()));
    let made = fs::create_dir(&trial).is_ok() && fs::metadata(trial.join(controller.file())).is_ok();
    let _ = fs::remove_dir(&trial);
    made
}

/// Whether somebody has bounded the group this process is in, or one above it.
fn bounded(controller: Controller, mount: &Path, own: &Path) -> bool {
    let mut group = mount.join(own);
    if !group.is_dir() {
        // Seen from inside a container, the mount is the container's own group.
        return false;
    }
    while group.starts_with(mount) && group != *mount {
        let value = fs::read_to_string(group.join(controller.file())).unwrap_or_default();
        let value = value.trim();
        let bounded = match controller {
            // Without a limit it is the largest number of pages.
            Controller::Memory => value.parse::<u64>().is_ok_and(|bytes| bytes < 1 << 60),
            Controller::Pids => value.parse::<u64>().is_ok(),
            Controller::Cpu => value.parse::<i64>().is_ok_and(|quota| quota > 0),
            Controller::Freezer => false,
        };
        if bounded {
            return true;
        }
        group.pop();
    }
    false
}
