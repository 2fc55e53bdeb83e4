//! The node: does a run's work with threads, and writes what came of it to the journal before anything depends on it.
//!
//! One thread owns the state and the journal. Every piece of work has a thread of its own, which answers with records.
//! Killed at any moment, a node leaves a journal from which [`crate::plan`] says the same work again; what it was
//! doing is reaped, removed or redone when the run is [resumed](Node::resume).

mod agent;
mod ask;
mod carry;
mod control;
mod equip;
mod exchange;
mod fleet;
mod follow;
mod landing;
mod pressure;
mod refusals;
mod start;
mod terms;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use quorate_agents::{Containment, Control};
use quorate_base::{AgentId, BallotId, ChangeId, TaskId, Timestamp, ValidatorId};

use crate::control::door::{Asked, Door};
use crate::decide::decide;
use crate::exchange::{Posted, judge};
use crate::git::{self, PrivateRepository};
use crate::journal::{self, Journal};
use crate::nodes;
use crate::plan::{Work, plan, stopping};
use crate::record::{Record, Stamped, Step};
use crate::secrets;
use crate::state::{Inconsistent, State, TaskState};
use crate::store::{self, Store};
use crate::workspace::{self, RunDir, Workspace};

use fleet::Fleet;
use pressure::Guard;
pub use start::{Proposal, Resumption, Start, Where, stamped};

/// How often the node looks up from waiting, for a stop or the run's own deadline.
const TICK: Duration = Duration::from_millis(100);

/// A run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Workspace(#[from] workspace::Error),
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    Nodes(#[from] nodes::Error),
    #[error(transparent)]
    State(#[from] Inconsistent),
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Exchange(#[from] crate::exchange::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("cannot listen at {}: {source}; a workspace must lie where sockets can be made", path.display())]
    Control { path: PathBuf, source: std::io::Error },
    #[error("a record of the journal cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    #[error("{0}")]
    Invariant(String),
    #[error("run {0} has finished; there is nothing to resume")]
    Finished(quorate_base::RunId),
    #[error(
        "the branch `{branch}` exists already; name another with `branch` under [repository], or delete it"
    )]
    BranchExists { branch: String },
    #[error(
        "what was spent today is not known, because the journal of run {run} cannot be read: {reason}; mend it, move the run's folder out of the store, or start without a budget of the day"
    )]
    SpentUnknown { run: quorate_base::RunId, reason: String },
    #[error("`{0}` is not a branch name git accepts")]
    BranchName(String),
}

/// How a node left a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Finished,
    /// It was asked to stop; the run can be resumed.
    Stopped,
}

/// Told of records as they become true.
pub type Observer = Box<dyn Fn(&Stamped, &State)>;

/// What surrounds a node: the clock, the program for validators, and where progress is told.
pub struct Surroundings {
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// The program and first arguments that start a validator process.
    pub validator: Vec<std::ffi::OsString>,
    /// The program and first arguments that call [`quorate_agents::hold`].
    pub stage: Vec<std::ffi::OsString>,
    /// Told every record once it is durable, with the state after it.
    pub observer: Observer,
    /// Set by somebody else to stop the node.
    pub stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("validator", &self.validator).finish_non_exhaustive()
    }
}

/// A run in the hands of this process.
#[derive(Debug)]
pub struct Node {
    state: State,
    journal: Journal,
    shared: Arc<Shared>,
    surroundings: Surroundings,
    fault: Fault,
    _lock: Option<workspace::Lock>,
    /// By which `quorate stop` finds it.
    known: Option<nodes::Registered>,
}

/// What the working threads share; but for the fleet, none of it changes.
#[derive(Debug)]
struct Shared {
    workspace: Workspace,
    run: RunDir,
    store: Store,
    repository: PrivateRepository,
    /// The user's repository, or the run's copy.
    target: PathBuf,
    swarm_dir: PathBuf,
    containment: Containment,
    validator: Vec<std::ffi::OsString>,
    stage: Vec<std::ffi::OsString>,
    fleet: Fleet,
    /// Held while a message is put into an inbox, and while inboxes change places.
    deliveries: Mutex<()>,
}

/// Identifies work in hand: the same work is not started twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Land(ChangeId),
    Certify(BallotId),
    Ask(BallotId, ValidatorId, Step, usize),
    Prepare(ChangeId),
    Task(TaskId),
}

impl From<&Work> for Key {
    fn from(work: &Work) -> Self {
        match work {
            Work::Land { change, .. } => Self::Land(change.clone()),
            Work::Certify { ballot } => Self::Certify(ballot.clone()),
            Work::Ask { ballot, validator, step, round } => {
                Self::Ask(ballot.clone(), validator.clone(), *step, *round)
            }
            Work::Prepare { change, .. } => Self::Prepare(change.clone()),
            Work::Harvest { task, .. } | Work::Launch { task, .. } => Self::Task(task.clone()),
        }
    }
}

/// What a working thread sends home.
#[derive(Debug)]
enum News {
    /// A fact on the way; the work goes on.
    Record(Record),
    /// A message of an agent's, of which nobody has asked yet whether it may be sent.
    Posted(Posted),
    /// The work is over, with what came of it.
    Done(Key, Result<Vec<Record>, Error>),
    /// Somebody outside wants something.
    Asked(Asked),
}

/// Lets the node end the process a piece of work is waiting for.
#[derive(Debug, Clone, Default)]
struct Leash(Arc<Mutex<LeashState>>);

#[derive(Debug, Default)]
struct LeashState {
    pulled: Option<Pull>,
    process: Option<Control>,
    /// It is to stand still.
    halted: bool,
}

/// Why a process is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pull {
    /// Nobody asks for what it does any more: the node stops, or its question is settled.
    Unasked,
    /// It was stopped itself, and how it ended is wanted.
    Stopped,
}

impl Leash {
    fn pull(&self, why: Pull) {
        let mut state = self.lock();
        state.pulled = Some(why);
        if let Some(process) = &state.process {
            process.cancel();
        }
    }

    fn hold(&self, process: Control) {
        let mut state = self.lock();
        if state.pulled.is_some() {
            process.cancel();
        }
        if state.halted {
            process.pause();
        }
        state.process = Some(process);
    }

    /// The process that is waited for, once there is one.
    fn process(&self) -> Option<Control> {
        self.lock().process.clone()
    }

    fn pulled(&self) -> Option<Pull> {
        self.lock().pulled
    }

    fn lock(&self) -> MutexGuard<'_, LeashState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct InHand {
    leash: Leash,
    thread: thread::JoinHandle<()>,
}

impl Node {
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Works until the run is over or the node is told to stop. Every process it started has ended when it returns.
    pub fn run(&mut self) -> Result<Left, Error> {
        let (sender, receiver) = mpsc::channel();
        let door = self.open_door(sender.clone())?;
        let mut in_hand: BTreeMap<Key, InHand> = BTreeMap::new();
        let keepers = Fleet::keep(&self.shared, &self.state.started);
        let outcome = self.work(&sender, &receiver, &mut in_hand);
        for work in in_hand.values() {
            work.leash.pull(Pull::Unasked);
        }
        // Whoever asks from now on finds nobody; whoever has asked is told so.
        drop(door);
        self.shared.fleet.close();
        for keeper in keepers {
            let _ = keeper.join();
        }
        drop((sender, receiver));
        // Answers that come after the end are not wanted; the threads must be gone all the same.
        for (_, work) in in_hand {
            let _ = work.thread.join();
        }
        let left = outcome?;
        if left == Left::Finished {
            self.tidy()?;
        }
        Ok(left)
    }

    /// Lets the node be asked for as long as it works.
    fn open_door(&self, sender: Sender<News>) -> Result<Door, Error> {
        let path = self.shared.run.control();
        let hear = move |asked| {
            // The node may have stopped listening.
            let _ = sender.send(News::Asked(asked));
        };
        Door::open(&path, hear).map_err(|source| Error::Control { path, source })
    }

    fn work(
        &mut self,
        sender: &Sender<News>,
        receiver: &Receiver<News>,
        in_hand: &mut BTreeMap<Key, InHand>,
    ) -> Result<Left, Error> {
        let mut guard = Guard::new(&self.state.started.spec.node);
        loop {
            self.conclude()?;
            if self.state.outcome.is_some() {
                return Ok(Left::Finished);
            }
            if self.surroundings.stop.load(Ordering::Relaxed) {
                return Ok(Left::Stopped);
            }
            // Before more is started: what there is may be too much already.
            let records = guard.look(&self.state, in_hand);
            self.commit(records)?;
            self.shared.fleet.see(&self.state.head, self.state.agenda.open());
            self.start_work(sender, in_hand);
            match receiver.recv_timeout(self.patience()) {
                Ok(news) => self.take(news, in_hand)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the node holds a sender"),
            }
        }
    }

    /// Never before what is written already, whatever has happened to the clock since then.
    fn now(&self) -> Timestamp {
        (self.surroundings.clock)().max(self.state.last_at)
    }

    /// How long to wait for news: something may follow from the time alone.
    fn patience(&self) -> Duration {
        let now = self.now();
        let until = |at: Timestamp| at.since(now).to_duration() + Duration::from_millis(1);
        self.state.next_time(now).map_or(TICK, |at| until(at).min(TICK))
    }

    /// Draws every conclusion there is.
    fn conclude(&mut self) -> Result<(), Error> {
        loop {
            let records = decide(&self.state, self.now());
            if records.is_empty() {
                return Ok(());
            }
            self.commit(records)?;
        }
    }

    fn start_work(&self, sender: &Sender<News>, in_hand: &mut BTreeMap<Key, InHand>) {
        let wanted = plan(&self.state, self.now());
        let keys: BTreeSet<Key> = wanted.iter().map(Key::from).collect();
        // Panels whose question is no longer asked stop costing anything.
        for (key, work) in in_hand.iter() {
            if matches!(key, Key::Ask(..)) && !keys.contains(key) {
                work.leash.pull(Pull::Unasked);
            }
        }
        for task in stopping(&self.state) {
            if let Some(work) = in_hand.get(&Key::Task(task.clone())) {
                work.leash.pull(Pull::Stopped);
            }
        }
        self.heed_pauses(in_hand);
        for work in wanted {
            let key = Key::from(&work);
            if in_hand.contains_key(&key) {
                continue;
            }
            let leash = Leash::default();
            let job = Job {
                shared: Arc::clone(&self.shared),
                state: self.view(&work),
                sender: sender.clone(),
                leash: leash.clone(),
            };
            let name = format!("{key:?}").chars().take(15).collect();
            let done = key.clone();
            let spawned = thread::Builder::new().name(name).spawn(move || {
                let answer = job.perform(&work);
                // The node may have stopped listening.
                let _ = job.sender.send(News::Done(done, answer));
            });
            match spawned {
                Ok(thread) => drop(in_hand.insert(key, InHand { leash, thread })),
                // No thread now: the work follows from the state again at the next look.
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, news: News, in_hand: &mut BTreeMap<Key, InHand>) -> Result<(), Error> {
        match news {
            News::Record(record) => self.commit(vec![record]).map(drop),
            News::Posted(posted) => {
                let record = judge(&self.state, posted);
                self.commit(vec![record]).map(drop)
            }
            News::Asked(asked) => self.asked(&asked, in_hand),
            News::Done(key, answer) => {
                let cancelled = in_hand.remove(&key).is_some_and(|work| {
                    let pulled = work.leash.pulled().is_some();
                    let _ = work.thread.join();
                    pulled
                });
                // An answer to a question nobody asks any more.
                if cancelled && matches!(key, Key::Ask(..)) {
                    return Ok(());
                }
                self.commit(answer?).map(drop)
            }
        }
    }

    /// Makes records durable, then true; answers their places in the journal.
    fn commit(&mut self, records: Vec<Record>) -> Result<Vec<u64>, Error> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now();
        let payloads = records.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
        let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let seqs = if self.fault.armed() {
            let mut seqs = Vec::new();
            for payload in payloads {
                self.fault.before();
                seqs.extend(self.journal.append(now, &[payload])?);
                self.fault.after();
            }
            seqs
        } else {
            self.journal.append(now, &payloads)?
        };
        for (&seq, record) in seqs.iter().zip(records) {
            let stamped = Stamped { seq, time: now, record };
            self.state.apply(&stamped)?;
            self.clean_after(&stamped.record);
            self.hand_over(&stamped)?;
            (self.surroundings.observer)(&stamped, &self.state);
        }
        Ok(seqs)
    }

    /// Removes a worktree nobody needs any more; what fails here is swept at the end of the run.
    fn clean_after(&self, record: &Record) {
        let (agent, task, attempt) = match record {
            // Also what came of a task that was cancelled meanwhile.
            Record::AgentEnded(ended)
                if !ended.outcome.succeeded() || self.state.unwanted.contains_key(&ended.task) =>
            {
                (&ended.agent, &ended.task, ended.attempt)
            }
            Record::ChangeProposed(proposed) => match (&proposed.agent, &proposed.task) {
                (Some(agent), Some(task)) => (agent, task, self.last_attempt(task)),
                _ => return,
            },
            Record::TaskClosed { task, .. } => {
                match self.state.launches.iter().rev().find(|l| l.task == *task) {
                    Some(launch) => (&launch.agent, &launch.task, launch.attempt),
                    None => return,
                }
            }
            _ => return,
        };
        let path = self.shared.run.worktree(agent, task, attempt);
        let _ = self.shared.repository.remove_worktree(&path);
    }

    fn last_attempt(&self, task: &TaskId) -> u32 {
        self.state
            .launches
            .iter()
            .rev()
            .find(|launch| launch.task == *task)
            .map_or(1, |launch| launch.attempt)
    }

    /// Removes what a finished run no longer needs; its journal, evidence, certificates and commits stay.
    fn tidy(&self) -> Result<(), Error> {
        quorate_agents::reap_orphans(self.state.started.run.as_str());
        self.shared.sweep(&BTreeSet::new())
    }

    /// A copy of the part of the state a piece of work needs; the work never sees it change.
    fn view(&self, work: &Work) -> Arc<State> {
        let (change, ballot) = match work {
            Work::Ask { ballot, .. } | Work::Certify { ballot } => (None, Some(ballot)),
            Work::Land { change, .. } | Work::Prepare { change, .. } => (Some(change), None),
            Work::Harvest { .. } | Work::Launch { .. } => (None, None),
        };
        let mut view = self.state.about(change, ballot);
        if let Work::Launch { task, .. } = work {
            let after = self.state.task_spec(task).map_or(&[][..], |spec| &spec.after);
            view.exchange = self.state.exchange.about(task, after);
        }
        Arc::new(view)
    }
}

/// One piece of work in its thread.
#[derive(Debug)]
struct Job {
    shared: Arc<Shared>,
    state: Arc<State>,
    sender: Sender<News>,
    leash: Leash,
}

impl Job {
    fn perform(&self, work: &Work) -> Result<Vec<Record>, Error> {
        match work {
            Work::Land { change, from, to } => self.land(change, from.as_ref(), to),
            Work::Certify { ballot } => self.certify(ballot),
            Work::Ask { ballot, validator, step, .. } => self.ask(ballot, validator, *step),
            Work::Prepare { change, onto } => self.prepare(change, onto),
            Work::Harvest { task, agent, attempt, base } => self.harvest(task, agent, *attempt, base),
            Work::Launch { task, agent, attempt, base, wall, set_aside } => {
                self.launch(task, agent, *attempt, base, *wall, *set_aside)
            }
        }
    }

    /// Tells the node a fact while the work goes on.
    fn tell(&self, record: Record) {
        let _ = self.sender.send(News::Record(record));
    }
}

impl Shared {
    /// Removes every worktree but those to be kept, and all raw output and panel folders.
    fn sweep(&self, keep: &BTreeSet<PathBuf>) -> Result<(), Error> {
        for folder in [self.run.worktrees(), self.run.panels()] {
            self.repository.remove_worktrees_below(&folder, keep)?;
        }
        for folder in [self.run.panels(), self.run.output()] {
            match std::fs::remove_dir_all(&folder) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Io { what: format!("cannot remove {}", folder.display()), source });
                }
                _ => {}
            }
        }
        git::remove_folder(&self.run.temporary())?;
        git::remove_folder(&self.run.exchanges())?;
        Ok(())
    }
}

impl State {
    /// Launches that were under way.
    pub(crate) fn interrupted(&self) -> Vec<(AgentId, TaskId, u32)> {
        self.agenda
            .running()
            .filter_map(|task| match self.tasks.get(task)? {
                TaskState::Starting { agent, attempt, .. } | TaskState::Running { agent, attempt, .. } => {
                    Some((agent.clone(), task.clone(), *attempt))
                }
                _ => None,
            })
            .collect()
    }
}

/// Dies at a chosen record, for the tests of survival. Built into debug builds alone.
#[derive(Debug, Default)]
struct Fault {
    #[cfg(debug_assertions)]
    at: Option<(bool, u64)>,
    #[cfg(debug_assertions)]
    seen: u64,
}

#[cfg(debug_assertions)]
impl Fault {
    /// Reads `QUORATE_TEST_DIE=before:N` or `after:N`: die around the N-th record this process appends.
    fn from_environment() -> Self {
        let at = std::env::var("QUORATE_TEST_DIE").ok().and_then(|text| {
            let (side, n) = text.split_once(':')?;
            Some((side == "before", n.parse().ok()?))
        });
        Self { at, seen: 0 }
    }

    fn armed(&self) -> bool {
        self.at.is_some()
    }

    fn before(&mut self) {
        self.seen += 1;
        if self.at == Some((true, self.seen)) {
            quorate_agents::kill_self();
        }
    }

    fn after(&self) {
        if self.at == Some((false, self.seen)) {
            quorate_agents::kill_self();
        }
    }
}

#[cfg(not(debug_assertions))]
impl Fault {
    fn from_environment() -> Self {
        Self::default()
    }

    fn armed(&self) -> bool {
        false
    }

    fn before(&mut self) {}

    fn after(&self) {}
}
