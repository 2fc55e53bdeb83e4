//! What a hundred thousand subscribers in one process take, and what a bus takes while nothing happens.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quorate_bus::{Bus, Limits, Wait};

use super::socket::Served;
use crate::child::{self, Process};
use crate::harness::goal::Bound;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::usage::{processor_time, resident};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
const SUBSCRIBERS: u32 = 100_000;
const IDLE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Counted {
    megabytes: f64,
    seconds: f64,
}

/// In a fresh process each.
pub(crate) fn actors(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let run = || -> anyhow::Result<Counted> {
        let (process, line) = Process::start(&["actors"])?;
        process.finish()?;
        let (bytes, seconds) = line.split_once(' ').context("a line of another kind")?;
        Ok(Counted { megabytes: bytes.parse::<f64>()? / 1e6, seconds: seconds.parse()? })
    };
    let rounds = interleave(ROUNDS, vec![Candidate::new("quorate", run)])?;
    let claim = |id, what, unit, of: fn(&Counted) -> f64, most| {
        let claim = rounds.claim(context, &Claimed { id, what, name: "quorate", unit }, of)?;
        anyhow::Ok(claim.value_goal(Bound::AtMost(most)))
    };
    let memory = "resident memory of 100000 subscribers of a shard, each of a topic of its own";
    let spawn = "time to subscribe 100000 handlers of a shard, each to a topic of its own";
    Ok(vec![
        claim("bus.actors.memory", memory, "MB", |counted| counted.megabytes, 60.0)?,
        claim("bus.actors.spawn", spawn, "s", |counted| counted.seconds, 0.2)?,
    ])
}

/// The other process: says how many bytes and seconds its subscribers took.
pub(crate) fn count_actors() -> anyhow::Result<()> {
    let bus = Bus::default();
    let mut shard = bus.shard("actors", Limits::default(), Wait::Park)?;
    let (before, start) = (resident(std::process::id())?, Instant::now());
    for number in 0..SUBSCRIBERS {
        let mut handled = 0_u32;
        shard.subscribe(&format!("actor.{number}"), None, move |message| {
            handled += message.payload().len() as u32 + number;
            std::hint::black_box(handled);
        })?;
    }
    let (seconds, after) = (start.elapsed().as_secs_f64(), resident(std::process::id())?);
    ensure!(shard.len() == SUBSCRIBERS as usize, "there are {} subscribers", shard.len());
    println!("{} {seconds}", after.saturating_sub(before));
    child::until_told()
}

/// Processor time while nothing happens.
pub(crate) fn idle(context: &Context) -> anyhow::Result<Claim> {
    let served = Served::start("idle")?;
    // What its start still does is over.
    thread::sleep(Duration::from_millis(300));
    let before = processor_time(served.process())?;
    thread::sleep(IDLE);
    let spent = processor_time(served.process())?.saturating_sub(before);
    let what =
        "processor time in 2 s of a bus with a server and 100 sleeping subscribers, to a tick of 10 ms";
    Ok(context.claim("bus.idle", what, spent.as_secs_f64() * 1e3, "ms").value_goal(Bound::AtMost(10.0)))
}
