//! Asking the node of a run.

use std::io::{self, Write};
use std::time::Duration;

use quorate_base::RunId;

use super::door::{connect, line};
use super::{Ask, Reply, Request};
use crate::workspace::Workspace;

/// How long a node may take to answer: it may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to say what it sees.
const GLANCE: Duration = Duration::from_secs(3);
/// The longest answer that is read: what ten thousand launches use.
const REPLY_LEN_MAX: usize = 4 << 20;

/// The node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no node works on run {run}, so there is nobody to tell; `quorate resume {run}` goes on with it")]
    NoNode { run: RunId },
    #[error(
        "the node of run {run} gave no answer ({source}); `quorate agent list` and `quorate task list` show whether it was done"
    )]
    NoAnswer { run: RunId, source: io::Error },
    #[error("the node of run {run} cannot be reached: {source}")]
    Unreachable { run: RunId, source: io::Error },
    #[error(
        "the node of run {run} answers what this version does not understand: {source}; use the version that runs it"
    )]
    Unintelligible { run: RunId, source: serde_json::Error },
}

/// Asks the node of a run and waits for its answer.
pub fn ask(workspace: &Workspace, request: &Request) -> Result<Reply, Error> {
    let run = || request.run.clone();
    let mut stream = match connect(&workspace.run_dir(&request.run).control()) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(Error::NoNode { run: run() });
        }
        Err(source) => return Err(Error::Unreachable { run: run(), source }),
    };
    let silent = |source| Error::NoAnswer { run: run(), source };
    let mut text =
        serde_json::to_vec(request).map_err(|source| Error::Unintelligible { run: run(), source })?;
    text.push(b'\n');
    let patience = if request.ask == Ask::Usage { GLANCE } else { PATIENCE };
    stream.set_write_timeout(Some(patience)).map_err(silent)?;
    // A node that refuses without hearing answers all the same.
    let sent = stream.write_all(&text);
    let answer =
        line(&stream, REPLY_LEN_MAX, patience).map_err(|error| silent(sent.err().unwrap_or(error)))?;
    serde_json::from_slice(&answer).map_err(|source| Error::Unintelligible { run: run(), source })
}
