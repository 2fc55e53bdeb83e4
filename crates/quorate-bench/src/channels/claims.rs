//! The figures of the channels.

use std::time::Duration;

use super::channel::{open_loop, throughput};
use super::std::Std;
use crate::harness::latency::Percentiles;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::limits::threads;
use crate::measure::{Claim, Context};

const ROUNDS: usize = 9;
pub(crate) const PRODUCERS: usize = 8;
/// Messages a second where latency is measured.
pub(crate) const RATE: u64 = 100_000;
pub(crate) const TIME: Duration = Duration::from_millis(200);

/// One producer, one consumer: million messages a second.
pub(crate) fn spsc(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let what = "messages of 64 B from one thread to another";
    millions(context, "peer.channel.spsc", what, spsc_candidates())
}

/// Eight producers, one consumer: million messages a second.
pub(crate) fn mpsc(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let what = "messages of 64 B from eight threads to one";
    millions(context, "peer.channel.mpsc", what, mpsc_candidates())
}

/// At a fixed rate, beside the cache line and the waking of the same rounds.
pub(crate) fn latency(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let mut candidates = latency_candidates();
    candidates.extend(threads::candidates());
    let rounds = interleave(ROUNDS, candidates)?;
    let mut claims = Vec::new();
    for name in rounds.names().filter(|name| ![threads::LINE, threads::WAKE].contains(name)) {
        for (figure, of) in Percentiles::NAMES {
            let id = format!("peer.channel.latency.{name}.{figure}");
            let what = format!("a message of 64 B from when it was to be sent, {RATE} a second, {figure}");
            let claimed = Claimed { id: &id, what: &what, name, unit: "ns" };
            claims.push(rounds.claim_beside(context, &claimed, threads::LINE, of)?);
        }
    }
    Ok(claims)
}

/// Messages a second of every channel; those that are slow get fewer to carry.
pub(crate) fn spsc_candidates() -> Vec<Candidate<'static, f64>> {
    let candidates = [throughput::<Std>(1, 500_000)].into_iter();
    #[cfg(feature = "peers")]
    let candidates = candidates.chain([
        throughput::<super::rtrb::Single>(1, 3_000_000),
        throughput::<super::rtrb::Chunks>(1, 5_000_000),
        throughput::<super::crossbeam::Parking>(1, 1_000_000),
        throughput::<super::crossbeam::Spinning>(1, 1_000_000),
        throughput::<super::kanal::Kanal>(1, 1_000_000),
        throughput::<super::flume::Flume>(1, 500_000),
        throughput::<super::tokio::Tokio>(1, 500_000),
    ]);
    candidates.collect()
}

/// Messages a second of every channel that takes several producers.
pub(crate) fn mpsc_candidates() -> Vec<Candidate<'static, f64>> {
    let candidates = [throughput::<Std>(PRODUCERS, 50_000)].into_iter();
    #[cfg(feature = "peers")]
    let candidates = candidates.chain([
        throughput::<super::crossbeam::Parking>(PRODUCERS, 50_000),
        throughput::<super::kanal::Kanal>(PRODUCERS, 50_000),
        throughput::<super::flume::Flume>(PRODUCERS, 50_000),
        throughput::<super::tokio::Tokio>(PRODUCERS, 25_000),
    ]);
    candidates.collect()
}

/// Nanoseconds at [`RATE`] of every channel.
pub(crate) fn latency_candidates() -> Vec<Candidate<'static, Percentiles>> {
    let candidates = [open_loop::<Std>(RATE, TIME)].into_iter();
    #[cfg(feature = "peers")]
    let candidates = candidates.chain([
        open_loop::<super::rtrb::Single>(RATE, TIME),
        open_loop::<super::crossbeam::Spinning>(RATE, TIME),
        open_loop::<super::kanal::Kanal>(RATE, TIME),
        open_loop::<super::crossbeam::Parking>(RATE, TIME),
        open_loop::<super::flume::Flume>(RATE, TIME),
        open_loop::<super::tokio::Tokio>(RATE, TIME),
    ]);
    candidates.collect()
}

fn millions(
    context: &Context,
    prefix: &str,
    what: &str,
    candidates: Vec<Candidate<'_, f64>>,
) -> anyhow::Result<Vec<Claim>> {
    let rounds = interleave(ROUNDS, candidates)?;
    let claim = |name| {
        let id = format!("{prefix}.{name}");
        rounds.claim(context, &Claimed { id: &id, what, name, unit: "M/s" }, |rate| rate / 1e6)
    };
    rounds.names().map(claim).collect()
}
