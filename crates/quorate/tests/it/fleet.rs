//! Agents that are started before there is a task for them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::room::{Answer, CHECKS, Room, marked};

/// One agent after the other, of which the first waits in its worktree until a file says that it may end.
fn file(fleet: u32, gate: &str, second: &str, more: &str) -> String {
    let first = format!("while ! [ -e {gate} ]; do sleep 0.02; done; echo one > one.txt");
    let tasks = "[[tasks]]\nid = \"first\"\nagent = \"first\"\n[[tasks]]\nid = \"second\"\nagent = \"second\"\nafter = [\"first\"]\n";
    format!(
        "objective = \"x\"\n[agents.first]\nprogram = \"sh\"\nargs = [\"-c\", \"{first}\"]\nsandbox.enabled = false\n\
         [agents.second]\nprogram = \"sh\"\nargs = [\"-c\", \"{second}\", \"sh\", \"{{task}} {{worktree}}\"]\nfleet = {fleet}\n{more}\n{tasks}{CHECKS}"
    )
}

struct Waiting {
    room: Room,
    gate: PathBuf,
    run: Child,
    name: String,
}

impl Waiting {
    /// A run whose first agent works, and whose fleet is full.
    fn start(fleet: u32, second: &str, more: &str) -> Self {
        let room = Room::new();
        let gate = room.path().join("gate");
        room.swarm(&file(fleet, gate.to_str().unwrap(), second, more));
        let mut run = room.command(&["run", "swarm.toml", "--json", "-q"]);
        let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut waiting = Self { room, gate, run, name: String::new() };
        waiting.until("the run begins", |waiting| {
            let answer = waiting.room.quorate(&["status", "--json"]);
            let status: Value = serde_json::from_str(answer.out.trim()).unwrap_or_default();
            status["run"].as_str().unwrap_or_default().clone_into(&mut waiting.name);
            status["agents"].as_array().is_some_and(|agents| agents.len() == 1)
        });
        waiting.until("the fleet is full", |waiting| waiting.held().len() == fleet as usize);
        waiting
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !is(self) {
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::yield_now();
        }
    }

    /// Processes that wait for a program.
    fn held(&self) -> Vec<String> {
        let waits = |pid: &String| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(b"QUORATE_HOLD="))
        };
        marked(&self.name).into_iter().filter(waits).collect()
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.room.repo().join(".quorate/runs").join(&self.name).join(name)
    }

    fn finish(self) -> (Room, Value) {
        std::fs::write(&self.gate, "").unwrap();
        let answer = Answer::of(&self.run.wait_with_output().unwrap());
        let line = answer.out.lines().last().unwrap_or_else(|| panic!("{answer:?}"));
        let summary = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        (self.room, summary)
    }
}

fn launch<'a>(summary: &'a Value, task: &str) -> &'a Value {
    let agents = summary["agents"].as_array().unwrap();
    agents.iter().find(|agent| agent["task"] == task).unwrap_or_else(|| panic!("{summary:#}"))
}

fn from_the_fleet(launch: &Value) -> bool {
    let lines = launch["containment"].as_array().unwrap();
    lines.iter().any(|line| line.as_str().unwrap().starts_with("start: from the fleet"))
}

#[test]
fn a_task_is_given_to_an_agent_that_waited_and_works_on_what_has_landed_since() {
    let second = "test -e one.txt && git diff --quiet && echo $QUORATE_TASK $QUORATE_AGENT $1 $PWD > two.txt";
    let waiting = Waiting::start(1, second, "");
    let at = waiting.folder("worktrees").canonicalize().unwrap().join("second.second.1");
    let (room, summary) = waiting.finish();
    assert_eq!(summary["landed"].as_array().unwrap().len(), 2, "{summary:#}");
    let (first, second) = (launch(&summary, "first"), launch(&summary, "second"));
    assert!(!from_the_fleet(first) && from_the_fleet(second), "{summary:#}");
    let limits = |launch: &Value| {
        let lines = launch["containment"].as_array().unwrap().iter();
        lines.filter(|line| !line.as_str().unwrap().starts_with("start:")).count()
    };
    assert!(limits(second) > limits(first), "it has a sandbox, and the first has none: {summary:#}");
    let branch = summary["branch"].as_str().unwrap();
    let text = room.git(&["show", &format!("{branch}:two.txt")]);
    let at = at.display();
    assert_eq!(text, format!("second second second {at} {at}"));
    assert_eq!(room.git(&["diff", "--name-only", "main", branch]), "one.txt\ntwo.txt");
}

#[test]
fn those_that_wait_spend_nothing_and_are_gone_with_the_run() {
    let waiting = Waiting::start(1, "echo two > two.txt", "");
    let (name, worktrees) = (waiting.name.clone(), waiting.folder("worktrees"));
    let status = waiting.room.json(&["status"]);
    assert_eq!(status["agents"].as_array().unwrap().len(), 1, "{status:#}");
    let (room, summary) = waiting.finish();
    assert_eq!(summary["agents"].as_array().unwrap().len(), 2, "{summary:#}");
    assert_eq!(marked(&name), Vec::<String>::new());
    let left = std::fs::read_dir(worktrees).map_or(0, Iterator::count);
    assert_eq!(left, 0);
    drop(room);
}

#[test]
fn one_that_dies_while_it_waits_is_replaced() {
    let mut waiting = Waiting::start(1, "echo two > two.txt", "");
    let dead = waiting.held();
    assert!(Command::new("kill").args(["-KILL", &dead[0]]).status().unwrap().success());
    waiting.until("another one waits", |waiting| {
        let held = waiting.held();
        held.len() == 1 && held != dead
    });
    let (_, summary) = waiting.finish();
    assert_eq!(summary["landed"].as_array().unwrap().len(), 2, "{summary:#}");
}

#[test]
fn those_that_wait_die_with_a_killed_node_and_the_run_goes_on() {
    let mut waiting = Waiting::start(1, "echo two > two.txt", "");
    waiting.run.kill().unwrap();
    waiting.run.wait().unwrap();
    waiting.until("nobody waits any more", |waiting| waiting.held().is_empty());
    std::fs::write(&waiting.gate, "").unwrap();
    let summary = waiting.room.json(&["resume", &waiting.name, "-q"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 2, "{summary:#}");
    assert_eq!(marked(&waiting.name), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(waiting.folder("worktrees")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_fleet_that_is_not_large_enough_delays_nobody() {
    let room = Room::new();
    let tasks: String = (0..6).map(|n| format!("[[tasks]]\nid = \"t{n}\"\nagent = \"a\"\n")).collect();
    room.swarm(&format!(
        "objective = \"x\"\n[swarm]\nagents-at-once = 6\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", \"echo x > $QUORATE_TASK\"]\ncount = 6\nfleet = 2\n{tasks}{CHECKS}"
    ));
    let summary = room.json(&["run", "swarm.toml", "-q"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 6, "{summary:#}");
}

#[test]
fn a_hundred_and_fifty_agents_work_at_once() {
    let room = Room::new();
    // Each waits until all have begun, so that it is seen that they do.
    let begun = room.path().join("begun");
    std::fs::create_dir(&begun).unwrap();
    let (count, begun) = (150, begun.to_str().unwrap().to_owned());
    let script = format!(
        "echo > {begun}/$QUORATE_AGENT; set -- {begun}/*; while [ $# -lt {count} ]; do sleep 0.5; set -- {begun}/*; done"
    );
    room.swarm(&format!(
        "objective = \"x\"\n[swarm]\nagents-at-once = {count}\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", \"{script}\"]\ncount = {count}\n\
         limits = {{ wall = \"2m\" }}\nsandbox.write = [\"{begun}\"]\n[worktree]\nports-each = 0\n{CHECKS}"
    ));
    let summary = room.json(&["run", "swarm.toml", "-q"]);
    let agents = summary["agents"].as_array().unwrap();
    assert_eq!(agents.len(), count, "{summary:#}");
    assert!(agents.iter().all(|agent| agent["exit"] == "exit 0"), "{summary:#}");
}
