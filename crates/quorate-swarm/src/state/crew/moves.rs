//! Moves that somebody makes an agent make: what each needs, and what it leads to.
//!
//! The fold and whoever judges a wish before it becomes a record go through the same [`Crew::take`], so a wish that was granted is always
//! a record that follows.

use quorate_base::{AgentId, Timestamp};

use super::{Crew, Illegal, Phase};
use crate::record::Record;

impl Crew {
    /// Takes a record that moves an agent; any other changes nothing.
    pub(crate) fn take(&mut self, record: &Record, at: Timestamp) -> Result<(), Illegal> {
        match record {
            Record::AgentPaused { agent, reason } => {
                self.go(agent, &[Phase::Working], Phase::Paused, at, reason)
            }
            Record::AgentContinued { agent, reason } => {
                self.go(agent, &[Phase::Paused], Phase::Working, at, reason)
            }
            Record::AgentStopping { agent, reason } => self.stop(agent, at, reason),
            Record::AgentQuarantined { agent, reason } => {
                self.become_(agent, Phase::Quarantined, at, reason).map(|_| ())
            }
            Record::AgentDraining { agent, reason } => self.drain(agent, at, reason),
            Record::AgentBenched { agent, reason } => self.bench(agent, at, reason),
            Record::AgentReleased { agent, reason } => self.release(agent, at, reason),
            _ => Ok(()),
        }
    }

    /// To another phase, from these alone.
    fn go(
        &mut self,
        agent: &AgentId,
        from: &[Phase],
        to: Phase,
        at: Timestamp,
        reason: &str,
    ) -> Result<(), Illegal> {
        let member = self.members.get(agent).ok_or_else(|| Illegal::Unknown(agent.clone()))?;
        if !from.contains(&member.phase) {
            return Err(Illegal::Move { agent: agent.clone(), from: member.phase, to });
        }
        self.become_(agent, to, at, reason).map(|_| ())
    }

    /// Its process is told to end. One that takes no more tasks stays what it is, and ends sooner.
    fn stop(&mut self, agent: &AgentId, at: Timestamp, reason: &str) -> Result<(), Illegal> {
        let member = self.members.get_mut(agent).ok_or_else(|| Illegal::Unknown(agent.clone()))?;
        if !member.may_be_ended() {
            return Err(Illegal::Move { agent: agent.clone(), from: member.phase, to: Phase::Stopping });
        }
        member.ending = true;
        if member.phase == Phase::Draining {
            reason.clone_into(&mut member.reason);
            return Ok(());
        }
        self.become_(agent, Phase::Stopping, at, reason).map(|_| ())
    }

    /// An agent that takes no more: at once, or when its task has ended.
    fn drain(&mut self, agent: &AgentId, at: Timestamp, reason: &str) -> Result<(), Illegal> {
        let member = self.members.get_mut(agent).ok_or_else(|| Illegal::Unknown(agent.clone()))?;
        if std::mem::take(&mut member.benched) {
            // It stays where it is, and is not fetched back when there is more to do.
            member.since = at;
            reason.clone_into(&mut member.reason);
            return Ok(());
        }
        let next = if member.task.is_some() { Phase::Draining } else { Phase::Stopped };
        self.become_(agent, next, at, reason).map(|_| ())
    }

    /// One that has nothing to do takes no more for now.
    fn bench(&mut self, agent: &AgentId, at: Timestamp, reason: &str) -> Result<(), Illegal> {
        self.become_(agent, Phase::Stopped, at, reason)?.benched = true;
        Ok(())
    }

    /// It may take tasks again, and its failures are forgotten.
    fn release(&mut self, agent: &AgentId, at: Timestamp, reason: &str) -> Result<(), Illegal> {
        self.go(agent, &[Phase::Stopped, Phase::Quarantined], Phase::Idle, at, reason)?;
        if let Some(member) = self.members.get_mut(agent) {
            member.failures.clear();
            member.failed = None;
        }
        Ok(())
    }
}
