//! The example that ships with the project, as the README's first command runs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_example_lands_good_work_and_refuses_the_rest_each_for_its_own_reason() {
    // On a copy, so that the checkout's own store stays out of it.
    let folder = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tidy");
    for part in ["repo", "agents", "swarm.toml"] {
        let copied =
            Command::new("cp").arg("-r").arg(example.join(part)).arg(folder.path()).status().unwrap();
        assert!(copied.success());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(["run", "swarm.toml", "--json"]).current_dir(folder.path()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let reasons = |list: &str, key: &str, why: &str| -> BTreeMap<String, String> {
        let items = summary[list].as_array().unwrap().iter();
        items
            .map(|item| (item[key].as_str().unwrap().to_owned(), item[why].as_str().unwrap().to_owned()))
            .collect()
    };
    let landed = reasons("landed", "change", "tree");
    for change in ["format", "lint", "remove-dead-code", "write-tests", "write-docs", "index"] {
        assert!(landed.contains_key(change), "{change} did not land: {summary:#}");
    }
    let rivals = ["remove-duplicates", "rename"].iter().filter(|name| landed.contains_key(**name)).count();
    assert_eq!(rivals, 1, "two changes to the same lines cannot both land: {summary:#}");
    let refused = reasons("refused", "change", "check");
    assert_eq!(refused.get("simplify").map(String::as_str), Some("tests"), "{summary:#}");
    assert_eq!(refused.get("publish").map(String::as_str), Some("secrets"), "{summary:#}");
    assert!(refused.values().any(|check| check == "merge"), "{summary:#}");
    let failed = reasons("unfinished", "task", "reason");
    assert!(failed["study"].contains("wall time limit"), "{summary:#}");
    assert!(failed["analyse"].contains("memory limit"), "{summary:#}");
    let attempts =
        summary["agents"].as_array().unwrap().iter().filter(|agent| agent["task"] == "index").count();
    assert_eq!(attempts, 2, "the crashed agent was launched again: {summary:#}");
    // At one moment at least six agents were at work.
    let (mut now, mut most) = (0_i32, 0_i32);
    for event in out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        match event["event"].as_str() {
            Some("agent-started") => now += 1,
            Some("agent-ended") => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    assert!(most >= 6, "only {most} agents at the same time");
}
