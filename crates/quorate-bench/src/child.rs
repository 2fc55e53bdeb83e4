//! This program as a process of its own: for what is measured of a whole process, or across two.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::{agents, bus, gate, memory};

/// The hidden first argument.
pub(crate) const ARGUMENT: &str = "child";

/// A child that has said that it is ready; it is told to end, and waited for, with the value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    /// Starts a part of [`run`]; returns when it has said its first line, and with it.
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start another process of this program")?;
        let output = child.stdout.take().context("the child has no output")?;
        let mut process = Self { child, output: BufReader::new(output) };
        let mut line = String::new();
        process.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the child {arguments:?} ended without a word");
        Ok((process, line.trim_end().to_owned()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and answers what it said beside the first line.
    pub(crate) fn finish(mut self) -> anyhow::Result<String> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the child ended with {status}");
        Ok(rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child is started for.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let part = arguments.next().unwrap_or_default();
    let path = PathBuf::from(arguments.next().unwrap_or_default());
    match part.as_str() {
        "agents" => {
            agents::held_bytes(&path.display().to_string(), arguments.next().unwrap_or_default().parse()?)
        }
        "serve" => bus::serve(&path, 0),
        "idle" => bus::serve(&path, 100),
        "actors" => bus::count_actors(),
        "fill" => memory::fill(&path, arguments.next().unwrap_or_default().parse()?),
        "recover" => memory::recover_once(&path),
        "gate" => gate::path(&path.display().to_string(), arguments.next().unwrap_or_default().parse()?),
        other => bail!("there is no part {other}"),
    }
}

/// Returns when the parent ends or wants this process to.
pub(crate) fn until_told() -> anyhow::Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
