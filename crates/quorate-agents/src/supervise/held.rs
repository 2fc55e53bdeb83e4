//! A process that was started ahead and waits, in its sandbox, for the program it becomes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use quorate_base::Millis;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::ending::kill;
use super::live::Live;
use super::{Control, Given, Running, SpawnError};
use crate::command::Command;
use crate::containment::Containment;
use crate::hold::{self, FrameError, Stage};
use crate::idle::Progress;
use crate::{reaper, sys};

/// How long a process may take to become its program before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that was started ahead. It has everything of a [`Command`] but the program, its arguments and its
/// environment: session, group, limits, sandbox, folder and output. It dies with this process.
///
/// Dropped unclaimed, it is ended: when the drop returns, it is gone.
#[derive(Debug)]
pub struct Held {
    pid: u32,
    program: PathBuf,
    marker: String,
    given: Given,
    files: [PathBuf; 2],
    since: Instant,
    /// This side of the socket.
    channel: OwnedFd,
    alive: Arc<AtomicBool>,
    /// What is left of it once it is claimed.
    reins: Option<Reins>,
}

#[derive(Debug)]
struct Reins {
    running: Running,
    claims: Sender<Claimed>,
}

/// What a held process becomes.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Looked up in the `PATH` of `env` where it has no slash. Where it is not the program that the process was started
    /// for, its sandbox may keep it from being run.
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Where the folder that it was started in is now.
    pub cwd: PathBuf,
    /// The complete environment; `QUORATE_RUN` and `QUORATE_PROCESS` are put in.
    pub env: BTreeMap<OsString, OsString>,
    /// Counted from now.
    pub wall: Millis,
    /// Where the files that receive its output are from now on, on the file system on which they are.
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

/// What is left of a command to tell a process that was started ahead for it.
impl From<&Command> for Claim {
    fn from(command: &Command) -> Self {
        let Command { program, args, cwd, env, stdout, stderr, limits, .. } = command.clone();
        Self { program, args, cwd, env, wall: limits.wall, stdout, stderr }
    }
}

/// A held process did not become the program; it has been ended.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("the process that was started ahead has ended")]
    Ended,
    #[error("the process that was started ahead did not become the program within {} s", PATIENCE.as_secs())]
    Stuck,
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A process that is started now could not become it either.
    #[error(transparent)]
    Spawn(SpawnError),
    #[error("telling the process that was started ahead: {0}")]
    System(#[from] io::Error),
}

/// What the supervisor needs to know of a claim.
#[derive(Debug)]
struct Claimed {
    cwd: PathBuf,
    files: [PathBuf; 2],
    wall: Millis,
    began: Instant,
    held: Duration,
}

/// Starts a process that waits for its program, by running `stage` in its place: a program that calls [`crate::hold()`], with
/// its first arguments. The sandbox of `command` is entered with the right to read both programs; its arguments,
/// environment and wall limit are not used yet.
pub fn hold_ahead(
    command: &Command,
    stage: &[OsString],
    containment: &Containment,
) -> Result<Held, SpawnError> {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| SpawnError::System(errno.into()))?;
    let mut command = command.clone();
    if let (Some(sandbox), Some(program)) = (&mut command.sandbox, stage.first()) {
        sandbox.read.push(program.into());
    }
    let (claims, is_claimed) = mpsc::channel();
    let (program, marker) = (command.program.clone(), command.marker.clone());
    let files = [command.stdout.clone(), command.stderr.clone()];
    let alive = Arc::new(AtomicBool::new(true));
    let lives = Arc::clone(&alive);
    let stage = Stage { command: stage.to_vec(), channel: far };
    let (running, given) = super::begin(&command, containment, Some(stage), move |live| {
        let claimed = live.wait_for_claim(&is_claimed, &lives)?;
        live.claimed(claimed);
        Some(())
    })?;
    Ok(Held {
        pid: running.pid,
        program,
        marker,
        given,
        files,
        since: Instant::now(),
        channel: near,
        alive,
        reins: Some(Reins { running, claims }),
    })
}

impl Held {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still waits. One that does not can only be dropped.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// Asks for its end and does not wait for it: many that are asked first and dropped then end side by side.
    pub fn release(&self) {
        if let Some(reins) = &self.reins {
            reins.running.control.cancel();
        }
    }

    /// Makes it the program. When this returns, the program has been put into place of what waited; its limits on time
    /// begin now.
    pub fn claim(mut self, claim: Claim) -> Result<Running, ClaimError> {
        if !self.is_alive() {
            return Err(ClaimError::Ended);
        }
        let mut env = claim.env;
        env.insert("QUORATE_RUN".into(), self.marker.clone().into());
        env.insert("QUORATE_PROCESS".into(), self.given.token.clone().into());
        env.extend(self.given.variables.clone());
        let frame = hold::frame(&claim.program, &claim.args, &env)?;
        let to = [claim.stdout, claim.stderr];
        for (from, to) in self.files.iter().zip(&to) {
            fs::rename(from, to)
                .map_err(|source| ClaimError::Spawn(SpawnError::File { path: to.clone(), source }))?;
        }
        let began = Instant::now();
        self.tell(&frame, began)?;
        if let Some(errno) = self.answer(began)? {
            return Err(ClaimError::Spawn(self.refusal(&claim.program, errno.into())));
        }
        let Some(reins) = self.reins.take() else { return Err(ClaimError::Ended) };
        let held = began.duration_since(self.since);
        let _ = reins.claims.send(Claimed { cwd: claim.cwd, files: to, wall: claim.wall, began, held });
        reins.running.control.ring();
        Ok(reins.running)
    }

    fn tell(&self, frame: &[u8], began: Instant) -> Result<(), ClaimError> {
        let mut left = frame;
        while !left.is_empty() {
            match send(&self.channel, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => left = left.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, began)?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ClaimError::Ended),
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Ok(())
    }

    /// The error for which it could not become the program, if there was one.
    fn answer(&self, began: Instant) -> Result<Option<Errno>, ClaimError> {
        self.wait(PollFlags::IN, began)?;
        let mut errno = [0; 4];
        match rustix::io::read(&self.channel, &mut errno) {
            // Ended while it was told is the same to this side; its supervisor will see how.
            Ok(0) => Ok(None),
            Ok(4) => Ok(Some(Errno::from_raw_os_error(i32::from_le_bytes(errno)))),
            Ok(_) => Err(ClaimError::Stuck),
            Err(Errno::CONNRESET) => Err(ClaimError::Ended),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    fn wait(&self, flags: PollFlags, began: Instant) -> Result<(), ClaimError> {
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let timeout = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::from_borrowed_fd(self.channel.as_fd(), flags)], Some(&timeout)) {
                Ok(0) => return Err(ClaimError::Stuck),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    fn refusal(&self, program: &Path, source: io::Error) -> SpawnError {
        let program = program.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => SpawnError::NotFound { program },
            io::ErrorKind::PermissionDenied if program != self.program => {
                SpawnError::NotExecutableInside { program, source }
            }
            _ => SpawnError::NotExecutable { program, source },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(Reins { running, claims }) = self.reins.take() {
            running.control.cancel();
            drop(claims);
            let _ = running.thread.join();
        }
    }
}

impl Live {
    /// Waits until the process is claimed. Nothing where it is not wanted any more, and then it is gone.
    fn wait_for_claim(&self, claims: &Receiver<Claimed>, alive: &AtomicBool) -> Option<Claimed> {
        let claimed = loop {
            let mut fds =
                [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&*self.control.bell, PollFlags::IN)];
            let polled = poll(&mut fds, None);
            let ended = fds[0].revents().contains(PollFlags::IN);
            self.control.hush();
            match claims.try_recv() {
                Ok(claimed) => break Some(claimed),
                Err(TryRecvError::Disconnected) => break None,
                Err(TryRecvError::Empty) if self.control.is_unwanted() => break None,
                Err(TryRecvError::Empty) if ended => {
                    alive.store(false, Ordering::SeqCst);
                    // It may have been claimed, and done, before this thread was told.
                    break claims.recv().ok();
                }
                Err(TryRecvError::Empty) if polled.is_err_and(|errno| errno != Errno::INTR) => break None,
                Err(TryRecvError::Empty) => {}
            }
        };
        if claimed.is_none() {
            // What only waits has started nothing.
            alive.store(false, Ordering::SeqCst);
            kill(self.pid);
            let _ = sys::wait(self.pid);
            reaper::left(self.pid);
        }
        claimed
    }

    fn claimed(&mut self, claimed: Claimed) {
        self.files = claimed.files;
        self.limits.wall = claimed.wall;
        self.began = claimed.began;
        self.searched = claimed.began;
        self.progress = self.limits.idle.map(|idle| Progress::new(idle.to_duration(), claimed.began));
        // What was there before is not its own.
        let before = self.disk.take();
        self.disk = before.and_then(|disk| disk.moved(claimed.cwd).ok());
        self.sandbox.insert(0, format!("start: from the fleet, held for {} ms", claimed.held.as_millis()));
        if self.control.is_unwanted() {
            self.control.ring();
        }
    }
}

impl Control {
    fn ring(&self) {
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }

    fn hush(&self) {
        let _ = rustix::io::read(&*self.bell, &mut [0_u8; 8]);
    }

    /// It is to end: asked for, or for want of memory.
    fn is_unwanted(&self) -> bool {
        self.wishes.cancel.load(Ordering::SeqCst) || self.wishes.shed.load(Ordering::SeqCst)
    }
}
