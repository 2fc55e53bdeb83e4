//! Runs the commands of checks as bounded processes, and keeps their output as evidence.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_agents::{Command, Containment, Limits, Outcome as Ending, Sandbox, SpawnError, Stdin};
use quorate_base::{ByteCount, Digest, Millis, Timestamp};
use quorate_evidence::record::{Outcome, Output};
use quorate_pipeline::runner::{Invocation, Ran, RanOutput, Runner};

use super::examine::Examiner;
use crate::enclose::{self, Enclosing};
use crate::git::PrivateRepository;
use crate::spec::SandboxSpec;
use crate::spec::{SECRET_LEN_MIN, sounds_secret};
use crate::store::Store;

/// Output of one command kept on disk; a check that writes more is ended.
const OUTPUT_MAX: ByteCount = ByteCount::mib(2048);
/// How much of each end of an output the judging looks at.
const TEXT_MAX: usize = 64 << 10;

/// Starts the commands of one validator's checks.
pub(super) struct ProcessRunner<'a> {
    store: &'a Store,
    clock: &'a (dyn Fn() -> Timestamp + Sync),
    containment: Containment,
    sandbox: Option<&'a SandboxSpec>,
    repository: &'a PrivateRepository,
    scratch: PathBuf,
    checkout: PathBuf,
    memory: ByteCount,
    marker: String,
    environment: BTreeMap<OsString, OsString>,
    /// Values in it that evidence must not show.
    secrets: Vec<Vec<u8>>,
    runs: AtomicU64,
}

impl<'a> ProcessRunner<'a> {
    pub(super) fn new(
        examiner: &'a Examiner<'_>,
        repository: &'a PrivateRepository,
        checkout: &Path,
    ) -> std::io::Result<Self> {
        let scratch = examiner.scratch.to_owned();
        fs::create_dir_all(scratch.join("output"))?;
        // The node has started this process with the gate's allow-list and nothing else.
        let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let secret = |(name, value): (&OsString, &OsString)| {
            let bytes = value.as_encoded_bytes();
            (sounds_secret(&name.to_string_lossy()) && bytes.len() >= SECRET_LEN_MIN).then(|| bytes.to_vec())
        };
        Ok(Self {
            secrets: environment.iter().filter_map(secret).collect(),
            store: examiner.store,
            clock: examiner.clock,
            containment: Containment::nested(),
            sandbox: examiner.sandbox,
            repository,
            scratch,
            checkout: checkout.to_owned(),
            memory: examiner.memory,
            marker: examiner.run.to_string(),
            environment,
            runs: AtomicU64::new(0),
        })
    }

    /// The sandbox of a command, where the gate has one: the files it judges, and folders for what it builds and for
    /// what it throws away.
    fn sandbox(
        &self,
        cwd: &Path,
        target: &Path,
        env: &mut BTreeMap<OsString, OsString>,
    ) -> Result<Option<Sandbox>, enclose::Error> {
        let Some(spec) = self.sandbox else { return Ok(None) };
        let temporary = self.scratch.join("tmp");
        enclose::tell(env, &[], &temporary);
        enclose::make_temporary(&temporary)?;
        let made = fs::create_dir_all(target);
        made.map_err(|source| enclose::Error::Folder { path: target.to_owned(), source })?;
        // Keys, journals and what other validators work on lie in the store too.
        let store = self.store.root().parent().unwrap_or_else(|| self.store.root());
        let enclosing = Enclosing {
            spec,
            store,
            folder: Path::new("/"),
            repository: self.repository,
            worktree: cwd,
            temporary: &temporary,
            own: &[target],
            env,
        };
        enclosing.sandbox().map(Some)
    }

    fn keep(&self, path: &Path) -> Option<RanOutput> {
        let secrets = &self.secrets;
        let digest = (|| {
            let mut writer = self.store.writer().ok()?;
            let mut file = fs::File::open(path).ok()?;
            quorate_agents::redact_copy(&mut file, &mut writer, secrets).ok()?;
            let bytes = writer.bytes();
            Some(Output { digest: writer.keep().ok()?, bytes })
        })()?;
        let (head, tail) = quorate_agents::ends(path, TEXT_MAX).ok()?;
        let (head, tail) = (redacted(&head, secrets)?, redacted(&tail, secrets)?);
        fs::remove_file(path).ok();
        Some(RanOutput { output: digest, head, tail })
    }
}

impl Runner for ProcessRunner<'_> {
    fn run(&self, invocation: &Invocation) -> Ran {
        let started = (self.clock)();
        let n = self.runs.fetch_add(1, Ordering::Relaxed);
        let stdout = self.scratch.join("output").join(format!("{n}.out"));
        let stderr = self.scratch.join("output").join(format!("{n}.err"));
        let mut env = self.environment.clone();
        // Build results of the change and of its base stay apart, and outside the judged files.
        let target = if invocation.cwd.starts_with(&self.checkout) { "target-change" } else { "target-base" };
        let target = self.scratch.join(target);
        env.insert("CARGO_TARGET_DIR".into(), target.clone().into_os_string());
        env.insert("GIT_CEILING_DIRECTORIES".into(), self.scratch.clone().into_os_string());
        env.extend(invocation.env.iter().map(|(name, value)| (name.into(), value.into())));
        let sandbox = self.sandbox(&invocation.cwd, &target, &mut env);
        let environment = env.keys().map(|name| name.to_string_lossy().into_owned()).collect();
        let (sandbox, refusal) = match sandbox {
            Ok(sandbox) => (sandbox, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let command = Command {
            program: invocation.argv.first().cloned().unwrap_or_default().into(),
            args: invocation.argv.iter().skip(1).map(OsString::from).collect(),
            cwd: invocation.cwd.clone(),
            env,
            stdin: Stdin::Null,
            stdout: stdout.clone(),
            stderr: stderr.clone(),
            limits: Limits {
                wall: invocation.timeout,
                memory: self.memory,
                cpu: Millis(invocation.timeout.0.saturating_mul(8)),
                output: OUTPUT_MAX,
                processes: 4096,
                open_files: 4096,
                cpus: None,
                disk: None,
                idle: None,
                grace: Millis(700),
            },
            sandbox,
            marker: self.marker.clone(),
        };
        let mut ran = Ran {
            outcome: Outcome::Builtin,
            stdout: None,
            stderr: None,
            started,
            wall_ms: 0,
            cpu_ms: None,
            memory_peak_bytes: None,
            containment: Vec::new(),
            environment,
        };
        if let Some(reason) = refusal {
            ran.outcome = Outcome::Failed { reason };
            return ran;
        }
        let ended = quorate_agents::spawn(&command, &self.containment).map(|running| running.wait());
        ran.outcome = match ended {
            Err(SpawnError::NotFound { program }) => {
                let program = program.to_string_lossy().into_owned();
                let hint = quorate_pipeline::detect::install_hint(&program);
                Outcome::ToolMissing { program, hint }
            }
            Err(error) => Outcome::Failed { reason: error.to_string() },
            Ok(Err(error)) => Outcome::Failed { reason: error.to_string() },
            Ok(Ok(ended)) => {
                ran.wall_ms = ended.usage.wall.0;
                ran.cpu_ms = Some(ended.usage.cpu.0);
                ran.memory_peak_bytes = Some(ended.usage.memory_peak.0);
                ran.containment = ended.containment;
                match ended.outcome {
                    Ending::Exited { code } => Outcome::Exit { code },
                    Ending::Signaled { signal } => Outcome::Signal { signal },
                    Ending::WallLimit | Ending::Cancelled => Outcome::Timeout,
                    Ending::MemoryLimit => Outcome::OverMemory,
                    Ending::CpuLimit => Outcome::OverCpu,
                    ending @ (Ending::ProcessLimit
                    | Ending::DiskLimit
                    | Ending::Idle
                    | Ending::MemoryPressure) => {
                        Outcome::Failed { reason: format!("it was ended: {ending}") }
                    }
                    Ending::OutputLimit => Outcome::Failed {
                        reason: format!("it wrote more than {OUTPUT_MAX} of output and was ended"),
                    },
                }
            }
        };
        ran.stdout = self.keep(&stdout);
        ran.stderr = self.keep(&stderr);
        ran
    }

    fn store(&self, bytes: &[u8]) -> Digest {
        // An output that cannot be kept shows in the record: its digest names bytes nobody has.
        self.store.put(bytes).unwrap_or_else(|_| Digest::of(bytes))
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

fn redacted(text: &[u8], secrets: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut clean = Vec::with_capacity(text.len());
    quorate_agents::redact_copy(&mut &*text, &mut clean, secrets).ok()?;
    Some(clean)
}
