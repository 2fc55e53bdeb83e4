//! Whether a message is sent: a rule over the state, asked for each in turn.

use quorate_base::{AgentId, TaskId};

use super::allowed::may_write;
use super::message::{Message, Sender, Text, To};
use super::name::shown;
use crate::record::Record;
use crate::state::{State, TaskState};

/// The most messages that wait for one recipient.
pub const PENDING_MAX: usize = 256;

/// A message on its way, before anybody has asked whether it may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub from: Sender,
    /// The name of an agent or of a task; an agent's goes first where both are called so.
    pub to: String,
    /// Its text, or why it is none.
    pub text: Result<Text, String>,
}

/// What becomes of a message: [`Record::MessageSent`] or [`Record::MessageRefused`].
pub fn judge(state: &State, posted: Posted) -> Record {
    let Posted { from, to, text } = posted;
    match text.and_then(|text| Ok((recipient(state, &from, &to)?, text))) {
        Ok((to, Text { digest, bytes })) => Record::MessageSent(Message { from, to, digest, bytes }),
        Err(reason) => Record::MessageRefused { from, to: shown(to.as_bytes()), reason },
    }
}

fn recipient(state: &State, from: &Sender, name: &str) -> Result<To, String> {
    let agent = AgentId::new(name).ok().filter(|agent| state.crew.get(agent).is_some());
    let task = || TaskId::new(name).ok().filter(|task| state.tasks.contains_key(task));
    let to = match (agent, task()) {
        (Some(agent), _) => To::Agent(agent),
        (None, Some(task)) => To::Task(task),
        (None, None) => return Err("the run has no agent and no task of that name".into()),
    };
    if let To::Task(task) = &to
        && matches!(
            state.tasks.get(task),
            Some(TaskState::Harvest { .. } | TaskState::Proposed { .. } | TaskState::Closed { .. })
        )
    {
        return Err("nobody works on that task any more".into());
    }
    if let Sender::Agent(from) = from {
        allowed(state, from, &to)?;
    }
    if state.exchange.letters(&to).count() >= PENDING_MAX {
        return Err(format!("{PENDING_MAX} messages wait there already"));
    }
    Ok(to)
}

/// Where it is not known yet who does a task, it is enough that one of those who could may be written to.
fn allowed(state: &State, from: &AgentId, to: &To) -> Result<(), String> {
    let task = match to {
        To::Agent(agent) => return may_write(state, from, agent),
        To::Task(task) => task,
    };
    if let Some(TaskState::Starting { agent, .. } | TaskState::Running { agent, .. }) = state.tasks.get(task)
    {
        return may_write(state, from, agent);
    }
    let spec = &state.started.spec;
    let able = state.task_spec(task).map(|task| spec.able(task)).into_iter().flatten();
    let mut answer = Err("nobody could do that task".to_owned());
    for agent in able.flat_map(|(name, _)| spec.instances(name)) {
        answer = may_write(state, from, &agent);
        if answer.is_ok() {
            break;
        }
    }
    answer
}
