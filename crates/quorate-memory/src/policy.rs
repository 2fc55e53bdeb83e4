//! What a namespace allows, keeps and forgets.

use quorate_base::Millis;
use serde::{Deserialize, Serialize};

use crate::actor::{Access, Actor};

/// The rules of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Whose it is.
    pub kind: Kind,
    /// How much may be in it.
    #[serde(default)]
    pub quota: Quota,
    /// How much of the past is kept.
    #[serde(default)]
    pub history: History,
    /// What happens where a quota is reached.
    #[serde(default)]
    pub eviction: Eviction,
    /// How long what is written without a span of its own lives; for ever where none is given.
    #[serde(default)]
    pub ttl: Option<Millis>,
}

impl Policy {
    /// The usual rules for a namespace of this kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            quota: Quota::default(),
            history: History::default(),
            eviction: Eviction::default(),
            ttl: None,
        }
    }
}

/// Whose a namespace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Of one agent: nobody else but the operator and Quorate reads or writes it.
    Private {
        /// Name of the agent.
        owner: String,
    },
    /// Of the members of one swarm.
    Swarm {
        /// Name of the swarm.
        swarm: String,
    },
    /// Of all agents of the workspace.
    Project,
    /// All read it; Quorate alone writes it.
    System,
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Private { .. } => "private to another",
            Self::Swarm { .. } => "of a swarm",
            Self::Project => "of the project",
            Self::System => "of the system",
        }
    }

    /// Whether `actor` may do this.
    pub fn admits(&self, actor: &Actor, access: Access) -> bool {
        if actor.is_quorate() {
            return true;
        }
        match self {
            Self::System => access == Access::Read,
            _ if !actor.is_agent() => true,
            Self::Private { owner } => owner.as_str() == &**actor.name(),
            Self::Swarm { swarm } => access != Access::Govern && actor.swarm() == Some(swarm.as_str()),
            Self::Project => access != Access::Govern,
        }
    }
}

/// How much may be in a namespace. Live entries count, old versions do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Quota {
    /// Entries.
    pub entries_max: u64,
    /// Keys, values, tags and content types together.
    pub bytes_max: u64,
    /// Of one value.
    pub value_bytes_max: u64,
    /// Of one key.
    pub key_bytes_max: u64,
}

/// No bound on entries and bytes but the store's; values up to 16 MiB, keys up to 1 KiB.
impl Default for Quota {
    fn default() -> Self {
        Self { entries_max: u64::MAX, bytes_max: u64::MAX, value_bytes_max: 16 << 20, key_bytes_max: 1 << 10 }
    }
}

/// How much of the past is kept. At least this much is there; what is beyond it goes with a later write of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct History {
    /// Old versions kept beside the current one. With 0, a view that is open while a key is replaced may find it forgotten.
    pub versions_max: u32,
    /// How long an old version, or the fact that something was deleted, is kept after it was replaced.
    pub age_max: Option<Millis>,
}

/// The last 8 versions, for a day.
impl Default for History {
    fn default() -> Self {
        Self { versions_max: 8, age_max: Some(Millis::from_secs(24 * 3600)) }
    }
}

/// What happens where a quota of entries or bytes is reached. What has expired always goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Eviction {
    /// Writes are refused.
    #[default]
    None,
    /// What was not read or written for longest goes (by second chance: CLOCK, not an exact order).
    Lru,
    /// What has a time to live goes, the soonest to expire first; what has none stays.
    TtlOnly,
}
