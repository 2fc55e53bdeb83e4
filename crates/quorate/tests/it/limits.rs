//! Runs in which agents do nothing, or too much.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::room::{Answer, CHECKS, Room, marked};

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

/// A run of one agent, a shell that is told a folder in which it may write: what the journal says of its end.
#[track_caller]
fn launch(room: &Room, script: &str, limits: &str) -> (Value, Answer) {
    let beside = room.path().join("beside");
    std::fs::create_dir_all(&beside).unwrap();
    room.swarm(&swarm(&shell(script, &beside, limits), ""));
    let run = room.quorate(&["run", "swarm.toml"]);
    let events = events(room);
    let started = names(&events).into_iter().filter(|name| *name == "agent-started").count();
    assert_eq!(started, 1, "{run:?}");
    (after(&events, 0, "agent-ended").1.clone(), run)
}

fn shell(script: &str, beside: &Path, limits: &str) -> String {
    let beside = beside.display();
    format!(
        "args = [\"-c\", '''{script}''', \"sh\", \"{beside}\"]\nsandbox = {{ write = [\"{beside}\"] }}\n\
        limits = {{ {limits} }}"
    )
}

fn holds(ended: &Value, what: &str) -> bool {
    let lines = ended["containment"].as_array().unwrap();
    lines.iter().any(|line| line.as_str().unwrap().starts_with(what))
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Takes 400 MiB, and keeps them for some seconds at most.
const MEMORY: &str = "exec python3 -c '
import signal, time
signal.alarm(15)
taken = [bytearray(8 << 20) for _ in range(50)]
time.sleep(15)
'";

/// Writes 128 MB in 64 files.
const DISK: &str = "mkdir a; for i in 1 2 3 4 5 6 7 8; do for j in 1 2 3 4 5 6 7 8; do \
    head -c 2000000 /dev/zero > a/$i$j; done; done; sleep 15";

/// Hears nothing of what it is asked, for eighteen seconds.
const STUBBORN: &str = "trap \"\" TERM HUP INT; for i in 1 2 3 4 5 6 7 8 9; do sleep 2; done";

/// What each of those below takes has an end, whether or not anybody stops it.
#[track_caller]
fn is_ended(script: &str, limits: &str, kind: &str, held: &str) {
    let room = Room::new();
    let (ended, run) = launch(&room, script, limits);
    assert_eq!(ended["outcome"]["kind"], kind, "{ended:#}");
    assert!(holds(&ended, held), "{ended:#}");
    assert_eq!(run.code, Some(1), "{run:?}");
    let status = room.json(&["status"]);
    assert_eq!(marked(status["run"].as_str().unwrap()), Vec::<String>::new());
}

#[test]
fn a_hog_of_memory_is_ended() {
    is_ended(MEMORY, "memory = \"128MiB\", wall = \"25s\"", "memory-limit", "memory: ");
}

#[test]
fn a_hog_of_processes_is_ended() {
    is_ended(BOMB, "processes = 60, wall = \"25s\"", "process-limit", "processes: ");
}

#[test]
fn a_hog_of_processors_is_ended() {
    let script = "ulimit -t 15; while :; do :; done";
    is_ended(script, "cpu = \"400ms\", wall = \"40s\"", "cpu-limit", "cpu: ");
}

#[test]
fn a_flood_of_output_is_ended() {
    let script = "head -c 200000000 /dev/zero; sleep 15";
    is_ended(script, "output = \"64MiB\", wall = \"25s\"", "output-limit", "output: ");
}

#[test]
fn a_hog_of_the_disk_is_ended_in_its_temporary_folder_too() {
    for folder in [".", "$TMPDIR"] {
        let script = format!("cd {folder}; {DISK}");
        is_ended(&script, "disk = \"32MiB\", wall = \"25s\"", "disk-limit", "disk: ");
    }
}

#[test]
fn an_agent_past_its_wall_time_is_ended_whether_it_listens_or_not() {
    for script in ["sleep 15", STUBBORN] {
        is_ended(script, "wall = \"500ms\"", "wall-limit", "tree: ");
    }
}

#[test]
fn an_idle_agent_without_another_attempt_is_given_up() {
    is_ended("sleep 15", "idle = \"1s\", wall = \"25s\"", "idle", "idle: ");
}

#[test]
fn a_hog_of_descriptors_is_refused_more_and_goes_on() {
    let script = "exec python3 -c '
import os
taken = []
try:
    while len(taken) < 5000:
        taken.append(os.open(\"/dev/null\", 0))
except OSError as error:
    reason = error.errno
for one in taken:
    os.close(one)
print(len(taken), reason, file=open(\"new.txt\", \"w\"))
'";
    let room = Room::new();
    let (ended, run) = launch(&room, script, "open-files = 64, wall = \"25s\"");
    assert_eq!(ended["outcome"], serde_json::json!({ "kind": "exited", "code": 0 }), "{ended:#}");
    assert!(holds(&ended, "open files: RLIMIT_NOFILE"), "{ended:#}");
    assert_eq!(run.code, Some(0), "{run:?}");
    let branch = room.json(&["status"])["branch"].as_str().unwrap().to_owned();
    let told = room.git(&["show", &format!("{branch}:new.txt")]);
    let (count, reason) = told.split_once(' ').unwrap();
    assert!(count.parse::<u32>().unwrap() < 64 && reason == "24", "{told}");
}

#[test]
fn a_daemon_that_leaves_everything_behind_ends_with_its_agent() {
    // Forks twice into a session of its own with an empty environment, and lives for a minute at most.
    let daemon = "(setsid env -i /bin/sh -c \"trap : TERM HUP; echo \\$\\$ > $1/daemon; \
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do /bin/sleep 5; done\" > /dev/null 2>&1 &); \
        while ! test -s $1/daemon; do sleep 0.05; done; ";
    for (end, wall, kind) in [("echo fine > new.txt", "25s", "exited"), ("sleep 15", "5s", "wall-limit")] {
        let room = Room::new();
        let (ended, _) = launch(&room, &format!("{daemon}{end}"), &format!("wall = \"{wall}\""));
        assert_eq!(ended["outcome"]["kind"], kind, "{ended:#}");
        let pid = std::fs::read_to_string(room.path().join("beside/daemon")).unwrap();
        assert!(!is_alive(&pid), "{ended:#}");
    }
}

#[test]
fn an_agent_that_waits_for_none_of_its_children_leaves_none_behind() {
    let script = "exec python3 -c '
import os, sys
with open(sys.argv[1] + \"/children\", \"w\") as told:
    for i in range(60):
        child = os.fork()
        if child == 0:
            os._exit(0)
        print(child, file=told)
open(\"new.txt\", \"w\").write(\"fine\")
' $1";
    let room = Room::new();
    let (ended, run) = launch(&room, script, "wall = \"25s\"");
    assert_eq!(ended["outcome"]["kind"], "exited", "{ended:#}");
    assert_eq!(run.code, Some(0), "{run:?}");
    let children = std::fs::read_to_string(room.path().join("beside/children")).unwrap();
    assert_eq!(children.lines().count(), 60);
    for child in children.lines() {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        assert!(!name.starts_with("python"), "{child}");
    }
}

#[test]
fn an_agent_that_closes_its_output_is_bounded_and_its_work_counts() {
    for (script, wall, kind) in [("echo fine > new.txt", "25s", "exited"), ("sleep 15", "1s", "wall-limit")] {
        let room = Room::new();
        let (ended, _) =
            launch(&room, &format!("exec < /dev/null >&- 2>&-; {script}"), &format!("wall = \"{wall}\""));
        assert_eq!(ended["outcome"]["kind"], kind, "{ended:#}");
        assert_eq!((&ended["stdout"], &ended["stderr"]), (&Value::Null, &Value::Null), "{ended:#}");
    }
}

#[test]
fn what_a_killed_node_left_is_ended_when_its_run_goes_on() {
    // The first time it leaves a daemon that lives for a minute at most; the second time it does its work.
    let script = "if test -e $1/daemon; then echo fine > new.txt; exit; fi; \
        (setsid sh -c \"echo \\$\\$ > $1/daemon; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5; done\" &); sleep 15";
    let room = Room::new();
    let beside = room.path().join("beside");
    std::fs::create_dir(&beside).unwrap();
    room.swarm(&swarm(&shell(script, &beside, "wall = \"25s\""), ""));
    let mut node = room.command(&["run", "swarm.toml"]).stderr(Stdio::null()).spawn().unwrap();
    let daemon = beside.join("daemon");
    while !std::fs::metadata(&daemon).is_ok_and(|file| file.len() > 0) {
        assert_eq!(node.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    node.kill().unwrap();
    node.wait().unwrap();
    let pid = std::fs::read_to_string(&daemon).unwrap();
    assert!(is_alive(&pid), "it has to outlive the node for this to be a test");
    let run = room.quorate(&["resume"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!is_alive(&pid), "{run:?}");
    let events = events(&room);
    let (resumed, told) = after(&events, 0, "resumed");
    assert!(told["orphans"].as_u64().unwrap() >= 1, "{told:#}");
    let (lost, _) = after(&events, resumed, "agent-lost");
    let (_, told) = after(&events, lost, "agent-started");
    assert_eq!(told["attempt"], 1);
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
        "args = [\"-c\", '''{script}''', \"sh\", \"{place}\"]\nlimits = {{ memory = \"1GiB\", idle = \"2s\" }}\n\
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
        .env("XDG_STATE_HOME", room.state())
        .current_dir(room.repo())
        .output()
        .unwrap();
    let run = Answer::of(&output);
    assert_eq!(run.code, Some(0), "{run:?}");
    let events = events(&room);
    let critical = events.iter().position(|event| event["level"] == "critical").expect("never critical");
    let (paused, told) = after(&events, critical, "agent-paused");
    let because = |told: &Value, why: &str| {
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("for want of memory: {why}; it holds ")), "{told:#}");
    };
    because(told, "it holds more than half of what the agents hold");
    let (stopped, told) = after(&events, paused, "agent-stopping");
    because(told, "pausing it was not enough");
    let (ended, told) = after(&events, stopped, "agent-ended");
    // It did nothing for longer than it may, but not of its own will.
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
