//! A map that one thread reads: the least that a look-up in memory takes.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use super::store::{Key, key, mix, value};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 9;
pub(crate) const KEYS: u64 = 100_000;
/// Keys that are asked for again and again.
const HOT: u64 = 1_000;
pub(crate) const READS: usize = 200_000;

pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let rounds = interleave(ROUNDS, candidates())?;
    let claim = |name: &str| {
        let id = format!("limit.map.{name}");
        let what = "read a value of 256 B from an unsynchronised map of 100000, or of its 1000 hot keys";
        rounds.claim(context, &Claimed { id: &id, what, name, unit: "ns" }, |nanos| *nanos)
    };
    rounds.names().map(claim).collect()
}

/// Nanoseconds a read.
pub(crate) fn candidates() -> Vec<Candidate<'static, f64>> {
    let mut candidates = reading("std", std::collections::hash_map::RandomState::new());
    #[cfg(feature = "peers")]
    candidates.extend(reading("foldhash", foldhash::fast::RandomState::default()));
    candidates.shrink_to_fit();
    candidates
}

fn reading(name: &str, hasher: impl BuildHasher + 'static) -> Vec<Candidate<'static, f64>> {
    let mut map = HashMap::with_hasher(hasher);
    map.extend((0..KEYS).map(|number| (key(number).to_vec(), Arc::<[u8]>::from(value(number)))));
    let map = Arc::new(map);
    let candidate = |(kind, among)| {
        let (map, keys) = (Arc::clone(&map), drawn(among));
        Candidate::new(format!("{name}.{kind}"), move || Ok(read(&map, &keys)))
    };
    [("random", KEYS), ("hot", HOT)].into_iter().map(candidate).collect()
}

/// Keys in the order in which they are asked for.
pub(crate) fn drawn(among: u64) -> Vec<Key> {
    (0..READS as u64).map(|draw| key(mix(draw ^ 0xABCD) % among)).collect()
}

/// The value is touched, not copied.
fn read<H: BuildHasher>(map: &HashMap<Vec<u8>, Arc<[u8]>, H>, keys: &[Key]) -> f64 {
    let start = Instant::now();
    for key in keys {
        let value = map.get(key.as_slice()).expect("every key is there");
        black_box(value[0]);
    }
    start.elapsed().as_nanos() as f64 / keys.len() as f64
}
