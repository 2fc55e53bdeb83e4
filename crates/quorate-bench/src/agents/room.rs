//! Where the agents of a measure work, and what they are started as.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use quorate_agents::sandbox::places;
use quorate_agents::{Claim, Command, Containment, Held, Limits, Running, Sandbox, Stdin, hold_ahead};
use quorate_base::{ByteCount, Millis};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::runs::beside;

/// How long a process may take to say its first word.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder for agents, on a disk as that of a run is.
#[derive(Debug)]
pub(crate) struct Room {
    folder: TempDir,
    pub(crate) containment: Containment,
    first: PathBuf,
    stage: Vec<OsString>,
    /// The same within the whole program.
    large_stage: Vec<OsString>,
}

/// What an agent does after its first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Ends,
    Stays,
    /// And does not care to be asked to end.
    StaysDeaf,
}

impl Room {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let stage = vec![beside("quorate-hold")?.into()];
        let large_stage = vec![beside("quorate")?.into(), "hold-for-a-node".into()];
        let folder = crate::harness::scratch::folder()?;
        Ok(Self {
            folder,
            containment: Containment::probe(),
            first: beside("quorate-bench-first")?,
            stage,
            large_stage,
        })
    }

    /// The program and its arguments.
    pub(crate) fn words(&self, then: Then) -> Vec<OsString> {
        let first = || self.first.clone().into_os_string();
        match then {
            Then::Ends => vec![first()],
            Then::Stays => vec![first(), "stay".into()],
            Then::StaysDeaf => {
                let script = "trap '' TERM; exec \"$0\" stay";
                vec!["/bin/sh".into(), "-c".into(), script.into(), first()]
            }
        }
    }

    /// An agent with a folder of its own; `sandboxed` as one of a run is.
    pub(crate) fn command(&self, name: &str, then: Then, sandboxed: bool) -> anyhow::Result<Command> {
        let folder = self.folder.path().canonicalize()?.join(name);
        let (cwd, tmp) = (folder.join("worktree"), folder.join("tmp"));
        fs::create_dir_all(&cwd)?;
        fs::create_dir_all(&tmp)?;
        let env: BTreeMap<OsString, OsString> =
            ["PATH", "HOME"].iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
        let sandbox = sandboxed.then(|| {
            let mut read = places::readable(&env);
            read.push(self.first.clone());
            let mut write = places::devices();
            write.extend([cwd.clone(), tmp.clone()]);
            let (hidden, temporary) = (places::hidden(&env), Some(tmp));
            Sandbox { read, write, hidden, temporary, ..Sandbox::default() }
        });
        let mut words = self.words(then).into_iter();
        Ok(Command {
            program: words.next().context("no program")?.into(),
            args: words.collect(),
            cwd,
            env,
            stdin: Stdin::Null,
            stdout: folder.join("out"),
            stderr: folder.join("err"),
            limits: Limits {
                wall: Millis::from_secs(600),
                memory: ByteCount::mib(1024),
                cpu: Millis::from_secs(600),
                output: ByteCount::mib(64),
                processes: 64,
                open_files: 256,
                cpus: None,
                // As agents of runs are watched.
                disk: Some(ByteCount::mib(1024)),
                idle: Some(Millis::from_secs(600)),
                grace: Millis(700),
            },
            sandbox,
            marker: format!("bench-{}", std::process::id()),
        })
    }

    /// The command's process, started ahead.
    pub(crate) fn hold(&self, command: &Command) -> anyhow::Result<Held> {
        Ok(hold_ahead(command, &self.stage, &self.containment)?)
    }
}

impl Room {
    /// The memory of a process that waits, in bytes, its part of what it shares included: in the small program, and in the
    /// large one.
    pub(crate) fn stages(&self) -> anyhow::Result<[u64; 2]> {
        let command = self.command("stage", Then::Ends, true)?;
        let memory = |stage: &[OsString]| -> anyhow::Result<u64> {
            let held = hold_ahead(&command, stage, &self.containment)?;
            // It has come as far as it gets when it sleeps.
            let state = || fs::read_to_string(format!("/proc/{}/stat", held.pid()));
            while !state()?.contains(") S ") {
                std::thread::yield_now();
            }
            let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", held.pid()))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
            Ok(line.split_whitespace().next().context("no figure")?.parse::<u64>()? * 1024)
        };
        Ok([memory(&self.stage)?, memory(&self.large_stage)?])
    }
}

/// Makes a held process what the command says.
pub(crate) fn claim(held: Held, command: &Command) -> anyhow::Result<Running> {
    Ok(held.claim(Claim::from(command))?)
}

/// Nanoseconds of the clock that all processes share.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// When the first instruction of the process ran whose output goes to this file; waits for it.
pub(crate) fn first_instruction(output: &std::path::Path) -> anyhow::Result<u64> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let text = fs::read_to_string(output).unwrap_or_default();
        if let Some((line, _)) = text.split_once('\n') {
            return Ok(line.parse()?);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    bail!("{} stayed empty", output.display())
}

/// Pages that are resident of this process, in bytes.
pub(crate) fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?.parse()?;
    ensure!(kib > 0, "no memory is resident");
    Ok(kib * 1024)
}
