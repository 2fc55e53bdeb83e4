//! From an agent that has nothing to do any more to the task it is given next.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use quorate_base::{AgentId, TaskId, Timestamp};
use quorate_swarm::budget::Amount;
use quorate_swarm::decide::decide;
use quorate_swarm::journal::Journal;
use quorate_swarm::plan::{Work, plan};
use quorate_swarm::record::{AgentEnded, AgentOutcome, Record, Stamped, TaskOutcome};
use quorate_swarm::state::State;

use crate::harness::goal::Bound;
use crate::harness::latency::{Latencies, Percentiles};
use crate::measure::{Claim, Context};
use crate::schedule::{ended, started};

const AGENTS: usize = 150;
const TASKS: usize = 10_000;

/// A swarm whose records are kept on disk, or not.
struct Swarm {
    state: State,
    seq: u64,
    journal: Option<Journal>,
}

impl Swarm {
    fn tell(&mut self, records: Vec<Record>) -> anyhow::Result<()> {
        if let Some(journal) = &mut self.journal {
            let payloads = records.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            journal.append(Timestamp(self.seq), &payloads)?;
        }
        for record in records {
            self.seq += 1;
            self.state.apply(&Stamped { seq: self.seq, time: Timestamp(self.seq), record })?;
        }
        Ok(())
    }

    /// Everything that follows.
    fn conclude(&mut self) -> anyhow::Result<Vec<(TaskId, AgentId)>> {
        let mut begun = Vec::new();
        loop {
            let records = decide(&self.state, Timestamp(self.seq));
            if records.is_empty() {
                return Ok(begun);
            }
            let starts = records.iter().filter_map(|record| match record {
                Record::AgentStarting { task, agent, .. } => Some((task.clone(), agent.clone())),
                _ => None,
            });
            begun.extend(starts);
            self.tell(records)?;
        }
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let started = plan(&self.state, Timestamp(self.seq)).into_iter().filter_map(|work| match work {
            Work::Launch { task, agent, attempt, .. } => {
                Some(Record::AgentStarted { agent, task, attempt, pid: 1 })
            }
            _ => None,
        });
        let started = started.collect();
        self.tell(started)
    }
}

/// How long each agent waited for its next task, the records that say so made durable before where there is a journal.
fn waits(first: &Stamped, journal: Option<&Path>) -> anyhow::Result<(Percentiles, u64)> {
    let journal = journal.map(|path| Journal::create(path, [1; 16])).transpose()?;
    let mut swarm = Swarm { state: State::begin(first)?, seq: 0, journal: None };
    let mut busy: std::collections::VecDeque<_> = swarm.conclude()?.into();
    swarm.begin()?;
    swarm.journal = journal;
    let most = if swarm.journal.is_some() { 1_000 } else { TASKS };
    let (mut latencies, mut measured) = (Latencies::new(), 0);
    while let Some((task, agent)) = busy.pop_front() {
        let end: AgentEnded = ended(agent, task.clone(), 1, AgentOutcome::Exited { code: 0 });
        swarm.tell(vec![Record::AgentEnded(Box::new(AgentEnded { used: Amount::default(), ..end }))])?;
        let since = Instant::now();
        swarm.tell(vec![Record::TaskClosed { task, outcome: TaskOutcome::NoChange }])?;
        let next = swarm.conclude()?;
        if next.len() == 1 {
            latencies.record_time(since.elapsed());
            measured += 1;
        }
        busy.extend(next);
        swarm.begin()?;
        if measured >= most {
            break;
        }
    }
    ensure!(measured > 500, "only {measured} agents were given another task");
    Ok((latencies.percentiles(), swarm.state.steals))
}

/// Dispatch by the decisions alone, with the disk, and where every task waits for another agent.
pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let plain = started(TASKS, AGENTS, "", false)?;
    let (decided, _) = waits(&plain, None)?;
    let folder = tempfile::tempdir_in(".").context("a folder for a journal")?;
    let (durable, _) = waits(&plain, Some(&folder.path().join("journal")))?;
    // What follows the first task waits for the agent that did it.
    let (stolen, steals) = waits(&started(TASKS, AGENTS, "placement = \"affinity\"", true)?, None)?;
    ensure!(steals > 1_000, "{steals} tasks were taken over");
    let claim = |id: &str, what: &str, nanos: f64| {
        let claim = context.claim(id, what, nanos / 1000.0, "µs");
        claim.value_goal(Bound::AtMost(1000.0))
    };
    let each = format!("of {AGENTS} agents, 10000 tasks");
    Ok(vec![
        claim(
            "swarm.dispatch.p50",
            &format!("an agent free until its next task is decided on, {each}"),
            decided.p50,
        ),
        claim(
            "swarm.dispatch.p99",
            &format!("an agent free until its next task is decided on, {each}"),
            decided.p99,
        ),
        claim(
            "swarm.dispatch.durable.p50",
            &format!("and the records that say so are on the disk, {each}"),
            durable.p50,
        ),
        claim(
            "swarm.dispatch.durable.p99",
            &format!("and the records that say so are on the disk, {each}"),
            durable.p99,
        ),
        claim(
            "swarm.dispatch.steal.p99",
            &format!("a task taken over from the queue of another, {each}"),
            stolen.p99,
        ),
    ])
}
