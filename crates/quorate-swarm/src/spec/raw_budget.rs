//! Budgets as a person writes them.

use quorate_base::Millis;
use serde::Deserialize;

use super::AgentSpec;
use crate::budget::{Budget, RunBudget, Unit};

/// One budget: any of its bounds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawBudget {
    launches: Option<u64>,
    agent_time: Option<Millis>,
    tokens: Option<u64>,
    cost_usd: Option<f64>,
    tool_calls: Option<u64>,
}

/// That of a run, with that of a day.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawRunBudget {
    launches: Option<u64>,
    agent_time: Option<Millis>,
    tokens: Option<u64>,
    cost_usd: Option<f64>,
    tool_calls: Option<u64>,
    day: RawBudget,
    /// Agents that do not tell what a budget bounds run all the same, and count for nothing there.
    allow_unknown: bool,
}

impl RawBudget {
    /// The budget, or what is wrong with it.
    pub(super) fn resolve(&self) -> Result<Budget, String> {
        let cost_micros = match self.cost_usd {
            None => None,
            Some(dollars) if dollars.is_finite() && dollars >= 0.0 => Some((dollars * 1e6).round() as u64),
            Some(dollars) => return Err(format!("`cost-usd` cannot be {dollars}")),
        };
        let Self { launches, agent_time, tokens, tool_calls, .. } = *self;
        Ok(Budget { launches, agent_time, tokens, cost_micros, tool_calls })
    }
}

impl RawRunBudget {
    pub(super) fn resolve(&self) -> Result<RunBudget, String> {
        let Self { launches, agent_time, tokens, cost_usd, tool_calls, .. } = *self;
        let run = RawBudget { launches, agent_time, tokens, cost_usd, tool_calls };
        Ok(RunBudget { run: run.resolve()?, day: self.day.resolve()? })
    }

    pub(super) const fn allows_unknown(&self) -> bool {
        self.allow_unknown
    }
}

/// A unit that one of these budgets bounds and the agent does not tell.
pub(super) fn unknown(agent: &AgentSpec, budgets: &[Budget]) -> Option<Unit> {
    budgets.iter().flat_map(Budget::units).find(|unit| !agent.usage.tells(*unit))
}
