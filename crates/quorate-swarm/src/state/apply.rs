//! The fold: what each record means for the state.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::{BallotId, ChangeId, TaskId};

use super::{BallotState, Candidate, ChangeState, Conflict, Landing, Settled, State, TaskState};
use crate::pressure::Level;
use crate::record::{AgentEnded, AgentOutcome, Record, RunStarted, Stamped, TaskOutcome};

/// How often a task may be stopped for want of memory without that counting as an attempt. Beyond, it is taken to be
/// what the machine lacks memory for.
const SPARED_MAX: usize = 2;

/// A record does not follow from those before it: the journal is of another run, or of a newer Quorate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} does not follow from the records before it: {what}")]
pub struct Inconsistent {
    pub seq: u64,
    pub what: String,
}

impl State {
    /// The state after the first record of a journal.
    pub fn begin(first: &Stamped) -> Result<Self, Inconsistent> {
        let Record::RunStarted(started) = &first.record else {
            return Err(Inconsistent {
                seq: first.seq,
                what: "the first record is not `run-started`".into(),
            });
        };
        let RunStarted { spec, base, .. } = &**started;
        let tasks: BTreeMap<_, _> =
            spec.tasks.iter().map(|task| (task.id.clone(), TaskState::Waiting { attempts: 0 })).collect();
        Ok(Self {
            started_at: first.time,
            last_at: first.time,
            tasks,
            launches: Vec::new(),
            changes: BTreeMap::new(),
            queue: Vec::new(),
            ballots: BTreeMap::new(),
            head: base.clone(),
            branch_exists: false,
            resumptions: 0,
            pressure: Level::Open,
            paused: BTreeSet::new(),
            outcome: None,
            started: (**started).clone(),
        })
    }

    /// The state after all records of a journal.
    pub fn fold<'a>(mut records: impl Iterator<Item = &'a Stamped>) -> Result<Self, Inconsistent> {
        let first =
            records.next().ok_or_else(|| Inconsistent { seq: 0, what: "the journal is empty".into() })?;
        let mut state = Self::begin(first)?;
        records.try_for_each(|record| state.apply(record))?;
        Ok(state)
    }

    /// Takes one more record.
    pub fn apply(&mut self, stamped: &Stamped) -> Result<(), Inconsistent> {
        let Stamped { seq, time, record } = stamped;
        let wrong = |what: String| Inconsistent { seq: *seq, what };
        self.last_at = *time;
        match record {
            Record::RunStarted(_) => return Err(wrong("a run starts once".into())),
            Record::Resumed { .. } => {
                self.resumptions += 1;
                // The node that knew is gone; this one looks again.
                self.pressure = Level::Open;
                self.paused.clear();
            }
            Record::AgentIdle { .. } | Record::AgentStopped { .. } | Record::MemoryGrowing { .. } => {}
            Record::PressureChanged { level, .. } => self.pressure = *level,
            Record::AgentPaused { task, .. } => {
                self.paused.insert(task.clone());
            }
            Record::AgentResumed { task, .. } => {
                self.paused.remove(task);
            }
            Record::AgentStarted { agent, task, attempt, base, pid } => {
                let running = TaskState::Running {
                    agent: agent.clone(),
                    attempt: *attempt,
                    base: base.clone(),
                    pid: *pid,
                    since: *time,
                };
                *self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))? = running;
            }
            Record::AgentEnded(ended) => {
                let attempts_max = self.attempts_max(&ended.task);
                let head = self.head.clone();
                self.paused.remove(&ended.task);
                let spared = self.spared(ended);
                let task =
                    self.task_mut(&ended.task).ok_or_else(|| wrong(format!("no task {}", ended.task)))?;
                let base = match task {
                    TaskState::Running { base, .. } => base.clone(),
                    TaskState::Waiting { .. } => head,
                    other => return Err(wrong(format!("task {} is {other:?}", ended.task))),
                };
                *task = if ended.outcome.succeeded() {
                    TaskState::Harvest { agent: ended.agent.clone(), attempt: ended.attempt, base }
                } else if spared {
                    TaskState::Waiting { attempts: ended.attempt.saturating_sub(1) }
                } else if ended.attempt >= attempts_max
                    || matches!(ended.outcome, AgentOutcome::NotStarted { .. })
                {
                    let reason = format!("{} in attempt {} of {attempts_max}", ended.outcome, ended.attempt);
                    TaskState::Closed { outcome: TaskOutcome::Failed { reason } }
                } else {
                    TaskState::Waiting { attempts: ended.attempt }
                };
                self.launches.push((**ended).clone());
            }
            Record::AgentLost { task, attempt, .. } => {
                self.paused.remove(task);
                let task = self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                *task = TaskState::Waiting { attempts: attempt.saturating_sub(1) };
            }
            Record::TaskClosed { task, outcome } => {
                *self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))? =
                    TaskState::Closed { outcome: outcome.clone() };
            }
            Record::ChangeProposed(proposed) => {
                if let Some(task) = &proposed.task {
                    *self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))? =
                        TaskState::Proposed { change: proposed.change.clone() };
                }
                let state = ChangeState {
                    proposed: proposed.clone(),
                    candidate: None,
                    conflict: None,
                    ballots: Vec::new(),
                    landing: None,
                    settled: None,
                };
                if self.changes.insert(proposed.change.clone(), state).is_some() {
                    return Err(wrong(format!("change {} is there already", proposed.change)));
                }
                self.queue.push(proposed.change.clone());
            }
            Record::CandidatePrepared { change, onto, commit, tree } => {
                let change = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                change.candidate =
                    Some(Candidate { onto: onto.clone(), commit: commit.clone(), tree: tree.clone() });
                change.conflict = None;
            }
            Record::ConflictFound { change, onto, reason, evidence } => {
                let change = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                change.conflict =
                    Some(Conflict { onto: onto.clone(), reason: reason.clone(), evidence: *evidence });
                change.candidate = None;
            }
            Record::BallotOpened { ballot, change, onto, commit, tree } => {
                let state = BallotState {
                    change: change.clone(),
                    onto: onto.clone(),
                    commit: commit.clone(),
                    tree: tree.clone(),
                    opened: *time,
                    reports: BTreeMap::new(),
                    votes: BTreeMap::new(),
                    absent: BTreeMap::new(),
                    decided: None,
                    signatures: BTreeMap::new(),
                    certificate: None,
                };
                self.change_mut(change)
                    .ok_or_else(|| wrong(format!("no change {change}")))?
                    .ballots
                    .push(ballot.clone());
                if self.ballots.insert(ballot.clone(), state).is_some() {
                    return Err(wrong(format!("ballot {ballot} is there already")));
                }
            }
            Record::ReportReceived { ballot, validator, report } => {
                let ballot = self.ballot_mut(ballot).ok_or_else(|| wrong(format!("no ballot {ballot}")))?;
                ballot.reports.insert(validator.clone(), report.clone());
            }
            Record::VoteCast { ballot, validator, vote } => {
                let ballot = self.ballot_mut(ballot).ok_or_else(|| wrong(format!("no ballot {ballot}")))?;
                ballot.votes.insert(validator.clone(), vote.clone());
            }
            Record::ValidatorAbsent { ballot, validator, step, reason } => {
                let ballot = self.ballot_mut(ballot).ok_or_else(|| wrong(format!("no ballot {ballot}")))?;
                ballot.absent.insert(validator.clone(), (*step, reason.clone()));
                // The statement names who countersigns; with one fewer it is another statement.
                ballot.signatures.clear();
            }
            Record::BallotDecided { ballot, verdict } => {
                let at = *time;
                let ballot = self.ballot_mut(ballot).ok_or_else(|| wrong(format!("no ballot {ballot}")))?;
                ballot.decided = Some((*verdict, at));
            }
            Record::Countersigned { ballot, validator, signature } => {
                let ballot = self.ballot_mut(ballot).ok_or_else(|| wrong(format!("no ballot {ballot}")))?;
                ballot.signatures.insert(validator.clone(), signature.clone());
            }
            Record::Certified { ballot, verdict, certificate, .. } => {
                let ballot = self.ballot_mut(ballot).ok_or_else(|| wrong(format!("no ballot {ballot}")))?;
                ballot.certificate = Some((*verdict, *certificate));
            }
            Record::LandingStarted { change, from, to } => {
                let change = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                change.landing = Some(Landing { from: from.clone(), to: to.clone() });
            }
            Record::Landed { change, commit, tree, certificate } => {
                let state = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                state.settled = Some(Settled::Landed {
                    commit: commit.clone(),
                    tree: tree.clone(),
                    certificate: *certificate,
                });
                self.head = commit.clone();
                self.branch_exists = true;
            }
            Record::Refused { change, check, reason, evidence } => {
                let state = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                state.settled = Some(Settled::Refused {
                    check: check.clone(),
                    reason: reason.clone(),
                    evidence: evidence.clone(),
                });
            }
            Record::Finished { outcome } => self.outcome = Some(*outcome),
        }
        Ok(())
    }

    /// Whether a launch does not count as an attempt: the node ended it for want of memory, and that has not happened to
    /// the task often.
    fn spared(&self, ended: &AgentEnded) -> bool {
        let before = self
            .launches
            .iter()
            .filter(|launch| launch.task == ended.task && launch.outcome == AgentOutcome::MemoryPressure);
        ended.outcome == AgentOutcome::MemoryPressure && before.count() < SPARED_MAX
    }

    fn attempts_max(&self, task: &TaskId) -> u32 {
        let spec = &self.started.spec;
        spec.task(task).and_then(|task| spec.agents.get(&task.agent)).map_or(1, |agent| agent.attempts)
    }

    fn task_mut(&mut self, id: &TaskId) -> Option<&mut TaskState> {
        self.tasks.get_mut(id)
    }

    fn change_mut(&mut self, id: &ChangeId) -> Option<&mut ChangeState> {
        self.changes.get_mut(id)
    }

    fn ballot_mut(&mut self, id: &BallotId) -> Option<&mut BallotState> {
        self.ballots.get_mut(id)
    }
}
