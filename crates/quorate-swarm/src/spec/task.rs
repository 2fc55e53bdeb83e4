//! One unit of work, and what decides when it starts.

use std::collections::BTreeSet;

use quorate_base::{ChangeId, Millis, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::lease::Wanted;

/// One unit of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub id: TaskId,
    /// Name of the agent declaration that does it; empty where it says what it needs.
    pub agent: String,
    /// What an agent must be able to do for it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<String>,
    pub objective: String,
    /// What must have happened before this one starts.
    pub after: Vec<Dependency>,
    #[serde(default, skip_serializing_if = "is_usual")]
    pub priority: Priority,
    /// Not begun after this, counted from the start of the run, and ended then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// How long it will take, by whoever wrote it. The schedules `critical-path` and `shortest` go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Millis>,
    /// What it must hold while it is not over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Wanted>,
    /// For all attempts together.
    #[serde(default, skip_serializing_if = "Budget::is_none")]
    pub budget: Budget,
    /// The change to say yes or no to, where the task came up for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ChangeId>,
}

impl TaskSpec {
    /// A task that waits for nothing.
    pub fn new(id: TaskId, agent: &str, objective: &str) -> Self {
        Self {
            id,
            agent: agent.to_owned(),
            needs: BTreeSet::new(),
            objective: objective.to_owned(),
            after: Vec::new(),
            priority: Priority::default(),
            deadline: None,
            estimate: None,
            leases: Vec::new(),
            budget: Budget::default(),
            review: None,
        }
    }
}

fn is_usual(priority: &Priority) -> bool {
    *priority == Priority::default()
}

/// A task that another waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Dependency {
    pub task: TaskId,
    pub when: When,
}

/// How a dependency is written: an id alone means that its work must have landed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Id(TaskId),
    Whole { task: TaskId, when: When },
}

impl From<Written> for Dependency {
    fn from(written: Written) -> Self {
        match written {
            Written::Id(task) => Self { task, when: When::Landed },
            Written::Whole { task, when } => Self { task, when },
        }
    }
}

impl From<Dependency> for Written {
    fn from(Dependency { task, when }: Dependency) -> Self {
        if when == When::Landed { Self::Id(task) } else { Self::Whole { task, when } }
    }
}

/// What must have happened to a task for one that depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Its change has landed, or it had nothing to change.
    #[default]
    Landed,
    /// It has come to its end, whatever that was.
    Ended,
    /// An agent has begun with it.
    Started,
}

/// How urgent a task is, where tasks are scheduled by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    Critical,
    High,
    #[default]
    Normal,
    Low,
    Background,
}

/// Which of the tasks that could start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The one that stands first in the file.
    Fifo,
    /// The most urgent one; of equally urgent ones, the one that stands first.
    #[default]
    Priority,
    /// The one whose deadline is next; those without one last.
    Deadline,
    /// The one that begins the longest way to the end, by the estimates.
    CriticalPath,
    /// The one with the least estimate.
    Shortest,
}

/// To which of the agents that could do a task it goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The one with the least before it.
    #[default]
    Load,
    /// The cheapest, by `cost`; of equally cheap ones, the one with the least before it.
    Cost,
    /// The one that did the last task that this one comes after, where it can do this one too.
    Affinity,
}

/// When a task is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// From the end of the first attempt to the second; doubled with each further one.
    pub backoff: Millis,
    pub backoff_max: Millis,
}

impl Default for Retry {
    fn default() -> Self {
        Self { backoff: Millis(500), backoff_max: Millis::from_secs(60) }
    }
}

impl Retry {
    /// When the attempt after number `attempt` may begin: full backoff less up to a quarter, by `draw`, so that what failed together does not
    /// come back together.
    pub fn not_before(&self, ended: Timestamp, attempt: u32, draw: u64) -> Timestamp {
        let doubled = self.backoff.0.saturating_mul(1 << attempt.saturating_sub(1).min(32));
        let span = doubled.min(self.backoff_max.0);
        ended.plus(Millis(span - span / 4 * (draw % 1024) / 1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_older_journals_are_read_as_they_were_meant() {
        let read: Vec<Dependency> = serde_json::from_str(r#"["a", {"task": "b", "when": "ended"}]"#).unwrap();
        let of = |task, when| Dependency { task: TaskId::new(task).unwrap(), when };
        assert_eq!(read, [of("a", When::Landed), of("b", When::Ended)]);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["a",{"task":"b","when":"ended"}]"#);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_differ_by_a_quarter_at_most() {
        let retry = Retry { backoff: Millis(1000), backoff_max: Millis(5000) };
        for (attempt, full) in [(1, 1000), (2, 2000), (3, 4000), (4, 5000), (u32::MAX, 5000)] {
            for draw in [0, 511, 1023, u64::MAX] {
                let pause = retry.not_before(Timestamp(7), attempt, draw).0 - 7;
                assert!(pause <= full && pause >= full * 3 / 4, "{attempt}: {pause}");
            }
            assert_eq!(retry.not_before(Timestamp(7), attempt, 0).0 - 7, full);
        }
    }
}
