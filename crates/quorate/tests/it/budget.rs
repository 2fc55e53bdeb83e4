//! What may be spent, end to end.

use serde_json::Value;

use crate::room::{CHECKS, Room};

/// Says that it has used so much, and works on: it would use more.
const SPENDER: &str = r#"echo "{\"quorate-usage\":{\"tokens\":$1,\"cost-micros\":250000}}"; echo $QUORATE_TASK > $QUORATE_TASK.txt; [ $1 -le 100 ] || exec sleep 60"#;

fn swarm(budget: &str, tokens: [u32; 3], launch: &str) -> String {
    let mut text = format!("objective = \"spend\"\n[swarm]\nagents-at-once = 1\n{budget}\n");
    for (name, tokens) in ["one", "two", "three"].iter().zip(tokens) {
        text.push_str(&format!(
            "[agents.{name}]\nprogram = \"sh\"\nargs = [\"spender.sh\", \"{tokens}\"]\nusage = \"lines\"\n{launch}\n"
        ));
        text = text.replace("\"spender.sh\"", "\"-c\", '''SCRIPT''', \"sh\"").replace("SCRIPT", SPENDER);
        text.push_str(&format!("[[tasks]]\nid = \"{name}\"\nagent = \"{name}\"\n"));
    }
    text + CHECKS
}

fn outcome(summary: &Value, task: &str) -> String {
    let found = summary["unfinished"].as_array().unwrap().iter().find(|row| row["task"] == task);
    found.map_or_else(|| "landed".to_owned(), |row| row["outcome"].as_str().unwrap().to_owned())
}

#[test]
fn an_agent_that_uses_more_than_it_may_is_stopped_and_the_run_says_why() {
    let room = Room::new();
    room.swarm(&swarm("", [100, 5000, 50], "launch-budget = { tokens = 100 }"));
    let answer = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(answer.code, Some(4), "{answer:?}");
    let summary: Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["state"], "budget-spent");
    let outcomes = ["one", "two", "three"].map(|task| outcome(&summary, task));
    assert_eq!(outcomes, ["landed", "over-budget", "landed"], "{summary:#}");
    let two = summary["agents"].as_array().unwrap().iter().find(|agent| agent["task"] == "two").unwrap();
    assert_eq!((&two["tokens"], &two["cost_usd"]), (&Value::from(5000), &Value::from(0.25)));
    assert!(two["wall_s"].as_f64().unwrap() < 30.0, "it did not sleep to its end: {two:#}");
}

#[test]
fn when_a_budget_is_used_up_nothing_more_is_launched() {
    let room = Room::new();
    room.swarm(&swarm("[budget]\ntokens = 150\ncost-usd = 10.0", [100, 50, 20], ""));
    let answer = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(answer.code, Some(4), "{answer:?}");
    let summary: Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap();
    let outcomes = ["one", "two", "three"].map(|task| outcome(&summary, task));
    assert_eq!(outcomes, ["landed", "landed", "over-budget"], "{summary:#}");
    assert_eq!(summary["agents"].as_array().unwrap().len(), 2);
    let tokens = summary["budgets"].as_array().unwrap().iter().find(|row| row["unit"] == "tokens").unwrap();
    assert_eq!(
        (&tokens["spent"], &tokens["limit"], &tokens["set_aside"]),
        (&150.into(), &150.into(), &0.into())
    );
}

#[test]
fn what_was_spent_today_counts_for_the_next_run() {
    let room = Room::new();
    let text = swarm("[budget]\nday.tokens = 120", [100, 100, 100], "");
    room.swarm(&text);
    let first = room.quorate(&["run", "swarm.toml", "--json"]);
    assert_eq!(first.code, Some(4), "{first:?}");
    let second = room.quorate(&["run", "swarm.toml", "--json"]);
    let summary: Value = serde_json::from_str(second.out.lines().last().unwrap()).unwrap();
    assert_eq!((second.code, summary["agents"].as_array().unwrap().len()), (Some(4), 0), "{summary:#}");
}

#[test]
fn a_budget_nobody_could_keep_is_refused_with_the_line() {
    let room = Room::new();
    let text = swarm("[budget]\ncost-usd = 1.0", [1, 1, 1], "").replace("usage = \"lines\"\n", "");
    room.swarm(&text);
    let answer = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.err.contains("bounds the cost of agent") && answer.err.contains("allow-unknown"),
        "{}",
        answer.err
    );
    room.swarm(&text.replace("cost-usd = 1.0", "cost-usd = 1.0\nallow-unknown = true"));
    assert_eq!(room.quorate(&["run", "swarm.toml"]).code, Some(0));
}

#[test]
fn a_journal_that_cannot_be_read_leaves_nothing_of_the_day_to_spend() {
    let room = Room::new();
    room.swarm(&swarm("[budget]\nday.tokens = 1000", [10, 10, 10], ""));
    let run = room.json(&["run", "swarm.toml"])["run"].as_str().unwrap().to_owned();
    let journal = room.repo().join(".quorate/runs").join(&run).join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let answer = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.err.contains(&run) && answer.err.contains("budget of the day"), "{}", answer.err);
}

#[test]
fn an_agent_started_by_name_keeps_to_the_budget_of_the_project() {
    let room = Room::new();
    let text = swarm("[budget]\ntokens = 100", [5000, 1, 1], "");
    let settings: Vec<&str> = text.split("[[tasks]]").collect();
    let checks = text.find("[gate").or_else(|| text.find("[checks")).unwrap();
    let file = format!("{}{}", settings[0], &text[checks..]);
    std::fs::write(room.repo().join("quorate.toml"), &file).unwrap();
    let answer = room.quorate(&["run", "--agent", "one", "spend", "--json"]);
    assert_eq!(answer.code, Some(4), "{answer:?} {file}");
    std::fs::write(room.repo().join("quorate.toml"), file.replace("usage = \"lines\"", "")).unwrap();
    let answer = room.quorate(&["run", "--agent", "one", "spend", "--json"]);
    assert!(answer.code == Some(2) && answer.err.contains("bounds the tokens"), "{answer:?}");
}
