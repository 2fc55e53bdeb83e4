//! What runs leave behind, and that cleaning loses nothing.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use quorate_base::{AgentId, RunId, TaskId};
use quorate_swarm::git::PrivateRepository;
use quorate_swarm::workspace::{RunDir, Workspace};
use serde_json::Value;

use crate::room::{CHECKS, Room};

/// A run of one agent with this script.
fn room(script: &str) -> Room {
    let room = Room::new();
    room.swarm(&format!(
        "objective = \"try\"\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", '''{script}''']\nsandbox = {{ enabled = false }}\n[gate]\nvalidators = [\"tests\"]\n{}",
        CHECKS.replace("\"security\"", "\"tests\"")
    ));
    room
}

/// Leaves the run as a node does that is killed after so many records.
fn killed_after(records: u32) -> Room {
    let room = room("echo fine > new.txt");
    let die = format!("after:{records}");
    let output = room.command(&["run", "swarm.toml"]).env("QUORATE_TEST_DIE", die).output().unwrap();
    assert_eq!(output.status.code(), None, "killed: {output:?}");
    room
}

fn list(room: &Room) -> Vec<Value> {
    room.json(&["worktree", "list"]).as_array().unwrap().clone()
}

fn run_dir(room: &Room) -> (RunId, RunDir) {
    let workspace = Workspace::open(&room.repo()).unwrap();
    let run = workspace.run(None).unwrap();
    let dir = workspace.run_dir(&run);
    (run, dir)
}

#[test]
fn uncommitted_work_stays_until_it_is_kept_or_given_up() {
    let (told, go) = ("../../../../../../told", "../../../../../../go");
    let room = room(&format!(
        "[ -e {go} ] && {{ echo again > new.txt; exit; }}; printf 'half\\n' > \"it's new.txt\"; echo secret > .env; echo x > {told}; exec cat {told}"
    ));
    room.write(".gitignore", ".env\n");
    room.commit("ignore");
    let path = room.path().join("told");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut node =
        room.command(&["run", "swarm.toml"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    std::fs::File::open(&path).unwrap().read_to_end(&mut Vec::new()).unwrap();
    // A node at work answers for its worktrees itself.
    assert_eq!(list(&room)[0]["holds"], "in-use");
    let busy = room.quorate(&["worktree", "clean", "--force"]);
    assert_eq!(busy.code, Some(2), "{busy:?}");
    node.kill().unwrap();
    node.wait().unwrap();

    let rows = list(&room);
    let row = &rows[0];
    assert_eq!((rows.len(), &row["holds"], &row["paths"]), (1, &"uncommitted".into(), &1.into()), "{rows:?}");
    assert_eq!((&row["task"], &row["removable"]), (&"a".into(), &false.into()));
    let answer = room.quorate(&["worktree", "clean"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.err.contains("--force"), "{answer:?}");
    let worktree = PathBuf::from(row["path"].as_str().unwrap());
    assert!(worktree.join("it's new.txt").exists());
    // What it says to do next does it.
    let next = row["next"].as_str().unwrap().split('`').nth(1).unwrap();
    assert!(Command::new("sh").args(["-c", next]).current_dir(room.path()).status().unwrap().success());
    let patch = std::fs::read_to_string(room.path().join("a.patch")).unwrap();
    assert!(patch.contains("+half") && !patch.contains("secret"), "{patch}");
    let cleaned = room.json(&["worktree", "clean", "--force"]);
    assert_eq!(cleaned["removed"].as_array().unwrap().len(), 1, "{cleaned}");
    assert!(!worktree.exists() && list(&room).is_empty());
    std::fs::write(room.path().join("go"), "").unwrap();
    assert_eq!(room.json(&["resume"])["landed"].as_array().unwrap().len(), 1);
}

#[test]
fn work_the_node_has_not_taken_up_stays_and_resume_takes_it() {
    for (records, holds) in [(3, "unread"), (4, "proposed")] {
        let room = killed_after(records);
        let rows = list(&room);
        assert_eq!((rows.len(), &rows[0]["holds"]), (1, &holds.into()), "{rows:?}");
        assert!(rows[0]["next"].as_str().unwrap().contains("quorate resume"), "{rows:?}");
        let answer = room.quorate(&["worktree", "clean"]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        let summary = room.json(&["resume"]);
        assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
        assert_eq!(
            summary["agents"].as_array().unwrap().len(),
            1,
            "its work was not done again: {summary:#}"
        );
        assert!(list(&room).is_empty());
    }
}

#[test]
fn worktrees_with_nothing_to_lose_are_removed() {
    let room = room("echo fine > new.txt");
    room.json(&["run", "swarm.toml"]);
    let (_, dir) = run_dir(&room);
    let repository = PrivateRepository::open(&dir.repository()).unwrap();
    let base = room.git(&["rev-parse", "HEAD"]).parse().unwrap();
    let id = |attempt| dir.worktree(&AgentId::new("a").unwrap(), &TaskId::new("a").unwrap(), attempt);
    // One as it began, and one that is what has landed.
    repository.add_worktree(&id(7), &base).unwrap();
    repository.add_worktree(&id(1), &base).unwrap();
    std::fs::write(id(1).join("new.txt"), "fine\n").unwrap();
    // A folder that is no worktree holds who knows what.
    std::fs::create_dir_all(dir.worktrees().join("strange")).unwrap();
    std::fs::write(dir.worktrees().join("strange/file"), "x").unwrap();
    let rows = list(&room);
    let held: Vec<_> = rows.iter().map(|row| row["holds"].as_str().unwrap()).collect();
    assert_eq!(held, ["landed", "nothing", "unknown"], "{rows:?}");
    assert_eq!(rows[0]["change"], "a");
    let answer = room.quorate(&["worktree", "clean"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(!id(1).exists() && !id(7).exists() && dir.worktrees().join("strange/file").exists());
    assert_eq!(room.quorate(&["worktree", "clean", "--force"]).code, Some(0));
    assert_eq!(room.quorate(&["worktree", "clean"]).code, Some(0));
    assert!(list(&room).is_empty());
}

#[test]
fn a_commit_an_agent_made_outlives_its_worktree() {
    let room = room("echo fine > new.txt");
    room.json(&["run", "swarm.toml"]);
    let (_, dir) = run_dir(&room);
    let repository = PrivateRepository::open(&dir.repository()).unwrap();
    let base = room.git(&["rev-parse", "HEAD"]).parse().unwrap();
    let worktree = dir.worktrees().join("w");
    repository.add_worktree(&worktree, &base).unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&worktree)
            .args(["-c", "user.name=A", "-c", "user.email=a@example.invalid"])
            .args(args);
        let output = git.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["commit", "-q", "--allow-empty", "-m", "thought"]);
    let commit = git(&["rev-parse", "HEAD"]);
    assert_eq!(room.quorate(&["worktree", "clean"]).code, Some(0), "no file differs");
    assert!(!worktree.exists());
    let refs = Command::new("git")
        .arg("--git-dir")
        .arg(dir.repository())
        .args(["for-each-ref", "--contains", &commit])
        .output()
        .unwrap();
    assert!(String::from_utf8(refs.stdout).unwrap().contains(&commit));
}
