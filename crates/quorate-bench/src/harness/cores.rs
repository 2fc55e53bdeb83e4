//! Cores to measure on: the idlest ones, to which threads are pinned where the system allows it.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long the cores are watched, once in a process.
const WATCHED: Duration = Duration::from_millis(50);

/// Pins the calling thread to the `rank`-th idlest core; ranks beyond their number begin again. Where it is not allowed, the thread
/// stays free: the figures are then noisier, not wrong.
pub(crate) fn pin(rank: usize) {
    static RANKED: OnceLock<Vec<usize>> = OnceLock::new();
    let cores = RANKED.get_or_init(ranked);
    let Some(core) = cores.get(rank % cores.len().max(1)) else {
        return;
    };
    let mut set = CpuSet::new();
    set.set(*core);
    // See above: no reason to fail.
    let _ = sched_setaffinity(None, &set);
}

/// The cores this process may use, those first that did least while they were watched.
fn ranked() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else {
        return Vec::new();
    };
    let before = idle();
    std::thread::sleep(WATCHED);
    let after = idle();
    let ticks = |core: &usize| {
        let of =
            |sample: &[(usize, u64)]| sample.iter().find(|(at, _)| at == core).map_or(0, |(_, idle)| *idle);
        of(&after).saturating_sub(of(&before))
    };
    let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    // Ties go to the higher core: interrupts prefer the lower ones.
    cores.sort_by_key(|core| std::cmp::Reverse((ticks(core), *core)));
    cores
}

/// Each core with its idle ticks so far.
fn idle() -> Vec<(usize, u64)> {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let core = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split(' ');
        Some((words.next()?.parse().ok()?, words.nth(3)?.parse().ok()?))
    };
    text.lines().filter_map(core).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_one_core_and_any_rank_is_one() {
        for rank in [0, 1, 1_000] {
            std::thread::spawn(move || {
                pin(rank);
                assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
            })
            .join()
            .unwrap();
        }
    }
}
