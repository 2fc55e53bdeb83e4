//! Copying memory.

use std::hint::black_box;
use std::time::Instant;

use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 9;
/// Bytes copied by each run.
const COPIED: usize = 64 << 20;

pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let sizes = [("64", 64), ("1024", 1 << 10), ("65536", 64 << 10), ("67108864", 64 << 20)];
    let candidates = sizes.map(|(name, bytes)| {
        let (from, mut to) = (vec![7; bytes], vec![0; bytes]);
        Candidate::new(name, move || Ok(copy(&from, &mut to)))
    });
    let rounds = interleave(ROUNDS, candidates.into())?;
    let claim = |(name, bytes)| {
        let (id, what) = (format!("limit.copy.{name}"), format!("copy {bytes} B of memory"));
        rounds.claim(context, &Claimed { id: &id, what: &what, name, unit: "ns" }, |nanos| *nanos)
    };
    sizes.into_iter().map(claim).collect()
}

/// Nanoseconds a copy.
fn copy(from: &[u8], to: &mut [u8]) -> f64 {
    let count = COPIED / from.len();
    let start = Instant::now();
    for _ in 0..count {
        black_box(&mut *to).copy_from_slice(black_box(from));
    }
    start.elapsed().as_nanos() as f64 / count as f64
}
