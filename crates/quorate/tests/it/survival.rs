use serde_json::Value;

use crate::room::{CHECKS, Room, marked};

/// Two agents, one good and one bad, and a panel of one: every kind of record, quickly.
fn small() -> Room {
    let room = Room::new();
    room.swarm(&format!(
        r#"objective = "try"
[agents.good]
program = "sh"
args = ["-c", "sleep 0.05; echo fine > new.txt"]
[agents.bad]
program = "sh"
args = ["-c", "echo bad > value.txt"]
[gate]
validators = ["tests"]
{}"#,
        CHECKS.replace("\"security\"", "\"tests\"")
    ));
    room
}

/// Everything that must hold once a run has come to its end, whatever happened on the way.
#[track_caller]
fn settled(room: &Room, story: &str) {
    let status = room.json(&["status"]);
    let run = status["run"].as_str().unwrap();
    assert_eq!(status["state"], "complete", "{story}: {status:#}");
    let landed = status["landed"].as_array().unwrap();
    let refused = status["refused"].as_array().unwrap();
    assert_eq!((landed.len(), refused.len()), (1, 1), "{story}: {status:#}");
    let branch = status["branch"].as_str().unwrap();
    assert_eq!(room.landed(branch).len(), 1, "{story}: nothing is done twice");
    let digest = landed[0]["certificate"].as_str().unwrap();
    let verified = room.json(&["verify", &format!(".quorate/objects/{}/{}", &digest[..2], &digest[2..])]);
    assert_eq!(verified["valid"], true, "{story}: {verified:#}");
    assert_eq!(verified["subject"]["commit"], room.git(&["rev-parse", branch]), "{story}");
    let events = room.quorate(&["logs", "--json"]).out;
    let count = |name: &str| {
        events.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["event"] == name).count()
    };
    assert_eq!((count("landed"), count("refused"), count("finished")), (1, 1, 1), "{story}");
    assert_eq!(marked(run), Vec::<String>::new(), "{story}: no process is left");
    let worktrees = room.repo().join(".quorate/runs").join(run).join("worktrees");
    let left = std::fs::read_dir(worktrees).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(left, 0, "{story}: no worktree is left");
}

/// Kills the node around its n-th record, for a stretch of n, and resumes it to the end.
fn killed_at(side: &str, from: u32, to: u32) {
    for n in from..to {
        let room = small();
        let story = format!("killed {side} record {n}");
        let output = room
            .command(&["run", "swarm.toml"])
            .env("QUORATE_TEST_DIE", format!("{side}:{n}"))
            .output()
            .unwrap();
        if output.status.code() == Some(0) {
            // The run has fewer records than this.
            settled(&room, &story);
            return;
        }
        assert_eq!(output.status.code(), None, "{story}: {}", String::from_utf8_lossy(&output.stderr));
        let resumed = room.quorate(&["resume"]);
        let finished = resumed.err.contains("nothing to resume");
        // Before the first record there is no run yet; after the last, none any more.
        if resumed.code == Some(2) && !finished {
            assert!(n <= 1, "{story}: {resumed:?}");
            continue;
        }
        assert!(resumed.code == Some(0) || finished, "{story}: {resumed:?}");
        settled(&room, &story);
    }
}

#[test]
fn a_node_killed_before_an_early_record_loses_nothing() {
    killed_at("before", 1, 11);
}

#[test]
fn a_node_killed_before_a_middle_record_loses_nothing() {
    killed_at("before", 11, 21);
}

#[test]
fn a_node_killed_before_a_late_record_loses_nothing() {
    killed_at("before", 21, 60);
}

#[test]
fn a_node_killed_after_an_early_record_loses_nothing() {
    killed_at("after", 1, 11);
}

#[test]
fn a_node_killed_after_a_middle_record_loses_nothing() {
    killed_at("after", 11, 21);
}

#[test]
fn a_node_killed_after_a_late_record_loses_nothing() {
    killed_at("after", 21, 60);
}

#[test]
fn a_run_killed_again_and_again_while_it_resumes_still_ends() {
    let room = small();
    room.command(&["run", "swarm.toml"]).env("QUORATE_TEST_DIE", "after:3").output().unwrap();
    // Not so often with an agent at work that its task is taken to be what kills the node.
    for n in [2, 3, 4, 14, 18, 22] {
        let output =
            room.command(&["resume"]).env("QUORATE_TEST_DIE", format!("after:{n}")).output().unwrap();
        if output.status.code().is_some() {
            break;
        }
    }
    let last = room.quorate(&["resume"]);
    assert!(last.code == Some(0) || last.err.contains("nothing to resume"), "{last:?}");
    settled(&room, "killed while resuming");
}

#[test]
fn a_torn_record_is_cut_and_told_and_a_damaged_one_is_refused() {
    let room = small();
    room.command(&["run", "swarm.toml"]).env("QUORATE_TEST_DIE", "after:8").output().unwrap();
    let run = room.json(&["status"])["run"].as_str().unwrap().to_owned();
    let path = room.repo().join(".quorate/runs").join(&run).join("journal");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), &[0x55; 30]].concat()).unwrap();
    assert_eq!(room.json(&["status"])["state"], "interrupted");
    let mut damaged = whole;
    damaged[100] ^= 1;
    let torn = std::fs::read(&path).unwrap();
    std::fs::write(&path, &damaged).unwrap();
    let refused = room.quorate(&["resume", &run]);
    assert_eq!(refused.code, Some(70), "{refused:?}");
    assert!(refused.err.contains("damaged at offset 32"), "{refused:?}");
    std::fs::write(&path, torn).unwrap();
    let resumed = room.quorate(&["resume"]);
    assert!(resumed.err.contains("30 bytes of a torn record cut"), "{resumed:?}");
    settled(&room, "torn");
}

#[test]
fn an_interrupt_stops_the_run_and_it_can_be_resumed() {
    let room = Room::new();
    room.swarm(&format!(
        "objective = \"try\"\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", \"[ -e ../../../../../go ] || sleep 600; echo x > x.txt\"]\n[gate]\nvalidators = [\"tests\"]\n{}",
        CHECKS.replace("\"security\"", "\"tests\"")
    ));
    let mut child = room.command(&["run", "swarm.toml", "--quiet"]).spawn().unwrap();
    while !room.quorate(&["status", "--json"]).out.contains("\"working\"") {
        std::thread::yield_now();
    }
    let second = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.err.contains("in use by run"), "{second:?}");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let status = room.json(&["status"]);
    assert_eq!(status["state"], "interrupted");
    assert_eq!(marked(status["run"].as_str().unwrap()), Vec::<String>::new());
    room.write("go", "");
    let resumed = room.json(&["resume"]);
    assert_eq!(resumed["landed"].as_array().unwrap().len(), 1, "{resumed:#}");
}

#[test]
fn a_validator_that_is_killed_is_asked_again() {
    let room = small();
    let mark = room.path().join("killed-once");
    let check = format!("[ -e {0} ] || {{ touch {0}; kill -9 $PPID; }}", mark.display());
    let text = std::fs::read_to_string(room.repo().join("swarm.toml")).unwrap();
    room.write("swarm.toml", &text.replace("grep -q good", &format!("{check}; grep -q good")));
    let answer = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(mark.exists());
    settled(&room, "validator killed");
}

#[test]
fn a_node_and_everything_it_started_killed_at_once_lose_nothing() {
    let room = Room::new();
    room.swarm(&format!(
        r#"objective = "try"
[agents.good]
program = "sh"
args = ["-c", "setsid sleep 600 & [ -e ../../../../../go ] || sleep 600; echo fine > new.txt"]
[agents.bad]
program = "sh"
args = ["-c", "echo bad > value.txt"]
[gate]
validators = ["tests"]
{}"#,
        CHECKS.replace("\"security\"", "\"tests\"")
    ));
    let mut child = room.command(&["run", "swarm.toml", "--quiet"]).spawn().unwrap();
    let working = |status: &str| status.contains("\"working\"") && status.contains("\"refused\":[{");
    while !working(&room.quorate(&["status", "--json"]).out) {
        std::thread::yield_now();
    }
    let run = room.json(&["status"])["run"].as_str().unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    room.write("go", "");
    let resumed = room.quorate(&["resume"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(marked(&run), Vec::<String>::new());
    settled(&room, "everything killed");
}
