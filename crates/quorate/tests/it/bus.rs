//! The bus from the command line, between real processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::room::{CHECKS, Room};

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }
}

fn start(room: &Room, args: &[&str]) -> Running {
    let mut command = room.command(args);
    Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A room with its bus served.
fn served() -> (Room, Running) {
    let room = Room::new();
    assert_eq!(room.quorate(&["init"]).code, Some(0));
    let mut server = start(&room, &["bus", "serve", "--json"]);
    // It says where it is once it is there.
    let said: Value = serde_json::from_str(&line(&mut server.lines())).unwrap();
    assert!(said["socket"].as_str().unwrap().ends_with(".quorate/bus/socket"));
    (room, server)
}

#[test]
fn without_a_bus_the_command_says_how_to_start_one() {
    let room = Room::new();
    let answer = room.quorate(&["bus", "pub", "a", "x"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("quorate init"), "{}", answer.err);
    room.quorate(&["init"]);
    let answer = room.quorate(&["bus", "pub", "a", "x"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("quorate bus serve"), "{}", answer.err);
}

#[test]
fn one_process_publishes_and_another_prints() {
    let (room, _server) = served();
    let mut sub = start(&room, &["bus", "sub", "work.>", "--filter", "role = tester", "-n", "2", "--json"]);
    let mut lines = sub.lines();
    // The subscription is there when the bus knows of it.
    while room.json(&["bus", "top", "--once"])["subscriptions"].as_array().unwrap().is_empty() {}
    for (role, payload) in [("coder", "no"), ("tester", "yes"), ("tester", "again")] {
        let header = format!("role={role}");
        let answer =
            room.quorate(&["bus", "pub", "work.a", payload, "--header", &header, "--priority", "high"]);
        assert_eq!(answer.code, Some(0), "{}", answer.err);
    }
    let message: Value = serde_json::from_str(&line(&mut lines)).unwrap();
    assert_eq!((&message["topic"], &message["text"]), (&"work.a".into(), &"yes".into()));
    assert_eq!((&message["priority"], &message["headers"]["role"]), (&"high".into(), &"tester".into()));
    assert_eq!(sub.0.wait().unwrap().code(), Some(0));
    let answer = room.quorate(&["bus", "pub", "work..a", "x"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("segment 2 is empty"), "{}", answer.err);
    let answer = room.quorate(&["bus", "sub", "quiet", "--timeout", "1"]);
    assert_eq!(answer.code, Some(1));
}

#[test]
fn a_durable_stream_survives_its_server_being_killed() {
    let (room, server) = served();
    let answer = room.quorate(&["bus", "stream", "create", "work", "work.>"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    let mut publishing = start(&room, &["bus", "pub", "work.a", "--lines", "--json"]);
    let mut input = publishing.0.stdin.take().unwrap();
    for number in 0..500 {
        writeln!(input, "message {number}").unwrap();
    }
    drop(input);
    let said: Value = serde_json::from_str(&line(&mut publishing.lines())).unwrap();
    assert_eq!(said["stored"], 500);
    // Acknowledged, so there after a kill -9.
    drop(server);
    let mut server = start(&room, &["bus", "serve", "--json"]);
    line(&mut server.lines());
    let answer = room.quorate(&["bus", "sub", "--stream", "work", "--consumer", "c", "-n", "200"]);
    let expected: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    assert_eq!(answer.out.lines().collect::<Vec<_>>(), expected);
    let answer = room.quorate(&["bus", "sub", "--stream", "work", "--consumer", "c", "-n", "300"]);
    assert_eq!(answer.out.lines().next(), Some("message 200"));
    let streams = room.json(&["bus", "stream", "list"]);
    assert_eq!((&streams[0]["messages"], &streams[0]["consumers"][0]["lag"]), (&500.into(), &0.into()));
    assert_eq!(room.quorate(&["bus", "stream", "replay", "work", "c", "3"]).code, Some(1));
    assert_eq!(room.quorate(&["bus", "stream", "dead", "nothing", "c"]).code, Some(2));
}

#[test]
fn a_shell_script_needs_no_client() {
    let (room, _server) = served();
    let mut script = UnixStream::connect(room.repo().join(".quorate/bus/socket")).unwrap();
    script.write_all(b"SUB a\nPUB a hello\nQUIT\n").unwrap();
    let mut said = String::new();
    script.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("OK\n") && said.contains("OK delivered=1 refused=0 stored=0\n"), "{said}");
}

#[test]
fn a_run_is_told_on_the_bus() {
    let (room, _server) = served();
    let agent = "[agents.one]\nprogram = \"sh\"\nargs = [\"-c\", \"echo more >> notes.txt\"]\n";
    let task = "[[tasks]]\nid = \"one\"\nagent = \"one\"\nobjective = \"append\"\n";
    room.swarm(&format!("objective = \"try\"\n{agent}{task}{CHECKS}"));
    let mut sub = start(&room, &["bus", "sub", "run.>", "--json"]);
    let mut lines = sub.lines();
    while room.json(&["bus", "top", "--once"])["subscriptions"].as_array().unwrap().is_empty() {}
    let answer = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    let mut printed = answer.out.lines();
    loop {
        let told: Value = serde_json::from_str(&line(&mut lines)).unwrap();
        let event: Value = serde_json::from_str(told["text"].as_str().unwrap()).unwrap();
        let same: Value = serde_json::from_str(printed.next().unwrap()).unwrap();
        assert_eq!(event, same, "the bus tells what the run prints, in its order");
        let topic = told["topic"].as_str().unwrap();
        assert!(topic.starts_with("run.") && topic.ends_with(event["event"].as_str().unwrap()), "{topic}");
        if event["event"] == "finished" {
            break;
        }
    }
}
