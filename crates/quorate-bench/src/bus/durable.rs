//! Messages stored before they are acknowledged, beside the plainest log and the streams of NATS and Redis.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use quorate_bus::stream::{Options, Stream};
use quorate_bus::{Bus, Message};

use crate::brokers;
use crate::harness::goal::{Against, Bound};
use crate::harness::latency::Latencies;
use crate::harness::rounds::{Candidate, Claimed, chosen, interleave};
use crate::harness::scratch;
use crate::harness::writers::{Acked, writers};
use crate::limits::log::{self, RECORD};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(300);
const PUBLISHERS: usize = 100;

const CONCURRENT: &str = "quorate.concurrent100";
const RAW: [&str; 2] = ["concurrent100", "group100"];
const NATS: &str = "nats-server is not installed";
const REDIS: &str = "redis-server is not installed";

/// Messages a second that are on the disk.
pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let folder = scratch::folder()?;
    let (nats, redis) = (brokers::start_nats()?, brokers::start_redis()?);
    let mut candidates = vec![concurrent(folder.path())?];
    for count in [64, 100, 512] {
        candidates.push(pipelined(folder.path(), count)?);
    }
    candidates.extend(chosen(log::candidates(folder.path())?, &RAW).map(|raw| raw.of("raw log")));
    candidates.extend(brokers::stream_candidates(nats.as_ref(), redis.as_ref())?);
    let rounds = interleave(ROUNDS, candidates)?;
    let waiting = "messages of 256 B to a stream from 100 threads, each waiting until its own is on the disk";
    let together = |count| {
        format!("messages of 256 B to a stream, {count} at a time, waiting until they are on the disk")
    };
    let pipelined = |count| format!("quorate.pipelined{count}");
    [
        ("concurrent100", waiting.to_owned(), CONCURRENT.to_owned(), "raw log concurrent100", "", 0.5),
        ("concurrent100.nats", waiting.to_owned(), CONCURRENT.to_owned(), "nats.concurrent100", NATS, 4.0),
        ("concurrent100.redis", waiting.to_owned(), CONCURRENT.to_owned(), "redis.concurrent100", REDIS, 3.0),
        ("pipelined100", together(100), pipelined(100), "raw log group100", "", 0.5),
        ("pipelined512.nats", together(512), pipelined(512), "nats.pipelined512", NATS, 4.0),
        ("pipelined64.redis", together(64), pipelined(64), "redis.pipelined64", REDIS, 3.0),
    ]
    .into_iter()
    .map(|(id, what, name, peer, absent, least)| {
        let id = format!("bus.durable.{id}");
        let against = Against { names: &[peer], absent, bound: Bound::AtLeast(least) };
        let claimed = Claimed { id: &id, what: &what, name: &name, unit: "/s" };
        rounds.claim_against(context, &claimed, against, |acked| acked.per_second)
    })
    .collect()
}

/// Each publisher with a sender of its own, by way of the bus.
fn concurrent(folder: &Path) -> anyhow::Result<Candidate<'static, Acked>> {
    let bus = Bus::default();
    let folder = folder.join(CONCURRENT);
    let stream = Stream::open(Options::new("concurrent", &["s.>"], Some(folder)))?;
    bus.attach(&stream)?;
    Ok(Candidate::new(CONCURRENT, move || {
        let before = stream.info().messages;
        let sender = |publisher| Ok(Mutex::new(bus.sender(&format!("s.{publisher}"))?));
        let senders = (0..PUBLISHERS).map(sender).collect::<anyhow::Result<Vec<_>>>()?;
        let acked = writers(PUBLISHERS, TIME, |publisher, sequence| {
            // Nobody else wants it: each publisher has its own.
            let mut sender = senders[publisher].lock().map_err(|_| anyhow!("a publisher panicked"))?;
            let sent = sender.send(Message::new(&record(sequence)))?;
            ensure!(sent.stored == 1, "a message was not stored");
            Ok(())
        })?;
        complete(&stream, before, acked.counts.iter().sum())?;
        Ok(acked)
    }))
}

/// One publisher, so many messages with one wait.
fn pipelined(folder: &Path, count: u64) -> anyhow::Result<Candidate<'static, Acked>> {
    let name = format!("quorate.pipelined{count}");
    let stream = Stream::open(Options::new(&name, &["s.>"], Some(folder.join(&name))))?;
    let topic: Arc<str> = "s.0".into();
    Ok(Candidate::new(name, move || {
        let before = stream.info().messages;
        let (start, mut latencies, mut acknowledged) = (Instant::now(), Latencies::new(), 0);
        let mut now = start;
        while now.duration_since(start) < TIME {
            let messages = (acknowledged..acknowledged + count)
                .map(|sequence| (Arc::clone(&topic), Message::new(&record(sequence))));
            acknowledged += stream.publish_all(messages.collect())?.len() as u64;
            let after = Instant::now();
            latencies.record_time(after - now);
            now = after;
        }
        let per_second = acknowledged as f64 / start.elapsed().as_secs_f64();
        complete(&stream, before, acknowledged)?;
        Ok(Acked { per_second, latency: latencies.percentiles(), counts: vec![acknowledged] })
    }))
}

fn record(sequence: u64) -> [u8; RECORD] {
    let mut record = [b'x'; RECORD];
    record[..8].copy_from_slice(&sequence.to_le_bytes());
    record
}

fn complete(stream: &Stream, before: u64, acknowledged: u64) -> anyhow::Result<()> {
    let stored = stream.info().messages - before;
    ensure!(stored == acknowledged, "{acknowledged} messages were acknowledged, {stored} are stored");
    Ok(())
}
