//! What lies below some folders: how much it grows, and whether anything in it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Entries of one walk; a folder with more is judged by those.
const ENTRIES_MAX: usize = 4 << 20;
/// The rest between two walks, as a multiple of what the last one took: when there is time, and near the limit.
const REST: u32 = 20;
const REST_NEAR: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);
/// The rest of the thread that walks between one and the next, likewise.
const PAUSE: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(500);

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

/// Folders that are walked again and again for as long as this lives.
///
/// One thread walks for all of them, one after another, and rests between: a thousand trees cost what one large one does,
/// and are looked at less often.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    watched: Arc<Watched>,
}

#[derive(Debug)]
struct Watched {
    roots: Vec<PathBuf>,
    limit: Option<u64>,
    grown: AtomicU64,
    /// Raised by one for each walk that found a change.
    changes: AtomicU64,
}

impl DiskWatch {
    /// Has them walked: as soon as may be, to know what was there before, and then again and again.
    pub(crate) fn start(roots: Vec<PathBuf>, limit: Option<u64>) -> io::Result<Self> {
        let (grown, changes) = (AtomicU64::new(0), AtomicU64::new(0));
        let watched = Arc::new(Watched { roots, limit, grown, changes });
        Round::of_all().enter(&watched)?;
        Ok(Self { watched })
    }

    /// The same from now on, where the first of its folders lies elsewhere now.
    pub(crate) fn moved(self, first: PathBuf) -> io::Result<Self> {
        let roots = [first].into_iter().chain(self.watched.roots.iter().skip(1).cloned());
        Self::start(roots.collect(), self.watched.limit)
    }

    /// Bytes more than at the start, when last looked.
    pub(crate) fn grown(&self) -> u64 {
        self.watched.grown.load(Ordering::Relaxed)
    }

    /// Differs from an earlier answer where something has changed since.
    pub(crate) fn changes(&self) -> u64 {
        self.watched.changes.load(Ordering::Relaxed)
    }
}

/// All that is watched, by when it is to be walked.
#[derive(Debug, Default)]
struct Round {
    due: Mutex<Due>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    walks: BTreeMap<(Instant, u64), Turn>,
    next: u64,
    /// A thread walks.
    walking: bool,
}

/// What is known of one of them. Nobody waits for it any more when it cannot be upgraded.
#[derive(Debug)]
struct Turn {
    watched: Weak<Watched>,
    first: Option<Extent>,
    last: Extent,
}

impl Round {
    /// That of this process.
    fn of_all() -> &'static Self {
        static ROUND: LazyLock<Round> = LazyLock::new(Round::default);
        &ROUND
    }

    fn enter(&'static self, watched: &Arc<Watched>) -> io::Result<()> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if !due.walking {
            let walk = move || self.walk();
            thread::Builder::new().name("disk-watch".into()).stack_size(256 << 10).spawn(walk)?;
            due.walking = true;
        }
        due.add(
            Instant::now(),
            Turn { watched: Arc::downgrade(watched), first: None, last: Extent::default() },
        );
        drop(due);
        self.bell.notify_one();
        Ok(())
    }

    /// Until there is nothing to watch.
    fn walk(&self) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((&(at, _), _)) = due.walks.first_key_value() else {
                due.walking = false;
                return;
            };
            let wait = at.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                due = self.bell.wait_timeout(due, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let Some((_, turn)) = due.walks.pop_first() else { continue };
            drop(due);
            let begun = Instant::now();
            let walked = turn.walk();
            let took = begun.elapsed();
            // Others have the disk and the processor for most of the time.
            thread::sleep((took * PAUSE).min(PAUSE_MAX));
            due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((turn, near)) = walked {
                let rest = (took * if near { REST_NEAR } else { REST }).clamp(REST_MIN, REST_MAX);
                due.add(Instant::now() + rest, turn);
            }
        }
    }
}

impl Due {
    fn add(&mut self, at: Instant, turn: Turn) {
        self.next += 1;
        self.walks.insert((at, self.next), turn);
    }
}

impl Turn {
    /// Walks, and takes note of what has changed; answers whether it is near its limit. Nothing where nobody waits for it.
    fn walk(self) -> Option<(Self, bool)> {
        let watched = self.watched.upgrade()?;
        let extent = walk(&watched.roots);
        let first = self.first.unwrap_or(extent);
        let grown = extent.bytes.saturating_sub(first.bytes);
        watched.grown.store(grown, Ordering::Relaxed);
        if self.first.is_some() && extent != self.last {
            watched.changes.fetch_add(1, Ordering::Relaxed);
        }
        let near = watched.limit.is_some_and(|limit| grown > limit / 4);
        Some((Self { watched: self.watched, first: Some(first), last: extent }, near))
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
