//! A simulated disk with stores on it.

use std::path::Path;
use std::sync::Arc;

use quorate_base::Timestamp;
use quorate_wal::Control;
use quorate_wal::sim::SimDisk;

use crate::{Actor, Error, Kind, ManualClock, MemoryLock, Options, Place, Policy, Space, Store};

pub(super) const DIR: &str = "/memory";

/// A machine: its disk, its clock, and what its processes share.
#[derive(Debug, Clone)]
pub(super) struct Rig {
    pub(super) disk: SimDisk,
    pub(super) lock: Arc<MemoryLock>,
    pub(super) control: Arc<Control>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) options: Options,
}

impl Rig {
    pub(super) fn new(seed: u64) -> Self {
        Self::on(SimDisk::new(seed))
    }

    pub(super) fn on(disk: SimDisk) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let options = Options {
            clock: Arc::clone(&clock) as _,
            implicit: Some(Policy::new(Kind::Project)),
            segment_bytes: 4096,
            ahead_bytes: 1024,
            background: false,
            ..Options::default()
        };
        let (lock, control) = (Arc::new(MemoryLock::default()), Arc::new(Control::memory()));
        Self { disk, lock, control, clock, options }
    }

    /// The machine after a power cut: another disk, and nothing of what its processes shared.
    pub(super) fn on_disk(&self, disk: SimDisk) -> Self {
        Self { options: self.options.clone(), clock: Arc::clone(&self.clock), ..Self::on(disk) }
    }

    /// What another process would open.
    pub(super) fn open(&self) -> Result<Store, Error> {
        let (disk, lock) = (Arc::new(self.disk.clone()), Arc::clone(&self.lock));
        Store::open(Place::on(disk, Path::new(DIR), lock, Arc::clone(&self.control)), self.options.clone())
    }
}

pub(super) fn space(store: &Store, name: &str) -> Space {
    store.space(&Actor::agent("a-1", Some("red")), name).unwrap()
}

pub(super) fn value(space: &Space, key: &str) -> Option<Vec<u8>> {
    space.get(key.as_bytes()).unwrap().map(|entry| entry.value().to_vec())
}
