//! The decision: how short of memory the machine is, and who gives way.

use std::collections::BTreeSet;

use quorate_base::{ByteCount, Millis, TaskId};

use super::{Bound, Level};

/// How long it must have been better before a level is left.
const CALM: Millis = Millis::from_secs(3);
/// How long a pause may take to help before the agent is stopped.
const PATIENCE: Millis = Millis::from_secs(3);
/// How long a stop may take to help before the next agent is paused.
const SETTLE: Millis = Millis::from_secs(2);
/// Between two agents that are let go on.
const STEP: Millis = Millis::from_secs(1);
/// Share of ten seconds, in hundredths of a percent, in which somebody waited for memory, from which on it is short; and
/// in which everybody did, from which on what is short already is critical.
const SOME_MAX: u32 = 4000;
const FULL_MAX: u32 = 2000;

/// The memory of a machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// On any clock that does not go back.
    pub now: Millis,
    pub total: ByteCount,
    pub available: ByteCount,
    /// Bound on this node's own control group, and what is used of it.
    pub bound: Option<(ByteCount, ByteCount)>,
    /// How much somebody, and everybody, waited for memory; in hundredths of a percent of the last ten seconds.
    pub waiting: Option<(u32, u32)>,
    /// Resident memory of the node itself.
    pub node: ByteCount,
    /// Agents at work, those that are paused too.
    pub agents: Vec<AgentMemory>,
}

/// One agent at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentMemory {
    pub task: TaskId,
    /// When it was started, on the sample's clock.
    pub since: Millis,
    pub resident: ByteCount,
}

/// What the node is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Level { to: Level, reason: String },
    Pause { task: TaskId, reason: &'static str },
    Stop { task: TaskId, reason: &'static str },
    Resume { task: TaskId },
}

impl Sample {
    /// What there is and what is left of it, for this node.
    fn room(&self) -> (ByteCount, ByteCount) {
        match self.bound {
            None => (self.total, self.available),
            Some((limit, used)) => (
                ByteCount(limit.0.min(self.total.0)),
                ByteCount(limit.0.saturating_sub(used.0).min(self.available.0)),
            ),
        }
    }

    /// The level this sample alone stands for, and why.
    fn level(&self, warn: Bound, critical: Bound, ease: u64) -> (Level, String) {
        let (total, left) = self.room();
        let below = |bound: Bound| {
            let bound = bound.of(total);
            (left.0 < bound.0.saturating_add(bound.0 / 4 * ease)).then_some(bound)
        };
        let (some, full) = self.waiting.unwrap_or((0, 0));
        if let Some(bound) = below(critical) {
            return (Level::Critical, format!("{left} of {total} left, less than {bound}"));
        }
        match below(warn) {
            Some(bound) if full >= FULL_MAX => {
                let share = full / 100;
                (
                    Level::Critical,
                    format!("{left} of {total} left, less than {bound}, and all waited {share} %"),
                )
            }
            Some(bound) => (Level::Warn, format!("{left} of {total} left, less than {bound}")),
            None if some >= SOME_MAX => {
                (Level::Warn, format!("{left} of {total} left, but some waited {} %", some / 100))
            }
            None => (Level::Open, format!("{left} of {total} left")),
        }
    }
}

/// A state machine: [`Breaker::take`] is called with a sample every now and then, and says what to do.
#[derive(Debug, Clone)]
pub struct Breaker {
    warn: Bound,
    critical: Bound,
    level: Level,
    /// Since when every sample has been good enough for the level below.
    calm: Option<Millis>,
    /// Paused agents and since when, in the order in which that was done.
    paused: Vec<(TaskId, Millis)>,
    /// Agents that were stopped and have not ended yet.
    stopped: BTreeSet<TaskId>,
    /// Agents that were paused and let go on: the next time they are stopped at once.
    pardoned: BTreeSet<TaskId>,
    /// No agent is paused or stopped before this, and none is let go on.
    rest: Millis,
}

impl Breaker {
    pub fn new(warn: Bound, critical: Bound) -> Self {
        Self {
            warn,
            critical,
            level: Level::Open,
            calm: None,
            paused: Vec::new(),
            stopped: BTreeSet::new(),
            pardoned: BTreeSet::new(),
            rest: Millis(0),
        }
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes a sample and says what to do now: at most one change of level and one agent.
    pub fn take(&mut self, sample: &Sample) -> Vec<Action> {
        let there: BTreeSet<&TaskId> = sample.agents.iter().map(|agent| &agent.task).collect();
        self.paused.retain(|(task, _)| there.contains(task));
        self.stopped.retain(|task| there.contains(task));
        self.pardoned.retain(|task| there.contains(task));
        let (now_at, _) = sample.level(self.warn, self.critical, 0);
        let mut actions: Vec<Action> = self.change_level(sample, now_at).into_iter().collect();
        if sample.now >= self.rest {
            let act = if now_at == Level::Critical { self.relieve(sample) } else { self.release(sample) };
            actions.extend(act);
        }
        actions
    }

    /// Up at once and as far as it takes; down one level at a time, once it has been better by a quarter for a while.
    fn change_level(&mut self, sample: &Sample, now_at: Level) -> Option<Action> {
        if now_at > self.level {
            (self.level, self.calm) = (now_at, None);
            let (_, reason) = sample.level(self.warn, self.critical, 0);
            return Some(Action::Level { to: now_at, reason });
        }
        let (eased, reason) = sample.level(self.warn, self.critical, 1);
        if eased >= self.level {
            self.calm = None;
            return None;
        }
        let calm = *self.calm.get_or_insert(sample.now);
        if sample.now.0.saturating_sub(calm.0) < CALM.0 {
            return None;
        }
        self.level = match self.level {
            Level::Critical => Level::Warn,
            Level::Warn | Level::Open => Level::Open,
        };
        self.calm = (self.level != Level::Open).then_some(sample.now);
        Some(Action::Level { to: self.level, reason })
    }

    /// Memory is critical: the agent that was paused last is stopped if that has not helped; else the next is paused.
    fn relieve(&mut self, sample: &Sample) -> Option<Action> {
        if let Some((task, since)) =
            self.paused.iter().rev().find(|(task, _)| !self.stopped.contains(task)).cloned()
        {
            if sample.now.0.saturating_sub(since.0) < PATIENCE.0 {
                return None;
            }
            return Some(self.stop(task, sample.now, "pausing it was not enough"));
        }
        let running: Vec<_> = self.running(sample).collect();
        let sum: u64 = running.iter().map(|agent| agent.resident.0).sum();
        let greediest = running.iter().max_by_key(|agent| (agent.resident, agent.since, &agent.task))?;
        let youngest = running.iter().max_by_key(|agent| (agent.since, &agent.task))?;
        let (victim, reason) = if greediest.resident.0 > sum / 2 {
            (greediest, "it holds more than half of what the agents hold")
        } else {
            (youngest, "it is the youngest")
        };
        let task = victim.task.clone();
        if self.pardoned.contains(&task) {
            return Some(self.stop(task, sample.now, "it was paused before"));
        }
        self.paused.push((task.clone(), sample.now));
        self.rest = sample.now;
        Some(Action::Pause { task, reason })
    }

    fn stop(&mut self, task: TaskId, now: Millis, reason: &'static str) -> Action {
        self.stopped.insert(task.clone());
        self.rest = Millis(now.0 + SETTLE.0);
        Action::Stop { task, reason }
    }

    /// Memory is not critical: who was paused first goes on first. While memory is short, only where nobody else works:
    /// else nothing would ever be given back.
    fn release(&mut self, sample: &Sample) -> Option<Action> {
        let alone = self.level == Level::Warn && self.running(sample).next().is_none();
        if self.level != Level::Open && !alone {
            return None;
        }
        let at = self.paused.iter().position(|(task, _)| !self.stopped.contains(task))?;
        let (task, _) = self.paused.remove(at);
        self.pardoned.insert(task.clone());
        self.rest = Millis(sample.now.0 + STEP.0);
        Some(Action::Resume { task })
    }

    /// Agents that are neither paused nor stopped.
    fn running<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = &'a AgentMemory> {
        sample.agents.iter().filter(|agent| {
            !self.stopped.contains(&agent.task) && !self.paused.iter().any(|(task, _)| *task == agent.task)
        })
    }
}
