//! The figures of the brokers.

use std::time::Duration;

use crate::brokers::nats::{self, Delivered};
use crate::brokers::redis;
use crate::brokers::server::Server;
use crate::harness::latency::Percentiles;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::harness::writers::Acked;
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
/// How long each run of a stream lasts.
const TIME: Duration = Duration::from_millis(300);
const PUBLISHERS: usize = 100;

/// Kinds of traffic: the candidate's name, and what is counted.
const CORE: [(&str, &str); 4] = [
    ("64", "messages of 64 B from one client to one other"),
    ("1024", "messages of 1 KiB from one client to one other"),
    ("65536", "messages of 64 KiB from one client to one other"),
    ("fanout4", "deliveries of 64 B, each message to 4 of 10000 subscriptions"),
];
const LATENCY: [(&str, &str); 3] = [
    ("64", "64 B one way between two clients, one message at a time"),
    ("1024", "1 KiB one way between two clients, one message at a time"),
    ("65536", "64 KiB one way between two clients, one message at a time"),
];
const STREAMS: [(&str, &str); 4] = [
    (
        "nats.pipelined512",
        "records of 256 B to a JetStream file, 512 in flight, acknowledged before they are synced",
    ),
    (
        "nats.concurrent100",
        "records of 256 B to a JetStream file, 100 clients, acknowledged before they are synced",
    ),
    ("redis.pipelined64", "records of 256 B to a Redis stream, 64 in flight, synced"),
    ("redis.concurrent100", "records of 256 B to a Redis stream, 100 clients, synced"),
];

/// Deliveries a second, and a second of processor time.
pub(crate) fn nats_core(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let Some(server) = nats::start()? else {
        return Ok(CORE.map(|(name, what)| absent(context, &format!("peer.nats.core.{name}"), what)).into());
    };
    let rounds = interleave(ROUNDS, nats_candidates(&server))?;
    let mut claims = Vec::new();
    for (name, what) in CORE {
        let id = format!("peer.nats.core.{name}");
        let claimed = Claimed { id: &id, what, name, unit: "/s" };
        claims.push(rounds.claim(context, &claimed, |delivered| delivered.per_second)?);
        let (id, what) = (format!("{id}.processor"), format!("{what}, by processor time of both sides"));
        let claimed = Claimed { id: &id, what: &what, name, unit: "/cpu s" };
        claims.push(rounds.claim(context, &claimed, |delivered| delivered.per_processor_second)?);
    }
    Ok(claims)
}

/// Every kind of [`CORE`] traffic.
pub(crate) fn nats_candidates(server: &Server) -> Vec<Candidate<'_, Delivered>> {
    vec![
        Candidate::new("64", || nats::one_to_one(server, 64, 1_000_000)),
        Candidate::new("1024", || nats::one_to_one(server, 1 << 10, 200_000)),
        Candidate::new("65536", || nats::one_to_one(server, 64 << 10, 4_000)),
        Candidate::new("fanout4", || nats::fan_out(server, 100_000)),
    ]
}

/// Microseconds one way.
pub(crate) fn nats_latency(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let Some(server) = nats::start()? else {
        return Ok(LATENCY
            .map(|(name, what)| absent(context, &format!("peer.nats.latency.{name}"), what))
            .into());
    };
    let rounds = interleave(ROUNDS, nats_latency_candidates(&server))?;
    let mut claims = Vec::new();
    for (name, what) in LATENCY {
        for (figure, of) in Percentiles::NAMES {
            let (id, what) = (format!("peer.nats.latency.{name}.{figure}"), format!("{what}, {figure}"));
            let claimed = Claimed { id: &id, what: &what, name, unit: "µs" };
            claims.push(rounds.claim(context, &claimed, |nanos| of(nanos) / 1e3)?);
        }
    }
    Ok(claims)
}

/// Bytes a subscription, in a server that has just started.
pub(crate) fn nats_memory(context: &Context) -> anyhow::Result<Claim> {
    let (id, what) = ("peer.nats.memory", "memory of the server for a subscription, at 100000");
    let Some(server) = nats::start()? else {
        return Ok(absent(context, id, what));
    };
    Ok(context.claim(id, what, nats::memory(&server, 100_000)?, "B"))
}

pub(crate) fn nats_latency_candidates(server: &Server) -> Vec<Candidate<'_, Percentiles>> {
    [("64", 64), ("1024", 1 << 10), ("65536", 64 << 10)]
        .map(|(name, bytes)| Candidate::new(name, move || nats::ping_pong(server, bytes)))
        .into()
}

/// Records a second of the streams on disk, and how long each waits.
pub(crate) fn streams(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let (nats, redis) = (nats::start()?, redis::start()?);
    let candidates = stream_candidates(nats.as_ref(), redis.as_ref())?;
    let rounds = interleave(ROUNDS, candidates)?;
    let mut claims = Vec::new();
    for (name, what) in STREAMS {
        let id = format!("peer.stream.{name}");
        if !rounds.names().any(|measured| measured == name) {
            claims.push(absent(context, &id, what));
            continue;
        }
        let claimed = Claimed { id: &id, what, name, unit: "/s" };
        claims.push(rounds.claim(context, &claimed, |acked| acked.per_second)?);
        for (figure, of) in Percentiles::NAMES {
            let (id, what) = (format!("{id}.{figure}"), format!("{what}: until acknowledged, {figure}"));
            let claimed = Claimed { id: &id, what: &what, name, unit: "µs" };
            claims.push(rounds.claim(context, &claimed, |acked| of(&acked.latency) / 1e3)?);
        }
    }
    Ok(claims)
}

/// The [`STREAMS`] of those servers that run.
pub(crate) fn stream_candidates<'a>(
    nats: Option<&'a Server>,
    redis: Option<&'a Server>,
) -> anyhow::Result<Vec<Candidate<'a, Acked>>> {
    let mut candidates = Vec::new();
    if let Some(server) = nats {
        nats::create_stream(server)?;
        candidates.push(Candidate::new("nats.pipelined512", || nats::stream_pipelined(server, 512, TIME)));
        candidates
            .push(Candidate::new("nats.concurrent100", || nats::stream_concurrent(server, PUBLISHERS, TIME)));
    }
    if let Some(server) = redis {
        candidates.push(Candidate::new("redis.pipelined64", || redis::stream_pipelined(server, 64, TIME)));
        candidates.push(Candidate::new("redis.concurrent100", || {
            redis::stream_concurrent(server, PUBLISHERS, TIME)
        }));
    }
    Ok(candidates)
}

/// A claim of a server that is not there: no value, and it says why.
fn absent(context: &Context, id: &str, what: &str) -> Claim {
    let claim = context.claim(id, what, f64::NAN, "");
    Claim { peer: "peer not installed".to_owned(), ..claim }
}
