//! From asking for an agent to its first instruction, beside the same program started with nothing around it.

use std::fs::File;
use std::process::Stdio;

use anyhow::ensure;
use quorate_agents::{Outcome, Running, spawn as start};

use super::room::{Room, Then, claim, first_instruction, now};
use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 7;
/// Starts of each round, one after the other.
const STARTS: usize = 40;
/// The floor that all stand beside.
const FLOOR: &str = "std::process";

/// Three ways of ours, each beside the plainest way there is, and what others offer.
pub(crate) fn spawn(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let room = Room::new()?;
    let mut candidates = vec![
        Candidate::new("cold", || starts(|at| ours(&room, at, false))),
        Candidate::new("sandboxed", || starts(|at| ours(&room, at, true))),
        Candidate::new("fleet", || starts(|at| from_the_fleet(&room, at))),
        Candidate::new(FLOOR, || starts(|at| plain(&room, at))),
    ];
    #[cfg(feature = "peers")]
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        candidates.push(Candidate::new("tokio::process", {
            let room = &room;
            move || starts(|at| tokio(&runtime, room, at))
        }));
    }
    let parallel = std::process::Command::new("parallel").arg("--version").output().is_ok();
    if parallel {
        candidates.push(Candidate::new("GNU parallel", || gnu_parallel(&room)));
    }
    let rounds = interleave(ROUNDS, candidates)?;
    let mut claims = Vec::new();
    for name in rounds.names() {
        for (figure, of) in Percentiles::NAMES.into_iter().take(2) {
            let part = name.to_lowercase().replace("::", "-").replace(' ', "-");
            let (id, what) = (format!("agents.spawn.{part}.{figure}"), format!("{}, {figure}", what(name)));
            let claimed = Claimed { id: &id, what: &what, name, unit: "ms" };
            let of = |p: &Percentiles| of(p) / 1e6;
            let claim = match name {
                FLOOR => rounds.claim(context, &claimed, of)?,
                _ => rounds.claim_beside(context, &claimed, FLOOR, of)?,
            };
            let value = claim.value;
            claims.push(match (name, figure) {
                ("fleet", "p95") => claim.goal("under 3 ms", value < 3.0),
                ("sandboxed", "p95") => claim.goal("under 10 ms", value < 10.0),
                _ => claim,
            });
        }
    }
    if !parallel && let Some(claim) = claims.first_mut() {
        claim.peer.push_str("; GNU parallel: not installed");
    }
    Ok(claims)
}

fn what(name: &str) -> String {
    let how = match name {
        "cold" => "with limits, session and output files",
        "sandboxed" => "and in its sandbox",
        "fleet" => "the same, started ahead",
        _ => "with output to a file, and nothing else",
    };
    format!("from asking to the first instruction: {how}")
}

/// A number of starts, each of which answers how long it took, in nanoseconds.
fn starts(mut one: impl FnMut(usize) -> anyhow::Result<u64>) -> anyhow::Result<Percentiles> {
    let mut latencies = Latencies::new();
    for at in 0..STARTS {
        latencies.record(one(at)?);
    }
    Ok(latencies.percentiles())
}

fn ours(room: &Room, at: usize, sandboxed: bool) -> anyhow::Result<u64> {
    let command = room.command(&format!("ours-{at}"), Then::Ends, sandboxed)?;
    let asked = now();
    let running = start(&command, &room.containment)?;
    over(running)?;
    Ok(first_instruction(&command.stdout)?.saturating_sub(asked))
}

fn from_the_fleet(room: &Room, at: usize) -> anyhow::Result<u64> {
    let command = room.command(&format!("fleet-{at}"), Then::Ends, true)?;
    let held = room.hold(&command)?;
    let asked = now();
    let running = claim(held, &command)?;
    over(running)?;
    Ok(first_instruction(&command.stdout)?.saturating_sub(asked))
}

fn over(running: Running) -> anyhow::Result<()> {
    let ended = running.wait()?;
    ensure!(ended.outcome == Outcome::Exited { code: 0 }, "{ended:?}");
    Ok(())
}

fn plain(room: &Room, at: usize) -> anyhow::Result<u64> {
    let agent = room.command(&format!("plain-{at}"), Then::Ends, false)?;
    let asked = now();
    let mut command = std::process::Command::new(&agent.program);
    command.current_dir(&agent.cwd).stdin(Stdio::null()).stdout(File::create(&agent.stdout)?);
    ensure!(command.spawn()?.wait()?.success(), "the floor fell");
    Ok(first_instruction(&agent.stdout)?.saturating_sub(asked))
}

#[cfg(feature = "peers")]
fn tokio(runtime: &tokio::runtime::Runtime, room: &Room, at: usize) -> anyhow::Result<u64> {
    let agent = room.command(&format!("tokio-{at}"), Then::Ends, false)?;
    let asked = now();
    let mut command = tokio::process::Command::new(&agent.program);
    command.current_dir(&agent.cwd).stdin(Stdio::null()).stdout(File::create(&agent.stdout)?);
    let status = runtime.block_on(async { command.spawn()?.wait().await })?;
    ensure!(status.success(), "the program failed");
    Ok(first_instruction(&agent.stdout)?.saturating_sub(asked))
}

/// All starts of a round as jobs of one call, one after the other as elsewhere; what it takes itself to begin counts with
/// the first. A job's start is asked for when the one before has ended, which nobody outside sees: it is counted from then.
fn gnu_parallel(room: &Room) -> anyhow::Result<Percentiles> {
    let agent = room.command("parallel", Then::Ends, false)?;
    let mut asked = now();
    let numbers: Vec<String> = (0..STARTS).map(|at| at.to_string()).collect();
    let output = std::process::Command::new("parallel")
        .args(["--will-cite", "-j1", "-N0"])
        .arg(&agent.program)
        .arg(":::")
        .args(numbers)
        .current_dir(&agent.cwd)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut latencies = Latencies::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let first = line.parse::<u64>()?;
        latencies.record(first.saturating_sub(asked));
        asked = first;
    }
    Ok(latencies.percentiles())
}
