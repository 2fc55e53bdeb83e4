//! Real processes, held and ended.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the answer")]

mod bounds;
mod egress;
mod escape;
mod held;
mod nested;
mod room;
mod sandbox;
mod standstill;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use quorate_agents::{Command, Containment, Outcome, SpawnError, Stdin, reap_orphans, spawn};
use quorate_base::{ByteCount, Millis};

use room::{Room, alive};

#[test]
fn a_process_sees_its_own_environment_arguments_and_input_and_nothing_else() {
    let room = Room::new();
    let mut command = room.command("env | cut -d= -f1 | sort | tr '\\n' ' '; cat; printf %s \"$1\"");
    command.args.extend([OsString::from("sh"), OsString::from_vec(b"\xff$(id)\n".to_vec())]);
    command.stdin = Stdin::Bytes(b"input".to_vec());
    let ended = room.run(&command);
    assert_eq!(ended.outcome, Outcome::Exited { code: 0 });
    let out = std::fs::read(room.folder.path().join("out")).unwrap();
    let text = String::from_utf8_lossy(&out);
    assert!(text.starts_with("HOME PATH PWD QUORATE_PROCESS QUORATE_RUN "), "{text}");
    assert!(out.ends_with(b"input\xff$(id)\n"), "{text}");
}

#[test]
fn exit_codes_and_signals_are_told() {
    let room = Room::new();
    assert_eq!(room.run(&room.command("exit 7")).outcome, Outcome::Exited { code: 7 });
    assert_eq!(room.run(&room.command("kill -9 $$")).outcome, Outcome::Signaled { signal: 9 });
}

#[test]
fn a_missing_program_and_a_missing_folder_are_told_apart() {
    let room = Room::new();
    let missing = Command { program: "no-such-program-here".into(), ..room.command("") };
    assert!(matches!(spawn(&missing, &Containment::probe()), Err(SpawnError::NotFound { .. })));
    let nowhere = Command { cwd: room.folder.path().join("gone"), ..room.command("") };
    assert!(matches!(spawn(&nowhere, &Containment::probe()), Err(SpawnError::NoFolder { .. })));
}

#[test]
fn a_process_that_ignores_being_asked_is_ended_at_its_wall_limit() {
    let room = Room::new();
    let mut command = room.command("trap '' TERM; while :; do sleep 0.05; done");
    command.limits.wall = Millis(300);
    let began = Instant::now();
    assert_eq!(room.run(&command).outcome, Outcome::WallLimit);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn memory_over_the_limit_ends_the_tree_with_and_without_a_control_group() {
    for containment in [Containment::probe(), Containment::plain()] {
        let room = Room::new();
        let mut command = room.command("awk 'BEGIN { s = \"x\"; while (1) s = s s }' & wait");
        command.limits.memory = ByteCount::mib(96);
        let ended = spawn(&command, &containment).unwrap().wait().unwrap();
        assert_eq!(ended.outcome, Outcome::MemoryLimit, "{ended:?}");
        assert!(ended.usage.memory_peak > ByteCount::mib(64), "{ended:?}");
    }
}

#[test]
fn cpu_time_over_the_limit_ends_the_tree() {
    let room = Room::new();
    let mut command = room.command("while :; do :; done");
    command.limits.cpu = Millis(300);
    let ended = room.run(&command);
    assert_eq!(ended.outcome, Outcome::CpuLimit);
    assert!(ended.usage.cpu >= Millis(250), "{ended:?}");
}

#[test]
fn a_flood_of_output_is_cut_off_and_costs_no_memory_here() {
    let room = Room::new();
    let mut command = room.command("head -c 1073741824 /dev/zero");
    command.limits.output = ByteCount::mib(16);
    let ended = room.run(&command);
    assert_eq!(ended.outcome, Outcome::OutputLimit);
    assert!(ended.stdout_bytes > 16 << 20);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak_kib: u64 = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak_kib < 64 << 10, "{peak_kib} KiB resident at most");
}

#[test]
fn nothing_survives_its_leader_even_in_a_session_of_its_own() {
    for containment in [Containment::probe(), Containment::plain()] {
        let room = Room::new();
        let command = room.command(
            "setsid sh -c 'echo $$ > escapee; exec sleep 1000' & while [ ! -s escapee ]; do sleep 0.01; done",
        );
        let ended = spawn(&command, &containment).unwrap().wait().unwrap();
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 });
        assert!(!alive(&room.folder.path().join("escapee")));
    }
}

#[test]
fn a_cancelled_process_ends_with_everything_it_started() {
    let room = Room::new();
    let command = room.command("sleep 1000 & echo $! > child; echo ready; wait");
    let running = spawn(&command, &Containment::probe()).unwrap();
    while !room.out().contains("ready") {
        std::thread::yield_now();
    }
    running.control().cancel();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Cancelled);
    assert!(!alive(&room.folder.path().join("child")));
}

#[test]
fn what_a_dead_node_left_is_found_by_its_marker() {
    let room = Room::new();
    let child = std::process::Command::new("setsid")
        .args(["sh", "-c", "exec sleep 1000"])
        .env("QUORATE_RUN", &room.marker)
        .spawn();
    let mut child = child.unwrap();
    // Until it has become the program, it still shows this process's environment.
    let mut reaped = Vec::new();
    while reaped.is_empty() {
        reaped = reap_orphans(&room.marker);
    }
    child.wait().unwrap();
    assert_eq!(reap_orphans(&room.marker), []);
}
