//! What a node does when the machine runs out of memory.
//!
//! [`Breaker`] decides and [`Growth`] foresees; both are pure: samples and time are arguments, and what they answer is
//! done by the node. The order of what is done is in `docs/adr/0010-limits-and-pressure.md`.

mod breaker;
mod growth;

use std::fmt;
use std::str::FromStr;

pub use breaker::{Action, AgentMemory, Breaker, Sample};
pub use growth::{Growth, Trend};
use quorate_base::ByteCount;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// How short of memory the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Agents are started as the swarm file says.
    #[default]
    Open,
    /// No agent is started beside one that works.
    Warn,
    /// No agent is started; those at work are paused, and stopped where that is not enough.
    Critical,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Warn => "warn",
            Self::Critical => "critical",
        }
    }

    /// How many agents may work at the same time, of so many that would.
    pub fn agents_at_once(self, wanted: u32) -> u32 {
        match self {
            Self::Open => wanted,
            // One at a time: a machine that is always short of memory still gets on.
            Self::Warn => wanted.min(1),
            Self::Critical => 0,
        }
    }
}

/// An amount of memory: in bytes, or as a share of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bound {
    Bytes(ByteCount),
    /// 1 to 99.
    Percent(u8),
}

/// A text is not an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount of memory: write a share from 1% to 99%, or a size such as 512MiB or 2GiB")]
pub struct InvalidBound(String);

impl Bound {
    /// What it comes to on a machine with so much memory.
    pub fn of(self, total: ByteCount) -> ByteCount {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => ByteCount(total.0 / 100 * u64::from(percent)),
        }
    }
}

impl FromStr for Bound {
    type Err = InvalidBound;

    fn from_str(text: &str) -> Result<Self, InvalidBound> {
        let invalid = || InvalidBound(text.chars().take(80).collect());
        if let Some(number) = text.strip_suffix('%') {
            let percent = number.trim().parse().ok().filter(|percent| (1..=99).contains(percent));
            return percent.map(Self::Percent).ok_or_else(invalid);
        }
        text.parse().map(Self::Bytes).map_err(|_| invalid())
    }
}

impl TryFrom<String> for Bound {
    type Error = InvalidBound;

    fn try_from(text: String) -> Result<Self, InvalidBound> {
        text.parse()
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> Self {
        bound.to_string()
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&String::from(*bytes)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}
