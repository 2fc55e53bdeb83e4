//! Connections that agents were refused.

use quorate_agents::egress::Reason;
use quorate_base::{AgentId, TaskId};

/// What one launch was refused at one host, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedConnection {
    pub agent: AgentId,
    pub task: TaskId,
    pub attempt: u32,
    /// Empty where none was named.
    pub host: String,
    pub port: u16,
    pub reason: Reason,
    pub count: u64,
}

impl RefusedConnection {
    /// Adds to the one of the same kind, or as the first of its kind.
    pub(super) fn add(self, all: &mut Vec<Self>) {
        let same = |other: &&mut Self| {
            other.task == self.task
                && other.attempt == self.attempt
                && other.host == self.host
                && other.port == self.port
                && other.reason == self.reason
        };
        // Those of the same launch are the newest, and few.
        match all.iter_mut().rev().find(same) {
            Some(known) => known.count = known.count.saturating_add(self.count),
            None => all.push(self),
        }
    }
}
