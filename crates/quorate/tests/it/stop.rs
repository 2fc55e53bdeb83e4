//! Ending what is at work.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::room::{Answer, CHECKS, Room, marked};

/// Four agents that do not care to be asked, each with a child in a session of its own.
fn stubborn() -> String {
    let script = "trap '' TERM INT; setsid sleep 300 & echo begun > begun.txt; while :; do sleep 1; done";
    format!(
        "objective = \"stay\"\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", \"{script}\"]\ncount = 4\n{CHECKS}"
    )
}

/// With a folder of its own for nodes, so that it finds no others.
fn command(room: &Room, nodes: &Path, args: &[&str]) -> Command {
    let mut command = room.command(args);
    command.env("XDG_STATE_HOME", nodes);
    command
}

fn start(room: &Room, nodes: &Path) -> Child {
    let mut run = command(room, nodes, &["run", "swarm.toml", "-q"]);
    run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until all four agents of the run have begun, and answers its name.
fn begun(room: &Room, nodes: &Path) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < end, "the agents do not begin");
        let answer = Answer::of(&command(room, nodes, &["status", "--json"]).output().unwrap());
        if let Ok(status) = serde_json::from_str::<Value>(answer.out.trim())
            && let Some(run) = status["run"].as_str()
            // A shell and two sleeps each.
            && marked(run).len() >= 12
        {
            return run.to_owned();
        }
        std::thread::yield_now();
    }
}

#[test]
fn everything_ends_in_every_workspace_and_can_be_taken_up_again() {
    let nodes = tempfile::tempdir().unwrap();
    let rooms = [Room::new(), Room::new()];
    let mut runs = Vec::new();
    for room in &rooms {
        room.swarm(&stubborn());
        runs.push(start(room, nodes.path()));
    }
    let names = rooms.each_ref().map(|room| begun(room, nodes.path()));
    let answer =
        Answer::of(&command(&rooms[0], nodes.path(), &["stop", "--all", "--json"]).output().unwrap());
    let rows: Vec<Value> = serde_json::from_str(answer.out.trim()).unwrap_or_else(|_| panic!("{answer:?}"));
    assert_eq!((answer.code, rows.len()), (Some(0), 2), "{answer:?}");
    for (mut run, name) in runs.into_iter().zip(&names) {
        let code = run.wait().unwrap().code();
        assert_eq!(marked(name), Vec::<String>::new(), "nothing of {name} is left");
        let row = rows.iter().find(|row| row["run"] == **name).unwrap();
        // A machine that is busy with other tests may not leave it the time it is given.
        let expected = if code == Some(5) { "stopped" } else { "killed" };
        assert_eq!(row["ended"], expected, "{code:?} {row}");
    }
    let status = rooms[0].json(&["status"]);
    assert_eq!(status["state"], "interrupted");
    let again = Answer::of(&command(&rooms[0], nodes.path(), &["stop", "--all"]).output().unwrap());
    assert_eq!((again.code, again.out.trim()), (Some(0), "no node of yours is at work"));
}

#[test]
fn a_node_that_cannot_be_asked_is_killed_and_its_agents_with_it() {
    let (nodes, room, other) = (tempfile::tempdir().unwrap(), Room::new(), Room::new());
    room.swarm(&stubborn());
    other.swarm(&stubborn());
    let (mut run, mut bystander) = (start(&room, nodes.path()), start(&other, nodes.path()));
    let names = [begun(&room, nodes.path()), begun(&other, nodes.path())];
    // A stopped process takes no signal but the last.
    let pid = i32::try_from(run.id()).unwrap();
    let stopped = Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
    assert!(stopped.success());
    let answer = Answer::of(&command(&room, nodes.path(), &["stop", "--json"]).output().unwrap());
    let rows: Vec<Value> = serde_json::from_str(answer.out.trim()).unwrap_or_else(|_| panic!("{answer:?}"));
    assert_eq!((rows.len(), &rows[0]["ended"]), (1, &Value::from("killed")), "{answer:?}");
    assert!(!run.wait().unwrap().success());
    assert_eq!(marked(&names[0]), Vec::<String>::new());
    assert!(marked(&names[1]).len() >= 12, "the other workspace's agents go on");
    let by_name = Answer::of(&command(&room, nodes.path(), &["stop", &names[1]]).output().unwrap());
    assert!(by_name.code == Some(0) && by_name.out.contains("stopped after"), "{by_name:?}");
    assert_eq!(bystander.wait().unwrap().code(), Some(5));
    let nobody = Answer::of(&command(&room, nodes.path(), &["stop", "none"]).output().unwrap());
    assert!(nobody.code == Some(2) && nobody.err.contains("no node works on run none"), "{nobody:?}");
}
