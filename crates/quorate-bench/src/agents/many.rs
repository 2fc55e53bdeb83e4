//! Many agents at once: until all work, what they cost the node, until all have ended, and after one has died.

use std::fs::File;
use std::process::{Child, Stdio};
use std::thread;

use anyhow::{Context as _, anyhow, ensure};
use quorate_agents::{Command, Outcome, Running, spawn};
use rustix::process::{Pid, Signal, kill_process};

use super::room::{Room, Then, claim, first_instruction, now, resident};
use crate::child::Process;
use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
const FLOOR: &str = "a loop of fork and exec";
/// Agents that are brought up together.
const UP: usize = 100;
/// Agents that are stopped together.
const STOPPED: usize = 150;
/// Agents whose memory is counted together.
const COUNTED: u32 = 300;
/// Agents that are killed, one after the other, in each round.
const KILLED: usize = 20;

/// From asking for a hundred agents to the first instruction of the last.
pub(crate) fn up100(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let room = Room::new()?;
    let candidates = vec![
        Candidate::new("cold", || up(&room, false)),
        Candidate::new("sandboxed", || up(&room, true)),
        Candidate::new("fleet", || up_from_the_fleet(&room)),
        Candidate::new(FLOOR, || floor(&room)),
    ];
    let rounds = interleave(ROUNDS, candidates)?;
    let claim = |name: &str| {
        let id = format!("agents.up100.{name}");
        let how = match name {
            "cold" => "each with limits, session and output files",
            "sandboxed" => "each in its sandbox too",
            _ => "each in its sandbox, started ahead",
        };
        let what = format!("a hundred agents at work, {how}");
        let claimed = Claimed { id: &id, what: &what, name, unit: "ms" };
        let claim = rounds.claim_beside(context, &claimed, FLOOR, |ms| *ms)?;
        let met = claim.ratio.is_some_and(|ratio| ratio < 1.5);
        Ok(claim.goal("under 1.5 × the loop", met))
    };
    ["fleet", "cold", "sandboxed"].into_iter().map(claim).collect()
}

fn commands(room: &Room, count: usize, then: Then, sandboxed: bool) -> anyhow::Result<Vec<Command>> {
    (0..count).map(|at| room.command(&format!("many-{at}"), then, sandboxed)).collect()
}

/// Starts agents as a node does, each in a thread of its own.
fn all(room: &Room, commands: &[Command]) -> anyhow::Result<Vec<Running>> {
    thread::scope(|scope| {
        let start = |command| scope.spawn(move || spawn(command, &room.containment));
        let threads: Vec<_> = commands.iter().map(start).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread failed")));
        joined.map(|started| Ok(started??)).collect()
    })
}

/// Milliseconds from then to the last first instruction.
fn last(commands: &[Command], asked: u64) -> anyhow::Result<f64> {
    let firsts = commands.iter().map(|command| first_instruction(&command.stdout));
    let last = firsts.collect::<anyhow::Result<Vec<_>>>()?.into_iter().max().context("nobody was started")?;
    Ok(last.saturating_sub(asked) as f64 / 1e6)
}

fn end(running: Vec<Running>) -> anyhow::Result<()> {
    running.iter().for_each(|one| one.control().cancel());
    for one in running {
        let ended = one.wait()?;
        ensure!(ended.outcome == Outcome::Cancelled, "{ended:?}");
    }
    Ok(())
}

fn up(room: &Room, sandboxed: bool) -> anyhow::Result<f64> {
    let commands = commands(room, UP, Then::Stays, sandboxed)?;
    let asked = now();
    let running = all(room, &commands)?;
    let took = last(&commands, asked)?;
    end(running)?;
    Ok(took)
}

fn up_from_the_fleet(room: &Room) -> anyhow::Result<f64> {
    let commands = commands(room, UP, Then::Stays, true)?;
    let held = commands.iter().map(|command| room.hold(command)).collect::<anyhow::Result<Vec<_>>>()?;
    let asked = now();
    let pairs = held.into_iter().zip(&commands);
    let running = pairs.map(|(held, command)| claim(held, command)).collect::<anyhow::Result<Vec<_>>>()?;
    let took = last(&commands, asked)?;
    end(running)?;
    Ok(took)
}

fn floor(room: &Room) -> anyhow::Result<f64> {
    let commands = commands(room, UP, Then::Stays, false)?;
    let asked = now();
    let start = |agent: &Command| -> anyhow::Result<Child> {
        let mut command = std::process::Command::new(&agent.program);
        command.args(&agent.args).current_dir(&agent.cwd);
        command.stdin(Stdio::null()).stdout(File::create(&agent.stdout)?);
        Ok(command.spawn()?)
    };
    let children = commands.iter().map(start).collect::<anyhow::Result<Vec<Child>>>()?;
    let took = last(&commands, asked)?;
    for mut child in children {
        child.kill()?;
        child.wait()?;
    }
    Ok(took)
}

/// What an agent takes of the node's memory, at work and while it waits.
pub(crate) fn memory(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let measure = |part: &str, id: &str, what: &str| -> anyhow::Result<Claim> {
        let (process, line) = Process::start(&["agents", part, &COUNTED.to_string()])?;
        process.finish()?;
        let kib = line.parse::<f64>()? / 1024.0;
        Ok(context.claim(id, what, kib, "KiB").goal("under 64 KiB", kib < 64.0))
    };
    let [small, large] = Room::new()?.stages()?.map(|bytes| bytes as f64 / 1024.0);
    let what = "memory of a process that waits, its part of what it shares included";
    Ok(vec![
        context.claim("agents.memory.stage", what, small, "KiB").beside("the stage within quorate", large),
        measure("running", "agents.memory.running", "resident memory of the node for each agent at work")?,
        measure("held", "agents.memory.held", "resident memory of the node for each agent that waits")?,
    ])
}

/// In a process of its own: bytes that become resident here for each agent.
pub(crate) fn held_bytes(part: &str, count: usize) -> anyhow::Result<()> {
    let room = Room::new()?;
    // What the first one needs once is not counted.
    end(all(&room, &commands(&room, 1, Then::Stays, true)?)?)?;
    let commands = commands(&room, count, Then::Stays, true)?;
    let before = resident()?;
    let (mut running, mut held) = (Vec::new(), Vec::new());
    for command in &commands {
        match part {
            "held" => held.push(room.hold(command)?),
            _ => running.push(spawn(command, &room.containment)?),
        }
    }
    let grown = resident()?.saturating_sub(before);
    println!("{}", grown / count.max(1) as u64);
    held.iter().for_each(quorate_agents::Held::release);
    end(running)
}

/// Until a hundred and fifty agents have ended, half of which do not care to be asked.
pub(crate) fn stop150(context: &Context) -> anyhow::Result<Claim> {
    let room = Room::new()?;
    let time = alone_of(ROUNDS, || {
        let mut commands = commands(&room, STOPPED, Then::Stays, true)?;
        for (at, command) in commands.iter_mut().enumerate().skip(1).step_by(2) {
            *command = room.command(&format!("many-{at}"), Then::StaysDeaf, true)?;
        }
        let running = all(&room, &commands)?;
        last(&commands, now())?;
        let asked = now();
        end(running)?;
        Ok(now().saturating_sub(asked) as f64 / 1e9)
    })?;
    let what = "until 150 agents have ended, of which 75 ignore being asked and have 0.7 s";
    Ok(context.claim("agents.stop150", what, time, "s").goal("under 2 s", time < 2.0))
}

fn alone_of(rounds: usize, mut one: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut figures = (0..rounds).map(|_| one()).collect::<anyhow::Result<Vec<_>>>()?;
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().context("nothing was measured")
}

/// From the kill of an agent to the first instruction of the one that follows it, without what its own start takes.
pub(crate) fn recover(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let room = Room::new()?;
    let candidates = vec![
        Candidate::new("sandboxed", || recoveries(&room, false)),
        Candidate::new("fleet", || recoveries(&room, true)),
    ];
    let rounds = interleave(ROUNDS, candidates)?;
    let claim = |name: &str| {
        let id = format!("agents.recover.{name}.p95");
        let what =
            "from the kill of an agent to its successor's first instruction, without the start itself, p95";
        let claimed = Claimed { id: &id, what, name, unit: "ms" };
        let claim = rounds.claim(context, &claimed, |p| p.p95 / 1e6)?;
        let value = claim.value;
        Ok(claim.goal("under 300 ms", value < 300.0))
    };
    ["sandboxed", "fleet"].into_iter().map(claim).collect()
}

fn recoveries(room: &Room, from_the_fleet: bool) -> anyhow::Result<Percentiles> {
    let mut latencies = Latencies::new();
    for _ in 0..KILLED {
        let first = room.command("killed", Then::Stays, true)?;
        let second = room.command("successor", Then::Stays, true)?;
        let running = spawn(&first, &room.containment)?;
        first_instruction(&first.stdout)?;
        let held = from_the_fleet.then(|| room.hold(&second)).transpose()?;
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).context("no process")?;
        let killed = now();
        kill_process(pid, Signal::KILL)?;
        running.wait()?;
        let asked = now();
        let successor = match held {
            Some(held) => claim(held, &second)?,
            None => spawn(&second, &room.containment)?,
        };
        ensure!(first_instruction(&second.stdout)? > asked, "the successor came first");
        latencies.record(asked - killed);
        end(vec![successor])?;
    }
    Ok(latencies.percentiles())
}
