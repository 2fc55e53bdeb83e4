//! Reading by key, beside an unsynchronised map of the standard library.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use quorate_memory::{Class, Space};

use super::quorate::open;
use crate::harness::cores;
use crate::harness::goal::{Against, Bound};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::scratch;
use crate::measure::{Claim, Context};
use crate::stores::store::{mix, value};

const ROUNDS: usize = 9;
const KEYS: u64 = 100_000;
/// Keys that are asked for again and again.
const HOT: u64 = 1_000;
const READS: u64 = 200_000;
const KEY: usize = 28;
const VALUE: usize = 250;

type Key = [u8; KEY];

fn key(number: u64) -> Key {
    let mut key = [0; KEY];
    key.copy_from_slice(format!("{:016x}{number:012x}", mix(number)).as_bytes());
    key
}

pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let space = open(folder.path())?.with_class(Class::Relaxed);
    let mut map = HashMap::<Vec<u8>, Arc<[u8]>>::new();
    for number in 0..KEYS {
        space.put(key(number).as_slice(), &value(number)[..VALUE])?;
        map.insert(key(number).to_vec(), value(number)[..VALUE].into());
    }
    space.store().flush()?;
    let drawn = |among| (0..READS).map(|draw| key(mix(draw ^ 0xABCD) % among)).collect::<Vec<_>>();
    let (random, hot) = (drawn(KEYS), drawn(HOT));
    let (space, map, random, hot) = (&space, &map, &random, &hot);
    let read = |space: &Space, key: &Key| Ok(space.read(key, |entry| entry.value()[0])?);
    let get = |space: &Space, key: &Key| Ok(space.get(key)?.map(|entry| entry.value()[0]));
    // The calling thread alone is pinned, so that the store's own thread is free.
    std::thread::scope(|scope| {
        let measured = scope.spawn(move || {
            cores::pin(0);
            let ours = |name, keys: &'static str, of: fn(&Space, &Key) -> anyhow::Result<Option<u8>>| {
                (name, keys, of)
            };
            let mut candidates = Vec::new();
            for (name, kind, of) in [
                ours("quorate.hot", "hot", read),
                ours("quorate.random", "random", read),
                ours("quorate.get.hot", "hot", get),
            ] {
                let keys = if kind == "hot" { hot } else { random };
                candidates.push(Candidate::new(name, move || each(keys, |key| of(space, key))));
            }
            for (name, keys) in [("std.hot", hot), ("std.random", random)] {
                let of = |key: &Key| Ok(map.get(key.as_slice()).map(|value| value[0]));
                candidates.push(Candidate::new(name, move || each(keys, of)));
            }
            let rounds = interleave(ROUNDS, candidates)?;
            let claimed = |id, what, name| Claimed { id, what, name, unit: "ns" };
            let hot = "read a value of 250 B by its key of 28 B, of the 1000 hot ones of 100000";
            let held = "read a value of 250 B by its key of 28 B and keep it, of the 1000 hot ones of 100000";
            let random = "read a value of 250 B by its key of 28 B, any of 100000";
            let against = Against { names: &["std.random"], absent: "", bound: Bound::AtMost(1.6) };
            Ok(vec![
                rounds
                    .claim(context, &claimed("memory.read.hot", hot, "quorate.hot"), |nanos| *nanos)?
                    .value_goal(Bound::AtMost(100.0)),
                rounds
                    .claim(context, &claimed("memory.read.hot.kept", held, "quorate.get.hot"), |nanos| {
                        *nanos
                    })?
                    .value_goal(Bound::AtMost(100.0)),
                rounds.claim_against(
                    context,
                    &claimed("memory.read.random", random, "quorate.random"),
                    against,
                    |nanos| *nanos,
                )?,
            ])
        });
        measured.join().map_err(|_| anyhow!("a reader panicked"))?
    })
}

/// Nanoseconds a read.
fn each(keys: &[Key], mut of: impl FnMut(&Key) -> anyhow::Result<Option<u8>>) -> anyhow::Result<f64> {
    let start = Instant::now();
    for key in keys {
        black_box(of(key)?.context("a key is not there")?);
    }
    Ok(start.elapsed().as_nanos() as f64 / keys.len() as f64)
}
