//! The memory from the command line, by several processes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::room::Room;

fn room() -> Room {
    let room = Room::new();
    assert_eq!(room.quorate(&["init"]).code, Some(0));
    room
}

fn memory(room: &Room, args: &[&str]) -> crate::room::Answer {
    room.quorate(&[&["memory"], args].concat())
}

#[test]
fn what_one_process_remembers_another_knows() {
    let room = room();
    let answer = memory(&room, &["set", "plan/next", "write tests", "--tag", "plan"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert_eq!(memory(&room, &["get", "plan/next"]).out, "write tests\n");
    let found = room.json(&["memory", "get", "plan/next"]);
    assert_eq!((&found["owner"], &found["tags"][0]), (&"operator".into(), &"plan".into()));
    assert_eq!(found["content_type"], "text/plain; charset=utf-8");
    memory(&room, &["set", "plan/last", "done", "--ttl", "3600"]);
    let listed = room.json(&["memory", "list", "plan/"]);
    let keys: Vec<_> = listed.as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["plan/last", "plan/next"]);
    assert_eq!(room.json(&["memory", "list", "--tag", "plan"]).as_array().unwrap().len(), 1);
    assert_eq!(memory(&room, &["get", "nothing"]).code, Some(1));
    assert_eq!(memory(&room, &["delete", "plan/next"]).code, Some(0));
    assert_eq!(memory(&room, &["delete", "plan/next"]).code, Some(1));
    let history = room.json(&["memory", "history", "plan/next"]);
    assert_eq!(history["versions"].as_array().unwrap().len(), 2);
    let version = history["versions"][1]["version"].to_string();
    assert_eq!(memory(&room, &["get", "plan/next", "--at", &version]).out, "write tests\n");
    assert_eq!(room.json(&["memory", "stats"])["namespaces"][0]["entries"], 1);
}

#[test]
fn many_processes_that_count_together_lose_no_update() {
    let room = room();
    memory(&room, &["set", "count", "0"]);
    let counters: Vec<_> = (0..8)
        .map(|_| {
            let script = r#"
                for _ in 1 2 3; do
                    while :; do
                        now=$("$Q" memory get count --json)
                        version=$(printf '%s' "$now" | sed 's/.*"version":\([0-9]*\).*/\1/')
                        value=$(printf '%s' "$now" | sed 's/.*"value":"\([0-9]*\)".*/\1/')
                        "$Q" -q memory set count $((value + 1)) --expect "$version" 2>/dev/null && break
                    done
                done"#;
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]).env("Q", env!("CARGO_BIN_EXE_quorate")).current_dir(room.repo());
            command.spawn().unwrap()
        })
        .collect();
    for mut counter in counters {
        assert!(counter.wait().unwrap().success());
    }
    assert_eq!(memory(&room, &["get", "count"]).out, "24\n");
}

#[test]
fn who_was_not_first_is_told_so() {
    let room = room();
    assert_eq!(memory(&room, &["set", "a", "1", "--expect", "0"]).code, Some(0));
    let answer = memory(&room, &["set", "a", "2", "--expect", "0"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.err.contains("read it again"), "{}", answer.err);
}

#[test]
fn a_namespace_keeps_its_bounds_and_its_secrets() {
    let room = room();
    let create = ["namespace", "create", "mine", "--kind", "private:alice", "--max-entries", "1"];
    assert_eq!(memory(&room, &create).code, Some(0));
    assert_eq!(memory(&room, &create).code, Some(2));
    let agent = |name: &str, args: &[&str]| {
        let mut command = room.command(&[&["memory"], args].concat());
        crate::room::Answer::of(
            &command.env("QUORATE_AGENT", name).env("QUORATE_RUN", "r1").output().unwrap(),
        )
    };
    assert_eq!(agent("alice", &["set", "k", "v", "-n", "mine"]).code, Some(0));
    let full = agent("alice", &["set", "l", "v", "-n", "mine"]);
    assert_eq!(full.code, Some(4), "{}", full.err);
    let denied = agent("bob", &["get", "k", "-n", "mine"]);
    assert_eq!(denied.code, Some(1));
    assert!(denied.err.contains("bob may not read mine"), "{}", denied.err);
    assert_eq!(memory(&room, &["namespace", "create", "x", "--kind", "odd"]).code, Some(2));
}

#[test]
fn a_watcher_misses_nothing() {
    let room = room();
    memory(&room, &["set", "job/1", "one"]);
    let mut command = room.command(&["memory", "watch", "job/", "--after", "0", "-c", "3", "--json"]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    memory(&room, &["set", "job/2", "two"]);
    memory(&room, &["set", "other", "x"]);
    memory(&room, &["delete", "job/1"]);
    let lines: Vec<Value> = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let seen: Vec<_> = lines.iter().map(|line| (line["key"].as_str().unwrap(), &line["removed"])).collect();
    assert_eq!(seen, [("job/1", &Value::Null), ("job/2", &Value::Null), ("job/1", &"deleted".into())]);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn a_backup_is_verified_and_restored_to_any_version() {
    let room = room();
    for value in ["one", "two", "three"] {
        memory(&room, &["set", "a", value]);
    }
    let version = room.json(&["memory", "history", "a"])["versions"][1]["version"].to_string();
    assert_eq!(memory(&room, &["backup", "../backup"]).code, Some(0));
    assert_eq!(memory(&room, &["backup", "../backup"]).code, Some(2), "nothing is written over");
    assert_eq!(memory(&room, &["restore", "../backup"]).code, Some(2), "nor is a memory");
    std::fs::rename(room.repo().join(".quorate/memory"), room.path().join("gone")).unwrap();
    let answer = memory(&room, &["restore", "../backup", "--version", &version]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert_eq!(memory(&room, &["get", "a"]).out, "two\n");
    // A flipped bit is found before anything is restored.
    let log = std::fs::read_dir(room.path().join("backup/log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    std::fs::rename(room.repo().join(".quorate/memory"), room.path().join("gone too")).unwrap();
    let answer = memory(&room, &["restore", "../backup"]);
    assert_eq!(answer.code, Some(70), "{}", answer.err);
}

#[test]
fn lines_that_were_exported_are_imported_elsewhere() {
    let (from, to) = (room(), room());
    memory(&from, &["set", "a", "text \u{1f980}", "--tag", "t"]);
    memory(&from, &["set", "b", "", "-n", "other"]);
    let lines = memory(&from, &["export"]).out;
    to.write("../lines", &lines);
    let answer = memory(&to, &["import", "../lines"]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert_eq!(memory(&to, &["get", "a"]).out, "text \u{1f980}\n");
    assert_eq!(to.json(&["memory", "get", "b", "-n", "other"])["size"], 0);
    to.write("../lines", &lines.replace("\"key\"", "\"kee\""));
    let answer = memory(&to, &["import", "../lines"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("line "), "{}", answer.err);
}

#[test]
fn a_sealed_memory_needs_its_key() {
    let room = room();
    memory(&room, &["set", "secret", "the plan is hidden"]);
    let key = room.path().join("memory.key");
    let key = key.to_str().unwrap();
    assert_eq!(memory(&room, &["rotate", key]).code, Some(0));
    let answer = memory(&room, &["get", "secret"]);
    assert_eq!(answer.code, Some(2), "{}", answer.err);
    assert!(answer.err.contains("sealed with the key"), "{}", answer.err);
    assert_eq!(memory(&room, &["get", "secret", "--key-file", key]).out, "the plan is hidden\n");
    let mut grep = std::process::Command::new("grep");
    grep.args(["-r", "plan is hidden", ".quorate/memory"]).current_dir(room.repo()).stdout(Stdio::null());
    let mut grep = grep.spawn().unwrap();
    assert_eq!(grep.wait().unwrap().code(), Some(1), "it is not on the disk in plain text");
    let mut permissions = std::fs::metadata(key).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(key, permissions).unwrap();
    let answer = memory(&room, &["get", "secret", "--key-file", key]);
    assert!(answer.err.contains("can be read by others"), "{}", answer.err);
}

#[test]
fn what_is_relevant_is_found_and_fits_into_a_context() {
    let room = room();
    for (key, text) in [
        ("parser", "the parser fails on nested quotes; fixed by counting the depth"),
        ("build", "the build needs the nightly compiler"),
        ("parser/tests", "tests of the parser live in tests/it"),
    ] {
        memory(&room, &["set", key, text]);
    }
    memory(&room, &["set", "long", &"the parser is long. ".repeat(400)]);
    let found = room.json(&["memory", "search", "parser quotes"]);
    assert_eq!(found[0]["entry"]["key"], "parser");
    assert_eq!(memory(&room, &["search", "compiler -nightly"]).code, Some(1));
    assert_eq!(memory(&room, &["search", "\"open"]).code, Some(2));
    let context = room.json(&["memory", "context", "parser", "--tokens", "120"]);
    assert!(context["tokens"].as_u64().unwrap() <= 120);
    assert!(context["tokens_of_all_found"].as_u64().unwrap() > 1000);
    assert!(!context["included"].as_array().unwrap().is_empty());
    // What is gone is not found any more, also by another process.
    memory(&room, &["delete", "parser"]);
    assert_ne!(room.json(&["memory", "search", "parser quotes"])[0]["entry"]["key"], "parser");
    memory(&room, &["set", "north", "up", "--vector", "0,1", "-n", "map"]);
    memory(&room, &["set", "south", "down", "--vector", "0,-1", "-n", "map"]);
    let near = room.json(&["memory", "search", "", "--vector", "0.1,0.9", "-n", "map"]);
    assert_eq!(near[0]["entry"]["key"], "north");
}
