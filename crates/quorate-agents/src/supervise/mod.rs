//! Starting a process, watching its tree, and ending it.

mod ending;
mod held;
mod live;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quorate_base::{ByteCount, Millis};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::command::{Command, Stdin};
use crate::containment::{Containment, Controller, Group};
use crate::disk::DiskWatch;
use crate::hold::Stage;
use crate::idle::Progress;
use crate::reaper;
use crate::sandbox::{self, Enclosure};
use crate::sys::{self, Setup};
use crate::tree;
use live::{Live, Pause, Seen};

/// RLIMIT_NPROC counts all tasks of a user: those there are already have to fit beside the tree's own, and those of so
/// many trees that may be started later.
const TREES: u64 = 8;
/// Added to twice the memory limit for RLIMIT_DATA, which counts what is reserved, not what is used.
const DATA_EXTRA: u64 = 256 << 20;
/// Added to the larger of the disk and output limits for RLIMIT_FSIZE, so that the watchdog is first.
const FILE_EXTRA: u64 = 64 << 20;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Exited {
        code: i32,
    },
    Signaled {
        signal: i32,
    },
    WallLimit,
    MemoryLimit,
    CpuLimit,
    OutputLimit,
    ProcessLimit,
    DiskLimit,
    /// It made no progress for too long.
    Idle,
    /// Ended by [`Control::shed`]: the machine ran out of memory.
    MemoryPressure,
    Cancelled,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exit {code}"),
            Self::Signaled { signal } => write!(f, "killed by signal {signal}"),
            Self::WallLimit => f.write_str("wall time limit"),
            Self::MemoryLimit => f.write_str("memory limit"),
            Self::CpuLimit => f.write_str("CPU time limit"),
            Self::OutputLimit => f.write_str("output limit"),
            Self::ProcessLimit => f.write_str("process limit"),
            Self::DiskLimit => f.write_str("disk limit"),
            Self::Idle => f.write_str("idle"),
            Self::MemoryPressure => f.write_str("memory pressure"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
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

/// What a supervisor has to say while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It made no progress for this long, and is asked to end now.
    Idle { silent: Millis },
}

#[derive(Debug)]
enum News {
    Note(Note),
    Ended(Result<Ended, WaitError>),
}

pub use held::{Claim, ClaimError, Held, hold_ahead};

/// A process under supervision.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    control: Control,
    news: Receiver<News>,
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
    shed: AtomicBool,
    pause: AtomicBool,
}

impl Control {
    /// Asks for the end of the tree; politely first, surely after the grace time.
    pub fn cancel(&self) {
        self.wish(&self.wishes.cancel, true);
    }

    /// Ends the tree at once, because the machine needs its memory.
    pub fn shed(&self) {
        self.wish(&self.wishes.shed, true);
    }

    /// Stops the whole tree where it is. Its wall time and its idle time stand still too.
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

    /// Waits for the end of the whole tree.
    pub fn wait(mut self) -> Result<Ended, WaitError> {
        loop {
            match self.wait_for(Duration::MAX, |_| {}) {
                Ok(ended) => return ended,
                Err(running) => self = running,
            }
        }
    }

    /// Waits for the end of the whole tree, so long at most, and hears what the supervisor has to say before; after that
    /// time it is given back.
    pub fn wait_for(
        self,
        time: Duration,
        mut heard: impl FnMut(Note),
    ) -> Result<Result<Ended, WaitError>, Self> {
        let began = Instant::now();
        loop {
            match self.news.recv_timeout(time.saturating_sub(began.elapsed())) {
                Ok(News::Note(note)) => heard(note),
                Ok(News::Ended(ended)) => {
                    let _ = self.thread.join();
                    return Ok(ended);
                }
                Err(RecvTimeoutError::Timeout) => return Err(self),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(WaitError::Lost)),
            }
        }
    }
}

/// Starts a process. It dies with the thread that supervises it, and so with this process.
pub fn spawn(command: &Command, containment: &Containment) -> Result<Running, SpawnError> {
    begin(command, containment, None, |_| Some(())).map(|(running, _)| running)
}

/// What a process was started with beside its command.
#[derive(Debug)]
struct Given {
    /// By which its members are known.
    token: String,
    /// Variables by which it finds its proxy.
    variables: Vec<(OsString, OsString)>,
}

/// Starts a process, or a stage that waits to become one, in a thread that watches it. What comes before watching is the
/// caller's; where it answers nothing, the process is gone.
fn begin(
    command: &Command,
    containment: &Containment,
    stage: Option<Stage>,
    before: impl FnOnce(&mut Live) -> Option<()> + Send + 'static,
) -> Result<(Running, Given), SpawnError> {
    if !command.cwd.is_dir() {
        return Err(SpawnError::NoFolder { cwd: command.cwd.clone() });
    }
    let bell = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| SpawnError::System(errno.into()))?,
    );
    let control = Control { wishes: Arc::default(), bell, usage: Arc::new(Mutex::new(Usage::default())) };
    let (started, is_started) = mpsc::sync_channel(1);
    let (sender, news) = mpsc::channel();
    let supervisor = Supervisor {
        command: command.clone(),
        stage,
        containment: containment.clone(),
        control: control.clone(),
        news: sender.clone(),
    };
    let thread = thread::Builder::new()
        .name("supervisor".into())
        .stack_size(256 << 10)
        .spawn(move || match supervisor.start() {
            Ok((mut live, given)) => {
                let _ = started.send(Ok((live.pid, given)));
                if before(&mut live).is_some() {
                    let _ = sender.send(News::Ended(live.supervise()));
                }
            }
            Err(error) => drop(started.send(Err(error))),
        })
        .map_err(SpawnError::System)?;
    let (pid, given) =
        is_started.recv().map_err(|_| SpawnError::System(io::Error::other("the supervisor is gone")))??;
    Ok((Running { pid, control, news, thread }, given))
}

struct Supervisor {
    command: Command,
    /// Started in place of the command's program.
    stage: Option<Stage>,
    containment: Containment,
    control: Control,
    news: Sender<News>,
}

static TOKENS: AtomicU64 = AtomicU64::new(0);

fn open(path: &PathBuf) -> Result<File, SpawnError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.map_err(|source| SpawnError::File { path: path.clone(), source })
}

impl Supervisor {
    fn start(self) -> Result<(Live, Given), SpawnError> {
        let command = &self.command;
        let limits = command.limits;
        let token = format!("{}-{}", std::process::id(), TOKENS.fetch_add(1, Ordering::Relaxed));
        let group = self.containment.group(&command.marker, &limits);
        let groups = group.as_ref().map(Group::entrances).transpose().map_err(SpawnError::System)?;
        let disk = limits.disk.map(|limit| limit.0);
        let watch = (disk.is_some() || limits.idle.is_some())
            .then(|| DiskWatch::start(command.own_folders(), disk))
            .transpose()
            .map_err(SpawnError::System)?;
        let mut child = match &self.stage {
            Some(stage) => stage.child(),
            None => {
                let mut child = std::process::Command::new(&command.program);
                child.args(&command.args).env_clear().envs(&command.env);
                child
            }
        };
        child.current_dir(&command.cwd).env("QUORATE_RUN", &command.marker).env("QUORATE_PROCESS", &token);
        child.stdout(open(&command.stdout)?).stderr(open(&command.stderr)?).stdin(self.stdin()?);
        let (enclosure, entrant) = match &command.sandbox {
            None => (None, None),
            Some(sandbox) => {
                let (enclosure, entrant) = Enclosure::prepare(command, sandbox, self.containment.sandbox())?;
                (Some(enclosure), Some(entrant))
            }
        };
        let variables: Vec<(OsString, OsString)> = enclosure
            .iter()
            .flat_map(Enclosure::variables)
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        child.envs(variables.iter().map(|(name, value)| (name, value)));
        let held = group.as_ref().is_some_and(|group| group.holds(Controller::Pids).is_some());
        let setup = Setup {
            // Without a group, ancestry is all that tells whose an orphan is.
            subreaper: group.is_none(),
            groups: groups.unwrap_or_default(),
            user_tasks: (!held)
                .then(|| tree::tasks().saturating_add(u64::from(limits.processes).saturating_mul(TREES))),
            file_bytes: disk.map_or(u64::MAX, |disk| disk.max(limits.output.0).saturating_add(FILE_EXTRA)),
            data_bytes: limits.memory.0.saturating_mul(2).saturating_add(DATA_EXTRA),
            // Whole seconds, and one more: the watchdog's exact limit comes first.
            cpu_seconds: limits.cpu.0 / 1000 + 2,
            open_files: limits.open_files,
            sandbox: entrant,
            passed: self.stage.as_ref().map(|stage| stage.channel.as_raw_fd()),
        };
        sys::prepare(&mut child, setup);
        let began = Instant::now();
        let child = reaper::start(&mut child, group.as_ref());
        let child = child.map_err(|source| self.refusal(source, enclosure.as_ref()))?;
        let pid = child.id();
        let proxy = enclosure.as_ref().map(Enclosure::proxy).transpose();
        let pidfd =
            i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let Some(Ok(pidfd)) = pidfd else {
            let mut child = child;
            let _ = child.kill().and_then(|()| child.wait());
            reaper::left(pid);
            let reason = "the kernel offers no pidfd; Linux 5.3 or newer is needed";
            return Err(SpawnError::System(io::Error::other(reason)));
        };
        let proxy = match proxy {
            Ok(proxy) => proxy.flatten(),
            Err(error) => {
                let mut child = child;
                let _ = child.kill().and_then(|()| child.wait());
                reaper::left(pid);
                return Err(error.into());
            }
        };
        let given = Given { token: token.clone(), variables };
        let live = Live {
            pid,
            pidfd,
            group,
            token,
            limits,
            files: [command.stdout.clone(), command.stderr.clone()],
            sandbox: enclosure.map_or_else(Vec::new, |enclosure| enclosure.lines),
            proxy,
            began,
            known: BTreeMap::new(),
            searched: began,
            tasks: 0,
            seen: Seen::default(),
            pause: Pause::default(),
            disk: watch,
            progress: limits.idle.map(|idle| Progress::new(idle.to_duration(), began)),
            control: self.control,
            news: self.news,
        };
        Ok((live, given))
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
