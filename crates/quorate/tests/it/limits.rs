//! Runs in which agents do nothing, or too much.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::room::{Answer, CHECKS, Room};

/// Starts one process after another, 200 in all, none of which starts any itself. Whether or not anybody stops it, each
/// of them and it itself are gone after some seconds: an alarm ends them.
const BOMB: &str = "exec python3 -c '
import os, signal, time
signal.alarm(15)
for _ in range(200):
    if os.fork() == 0:
        signal.alarm(10)
        time.sleep(10)
        os._exit(0)
time.sleep(10)
'";

/// The events of the latest run.
fn events(room: &Room) -> Vec<Value> {
    let logs = room.quorate(&["logs", "--json"]);
    logs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["event"].as_str()).collect()
}

/// The first event of a name after a place, and its place.
#[track_caller]
fn after<'a>(events: &'a [Value], from: usize, name: &str) -> (usize, &'a Value) {
    let place = events.iter().enumerate().skip(from).find(|(_, event)| event["event"] == name);
    place.unwrap_or_else(|| panic!("no {name} after {from} in {:?}", names(events)))
}

fn swarm(agent: &str, more: &str) -> String {
    let checks = CHECKS.replace("\"security\"", "\"tests\"");
    format!(
        "objective = \"try\"\n[agents.worker]\nprogram = \"sh\"\n{agent}\n{more}\n[gate]\nvalidators = [\"tests\"]\n{checks}"
    )
}

#[test]
fn an_idle_agent_is_written_down_ended_and_tried_again() {
    let room = Room::new();
    let script = "test $QUORATE_ATTEMPT = 2 || sleep 1000; echo fine > new.txt";
    let limits = "attempts = 2\nlimits = { idle = \"1s\" }";
    room.swarm(&swarm(&format!("args = [\"-c\", '{script}']\n{limits}"), ""));
    let run = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.err.contains("did nothing on worker for 1s"), "{run:?}");
    let events = events(&room);
    let (idle, told) = after(&events, 0, "agent-idle");
    assert_eq!(told["attempt"], 1);
    let (ended, told) = after(&events, idle, "agent-ended");
    assert_eq!(told["outcome"]["kind"], "idle");
    let (_, told) = after(&events, ended, "agent-started");
    assert_eq!(told["attempt"], 2);
    after(&events, ended, "landed");
}

#[test]
fn a_limit_that_is_hit_is_named_where_the_run_is_told() {
    let room = Room::new();
    room.swarm(&swarm(&format!("args = [\"-c\", '''{BOMB}''']\nlimits = {{ processes = 60 }}"), ""));
    let run = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let status = room.json(&["status"]);
    assert_eq!(status["unfinished"][0]["reason"], "process limit in attempt 1 of 1", "{status:#}");
    let told = status["agents"][0]["containment"].as_array().unwrap();
    assert!(told.iter().any(|line| line.as_str().unwrap().starts_with("processes: ")), "{status:#}");
}

/// A control group of version 1 that bounds memory; removed when dropped.
struct Bounded(PathBuf);

impl Bounded {
    fn new(bytes: u64) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[2] == "cgroup" && fields[3].split(',').any(|name| name == "memory")).then_some(fields[1])
        })?;
        let group = Self(Path::new(mount).join(format!("quorate-test-{}", std::process::id())));
        std::fs::create_dir(&group.0).ok()?;
        std::fs::write(group.0.join("memory.limit_in_bytes"), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        for folder in [self.0.join("quorate"), self.0.clone()] {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

#[test]
fn a_node_short_of_memory_pauses_and_stops_an_agent_and_launches_it_again() {
    // First it takes what there is, slowly, and keeps it; the second time it does its work.
    let script = "test -e \"$1/again\" && echo fine > new.txt && exit; touch \"$1/again\"; \
        for i in 1 2 3 4 5 6 7; do (head -c 60000000 /dev/zero; sleep 1000) | tail > /dev/null & sleep 0.3; done; wait";
    let room = Room::new();
    let place = room.path().join("beside");
    std::fs::create_dir(&place).unwrap();
    let place = place.display();
    let agent = format!(
        "args = [\"-c\", '''{script}''', \"sh\", \"{place}\"]\nlimits = {{ memory = \"1GiB\" }}\n\
        sandbox = {{ write = [\"{place}\"] }}"
    );
    room.swarm(&swarm(&agent, "[node]\nmemory-warn = \"60%\"\nmemory-critical = \"40%\""));
    let Some(group) = Bounded::new(600 << 20) else {
        // Without a bound of its own, what counts is what the machine has: told, whatever it is.
        let doctor = room.json(&["doctor"]);
        assert!(doctor.as_array().unwrap().iter().any(|row| row["what"] == "memory pressure"), "{doctor:#}");
        return;
    };
    let output = Command::new("sh")
        .args(["-c", "echo $$ > \"$GROUP/cgroup.procs\" && exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_quorate"), "run", "swarm.toml"])
        .env("GROUP", &group.0)
        .current_dir(room.repo())
        .output()
        .unwrap();
    let run = Answer::of(&output);
    assert_eq!(run.code, Some(0), "{run:?}");
    let events = events(&room);
    let critical = events.iter().position(|event| event["level"] == "critical").expect("never critical");
    let (paused, told) = after(&events, critical, "agent-paused");
    assert_eq!(told["reason"], "it holds more than half of what the agents hold");
    let (stopped, told) = after(&events, paused, "agent-stopped");
    assert_eq!(told["reason"], "pausing it was not enough");
    let (ended, told) = after(&events, stopped, "agent-ended");
    assert_eq!(told["outcome"]["kind"], "memory-pressure");
    assert_ne!(told["paused"], "0s");
    let (again, told) = after(&events, ended, "agent-started");
    assert_eq!(told["attempt"], 1, "the node's want of memory is not the agent's fault");
    assert!(
        events[ended..again].iter().any(|event| event["event"] == "pressure-changed"),
        "{:?}",
        names(&events)
    );
    after(&events, again, "landed");
    assert!(run.err.contains("for want of memory"), "{run:?}");
}
