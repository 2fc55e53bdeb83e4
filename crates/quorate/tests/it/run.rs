use serde_json::Value;

use crate::room::{CHECKS, Room};

/// Agents by what they do: good, good elsewhere, in conflict with the first, breaking a test, leaking, doing nothing,
/// crashing once.
fn swarm(gate: &str) -> String {
    let agents = [
        ("append", "echo eight >> notes.txt"),
        ("header", "sed -i 's/^one$/ONE/' notes.txt"),
        ("rival", "sed -i 's/^one$/uno/' notes.txt"),
        ("breaker", "echo bad > value.txt"),
        ("leaker", "printf 'key = \\\"%s%s\\\"\\n' AKIA Q7ZK4XN2VW3TB6LM > conf.txt"),
        ("idler", "true"),
        ("phoenix", "echo half > new.txt; [ $QUORATE_ATTEMPT = 2 ] || kill -9 $$; echo whole > new.txt"),
    ];
    let mut text = String::from("objective = \"try\"\n[swarm]\nagents-at-once = 3\n");
    for (name, script) in agents {
        text.push_str(&format!(
            "[agents.{name}]\nprogram = \"sh\"\nargs = [\"-c\", \"{script}\"]\nattempts = 2\nlimits = {{ wall = \"20s\" }}\n"
        ));
    }
    for (name, _) in agents {
        let after = if name == "rival" { "after = [\"header\"]\n" } else { "" };
        text.push_str(&format!(
            "[[tasks]]\nid = \"{name}\"\nagent = \"{name}\"\nobjective = \"{name}\"\n{after}"
        ));
    }
    text.push_str(gate);
    text.push_str(CHECKS);
    // The rival does not wait in this file, so that it works on what the header changes too.
    text.replace("after = [\"header\"]\n", "")
}

fn names(summary: &Value, list: &str, key: &str) -> Vec<String> {
    let mut names: Vec<String> =
        summary[list].as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn good_changes_land_and_bad_ones_are_refused_with_evidence() {
    let room = Room::new();
    room.swarm(&swarm(""));
    let before = (room.git(&["rev-parse", "HEAD"]), std::fs::read(room.repo().join(".git/index")).unwrap());
    let summary = room.json(&["run", "swarm.toml"]);
    let landed = names(&summary, "landed", "change");
    assert!(landed.contains(&"append".to_owned()) && landed.contains(&"phoenix".to_owned()), "{summary:#}");
    let rivals = landed.iter().filter(|name| ["header", "rival"].contains(&name.as_str())).count();
    assert_eq!(rivals, 1, "of two that exclude each other one lands: {summary:#}");
    let refused = names(&summary, "refused", "change");
    assert!(refused.contains(&"breaker".to_owned()) && refused.contains(&"leaker".to_owned()), "{summary:#}");
    for change in summary["refused"].as_array().unwrap() {
        let check = match change["change"].as_str().unwrap() {
            "breaker" => "tests",
            "leaker" => "secrets",
            _ => "merge",
        };
        assert_eq!(change["check"], check, "{change:#}");
        assert!(!change["evidence"].as_array().unwrap().is_empty(), "{change:#}");
    }
    assert_eq!(names(&summary, "unfinished", "task"), ["idler"]);
    let branch = summary["branch"].as_str().unwrap();
    let order: Vec<_> = summary["landed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["change"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(room.landed(branch), order);
    assert_eq!(room.git(&["show", &format!("{branch}:new.txt")]), "whole");
    let after = (room.git(&["rev-parse", "HEAD"]), std::fs::read(room.repo().join(".git/index")).unwrap());
    assert_eq!(before, after, "the user's own head and index are as they were");
    assert_eq!(room.git(&["status", "--porcelain"]), "");
    for change in summary["landed"].as_array().unwrap() {
        let digest = change["certificate"].as_str().unwrap();
        let path = format!(".quorate/objects/{}/{}", &digest[..2], &digest[2..]);
        let verified = room.json(&["verify", &path]);
        assert_eq!(verified["valid"], true, "{verified:#}");
        assert_eq!(verified["subject"]["commit"], change["commit"]);
    }
}

#[test]
fn every_listing_tells_the_same_story() {
    let room = Room::new();
    room.swarm(&swarm("[gate]\nvalidators = [\"tests\", \"security\", \"third\", \"fourth\"]\n"));
    let summary = room.json(&["run", "swarm.toml"]);
    let status = room.json(&["status"]);
    assert_eq!(status["landed"], summary["landed"]);
    assert_eq!((&status["state"], &status["node"]), (&Value::from("complete"), &Value::from(false)));
    let changes = room.json(&["change", "list"]);
    let landed = changes.as_array().unwrap().iter().filter(|change| change["state"] == "landed").count();
    assert_eq!(landed, summary["landed"].as_array().unwrap().len());
    let shown = room.json(&["change", "show", "breaker"]);
    let statuses: Vec<_> =
        shown["records"].as_array().unwrap().iter().map(|record| record["status"].clone()).collect();
    assert!(statuses.contains(&Value::from("fail")), "{shown:#}");
    let ballot = room.json(&["ballot", "show", "leaker"]);
    assert_eq!(ballot["verdict"], "FAIL");
    assert!(ballot["votes"].as_array().unwrap().iter().all(|vote| vote["choice"] == "FAIL"), "{ballot:#}");
    let logs = room.quorate(&["logs", "--json"]);
    let events: Vec<Value> = logs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "run-started");
    assert_eq!(events.last().unwrap()["event"], "finished");
    for args in
        [&["status", "--all"][..], &["ballot", "list"], &["change", "show", "append"], &["logs"], &["status"]]
    {
        let answer = room.quorate(args);
        assert_eq!(answer.code, Some(0), "{args:?}: {answer:?}");
    }
}

#[test]
fn a_secret_an_agent_prints_is_kept_nowhere() {
    let room = Room::new();
    let secret = format!("very-{}-secret", "hush7261");
    room.swarm(&format!(
        "objective = \"try\"\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", \"echo $MY_API_KEY; echo $MY_API_KEY >&2; exit 3\"]\nsecrets = [\"MY_API_KEY\"]\n{CHECKS}"
    ));
    let output = room.command(&["run", "swarm.toml"]).env("MY_API_KEY", &secret).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let kept = std::process::Command::new("grep")
        .args(["-rlF", &secret, ".quorate"])
        .current_dir(room.repo())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
    let words = room.quorate(&["logs", "--output", "a"]);
    assert!(words.out.contains("[redacted]"), "{words:?}");
}

#[test]
fn a_dependent_task_starts_from_what_landed_and_not_without_it() {
    let room = Room::new();
    room.swarm(&format!(
        r#"objective = "try"
[agents.first]
program = "sh"
args = ["-c", "echo first > first.txt"]
[agents.second]
program = "sh"
args = ["-c", "cat first.txt > second.txt"]
[agents.bad]
program = "sh"
args = ["-c", "echo bad > value.txt"]
[[tasks]]
id = "two"
agent = "second"
after = ["one"]
[[tasks]]
id = "one"
agent = "first"
[[tasks]]
id = "three"
agent = "bad"
[[tasks]]
id = "four"
agent = "second"
after = ["three"]
{CHECKS}"#
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(names(&summary, "landed", "change"), ["one", "two"], "{summary:#}");
    assert_eq!(summary["unfinished"][0]["outcome"], "blocked", "{summary:#}");
}
