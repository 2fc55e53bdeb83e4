//! Search over a hundred thousand entries.

use std::time::Instant;

use anyhow::ensure;
use quorate_search::{Document, Index, Options, Query};

use crate::harness::goal::Bound;
use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};
use crate::stores::store::mix;

const ROUNDS: usize = 3;
const ENTRIES: u64 = 100_000;
const QUERIES: u64 = 200;
const WORDS: u64 = 20_000;
/// Of an entry.
const LENGTH: u64 = 40;
const DIMENSIONS: u64 = 128;
const SPACES: u64 = 10;

pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let mut index = Index::new(Options::default())?;
    for number in 0..ENTRIES {
        index.upsert(document(number))?;
    }
    // The first search makes what was written visible.
    index.search(&Query::text(word(0)))?;
    let index = std::cell::RefCell::new(index);
    let candidate = |name, query: fn(u64) -> Query| {
        let index = &index;
        Candidate::new(name, move || run(&mut index.borrow_mut(), query))
    };
    let rounds = interleave(
        ROUNDS,
        vec![
            candidate("text", |n| Query::text(words(n ^ 0x5EA4C4, 3))),
            candidate("both", |n| Query {
                vector: Some(vector(n ^ 0x5EA4C4)),
                ..Query::text(words(n ^ 0x5EA4C4, 3))
            }),
        ],
    )?;
    let mut claims = Vec::new();
    for (name, id, by) in [
        ("text", "search", "text of three words"),
        ("both", "search.vector", "text of three words and a vector of 128 dimensions"),
    ] {
        for (figure, of) in [Percentiles::NAMES[0], Percentiles::NAMES[1], Percentiles::NAMES[2]] {
            let id = format!("{id}.{figure}");
            let what = format!(
                "search 100000 entries of 40 words in 10 namespaces by {by}, {figure}; the index alone, without the store"
            );
            let claimed = Claimed { id: &id, what: &what, name, unit: "ms" };
            let claim = rounds.claim(context, &claimed, |nanos| of(nanos) / 1e6)?;
            claims.push(if figure == "p95" { claim.value_goal(Bound::AtMost(10.0)) } else { claim });
        }
    }
    Ok(claims)
}

fn run(index: &mut Index, query: fn(u64) -> Query) -> anyhow::Result<Percentiles> {
    let mut latencies = Latencies::new();
    for number in 0..QUERIES {
        let query = query(number);
        let start = Instant::now();
        let found = index.search(&query)?;
        latencies.record_time(start.elapsed());
        ensure!(!found.is_empty(), "nothing was found for {:?}", query.text);
    }
    Ok(latencies.percentiles())
}

fn document(number: u64) -> Document {
    Document {
        id: number,
        namespace: format!("space-{}", number % SPACES),
        key: format!("note/{number}"),
        text: words(number, LENGTH),
        tags: vec![format!("tag-{}", number % 100)],
        vector: Some(vector(number)),
    }
}

fn words(seed: u64, count: u64) -> String {
    (0..count).map(|at| word(mix(seed * 1_000 + at)) + " ").collect()
}

/// A word by a draw: as in a language, few are frequent and many are rare.
fn word(draw: u64) -> String {
    let uniform = (draw >> 11) as f64 / (1_u64 << 53) as f64;
    let rank = ((WORDS as f64).powf(uniform) - 1.0) as u64;
    format!("w{}", mix(rank) % 1_000_000)
}

fn vector(seed: u64) -> Vec<f32> {
    (0..DIMENSIONS).map(|at| (mix(seed * 1_000 + at) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}
