//! Worktrees that runs have left, what is in them, and removing those with nothing to lose.
//!
//! A run removes its worktrees itself. What stays is of a node that was killed or is at work, so something may be in it that is
//! nowhere else. The answer is found by reading: the files as they are, beside the commit they began as and the changes
//! the journal knows.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate_base::{AgentId, ChangeId, GitOid, RunId, TaskId};
use serde::Serialize;

use crate::git::PrivateRepository;
use crate::journal::Journal;
use crate::node::{Error, stamped};
use crate::record::RunKind;
use crate::state::{Settled, State, TaskState};
use crate::workspace::{RunDir, Workspace};

/// A worktree a run has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub run: RunId,
    pub path: PathBuf,
    /// Whose it was; none where the journal knows no such launch, or for the checkouts of a panel.
    pub launch: Option<(TaskId, AgentId, u32)>,
    pub holds: Holds,
    /// The change its files are, where they are one.
    pub change: Option<ChangeId>,
    /// The run's repository, the commit the files began as, and the tree they are now, where that could be read.
    pub contents: Option<Contents>,
}

/// Where to find the files of a worktree as git has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub repository: PathBuf,
    pub base: GitOid,
    pub tree: GitOid,
    /// Paths that differ.
    pub paths: usize,
}

/// What would be lost with a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The files of its commit and ignored ones.
    Nothing,
    /// A change that has landed.
    Landed,
    /// A change that was refused; its commit stays in the run's repository.
    Refused,
    /// Checkouts in which a panel looked at changes.
    Checkout,
    /// A change that is not settled yet.
    Proposed,
    /// The work of an agent that ended well, which the node has not read yet.
    Unread,
    /// Changes to files that are in no commit.
    Uncommitted,
    /// A node works on this run.
    InUse,
    /// It could not be read.
    Unknown { reason: String },
}

impl Holds {
    /// Whether removing it loses nothing.
    pub fn removable(&self) -> bool {
        matches!(self, Self::Nothing | Self::Landed | Self::Refused | Self::Checkout)
    }
}

/// What came of cleaning.
#[derive(Debug, Default)]
pub struct Cleaned {
    pub removed: Vec<Leftover>,
    pub kept: Vec<Leftover>,
}

/// Every worktree that runs of this workspace have left.
pub fn list(workspace: &Workspace) -> Result<Vec<Leftover>, Error> {
    leftovers(workspace, workspace.is_locked())
}

/// Removes the worktrees that hold nothing; by force, those that do as well. Refused while a node works in the workspace.
pub fn clean(workspace: &Workspace, force: bool) -> Result<Cleaned, Error> {
    let _lock = workspace.lock(&format!("worktree clean (process {})", std::process::id()))?;
    let mut cleaned = Cleaned::default();
    for mut leftover in leftovers(workspace, false)? {
        if !force && !leftover.holds.removable() {
            cleaned.kept.push(leftover);
            continue;
        }
        match remove(workspace, &leftover) {
            Ok(()) => cleaned.removed.push(leftover),
            Err(error) => {
                leftover.holds = Holds::Unknown { reason: error.to_string() };
                cleaned.kept.push(leftover);
            }
        }
    }
    Ok(cleaned)
}

fn remove(workspace: &Workspace, leftover: &Leftover) -> Result<(), Error> {
    let repository = PrivateRepository::open(&workspace.run_dir(&leftover.run).repository())?;
    if leftover.holds == Holds::Checkout {
        repository.remove_worktrees_below(&leftover.path, &Default::default())?;
    }
    Ok(repository.retire_worktree(&leftover.path)?)
}

fn leftovers(workspace: &Workspace, locked: bool) -> Result<Vec<Leftover>, Error> {
    let mut found = Vec::new();
    for run in workspace.runs()? {
        let dir = workspace.run_dir(&run);
        let worktrees = folders(&dir.worktrees())?;
        let panels = folders(&dir.panels())?;
        if worktrees.is_empty() && panels.is_empty() {
            continue;
        }
        let state = read(&dir);
        let in_use = locked && state.as_ref().is_ok_and(|state| state.outcome.is_none());
        let repository = PrivateRepository::open(&dir.repository());
        for path in worktrees {
            let mut leftover = Leftover {
                run: run.clone(),
                path,
                launch: None,
                holds: Holds::InUse,
                change: None,
                contents: None,
            };
            match (&state, &repository) {
                _ if in_use => {}
                (Ok(state), Ok(repository)) => look(&mut leftover, &dir, state, repository),
                (Err(reason), _) => leftover.holds = Holds::Unknown { reason: reason.to_string() },
                (_, Err(reason)) => leftover.holds = Holds::Unknown { reason: reason.to_string() },
            }
            found.push(leftover);
        }
        for path in panels {
            let holds = match &state {
                _ if in_use => Holds::InUse,
                // Certifying takes no lock, so this may be at work now.
                Ok(state) if state.started.kind == RunKind::Certify && state.outcome.is_none() => {
                    Holds::Unknown { reason: "a certification that may be at work".into() }
                }
                Ok(_) => Holds::Checkout,
                Err(reason) => Holds::Unknown { reason: reason.to_string() },
            };
            let (run, launch) = (run.clone(), None);
            found.push(Leftover { run, path, launch, holds, change: None, contents: None });
        }
    }
    Ok(found)
}

fn read(dir: &RunDir) -> Result<State, Error> {
    let (entries, _) = Journal::read(&dir.journal())?;
    Ok(State::fold(stamped(&entries)?.iter())?)
}

/// The folders in a folder, sorted; none where it is not there.
fn folders(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let wrong = |source| Error::Io { what: format!("cannot read {}", path.display()), source };
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let mut found =
        entries.map(|entry| Ok(entry.map_err(wrong)?.path())).collect::<Result<Vec<_>, Error>>()?;
    found.sort();
    Ok(found)
}

/// Finds out whose a worktree was and what is in it.
fn look(leftover: &mut Leftover, dir: &RunDir, state: &State, repository: &PrivateRepository) {
    let launch = launches(dir, state).remove(&leftover.path);
    leftover.launch = launch;
    let task = leftover.launch.as_ref().map(|(task, _, _)| task);
    match contents(&leftover.path, repository) {
        Err(error) => {
            leftover.holds = Holds::Unknown { reason: error.to_string() };
            return;
        }
        Ok(contents) => leftover.contents = Some(contents),
    }
    let differs = leftover.contents.as_ref().filter(|contents| contents.paths > 0);
    let unread = |task| {
        matches!(state.tasks.get(task), Some(TaskState::Harvest { agent, attempt, .. })
        if leftover.launch.as_ref().is_some_and(|(_, a, n)| a == agent && n == attempt))
    };
    if task.is_some_and(unread) {
        leftover.holds = Holds::Unread;
        return;
    }
    let Some(contents) = differs else {
        leftover.holds = Holds::Nothing;
        return;
    };
    let change = state.changes.values().find(|change| change.proposed.tree == contents.tree);
    leftover.change = change.map(|change| change.proposed.change.clone());
    leftover.holds = match change.map(|change| &change.settled) {
        None => Holds::Uncommitted,
        Some(None) => Holds::Proposed,
        Some(Some(Settled::Landed { .. })) => Holds::Landed,
        Some(Some(Settled::Refused { .. })) => Holds::Refused,
    };
}

/// Where every launch the journal knows had its worktree.
fn launches(dir: &RunDir, state: &State) -> BTreeMap<PathBuf, (TaskId, AgentId, u32)> {
    let ended = state.launches.iter().map(|launch| (&launch.task, &launch.agent, launch.attempt));
    let current = state.tasks.iter().filter_map(|(task, at)| match at {
        TaskState::Starting { agent, attempt, .. }
        | TaskState::Running { agent, attempt, .. }
        | TaskState::Harvest { agent, attempt, .. } => Some((task, agent, *attempt)),
        _ => None,
    });
    ended
        .chain(current)
        .map(|(task, agent, attempt)| {
            (dir.worktree(agent, task, attempt), (task.clone(), agent.clone(), attempt))
        })
        .collect()
}

fn contents(path: &Path, repository: &PrivateRepository) -> Result<Contents, crate::git::Error> {
    let base = repository.base_of(path)?;
    let tree = repository.snapshot(path)?;
    let paths = repository.changed_paths(&repository.tree_of(&base)?, &tree)?.len();
    Ok(Contents { repository: repository.path().to_owned(), base, tree, paths })
}
