//! From a topic to those who get it.
//!
//! Topics are numbered once. What a topic matches is worked out once, kept as a [`Route`], and used until a subscription that may concern
//! it comes or goes: an exact one touches its own topic, a pattern all topics with the same first segment. Whoever publishes holds the route and
//! looks at two counters before each use; no text is hashed or compared on the way of a message.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use foldhash::quality::RandomState;

use crate::filter::Filter;
use crate::inbox::Inbox;
use crate::stream::Stream;
use crate::sync::Padded;
use crate::topic::Pattern;

/// Set in the numbers of topics that are forgotten again ([`Router::passing`]).
pub(crate) const PASSING: u32 = 1 << 31;

/// Passing topics that are known a while longer, for those who look at what was published to them.
const PASSED_MAX: usize = 1024;

/// Patterns that begin alike share a counter; so do, by chance, some that do not.
const BUCKETS: usize = 256;

/// A topic that somebody publishes to or subscribes.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) name: Arc<str>,
    /// Raised when an exact subscription to it comes or goes.
    changed: AtomicU64,
    bucket: usize,
    route: Mutex<Option<(Version, Arc<Route>)>>,
    counters: Mutex<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    retired: u64,
    live: Vec<Weak<Padded<AtomicU64>>>,
}

impl Entry {
    /// A counter of messages published to the topic, for one sender alone.
    pub(crate) fn counter(&self) -> Arc<Padded<AtomicU64>> {
        let counter = Arc::new(Padded(AtomicU64::new(0)));
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.live.len() == counters.live.capacity() {
            counters.live.retain(|counter| counter.strong_count() > 0);
        }
        counters.live.push(Arc::downgrade(&counter));
        counter
    }

    fn forget_route(&self) {
        *self.route.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What a sender that ends has counted.
    pub(crate) fn retire(&self, count: u64) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).retired += count;
    }

    /// Messages published to it.
    pub(crate) fn published(&self) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let live = counters.live.iter().filter_map(Weak::upgrade);
        counters.retired + live.map(|counter| counter.0.load(Ordering::Relaxed)).sum::<u64>()
    }
}

/// Which subscriptions a route knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version {
    exact: u64,
    patterns: u64,
}

/// Who gets the messages of a topic.
#[derive(Debug, Default)]
pub(crate) struct Route {
    pub(crate) targets: Box<[Target]>,
    pub(crate) groups: Box<[GroupTargets]>,
    pub(crate) streams: Box<[Arc<Stream>]>,
    pub(crate) has_filters: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) filter: Option<Arc<Filter>>,
}

/// Of these, one gets each message.
#[derive(Debug)]
pub(crate) struct GroupTargets {
    pub(crate) members: Box<[Target]>,
    pub(crate) balance: Balance,
    pub(crate) turn: Arc<AtomicUsize>,
}

/// How a queue group chooses the member that gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest messages waiting.
    LeastBusy,
    /// Messages with the same key, or without one of the same producer, go to the same member, as long as the members stay the same; one that
    /// comes or goes moves few keys (rendezvous hashing).
    Sticky,
}

/// A queue group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupName(pub(crate) Arc<str>);

/// One binding of a pattern.
#[derive(Debug, Clone)]
pub(crate) enum Binding {
    Inbox { target: Target, group: Option<(GroupName, Balance)> },
    Stream(Arc<Stream>),
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Self>,
    one: Option<Box<Self>>,
    here: Vec<u64>,
    rest: Vec<u64>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.one.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    fn insert(&mut self, pattern: &str, id: u64) {
        let mut node = self;
        for segment in pattern.split('.') {
            match segment {
                ">" => {
                    node.rest.push(id);
                    return;
                }
                "*" => node = node.one.get_or_insert_default(),
                _ => {
                    if !node.children.contains_key(segment) {
                        node.children.insert(segment.into(), Self::default());
                    }
                    let Some(child) = node.children.get_mut(segment) else {
                        return;
                    };
                    node = child;
                }
            }
        }
        node.here.push(id);
    }

    fn remove(&mut self, pattern: &[&str], id: u64) {
        match pattern {
            [] => self.here.retain(|found| *found != id),
            [">"] => self.rest.retain(|found| *found != id),
            ["*", rest @ ..] => {
                if let Some(node) = &mut self.one {
                    node.remove(rest, id);
                    if node.is_empty() {
                        self.one = None;
                    }
                }
            }
            [segment, rest @ ..] => {
                if let Some(node) = self.children.get_mut(*segment) {
                    node.remove(rest, id);
                    if node.is_empty() {
                        self.children.remove(*segment);
                    }
                }
            }
        }
    }

    fn matches(&self, topic: &[&str], found: &mut Vec<u64>) {
        let [segment, rest @ ..] = topic else {
            found.extend(&self.here);
            return;
        };
        found.extend(&self.rest);
        if let Some(node) = self.children.get(*segment) {
            node.matches(rest, found);
        }
        if let Some(node) = &self.one {
            node.matches(rest, found);
        }
    }
}

/// All topics and bindings of a bus.
#[derive(Debug)]
pub(crate) struct Router {
    topics: RwLock<Topics>,
    topics_max: usize,
    bindings: Mutex<Bindings>,
    /// Raised when a pattern that may concern the topics of a bucket comes or goes.
    patterns: Box<[AtomicU64]>,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Arc<Entry>, RandomState>,
    by_id: Vec<Arc<Entry>>,
    passing: HashMap<u32, Arc<Entry>>,
    next_passing: u32,
    /// Those that are over, oldest first.
    passed: VecDeque<u32>,
}

impl Topics {
    fn add(&mut self, id: u32, name: Arc<str>) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            id,
            bucket: bucket(&name),
            name,
            changed: AtomicU64::new(0),
            route: Mutex::default(),
            counters: Mutex::default(),
        });
        self.by_name.insert(Arc::clone(&entry.name), Arc::clone(&entry));
        entry
    }
}

#[derive(Debug, Default)]
struct Bindings {
    next: u64,
    all: HashMap<u64, (Pattern, Binding)>,
    exact: HashMap<u32, Vec<u64>>,
    patterns: Node,
    /// Whose turn it is in each group that has members, and how many it has.
    turns: HashMap<GroupName, (Arc<AtomicUsize>, usize)>,
}

/// A topic that is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    router: &'a Router,
    id: u32,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let mut topics = self.router.topics.write().unwrap_or_else(PoisonError::into_inner);
        if self.id & PASSING != 0 {
            topics.passed.push_back(self.id);
        }
        while topics.passed.len() > PASSED_MAX.min(self.router.topics_max / 4) {
            let oldest = topics.passed.pop_front().and_then(|id| topics.passing.remove(&id));
            if let Some(entry) = oldest {
                topics.by_name.remove(&entry.name);
            }
        }
    }
}

/// There are as many topics as the bus may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus knows {0} topics already, its bound")]
pub struct TooManyTopics(pub usize);

fn bucket(name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    name.split('.').next().hash(&mut hasher);
    hasher.finish() as usize % BUCKETS
}

impl Router {
    pub(crate) fn new(topics_max: usize) -> Self {
        Self {
            topics: RwLock::default(),
            topics_max: topics_max.min(PASSING as usize),
            bindings: Mutex::default(),
            patterns: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn bindings(&self) -> std::sync::MutexGuard<'_, Bindings> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a topic, which must be a checked one.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Entry>, TooManyTopics> {
        self.topic_named(name, || name.into())
    }

    /// As [`topic`](Self::topic), with the name that a new one is to have.
    fn topic_named(
        &self,
        name: &str,
        shared: impl FnOnce() -> Arc<str>,
    ) -> Result<Arc<Entry>, TooManyTopics> {
        if let Some(entry) = self.known(name) {
            return Ok(entry);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = topics.by_name.get(name) {
            return Ok(Arc::clone(entry));
        }
        if topics.by_name.len() >= self.topics_max {
            return Err(TooManyTopics(self.topics_max));
        }
        let id = topics.by_id.len() as u32;
        let entry = topics.add(id, shared());
        topics.by_id.push(Arc::clone(&entry));
        Ok(entry)
    }

    /// Makes a topic that is forgotten some time after what this answers is dropped. Its number is not used again before 2³¹ others.
    pub(crate) fn passing(&self, name: &str) -> Result<Passing<'_>, TooManyTopics> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.by_name.contains_key(name) {
            // Somebody uses it as a topic like any other; it stays one.
            return Ok(Passing { router: self, id: 0 });
        }
        if topics.by_name.len() >= self.topics_max {
            return Err(TooManyTopics(self.topics_max));
        }
        let mut id = PASSING;
        while id == PASSING || topics.passing.contains_key(&id) {
            topics.next_passing = topics.next_passing.wrapping_add(1);
            id = PASSING | topics.next_passing;
        }
        let entry = topics.add(id, name.into());
        topics.passing.insert(id, entry);
        Ok(Passing { router: self, id })
    }

    /// The entry of a topic that is known.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Entry>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<Arc<Entry>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let entry = if id & PASSING == 0 { topics.by_id.get(id as usize) } else { topics.passing.get(&id) };
        entry.cloned()
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).by_id.clone()
    }

    /// Groups whose turns are known.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> usize {
        self.bindings().turns.len()
    }

    /// What to compare with the version of a route in hand.
    #[inline]
    pub(crate) fn version(&self, entry: &Entry) -> Version {
        Version {
            exact: entry.changed.load(Ordering::Acquire),
            patterns: self.patterns[entry.bucket].load(Ordering::Acquire),
        }
    }

    /// The route of a topic as it is now.
    pub(crate) fn route(&self, entry: &Entry) -> (Version, Arc<Route>) {
        let mut kept = entry.route.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the bindings: a change in between makes the version old, never the route.
        let version = self.version(entry);
        if let Some((known, route)) = &*kept
            && *known == version
        {
            return (version, Arc::clone(route));
        }
        let route = Arc::new(self.bindings().route(entry));
        *kept = Some((version, Arc::clone(&route)));
        (version, route)
    }

    /// Binds a pattern; whoever publishes after this returns knows of it.
    pub(crate) fn bind(&self, pattern: Pattern, binding: Binding) -> Result<u64, TooManyTopics> {
        let entry = if pattern.is_exact() {
            Some(self.topic_named(pattern.as_str(), || Arc::clone(pattern.shared()))?)
        } else {
            None
        };
        let mut bindings = self.bindings();
        let id = bindings.next;
        bindings.next += 1;
        match &entry {
            Some(entry) => bindings.exact.entry(entry.id).or_default().push(id),
            None => bindings.patterns.insert(pattern.as_str(), id),
        }
        self.touch(&pattern, entry.as_deref());
        if let Binding::Inbox { group: Some((name, _)), .. } = &binding {
            bindings.turns.entry(name.clone()).or_default().1 += 1;
        }
        bindings.all.insert(id, (pattern, binding));
        Ok(id)
    }

    pub(crate) fn unbind(&self, id: u64) {
        let mut bindings = self.bindings();
        let Some((pattern, binding)) = bindings.all.remove(&id) else {
            return;
        };
        if let Binding::Inbox { group: Some((name, _)), .. } = &binding
            && let Some((_, members)) = bindings.turns.get_mut(name)
        {
            *members -= 1;
            if *members == 0 {
                bindings.turns.remove(name);
            }
        }
        let entry = if pattern.is_exact() { self.known(pattern.as_str()) } else { None };
        match &entry {
            Some(entry) => {
                if let Some(ids) = bindings.exact.get_mut(&entry.id) {
                    ids.retain(|found| *found != id);
                    if ids.is_empty() {
                        bindings.exact.remove(&entry.id);
                    }
                }
            }
            None => {
                let segments: Vec<_> = pattern.as_str().split('.').collect();
                bindings.patterns.remove(&segments, id);
            }
        }
        self.touch(&pattern, entry.as_deref());
        drop(bindings);
        // Routes that are old hold the inboxes they lead to.
        match entry {
            Some(entry) => entry.forget_route(),
            None => {
                let bucket = match pattern.as_str().split('.').next() {
                    Some("*" | ">") | None => None,
                    Some(_) => Some(bucket(pattern.as_str())),
                };
                let touched: Vec<_> = {
                    let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
                    let all = topics.by_id.iter().chain(topics.passing.values());
                    all.filter(|entry| bucket.is_none_or(|bucket| entry.bucket == bucket)).cloned().collect()
                };
                // Not under the lock of the topics: who works out a route holds that of the route, waits for the bindings, and they for the topics.
                touched.iter().for_each(|entry| entry.forget_route());
            }
        }
    }

    /// Tells those who publish that their routes may be old. Under the lock of the bindings, so that nobody keeps a route that misses a
    /// change under the version that follows it.
    fn touch(&self, pattern: &Pattern, entry: Option<&Entry>) {
        if let Some(entry) = entry {
            entry.changed.fetch_add(1, Ordering::Release);
            return;
        }
        match pattern.as_str().split('.').next() {
            Some("*" | ">") | None => {
                for counter in &self.patterns {
                    counter.fetch_add(1, Ordering::Release);
                }
            }
            Some(_) => {
                self.patterns[bucket(pattern.as_str())].fetch_add(1, Ordering::Release);
            }
        }
    }
}

impl Bindings {
    fn route(&self, entry: &Entry) -> Route {
        let mut found = self.exact.get(&entry.id).cloned().unwrap_or_default();
        let segments: Vec<_> = entry.name.split('.').collect();
        self.patterns.matches(&segments, &mut found);
        found.sort_unstable();
        let mut targets: Vec<Target> = Vec::new();
        let mut seen = HashSet::new();
        let mut groups: Vec<(GroupName, Balance, Vec<Target>)> = Vec::new();
        let mut streams = Vec::new();
        for id in found {
            match self.all.get(&id) {
                // Several patterns of one stream lead to it once.
                Some((_, Binding::Stream(stream)))
                    if streams.iter().any(|known| Arc::ptr_eq(known, stream)) => {}
                Some((_, Binding::Stream(stream))) => streams.push(Arc::clone(stream)),
                // Several patterns of one shard lead to one inbox.
                Some((_, Binding::Inbox { target, group: None }))
                    if !seen.insert(Arc::as_ptr(&target.inbox) as usize) => {}
                Some((_, Binding::Inbox { target, group: None })) => targets.push(target.clone()),
                Some((_, Binding::Inbox { target, group: Some((name, balance)) })) => {
                    match groups.iter_mut().find(|(known, ..)| known == name) {
                        Some((_, _, members)) => members.push(target.clone()),
                        None => groups.push((name.clone(), *balance, vec![target.clone()])),
                    }
                }
                None => {}
            }
        }
        let has_filters = targets
            .iter()
            .chain(groups.iter().flat_map(|(_, _, members)| members))
            .any(|target| target.filter.is_some());
        let groups = groups.into_iter().map(|(name, balance, members)| GroupTargets {
            members: members.into(),
            balance,
            turn: self.turns.get(&name).map(|(turn, _)| Arc::clone(turn)).unwrap_or_default(),
        });
        Route { targets: targets.into(), groups: groups.collect(), streams: streams.into(), has_filters }
    }
}
