//! The end of a tree: asked, then ended, until nothing of it is left.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::live::Live;
use crate::containment::Group;
use crate::reaper;
use crate::tree::{self, Process};

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
        // Who is in a group that can be ended at once can leave neither it nor his end.
        if !self.group.as_ref().is_some_and(Group::ends_at_once) {
            self.sweep(Some(self.pid));
        }
    }

    /// Kills what is left of the tree after its leader has ended, until nothing is.
    pub(super) fn kill_leftovers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let in_group = self.group.as_ref().is_some_and(|group| {
                let some = !group.pids().is_empty();
                if some {
                    group.kill();
                }
                some
            });
            if !in_group {
                if self.group.as_ref().is_some_and(Group::ends_at_once) {
                    if self.kill_strays() == 0 {
                        break;
                    }
                } else if self.sweep(None) == 0 && (self.group.is_some() || self.kill_marked() == 0) {
                    break;
                }
            }
            thread::sleep(AGAIN);
        }
        reaper::Adopted::of(&tree::all_since(Instant::now())).reap();
    }

    /// Kills whoever has got out of the group, which takes a right to change groups, and answers how many that were. Trees
    /// that end at the same time look at the same processes.
    fn kill_strays(&self) -> usize {
        let all = tree::all_since(Instant::now());
        let adopted = reaper::Adopted::of(&all);
        let is_ours = |pid: u32, process: &Process| {
            process.session == self.pid || self.known.get(&pid) == Some(&process.started) || adopted.has(pid)
        };
        let strays = all.iter().filter(|(pid, process)| !process.ended && is_ours(**pid, process));
        // The number may be another's by now, but for those that only this process can bury.
        let still = |(pid, process): &(&u32, &Process)| {
            tree::process(**pid).is_some_and(|now| now.started == process.started)
        };
        let strays: Vec<u32> = strays.filter(still).map(|(pid, _)| *pid).collect();
        strays.iter().for_each(|pid| kill(*pid));
        adopted.reap();
        strays.len()
    }

    /// Kills whoever belongs to the tree by ancestry, and answers how many that were.
    ///
    /// Everybody is killed as soon as they are found. Whom they have started meanwhile has a higher number, and is
    /// found later in the same sweep, so that a tree that grows is caught up with.
    fn sweep(&self, leader: Option<u32>) -> usize {
        let adopted = reaper::Adopted::now();
        let own = std::process::id();
        let (mut members, mut killed) = (BTreeSet::new(), 0);
        tree::each(|pid, process| {
            // Once the leader's number is free, nothing is below it; its session keeps the number as long as it lasts.
            let ours = leader == Some(pid)
                || process.session == self.pid
                || members.contains(&process.parent)
                || members.contains(&process.session)
                || self.known.get(&pid) == Some(&process.started)
                || adopted.has(pid);
            if pid == own || !ours {
                return;
            }
            members.insert(pid);
            if !process.ended {
                kill(pid);
                killed += 1;
            }
        });
        killed
    }

    /// Kills those that say themselves that they belong to the tree, and answers how many that were.
    fn kill_marked(&self) -> usize {
        let needle = format!("QUORATE_PROCESS={}", self.token);
        let mut killed = 0;
        tree::each(|pid, process| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let says_so = environment.split(|byte| *byte == 0).any(|entry| entry == needle.as_bytes());
            if says_so && !process.ended && pid != std::process::id() {
                kill(pid);
                killed += 1;
            }
        });
        killed
    }
}

pub(super) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
