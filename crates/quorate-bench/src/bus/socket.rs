//! The bus across processes, by a Unix socket, beside NATS over loopback.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use quorate_bus::wire::client::Event;
use quorate_bus::wire::frame::SubscribeBody;
use quorate_bus::wire::{Client, Server, server};
use quorate_bus::{Bus, Message, Subscribe};
use tempfile::TempDir;

use crate::brokers::{self, Delivered};
use crate::child::{self, Process};
use crate::harness::goal::{Against, Bound};
use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::message::Order;
use crate::harness::rounds::{Candidate, Claimed, chosen, interleave};
use crate::harness::scratch;
use crate::harness::usage::processor_time;
use crate::measure::{Claim, Context};

const ROUNDS: usize = 5;
/// Names as those of the peer, what they mean, bytes, and messages of a run.
const SIZES: [(&str, &str, usize, u64); 3] =
    [("64", "64 B", 64, 500_000), ("1024", "1 KiB", 1 << 10, 200_000), ("65536", "64 KiB", 64 << 10, 4_000)];
/// Bytes published between two looks at how far the subscriber is.
const BATCH: usize = 1 << 16;
/// Bytes published and not yet received, at most.
const WINDOW: u64 = 8 << 20;
/// Messages that wait for the subscriber in the server, at most.
const WAITING: u64 = 16_384;
/// Times there and back of a message.
const TRIPS: u64 = 3_000;
const SILENCE: Option<Duration> = Some(Duration::from_secs(10));
const TOPIC: &str = "b.0";
const ABSENT: &str = "nats-server is not installed";

/// Messages a second, and a second of processor time of all processes.
pub(crate) fn throughput(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let (served, nats) = (Served::start("serve")?, brokers::start_nats()?);
    let mut candidates: Vec<Candidate<'_, Delivered>> = Vec::new();
    for (name, _, bytes, count) in SIZES {
        let served = &served;
        candidates.push(Candidate::new(name, move || one_to_one(served, bytes, count)).of("quorate"));
    }
    if let Some(server) = &nats {
        let sizes = SIZES.map(|(name, ..)| name);
        let theirs = chosen(brokers::nats_candidates(server), &sizes);
        candidates.extend(theirs.map(|theirs| theirs.of("nats-server")));
    }
    let rounds = interleave(ROUNDS, candidates)?;
    let mut claims = Vec::new();
    for (name, size, ..) in SIZES {
        let (ours, theirs) = (format!("quorate {name}"), format!("nats-server {name}"));
        let names = &[&*theirs];
        let id = format!("bus.socket.throughput.{name}");
        let what = format!("messages of {size} from one process to itself through another, by a Unix socket");
        let claimed = Claimed { id: &id, what: &what, name: &ours, unit: "/s" };
        let against = Against { names, absent: ABSENT, bound: Bound::AtLeast(1.0) };
        claims.push(rounds.claim_against(context, &claimed, against, |delivered| delivered.per_second)?);
        for (figure, by, least) in [
            ("processor", "by processor time of all processes", 2.0),
            ("server", "by processor time of the server alone", 1.0),
        ] {
            let (id, what) = (format!("{id}.{figure}"), format!("{what}, {by}"));
            let claimed = Claimed { id: &id, what: &what, name: &ours, unit: "/cpu s" };
            let against = Against { names, absent: ABSENT, bound: Bound::AtLeast(least) };
            claims.push(rounds.claim_against(context, &claimed, against, |delivered| match figure {
                "server" => delivered.per_server_second,
                _ => delivered.per_processor_second,
            })?);
        }
    }
    Ok(claims)
}

/// Microseconds one way, one message at a time.
pub(crate) fn latency(context: &Context) -> anyhow::Result<Vec<Claim>> {
    let (served, nats) = (Served::start("serve")?, brokers::start_nats()?);
    let mut candidates: Vec<Candidate<'_, Percentiles>> = Vec::new();
    for (name, _, bytes, _) in SIZES {
        let served = &served;
        candidates.push(Candidate::new(name, move || ping_pong(served, bytes)).of("quorate"));
    }
    if let Some(server) = &nats {
        candidates.extend(
            brokers::nats_latency_candidates(server).into_iter().map(|theirs| theirs.of("nats-server")),
        );
    }
    let rounds = interleave(ROUNDS, candidates)?;
    let mut claims = Vec::new();
    for (name, size, ..) in SIZES {
        let (ours, theirs) = (format!("quorate {name}"), format!("nats-server {name}"));
        for (figure, of) in [Percentiles::NAMES[0], Percentiles::NAMES[2]] {
            let id = format!("bus.socket.latency.{name}.{figure}");
            let what = format!("{size} one way between two clients, one message at a time, {figure}");
            let claimed = Claimed { id: &id, what: &what, name: &ours, unit: "µs" };
            let against = Against { names: &[&theirs], absent: ABSENT, bound: Bound::AtMost(1.0) };
            claims.push(rounds.claim_against(context, &claimed, against, |nanos| of(nanos) / 1e3)?);
        }
    }
    Ok(claims)
}

/// A bus that another process serves.
#[derive(Debug)]
pub(super) struct Served {
    process: Process,
    folder: TempDir,
}

impl Served {
    pub(super) fn start(part: &str) -> anyhow::Result<Self> {
        let folder = scratch::folder()?;
        let socket = folder.path().join("bus").display().to_string();
        let (process, _) = Process::start(&[part, &socket])?;
        Ok(Self { process, folder })
    }

    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(&self.folder.path().join("bus"))?)
    }
}

/// The other process: a bus at a socket, with subscribers of its own that sleep.
pub(crate) fn serve(socket: &Path, sleeping: usize) -> anyhow::Result<()> {
    let bus = Bus::default();
    let _server = Server::start(bus.clone(), server::Options::new(socket))?;
    for number in 0..sleeping {
        let mut subscription = bus.subscribe(&format!("sleeping.{number}"), Subscribe::new())?;
        thread::spawn(move || while subscription.receive().is_ok() {});
    }
    println!("ready");
    child::until_told()?;
    bus.shut_down();
    Ok(())
}

fn subscribe(client: &mut Client, topic: &str) -> anyhow::Result<()> {
    let body = SubscribeBody {
        pattern: topic.to_owned(),
        name: "bench".to_owned(),
        messages: Some(WAITING as usize),
        full: Some("refuse".to_owned()),
        ..SubscribeBody::default()
    };
    client.subscribe(body)?;
    Ok(())
}

fn receive(client: &mut Client) -> anyhow::Result<Message> {
    match client.next(SILENCE)? {
        Some(Event::Message { message, .. }) => Ok(message),
        Some(other) => bail!("instead of a message came {other:?}"),
        None => bail!("no message comes any more"),
    }
}

fn one_to_one(served: &Served, bytes: usize, count: u64) -> anyhow::Result<Delivered> {
    let (received, barrier) = (&AtomicU64::new(0), &Barrier::new(2));
    let take = move || -> anyhow::Result<()> {
        let client = served.connect().and_then(|mut client| {
            subscribe(&mut client, TOPIC)?;
            Ok(client)
        });
        barrier.wait();
        let (mut client, mut order) = (client?, Order::new(1));
        for number in 1..=count {
            let message = receive(&mut client)?;
            let payload = message.payload();
            ensure!(payload.len() == bytes, "a message of {} B came", payload.len());
            order.sequence(0, u64::from_le_bytes(payload[..8].try_into()?));
            received.store(number, Ordering::Release);
        }
        order.finish(count)
    };
    let own = std::process::id();
    let spent = || Ok::<_, anyhow::Error>([processor_time(served.process())?, processor_time(own)?]);
    thread::scope(|scope| {
        let taker = scope.spawn(take);
        let client = served.connect();
        barrier.wait();
        let (before, start) = (spent()?, Instant::now());
        publish(client?, bytes, count, received)?;
        taker.join().map_err(|_| anyhow!("the subscriber panicked"))??;
        let (time, after) = (start.elapsed(), spent()?);
        let spent = [0, 1].map(|of: usize| after[of].saturating_sub(before[of]));
        Ok(Delivered::new(count, time, spent))
    })
}

fn publish(mut client: Client, bytes: usize, count: u64, received: &AtomicU64) -> anyhow::Result<()> {
    let window = (WINDOW / bytes as u64).clamp(16, WAITING - 2 * (BATCH / 64) as u64);
    let mut payload = vec![b'x'; bytes];
    let (mut unsent, mut waited) = (0, Instant::now());
    for sequence in 0..count {
        payload[..8].copy_from_slice(&sequence.to_le_bytes());
        client.publish_payload_later(TOPIC, &payload)?;
        unsent += bytes;
        if unsent >= BATCH || sequence + 1 == count {
            client.flush()?;
            unsent = 0;
            while sequence >= received.load(Ordering::Acquire) + window {
                ensure!(
                    waited.elapsed() < Duration::from_secs(10),
                    "the subscriber does not receive any more"
                );
                thread::sleep(Duration::from_micros(50));
            }
            waited = Instant::now();
        }
    }
    Ok(())
}

fn ping_pong(served: &Served, bytes: usize) -> anyhow::Result<Percentiles> {
    let (mut there, mut back) = (served.connect()?, served.connect()?);
    subscribe(&mut back, "ping")?;
    subscribe(&mut there, "pong")?;
    let payload = &vec![b'x'; bytes];
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> anyhow::Result<()> {
            for _ in 0..TRIPS {
                receive(&mut back)?;
                back.publish_payload_later("pong", payload)?;
                back.flush()?;
            }
            Ok(())
        });
        let mut latencies = Latencies::new();
        for _ in 0..TRIPS {
            let start = Instant::now();
            there.publish_payload_later("ping", payload)?;
            there.flush()?;
            receive(&mut there)?;
            latencies.record_time(start.elapsed() / 2);
        }
        echo.join().map_err(|_| anyhow!("the echo panicked"))??;
        Ok(latencies.percentiles())
    })
}
