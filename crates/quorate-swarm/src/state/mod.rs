//! The state of a run: a fold over its journal, and nothing else.
//!
//! [`State::apply`] is the only thing that changes it; [`crate::decide`] and [`crate::plan`] only read it. So a run
//! that is resumed is the same run, and a test needs no process.

mod agenda;
mod apply;
mod connections;
pub mod crew;
mod queue;
mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_base::{AgentId, BallotId, ChangeId, Digest, GitOid, TaskId, Timestamp, ValidatorId};
use quorate_consensus::ballot::Verdict;
use quorate_evidence::dsse::{Envelope, Signature};

use crate::budget::{Amount, Ledger};
use crate::exchange::Exchange;
use crate::lease::Leases;
use crate::pressure::Level;
use crate::record::{AgentEnded, ChangeProposed, Opinion, RunOutcome, RunStarted, Step, TaskOutcome};
use crate::spec::TaskSpec;
use crate::spec::task::Priority;
use crate::topology::Shape;

use agenda::Agenda;
pub(crate) use agenda::{Leave, Pick};
pub use crew::Crew;

pub use apply::Inconsistent;
pub use connections::RefusedConnection;

#[cfg(test)]
mod tests;

/// Everything known about a run.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub started: Arc<RunStarted>,
    pub started_at: Timestamp,
    /// Time of the newest record.
    pub last_at: Timestamp,
    pub tasks: BTreeMap<TaskId, TaskState>,
    pub(crate) agenda: Agenda,
    pub crew: Crew,
    /// Who writes to whom, takes over from whom, and decides.
    pub shape: Shape,
    /// Tasks that came up on the way, after those of the file.
    pub(crate) added: Vec<TaskSpec>,
    /// Changes that need an agent's word before they go to the panel.
    pub(crate) in_review: BTreeSet<ChangeId>,
    /// Tasks that an agent took from the queue of another.
    pub steals: u64,
    /// Since when no agent was added or benched, by declaration.
    pub(crate) scaled: BTreeMap<String, Timestamp>,
    /// Tasks that are wanted no more, and why.
    pub(crate) unwanted: BTreeMap<TaskId, String>,
    /// Tasks that somebody has given another priority than the swarm file.
    pub(crate) prioritised: BTreeMap<TaskId, Priority>,
    /// How often the node has died with a task's agent at work.
    pub(crate) deaths: BTreeMap<TaskId, u32>,
    pub ledger: Ledger,
    /// A task was given up because a budget was used up.
    pub(crate) over_budget: bool,
    /// What agents have handed over.
    pub exchange: Exchange,
    /// Every launch that ended, in order.
    pub launches: Vec<AgentEnded>,
    /// What launches were refused to connect to.
    pub refused_connections: Vec<RefusedConnection>,
    pub changes: BTreeMap<ChangeId, ChangeState>,
    /// Changes in the order in which they were proposed: the merge queue's order.
    pub queue: Vec<ChangeId>,
    /// All changes of the queue before this one are settled.
    pub(crate) front: usize,
    /// Ballots without a certificate.
    pub(crate) uncertified: BTreeSet<BallotId>,
    pub ballots: BTreeMap<BallotId, BallotState>,
    /// What tasks hold; nobody stands in line here, planning asks anew.
    pub leases: Leases,
    /// The result branch as far as this run moved it.
    pub head: GitOid,
    /// Whether the result branch exists, which it does from the first landing on.
    pub branch_exists: bool,
    pub resumptions: u32,
    /// How short of memory the machine is, as far as the node has told.
    pub pressure: Level,
    pub outcome: Option<RunOutcome>,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    Waiting {
        attempts: u32,
        /// Not tried again before this.
        not_before: Timestamp,
    },
    /// An agent has it, and is being started.
    Starting {
        agent: AgentId,
        attempt: u32,
        base: GitOid,
        set_aside: Amount,
    },
    Running {
        agent: AgentId,
        attempt: u32,
        base: GitOid,
        pid: u32,
        since: Timestamp,
    },
    /// The agent ended well; its work has not been read yet.
    Harvest {
        agent: AgentId,
        attempt: u32,
        base: GitOid,
    },
    Proposed {
        change: ChangeId,
    },
    Closed {
        outcome: TaskOutcome,
    },
}

/// Where a change stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeState {
    pub proposed: ChangeProposed,
    /// Whose word was asked for, by which task; and what it was.
    pub review: Option<Review>,
    pub candidate: Option<Candidate>,
    pub conflict: Option<Conflict>,
    /// Ballots about this change, oldest first; only the newest matters.
    pub ballots: Vec<BallotId>,
    pub landing: Option<Landing>,
    pub settled: Option<Settled>,
}

/// The word of an agent on a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    pub by: AgentId,
    pub task: TaskId,
    pub given: Option<Opinion>,
}

/// A change merged onto a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub onto: GitOid,
    pub commit: GitOid,
    pub tree: GitOid,
}

/// A commit the change does not merge onto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub onto: GitOid,
    pub reason: String,
    pub evidence: Digest,
}

/// A move of the result branch that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    pub from: Option<GitOid>,
    pub to: GitOid,
}

/// The end of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    Landed { commit: GitOid, tree: GitOid, certificate: Digest },
    Refused { check: String, reason: String, evidence: Vec<Digest> },
}

/// Where a ballot stands.
#[derive(Debug, Clone, PartialEq)]
pub struct BallotState {
    pub change: ChangeId,
    pub onto: GitOid,
    pub commit: GitOid,
    pub tree: GitOid,
    pub opened: Timestamp,
    pub reports: BTreeMap<ValidatorId, Envelope>,
    pub votes: BTreeMap<ValidatorId, Envelope>,
    /// Validators that failed a step, with the reason; they are asked nothing more in this ballot.
    pub absent: BTreeMap<ValidatorId, (Step, String)>,
    pub decided: Option<(Verdict, Timestamp)>,
    pub signatures: BTreeMap<ValidatorId, Signature>,
    pub certificate: Option<(Verdict, Digest)>,
}

impl BallotState {
    /// Validators still in the ballot after `step`.
    pub fn present<'a>(&'a self, panel: &'a [ValidatorId]) -> impl Iterator<Item = &'a ValidatorId> {
        panel.iter().filter(|validator| !self.absent.contains_key(*validator))
    }

    /// Every validator has reported or is known not to.
    pub fn examined(&self, panel: &[ValidatorId]) -> bool {
        self.present(panel).all(|validator| self.reports.contains_key(validator))
    }

    /// Every validator has voted or is known not to.
    pub fn voted(&self, panel: &[ValidatorId]) -> bool {
        self.present(panel).all(|validator| self.votes.contains_key(validator))
    }

    /// Those whose signature the certificate carries: everybody who voted and is still there.
    pub fn countersigners(&self) -> Vec<ValidatorId> {
        self.votes.keys().filter(|validator| !self.absent.contains_key(*validator)).cloned().collect()
    }

    /// The panel has answered everything and the certificate is not written yet.
    pub fn countersigned(&self) -> bool {
        self.decided.is_some()
            && self.countersigners().iter().all(|validator| self.signatures.contains_key(validator))
    }
}

impl State {
    pub fn panel(&self) -> &[ValidatorId] {
        &self.started.spec.gate.validators
    }

    /// Agents at work now.
    pub fn working(&self) -> BTreeSet<&AgentId> {
        let busy = self.agenda.running().chain(self.agenda.harvests());
        busy.filter_map(|task| match self.tasks.get(task)? {
            TaskState::Starting { agent, .. }
            | TaskState::Running { agent, .. }
            | TaskState::Harvest { agent, .. } => Some(agent),
            _ => None,
        })
        .collect()
    }

    /// Agents whose worktrees are being read.
    pub(crate) fn harvesting(&self) -> BTreeSet<&AgentId> {
        let harvests = self.agenda.harvests().filter_map(|task| self.tasks.get(task));
        harvests
            .filter_map(|at| if let TaskState::Harvest { agent, .. } = at { Some(agent) } else { None })
            .collect()
    }

    /// What a piece of work about a change needs: the run's beginning, the change and its newest ballot, or those of a ballot.
    pub(crate) fn about(&self, change: Option<&ChangeId>, ballot: Option<&BallotId>) -> Self {
        let change = change.or_else(|| Some(&self.ballots.get(ballot?)?.change));
        let changes = change.and_then(|id| Some((id.clone(), self.changes.get(id)?.clone())));
        let newest = || self.changes.get(change?)?.ballots.last();
        let ballots = ballot.or_else(newest).and_then(|id| Some((id.clone(), self.ballots.get(id)?.clone())));
        Self {
            started: Arc::clone(&self.started),
            started_at: self.started_at,
            last_at: self.last_at,
            tasks: BTreeMap::new(),
            agenda: self.agenda.names_only(),
            crew: Crew::default(),
            shape: Shape::default(),
            added: self.added.clone(),
            in_review: BTreeSet::new(),
            steals: self.steals,
            scaled: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            prioritised: BTreeMap::new(),
            deaths: BTreeMap::new(),
            ledger: Ledger::default(),
            over_budget: self.over_budget,
            exchange: Exchange::default(),
            launches: Vec::new(),
            refused_connections: Vec::new(),
            changes: changes.into_iter().collect(),
            queue: Vec::new(),
            front: 0,
            uncertified: BTreeSet::new(),
            ballots: ballots.into_iter().collect(),
            leases: self.leases.clone(),
            head: self.head.clone(),
            branch_exists: self.branch_exists,
            resumptions: self.resumptions,
            pressure: self.pressure,
            outcome: self.outcome,
        }
    }

    /// When after `now` something follows from the time alone, at the earliest.
    pub fn next_time(&self, now: Timestamp) -> Option<Timestamp> {
        self.agenda.next_time(now)
    }

    /// The newest ballot of a change that judges its present candidate.
    pub fn current_ballot<'a>(&'a self, change: &'a ChangeState) -> Option<(&'a BallotId, &'a BallotState)> {
        let candidate = change.candidate.as_ref()?;
        let id = change.ballots.last()?;
        let ballot = self.ballots.get(id)?;
        (ballot.commit == candidate.commit).then_some((id, ballot))
    }

    /// Whether a task has come to an end, whichever.
    pub fn task_over(&self, task: &TaskId) -> bool {
        self.agenda.is_over(task)
    }

    /// Everything the run was for has come to an end.
    pub fn exhausted(&self) -> bool {
        self.agenda.open() == 0 && self.in_review.is_empty() && self.front == self.queue.len()
    }

    /// Whose word a change of this agent needs now.
    pub(crate) fn decider<'a>(&'a self, author: &'a AgentId) -> Option<&'a AgentId> {
        let serves = |agent: &AgentId| self.crew.get(agent).is_some_and(|member| !member.phase.is_out());
        self.shape.decider(author, serves)
    }

    /// The declaration of a task.
    pub fn task_spec(&self, task: &TaskId) -> Option<&TaskSpec> {
        let (file, number) = (&self.started.spec.tasks, self.agenda.number(task)?);
        file.get(number).or_else(|| self.added.get(number.checked_sub(file.len())?))
    }
}
