//! What agents of a run reach, and what the run says about it.

use std::process::Command;

use serde_json::Value;

use crate::room::{Answer, CHECKS, Room};

fn agent(name: &str, sandbox: &str, script: &str) -> String {
    format!("[agents.{name}]\nprogram = \"sh\"\nargs = [\"-c\", '''{script}''']\nsandbox = {{ {sandbox} }}\n")
}

fn layers(summary: &Value) -> Vec<&str> {
    let lines = summary["agents"][0]["containment"].as_array().unwrap();
    lines.iter().map(|line| line.as_str().unwrap()).collect()
}

fn works(room: &Room, layer: &str) -> bool {
    let rows = room.json(&["doctor"]);
    let mut rows = rows.as_array().unwrap().iter();
    rows.any(|row| row["what"] == format!("sandbox: {layer}") && row["works"] == true)
}

#[test]
fn an_agent_reaches_its_worktree_and_nothing_else_and_the_run_says_what_held_it() {
    let room = Room::new();
    room.write(".env", "PASSWORD=hush\n");
    let try_all = r#"
        store=$(cd ../../../.. && pwd); repo=$(dirname "$store"); run=$(cd ../.. && pwd)
        for path in $repo/.env $repo/value.txt $repo/.git/config $store/keys/tests.key $store/lock $run/journal \
            $run/repository.git/HEAD $run/repository.git/config $store/format; do
            [ -e $path ] || echo "no $path"
            case $path in $run/repository.git/*) ;; *) cat $path > /dev/null 2>&1 && echo "read $path" ;; esac
            (echo x >> $path) 2> /dev/null && echo "wrote $path"
        done
        for folder in $store $store/keys $run $run/worktrees $run/repository.git/refs $repo; do
            ls $folder > /dev/null 2>&1 && echo "listed $folder"
            (: > $folder/new) 2> /dev/null && echo "made $folder/new"
        done
        git update-ref refs/heads/mine HEAD 2> /dev/null && echo "made a ref"
        (: > /tmp/quorate-$$) 2> /dev/null && echo "wrote to /tmp"
        true"#;
    let script = format!(
        r#"({try_all}) > report.txt; echo temporary > "$TMPDIR/x" && cat "$TMPDIR/x" >> report.txt
        echo eight >> notes.txt; git status --short >> report.txt; git diff --stat | tail -n 1 >> report.txt
        git log --oneline | wc -l >> report.txt"#
    );
    let require = if works(&room, "landlock") { "" } else { "require = []" };
    room.swarm(&format!("objective = \"try\"\n{}{CHECKS}", agent("a", require, &script)));
    let before = room.git(&["for-each-ref"]);
    let summary = room.json(&["run", "swarm.toml"]);
    let branch = summary["branch"].as_str().unwrap();
    assert_eq!(room.landed(branch).len(), 1, "{summary:#}");
    let report = room.git(&["show", &format!("{branch}:report.txt")]);
    if works(&room, "landlock") {
        let expected = ["temporary", " M notes.txt", "?? report.txt", " 1 file changed, 1 insertion(+)", "1"];
        assert_eq!(report.lines().collect::<Vec<_>>(), expected, "{report}");
        let refs = room.git(&["for-each-ref"]);
        let new: Vec<_> = refs.lines().filter(|line| !before.contains(line)).collect();
        assert!(new.len() == 1 && new[0].ends_with(branch), "{refs}");
    }
    // The same from the journal, long after.
    for summary in [&summary, &room.json(&["status"])] {
        let lines = layers(summary);
        for (layer, line) in [
            ("landlock", "files: landlock ABI"),
            ("namespaces", "read-only mounts"),
            ("seccomp", "calls: seccomp"),
            ("seccomp", "network: off ("),
        ] {
            assert_eq!(
                lines.iter().any(|held| held.contains(line)),
                works(&room, layer),
                "{line}: {lines:?}"
            );
        }
    }
}

#[test]
fn agents_that_work_at_the_same_time_cannot_read_each_other() {
    let room = Room::new();
    // Each waits until the other is there, which it may see, and looks at what it has.
    let look = |own: &str, other: &str| {
        format!(
            "echo {own} > {own}.txt; until [ -e ../{other}.{other}.1/{other}.txt ]; do sleep 0.02; done; \
             cat ../{other}.{other}.1/{other}.txt >> {own}.txt; ls ../{other}.{other}.1 >> {own}.txt; \
             touch saw; until [ -e ../{other}.{other}.1/saw ]; do sleep 0.02; done; true"
        )
    };
    let require = if works(&room, "landlock") { "" } else { "require = []" };
    let (a, b) = (agent("a", require, &look("a", "b")), agent("b", require, &look("b", "a")));
    room.swarm(&format!("objective = \"try\"\n{a}{b}{CHECKS}"));
    let summary = room.json(&["run", "swarm.toml"]);
    let branch = summary["branch"].as_str().unwrap();
    let saw = |name: &str| {
        let change = room.json(&["change", "show", name]);
        let commit = change["commit"].as_str().unwrap_or_else(|| panic!("{change:#}")).to_owned();
        let run = summary["run"].as_str().unwrap();
        let repository = format!(".quorate/runs/{run}/repository.git");
        room.git(&["--git-dir", &repository, "show", &format!("{commit}:{name}.txt")])
    };
    assert!(!branch.is_empty());
    if works(&room, "landlock") {
        assert_eq!((saw("a").as_str(), saw("b").as_str()), ("a", "b"));
    } else {
        assert_ne!(saw("a"), "a");
    }
}

#[test]
fn where_a_required_layer_is_missing_no_agent_is_started() {
    let room = Room::new();
    // A user who may make no namespaces at all.
    let without = |file: &str| {
        let script = r#"echo 0 > /proc/sys/user/max_user_namespaces || exit 99
exec setpriv --bounding-set=-all --inh-caps=-all "$0" run "$1" --json"#;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script, env!("CARGO_BIN_EXE_quorate"), file]);
        let answer = Answer::of(&command.current_dir(room.repo()).output().unwrap());
        assert_ne!(answer.code, Some(99), "this test needs user namespaces: {answer:?}");
        let line = answer.out.lines().last().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    };
    let script = "echo x > x.txt";
    room.swarm(&format!("objective = \"x\"\n{}{CHECKS}", agent("a", "require = [\"namespaces\"]", script)));
    let summary = without("swarm.toml");
    let reason = summary["unfinished"][0]["reason"].as_str().unwrap_or_else(|| panic!("{summary:#}"));
    assert!(reason.contains("requires `namespaces`") && reason.contains("sysctl"), "{reason}");
    // What does not require them is held by the rest, and says so; what nothing can hold is refused.
    room.swarm(&format!("objective = \"x\"\n{}{CHECKS}", agent("a", "require = []", script)));
    let summary = without("swarm.toml");
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    assert!(!layers(&summary).iter().any(|line| line.contains("namespace") || line.contains("mounts")));
    room.swarm(&format!("objective = \"x\"\n{}{CHECKS}", agent("a", "network = \"loopback\"", script)));
    let summary = without("swarm.toml");
    let reason = summary["unfinished"][0]["reason"].as_str().unwrap_or_else(|| panic!("{summary:#}"));
    assert!(reason.contains("keeps the network `loopback`"), "{reason}");
}

#[test]
fn what_is_declared_can_be_reached_and_the_store_cannot_be_declared() {
    let room = Room::new();
    std::fs::create_dir(room.path().join("shared")).unwrap();
    std::fs::write(room.path().join("shared/data"), "data").unwrap();
    let script = "cat ../../../../../../shared/data > data.txt && echo done > ../../../../../../shared/out";
    let declared = agent("a", "write = [\"../shared\"]", script);
    room.swarm(&format!("objective = \"x\"\n{declared}{CHECKS}"));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    assert_eq!(std::fs::read_to_string(room.path().join("shared/out")).unwrap(), "done\n");
    for (path, why) in
        [(".quorate/keys", "lies in the store"), (".", "stays hidden"), ("nowhere", "create it")]
    {
        let declared = agent("a", &format!("write = [\"{path}\"]"), "true");
        room.swarm(&format!("objective = \"x\"\n{declared}{CHECKS}"));
        let summary = room.json(&["run", "swarm.toml"]);
        let reason = summary["unfinished"][0]["reason"].as_str().unwrap_or_else(|| panic!("{summary:#}"));
        assert!(reason.contains(why), "{path}: {reason}");
    }
}

#[test]
fn what_an_agent_wrote_reaches_no_more_in_a_check_than_the_gate_allows() {
    let room = Room::new();
    let works = works(&room, "landlock");
    // The agent's own test looks for the keys of the validators and for a folder nobody named.
    let script = r#"printf '%s\n' 'cat ../../../../../keys/*.key > /dev/null 2>&1 && echo read the keys' \
        'echo x > ../answer && echo wrote the answer' \
        'cat ../../../../../../value.txt && echo read the repository' 'echo x > "$TMPDIR/x" || echo no TMPDIR' true > probe.sh"#;
    let checks = r#"
[checks.tests]
validator = "tests"
command = ["sh", "-c", "sh ./probe.sh 2> /dev/null; git status --short"]
"#;
    let require = if works { "" } else { "require = []\n" };
    let gate = |enclosed: bool| {
        let sandbox =
            if enclosed { format!("network = \"off\"\n{require}") } else { "enabled = false\n".into() };
        let agent = agent("a", require.trim(), script);
        room.swarm(&format!("objective = \"x\"\n{agent}[gate.sandbox]\n{sandbox}{checks}"));
    };
    let bytes = |record: &Value| record["stdout"]["bytes"].as_u64().unwrap_or_else(|| panic!("{record:#}"));
    gate(false);
    room.json(&["run", "swarm.toml"]);
    let free = room.json(&["change", "show", "a"]);
    assert!(bytes(&free["records"][0]) > 0, "{free:#}");
    gate(true);
    let summary = room.json(&["run", "swarm.toml"]);
    let shown = room.json(&["change", "show", "a"]);
    let record = shown["records"].as_array().unwrap().iter().find(|record| record["check"] == "tests");
    let record = record.unwrap_or_else(|| panic!("{summary:#} {shown:#}"));
    assert_eq!(record["status"], "pass", "{shown:#}");
    let lines: Vec<_> = record["containment"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(lines.iter().any(|line| line.starts_with("files: landlock")), works, "{record:#}");
    if works {
        assert_eq!(bytes(record), 0, "the probe got somewhere: {record:#}");
    }
}
