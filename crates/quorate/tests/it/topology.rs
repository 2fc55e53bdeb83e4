//! Swarms that are put together in different ways, with real agents.

use serde_json::Value;

use crate::room::{CHECKS, Room};

/// The events of the newest run, as they are told.
fn events(room: &Room) -> Vec<Value> {
    let logs = room.quorate(&["logs", "--json"]);
    logs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(events: &[Value], name: &str) -> Vec<Value> {
    events.iter().filter(|event| event["event"] == name).cloned().collect()
}

/// Does what it is asked: its task, or a review, which goes against everything that holds the word `bad`.
const SCRIPT: &str = r#"
if [ -n "$QUORATE_REVIEW" ]; then
    if grep -q bad "$QUORATE_REVIEW.txt"; then echo "refuse: it says bad" > "$QUORATE_VERDICT"
    else echo accept > "$QUORATE_VERDICT"; fi
    echo scribble > reviewed.txt
else
    case $QUORATE_TASK in t2) word=bad ;; *) word=good ;; esac
    echo $word > $QUORATE_TASK.txt
fi"#;

fn swarm(topology: &str, agents: &[(&str, &str)], tasks: &[(&str, &str)]) -> String {
    let mut text = format!("objective = \"x\"\n[swarm]\nagents-at-once = 4\n{topology}\n");
    for (name, rest) in agents {
        text.push_str(&format!(
            "[agents.{name}]\nprogram = \"sh\"\nargs = [\"-c\", '''{SCRIPT}''']\n{rest}\n"
        ));
    }
    tasks.iter().for_each(|(id, rest)| text.push_str(&format!("[[tasks]]\nid = \"{id}\"\n{rest}\n")));
    text + CHECKS
}

#[test]
fn the_hub_of_a_star_reads_every_change_and_what_it_refuses_does_not_land() {
    let room = Room::new();
    let agents = [("hub", "role = \"coordinator\""), ("hand", "count = 2")];
    let tasks = [("t1", "agent = \"hand\""), ("t2", "agent = \"hand\""), ("t3", "agent = \"hand\"")];
    room.swarm(&swarm("topology = \"star\"", &agents, &tasks));
    let summary = room.json(&["run", "swarm.toml"]);
    let landed = summary["landed"].as_array().unwrap();
    assert_eq!(landed.len(), 2, "{summary:#}");
    let refused = &summary["refused"][0];
    assert_eq!((&refused["change"], &refused["check"]), (&"t2".into(), &"review".into()), "{summary:#}");
    assert_eq!(refused["reason"], "it says bad");
    let events = events(&room);
    assert!(said(&events, "review-given").iter().all(|event| event["by"] == "hub"), "{events:#?}");
    // A reviewer's own edits are nobody's change.
    let branch = summary["branch"].as_str().unwrap();
    let files = room.git(&["ls-tree", "-r", "--name-only", branch]);
    assert!(files.contains("t1.txt") && !files.contains("reviewed") && !files.contains("t2"), "{files}");
}

#[test]
fn in_a_ring_each_reads_what_the_one_before_it_did() {
    let room = Room::new();
    let tasks = [("t1", "agent = \"a\""), ("t3", "agent = \"b\""), ("t4", "agent = \"c\"")];
    room.swarm(&swarm("topology = \"ring\"\nsteal = false", &[("a", ""), ("b", ""), ("c", "")], &tasks));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 3, "{summary:#}");
    let given = said(&events(&room), "review-given");
    let mut pairs: Vec<(&str, &str)> = given
        .iter()
        .map(|event| (event["change"].as_str().unwrap(), event["by"].as_str().unwrap()))
        .collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [("t1", "b"), ("t3", "c"), ("t4", "a")]);
}

#[test]
fn agents_come_as_tasks_wait_and_take_over_from_each_other() {
    let room = Room::new();
    let tasks: Vec<(String, &str)> = (3..9).map(|n| (format!("t{n}"), "needs = [\"text\"]")).collect();
    let tasks: Vec<(&str, &str)> = tasks.iter().map(|(task, rest)| (task.as_str(), *rest)).collect();
    let agents = [
        ("a", "can = [\"text\"]\ncount = 3\nscale = { up-at = 1, cool-down = \"0ms\" }"),
        ("b", "can = [\"code\"]"),
    ];
    room.swarm(&swarm("", &agents, &tasks));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 6, "{summary:#}");
    let doers: std::collections::BTreeSet<&str> =
        summary["agents"].as_array().unwrap().iter().map(|agent| agent["id"].as_str().unwrap()).collect();
    assert!(doers.contains("a-3") && !doers.contains("b"), "{doers:?}");
    let events = events(&room);
    assert_eq!(said(&events, "agent-released").len(), 2, "{events:#?}");
}

#[test]
fn agents_that_cannot_be_put_together_are_refused_before_anything_begins() {
    let room = Room::new();
    room.swarm(&swarm("topology = \"hierarchical\"", &[("a", "count = 3")], &[("t1", "agent = \"a\"")]));
    let answer = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.err.contains(":4:") && answer.err.contains("role = \"coordinator\""), "{}", answer.err);
    room.swarm(&swarm("", &[("a", "can = [\"x\"]")], &[("t1", "needs = [\"x\", \"y\"]")]));
    let answer = room.quorate(&["run", "swarm.toml"]);
    assert!(answer.code == Some(2) && answer.err.contains("no agent can do all of this"), "{answer:?}");
}
