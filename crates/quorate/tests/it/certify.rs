use serde_json::Value;

use crate::room::{CHECKS, Room};

fn room() -> Room {
    let room = Room::new();
    room.write("quorate.toml", &format!("objective = \"any\"\n{CHECKS}"));
    room.write(".git/info/exclude", "quorate.toml\n");
    room
}

#[test]
fn the_exit_code_is_the_verdict() {
    let room = room();
    room.write("extra.txt", "more\n");
    room.commit("good");
    let answer = room.quorate(&["certify"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    room.write("value.txt", "bad\n");
    room.commit("breaks the test");
    let answer = room.quorate(&["certify"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let document = room.json(&["certify", "HEAD", "--base", "HEAD~1"]);
    assert_eq!(document["verdict"], "FAIL");
    assert_eq!(document["votes"].as_array().unwrap().len(), 5);
    let failed =
        document["checks"].as_array().unwrap().iter().any(|c| c["check"] == "tests" && c["status"] == "fail");
    assert!(failed, "{document:#}");
}

#[test]
fn a_missing_tool_is_inconclusive_and_never_a_pass() {
    let room = room();
    let text =
        "objective = \"any\"\n[checks.tests]\nvalidator = \"tests\"\ncommand = [\"no-such-tool-here\"]\n";
    room.write("quorate.toml", text);
    room.write("extra.txt", "more\n");
    room.commit("good");
    let answer = room.quorate(&["certify", "--json"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    let document: Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap();
    assert_eq!(document["verdict"], "INCONCLUSIVE");
    assert!(answer.out.contains("no-such-tool-here"), "{answer:?}");
}

#[test]
fn a_worktree_is_certified_as_it_is_and_left_as_it_was() {
    let room = room();
    room.write("value.txt", "still good\n");
    room.write("untracked.txt", "new\n");
    let status = room.git(&["status", "--porcelain"]);
    let index = std::fs::read(room.repo().join(".git/index")).unwrap();
    let document = room.json(&["certify", "--worktree"]);
    assert_eq!(document["verdict"], "PASS", "{document:#}");
    assert_eq!(room.git(&["status", "--porcelain"]), status);
    assert_eq!(std::fs::read(room.repo().join(".git/index")).unwrap(), index);
    room.write("value.txt", "bad\n");
    assert_eq!(room.quorate(&["certify", "--worktree"]).code, Some(1));
}

#[test]
fn a_change_that_conflicts_with_its_base_fails_with_the_merge_as_evidence() {
    let room = room();
    room.git(&["switch", "-q", "-c", "side"]);
    room.write("notes.txt", "ONE\n");
    room.commit("side");
    room.git(&["switch", "-q", "main"]);
    room.write("notes.txt", "uno\n");
    room.commit("main");
    let document = room.json(&["certify", "side", "--base", "main"]);
    assert_eq!(document["verdict"], "FAIL");
    assert_eq!(document["checks"][0]["check"], "merge", "{document:#}");
}

#[test]
fn a_certificate_is_verified_elsewhere_and_any_change_to_it_is_seen() {
    let room = room();
    room.write("extra.txt", "more\n");
    room.commit("good");
    let document = room.json(&["certify", "--output", "../cert.json"]);
    let path = room.path().join("cert.json");
    let path = path.to_str().unwrap();
    let verified = room.json(&["verify", path]);
    assert_eq!((&verified["valid"], &verified["verdict"]), (&Value::from(true), &Value::from("PASS")));
    assert_eq!(verified["subject"]["tree"], document["tree"]);
    let keys = room.repo().join(".quorate/keys");
    let elsewhere = tempfile::tempdir().unwrap();
    let away = |args: &[&str]| {
        let mut command = room.command(&["verify", path]);
        command.current_dir(elsewhere.path()).args(args).output().unwrap().status.code()
    };
    assert_eq!(away(&["--keys", keys.to_str().unwrap()]), Some(0));
    assert_eq!(away(&[]), Some(2), "whose keys to trust must be said");
    assert_eq!(away(&["--self-asserted"]), Some(0));
    let stranger = Room::new();
    stranger.quorate(&["init"]);
    let strange = stranger.repo().join(".quorate/keys");
    assert_eq!(away(&["--keys", strange.to_str().unwrap()]), Some(1));
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    std::fs::write(path, bytes).unwrap();
    let answer = room.quorate(&["verify", path]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert_eq!(
        room.quorate(&["certify", "--output", "../cert.json"]).code,
        Some(2),
        "nothing is overwritten"
    );
}

#[test]
fn a_replay_runs_the_evidence_again() {
    let room = room();
    room.write("extra.txt", "more\n");
    room.commit("good");
    room.json(&["certify", "--output", "../cert.json"]);
    let path = room.path().join("cert.json");
    let replayed = room.json(&["verify", path.to_str().unwrap(), "--replay"]);
    let checks: Vec<_> =
        replayed["replay"].as_array().unwrap().iter().map(|c| c["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["secrets", "tests"]);
    assert!(
        replayed["replay"].as_array().unwrap().iter().all(|c| c["differences"] == serde_json::json!([])),
        "{replayed:#}"
    );
}

#[test]
fn a_check_that_alters_what_it_judges_proves_nothing() {
    let room = room();
    let text = "objective = \"any\"\n[checks.tests]\nvalidator = \"tests\"\ncommand = [\"sh\", \"-c\", \"echo good > value.txt\"]\n";
    room.write("quorate.toml", text);
    room.write("value.txt", "bad\n");
    room.commit("bad");
    let answer = room.quorate(&["certify"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(answer.out.contains("altered the files it judged"), "{answer:?}");
}

#[test]
fn a_secret_a_check_prints_is_kept_nowhere() {
    let room = room();
    let secret = format!("very-{}-secret", "hush7262");
    let text = "objective = \"any\"\n[gate]\nenv = [\"PATH\", \"MY_TOKEN\"]\n[checks.tests]\nvalidator = \"tests\"\n\
                command = [\"sh\", \"-c\", \"echo error: $MY_TOKEN; exit 1\"]\n";
    room.write("quorate.toml", text);
    room.write("extra.txt", "more\n");
    room.commit("good");
    let output = room.command(&["certify"]).env("MY_TOKEN", &secret).output().unwrap();
    let answer = crate::room::Answer::of(&output);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.out.contains("[redacted]") && !answer.out.contains(&secret), "{answer:?}");
    let kept = std::process::Command::new("grep")
        .args(["-rlF", &secret, ".quorate"])
        .current_dir(room.repo())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}
