//! Agents that are made to do nothing.

use quorate_agents::{Containment, Outcome, spawn};
use quorate_base::Millis;

use super::{Room, alive};

fn has(room: &Room, name: &str) -> bool {
    std::fs::metadata(room.folder.path().join(name)).is_ok_and(|file| file.len() > 0)
}

#[test]
fn a_paused_tree_does_nothing_its_time_stands_still_and_it_goes_on() {
    for containment in [Containment::probe(), Containment::plain()] {
        let room = Room::new();
        let mut command = room.command(
            "sh -c 'while [ ! -e stop ]; do echo >> work; done' & while [ ! -e stop ]; do echo >> work; done; wait",
        );
        command.limits.wall = Millis(2500);
        let running = spawn(&command, &containment).unwrap();
        while !has(&room, "work") {
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
        assert_eq!(work(), before);
        control.resume();
        while work() == before {
            std::thread::yield_now();
        }
        std::fs::write(room.folder.path().join("stop"), "").unwrap();
        let ended = running.wait().unwrap();
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{ended:?}");
        assert!(ended.usage.paused >= Millis(2600), "{ended:?}");
    }
}

#[test]
fn a_paused_tree_that_is_cancelled_can_still_say_farewell() {
    for containment in [Containment::probe(), Containment::plain()] {
        let room = Room::new();
        let command = room.command(
            "trap 'echo farewell; exit 0' TERM; sleep 1000 & echo $! > child; while :; do sleep 0.01; done",
        );
        let running = spawn(&command, &containment).unwrap();
        while !has(&room, "child") {
            std::thread::yield_now();
        }
        let control = running.control();
        control.pause();
        while control.usage_now().paused < Millis(100) {
            std::thread::yield_now();
        }
        control.cancel();
        assert_eq!(running.wait().unwrap().outcome, Outcome::Cancelled);
        assert_eq!(room.out(), "farewell\n");
        assert!(!alive(&room.folder.path().join("child")));
    }
}
