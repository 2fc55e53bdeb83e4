//! Zenoh within one session: no network, publishers that are declared, and callbacks that it runs in the thread that publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{anyhow, ensure};
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::{Config, Session, Wait as _};

use crate::harness::rounds::{Candidate, Claimed, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 7;
const MESSAGES: u64 = 100_000;
const KINDS: [(&str, u64, usize, &str); 3] = [
    ("one", 1, 1, "messages of 64 B to one subscription"),
    ("fanout4.100", 25, 4, "deliveries of 64 B, each message to 4 of 100 subscriptions"),
    ("fanout4.10000", 2_500, 4, "deliveries of 64 B, each message to 4 of 10000 subscriptions"),
];

/// Million deliveries a second.
pub(crate) fn claims(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let rounds = interleave(ROUNDS, candidates()?)?;
    let claim = |(name, _, _, what)| {
        let id = format!("peer.zenoh.{name}");
        rounds.claim(context, &Claimed { id: &id, what, name, unit: "M/s" }, |rate| rate / 1e6)
    };
    KINDS.into_iter().map(claim).collect()
}

/// Deliveries a second.
pub(crate) fn candidates() -> anyhow::Result<Vec<Candidate<'static, f64>>> {
    let candidate = |(name, topics, fan_out, _): (&'static str, _, _, _)| {
        let bus = Bus::open(topics, fan_out)?;
        Ok(Candidate::new(name, move || bus.run()))
    };
    KINDS.into_iter().map(candidate).collect()
}

struct Bus {
    publishers: Vec<Publisher<'static>>,
    _subscribers: Vec<Subscriber<()>>,
    received: Arc<Received>,
    fan_out: u64,
    _session: Session,
}

#[derive(Debug, Default)]
struct Received {
    count: AtomicU64,
    faults: AtomicU64,
}

impl Bus {
    fn open(topics: u64, fan_out: usize) -> anyhow::Result<Self> {
        let session = zenoh::open(alone()?).wait().map_err(failed)?;
        let received = Arc::new(Received::default());
        let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
        for topic in 0..topics {
            let topic = format!("bench/{topic}");
            for _ in 0..fan_out {
                let (received, last) = (Arc::clone(&received), AtomicU64::new(0));
                let callback = move |sample: zenoh::sample::Sample| {
                    let payload = sample.payload().to_bytes();
                    let number = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                    received.count.fetch_add(1, Ordering::Relaxed);
                    if last.swap(number, Ordering::Relaxed) >= number || payload.len() != 64 {
                        received.faults.fetch_add(1, Ordering::Relaxed);
                    }
                };
                subscribers
                    .push(session.declare_subscriber(&topic).callback(callback).wait().map_err(failed)?);
            }
            publishers.push(session.declare_publisher(topic).wait().map_err(failed)?);
        }
        let fan_out = fan_out as u64;
        Ok(Self { publishers, _subscribers: subscribers, received, fan_out, _session: session })
    }

    fn run(&self) -> anyhow::Result<f64> {
        let before = self.received.count.load(Ordering::Relaxed);
        let expected = MESSAGES * self.fan_out;
        let (start, mut draw) = (Instant::now(), 1_u64);
        for number in 1..=MESSAGES {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut payload = vec![b'x'; 64];
            payload[..8].copy_from_slice(&(before + number).to_le_bytes());
            let topic = (draw >> 33) as usize % self.publishers.len();
            self.publishers[topic].put(payload).wait().map_err(failed)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let received = self.received.count.load(Ordering::Relaxed) - before;
        let faults = self.received.faults.load(Ordering::Relaxed);
        ensure!(
            received == expected && faults == 0,
            "of {expected} deliveries came {received}, {faults} of them out of order"
        );
        Ok(expected as f64 / seconds)
    }
}

/// A session that neither looks for others nor lets them in.
fn alone() -> anyhow::Result<Config> {
    let mut config = Config::default();
    for (key, value) in [
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        ("listen/endpoints", "[]"),
        ("connect/endpoints", "[]"),
    ] {
        config.insert_json5(key, value).map_err(failed)?;
    }
    Ok(config)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("zenoh failed: {error}")
}
