//! The fold: what each record means for the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_base::{AgentId, BallotId, ChangeId, Digest, TaskId, Timestamp};

use super::agenda::Agenda;
use super::crew::{Crew, Phase};
use super::{
    BallotState, Candidate, ChangeState, Conflict, Landing, RefusedConnection, Review, Settled, State,
    TaskState, review,
};
use crate::budget::{Account, Ledger};
use crate::exchange::{Artifact, Carried, Previous};
use crate::pressure::Level;
use crate::record::{AgentEnded, AgentOutcome, Opinion, Record, RunStarted, Stamped, TaskOutcome};
use crate::topology::Shape;

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
        let wrong = |what: String| Inconsistent { seq: first.seq, what };
        let shape = Shape::new(spec.topology, spec).map_err(|error| wrong(error.to_string()))?;
        let tasks: BTreeMap<_, _> =
            spec.tasks.iter().map(|task| (task.id.clone(), TaskState::fresh())).collect();
        let crew = Crew::new(spec, first.time);
        let mut agenda = Agenda::new(spec, first.time);
        let benched = crew.iter().filter(|(_, member)| member.phase.is_out());
        benched.for_each(|(agent, _)| agenda.in_service(agent, false));
        let mut state = Self {
            shape,
            added: Vec::new(),
            in_review: BTreeSet::new(),
            steals: 0,
            scaled: BTreeMap::new(),
            started_at: first.time,
            last_at: first.time,
            tasks,
            agenda,
            crew,
            unwanted: BTreeMap::new(),
            prioritised: BTreeMap::new(),
            deaths: BTreeMap::new(),
            ledger: ledger(started, first.time),
            over_budget: false,
            exchange: Default::default(),
            launches: Vec::new(),
            refused_connections: Vec::new(),
            changes: BTreeMap::new(),
            queue: Vec::new(),
            front: 0,
            uncertified: BTreeSet::new(),
            ballots: BTreeMap::new(),
            leases: Default::default(),
            head: base.clone(),
            branch_exists: false,
            resumptions: 0,
            pressure: Level::Open,
            outcome: None,
            started: Arc::new((**started).clone()),
        };
        state.spent();
        Ok(state)
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
        self.agenda.pass(*time);
        match record {
            Record::RunStarted(_) => return Err(wrong("a run starts once".into())),
            Record::Resumed { .. } => {
                self.resumptions += 1;
                // The node that knew is gone; this one looks again.
                self.pressure = Level::Open;
            }
            Record::AgentIdle { .. } | Record::MemoryGrowing { .. } => {}
            Record::PressureChanged { level, .. } => self.pressure = *level,
            Record::AgentStarting { agent, task, attempt, base, set_aside, stolen_from } => {
                self.steals += u64::from(stolen_from.is_some());
                let at = self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                if !matches!(at, TaskState::Waiting { .. }) {
                    return Err(wrong(format!("task {task} is {at:?}")));
                }
                *at = TaskState::Starting {
                    agent: agent.clone(),
                    attempt: *attempt,
                    base: base.clone(),
                    set_aside: *set_aside,
                };
                self.agenda.taken(task, agent);
                self.exchange.begins(task);
                self.crew.starting(agent, task, *time, *seq).map_err(|error| wrong(error.to_string()))?;
                let name = self.started.spec.declaration(agent).map(|(name, _)| name.to_owned());
                self.ledger.set_aside(&name.unwrap_or_default(), task, *set_aside);
            }
            Record::AgentStarted { agent, task, attempt, pid } => {
                let at = self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                let TaskState::Starting { base, .. } = at else {
                    return Err(wrong(format!("task {task} is {at:?}")));
                };
                *at = TaskState::Running {
                    agent: agent.clone(),
                    attempt: *attempt,
                    base: base.clone(),
                    pid: *pid,
                    since: *time,
                };
                self.agenda.begun(task);
                // One that is told to end while it is being started ends when it has been.
                if self.crew.get(agent).is_some_and(|member| member.phase == Phase::Starting) {
                    self.moves(*seq, agent, Phase::Working, "")?;
                }
            }
            Record::AgentPaused { .. } | Record::AgentContinued { .. } | Record::AgentStopping { .. } => {
                self.crew.take(record, *time).map_err(|error| wrong(error.to_string()))?;
            }
            Record::AgentQuarantined { agent, .. } | Record::AgentDraining { agent, .. } => {
                self.crew.take(record, *time).map_err(|error| wrong(error.to_string()))?;
                self.agenda.in_service(agent, false);
            }
            Record::AgentBenched { agent, .. } => {
                self.crew.take(record, *time).map_err(|error| wrong(error.to_string()))?;
                self.agenda.in_service(agent, false);
                self.scaled(agent, *time);
            }
            Record::AgentReleased { agent, .. } => {
                self.crew.take(record, *time).map_err(|error| wrong(error.to_string()))?;
                self.agenda.in_service(agent, true);
                self.scaled(agent, *time);
            }
            Record::TopologyChanged { topology, .. } => {
                let shape = Shape::new(*topology, &self.started.spec);
                self.shape = shape.map_err(|error| wrong(error.to_string()))?;
            }
            Record::ReviewAsked { change, task, by } => {
                let state = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                state.review = Some(Review { by: by.clone(), task: task.clone(), given: None });
                let spec = review::task(self, change, task);
                self.agenda.add(&spec, by);
                self.tasks.insert(task.clone(), TaskState::fresh());
                self.added.push(spec);
            }
            Record::ReviewGiven { change, accepted, reason, .. } => {
                let state = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                if let Some(review) = &mut state.review {
                    review.given = Some(Opinion { accepted: *accepted, reason: reason.clone() });
                }
                if *accepted {
                    self.enqueue(change);
                } else {
                    state.settled = Some(Settled::Refused {
                        check: "review".into(),
                        reason: reason.clone(),
                        evidence: Vec::new(),
                    });
                    let task = state.proposed.task.clone();
                    self.enqueue(change);
                    self.settled(task.as_ref(), false);
                }
            }
            Record::ReviewWaived { change, .. } => {
                self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                self.enqueue(change);
            }
            Record::TaskUnwanted { task, reason } => {
                self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                self.unwanted.insert(task.clone(), reason.clone());
            }
            Record::TaskPrioritised { task, priority } => {
                self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                self.agenda.reprioritise(task, *priority, self.started.spec.schedule);
                self.prioritised.insert(task.clone(), *priority);
            }
            Record::UsageReported { task, used } => self.ledger.report(task, *used),
            Record::LeaseGranted { task, resources, tokens } => {
                self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                if !self.leases.restore(task, resources, tokens) {
                    return Err(wrong(format!("task {task} cannot have been granted these leases")));
                }
            }
            Record::LeaseEnded { task } => self.leases.release(task, *time),
            Record::LaunchWaits { task, .. } => {
                self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
            }
            Record::EgressRefused { agent, task, attempt, host, port, reason, count } => {
                let (agent, task, host) = (agent.clone(), task.clone(), host.clone());
                let refused = RefusedConnection {
                    agent,
                    task,
                    attempt: *attempt,
                    host,
                    port: *port,
                    reason: *reason,
                    count: *count,
                };
                refused.add(&mut self.refused_connections);
            }
            Record::AgentEnded(ended) => {
                let next = self.after_launch(ended, *time);
                let failed = !ended.outcome.succeeded()
                    && !matches!(
                        ended.outcome,
                        AgentOutcome::Cancelled
                            | AgentOutcome::BudgetSpent { .. }
                            | AgentOutcome::MemoryPressure
                    );
                let restart = self
                    .started
                    .spec
                    .declaration(&ended.agent)
                    .map(|(_, agent)| agent.restart)
                    .unwrap_or_default();
                self.crew
                    .ended(&ended.agent, failed.then_some(&restart), *time, *seq)
                    .map_err(|error| wrong(error.to_string()))?;
                let task =
                    self.task_mut(&ended.task).ok_or_else(|| wrong(format!("no task {}", ended.task)))?;
                let (TaskState::Starting { base, .. } | TaskState::Running { base, .. }) = task else {
                    return Err(wrong(format!("task {} is {task:?}", ended.task)));
                };
                let base = base.clone();
                *task = match next {
                    Some(next) => next,
                    None => TaskState::Harvest { agent: ended.agent.clone(), attempt: ended.attempt, base },
                };
                match task.clone() {
                    TaskState::Waiting { not_before, .. } => {
                        self.exchange.failed(&ended.task, Previous::of(ended));
                        self.agenda.waits(&ended.task, not_before);
                    }
                    TaskState::Closed { outcome } => {
                        self.exchange.over(&ended.task);
                        self.over_budget |= matches!(outcome, TaskOutcome::OverBudget { .. });
                        let done = matches!(outcome, TaskOutcome::Reviewed { .. });
                        self.agenda.ended(&ended.task, done);
                    }
                    _ => self.agenda.ended_well(&ended.task, &ended.agent),
                }
                self.ledger.settle(*time, &ended.task, ended.used);
                self.spent();
                self.launches.push((**ended).clone());
            }
            Record::AgentLost { agent, task, attempt, used } => {
                self.ledger.settle(*time, task, *used);
                self.spent();
                let at = self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))?;
                let was = std::mem::replace(
                    at,
                    TaskState::Waiting { attempts: attempt.saturating_sub(1), not_before: Timestamp(0) },
                );
                self.agenda.waits(task, Timestamp(0));
                self.exchange.failed(task, Previous::lost(*attempt));
                if matches!(was, TaskState::Running { .. }) {
                    *self.deaths.entry(task.clone()).or_default() += 1;
                }
                // What it left was lost after it had ended.
                if !matches!(was, TaskState::Harvest { .. }) {
                    self.crew.ended(agent, None, *time, *seq).map_err(|error| wrong(error.to_string()))?;
                }
            }
            Record::ArtifactKept { .. }
            | Record::ArtifactsRefused { .. }
            | Record::MessageSent(_)
            | Record::MessageRefused { .. }
            | Record::MessagesDelivered { .. }
            | Record::Checkpoint { .. }
            | Record::CheckpointRefused { .. } => self.handed_over(stamped)?,
            Record::TaskClosed { task, outcome } => {
                *self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))? =
                    TaskState::Closed { outcome: outcome.clone() };
                self.over_budget |= matches!(outcome, TaskOutcome::OverBudget { .. });
                self.exchange.over(task);
                // Nothing to do is as good as done.
                self.agenda.ended(task, *outcome == TaskOutcome::NoChange);
            }
            Record::ChangeProposed(proposed) => {
                if let Some(task) = &proposed.task {
                    *self.task_mut(task).ok_or_else(|| wrong(format!("no task {task}")))? =
                        TaskState::Proposed { change: proposed.change.clone() };
                    self.agenda.proposed(task);
                    self.exchange.over(task);
                }
                let state = ChangeState {
                    proposed: proposed.clone(),
                    review: None,
                    candidate: None,
                    conflict: None,
                    ballots: Vec::new(),
                    landing: None,
                    settled: None,
                };
                if self.changes.insert(proposed.change.clone(), state).is_some() {
                    return Err(wrong(format!("change {} is there already", proposed.change)));
                }
                let author = proposed.agent.as_ref();
                if author.is_some_and(|author| self.decider(author).is_some()) {
                    self.in_review.insert(proposed.change.clone());
                } else {
                    self.queue.push(proposed.change.clone());
                }
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
                self.uncertified.insert(ballot.clone());
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
                self.uncertified.remove(ballot);
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
                let task = state.proposed.task.clone();
                self.head = commit.clone();
                self.branch_exists = true;
                self.settled(task.as_ref(), true);
            }
            Record::Refused { change, check, reason, evidence } => {
                let state = self.change_mut(change).ok_or_else(|| wrong(format!("no change {change}")))?;
                state.settled = Some(Settled::Refused {
                    check: check.clone(),
                    reason: reason.clone(),
                    evidence: evidence.clone(),
                });
                let task = state.proposed.task.clone();
                self.settled(task.as_ref(), false);
            }
            Record::Finished { outcome } => self.outcome = Some(*outcome),
        }
        Ok(())
    }

    /// What agents hand to each other.
    fn handed_over(&mut self, Stamped { seq, time, record }: &Stamped) -> Result<(), Inconsistent> {
        let known = |task: &TaskId| match self.tasks.contains_key(task) {
            true => Ok(()),
            false => Err(Inconsistent { seq: *seq, what: format!("no task {task}") }),
        };
        match record {
            Record::ArtifactKept { task, name, digest, bytes } => {
                known(task)?;
                self.exchange.kept(task, name, Artifact { digest: *digest, bytes: *bytes });
            }
            Record::MessageSent(message) => self.exchange.sent(*seq, *time, message),
            Record::MessagesDelivered { agent, task, through } => {
                self.exchange.delivered(agent, task, (*through).min(*seq));
            }
            Record::Checkpoint { task, attempt, base, commit, tree } => {
                known(task)?;
                let (base, commit, tree) = (base.clone(), commit.clone(), tree.clone());
                self.exchange.carry(task, Carried { attempt: *attempt, base, commit, tree });
            }
            Record::CheckpointRefused { task, .. } => self.exchange.carry_nothing(task),
            _ => {}
        }
        Ok(())
    }

    /// Whether a launch does not count as an attempt: the node ended it for want of memory, and that has not happened to
    /// the task often.
    fn spared(&self, ended: &AgentEnded) -> bool {
        let stopped = |launch: &&AgentEnded| {
            launch.task == ended.task && launch.outcome == AgentOutcome::MemoryPressure
        };
        ended.outcome == AgentOutcome::MemoryPressure
            && self.launches.iter().filter(stopped).count() < SPARED_MAX
    }

    /// Where a task stands after a launch; `None` where its worktree is to be read.
    pub(crate) fn after_launch(&self, ended: &AgentEnded, time: Timestamp) -> Option<TaskState> {
        if let Some(reason) = self.unwanted.get(&ended.task) {
            // Also where the agent was faster than whoever wanted the task no more.
            let outcome = TaskOutcome::Cancelled { reason: reason.clone() };
            return Some(TaskState::Closed { outcome });
        }
        if ended.outcome.succeeded() {
            let reviews = self.task_spec(&ended.task).is_some_and(|task| task.review.is_some());
            let silent = || Opinion { accepted: false, reason: "the reviewer gave no verdict".into() };
            let Opinion { accepted, reason } = ended.verdict.clone().unwrap_or_else(silent);
            let outcome = TaskOutcome::Reviewed { accepted, reason };
            return reviews.then_some(TaskState::Closed { outcome });
        }
        if ended.outcome == AgentOutcome::Cancelled {
            // Somebody else's doing: it is as if it had not begun.
            let attempts = ended.attempt.saturating_sub(1);
            return Some(TaskState::Waiting { attempts, not_before: Timestamp(0) });
        }
        if let AgentOutcome::BudgetSpent { unit } = ended.outcome {
            let outcome = TaskOutcome::OverBudget { account: "the launch".into(), unit };
            return Some(TaskState::Closed { outcome });
        }
        if self.spared(ended) {
            let attempts = ended.attempt.saturating_sub(1);
            return Some(TaskState::Waiting { attempts, not_before: Timestamp(0) });
        }
        let spec = self.started.spec.declaration(&ended.agent).map(|(_, agent)| agent);
        let attempts_max = spec.map_or(1, |agent| agent.attempts);
        if ended.attempt >= attempts_max || matches!(ended.outcome, AgentOutcome::NotStarted { .. }) {
            let reason = format!("{} in attempt {} of {attempts_max}", ended.outcome, ended.attempt);
            return Some(TaskState::Closed { outcome: TaskOutcome::Failed { reason } });
        }
        let retry = spec.map(|agent| agent.retry).unwrap_or_default();
        let draw = Digest::of(format!("{} {} {}", self.started.run, ended.task, ended.attempt).as_bytes());
        let draw = draw.as_bytes().iter().take(8).fold(0, |draw, byte| draw << 8 | u64::from(*byte));
        let not_before = retry.not_before(time, ended.attempt, draw);
        Some(TaskState::Waiting { attempts: ended.attempt, not_before })
    }

    /// An agent goes to another phase.
    fn moves(&mut self, seq: u64, agent: &AgentId, next: Phase, reason: &str) -> Result<(), Inconsistent> {
        let moved = self.crew.become_(agent, next, self.last_at, reason);
        moved.map(|_| ()).map_err(|error| Inconsistent { seq, what: error.to_string() })
    }

    /// Declarations whose budgets are used up have no more tasks to do.
    fn spent(&mut self) {
        for (account, _) in self.ledger.empty() {
            if let Account::Agent(name) = account {
                self.agenda.spent(name);
            }
        }
    }

    /// A declaration has one agent more or fewer.
    fn scaled(&mut self, agent: &AgentId, at: Timestamp) {
        if let Some((name, _)) = self.started.spec.declaration(agent) {
            self.scaled.insert(name.to_owned(), at);
        }
    }

    /// A change has the word it needs, or was refused it; it takes its place among those for the panel.
    fn enqueue(&mut self, change: &ChangeId) {
        if self.in_review.remove(change) {
            self.queue.push(change.clone());
        }
    }

    /// A change has come to its end, and so has what proposed it.
    fn settled(&mut self, task: Option<&TaskId>, landed: bool) {
        if let Some(task) = task {
            self.agenda.ended(task, landed);
        }
        let settled = |id| self.changes.get(id).is_some_and(|change| change.settled.is_some());
        while self.queue.get(self.front).is_some_and(settled) {
            self.front += 1;
        }
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

/// The accounts of a run, with nothing spent but what other runs spent today.
fn ledger(started: &RunStarted, at: Timestamp) -> Ledger {
    let spec = &started.spec;
    let mut ledger = Ledger::new(spec.budget.run, spec.budget.day, at, started.spent_today);
    for (name, agent) in &spec.agents {
        ledger.bound(&Account::Agent(name.clone()), agent.budget);
    }
    for task in &spec.tasks {
        ledger.bound(&Account::Task(task.id.clone()), task.budget);
    }
    ledger
}

impl TaskState {
    /// Before its first attempt.
    const fn fresh() -> Self {
        Self::Waiting { attempts: 0, not_before: Timestamp(0) }
    }
}
