//! What to run, and within which bounds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use quorate_base::{ByteCount, Millis};

use crate::sandbox::Sandbox;

/// A process to start. Nothing is inherited: what is not said here, it does not get.
#[derive(Debug, Clone)]
pub struct Command {
    /// Looked up in the `PATH` of `env` where it has no slash.
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub cwd: PathBuf,
    /// The complete environment.
    pub env: BTreeMap<OsString, OsString>,
    pub stdin: Stdin,
    /// Files that receive all output; made with mode 0600, emptied where they exist.
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    pub limits: Limits,
    /// What it may reach; everything this process may where there is none.
    pub sandbox: Option<Sandbox>,
    /// The run it belongs to, by which [`crate::reap_orphans`] finds it; also put into its environment as `QUORATE_RUN`.
    pub marker: String,
}

impl Command {
    /// Where it works, and what it has for temporary files where it has something of its own.
    pub(crate) fn own_folders(&self) -> Vec<PathBuf> {
        let temporary = self.sandbox.as_ref().and_then(|sandbox| sandbox.temporary.clone());
        let apart = temporary.filter(|temporary| !temporary.starts_with(&self.cwd));
        [self.cwd.clone()].into_iter().chain(apart).collect()
    }
}

/// What the process reads.
#[derive(Debug, Clone)]
pub enum Stdin {
    Null,
    Bytes(Vec<u8>),
}

/// Bounds over the whole tree of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub wall: Millis,
    /// Resident memory, summed.
    pub memory: ByteCount,
    /// CPU time, summed.
    pub cpu: Millis,
    /// Both output files together, on disk.
    pub output: ByteCount,
    /// Processes and threads of the tree together, as the kernel counts them.
    pub processes: u32,
    /// Thousandths of a processor the tree may use at a time. Only a cgroup with the cpu controller can hold it; without
    /// one, [`crate::Ended::containment`] tells that it is not held.
    pub cpus: Option<u32>,
    /// By how much what lies below `cwd`, and in the sandbox's temporary folder, may grow.
    pub disk: Option<ByteCount>,
    /// Longest time without progress: no output, no CPU time worth speaking of, no change in these folders.
    pub idle: Option<Millis>,
    /// For each process; lowered to what this process itself may open.
    pub open_files: u64,
    /// From asking to end to ending.
    pub grace: Millis,
}
