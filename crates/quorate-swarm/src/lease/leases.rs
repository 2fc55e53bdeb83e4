//! The state machine: who holds what, who waits, and which token comes next.

use std::collections::BTreeMap;
use std::fmt;

use quorate_base::{Millis, TaskId, Timestamp};
use serde::{Serialize, Serializer};

use super::resource::{Mode, Resource, Wanted};
use super::waits;

/// All leases of a run, and everybody who waits for one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leases {
    /// The greatest token there has been.
    newest: u64,
    pub(super) held: BTreeMap<TaskId, Vec<Held>>,
    /// First come, first.
    pub(super) line: Vec<Request>,
    events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub(super) grant: Grant,
    /// From then on it is nobody's.
    until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) holder: TaskId,
    pub(super) wanted: Vec<Wanted>,
    ttl: Option<Millis>,
}

/// A lease somebody has, as its holder is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    #[serde(serialize_with = "as_text")]
    pub resource: Resource,
    pub mode: Mode,
    pub token: u64,
}

impl Grant {
    fn wanted(&self) -> Wanted {
        Wanted { resource: self.resource.clone(), mode: self.mode }
    }
}

/// Something that happened to a holder while somebody else was being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its request came to the front.
    Granted { holder: TaskId, grants: Vec<Grant> },
    /// Its request was taken out of a circle of holders that waited for each other, which is given.
    Refused { holder: TaskId, circle: Vec<TaskId> },
    /// Leases of its were not renewed in time.
    Expired { holder: TaskId, grants: Vec<Grant> },
}

/// What a request waits for: one lease of many it may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub on: Wanted,
    /// Who holds it, or is before it in line.
    pub behind: TaskId,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it waits for {} behind task {}", self.on, self.behind)
    }
}

/// A request was not granted at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It stands in line.
    #[error("{0}")]
    Waits(Waiting),
    /// It stands in line with an earlier request, and can stand there once.
    #[error("task {0} waits for a lease already; take that request back first")]
    WaitsAlready(TaskId),
    /// It holds something, so that asking for all at once is over.
    #[error("task {0} holds leases; what it needs besides it asks for with `acquire_more`")]
    HoldsAlready(TaskId),
    /// It would have waited for itself through the others, and of all of them it has held its leases for the shortest time.
    #[error("a circle of tasks that wait for each other: {}; give back what you hold, then ask for all of it at once", circle.iter().map(TaskId::as_str).collect::<Vec<_>>().join(" → "))]
    Deadlock { circle: Vec<TaskId> },
}

/// A token is no longer, or never was, that of a lease on this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token {token} holds no lease on {resource}{}", newer.map(|newer| format!("; one with token {newer} does")).unwrap_or_default())]
pub struct Stale {
    pub resource: Resource,
    pub token: u64,
    /// The token of who holds it now.
    pub newer: Option<u64>,
}

impl Leases {
    /// Whether a task may start: it needs no lease, has its leases, or could be granted all of them now. Where it may not,
    /// it stands in line, so that nobody who asks later gets before it. Planning asks a copy.
    pub fn may_start(&mut self, task: &TaskId, wanted: &[Wanted]) -> Result<(), Waiting> {
        if wanted.is_empty() || self.held.contains_key(task) {
            return Ok(());
        }
        match self.line.iter().position(|request| request.holder == *task) {
            Some(at) => self.blocker(at).map_or(Ok(()), Err),
            None => self.enter(task, wanted.to_vec(), None, Timestamp(0)).map(drop),
        }
    }

    /// Asks for leases, all at once; for a holder that has none yet. Without a time to live they last until they are
    /// released.
    pub fn acquire(
        &mut self,
        holder: &TaskId,
        wanted: &[Wanted],
        ttl: Option<Millis>,
        now: Timestamp,
    ) -> Result<Vec<Grant>, Denied> {
        self.tick(now);
        self.refuse_twice(holder)?;
        if self.held.contains_key(holder) {
            return Err(Denied::HoldsAlready(holder.clone()));
        }
        self.enter(holder, wanted.to_vec(), ttl, now).map_err(Denied::Waits)
    }

    /// Asks for leases beside those the holder has. Answers what was granted for it, which is nothing where it has all of
    /// it already. May end in a [deadlock](Denied::Deadlock), for the asker or, as an [event](Event::Refused), for another.
    pub fn acquire_more(
        &mut self,
        holder: &TaskId,
        wanted: &[Wanted],
        ttl: Option<Millis>,
        now: Timestamp,
    ) -> Result<Vec<Grant>, Denied> {
        self.tick(now);
        self.refuse_twice(holder)?;
        let own = self.held.get(holder).map(Vec::as_slice).unwrap_or_default();
        let has = |wanted: &Wanted| {
            own.iter().any(|held| {
                held.grant.resource.covers(&wanted.resource)
                    && (held.grant.mode == Mode::Exclusive || wanted.mode == Mode::Shared)
            })
        };
        let missing: Vec<Wanted> = wanted.iter().filter(|wanted| !has(wanted)).cloned().collect();
        let waiting = match self.enter(holder, missing, ttl, now) {
            Ok(grants) => return Ok(grants),
            Err(waiting) => waiting,
        };
        while let Some(circle) = waits::circle(self) {
            let Some(victim) = self.victim(&circle) else { break };
            self.line.retain(|request| request.holder != victim);
            self.settle(now);
            if victim == *holder {
                return Err(Denied::Deadlock { circle });
            }
            self.events.push(Event::Refused { holder: victim, circle });
        }
        // A request that was refused may have stood before this one.
        let granted = self
            .events
            .iter()
            .position(|event| matches!(event, Event::Granted { holder: to, .. } if to == holder));
        match granted.map(|at| self.events.remove(at)) {
            Some(Event::Granted { grants, .. }) => Ok(grants),
            _ => Err(Denied::Waits(waiting)),
        }
    }

    /// Gives back everything a holder has and asks for.
    pub fn release(&mut self, holder: &TaskId, now: Timestamp) {
        self.tick(now);
        self.held.remove(holder);
        self.withdraw(holder, now);
    }

    /// Takes back what a holder asks for; what it has it keeps.
    pub fn withdraw(&mut self, holder: &TaskId, now: Timestamp) {
        self.line.retain(|request| request.holder != *holder);
        self.settle(now);
    }

    /// Lets the leases of a holder that would end live so much longer from now on. False where it has none any more.
    pub fn renew(&mut self, holder: &TaskId, ttl: Millis, now: Timestamp) -> bool {
        self.tick(now);
        let Some(held) = self.held.get_mut(holder) else { return false };
        for held in held.iter_mut().filter(|held| held.until.is_some()) {
            held.until = Some(now.plus(ttl));
        }
        true
    }

    /// Takes away the leases whose time is over, and serves those who waited for them.
    pub fn tick(&mut self, now: Timestamp) {
        let over = |held: &Held| held.until.is_some_and(|until| until <= now);
        let mut expired = Vec::new();
        for (holder, held) in &mut self.held {
            let grants: Vec<Grant> =
                held.iter().filter(|held| over(held)).map(|held| held.grant.clone()).collect();
            if !grants.is_empty() {
                held.retain(|held| !over(held));
                expired.push(Event::Expired { holder: holder.clone(), grants });
            }
        }
        if !expired.is_empty() {
            self.held.retain(|_, held| !held.is_empty());
            self.events.append(&mut expired);
            self.settle(now);
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.held.values().flatten().filter_map(|held| held.until).min()
    }

    /// Refuses a token that is not that of a lease which covers this now.
    pub fn check(&self, resource: &Resource, token: u64, now: Timestamp) -> Result<(), Stale> {
        let live = || {
            let held = self.held.values().flatten();
            held.filter(|held| held.until.is_none_or(|until| until > now)).map(|held| &held.grant)
        };
        if live().any(|grant| grant.token == token && grant.resource.covers(resource)) {
            return Ok(());
        }
        let newer = live().filter(|grant| grant.resource.overlaps(resource)).map(|grant| grant.token).max();
        Err(Stale { resource: resource.clone(), token, newer })
    }

    /// What a holder has.
    pub fn held_by(&self, holder: &TaskId) -> impl Iterator<Item = &Grant> {
        self.held.get(holder).into_iter().flatten().map(|held| &held.grant)
    }

    /// Everybody who has a lease.
    pub fn holders(&self) -> impl Iterator<Item = &TaskId> {
        self.held.keys()
    }

    /// Everybody who waits, and for what, in the order in which they asked.
    pub fn waiting(&self) -> impl Iterator<Item = (&TaskId, Waiting)> {
        self.line.iter().enumerate().filter_map(|(at, request)| Some((&request.holder, self.blocker(at)?)))
    }

    /// The greatest token there has been; 0 before the first.
    pub fn greatest_token(&self) -> u64 {
        self.newest
    }

    /// What happened to others since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes up leases that a journal says were granted; false where they cannot have been.
    pub fn restore(&mut self, holder: &TaskId, resources: &[Wanted], tokens: &[u64]) -> bool {
        let taken = |wanted: &Wanted| {
            let others = self.held.iter().filter(|(other, _)| *other != holder).flat_map(|(_, held)| held);
            others.into_iter().any(|held| held.grant.wanted().conflicts(wanted))
        };
        let increasing = tokens.iter().try_fold(self.newest, |last, token| (*token > last).then_some(*token));
        let Some(newest) = increasing else { return false };
        if resources.len() != tokens.len() || resources.iter().any(taken) {
            return false;
        }
        let grants = resources.iter().zip(tokens).map(|(wanted, token)| Held {
            grant: Grant { resource: wanted.resource.clone(), mode: wanted.mode, token: *token },
            until: None,
        });
        self.held.entry(holder.clone()).or_default().extend(grants);
        self.newest = newest;
        true
    }

    fn refuse_twice(&self, holder: &TaskId) -> Result<(), Denied> {
        match self.line.iter().any(|request| request.holder == *holder) {
            true => Err(Denied::WaitsAlready(holder.clone())),
            false => Ok(()),
        }
    }

    /// Grants a request, or lets it stand in line.
    fn enter(
        &mut self,
        holder: &TaskId,
        wanted: Vec<Wanted>,
        ttl: Option<Millis>,
        now: Timestamp,
    ) -> Result<Vec<Grant>, Waiting> {
        self.line.push(Request { holder: holder.clone(), wanted: Wanted::in_order(wanted), ttl });
        let at = self.line.len() - 1;
        match self.blocker(at) {
            Some(waiting) => Err(waiting),
            None => Ok(self.grant(at, now)),
        }
    }

    /// Grants the request that stands there.
    fn grant(&mut self, at: usize, now: Timestamp) -> Vec<Grant> {
        let Request { holder, wanted, ttl } = self.line.remove(at);
        let until = ttl.map(|ttl| now.plus(ttl));
        let mut grants = Vec::with_capacity(wanted.len());
        for Wanted { resource, mode } in wanted {
            self.newest += 1;
            grants.push(Grant { resource, mode, token: self.newest });
        }
        if grants.is_empty() {
            return grants;
        }
        let held = self.held.entry(holder).or_default();
        // A stronger lease takes the place of the weaker.
        held.retain(|old| grants.iter().all(|new| new.resource != old.grant.resource));
        held.extend(grants.iter().map(|grant| Held { grant: grant.clone(), until }));
        grants
    }

    /// Grants what can be granted, those who came first before others.
    fn settle(&mut self, now: Timestamp) {
        while let Some(at) = (0..self.line.len()).find(|at| self.blocker(*at).is_none()) {
            let holder = self.line[at].holder.clone();
            let grants = self.grant(at, now);
            self.events.push(Event::Granted { holder, grants });
        }
    }

    /// The first thing in the way of the request that stands there.
    fn blocker(&self, at: usize) -> Option<Waiting> {
        let request = &self.line[at];
        if let Some((behind, on)) = self.held_by_others(request).next() {
            return Some(Waiting { on: on.clone(), behind: behind.clone() });
        }
        // Nobody waits for one that holds nothing, so it passes nobody.
        let holds = self.held.contains_key(&request.holder);
        self.before(at)
            .find(|(earlier, _)| !(holds && waits::leads(self, earlier, &request.holder)))
            .map(|(behind, on)| Waiting { on: on.clone(), behind: behind.clone() })
    }

    /// Who else holds what a request wants.
    pub(super) fn held_by_others<'a>(
        &'a self,
        request: &'a Request,
    ) -> impl Iterator<Item = (&'a TaskId, &'a Wanted)> {
        let others = self.held.iter().filter(|(holder, _)| **holder != request.holder);
        others.flat_map(move |(holder, held)| {
            request
                .wanted
                .iter()
                .filter(move |wanted| held.iter().any(|held| held.grant.wanted().conflicts(wanted)))
                .map(move |wanted| (holder, wanted))
        })
    }

    /// Who asked earlier for what conflicts with the request that stands there.
    pub(super) fn before(&self, at: usize) -> impl Iterator<Item = (&TaskId, &Wanted)> {
        let request = &self.line[at];
        self.line[..at].iter().filter_map(move |earlier| {
            let on = request
                .wanted
                .iter()
                .find(|wanted| earlier.wanted.iter().any(|other| other.conflicts(wanted)))?;
            Some((&earlier.holder, on))
        })
    }

    /// Who in a circle gives up its request: the one whose oldest lease is the youngest.
    fn victim(&self, circle: &[TaskId]) -> Option<TaskId> {
        let oldest = |holder: &TaskId| self.held_by(holder).map(|grant| grant.token).min();
        circle.iter().max_by_key(|holder| oldest(holder)).cloned()
    }
}

fn as_text<S: Serializer>(resource: &Resource, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(resource)
}
