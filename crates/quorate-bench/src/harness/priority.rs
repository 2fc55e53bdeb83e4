//! Precedence over whatever else the machine does, where the system grants it.

use rustix::process::{getpriority_process, setpriority_process};

/// As far as it goes.
const FIRST: i32 = -20;

/// While it lives, the calling thread, and each thread and process that it starts, comes before others. Without it a busy machine is
/// measured, in steps of its scheduler, instead of what stands beside each other.
#[derive(Debug)]
pub(crate) struct Precedence {
    before: Option<i32>,
}

impl Precedence {
    pub(crate) fn take() -> Self {
        let before = getpriority_process(None).ok().filter(|_| setpriority_process(None, FIRST).is_ok());
        Self { before }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // A lower precedence is always granted.
            let _ = setpriority_process(None, before);
        }
    }
}
