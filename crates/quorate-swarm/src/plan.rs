//! What to do next: the work a run needs now, read off its state.
//!
//! The node starts every piece of work it is not doing already. A piece of work that was under way when a node died
//! follows from the state again, so nothing has to be remembered about it.

use quorate_base::{AgentId, BallotId, ChangeId, GitOid, Millis, TaskId, Timestamp, ValidatorId};

use crate::budget::{Account, Amount, Budget, Extra, Refusal};
use crate::record::{RunKind, Step};
use crate::spec::AgentSpec;
use crate::state::{Leave, Pick, State, TaskState};

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
    /// `wall` is what its limit, its deadline and its budgets leave.
    Launch { task: TaskId, agent: AgentId, attempt: u32, base: GitOid, wall: Millis, set_aside: Amount },
}

/// All work the run needs now, most urgent first. Bounded by the run's own limits on agents and panels.
pub fn plan(state: &State, now: Timestamp) -> Vec<Work> {
    if state.outcome.is_some() {
        return Vec::new();
    }
    let mut work = landings(state);
    work.extend(ballots(state));
    work.extend(preparations(state));
    work.extend(harvests(state));
    work.extend(starting(state, now));
    work
}

/// Tasks whose agents have been told to end and are still there.
pub fn stopping(state: &State) -> impl Iterator<Item = &TaskId> {
    state.crew.stopping()
}

/// One that can begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) task: TaskId,
    pub(crate) agent: AgentId,
    pub(crate) attempt: u32,
    pub(crate) base: GitOid,
    pub(crate) set_aside: Amount,
    pub(crate) stolen_from: Option<AgentId>,
}

/// Agents that have a task and no process. While there is no memory for any, they wait.
fn starting(state: &State, now: Timestamp) -> Vec<Work> {
    if state.pressure.agents_at_once(1) == 0 {
        return Vec::new();
    }
    let launch = |task: &TaskId| match state.tasks.get(task)? {
        TaskState::Starting { agent, attempt, base, set_aside } => {
            let left = state.agenda.deadline(task).map(|deadline| deadline.since(now));
            Some(Work::Launch {
                task: task.clone(),
                agent: agent.clone(),
                attempt: *attempt,
                base: base.clone(),
                wall: Millis(set_aside.agent_time_ms).min(left.unwrap_or(Millis(u64::MAX))),
                set_aside: *set_aside,
            })
        }
        _ => None,
    };
    state.agenda.starting().filter_map(launch).collect()
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
    let harvest = |task: &TaskId| match state.tasks.get(task)? {
        TaskState::Harvest { agent, attempt, base } => Some(Work::Harvest {
            task: task.clone(),
            agent: agent.clone(),
            attempt: *attempt,
            base: base.clone(),
        }),
        _ => None,
    };
    state.agenda.harvests().filter_map(harvest).collect()
}

/// The launches there is room for now, those included whose leases are still to be granted.
pub(crate) fn launches(state: &State, now: Timestamp) -> Vec<Launch> {
    if state.started.kind == RunKind::Certify {
        return Vec::new();
    }
    let at_once = state.pressure.agents_at_once(state.started.spec.agents_at_once);
    let room = (at_once as usize).saturating_sub(state.agenda.busy());
    if room == 0 {
        return Vec::new();
    }
    let harvested = state.harvesting();
    let free = |agent: &AgentId| {
        !harvested.contains(agent) && state.crew.get(agent).is_some_and(|member| member.phase.is_free())
    };
    let mut extra = Extra::default();
    let mut quotes = Vec::new();
    // Those that must wait stand in line here, so that nobody behind them is served first.
    let mut leases = state.leases.clone();
    let steal = state.started.spec.steal;
    let may_steal = |thief: &AgentId, owner: &AgentId| steal && state.shape.may_steal(thief, owner);
    let chosen = state.agenda.startable(now, room, free, may_steal, |task, agent| {
        let wanted = state.task_spec(task).map_or(&[][..], |spec| &spec.leases);
        if leases.may_start(task, wanted).is_err() {
            return Leave::Task;
        }
        let Some((name, declaration)) = state.started.spec.declaration(agent) else { return Leave::Agent };
        match quote(state, now, task, name, declaration, &extra) {
            Ok(set_aside) => {
                extra.add(name, task, set_aside);
                quotes.push(set_aside);
                Leave::Nothing
            }
            Err(refusal) => match refusal.account {
                Account::Run | Account::Day => Leave::All,
                Account::Agent(_) => Leave::Agent,
                Account::Task(_) => Leave::Task,
            },
        }
    });
    let launch = |(pick, set_aside): (Pick, Amount)| {
        let Pick { task, agent, from } = pick;
        let Some(TaskState::Waiting { attempts, .. }) = state.tasks.get(&task) else { return None };
        // A reviewer sees the files as they were proposed.
        let reviewed = state.task_spec(&task).and_then(|spec| state.changes.get(spec.review.as_ref()?));
        let base = reviewed.map_or(&state.head, |change| &change.proposed.commit).clone();
        Some(Launch { attempt: attempts + 1, base, set_aside, task, agent, stolen_from: from })
    };
    chosen.into_iter().zip(quotes).filter_map(launch).collect()
}

/// What is set aside for a launch: the time it may take among it.
fn quote(
    state: &State,
    now: Timestamp,
    task: &TaskId,
    name: &str,
    agent: &AgentSpec,
    extra: &Extra,
) -> Result<Amount, Refusal> {
    let left = state.agenda.deadline(task).map(|deadline| deadline.since(now));
    let wall = agent.limits.wall.min(left.unwrap_or(Millis(u64::MAX)));
    let own = agent.launch_budget;
    let wall = own.agent_time.map_or(wall, |most| most.min(wall));
    let most = Budget { launches: Some(1), agent_time: Some(wall), ..own };
    state.ledger.quote(name, task, &most, agent.usage, extra)
}
