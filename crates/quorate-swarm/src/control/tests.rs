use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use quorate_base::{AgentId, Digest, GitOid, RunId, TaskId, Timestamp};

use super::door::{Asked, Door, connect, line};
use super::*;
use crate::budget::Amount;
use crate::decide::decide;
use crate::record::{Record, RunKind, RunStarted, Stamped, TaskOutcome};
use crate::spec::file;
use crate::state::{State, TaskState};

fn oid(text: &str) -> GitOid {
    Digest::of(text.as_bytes()).to_string()[..40].parse().unwrap()
}

/// Two agents `a-1` and `a-2`, one of them at a time, and three tasks for them.
fn state(schedule: &str) -> State {
    let mut text = format!(
        "objective = \"x\"\n[swarm]\nagents-at-once = 1\nschedule = \"{schedule}\"\n[agents.a]\nprogram = \"a\"\ncount = 2\n"
    );
    for n in 0..3 {
        text.push_str(&format!(
            "[[tasks]]\nid = \"t{n}\"\nagent = \"a\"\nestimate = \"{}m\"\ndeadline = \"{}h\"\n",
            n + 1,
            n + 1
        ));
    }
    let started = RunStarted {
        run: RunId::new("r").unwrap(),
        kind: RunKind::Swarm,
        spec: file::parse("x", &text, &BTreeMap::new()).unwrap().spec,
        repository: String::new(),
        swarm_dir: String::new(),
        base: oid("base"),
        base_tree: oid("tree"),
        branch: "b".into(),
        electorate: Vec::new(),
        quorate_version: "0".into(),
        spent_today: Amount::default(),
    };
    let record = Record::RunStarted(Box::new(started));
    State::begin(&Stamped { seq: 0, time: Timestamp(0), record }).unwrap()
}

fn apply(state: &mut State, record: Record) {
    let stamped = Stamped { seq: 9, time: Timestamp(state.last_at.0 + 1), record };
    state.apply(&stamped).unwrap();
}

/// Everything that follows.
fn conclude(state: &mut State) {
    loop {
        let records = decide(state, Timestamp(state.last_at.0 + 1));
        if records.is_empty() {
            return;
        }
        records.into_iter().for_each(|record| apply(state, record));
    }
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

/// With `a-1` at work on the first task.
fn at_work() -> State {
    let mut state = state("fifo");
    conclude(&mut state);
    apply(&mut state, Record::AgentStarted { agent: agent("a-1"), task: task("t0"), attempt: 1, pid: 7 });
    state
}

fn command(word: &str, of: &str) -> Command {
    let reason = String::from("why not");
    match word {
        "pause" => Command::Pause { agent: agent(of), reason },
        "continue" => Command::Continue { agent: agent(of), reason },
        "relaunch" => Command::Relaunch { agent: agent(of), reason },
        "stop" => Command::Stop { agent: agent(of), reason },
        "drain" => Command::Drain { agent: agent(of), reason },
        "release" => Command::Release { agent: agent(of), reason },
        "cancel" => Command::Cancel { task: task(of), reason },
        _ => unreachable!("{word}"),
    }
}

/// The phases of the agent after these commands, or where it was when one was refused.
fn phases(commands: &str, mut state: State) -> String {
    let mut told = Vec::new();
    for word in commands.split(' ') {
        match judge(&state, &command(word, "a-1")) {
            Ok(records) => {
                records.into_iter().for_each(|record| apply(&mut state, record));
                told.push(state.crew.get(&agent("a-1")).unwrap().phase.name().to_owned());
            }
            Err(Refusal::Phase { phase, .. }) => told.push(format!("!{}", phase.name())),
            Err(other) => panic!("{other:?}"),
        }
    }
    told.join(" ")
}

#[test]
fn every_command_makes_its_move_from_where_it_makes_sense_and_is_refused_elsewhere() {
    for (commands, expected) in [
        ("continue release", "!working !working"),
        ("pause pause release continue", "paused !paused !paused working"),
        ("pause relaunch relaunch continue pause", "paused stopping !stopping !stopping !stopping"),
        ("drain drain pause relaunch release", "draining !draining !draining !draining !draining"),
        ("drain stop stop", "draining draining !draining"),
        ("pause drain continue", "paused draining !draining"),
        ("relaunch stop stop", "stopping draining !draining"),
        ("stop stop drain", "draining !draining !draining"),
    ] {
        assert_eq!(phases(commands, at_work()), expected, "{commands}");
    }
    for (commands, expected) in [
        ("pause continue relaunch release", "!created !created !created !created"),
        ("stop stop drain pause relaunch release", "stopped !stopped !stopped !stopped !stopped idle"),
        ("drain release drain", "stopped idle stopped"),
        ("stop release stop", "stopped idle stopped"),
    ] {
        assert_eq!(phases(commands, state("fifo")), expected, "{commands}");
    }
}

#[test]
fn an_agent_that_was_benched_and_is_drained_by_hand_is_not_fetched_back() {
    let mut state = state("fifo");
    apply(&mut state, Record::AgentBenched { agent: agent("a-2"), reason: "nothing to do".into() });
    let benched = |state: &State| state.crew.get(&agent("a-2")).unwrap().benched;
    assert!(benched(&state));
    for record in judge(&state, &command("drain", "a-2")).unwrap() {
        apply(&mut state, record);
    }
    assert!(!benched(&state));
    assert!(matches!(judge(&state, &command("drain", "a-2")), Err(Refusal::Phase { .. })));
}

#[test]
fn an_agent_that_is_stopped_is_told_to_end_and_takes_nothing_after_that() {
    let mut state = at_work();
    for record in judge(&state, &command("stop", "a-1")).unwrap() {
        apply(&mut state, record);
    }
    assert_eq!(crate::plan::stopping(&state).collect::<Vec<_>>(), [&task("t0")]);
}

#[test]
fn time_in_which_an_agent_was_halted_is_counted_until_its_next_launch() {
    let mut state = at_work();
    let paused = |state: &State, at| state.crew.get(&agent("a-1")).unwrap().paused_by(Timestamp(at)).0;
    let tell = |state: &mut State, at, word: &str| {
        for record in judge(state, &command(word, "a-1")).unwrap() {
            state.apply(&Stamped { seq: 9, time: Timestamp(at), record }).unwrap();
        }
    };
    tell(&mut state, 100, "pause");
    assert_eq!(paused(&state, 130), 30);
    tell(&mut state, 150, "continue");
    tell(&mut state, 200, "pause");
    assert_eq!(paused(&state, 205), 55);
    tell(&mut state, 210, "drain");
    assert_eq!(paused(&state, 900), 60);
}

#[test]
fn a_task_is_cancelled_once_and_only_while_it_is_open() {
    let mut state = at_work();
    for id in ["t0", "t1"] {
        judge(&state, &command("cancel", id))
            .unwrap()
            .into_iter()
            .for_each(|record| apply(&mut state, record));
        assert!(matches!(judge(&state, &command("cancel", id)), Err(Refusal::Task { .. })), "{id}");
    }
    conclude(&mut state);
    let closed = TaskState::Closed { outcome: TaskOutcome::Cancelled { reason: "why not".into() } };
    assert_eq!(state.tasks[&task("t1")], closed);
    let Err(Refusal::Task { is, .. }) = judge(&state, &command("cancel", "t1")) else { panic!() };
    assert_eq!(is, "is cancelled");
}

/// The task that starts first after one was given another priority.
fn first(schedule: &str, id: &str, priority: Priority) -> String {
    let mut state = state(schedule);
    let command = Command::Prioritise { task: task(id), priority };
    judge(&state, &command).unwrap().into_iter().for_each(|record| apply(&mut state, record));
    let records = decide(&state, Timestamp(20));
    let Some(Record::AgentStarting { task, .. }) = records.first() else { panic!("{records:?}") };
    task.to_string()
}

#[test]
fn another_priority_changes_who_starts_first_whatever_the_schedule() {
    for schedule in ["fifo", "priority", "deadline", "shortest", "critical-path"] {
        let usual = first(schedule, "t1", Priority::Normal);
        assert_eq!(usual, if schedule == "critical-path" { "t2" } else { "t0" }, "{schedule}");
        assert_eq!(first(schedule, "t1", Priority::High), "t1", "{schedule}");
        assert_eq!(first(schedule, "t1", Priority::Critical), "t1", "{schedule}");
        assert_ne!(first(schedule, &usual, Priority::Low), usual, "{schedule}");
        assert_ne!(first(schedule, &usual, Priority::Background), usual, "{schedule}");
    }
}

#[test]
fn who_and_what_is_not_there_is_named_and_a_reason_is_plain_text() {
    let mut state = at_work();
    assert!(matches!(judge(&state, &command("pause", "b")), Err(Refusal::NoAgent { .. })));
    assert!(matches!(judge(&state, &command("cancel", "t9")), Err(Refusal::NoTask { .. })));
    for reason in ["x".repeat(REASON_LEN_MAX + 1), "a\u{1b}[2J".into(), "a\nb".into()] {
        let command = Command::Drain { agent: agent("a-1"), reason };
        assert!(matches!(judge(&state, &command), Err(Refusal::Malformed { .. })));
    }
    apply(&mut state, Record::Finished { outcome: crate::record::RunOutcome::WallLimit });
    assert!(matches!(judge(&state, &command("drain", "a-1")), Err(Refusal::Finished { .. })));
}

#[test]
fn a_request_on_the_wire_stays_what_it_is() {
    let request = Request { run: RunId::new("r").unwrap(), ask: Ask::Do(command("pause", "a-1")) };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(text, r#"{"run":"r","ask":{"do":{"pause":{"agent":"a-1","reason":"why not"}}}}"#);
    assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    let usage = Request { run: RunId::new("r").unwrap(), ask: Ask::Usage };
    assert_eq!(serde_json::to_string(&usage).unwrap(), r#"{"run":"r","ask":"usage"}"#);
    let reply = Reply::Refused(Refusal::Busy);
    assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"refused":{"why":"busy"}}"#);
}

/// A door behind which nobody is told anything but what `hear` does.
fn door(hear: impl Fn(Asked) + Clone + Send + 'static) -> (tempfile::TempDir, Door) {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::open(&folder.path().join("control"), hear).unwrap();
    (folder, door)
}

fn say(folder: &tempfile::TempDir, bytes: &[u8]) -> Reply {
    let mut stream: UnixStream = connect(&folder.path().join("control")).unwrap();
    // It may be refused before it has been said.
    let _ = stream.write_all(bytes);
    let answer = line(&stream, 1 << 20, std::time::Duration::from_secs(20)).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn only_whole_requests_that_mean_something_reach_the_node() {
    let (heard, hearing) = mpsc::channel();
    let (folder, door) = door(move |asked: Asked| {
        asked.answer(Reply::Done { records: vec![1] });
        heard.send(asked.request).unwrap();
    });
    let mode = std::fs::metadata(folder.path().join("control")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let huge = vec![b'a'; REQUEST_LEN_MAX * 4];
    let strange: &[&[u8]] = &[
        b"\n",
        b"hello\n",
        b"\xff\xfe\0\n",
        b"{}\n",
        br#"{"run":"../x","ask":"usage"}
"#,
        br#"{"run":"r","ask":{"do":{"pause":{"agent":"A B","reason":""}}}}
"#,
        br#"{"run":"r","ask":{"do":{"pause":{"agent":"a","reason":"","force":true}}}}
"#,
        br#"{"run":"r","ask":{"do":{"explode":{"agent":"a","reason":""}}}}
"#,
        &huge,
    ];
    for bytes in strange {
        let reply = say(&folder, bytes);
        assert!(matches!(reply, Reply::Refused(Refusal::Malformed { .. })), "{reply:?}");
    }
    assert!(hearing.try_recv().is_err(), "nothing of it was heard");
    let fine = b"{\"run\":\"r\",\"ask\":\"usage\"}\n";
    assert_eq!(say(&folder, fine), Reply::Done { records: vec![1] });
    assert_eq!(hearing.recv().unwrap().ask, Ask::Usage);
    drop(door);
    assert!(!folder.path().join("control").exists());
}

#[test]
fn one_guest_too_many_is_told_so_and_a_node_that_ends_tells_those_who_wait() {
    // Kept, and so neither answered nor refused.
    let (heard, hearing) = mpsc::channel();
    let (folder, door) = door(move |asked| heard.send(asked).unwrap());
    let fine = b"{\"run\":\"r\",\"ask\":\"usage\"}\n";
    let mut guests = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..16 {
        let mut stream = connect(&folder.path().join("control")).unwrap();
        stream.write_all(fine).unwrap();
        guests.push(stream);
        kept.push(hearing.recv().unwrap());
    }
    assert_eq!(say(&folder, fine), Reply::Refused(Refusal::Busy));
    drop((door, kept));
    for guest in guests {
        let answer = line(&guest, 1 << 20, std::time::Duration::from_secs(20)).unwrap();
        assert_eq!(serde_json::from_slice::<Reply>(&answer).unwrap(), Reply::Refused(Refusal::Ending));
    }
}

#[test]
fn a_door_at_the_end_of_a_long_path_opens_too_and_replaces_what_a_dead_node_left() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(200));
    std::fs::create_dir(&long).unwrap();
    let path = long.join("control");
    std::fs::write(&path, "left").unwrap();
    let _door = Door::open(&path, |asked: Asked| asked.answer(Reply::Done { records: Vec::new() })).unwrap();
    let mut stream = connect(&path).unwrap();
    stream.write_all(b"{\"run\":\"r\",\"ask\":\"usage\"}\n").unwrap();
    assert_eq!(
        line(&stream, 100, std::time::Duration::from_secs(20)).unwrap(),
        br#"{"done":{"records":[]}}"#
    );
}
