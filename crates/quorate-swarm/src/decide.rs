//! What follows from the state by itself: records that need no work, only rules.
//!
//! The node calls [`decide`] after every record until it has nothing to say, appending what it says to the journal.

mod review;
mod scale;
mod supervise;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::{BallotId, TaskId, Timestamp};

use crate::budget::Account;
use crate::panel;
use crate::plan::{self, Launch};
use crate::record::{Record, RunKind, RunOutcome, TaskOutcome};
use crate::state::{ChangeState, State, TaskState};

/// The records that follow from the state now. Every one of them changes the state so that it does not follow again.
pub fn decide(state: &State, now: Timestamp) -> Vec<Record> {
    if state.outcome.is_some() {
        return Vec::new();
    }
    if now.since(state.started_at) >= state.started.spec.wall && state.started.kind == RunKind::Swarm {
        return vec![Record::Finished { outcome: RunOutcome::WallLimit }];
    }
    let mut records = supervise::supervise(state);
    records.extend(scale::scale(state, now));
    // Each of these changes what the next would say.
    if records.is_empty() {
        records = review::reviews(state);
    }
    if records.is_empty() {
        records = given_up(state, now);
    }
    if records.is_empty() {
        records = starts(state, now);
    }
    records.extend(verdicts(state));
    records.extend(queue(state));
    if records.is_empty() && finished(state) {
        let outcome = if state.over_budget { RunOutcome::BudgetSpent } else { RunOutcome::Complete };
        records.push(Record::Finished { outcome });
    }
    records
}

fn finished(state: &State) -> bool {
    match state.started.kind {
        RunKind::Swarm => state.exhausted(),
        RunKind::Certify => state.changes.values().any(|change| {
            change.conflict.is_some()
                || state.current_ballot(change).is_some_and(|(_, b)| b.certificate.is_some())
        }),
    }
}

/// Tasks that wait for something that will not come, or have waited too long, or that nobody wants or can do.
fn given_up(state: &State, now: Timestamp) -> Vec<Record> {
    let blocked = state.agenda.in_vain().map(|(task, by)| (task, TaskOutcome::Blocked { by: by.clone() }));
    let overdue = state.agenda.overdue(now).map(|task| (task, TaskOutcome::DeadlinePassed));
    let closed = supervise::given_up(state).chain(over_budget(state)).chain(overdue).chain(blocked);
    let closed: BTreeMap<&TaskId, TaskOutcome> = closed.collect();
    closed.into_iter().map(|(task, outcome)| Record::TaskClosed { task: task.clone(), outcome }).collect()
}

/// Tasks that spend from an account in which there is nothing left.
fn over_budget(state: &State) -> impl Iterator<Item = (&TaskId, TaskOutcome)> {
    let waits = |task: &&TaskId| matches!(state.tasks.get(*task), Some(TaskState::Waiting { .. }));
    let spent: BTreeSet<&str> = state
        .ledger
        .empty()
        .filter_map(
            |(account, _)| if let Account::Agent(agent) = account { Some(agent.as_str()) } else { None },
        )
        .collect();
    state.ledger.empty().flat_map(move |(account, unit)| {
        let tasks: Vec<&TaskId> = match account {
            Account::Run | Account::Day => state.agenda.waiting().collect(),
            // Those that no other can do.
            Account::Agent(_) => state.agenda.startable_by(|name| spent.contains(name)).collect(),
            Account::Task(task) => state.agenda.known(task).filter(waits).into_iter().collect(),
        };
        let outcome = TaskOutcome::OverBudget { account: account.to_string(), unit };
        tasks.into_iter().map(move |task| (task, outcome.clone()))
    })
}

/// Tasks there is room to start, each with the leases it needs; before them, leases of tasks that are over.
fn starts(state: &State, now: Timestamp) -> Vec<Record> {
    let over = |task: &&TaskId| state.task_over(task);
    let ended: Vec<_> =
        state.leases.holders().filter(over).map(|task| Record::LeaseEnded { task: task.clone() }).collect();
    if !ended.is_empty() {
        // Who is served next shows when they are gone.
        return ended;
    }
    let mut leases = state.leases.clone();
    let mut records = Vec::new();
    for Launch { task, agent, attempt, base, set_aside, stolen_from } in plan::launches(state, now) {
        let wanted = state.task_spec(&task).map_or(&[][..], |spec| &spec.leases);
        if !wanted.is_empty() && state.leases.held_by(&task).next().is_none() {
            let Ok(grants) = leases.acquire(&task, wanted, None, now) else { continue };
            let tokens = grants.iter().map(|grant| grant.token).collect();
            records.push(Record::LeaseGranted { task: task.clone(), resources: wanted.to_vec(), tokens });
        }
        records.push(Record::AgentStarting { agent, task, attempt, base, set_aside, stolen_from });
    }
    records
}

/// Ballots in which everybody has answered, and whose verdict is not what the record says yet.
fn verdicts(state: &State) -> Vec<Record> {
    let panel = state.panel();
    state
        .uncertified
        .iter()
        .filter_map(|id| Some((id, state.ballots.get(id)?)))
        .filter(|(_, ballot)| ballot.certificate.is_none() && ballot.examined(panel) && ballot.voted(panel))
        .filter_map(|(id, ballot)| {
            let verdict = panel::verdict(state, ballot);
            let recorded = ballot.decided.as_ref().map(|(verdict, _)| *verdict);
            (recorded != Some(verdict)).then(|| Record::BallotDecided { ballot: id.clone(), verdict })
        })
        .collect()
}

/// The merge queue: what opens, what is turned down, what may land.
fn queue(state: &State) -> Vec<Record> {
    let mut records = Vec::new();
    for (place, (id, change, onto)) in state.window().into_iter().enumerate() {
        let front = place == 0;
        if let Some(conflict) = change.conflict.as_ref().filter(|conflict| conflict.onto == onto) {
            if front && state.started.kind == RunKind::Swarm {
                let evidence = vec![conflict.evidence];
                records.push(Record::Refused {
                    change: id.clone(),
                    check: "merge".into(),
                    reason: conflict.reason.clone(),
                    evidence,
                });
            }
            continue;
        }
        let Some(candidate) = change.candidate.as_ref().filter(|candidate| candidate.onto == onto) else {
            continue;
        };
        match state.current_ballot(change) {
            None => records.extend(open_ballot(state, id.as_str(), change)),
            Some((_, ballot)) if front && state.started.kind == RunKind::Swarm => {
                if ballot.turned_down() {
                    let refusal = panel::refusal(state, ballot);
                    records.push(Record::Refused {
                        change: id.clone(),
                        check: refusal.check,
                        reason: refusal.reason,
                        evidence: refusal.evidence,
                    });
                } else if ballot.passed()
                    && change.landing.as_ref().is_none_or(|landing| landing.to != candidate.commit)
                {
                    let from = state.branch_exists.then(|| state.head.clone());
                    records.push(Record::LandingStarted {
                        change: id.clone(),
                        from,
                        to: candidate.commit.clone(),
                    });
                }
            }
            Some(_) => {}
        }
    }
    records
}

fn open_ballot(state: &State, id: &str, change: &ChangeState) -> Option<Record> {
    let candidate = change.candidate.as_ref()?;
    let round = change.ballots.len() + 1;
    let ballot = BallotId::new(format!("{id}-{round}")).ok()?;
    debug_assert!(!state.ballots.contains_key(&ballot));
    Some(Record::BallotOpened {
        ballot,
        change: change.proposed.change.clone(),
        onto: candidate.onto.clone(),
        commit: candidate.commit.clone(),
        tree: candidate.tree.clone(),
    })
}
