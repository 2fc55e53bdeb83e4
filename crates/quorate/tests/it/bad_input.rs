use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::room::{Answer, CHECKS, Room};

#[track_caller]
fn refused(answer: &Answer, code: i32, needle: &str) {
    assert_eq!(answer.code, Some(code), "{answer:?}");
    assert!(answer.err.contains(needle), "no `{needle}` in {answer:?}");
    assert!(!answer.err.contains("panicked"), "{answer:?}");
}

fn one_agent(script: &str) -> String {
    format!("objective = \"try\"\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", '''{script}''']\n{CHECKS}")
}

/// One that may do what the node may.
fn unenclosed(script: &str) -> String {
    one_agent(script).replace("[agents.a]\n", "[agents.a]\nsandbox = { enabled = false }\n")
}

#[test]
fn mistakes_in_files_and_arguments_are_usage_errors() {
    let room = Room::new();
    refused(&room.quorate(&["run", "absent.toml"]), 2, "quorate init");
    room.swarm("objective = \"x\"\n[agents.a]\nprogram = \"true\"\nrole = \"boss\"\n");
    refused(&room.quorate(&["run", "swarm.toml"]), 2, "line 4");
    room.swarm("objective = \"x\"\n[agents.a]\nprogram = \"no-such-agent\"\n[checks.c]\nvalidator = \"tests\"\nbuiltin = \"secrets\"\n");
    refused(&room.quorate(&["run", "swarm.toml"]), 2, "no-such-agent");
    refused(&room.quorate(&["run", "--agent", "nobody", "do it"]), 2, "claude");
    refused(&room.quorate(&["frobnicate"]), 2, "unrecognized");
    refused(&room.quorate(&["status"]), 2, "quorate init");
    refused(&room.quorate(&["certify", "no-such-rev"]), 2, "names no commit");
    refused(&room.quorate(&["certify", "--", "--output=x"]), 2, "names no commit");
    refused(&room.quorate(&["verify", "absent.json"]), 2, "absent.json");
    assert!(!room.repo().join(".quorate").exists(), "nothing was started");
}

#[test]
fn places_that_are_no_repository_with_a_worktree_and_a_commit_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let run = |dir: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        Answer::of(&command.arg("certify").current_dir(dir).output().unwrap())
    };
    let git = |args: &[&str]| {
        assert!(Command::new("git").args(args).current_dir(folder.path()).output().unwrap().status.success())
    };
    refused(&run(folder.path()), 2, "git init");
    git(&["init", "-q", "--bare", "bare"]);
    refused(&run(&folder.path().join("bare")), 2, "bare repository");
    git(&["init", "-q", "unborn"]);
    refused(&run(&folder.path().join("unborn")), 2, "no commit yet");
}

#[test]
fn without_git_the_answer_says_how_to_get_it() {
    let room = Room::new();
    let answer = Answer::of(&room.command(&["certify"]).env("PATH", "/nonexistent").output().unwrap());
    refused(&answer, 2, "git is not installed");
}

#[test]
fn a_detached_head_a_dirty_tree_and_strange_names_are_worked_with() {
    let room = Room::new();
    room.git(&["checkout", "-q", "--detach"]);
    std::fs::write(room.repo().join(OsStr::from_bytes(b"bytes-\xff")), "x").unwrap();
    std::fs::write(room.repo().join("two\nlines"), "x").unwrap();
    room.commit("strange names");
    room.write("notes.txt", "not committed\n");
    room.swarm(&one_agent(
        r#"printf x > "$(printf 'new\nname-\377')"; rm "two
lines""#,
    ));
    let answer = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.err.contains("1 uncommitted"), "{answer:?}");
    assert_eq!(std::fs::read_to_string(room.repo().join("notes.txt")).unwrap(), "not committed\n");
    let summary: serde_json::Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap();
    let files = room.git(&["ls-tree", "-r", "--name-only", summary["branch"].as_str().unwrap()]);
    assert!(files.contains("bytes-") && files.contains("name-") && !files.contains("two"), "{files}");
}

#[test]
fn a_link_out_of_the_worktree_is_refused() {
    let room = Room::new();
    room.swarm(&format!(
        "{}[checks.hygiene]\nvalidator = \"security\"\nbuiltin = \"hygiene\"\n",
        one_agent("ln -s /etc/passwd link")
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["refused"][0]["check"], "hygiene", "{summary:#}");
}

#[test]
fn a_repository_inside_the_worktree_is_no_change() {
    let room = Room::new();
    room.swarm(&one_agent("git init -q inner && echo x > inner/x"));
    let summary = room.json(&["run", "swarm.toml"]);
    assert!(
        summary["unfinished"][0]["reason"].as_str().unwrap().contains("repository of its own"),
        "{summary:#}"
    );
}

#[test]
fn a_submodule_stays_what_it_is() {
    let room = Room::new();
    let other = Room::new();
    let url = other.repo();
    room.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        url.to_str().unwrap(),
        "sub",
    ]);
    room.commit("submodule");
    room.swarm(&one_agent("echo x > x.txt"));
    let answer = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.err.contains("submodules are not checked out"), "{answer:?}");
    let summary: serde_json::Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap();
    assert!(room.git(&["ls-tree", summary["branch"].as_str().unwrap(), "sub"]).starts_with("160000"));
}

#[test]
fn nothing_of_the_users_repository_is_run_or_changed() {
    let room = Room::new();
    for hook in ["post-checkout", "pre-commit", "reference-transaction", "post-commit", "post-merge"] {
        let path = room.repo().join(".git/hooks").join(hook);
        std::fs::write(&path, "#!/bin/sh\ntouch \"$(git rev-parse --show-toplevel)/../hook-ran\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = std::fs::read(room.repo().join(".git/config")).unwrap();
    // An agent that plants settings where git would find them.
    room.swarm(&one_agent("git config core.fsmonitor 'touch ../planted'; git branch stray; git stash; echo x > x.txt; git add -A; git -c user.name=a -c user.email=a@b commit -qm own; echo y > y.txt"));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    assert_eq!(room.git(&["show", &format!("{}:x.txt", summary["branch"].as_str().unwrap())]), "x");
    assert!(!room.path().join("hook-ran").exists());
    assert_eq!(std::fs::read(room.repo().join(".git/config")).unwrap(), config);
    let branches = room.git(&["branch", "--format=%(refname:short)"]);
    assert_eq!(branches.lines().count(), 2, "{branches}");
    assert_eq!(room.git(&["stash", "list"]), "");
    assert_eq!(room.git(&["worktree", "list"]).lines().count(), 1);
}

#[test]
fn a_branch_that_exists_or_moves_is_never_overwritten() {
    let room = Room::new();
    room.git(&["branch", "result"]);
    room.swarm(&format!("{}[repository]\nbranch = \"result\"\n", one_agent("echo x > x.txt")));
    refused(&room.quorate(&["run", "swarm.toml"]), 2, "exists already");
    let repo = room.repo();
    let steal = format!("git -C {} update-ref refs/heads/fresh main; echo x > x.txt", repo.display());
    room.swarm(&format!("{}[repository]\nbranch = \"fresh\"\n", unenclosed(&steal)));
    let answer = room.quorate(&["run", "swarm.toml"]);
    refused(&answer, 1, "moved or checked out by somebody else");
    assert_eq!(room.git(&["rev-parse", "fresh"]), room.git(&["rev-parse", "main"]));
}

#[test]
fn a_key_others_can_read_is_refused() {
    let room = Room::new();
    assert_eq!(room.quorate(&["init"]).code, Some(0));
    let key = room.repo().join(".quorate/keys/tests.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    room.write("new.txt", "x\n");
    room.git(&["add", "new.txt"]);
    room.git(&["commit", "-qm", "second"]);
    room.write("quorate.toml", &format!("objective = \"x\"\n{CHECKS}"));
    refused(&room.quorate(&["certify"]), 2, "can be read by others");
}

#[test]
fn init_overwrites_nothing_and_writes_what_can_be_read() {
    let room = Room::new();
    room.write("Makefile", "test:\n\ttrue\n");
    assert_eq!(room.quorate(&["init"]).code, Some(0));
    let written = std::fs::read_to_string(room.repo().join("quorate.toml")).unwrap();
    assert!(written.contains("\"make\", \"test\""), "{written}");
    room.write("quorate.toml", &format!("objective = \"mine\"\n{CHECKS}"));
    assert_eq!(room.quorate(&["init"]).code, Some(0));
    assert!(std::fs::read_to_string(room.repo().join("quorate.toml")).unwrap().contains("mine"));
    let status = room.git(&["status", "--porcelain"]);
    assert!(!status.contains(".quorate"), "{status}");
}

#[test]
fn a_gigabyte_of_output_is_bounded() {
    let room = Room::new();
    room.swarm(
        &one_agent("head -c 1073741824 /dev/zero; echo x > x.txt")
            .replace("[agents.a]\n", "[agents.a]\nlimits = { output = \"32MiB\", wall = \"60s\" }\n"),
    );
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["agents"][0]["exit"], "output limit", "{summary:#}");
}

#[test]
fn a_full_disk_interrupts_and_the_run_goes_on_with_room() {
    let room = Room::new();
    // From its worktree the agent reaches the store, four folders up, and fills the disk under it, once.
    room.swarm(&unenclosed(
        "[ -e ../../../../../once ] || { touch ../../../../../once; cat /dev/zero > ../../../../filler; }; mv notes.txt moved.txt",
    ));
    // A small file system of its own for the store, seen by this script alone.
    let script = r#"mkdir .quorate && mount -t tmpfs -o size=8m tmpfs .quorate || exit 99
"$0" run swarm.toml; echo "run: $?"
"$0" status > /dev/null; echo "status: $?"
rm .quorate/filler
"$0" resume --json | tail -n 1; "$0" logs --json | grep -c '"landed"'"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_quorate")]);
    let answer = Answer::of(&command.current_dir(room.repo()).output().unwrap());
    assert_ne!(answer.code, Some(99), "this test needs user namespaces that may mount a tmpfs: {answer:?}");
    let lines: Vec<&str> = answer.out.lines().collect();
    assert!(lines.contains(&"run: 5") && lines.contains(&"status: 0"), "{answer:?}");
    assert!(answer.err.contains("make room"), "{answer:?}");
    assert!(!answer.err.contains("panicked"), "{answer:?}");
    let summary = lines.iter().rev().nth(1).unwrap();
    let summary: serde_json::Value =
        serde_json::from_str(summary).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{answer:?}");
    assert_eq!(lines.last(), Some(&"1"), "{answer:?}");
}

#[test]
fn a_store_that_cannot_be_written_is_told() {
    let room = Room::new();
    room.swarm(&one_agent("true"));
    let script = r#"mkdir .quorate; mount -t tmpfs -o ro tmpfs .quorate && exec "$0" run swarm.toml"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_quorate")]);
    let answer = Answer::of(&command.current_dir(room.repo()).output().unwrap());
    refused(&answer, 2, "must be able to write its store");
}
