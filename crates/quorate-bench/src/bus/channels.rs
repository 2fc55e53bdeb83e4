//! The bus beside channels.

use super::channel::{Batched, Park, Singly, Spin, Way, Yield};
use crate::channels::channel::{Channel, open_loop, throughput};
use crate::channels::{self, PRODUCERS, RATE, TIME};
use crate::harness::goal::{Against, Bound};
use crate::harness::latency::Percentiles;
use crate::harness::rounds::{Claimed, chosen, interleave};
use crate::limits::threads;
use crate::measure::{Claim, Context};

const ROUNDS: usize = 9;
const ABSENT: &str = "not built: needs the feature peers";

/// One publisher, one subscriber: million messages a second.
pub(crate) fn spsc(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let mut candidates = vec![throughput::<Singly<Spin>>(1, 2_000_000), throughput::<Batched>(1, 5_000_000)];
    let peers = ["rtrb", "rtrb-chunks", "crossbeam", "crossbeam-spin", "kanal"];
    candidates.extend(chosen(channels::spsc_candidates(), &peers));
    let rounds = interleave(ROUNDS, candidates)?;
    let single = "messages of 64 B published to one subscription, which spins";
    let batch = "messages of 64 B published in batches of 32 to one subscription, which takes as many";
    let claim = |(id, what, name, names, least): (&str, _, _, &[&str], _)| {
        let against = Against { names, absent: ABSENT, bound: Bound::AtLeast(least) };
        rounds.claim_against(context, &Claimed { id, what, name, unit: "M/s" }, against, |rate| rate / 1e6)
    };
    [
        ("bus.channel.spsc", single, Spin::NAME, &["rtrb"][..], 0.5),
        ("bus.channel.spsc.batch", batch, Batched::NAME, &["rtrb-chunks"], 0.5),
        ("bus.channel.spsc.crossbeam", single, Spin::NAME, &["crossbeam", "crossbeam-spin"], 1.0),
        ("bus.channel.spsc.kanal", single, Spin::NAME, &["kanal"], 1.0),
    ]
    .into_iter()
    .map(claim)
    .collect()
}

/// Eight publishers, one subscriber.
pub(crate) fn mpsc(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let mut candidates = vec![throughput::<Singly<Yield>>(PRODUCERS, 50_000)];
    candidates.extend(chosen(channels::mpsc_candidates(), &["kanal", "crossbeam"]));
    let rounds = interleave(ROUNDS, candidates)?;
    let what = "messages of 64 B from eight threads to one subscription, which yields";
    let claim = |(id, peer)| {
        let against = Against { names: &[peer], absent: ABSENT, bound: Bound::AtLeast(1.0) };
        let claimed = Claimed { id, what, name: Yield::NAME, unit: "M/s" };
        rounds.claim_against(context, &claimed, against, |rate| rate / 1e6)
    };
    [("bus.channel.mpsc8", "kanal"), ("bus.channel.mpsc8.crossbeam", "crossbeam")]
        .into_iter()
        .map(claim)
        .collect()
}

/// At a fixed rate, by the way in which the subscriber waits.
pub(crate) fn latency(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let mut candidates = vec![
        open_loop::<Singly<Spin>>(RATE, TIME),
        open_loop::<Singly<Yield>>(RATE, TIME),
        open_loop::<Singly<Park>>(RATE, TIME),
    ];
    let peers = ["rtrb", "crossbeam", "kanal", "flume", "tokio"];
    candidates.extend(chosen(channels::latency_candidates(), &peers));
    candidates.extend(chosen(threads::candidates(), &[threads::LINE]));
    let rounds = interleave(ROUNDS, candidates)?;
    let [p50, p95, p99] = [Percentiles::NAMES[0], Percentiles::NAMES[1], Percentiles::NAMES[2]];
    let parking: &[&str] = &["crossbeam", "flume", "tokio"];
    let mut claims = Vec::new();
    for (way, name, (figure, of), names, most) in [
        ("spin", Spin::NAME, p50, &[threads::LINE][..], 3.0),
        ("spin", Spin::NAME, p95, &[threads::LINE], 5.0),
        ("yield", Yield::NAME, p50, &["kanal"], 1.0),
        ("yield", Yield::NAME, p95, &["kanal"], 1.0),
        ("park", Park::NAME, p50, parking, 1.1),
        ("park", Park::NAME, p95, parking, 1.1),
    ] {
        let id = format!("bus.latency.{way}.{figure}");
        let what = what(way, figure);
        let against = Against { names, absent: ABSENT, bound: Bound::AtMost(most) };
        let claimed = Claimed { id: &id, what: &what, name, unit: "ns" };
        claims.push(rounds.claim_against(context, &claimed, against, of)?);
    }
    for ((figure, of), most) in [(p95, 2_000.0), (p99, 5_000.0)] {
        let id = format!("bus.latency.floor.{figure}");
        let what = what("spin", figure);
        let claimed = Claimed { id: &id, what: &what, name: Spin::NAME, unit: "ns" };
        claims.push(rounds.claim(context, &claimed, of)?.value_goal(Bound::AtMost(most)));
    }
    Ok(claims)
}

fn what(way: &str, figure: &str) -> String {
    format!(
        "a message of 64 B from when it was to be published, {RATE} a second, to a subscriber that waits by {way}, {figure}"
    )
}
