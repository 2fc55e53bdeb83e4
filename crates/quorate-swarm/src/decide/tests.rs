//! What follows from agents that fail, one record after another.

use std::collections::BTreeMap;

use quorate_base::{AgentId, ByteCount, Digest, Millis, RunId, TaskId, Timestamp};

use super::decide;
use crate::budget::Amount;
use crate::plan::{Work, plan, stopping};
use crate::record::{AgentEnded, AgentOutcome, Record, RunKind, RunStarted, Stamped, TaskOutcome};
use crate::spec::file;
use crate::state::crew::Phase;
use crate::state::{State, TaskState};

/// A run whose records are written by hand.
struct Play {
    state: State,
    seq: u64,
    now: u64,
}

const OK: AgentOutcome = AgentOutcome::Exited { code: 0 };
const BAD: AgentOutcome = AgentOutcome::Exited { code: 1 };

impl Play {
    fn new(text: &str) -> Self {
        let text = format!(
            "objective = \"x\"\n[checks.tests]\nvalidator = \"tests\"\nbuiltin = \"secrets\"\n{text}"
        );
        let commit: quorate_base::GitOid = Digest::of(b"x").to_string()[..40].parse().unwrap();
        let started = RunStarted {
            run: RunId::new("r").unwrap(),
            kind: RunKind::Swarm,
            spec: file::parse("x", &text, &BTreeMap::new()).unwrap().spec,
            repository: String::new(),
            swarm_dir: String::new(),
            base: commit.clone(),
            base_tree: commit,
            branch: "b".into(),
            electorate: Vec::new(),
            quorate_version: String::new(),
            spent_today: Amount::default(),
        };
        let first = Stamped { seq: 0, time: Timestamp(0), record: Record::RunStarted(Box::new(started)) };
        let mut play = Self { state: State::begin(&first).unwrap(), seq: 0, now: 0 };
        play.conclude();
        play
    }

    /// Tells a record, and what follows from it.
    fn tell(&mut self, record: Record) {
        self.seq += 1;
        self.state.apply(&Stamped { seq: self.seq, time: Timestamp(self.now), record }).unwrap();
    }

    fn conclude(&mut self) {
        loop {
            let records = decide(&self.state, Timestamp(self.now));
            if records.is_empty() {
                return;
            }
            records.into_iter().for_each(|record| self.tell(record));
        }
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now += ms;
        self.conclude();
        self
    }

    /// Every agent that is being started begins.
    fn begin(&mut self) {
        for work in plan(&self.state, Timestamp(self.now)) {
            if let Work::Launch { task, agent, attempt, .. } = work {
                self.tell(Record::AgentStarted { agent, task, attempt, pid: 1 });
            }
        }
        self.conclude();
    }

    fn end(&mut self, agent: &str, outcome: AgentOutcome) {
        let agent = AgentId::new(agent).unwrap();
        let task = self.state.crew.get(&agent).unwrap().task.clone().unwrap();
        let attempt = match &self.state.tasks[&task] {
            TaskState::Starting { attempt, .. } | TaskState::Running { attempt, .. } => *attempt,
            other => panic!("{other:?}"),
        };
        self.tell(Record::AgentEnded(Box::new(AgentEnded {
            agent,
            task,
            attempt,
            outcome,
            wall: Millis(1),
            cpu: Millis(1),
            memory_peak: ByteCount(1),
            paused: Millis(0),
            containment: Vec::new(),
            stdout: None,
            stderr: None,
            last_words: String::new(),
            used: Amount { launches: 1, ..Amount::default() },
        })));
        self.conclude();
    }

    fn phase(&self, agent: &str) -> Phase {
        self.state.crew.get(&AgentId::new(agent).unwrap()).unwrap().phase
    }

    fn outcome(&self, task: &str) -> Option<&TaskOutcome> {
        match &self.state.tasks[&TaskId::new(task).unwrap()] {
            TaskState::Closed { outcome } => Some(outcome),
            _ => None,
        }
    }
}

fn agents(count: u32, restart: &str) -> String {
    let mut text = format!(
        "[swarm]\nagents-at-once = 9\n[agents.a]\nprogram = \"a\"\ncount = {count}\nattempts = 9\nretry.backoff = \"1ms\"\nrestart = {restart}\n"
    );
    (0..count).for_each(|n| text.push_str(&format!("[[tasks]]\nid = \"t{n}\"\nagent = \"a\"\n")));
    text
}

#[test]
fn the_failure_of_one_ends_those_its_strategy_names_and_their_attempts_do_not_count() {
    for (strategy, ended) in
        [("one-for-one", &[][..]), ("rest-for-one", &["a-3"]), ("one-for-all", &["a-1", "a-3"])]
    {
        let mut play = Play::new(&agents(3, &format!("{{ strategy = \"{strategy}\" }}")));
        play.begin();
        play.end("a-2", BAD);
        for agent in ["a-1", "a-3"] {
            let expected = if ended.contains(&agent) { Phase::Stopping } else { Phase::Working };
            assert_eq!(play.phase(agent), expected, "{strategy}: {agent}");
        }
        assert_eq!(stopping(&play.state).count(), ended.len());
        for agent in ended {
            play.end(agent, AgentOutcome::Cancelled);
        }
        play.after(5).begin();
        for agent in ["a-1", "a-2", "a-3"] {
            assert_eq!(play.phase(agent), Phase::Working, "{strategy}: {agent} is back");
        }
        let attempts: Vec<u32> = play
            .state
            .tasks
            .values()
            .map(|at| if let TaskState::Running { attempt, .. } = at { *attempt } else { 0 })
            .collect();
        assert_eq!(attempts.iter().sum::<u32>(), 4, "{strategy}: only the failed one counts: {attempts:?}");
    }
}

#[test]
fn an_agent_that_fails_too_often_is_quarantined_and_its_tasks_go_to_others_or_are_given_up() {
    let mut play = Play::new(&agents(1, "{ max = 2, within = \"1s\" }"));
    for _ in 0..2 {
        play.begin();
        play.end("a", BAD);
        assert_eq!(play.phase("a"), Phase::Failed);
        play.after(100);
    }
    play.begin();
    play.end("a", BAD);
    assert_eq!(play.phase("a"), Phase::Quarantined);
    let Some(TaskOutcome::Failed { reason }) = play.outcome("t0") else { panic!("{:?}", play.state.tasks) };
    assert!(reason.contains("no agent `a` is left") && reason.contains("it failed 3 times"), "{reason}");
}

#[test]
fn failures_that_are_far_apart_quarantine_nobody() {
    let mut play = Play::new(&agents(1, "{ max = 2, within = \"1s\" }"));
    for _ in 0..7 {
        play.begin();
        play.end("a", BAD);
        assert_eq!(play.phase("a"), Phase::Failed);
        play.after(600);
    }
}

#[test]
fn a_task_nobody_wants_is_ended_with_its_agent_and_not_tried_again() {
    let mut play = Play::new(&agents(2, "{}"));
    play.begin();
    let unwanted =
        |task: &str| Record::TaskUnwanted { task: TaskId::new(task).unwrap(), reason: "why not".into() };
    play.tell(unwanted("t0"));
    play.conclude();
    let (_, member) = play.state.crew.iter().find(|(_, member)| member.phase == Phase::Stopping).unwrap();
    assert_eq!(member.reason, "why not");
    play.end("a-1", AgentOutcome::Cancelled);
    assert!(matches!(play.outcome("t0"), Some(TaskOutcome::Cancelled { .. })));
    assert_eq!(play.phase("a-1"), Phase::Idle);
    // One that ends well before it hears of it was no faster: whoever was told that the task is cancelled can rely on it.
    play.tell(unwanted("t1"));
    play.end("a-2", OK);
    assert!(matches!(play.outcome("t1"), Some(TaskOutcome::Cancelled { .. })));
    assert_eq!(play.phase("a-2"), Phase::Idle);
}

#[test]
fn a_task_with_which_the_node_dies_again_and_again_is_given_up() {
    let mut play = Play::new(&agents(1, "{}"));
    let agent = AgentId::new("a").unwrap();
    for death in 1..=3 {
        // Dying before it had begun says nothing about the task.
        for begun in [false, true] {
            if begun {
                play.begin();
            }
            let task = play.state.crew.get(&agent).unwrap().task.clone().unwrap();
            let used = Amount::default();
            play.tell(Record::AgentLost { agent: agent.clone(), task, attempt: 1, used });
            play.conclude();
        }
        assert_eq!(play.outcome("t0").is_some(), death == 3);
    }
    assert_eq!(play.outcome("t0"), Some(&TaskOutcome::Poison { deaths: 3 }));
}

#[test]
fn an_agent_that_is_drained_ends_its_task_and_takes_no_other() {
    let mut play = Play::new(&agents(2, "{}"));
    play.begin();
    let agent = |name: &str| AgentId::new(name).unwrap();
    play.tell(Record::AgentDraining { agent: agent("a-1"), reason: "enough".into() });
    assert_eq!(play.phase("a-1"), Phase::Draining);
    play.end("a-1", BAD);
    assert_eq!(play.phase("a-1"), Phase::Stopped);
    play.after(5);
    assert_eq!(play.phase("a-1"), Phase::Stopped, "its task waits for the other");
    play.end("a-2", BAD);
    play.after(5).begin();
    assert_eq!((play.phase("a-1"), play.phase("a-2")), (Phase::Stopped, Phase::Working));
    play.tell(Record::AgentReleased { agent: agent("a-1"), reason: "again".into() });
    play.conclude();
    assert_eq!(play.phase("a-1"), Phase::Starting);
}
