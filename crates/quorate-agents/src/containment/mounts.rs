//! Where the control group hierarchies are mounted, and where in them this process is.

use std::fs;
use std::path::{Path, PathBuf};

use super::Controller;

/// The most folders looked at for those of one marker.
const FOLDERS_MAX: usize = 4096;

/// Where cgroup v2 is mounted.
pub(super) fn v2() -> Option<PathBuf> {
    mounts().into_iter().find(|(_, kind, _)| kind == "cgroup2").map(|(point, _, _)| point)
}

/// Where the cgroup v1 hierarchy of a controller is mounted.
pub(super) fn v1(controller: Controller) -> Option<PathBuf> {
    let has = |options: &str| options.split(',').any(|option| option == controller.name());
    mounts()
        .into_iter()
        .find(|(_, kind, options)| kind == "cgroup" && has(options))
        .map(|(point, _, _)| point)
}

fn mounts() -> Vec<(PathBuf, String, String)> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    mounts.lines().filter_map(parse).collect()
}

/// The group this process is in, below the mount point: of version 2, or of a version 1 controller.
pub(super) fn own(controller: Option<Controller>) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match controller {
            None => number == "0" && names.is_empty(),
            Some(controller) => names.split(',').any(|name| name == controller.name()),
        };
        found.then(|| PathBuf::from(path.trim_start_matches('/')))
    })
}

/// Every folder `name` inside a folder `parent` of a hierarchy, within the bound on folders looked at.
pub(super) fn below(mount: &Path, parent: &str, name: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![mount.to_owned()];
    let mut looked = 0;
    while let Some(folder) = left.pop() {
        looked += 1;
        if looked > FOLDERS_MAX {
            break;
        }
        let candidate = folder.join(parent).join(name);
        if candidate.is_dir() {
            found.push(candidate);
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    found
}
