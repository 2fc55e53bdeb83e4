//! The end of a tree: asked, then ended, until nothing of it is left.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::live::Live;
use crate::{reaper, tree};

/// How long killing what is left of a tree may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at what is left.
const AGAIN: Duration = Duration::from_millis(2);

impl Live {
    /// Ends the leader: asks, waits, kills.
    pub(super) fn end(&mut self, grace: Duration) -> io::Result<()> {
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
        self.kill_everything();
        // Version 1 lets nobody die who is frozen.
        self.wake();
        loop {
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
            // A tree that grows while it is being ended is ended again.
            self.kill_everything();
        }
    }

    fn kill_everything(&mut self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        // In one step for all who have stayed in the group of processes: none of them can start another meanwhile.
        if let Some(leader) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        let members =
            if self.group.is_some() { self.members() } else { tree::members(self.pid, &mut self.known) };
        for pid in members.keys() {
            kill(*pid);
        }
    }

    /// Kills what is left of the tree after its leader has ended, until nothing is.
    pub(super) fn kill_leftovers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            if let Some(group) = &self.group {
                group.kill();
            }
            for pid in left {
                kill(pid);
            }
            thread::sleep(AGAIN);
        }
    }

    fn left(&mut self) -> BTreeSet<u32> {
        if let Some(group) = &self.group {
            let left = group.pids();
            if !left.is_empty() {
                return left;
            }
        }
        let all = tree::all();
        let mut left: BTreeSet<u32> = reaper::adopted(&all).into_iter().collect();
        if self.group.is_none() {
            // The leader's number is free by now: nothing below it is ours unless it was known or says so itself.
            let needle = format!("QUORATE_PROCESS={}", self.token);
            for (pid, process) in &all {
                if process.ended || *pid == std::process::id() {
                    continue;
                }
                let known = self.known.get(pid) == Some(&process.started);
                let marked = || {
                    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                    environment.split(|byte| *byte == 0).any(|entry| entry == needle.as_bytes())
                };
                if known || process.session == self.pid || marked() {
                    left.insert(*pid);
                }
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
