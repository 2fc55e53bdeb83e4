//! Telling what an agent was refused to connect to.

use quorate_agents::egress::Refused;
use quorate_base::{AgentId, TaskId};

use super::Job;
use crate::record::Record;

impl Job {
    /// A record for each kind of refusal, of which there is a bounded number in each launch.
    pub(super) fn tell_refused(&self, agent: &AgentId, task: &TaskId, attempt: u32, refused: Vec<Refused>) {
        for Refused { host, port, reason, count } in refused {
            let (agent, task) = (agent.clone(), task.clone());
            self.tell(Record::EgressRefused { agent, task, attempt, host, port, reason, count });
        }
    }
}
