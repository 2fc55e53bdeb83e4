//! The agents of a run: where each stands, and how often it has failed lately.
//!
//! Every move is the meaning of a record; one that [`Phase::may_become`] does not allow is a journal that contradicts itself.

mod moves;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_base::{AgentId, Millis, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::spec::RunSpec;
use crate::spec::restart::{Restart, Strategy};

/// Where an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Declared, and never launched.
    Created,
    /// It has a task, and its process is being started.
    Starting,
    /// Its process works.
    Working,
    /// Its processes are halted.
    Paused,
    /// Its process has been told to end.
    Stopping,
    /// It has ended a task well, and waits for the next.
    Idle,
    /// Its last launch failed; it may be launched again.
    Failed,
    /// It ends what it does and takes nothing more.
    Draining,
    /// It takes nothing more.
    Stopped,
    /// It failed too often, and takes nothing until it is released.
    Quarantined,
}

impl Phase {
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Starting,
        Self::Working,
        Self::Paused,
        Self::Stopping,
        Self::Idle,
        Self::Failed,
        Self::Draining,
        Self::Stopped,
        Self::Quarantined,
    ];

    /// Whether an agent can go from one to the other.
    pub const fn may_become(self, next: Self) -> bool {
        use Phase::{
            Created, Draining, Failed, Idle, Paused, Quarantined, Starting, Stopped, Stopping, Working,
        };
        match self {
            Created | Idle => matches!(next, Starting | Stopped | Quarantined),
            // Its end is a failure like any other, and it may be lost with the node.
            Starting => matches!(next, Working | Stopping | Draining | Failed | Idle),
            Working => matches!(next, Paused | Stopping | Draining | Idle | Failed),
            Paused => matches!(next, Working | Stopping | Draining | Idle | Failed),
            Stopping => matches!(next, Idle | Failed | Draining),
            Failed => matches!(next, Starting | Stopped | Quarantined | Idle),
            Draining => matches!(next, Stopped),
            Stopped | Quarantined => matches!(next, Idle),
        }
    }

    /// Whether it could take a task now.
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Created | Self::Idle | Self::Failed)
    }

    /// Whether it will not take a task again unless somebody says so.
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Draining | Self::Stopped | Self::Quarantined)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Working => "working",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Idle => "idle",
            Self::Failed => "failed",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its declaration.
    pub declaration: String,
    pub phase: Phase,
    pub since: Timestamp,
    /// Why it is in this phase, where somebody or something has put it there.
    pub reason: String,
    pub task: Option<TaskId>,
    /// It takes no task because there is not enough to do, and will when there is.
    pub benched: bool,
    /// Launches so far.
    pub launches: u32,
    /// Its process has been told to end.
    pub(crate) ending: bool,
    /// How long it has been halted in this launch, the present pause not counted.
    paused: Millis,
    /// When it failed lately; as many as are allowed, and one more.
    failures: VecDeque<Timestamp>,
    /// Records of its last launch and its last failure.
    launched: u64,
    failed: Option<u64>,
}

impl Member {
    /// Whether it has a process, or is being given one, that has not been told to end.
    pub(crate) fn may_be_ended(&self) -> bool {
        self.task.is_some() && !self.ending
    }

    /// How long it had been halted in this launch at that time.
    pub fn paused_by(&self, at: Timestamp) -> Millis {
        let now = if self.phase == Phase::Paused { at.since(self.since).0 } else { 0 };
        Millis(self.paused.0.saturating_add(now))
    }
}

/// All agents of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crew {
    members: BTreeMap<AgentId, Member>,
    /// Those whose last launch failed.
    failed: BTreeSet<AgentId>,
    /// Those that take nothing more, by their declaration.
    out: BTreeMap<String, BTreeSet<AgentId>>,
    /// Agents of each declaration.
    sizes: BTreeMap<String, usize>,
    /// The failure of some means the end of others.
    linked: bool,
}

/// An agent cannot make this move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    #[error("there is no agent {0}")]
    Unknown(AgentId),
    #[error("agent {agent} is {}, and cannot become {}", from.name(), to.name())]
    Move { agent: AgentId, from: Phase, to: Phase },
}

impl Crew {
    pub(super) fn new(spec: &RunSpec, at: Timestamp) -> Self {
        let member = |declaration: &String, benched: bool| Member {
            declaration: declaration.clone(),
            phase: if benched { Phase::Stopped } else { Phase::Created },
            since: at,
            reason: if benched { "there is not enough to do for it yet".into() } else { String::new() },
            benched,
            task: None,
            launches: 0,
            ending: false,
            paused: Millis(0),
            failures: VecDeque::new(),
            launched: 0,
            failed: None,
        };
        let all = spec.agents.iter().flat_map(|(name, agent)| {
            let most = agent.scale.map_or(u32::MAX, |scale| scale.min);
            let one = |(id, place): (AgentId, u32)| (id, member(name, place >= most));
            spec.instances(name).into_iter().zip(0..).map(one).collect::<Vec<_>>()
        });
        let members: BTreeMap<AgentId, Member> = all.collect();
        let mut out: BTreeMap<String, BTreeSet<AgentId>> = BTreeMap::new();
        for (agent, member) in members.iter().filter(|(_, member)| member.phase.is_out()) {
            out.entry(member.declaration.clone()).or_default().insert(agent.clone());
        }
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        members.values().for_each(|member| *sizes.entry(member.declaration.clone()).or_default() += 1);
        let linked = spec.agents.values().any(|agent| agent.restart.strategy != Strategy::OneForOne);
        Self { members, failed: BTreeSet::new(), out, sizes, linked }
    }

    pub fn get(&self, agent: &AgentId) -> Option<&Member> {
        self.members.get(agent)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, &Member)> {
        self.members.iter()
    }

    pub(super) fn become_(
        &mut self,
        agent: &AgentId,
        next: Phase,
        at: Timestamp,
        reason: &str,
    ) -> Result<&mut Member, Illegal> {
        let member = self.members.get_mut(agent).ok_or_else(|| Illegal::Unknown(agent.clone()))?;
        if !member.phase.may_become(next) {
            return Err(Illegal::Move { agent: agent.clone(), from: member.phase, to: next });
        }
        match next {
            Phase::Failed => drop(self.failed.insert(agent.clone())),
            _ => drop(self.failed.remove(agent)),
        }
        if next.is_out() {
            self.out.entry(member.declaration.clone()).or_default().insert(agent.clone());
        } else if member.phase.is_out()
            && let Some(out) = self.out.get_mut(&member.declaration)
        {
            out.remove(agent);
        }
        member.paused = member.paused_by(at);
        member.phase = next;
        member.since = at;
        member.benched = false;
        reason.clone_into(&mut member.reason);
        Ok(member)
    }

    pub(super) fn starting(
        &mut self,
        agent: &AgentId,
        task: &TaskId,
        at: Timestamp,
        seq: u64,
    ) -> Result<(), Illegal> {
        let member = self.become_(agent, Phase::Starting, at, "")?;
        member.task = Some(task.clone());
        member.launches += 1;
        member.ending = false;
        member.paused = Millis(0);
        member.launched = seq;
        Ok(())
    }

    /// Its process has ended, as it should or not.
    pub(super) fn ended(
        &mut self,
        agent: &AgentId,
        failed: Option<&Restart>,
        at: Timestamp,
        seq: u64,
    ) -> Result<(), Illegal> {
        let member = self.members.get_mut(agent).ok_or_else(|| Illegal::Unknown(agent.clone()))?;
        member.task = None;
        member.ending = false;
        let next = match failed {
            _ if member.phase == Phase::Draining => Phase::Stopped,
            None => Phase::Idle,
            Some(restart) => {
                member.failed = Some(seq);
                member.failures.push_back(at);
                while member.failures.len() > restart.max as usize + 1 {
                    member.failures.pop_front();
                }
                Phase::Failed
            }
        };
        let reason = member.reason.clone();
        self.become_(agent, next, at, if next == Phase::Stopped { &reason } else { "" }).map(|_| ())
    }

    /// Agents that have failed more often than their declaration allows.
    pub(crate) fn storms<'a>(
        &'a self,
        restart: impl Fn(&str) -> Restart + 'a,
    ) -> impl Iterator<Item = (&'a AgentId, String)> + 'a {
        let failed = self.failed.iter().filter_map(|agent| self.members.get_key_value(agent));
        failed.filter_map(move |(agent, member)| {
            let allowed = restart(&member.declaration);
            let (first, last) = (member.failures.front()?, member.failures.back()?);
            let stormy = member.failures.len() > allowed.max as usize && last.since(*first) <= allowed.within;
            let why = || format!("it failed {} times within {}", member.failures.len(), allowed.within);
            stormy.then(|| (agent, why()))
        })
    }

    /// Why a declaration has no agent left that takes tasks, by the first of them.
    pub(crate) fn why_none(&self, declaration: &str) -> String {
        let first = self.out.get(declaration).and_then(BTreeSet::first);
        let Some((agent, member)) = first.and_then(|agent| self.members.get_key_value(agent)) else {
            return "its budget is used up".into();
        };
        let colon = if member.reason.is_empty() { "" } else { ": " };
        format!("{agent} is {}{colon}{}", member.phase.name(), member.reason)
    }

    /// Agents of a declaration that take tasks, and all.
    pub(crate) fn strength(&self, declaration: &str) -> (usize, usize) {
        let all = self.sizes.get(declaration).copied().unwrap_or(0);
        (all - self.out.get(declaration).map_or(0, BTreeSet::len), all)
    }

    /// Agents of a declaration, in their order.
    pub(crate) fn of<'a>(&'a self, declaration: &'a str) -> impl Iterator<Item = (&'a AgentId, &'a Member)> {
        self.members.iter().filter(move |(_, member)| member.declaration == declaration)
    }

    /// Agents that have been told to end, and their tasks.
    pub(crate) fn stopping(&self) -> impl Iterator<Item = &TaskId> {
        self.members.values().filter(|member| member.ending).filter_map(|member| member.task.as_ref())
    }

    /// Agents that end because another has failed, of their declaration or in whose domain they are (`below`), with that one.
    pub(crate) fn dragged<'a>(
        &'a self,
        restart: impl Fn(&str) -> Restart + 'a,
        below: impl Fn(&AgentId, &AgentId) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = (&'a AgentId, &'a AgentId)> + 'a {
        let all = self.linked.then(|| self.members.iter()).into_iter().flatten();
        let failed = all.filter_map(|(agent, member)| Some((agent, member, member.failed?)));
        failed.flat_map(move |(failed, theirs, seq)| {
            let strategy = restart(&theirs.declaration).strategy;
            self.members.iter().filter_map(move |(agent, member)| {
                let busy = matches!(member.phase, Phase::Working | Phase::Paused);
                let follows = match strategy {
                    Strategy::OneForOne => false,
                    Strategy::OneForAll => true,
                    // Those whose present launch is younger than its last one.
                    Strategy::RestForOne => member.launched > theirs.launched,
                };
                let together = member.declaration == theirs.declaration || below(agent, failed);
                let with_it = busy && follows && member.launched < seq && agent != failed;
                (with_it && together).then_some((agent, failed))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_works_comes_to_rest_before_it_works_again() {
        for phase in Phase::ALL {
            assert!(!phase.may_become(phase), "{phase:?} is no move");
            let starts = phase.may_become(Phase::Starting);
            assert_eq!(starts, phase.is_free(), "{phase:?}");
            assert!(!(phase.is_free() && phase.is_out()), "{phase:?}");
        }
        assert!(Phase::ALL.iter().all(|phase| Phase::ALL.iter().any(|next| phase.may_become(*next))));
    }
}
