//! Whole runs, beside the same commands by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use quorate_base::Timestamp;
use quorate_evidence::record::Record as Evidence;
use quorate_swarm::git::{self, PrivateRepository};
use quorate_swarm::journal::Journal;
use quorate_swarm::node::stamped;
use quorate_swarm::panel;
use quorate_swarm::record::Record;
use quorate_swarm::state::State;
use quorate_swarm::workspace::Workspace;

use crate::measure::{Claim, Context, in_turn};

/// The run and the script do these, in this order: an agent's command, then the checks.
const AGENT: [&str; 2] = ["cargo", "fmt"];
const CHECKS: [&[&str]; 2] = [
    &["cargo", "test", "--quiet", "--offline"],
    &["cargo", "build", "--quiet", "--offline", "--all-targets"],
];

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tidy")
}

/// The release build of `quorate` beside this program.
fn quorate() -> anyhow::Result<PathBuf> {
    beside("quorate")
}

/// A program beside this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.is_file(), "{} is not there: run `cargo build --release` first", path.display());
    Ok(path)
}

fn sh(folder: &Path, argv: &[&str], target: &Path) -> anyhow::Result<()> {
    let (program, args) = argv.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A worktree of the run's own repository, beside one that git makes.
pub(crate) fn worktree(context: &Context) -> anyhow::Result<Claim> {
    let what = "check the example out for an agent";
    worktrees(context, "worktree.create", what, &example().join("repo"), 30)
}

/// The same with thousands of files.
pub(crate) fn large_worktree(context: &Context) -> anyhow::Result<Claim> {
    let folder = tempfile::tempdir()?;
    for n in 0..5_000_u32 {
        let path = folder.path().join(format!("src/part-{}/module-{n}.rs", n / 50));
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(path, format!("// module {n}\n").repeat(100 + n as usize % 400))?;
    }
    let what = "check five thousand files out for an agent";
    worktrees(context, "worktree.create.large", what, folder.path(), 7)
}

fn worktrees(
    context: &Context,
    id: &'static str,
    what: &'static str,
    files: &Path,
    rounds: usize,
) -> anyhow::Result<Claim> {
    let folder = tempfile::tempdir()?;
    let source = git::init_from_copy(&folder.path().join("copy"), files, Timestamp(0))?;
    let head = source.head_commit()?;
    let private = PrivateRepository::create(&folder.path().join("private.git"), &source)?;
    let (mut ours_n, mut theirs_n) = (0, 0);
    let [ours, theirs] = in_turn(
        rounds,
        || {
            ours_n += 1;
            Ok(private.add_worktree(&folder.path().join(format!("ours-{ours_n}")), &head)?)
        },
        || {
            theirs_n += 1;
            let path = folder.path().join(format!("theirs-{theirs_n}"));
            let path = path.to_str().context("a folder whose name is not text")?;
            sh(source.top(), &["git", "worktree", "add", "--quiet", "--detach", path], folder.path())
        },
    )?;
    let claim = context.claim(id, what, ours.as_secs_f64() * 1e3, "ms");
    Ok(claim.beside("git worktree add", theirs.as_secs_f64() * 1e3))
}

/// One agent, one validator, real checks: Quorate beside a script with the same commands.
pub(crate) fn overhead(context: &Context) -> anyhow::Result<Claim> {
    let folder = tempfile::tempdir()?;
    let program = quorate()?;
    let list = |argv: &[&str]| argv.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let checks: String = CHECKS
        .iter()
        .enumerate()
        .map(|(i, argv)| format!("[checks.c{i}]\nvalidator = \"one\"\ncommand = [{}]\n", list(argv)))
        .collect();
    let swarm = format!(
        "objective = \"format\"\n[repository]\ncopy = \"repo\"\n[agents.a]\nprogram = \"{}\"\nargs = [{}]\n[gate]\nvalidators = [\"one\"]\n{checks}",
        AGENT[0],
        list(&AGENT[1..])
    );
    fs::write(folder.path().join("swarm.toml"), swarm)?;
    let copied =
        Command::new("cp").arg("-r").arg(example().join("repo")).arg(folder.path().join("repo")).status()?;
    ensure!(copied.success(), "the example could not be copied");
    let mut hand = 0;
    let [ours, theirs] = in_turn(
        7,
        || {
            let output = Command::new(&program)
                .args(["run", "swarm.toml", "--quiet"])
                .current_dir(folder.path())
                .output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        },
        || {
            hand += 1;
            by_hand(&folder.path().join("repo"), &folder.path().join(format!("hand-{hand}")))
        },
    )?;
    let share = (ours.as_secs_f64() / theirs.as_secs_f64() - 1.0) * 100.0;
    let what = "wall time of the smallest run over the same commands by hand";
    let mut claim = context.claim("run.overhead", what, share, "%");
    claim.peer = format!(
        "a shell script with the same commands: {:.2} s, Quorate {:.2} s",
        theirs.as_secs_f64(),
        ours.as_secs_f64()
    );
    Ok(claim)
}

/// What a careful person would type for one agent and its checks.
fn by_hand(from: &Path, to: &Path) -> anyhow::Result<()> {
    let target = to.join("target");
    fs::create_dir_all(to)?;
    let copy = to.join("copy");
    let words = |path: &Path| path.to_str().map(str::to_owned).context("a folder whose name is not text");
    sh(to, &["cp", "-r", &words(from)?, &words(&copy)?], &target)?;
    let git = |folder: &Path, args: &[&str]| {
        let identity = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid"];
        sh(folder, &[&identity, args].concat(), &target)
    };
    git(&copy, &["init", "-q", "."])?;
    git(&copy, &["add", "-A"])?;
    git(&copy, &["commit", "-qm", "copy"])?;
    let (work, judged) = (to.join("work"), to.join("judged"));
    git(&copy, &["worktree", "add", "-q", "-b", "result", &words(&work)?])?;
    sh(&work, &AGENT, &target)?;
    git(&work, &["commit", "-qam", "format"])?;
    git(&copy, &["worktree", "add", "-q", "--detach", &words(&judged)?, "result"])?;
    for check in CHECKS {
        sh(&judged, check, &target)?;
    }
    Ok(())
}

/// The node's own memory while the whole example runs.
pub(crate) fn memory(context: &Context) -> anyhow::Result<Claim> {
    let (peak_mib, _) = run_example()?;
    let claim = context.claim(
        "run.memory",
        "largest resident memory of the node during the example",
        peak_mib,
        "MiB",
    );
    Ok(claim.goal("under 25 MB", peak_mib * 1.048_576 < 25.0))
}

/// How much of the example's wall time none of its commands was running: what only Quorate itself took.
pub(crate) fn idle(context: &Context) -> anyhow::Result<Claim> {
    run_example()?;
    let workspace = Workspace::open(&example())?;
    let run = workspace.run(None)?;
    let (entries, _) = Journal::read(&workspace.run_dir(&run).journal())?;
    let records = stamped(&entries)?;
    let state = State::fold(records.iter())?;
    let mut busy: Vec<(u64, u64)> = Vec::new();
    for launch in &state.launches {
        let ended = records.iter().find(|r| matches!(&r.record, Record::AgentEnded(e) if **e == *launch));
        let ended = ended.context("a launch without its record")?.time.0;
        busy.push((ended.saturating_sub(launch.wall.0), ended));
    }
    for ballot in state.ballots.values() {
        for (_, report) in panel::reports(ballot) {
            for result in report.results {
                let bytes = workspace.store().get(&result.evidence)?;
                let evidence = Evidence::parse(&bytes, result.evidence)?;
                busy.push((evidence.started.0, evidence.started.0 + evidence.wall_ms));
            }
        }
    }
    busy.sort_unstable();
    let (mut covered, mut until) = (0, state.started_at.0);
    for (from, to) in busy {
        let from = from.max(until);
        covered += to.saturating_sub(from);
        until = until.max(to);
    }
    let wall = state.last_at.since(state.started_at).0.max(1);
    let share = wall.saturating_sub(covered) as f64 / wall as f64 * 100.0;
    let what = "wall time of the example in which none of its commands ran";
    Ok(context.claim("run.idle", what, share, "%").goal("under 3 %", share < 3.0))
}

/// The whole example, for orientation.
pub(crate) fn example_run(context: &Context) -> anyhow::Result<Claim> {
    let (_, wall) = run_example()?;
    Ok(context.claim(
        "run.example",
        "wall time of the example: twelve agents, panels of five",
        wall.as_secs_f64(),
        "s",
    ))
}

fn run_example() -> anyhow::Result<(f64, Duration)> {
    let start = std::time::Instant::now();
    let mut child = Command::new(quorate()?)
        .args(["run", "swarm.toml", "--quiet"])
        .current_dir(example())
        .stdout(Stdio::null())
        .spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0.0_f64;
    let status = loop {
        let text = fs::read_to_string(&status_file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
        peak_kib = peak_kib.max(now);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(status.success(), "the example ended with {status}");
    Ok((peak_kib / 1024.0, start.elapsed()))
}
