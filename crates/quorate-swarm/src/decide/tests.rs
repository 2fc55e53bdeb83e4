//! What follows from agents that fail, one record after another.

use std::collections::BTreeMap;

use quorate_base::{AgentId, ByteCount, ChangeId, Digest, Millis, RunId, TaskId, Timestamp};

use super::decide;
use crate::budget::Amount;
use crate::plan::{Work, plan, stopping};
use crate::pressure::Level;
use crate::record::{
    AgentEnded, AgentOutcome, ChangeProposed, Opinion, Record, RunKind, RunStarted, Stamped, TaskOutcome,
};
use crate::spec::file;
use crate::state::crew::Phase;
use crate::state::{Settled, State, TaskState};

/// A run whose records are written by hand.
struct Play {
    state: State,
    seq: u64,
    now: u64,
    /// What the next agent that ends has written about the change it was to review.
    verdict: Option<Opinion>,
    stolen: Vec<String>,
}

fn id(task: &str) -> TaskId {
    TaskId::new(task).unwrap()
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
        let mut play =
            Self { state: State::begin(&first).unwrap(), seq: 0, now: 0, verdict: None, stolen: Vec::new() };
        play.conclude();
        play
    }

    /// Tells a record, and what follows from it.
    fn tell(&mut self, record: Record) {
        self.seq += 1;
        if let Record::AgentStarting { agent, task, stolen_from: Some(from), .. } = &record {
            self.stolen.push(format!("{agent} takes {task} from {from}"));
        }
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
        let verdict = self.verdict.take();
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
            verdict,
        })));
        self.conclude();
    }

    /// Reads what an agent left, which is a change.
    fn propose(&mut self, task: &str) {
        let TaskState::Harvest { agent, base, .. } = self.state.tasks[&id(task)].clone() else {
            panic!("{:?}", self.state.tasks)
        };
        let commit = Digest::of(task.as_bytes()).to_string()[..40].parse::<quorate_base::GitOid>().unwrap();
        self.tell(Record::ChangeProposed(ChangeProposed {
            change: ChangeId::new(task).unwrap(),
            task: Some(id(task)),
            agent: Some(agent),
            base,
            commit: commit.clone(),
            tree: commit,
            paths: 1,
            subject: task.into(),
        }));
        self.conclude();
    }

    fn agent_of(&self, task: &str) -> Option<&str> {
        match &self.state.tasks[&id(task)] {
            TaskState::Starting { agent, .. } | TaskState::Running { agent, .. } => Some(agent.as_str()),
            _ => None,
        }
    }

    /// A task ends, and had nothing to change.
    fn done(&mut self, agent: &str) {
        let task = self.state.crew.get(&AgentId::new(agent).unwrap()).unwrap().task.clone().unwrap();
        self.end(agent, OK);
        self.tell(Record::TaskClosed { task, outcome: TaskOutcome::NoChange });
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

impl Play {
    fn memory(&mut self, level: Level) {
        let (available, total) = (ByteCount(1), ByteCount(2));
        let (agents, node, reason) = (ByteCount(0), ByteCount(0), String::new());
        self.tell(Record::PressureChanged { level, reason, available, total, agents, node });
        self.conclude();
    }

    fn working(&self) -> usize {
        self.state.crew.iter().filter(|(_, member)| member.phase == Phase::Working).count()
    }
}

#[test]
fn who_may_begin_follows_from_how_short_memory_is() {
    let mut play = Play::new(&agents(3, "{}"));
    // They have been given their tasks, and wait for memory all the same.
    play.memory(Level::Critical);
    play.begin();
    assert_eq!(play.working(), 0);
    play.memory(Level::Open);
    play.begin();
    assert_eq!(play.working(), 3);
    play.memory(Level::Warn);
    play.end("a-1", BAD);
    play.after(60_000).begin();
    assert_eq!(play.working(), 2, "nobody begins beside one who works");
    play.end("a-2", BAD);
    play.end("a-3", BAD);
    play.after(60_000).begin();
    assert_eq!(play.working(), 1, "a machine that is always short of memory gets on");
}

#[test]
fn the_first_two_stops_for_want_of_memory_are_no_attempts_and_none_is_a_failure_of_the_agent() {
    let mut play = Play::new(
        "[agents.a]\nprogram = \"a\"\nattempts = 1\nrestart = { max = 1 }\n[[tasks]]\nid = \"t\"\nagent = \"a\"\n",
    );
    for _ in 0..3 {
        assert_eq!(play.outcome("t"), None);
        play.begin();
        let agent = AgentId::new("a").unwrap();
        play.tell(Record::AgentPaused { agent: agent.clone(), reason: String::new() });
        play.tell(Record::AgentStopping { agent, reason: String::new() });
        play.end("a", AgentOutcome::MemoryPressure);
        assert_eq!(play.phase("a"), if play.outcome("t").is_none() { Phase::Starting } else { Phase::Idle });
    }
    let reason = "memory pressure in attempt 1 of 1".to_owned();
    assert_eq!(play.outcome("t"), Some(&TaskOutcome::Failed { reason }));
}

/// Two kinds of agents, and tasks with what follows their names in each.
fn two(swarm: &str, a: &str, b: &str, tasks: &[(&str, &str)]) -> String {
    let mut text = format!(
        "[swarm]\nagents-at-once = 9\n{swarm}\n[agents.a]\nprogram = \"a\"\n{a}\n[agents.b]\nprogram = \"b\"\n{b}\n"
    );
    tasks.iter().for_each(|(id, rest)| text.push_str(&format!("[[tasks]]\nid = \"{id}\"\n{rest}\n")));
    text
}

#[test]
fn a_task_goes_to_whom_its_placement_says() {
    let tasks = [("t1", "needs = [\"x\"]"), ("t2", "needs = [\"x\"]"), ("t3", "needs = [\"x\"]")];
    let (a, b) = ("can = [\"x\", \"y\"]\ncost = 5", "can = [\"x\"]\ncount = 2");
    let doers = |swarm: &str, tasks: &[(&str, &str)]| -> Vec<String> {
        let play = Play::new(&two(swarm, a, b, tasks));
        tasks.iter().map(|(task, _)| play.agent_of(task).unwrap_or("nobody").to_owned()).collect()
    };
    assert_eq!(doers("placement = \"load\"\nsteal = false", &tasks), ["a", "b-1", "b-2"]);
    assert_eq!(doers("placement = \"cost\"\nsteal = false", &tasks), ["b-1", "b-2", "nobody"]);
    assert_eq!(doers("placement = \"cost\"", &tasks), ["b-1", "b-2", "a"], "it takes over what waits");
    let only_a = [("t1", "needs = [\"x\", \"y\"]")];
    assert_eq!(doers("placement = \"cost\"", &only_a), ["a"], "the cheap ones cannot do it");
    // With affinity, what follows goes to who did what it follows.
    let chain =
        [("t1", "agent = \"b\""), ("t2", "agent = \"b\""), ("t3", "needs = [\"x\"]\nafter = [\"t2\"]")];
    for (placement, doer) in [("affinity", "b-2"), ("load", "a")] {
        let mut play = Play::new(&two(&format!("placement = \"{placement}\""), a, b, &chain));
        play.begin();
        play.done("b-2");
        assert_eq!(play.agent_of("t3"), Some(doer), "{placement}");
    }
}

#[test]
fn an_agent_without_work_takes_over_the_best_of_what_waits_for_others_it_may_take_from() {
    let tasks = [
        ("t1", "agent = \"a\""),
        ("t2", "agent = \"a\""),
        ("t3", "agent = \"a\""),
        ("t4", "agent = \"a\""),
        ("t5", "agent = \"a\"\npriority = \"low\""),
        ("t6", "agent = \"a\""),
        ("t7", "agent = \"a\"\npriority = \"low\""),
        ("t8", "agent = \"a\"\npriority = \"low\""),
    ];
    let next = |swarm: &str| {
        let mut play = Play::new(&two(swarm, "count = 4", "", &tasks));
        play.begin();
        play.done("a-1");
        play.begin();
        play.done("a-1");
        let second = ["t5", "t6", "t7", "t8"].into_iter().find(|task| play.agent_of(task) == Some("a-1"));
        (second, play.state.steals)
    };
    // Before a-1 stands t5; before a-2 t6, which is more urgent.
    assert_eq!(next("steal = false"), (None, 0));
    assert_eq!(next("steal = true"), (Some("t5"), 1), "the urgent one of another first, and then its own");
}

#[test]
fn in_a_ring_work_moves_to_neighbours_only() {
    let tasks: Vec<(String, &str)> = (0..8).map(|n| (format!("t{n}"), "agent = \"a\"")).collect();
    let tasks: Vec<(&str, &str)> = tasks.iter().map(|(task, rest)| (task.as_str(), *rest)).collect();
    // Before a-1 waits t4, before a-2 t5, before a-3 t6.
    for (topology, stolen) in [("mesh", "a-3 takes t4 from a-1"), ("ring", "a-3 takes t5 from a-2")] {
        let mut play = Play::new(&two(&format!("topology = \"{topology}\""), "count = 4", "", &tasks));
        play.begin();
        play.done("a-3");
        assert_eq!(play.stolen, [stolen], "{topology}");
    }
}

#[test]
fn more_agents_take_part_where_tasks_wait_and_fewer_where_agents_do() {
    let tasks: Vec<(String, &str)> = (0..6).map(|n| (format!("t{n}"), "agent = \"a\"")).collect();
    let tasks: Vec<(&str, &str)> = tasks.iter().map(|(task, rest)| (task.as_str(), *rest)).collect();
    let scale = "count = 4\nscale = { min = 1, up-at = 1, idle = \"30s\", cool-down = \"2s\" }";
    let mut play = Play::new(&two("", scale, "", &tasks));
    let active = |play: &Play| play.state.crew.strength("a").0;
    assert_eq!(active(&play), 2, "six wait for one; and then it cools down");
    play.begin();
    assert_eq!(active(play.after(1999)), 2);
    assert_eq!(active(play.after(1)), 3);
    play.begin();
    assert_eq!(active(play.after(10_000)), 3, "three wait for three");
    for agent in ["a-1", "a-2", "a-3", "a-1", "a-2", "a-3"] {
        play.done(agent);
        play.begin();
    }
    assert_eq!(play.state.outcome, Some(crate::record::RunOutcome::Complete));
    // Idle agents are benched one by one, the last first, and never below the least.
    let tasks =
        [("t0", "agent = \"b\""), ("t1", "agent = \"a\""), ("t2", "agent = \"a\""), ("t3", "agent = \"a\"")];
    let mut play = Play::new(&two("", scale, "", &tasks));
    play.begin();
    play.after(2000);
    play.begin();
    for agent in ["a-1", "a-2", "a-1"] {
        if play.state.crew.get(&AgentId::new(agent).unwrap()).unwrap().task.is_some() {
            play.done(agent);
            play.begin();
        }
    }
    let before = active(&play);
    play.after(29_999);
    assert_eq!(active(&play), before);
    play.after(2).after(2000).after(2000).after(60_000);
    assert_eq!(active(&play), 1, "{:?}", play.state.crew);
    let first = play.state.crew.get(&AgentId::new("a-1").unwrap()).unwrap();
    assert!(!first.benched, "the first stays");
}

const STAR: &str = "topology = \"star\"";

#[test]
fn in_a_star_a_change_needs_the_word_of_the_hub() {
    for (verdict, settled) in [(Some(true), None), (Some(false), Some("no")), (None, Some("gave no verdict"))]
    {
        let mut play = Play::new(&two(STAR, "role = \"coordinator\"", "", &[("t1", "agent = \"b\"")]));
        play.begin();
        play.end("b", OK);
        play.propose("t1");
        assert_eq!(play.agent_of("review-t1"), Some("a"));
        assert!(play.state.queue.is_empty() && play.state.outcome.is_none());
        play.begin();
        play.verdict = verdict.map(|accepted| Opinion { accepted, reason: "no".into() });
        play.end("a", OK);
        let change = &play.state.changes[&ChangeId::new("t1").unwrap()];
        match (settled, &change.settled) {
            (None, None) => assert_eq!(play.state.queue.len(), 1, "it goes to the panel"),
            (Some(why), Some(Settled::Refused { check, reason, .. })) => {
                assert!(check == "review" && reason.contains(why), "{reason}");
                assert!(play.state.outcome.is_some());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_change_whose_judge_is_gone_goes_to_the_next_above_or_to_the_panel() {
    let agents = "role = \"coordinator\"\nrestart.max = 0";
    let mut play = Play::new(&two(STAR, agents, "", &[("t1", "agent = \"b\"")]));
    play.begin();
    play.end("b", OK);
    play.propose("t1");
    play.begin();
    play.end("a", BAD);
    assert_eq!(play.phase("a"), Phase::Quarantined);
    assert_eq!(
        play.state.queue.len(),
        1,
        "nobody is left whose word it could need: {:?}",
        play.state.changes
    );
    // When the swarm becomes a mesh, nobody's word is needed.
    let mut play = Play::new(&two(STAR, "role = \"coordinator\"", "", &[("t1", "agent = \"b\"")]));
    play.tell(Record::TopologyChanged { topology: crate::topology::Topology::Mesh, reason: "try".into() });
    play.begin();
    play.end("b", OK);
    play.propose("t1");
    assert_eq!((play.state.queue.len(), play.state.in_review.len()), (1, 0));
}
