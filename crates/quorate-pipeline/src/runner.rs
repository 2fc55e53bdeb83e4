//! What a check needs from whoever runs commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_base::{Digest, Millis, Timestamp};
use quorate_evidence::record::{Outcome, Output};

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    /// Added to the environment the runner gives.
    pub env: BTreeMap<String, String>,
    pub timeout: Millis,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    pub outcome: Outcome,
    pub stdout: Option<RanOutput>,
    pub stderr: Option<RanOutput>,
    pub started: Timestamp,
    pub wall_ms: u64,
    pub cpu_ms: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub containment: Vec<String>,
    /// Names of the variables it saw.
    pub environment: Vec<String>,
}

/// An output: all of it in the store, its ends at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RanOutput {
    pub output: Output,
    pub head: Vec<u8>,
    /// Its end; the same bytes as `head` where it is short.
    pub tail: Vec<u8>,
}

/// Runs commands and keeps evidence.
pub trait Runner: Sync {
    fn run(&self, invocation: &Invocation) -> Ran;
    fn store(&self, bytes: &[u8]) -> Digest;
    fn now(&self) -> Timestamp;
}

impl Ran {
    /// What can be read of both outputs, for judging.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for output in [&self.stdout, &self.stderr].into_iter().flatten() {
            text.push_str(&String::from_utf8_lossy(&output.head));
            if output.head != output.tail {
                text.push('\n');
                text.push_str(&String::from_utf8_lossy(&output.tail));
            }
            text.push('\n');
        }
        text
    }
}
