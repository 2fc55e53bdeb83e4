//! What lies below some folders: how much it grows, and whether anything in it changes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Entries of one walk; a folder with more is judged by those.
const ENTRIES_MAX: usize = 4 << 20;
/// The rest between two walks, as a multiple of what the last one took: when there is time, and near the limit.
const REST: u32 = 20;
const REST_NEAR: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);

/// What one walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// Space taken on the disk, a file with several names counted once.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// The newest change of anything, in nanoseconds of the file system's clock.
    pub(crate) changed: i128,
}

/// Walks folders, none of which lies in another. Links are not followed; what cannot be read is not counted.
pub(crate) fn walk(roots: &[PathBuf]) -> Extent {
    let mut extent = Extent::default();
    let mut linked: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut left: Vec<PathBuf> = roots.to_vec();
    while let Some(folder) = left.pop() {
        let own = fs::symlink_metadata(&folder).ok();
        own.iter().for_each(|metadata| extent.take(metadata));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if usize::try_from(extent.entries).is_ok_and(|entries| entries > ENTRIES_MAX) {
                return extent;
            }
            // Of the entry itself, not of what a link points to.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                left.push(entry.path());
            } else if metadata.nlink() < 2 || linked.insert((metadata.dev(), metadata.ino())) {
                extent.take(&metadata);
            }
        }
    }
    extent
}

impl Extent {
    fn take(&mut self, metadata: &fs::Metadata) {
        self.entries += 1;
        self.bytes += metadata.blocks() * 512;
        self.changed = self
            .changed
            .max(i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()));
    }
}

/// A thread that walks folders again and again, at a pace that leaves the disk to others.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    seen: Arc<Seen>,
    roots: Vec<PathBuf>,
    limit: Option<u64>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    grown: AtomicU64,
    /// Raised by one for each walk that found a change.
    changes: AtomicU64,
    stopped: Mutex<bool>,
    bell: Condvar,
}

impl DiskWatch {
    /// Walks in a thread: at once, to know what was there before, and then again and again.
    pub(crate) fn start(roots: Vec<PathBuf>, limit: Option<u64>) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let (watched, walked) = (Arc::clone(&seen), roots.clone());
        let thread =
            thread::Builder::new().name("disk-watch".into()).stack_size(256 << 10).spawn(move || {
                let began = Instant::now();
                let first = walk(&walked);
                watched.follow(&walked, first, began.elapsed(), limit);
            })?;
        Ok(Self { seen, roots, limit, thread: Some(thread) })
    }

    /// The same from now on, where the first of its folders lies elsewhere now.
    pub(crate) fn moved(self, first: PathBuf) -> io::Result<Self> {
        let roots = [first].into_iter().chain(self.roots.iter().skip(1).cloned());
        Self::start(roots.collect(), self.limit)
    }

    /// Bytes more than at the start, when last looked.
    pub(crate) fn grown(&self) -> u64 {
        self.seen.grown.load(Ordering::Relaxed)
    }

    /// Differs from an earlier answer where something has changed since.
    pub(crate) fn changes(&self) -> u64 {
        self.seen.changes.load(Ordering::Relaxed)
    }
}

impl Seen {
    fn follow(&self, roots: &[PathBuf], first: Extent, mut took: Duration, limit: Option<u64>) {
        let mut last = first;
        loop {
            let near = limit.is_some_and(|limit| self.grown.load(Ordering::Relaxed) > limit / 4);
            let rest = (took * if near { REST_NEAR } else { REST }).clamp(REST_MIN, REST_MAX);
            let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.bell.wait_timeout_while(stopped, rest, |stopped| !*stopped);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
            let began = Instant::now();
            let extent = walk(roots);
            took = began.elapsed();
            self.grown.store(extent.bytes.saturating_sub(first.bytes), Ordering::Relaxed);
            if extent != last {
                last = extent;
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for DiskWatch {
    fn drop(&mut self) {
        *self.seen.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.seen.bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let roots = [folder.path().to_owned()];
        let empty = walk(&roots);
        fs::write(folder.path().join("one"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(folder.path().join("one"), folder.path().join("two")).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("three")).unwrap();
        let grown = walk(&roots).bytes - empty.bytes;
        assert!((1 << 20..1 << 21).contains(&grown), "{grown}");
    }

    #[test]
    fn any_change_shows() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        let roots = [folder.path().to_owned()];
        let (one, two) = (folder.path().join("below/one"), folder.path().join("two"));
        fs::write(&one, "a").unwrap();
        let rename = || if one.exists() { fs::rename(&one, &two) } else { fs::rename(&two, &one) };
        let write = || fs::write(folder.path().join("three"), "same length");
        write().unwrap();
        for change in [&rename, &write] as [&dyn Fn() -> io::Result<()>; 2] {
            let before = walk(&roots);
            // The file system's clock may stand still for some milliseconds.
            while walk(&roots) == before {
                change().unwrap();
            }
        }
    }
}
