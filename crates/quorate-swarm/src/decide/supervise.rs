//! What follows from agents that fail, and from tasks that nobody wants or can do.

use std::collections::BTreeMap;

use quorate_base::{AgentId, TaskId};

use crate::record::{Record, TaskOutcome};
use crate::spec::Restart;
use crate::state::crew::Member;
use crate::state::{State, TaskState};
use crate::topology::Topology;

/// Deaths of the node with a task's agent at work after which the task is taken to be what kills it.
const DEATHS_MAX: u32 = 3;

/// Agents that are quarantined, and those that are told to end.
pub(super) fn supervise(state: &State) -> Vec<Record> {
    let restart = |declaration: &str| -> Restart {
        state.started.spec.agents.get(declaration).map(|agent| agent.restart).unwrap_or_default()
    };
    let storms = state.crew.storms(restart);
    let mut records: Vec<Record> =
        storms.map(|(agent, reason)| Record::AgentQuarantined { agent: agent.clone(), reason }).collect();
    let below = |agent: &AgentId, superior: &AgentId| {
        state.shape.topology == Topology::Hierarchical && state.shape.is_below(agent, superior)
    };
    let mut stopping: BTreeMap<&AgentId, String> = BTreeMap::new();
    for (agent, failed) in state.crew.dragged(restart, below) {
        stopping.entry(agent).or_insert_with(|| format!("{failed} failed"));
    }
    for (task, reason) in &state.unwanted {
        if let Some(TaskState::Starting { agent, .. } | TaskState::Running { agent, .. }) =
            state.tasks.get(task)
            && state.crew.get(agent).is_some_and(Member::may_be_ended)
        {
            stopping.insert(agent, reason.clone());
        }
    }
    let stops =
        stopping.into_iter().map(|(agent, reason)| Record::AgentStopping { agent: agent.clone(), reason });
    records.extend(stops);
    records
}

/// Waiting tasks that somebody wants no more, that have killed the node too often, or for which no agent is left.
pub(super) fn given_up(state: &State) -> impl Iterator<Item = (&TaskId, TaskOutcome)> {
    let waits = |task: &&TaskId| matches!(state.tasks.get(*task), Some(TaskState::Waiting { .. }));
    let poison = state.deaths.iter().filter(|(_, deaths)| **deaths >= DEATHS_MAX);
    let poison = poison.map(|(task, deaths)| (task, TaskOutcome::Poison { deaths: *deaths }));
    let unwanted =
        state.unwanted.iter().map(|(task, reason)| (task, TaskOutcome::Cancelled { reason: reason.clone() }));
    let nobody = state.agenda.homeless().map(|(task, declaration)| {
        let reason = format!("no agent `{declaration}` is left: {}", state.crew.why_none(declaration));
        (task, TaskOutcome::Failed { reason })
    });
    nobody.chain(poison.chain(unwanted).filter(move |(task, _)| waits(task)))
}
