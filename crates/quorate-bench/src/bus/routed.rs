//! Messages routed in one process: a publisher that holds a sender for each topic, and a shard with the subscribers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use quorate_bus::{Bus, Full, Limits, Message, Priority, Sender, Shard, Wait};

use crate::brokers;
use crate::harness::cores;
use crate::harness::goal::{Against, Bound};
use crate::harness::rounds::{Candidate, Claimed, Rounds, chosen, interleave};
use crate::measure::{Claim, Context};

const ROUNDS: usize = 7;
/// Of each run.
const MESSAGES: u64 = 500_000;
/// Messages that wait, of each priority, at most.
const WAITING: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(60);
/// A shard that has nothing for so long will not get anything any more.
const SILENCE: Duration = Duration::from_secs(10);
/// Messages that a shard handles between two looks at the clock.
const POLLED: usize = 256;

const FAN: &str = "quorate";
const FAN_OUT: u64 = 4;
const NATS: &str = "nats-server fanout4";
const ZENOH: &str = "zenoh fanout4.10000";

/// Million deliveries a second, beside those of NATS and Zenoh.
pub(crate) fn fan4(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let nats = brokers::start_nats()?;
    let mut candidates = vec![ours()?];
    if let Some(server) = &nats {
        let theirs = chosen(brokers::nats_candidates(server), &["fanout4"]);
        candidates
            .extend(theirs.map(|theirs| theirs.of("nats-server").map(|delivered| delivered.per_second)));
    }
    #[cfg(feature = "peer-zenoh")]
    candidates
        .extend(chosen(brokers::zenoh_candidates()?, &["fanout4.10000"]).map(|theirs| theirs.of("zenoh")));
    let rounds = interleave(ROUNDS, candidates)?;
    let what = "deliveries of 64 B, each message to 4 of 10000 subscribers of a shard: 90 % of their patterns exact, 9 % with *, 1 % with >; priorities mixed, 1024 wait at most";
    let claimed = |id| Claimed { id, what, name: FAN, unit: "M/s" };
    let of = |rate: &f64| rate / 1e6;
    let beside = |id, names, absent, least| {
        let against = Against { names, absent, bound: Bound::AtLeast(least) };
        rounds.claim_against(context, &claimed(id), against, of)
    };
    Ok(vec![
        rounds.claim(context, &claimed("bus.routed.fan4"), of)?.value_goal(Bound::AtLeast(25.0)),
        beside("bus.routed.fan4.nats", &[NATS], "nats-server is not installed", 15.0)?,
        beside("bus.routed.fan4.zenoh", &[ZENOH], "not built: needs the feature peer-zenoh", 3.0)?,
    ])
}

/// The same, in messages.
pub(crate) fn floor(context: &Context) -> anyhow::Result<Claim> {
    let rounds = interleave(ROUNDS, vec![ours()?])?;
    let what = "messages of 64 B to 4 of 10000 subscribers each";
    let claimed = Claimed { id: "bus.floor.messages", what, name: FAN, unit: "M/s" };
    let claim = rounds.claim(context, &claimed, |rate| rate / FAN_OUT as f64 / 1e6)?;
    Ok(claim.value_goal(Bound::AtLeast(1.6)))
}

/// What a message costs with few and with many subscribers.
pub(crate) fn scaling(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let kinds = [
        ("1 subscriber", 1, 1),
        ("100 subscribers", 100, 100),
        ("10000 subscribers", 10_000, 10_000),
        ("100000 subscribers", 100_000, 100_000),
        ("100000 subscribers, one topic", 100_000, 1),
    ];
    let candidate = |(name, subscribers, published)| {
        let mut routed = Routed::one_each(subscribers, published)?;
        Ok(Candidate::new(name, move || routed.run()))
    };
    let candidates = kinds.into_iter().map(candidate).collect::<anyhow::Result<_>>()?;
    let rounds: Rounds<f64> = interleave(ROUNDS, candidates)?;
    let claim = |(id, what, name)| {
        let against = Against { names: &["1 subscriber"], absent: "", bound: Bound::AtMost(3.0) };
        let claimed = Claimed { id, what, name, unit: "ns" };
        rounds.claim_against(context, &claimed, against, |rate| 1e9 / rate)
    };
    let drawn =
        "a message of 64 B to one of many subscribers, each of a topic of its own, all topics drawn alike";
    let one = "a message of 64 B to one of many subscribers, always the same";
    [
        ("bus.routed.scaling.100", drawn, "100 subscribers"),
        ("bus.routed.scaling.10000", drawn, "10000 subscribers"),
        ("bus.routed.scaling.100000", drawn, "100000 subscribers"),
        ("bus.routed.scaling.one", one, "100000 subscribers, one topic"),
    ]
    .into_iter()
    .map(claim)
    .collect()
}

fn ours() -> anyhow::Result<Candidate<'static, f64>> {
    let mut routed = Routed::fan4()?;
    Ok(Candidate::new(FAN, move || routed.run()))
}

/// A pattern for every subscriber of [`fan4`], and the topics: each is one subscriber's by `>`, one's by `*`, and two subscribers' own.
pub(super) fn fan4_patterns() -> (Vec<String>, Vec<String>) {
    let (mut patterns, mut topics) = (Vec::new(), Vec::new());
    for group in 0..100 {
        patterns.push(format!("fan.{group}.>"));
        for part in 0..9 {
            patterns.push(format!("fan.{group}.{part}.*"));
            for topic in 0..5 {
                let topic = format!("fan.{group}.{part}.{topic}");
                patterns.extend([topic.clone(), topic.clone()]);
                topics.push(topic);
            }
        }
    }
    (patterns, topics)
}

#[derive(Debug)]
struct Routed {
    senders: Vec<Sender>,
    shard: Shard,
    counts: Arc<Counts>,
    fan_out: u64,
    mixed: bool,
    sent: u64,
}

#[derive(Debug, Default)]
struct Counts {
    /// Only the shard's thread writes it.
    received: AtomicU64,
    faults: AtomicU64,
}

impl Routed {
    fn fan4() -> anyhow::Result<Self> {
        let (patterns, topics) = fan4_patterns();
        Self::open(patterns.into_iter(), topics.into_iter(), FAN_OUT, true)
    }

    fn one_each(subscribers: u64, published: u64) -> anyhow::Result<Self> {
        let topics = |count| (0..count).map(|number| format!("one.{number}"));
        Self::open(topics(subscribers), topics(published), 1, false)
    }

    fn open(
        patterns: impl Iterator<Item = String>,
        topics: impl Iterator<Item = String>,
        fan_out: u64,
        mixed: bool,
    ) -> anyhow::Result<Self> {
        let bus = Bus::default();
        let limits = Limits { messages: WAITING, full: Full::Block(PATIENCE), ..Limits::default() };
        let mut shard = bus.shard("bench", limits, Wait::Spin)?;
        let counts = Arc::new(Counts::default());
        for pattern in patterns {
            let (counts, mut last) = (Arc::clone(&counts), [0; 5]);
            shard.subscribe(&pattern, None, move |message| {
                let payload = message.payload();
                let number = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let last = &mut last[message.priority().lane()];
                if *last >= number || payload.len() != 64 {
                    counts.faults.fetch_add(1, Ordering::Relaxed);
                }
                *last = number;
                counts.received.store(counts.received.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            })?;
        }
        let senders = topics.map(|topic| bus.sender(&topic)).collect::<Result<_, _>>()?;
        Ok(Self { senders, shard, counts, fan_out, mixed, sent: 0 })
    }

    /// Deliveries a second.
    fn run(&mut self) -> anyhow::Result<f64> {
        let Self { senders, shard, counts, fan_out, mixed, sent } = self;
        let before = counts.received.load(Ordering::Relaxed);
        let expected = MESSAGES * *fan_out;
        let seconds = thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                cores::pin(1);
                publish(senders, *sent, *mixed)
            });
            let handle = scope.spawn(|| {
                cores::pin(0);
                let (start, mut heard) = (Instant::now(), Instant::now());
                let mut handled = 0;
                while handled < MESSAGES {
                    match shard.poll(POLLED) {
                        0 if heard.elapsed() > SILENCE => break,
                        0 => std::hint::spin_loop(),
                        some => {
                            handled += some as u64;
                            heard = Instant::now();
                        }
                    }
                }
                start.elapsed().as_secs_f64()
            });
            let seconds = handle.join().map_err(|_| anyhow!("the shard panicked"))?;
            publisher.join().map_err(|_| anyhow!("the publisher panicked"))??;
            anyhow::Ok(seconds)
        })?;
        *sent += MESSAGES;
        let received = counts.received.load(Ordering::Relaxed) - before;
        let faults = counts.faults.load(Ordering::Relaxed);
        ensure!(
            received == expected && faults == 0,
            "of {expected} deliveries came {received}, {faults} of them out of order"
        );
        Ok(expected as f64 / seconds)
    }
}

fn publish(senders: &mut [Sender], before: u64, mixed: bool) -> anyhow::Result<()> {
    let (mut draw, count) = (1_u64, senders.len());
    let mut payload = [b'x'; 64];
    for number in 1..=MESSAGES {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        payload[..8].copy_from_slice(&(before + number).to_le_bytes());
        let priority = if mixed { Priority::ALL[(draw >> 40) as usize % 5] } else { Priority::Normal };
        let sender = &mut senders[(draw >> 33) as usize % count];
        let sent = sender.send(Message::new(&payload).with_priority(priority))?;
        ensure!(sent.delivered == 1 && sent.shed == 0, "a message was not taken: {sent:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_are_as_many_and_as_mixed_as_the_claim_says() {
        let (patterns, topics) = fan4_patterns();
        let with = |sign: &str| patterns.iter().filter(|pattern| pattern.ends_with(sign)).count();
        assert_eq!((patterns.len(), with("*"), with(">")), (10_000, 900, 100));
        let topic = &topics[1_234];
        let matching = patterns.iter().filter(|text| quorate_bus::Pattern::new(text).unwrap().matches(topic));
        assert_eq!(matching.count() as u64, FAN_OUT);
    }
}
