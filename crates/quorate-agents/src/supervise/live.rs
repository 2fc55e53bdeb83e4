//! The loop of a supervisor: look, compare with the limits, end.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use quorate_base::{ByteCount, Millis};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Signal, kill_process};

use super::{Control, Ended, News, Note, Outcome, Usage, WaitError};
use crate::command::Limits;
use crate::containment::{Controller, Group, processes_without_group};
use crate::disk::DiskWatch;
use crate::egress::Proxy;
use crate::idle::{Progress, Traces};
use crate::tree::{self, Process};
use crate::{reaper, sys};

/// Between looks at a tree: at first and near a limit, and otherwise.
const LOOK_CLOSE: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(100);
/// How long a new tree is looked at closely.
const INFANCY: Duration = Duration::from_millis(150);
/// Between searches of all of `/proc` for members that have left session and parent behind.
const SEARCH: Duration = Duration::from_millis(200);

/// A live process and what its supervisor knows about it.
pub(super) struct Live {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) group: Option<Group>,
    /// In the environment of every member that has not replaced it.
    pub(super) token: String,
    pub(super) limits: Limits,
    pub(super) files: [PathBuf; 2],
    /// Which layer of the sandbox holds what.
    pub(super) sandbox: Vec<String>,
    /// Ends with the tree.
    pub(super) proxy: Option<Proxy>,
    pub(super) began: Instant,
    pub(super) known: BTreeMap<u32, u64>,
    pub(super) searched: Instant,
    /// How many tasks the machine had then.
    pub(super) tasks: u64,
    pub(super) seen: Seen,
    pub(super) pause: Pause,
    pub(super) disk: Option<DiskWatch>,
    pub(super) progress: Option<Progress>,
    pub(super) control: Control,
    pub(super) news: Sender<News>,
}

/// What the looks at a tree have found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    resident: u64,
    peak: u64,
    cpu_ms: u64,
    processes: u64,
    output: u64,
}

/// Time in which the tree stood still because the node wanted it to.
#[derive(Debug, Default)]
pub(super) struct Pause {
    since: Option<Instant>,
    before: Duration,
}

impl Pause {
    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Live {
    pub(super) fn supervise(mut self) -> Result<Ended, WaitError> {
        if !self.holds(Controller::Pids) {
            // A machine full of processes must not keep this thread from ending them. Refused to ordinary users.
            sys::urgent();
        }
        let forced = loop {
            let interval = self.interval();
            if self.wait_until_ended(interval)? {
                break None;
            }
            self.heed_pause();
            if let Some(reason) = self.exceeded() {
                let at_once = matches!(
                    reason,
                    Outcome::MemoryLimit
                        | Outcome::MemoryPressure
                        | Outcome::OutputLimit
                        | Outcome::ProcessLimit
                        | Outcome::DiskLimit
                );
                self.end(if at_once { Duration::ZERO } else { self.limits.grace.to_duration() })?;
                break Some(reason);
            }
        };
        self.look();
        let (status, used) = sys::wait(self.pid)?;
        reaper::left(self.pid);
        let wall = self.worked();
        // Before the rest is ended: then it is refused more processes, whatever its limit.
        let refused = self.refused_by_kernel();
        self.kill_leftovers();
        drop(self.proxy.take());
        let [stdout_bytes, stderr_bytes] = self.output_bytes();
        let outcome = forced.or_else(|| refused.clone());
        let outcome = outcome.unwrap_or_else(|| self.natural_end(status, stdout_bytes + stderr_bytes));
        let starved = refused == Some(Outcome::MemoryLimit) || outcome == Outcome::MemoryLimit;
        // The kernel's figure has the caches of files in it, so it is taken only where that was the limit.
        let counted = self.group.as_ref().and_then(Group::memory_peak).filter(|_| starved).unwrap_or(0);
        let usage = Usage {
            wall: wall.into(),
            paused: self.pause.total().into(),
            cpu: Millis(self.seen.cpu_ms.max(used.cpu_ms)),
            memory: ByteCount(0),
            memory_peak: ByteCount(self.seen.peak.max(counted).max(used.peak_bytes)),
        };
        Ok(Ended { outcome, usage, containment: self.layers(), stdout_bytes, stderr_bytes })
    }

    /// The limit at which the kernel stopped somebody, if it holds one and did.
    fn refused_by_kernel(&self) -> Option<Outcome> {
        let group = self.group.as_ref()?;
        if group.ran_out_of_processes() {
            return Some(Outcome::ProcessLimit);
        }
        group.ran_out_of_memory().then_some(Outcome::MemoryLimit)
    }

    /// What the end of the leader means where no limit was in its way.
    fn natural_end(&self, status: std::process::ExitStatus, output: u64) -> Outcome {
        use std::os::unix::process::ExitStatusExt as _;
        let over_output = output > self.limits.output.0;
        match (status.code(), status.signal()) {
            _ if over_output => Outcome::OutputLimit,
            (Some(code), _) => Outcome::Exited { code },
            (None, Some(signal)) if signal == Signal::XCPU.as_raw() => Outcome::CpuLimit,
            (None, Some(signal)) if signal == Signal::XFSZ.as_raw() => Outcome::DiskLimit,
            (None, signal) => Outcome::Signaled { signal: signal.unwrap_or(0) },
        }
    }

    fn holds(&self, controller: Controller) -> bool {
        self.group.as_ref().is_some_and(|group| group.holds(controller).is_some())
    }

    fn layers(&self) -> Vec<String> {
        let group = self.group.as_ref();
        let holds = |controller| group.and_then(|group| group.holds(controller));
        let mut layers = vec![
            format!("tree: {}", group.map_or("session, ancestry and marker", Group::ending)),
            format!("memory: {}", holds(Controller::Memory).unwrap_or("watchdog and RLIMIT_DATA")),
            format!("processes: {}", holds(Controller::Pids).unwrap_or_else(processes_without_group)),
            "cpu: watchdog and RLIMIT_CPU".to_owned(),
            format!(
                "output: {}",
                if self.limits.disk.is_some() { "watchdog and RLIMIT_FSIZE" } else { "watchdog" }
            ),
        ];
        if self.limits.cpus.is_some() {
            let held = holds(Controller::Cpu).unwrap_or("not held, for want of a cpu controller");
            layers.push(format!("cpus: {held}"));
        }
        if self.limits.disk.is_some() {
            layers.push("disk: watchdog and RLIMIT_FSIZE".to_owned());
        }
        if self.limits.idle.is_some() {
            layers.push("idle: watchdog".to_owned());
        }
        layers.push("open files: RLIMIT_NOFILE".to_owned());
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
        let half = |now: u64, limit: u64| now > limit / 2;
        let near = half(self.seen.resident, self.limits.memory.0)
            || half(self.seen.output, self.limits.output.0)
            || half(self.seen.processes, u64::from(self.limits.processes));
        let interval = if near || self.began.elapsed() < INFANCY { LOOK_CLOSE } else { LOOK };
        let left = self.limits.wall.to_duration().saturating_sub(self.worked());
        interval.min(left.max(Duration::from_millis(1)))
    }

    /// Waits for the leader's end or a wish, at most this long; whether the leader has ended.
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
                let paused = since.elapsed();
                self.pause.before += paused;
                self.pause.since = None;
                if let Some(progress) = &mut self.progress {
                    progress.shift(paused);
                }
            }
            (false, None) => {}
        }
    }

    /// Lets the tree go on.
    pub(super) fn wake(&mut self) {
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
            if let Some(pid) = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// The limit that has been passed, if one has.
    fn exceeded(&mut self) -> Option<Outcome> {
        // Somebody who is shed is also told to end, and the reason for it is memory.
        if self.control.wishes.shed.load(Ordering::SeqCst) {
            return Some(Outcome::MemoryPressure);
        }
        if self.control.wishes.cancel.load(Ordering::SeqCst) {
            return Some(Outcome::Cancelled);
        }
        if self.worked() >= self.limits.wall.to_duration() {
            return Some(Outcome::WallLimit);
        }
        self.look();
        let limits = &self.limits;
        let holds = |controller| self.group.as_ref().filter(|group| group.holds(controller).is_some());
        let over_memory = match holds(Controller::Memory) {
            // The kernel counts better: pages that members share count once.
            Some(group) => group.ran_out_of_memory(),
            None => self.seen.resident > limits.memory.0,
        };
        let over_processes = match holds(Controller::Pids) {
            Some(group) => group.ran_out_of_processes(),
            None => self.seen.processes > u64::from(limits.processes),
        };
        let grown = self.disk.as_ref().map_or(0, DiskWatch::grown);
        if over_processes {
            return Some(Outcome::ProcessLimit);
        }
        if over_memory {
            return Some(Outcome::MemoryLimit);
        }
        if self.seen.cpu_ms > limits.cpu.0 {
            return Some(Outcome::CpuLimit);
        }
        if self.seen.output > limits.output.0 {
            return Some(Outcome::OutputLimit);
        }
        if limits.disk.is_some_and(|limit| grown > limit.0) {
            return Some(Outcome::DiskLimit);
        }
        self.idle()
    }

    /// Whether the tree has done nothing for too long, which is told before it is asked to end.
    fn idle(&mut self) -> Option<Outcome> {
        if self.pause.since.is_some() {
            return None;
        }
        let traces = Traces {
            output_bytes: self.seen.output,
            cpu_ms: self.seen.cpu_ms,
            changes: self.disk.as_ref().map_or(0, DiskWatch::changes),
        };
        let silent = self.progress.as_mut()?.look(Instant::now(), traces)?;
        let _ = self.news.send(News::Note(Note::Idle { silent: silent.into() }));
        Some(Outcome::Idle)
    }

    fn output_bytes(&self) -> [u64; 2] {
        [0, 1].map(|i| std::fs::metadata(&self.files[i]).map_or(0, |metadata| metadata.len()))
    }

    /// Looks at the tree: what it has used, and who belongs to it.
    pub(super) fn look(&mut self) {
        let members = self.members();
        let page = rustix::param::page_size() as u64;
        let tick_ms = 1000 / rustix::param::clock_ticks_per_second().max(1);
        let output = self.output_bytes().iter().sum();
        let seen = &mut self.seen;
        seen.resident = members.values().map(|process| process.resident_pages * page).sum();
        seen.peak = seen.peak.max(seen.resident);
        let cpu = members.values().map(|process| process.cpu_ticks * tick_ms).sum();
        seen.cpu_ms = seen.cpu_ms.max(cpu).max(self.group.as_ref().and_then(Group::cpu_ms).unwrap_or(0));
        // Those that have ended and are not waited for take no memory and do nothing.
        seen.processes =
            members.values().filter(|process| !process.ended).map(|process| process.threads).sum();
        seen.output = output;
        let now = Usage {
            wall: self.worked().into(),
            paused: self.pause.total().into(),
            cpu: Millis(self.seen.cpu_ms),
            memory: ByteCount(self.seen.resident),
            memory_peak: ByteCount(self.seen.peak),
        };
        *self.control.usage.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn members(&mut self) -> BTreeMap<u32, Process> {
        if let Some(group) = &self.group {
            reaper::reap_now_and_then();
            return group.pids().into_iter().filter_map(|pid| Some((pid, tree::process(pid)?))).collect();
        }
        let tasks = tree::tasks();
        // So many more on the whole machine: they may be of this tree.
        let swarming = tasks > self.tasks + u64::from(self.limits.processes / 2);
        if self.known.is_empty() || swarming || self.searched.elapsed() >= SEARCH {
            self.searched = Instant::now();
            self.tasks = tasks;
            return tree::members(self.pid, &mut self.known);
        }
        let still = |(pid, started): (&u32, &u64)| {
            let process = tree::process(*pid).filter(|process| process.started == *started)?;
            Some((*pid, process))
        };
        self.known.iter().filter_map(still).collect()
    }
}
