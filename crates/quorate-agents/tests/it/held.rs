//! Processes that are started ahead, and what becomes of them.

use std::ffi::OsString;
use std::path::Path;

use quorate_agents::{
    Claim, ClaimError, Command, Containment, FrameError, Held, Network, Outcome, Running, Sandbox,
    SpawnError, WORD_BYTES_MAX, hold_ahead, sandbox::places, spawn,
};
use quorate_base::Millis;

use crate::Room;

fn stage() -> Vec<OsString> {
    vec![env!("CARGO_BIN_EXE_quorate-agents-stage").into()]
}

/// One that waits to become what the command says.
fn held(command: &Command) -> Held {
    hold_ahead(command, &stage(), &Containment::probe()).unwrap()
}

/// The rest of the command.
fn claim(command: &Command) -> Claim {
    Claim::from(command)
}

fn claimed(command: &Command) -> Running {
    held(command).claim(claim(command)).unwrap()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_claimed_process_keeps_its_number_and_is_told_what_a_new_one_is_told() {
    let room = Room::new();
    let mut command =
        room.command("env | cut -d= -f1 | sort | tr '\\n' ' '; pwd; echo $$; printf %s \"$1\"; exit 7");
    command.args.extend(["sh".into(), "".into()]);
    let cold = room.run(&command);
    let cold_words = room.out();
    let held = held(&command);
    let pid = held.pid();
    let ended = held.claim(claim(&command)).unwrap().wait().unwrap();
    let (words, number) = (room.out(), format!("{pid}\n"));
    assert_eq!(ended.outcome, Outcome::Exited { code: 7 });
    assert_eq!(ended.outcome, cold.outcome);
    assert!(words.ends_with(&number), "{words}");
    let without_number = |words: &str| {
        words.rsplit_once("\n").and_then(|(rest, _)| rest.rsplit_once('\n')).unwrap().0.to_owned()
    };
    assert_eq!(without_number(&words), without_number(&cold_words));
    assert!(ended.containment.iter().any(|line| line.starts_with("start: from the fleet")), "{ended:?}");
    assert!(!cold.containment.iter().any(|line| line.starts_with("start:")), "{cold:?}");
}

#[test]
fn no_descriptor_but_the_usual_ones_and_no_changed_signal_reaches_a_claimed_program() {
    let room = Room::new();
    let command = room.command("ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigIgn|SigBlk' /proc/self/status");
    room.run(&command);
    let cold = room.out();
    claimed(&command).wait().unwrap();
    assert_eq!(room.out(), cold);
}

#[test]
fn the_sandbox_that_was_entered_ahead_holds_the_program() {
    let room = Room::new();
    let folder = room.folder.path().canonicalize().unwrap();
    let (worktree, tmp) = (folder.join("worktree"), folder.join("tmp"));
    for made in [&worktree, &tmp] {
        std::fs::create_dir(made).unwrap();
    }
    std::fs::write(folder.join("secret"), "hush").unwrap();
    let mut command = Command {
        cwd: worktree.clone(),
        ..room.command("echo ours > mine; cat ../secret; echo theirs > ../theirs; cat mine")
    };
    let mut write = places::devices();
    write.extend([worktree, tmp.clone()]);
    command.sandbox = Some(Sandbox {
        read: places::readable(&command.env),
        write,
        hidden: places::hidden(&command.env),
        temporary: Some(tmp),
        network: Network::Off,
        egress: Default::default(),
        require: Vec::new(),
    });
    let ended = claimed(&command).wait().unwrap();
    if ended.containment.iter().all(|line| line != "files: not held") {
        assert_eq!(room.out(), "ours\n", "{ended:?}");
        assert!(!folder.join("theirs").exists());
    }
}

#[test]
fn limits_hold_a_claimed_process_and_its_wall_time_begins_when_it_is_claimed() {
    let room = Room::new();
    let mut command = room.command("ulimit -n; sleep 60 & wait");
    command.limits.wall = Millis(1);
    let held = held(&command);
    let ended = held.claim(Claim { wall: Millis(400), ..claim(&command) }).unwrap().wait().unwrap();
    assert_eq!(ended.outcome, Outcome::WallLimit);
    assert!((400..5_000).contains(&ended.usage.wall.0), "{ended:?}");
    assert_eq!(room.out(), "256\n");
}

#[test]
fn a_claimed_process_can_be_ended_with_its_tree() {
    let room = Room::new();
    let running = claimed(&room.command("trap '' TERM; sleep 60 & wait; sleep 60"));
    let pid = running.pid();
    running.control().cancel();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Cancelled);
    assert!(!is_there(pid));
}

#[test]
fn output_goes_to_where_the_claim_says() {
    let room = Room::new();
    let command = room.command("echo out; echo err >&2");
    let held = held(&command);
    let to = |name| room.folder.path().join(name);
    let claim = Claim { stdout: to("1.out"), stderr: to("1.err"), ..claim(&command) };
    let ended = held.claim(claim).unwrap().wait().unwrap();
    assert_eq!((ended.stdout_bytes, ended.stderr_bytes), (4, 4));
    assert_eq!(std::fs::read_to_string(to("1.err")).unwrap(), "err\n");
    assert!(!command.stdout.exists());
}

#[test]
fn a_program_that_cannot_be_run_is_told_as_where_nothing_was_started_ahead() {
    let room = Room::new();
    let command = room.command("");
    let missing = Claim { program: "no-such-program-here".into(), ..claim(&command) };
    let error = held(&command).claim(missing).unwrap_err();
    assert!(matches!(error, ClaimError::Spawn(SpawnError::NotFound { .. })), "{error:?}");
    let folder = Claim { program: "/".into(), ..claim(&command) };
    let error = held(&command).claim(folder).unwrap_err();
    assert!(
        matches!(
            error,
            ClaimError::Spawn(SpawnError::NotExecutable { .. } | SpawnError::NotExecutableInside { .. })
        ),
        "{error:?}"
    );
}

#[test]
fn what_is_too_much_to_tell_is_refused_and_ends_the_process() {
    let room = Room::new();
    let command = room.command("");
    let word = OsString::from("x".repeat(WORD_BYTES_MAX + 1));
    let refused = |claim: Claim| {
        let held = held(&command);
        let pid = held.pid();
        let error = held.claim(claim).unwrap_err();
        assert!(!is_there(pid));
        error
    };
    let error = refused(Claim { args: vec![word], ..claim(&command) });
    assert!(matches!(error, ClaimError::Frame(FrameError::WordTooLong { .. })), "{error:?}");
    let args = vec![OsString::from("x".repeat(100_000)); 20];
    let error = refused(Claim { args, ..claim(&command) });
    assert!(matches!(error, ClaimError::Frame(FrameError::TooLong { .. })), "{error:?}");
}

#[test]
fn as_much_as_a_frame_takes_arrives() {
    let room = Room::new();
    let command = room.command("printf %s \"$*\" | wc -c");
    let mut claim = claim(&command);
    claim.args.extend(std::iter::repeat_n(OsString::from("x".repeat(100_000)), 10));
    let ended = held(&command).claim(claim).unwrap().wait().unwrap();
    assert_eq!((ended.outcome, room.out().trim()), (Outcome::Exited { code: 0 }, "900008"));
}

#[test]
fn one_that_died_is_noticed_and_cannot_be_claimed() {
    let room = Room::new();
    let command = room.command("");
    let held = held(&command);
    let pid = rustix::process::Pid::from_raw(i32::try_from(held.pid()).unwrap()).unwrap();
    assert!(held.is_alive());
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while held.is_alive() {
        std::thread::yield_now();
    }
    let error = held.claim(claim(&command)).unwrap_err();
    assert!(matches!(error, ClaimError::Ended), "{error:?}");
}

#[test]
fn two_hundred_at_once_end_when_they_are_let_go_and_leave_nothing() {
    let rooms: Vec<Room> = (0..200).map(|_| Room::new()).collect();
    let containment = Containment::probe();
    let held: Vec<Held> =
        rooms.iter().map(|room| hold_ahead(&room.command(""), &stage(), &containment).unwrap()).collect();
    let pids: Vec<u32> = held.iter().map(Held::pid).collect();
    assert!(held.iter().all(Held::is_alive));
    held.iter().for_each(Held::release);
    drop(held);
    assert!(!pids.into_iter().any(is_there));
}

#[test]
fn what_one_is_told_no_other_sees() {
    let room = Room::new();
    let waiting = held(&Room::new().command(""));
    let mut command = room.command("sleep 60");
    command.env.insert("TOKEN".into(), "hush-hush".into());
    let running = held(&command).claim(claim(&command)).unwrap();
    let environment = |pid: u32| std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let tells = |pid| environment(pid).windows(9).any(|part| part == b"hush-hush");
    assert!(tells(running.pid()) && !tells(waiting.pid()));
    assert!(!environment(waiting.pid()).windows(5).any(|part| part == b"HOME="));
    running.control().cancel();
    running.wait().unwrap();
}

#[test]
fn one_that_waits_carries_the_marker_of_its_run() {
    let room = Room::new();
    // Without groups, its environment is all that tells.
    let held = hold_ahead(&room.command(""), &stage(), &Containment::plain()).unwrap();
    let reaped = quorate_agents::reap_orphans(&room.marker);
    assert!(reaped.iter().any(|process| process.pid == held.pid()), "{reaped:?}");
}

#[test]
fn a_stage_that_is_not_there_is_told() {
    let room = Room::new();
    let error = hold_ahead(&room.command(""), &["/no/such/stage".into()], &Containment::plain()).unwrap_err();
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
    spawn(&room.command("true"), &Containment::plain()).unwrap().wait().unwrap();
}

#[test]
fn a_node_with_more_open_files_than_an_agent_may_have_starts_it_all_the_same() {
    let room = Room::new();
    let mut command = room.command("ulimit -n");
    command.limits.open_files = 32;
    let tmp = room.folder.path().canonicalize().unwrap();
    let mut write = places::devices();
    write.push(tmp.clone());
    let (read, temporary) = (places::readable(&command.env), Some(tmp));
    command.sandbox = Some(Sandbox { read, write, temporary, ..Sandbox::default() });
    let open: Vec<_> = (0..64).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    assert_eq!(room.run(&command).outcome, Outcome::Exited { code: 0 });
    assert_eq!(room.out(), "32\n");
    claimed(&command).wait().unwrap();
    assert_eq!(room.out(), "32\n");
    drop(open);
}
