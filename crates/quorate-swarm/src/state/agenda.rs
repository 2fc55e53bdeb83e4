//! Which tasks can start, kept up to date record by record, so that planning costs the same for ten tasks as for a hundred thousand.
//!
//! A task that can start stands in the queue of one agent, by the run's placement. Which of the queues agents take from beside their own is
//! asked when work is given out ([`Agenda::startable`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use quorate_base::{AgentId, TaskId, Timestamp};

use crate::spec::task::{Placement, Priority, Schedule, When};
use crate::spec::{RunSpec, TaskSpec};

/// A task's place among those that can start: smaller is sooner, and no two are equal.
type Rank = (u64, u32);

/// What is known of each task, and of all together. Derived from the records, and never written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Agenda {
    numbers: Arc<HashMap<TaskId, u32>>,
    tasks: Vec<Item>,
    /// Tasks that came up on the way, by name; their numbers follow those of the file.
    added: BTreeMap<TaskId, u32>,
    seats: Vec<Seat>,
    by_agent: Arc<HashMap<AgentId, u32>>,
    declarations: Vec<Declaration>,
    classes: Vec<Able>,
    placement: Placement,
    /// Tasks that could start if an agent were left that can do them.
    homeless: BTreeSet<u32>,
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
    /// Who can do it.
    class: u32,
    /// The agent in whose queue it stands, or who has it.
    seat: Option<u32>,
    /// Who had it last.
    done_by: Option<u32>,
    /// Who did the last task that this one waited for.
    affinity: Option<u32>,
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

/// One agent, and the tasks that wait for it.
#[derive(Debug, Clone, PartialEq)]
struct Seat {
    agent: AgentId,
    declaration: u32,
    /// By the class of those that can do them.
    queues: BTreeMap<u32, BTreeSet<Rank>>,
    /// Tasks that wait for it, and the one it has.
    load: usize,
    /// It takes no more.
    out: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Declaration {
    name: String,
    cost: u64,
    /// Its budget is used up.
    spent: bool,
    /// Its agents that take tasks, by what they have before them.
    by_load: BTreeSet<(usize, u32)>,
}

/// Who can do a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Able {
    Declarations(Vec<u32>),
    Seat(u32),
}

/// A task that can start, and the agent that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) task: TaskId,
    pub(crate) agent: AgentId,
    /// In whose queue it stood, where that was another's.
    pub(crate) from: Option<AgentId>,
}

impl Agenda {
    pub(crate) fn new(spec: &RunSpec, started: Timestamp) -> Self {
        let mut seats = Vec::new();
        let declarations: Vec<Declaration> = spec
            .agents
            .iter()
            .zip(0_u32..)
            .map(|((name, agent), declaration)| {
                let first = seats.len() as u32;
                let queues = BTreeMap::new;
                let seat = |agent| Seat { agent, declaration, queues: queues(), load: 0, out: false };
                seats.extend(spec.instances(name).into_iter().map(seat));
                let by_load = (first..seats.len() as u32).map(|seat| (0, seat)).collect();
                Declaration { name: name.clone(), cost: agent.cost, spent: false, by_load }
            })
            .collect();
        let numbers: HashMap<TaskId, u32> =
            spec.tasks.iter().zip(0..).map(|(task, number)| (task.id.clone(), number)).collect();
        let by_agent = seats.iter().zip(0..).map(|(seat, at)| (seat.agent.clone(), at)).collect();
        let mut agenda = Self {
            seats,
            by_agent: Arc::new(by_agent),
            declarations,
            placement: spec.placement,
            open: numbers.len(),
            waiting: numbers.len(),
            ..Self::default()
        };
        let ranks = ranks(spec, &numbers);
        let mut known: HashMap<(&str, &BTreeSet<String>), u32> = HashMap::new();
        for (task, number) in spec.tasks.iter().zip(0_u32..) {
            let class = *known.entry((&task.agent, &task.needs)).or_insert_with(|| {
                let able = spec.able(task).filter_map(|(name, _)| agenda.declaration(name)).collect();
                agenda.classes.push(Able::Declarations(able));
                agenda.classes.len() as u32 - 1
            });
            let deadline = task.deadline.map(|span| started.plus(span));
            agenda.tasks.push(item(task, class, (scheduled(ranks[number as usize]), number), deadline));
        }
        for (task, number) in spec.tasks.iter().zip(0_u32..) {
            for dependency in &task.after {
                if let Some(&on) = numbers.get(&dependency.task) {
                    agenda.tasks[on as usize].dependents.push((number, dependency.when));
                }
            }
        }
        agenda.numbers = Arc::new(numbers);
        (0..agenda.tasks.len() as u32).for_each(|number| agenda.enter(number));
        agenda
    }

    fn declaration(&self, name: &str) -> Option<u32> {
        self.declarations.iter().position(|declaration| declaration.name == name).map(|at| at as u32)
    }

    /// A task that came up on the way, for one agent and before all others.
    pub(crate) fn add(&mut self, task: &TaskSpec, agent: &AgentId) {
        let Some(seat) = self.by_agent.get(agent) else { return };
        let able = Able::Seat(*seat);
        let class = self.classes.iter().position(|class| *class == able).unwrap_or_else(|| {
            self.classes.push(able);
            self.classes.len() - 1
        });
        let number = self.tasks.len() as u32;
        self.tasks.push(item(task, class as u32, (0, number), None));
        self.added.insert(task.id.clone(), number);
        self.open += 1;
        self.waiting += 1;
        self.enter(number);
    }

    /// One that knows the tasks by number, and nothing else.
    pub(crate) fn names_only(&self) -> Self {
        Self { numbers: Arc::clone(&self.numbers), added: self.added.clone(), ..Self::default() }
    }

    pub(crate) fn number(&self, task: &TaskId) -> Option<usize> {
        let number = self.numbers.get(task).or_else(|| self.added.get(task));
        number.map(|number| *number as usize)
    }

    fn id(&self, number: u32) -> &TaskId {
        &self.tasks[number as usize].id
    }

    fn is_able(&self, class: u32, seat: u32) -> bool {
        match &self.classes[class as usize] {
            Able::Declarations(able) => able.contains(&self.seats[seat as usize].declaration),
            Able::Seat(only) => *only == seat,
        }
    }

    /// The agent in whose queue a task is put.
    fn place(&self, number: u32) -> Option<u32> {
        let item = &self.tasks[number as usize];
        let able = match &self.classes[item.class as usize] {
            Able::Seat(seat) => return Some(*seat).filter(|seat| !self.seats[*seat as usize].out),
            Able::Declarations(able) => able,
        };
        let usable = |seat: &u32| !self.seats[*seat as usize].out && self.is_able(item.class, *seat);
        if self.placement == Placement::Affinity
            && let Some(seat) = item.affinity.filter(usable)
        {
            return Some(seat);
        }
        let first = |declaration: &u32| {
            let declaration = &self.declarations[*declaration as usize];
            let (load, seat) = *declaration.by_load.first()?;
            let cost = if self.placement == Placement::Cost { declaration.cost } else { 0 };
            Some((cost, load, seat))
        };
        able.iter().filter_map(first).min().map(|(.., seat)| seat)
    }

    /// A task is or is no longer among what an agent has before it.
    fn weigh(&mut self, seat: u32, more: bool) {
        let at = &mut self.seats[seat as usize];
        let before = at.load;
        at.load = if more { before + 1 } else { before.saturating_sub(1) };
        if !at.out {
            let by_load = &mut self.declarations[at.declaration as usize].by_load;
            by_load.remove(&(before, seat));
            by_load.insert((at.load, seat));
        }
    }

    /// An agent takes tasks or takes none: what waits for it goes to others, and what had nobody may come to it.
    pub(crate) fn in_service(&mut self, agent: &AgentId, serves: bool) {
        let Some(&seat) = self.by_agent.get(agent) else { return };
        let at = &mut self.seats[seat as usize];
        let spent = self.declarations[at.declaration as usize].spent;
        if at.out != serves || (serves && spent) {
            return;
        }
        at.out = !serves;
        let entry = (at.load, seat);
        let by_load = &mut self.declarations[at.declaration as usize].by_load;
        let moved: Vec<u32> = if serves {
            by_load.insert(entry);
            self.homeless.iter().copied().collect()
        } else {
            by_load.remove(&entry);
            let queued = at.queues.values().flatten().map(|rank| rank.1);
            let later = self.later.iter().map(|(_, number)| *number);
            queued.chain(later.filter(|number| self.tasks[*number as usize].seat == Some(seat))).collect()
        };
        for number in moved {
            self.leave(number);
            self.enter(number);
        }
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
        let (rank, class) = (item.rank, item.class);
        let seat = self.place(number);
        match seat {
            Some(seat) => {
                self.tasks[number as usize].seat = Some(seat);
                self.weigh(seat, true);
            }
            None => drop(self.homeless.insert(number)),
        }
        if not_before > Timestamp(0) {
            self.later.insert((not_before, number));
        } else if let Some(seat) = seat {
            self.seats[seat as usize].queues.entry(class).or_default().insert(rank);
        }
    }

    /// And leaves it.
    fn leave(&mut self, number: u32) {
        let item = &mut self.tasks[number as usize];
        if let Some(deadline) = item.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        if let At::Waiting { not_before } = item.at {
            self.later.remove(&(not_before, number));
        }
        let (rank, class) = (item.rank, item.class);
        if let Some(seat) = item.seat.take() {
            let queues = &mut self.seats[seat as usize].queues;
            if let Some(queue) = queues.get_mut(&class) {
                queue.remove(&rank);
                if queue.is_empty() {
                    queues.remove(&class);
                }
            }
            self.weigh(seat, false);
        }
        self.homeless.remove(&number);
        self.in_vain.remove(&number);
        self.running.remove(&number);
        self.starting.remove(&number);
        self.harvest.remove(&number);
    }

    /// The budget of a declaration is used up: its agents take nothing more.
    pub(crate) fn spent(&mut self, name: &str) {
        let Some(declaration) = self.declaration(name) else { return };
        if std::mem::replace(&mut self.declarations[declaration as usize].spent, true) {
            return;
        }
        let agents = self.seats.iter().filter(|seat| seat.declaration == declaration);
        let agents: Vec<AgentId> = agents.map(|seat| seat.agent.clone()).collect();
        agents.iter().for_each(|agent| self.in_service(agent, false));
    }

    fn set(&mut self, task: &TaskId, at: At) -> Option<u32> {
        let number = self.number(task)? as u32;
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
        let Some(number) = self.number(task).map(|number| number as u32) else { return };
        let item = &mut self.tasks[number as usize];
        let by = match priority {
            _ if schedule == Schedule::Priority => scheduled(priority as u64),
            Priority::Critical => 1,
            Priority::High => 2,
            Priority::Normal => item.scheduled,
            Priority::Low => u64::MAX - 1,
            Priority::Background => u64::MAX,
        };
        let rank = (by, number);
        let before = std::mem::replace(&mut item.rank, rank);
        let (seat, class) = (item.seat, item.class);
        let queue = seat.and_then(|seat| self.seats[seat as usize].queues.get_mut(&class));
        if let Some(queue) = queue
            && queue.remove(&before)
        {
            queue.insert(rank);
        }
    }

    /// The task waits again.
    pub(crate) fn waits(&mut self, task: &TaskId, not_before: Timestamp) {
        self.set(task, At::Waiting { not_before });
    }

    /// An agent has been given it.
    pub(crate) fn taken(&mut self, task: &TaskId, agent: &AgentId) {
        if let Some(number) = self.has(task, agent) {
            self.running.insert(number);
            self.starting.insert(number);
        }
    }

    fn has(&mut self, task: &TaskId, agent: &AgentId) -> Option<u32> {
        let number = self.set(task, At::Busy)?;
        if let Some(&seat) = self.by_agent.get(agent) {
            let item = &mut self.tasks[number as usize];
            (item.seat, item.done_by) = (Some(seat), Some(seat));
            self.weigh(seat, true);
        }
        Some(number)
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
    pub(crate) fn ended_well(&mut self, task: &TaskId, agent: &AgentId) {
        if let Some(number) = self.has(task, agent) {
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
                let done_by = self.tasks[number as usize].done_by;
                let item = &mut self.tasks[dependent as usize];
                item.unmet = item.unmet.saturating_sub(1);
                item.affinity = done_by.or(item.affinity);
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
            if let Some(seat) = item.seat {
                self.seats[seat as usize].queues.entry(item.class).or_default().insert(item.rank);
            }
        }
    }

    /// Tasks that can start now with the agent that takes each, best first; at most `room`, by none but `free` ones, each from its own queue or
    /// from one that it `may_steal` from, and as `leave` says of each in turn.
    pub(crate) fn startable(
        &self,
        now: Timestamp,
        room: usize,
        free: impl Fn(&AgentId) -> bool,
        may_steal: impl Fn(&AgentId, &AgentId) -> bool,
        mut leave: impl FnMut(&TaskId, &AgentId) -> Leave,
    ) -> Vec<Pick> {
        let mut due: BTreeMap<(u32, u32), BTreeSet<Rank>> = BTreeMap::new();
        for (_, number) in self.later.range(..=(now, u32::MAX)) {
            let item = &self.tasks[*number as usize];
            if let Some(seat) = item.seat {
                due.entry((seat, item.class)).or_default().insert(item.rank);
            }
        }
        let none = BTreeSet::new();
        // Tasks of one class in one queue: where nobody takes the first, nobody takes the others.
        let mut lines = Vec::new();
        for (seat, at) in self.seats.iter().zip(0_u32..) {
            let queued = seat.queues.iter().map(|(class, queue)| (*class, queue));
            let only_due = due.range((at, 0)..=(at, u32::MAX)).map(|((_, class), _)| *class);
            let only_due =
                only_due.filter(|class| !seat.queues.contains_key(class)).map(|class| (class, &none));
            for (class, queue) in queued.chain(only_due) {
                let due = due.get(&(at, class)).unwrap_or(&none);
                lines.push((at, class, merged(queue.iter(), due.iter())));
            }
        }
        let first = |(line, (.., ranks)): (usize, &mut (u32, u32, _))| Some(Reverse((next(ranks)?, line)));
        let mut heads: BinaryHeap<Reverse<(Rank, usize)>> =
            lines.iter_mut().enumerate().filter_map(first).collect();
        if heads.is_empty() {
            return Vec::new();
        }
        let seats = self.seats.iter().zip(0_u32..);
        let mut idle: BTreeSet<u32> =
            seats.filter(|(seat, _)| !seat.out && free(&seat.agent)).map(|(_, at)| at).collect();
        let mut found = Vec::new();
        while found.len() < room && !idle.is_empty() {
            let Some(Reverse((rank, line))) = heads.pop() else { break };
            let (owner, class, ranks) = &mut lines[line];
            let (owner, class) = (*owner, *class);
            let theirs = &self.seats[owner as usize].agent;
            let takes = |seat: &&u32| {
                self.is_able(class, **seat) && may_steal(&self.seats[**seat as usize].agent, theirs)
            };
            let Some(seat) = idle.get(&owner).or_else(|| idle.iter().find(takes)).copied() else { continue };
            let task = self.id(rank.1);
            let agent = &self.seats[seat as usize].agent;
            match leave(task, agent) {
                Leave::Nothing => {
                    idle.remove(&seat);
                    let from = (seat != owner).then(|| theirs.clone());
                    found.push(Pick { task: task.clone(), agent: agent.clone(), from });
                }
                Leave::Task => {}
                Leave::Agent => {
                    let declaration = self.seats[seat as usize].declaration;
                    idle.retain(|seat| self.seats[*seat as usize].declaration != declaration);
                    // Another may take it.
                    heads.push(Reverse((rank, line)));
                    continue;
                }
                Leave::All => break,
            }
            if let Some(rank) = next(ranks) {
                heads.push(Reverse((rank, line)));
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

    /// Waiting tasks that wait for nothing but their time, and that none but these declarations can do.
    pub(crate) fn startable_by(&self, all: impl Fn(&str) -> bool) -> impl Iterator<Item = &TaskId> {
        let only = |class: &Able| match class {
            Able::Declarations(able) => able.iter().all(|at| all(&self.declarations[*at as usize].name)),
            Able::Seat(seat) => {
                let declaration = self.seats[*seat as usize].declaration;
                all(&self.declarations[declaration as usize].name)
            }
        };
        let only: Vec<bool> = self.classes.iter().map(only).collect();
        let some = if only.contains(&true) { &self.tasks[..] } else { &[] };
        let waits = move |item: &&Item| {
            only[item.class as usize] && item.unmet == 0 && matches!(item.at, At::Waiting { .. })
        };
        some.iter().filter(waits).map(|item| &item.id)
    }

    /// Waiting tasks that nobody is left to do, each with the declarations that could have.
    pub(crate) fn homeless(&self) -> impl Iterator<Item = (&TaskId, &str)> {
        self.homeless.iter().map(|number| {
            let item = &self.tasks[*number as usize];
            let declaration = match &self.classes[item.class as usize] {
                Able::Declarations(able) => able.first().copied(),
                Able::Seat(seat) => Some(self.seats[*seat as usize].declaration),
            };
            let name = declaration.map_or("", |at| self.declarations[at as usize].name.as_str());
            (&item.id, name)
        })
    }

    /// Tasks that wait for agents of a declaration.
    pub(crate) fn queued(&self, declaration: &str) -> usize {
        let at = self.declaration(declaration);
        let seats = self.seats.iter().filter(|seat| Some(seat.declaration) == at);
        seats.flat_map(|seat| seat.queues.values()).map(BTreeSet::len).sum()
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

fn item(task: &TaskSpec, class: u32, rank: Rank, deadline: Option<Timestamp>) -> Item {
    Item {
        id: task.id.clone(),
        class,
        seat: None,
        done_by: None,
        affinity: None,
        rank,
        scheduled: rank.0,
        unmet: task.after.len() as u32,
        dependents: Vec::new(),
        deadline,
        at: At::Waiting { not_before: Timestamp(0) },
        begun: false,
    }
}

fn next<'a>(ranks: &mut impl Iterator<Item = &'a Rank>) -> Option<Rank> {
    ranks.next().copied()
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
    let estimate = |task: &TaskSpec| {
        let wall = || spec.able(task).next().map_or(0, |(_, agent)| agent.limits.wall.0);
        task.estimate.map_or_else(wall, |estimate| estimate.0)
    };
    let each = |of: &dyn Fn(&TaskSpec) -> u64| spec.tasks.iter().map(of).collect();
    match spec.schedule {
        Schedule::Fifo => each(&|_| 0),
        Schedule::Priority => each(&|task| task.priority as u64),
        Schedule::Deadline => each(&|task| task.deadline.map_or(u64::MAX, |deadline| deadline.0)),
        Schedule::Shortest => each(&estimate),
        Schedule::CriticalPath => {
            let own: Vec<u64> = each(&estimate);
            longest_ways(spec, numbers, &own).into_iter().map(|way| u64::MAX - way).collect()
        }
    }
}

/// A rank by the schedule. What came up on the way comes before all of these, and there is room for two between them and for two behind.
fn scheduled(rank: u64) -> u64 {
    rank.saturating_add(3).min(u64::MAX - 2)
}

/// From the start of each task to the end of the last that depends on it.
fn longest_ways(spec: &RunSpec, numbers: &HashMap<TaskId, u32>, own: &[u64]) -> Vec<u64> {
    let on = |task: &TaskSpec| -> Vec<usize> {
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
