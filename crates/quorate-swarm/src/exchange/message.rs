//! Messages: who to whom, and the text in the content store.

use std::fmt;

use quorate_base::{AgentId, ByteCount, Digest, TaskId};
use serde::{Deserialize, Serialize};

use super::blotted;
use crate::store::{self, Store};

/// The longest text of a message.
pub const TEXT_BYTES_MAX: u64 = 64 << 10;

/// Who a message is from. As text: an agent's name, or `@person`, which no agent is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sender {
    Agent(AgentId),
    /// Somebody at the command line.
    Person,
}

const PERSON: &str = "@person";

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => f.pad(agent.as_str()),
            Self::Person => f.pad(PERSON),
        }
    }
}

impl From<Sender> for String {
    fn from(sender: Sender) -> Self {
        sender.to_string()
    }
}

impl TryFrom<String> for Sender {
    type Error = quorate_base::id::InvalidId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == PERSON { Ok(Self::Person) } else { AgentId::new(text).map(Self::Agent) }
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    Agent(AgentId),
    /// Whoever does this task.
    Task(TaskId),
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => f.pad(agent.as_str()),
            Self::Task(task) => f.pad(task.as_str()),
        }
    }
}

/// A message that was sent. Its number is that of its record, so those to one recipient are read in the order of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub from: Sender,
    pub to: To,
    /// The text, in the content store.
    pub digest: Digest,
    pub bytes: ByteCount,
}

/// The text of a message, which the content store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    pub digest: Digest,
    pub bytes: ByteCount,
}

/// A text is no message.
#[derive(Debug, thiserror::Error)]
pub enum Unsendable {
    #[error("it is longer than {}", ByteCount(TEXT_BYTES_MAX))]
    TooLong,
    #[error("it is not UTF-8")]
    NotText,
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Text {
    /// Keeps a text of at most [`TEXT_BYTES_MAX`] bytes, secrets blotted out.
    pub fn keep(store: &Store, text: &[u8], secrets: &[Vec<u8>]) -> Result<Self, Unsendable> {
        if text.len() as u64 > TEXT_BYTES_MAX {
            return Err(Unsendable::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| Unsendable::NotText)?;
        // A secret may end within a character.
        let clean = String::from_utf8_lossy(&blotted(text.as_bytes(), secrets)).into_owned();
        let digest = store.put(clean.as_bytes())?;
        Ok(Self { digest, bytes: ByteCount(clean.len() as u64) })
    }
}
