//! From a command to its records, or to the reason why there are none.

use quorate_base::{AgentId, TaskId};

use super::{Command, REASON_LEN_MAX, Refusal};
use crate::exchange::{self, Posted, Sender, Text};
use crate::record::{Record, TaskOutcome};
use crate::state::crew::{Member, Phase};
use crate::state::{Settled, State, TaskState};
use crate::topology::Shape;

/// The records a command becomes in this state: all of them follow from it, in this order.
pub fn judge(state: &State, command: &Command) -> Result<Vec<Record>, Refusal> {
    let run = state.started.run.clone();
    if state.outcome.is_some() {
        return Err(Refusal::Finished { run });
    }
    check_reason(command.reason().unwrap_or_default())?;
    let agent = |agent: &AgentId| {
        let missing = || Refusal::NoAgent { run: run.clone(), agent: agent.clone() };
        state.crew.get(agent).ok_or_else(missing)
    };
    match command {
        Command::Cancel { task, reason } => cancel(state, task, reason),
        Command::Prioritise { task, priority } => {
            open(state, task)?;
            Ok(vec![Record::TaskPrioritised { task: task.clone(), priority: *priority }])
        }
        Command::Tell { to, digest, bytes } => {
            let text = Ok(Text { digest: *digest, bytes: *bytes });
            match exchange::judge(state, Posted { from: Sender::Person, to: to.clone(), text }) {
                Record::MessageRefused { to, reason, .. } => Err(Refusal::Message { to, reason }),
                sent => Ok(vec![sent]),
            }
        }
        Command::Topology { topology, reason } => {
            Shape::new(*topology, &state.started.spec)
                .map_err(|error| Refusal::Topology { reason: error.to_string() })?;
            Ok(vec![Record::TopologyChanged { topology: *topology, reason: reason.clone() }])
        }
        Command::Pause { agent: id, reason } => {
            let record = Record::AgentPaused { agent: id.clone(), reason: reason.clone() };
            follows(state, agent(id)?, id, vec![record], "only one that works can be paused")
        }
        Command::Continue { agent: id, reason } => {
            let record = Record::AgentContinued { agent: id.clone(), reason: reason.clone() };
            follows(state, agent(id)?, id, vec![record], "only one that is paused can be continued")
        }
        Command::Release { agent: id, reason } => {
            let record = Record::AgentReleased { agent: id.clone(), reason: reason.clone() };
            let needs = "only one that is stopped or quarantined can be released";
            follows(state, agent(id)?, id, vec![record], needs)
        }
        Command::Drain { agent: id, reason } => {
            let record = Record::AgentDraining { agent: id.clone(), reason: reason.clone() };
            follows(state, agent(id)?, id, vec![record], "it takes no tasks already")
        }
        Command::Relaunch { agent: id, reason } => {
            let member = agent(id)?;
            let needs = "only one that has a task, and may take it again, can be launched again";
            if member.phase == Phase::Draining {
                return Err(refused(member, id, needs));
            }
            let record = Record::AgentStopping { agent: id.clone(), reason: reason.clone() };
            follows(state, member, id, vec![record], needs)
        }
        Command::Stop { agent: id, reason } => {
            let member = agent(id)?;
            let mut records = Vec::new();
            if member.may_be_ended() {
                records.push(Record::AgentStopping { agent: id.clone(), reason: reason.clone() });
            }
            if records.is_empty() || member.phase != Phase::Draining {
                records.push(Record::AgentDraining { agent: id.clone(), reason: reason.clone() });
            }
            follows(state, member, id, records, "it takes no tasks already")
        }
    }
}

/// These records, if the state machine takes them all.
fn follows(
    state: &State,
    member: &Member,
    agent: &AgentId,
    records: Vec<Record>,
    needs: &str,
) -> Result<Vec<Record>, Refusal> {
    let mut crew = state.crew.clone();
    let taken = records.iter().try_for_each(|record| crew.take(record, state.last_at));
    taken.map(|()| records).map_err(|_| refused(member, agent, needs))
}

fn refused(member: &Member, agent: &AgentId, needs: &str) -> Refusal {
    Refusal::Phase { agent: agent.clone(), phase: member.phase, needs: needs.to_owned() }
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    let malformed = |reason: String| Err(Refusal::Malformed { reason });
    if reason.len() > REASON_LEN_MAX {
        return malformed(format!("its reason is longer than {REASON_LEN_MAX} bytes"));
    }
    if reason.chars().any(char::is_control) {
        return malformed("its reason has control characters in it".into());
    }
    Ok(())
}

fn cancel(state: &State, task: &TaskId, reason: &str) -> Result<Vec<Record>, Refusal> {
    let at = open(state, task)?;
    let refused = |is: &str, needs: &str| {
        Err(Refusal::Task { task: task.clone(), is: is.to_owned(), needs: needs.to_owned() })
    };
    if state.unwanted.contains_key(task) {
        return refused("is being cancelled already", "it ends when its agent has");
    }
    if matches!(at, TaskState::Harvest { .. }) {
        return refused("has been done, and its work is being read", "the panel decides about it");
    }
    Ok(vec![Record::TaskUnwanted { task: task.clone(), reason: reason.to_owned() }])
}

/// A task that has neither come to its end nor proposed a change.
fn open<'a>(state: &'a State, task: &TaskId) -> Result<&'a TaskState, Refusal> {
    let missing = || Refusal::NoTask { run: state.started.run.clone(), task: task.clone() };
    let at = state.tasks.get(task).ok_or_else(missing)?;
    let refused = |is: &str, needs: &str| {
        Err(Refusal::Task { task: task.clone(), is: is.to_owned(), needs: needs.to_owned() })
    };
    match at {
        TaskState::Proposed { change } => match state.changes.get(change).and_then(|c| c.settled.as_ref()) {
            None => refused("has proposed its change", "the panel decides about it"),
            Some(Settled::Landed { .. }) => refused("has landed", "revert its commit to be rid of it"),
            Some(Settled::Refused { .. }) => refused("was refused by the panel", "nothing of it is to come"),
        },
        TaskState::Closed { outcome: TaskOutcome::Cancelled { .. } } => {
            refused("is cancelled", "nothing of it is to come")
        }
        TaskState::Closed { .. } => refused("has come to its end", "nothing of it is to come"),
        _ => Ok(at),
    }
}
