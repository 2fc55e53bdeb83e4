//! Who is there and what is to be done: the agents and the tasks of a run, as its state tells at any moment.

use std::collections::BTreeSet;

use quorate_base::Millis;
use serde::Serialize;

use crate::control::Launch;
use crate::spec::task::{Dependency, Priority, When};
use crate::state::crew::Phase;
use crate::state::{Settled, State, TaskState};
use crate::summary;

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentStanding {
    pub id: String,
    pub role: &'static str,
    /// Its name in the swarm file.
    pub declaration: String,
    pub phase: Phase,
    pub since: String,
    /// Why it is in this phase, where somebody or something has put it there.
    pub reason: String,
    pub task: Option<String>,
    pub attempt: Option<u32>,
    pub pid: Option<u32>,
    pub launches: u32,
    /// Of all launches; the present one is in it where the node could be asked.
    pub cpu_s: f64,
    /// Resident memory now, where the node could be asked.
    pub memory_bytes: Option<u64>,
    /// The most in any launch that has ended.
    pub memory_peak_bytes: u64,
    /// How long it has been halted in the present launch.
    pub paused_s: f64,
}

/// Every agent, in the order of their names. `now` is what a node says of launches at work, if there is one.
pub fn agents(state: &State, now: Option<&[Launch]>) -> Vec<AgentStanding> {
    let spec = &state.started.spec;
    let row = |(id, member): (&quorate_base::AgentId, &crate::state::crew::Member)| {
        let launch = now.and_then(|now| now.iter().find(|launch| launch.agent == *id));
        let ended = || state.launches.iter().filter(|launch| launch.agent == *id);
        let cpu: u64 = ended().map(|launch| launch.cpu.0).sum();
        let at = member.task.as_ref().and_then(|task| state.tasks.get(task));
        let (attempt, pid) = match at {
            Some(TaskState::Starting { attempt, .. }) => (Some(*attempt), None),
            Some(TaskState::Running { attempt, pid, .. }) => (Some(*attempt), Some(*pid)),
            _ => (None, None),
        };
        AgentStanding {
            id: id.to_string(),
            role: spec.agents.get(&member.declaration).map_or("specialist", |agent| agent.role.name()),
            declaration: member.declaration.clone(),
            phase: member.phase,
            since: member.since.to_string(),
            reason: member.reason.clone(),
            task: member.task.as_ref().map(ToString::to_string),
            attempt,
            pid,
            launches: member.launches,
            cpu_s: Millis(cpu + launch.map_or(0, |launch| launch.cpu.0)).as_secs_f64(),
            memory_bytes: launch.map(|launch| launch.memory.0),
            memory_peak_bytes: ended().map(|launch| launch.memory_peak.0).max().unwrap_or(0),
            paused_s: launch
                .map_or_else(|| member.paused_by(state.last_at), |launch| launch.paused)
                .as_secs_f64(),
        }
    };
    state.crew.iter().map(row).collect()
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskStanding {
    pub id: String,
    /// The declaration of the agents that may do it; empty where any may that can do what it needs.
    pub agent: String,
    pub needs: BTreeSet<String>,
    /// The one that does.
    pub by: Option<String>,
    /// `waiting`, `starting`, `running`, `reading` (what its agent left), `proposed`, `landed`, `refused`, or how it ended otherwise.
    pub state: &'static str,
    /// Why it ended, where that needs a reason.
    pub reason: String,
    /// Attempts that count, the present one among them.
    pub attempts: u32,
    /// What must still happen before it can start.
    pub waits_for: Vec<Dependency>,
    /// Not tried again before this.
    pub not_before: Option<String>,
    pub priority: Priority,
    pub deadline: Option<String>,
}

/// Every task, in the order of the swarm file, and those that came up on the way.
pub fn tasks(state: &State) -> Vec<TaskStanding> {
    let row = |spec: &crate::spec::TaskSpec| {
        let at = state.tasks.get(&spec.id)?;
        let last = || state.launches.iter().rev().find(|launch| launch.task == spec.id);
        let last_attempt = || last().map_or(0, |launch| launch.attempt);
        let mut waits_for = Vec::new();
        let (mut not_before, mut reason, mut by) = (None, String::new(), None);
        let (word, attempts) = match at {
            TaskState::Waiting { attempts, not_before: at } => {
                not_before = (*at > state.last_at).then(|| at.to_string());
                waits_for.extend(spec.after.iter().filter(|on| !has_come(state, on)).cloned());
                ("waiting", *attempts)
            }
            TaskState::Starting { agent, attempt, .. } => {
                by = Some(agent.to_string());
                ("starting", *attempt)
            }
            TaskState::Running { agent, attempt, .. } => {
                by = Some(agent.to_string());
                ("running", *attempt)
            }
            TaskState::Harvest { agent, attempt, .. } => {
                by = Some(agent.to_string());
                ("reading", *attempt)
            }
            TaskState::Proposed { change } => {
                let word = match state.changes.get(change).and_then(|change| change.settled.as_ref()) {
                    None => "proposed",
                    Some(Settled::Landed { .. }) => "landed",
                    Some(Settled::Refused { check, reason: why, .. }) => {
                        reason = format!("{check}: {why}");
                        "refused"
                    }
                };
                (word, last_attempt())
            }
            TaskState::Closed { outcome } => {
                let (word, why) = summary::told(outcome);
                reason = why;
                (word, last_attempt())
            }
        };
        Some(TaskStanding {
            id: spec.id.to_string(),
            agent: spec.agent.clone(),
            needs: spec.needs.clone(),
            by,
            state: word,
            reason,
            attempts,
            waits_for,
            not_before,
            priority: state.prioritised.get(&spec.id).copied().unwrap_or(spec.priority),
            deadline: spec.deadline.map(|span| state.started_at.plus(span).to_string()),
        })
    };
    state.started.spec.tasks.iter().chain(&state.added).filter_map(row).collect()
}

/// Whether what a task waits for has happened.
fn has_come(state: &State, on: &Dependency) -> bool {
    match (on.when, state.tasks.get(&on.task)) {
        (When::Started, _) => state.agenda.has_begun(&on.task),
        (When::Ended, _) => state.task_over(&on.task),
        (When::Landed, Some(TaskState::Proposed { change })) => {
            let settled = state.changes.get(change).and_then(|change| change.settled.as_ref());
            matches!(settled, Some(Settled::Landed { .. }))
        }
        (When::Landed, Some(TaskState::Closed { outcome })) => {
            *outcome == crate::record::TaskOutcome::NoChange
        }
        (When::Landed, _) => false,
    }
}
