//! Trees whose members try to get away.

use std::process::Stdio;

use quorate_agents::{Containment, Outcome, reap_orphans, spawn};
use quorate_base::Millis;

use crate::room::{Room, alive, layers, told};

/// Forks twice, leaves session, parent and environment behind, and ignores being asked.
const ESCAPE: &str = "(setsid env -i /bin/sh -c 'trap \"\" TERM HUP; echo $$ > escapee; \
    i=0; while [ $i -lt 60 ]; do i=$((i+1)); /bin/sleep 1; done' > /dev/null 2>&1 &) ; while [ ! -s escapee ]; do sleep 0.01; done";

#[test]
fn a_daemon_that_left_everything_behind_ends_with_its_leader() {
    for (name, containment) in layers() {
        let room = Room::new();
        let ended = room.run_in(&room.command(ESCAPE), &containment);
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{name}");
        assert!(!alive(&room.folder.path().join("escapee")), "{name}: {ended:?}");
    }
}

#[test]
fn a_daemon_ends_with_a_leader_that_was_ended() {
    for (name, containment) in layers() {
        let room = Room::new();
        let mut command = room.command(&format!("trap '' TERM; {ESCAPE}; while :; do sleep 1; done"));
        command.limits.wall = Millis(800);
        let ended = room.run_in(&command, &containment);
        assert_eq!(ended.outcome, Outcome::WallLimit, "{name}");
        assert!(!alive(&room.folder.path().join("escapee")), "{name}: {ended:?}");
    }
}

#[test]
fn the_end_of_one_tree_leaves_other_trees_and_other_children_alone() {
    for (name, containment) in layers() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let other_room = Room::new();
        let other = spawn(
            &other_room.command(&format!("{ESCAPE}; while [ ! -e stop ]; do sleep 0.01; done")),
            &containment,
        )
        .unwrap();
        while !other_room.has("escapee") {
            std::thread::yield_now();
        }
        let room = Room::new();
        room.run_in(&room.command(ESCAPE), &containment);
        assert!(alive(&other_room.folder.path().join("escapee")), "{name}");
        std::fs::write(other_room.folder.path().join("stop"), "").unwrap();
        assert_eq!(other.wait().unwrap().outcome, Outcome::Exited { code: 0 }, "{name}");
        assert!(!alive(&other_room.folder.path().join("escapee")), "{name}");
        assert_eq!(child.try_wait().unwrap(), None, "{name}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn nobody_who_ended_is_left_unwaited_for() {
    for (name, containment) in layers() {
        let room = Room::new();
        let ended = room.run_in(
            &room.command(
                "exec python3 -c '
import os
for i in range(60):
    if os.fork() == 0:
        if i % 2 and os.fork() == 0:
            os.setsid()
        os._exit(0)
print(\"made\")
'",
            ),
            &containment,
        );
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{name}: {ended:?}");
        let own = std::process::id().to_string();
        let zombies: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| {
                let rest: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
                rest.first() == Some(&"Z") && rest.get(1) == Some(&own.as_str())
            })
            .collect();
        assert_eq!(zombies, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_is_ended_after_a_good_end_does_not_make_it_a_bad_one() {
    for (name, containment) in layers() {
        for _ in 0..5 {
            let room = Room::new();
            // Those who are left start one short process after another, each at most 3000.
            let busy =
                "for i in 1 2 3 4; do (i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done) & done";
            let ended = room.run_in(&room.command(&format!("{busy}; sleep 0.05; exit 0")), &containment);
            assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{name}: {ended:?}");
        }
    }
}

/// What makes this test's own program behave as a node that is going to be killed.
const NODE: &str = "QUORATE_TEST_NODE_THAT_DIES";

#[test]
fn a_killed_node_leaves_nothing_in_its_groups_not_even_what_it_had_paused() {
    if let Some(version) = std::env::var_os(NODE) {
        let containment = if version == "1" { Containment::probe_v1() } else { Containment::probe() };
        let room = Room::at(std::env::current_dir().unwrap());
        let running =
            spawn(&room.command(&format!("{ESCAPE}; while :; do sleep 1; done")), &containment).unwrap();
        while !room.has("escapee") {
            std::thread::yield_now();
        }
        running.control().pause();
        while running.control().usage_now().paused < Millis(200) {
            std::thread::yield_now();
        }
        std::fs::write(room.folder.path().join("paused"), "yes").unwrap();
        running.wait().unwrap();
        return;
    }
    for (version, containment) in [("2", Containment::probe()), ("1", Containment::probe_v1())] {
        let tree =
            containment.describe().into_iter().find(|layer| layer.name == "end of whole trees").unwrap();
        if !tree.works {
            assert!(tree.detail.contains("marker"), "{tree:?}");
            continue;
        }
        let room = Room::new();
        let mut node = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "escape::a_killed_node_leaves_nothing_in_its_groups_not_even_what_it_had_paused",
                "--exact",
            ])
            .current_dir(room.folder.path())
            .env(NODE, version)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !room.has("paused") {
            assert_eq!(node.try_wait().unwrap(), None);
            std::thread::yield_now();
        }
        node.kill().unwrap();
        node.wait().unwrap();
        let escapee = room.folder.path().join("escapee");
        assert!(alive(&escapee), "it has to be paused, not ended, for this to be a test");
        let reaped = reap_orphans(&room.marker);
        assert!(!reaped.is_empty() && !alive(&escapee), "{reaped:?}");
        assert_eq!(reap_orphans(&room.marker), []);
    }
}

#[test]
fn how_a_tree_is_ended_is_told() {
    let room = Room::new();
    let ended = room.run_in(&room.command("true"), &Containment::plain());
    assert_eq!(told(&ended, "tree"), "session, ancestry and marker");
}
