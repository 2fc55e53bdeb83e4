//! Starting a process, watching its tree, and ending it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quorate_base::{ByteCount, Millis};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::command::{Command, Limits, Stdin};
use crate::containment::{Containment, Group};
use crate::sandbox::{self, Enclosure};
use crate::sys::{self, Setup};
use crate::tree::{self, Process};

/// Between looks at a tree: at first and near a limit, and otherwise.
const LOOK_CLOSE: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(100);
/// How long a new tree is looked at closely.
const INFANCY: Duration = Duration::from_millis(150);
/// Between searches of all of `/proc` for members that have left session and parent behind.
const SEARCH: Duration = Duration::from_millis(200);
/// How long killing what is left of a tree may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Added to twice the memory limit for RLIMIT_DATA, which counts what is reserved, not what is used.
const DATA_EXTRA: u64 = 256 << 20;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Exited { code: i32 },
    Signaled { signal: i32 },
    WallLimit,
    MemoryLimit,
    CpuLimit,
    OutputLimit,
    Cancelled,
}

/// What a tree used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Without the time in which it was paused.
    pub wall: Millis,
    pub paused: Millis,
    /// User and system time, summed over the tree as far as it was seen.
    pub cpu: Millis,
    /// Sum of resident memory when last looked; nothing once the tree has ended.
    pub memory: ByteCount,
    /// Largest sum of resident memory seen; pages shared within the tree count each time.
    pub memory_peak: ByteCount,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    pub usage: Usage,
    /// Which layer held what.
    pub containment: Vec<String>,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("the program `{}` is not there; install it, or correct its name", program.display())]
    NotFound { program: PathBuf },
    #[error("`{}` cannot be run: {source}", program.display())]
    NotExecutable { program: PathBuf, source: io::Error },
    #[error(
        "`{}` cannot be run: {source}; where it is a script, its sandbox must be able to read what runs it: name the folder in `read`",
        program.display()
    )]
    NotExecutableInside { program: PathBuf, source: io::Error },
    #[error("the folder {} is not there", cwd.display())]
    NoFolder { cwd: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error("no process could be started: {0}")]
    System(io::Error),
}

/// A process was started, but how it ended is not known.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("waiting for the process: {0}")]
    System(#[from] io::Error),
    #[error("the thread that watched the process is gone")]
    Lost,
}

/// A process under supervision.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    control: Control,
    ended: Receiver<Result<Ended, WaitError>>,
    thread: thread::JoinHandle<()>,
}

/// Ends, pauses or looks at a process from anywhere. Nothing here waits.
#[derive(Debug, Clone)]
pub struct Control {
    wishes: Arc<Wishes>,
    bell: Arc<OwnedFd>,
    usage: Arc<Mutex<Usage>>,
}

#[derive(Debug, Default)]
struct Wishes {
    cancel: AtomicBool,
    pause: AtomicBool,
}

impl Control {
    /// Asks for the end of the tree; politely first, surely after the grace time.
    pub fn cancel(&self) {
        self.wish(&self.wishes.cancel, true);
    }

    /// Stops the whole tree where it is. Its wall time stands still too.
    pub fn pause(&self) {
        self.wish(&self.wishes.pause, true);
    }

    /// Lets a paused tree go on.
    pub fn resume(&self) {
        self.wish(&self.wishes.pause, false);
    }

    /// What the tree had used when it was last looked at.
    pub fn usage_now(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, what: &AtomicBool, value: bool) {
        what.store(value, Ordering::SeqCst);
        // The supervisor also looks by itself; the bell only makes it look now.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits for the end of the whole tree, so long at most; then it is given back.
    pub fn wait_for(self, time: Duration) -> Result<Result<Ended, WaitError>, Self> {
        match self.ended.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Err(self),
            ended => {
                let _ = self.thread.join();
                Ok(ended.map_err(|_| WaitError::Lost).flatten())
            }
        }
    }

    /// Waits for the end of the whole tree.
    pub fn wait(self) -> Result<Ended, WaitError> {
        let ended = self.ended.recv().map_err(|_| WaitError::Lost)?;
        let _ = self.thread.join();
        ended
    }
}

/// Starts a process. It dies with the thread that supervises it, and so with this process.
pub fn spawn(command: &Command, containment: &Containment) -> Result<Running, SpawnError> {
    if !command.cwd.is_dir() {
        return Err(SpawnError::NoFolder { cwd: command.cwd.clone() });
    }
    let bell = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| SpawnError::System(errno.into()))?,
    );
    let control = Control { wishes: Arc::default(), bell, usage: Arc::new(Mutex::new(Usage::default())) };
    let (started, is_started) = mpsc::sync_channel(1);
    let (ended, is_ended) = mpsc::sync_channel(1);
    let supervisor =
        Supervisor { command: command.clone(), containment: containment.clone(), control: control.clone() };
    let thread = thread::Builder::new()
        .name("supervisor".into())
        .stack_size(256 << 10)
        .spawn(move || match supervisor.start() {
            Ok(live) => {
                let _ = started.send(Ok(live.pid));
                let _ = ended.send(live.supervise());
            }
            Err(error) => drop(started.send(Err(error))),
        })
        .map_err(SpawnError::System)?;
    let pid =
        is_started.recv().map_err(|_| SpawnError::System(io::Error::other("the supervisor is gone")))??;
    Ok(Running { pid, control, ended: is_ended, thread })
}

struct Supervisor {
    command: Command,
    containment: Containment,
    control: Control,
}

/// A live process and what its supervisor knows about it.
struct Live {
    pid: u32,
    pidfd: OwnedFd,
    group: Option<Group>,
    /// In the environment of every member that has not replaced it.
    token: String,
    limits: Limits,
    files: [PathBuf; 2],
    /// Which layer of the sandbox holds what.
    sandbox: Vec<String>,
    began: Instant,
    known: BTreeMap<u32, u64>,
    searched: Instant,
    peak: u64,
    cpu_ms: u64,
    control: Control,
    pause: Pause,
}

/// Time in which the tree stood still because the node wanted it to.
#[derive(Debug, Default)]
struct Pause {
    since: Option<Instant>,
    before: Duration,
}

impl Pause {
    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

static TOKENS: AtomicU64 = AtomicU64::new(0);

fn open(path: &PathBuf) -> Result<File, SpawnError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.map_err(|source| SpawnError::File { path: path.clone(), source })
}

impl Supervisor {
    fn start(self) -> Result<Live, SpawnError> {
        let command = &self.command;
        let limits = command.limits;
        let token = format!("{}-{}", std::process::id(), TOKENS.fetch_add(1, Ordering::Relaxed));
        let group = self.containment.group(&command.marker, &limits);
        let entrance = group.as_ref().map(Group::entrance).transpose().map_err(SpawnError::System)?;
        let mut child = std::process::Command::new(&command.program);
        child.args(&command.args).current_dir(&command.cwd).env_clear().envs(&command.env);
        child.env("QUORATE_RUN", &command.marker).env("QUORATE_PROCESS", &token);
        child.stdout(open(&command.stdout)?).stderr(open(&command.stderr)?).stdin(self.stdin()?);
        let (enclosure, entrant) = match &command.sandbox {
            None => (None, None),
            Some(sandbox) => {
                let (enclosure, entrant) = Enclosure::prepare(command, sandbox, self.containment.sandbox())?;
                (Some(enclosure), Some(entrant))
            }
        };
        let setup = Setup {
            group: entrance,
            data_bytes: limits.memory.0.saturating_mul(2).saturating_add(DATA_EXTRA),
            // Whole seconds, and one more: the watchdog's exact limit comes first.
            cpu_seconds: limits.cpu.0 / 1000 + 2,
            open_files: limits.open_files,
            sandbox: entrant,
        };
        sys::prepare(&mut child, setup);
        let began = Instant::now();
        let child = child.spawn().map_err(|source| self.refusal(source, enclosure.as_ref()))?;
        let pid = child.id();
        let pidfd =
            i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let Some(Ok(pidfd)) = pidfd else {
            let reason = "the kernel offers no pidfd; Linux 5.3 or newer is needed";
            return Err(SpawnError::System(io::Error::other(reason)));
        };
        Ok(Live {
            pid,
            pidfd,
            group,
            token,
            limits,
            files: [command.stdout.clone(), command.stderr.clone()],
            sandbox: enclosure.map_or_else(Vec::new, |enclosure| enclosure.lines),
            began,
            known: BTreeMap::new(),
            searched: began,
            peak: 0,
            cpu_ms: 0,
            control: self.control,
            pause: Pause::default(),
        })
    }

    /// Why there is no process: it could not enter its sandbox, or not become the program.
    fn refusal(&self, source: io::Error, enclosure: Option<&Enclosure>) -> SpawnError {
        let program = self.command.program.clone();
        let source = match enclosure {
            None => source,
            Some(enclosure) => match enclosure.failure(source) {
                Ok(error) => return error.into(),
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return SpawnError::NotExecutableInside { program, source };
                }
                Err(source) => source,
            },
        };
        match source.kind() {
            io::ErrorKind::NotFound => SpawnError::NotFound { program },
            _ => SpawnError::NotExecutable { program, source },
        }
    }

    /// Input comes from a file nobody else can find, so that neither side waits for the other.
    fn stdin(&self) -> Result<Stdio, SpawnError> {
        let bytes = match &self.command.stdin {
            Stdin::Null => return Ok(Stdio::null()),
            Stdin::Bytes(bytes) => bytes,
        };
        let mut path: OsString = self.command.stdout.clone().into_os_string();
        path.push(".in");
        let path = PathBuf::from(path);
        let fill = || -> io::Result<File> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            let file = File::open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        fill().map(Stdio::from).map_err(|source| SpawnError::File { path: path.clone(), source })
    }
}

impl Live {
    fn supervise(mut self) -> Result<Ended, WaitError> {
        let forced = loop {
            let interval = self.interval();
            if self.wait_until_ended(interval)? {
                break None;
            }
            self.heed_pause();
            if let Some(reason) = self.exceeded() {
                let at_once = matches!(reason, Outcome::MemoryLimit | Outcome::OutputLimit);
                self.end(if at_once { Duration::ZERO } else { self.limits.grace.to_duration() })?;
                break Some(reason);
            }
        };
        self.look();
        let (status, used) = sys::wait(self.pid)?;
        let wall = self.worked();
        self.kill_leftovers();
        let out_of_memory = self.group.as_ref().is_some_and(Group::ran_out_of_memory);
        let outcome = match forced {
            Some(reason) => reason,
            None if out_of_memory => Outcome::MemoryLimit,
            None => match (status.code(), status.signal()) {
                (Some(code), _) => Outcome::Exited { code },
                (None, Some(signal)) if signal == Signal::XCPU.as_raw() => Outcome::CpuLimit,
                (None, signal) => Outcome::Signaled { signal: signal.unwrap_or(0) },
            },
        };
        let peak = self.group.as_ref().and_then(Group::memory_peak).unwrap_or(self.peak);
        let usage = Usage {
            wall: wall.into(),
            paused: self.pause.total().into(),
            cpu: Millis(self.cpu_ms.max(used.cpu_ms)),
            memory: ByteCount(0),
            memory_peak: ByteCount(peak.max(used.peak_bytes)),
        };
        let [stdout_bytes, stderr_bytes] = self.output_bytes();
        Ok(Ended { outcome, usage, containment: self.layers(), stdout_bytes, stderr_bytes })
    }

    fn layers(&self) -> Vec<String> {
        let group = self.group.as_ref();
        let memory =
            if group.is_some_and(|group| group.memory) { "cgroup v2" } else { "watchdog and RLIMIT_DATA" };
        let mut layers = vec![
            format!("tree: {}", if group.is_some() { "cgroup v2 kill" } else { "session and /proc" }),
            format!("memory: {memory}"),
            "cpu: watchdog and RLIMIT_CPU".to_owned(),
        ];
        if group.is_some_and(|group| group.pids) {
            layers.push("processes: cgroup v2".to_owned());
        }
        layers.extend(self.sandbox.iter().cloned());
        layers
    }

    /// Wall time without that in which the tree was paused.
    fn worked(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.pause.total())
    }

    fn interval(&self) -> Duration {
        if self.pause.since.is_some() {
            // However little of its time is left.
            return LOOK;
        }
        let near = self.peak > self.limits.memory.0 / 2;
        let interval = if near || self.began.elapsed() < INFANCY { LOOK_CLOSE } else { LOOK };
        let left = self.limits.wall.to_duration().saturating_sub(self.worked());
        interval.min(left.max(Duration::from_millis(1)))
    }

    /// Waits for the leader's end or a cancellation, at most this long; whether the leader has ended.
    fn wait_until_ended(&self, patience: Duration) -> io::Result<bool> {
        let bell = &*self.control.bell;
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {
                // Heard; what was wished for is looked at next.
                let _ = rustix::io::read(bell, &mut [0_u8; 8]);
                Ok(fds[0].revents().contains(PollFlags::IN))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Pauses or resumes as the node wishes.
    fn heed_pause(&mut self) {
        let wanted = self.control.wishes.pause.load(Ordering::SeqCst);
        match (wanted, self.pause.since) {
            (true, since) => {
                let frozen = self.group.as_ref().is_some_and(Group::can_freeze);
                if frozen && since.is_none() {
                    let _ = self.group.as_ref().is_some_and(Group::freeze);
                } else if !frozen {
                    // Again at every look: somebody may have been started, or woken up, since.
                    self.signal_members(Signal::STOP);
                }
                self.pause.since = since.or_else(|| Some(Instant::now()));
            }
            (false, Some(since)) => {
                self.wake();
                self.pause.before += since.elapsed();
                self.pause.since = None;
            }
            (false, None) => {}
        }
    }

    /// Lets the tree go on.
    fn wake(&mut self) {
        if self.pause.since.is_none() {
            return;
        }
        if let Some(group) = self.group.as_ref().filter(|group| group.can_freeze()) {
            group.thaw();
        } else {
            self.signal_members(Signal::CONT);
        }
    }

    fn signal_members(&mut self, signal: Signal) {
        for pid in self.members().keys() {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// The limit that has been passed, if one has.
    fn exceeded(&mut self) -> Option<Outcome> {
        if self.control.wishes.cancel.load(Ordering::SeqCst) {
            return Some(Outcome::Cancelled);
        }
        if self.worked() >= self.limits.wall.to_duration() {
            return Some(Outcome::WallLimit);
        }
        let resident = self.look();
        if resident > self.limits.memory.0 {
            return Some(Outcome::MemoryLimit);
        }
        if self.cpu_ms > self.limits.cpu.0 {
            return Some(Outcome::CpuLimit);
        }
        (self.output_bytes().iter().sum::<u64>() > self.limits.output.0).then_some(Outcome::OutputLimit)
    }

    fn output_bytes(&self) -> [u64; 2] {
        [0, 1].map(|i| std::fs::metadata(&self.files[i]).map_or(0, |metadata| metadata.len()))
    }

    /// Looks at the tree: what it has used, and who belongs to it. Answers the memory resident now.
    fn look(&mut self) -> u64 {
        let members = self.members();
        let page = rustix::param::page_size() as u64;
        let tick_ms = 1000 / rustix::param::clock_ticks_per_second().max(1);
        let resident: u64 = members.values().map(|process| process.resident_pages * page).sum();
        let cpu: u64 = members.values().map(|process| process.cpu_ticks * tick_ms).sum();
        self.peak = self.peak.max(resident);
        self.cpu_ms = self.cpu_ms.max(cpu);
        let now = Usage {
            wall: self.worked().into(),
            paused: self.pause.total().into(),
            cpu: Millis(self.cpu_ms),
            memory: ByteCount(resident),
            memory_peak: ByteCount(self.peak),
        };
        *self.control.usage.lock().unwrap_or_else(PoisonError::into_inner) = now;
        resident
    }

    fn members(&mut self) -> BTreeMap<u32, Process> {
        if let Some(group) = &self.group {
            return group.pids().into_iter().filter_map(|pid| Some((pid, tree::process(pid)?))).collect();
        }
        if self.known.is_empty() || self.searched.elapsed() >= SEARCH {
            self.searched = Instant::now();
            return tree::members(self.pid, &mut self.known);
        }
        let still = |(pid, started): (&u32, &u64)| {
            let process = tree::process(*pid).filter(|process| process.started == *started)?;
            Some((*pid, process))
        };
        self.known.iter().filter_map(still).collect()
    }

    /// Ends the leader: asks, waits, kills.
    fn end(&mut self, grace: Duration) -> io::Result<()> {
        let leader = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if !grace.is_zero() {
            if let Some(leader) = leader {
                let _ = kill_process_group(leader, Signal::TERM);
            }
            // Nobody who stands still can answer.
            self.wake();
            let deadline = Instant::now() + grace;
            // The bell has been heard; only the leader's end is waited for now.
            while Instant::now() < deadline {
                let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
                let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                let _ = poll(&mut fds, Some(&timeout));
                if fds[0].revents().contains(PollFlags::IN) {
                    return Ok(());
                }
            }
        }
        self.look();
        self.kill_everything();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        loop {
            match poll(&mut fds, None) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn kill_everything(&mut self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        if let Some(leader) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        self.searched = self.began;
        let members =
            if self.group.is_some() { self.members() } else { tree::members(self.pid, &mut self.known) };
        for pid in members.keys() {
            kill(*pid);
        }
    }

    /// Kills what is left of the tree after its leader has ended, until nothing is.
    fn kill_leftovers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let left: Vec<u32> = match &self.group {
                Some(group) => group.pids(),
                None => self.left_without_group(),
            };
            if left.is_empty() {
                return;
            }
            if let Some(group) = &self.group {
                group.kill();
            }
            for pid in left {
                kill(pid);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn left_without_group(&mut self) -> Vec<u32> {
        // The leader's number is free by now: nothing below it is ours unless it was known or says so itself.
        let needle = format!("QUORATE_PROCESS={}", self.token);
        let mut left = Vec::new();
        for (pid, process) in tree::all() {
            if process.ended || pid == std::process::id() {
                continue;
            }
            let known = self.known.get(&pid) == Some(&process.started);
            let marked = || {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|entry| entry == needle.as_bytes())
            };
            if known || process.session == self.pid || marked() {
                left.push(pid);
            }
        }
        left
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
