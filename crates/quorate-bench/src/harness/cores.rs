//! Cores to measure on: the two that lie nearest to each other, then the idlest, to which threads are pinned where the system allows it.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::harness::line::trips;

/// How long the cores are watched, once in a process.
const WATCHED: Duration = Duration::from_millis(50);
/// Of the idlest cores, how many are tried with each other.
const TRIED: usize = 6;
const TRIPS: u64 = 2_000;

/// Where threads are pinned, chosen once in a process, so that all candidates have the same.
static PLACES: OnceLock<Places> = OnceLock::new();

#[derive(Debug, Default)]
struct Places {
    /// The first two are a pair.
    cores: Vec<usize>,
    /// Nanoseconds of a cache line from one of the pair to the other.
    line: f64,
}

/// Pins the calling thread to a core: ranks 0 and 1 are the pair, ranks beyond the number of cores begin again. Where it is not allowed,
/// the thread stays free: the figures are then noisier, not wrong.
pub(crate) fn pin(rank: usize) {
    let cores = &PLACES.get_or_init(choose).cores;
    if let Some(core) = cores.get(rank % cores.len().max(1)) {
        pin_to(*core);
    }
}

/// What a claim says about where it was measured; nothing where no thread was pinned.
pub(crate) fn chosen() -> String {
    match PLACES.get() {
        Some(Places { cores, line }) if cores.len() > 1 => {
            format!(", cores {} and {}, {line} ns apart", cores[0], cores[1])
        }
        _ => String::new(),
    }
}

fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // See above: no reason to fail.
    let _ = sched_setaffinity(None, &set);
}

/// How far two cores lie apart depends on where the host runs them, and decides more than what is compared: three times between a pair
/// that shares a cache and one that does not.
fn choose() -> Places {
    let mut cores = ranked();
    let tried = &cores[..cores.len().min(TRIED)];
    let pairs =
        tried.iter().enumerate().flat_map(|(at, one)| tried[at + 1..].iter().map(move |two| (*one, *two)));
    let apart = |(one, two)| Some((trips(TRIPS, || pin_to(one), || pin_to(two)).ok()?.p50, one, two));
    let nearest = pairs.filter_map(apart).min_by(|one, two| one.0.total_cmp(&two.0));
    let Some((line, one, two)) = nearest else {
        return Places { cores, line: 0.0 };
    };
    cores.retain(|core| ![one, two].contains(core));
    cores.splice(..0, [one, two]);
    Places { cores, line }
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
