//! NATS: publishing and subscribing, and its stream on disk.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::brokers::server::Server;
use crate::brokers::wire::{Wire, line, number};
use crate::harness::latency::{Latencies, Percentiles};
use crate::harness::message::Order;
use crate::harness::usage::{processor_time, resident};
use crate::harness::writers::{Acked, writers};

/// Bytes written at once.
const BATCH: usize = 1 << 16;
/// Bytes published and not yet received, at most: the server drops subscribers that are far behind.
const WINDOW: u64 = 8 << 20;
/// Connections that subscribe at fan-out.
const SUBSCRIBERS: usize = 4;
/// Times there and back of a message.
const TRIPS: u64 = 3_000;
pub(crate) const RECORD: usize = 256;

/// Deliveries, and what they cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) per_second: f64,
    /// Per second of processor time of the server and of this process.
    pub(crate) per_processor_second: f64,
    /// Per second of processor time of the server alone.
    pub(crate) per_server_second: f64,
}

impl Delivered {
    /// Of so many deliveries, with the processor time of the server and of this process.
    pub(crate) fn new(deliveries: u64, time: Duration, [server, own]: [Duration; 2]) -> Self {
        // Less than a tick is a tick.
        let per = |spent: Duration| deliveries as f64 / spent.max(Duration::from_millis(10)).as_secs_f64();
        Self {
            per_second: deliveries as f64 / time.as_secs_f64(),
            per_processor_second: per(server + own),
            per_server_second: per(server),
        }
    }
}

/// Nothing where it is not installed. Its stream lies on the disk of the workspace.
pub(crate) fn start() -> anyhow::Result<Option<Server>> {
    Server::start("nats-server", |folder, port| {
        let folder = folder.display().to_string();
        ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", &folder].map(str::to_owned).into()
    })
}

#[derive(Debug)]
struct Connection(Wire);

impl Connection {
    fn open(server: &Server) -> anyhow::Result<Self> {
        let mut wire = Wire::connect(server.address)?;
        wire.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\n")?;
        let mut connection = Self(wire);
        connection.settle()?;
        Ok(connection)
    }

    /// Returns when the server has done all that was asked before.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.0.send(b"PING\r\n")?;
        let mut settled = false;
        while !settled {
            self.0.read()?;
            settled = self.frames(|_| Ok(()))?;
        }
        Ok(())
    }

    fn subscribe(&mut self, subjects: impl Iterator<Item = String>) -> anyhow::Result<()> {
        let orders: String =
            subjects.enumerate().map(|(sid, subject)| format!("SUB {subject} {sid}\r\n")).collect();
        self.0.send(orders.as_bytes())?;
        self.settle()
    }

    /// Waits for at least one message, then takes all that are there.
    fn receive(&mut self, mut each: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<u64> {
        let mut count = 0;
        while count == 0 {
            self.0.read()?;
            self.frames(|payload| {
                count += 1;
                each(payload)
            })?;
        }
        Ok(count)
    }

    /// Takes all complete frames that were read; tells whether the answer to a `PING` was among them.
    fn frames(&mut self, mut each: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<bool> {
        let (mut taken, mut answered, mut asked) = (0, false, false);
        let mut rest = self.0.unread();
        while let Some((head, after)) = line(rest) {
            let mut whole = rest.len() - after.len();
            if head.starts_with(b"MSG ") {
                let size = number(head.rsplit(|byte| *byte == b' ').next().unwrap_or_default())?;
                let Some(payload) = after.get(..size + 2) else {
                    break;
                };
                each(&payload[..size])?;
                whole += size + 2;
            } else if head == b"PONG" {
                answered = true;
            } else if head == b"PING" {
                asked = true;
            } else if head.starts_with(b"-ERR") {
                bail!("the server says {}", String::from_utf8_lossy(head));
            }
            taken += whole;
            rest = &rest[whole..];
        }
        self.0.take(taken);
        if asked {
            self.0.send(b"PONG\r\n")?;
        }
        Ok(answered)
    }

    /// One question to the server's own subjects, and its answer.
    fn ask(&mut self, subject: &str, question: &str) -> anyhow::Result<String> {
        self.subscribe(["_A.ask".to_owned()].into_iter())?;
        self.0.send(format!("PUB {subject} _A.ask {}\r\n{question}\r\n", question.len()).as_bytes())?;
        let mut answer = String::new();
        self.receive(|payload| {
            answer = String::from_utf8_lossy(payload).into_owned();
            Ok(())
        })?;
        ensure!(!answer.contains("\"error\""), "{subject} was refused: {answer}");
        Ok(answer)
    }
}

/// Messages of `bytes` from one publisher to `subscribers` connections that share the subscriptions: each message goes to a subject that
/// every connection has subscribed to, drawn from `subjects` of them.
pub(crate) fn publish(
    server: &Server,
    bytes: usize,
    count: u64,
    subscribers: usize,
    subjects: u64,
) -> anyhow::Result<Delivered> {
    let received: Vec<AtomicU64> = (0..subscribers).map(|_| AtomicU64::new(0)).collect();
    let barrier = &Barrier::new(subscribers + 1);
    let subscribe = |received: &AtomicU64| -> anyhow::Result<()> {
        let connection = Connection::open(server).and_then(|mut connection| {
            connection.subscribe((0..subjects).map(|subject| format!("b.{subject}")))?;
            Ok(connection)
        });
        barrier.wait();
        let (mut connection, mut order) = (connection?, Order::new(1));
        let mut arrived = 0;
        while arrived < count {
            arrived += connection.receive(|payload| {
                ensure!(payload.len() == bytes, "a message of {} B came", payload.len());
                order.sequence(0, u64::from_le_bytes(payload[..8].try_into()?));
                Ok(())
            })?;
            received.store(arrived, Ordering::Release);
        }
        order.finish(count)
    };
    let spent = || Ok::<_, anyhow::Error>([processor_time(server.process())?, processor_time(own())?]);
    thread::scope(|scope| {
        let subscribe = &subscribe;
        let threads: Vec<_> =
            received.iter().map(|received| scope.spawn(move || subscribe(received))).collect();
        let connection = Connection::open(server);
        barrier.wait();
        let (before, start) = (spent()?, Instant::now());
        let behind = || received.iter().map(|received| received.load(Ordering::Acquire)).min().unwrap_or(0);
        publish_all(connection?, bytes, count, subjects, behind)?;
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a subscriber panicked"))??;
        }
        let (time, after) = (start.elapsed(), spent()?);
        let spent = [0, 1].map(|of: usize| after[of].saturating_sub(before[of]));
        Ok(Delivered::new(count * subscribers as u64, time, spent))
    })
}

fn publish_all(
    mut connection: Connection,
    bytes: usize,
    count: u64,
    subjects: u64,
    received: impl Fn() -> u64,
) -> anyhow::Result<()> {
    let window = (WINDOW / bytes as u64).clamp(16, 65_536);
    let mut batch = Vec::with_capacity(2 * BATCH + bytes);
    let mut payload = vec![b'x'; bytes];
    let mut draw = 1_u64;
    let mut waited = Instant::now();
    for sequence in 0..count {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        payload[..8].copy_from_slice(&sequence.to_le_bytes());
        batch.extend_from_slice(format!("PUB b.{} {bytes}\r\n", (draw >> 33) % subjects).as_bytes());
        batch.extend_from_slice(&payload);
        batch.extend_from_slice(b"\r\n");
        if batch.len() >= BATCH || sequence + 1 == count {
            connection.0.send(&batch)?;
            batch.clear();
            while sequence >= received() + window {
                ensure!(waited.elapsed() < Duration::from_secs(10), "subscribers do not receive any more");
                thread::sleep(Duration::from_micros(50));
            }
            waited = Instant::now();
        }
    }
    Ok(())
}

/// Half the way there and back of one message at a time.
pub(crate) fn ping_pong(server: &Server, bytes: usize) -> anyhow::Result<Percentiles> {
    let (mut there, mut back) = (Connection::open(server)?, Connection::open(server)?);
    back.subscribe(["ping".to_owned()].into_iter())?;
    there.subscribe(["pong".to_owned()].into_iter())?;
    let message = |subject: &str| format!("PUB {subject} {bytes}\r\n{}\r\n", "x".repeat(bytes)).into_bytes();
    thread::scope(|scope| {
        let answer = message("pong");
        let echo = scope.spawn(move || -> anyhow::Result<()> {
            for _ in 0..TRIPS {
                back.receive(|_| Ok(()))?;
                back.0.send(&answer)?;
            }
            Ok(())
        });
        let (question, mut latencies) = (message("ping"), Latencies::new());
        for _ in 0..TRIPS {
            let start = Instant::now();
            there.0.send(&question)?;
            there.receive(|_| Ok(()))?;
            latencies.record_time(start.elapsed() / 2);
        }
        echo.join().map_err(|_| anyhow!("the echo panicked"))??;
        Ok(latencies.percentiles())
    })
}

/// Bytes of memory that a subscription to a subject of its own takes in the server.
pub(crate) fn memory(server: &Server, subscriptions: u64) -> anyhow::Result<f64> {
    let mut connection = Connection::open(server)?;
    let before = resident(server.process())?;
    connection.subscribe((0..subscriptions).map(|subject| format!("memory.{subject}")))?;
    let after = resident(server.process())?;
    Ok(after.saturating_sub(before) as f64 / subscriptions as f64)
}

/// A stream on disk of everything below `s.`.
pub(crate) fn create_stream(server: &Server) -> anyhow::Result<()> {
    let stream = r#"{"name":"S","subjects":["s.>"],"storage":"file","retention":"limits","discard":"old","num_replicas":1}"#;
    Connection::open(server)?.ask("$JS.API.STREAM.CREATE.S", stream)?;
    Ok(())
}

/// How many messages the stream holds.
fn stored(server: &Server) -> anyhow::Result<u64> {
    let answer: serde_json::Value =
        serde_json::from_str(&Connection::open(server)?.ask("$JS.API.STREAM.INFO.S", "")?)?;
    answer["state"]["messages"].as_u64().with_context(|| format!("no number of messages: {answer}"))
}

/// One connection with `depth` messages that are not acknowledged yet.
pub(crate) fn stream_pipelined(server: &Server, depth: u64, time: Duration) -> anyhow::Result<Acked> {
    let before = stored(server)?;
    let mut connection = Connection::open(server)?;
    connection.subscribe(["_I.p".to_owned()].into_iter())?;
    let (mut sent, mut acknowledged) = (Vec::<Instant>::new(), 0_u64);
    let (start, mut latencies) = (Instant::now(), Latencies::new());
    let mut batch = Vec::new();
    loop {
        let open = start.elapsed() < time;
        if !open && acknowledged == sent.len() as u64 {
            break;
        }
        batch.clear();
        while open && (sent.len() as u64) < acknowledged + depth {
            record(&mut batch, "s.p", "_I.p", sent.len() as u64);
            sent.push(Instant::now());
        }
        connection.0.send(&batch)?;
        connection.receive(|payload| {
            latencies.record_time(sent[acknowledged as usize].elapsed());
            acknowledged += 1;
            accepted(payload)
        })?;
    }
    let per_second = acknowledged as f64 / start.elapsed().as_secs_f64();
    complete(server, before, acknowledged)?;
    Ok(Acked { per_second, latency: latencies.percentiles(), counts: vec![acknowledged] })
}

/// As many connections as publishers, each with one message that is not acknowledged yet.
pub(crate) fn stream_concurrent(server: &Server, publishers: usize, time: Duration) -> anyhow::Result<Acked> {
    let before = stored(server)?;
    let open = |publisher| -> anyhow::Result<_> {
        let mut connection = Connection::open(server)?;
        connection.subscribe([format!("_I.{publisher}")].into_iter())?;
        Ok(std::sync::Mutex::new(connection))
    };
    let connections = (0..publishers).map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let acked = writers(publishers, time, |publisher, sequence| {
        // Nobody else wants it: each publisher has its own.
        let mut connection = connections[publisher].lock().map_err(|_| anyhow!("a publisher panicked"))?;
        let mut message = Vec::with_capacity(512);
        record(&mut message, &format!("s.{publisher}"), &format!("_I.{publisher}"), sequence);
        connection.0.send(&message)?;
        connection.receive(accepted)?;
        Ok(())
    })?;
    complete(server, before, acked.counts.iter().sum())?;
    Ok(acked)
}

fn record(batch: &mut Vec<u8>, subject: &str, inbox: &str, sequence: u64) {
    batch.extend_from_slice(format!("PUB {subject} {inbox} {RECORD}\r\n{sequence:0RECORD$}\r\n").as_bytes());
}

fn accepted(answer: &[u8]) -> anyhow::Result<()> {
    let refused = answer.windows(7).any(|word| word == b"\"error\"");
    ensure!(!refused, "a message was refused: {}", String::from_utf8_lossy(answer));
    Ok(())
}

fn complete(server: &Server, before: u64, acknowledged: u64) -> anyhow::Result<()> {
    let stored = stored(server)? - before;
    ensure!(stored == acknowledged, "{acknowledged} messages were acknowledged, {stored} are stored");
    Ok(())
}

fn own() -> u32 {
    std::process::id()
}

/// One to one: all messages to one subject.
pub(crate) fn one_to_one(server: &Server, bytes: usize, count: u64) -> anyhow::Result<Delivered> {
    publish(server, bytes, count, 1, 1)
}

/// Fan-out 4 with 10⁴ subscriptions.
pub(crate) fn fan_out(server: &Server, count: u64) -> anyhow::Result<Delivered> {
    publish(server, 64, count, SUBSCRIBERS, 10_000 / SUBSCRIBERS as u64)
}
