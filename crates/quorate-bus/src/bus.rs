//! The bus of one process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use quorate_base::Timestamp;

use crate::filter::{Filter, View};
use crate::inbox::{Budget, Closed, Inbox, Limits, Rejected};
use crate::message::{HEADER_LENGTH_MAX, HEADERS_MAX, INLINE_MAX, Message, MessageId, Priority, Stamp};
use crate::ring::Who;
use crate::router::{
    Balance, Binding, Entry, GroupName, GroupTargets, Route, Router, Target, TooManyTopics, Version,
};
use crate::stream::{self, Stream};
use crate::subscription::Subscription;
use crate::sync::Padded;
use crate::timer::Timer;
use crate::topic::{self, Pattern};
use crate::wait::{Bell, Wait};

/// Replies are expected on topics below this one.
pub(crate) const REPLIES: &str = "_reply";

/// How a bus is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a payload. Longer ones are refused; put them into the content store and send their digest.
    pub payload_max: usize,
    /// Bytes that all subscribers may hold together, rings and long payloads.
    pub memory_max: u64,
    /// Topics the bus remembers; each takes some hundred bytes for as long as the bus lives.
    pub topics_max: usize,
    /// Messages that wait for their time.
    pub delayed_max: usize,
    /// What the time is; deadlines and delays are read against it.
    pub clock: fn() -> Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payload_max: 1 << 20,
            memory_max: 1 << 30,
            topics_max: 1 << 20,
            delayed_max: 100_000,
            clock: wall_clock,
        }
    }
}

pub(crate) fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Something cannot be published or subscribed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Topic(#[from] topic::Error),
    #[error(transparent)]
    TooManyTopics(#[from] TooManyTopics),
    #[error(
        "a payload has at most {max} bytes, this one has {bytes}; put it into the content store and send its digest"
    )]
    TooLarge { bytes: usize, max: usize },
    #[error(
        "a message has at most {HEADERS_MAX} headers, and {HEADER_LENGTH_MAX} bytes in each, in its key and in its reply"
    )]
    Headers,
    #[error("{0} messages wait for their time already, the bound of this bus")]
    TooManyDelayed(usize),
    #[error(
        "a delayed message cannot be counted on to be stored: publish it to a topic without a durable stream, or without delay"
    )]
    DelayedDurable,
    #[error("there is a stream {0} already")]
    StreamExists(String),
    #[error("the bus has been shut down")]
    Down,
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[must_use = "it says whether somebody was refused the message"]
pub struct Sent {
    /// Subscribers that have it waiting.
    pub delivered: u32,
    /// Other messages that made room for it.
    pub shed: u64,
    /// Subscribers that were full and did not get it.
    pub refused: u32,
    /// Durable streams that have it on disk.
    pub stored: u32,
}

/// Nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("nobody subscribes to {0}")]
    NoResponders(String),
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Publish(#[from] Error),
}

/// The bus. Clones are the same bus; it lives as long as one of them or a subscription does.
#[derive(Debug, Clone)]
pub struct Bus {
    pub(crate) core: Arc<Core>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) router: Router,
    pub(crate) budget: Arc<Budget>,
    producers: AtomicU64,
    replies: AtomicU64,
    pub(crate) timer: Timer,
    pub(crate) streams: Mutex<Vec<Arc<Stream>>>,
    pub(crate) subscriptions: Mutex<Vec<Weak<Registered>>>,
    down: std::sync::atomic::AtomicBool,
}

/// A subscription, for those who look at the bus.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) name: Box<str>,
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) inbox: Arc<Inbox>,
}

/// What a subscriber wants.
#[derive(Debug, Clone, Default)]
pub struct Subscribe {
    pub(crate) name: String,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) group: Option<(Arc<str>, Balance)>,
    pub(crate) limits: Limits,
    pub(crate) wait: Wait,
}

impl Subscribe {
    /// Every message, [`Limits::default`], sleeping while there is nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its name where the bus is looked at.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Of all subscribers in the group, one gets each message.
    #[must_use]
    pub fn group(mut self, name: &str, balance: Balance) -> Self {
        self.group = Some((name.into(), balance));
        self
    }

    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    #[must_use]
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Bus {
    pub fn new(options: Options) -> Self {
        // Producers are told apart across processes and restarts by where they start to count.
        let mut seed = std::collections::hash_map::DefaultHasher::new();
        std::hash::Hash::hash(&(std::process::id(), Instant::now(), std::thread::current().id()), &mut seed);
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        let first = random ^ std::hash::Hasher::finish(&seed);
        Self {
            core: Arc::new(Core {
                router: Router::new(options.topics_max),
                budget: Arc::new(Budget::new(options.memory_max)),
                producers: AtomicU64::new(first | 1),
                replies: AtomicU64::new(0),
                timer: Timer::new(options.delayed_max),
                streams: Mutex::default(),
                subscriptions: Mutex::default(),
                down: std::sync::atomic::AtomicBool::new(false),
                options,
            }),
        }
    }

    /// What the bus takes the time to be.
    pub fn now(&self) -> Timestamp {
        (self.core.options.clock)()
    }

    pub fn options(&self) -> &Options {
        &self.core.options
    }

    /// Who publishes to one topic, with its route in hand: the fast way.
    pub fn sender(&self, topic: &str) -> Result<Sender, Error> {
        topic::check(topic)?;
        self.core.up()?;
        let router = &self.core.router;
        let entry = match router.known(topic) {
            Some(entry) => entry,
            // An answer that comes when nobody waits for it any more must not make a topic that stays.
            None if self.core.was_reply(topic) => router.topic(REPLIES)?,
            None => router.topic(topic)?,
        };
        let (version, route) = router.route(&entry);
        Ok(Sender {
            core: Arc::clone(&self.core),
            counter: None,
            entry,
            version,
            route,
            producer: self.core.producers.fetch_add(1, Ordering::Relaxed),
            who: Who::new(),
            seq: 0,
        })
    }

    /// Publishes one message, looking the topic up. For more than a few to one topic there is [`Bus::sender`].
    pub fn publish(&self, topic: &str, message: Message) -> Result<Sent, Error> {
        let mut sender = self.sender(topic)?;
        sender.send(message)
    }

    /// Publishes a message with the producer's own id and number, by which durable streams know it again.
    pub fn publish_as(&self, topic: &str, id: MessageId, message: Message) -> Result<Sent, Error> {
        let mut sender = self.sender(topic)?;
        sender.producer = id.producer;
        sender.seq = id.seq.wrapping_sub(1);
        sender.send(message)
    }

    /// Publishes a message at a time to come. It waits in memory, and is published as by somebody else then.
    pub fn publish_at(&self, time: Timestamp, topic: &str, message: Message) -> Result<(), Error> {
        let sender = self.sender(topic)?;
        sender.check(&message)?;
        if !sender.route.streams.is_empty() {
            return Err(Error::DelayedDurable);
        }
        let now = self.now();
        let delay = Duration::from_millis(time.0.saturating_sub(now.0));
        let added = self.core.timer.add(Instant::now() + delay, move || {
            let mut sender = sender;
            // Nobody is left to be told; the counts of the subscribers have what happened.
            let _ = sender.send(message);
        });
        if added { Ok(()) } else { Err(Error::TooManyDelayed(self.core.options.delayed_max)) }
    }

    /// Receives messages whose topics match. From when this returns, every message published is seen.
    pub fn subscribe(&self, pattern: &str, how: Subscribe) -> Result<Subscription, Error> {
        self.subscribe_with(pattern, how, Arc::new(Bell::new()))
    }

    /// As [`subscribe`](Self::subscribe), with a bell that others share.
    pub(crate) fn subscribe_with(
        &self,
        pattern: &str,
        how: Subscribe,
        bell: Arc<Bell>,
    ) -> Result<Subscription, Error> {
        let pattern = Pattern::new(pattern)?;
        self.core.up()?;
        let inbox = Arc::new(Inbox::new(how.limits, Arc::clone(&self.core.budget), bell));
        let target = Target { inbox: Arc::clone(&inbox), filter: how.filter };
        let group = how.group.map(|(name, balance)| (GroupName(name), balance));
        let group_name = group.as_ref().map(|(name, _)| Arc::clone(&name.0));
        let binding = self.core.router.bind(pattern.clone(), Binding::Inbox { target, group })?;
        let registered = Arc::new(Registered {
            name: how.name.into(),
            pattern,
            group: group_name,
            inbox: Arc::clone(&inbox),
        });
        self.core.register(&registered);
        Ok(Subscription::new(Arc::clone(&self.core), inbox, binding, registered, how.wait))
    }

    /// Asks and waits for the first answer.
    pub fn request(&self, topic: &str, message: Message, timeout: Duration) -> Result<Message, RequestError> {
        self.request_with(topic, message, timeout, |_| {})
    }

    /// As [`request`](Self::request); `begun` gets the inbox where the answer is awaited, which ends the wait when it is closed.
    pub(crate) fn request_with(
        &self,
        topic: &str,
        message: Message,
        timeout: Duration,
        begun: impl FnOnce(&Arc<Inbox>),
    ) -> Result<Message, RequestError> {
        let number = self.core.replies.fetch_add(1, Ordering::Relaxed);
        let reply = format!("{REPLIES}.{number}");
        // Over after the subscription, which is made later and dropped before.
        let _topic = self.core.router.passing(&reply).map_err(Error::from)?;
        let limits = Limits { messages: 2, bytes: u64::MAX, full: crate::inbox::Full::Refuse };
        let mut answers = self.subscribe(&reply, Subscribe::new().limits(limits).named("request"))?;
        begun(answers.inbox());
        let message = message.with_reply(&reply);
        let deadline = message.deadline().is_none().then(|| {
            Timestamp(self.now().0.saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)))
        });
        let message = match deadline {
            Some(deadline) => message.with_deadline(deadline),
            None => message,
        };
        let sent = self.publish(topic, message)?;
        if sent.delivered == 0 && sent.refused == 0 && sent.stored == 0 {
            return Err(RequestError::NoResponders(topic.to_owned()));
        }
        match answers.receive_for(timeout) {
            Ok(Some(answer)) => Ok(answer),
            _ => Err(RequestError::TimedOut(timeout)),
        }
    }

    /// Answers a request. The answer says which message it belongs to. A message that asked for none is left alone.
    pub fn reply(&self, request: &Message, answer: Message) -> Result<Sent, Error> {
        let Some(topic) = request.reply() else {
            return Ok(Sent::default());
        };
        let answer = answer.with_correlation(request.id()).with_causation(request.id());
        self.publish(topic, answer)
    }

    /// The text of a topic's number.
    pub fn topic_name(&self, message: &Message) -> String {
        self.core.router.by_id(message.topic()).map_or_else(String::new, |entry| entry.name.to_string())
    }

    /// Keeps what is published to a stream's topics.
    pub fn attach(&self, stream: &Arc<Stream>) -> Result<(), Error> {
        self.core.up()?;
        let mut streams = self.core.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.iter().any(|known| known.name() == stream.name()) {
            return Err(Error::StreamExists(stream.name().to_owned()));
        }
        let mut bound = Vec::new();
        for pattern in stream.patterns() {
            match self.core.router.bind(pattern.clone(), Binding::Stream(Arc::clone(stream))) {
                Ok(binding) => bound.push(binding),
                Err(error) => {
                    bound.into_iter().for_each(|binding| self.core.router.unbind(binding));
                    return Err(error.into());
                }
            }
        }
        streams.push(Arc::clone(stream));
        Ok(())
    }

    /// The stream of that name.
    pub fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        let streams = self.core.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().find(|stream| stream.name() == name).cloned()
    }

    /// How many streams it keeps.
    pub(crate) fn streams(&self) -> usize {
        self.core.streams.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends every subscription, with [`Closed::BusDown`] after what waits has been received, and takes nothing more.
    pub fn shut_down(&self) {
        self.core.down.store(true, Ordering::Release);
        self.core.timer.stop();
        let subscriptions =
            std::mem::take(&mut *self.core.subscriptions.lock().unwrap_or_else(PoisonError::into_inner));
        for subscription in subscriptions.iter().filter_map(Weak::upgrade) {
            subscription.inbox.close(Closed::BusDown);
        }
    }
}

impl Core {
    pub(crate) fn up(&self) -> Result<(), Error> {
        if self.down.load(Ordering::Acquire) { Err(Error::Down) } else { Ok(()) }
    }

    /// Whether a topic is one that a request waited on, now or in the past.
    fn was_reply(&self, topic: &str) -> bool {
        let number = topic.strip_prefix(REPLIES).and_then(|rest| rest.strip_prefix('.')?.parse::<u64>().ok());
        number.is_some_and(|number| number < self.replies.load(Ordering::Relaxed))
    }

    pub(crate) fn register(&self, subscription: &Arc<Registered>) {
        let mut all = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|subscription| subscription.strong_count() > 0);
        }
        all.push(Arc::downgrade(subscription));
        // One that came while the bus went down must end too.
        if self.down.load(Ordering::Acquire) {
            subscription.inbox.close(Closed::BusDown);
        }
    }
}

/// Publishes to one topic. What one sender sends of one priority arrives in order.
#[derive(Debug)]
pub struct Sender {
    core: Arc<Core>,
    entry: Arc<Entry>,
    version: Version,
    route: Arc<Route>,
    producer: u64,
    /// The producer's id may be the caller's and anybody's; this is nobody else's.
    who: Who,
    seq: u64,
    /// Messages so far; made with the first.
    counter: Option<Arc<Padded<AtomicU64>>>,
}

impl Sender {
    pub fn topic(&self) -> &str {
        &self.entry.name
    }

    /// The id under which this sender's messages are known.
    pub const fn producer(&self) -> u64 {
        self.producer
    }

    /// Publishes messages together, each with the id it has: durable streams get them with one wait for the disk.
    pub(crate) fn send_together(&mut self, messages: Vec<Message>) -> Result<Vec<Sent>, Error> {
        for message in &messages {
            self.check(message)?;
        }
        self.core.up()?;
        self.refresh();
        let name: Arc<str> = Arc::from(&*self.entry.name);
        for stream in &self.route.streams {
            let copies = messages.iter().map(|message| (Arc::clone(&name), message.clone()));
            stream.publish_all(copies.collect())?;
        }
        let stored = self.route.streams.len() as u32;
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            let id = message.id();
            let stamp = Stamp { topic: self.entry.id, producer: id.producer, seq: id.seq };
            self.count(1);
            sent.push(Sent { stored, ..self.send_to_subscribers(message, stamp) });
        }
        Ok(sent)
    }

    #[inline]
    fn count(&mut self, messages: u64) {
        let counter = &self.counter.get_or_insert_with(|| self.entry.counter()).0;
        // Nobody else writes it.
        counter.store(counter.load(Ordering::Relaxed) + messages, Ordering::Relaxed);
    }

    /// Whether what is published goes to a durable stream.
    pub(crate) fn is_stored(&mut self) -> bool {
        self.refresh();
        !self.route.streams.is_empty()
    }

    #[inline]
    fn stamp(&self) -> Stamp {
        Stamp { topic: self.entry.id, producer: self.producer, seq: self.seq }
    }

    #[inline]
    fn refresh(&mut self) {
        if self.core.router.version(&self.entry) != self.version {
            (self.version, self.route) = self.core.router.route(&self.entry);
        }
    }

    #[inline]
    fn check(&self, message: &Message) -> Result<(), Error> {
        let bytes = message.payload().len();
        let max = self.core.options.payload_max;
        if bytes > max {
            return Err(Error::TooLarge { bytes, max });
        }
        if message.is_within_bounds() { Ok(()) } else { Err(Error::Headers) }
    }

    /// Publishes a message. Returns when every durable stream of the topic has it on disk, and every subscriber has it waiting or has
    /// refused it by its policy.
    #[inline]
    pub fn send(&mut self, message: Message) -> Result<Sent, Error> {
        self.check(&message)?;
        self.refresh();
        self.seq = self.seq.wrapping_add(1);
        self.count(1);
        if let ([target], [], [], false) =
            (&*self.route.targets, &*self.route.groups, &*self.route.streams, self.route.has_filters)
        {
            let mut sent = Sent::default();
            let stamp = self.stamp();
            count(&mut sent, target.inbox.push(&message, stamp, &mut self.who));
            return Ok(sent);
        }
        self.send_to_all(message)
    }

    fn send_to_all(&mut self, mut message: Message) -> Result<Sent, Error> {
        self.core.up()?;
        message.stamp(self.stamp());
        let mut stored = 0;
        for stream in &self.route.streams {
            stream.publish(&self.entry.name, &message)?;
            stored += 1;
        }
        let stamp = self.stamp();
        Ok(Sent { stored, ..self.send_to_subscribers(message, stamp) })
    }

    fn send_to_subscribers(&mut self, mut message: Message, stamp: Stamp) -> Sent {
        message.stamp(stamp);
        let message = &message;
        let mut sent = Sent::default();
        let view = View::new(&self.entry.name, message);
        let wanted = |target: &Target| target.filter.as_ref().is_none_or(|filter| filter.accepts(&view));
        for group in &self.route.groups {
            // A member that is closed by now is chosen no more: what it did not take goes to another.
            while let Some(target) = group.choose(message, wanted) {
                let pushed = target.inbox.push(message, stamp, &mut self.who);
                count(&mut sent, pushed);
                if pushed != Err(Rejected::Closed) {
                    break;
                }
            }
        }
        for target in &self.route.targets {
            if wanted(target) {
                count(&mut sent, target.inbox.push(message, stamp, &mut self.who));
            }
        }
        sent
    }

    /// Publishes one message for each payload, in order; where there is one subscriber, cheaper than one after the other.
    pub fn send_each<P: AsRef<[u8]>>(&mut self, priority: Priority, payloads: &[P]) -> Result<Sent, Error> {
        let mut sent = Sent::default();
        self.refresh();
        let mut rest = payloads;
        if let ([target], [], [], false) =
            (&*self.route.targets, &*self.route.groups, &*self.route.streams, self.route.has_filters)
        {
            let short = rest.iter().take_while(|payload| payload.as_ref().len() <= INLINE_MAX).count();
            let (id, producer, seq) = (self.entry.id, self.producer, self.seq);
            let mut next = 0;
            let pushed = target.inbox.push_some(&mut self.who, priority, short, || {
                // What was short may be long now, and long ones are accounted for.
                let payload = Some(rest[next].as_ref()).filter(|payload| payload.len() <= INLINE_MAX)?;
                let mut message = Message::new(payload).with_priority(priority);
                next += 1;
                message.stamp(Stamp { topic: id, producer, seq: seq + next as u64 });
                Some(message)
            });
            self.seq += pushed as u64;
            self.count(pushed as u64);
            sent.delivered += pushed as u32;
            rest = &rest[pushed..];
        }
        for payload in rest {
            let one = self.send(Message::new(payload.as_ref()).with_priority(priority))?;
            sent.delivered += one.delivered;
            sent.shed += one.shed;
            sent.refused += one.refused;
            sent.stored += one.stored;
        }
        Ok(sent)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(counter) = &self.counter {
            self.entry.retire(counter.0.load(Ordering::Relaxed));
        }
    }
}

#[inline]
fn count(sent: &mut Sent, pushed: Result<u64, Rejected>) {
    match pushed {
        Ok(shed) => {
            sent.delivered += 1;
            sent.shed += shed;
        }
        Err(Rejected::Full) => sent.refused += 1,
        // It is gone, and its binding will be soon.
        Err(Rejected::Closed) => {}
    }
}

impl GroupTargets {
    /// The member that gets a message, of those that want it.
    fn choose(&self, message: &Message, wanted: impl Fn(&Target) -> bool) -> Option<&Target> {
        let open = |target: &&Target| target.inbox.closed().is_none() && wanted(target);
        match self.balance {
            Balance::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len().max(1);
                let (before, from) = self.members.split_at(turn);
                from.iter().chain(before).find(open)
            }
            Balance::LeastBusy => self.members.iter().filter(open).min_by_key(|target| target.inbox.depth()),
            Balance::Sticky => {
                let weight = |target: &&Target| {
                    let mut hasher = std::collections::hash_map::DefaultHasher::new();
                    match message.key() {
                        Some(key) => std::hash::Hash::hash(key, &mut hasher),
                        None => std::hash::Hash::hash(&message.producer(), &mut hasher),
                    }
                    std::hash::Hash::hash(&(Arc::as_ptr(&target.inbox) as usize), &mut hasher);
                    std::hash::Hasher::finish(&hasher)
                };
                self.members.iter().filter(open).max_by_key(weight)
            }
        }
    }
}
