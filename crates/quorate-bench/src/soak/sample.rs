//! What the process holds at a moment, and whether that grows.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::harness::usage::resident;

/// What this process holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    after: Duration,
    resident: u64,
    files: u64,
    disk: u64,
}

impl Sample {
    /// With the bytes of the files below `folder`.
    pub(super) fn take(after: Duration, folder: &Path) -> anyhow::Result<Self> {
        let files = std::fs::read_dir("/proc/self/fd")?.count() as u64;
        Ok(Self { after, resident: resident(std::process::id())?, files, disk: bytes_below(folder) })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, resident, files, disk } = self;
        let (resident, disk) = (resident >> 10, disk >> 10);
        write!(f, "{:6} s  {resident:8} KiB resident  {files:4} files  {disk:8} KiB of disk", after.as_secs())
    }
}

/// Files come and go while it looks.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// By how much the last third of the samples is above the second, by their medians; the first third is for warming up.
pub(super) fn growth(samples: &[Sample]) -> [(&'static str, f64); 3] {
    let third = samples.len() / 3;
    let (second, last) = samples[third..].split_at(third.min(samples.len()));
    let of = |value: fn(&Sample) -> u64| match (median(second, value), median(last, value)) {
        (Some(before), Some(after)) => after as f64 / before.max(1) as f64 - 1.0,
        _ => 0.0,
    };
    [
        ("resident memory", of(|sample| sample.resident)),
        ("open files", of(|sample| sample.files)),
        ("disk", of(|sample| sample.disk)),
    ]
}

fn median(samples: &[Sample], value: fn(&Sample) -> u64) -> Option<u64> {
    let mut values: Vec<_> = samples.iter().map(value).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Fn(u64) -> u64) -> Vec<Sample> {
        let sample =
            |at| Sample { after: Duration::from_secs(at), resident: resident(at), files: 10, disk: 5 };
        (0..30).map(sample).collect()
    }

    #[test]
    fn growth_is_told_from_warming_up_and_from_noise() {
        let of = |samples: &[Sample]| growth(samples)[0].1;
        assert!(of(&samples(|at| 1000 + 50 * at)) > 0.2);
        assert!(of(&samples(|at| if at < 10 { 100 * at } else { 1000 + at % 3 })).abs() < 0.01);
        assert_eq!(growth(&samples(|_| 7))[1].1, 0.0);
        assert_eq!(growth(&[])[0].1, 0.0);
    }
}
