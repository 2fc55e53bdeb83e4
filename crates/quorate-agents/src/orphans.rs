//! Processes that outlived the node that started them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{containment, tree};

/// How long ending leftovers may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    pub pid: u32,
    pub command: String,
}

/// Ends every process of a marker whose node is gone: those in its control groups, and those that carry it in the
/// environment they were started with. Answers which.
///
/// The caller knows that no live node works under this marker.
pub fn reap_orphans(marker: &str) -> Vec<Reaped> {
    let mut reaped: Vec<Reaped> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Who they are is read while they live.
        let mut found: Vec<(u32, String)> = containment::members_marked(marker)
            .into_iter()
            .filter_map(|pid| Some((pid, command(pid)?)))
            .collect();
        found.extend(marked(marker));
        containment::kill_marked(marker);
        found.retain(|(pid, _)| *pid != std::process::id());
        if found.is_empty() || Instant::now() > deadline {
            break;
        }
        for (pid, command) in found {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if !reaped.iter().any(|one| one.pid == pid) {
                reaped.push(Reaped { pid, command });
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    containment::remove_marked(marker);
    reaped
}

/// Live processes that carry the marker in their first environment.
fn marked(marker: &str) -> Vec<(u32, String)> {
    let needle = format!("QUORATE_RUN={marker}");
    tree::all()
        .into_iter()
        .filter(|(_, process)| !process.ended)
        .filter(|(pid, _)| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == needle.as_bytes())
        })
        .filter_map(|(pid, _)| Some((pid, command(pid)?)))
        .collect()
}

/// The command line of a live process.
fn command(pid: u32) -> Option<String> {
    tree::process(pid).filter(|process| !process.ended)?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    Some(words.join(" ").trim().chars().take(200).collect())
}
