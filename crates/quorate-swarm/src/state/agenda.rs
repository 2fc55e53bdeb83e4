//! Which tasks can start, kept up to date record by record, so that planning costs the same for ten tasks as for a hundred thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use quorate_base::{AgentId, TaskId, Timestamp};

use crate::spec::RunSpec;
use crate::spec::task::{Priority, Schedule, When};

/// A task's place among those that can start: smaller is sooner, and no two are equal.
type Rank = (u64, u32);

/// What is known of each task, and of all together. Derived from the records, and never written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Agenda {
    numbers: Arc<HashMap<TaskId, u32>>,
    tasks: Vec<Item>,
    pools: Vec<Pool>,
    /// Tasks that may be tried again from a time on.
    later: BTreeSet<(Timestamp, u32)>,
    /// Waiting tasks whose dependency will never come true, with one such.
    in_vain: BTreeMap<u32, u32>,
    /// Waiting tasks by the time at which they are given up.
    deadlines: BTreeSet<(Timestamp, u32)>,
    /// Tasks with an agent, and those whose worktree has not been read.
    running: BTreeSet<u32>,
    /// Those of them whose agent is being started.
    starting: BTreeSet<u32>,
    harvest: BTreeSet<u32>,
    /// Tasks that have not come to an end, and those of them that wait.
    open: usize,
    waiting: usize,
}

/// What to pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Nothing,
    /// This task.
    Task,
    /// All tasks for the same agent declaration.
    Agent,
    All,
}

#[derive(Debug, Clone, PartialEq)]
struct Item {
    id: TaskId,
    pool: u32,
    rank: Rank,
    /// What the schedule makes of it, where nobody has given it another priority.
    scheduled: u64,
    /// Dependencies that are not fulfilled.
    unmet: u32,
    dependents: Vec<(u32, When)>,
    deadline: Option<Timestamp>,
    at: At,
    begun: bool,
}

/// Where a task stands, as far as starting it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Waiting {
        not_before: Timestamp,
    },
    Busy,
    /// Its change is before the panel.
    Proposed,
    Ended,
}

/// The instances of one agent declaration, and the tasks for it that can start.
#[derive(Debug, Clone, PartialEq)]
struct Pool {
    name: String,
    instances: Vec<AgentId>,
    ready: BTreeSet<Rank>,
}

impl Agenda {
    pub(crate) fn new(spec: &RunSpec, started: Timestamp) -> Self {
        let names: Vec<&String> = spec.agents.keys().collect();
        let pool_of = |name: &String| names.binary_search(&name).map_or(u32::MAX, |at| at as u32);
        let pools = names.iter().map(|name| Pool {
            name: (*name).clone(),
            instances: spec.instances(name),
            ready: BTreeSet::new(),
        });
        let numbers: HashMap<TaskId, u32> =
            spec.tasks.iter().zip(0..).map(|(task, number)| (task.id.clone(), number)).collect();
        let ranks = ranks(spec, &numbers);
        let item = |(number, task): (usize, &crate::spec::TaskSpec)| Item {
            id: task.id.clone(),
            pool: pool_of(&task.agent),
            rank: (ranks[number], number as u32),
            scheduled: ranks[number],
            unmet: task.after.len() as u32,
            dependents: Vec::new(),
            deadline: task.deadline.map(|span| started.plus(span)),
            at: At::Waiting { not_before: Timestamp(0) },
            begun: false,
        };
        let mut agenda = Self {
            tasks: spec.tasks.iter().enumerate().map(item).collect(),
            open: numbers.len(),
            waiting: numbers.len(),
            pools: pools.collect(),
            numbers: Arc::new(numbers),
            later: BTreeSet::new(),
            in_vain: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            running: BTreeSet::new(),
            starting: BTreeSet::new(),
            harvest: BTreeSet::new(),
        };
        for (task, number) in spec.tasks.iter().zip(0_u32..) {
            for dependency in &task.after {
                if let Some(&on) = agenda.numbers.get(&dependency.task) {
                    agenda.tasks[on as usize].dependents.push((number, dependency.when));
                }
            }
        }
        (0..agenda.tasks.len() as u32).for_each(|number| agenda.enter(number));
        agenda
    }

    /// One that knows the tasks by number, and nothing else.
    pub(crate) fn names_only(&self) -> Self {
        Self { numbers: Arc::clone(&self.numbers), ..Self::default() }
    }

    pub(crate) fn number(&self, task: &TaskId) -> Option<usize> {
        self.numbers.get(task).map(|number| *number as usize)
    }

    fn id(&self, number: u32) -> &TaskId {
        &self.tasks[number as usize].id
    }

    /// A waiting task takes its place: among those that can start, those that may later, or those that wait for others.
    fn enter(&mut self, number: u32) {
        let item = &self.tasks[number as usize];
        let At::Waiting { not_before } = item.at else {
            return;
        };
        if let Some(deadline) = item.deadline {
            self.deadlines.insert((deadline, number));
        }
        if item.unmet > 0 {
            return;
        }
        if not_before > Timestamp(0) {
            self.later.insert((not_before, number));
        } else if let Some(pool) = self.pools.get_mut(item.pool as usize) {
            pool.ready.insert(item.rank);
        }
    }

    /// And leaves it.
    fn leave(&mut self, number: u32) {
        let item = &self.tasks[number as usize];
        if let Some(deadline) = item.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        if let At::Waiting { not_before } = item.at {
            self.later.remove(&(not_before, number));
        }
        if let Some(pool) = self.pools.get_mut(item.pool as usize) {
            pool.ready.remove(&item.rank);
        }
        self.in_vain.remove(&number);
        self.running.remove(&number);
        self.starting.remove(&number);
        self.harvest.remove(&number);
    }

    fn set(&mut self, task: &TaskId, at: At) -> Option<u32> {
        let number = *self.numbers.get(task)?;
        self.leave(number);
        let over = |at| matches!(at, At::Proposed | At::Ended);
        let item = &mut self.tasks[number as usize];
        let waits = |at| usize::from(matches!(at, At::Waiting { .. }));
        self.waiting = self.waiting + waits(at) - waits(item.at);
        match (over(item.at), over(at)) {
            (false, true) => self.open -= 1,
            (true, false) => self.open += 1,
            _ => {}
        }
        item.at = at;
        self.enter(number);
        Some(number)
    }

    /// Somebody wants a task sooner or later. Where tasks are scheduled by priority it has this one; elsewhere it comes before all others or
    /// after them, or, with the normal one, where the schedule puts it.
    pub(crate) fn reprioritise(&mut self, task: &TaskId, priority: Priority, schedule: Schedule) {
        let Some(&number) = self.numbers.get(task) else { return };
        let item = &mut self.tasks[number as usize];
        let by = match priority {
            _ if schedule == Schedule::Priority => scheduled(priority as u64),
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Normal => item.scheduled,
            Priority::Low => u64::MAX - 1,
            Priority::Background => u64::MAX,
        };
        let rank = (by, number);
        let before = std::mem::replace(&mut item.rank, rank);
        if let Some(pool) = self.pools.get_mut(item.pool as usize)
            && pool.ready.remove(&before)
        {
            pool.ready.insert(rank);
        }
    }

    /// The task waits again.
    pub(crate) fn waits(&mut self, task: &TaskId, not_before: Timestamp) {
        self.set(task, At::Waiting { not_before });
    }

    /// An agent has been given it.
    pub(crate) fn taken(&mut self, task: &TaskId) {
        if let Some(number) = self.set(task, At::Busy) {
            self.running.insert(number);
            self.starting.insert(number);
        }
    }

    /// An agent has begun with it.
    pub(crate) fn begun(&mut self, task: &TaskId) {
        if let Some(number) = self.number(task).map(|number| number as u32) {
            self.starting.remove(&number);
            if !std::mem::replace(&mut self.tasks[number as usize].begun, true) {
                self.fulfil(number, |when| when == When::Started);
            }
        }
    }

    /// Its agent has ended well.
    pub(crate) fn ended_well(&mut self, task: &TaskId) {
        if let Some(number) = self.set(task, At::Busy) {
            self.harvest.insert(number);
        }
    }

    pub(crate) fn proposed(&mut self, task: &TaskId) {
        self.set(task, At::Proposed);
    }

    /// It came to its end, and what it was for is there or not.
    pub(crate) fn ended(&mut self, task: &TaskId, landed: bool) {
        if self.number(task).is_some_and(|number| self.tasks[number].at == At::Ended) {
            return;
        }
        let Some(number) = self.set(task, At::Ended) else {
            return;
        };
        self.fulfil(number, |when| when == When::Ended || (landed && when == When::Landed));
        let begun = self.tasks[number as usize].begun;
        for (dependent, when) in self.tasks[number as usize].dependents.clone() {
            let in_vain = match when {
                When::Landed => !landed,
                When::Started => !begun,
                When::Ended => false,
            };
            if in_vain && matches!(self.tasks[dependent as usize].at, At::Waiting { .. }) {
                self.in_vain.insert(dependent, number);
            }
        }
    }

    fn fulfil(&mut self, number: u32, which: impl Fn(When) -> bool) {
        for (dependent, when) in self.tasks[number as usize].dependents.clone() {
            if which(when) {
                let item = &mut self.tasks[dependent as usize];
                item.unmet = item.unmet.saturating_sub(1);
                self.enter(dependent);
            }
        }
    }

    /// Time has come this far: what may be tried again by now can start.
    pub(crate) fn pass(&mut self, now: Timestamp) {
        while let Some(&(at, number)) = self.later.first() {
            if at > now {
                return;
            }
            self.later.pop_first();
            let item = &mut self.tasks[number as usize];
            item.at = At::Waiting { not_before: Timestamp(0) };
            if let Some(pool) = self.pools.get_mut(item.pool as usize) {
                pool.ready.insert(item.rank);
            }
        }
    }

    /// Tasks that can start now with the instance that would do each, best first; at most `room`, by those that are `free`, and as `leave` says of
    /// each in turn.
    pub(crate) fn startable(
        &self,
        now: Timestamp,
        room: usize,
        free: impl Fn(&AgentId) -> bool,
        mut leave: impl FnMut(&TaskId) -> Leave,
    ) -> Vec<(TaskId, AgentId)> {
        let due: BTreeSet<(u32, Rank)> = self
            .later
            .range(..=(now, u32::MAX))
            .map(|(_, number)| &self.tasks[*number as usize])
            .map(|item| (item.pool, item.rank))
            .collect();
        let mut queues: Vec<_> = self
            .pools
            .iter()
            .zip(0_u32..)
            .filter_map(|(pool, at)| {
                let due = due.range((at, (0, 0))..=(at, (u64::MAX, u32::MAX))).map(|(_, rank)| rank);
                let mut ranks = merged(pool.ready.iter(), due).peekable();
                ranks.peek()?;
                // The first is the last, to be taken first.
                let idle = pool.instances.iter().filter(|agent| free(agent)).rev();
                Some((ranks, idle.cloned().collect::<Vec<_>>()))
            })
            .collect();
        let mut found = Vec::new();
        while found.len() < room {
            let best = queues.iter_mut().filter(|(_, idle)| !idle.is_empty());
            let best = best.filter_map(|(ranks, idle)| Some((*ranks.peek()?, ranks, idle)));
            let Some((rank, ranks, idle)) = best.min_by_key(|(rank, ..)| **rank) else {
                break;
            };
            let task = self.id(rank.1);
            ranks.next();
            match leave(task) {
                Leave::Nothing => {
                    if let Some(agent) = idle.pop() {
                        found.push((task.clone(), agent));
                    }
                }
                Leave::Task => {}
                Leave::Agent => idle.clear(),
                Leave::All => break,
            }
        }
        found
    }

    /// When it is time to look again though nothing has happened.
    pub(crate) fn next_time(&self, now: Timestamp) -> Option<Timestamp> {
        // What is due by now waits for something else than time.
        let later = (Bound::Excluded((now, u32::MAX)), Bound::Unbounded);
        let first = |set: &BTreeSet<(Timestamp, u32)>| set.range(later).next().map(|(at, _)| *at);
        [first(&self.later), first(&self.deadlines)].into_iter().flatten().min()
    }

    /// Waiting tasks that wait for what will not come, with what that is.
    pub(crate) fn in_vain(&self) -> impl Iterator<Item = (&TaskId, &TaskId)> {
        self.in_vain.iter().map(|(number, by)| (self.id(*number), self.id(*by)))
    }

    /// Waiting tasks whose deadline has passed.
    pub(crate) fn overdue(&self, now: Timestamp) -> impl Iterator<Item = &TaskId> {
        self.deadlines.range(..=(now, u32::MAX)).map(|(_, number)| self.id(*number))
    }

    /// Whether a task has come to its end.
    pub(crate) fn is_over(&self, task: &TaskId) -> bool {
        self.number(task).is_some_and(|number| self.tasks[number].at == At::Ended)
    }

    /// Whether an agent has ever begun with a task.
    pub(crate) fn has_begun(&self, task: &TaskId) -> bool {
        self.number(task).is_some_and(|number| self.tasks[number].begun)
    }

    /// All waiting tasks.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &TaskId> {
        // Where none waits, nobody looks for one.
        let some = if self.waiting == 0 { &[][..] } else { &self.tasks[..] };
        some.iter().filter(|item| matches!(item.at, At::Waiting { .. })).map(|item| &item.id)
    }

    /// Waiting tasks for an agent declaration that wait for nothing but their time.
    pub(crate) fn startable_by(&self, agent: &str) -> impl Iterator<Item = &TaskId> {
        let at = self.pools.iter().position(|pool| pool.name == agent);
        let ready = at.map(|at| &self.pools[at].ready).into_iter().flatten();
        let later = self.later.iter().map(|(_, number)| &self.tasks[*number as usize]);
        let later = later.filter(move |item| at == Some(item.pool as usize)).map(|item| &item.id);
        ready.map(|rank| self.id(rank.1)).chain(later)
    }

    /// The task of that name.
    pub(crate) fn known(&self, task: &TaskId) -> Option<&TaskId> {
        self.number(task).map(|number| &self.tasks[number].id)
    }

    /// The time at which a task is given up.
    pub(crate) fn deadline(&self, task: &TaskId) -> Option<Timestamp> {
        self.tasks[self.number(task)?].deadline
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &TaskId> {
        self.running.iter().map(|number| self.id(*number))
    }

    /// Tasks that have an agent and have not begun.
    pub(crate) fn starting(&self) -> impl Iterator<Item = &TaskId> {
        self.starting.iter().map(|number| self.id(*number))
    }

    /// Agents that have a task, or whose worktree is being read.
    pub(crate) fn busy(&self) -> usize {
        self.running.len() + self.harvest.len()
    }

    pub(crate) fn harvests(&self) -> impl Iterator<Item = &TaskId> {
        self.harvest.iter().map(|number| self.id(*number))
    }

    /// Tasks that have neither proposed a change nor come to an end.
    pub(crate) const fn open(&self) -> usize {
        self.open
    }
}

/// Two ordered sequences as one.
fn merged<'a>(
    one: impl Iterator<Item = &'a Rank>,
    other: impl Iterator<Item = &'a Rank>,
) -> impl Iterator<Item = &'a Rank> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if b < a => other.next(),
        (None, _) => other.next(),
        _ => one.next(),
    })
}

/// What each task is ordered by; its place in the file decides between equals.
fn ranks(spec: &RunSpec, numbers: &HashMap<TaskId, u32>) -> Vec<u64> {
    // Without an estimate a task is taken to need what its agent may.
    let estimate = |task: &crate::spec::TaskSpec| {
        let wall = || spec.agents.get(&task.agent).map_or(0, |agent| agent.limits.wall.0);
        task.estimate.map_or_else(wall, |estimate| estimate.0)
    };
    let each =
        |of: &dyn Fn(&crate::spec::TaskSpec) -> u64| -> Vec<u64> { spec.tasks.iter().map(of).collect() };
    let ranks: Vec<u64> = match spec.schedule {
        Schedule::Fifo => each(&|_| 0),
        Schedule::Priority => each(&|task| task.priority as u64),
        Schedule::Deadline => each(&|task| task.deadline.map_or(u64::MAX, |deadline| deadline.0)),
        Schedule::Shortest => each(&estimate),
        Schedule::CriticalPath => {
            let own = each(&estimate);
            longest_ways(spec, numbers, &own).into_iter().map(|way| u64::MAX - way).collect()
        }
    };
    ranks.into_iter().map(scheduled).collect()
}

/// A rank by the schedule: there is room for two before all of these, and for two after them.
fn scheduled(rank: u64) -> u64 {
    rank.saturating_add(2).min(u64::MAX - 2)
}

/// From the start of each task to the end of the last that depends on it.
fn longest_ways(spec: &RunSpec, numbers: &HashMap<TaskId, u32>, own: &[u64]) -> Vec<u64> {
    let on = |task: &crate::spec::TaskSpec| -> Vec<usize> {
        task.after.iter().filter_map(|on| numbers.get(&on.task).map(|number| *number as usize)).collect()
    };
    let mut dependents = vec![0_u32; own.len()];
    spec.tasks.iter().flat_map(on).for_each(|number| dependents[number] += 1);
    let mut behind = vec![0_u64; own.len()];
    // From the last to the first (Kahn); there is no cycle.
    let mut free: Vec<usize> = (0..own.len()).filter(|number| dependents[*number] == 0).collect();
    while let Some(number) = free.pop() {
        let way = behind[number].saturating_add(own[number]);
        for before in on(&spec.tasks[number]) {
            behind[before] = behind[before].max(way);
            dependents[before] -= 1;
            if dependents[before] == 0 {
                free.push(before);
            }
        }
    }
    behind.iter().zip(own).map(|(behind, own)| behind.saturating_add(*own)).collect()
}
