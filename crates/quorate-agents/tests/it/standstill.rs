//! Agents that do nothing, and agents that are made to do nothing.

use std::time::Duration;

use quorate_agents::{Note, Outcome, spawn};
use quorate_base::Millis;

use crate::room::{Room, alive, layers};

#[test]
fn an_idle_process_is_told_of_asked_and_ended() {
    let room = Room::new();
    let mut command = room.command("trap 'echo asked; exit 0' TERM; sleep 1000 & wait");
    command.limits.idle = Some(Millis(500));
    let mut notes = Vec::new();
    let running = spawn(&command, &quorate_agents::Containment::probe()).unwrap();
    let ended = running.wait_for(Duration::from_secs(20), |note| notes.push(note)).unwrap().unwrap();
    assert_eq!(ended.outcome, Outcome::Idle, "{ended:?}");
    let [Note::Idle { silent }] = notes[..] else { panic!("{notes:?}") };
    assert!(silent >= Millis(500));
    assert_eq!(room.out(), "asked\n");
}

#[test]
fn a_process_that_only_computes_or_only_writes_is_not_idle() {
    for work in ["while :; do :; done", "while :; do echo >> file; sleep 0.05; done"] {
        let room = Room::new();
        let mut command = room.command(work);
        command.limits.idle = Some(Millis(600));
        command.limits.wall = Millis(1800);
        assert_eq!(room.run(&command).outcome, Outcome::WallLimit, "{work}");
    }
}

#[test]
fn a_paused_tree_does_nothing_its_time_stands_still_and_it_goes_on() {
    for (name, containment) in layers() {
        let room = Room::new();
        let mut command = room.command(
            "sh -c 'while [ ! -e stop ]; do echo >> work; done' & while [ ! -e stop ]; do echo >> work; done; wait",
        );
        command.limits.wall = Millis(2500);
        command.limits.idle = Some(Millis(1500));
        let running = spawn(&command, &containment).unwrap();
        while !room.has("work") {
            std::thread::yield_now();
        }
        let control = running.control();
        let work = || std::fs::metadata(room.folder.path().join("work")).unwrap().len();
        let paused_for = |span| {
            while control.usage_now().paused < span {
                std::thread::yield_now();
            }
        };
        control.pause();
        paused_for(Millis(500));
        let before = work();
        paused_for(Millis(2600));
        assert_eq!(work(), before, "{name}");
        control.resume();
        while work() == before {
            std::thread::yield_now();
        }
        std::fs::write(room.folder.path().join("stop"), "").unwrap();
        let ended = running.wait().unwrap();
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{name}: {ended:?}");
        assert!(ended.usage.paused >= Millis(2600) && ended.usage.wall < Millis(2500), "{name}: {ended:?}");
    }
}

#[test]
fn a_paused_tree_can_be_cancelled_and_shed() {
    for (name, containment) in layers() {
        for outcome in [Outcome::Cancelled, Outcome::MemoryPressure] {
            let room = Room::new();
            let command = room.command("sleep 1000 & echo $! > child; while :; do sleep 1; done");
            let running = spawn(&command, &containment).unwrap();
            while !room.has("child") {
                std::thread::yield_now();
            }
            let control = running.control();
            control.pause();
            while control.usage_now().paused < Millis(100) {
                std::thread::yield_now();
            }
            match outcome {
                Outcome::Cancelled => control.cancel(),
                _ => control.shed(),
            }
            assert_eq!(running.wait().unwrap().outcome, outcome, "{name}");
            assert!(!alive(&room.folder.path().join("child")), "{name}");
        }
    }
}

#[test]
fn a_paused_tree_that_is_cancelled_can_still_say_farewell() {
    for (name, containment) in layers() {
        let room = Room::new();
        let command = room.command(
            "trap 'echo farewell; exit 0' TERM; sleep 1000 & echo $! > child; while :; do sleep 0.01; done",
        );
        let running = spawn(&command, &containment).unwrap();
        while !room.has("child") {
            std::thread::yield_now();
        }
        let control = running.control();
        control.pause();
        while control.usage_now().paused < Millis(100) {
            std::thread::yield_now();
        }
        control.cancel();
        assert_eq!(running.wait().unwrap().outcome, Outcome::Cancelled, "{name}");
        assert_eq!(room.out(), "farewell\n", "{name}");
    }
}
