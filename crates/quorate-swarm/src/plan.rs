//! What to do next: the work a run needs now, read off its state.
//!
//! The node starts every piece of work it is not doing already. A piece of work that was under way when a node died
//! follows from the state again, so nothing has to be remembered about it.

use std::collections::BTreeMap;

use quorate_base::{AgentId, BallotId, ChangeId, GitOid, TaskId, ValidatorId};

use crate::record::{RunKind, Step};
use crate::state::{State, TaskState};

/// One piece of work. Its order is the order in which work is started where not all of it can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Move the result branch; answered by `Landed`, or by the end of the run where somebody else moved it.
    Land { change: ChangeId, from: Option<GitOid>, to: GitOid },
    /// Assemble and keep the certificate; answered by `Certified`.
    Certify { ballot: BallotId },
    /// Ask a validator; answered by `ReportReceived`, `VoteCast`, `Countersigned` or `ValidatorAbsent`.
    Ask { ballot: BallotId, validator: ValidatorId, step: Step, round: usize },
    /// Merge a change onto a commit; answered by `CandidatePrepared` or `ConflictFound`.
    Prepare { change: ChangeId, onto: GitOid },
    /// Read what an agent left in its worktree; answered by `ChangeProposed` or `TaskClosed`.
    Harvest { task: TaskId, agent: AgentId, attempt: u32, base: GitOid },
    /// Start an agent; answered by `AgentStarted`, then `AgentEnded`.
    Launch { task: TaskId, agent: AgentId, attempt: u32, base: GitOid },
}

/// All work the run needs now, most urgent first. Bounded by the run's own limits on agents and panels.
pub fn plan(state: &State) -> Vec<Work> {
    if state.outcome.is_some() {
        return Vec::new();
    }
    let mut work = landings(state);
    work.extend(ballots(state));
    work.extend(preparations(state));
    work.extend(harvests(state));
    work.extend(launches(state));
    work
}

fn landings(state: &State) -> Vec<Work> {
    state
        .waiting()
        .filter_map(|(id, change)| {
            let landing = change.landing.as_ref()?;
            Some(Work::Land { change: id.clone(), from: landing.from.clone(), to: landing.to.clone() })
        })
        .collect()
}

fn ballots(state: &State) -> Vec<Work> {
    let panel = state.panel();
    let mut work = Vec::new();
    for (_, change, onto) in state.window() {
        let Some((id, ballot)) = state.current_ballot(change) else { continue };
        if ballot.onto != onto || ballot.certificate.is_some() {
            continue;
        }
        let ask = |validator: &ValidatorId, step| Work::Ask {
            ballot: id.clone(),
            validator: validator.clone(),
            step,
            round: if step == Step::Countersign { ballot.absent.len() } else { 0 },
        };
        if !ballot.examined(panel) {
            work.extend(
                ballot
                    .present(panel)
                    .filter(|v| !ballot.reports.contains_key(*v))
                    .map(|v| ask(v, Step::Examine)),
            );
        } else if !ballot.voted(panel) {
            work.extend(
                ballot.present(panel).filter(|v| !ballot.votes.contains_key(*v)).map(|v| ask(v, Step::Vote)),
            );
        } else if ballot.decided.is_some() && !ballot.countersigned() {
            let signers = ballot.countersigners();
            work.extend(
                signers
                    .iter()
                    .filter(|v| !ballot.signatures.contains_key(*v))
                    .map(|v| ask(v, Step::Countersign)),
            );
        } else if ballot.decided.is_some() {
            work.push(Work::Certify { ballot: id.clone() });
        }
    }
    work
}

fn preparations(state: &State) -> Vec<Work> {
    state
        .window()
        .into_iter()
        .filter(|(_, change, onto)| {
            change.landing.is_none()
                && change.candidate.as_ref().is_none_or(|candidate| candidate.onto != *onto)
                && change.conflict.as_ref().is_none_or(|conflict| conflict.onto != *onto)
        })
        .map(|(id, _, onto)| Work::Prepare { change: id.clone(), onto })
        .collect()
}

fn harvests(state: &State) -> Vec<Work> {
    state
        .tasks
        .iter()
        .filter_map(|(task, at)| match at {
            TaskState::Harvest { agent, attempt, base } => Some(Work::Harvest {
                task: task.clone(),
                agent: agent.clone(),
                attempt: *attempt,
                base: base.clone(),
            }),
            _ => None,
        })
        .collect()
}

fn launches(state: &State) -> Vec<Work> {
    let spec = &state.started.spec;
    if state.started.kind == RunKind::Certify {
        return Vec::new();
    }
    let working = state.working();
    let mut room =
        (state.pressure.agents_at_once(spec.agents_at_once) as usize).saturating_sub(working.len());
    let mut free: BTreeMap<&str, Vec<AgentId>> = BTreeMap::new();
    let mut work = Vec::new();
    for task in &spec.tasks {
        if room == 0 {
            break;
        }
        let Some(TaskState::Waiting { attempts }) = state.tasks.get(&task.id) else { continue };
        if !task.after.iter().all(|id| state.task_landed(id)) {
            continue;
        }
        let instances = free.entry(&task.agent).or_insert_with(|| {
            let mut idle: Vec<_> =
                spec.instances(&task.agent).into_iter().filter(|agent| !working.contains(agent)).collect();
            idle.reverse();
            idle
        });
        let Some(agent) = instances.pop() else { continue };
        let attempt = attempts + 1;
        work.push(Work::Launch { task: task.id.clone(), agent, attempt, base: state.head.clone() });
        room -= 1;
    }
    work
}
