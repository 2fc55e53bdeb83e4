//! A disk that forgets: what was not synced is lost, torn or reordered when it crashes.
//!
//! It keeps for each file what is durable and the writes since, and for the folder the names that are durable and the changes since.
//! A crash keeps any subset of the writes, each in any subset of its sectors, and any prefix of the changes to names. Faults are
//! set by the number of the operation they hit.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, Mode};

const SECTOR: usize = 512;

/// What goes wrong, at one operation or from it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The machine stops: this operation may have happened in part, nothing after it does.
    Crash,
    /// No room for anything that makes a file longer, from this operation on.
    Full,
    /// This sync fails; what it should have made durable is gone, and the next sync says nothing of it (fsyncgate).
    SyncFails,
    /// This write fails after some of it.
    WriteFails,
}

/// A small generator (SplitMix64), so that a crash is drawn from a seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    operations: u64,
    syncs: u64,
    faults: BTreeMap<u64, Fault>,
    crashed: bool,
    full: bool,
    random: u64,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone)]
enum Change {
    Put(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Put(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

fn apply(data: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes { offset, bytes } => {
            if data.len() < offset + bytes.len() {
                data.resize(offset + bytes.len(), 0);
            }
            data[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Write::Length(length) => data.resize(*length, 0),
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

impl SimDisk {
    /// An empty disk; what its faults tear is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.state().random = seed;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a fault for operation number `at`, counted from the disk's beginning.
    pub fn fault(&self, at: u64, fault: Fault) {
        self.state().faults.insert(at, fault);
    }

    /// Operations done so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs of files done so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// There is room again.
    pub fn make_room(&self) {
        self.state().full = false;
    }

    /// What a machine finds after a power cut: a new disk, drawn from `seed`.
    pub fn after_crash(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random(seed);
        let mut names = state.durable_names.clone();
        let kept = random.below(state.pending_names.len() as u64 + 1) as usize;
        for change in &state.pending_names[..kept] {
            apply_name(&mut names, change);
        }
        let files = state.files.iter().map(|inode| {
            let data = survive(inode, &mut random);
            Inode { now: data.clone(), durable: data, pending: Vec::new() }
        });
        let new = State {
            files: files.collect(),
            names: names.clone(),
            durable_names: names,
            folders: state.folders.clone(),
            random: random.draw(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(new)) }
    }

    /// What the next process finds after this one was killed: everything that was written.
    pub fn after_kill(&self) -> Self {
        let state = self.state();
        let new = State {
            files: state.files.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending_names: state.pending_names.clone(),
            folders: state.folders.clone(),
            random: state.random,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(new)) }
    }

    /// The bytes of a file as they are now.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|&inode| state.files[inode].now.clone())
    }

    /// Replaces the bytes of a file, durably, behind everybody's back.
    pub fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        if let Some(&inode) = state.names.get(path) {
            state.files[inode] = Inode { now: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
        }
    }

    /// The names of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

/// What of a file survives a power cut: any subset of the writes since the last sync, in any subset of sectors each.
fn survive(inode: &Inode, random: &mut Random) -> Vec<u8> {
    let mut data = inode.durable.clone();
    // All kept, none kept, or each drawn: the plain cases are worth seeing often.
    let plan = random.below(4);
    for write in &inode.pending {
        match (plan, write) {
            (0, _) => {}
            (1, write) => apply(&mut data, write),
            (_, Write::Length(_)) => {
                if random.chance(2) {
                    apply(&mut data, write);
                }
            }
            (_, Write::Bytes { offset, bytes }) => {
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if random.chance(2) {
                        let write = Write::Bytes { offset: offset + index * SECTOR, bytes: sector.to_vec() };
                        apply(&mut data, &write);
                    }
                }
            }
        }
    }
    data
}

impl State {
    /// Counts an operation and answers the fault that hits it.
    fn step(&mut self) -> io::Result<Option<Fault>> {
        if self.crashed {
            return Err(crashed());
        }
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        match fault {
            Some(Fault::Crash) => self.crashed = true,
            Some(Fault::Full) => self.full = true,
            _ => {}
        }
        Ok(fault)
    }

    /// An operation on names: it happens, and the machine may stop right after.
    fn name(&mut self, change: Change) -> io::Result<()> {
        self.step()?;
        apply_name(&mut self.names, &change);
        self.pending_names.push(change);
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if state.crashed {
            return Err(crashed());
        }
        let inode = match (state.names.get(path).copied(), mode) {
            (Some(inode), Mode::Read | Mode::Write) => inode,
            (None, Mode::Read | Mode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (_, Mode::Create) => {
                state.files.push(Inode::default());
                let inode = state.files.len() - 1;
                state.name(Change::Put(path.to_owned(), inode))?;
                inode
            }
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Change::Remove(path.to_owned()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.crashed {
            return Err(crashed());
        }
        if !state.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(names.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.step()?;
        if state.crashed {
            return Err(crashed());
        }
        if fault == Some(Fault::SyncFails) {
            return Err(io::Error::other("the simulated disk failed to sync"));
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimFile {
    fn write(&self, write: Write) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.step()?;
        let end = match &write {
            Write::Bytes { offset, bytes } => offset + bytes.len(),
            Write::Length(length) => *length,
        };
        if state.full && end > state.files[self.inode].now.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (write, failure) = match (fault, write) {
            (Some(Fault::Crash | Fault::WriteFails), Write::Bytes { offset, mut bytes }) => {
                let mut random = Random(state.random);
                state.random = random.draw();
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                let failure =
                    if state.crashed { crashed() } else { io::Error::other("the simulated write failed") };
                (Write::Bytes { offset, bytes }, Some(failure))
            }
            (Some(Fault::Crash), write) => (write, Some(crashed())),
            (_, write) => (write, None),
        };
        let file = &mut state.files[self.inode];
        apply(&mut file.now, &write);
        file.pending.push(write);
        failure.map_or(Ok(()), Err)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let state = self.disk.state();
        if state.crashed { Err(crashed()) } else { Ok(state.files[self.inode].now.len() as u64) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        if state.crashed {
            return Err(crashed());
        }
        let data = &state.files[self.inode].now;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let count = buffer.len().min(data.len() - from);
        buffer[..count].copy_from_slice(&data[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.write(Write::Bytes { offset, bytes: bytes.to_vec() })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.write(Write::Length(length))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.step()?;
        if state.crashed {
            return Err(crashed());
        }
        state.syncs += 1;
        let file = &mut state.files[self.inode];
        if fault == Some(Fault::SyncFails) {
            // The pages are marked clean though they never reached the disk.
            file.pending.clear();
            return Err(io::Error::other("the simulated disk failed to sync"));
        }
        file.durable = file.now.clone();
        file.pending.clear();
        Ok(())
    }
}
