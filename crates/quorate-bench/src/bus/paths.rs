//! The short paths within the bus, on one thread: what each call takes.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use anyhow::{anyhow, ensure};
use quorate_base::Timestamp;
use quorate_bus::{Bus, Full, Limits, Message, Shard, Subscribe, Wait, codec};

use super::routed::fan4_patterns;
use crate::harness::cores;
use crate::harness::goal::Bound;
use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 9;
const CALLS: u64 = 200_000;
/// Topics that were never seen; each stays in the bus.
const NEW_TOPICS: u64 = 10_000;

struct Path {
    id: &'static str,
    what: &'static str,
    /// Nanoseconds.
    goal: Option<f64>,
    run: Box<dyn FnMut() -> anyhow::Result<f64>>,
}

pub(crate) fn matching(context: &Context) -> anyhow::Result<Vec<Claim>> {
    claims(context, "bus.match")
}

pub(crate) fn intern(context: &Context) -> anyhow::Result<Vec<Claim>> {
    claims(context, "bus.intern")
}

pub(crate) fn coding(context: &Context) -> anyhow::Result<Vec<Claim>> {
    claims(context, "bus.codec")
}

pub(crate) fn ring(context: &Context) -> anyhow::Result<Vec<Claim>> {
    claims(context, "bus.ring")
}

fn claims(context: &Context, prefix: &str) -> anyhow::Result<Vec<Claim>> {
    // Only the thread that measures is pinned.
    thread::scope(|scope| {
        let measured = scope.spawn(|| {
            cores::pin(0);
            measure(context, prefix)
        });
        measured.join().map_err(|_| anyhow!("a measure panicked"))?
    })
}

fn measure(context: &Context, prefix: &str) -> anyhow::Result<Vec<Claim>> {
    let mut paths = all()?;
    paths.retain(|path| path.id.starts_with(prefix));
    let known: Vec<_> = paths.iter().map(|path| (path.id, path.what, path.goal)).collect();
    let candidates = paths.into_iter().map(|path| Candidate::new(path.id, path.run)).collect();
    let rounds = interleave(ROUNDS, candidates)?;
    let claim = |(id, what, goal): (&str, _, Option<f64>)| {
        let claim = rounds.claim(context, &Claimed { id, what, name: id, unit: "ns" }, |nanos| *nanos)?;
        Ok(match goal {
            Some(most) => claim.value_goal(Bound::AtMost(most)),
            None => claim,
        })
    };
    known.into_iter().map(claim).collect()
}

fn all() -> anyhow::Result<Vec<Path>> {
    let (bus, shard) = crowded()?;
    let mut paths = Vec::new();
    let mut path = |id, what, goal, run: Box<dyn FnMut() -> anyhow::Result<f64>>| {
        paths.push(Path { id, what, goal, run });
    };
    let mut sender = bus.sender("elsewhere.1")?;
    let what = "publish to a topic that nobody subscribes, by a sender that knows its route, among 10000 subscriptions";
    path(
        "bus.match",
        what,
        Some(100.0),
        Box::new(move || {
            // What the shard has is not asked for: its topics are others.
            let _ = &shard;
            let message = Message::new(&[7; 64]);
            each(CALLS, |_| {
                let sent = sender.send(black_box(message.clone()))?;
                ensure!(sent.delivered == 0, "somebody subscribes");
                Ok(())
            })
        }),
    );
    let what = "a sender for a topic that was never seen, matched by 2 of 1000 patterns: the topic checked, numbered, and matched by the trie";
    path(
        "bus.match.new",
        what,
        None,
        Box::new(|| {
            let (bus, _shard) = crowded()?;
            let topics: Vec<_> =
                (0..NEW_TOPICS).map(|n| format!("fan.{}.{}.new{n}", n % 100, n % 9)).collect();
            let mut senders = Vec::with_capacity(topics.len());
            let nanos = each(NEW_TOPICS, |n| {
                senders.push(bus.sender(&topics[n as usize])?);
                Ok(())
            });
            drop(senders);
            nanos
        }),
    );
    let (_, topics) = fan4_patterns();
    let what = "a sender for a topic that is known, taken and dropped, of 4500";
    path(
        "bus.intern",
        what,
        Some(200.0),
        Box::new(move || {
            each(CALLS, |n| {
                black_box(bus.sender(&topics[n as usize % topics.len()])?);
                Ok(())
            })
        }),
    );
    for (size, what_out, what_in, out_id, in_id) in [
        (
            64,
            "encode a message of 64 B",
            "decode a message of 64 B",
            "bus.codec.encode.64",
            "bus.codec.decode.64",
        ),
        (
            1024,
            "encode a message of 1 KiB with a key, a deadline and three headers",
            "decode a message of 1 KiB with a key, a deadline and three headers",
            "bus.codec.encode.1024",
            "bus.codec.decode.1024",
        ),
    ] {
        let message = message(size);
        let mut bytes = Vec::new();
        codec::encode(&mut bytes, "run.42.task.done", &message);
        let mut out = Vec::with_capacity(bytes.len());
        path(
            out_id,
            what_out,
            Some(10_000.0),
            Box::new(move || {
                each(CALLS, |_| {
                    out.clear();
                    codec::encode(&mut out, "run.42.task.done", black_box(&message));
                    black_box(&out);
                    Ok(())
                })
            }),
        );
        path(
            in_id,
            what_in,
            Some(10_000.0),
            Box::new(move || {
                each(CALLS, |_| {
                    let (topic, message) = codec::decode(black_box(&bytes))?;
                    ensure!(topic.len() == 16 && message.payload().len() == size, "another message");
                    Ok(())
                })
            }),
        );
    }
    let bus = Bus::default();
    let mut sender = bus.sender("one")?;
    let mut subscription = bus.subscribe("one", Subscribe::new())?;
    path(
        "bus.ring",
        "a message of 64 B published to a subscription and taken from it, on one thread",
        Some(5_000.0),
        Box::new(move || {
            let message = Message::new(&[7; 64]);
            each(CALLS, |_| {
                let sent = sender.send(black_box(message.clone()))?;
                let received = subscription.try_receive()?;
                ensure!(sent.delivered == 1 && black_box(received).is_some(), "a message did not come");
                Ok(())
            })
        }),
    );
    Ok(paths)
}

/// A bus with the 10,000 subscriptions of the routed measure.
fn crowded() -> anyhow::Result<(Bus, Shard)> {
    let bus = Bus::default();
    let mut shard = bus.shard("bench", Limits { full: Full::Refuse, ..Limits::default() }, Wait::Park)?;
    for pattern in fan4_patterns().0 {
        shard.subscribe(&pattern, None, |_| {})?;
    }
    Ok((bus, shard))
}

pub(crate) fn message(size: usize) -> Message {
    let message = Message::new(&vec![7; size]);
    if size <= 64 {
        return message;
    }
    let message = message.with_key("agent-7").with_deadline(Timestamp(1 << 42));
    [("content-type", "application/json"), ("schema", "task.done/3"), ("attempt", "1")]
        .into_iter()
        .fold(message, |message, (name, value)| message.with_header(name, value))
}

/// Nanoseconds a call.
fn each(calls: u64, mut call: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = Instant::now();
    for n in 0..calls {
        call(n)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / calls as f64)
}
