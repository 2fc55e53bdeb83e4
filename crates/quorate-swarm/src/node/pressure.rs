//! The memory of the machine and of the agents, looked at between other work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use quorate_agents::{Control, Memory};
use quorate_base::{ByteCount, Millis, TaskId};

use super::{InHand, Key};
use crate::pressure::{Action, AgentMemory, Breaker, Growth, Sample};
use crate::record::Record;
use crate::spec::NodeSpec;
use crate::state::crew::Phase;
use crate::state::{State, TaskState};

/// Between two looks.
const LOOK: Millis = Millis(100);
/// What the node itself may grow to before that is told as a leak: it holds one run's state and waits.
const NODE_MAX: ByteCount = ByteCount::mib(1024);

/// Looks at memory and does what the breaker says.
#[derive(Debug)]
pub(super) struct Guard {
    breaker: Breaker,
    began: Instant,
    looked: Option<Millis>,
    /// Whom it has halted itself.
    held: BTreeSet<TaskId>,
    /// By launch; the node itself has no key.
    growth: BTreeMap<Option<(TaskId, u32)>, (Growth, bool)>,
}

impl Guard {
    pub(super) fn new(spec: &NodeSpec) -> Self {
        Self {
            breaker: Breaker::new(spec.memory_warn, spec.memory_critical),
            began: Instant::now(),
            looked: None,
            held: BTreeSet::new(),
            growth: BTreeMap::new(),
        }
    }

    /// Looks, if it is time to, and tells what was done about it.
    pub(super) fn look(&mut self, state: &State, in_hand: &BTreeMap<Key, InHand>) -> Vec<Record> {
        let now = Millis::from(self.began.elapsed());
        if self.looked.is_some_and(|looked| now.0 < looked.0 + LOOK.0) {
            return Vec::new();
        }
        self.looked = Some(now);
        // Without figures nothing is decided; `quorate doctor` tells that there are none.
        let Some(memory) = Memory::now() else { return Vec::new() };
        let agents = agents(state, in_hand, now);
        // Whom somebody else has let go on, or ended, is held no more, and may be halted by somebody else next.
        self.held.retain(|task| match state.tasks.get(task) {
            Some(TaskState::Running { agent, .. }) => {
                state.crew.get(agent).is_some_and(|member| member.phase == Phase::Paused)
            }
            _ => false,
        });
        let mut records = self.foresee(state, &agents, memory.own, now);
        let sample = Sample {
            now,
            total: memory.total,
            available: memory.available,
            bound: memory.bound,
            waiting: memory.waiting,
            node: memory.own,
            agents: agents.iter().map(|(_, agent)| agent.clone()).collect(),
        };
        let actions = self.breaker.take(&sample);
        records.extend(actions.into_iter().filter_map(|action| self.act(action, &sample, state, in_hand)));
        records
    }

    /// Tells once of everything that grows towards its limit and would pass it in time.
    fn foresee(
        &mut self,
        state: &State,
        agents: &[(u32, AgentMemory)],
        own: ByteCount,
        now: Millis,
    ) -> Vec<Record> {
        let spec = &state.started.spec;
        let wall_left = Millis(spec.wall.0.saturating_sub(now.0));
        let mut watched = vec![(None, own, NODE_MAX, wall_left)];
        for (attempt, agent) in agents {
            let declared = match state.tasks.get(&agent.task) {
                Some(TaskState::Running { agent, .. }) => spec.declaration(agent),
                _ => None,
            };
            if let Some(limits) = declared.map(|(_, declared)| declared.limits) {
                let worked = Millis(now.0.saturating_sub(agent.since.0));
                let left = Millis(limits.wall.0.saturating_sub(worked.0));
                watched.push((Some((agent.task.clone(), *attempt)), agent.resident, limits.memory, left));
            }
        }
        self.growth.retain(|key, _| watched.iter().any(|(there, ..)| there == key));
        let mut records = Vec::new();
        for (key, resident, limit, left) in watched {
            let (growth, told) = self.growth.entry(key.clone()).or_default();
            growth.take(now, resident);
            let Some(trend) = growth.trend().filter(|_| !*told) else { continue };
            let passes_in = trend.passes_in(limit);
            if passes_in < left {
                *told = true;
                let task = key.map(|(task, _)| task);
                let per_minute = trend.per_minute;
                records.push(Record::MemoryGrowing { task, memory: trend.at, per_minute, limit, passes_in });
            }
        }
        records
    }

    /// Does one thing and says that it was done; nothing where the agent has just ended.
    fn act(
        &mut self,
        action: Action,
        sample: &Sample,
        state: &State,
        in_hand: &BTreeMap<Key, InHand>,
    ) -> Option<Record> {
        let launch = |task: &TaskId| match state.tasks.get(task) {
            Some(TaskState::Running { agent, .. }) => {
                let phase = state.crew.get(agent)?.phase;
                Some((in_hand.get(&Key::Task(task.clone()))?.leash.process()?, agent.clone(), phase))
            }
            _ => None,
        };
        match action {
            Action::Level { to, reason } => {
                let agents = ByteCount(sample.agents.iter().map(|agent| agent.resident.0).sum());
                let (available, total, node) = (sample.available, sample.total, sample.node);
                Some(Record::PressureChanged { level: to, reason, available, total, agents, node })
            }
            Action::Pause { task, reason } => {
                let (process, agent, phase) = launch(&task)?;
                // One that somebody else has halted stands still already.
                if !phase.may_become(Phase::Paused) {
                    return None;
                }
                process.pause();
                self.held.insert(task);
                Some(Record::AgentPaused { agent, reason: wanting(&process, reason) })
            }
            Action::Stop { task, reason } => {
                let (process, agent, phase) = launch(&task)?;
                process.shed();
                let reason = wanting(&process, reason);
                phase.may_become(Phase::Stopping).then_some(Record::AgentStopping { agent, reason })
            }
            Action::Resume { task } => {
                let (process, agent, phase) = launch(&task)?;
                // One that somebody else has halted stays so.
                if !self.held.remove(&task) {
                    return None;
                }
                process.resume();
                let reason = "memory is no longer short of what it needs".to_owned();
                (phase == Phase::Paused).then_some(Record::AgentContinued { agent, reason })
            }
        }
    }
}

/// Why, and with how much memory.
fn wanting(process: &Control, reason: &str) -> String {
    format!("for want of memory: {reason}; it holds {}", process.usage_now().memory)
}

/// Agents at work, with their attempts.
fn agents(state: &State, in_hand: &BTreeMap<Key, InHand>, now: Millis) -> Vec<(u32, AgentMemory)> {
    let running = state.agenda.running().filter_map(|task| match state.tasks.get(task)? {
        TaskState::Running { attempt, .. } => Some((task.clone(), *attempt)),
        _ => None,
    });
    running
        .filter_map(|(task, attempt)| {
            let usage = in_hand.get(&Key::Task(task.clone()))?.leash.process()?.usage_now();
            let lived = usage.wall.0.saturating_add(usage.paused.0);
            let since = Millis(now.0.saturating_sub(lived));
            Some((attempt, AgentMemory { task, since, resident: usage.memory }))
        })
        .collect()
}
