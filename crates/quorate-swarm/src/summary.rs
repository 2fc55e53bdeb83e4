//! What a run came to, as the documents the command line prints with `--json`.

use quorate_agents::egress::Reason;
use quorate_base::{Digest, GitOid, TaskId};
use serde::Serialize;

use crate::budget::{Account, Unit};
use crate::record::TaskOutcome;
use crate::state::{Settled, State, TaskState};

/// The last line of `quorate run --json`. Fields may be added, none changes its meaning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    pub run: String,
    pub state: &'static str,
    pub repository: String,
    /// How short of memory the machine is: `open`, `warn` or `critical`.
    pub pressure: &'static str,
    pub branch: String,
    pub base: GitOid,
    pub head: GitOid,
    pub landed: Vec<LandedChange>,
    pub refused: Vec<RefusedChange>,
    /// Tasks that ended without a change.
    pub unfinished: Vec<UnfinishedTask>,
    /// Changes proposed and not settled yet.
    pub pending: Vec<String>,
    pub agents: Vec<AgentRow>,
    /// Files that tasks have left for others.
    pub artifacts: Vec<ArtifactRow>,
    /// Budgets, and what has been spent of them.
    pub budgets: Vec<BudgetRow>,
    pub wall_s: f64,
}

/// One file that a task has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactRow {
    pub task: String,
    pub name: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// One bound of one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetRow {
    pub account: String,
    pub unit: Unit,
    pub limit: u64,
    pub spent: u64,
    /// For agents at work.
    pub set_aside: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LandedChange {
    pub change: String,
    pub tree: GitOid,
    pub commit: GitOid,
    pub certificate: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefusedChange {
    pub change: String,
    pub tree: GitOid,
    pub check: String,
    pub reason: String,
    pub evidence: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnfinishedTask {
    pub task: String,
    pub outcome: &'static str,
    pub reason: String,
}

/// One launch of an agent. Tokens and cost are null where the agent does not tell them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentRow {
    pub id: String,
    pub role: &'static str,
    pub task: String,
    pub attempt: u32,
    pub state: &'static str,
    pub exit: Option<String>,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub memory_peak_bytes: u64,
    pub tokens: Option<u64>,
    pub cost_usd: Option<f64>,
    pub containment: Vec<String>,
    pub last_words: String,
    /// What it was refused to connect to.
    pub connections_refused: Vec<ConnectionRow>,
}

/// Attempts of one launch at one host that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionRow {
    /// Empty where it named none.
    pub host: String,
    pub port: u16,
    pub reason: Reason,
    pub count: u64,
}

/// Reads the summary off a state; it is true at any moment of a run.
pub fn summarise(state: &State) -> RunSummary {
    let started = &state.started;
    let mut landed = Vec::new();
    let mut refused = Vec::new();
    let mut pending = Vec::new();
    for (id, change) in state.queue.iter().filter_map(|id| Some((id, state.changes.get(id)?))) {
        match &change.settled {
            Some(Settled::Landed { commit, tree, certificate }) => landed.push(LandedChange {
                change: id.to_string(),
                tree: tree.clone(),
                commit: commit.clone(),
                certificate: *certificate,
            }),
            Some(Settled::Refused { check, reason, evidence }) => refused.push(RefusedChange {
                change: id.to_string(),
                tree: change.proposed.tree.clone(),
                check: check.clone(),
                reason: reason.clone(),
                evidence: evidence.clone(),
            }),
            None => pending.push(id.to_string()),
        }
    }
    pending.extend(state.in_review.iter().map(ToString::to_string));
    RunSummary {
        run: started.run.to_string(),
        state: state_word(state),
        repository: started.repository.clone(),
        pressure: if state.outcome.is_some() { "open" } else { state.pressure.name() },
        branch: started.branch.clone(),
        base: started.base.clone(),
        head: state.head.clone(),
        landed,
        refused,
        unfinished: unfinished(state),
        pending,
        agents: agents(state),
        artifacts: artifacts(state),
        budgets: budgets(state),
        wall_s: state.last_at.since(state.started_at).as_secs_f64(),
    }
}

fn artifacts(state: &State) -> Vec<ArtifactRow> {
    let all = state.exchange.all_artifacts();
    all.map(|(task, name, artifact)| ArtifactRow {
        task: task.to_string(),
        name: name.to_owned(),
        digest: artifact.digest,
        bytes: artifact.bytes.0,
    })
    .collect()
}

fn budgets(state: &State) -> Vec<BudgetRow> {
    let ledger = &state.ledger;
    let row = |account: &Account, unit| {
        Some(BudgetRow {
            account: account.to_string(),
            unit,
            limit: ledger.budget(account).of(unit)?,
            spent: ledger.spent(account).of(unit),
            set_aside: ledger.in_hand(account).of(unit),
        })
    };
    ledger
        .accounts()
        .flat_map(|account| Unit::ALL.into_iter().filter_map(move |unit| row(account, unit)))
        .collect()
}

fn state_word(state: &State) -> &'static str {
    use crate::record::RunOutcome;
    match state.outcome {
        None => "open",
        Some(RunOutcome::Complete) => "complete",
        Some(RunOutcome::WallLimit) => "wall-limit",
        Some(RunOutcome::BudgetSpent) => "budget-spent",
        Some(RunOutcome::BranchMoved) => "branch-moved",
    }
}

fn unfinished(state: &State) -> Vec<UnfinishedTask> {
    let ends = state.tasks.iter().filter_map(|(task, at)| match at {
        // A reviewer's word is told with the change.
        TaskState::Closed { outcome: TaskOutcome::Reviewed { .. } } => None,
        TaskState::Closed { outcome } => Some((task, outcome)),
        _ => None,
    });
    ends.map(|(task, outcome)| {
        let (word, reason) = told(outcome);
        UnfinishedTask { task: task.to_string(), outcome: word, reason }
    })
    .collect()
}

/// How a task came to its end, as a word and in words.
pub(crate) fn told(outcome: &TaskOutcome) -> (&'static str, String) {
    match outcome {
        TaskOutcome::NoChange => ("no-change", "the agent finished and changed nothing".to_owned()),
        TaskOutcome::Failed { reason } => ("failed", reason.clone()),
        TaskOutcome::Blocked { by } => ("blocked", format!("task {by} did not land, or never began")),
        TaskOutcome::OverBudget { account, unit } => {
            ("over-budget", format!("the {unit} of {account} were used up"))
        }
        TaskOutcome::Reviewed { reason, .. } => ("reviewed", reason.clone()),
        TaskOutcome::Cancelled { reason } => ("cancelled", reason.clone()),
        TaskOutcome::Poison { deaths } => {
            ("poison", format!("the node died {deaths} times while an agent worked on it"))
        }
        TaskOutcome::DeadlinePassed => ("deadline", "its deadline passed before it was done".to_owned()),
    }
}

fn agents(state: &State) -> Vec<AgentRow> {
    let spec = &state.started.spec;
    let role = |agent| spec.declaration(agent).map_or("specialist", |(_, agent)| agent.role.name());
    let told = |agent, unit| spec.declaration(agent).is_some_and(|(_, agent)| agent.usage.tells(unit));
    let refused = |task: &TaskId, attempt| {
        let all = state.refused_connections.iter();
        let own = all.filter(|refused| refused.task == *task && refused.attempt == attempt);
        own.map(|refused| ConnectionRow {
            host: refused.host.clone(),
            port: refused.port,
            reason: refused.reason,
            count: refused.count,
        })
        .collect()
    };
    let mut rows: Vec<AgentRow> = state
        .launches
        .iter()
        .map(|launch| AgentRow {
            id: launch.agent.to_string(),
            role: role(&launch.agent),
            task: launch.task.to_string(),
            attempt: launch.attempt,
            state: if launch.outcome.succeeded() { "stopped" } else { "failed" },
            exit: Some(launch.outcome.to_string()),
            wall_s: launch.wall.as_secs_f64(),
            cpu_s: launch.cpu.as_secs_f64(),
            memory_peak_bytes: launch.memory_peak.0,
            tokens: told(&launch.agent, Unit::Tokens).then_some(launch.used.tokens),
            cost_usd: told(&launch.agent, Unit::Cost).then_some(launch.used.cost_micros as f64 / 1e6),
            containment: launch.containment.clone(),
            last_words: launch.last_words.clone(),
            connections_refused: refused(&launch.task, launch.attempt),
        })
        .collect();
    for (task, at) in &state.tasks {
        if let TaskState::Starting { agent, attempt, .. } | TaskState::Running { agent, attempt, .. } = at {
            rows.push(AgentRow {
                id: agent.to_string(),
                role: role(agent),
                task: task.to_string(),
                attempt: *attempt,
                state: state.crew.get(agent).map_or("working", |member| member.phase.name()),
                exit: None,
                wall_s: 0.0,
                cpu_s: 0.0,
                memory_peak_bytes: 0,
                tokens: None,
                cost_usd: None,
                containment: Vec::new(),
                last_words: String::new(),
                connections_refused: refused(task, *attempt),
            });
        }
    }
    rows
}
