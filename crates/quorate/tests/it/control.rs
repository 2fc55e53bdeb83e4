//! Interventions in a run, from another process, while its agents are at work.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use quorate_base::Millis;
use serde_json::Value;

use crate::room::{Answer, CHECKS, Room};

/// Counts until it is told to stop by a file in its worktree, and says farewell if it is asked to end.
const COUNTER: &str = "trap 'echo farewell >&2; exit 9' TERM; while [ ! -e stop ]; do echo >> count; sleep 0.01; done; rm stop count; echo fine > $QUORATE_TASK.txt";

/// A run at work. What is left of it is ended when the test is over.
struct Play {
    room: Room,
    node: Child,
    run: String,
}

impl Drop for Play {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

fn begin(swarm: &str, tasks: &[&str]) -> Play {
    let room = Room::new();
    let mut text =
        format!("objective = \"count\"\n{swarm}\nprogram = \"sh\"\nargs = [\"-c\", '''{COUNTER}''']\n");
    for task in tasks {
        text.push_str(&format!("[[tasks]]\nid = \"{task}\"\nagent = \"a\"\n"));
    }
    let checks = CHECKS.replace("\"security\"", "\"tests\"");
    room.swarm(&format!("{text}[gate]\nvalidators = [\"tests\"]\n{checks}"));
    let mut node = room.command(&["run", "swarm.toml", "-q"]);
    let node = node.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut play = Play { room, node, run: String::new() };
    play.run = play.until("it is there", |play| {
        let answer = play.room.quorate(&["agent", "list", "--json"]);
        let document: Value = serde_json::from_str(answer.out.trim()).ok()?;
        Some(document["run"].as_str()?.to_owned())
    });
    play
}

impl Play {
    /// Looks again and again.
    #[track_caller]
    fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let list = || self.room.quorate(&["agent", "list"]);
            assert!(Instant::now() < end, "never: {what}: {:?}", list());
            std::thread::yield_now();
        }
    }

    fn agent(&self, id: &str) -> Value {
        let list = self.room.json(&["agent", "list"]);
        list["agents"].as_array().unwrap().iter().find(|agent| agent["id"] == id).unwrap().clone()
    }

    fn task(&self, id: &str) -> Value {
        let list = self.room.json(&["task", "list"]);
        list["tasks"].as_array().unwrap().iter().find(|task| task["id"] == id).unwrap().clone()
    }

    fn worktree(&self, task: &str, agent: &str) -> PathBuf {
        self.room.repo().join(".quorate/runs").join(&self.run).join(format!("worktrees/{task}.{agent}.1"))
    }

    fn count(&self, task: &str, agent: &str) -> u64 {
        std::fs::metadata(self.worktree(task, agent).join("count")).map_or(0, |file| file.len())
    }

    /// Waits until the agent counts.
    #[track_caller]
    fn counts(&self, task: &str, agent: &str) {
        self.until("it counts", |play| {
            (play.count(task, agent) > 0 && play.agent(agent)["phase"] == "working").then_some(())
        });
    }

    /// Lets an agent end well.
    fn finish(&self, task: &str, agent: &str) {
        std::fs::write(self.worktree(task, agent).join("stop"), "").unwrap();
    }

    #[track_caller]
    fn done(&self, args: &[&str]) {
        let answer = self.room.quorate(args);
        assert_eq!(answer.code, Some(0), "{args:?}: {answer:?}");
    }

    /// What is refused says where the agent is.
    #[track_caller]
    fn refused(&self, args: &[&str], words: &str) {
        let answer = self.room.quorate(args);
        assert!(answer.code == Some(1) && answer.err.contains(words), "{args:?}: {answer:?}");
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.room.quorate(&["logs", "--json"]).out;
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| name.is_empty() || event["event"] == name).collect()
    }

    #[track_caller]
    fn ends_with(&mut self, code: i32) {
        assert_eq!(self.node.wait().unwrap().code(), Some(code), "{:?}", self.room.quorate(&["logs"]));
    }
}

#[test]
fn a_paused_agent_stands_still_its_time_too_and_goes_on_when_it_is_continued() {
    let mut play = begin("[agents.a]\nlimits = { wall = \"20s\" }", &["one"]);
    play.counts("one", "a");
    play.done(&["agent", "pause", "a", "--reason", "let me look"]);
    let halted = |longer: f64| {
        play.until("it is halted", |play| {
            let paused = play.agent("a")["paused_s"].as_f64().unwrap();
            (paused >= longer).then_some(paused)
        })
    };
    let first = halted(0.3);
    let before = play.count("one", "a");
    halted(first + 0.7);
    assert_eq!(play.count("one", "a"), before);
    let row = play.agent("a");
    assert_eq!((&row["phase"], &row["reason"]), (&"paused".into(), &"let me look".into()), "{row}");
    assert!(row["pid"].is_u64() && row["memory_bytes"].as_u64().unwrap() > 0, "{row}");
    play.refused(&["agent", "pause", "a"], "agent a is paused");
    play.refused(&["agent", "release", "a"], "agent a is paused");
    play.done(&["agent", "continue", "a"]);
    play.until("it counts again", |play| (play.count("one", "a") > before).then_some(()));
    play.refused(&["agent", "continue", "a"], "agent a is working");
    play.finish("one", "a");
    play.ends_with(0);
    let ended = &play.events("agent-ended")[0];
    let span = |name: &str| ended[name].as_str().unwrap().parse::<Millis>().unwrap();
    assert!(span("paused") >= Millis(1000), "{ended}");
    assert_eq!(ended["used"]["agent-time-ms"], span("wall").0, "a pause is not paid for: {ended}");
}

#[test]
fn an_agent_that_is_launched_again_has_lost_no_attempt_and_could_say_farewell_even_when_it_was_paused() {
    let mut play = begin("[agents.a]\nattempts = 1", &["one"]);
    play.counts("one", "a");
    play.done(&["agent", "pause", "a"]);
    play.done(&["agent", "relaunch", "a", "--reason", "it is lost in the woods"]);
    play.until("it is launched again", |play| (play.agent("a")["launches"] == 2).then_some(()));
    let ended = &play.events("agent-ended")[0];
    assert_eq!((&ended["outcome"]["kind"], &ended["last_words"]), (&"cancelled".into(), &"farewell".into()));
    play.counts("one", "a");
    assert_eq!((&play.agent("a")["attempt"], &play.task("one")["attempts"]), (&1.into(), &1.into()));
    play.finish("one", "a");
    play.ends_with(0);
}

#[test]
fn a_cancelled_task_is_closed_with_its_agent_ended_and_one_that_waits_is_not_begun() {
    let mut play = begin("[swarm]\nagents-at-once = 1\n[agents.a]", &["one", "two", "three"]);
    play.counts("one", "a");
    let answer =
        play.room.quorate(&["task", "cancel", "two", "one", "nine", "--reason", "no more", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(answer.out.trim()).unwrap();
    let done: Vec<_> = rows.iter().map(|row| row["done"].as_bool().unwrap()).collect();
    assert_eq!((answer.code, done), (Some(1), vec![true, true, false]), "{answer:?}");
    assert_eq!(rows[2]["refused"]["why"], "no-task");
    play.counts("three", "a");
    play.refused(&["task", "cancel", "one"], "is cancelled");
    play.finish("three", "a");
    play.ends_with(0);
    for id in ["one", "two"] {
        let task = play.task(id);
        assert_eq!((&task["state"], &task["reason"]), (&"cancelled".into(), &"no more".into()), "{task}");
    }
    let begun: Vec<_> = play.events("agent-started").iter().map(|event| event["task"].clone()).collect();
    assert_eq!(begun, ["one", "three"]);
    play.refused(&["task", "cancel", "three"], "has finished");
}

#[test]
fn an_agent_that_drains_ends_what_it_has_and_takes_no_other_until_it_is_released() {
    let mut play = begin("[swarm]\nagents-at-once = 2\n[agents.a]\ncount = 2", &["one", "two", "three"]);
    play.counts("one", "a-1");
    play.counts("two", "a-2");
    play.done(&["agent", "drain", "a-1"]);
    play.refused(&["agent", "drain", "a-1"], "agent a-1 is draining");
    play.refused(&["agent", "release", "a-1"], "agent a-1 is draining");
    play.finish("one", "a-1");
    play.until("it is stopped", |play| (play.agent("a-1")["phase"] == "stopped").then_some(()));
    play.until("its work has landed", |play| (play.task("one")["state"] == "landed").then_some(()));
    assert_eq!(
        (&play.task("three")["state"], &play.agent("a-2")["task"]),
        (&"waiting".into(), &"two".into())
    );
    play.done(&["agent", "release", "a-1", "--reason", "welcome back"]);
    play.counts("three", "a-1");
    // And one that is told to stop ends at once; the other has its task then.
    play.done(&["agent", "stop", "a-1"]);
    play.until("it is stopped", |play| (play.agent("a-1")["phase"] == "stopped").then_some(()));
    play.finish("two", "a-2");
    play.counts("three", "a-2");
    play.finish("three", "a-2");
    play.ends_with(0);
    assert_eq!(play.events("landed").len(), 3);
}

#[test]
fn a_task_with_another_priority_starts_before_those_that_stood_before_it() {
    let mut play = begin("[swarm]\nagents-at-once = 1\n[agents.a]", &["one", "two", "three"]);
    play.counts("one", "a");
    play.done(&["task", "prioritise", "three", "critical"]);
    assert_eq!(play.task("three")["priority"], "critical");
    let wrong = play.room.quorate(&["task", "prioritise", "three", "urgent"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("critical, high, normal"), "{wrong:?}");
    for task in ["one", "three", "two"] {
        play.counts(task, "a");
        play.finish(task, "a");
    }
    play.ends_with(0);
}

#[test]
fn without_a_node_everything_says_what_to_do_and_the_lists_still_tell() {
    let mut play = begin("[agents.a]", &["one"]);
    play.counts("one", "a");
    play.done(&["agent", "pause", "a", "--reason", "lunch"]);
    play.node.kill().unwrap();
    play.node.wait().unwrap();
    play.refused(&["agent", "continue", "a"], "quorate resume");
    play.refused(&["task", "cancel", "one"], "no node works on run");
    let list = play.room.json(&["agent", "list"]);
    assert_eq!((&list["node"], &list["agents"][0]["phase"]), (&false.into(), &"paused".into()), "{list}");
    assert!(play.room.quorate(&["agent", "list"]).err.contains("quorate resume"));
    // Whoever was paused is gone with the node: the task starts over, and is not paused.
    let mut again = play.room.command(&["resume", "-q"]);
    play.node = again.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    play.until("it is launched again", |play| (play.agent("a")["launches"] == 2).then_some(()));
    play.counts("one", "a");
    play.finish("one", "a");
    play.ends_with(0);
    play.refused(&["agent", "pause", "a"], "has finished");
}

/// What the node of a run answers to these bytes.
fn say(play: &Play, bytes: &[u8]) -> Value {
    let path = play.room.repo().join(".quorate/runs").join(&play.run).join("control");
    let mut stream = UnixStream::connect(path).unwrap();
    // It may be refused before it has been said.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // What it has not read may be told as a reset, behind the answer.
    let _ = stream.read_to_end(&mut answer);
    serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer)))
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason_and_nothing_happens() {
    let mut play = begin("[agents.a]", &["one"]);
    play.counts("one", "a");
    let before = play.events("").len();
    let pause = |run: &str, agent: &str, reason: &str| {
        let reason = serde_json::to_string(reason).unwrap();
        format!(
            "{{\"run\":\"{run}\",\"ask\":{{\"do\":{{\"pause\":{{\"agent\":\"{agent}\",\"reason\":{reason}}}}}}}}}\n"
        )
    };
    let huge = vec![b'{'; 1 << 20];
    for (bytes, why) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "malformed"),
        (b"\0\xff\xfe\n".to_vec(), "malformed"),
        (b"[[[[[[[[\n".to_vec(), "malformed"),
        (huge, "malformed"),
        (pause(&play.run, "../../a", "x").into_bytes(), "malformed"),
        (pause(&play.run, "a", &"x".repeat(10_000)).into_bytes(), "malformed"),
        (pause(&play.run, "a", "\u{1b}]0;owned\u{7}").into_bytes(), "malformed"),
        (pause(&play.run, "nobody", "x").into_bytes(), "no-agent"),
        (pause("another", "a", "x").into_bytes(), "other-run"),
    ] {
        let reply = say(&play, &bytes);
        assert_eq!(reply["refused"]["why"], why, "{reply}");
    }
    let strange = play.room.quorate(&["agent", "pause", "no such name"]);
    assert!(strange.code == Some(2) && strange.err.contains("usable agent name"), "{strange:?}");
    assert_eq!((play.events("").len(), &play.agent("a")["phase"]), (before, &"working".into()));
    let own = Answer::of(&play.room.command(&["agent", "pause", "a", "--run", &play.run]).output().unwrap());
    assert_eq!((own.code, own.out.trim()), (Some(0), "a is halted"), "{own:?}");
    play.done(&["agent", "continue", "a"]);
    play.finish("one", "a");
    play.ends_with(0);
}

#[test]
fn a_person_writes_to_an_agent_at_work_and_to_a_task_that_waits() {
    let mut play = begin("[swarm]\nagents-at-once = 1\n[agents.a]", &["one", "two"]);
    play.counts("one", "a");
    play.done(&["agent", "tell", "one", "mind the gap"]);
    let inbox = |play: &Play, task: &str| {
        let folder = play.room.repo().join(format!(".quorate/runs/{}/exchange/{task}.a.1/inbox", play.run));
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect::<Vec<_>>()
    };
    let found = inbox(&play, "one");
    assert!(
        found.len() == 1 && found[0].contains("mind the gap") && found[0].contains("@person"),
        "{found:?}"
    );
    play.done(&["agent", "tell", "two", "and the next one"]);
    play.refused(&["agent", "tell", "nobody", "hello"], "no agent and no task of that name");
    let answer = play.room.quorate(&["agent", "tell", "two", &"x".repeat(65 << 10)]);
    assert!(answer.code == Some(2) && answer.err.contains("longer than"), "{answer:?}");
    play.finish("one", "a");
    play.counts("two", "a");
    assert!(inbox(&play, "two").concat().contains("and the next one"));
    play.finish("two", "a");
    play.ends_with(0);
}

#[test]
fn a_swarm_is_put_together_in_another_way_while_it_works() {
    let mut play = begin("[agents.a]\ncount = 2", &["one", "two"]);
    play.counts("one", "a-1");
    play.counts("two", "a-2");
    play.refused(&["swarm", "topology", "star"], "one agent with `role = \"coordinator\"`");
    let answer = play.room.quorate(&["swarm", "topology", "pyramid"]);
    assert!(answer.code == Some(2) && answer.err.contains("mesh, star, ring, hierarchical"), "{answer:?}");
    play.done(&["swarm", "topology", "ring", "--reason", "each reads the other"]);
    let changed = &play.events("topology-changed")[0];
    assert_eq!((&changed["topology"], &changed["reason"]), (&"ring".into(), &"each reads the other".into()));
    play.done(&["task", "cancel", "two"]);
    play.finish("one", "a-1");
    // Its change needs the word of the other now, which counts, and gives none.
    play.until("it is asked", |play| play.events("review-asked").first().map(|event| event["by"].clone()));
    play.counts("review-one", "a-2");
    play.finish("review-one", "a-2");
    play.ends_with(1);
    let given = &play.events("review-given")[0];
    assert_eq!((&given["by"], &given["accepted"]), (&"a-2".into(), &false.into()), "{given}");
}
