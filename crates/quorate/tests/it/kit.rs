//! What an agent's worktree comes with, and who may work at the same time.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use quorate_swarm::kit::ports::Ports;
use quorate_swarm::kit::spec::PortRange;
use serde_json::Value;

use crate::room::{Answer, CHECKS, Room};

/// A range in which so many ports are free side by side, as the system has it now.
fn free_range(count: u16) -> PortRange {
    loop {
        let first = TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
        let Some(last) = first.checked_add(count - 1) else { continue };
        if (first..=last).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()) {
            return PortRange { first, last };
        }
    }
}

/// A file with an agent for each script, which all may work at once, and more of its own.
fn swarm(scripts: &[(&str, &str)], more: &str) -> String {
    let mut text = format!("objective = \"try\"\n[swarm]\nagents-at-once = {}\n", scripts.len());
    for (name, script) in scripts {
        text.push_str(&format!(
            "[agents.{name}]\nprogram = \"sh\"\nargs = [\"-c\", '''{script}''']\nlimits = {{ wall = \"50s\" }}\nsandbox = {{ enabled = false }}\n"
        ));
    }
    text + more + CHECKS
}

fn start(room: &Room, state: &Path) -> Child {
    let mut command = room.command(&["run", "swarm.toml", "--json"]);
    command.env("XDG_STATE_HOME", state).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Value {
    let answer = Answer::of(&child.wait_with_output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    serde_json::from_str(answer.out.lines().last().unwrap()).unwrap()
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn agents_of_two_runs_at_once_never_have_the_same_ports() {
    let (one, two) = (Room::new(), Room::new());
    let (taken, range) = (one.path().join("taken"), free_range(12));
    std::fs::create_dir(&taken).unwrap();
    // Three blocks for eight agents: some wait, and none has what another has.
    let script = |name: &str| {
        format!(
            "[ $PORT = $QUORATE_PORT ] || exit 3; for p in $(echo $QUORATE_PORTS | tr , ' '); do mkdir {0}/$p || exit 4; done; echo $QUORATE_PORTS > {name}.txt; rmdir $(echo $QUORATE_PORTS | tr , '\\n' | sed 's|^|{0}/|')",
            taken.display()
        )
    };
    let names = ["a", "b", "c", "d"];
    let scripts: Vec<(&str, String)> = names.iter().map(|name| (*name, script(name))).collect();
    let scripts: Vec<(&str, &str)> = scripts.iter().map(|(name, script)| (*name, script.as_str())).collect();
    let text = swarm(&scripts, &format!("[worktree]\nports = \"{range}\"\nports-each = 4\n"));
    one.swarm(&text);
    two.swarm(&text);
    let runs = [start(&one, &one.state()), start(&two, &one.state())];
    for run in runs {
        let summary = end(run);
        assert_eq!(summary["landed"].as_array().unwrap().len(), 4, "{summary:#}");
    }
    let left = std::fs::read_dir(one.state().join("quorate/ports")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name != "turn").collect();
    assert!(left.is_empty(), "given back: {left:?}");
}

#[test]
fn ports_of_a_node_that_was_killed_are_another_runs_once_nothing_of_its_agent_lives() {
    let (one, two) = (Room::new(), Room::new());
    let range = free_range(4);
    let section = format!("[worktree]\nports = \"{range}\"\nports-each = 4\n");
    let (told, never) = (one.path().join("told"), one.path().join("never"));
    fifo(&told);
    fifo(&never);
    // What outlives the agent is there before it tells anything.
    let stuck = format!("cat {} & echo $QUORATE_PORT > {}; wait", never.display(), told.display());
    one.swarm(&swarm(&[("stuck", &stuck)], &section));
    two.swarm(&swarm(&[("next", "echo $QUORATE_PORT > port.txt")], &section));
    let mut first = start(&one, &one.state());
    let mut port = String::new();
    std::fs::File::open(&told).unwrap().read_to_string(&mut port).unwrap();
    assert_eq!(port.trim(), range.first.to_string());
    first.kill().unwrap();
    first.wait().unwrap();
    // What the agent had started outlives it, and may have the ports in use.
    let mut second = start(&two, &one.state());
    let mut lines = BufReader::new(second.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"launch-waits\"")));
    drop(std::fs::File::options().write(true).open(&never).unwrap());
    let summary: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert!(second.wait().unwrap().success());
    let branch = summary["branch"].as_str().unwrap();
    assert_eq!(two.git(&["show", &format!("{branch}:port.txt")]), port.trim());
}

#[test]
fn an_agent_without_free_ports_waits_and_says_so() {
    let (room, range) = (Room::new(), free_range(4));
    let held = Ports::at(room.state().join("quorate/ports")).take(range, 4).unwrap().unwrap();
    let section = format!("[worktree]\nports = \"{range}\"\nports-each = 4\n");
    room.swarm(&swarm(&[("a", "echo $QUORATE_PORTS > a.txt")], &section));
    let mut run = start(&room, &room.state());
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let waits = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"launch-waits\"")).unwrap();
    assert!(waits.contains("no 4 free ports") && waits.contains("[worktree]"), "{waits}");
    drop(held);
    let summary: Value = serde_json::from_str(&lines.map(Result::unwrap).last().unwrap()).unwrap();
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    assert!(run.wait().unwrap().success());
}

#[test]
fn an_agent_has_what_git_ignores_and_a_validator_has_nothing_but_the_tree() {
    let room = Room::new();
    room.write(".gitignore", ".env\n");
    room.write(".worktreeinclude", ".env\n");
    room.commit("include");
    room.write(".env", "TOKEN=abc");
    let script = "[ \"$(cat .env)\" = TOKEN=abc ] || exit 3; echo TOKEN=mine > .env; echo '!.env' > .gitignore; for d in \"$npm_config_cache\" \"$PIP_CACHE_DIR\" \"$CARGO_HOME\"; do [ -d \"$d\" ] || exit 4; case \"$d\" in */.quorate/caches/*) ;; *) exit 5 ;; esac; done; echo bad > \"$CARGO_HOME/poison\"; echo fine > new.txt";
    let clean = "[checks.clean]\nvalidator = \"integration\"\ncommand = [\"sh\", \"-c\", '''! env | grep -E 'caches|QUORATE_PORT|npm_config_cache|PIP_CACHE_DIR' && [ ! -e .env ] && [ ! -e \"$CARGO_HOME/poison\" ]''']\n";
    room.swarm(&swarm(
        &[("a", script)],
        &format!("[worktree]\ncaches = [\"cargo\", \"npm\", \"pip\"]\n{clean}"),
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    let branch = summary["branch"].as_str().unwrap();
    let names = room.git(&["ls-tree", "--name-only", branch]);
    assert_eq!(
        names.lines().collect::<Vec<_>>(),
        [".gitignore", ".worktreeinclude", "new.txt", "notes.txt", "value.txt"]
    );
    assert_eq!(std::fs::read_to_string(room.repo().join(".env")).unwrap(), "TOKEN=abc");
}

#[test]
fn a_file_that_cannot_be_copied_in_fails_the_task_and_says_what_to_do() {
    let room = Room::new();
    room.write(".gitignore", ".env\n");
    room.write(".worktreeinclude", ".env\n");
    room.commit("include");
    std::os::unix::fs::symlink("/etc/hostname", room.repo().join(".env")).unwrap();
    room.swarm(&swarm(&[("a", "echo x > x.txt")], ""));
    let answer = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let summary: Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap();
    let reason = summary["unfinished"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("/etc/hostname") && reason.contains("!.env"), "{reason}");
}

#[test]
fn tasks_with_the_same_lease_work_one_after_the_other_and_know_their_tokens() {
    let room = Room::new();
    let busy = room.path().join("busy");
    let script = |name: &str| {
        format!("mkdir {0} || exit 3; echo \"$QUORATE_LEASES\" > {name}.json; rmdir {0}", busy.display())
    };
    let (a, b, c) = (script("a"), script("b"), script("c"));
    let mut tasks = String::new();
    for (name, lease) in [("a", "file:docs/x"), ("b", "folder:docs"), ("c", "file:docs/x")] {
        tasks.push_str(&format!("[[tasks]]\nid = \"{name}\"\nagent = \"{name}\"\nleases = [\"{lease}\"]\n"));
    }
    room.swarm(&swarm(&[("a", &a), ("b", &b), ("c", &c)], &tasks));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 3, "{summary:#}");
    let branch = summary["branch"].as_str().unwrap();
    let token = |name: &str| {
        let text = room.git(&["show", &format!("{branch}:{name}.json")]);
        let leases: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(leases[0]["mode"], "exclusive", "{leases}");
        leases[0]["token"].as_u64().unwrap()
    };
    assert!(token("a") < token("b") && token("b") < token("c"));
}

#[test]
fn a_task_keeps_its_lease_and_its_token_when_the_node_is_killed() {
    let room = Room::new();
    let (told, go) = (room.path().join("told"), room.path().join("go"));
    fifo(&told);
    let script = format!(
        "echo \"$QUORATE_LEASES\" > leases.json; [ -e {1} ] || {{ cat leases.json > {0}; cat {0}; }}",
        told.display(),
        go.display()
    );
    let task = "[[tasks]]\nid = \"a\"\nagent = \"a\"\nleases = [\"name:database\"]\n";
    room.swarm(&swarm(&[("a", &script)], task));
    let mut first = start(&room, &room.state());
    let mut before = String::new();
    std::fs::File::open(&told).unwrap().read_to_string(&mut before).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    std::fs::write(&go, "").unwrap();
    let summary = room.json(&["resume"]);
    let branch = summary["branch"].as_str().unwrap();
    assert_eq!(room.git(&["show", &format!("{branch}:leases.json")]), before.trim());
    assert!(before.contains("name:database"), "{before}");
}
