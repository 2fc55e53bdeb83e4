//! What is counted.

use std::fmt;

use quorate_base::Millis;
use serde::{Deserialize, Serialize};

/// What a budget can bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    Launches,
    /// Wall time of agents, in milliseconds.
    AgentTime,
    /// Of models: in and out, cached ones too.
    Tokens,
    /// Millionths of a US dollar.
    Cost,
    ToolCalls,
}

impl Unit {
    pub const ALL: [Self; 5] = [Self::Launches, Self::AgentTime, Self::Tokens, Self::Cost, Self::ToolCalls];

    /// An amount of it, for people.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Launches => format!("{amount} launches"),
            Self::AgentTime => format!("{} of agent time", String::from(Millis(amount))),
            Self::Tokens => format!("{amount} tokens"),
            Self::Cost => format!("${}.{:06}", amount / 1_000_000, amount % 1_000_000),
            Self::ToolCalls => format!("{amount} tool calls"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launches => "launches",
            Self::AgentTime => "agent-time",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::ToolCalls => "tool-calls",
        })
    }
}

/// So much of each unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Amount {
    pub launches: u64,
    pub agent_time_ms: u64,
    pub tokens: u64,
    pub cost_micros: u64,
    pub tool_calls: u64,
}

impl Amount {
    pub const fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Launches => self.launches,
            Unit::AgentTime => self.agent_time_ms,
            Unit::Tokens => self.tokens,
            Unit::Cost => self.cost_micros,
            Unit::ToolCalls => self.tool_calls,
        }
    }

    pub const fn set(&mut self, unit: Unit, amount: u64) {
        match unit {
            Unit::Launches => self.launches = amount,
            Unit::AgentTime => self.agent_time_ms = amount,
            Unit::Tokens => self.tokens = amount,
            Unit::Cost => self.cost_micros = amount,
            Unit::ToolCalls => self.tool_calls = amount,
        }
    }

    fn each(self, other: Self, both: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = Self::default();
        Unit::ALL.into_iter().for_each(|unit| out.set(unit, both(self.of(unit), other.of(unit))));
        out
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// The greater of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.each(other, u64::max)
    }
}

/// The most that may be spent of each unit; what has no bound is not held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Budget {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launches: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_time: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
}

impl Budget {
    pub fn of(&self, unit: Unit) -> Option<u64> {
        match unit {
            Unit::Launches => self.launches,
            Unit::AgentTime => self.agent_time.map(|time| time.0),
            Unit::Tokens => self.tokens,
            Unit::Cost => self.cost_micros,
            Unit::ToolCalls => self.tool_calls,
        }
    }

    /// Units it bounds.
    pub fn units(&self) -> impl Iterator<Item = Unit> {
        Unit::ALL.into_iter().filter(|unit| self.of(*unit).is_some())
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
