//! How much memory the machine has left, and this process with it.

use std::fs;
use std::path::{Path, PathBuf};

use quorate_base::ByteCount;

use crate::containment::own_memory_group;
use crate::tree;

/// Memory, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub total: ByteCount,
    /// What can be had without swapping.
    pub available: ByteCount,
    /// Bound on the control group this process is in, and what is used of it; caches of files are not counted, since they
    /// can be given back.
    pub bound: Option<(ByteCount, ByteCount)>,
    /// Share of the last ten seconds in which somebody, or everybody, waited for memory, in hundredths of a percent.
    pub waiting: Option<(u32, u32)>,
    /// Resident memory of this process.
    pub own: ByteCount,
}

impl Memory {
    /// As it is now; nothing where there is no `/proc/meminfo` with `MemAvailable` (Linux before 3.14).
    pub fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let kib = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        let page = rustix::param::page_size() as u64;
        let pages = tree::process(std::process::id()).map_or(0, |process| process.resident_pages);
        Some(Self {
            total: ByteCount(kib("MemTotal")? << 10),
            available: ByteCount(kib("MemAvailable")? << 10),
            bound: own_memory_group().and_then(|(mount, group, v2)| bound(&mount, &group, v2)),
            waiting: fs::read_to_string("/proc/pressure/memory").ok().and_then(|text| waiting(&text)),
            own: ByteCount(pages * page),
        })
    }
}

/// The tightest bound on a group and those above it: the one with the least left.
fn bound(mount: &Path, group: &Path, v2: bool) -> Option<(ByteCount, ByteCount)> {
    // What stays: memory of processes, what they share by name, and what the kernel holds for them, where it tells.
    let (limit, usage, kept): (_, _, &[&str]) = if v2 {
        (
            "memory.max",
            "memory.current",
            &["anon", "shmem", "slab_unreclaimable", "kernel_stack", "pagetables"],
        )
    } else {
        ("memory.limit_in_bytes", "memory.usage_in_bytes", &["total_rss", "total_shmem"])
    };
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut tightest: Option<(ByteCount, ByteCount)> = None;
    let mut at = group.to_owned();
    while at.starts_with(mount) {
        // Without a limit, version 1 tells the largest number of pages, and version 2 a word.
        if let Some(limit) = number(at.join(limit)).filter(|limit| *limit < 1 << 60) {
            let stat = fs::read_to_string(at.join("memory.stat")).unwrap_or_default();
            let amount = |line: &str| {
                let (name, amount) = line.split_once(' ')?;
                kept.contains(&name).then(|| amount.trim().parse::<u64>().ok())?
            };
            // Where the kernel does not tell what it consists of, all of it counts.
            let used = if stat.lines().any(|line| amount(line).is_some()) {
                stat.lines().filter_map(amount).sum()
            } else {
                number(at.join(usage)).unwrap_or(0)
            };
            let left = |(limit, used): (ByteCount, ByteCount)| limit.0.saturating_sub(used.0);
            let this = (ByteCount(limit), ByteCount(used));
            if tightest.is_none_or(|other| left(this) < left(other)) {
                tightest = Some(this);
            }
        }
        if !at.pop() {
            break;
        }
    }
    tightest
}

/// `some` and `full` over ten seconds.
fn waiting(text: &str) -> Option<(u32, u32)> {
    let share = |name: &str| -> Option<u32> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" avg10="))?;
        let (whole, part) = line.split(' ').next()?.split_once('.')?;
        Some(whole.parse::<u32>().ok()? * 100 + part.parse::<u32>().ok()?)
    };
    Some((share("some")?, share("full").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_in_hundredths() {
        let text = "some avg10=12.34 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.07 avg60=0.00 avg300=0.00 total=9\n";
        assert_eq!(waiting(text), Some((1234, 7)));
        assert_eq!(waiting("some avg10=1"), None);
    }

    #[test]
    fn this_machine_tells_its_memory() {
        let memory = Memory::now().unwrap();
        assert!(memory.available <= memory.total && memory.own.0 > 0, "{memory:?}");
    }

    #[test]
    fn the_bound_with_the_least_left_counts() {
        let mount = tempfile::tempdir().unwrap();
        let inner = mount.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let group = |at: &Path, limit: &str, used: &str| {
            fs::write(at.join("memory.max"), limit).unwrap();
            fs::write(at.join("memory.current"), used).unwrap();
            fs::write(at.join("memory.stat"), format!("anon {used}\n")).unwrap();
        };
        group(&inner, "max\n", "40\n");
        group(&mount.path().join("a"), "100\n", "50\n");
        assert_eq!(bound(mount.path(), &inner, true), Some((ByteCount(100), ByteCount(50))));
        group(&inner, "60\n", "40\n");
        assert_eq!(bound(mount.path(), &inner, true), Some((ByteCount(60), ByteCount(40))));
    }

    #[test]
    fn caches_of_files_are_not_used_memory() {
        let (v1, v2) = ("memory.limit_in_bytes", "memory.max");
        let (used_v1, used_v2) = ("memory.usage_in_bytes", "memory.current");
        for (limit, usage, stat, used) in [
            (v2, used_v2, "anon 5\nfile 80\nshmem 3\ninactive_file 40\nactive_file 37\n", 8),
            (
                v1,
                used_v1,
                "cache 1\nrss 1\ntotal_cache 80\ntotal_rss 5\ntotal_shmem 3\ntotal_active_file 37\n",
                8,
            ),
            // One that does not say what it consists of is counted in full.
            (v1, used_v1, "cache 1\n", 90),
        ] {
            let mount = tempfile::tempdir().unwrap();
            for (name, text) in [(limit, "100"), (usage, "90"), ("memory.stat", stat)] {
                fs::write(mount.path().join(name), text).unwrap();
            }
            let found = bound(mount.path(), mount.path(), limit == v2);
            assert_eq!(found, Some((ByteCount(100), ByteCount(used))), "{stat}");
        }
    }
}
