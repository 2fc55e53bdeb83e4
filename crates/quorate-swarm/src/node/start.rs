//! How a run begins, and how it is taken up again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quorate_agents::Containment;
use quorate_base::{AgentId, ChangeId, GitOid, RunId, TaskId, Timestamp};

use super::fleet::Fleet;
use super::follow::Follower;
use super::landing::conflict_evidence;
use super::{Error, Fault, Node, Shared, Surroundings};
use crate::budget::Amount;
use crate::git::{self, Merge, PrivateRepository, Source};
use crate::journal::{self, Journal};
use crate::nodes;
use crate::record::{ChangeProposed, Elector, Record, RunKind, RunStarted, Stamped};
use crate::secrets::Secrets;
use crate::spec::RunSpec;
use crate::state::{State, TaskState};
use crate::workspace::{RunDir, Workspace};

/// What a new run is.
#[derive(Debug)]
pub struct Start {
    pub run: RunId,
    /// Sixteen random bytes that tell this journal from every other.
    pub journal_id: [u8; 16],
    pub spec: RunSpec,
    pub swarm_dir: PathBuf,
    pub place: Where,
    pub branch: Option<String>,
    pub version: String,
}

/// Where a run works, and on what.
#[derive(Debug)]
pub enum Where {
    /// On a repository of the user's, from this commit on.
    Repository { source: Source, base: GitOid },
    /// On a fresh repository made of this folder.
    Copy { folder: PathBuf },
    /// One change of the user's before the panel.
    Certify { source: Source, change: Proposal, base: GitOid },
}

/// A change somebody wants judged.
#[derive(Debug, Clone)]
pub enum Proposal {
    Commit(GitOid),
    /// The user's worktree as it is, against its current commit.
    Worktree {
        head: GitOid,
    },
}

/// What a resumed node found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumption {
    pub orphans: u32,
    pub torn_bytes: u64,
    pub launches_lost: usize,
}

impl Node {
    /// Begins a run: its folder, its repository, its journal.
    pub fn start(workspace: &Workspace, start: Start, surroundings: Surroundings) -> Result<Self, Error> {
        Secrets::read(workspace)?.require(&start.spec)?;
        let certify = matches!(start.place, Where::Certify { .. });
        // Certifying writes nothing another run could trip over.
        let lock = if certify {
            None
        } else {
            Some(workspace.lock(&format!("run {} (process {})", start.run, std::process::id()))?)
        };
        let run = workspace.run_dir(&start.run);
        if lock.is_some() {
            remove_stillborn(workspace)?;
        }
        create_folder(&run.path)?;
        let begun = Self::begin(workspace, start, surroundings, lock, &run);
        if begun.is_err() && !run.journal().exists() {
            // Nothing was promised yet.
            let _ = fs::remove_dir_all(&run.path);
        }
        begun
    }

    fn begin(
        workspace: &Workspace,
        start: Start,
        surroundings: Surroundings,
        lock: Option<crate::workspace::Lock>,
        run: &RunDir,
    ) -> Result<Self, Error> {
        let now = (surroundings.clock)();
        let keys = workspace.public_keys(&start.spec.gate.validators)?;
        let electorate =
            keys.iter().map(|(v, key)| Elector { validator: v.clone(), public_key: key.to_hex() }).collect();
        let kind =
            if matches!(start.place, Where::Certify { .. }) { RunKind::Certify } else { RunKind::Swarm };
        let mut first = Vec::new();
        let mut include_from = None;
        let (target, repository, base) = match start.place {
            Where::Repository { source, base } => {
                let repository = PrivateRepository::create(&run.repository(), &source)?;
                (source.top().to_owned(), repository, base)
            }
            Where::Copy { folder } => {
                let source = git::init_from_copy(&run.copy(), &folder, now)?;
                include_from = folder.canonicalize().ok();
                let base = source.head_commit()?;
                let repository = PrivateRepository::create(&run.repository(), &source)?;
                (source.top().to_owned(), repository, base)
            }
            Where::Certify { source, change, base } => {
                let repository = PrivateRepository::create(&run.repository(), &source)?;
                let commit = match change {
                    Proposal::Commit(commit) => commit,
                    Proposal::Worktree { head } => {
                        let tree = repository.worktree_tree(&source)?;
                        repository.commit_tree(
                            &tree,
                            &[head],
                            "Worktree\n",
                            &git::Identity::quorate(),
                            now,
                        )?
                    }
                };
                let merge_base = repository.merge_base(&base, &commit)?;
                first = propose(&repository, &workspace.store(), &merge_base, &commit, &base, now)?;
                (source.top().to_owned(), repository, merge_base)
            }
        };
        let branch = start.branch.unwrap_or_else(|| format!("quorate/{}", start.run));
        if kind == RunKind::Swarm {
            if !git::is_branch_name(&branch)? {
                return Err(Error::BranchName(branch));
            }
            if git::branch_head(&target, &branch)?.is_some() {
                return Err(Error::BranchExists { branch });
            }
        }
        let base_tree = repository.tree_of(&base)?;
        let spent_today = match start.spec.budget.day.is_none() {
            true => Amount::default(),
            false => spent_on(workspace, now)?,
        };
        let started = Record::RunStarted(Box::new(RunStarted {
            run: start.run,
            kind,
            spec: start.spec,
            repository: target.to_string_lossy().into_owned(),
            swarm_dir: start.swarm_dir.to_string_lossy().into_owned(),
            base,
            base_tree,
            branch,
            electorate,
            quorate_version: start.version,
            spent_today,
        }));
        keep_path(run, "target", &target)?;
        keep_path(run, "swarm-dir", &start.swarm_dir)?;
        keep_path(run, "include-from", &include_from.unwrap_or_else(|| target.clone()))?;
        let mut journal = Journal::create(&run.journal(), start.journal_id)?;
        let payload = serde_json::to_vec(&started)?;
        let seq = journal.append(now, &[&payload])?.first().copied().unwrap_or(0);
        let stamped = Stamped { seq, time: now, record: started };
        let state = State::begin(&stamped)?;
        (surroundings.observer)(&stamped, &state);
        let mut node = Self::assemble(
            workspace,
            run,
            state,
            journal,
            repository,
            target,
            start.swarm_dir,
            surroundings,
            lock,
        );
        node.known = Some(nodes::register(&node.state.started.run, workspace.root())?);
        node.commit(first)?;
        Ok(node)
    }

    /// Takes up a run whose node ended before the run did. Processes it left are ended, half-made work is removed,
    /// and launches that were under way are written down as lost.
    pub fn resume(
        workspace: &Workspace,
        run: &RunId,
        surroundings: Surroundings,
    ) -> Result<(Self, Resumption), Error> {
        let dir = workspace.run_dir(run);
        let lock = workspace.lock(&format!("run {run} (process {})", std::process::id()))?;
        let (journal, entries, torn) = Journal::open(&dir.journal())?;
        let records = stamped(&entries)?;
        let state = State::fold(records.iter())?;
        if state.outcome.is_some() {
            return Err(Error::Finished(run.clone()));
        }
        Secrets::read(workspace)?.require(&state.started.spec)?;
        let orphans = quorate_agents::reap_orphans(run.as_str()).len();
        let repository = PrivateRepository::open(&dir.repository())?;
        let target = read_path(&dir, "target")?;
        let swarm_dir = read_path(&dir, "swarm-dir")?;
        let lock = (state.started.kind == RunKind::Swarm).then_some(lock);
        let mut node = Self::assemble(
            workspace,
            &dir,
            state,
            journal,
            repository,
            target,
            swarm_dir,
            surroundings,
            lock,
        );
        node.known = Some(nodes::register(run, workspace.root())?);
        let keep: BTreeSet<PathBuf> = node
            .state
            .tasks
            .iter()
            .filter_map(|(task, at)| match at {
                TaskState::Harvest { agent, attempt, .. } => Some(dir.worktree(agent, task, *attempt)),
                _ => None,
            })
            .collect();
        let lost = node.state.interrupted();
        let used: Vec<Amount> =
            lost.iter().map(|(agent, task, attempt)| node.used_by_lost(agent, task, *attempt)).collect();
        // Before their worktrees go.
        let checkpoints = node.checkpoints(&lost)?;
        node.commit(checkpoints)?;
        node.shared.sweep(&keep)?;
        let resumption = Resumption {
            orphans: u32::try_from(orphans).unwrap_or(u32::MAX),
            torn_bytes: torn.map_or(0, |torn| torn.bytes),
            launches_lost: lost.len(),
        };
        let mut records =
            vec![Record::Resumed { orphans: resumption.orphans, torn_bytes: resumption.torn_bytes }];
        records.extend(lost.into_iter().zip(used).map(|((agent, task, attempt), used)| Record::AgentLost {
            agent,
            task,
            attempt,
            used,
        }));
        node.commit(records)?;
        Ok((node, resumption))
    }

    /// What a launch had used when the node died, by what is left of its output.
    fn used_by_lost(&self, agent: &AgentId, task: &TaskId, attempt: u32) -> Amount {
        let source = self.state.started.spec.declaration(agent).map(|(_, agent)| agent.usage);
        let output = self.shared.run.output().join(format!("{task}.{attempt}.out"));
        let said = Follower::new(&output, source.unwrap_or_default()).used();
        let last_at = self.state.last_at;
        let worked = match self.state.tasks.get(task) {
            Some(TaskState::Running { agent, since, .. }) => {
                let paused = self.state.crew.get(agent).map_or(0, |member| member.paused_by(last_at).0);
                last_at.since(*since).0.saturating_sub(paused)
            }
            _ => 0,
        };
        Amount { launches: 1, agent_time_ms: worked, ..said }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a node, put together in one place for its two beginnings"
    )]
    fn assemble(
        workspace: &Workspace,
        run: &RunDir,
        state: State,
        journal: Journal,
        repository: PrivateRepository,
        target: PathBuf,
        swarm_dir: PathBuf,
        surroundings: Surroundings,
        lock: Option<crate::workspace::Lock>,
    ) -> Self {
        let shared = Shared {
            workspace: workspace.clone(),
            run: run.clone(),
            store: workspace.store(),
            repository,
            target,
            swarm_dir,
            containment: Containment::probe(),
            validator: surroundings.validator.clone(),
            stage: surroundings.stage.clone(),
            fleet: Fleet::new(&state.started.spec),
            deliveries: Mutex::new(()),
        };
        Self {
            state,
            journal,
            shared: Arc::new(shared),
            surroundings,
            fault: Fault::from_environment(),
            _lock: lock,
            known: None,
        }
    }
}

/// The records of a journal with their places.
pub fn stamped(entries: &[journal::Entry]) -> Result<Vec<Stamped>, Error> {
    entries
        .iter()
        .map(|entry| {
            let record = serde_json::from_slice(&entry.payload)?;
            Ok(Stamped { seq: entry.seq, time: entry.time, record })
        })
        .collect()
}

/// The first records of a certification: the change, and whether it merges onto the base it is meant for.
fn propose(
    repository: &PrivateRepository,
    store: &crate::store::Store,
    merge_base: &GitOid,
    commit: &GitOid,
    base: &GitOid,
    now: Timestamp,
) -> Result<Vec<Record>, Error> {
    let tree = repository.tree_of(commit)?;
    let base_tree = repository.tree_of(merge_base)?;
    let change = ChangeId::new(format!("change-{}", commit.short()))
        .map_err(|error| Error::Invariant(error.to_string()))?;
    let paths = repository.changed_paths(&base_tree, &tree)?.len();
    let subject =
        repository.message_of(commit)?.lines().next().unwrap_or_default().chars().take(100).collect();
    let mut records = vec![Record::ChangeProposed(ChangeProposed {
        change: change.clone(),
        task: None,
        agent: None,
        base: merge_base.clone(),
        commit: commit.clone(),
        tree: tree.clone(),
        paths: u32::try_from(paths).unwrap_or(u32::MAX),
        subject,
    })];
    if base != merge_base
        && let Merge::Conflict { paths, .. } = repository.merge(merge_base, base, commit)?
    {
        let paths: Vec<_> = paths.iter().take(8).map(|path| path.to_string_lossy().into_owned()).collect();
        let reason = format!("conflicts with the base {} in {}", base.short(), paths.join(", "));
        let merge = [merge_base, base, commit];
        let evidence = conflict_evidence(merge, &tree, &repository.tree_of(base)?, &reason, now);
        let evidence = store.put(&evidence.to_bytes())?;
        records.push(Record::ConflictFound { change, onto: merge_base.clone(), reason, evidence });
    }
    Ok(records)
}

/// Removes folders of runs that died before their journal existed.
fn remove_stillborn(workspace: &Workspace) -> Result<(), Error> {
    let runs = workspace.store_dir().join("runs");
    let io = |source| Error::Io { what: format!("cannot read {}", runs.display()), source };
    for entry in fs::read_dir(&runs).map_err(io)? {
        let path = entry.map_err(io)?.path();
        // A certification in progress holds no lock; its folder is young.
        let young = path
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|at| at.elapsed().ok())
            .is_none_or(|age| age.as_secs() < 600);
        if !path.join("journal").exists() && !young {
            fs::remove_dir_all(&path).map_err(io)?;
        }
    }
    Ok(())
}

fn create_folder(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|source| Error::Io { what: format!("cannot create {}", path.display()), source })
}

/// Paths need not be text, so those a resumed run needs are kept as bytes beside the journal.
fn keep_path(run: &RunDir, name: &str, path: &Path) -> Result<(), Error> {
    let file = run.path.join(name);
    fs::write(&file, path.as_os_str().as_encoded_bytes())
        .map_err(|source| Error::Io { what: format!("cannot write {}", file.display()), source })
}

pub(super) fn read_path(run: &RunDir, name: &str) -> Result<PathBuf, Error> {
    use std::os::unix::ffi::OsStringExt;
    let file = run.path.join(name);
    let bytes = fs::read(&file)
        .map_err(|source| Error::Io { what: format!("cannot read {}", file.display()), source })?;
    Ok(std::ffi::OsString::from_vec(bytes).into())
}

/// What the runs of a workspace have spent on the day of `now`, in UTC. Refused where a run cannot be read: nobody would know what is left.
fn spent_on(workspace: &Workspace, now: Timestamp) -> Result<Amount, Error> {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let today = |time: Timestamp| time.0 / DAY_MS == now.0 / DAY_MS;
    let mut spent = Amount::default();
    for run in workspace.runs()? {
        let unknown = |reason: String| Error::SpentUnknown { run: run.clone(), reason };
        let read = Journal::read(&workspace.run_dir(&run).journal());
        let (entries, _) = read.map_err(|error| unknown(error.to_string()))?;
        let records = stamped(&entries).map_err(|error| unknown(error.to_string()))?;
        for record in records.iter().filter(|record| today(record.time)) {
            spent = match &record.record {
                Record::AgentEnded(ended) => spent.plus(ended.used),
                Record::AgentLost { used, .. } => spent.plus(*used),
                _ => spent,
            };
        }
    }
    Ok(spent)
}
