//! What a person, or a program, may ask of a run while its node works: the words, who may say them, and what follows.
//!
//! A node listens at a socket in the folder of its run for as long as it works. One connection carries one [`Request`], a line of JSON of at
//! most [`REQUEST_LEN_MAX`] bytes, and its [`Reply`], another line. Only the user the node runs as is heard.
//!
//! [`judge`] says which records a command becomes, or why it is refused; it reads the state and nothing else. What it grants is durable in the
//! journal before the reply is sent, so whatever was answered with *done* is true after any crash. Without a node nothing can be asked: the
//! journal of a run belongs to its node.

mod client;
pub(crate) mod door;
mod judge;
#[cfg(test)]
mod tests;

use quorate_base::{AgentId, ByteCount, Digest, Millis, RunId, TaskId};
use serde::{Deserialize, Serialize};

use crate::spec::task::Priority;
use crate::state::crew::Phase;
use crate::topology::Topology;

pub use client::{Error, ask};
pub use judge::judge;

/// The longest request that is read.
pub const REQUEST_LEN_MAX: usize = 64 << 10;
/// The longest reason that is taken.
pub const REASON_LEN_MAX: usize = 500;

/// One thing asked of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub run: RunId,
    pub ask: Ask,
}

/// To be told something, or to have something done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// What the processes of agents use now. Changes nothing.
    Usage,
    Do(Command),
}

/// An intervention. A reason is text for people, without control characters, of at most [`REASON_LEN_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Halts the processes of an agent at work.
    Pause { agent: AgentId, reason: String },
    /// Lets a paused agent go on.
    Continue { agent: AgentId, reason: String },
    /// Ends the present launch of an agent; its task waits again, and the attempt does not count.
    Relaunch { agent: AgentId, reason: String },
    /// The same, and the agent takes no task any more.
    Stop { agent: AgentId, reason: String },
    /// The agent ends the task it has and takes no other.
    Drain { agent: AgentId, reason: String },
    /// An agent that takes no tasks takes them again.
    Release { agent: AgentId, reason: String },
    /// A task is wanted no more: its agent is ended, and it is closed.
    Cancel { task: TaskId, reason: String },
    /// A task is wanted sooner or later.
    Prioritise { task: TaskId, priority: Priority },
    /// A message to an agent, or to whoever does a task; the content store has its text.
    Tell { to: String, digest: Digest, bytes: ByteCount },
    /// The swarm is put together in another way.
    Topology { topology: Topology, reason: String },
}

impl Command {
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Pause { reason, .. }
            | Self::Continue { reason, .. }
            | Self::Relaunch { reason, .. }
            | Self::Stop { reason, .. }
            | Self::Drain { reason, .. }
            | Self::Release { reason, .. }
            | Self::Cancel { reason, .. }
            | Self::Topology { reason, .. } => Some(reason),
            Self::Prioritise { .. } | Self::Tell { .. } => None,
        }
    }
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is in the journal, in these records.
    Done {
        records: Vec<u64>,
    },
    Usage {
        launches: Vec<Launch>,
    },
    /// Nothing has happened.
    Refused(Refusal),
}

/// What a launch uses now, as its supervisor saw it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub agent: AgentId,
    pub task: TaskId,
    /// Without the time in which it was halted.
    pub wall: Millis,
    pub paused: Millis,
    pub cpu: Millis,
    pub memory: ByteCount,
}

/// Why nothing has happened, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Refusal {
    #[error("the request cannot be understood: {reason}")]
    Malformed { reason: String },
    #[error("this node works on run {run}, not on run {asked}; name the run with --run")]
    OtherRun { run: RunId, asked: RunId },
    #[error("run {run} has finished; `quorate run` begins another")]
    Finished { run: RunId },
    #[error("run {run} has no agent {agent}; `quorate agent list` names those it has")]
    NoAgent { run: RunId, agent: AgentId },
    #[error("run {run} has no task {task}; `quorate task list` names those it has")]
    NoTask { run: RunId, task: TaskId },
    /// An agent cannot make this move from where it stands.
    #[error("agent {agent} is {}; {needs}", phase.name())]
    Phase { agent: AgentId, phase: Phase, needs: String },
    /// A task is where this makes no difference any more.
    #[error("task {task} {is}; {needs}")]
    Task { task: TaskId, is: String, needs: String },
    #[error(
        "the message to {to} is not sent: {reason}; `quorate agent list` names the agents of the run, `quorate task list` its tasks"
    )]
    Message { to: String, reason: String },
    #[error("this swarm cannot be put together so: {reason}")]
    Topology { reason: String },
    #[error("only the user the node runs as may tell it what to do")]
    Stranger,
    #[error("too many are asking this node at once; ask again")]
    Busy,
    #[error("the node is ending; if it does not finish the run, `quorate resume` goes on with it")]
    Ending,
}
