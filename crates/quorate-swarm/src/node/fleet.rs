//! Agents that are started ahead: each in its sandbox, in a worktree at the head of the result branch, with what its
//! worktree comes with, waiting to be told its task.
//!
//! What waits has run nothing of its agent's, and costs no budget. A launch that finds one takes it, and starts anew where
//! there is none or where it fails. Some threads keep the fleet: they fill it up, replace what died, and bring worktrees up
//! to date when the head moves. It never holds more than there are tasks left.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quorate_agents::egress::Refusals;
use quorate_agents::{Command, Held, SpawnError, Stdin, hold_ahead};
use quorate_base::GitOid;

use super::equip::furnish;
use super::{Shared, terms};
use crate::enclose;
use crate::git;
use crate::kit;
use crate::kit::ports::{Block, Ports};
use crate::record::RunStarted;
use crate::secrets;
use crate::spec::{AgentSpec, RunSpec};

/// How long a thread that has nothing to do waits before it looks whether a held process has died.
const LOOK: Duration = Duration::from_millis(500);
/// How long the head must have stood before worktrees follow it. Tasks that waited for it to move begin at once, and bring
/// up to date what they take.
const SETTLED: Duration = Duration::from_millis(250);
/// Until a declaration whose process could not be started ahead is tried again; doubles each time.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The most threads that keep a fleet: what they do is done by git and the disk.
const KEEPERS_MAX: usize = 4;

/// The fleet of a run.
#[derive(Debug)]
pub(super) struct Fleet {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    squads: BTreeMap<String, Squad>,
    head: Option<(GitOid, Instant)>,
    /// Tasks that an agent may still be launched for.
    open: usize,
    next: u64,
    closed: bool,
}

/// What is held for one declaration.
#[derive(Debug, Default)]
struct Squad {
    wanted: usize,
    ready: VecDeque<Ready>,
    /// Being started or brought up to date.
    busy: usize,
    failures: u32,
    not_before: Option<Instant>,
}

/// One agent that was started ahead.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) held: Held,
    pub(super) worktree: PathBuf,
    pub(super) temporary: PathBuf,
    pub(super) ports: Option<Block>,
    /// What its proxy refuses.
    pub(super) refusals: Option<Refusals>,
    base: GitOid,
    output: [PathBuf; 2],
}

/// What a keeper does next.
#[derive(Debug)]
enum Chore {
    Start { name: String, number: u64, head: GitOid },
    Refresh { name: String, ready: Ready, head: GitOid },
    Remove(Ready),
}

/// A process could not be started ahead. A launch that starts anew says why.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Git(#[from] git::Error),
    #[error(transparent)]
    Kit(#[from] kit::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Enclose(#[from] enclose::Error),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("no ports are free")]
    Ports,
}

impl Fleet {
    pub(super) fn new(spec: &RunSpec) -> Self {
        let wanted = spec.agents.iter().filter(|(_, agent)| agent.fleet > 0);
        let squad = |agent: &AgentSpec| Squad { wanted: agent.fleet as usize, ..Squad::default() };
        let inner = Inner {
            squads: wanted.map(|(name, agent)| (name.clone(), squad(agent))).collect(),
            head: None,
            open: 0,
            next: 0,
            closed: false,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it where the run stands: the head of the result branch, and for how many tasks an agent may still be launched.
    pub(super) fn see(&self, head: &GitOid, open: usize) {
        let mut inner = self.inner();
        let moved = inner.head.as_ref().is_none_or(|(known, _)| known != head);
        if !inner.squads.is_empty() && (moved || inner.open != open) {
            inner.open = open;
            if moved {
                inner.head = Some((head.clone(), Instant::now()));
            }
            drop(inner);
            self.changed.notify_all();
        }
    }

    /// Takes one that waits for a task of this declaration, best one whose worktree is at this commit.
    pub(super) fn take(&self, name: &str, base: &GitOid) -> Option<Ready> {
        let mut inner = self.inner();
        let ready = &mut inner.squads.get_mut(name)?.ready;
        let fits = ready.iter().position(|one| one.base == *base && one.held.is_alive());
        let taken = ready.remove(fits.or_else(|| ready.iter().position(|one| one.held.is_alive()))?);
        drop(inner);
        self.changed.notify_one();
        taken
    }

    /// Ends everything that waits, and the keeping of it. What is being started is dropped when it is.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        let left: Vec<Ready> =
            inner.squads.values_mut().flat_map(|squad| std::mem::take(&mut squad.ready)).collect();
        drop(inner);
        self.changed.notify_all();
        left.iter().for_each(|ready| ready.held.release());
    }

    /// Starts the threads that keep it; none where no declaration asks for a fleet. They end when it is closed.
    pub(super) fn keep(shared: &Arc<Shared>, run: &Arc<RunStarted>) -> Vec<thread::JoinHandle<()>> {
        if shared.fleet.inner().squads.is_empty() {
            return Vec::new();
        }
        let count = thread::available_parallelism().map_or(1, usize::from).min(KEEPERS_MAX);
        let keeper = |_| {
            let (shared, run) = (Arc::clone(shared), Arc::clone(run));
            let keep = move || shared.fleet.work(&shared, &run);
            // With fewer threads it fills up more slowly, with none not at all.
            thread::Builder::new().name("fleet".into()).spawn(keep).ok()
        };
        (0..count).filter_map(keeper).collect()
    }

    fn work(&self, shared: &Shared, run: &RunStarted) {
        while let Some(chore) = self.chore() {
            match chore {
                Chore::Remove(ready) => ready.remove(shared),
                Chore::Refresh { name, mut ready, head } => {
                    let refreshed = shared.repository.refresh_worktree(&ready.worktree, &head).is_ok();
                    ready.base = head;
                    self.put(shared, &name, if refreshed { Ok(ready) } else { Err(Some(ready)) });
                }
                Chore::Start { name, number, head } => {
                    let made =
                        run.spec.agents.get(&name).map(|agent| {
                            Ready::start(shared, run, agent, &format!("+{name}.{number}"), head)
                        });
                    self.put(shared, &name, made.and_then(Result::ok).ok_or(None));
                }
            }
        }
    }

    /// Waits for something to do; nothing when the fleet is closed.
    fn chore(&self) -> Option<Chore> {
        let mut inner = self.inner();
        loop {
            if inner.closed {
                return None;
            }
            if let Some(chore) = inner.chore() {
                return Some(chore);
            }
            inner = self.changed.wait_timeout(inner, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes in what came of a chore.
    fn put(&self, shared: &Shared, name: &str, made: Result<Ready, Option<Ready>>) {
        let mut inner = self.inner();
        let closed = inner.closed;
        let unwanted = match (inner.squads.get_mut(name), made) {
            (Some(squad), Ok(ready)) if !closed => {
                squad.busy -= 1;
                (squad.failures, squad.not_before) = (0, None);
                squad.ready.push_back(ready);
                None
            }
            (Some(squad), Err(failed)) => {
                squad.busy -= 1;
                let wait = RETRY.saturating_mul(1 << squad.failures.min(8)).min(RETRY_MAX);
                squad.failures += 1;
                squad.not_before = Some(Instant::now() + wait);
                failed
            }
            (_, Ok(ready)) => Some(ready),
            (None, Err(failed)) => failed,
        };
        drop(inner);
        if let Some(ready) = unwanted {
            ready.remove(shared);
        }
    }
}

impl Inner {
    fn chore(&mut self) -> Option<Chore> {
        let (head, since) = self.head.clone()?;
        let settled = since.elapsed() >= SETTLED;
        for (name, squad) in &mut self.squads {
            let wanted = squad.wanted.min(self.open);
            let dead = squad.ready.iter().position(|ready| !ready.held.is_alive());
            let many = (squad.ready.len() > wanted).then_some(0);
            if let Some(ready) = dead.or(many).and_then(|at| squad.ready.remove(at)) {
                return Some(Chore::Remove(ready));
            }
            if squad.not_before.is_some_and(|time| Instant::now() < time) {
                continue;
            }
            let stale = squad.ready.iter().position(|ready| settled && ready.base != head);
            if let Some(ready) = stale.and_then(|at| squad.ready.remove(at)) {
                squad.busy += 1;
                return Some(Chore::Refresh { name: name.clone(), ready, head });
            }
            if squad.ready.len() + squad.busy < wanted {
                squad.busy += 1;
                self.next += 1;
                return Some(Chore::Start { name: name.clone(), number: self.next, head });
            }
        }
        None
    }
}

impl Ready {
    /// `label` is no id of anything, so that its files are nobody else's.
    fn start(
        shared: &Shared,
        run: &RunStarted,
        agent: &AgentSpec,
        label: &str,
        head: GitOid,
    ) -> Result<Self, Error> {
        let worktree = shared.run.worktrees().join(label);
        let made = Self::start_in(shared, run, agent, label, &worktree, head);
        if made.is_err() {
            let _ = shared.repository.remove_worktree(&worktree);
            let _ = git::remove_folder(&shared.run.temporary().join(label));
        }
        made
    }

    fn start_in(
        shared: &Shared,
        run: &RunStarted,
        agent: &AgentSpec,
        label: &str,
        worktree: &Path,
        head: GitOid,
    ) -> Result<Self, Error> {
        let kit = &run.spec.worktree;
        let ports = match kit.ports_each {
            0 => None,
            each => Some(Ports::of_user().take(kit.ports, each)?.ok_or(Error::Ports)?),
        };
        shared.repository.add_worktree(worktree, &head)?;
        furnish(shared, kit, worktree)?;
        let (folder, temporary) = (shared.run.output(), shared.run.temporary().join(label));
        std::fs::create_dir_all(&folder).map_err(|source| Error::Folder { path: folder.clone(), source })?;
        let output = ["out", "err"].map(|end| folder.join(format!("{label}.{end}")));
        let (mut env, _) = terms::passed(shared, agent)?;
        let sandbox = terms::sandbox(shared, kit, agent, worktree, &temporary, &mut env)?;
        let refusals = terms::refusals(sandbox.as_ref());
        let command = Command {
            program: shared.program(&agent.program),
            args: Vec::new(),
            cwd: worktree.to_owned(),
            env,
            stdin: Stdin::Null,
            stdout: output[0].clone(),
            stderr: output[1].clone(),
            limits: terms::limits(agent, agent.limits.wall),
            sandbox,
            marker: run.run.to_string(),
        };
        let held = hold_ahead(&command, &shared.stage, &shared.containment)?;
        Ok(Self { held, worktree: worktree.to_owned(), temporary, ports, refusals, base: head, output })
    }

    /// Brings its worktree to a commit and to where a launch has its own; ended where that fails.
    pub(super) fn move_to(self, shared: &Shared, worktree: &Path, base: &GitOid) -> Option<Self> {
        let repository = &shared.repository;
        let current = self.base == *base || repository.refresh_worktree(&self.worktree, base).is_ok();
        if current && repository.move_worktree(&self.worktree, worktree).is_ok() {
            return Some(Self { worktree: worktree.to_owned(), ..self });
        }
        self.remove(shared);
        None
    }

    /// Ends it and removes what it had; what cannot be removed is swept at the end of the run.
    fn remove(self, shared: &Shared) {
        drop(self.held);
        let _ = shared.repository.remove_worktree(&self.worktree);
        let _ = git::remove_folder(&self.temporary);
        for file in &self.output {
            let _ = std::fs::remove_file(file);
        }
    }
}
