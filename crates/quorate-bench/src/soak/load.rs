//! Everything the bus and the memory offer, all at once and at a steady pace.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use quorate_base::Millis;
use quorate_bus::stream::delivery::Policy as Delivery;
use quorate_bus::stream::{self, Retention, Start, Stream};
use quorate_bus::wire::client::Event;
use quorate_bus::wire::frame::SubscribeBody;
use quorate_bus::wire::{Client, Server, server};
use quorate_bus::{Bus, Full, Limits, Message, Stop, Subscribe, Wait};
use quorate_memory::{Actor, Class, History, Kind, Options, Place, Policy, Put, Space, Store};

// What is done a second at load 1: about half of what two cores can do.
const MESSAGES: f64 = 400_000.0;
const STORED: f64 = 2_000.0;
const SOCKET: f64 = 20_000.0;
const RELAXED: f64 = 50_000.0;
const DURABLE: f64 = 500.0;
/// Subscriptions that come and go, whatever the load.
const CHURN: f64 = 100.0;

const TOPICS: u64 = 250;
const KEYS: u64 = 20_000;
const WATCHERS: usize = 4;
/// How long a worker waits for something before it looks whether it is told to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What has been done so far.
#[derive(Debug, Default)]
pub(super) struct Done {
    published: AtomicU64,
    delivered: AtomicU64,
    stored: AtomicU64,
    consumed: AtomicU64,
    over_socket: AtomicU64,
    came_and_went: AtomicU64,
    written: AtomicU64,
    seen: AtomicU64,
}

impl Done {
    fn figures(&self) -> [(&'static str, u64); 8] {
        [
            ("published", &self.published),
            ("delivered", &self.delivered),
            ("stored", &self.stored),
            ("consumed", &self.consumed),
            ("over the socket", &self.over_socket),
            ("came and went", &self.came_and_went),
            ("written", &self.written),
            ("seen by watchers", &self.seen),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// Whether one of the kinds of work has not been done at all.
    pub(super) fn is_idle(&self) -> bool {
        self.figures().iter().any(|(_, count)| *count == 0)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures().map(|(name, count)| format!("{count} {name}"));
        f.write_str(&figures.join(", "))
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

type Work = Box<dyn FnOnce(&Common) -> anyhow::Result<()> + Send>;

/// What each worker has.
#[derive(Debug, Clone)]
struct Common {
    stop: Arc<AtomicBool>,
    done: Arc<Done>,
    load: f64,
}

impl Common {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Does something so often a second until told to stop. What could not be done in a second is left out.
    fn paced(&self, per_second: f64, mut work: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (start, mut next) = (Instant::now(), 0_u64);
        while self.goes_on() {
            let due = (start.elapsed().as_secs_f64() * per_second) as u64;
            next = next.max(due.saturating_sub(per_second as u64));
            if next >= due {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Not so many at a time that it would be told to stop in vain.
            let end = due.min(next + 10_000);
            while next < end {
                work(next)?;
                next += 1;
            }
        }
        Ok(())
    }
}

/// The workers, until they are told to finish.
pub(super) struct Load {
    common: Common,
    workers: Vec<JoinHandle<anyhow::Result<()>>>,
    shard: Stop,
    _server: Server,
}

impl Load {
    /// Begins, with everything on disk below `folder`.
    pub(super) fn start(folder: &Path, load: f64) -> anyhow::Result<Self> {
        let common = Common { stop: Arc::default(), done: Arc::default(), load };
        let bus = Bus::default();
        let retention = Retention { messages: Some(20_000), ..Retention::default() };
        let options = stream::Options::new("work", &["work.>"], Some(folder.join("work")));
        let work = Stream::open(stream::Options { retention, ..options })?;
        bus.attach(&work)?;
        let server = Server::start(bus.clone(), server::Options::new(&folder.join("socket")))?;
        let options = Options { snapshot_bytes: 64 << 20, ..Options::default() };
        let store = Store::open(Place::folder(&folder.join("memory"))?, options)?;
        let history = History { versions_max: 1, age_max: Some(Millis::from_secs(60)) };
        let policy = Policy { ttl: Some(Millis::from_secs(60)), history, ..Policy::new(Kind::Project) };
        let space = store.create(&Actor::operator(), "soak", policy)?;

        let mut workers = Vec::new();
        let mut worker = |work: Work| {
            let common = common.clone();
            workers.push(std::thread::spawn(move || work(&common)));
        };
        let (shard, to_stop) = handlers(&bus, &common.done)?;
        worker(Box::new(|_| {
            let mut shard = shard;
            shard.run();
            Ok(())
        }));
        let socket = server.socket().to_owned();
        let (one, other) = (socket.clone(), socket);
        worker(Box::new(move |common| subscribe_over(&one, common)));
        worker(Box::new(move |common| publish_over(&other, common)));
        let (one, other, third) = (bus.clone(), bus.clone(), bus);
        worker(Box::new(move |common| publish(&one, common)));
        worker(Box::new(move |common| come_and_go(&other, common)));
        worker(Box::new(move |common| publish_to_stream(&third, common)));
        worker(Box::new(move |common| consume(&work, common)));
        for (class, per_second) in [(Class::Relaxed, RELAXED), (Class::Durable, DURABLE)] {
            let space = space.clone().with_class(class);
            worker(Box::new(move |common| write(&space, class, per_second, common)));
        }
        for _ in 0..WATCHERS {
            let space = space.clone();
            worker(Box::new(move |common| watch(&space, common)));
        }
        Ok(Self { common, workers, shard: to_stop, _server: server })
    }

    pub(super) const fn done(&self) -> &Arc<Done> {
        &self.common.done
    }

    /// No worker has ended.
    pub(super) fn is_well(&self) -> bool {
        !self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Ends all workers; the first error any of them met.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.common.stop.store(true, Ordering::Relaxed);
        self.shard.stop();
        let ended =
            self.workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
        // All of them, before the first error is told.
        let ended: Vec<_> = ended.collect();
        ended.into_iter().collect()
    }
}

/// Four handlers a topic.
fn handlers(bus: &Bus, done: &Arc<Done>) -> anyhow::Result<(quorate_bus::Shard, Stop)> {
    let mut shard = bus.shard("soak", Limits::default(), Wait::Park)?;
    for number in 0..4 * TOPICS {
        let done = Arc::clone(done);
        let handle = move |message: &Message| {
            if message.payload().len() == 64 {
                one_more(&done.delivered);
            }
        };
        shard.subscribe(&format!("event.{}", number % TOPICS), None, handle)?;
    }
    let stop = shard.stop();
    Ok((shard, stop))
}

fn publish(bus: &Bus, common: &Common) -> anyhow::Result<()> {
    let senders: Result<Vec<_>, _> = (0..TOPICS).map(|topic| bus.sender(&format!("event.{topic}"))).collect();
    let mut senders = senders?;
    common.paced(MESSAGES * common.load, |number| {
        let sent = senders[(number % TOPICS) as usize].send(Message::new(&[7; 64]))?;
        ensure!(sent.refused == 0, "message {number} was refused");
        one_more(&common.done.published);
        Ok(())
    })
}

/// One that never reads, and others that are gone again at once.
fn come_and_go(bus: &Bus, common: &Common) -> anyhow::Result<()> {
    let limits = Limits { messages: 64, bytes: 1 << 20, full: Full::ShedOldest };
    let _stuck = bus.subscribe("event.1", Subscribe::new().limits(limits))?;
    common.paced(CHURN, |number| {
        let topic = format!("event.{}", number % TOPICS);
        bus.subscribe(&topic, Subscribe::new().limits(limits))?.try_receive()?;
        one_more(&common.done.came_and_went);
        Ok(())
    })
}

fn publish_to_stream(bus: &Bus, common: &Common) -> anyhow::Result<()> {
    let mut sender = bus.sender("work.a")?;
    common.paced(STORED * common.load, |_| {
        ensure!(sender.send(Message::new(&[1; 256]))?.stored == 1, "a message was not stored");
        one_more(&common.done.stored);
        Ok(())
    })
}

/// Some it answers for only the second time.
fn consume(work: &Arc<Stream>, common: &Common) -> anyhow::Result<()> {
    let policy = Delivery { backoff: Millis(1), ..Delivery::default() };
    let consumer = work.consumer("soak", policy, Start::First)?;
    while common.goes_on() {
        let Some(received) = consumer.next(LOOK)? else {
            continue;
        };
        if received.offset.is_multiple_of(97) && received.attempt == 1 {
            consumer.nack(&received, None)?;
        } else {
            consumer.ack(&received)?;
            one_more(&common.done.consumed);
        }
    }
    Ok(())
}

fn subscribe_over(socket: &Path, common: &Common) -> anyhow::Result<()> {
    let mut client = Client::connect(socket)?;
    client.subscribe(SubscribeBody { pattern: "socket".into(), ..SubscribeBody::default() })?;
    while common.goes_on() {
        if let Some(Event::Message { .. }) = client.next(Some(LOOK))? {
            one_more(&common.done.over_socket);
        }
    }
    Ok(())
}

fn publish_over(socket: &Path, common: &Common) -> anyhow::Result<()> {
    let mut client = Client::connect(socket)?;
    common.paced(SOCKET * common.load, |number| {
        client.publish_later("socket", &Message::new(&[2; 128]))?;
        if number.is_multiple_of(64) {
            client.flush()?;
        }
        Ok(())
    })
}

fn write(space: &Space, class: Class, per_second: f64, common: &Common) -> anyhow::Result<()> {
    common.paced(per_second * common.load, |number| {
        let key = format!("{class:?} {}", number.wrapping_mul(2_654_435_761) % KEYS);
        space.put(key.as_bytes(), Put::new(vec![3; 200]))?;
        one_more(&common.done.written);
        Ok(())
    })
}

fn watch(space: &Space, common: &Common) -> anyhow::Result<()> {
    let mut watch = space.watch(b"", space.store().version()?)?;
    while common.goes_on() {
        if watch.next(LOOK)?.is_some() {
            one_more(&common.done.seen);
        }
    }
    Ok(())
}
