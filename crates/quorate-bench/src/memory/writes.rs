//! Writing by key: acknowledged in memory, and acknowledged on the disk beside the other stores.

use std::time::Instant;

use quorate_memory::Class;

use super::quorate::{Quorate, open};
use crate::harness::goal::{Against, Bound};
use crate::harness::latency::Percentiles;
use crate::harness::rounds::{Candidate, Claimed, chosen, interleave};
use crate::harness::scratch;
use crate::measure::{Claim, Context};
use crate::stores::store::{key, mix, value};
use crate::stores::{write_candidates, writing};

const ROUNDS: usize = 5;
const RELAXED_ROUNDS: usize = 9;
const KEYS: u64 = 100_000;
/// Keys that are written again and again.
const HOT: u64 = 1_000;
const WRITES: u64 = 100_000;
const ABSENT: &str = "not built: needs the feature peers";

/// Nanoseconds a write that a crash may take.
pub(crate) fn relaxed(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let space = open(folder.path())?.with_class(Class::Relaxed);
    for number in 0..KEYS {
        space.put(key(number).as_slice(), value(number).as_slice())?;
    }
    let (space, mut next, mut draws) = (&space, KEYS, 0);
    let write = |numbers: &mut dyn Iterator<Item = u64>| -> anyhow::Result<f64> {
        let pairs: Vec<_> = numbers.map(|number| (key(number), value(number))).collect();
        // What was written before is on its way no longer.
        space.store().flush()?;
        let start = Instant::now();
        for (key, value) in &pairs {
            space.put(key.as_slice(), value.as_slice())?;
        }
        Ok(start.elapsed().as_nanos() as f64 / pairs.len() as f64)
    };
    let again = Candidate::new("again", || {
        draws += WRITES;
        write(&mut (draws..draws + WRITES).map(|draw| mix(draw) % KEYS))
    });
    let hot = Candidate::new("hot", || write(&mut (0..WRITES).map(|draw| mix(draw) % HOT)));
    let new = Candidate::new("new", || {
        next += WRITES / 4;
        write(&mut (next - WRITES / 4..next))
    });
    let rounds = interleave(RELAXED_ROUNDS, vec![again, hot, new])?;
    let claim = |(id, what, name)| {
        let claimed = Claimed { id, what, name, unit: "ns" };
        Ok(rounds.claim(context, &claimed, |nanos| *nanos)?.value_goal(Bound::AtMost(500.0)))
    };
    [
        (
            "memory.write.relaxed",
            "write a value of 256 B anew to a key of 24 B, any of 100000, acknowledged in memory",
            "again",
        ),
        (
            "memory.write.relaxed.hot",
            "write a value of 256 B anew to a key of 24 B, one of 1000 hot ones, acknowledged in memory",
            "hot",
        ),
        (
            "memory.write.relaxed.new",
            "write a value of 256 B to a new key of 24 B, acknowledged in memory",
            "new",
        ),
    ]
    .into_iter()
    .map(claim)
    .collect()
}

/// Writes a second that are on the disk.
pub(crate) fn durable(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let mut candidates: Vec<_> =
        chosen(writing::<Quorate>(folder.path())?, &["quorate.one", "quorate.concurrent100"]).collect();
    candidates.extend(write_candidates(folder.path())?);
    let rounds = interleave(ROUNDS, candidates)?;
    let peers = |kind: &str| ["redb", "fjall", "lmdb", "sqlite"].map(|store| format!("{store}.{kind}"));
    let [alone, many, queued] = ["one", "concurrent100", "queued100"].map(peers);
    let raw = ["log-and-map.concurrent100".to_owned()];
    let with_a_queue = "100 threads, beside stores with a queue of ours before them,";
    let what = |who| {
        format!(
            "values of 256 B written by {who}, acknowledged when they are on the disk, to a store of 100000"
        )
    };
    let mut claims = Vec::new();
    for (id, name, who, peers, least) in [
        ("memory.write.durable", "quorate.one", "one thread", &alone[..], 0.9),
        ("memory.write.durable.100", "quorate.concurrent100", "100 threads", &many, 3.0),
        ("memory.write.durable.100.queued", "quorate.concurrent100", with_a_queue, &queued, 1.0),
        ("memory.write.durable.100.raw", "quorate.concurrent100", "100 threads", &raw, 0.5),
    ] {
        let (names, what): (Vec<&str>, _) = (peers.iter().map(String::as_str).collect(), what(who));
        let against = Against { names: &names, absent: ABSENT, bound: Bound::AtLeast(least) };
        let claimed = Claimed { id, what: &what, name, unit: "/s" };
        claims.push(rounds.claim_against(context, &claimed, against, |acked| acked.per_second)?);
    }
    for (id, name) in [("one", "quorate.one"), ("100", "quorate.concurrent100")] {
        for (figure, of) in [Percentiles::NAMES[0], Percentiles::NAMES[2]] {
            let id = format!("memory.write.durable.{id}.{figure}");
            let what = format!("a value of 256 B written, until it is on the disk, {figure}");
            let claimed = Claimed { id: &id, what: &what, name, unit: "µs" };
            claims.push(rounds.claim(context, &claimed, |acked| of(&acked.latency) / 1e3)?);
        }
    }
    Ok(claims)
}
