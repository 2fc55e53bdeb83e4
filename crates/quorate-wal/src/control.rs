//! A page that the processes of one log share.
//!
//! It holds three numbers, each beside its complement so that a torn or rotten one is told and not believed:
//! how far records are written (*committed*), how far they are durable (*synced*), and whether something is amiss (*busy* while
//! somebody appends, *doubt* after a sync that failed). Beside them stands how many wait for the log (*wanted*). It is a hint that survives the death of a process, not a power cut: after one it may be behind, never ahead of the truth,
//! because it is raised only after what it says has happened.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;

const SIZE: u64 = 4096;
const COMMITTED: usize = 0;
const SYNCED: usize = 1;
const BUSY: usize = 2;
const DOUBT: usize = 3;
/// A cell of its own: it is counted up and down, and need not be right.
const WANTED: usize = 8;

/// The page, in a file several processes have mapped, or in memory.
pub struct Control {
    page: Page,
}

enum Page {
    Mapped(MmapRaw),
    Memory(Box<[AtomicU64; 16]>),
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control {{ committed: {:?}, synced: {:?} }}", self.committed(), self.synced())
    }
}

impl Control {
    /// The page in the file at `path`, which is made where it is missing.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() < SIZE {
            file.set_len(SIZE)?;
        }
        Ok(Self { page: Page::Mapped(MmapRaw::map_raw(&file)?) })
    }

    /// A page that nobody shares.
    pub fn memory() -> Self {
        Self { page: Page::Memory(Box::default()) }
    }

    fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < 16, "the page has 16 cells in use");
        match &self.page {
            Page::Memory(cells) => &cells[index],
            Page::Mapped(map) => cell(map, index),
        }
    }

    fn get(&self, number: usize) -> Option<u64> {
        // A writer between its two stores is seen as a torn number; it is there again in a moment.
        for _ in 0..64 {
            let value = self.cell(2 * number).load(Ordering::Acquire);
            if self.cell(2 * number + 1).load(Ordering::Acquire) == !value {
                return Some(value);
            }
            std::hint::spin_loop();
        }
        None
    }

    fn set(&self, number: usize, value: u64) {
        self.cell(2 * number).store(value, Ordering::Release);
        self.cell(2 * number + 1).store(!value, Ordering::Release);
    }

    /// Records below this number are written; `None` where nobody has said or the number is torn.
    pub fn committed(&self) -> Option<u64> {
        self.get(COMMITTED)
    }

    /// Whether anybody has written past `seq`. One load.
    pub fn is_past(&self, seq: u64) -> bool {
        self.cell(2 * COMMITTED).load(Ordering::Acquire) != seq
    }

    /// Whether somebody has written past `seq`, for a reader that may itself be ahead of what was said. One load.
    pub fn is_ahead_of(&self, seq: u64) -> bool {
        self.cell(2 * COMMITTED).load(Ordering::Acquire) > seq
    }

    /// Whether an append was begun and its end not said: its writer is at it, or died at it.
    pub fn busy(&self) -> bool {
        self.get(BUSY) != Some(0)
    }

    /// Only the holder of the log says so, before an append and after it is committed.
    pub fn set_busy(&self, busy: bool) {
        self.set(BUSY, u64::from(busy));
    }

    /// Counts one more that waits for the log.
    pub fn want(&self) {
        self.cell(WANTED).fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back [`want`](Self::want).
    pub fn unwant(&self) {
        self.cell(WANTED).fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody waits for the log. Whoever died waiting is counted for ever, so this may only decide how soon it is given
    /// back, not whether.
    pub fn is_wanted(&self) -> bool {
        self.cell(WANTED).load(Ordering::Relaxed) != 0
    }

    /// Whether a sync failed, and what had been written for it may be on the disk or not.
    pub fn doubt(&self) -> bool {
        matches!(self.get(DOUBT), Some(1..))
    }

    /// Raised by who saw a sync fail; lowered by who has written everything anew.
    pub fn set_doubt(&self, doubt: bool) {
        self.set(DOUBT, u64::from(doubt));
    }

    /// Records below this number are durable; `None` where nobody has said or the number is torn.
    pub fn synced(&self) -> Option<u64> {
        self.get(SYNCED)
    }

    /// Only the holder of the log says so.
    pub fn set_committed(&self, seq: u64) {
        self.set(COMMITTED, seq);
    }

    /// Only the holder of the log says so.
    pub fn set_synced(&self, seq: u64) {
        self.set(SYNCED, seq);
    }
}

#[expect(unsafe_code, reason = "numbers in a page that several processes have mapped")]
fn cell(map: &MmapRaw, index: usize) -> &AtomicU64 {
    assert!(map.len() >= 16 * size_of::<u64>(), "the page is mapped whole");
    // SAFETY: a mapping is aligned to a page, lives as long as `map`, and is at least 16 cells long (asserted above; callers
    // stay below 16). All who touch these bytes, in any process, do so through atomics of the same size.
    unsafe { AtomicU64::from_ptr(map.as_mut_ptr().cast::<u64>().add(index)) }
}
