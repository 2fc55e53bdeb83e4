//! What agents of a run hand to each other.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::room::{CHECKS, Room};

/// A file with these agents, each with its further keys and its script, and more of its own.
fn swarm(agents: &[(&str, &str, &str)], more: &str) -> String {
    let mut text = format!("objective = \"try\"\n[swarm]\nagents-at-once = {}\n", agents.len());
    for (name, keys, script) in agents {
        text.push_str(&format!(
            "[agents.{name}]\nprogram = \"sh\"\nargs = [\"-c\", '''{script}''']\nretry.backoff = \"1ms\"\nlimits = {{ wall = \"50s\" }}\n{keys}\n"
        ));
    }
    text + "[gate]\nvalidators = [\"tests\"]\n" + more + &CHECKS.replace("\"security\"", "\"tests\"")
}

fn task(id: &str, agent: &str, after: &str) -> String {
    format!("[[tasks]]\nid = \"{id}\"\nagent = \"{agent}\"\nafter = [{after}]\n")
}

/// All records of the newest run that are called so.
fn events(room: &Room, name: &str) -> Vec<Value> {
    let out = room.quorate(&["logs", "--json"]).out;
    let all = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == name).collect()
}

fn show(room: &Room, summary: &Value, path: &str) -> String {
    room.git(&["show", &format!("{}:{path}", summary["branch"].as_str().unwrap())])
}

/// No folder of a launch is left.
#[track_caller]
fn clean(room: &Room, summary: &Value) {
    let run = room.repo().join(".quorate/runs").join(summary["run"].as_str().unwrap());
    let left = std::fs::read_dir(run.join("exchange")).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(left, 0);
}

#[test]
fn an_artifact_reaches_who_comes_after_by_digest_and_cannot_be_altered_there() {
    let room = Room::new();
    let make = r#"mkdir "$QUORATE_OUT/sub" && echo built > "$QUORATE_OUT/sub/report.txt"; echo a > a.txt; ls -A "$QUORATE_IN" > seen-by-a.txt"#;
    let take = r#"f="$QUORATE_IN/one/sub/report.txt"; (echo evil >> "$f") 2> /dev/null && echo altered > report.txt
        (rm -f "$f") 2> /dev/null; (mv "$f" moved) 2> /dev/null; (: > "$QUORATE_IN/new") 2> /dev/null && echo made >> report.txt
        (: > "$QUORATE_INBOX/new") 2> /dev/null && echo made >> report.txt
        ls -d "$QUORATE_OUT"/../../* > /dev/null 2>&1 && echo listed >> report.txt
        cat "$f" >> report.txt; ls -A "$QUORATE_IN" "$QUORATE_OUT" >> report.txt; chmod 0666 "$f" 2> /dev/null; true"#;
    room.swarm(&swarm(
        &[("a", "", make), ("b", "", take), ("c", "", r#"ls -A "$QUORATE_IN" > c.txt; echo c >> c.txt"#)],
        &format!("{}{}{}", task("one", "a", ""), task("two", "b", "\"one\""), task("three", "c", "\"two\"")),
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 3, "{summary:#}");
    let kept = events(&room, "artifact-kept");
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((&kept[0]["task"], &kept[0]["name"]), (&"one".into(), &"sub/report.txt".into()));
    let digest = kept[0]["digest"].as_str().unwrap();
    let row = serde_json::json!({"task": "one", "name": "sub/report.txt", "digest": digest, "bytes": 6});
    assert_eq!(room.json(&["status"])["artifacts"], serde_json::json!([row]));
    let object = room.repo().join(".quorate/objects").join(&digest[..2]).join(&digest[2..]);
    assert_eq!(std::fs::read(object).unwrap(), b"built\n", "the store's is as it was");
    let report = show(&room, &summary, "report.txt");
    assert!(report.starts_with("built\n"), "{report}");
    assert!(report.contains("/in:\none\n"), "{report}");
    assert_eq!(show(&room, &summary, "c.txt"), "c", "of what comes before that, nothing");
    clean(&room, &summary);
}

#[test]
fn a_task_whose_agent_fails_leaves_nothing_and_a_second_attempt_leaves_its_own() {
    let room = Room::new();
    let make = r#"echo $QUORATE_ATTEMPT > "$QUORATE_OUT/n.txt"; echo x > "$QUORATE_OUT/only-$QUORATE_ATTEMPT"; [ $QUORATE_ATTEMPT = 2 ] || exit 3; echo a > a.txt"#;
    room.swarm(&swarm(
        &[
            ("a", "attempts = 2", make),
            (
                "b",
                "",
                r#"cd "$QUORATE_IN" && ls -A one > "$OLDPWD/b.txt" && cat one/n.txt >> "$OLDPWD/b.txt""#,
            ),
        ],
        &(task("one", "a", "") + &task("two", "b", "\"one\"")),
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(show(&room, &summary, "b.txt"), "n.txt\nonly-2\n2");
}

#[test]
fn hostile_artifacts_are_refused_and_told_and_the_run_goes_on() {
    let room = Room::new();
    room.write("key", "hush");
    let key = room.repo().join("key");
    let odd = format!(
        r#"cd "$QUORATE_OUT"; ln -s {} link; ln -s / root; mkfifo fifo; mknod device c 1 3; echo x > "$(printf 'two\nlines')"; echo x > "$(printf 'ab\351')"; d=.; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do d=$d/d; done; mkdir -p $d; echo x > $d/x; echo fine > fine; cd "$OLDPWD"; echo o > odd.txt"#,
        key.display()
    );
    let many = r#"cd "$QUORATE_OUT"; seq 1 6000 | split -l 1 -a 4 - f; cd "$OLDPWD"; echo m > many.txt"#;
    let huge = r#"truncate -s 2M "$QUORATE_OUT/huge"; echo h > huge.txt"#;
    let gone = r#"rm -rf "$QUORATE_OUT" "$QUORATE_IN" "$QUORATE_INBOX" "$QUORATE_OUTBOX"; ln -s / "$QUORATE_OUT"; echo g > gone.txt"#;
    let off = "sandbox = { enabled = false }";
    room.swarm(
        &swarm(&[("odd", off, &odd), ("many", off, many), ("huge", off, huge), ("gone", off, gone)], "")
            .replace("[swarm]\n", "[swarm]\nartifacts-max = \"1 MiB\"\n"),
    );
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 4, "{summary:#}");
    let kept = events(&room, "artifact-kept");
    assert_eq!(kept.iter().map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), ["fine"]);
    let refused = events(&room, "artifacts-refused");
    let told: BTreeMap<&str, &Vec<Value>> = refused
        .iter()
        .map(|one| (one["task"].as_str().unwrap(), one["refused"].as_array().unwrap()))
        .collect();
    let has = |task: &str, name: &str, reason: &str| {
        let found = told[task].iter().any(|one| {
            one["name"].as_str().unwrap().contains(name) && one["reason"].as_str().unwrap().contains(reason)
        });
        assert!(found, "{task} {name} {reason}: {refused:#?}");
    };
    has("odd", "link", "symbolic link");
    has("odd", "root", "symbolic link");
    has("odd", "fifo", "neither a file");
    has("odd", "two\\nlines", "do not print");
    has("odd", "ab\u{fffd}", "not UTF-8");
    has("odd", "d/d/d", "deeper");
    has("many", ".", "more than 1000 files");
    has("huge", ".", "artifacts-max");
    has("gone", ".", "cannot be opened");
    clean(&room, &summary);
}

#[test]
fn a_secret_among_artifacts_is_refused_and_a_bound_is_held() {
    let room = Room::new();
    let script = r#"echo "$MY_TOKEN" > "$QUORATE_OUT/token"; echo fine > "$QUORATE_OUT/fine"; mkdir -p "$QUORATE_OUTBOX/b" && echo "it is $MY_TOKEN" > "$QUORATE_OUTBOX/b/x"; echo a > a.txt"#;
    let more = r#"head -c 3000 /dev/zero > "$QUORATE_OUT/zeros"; echo b > b.txt"#;
    let text = swarm(&[("a", "secrets = [\"MY_TOKEN\", \"PATH\"]", script), ("b", "", more)], "")
        .replace("[swarm]\n", "[swarm]\nartifacts-max = \"2 KiB\"\n");
    room.swarm(&text.replace(", \"PATH\"", "").replace("secrets =", "env = [\"PATH\"]\nsecrets ="));
    let output =
        room.command(&["run", "swarm.toml", "--json"]).env("MY_TOKEN", "hunter2hunter2").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let refused = events(&room, "artifacts-refused");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().any(|one| one["refused"][0]["reason"] == "it holds the value of a secret"));
    let kept = events(&room, "artifact-kept");
    assert_eq!(kept.iter().map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), ["fine"]);
    let store = std::process::Command::new("grep")
        .args(["-rlF", "hunter2hunter2"])
        .arg(room.repo().join(".quorate"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&store.stdout), "", "nobody can read it later");
}

/// Sends texts in order.
const SEND: &str = r#"send() { mkdir -p "$QUORATE_OUTBOX/$1"; printf %s "$3" > "$QUORATE_OUTBOX/$1/.$2"; mv "$QUORATE_OUTBOX/$1/.$2" "$QUORATE_OUTBOX/$1/$2"; }
"#;

#[test]
fn messages_reach_an_agent_at_work_and_one_that_is_launched_later_in_order_and_once() {
    let room = Room::new();
    let sender = format!(
        r#"{SEND} send listener 1 one; send listener 2 two; send later 1 first; send last 2 second; echo s > s.txt
        until [ -n "$(ls "$QUORATE_INBOX")" ]; do sleep 0.1; done; cat "$QUORATE_INBOX"/*.json > answer.json"#
    );
    let listener = format!(
        r#"{SEND} until [ $(ls "$QUORATE_INBOX" | wc -l) = 2 ]; do sleep 0.1; done; cat "$QUORATE_INBOX"/*.json > heard.json; (echo x > "$QUORATE_INBOX/x") 2> /dev/null && exit 5; send sender a "it's \"fine\""; true"#
    );
    let later = r#"find "$QUORATE_INBOX" -name '*.json' | sort | xargs -r cat > $QUORATE_TASK.json"#;
    room.swarm(&swarm(
        &[("sender", "", &sender), ("listener", "", &listener), ("later", "", later)],
        &format!(
            "{}{}{}{}",
            task("send", "sender", ""),
            task("listen", "listener", ""),
            task("last", "later", "\"send\", \"listen\""),
            task("again", "later", "{ task = \"last\", when = \"ended\" }"),
        ),
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 4, "{summary:#}");
    let read = |path: &str| -> Vec<Value> {
        show(&room, &summary, path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let heard = read("heard.json");
    let texts = |letters: &[Value]| -> Vec<String> {
        letters.iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&heard), ["one", "two"]);
    assert_eq!(heard[0]["from"], "sender");
    assert!(heard[0]["seq"].as_u64() < heard[1]["seq"].as_u64() && heard[0]["at"].is_string());
    assert_eq!(texts(&read("answer.json")), ["it's \"fine\""]);
    let last = read("last.json");
    assert_eq!(texts(&last), ["first", "second"], "to the agent and to its task");
    // Who has had them does not get them again.
    let run = events(&room, "agent-ended");
    assert_eq!(run.len(), 4);
    assert_eq!(show(&room, &summary, "again.json"), "");
    assert_eq!(events(&room, "message-sent").len(), 5);
    assert_eq!(events(&room, "message-refused"), Vec::<Value>::new());
    clean(&room, &summary);
}

#[test]
fn a_message_that_is_none_or_to_nobody_is_refused_and_told_and_a_flood_ends() {
    let room = Room::new();
    let script = format!(
        r#"{SEND} send nobody 1 x; send b bad "$(printf 'ab\351')"; mkdir -p "$QUORATE_OUTBOX/b"; head -c 70000 /dev/zero | tr '\0' x > "$QUORATE_OUTBOX/b/long"; ln -s /etc/passwd "$QUORATE_OUTBOX/b/link"; mkfifo "$QUORATE_OUTBOX/b/fifo"; echo x > "$QUORATE_OUTBOX/beside"; mkdir "$QUORATE_OUTBOX/../b" 2> /dev/null; echo a > a.txt"#
    );
    let flood = r#"mkdir "$QUORATE_OUTBOX/.x"; cd "$QUORATE_OUTBOX/.x"; seq 1 600 | split -l 1 -a 4 - f; cd "$OLDPWD"; mv "$QUORATE_OUTBOX/.x" "$QUORATE_OUTBOX/b"; echo f > f.txt"#;
    let off = "sandbox = { enabled = false }";
    room.swarm(&swarm(&[("a", off, &script), ("flood", off, flood), ("b", off, "echo b > b.txt")], ""));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 3, "{summary:#}");
    let refused = events(&room, "message-refused");
    let by_a: Vec<&str> =
        refused.iter().filter(|one| one["from"] == "a").map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(by_a.len(), 6, "{by_a:#?}");
    for reason in
        ["no agent and no task", "not UTF-8", "longer than", "no regular file", "beside the folders"]
    {
        assert!(by_a.iter().any(|told| told.contains(reason)), "{reason}: {by_a:#?}");
    }
    let flood = events(&room, "message-sent").len() + refused.len() - by_a.len();
    assert_eq!(flood, 501);
    assert!(refused.iter().any(|one| one["reason"].as_str().unwrap().contains("no more are taken")));
    clean(&room, &summary);
}

#[test]
fn in_a_star_an_agent_writes_to_the_hub_alone() {
    let room = Room::new();
    let script = format!(r#"{SEND} send a-2 x x; send hub x x; send a-1 x me; true"#);
    let text = swarm(&[("hub", "role = \"coordinator\"", "true"), ("a", "count = 2", &script)], "")
        .replace("[swarm]\n", "[swarm]\ntopology = \"star\"\n");
    room.swarm(&(text + &task("one", "a", "")));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["state"], "complete", "{summary:#}");
    let sent = events(&room, "message-sent");
    let to: Vec<&str> = sent.iter().map(|one| one["to"]["agent"].as_str().unwrap()).collect();
    let refused = events(&room, "message-refused");
    assert_eq!((to.len(), refused.len()), (2, 1), "{sent:?} {refused:?}");
    assert!(to.contains(&"hub") && refused[0]["reason"].as_str().unwrap().contains("superior"));
}

/// Works in two attempts, the second of which needs the first's files.
const HALF: &str = r#"if [ $QUORATE_ATTEMPT = 1 ]; then echo half > half.txt; rm notes.txt; echo more >> value.txt; echo "gave up" >&2; exit 3; fi
[ "$(cat half.txt)" = half ] && [ ! -e notes.txt ] || exit 4; git status --short > status.txt; cat "$QUORATE_PREVIOUS" > previous.json; echo whole > whole.txt"#;

#[test]
fn an_agent_that_carries_on_begins_with_the_files_of_the_attempt_before() {
    let room = Room::new();
    room.swarm(&swarm(&[("a", "attempts = 2\ncarry-on = true", HALF), ("b", "", "echo b > b.txt")], ""));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 2, "{summary:#}");
    assert_eq!(show(&room, &summary, "whole.txt"), "whole");
    assert_eq!(show(&room, &summary, "status.txt"), "D notes.txt\n M value.txt\n?? half.txt\n?? status.txt");
    let previous: Value = serde_json::from_str(&show(&room, &summary, "previous.json")).unwrap();
    let expected =
        serde_json::json!({"attempt": 1, "outcome": "exit 3", "last_words": "gave up", "carried_on": true});
    assert_eq!(previous, expected);
    let checkpoint = events(&room, "checkpoint");
    assert_eq!(checkpoint.len(), 1, "{checkpoint:?}");
    let starts = events(&room, "agent-starting");
    let second = starts.iter().find(|one| one["attempt"] == 2).unwrap();
    assert_eq!(second["base"], checkpoint[0]["base"]);
}

#[test]
fn without_carrying_on_an_attempt_starts_clean_and_is_told_of_the_one_before() {
    let room = Room::new();
    let script = r#"if [ $QUORATE_ATTEMPT = 1 ]; then [ -z "$QUORATE_PREVIOUS" ] || exit 4; echo half > half.txt; kill -9 $$; fi
        [ ! -e half.txt ] || exit 4; cat "$QUORATE_PREVIOUS" > previous.json"#;
    room.swarm(&swarm(&[("a", "attempts = 2", script)], ""));
    let summary = room.json(&["run", "swarm.toml"]);
    let previous: Value = serde_json::from_str(&show(&room, &summary, "previous.json")).unwrap();
    assert_eq!(previous["outcome"], "killed by signal 9");
    assert_eq!(previous["carried_on"], false);
    assert_eq!(events(&room, "checkpoint"), Vec::<Value>::new());
}

#[test]
fn files_that_cannot_be_carried_on_are_told_and_the_next_attempt_starts_clean() {
    let room = Room::new();
    let script = r#"if [ $QUORATE_ATTEMPT = 1 ]; then git init -q nested && echo x > nested/x; echo half > half.txt; exit 3; fi
        [ ! -e half.txt ] || exit 4; cat "$QUORATE_PREVIOUS" > previous.json"#;
    room.swarm(&swarm(&[("a", "attempts = 2\ncarry-on = true", script)], ""));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    let refused = events(&room, "checkpoint-refused");
    assert!(refused[0]["reason"].as_str().unwrap().contains("nested"), "{refused:?}");
    let previous: Value = serde_json::from_str(&show(&room, &summary, "previous.json")).unwrap();
    assert_eq!(previous["carried_on"], false);
}

/// Everything handed over in one small run.
fn everything() -> Room {
    let room = Room::new();
    let one = format!(
        r#"{SEND} if [ $QUORATE_ATTEMPT = 1 ]; then echo half > half.txt; exit 3; fi; [ -e half.txt ] || exit 4; echo left > "$QUORATE_OUT/left"; send b x hello; echo a > a.txt"#
    );
    let two = r#"cat "$QUORATE_IN/one/left" > b.txt; grep -h hello "$QUORATE_INBOX"/*.json > /dev/null || exit 4; echo heard >> b.txt"#;
    room.swarm(&swarm(
        &[("a", "attempts = 2\ncarry-on = true", &one), ("b", "attempts = 1", two)],
        &(task("one", "a", "") + &task("two", "b", "\"one\"")),
    ));
    room
}

#[track_caller]
fn handed_over(room: &Room, story: &str) {
    let status = room.json(&["status"]);
    assert_eq!(status["state"], "complete", "{story}: {status:#}");
    assert_eq!(status["landed"].as_array().unwrap().len(), 2, "{story}: {status:#}");
    assert_eq!(show(room, &status, "b.txt"), "left\nheard", "{story}");
    assert_eq!(show(room, &status, "half.txt"), "half", "{story}");
    clean(room, &status);
}

fn killed_at(side: &str, from: u32, to: u32) {
    for n in from..to {
        let room = everything();
        let story = format!("killed {side} record {n}");
        let die = format!("{side}:{n}");
        let output = room.command(&["run", "swarm.toml"]).env("QUORATE_TEST_DIE", die).output().unwrap();
        assert_eq!(output.status.code(), None, "{story}: {}", String::from_utf8_lossy(&output.stderr));
        let resumed = room.quorate(&["resume"]);
        assert_eq!(resumed.code, Some(0), "{story}: {resumed:?}");
        handed_over(&room, &story);
    }
}

// Records 2 to 14: the first attempt with its checkpoint, the second with its message and its artifact, and what follows.
#[test]
fn a_node_killed_before_a_checkpoint_loses_nothing() {
    killed_at("before", 2, 6);
}

#[test]
fn a_node_killed_before_a_message_or_an_artifact_loses_nothing() {
    killed_at("before", 6, 11);
}

#[test]
fn a_node_killed_before_what_was_handed_over_is_used_loses_nothing() {
    killed_at("before", 11, 15);
}

#[test]
fn a_node_killed_after_a_checkpoint_loses_nothing() {
    killed_at("after", 2, 6);
}

#[test]
fn a_node_killed_after_a_message_or_an_artifact_loses_nothing() {
    killed_at("after", 6, 11);
}

#[test]
fn a_node_killed_after_what_was_handed_over_is_used_loses_nothing() {
    killed_at("after", 11, 15);
}

#[test]
fn an_agent_lost_with_its_node_is_carried_on_where_it_had_come() {
    let room = Room::new();
    let script = r#"if [ -z "$QUORATE_PREVIOUS" ]; then echo half > half.txt; exec sleep 600; fi
        cat "$QUORATE_PREVIOUS" > previous.json; cat half.txt > whole.txt"#;
    room.swarm(&swarm(&[("a", "carry-on = true", script)], ""));
    let mut child = room.command(&["run", "swarm.toml", "--quiet"]).spawn().unwrap();
    let worktree = loop {
        let found = room.repo().join(".quorate/runs");
        let runs = std::fs::read_dir(found).into_iter().flatten().flatten();
        let half = runs
            .map(|run| run.path().join("worktrees/a.a.1/half.txt"))
            .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text == "half\n"));
        match half {
            Some(half) => break half,
            None => std::thread::yield_now(),
        }
    };
    // It works, and the journal says so.
    while events(&room, "agent-started").is_empty() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(worktree.exists());
    let resumed = room.quorate(&["resume"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let status = room.json(&["status"]);
    assert_eq!(show(&room, &status, "whole.txt"), "half");
    let previous: Value = serde_json::from_str(&show(&room, &status, "previous.json")).unwrap();
    assert_eq!((&previous["outcome"], &previous["carried_on"]), (&"lost with the node".into(), &true.into()));
}
