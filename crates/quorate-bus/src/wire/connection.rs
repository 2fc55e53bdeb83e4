//! One connection: a thread that reads what the client wants, and one that writes what is for it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_base::{Millis, Timestamp};

use super::frame::{self, OVERHEAD_MAX, PREFACE, SubscribeBody, ToClient, ToServer, Verdict};
use super::lines;
use super::server::{self, Shared};
use crate::bus::{Error, RequestError, Sender, Sent, Subscribe};
use crate::filter::Filter;
use crate::inbox::{Closed, Full, Inbox, Limits};
use crate::message::Message;
use crate::router::Balance;
use crate::stream::delivery::Policy;
use crate::stream::{Consumer, Start};
use crate::subscription::Subscription;
use crate::wait::{self, Bell, Wait};

/// Topics a connection keeps a sender for.
const SENDERS_MAX: usize = 4096;
/// Subscriptions of a connection.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Bytes written at once.
const WRITE_STEP: usize = 64 << 10;
/// Bytes of answers that wait until the client takes them. Past that it is not listened to.
const READY_MAX: usize = 4 << 20;
/// Messages of one subscription before the next has its turn.
const TURN_MAX: usize = 256;
/// Bytes of a subscription's or a group's name.
const NAME_MAX: usize = 200;
/// Requests of a connection that wait for an answer at once.
const REQUESTS_MAX: usize = 64;
/// How long the end of a connection waits for its requests, which are told.
const REQUESTS_END: Duration = Duration::from_secs(1);

/// What the two threads share.
pub(super) struct Outgoing {
    bell: Arc<Bell>,
    ready: Mutex<Vec<u8>>,
    /// Told when `ready` has been taken, and at the end.
    taken: Condvar,
    sources: Mutex<Sources>,
    over: AtomicBool,
    /// Where requests wait for their answers.
    requests: Mutex<HashMap<u64, Option<Arc<Inbox>>>>,
    next_request: AtomicU64,
}

#[derive(Default)]
struct Sources {
    all: BTreeMap<u32, Source>,
    /// Whose turn it is.
    turn: u32,
}

enum Source {
    Live(Subscription),
    Durable(Consumer),
}

impl Outgoing {
    fn new() -> Self {
        Self {
            bell: Arc::new(Bell::new()),
            ready: Mutex::default(),
            taken: Condvar::new(),
            sources: Mutex::default(),
            over: AtomicBool::new(false),
            requests: Mutex::default(),
            next_request: AtomicU64::new(0),
        }
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<u64, Option<Arc<Inbox>>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, frame: &ToClient<'_>) {
        self.put(|out| frame.encode(out));
    }

    /// Waits while the client has too much to take: who asks and does not read is not heard.
    pub(super) fn put(&self, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            while ready.len() >= READY_MAX && !self.is_over() {
                ready = self.taken.wait(ready).unwrap_or_else(PoisonError::into_inner);
            }
            if self.is_over() {
                return;
            }
            write(&mut ready);
        }
        self.bell.ring();
    }

    fn take(&self, bytes: &mut Vec<u8>) {
        bytes.append(&mut self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        self.taken.notify_all();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn failed(&self, number: u32, code: &str, text: &str) {
        self.say(&ToClient::Failed { number, code, text });
    }

    fn end(&self) {
        {
            // Under the lock, so that nobody looks before it and waits after it.
            let _ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            self.over.store(true, Ordering::Release);
        }
        self.taken.notify_all();
        self.bell.ring();
        for waiting in self.requests().values().flatten() {
            waiting.close(Closed::Dropped);
        }
    }
}

/// Tells somebody who is not let in why, in both languages, and closes.
pub(super) fn refuse(mut stream: UnixStream, reason: &str) {
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let _ = stream.write_all(format!("ERR refused {reason}\n").as_bytes());
}

/// Serves a client until it leaves.
pub(super) fn serve(shared: &Arc<Shared>, mut stream: UnixStream) {
    let mut first = [0; 1];
    if stream.read_exact(&mut first).is_err() {
        return;
    }
    let _ = stream.set_write_timeout(Some(shared.options.write_timeout));
    if first[0] == PREFACE[0] {
        let mut rest = [0; 7];
        if stream.read_exact(&mut rest).is_err() || rest != PREFACE[1..] {
            return refuse(stream, "this version of the protocol is not spoken here");
        }
        if stream.write_all(&PREFACE).is_err() {
            return;
        }
        speak_frames(shared, stream);
    } else {
        lines::speak(shared, &stream, first[0]);
    }
}

fn speak_frames(shared: &Arc<Shared>, stream: UnixStream) {
    let outgoing = Arc::new(Outgoing::new());
    let Ok(writer) = start_writer(&outgoing, &stream) else {
        return;
    };
    let mut reader = Incoming { shared, outgoing: &outgoing, senders: Senders::default() };
    reader.run(stream);
    if shared.stopping.load(Ordering::Acquire) {
        // The server ends, not the client: it still gets what is there for it.
        outgoing.end();
        let _ = writer.join();
        return;
    }
    // It went without a word, or with one: what it had and did not answer counts as a death, so that a message that kills its holders is found out.
    let sources = std::mem::take(&mut *outgoing.sources());
    for source in sources.all.into_values() {
        if let Source::Durable(consumer) = source {
            consumer.died();
        }
    }
    outgoing.end();
    let _ = writer.join();
    let end = Instant::now() + REQUESTS_END;
    wait::until(Wait::Park, &outgoing.bell, Some(end), || outgoing.requests().is_empty().then_some(()));
}

fn start_writer(
    outgoing: &Arc<Outgoing>,
    stream: &UnixStream,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let (outgoing, stream) = (Arc::clone(outgoing), stream.try_clone()?);
    std::thread::Builder::new().name("bus-write".into()).spawn(move || {
        write(&outgoing, stream);
        outgoing.end();
    })
}

/// Writes what is for the client, as much at a time as there is.
fn write(outgoing: &Outgoing, mut stream: UnixStream) {
    let mut bytes = Vec::with_capacity(2 * WRITE_STEP);
    let mut names = Names::default();
    loop {
        let mut due = None;
        let mut gather = |bytes: &mut Vec<u8>| {
            outgoing.take(bytes);
            due = collect(outgoing, bytes, &mut names);
            (!bytes.is_empty() || outgoing.is_over()).then_some(())
        };
        if gather(&mut bytes).is_none() {
            let end = due.map(|due: Timestamp| {
                let now =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Instant::now()
                    + Duration::from_millis(due.0).saturating_sub(now).max(Duration::from_millis(1))
            });
            wait::until(Wait::Park, &outgoing.bell, end, || {
                outgoing.take(&mut bytes);
                collect(outgoing, &mut bytes, &mut names);
                (!bytes.is_empty() || outgoing.is_over()).then_some(())
            });
        }
        if bytes.is_empty() {
            if outgoing.is_over() {
                return;
            }
            continue;
        }
        if stream.write_all(&bytes).is_err() {
            // Its reader notices too.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        bytes.clear();
        bytes.shrink_to(4 * WRITE_STEP);
    }
}

/// Topics by their numbers.
#[derive(Default)]
struct Names {
    all: HashMap<u32, Arc<str>>,
    /// That of the last message, which is often that of the next.
    last: Option<(u32, Arc<str>)>,
}

impl Names {
    fn of(&mut self, topic: u32, name: impl FnOnce() -> String) -> &str {
        if self.last.as_ref().is_none_or(|(last, _)| *last != topic) {
            if self.all.len() > SENDERS_MAX {
                self.all.clear();
            }
            let name = self.all.entry(topic).or_insert_with(|| name().into());
            self.last = Some((topic, Arc::clone(name)));
        }
        self.last.as_ref().map_or("", |(_, name)| name)
    }
}

/// Takes what waits for the client; answers when to look again though nobody rings.
fn collect(outgoing: &Outgoing, bytes: &mut Vec<u8>, names: &mut Names) -> Option<Timestamp> {
    let mut due: Option<Timestamp> = None;
    let mut sources = outgoing.sources();
    let mut ended = Vec::new();
    let Sources { all, turn } = &mut *sources;
    // In turn, beginning where the last time ended: one that always has something must not keep the others from theirs.
    let order: Vec<u32> = all.range(*turn..).chain(all.range(..*turn)).map(|(number, _)| *number).collect();
    for subscription in order {
        if bytes.len() >= WRITE_STEP {
            *turn = subscription;
            break;
        }
        match all.get_mut(&subscription) {
            None => {}
            Some(Source::Live(live)) => {
                for _ in 0..TURN_MAX {
                    let message = match live.try_receive() {
                        Ok(Some(message)) => message,
                        Ok(None) => break,
                        Err(reason) => {
                            ended.push((subscription, reason.to_string()));
                            break;
                        }
                    };
                    let topic = names.of(message.topic(), || live.topic_name(&message));
                    frame::put_message(bytes, subscription, topic, &message);
                    if bytes.len() >= WRITE_STEP {
                        break;
                    }
                }
            }
            Some(Source::Durable(consumer)) => loop {
                match consumer.look() {
                    Ok(Ok(received)) => {
                        ToClient::Delivery {
                            subscription,
                            offset: received.offset,
                            attempt: received.attempt,
                            time_ms: received.time.0,
                            topic: &received.topic,
                            message: received.message,
                        }
                        .encode(bytes);
                        if bytes.len() >= WRITE_STEP {
                            break;
                        }
                    }
                    Ok(Err(until)) => {
                        due = match (due, until) {
                            (Some(due), Some(until)) => Some(due.min(until)),
                            (due, until) => due.or(until),
                        };
                        break;
                    }
                    Err(error) => {
                        ended.push((subscription, error.to_string()));
                        break;
                    }
                }
            },
        }
    }
    for (subscription, reason) in ended {
        all.remove(&subscription);
        ToClient::Ended { subscription, reason: &reason }.encode(bytes);
    }
    due
}

struct Incoming<'a> {
    shared: &'a Arc<Shared>,
    outgoing: &'a Arc<Outgoing>,
    senders: Senders,
}

/// Those of the topics a client publishes to.
#[derive(Default)]
struct Senders {
    all: Vec<Sender>,
    by_topic: HashMap<String, usize>,
    /// The topic of the last message, which is often that of the next.
    last: Option<(String, usize)>,
}

impl Senders {
    /// Where the sender of a topic is; until another is asked for.
    fn find(&mut self, shared: &Shared, topic: &str) -> Result<usize, Error> {
        match &self.last {
            Some((last, at)) if last == topic => return Ok(*at),
            _ => {}
        }
        let at = match self.by_topic.get(topic) {
            Some(at) => *at,
            None => {
                let sender = shared.bus.sender(topic)?;
                if self.all.len() >= SENDERS_MAX {
                    *self = Self::default();
                }
                self.by_topic.insert(topic.to_owned(), self.all.len());
                self.all.push(sender);
                self.all.len() - 1
            }
        };
        self.last = Some((topic.to_owned(), at));
        Ok(at)
    }
}

impl Incoming<'_> {
    fn run(&mut self, mut stream: UnixStream) {
        let max = self.shared.bus.options().payload_max + OVERHEAD_MAX;
        let mut buffer = vec![0; 64 << 10];
        let (mut filled, mut used) = (0, 0);
        loop {
            // All whole frames that are there; publishes to one stored topic that follow each other wait for the disk together.
            let mut together: Vec<(u32, Message)> = Vec::new();
            let mut topic_of = String::new();
            loop {
                let length = match frame::length(&buffer[used..filled], max) {
                    Ok(Some(length)) if used + length <= filled => length,
                    Ok(_) => break,
                    Err(error) => return self.outgoing.failed(0, "malformed", &error.to_string()),
                };
                let parsed = ToServer::decode(&buffer[used + 4..used + length]);
                used += length;
                match parsed {
                    Ok(ToServer::Publish { number, topic, message }) => {
                        let stored = match self.sender(topic) {
                            Ok(sender) => sender.is_stored(),
                            Err(error) => {
                                self.outgoing.failed(number, code(&error), &error.to_string());
                                continue;
                            }
                        };
                        if stored {
                            if topic_of != topic {
                                self.publish_together(&topic_of, std::mem::take(&mut together));
                                topic.clone_into(&mut topic_of);
                            }
                            together.push((number, message));
                        } else {
                            self.publish_together(&topic_of, std::mem::take(&mut together));
                            self.publish(number, topic, message);
                        }
                    }
                    Ok(other) => {
                        self.publish_together(&topic_of, std::mem::take(&mut together));
                        self.handle(other);
                    }
                    // What cannot be read cannot be answered, and what follows may be anything.
                    Err(error) => return self.outgoing.failed(0, "malformed", &error.to_string()),
                }
            }
            self.publish_together(&topic_of, together);
            buffer.copy_within(used..filled, 0);
            filled -= used;
            used = 0;
            if let Ok(Some(length)) = frame::length(&buffer[..filled], max)
                && buffer.len() < length
            {
                buffer.resize(length, 0);
            }
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => return,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn sender(&mut self, topic: &str) -> Result<&mut Sender, Error> {
        let at = self.senders.find(self.shared, topic)?;
        Ok(&mut self.senders.all[at])
    }

    fn publish(&mut self, number: u32, topic: &str, message: Message) {
        let sent = self.sender(topic).and_then(|sender| {
            // A client that counts keeps its numbers; they say who sent it and in what order.
            if message.producer() == 0 {
                sender.send(message)
            } else {
                sender.send_together(vec![message]).map(|sent| sent[0])
            }
        });
        self.answer(number, sent);
    }

    fn publish_together(&mut self, topic: &str, messages: Vec<(u32, Message)>) {
        if messages.is_empty() {
            return;
        }
        let (numbers, messages): (Vec<u32>, Vec<Message>) = messages.into_iter().unzip();
        match self.sender(topic).and_then(|sender| sender.send_together(messages)) {
            Ok(all) => {
                for (number, sent) in numbers.into_iter().zip(all) {
                    self.answer(number, Ok(sent));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for number in numbers {
                    self.outgoing.failed(number, code(&error), &text);
                }
            }
        }
    }

    fn answer(&self, number: u32, sent: Result<Sent, Error>) {
        match sent {
            Ok(_) if number == 0 => {}
            Ok(sent) => self.outgoing.say(&ToClient::Done { number, sent }),
            Err(error) => self.outgoing.failed(number, code(&error), &error.to_string()),
        }
    }

    fn handle(&mut self, frame: ToServer<'_>) {
        match frame {
            ToServer::Publish { number, topic, message } => self.publish(number, topic, message),
            ToServer::Subscribe { number, subscription, body } => {
                match subscribe(self.shared, self.outgoing, subscription, &body) {
                    Ok(()) => self.outgoing.say(&ToClient::Done { number, sent: Sent::default() }),
                    Err((code, text)) => self.outgoing.failed(number, code, &text),
                }
            }
            ToServer::Unsubscribe { number, subscription } => {
                let gone = self.outgoing.sources().all.remove(&subscription);
                match gone {
                    Some(_) => self.outgoing.say(&ToClient::Done { number, sent: Sent::default() }),
                    None => self.outgoing.failed(number, "unknown", "there is no such subscription"),
                }
            }
            ToServer::Request { number, timeout_ms, topic, message } => {
                self.request(number, timeout_ms, topic.to_owned(), message);
            }
            ToServer::Answer { subscription, offset, attempt, verdict, pause_ms } => {
                self.answer_delivery(subscription, offset, attempt, verdict, pause_ms);
            }
            ToServer::Command { number, json } => match command(self.shared, json) {
                Ok(json) => {
                    let json = json.to_string();
                    self.outgoing.say(&ToClient::Result { number, json: json.as_bytes() });
                }
                Err((code, text)) => self.outgoing.failed(number, code, &text),
            },
        }
    }

    /// Waits for an answer on a thread of its own, so that the connection goes on.
    fn request(&self, number: u32, timeout_ms: u32, topic: String, message: Message) {
        let (bus, outgoing) = (self.shared.bus.clone(), Arc::clone(self.outgoing));
        let full = outgoing.requests().len() >= REQUESTS_MAX;
        if full {
            return outgoing.failed(
                number,
                "busy",
                "too many requests of this connection wait for an answer",
            );
        }
        let id = outgoing.next_request.fetch_add(1, Ordering::Relaxed);
        outgoing.requests().insert(id, None);
        let spawned = std::thread::Builder::new().name("bus-request".into()).spawn(move || {
            let timeout = Duration::from_millis(u64::from(timeout_ms));
            let begun = |inbox: &Arc<Inbox>| {
                outgoing.requests().insert(id, Some(Arc::clone(inbox)));
                // The connection may have ended before its end knew of this.
                if outgoing.is_over() {
                    inbox.close(Closed::Dropped);
                }
            };
            match bus.request_with(&topic, message, timeout, begun) {
                Ok(answer) => outgoing.say(&ToClient::Reply { number, topic: &topic, message: answer }),
                Err(error) => {
                    let code = match &error {
                        RequestError::NoResponders(_) => "no-responders",
                        RequestError::TimedOut(_) => "timed-out",
                        RequestError::Publish(error) => code(error),
                    };
                    outgoing.failed(number, code, &error.to_string());
                }
            }
            drop(bus);
            outgoing.requests().remove(&id);
            outgoing.bell.ring();
        });
        if spawned.is_err() {
            self.outgoing.requests().remove(&id);
            self.outgoing.failed(number, "busy", "there is no thread to wait with");
        }
    }

    fn answer_delivery(
        &self,
        subscription: u32,
        offset: u64,
        attempt: u32,
        verdict: Verdict,
        pause_ms: Option<u32>,
    ) {
        let sources = self.outgoing.sources();
        let Some(Source::Durable(consumer)) = sources.all.get(&subscription) else {
            return;
        };
        let pause = pause_ms.map(|pause| Millis(u64::from(pause)));
        // One that comes too late is delivered again, which is what the client is told by that.
        let _ = consumer.answer_held(offset, attempt, |delivery, now| match verdict {
            Verdict::Ack => delivery.ack(offset, attempt),
            Verdict::Nack => delivery.nack(now, offset, attempt, pause),
            Verdict::Reject => delivery.reject(now, offset, attempt),
            Verdict::Extend => delivery.extend(now, offset, attempt),
        });
    }
}

/// A word for a program to tell errors by.
fn code(error: &Error) -> &'static str {
    match error {
        Error::Topic(_) => "topic",
        Error::TooManyTopics(_) | Error::TooManyDelayed(_) => "full",
        Error::TooLarge { .. } => "too-large",
        Error::Headers => "headers",
        Error::DelayedDurable => "delayed",
        Error::StreamExists(_) => "exists",
        Error::Down => "down",
        Error::Stream(_) => "stream",
    }
}

type Refused = (&'static str, String);

fn bad(text: impl Into<String>) -> Refused {
    ("usage", text.into())
}

pub(super) fn subscribe_options(body: &SubscribeBody) -> Result<Subscribe, Refused> {
    let long = |name: &str| name.len() > NAME_MAX;
    if long(&body.name) || body.group.as_deref().is_some_and(long) {
        return Err(bad(format!("the name of a subscription or a group has at most {NAME_MAX} bytes")));
    }
    let full = match body.full.as_deref() {
        None | Some("shed-oldest") => Full::ShedOldest,
        Some("shed-lowest") => Full::ShedLowest,
        Some("refuse") => Full::Refuse,
        Some("disconnect") => Full::Disconnect,
        Some(other) => {
            return Err(bad(format!("{other:?} is none of shed-oldest, shed-lowest, refuse, disconnect")));
        }
    };
    let default = Limits::default();
    let limits = Limits {
        messages: body.messages.unwrap_or(8192).min(1 << 20),
        bytes: body.bytes.unwrap_or(default.bytes),
        full,
    };
    let mut how = Subscribe::new().named(&body.name).limits(limits);
    if let Some(filter) = &body.filter {
        how = how.filter(Filter::new(filter).map_err(|error| ("filter", error.to_string()))?);
    }
    if let Some(group) = &body.group {
        let balance = match body.balance.as_deref() {
            None | Some("round-robin") => Balance::RoundRobin,
            Some("least-busy") => Balance::LeastBusy,
            Some("sticky") => Balance::Sticky,
            Some(other) => return Err(bad(format!("{other:?} is none of round-robin, least-busy, sticky"))),
        };
        how = how.group(group, balance);
    }
    Ok(how)
}

fn subscribe(
    shared: &Shared,
    outgoing: &Outgoing,
    subscription: u32,
    body: &SubscribeBody,
) -> Result<(), Refused> {
    {
        let sources = outgoing.sources();
        if sources.all.len() >= SUBSCRIPTIONS_MAX {
            return Err(("full", format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions")));
        }
        if sources.all.contains_key(&subscription) {
            return Err(bad("this connection has a subscription of that number"));
        }
    }
    let source = match &body.stream {
        None => {
            let how = subscribe_options(body)?;
            let live = shared
                .bus
                .subscribe_with(&body.pattern, how, Arc::clone(&outgoing.bell))
                .map_err(|error| (code(&error), error.to_string()))?;
            Source::Live(live)
        }
        Some(stream) => {
            let Some(stream) = shared.bus.stream(stream) else {
                return Err(("unknown", format!("there is no stream {stream}")));
            };
            let filter = body.filter.as_deref().map(Filter::new).transpose();
            let filter = filter.map_err(|error| ("filter", error.to_string()))?;
            let default = Policy::default();
            let policy = Policy {
                ack_timeout: body.ack_timeout_ms.map_or(default.ack_timeout, Millis),
                attempts_max: body.attempts_max.unwrap_or(default.attempts_max).max(1),
                ordered: body.ordered,
                ..default
            };
            let consumer = body.consumer.as_deref().unwrap_or("default");
            let start = start(body.start.as_deref().unwrap_or("first"))?;
            let consumer = stream
                .filtered_consumer(consumer, policy, start, filter)
                .map_err(|error| ("stream", error.to_string()))?;
            consumer.also_ring(&outgoing.bell);
            Source::Durable(consumer)
        }
    };
    outgoing.sources().all.insert(subscription, source);
    outgoing.bell.ring();
    Ok(())
}

fn start(text: &str) -> Result<Start, Refused> {
    let number = |text: &str| text.parse::<u64>().ok();
    match text {
        "first" => Ok(Start::First),
        "next" => Ok(Start::Next),
        _ => match text.strip_prefix("time:") {
            Some(time) => number(time).map(|ms| Start::Time(Timestamp(ms))),
            None => number(text).map(Start::At),
        }
        .ok_or_else(|| bad("a start is `first`, `next`, a message's number, or `time:` and milliseconds")),
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum Command {
    Report,
    CreateStream {
        name: String,
        patterns: Vec<String>,
        #[serde(default)]
        retention: crate::stream::Retention,
    },
    DeadLetters {
        stream: String,
        consumer: String,
    },
    Replay {
        stream: String,
        consumer: String,
        message: u64,
    },
    Purge {
        stream: String,
        consumer: String,
        message: u64,
    },
    RemoveConsumer {
        stream: String,
        consumer: String,
    },
}

fn command(shared: &Shared, json: &[u8]) -> Result<serde_json::Value, Refused> {
    let command: Command = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
    let stream =
        |name: &str| shared.bus.stream(name).ok_or_else(|| ("unknown", format!("there is no stream {name}")));
    let failed = |error: crate::stream::Error| ("stream", error.to_string());
    Ok(match command {
        Command::Report => {
            serde_json::to_value(shared.bus.report()).map_err(|error| bad(error.to_string()))?
        }
        Command::CreateStream { name, patterns, retention } => {
            let definition = server::Definition { patterns, retention };
            server::create_stream(shared, &name, definition).map_err(|error| match &error {
                server::Error::Bus(inner) => (code(inner), error.to_string()),
                server::Error::Definition { .. } => ("usage", error.to_string()),
                _ => ("stream", error.to_string()),
            })?;
            serde_json::json!({ "created": name })
        }
        Command::DeadLetters { stream: name, consumer } => {
            let dead = stream(&name)?.dead_letters(&consumer).map_err(failed)?;
            let dead: Vec<_> = dead
                .iter()
                .map(|(offset, dead)| {
                    serde_json::json!({
                        "message": offset, "reason": dead.reason.as_str(),
                        "attempts": dead.attempts, "time_ms": dead.time.0,
                    })
                })
                .collect();
            serde_json::json!(dead)
        }
        Command::Replay { stream: name, consumer, message } => {
            let found = stream(&name)?.replay(&consumer, message).map_err(failed)?;
            serde_json::json!({ "replayed": found })
        }
        Command::Purge { stream: name, consumer, message } => {
            let found = stream(&name)?.purge(&consumer, message).map_err(failed)?;
            serde_json::json!({ "purged": found })
        }
        Command::RemoveConsumer { stream: name, consumer } => {
            stream(&name)?.remove_consumer(&consumer).map_err(failed)?;
            serde_json::json!({ "removed": consumer })
        }
    })
}
