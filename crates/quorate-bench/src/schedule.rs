//! What it costs to know what to do next, for few tasks and for many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use quorate_base::{ByteCount, Digest, GitOid, Millis, RunId, Timestamp};
use quorate_swarm::budget::Amount;
use quorate_swarm::decide::decide;
use quorate_swarm::plan::{Work, plan};
use quorate_swarm::record::{AgentEnded, AgentOutcome, Record, RunKind, RunStarted, Stamped, TaskOutcome};
use quorate_swarm::spec::file;
use quorate_swarm::state::State;

use crate::harness::goal::{Against, Bound};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
const FEW: usize = 100;
const MANY: usize = 100_000;
/// Agents at once.
const AGENTS: usize = 16;

/// Nanoseconds a task, over whole runs that do nothing but schedule.
pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let candidate = |name, tasks, runs| {
        let started = started(tasks, AGENTS, "", false);
        Candidate::new(name, move || {
            let started = started.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            (0..runs)
                .map(|_| run(started, tasks))
                .sum::<anyhow::Result<f64>>()
                .map(|nanos| nanos / runs as f64)
        })
    };
    let rounds =
        interleave(ROUNDS, vec![candidate("100 tasks", FEW, 20), candidate("100000 tasks", MANY, 1)])?;
    let what = "to decide on, plan and take note of one of 100000 tasks, a third of which depend on another, 16 agents at once";
    let claimed = Claimed { id: "swarm.schedule", what, name: "100000 tasks", unit: "ns" };
    let against = Against { names: &["100 tasks"], absent: "", bound: Bound::AtMost(3.0) };
    Ok(vec![rounds.claim_against(context, &claimed, against, |nanos| *nanos)?])
}

/// A run of so many tasks for one declaration; a third of them depend on another, or all but the first on that.
pub(crate) fn started(tasks: usize, agents: usize, swarm: &str, chained: bool) -> anyhow::Result<Stamped> {
    let mut text = format!(
        "objective = \"x\"\n[swarm]\nagents-at-once = {agents}\n{swarm}\n[agents.a]\nprogram = \"a\"\ncount = {agents}\n"
    );
    for number in 0..tasks {
        write!(text, "[[tasks]]\nid = \"t{number}\"\nagent = \"a\"\n")?;
        if chained && number > 0 {
            writeln!(text, "after = [\"t0\"]")?;
        } else if number % 3 == 2 {
            writeln!(text, "after = [\"t{}\"]", number / 2)?;
        }
    }
    let commit = |text: &str| -> anyhow::Result<GitOid> {
        Digest::of(text.as_bytes()).to_string()[..40].parse().context("no commit")
    };
    let started = RunStarted {
        run: RunId::new("bench")?,
        kind: RunKind::Swarm,
        spec: file::parse("bench", &text, &BTreeMap::new())?.spec,
        repository: String::new(),
        swarm_dir: String::new(),
        base: commit("base")?,
        base_tree: commit("tree")?,
        branch: "bench".into(),
        electorate: Vec::new(),
        quorate_version: String::new(),
        spent_today: Amount::default(),
    };
    Ok(Stamped { seq: 0, time: Timestamp(0), record: Record::RunStarted(Box::new(started)) })
}

/// Each agent ends well and has nothing to change, one after another.
fn run(started: &Stamped, tasks: usize) -> anyhow::Result<f64> {
    let mut state = State::begin(started)?;
    let (mut seq, mut done) = (0, 0);
    let start = Instant::now();
    loop {
        let mut records = decide(&state, Timestamp(seq));
        for work in plan(&state, Timestamp(seq)) {
            match work {
                Work::Launch { task, agent, attempt, .. } => {
                    records.push(Record::AgentStarted {
                        agent: agent.clone(),
                        task: task.clone(),
                        attempt,
                        pid: 1,
                    });
                    let outcome = AgentOutcome::Exited { code: 0 };
                    records.push(Record::AgentEnded(Box::new(ended(agent, task, attempt, outcome))));
                }
                Work::Harvest { task, .. } => {
                    done += 1;
                    records.push(Record::TaskClosed { task, outcome: TaskOutcome::NoChange });
                }
                other => anyhow::bail!("nobody asked for {other:?}"),
            }
        }
        if records.is_empty() {
            break;
        }
        for record in records {
            seq += 1;
            state.apply(&Stamped { seq, time: Timestamp(seq), record })?;
        }
        if state.outcome.is_some() {
            break;
        }
    }
    ensure!(done == tasks, "{done} of {tasks} tasks were done");
    Ok(start.elapsed().as_nanos() as f64 / tasks as f64)
}

pub(crate) fn ended(
    agent: quorate_base::AgentId,
    task: quorate_base::TaskId,
    attempt: u32,
    outcome: AgentOutcome,
) -> AgentEnded {
    AgentEnded {
        agent,
        task,
        attempt,
        outcome,
        paused: Millis(0),
        wall: Millis(1),
        cpu: Millis(1),
        memory_peak: ByteCount(1),
        containment: Vec::new(),
        stdout: None,
        stderr: None,
        last_words: String::new(),
        used: Amount { launches: 1, agent_time_ms: 1, ..Amount::default() },
        verdict: None,
    }
}
