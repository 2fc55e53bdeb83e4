//! Many small subscribers on one thread.
//!
//! A shard has one inbox for all its subscribers: a message crosses to its thread once, however many of them want it, and is handed to each there.
//! A handler must be short, because those behind it wait; slow work takes a [`crate::Subscription`] of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bus::{Bus, Core, Error, Registered};
use crate::filter::{Filter, View};
use crate::inbox::{Ages, Closed, Inbox, Limits};
use crate::message::Message;
use crate::router::{Binding, PASSING, Target};
use crate::topic::Pattern;
use crate::wait::{self, Bell, Wait};

/// Names a subscriber of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerId(u32);

type Handler = Box<dyn FnMut(&Message) + Send>;

struct Slot {
    handler: Handler,
    filter: Option<Arc<Filter>>,
    pattern: u32,
}

/// Subscribers that share a thread.
pub struct Shard {
    core: Arc<Core>,
    inbox: Arc<Inbox>,
    _registered: Arc<Registered>,
    wait: Wait,
    ages: Ages,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    patterns: Vec<Option<Bound>>,
    free_patterns: Vec<u32>,
    by_pattern: HashMap<Pattern, u32>,
    /// Patterns with wildcards, which a topic is held against when it is first seen.
    wild: Vec<u32>,
    /// For each topic's number, who wants it. `None` for a topic that is not worked out yet.
    routes: Vec<Option<Box<[u32]>>>,
}

struct Bound {
    pattern: Pattern,
    binding: u64,
    handlers: Vec<u32>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("subscribers", &self.len()).finish_non_exhaustive()
    }
}

impl Bus {
    /// A shard without subscribers.
    pub fn shard(&self, name: &str, limits: Limits, wait: Wait) -> Result<Shard, Error> {
        self.core.up()?;
        let inbox = Arc::new(Inbox::new(limits, Arc::clone(&self.core.budget), Arc::new(Bell::new())));
        let registered = Arc::new(Registered {
            name: name.into(),
            pattern: Pattern::new(">")?,
            group: None,
            inbox: Arc::clone(&inbox),
        });
        self.core.register(&registered);
        Ok(Shard {
            core: Arc::clone(&self.core),
            inbox,
            _registered: registered,
            wait,
            ages: Ages::default(),
            slots: Vec::new(),
            free: Vec::new(),
            patterns: Vec::new(),
            free_patterns: Vec::new(),
            by_pattern: HashMap::new(),
            wild: Vec::new(),
            routes: Vec::new(),
        })
    }
}

impl Shard {
    /// Hands every message whose topic matches, and that the filter accepts, to `handler`, on the thread that runs the shard.
    pub fn subscribe(
        &mut self,
        pattern: &str,
        filter: Option<Filter>,
        handler: impl FnMut(&Message) + Send + 'static,
    ) -> Result<HandlerId, Error> {
        let pattern = Pattern::new(pattern)?;
        let bound = match self.by_pattern.get(&pattern) {
            Some(known) => *known,
            None => self.bind(pattern)?,
        };
        let slot = Slot { handler: Box::new(handler), filter: filter.map(Arc::new), pattern: bound };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(slot);
                id
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() as u32 - 1
            }
        };
        if let Some(bound) = &mut self.patterns[bound as usize] {
            bound.handlers.push(id);
        }
        self.forget_routes(bound);
        Ok(HandlerId(id))
    }

    fn bind(&mut self, pattern: Pattern) -> Result<u32, Error> {
        let target = Target { inbox: Arc::clone(&self.inbox), filter: None };
        let binding = self.core.router.bind(pattern.clone(), Binding::Inbox { target, group: None })?;
        let number = self.free_patterns.pop().unwrap_or_else(|| {
            self.patterns.push(None);
            self.patterns.len() as u32 - 1
        });
        if !pattern.is_exact() {
            self.wild.push(number);
        }
        self.by_pattern.insert(pattern.clone(), number);
        self.patterns[number as usize] = Some(Bound { pattern, binding, handlers: Vec::new() });
        Ok(number)
    }

    /// Ends a subscription. One that has ended already is left alone.
    pub fn unsubscribe(&mut self, id: HandlerId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(id.0);
        self.forget_routes(slot.pattern);
        let place = &mut self.patterns[slot.pattern as usize];
        if let Some(bound) = place {
            bound.handlers.retain(|handler| *handler != id.0);
            if bound.handlers.is_empty() {
                self.core.router.unbind(bound.binding);
                self.by_pattern.remove(&bound.pattern);
                self.wild.retain(|number| *number != slot.pattern);
                *place = None;
                self.free_patterns.push(slot.pattern);
            }
        }
    }

    /// Forgets for whom a pattern's topics are.
    fn forget_routes(&mut self, pattern: u32) {
        let Some(bound) = &self.patterns[pattern as usize] else {
            return;
        };
        if bound.pattern.is_exact() {
            let entry = self.core.router.known(bound.pattern.as_str());
            if let Some(route) = entry.and_then(|entry| self.routes.get_mut(entry.id as usize)) {
                *route = None;
            }
        } else {
            self.routes.iter_mut().for_each(|route| *route = None);
        }
    }

    /// Subscribers.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles up to `most` waiting messages; answers how many.
    pub fn poll(&mut self, most: usize) -> usize {
        let Self { core, inbox, ages, slots, patterns, by_pattern, wild, routes, .. } = self;
        inbox.take(ages, most, |message| {
            if message.deadline().is_some_and(|deadline| (core.options.clock)() > deadline) {
                inbox.counts.expired.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let topic = message.topic() as usize;
            let passing;
            let route = if message.topic() & PASSING != 0 {
                passing = Some(work_out(core, patterns, by_pattern, wild, message.topic()));
                &passing
            } else {
                if routes.get(topic).is_none_or(Option::is_none) {
                    if routes.len() <= topic {
                        routes.resize_with(topic + 1, || None);
                    }
                    routes[topic] = Some(work_out(core, patterns, by_pattern, wild, message.topic()));
                }
                &routes[topic]
            };
            for id in route.iter().flat_map(|route| route.iter()) {
                let Some(slot) = &mut slots[*id as usize] else {
                    continue;
                };
                if let Some(filter) = &slot.filter {
                    let entry = core.router.by_id(message.topic());
                    let name = entry.as_ref().map_or("", |entry| &entry.name);
                    if !filter.accepts(&View::new(name, &message)) {
                        continue;
                    }
                }
                (slot.handler)(&message);
            }
        })
    }

    /// Handles messages until the bus is shut down or a [`Stop`] of this shard is used; what waits then is still handled.
    pub fn run(&mut self) {
        const BATCH: usize = 256;
        let inbox = Arc::clone(&self.inbox);
        loop {
            let ended = wait::until(self.wait, &inbox.bell, None, || match self.poll(BATCH) {
                0 => inbox.closed().is_some().then_some(true),
                _ => Some(false),
            });
            if ended != Some(false) {
                return;
            }
        }
    }

    /// Ends [`run`](Self::run) from elsewhere.
    pub fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.inbox))
    }

    /// Messages that wait.
    pub fn depth(&self) -> usize {
        self.inbox.depth()
    }
}

/// Ends a shard that runs on another thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Inbox>);

impl Stop {
    /// The shard takes nothing more and ends when it has handled what waits.
    pub fn stop(&self) {
        self.0.close(Closed::Dropped);
    }
}

fn work_out(
    core: &Core,
    patterns: &[Option<Bound>],
    by_pattern: &HashMap<Pattern, u32>,
    wild: &[u32],
    topic: u32,
) -> Box<[u32]> {
    let Some(entry) = core.router.by_id(topic) else {
        return Box::default();
    };
    let exact = Pattern::new(&entry.name).ok().and_then(|pattern| by_pattern.get(&pattern).copied());
    let wild = wild.iter().copied().filter(|number| {
        patterns[*number as usize].as_ref().is_some_and(|bound| bound.pattern.matches(&entry.name))
    });
    let numbers = exact.into_iter().chain(wild);
    let bound = numbers.filter_map(|number| patterns[number as usize].as_ref());
    bound.flat_map(|bound| bound.handlers.iter().copied()).collect()
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.inbox.close(Closed::Dropped);
        for bound in self.patterns.iter().flatten() {
            self.core.router.unbind(bound.binding);
        }
        self.inbox.clear();
    }
}
