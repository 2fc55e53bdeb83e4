//! What follows from the state by itself: records that need no work, only rules.
//!
//! The node calls [`decide`] after every record until it has nothing to say, appending what it says to the journal.

use quorate_base::{BallotId, TaskId, Timestamp};

use crate::panel;
use crate::plan::{self, Work};
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
    let mut records = blocked_tasks(state);
    records.extend(leases(state, now));
    records.extend(verdicts(state));
    records.extend(queue(state));
    if records.is_empty() && finished(state) {
        records.push(Record::Finished { outcome: RunOutcome::Complete });
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

/// Tasks that wait for something that will not land.
fn blocked_tasks(state: &State) -> Vec<Record> {
    let waiting = |id| matches!(state.tasks.get(id), Some(TaskState::Waiting { .. }));
    state
        .started
        .spec
        .tasks
        .iter()
        .filter(|task| waiting(&task.id))
        .filter_map(|task| {
            let by = task.after.iter().find(|id| state.task_lost(id))?.clone();
            Some(Record::TaskClosed { task: task.id.clone(), outcome: TaskOutcome::Blocked { by } })
        })
        .collect()
}

/// Leases of tasks that are over, and of tasks there is room to start.
fn leases(state: &State, now: Timestamp) -> Vec<Record> {
    if state.started.spec.tasks.iter().all(|task| task.leases.is_empty()) {
        return Vec::new();
    }
    let over = |task: &&TaskId| state.task_over(task);
    let ended: Vec<_> =
        state.leases.holders().filter(over).map(|task| Record::LeaseEnded { task: task.clone() }).collect();
    if !ended.is_empty() {
        // Who is served next shows when they are gone.
        return ended;
    }
    let mut leases = state.leases.clone();
    let wanted = plan::launches(state).into_iter().filter_map(|work| match work {
        Work::Launch { task, .. } => state.started.spec.task(&task),
        _ => None,
    });
    let fresh =
        wanted.filter(|task| !task.leases.is_empty() && state.leases.held_by(&task.id).next().is_none());
    fresh
        .filter_map(|task| {
            let grants = leases.acquire(&task.id, &task.leases, None, now).ok()?;
            Some(Record::LeaseGranted {
                task: task.id.clone(),
                resources: task.leases.clone(),
                tokens: grants.iter().map(|grant| grant.token).collect(),
            })
        })
        .collect()
}

/// Ballots in which everybody has answered, and whose verdict is not what the record says yet.
fn verdicts(state: &State) -> Vec<Record> {
    let panel = state.panel();
    state
        .ballots
        .iter()
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
