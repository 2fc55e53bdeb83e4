//! Limits over whole trees, on each layer.

use std::time::{Duration, Instant};

use quorate_agents::{Outcome, spawn};
use quorate_base::{ByteCount, Millis};

use crate::room::{BOMB, RELAY, Room, layers, told};

#[test]
fn a_process_hog_is_stopped_and_its_sibling_goes_on() {
    for (name, containment) in layers() {
        let sibling_room = Room::new();
        let sibling = sibling_room.command("while [ ! -e stop ]; do sleep 0.01; done; echo went on");
        let sibling = spawn(&sibling, &containment).unwrap();
        let room = Room::new();
        let mut command = room.command(BOMB);
        command.limits.processes = 100;
        // What the forked share counts once for each of them where no group counts it.
        command.limits.memory = ByteCount::mib(8192);
        let began = Instant::now();
        let ended = room.run_in(&command, &containment);
        let took = began.elapsed();
        assert_eq!(ended.outcome, Outcome::ProcessLimit, "{name}: {ended:?}");
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        println!("{name}: {took:?}, {}", told(&ended, "processes"));
        std::fs::write(sibling_room.folder.path().join("stop"), "now").unwrap();
        assert_eq!(sibling.wait().unwrap().outcome, Outcome::Exited { code: 0 }, "{name}");
        assert!(sibling_room.out().contains("went on"), "{name}");
    }
}

#[test]
fn a_process_hog_whose_members_all_have_sessions_of_their_own_is_stopped_on_every_layer() {
    for (name, containment) in layers() {
        let room = Room::new();
        let mut command = room.command(RELAY);
        command.limits.processes = 60;
        command.limits.memory = ByteCount::mib(8192);
        let ended = room.run_in(&command, &containment);
        assert_eq!(ended.outcome, Outcome::ProcessLimit, "{name}: {ended:?}");
        // Nobody is left to run another lap.
        let laps = || std::fs::metadata(room.folder.path().join("laps")).unwrap().len();
        let after = laps();
        let watch = Instant::now();
        while watch.elapsed() < Duration::from_millis(200) {
            assert_eq!(laps(), after, "{name}");
        }
    }
}

#[test]
fn without_a_pids_controller_the_kernel_holds_an_ordinary_user_to_what_there_was_and_the_limit() {
    let room = Room::new();
    let mut command = room.command("grep '^Max processes' /proc/self/limits");
    command.limits.processes = 70;
    let ended = room.run_in(&command, &quorate_agents::Containment::plain());
    // It is set for everybody, and told where it holds.
    let held = if rustix::process::getuid().is_root() { "watchdog" } else { "watchdog and RLIMIT_NPROC" };
    assert_eq!(told(&ended, "processes"), held);
    let out = room.out();
    let tasks: u64 = out.split_whitespace().nth(2).unwrap().parse().unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let now: u64 = load.split(' ').nth(3).unwrap().split_once('/').unwrap().1.parse().unwrap();
    // The machine's number of tasks moves; by so much only if it is a bomb itself.
    assert!((70..=now + 8 * 70 + 2000).contains(&tasks), "{out} with {now} tasks");
}

#[test]
fn memory_is_counted_over_the_whole_tree_on_every_layer() {
    for (name, containment) in layers() {
        let room = Room::new();
        // `tail` keeps a line until it ends, and this one does not; none of the four is too large alone.
        let mut command = room.command(
            "for i in 1 2 3 4; do (head -c 40000000 /dev/zero; sleep 1000) | tail > /dev/null & done; wait",
        );
        command.limits.memory = ByteCount::mib(96);
        let ended = room.run_in(&command, &containment);
        assert_eq!(ended.outcome, Outcome::MemoryLimit, "{name}: {ended:?}");
        assert!(ended.usage.memory_peak >= ByteCount::mib(80), "{name}: {ended:?}");
        if name == "no groups" {
            assert_eq!(told(&ended, "memory"), "watchdog and RLIMIT_DATA");
        }
    }
}

#[test]
fn what_is_promised_of_a_machine_is_what_a_launch_then_tells() {
    for (name, containment) in layers() {
        let room = Room::new();
        let mut command = room.command("true");
        command.limits.cpus = Some(500);
        let ended = room.run_in(&command, &containment);
        let promised = containment.describe();
        for (layer, what) in
            [("memory limit", "memory"), ("process limit", "processes"), ("CPU share limit", "cpus")]
        {
            let promised = promised.iter().find(|promised| promised.name == layer).unwrap();
            let told = told(&ended, what);
            assert_eq!(promised.works, told.starts_with("cgroup"), "{name}: {promised:?} {told}");
            if promised.works {
                assert!(promised.detail.starts_with(told), "{name}: {promised:?} {told}");
            }
        }
        let tree = promised.iter().find(|promised| promised.name == "end of whole trees").unwrap();
        assert_eq!(tree.works, told(&ended, "tree").starts_with("cgroup"), "{name}: {tree:?} {ended:?}");
    }
}

#[test]
fn a_share_of_a_processor_is_held_or_told_as_not_held() {
    for (name, containment) in layers() {
        let room = Room::new();
        let mut command = room.command("while :; do :; done");
        command.limits.cpus = Some(200);
        command.limits.wall = Millis(2000);
        let ended = room.run_in(&command, &containment);
        assert_eq!(ended.outcome, Outcome::WallLimit, "{name}: {ended:?}");
        if told(&ended, "cpus").starts_with("cgroup") {
            let share = ended.usage.cpu.as_secs_f64() / ended.usage.wall.as_secs_f64();
            assert!(share < 0.35, "{name}: {share} of a processor");
        } else {
            assert!(told(&ended, "cpus").starts_with("not held"), "{name}: {ended:?}");
        }
    }
}

#[test]
fn a_tree_without_a_share_of_a_processor_has_no_group_for_one() {
    for (name, containment) in layers() {
        let room = Room::new();
        for (cpus, grouped) in [(None, false), (Some(500), true)] {
            let mut command = room.command("cat /proc/self/cgroup");
            command.limits.cpus = cpus;
            let ended = room.run_in(&command, &containment);
            let out = room.out();
            let of_cpu = |line: &&str| {
                line.split(':').nth(1).is_some_and(|names| names.split(',').any(|n| n == "cpu"))
            };
            let inside = out.lines().find(of_cpu).is_some_and(|line| line.contains(&room.marker));
            let held = grouped && told(&ended, "cpus") == "cgroup v1";
            assert_eq!(inside, held, "{name} {cpus:?}: {out}");
        }
    }
}

#[test]
fn a_disk_hog_with_many_files_is_stopped() {
    let room = Room::new();
    let mut command =
        room.command("mkdir -p a/b; i=0; while [ $i -lt 400 ]; do head -c 1048576 /dev/zero > a/b/$i; i=$((i+1)); done; sleep 20");
    command.limits.disk = Some(ByteCount::mib(16));
    let ended = room.run(&command);
    assert_eq!(ended.outcome, Outcome::DiskLimit, "{ended:?}");
    assert_eq!(told(&ended, "disk"), "watchdog and RLIMIT_FSIZE");
}

#[test]
fn a_disk_hog_with_one_file_is_stopped_by_the_kernel_where_it_is_faster() {
    let room = Room::new();
    let mut command = room.command("exec dd if=/dev/zero of=large bs=1M count=512 2> /dev/null");
    command.limits.disk = Some(ByteCount::mib(8));
    let ended = room.run(&command);
    assert_eq!(ended.outcome, Outcome::DiskLimit, "{ended:?}");
    let large = std::fs::metadata(room.folder.path().join("large")).unwrap().len();
    // The output limit of 64 MiB is the larger of the two, and there is as much again before the kernel steps in.
    assert!(large <= 128 << 20, "{large}");
}

#[test]
fn what_was_in_the_worktree_before_does_not_count() {
    let room = Room::new();
    std::fs::write(room.folder.path().join("old"), vec![1; 4 << 20]).unwrap();
    let mut command = room.command("while [ ! -e stop ]; do sleep 0.01; done; echo fine");
    command.limits.disk = Some(ByteCount::mib(1));
    let running = spawn(&command, &quorate_agents::Containment::probe()).unwrap();
    while running.control().usage_now().wall < Millis(500) {
        std::thread::yield_now();
    }
    std::fs::write(room.folder.path().join("stop"), "").unwrap();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Exited { code: 0 });
}

#[test]
fn a_flood_to_both_outputs_from_several_processes_is_cut_off() {
    let room = Room::new();
    let mut command =
        room.command("for i in 1 2 3; do head -c 8G /dev/zero & head -c 8G /dev/zero >&2 & done; wait");
    command.limits.output = ByteCount::mib(16);
    command.limits.disk = Some(ByteCount::mib(1));
    let ended = room.run(&command);
    let over = matches!(ended.outcome, Outcome::OutputLimit | Outcome::DiskLimit);
    assert!(over, "{ended:?}");
    assert!(ended.stdout_bytes <= 80 << 20 && ended.stderr_bytes <= 80 << 20, "{ended:?}");
}

#[test]
fn a_process_that_closes_its_output_is_bounded_all_the_same() {
    let room = Room::new();
    let mut command =
        room.command("exec > /dev/null 2>&1 >&- 2>&-; trap '' TERM; while :; do sleep 0.01; done");
    command.limits.wall = Millis(400);
    let ended = room.run(&command);
    assert_eq!(ended.outcome, Outcome::WallLimit, "{ended:?}");
    assert_eq!((ended.stdout_bytes, ended.stderr_bytes), (0, 0));
}

#[test]
fn a_descriptor_hog_gets_as_many_as_it_may_have() {
    let room = Room::new();
    let mut command = room.command(
        "exec python3 -c '
import os
n = 0
try:
    while True:
        os.open(\"/dev/null\", 0); n += 1
except OSError as error:
    print(n, error.errno)
'",
    );
    command.limits.open_files = 100;
    assert_eq!(room.run(&command).outcome, Outcome::Exited { code: 0 });
    let out = room.out();
    let (count, errno) = out.trim().split_once(' ').unwrap();
    assert!(count.parse::<u32>().unwrap() < 100, "{out}");
    assert_eq!(errno, "24", "too many open files");
}

#[test]
fn the_kernel_takes_an_agent_before_anything_else() {
    let room = Room::new();
    room.run(&room.command("cat /proc/self/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj'"));
    assert_eq!(room.out(), "1000\n1000\n");
    assert_ne!(std::fs::read_to_string("/proc/self/oom_score_adj").unwrap(), "1000\n");
}
