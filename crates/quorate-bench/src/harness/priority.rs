//! Precedence over whatever else the machine does, where the system grants it.

use std::process::{Command, Stdio};

use rustix::process::{getpriority_process, setpriority_process};

/// The nicest to itself that a process can be.
const FIRST: i32 = -20;

/// While it lives, the calling thread, and each thread and process that it starts, comes before others. Without it a busy machine is
/// measured, in its scheduler's steps of some milliseconds, instead of what stands beside each other.
#[derive(Debug)]
pub(crate) struct Precedence {
    before: Option<i32>,
    real_time: bool,
}

impl Precedence {
    pub(crate) fn take() -> Self {
        let before = getpriority_process(None).ok().filter(|_| setpriority_process(None, FIRST).is_ok());
        // In turn among themselves: a thread that spins cannot keep those out for which it waits.
        Self { before, real_time: schedule(&["--rr", "--all-tasks", "--pid", "1"]) }
    }

    /// What a claim says about it.
    pub(crate) fn granted(&self) -> &'static str {
        match (self.real_time, self.before) {
            (true, _) => ", measured with real-time priority",
            (false, Some(_)) => ", measured with raised priority",
            (false, None) => ", measured without priority",
        }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        // Less is always granted.
        if self.real_time {
            schedule(&["--other", "--all-tasks", "--pid", "0"]);
        }
        if let Some(before) = self.before {
            let _ = setpriority_process(None, before);
        }
    }
}

/// Asks `chrt` of util-linux; false where it is not there, or where it is not allowed.
fn schedule(arguments: &[&str]) -> bool {
    let own = std::process::id().to_string();
    let mut command = Command::new("chrt");
    command.args(arguments).arg(own).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
