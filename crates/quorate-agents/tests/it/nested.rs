//! Processes that are contained and contain others themselves, as validators do.

use quorate_agents::{Containment, Outcome};
use quorate_base::ByteCount;

use crate::room::{Room, layers, told};

/// What makes this test's own program behave as a validator.
const VALIDATOR: &str = "QUORATE_TEST_VALIDATOR";

#[test]
fn a_contained_process_bounds_its_own_children_inside_its_bounds() {
    if std::env::var_os(VALIDATOR).is_some() {
        let room = Room::new();
        let mut command = room.command(
            "for i in 1 2 3; do (head -c 30000000 /dev/zero; sleep 1000) | tail > /dev/null & done; wait",
        );
        command.limits.memory = ByteCount::mib(64);
        let ended = room.run_in(&command, &Containment::nested());
        assert_eq!(ended.outcome, Outcome::MemoryLimit, "{ended:?}");
        println!("memory: {}; tree: {}", told(&ended, "memory"), told(&ended, "tree"));
        return;
    }
    for (name, containment) in layers() {
        let room = Room::new();
        let mut command = room.command("exec \"$PROGRAM\" \"$TEST\" --exact --nocapture");
        command.env.insert("PROGRAM".into(), std::env::current_exe().unwrap().into());
        let test = "nested::a_contained_process_bounds_its_own_children_inside_its_bounds";
        command.env.insert("TEST".into(), test.into());
        command.env.insert(VALIDATOR.into(), "yes".into());
        let ended = room.run_in(&command, &containment);
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{name}: {ended:?} {}", room.out());
        // What a version 1 group holds, groups inside it can hold too; of version 2 only the ending is inherited.
        if told(&ended, "memory").starts_with("cgroup v1") {
            assert!(room.out().contains("memory: cgroup v1"), "{name}: {}", room.out());
        }
        if told(&ended, "tree").starts_with("cgroup v2") {
            assert!(room.out().contains("tree: cgroup v2"), "{name}: {}", room.out());
        }
    }
}
