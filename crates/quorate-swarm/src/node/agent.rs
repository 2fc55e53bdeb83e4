//! Launching agents and reading what they leave.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_agents::egress::Refusals;
use quorate_agents::{Claim, ClaimError, Command, Held, Note, Outcome, Running, Stdin};
use quorate_base::{AgentId, ByteCount, ChangeId, Digest, GitOid, Millis, TaskId};

use super::equip::Equipped;
use super::exchange::Folders;
use super::fleet::Ready;
use super::follow::{Follower, exceeded};
use super::terms::{self, Environment};
use super::{Error, Job, Pull, verdict};
use crate::budget::Amount;
use crate::enclose;
use crate::git::{self, Identity};
use crate::record::{AgentEnded, AgentOutcome, ChangeProposed, Record, TaskOutcome};
use crate::spec::file::fill;
use crate::spec::{AgentSpec, TaskSpec};

/// Between looks at what an agent says it uses, and at its outbox.
const LOOK: Duration = Duration::from_millis(500);
/// Between records of it: each waits for the disk.
const TELL: Duration = Duration::from_secs(5);
/// How much of an output's end is searched for last words.
const LAST_WORDS_FROM: usize = 16 << 10;
/// The longest last words kept.
const LAST_WORDS_MAX: usize = 240;

impl Job {
    /// Runs an agent to its end in a fresh worktree.
    pub(super) fn launch(
        &self,
        task: &TaskId,
        agent: &AgentId,
        attempt: u32,
        base: &GitOid,
        wall: Millis,
        set_aside: Amount,
    ) -> Result<Vec<Record>, Error> {
        let (task_spec, spec) = self.specs(task, agent)?;
        let worktree = self.shared.run.worktree(agent, task, attempt);
        self.shared.repository.remove_worktree(&worktree)?;
        let declaration = self.state.started.spec.declaration(agent).map_or("", |(name, _)| name);
        let ready = self.shared.fleet.take(declaration, base);
        let ready = ready.and_then(|ready| ready.move_to(&self.shared, &worktree, base));
        if ready.is_none() {
            self.shared.repository.add_worktree(&worktree, base)?;
        }
        if let Some(carried) = self.state.exchange.carried(task) {
            self.shared.repository.lay_over(&worktree, &carried.tree)?;
        }
        let output = self.shared.run.output();
        fs::create_dir_all(&output)
            .map_err(|source| Error::Io { what: format!("cannot create {}", output.display()), source })?;
        let temporary = match &ready {
            Some(ready) => ready.temporary.clone(),
            None => self.shared.run.temporary().join(format!("{task}.{agent}.{attempt}")),
        };
        let (mut env, secrets) = self.environment(spec, task_spec, agent, attempt)?;
        // Held until the agent has ended.
        let mut stopped = false;
        let (held, folders, equipped, mut refusals) = match ready {
            Some(Ready { held, folders, ports, refusals, .. }) => {
                (Some(held), Some(folders), self.told(&worktree, ports), refusals)
            }
            None => (None, None, self.equip(agent, task, &worktree)?, None),
        };
        let equipment = match equipped {
            Equipped::With(equipment) => Ok(equipment),
            Equipped::Impossible(reason) => Err(reason),
            Equipped::Stopping if self.leash.pulled() == Some(Pull::Stopped) => {
                stopped = true;
                Err(String::new())
            }
            Equipped::Stopping => return Ok(Vec::new()),
        };
        env.extend(equipment.iter().flat_map(|equipment| equipment.env.clone()));
        let mut desk = self.desk(agent, task, attempt, folders)?;
        env.extend(desk.env());
        let verdict_file = temporary.join("verdict");
        if let Some(change) = &task_spec.review {
            env.insert("QUORATE_REVIEW".into(), change.as_str().into());
            env.insert("QUORATE_VERDICT".into(), verdict_file.clone().into());
        }
        let kit = &self.state.started.spec.worktree;
        let sandbox = if held.is_some() {
            // It is in one.
            if spec.sandbox.is_some() {
                enclose::tell(&mut env, &spec.env, &temporary);
            }
            Ok(None)
        } else {
            terms::sandbox(&self.shared, kit, spec, &worktree, &temporary, desk.folders(), &mut env)
        };
        if task_spec.review.is_some() && spec.sandbox.is_none() {
            enclose::make_temporary(&temporary).map_err(|error| Error::Io {
                what: error.to_string(),
                source: std::io::ErrorKind::Other.into(),
            })?;
        }
        let value = |name: &str| match name {
            "objective" => Some(task_spec.objective.clone()),
            "task" => Some(task.to_string()),
            "agent" => Some(agent.to_string()),
            "role" => Some(spec.role.name().to_owned()),
            "attempt" => Some(attempt.to_string()),
            "worktree" => Some(worktree.to_string_lossy().into_owned()),
            "swarm-dir" => Some(self.shared.swarm_dir.to_string_lossy().into_owned()),
            _ => None,
        };
        let (sandbox, refusal) = match sandbox {
            Ok(sandbox) => (sandbox, desk.refusal.take()),
            Err(error) => (None, Some(error.to_string())),
        };
        refusals = refusals.or_else(|| terms::refusals(sandbox.as_ref()));
        let mut command = Command {
            program: self.shared.program(&spec.program),
            args: spec.args.iter().map(|arg| fill(arg, value).into()).collect(),
            cwd: worktree.clone(),
            env,
            stdin: Stdin::Null,
            stdout: output.join(format!("{task}.{attempt}.out")),
            stderr: output.join(format!("{task}.{attempt}.err")),
            limits: terms::limits(spec, wall),
            sandbox,
            marker: self.state.started.run.to_string(),
        };
        let mut ended = AgentEnded {
            agent: agent.clone(),
            task: task.clone(),
            attempt,
            outcome: AgentOutcome::Cancelled,
            wall: Millis(0),
            cpu: Millis(0),
            memory_peak: ByteCount(0),
            paused: Millis(0),
            containment: Vec::new(),
            stdout: None,
            stderr: None,
            last_words: String::new(),
            used: Amount::default(),
            verdict: None,
        };
        let (mut follower, mut over) = (None, None);
        let spawned = match (&equipment, refusal) {
            (Err(reason), _) => Err(reason.clone()),
            (Ok(_), Some(reason)) => Err(reason),
            (Ok(_), None) => self.begin(held, spec, &temporary, desk.folders(), &mut command, &mut refusals),
        };
        let waited = match spawned {
            Ok(running) => {
                let pid = running.pid();
                self.leash.hold(running.control());
                self.tell(Record::AgentStarted { agent: agent.clone(), task: task.clone(), attempt, pid });
                let follower = follower.insert(Follower::new(&command.stdout, spec.usage));
                let (mut running, mut told, mut tell_from) = (running, Amount::default(), Instant::now());
                let ended = loop {
                    let heard = |note| match note {
                        Note::Idle { silent } => self.tell(Record::AgentIdle {
                            agent: agent.clone(),
                            task: task.clone(),
                            attempt,
                            silent,
                        }),
                    };
                    running = match running.wait_for(LOOK, heard) {
                        Ok(ended) => break ended,
                        Err(running) => running,
                    };
                    desk.look(self, &secrets);
                    if let Some(refusals) = &refusals {
                        self.tell_refused(agent, task, attempt, refusals.take_new(), &secrets);
                    }
                    let used = follower.used();
                    if over.is_none() {
                        over = exceeded(used, set_aside);
                        if over.is_some() {
                            running.control().cancel();
                        }
                    }
                    if used != told && tell_from <= Instant::now() {
                        (told, tell_from) = (used, Instant::now() + TELL);
                        self.tell(Record::UsageReported { task: task.clone(), used });
                    }
                };
                ended.map_err(|error| error.to_string())
            }
            Err(reason) => Err(reason),
        };
        let newest = desk.newest();
        if let Some(refusals) = &refusals {
            self.tell_refused(agent, task, attempt, refusals.take_all(), &secrets);
        }
        drop(equipment);
        if task_spec.review.is_some() {
            ended.verdict = verdict::read(&verdict_file);
        }
        // What cannot be removed now is swept when the run ends.
        let _ = git::remove_folder(&temporary);
        match waited {
            Ok(end) => {
                ended.outcome = outcome(&end.outcome);
                ended.wall = end.usage.wall;
                ended.cpu = end.usage.cpu;
                ended.memory_peak = end.usage.memory_peak;
                ended.paused = end.usage.paused;
                ended.containment = end.containment;
            }
            Err(_) if stopped => {}
            Err(reason) => ended.outcome = AgentOutcome::NotStarted { reason },
        }
        if let (Some(unit), AgentOutcome::Cancelled) = (over, &ended.outcome) {
            ended.outcome = AgentOutcome::BudgetSpent { unit };
        }
        let said = follower.as_mut().map(Follower::used).unwrap_or_default();
        ended.used = Amount { launches: 1, agent_time_ms: ended.wall.0, ..said };
        if ended.outcome == AgentOutcome::Cancelled && self.leash.pulled() != Some(Pull::Stopped) {
            // The node is stopping: the launch is found unfinished, and repeated, when the run is resumed.
            return Ok(Vec::new());
        }
        ended.last_words = last_words(&[&command.stderr, &command.stdout], &secrets);
        ended.stdout = self.keep_output(&command.stdout, &secrets)?;
        ended.stderr = self.keep_output(&command.stderr, &secrets)?;
        let mut records = desk.close(self, &ended, newest, &secrets)?;
        records.extend(self.checkpoint(&ended, base)?);
        records.push(Record::AgentEnded(Box::new(ended)));
        Ok(records)
    }

    /// Lets an agent that was started ahead become the command, or starts one: where there is none, and where it failed
    /// for reasons of its own.
    fn begin(
        &self,
        held: Option<Held>,
        spec: &AgentSpec,
        temporary: &Path,
        folders: &Folders,
        command: &mut Command,
        refusals: &mut Option<Refusals>,
    ) -> Result<Running, String> {
        if let Some(held) = held {
            match held.claim(Claim::from(&*command)) {
                Ok(running) => return Ok(running),
                Err(ClaimError::Spawn(error)) => return Err(error.to_string()),
                Err(_) => {
                    let kit = &self.state.started.spec.worktree;
                    let (worktree, env) = (&command.cwd, &mut command.env);
                    let sandbox = terms::sandbox(&self.shared, kit, spec, worktree, temporary, folders, env);
                    command.sandbox = sandbox.map_err(|error| error.to_string())?;
                    *refusals = terms::refusals(command.sandbox.as_ref());
                }
            }
        }
        quorate_agents::spawn(command, &self.shared.containment).map_err(|error| error.to_string())
    }

    /// Reads what an agent left in its worktree as a change.
    pub(super) fn harvest(
        &self,
        task: &TaskId,
        agent: &AgentId,
        attempt: u32,
        base: &GitOid,
    ) -> Result<Vec<Record>, Error> {
        let (spec, _) = self.specs(task, agent)?;
        let repository = &self.shared.repository;
        let worktree = self.shared.run.worktree(agent, task, attempt);
        if !worktree.is_dir() {
            // What it used was written down when it ended.
            let used = Amount::default();
            return Ok(vec![Record::AgentLost { agent: agent.clone(), task: task.clone(), attempt, used }]);
        }
        let base_tree = repository.tree_of(base)?;
        let tree = match repository.snapshot(&worktree) {
            Ok(tree) => tree,
            Err(error @ (git::Error::EmbeddedRepository { .. } | git::Error::Unstageable { .. })) => {
                let outcome = TaskOutcome::Failed { reason: error.to_string() };
                return Ok(vec![Record::TaskClosed { task: task.clone(), outcome }]);
            }
            Err(error) => return Err(error.into()),
        };
        if tree == base_tree {
            return Ok(vec![Record::TaskClosed { task: task.clone(), outcome: TaskOutcome::NoChange }]);
        }
        let paths = repository.changed_paths(&base_tree, &tree)?.len();
        let subject: String = spec.objective.lines().next().unwrap_or_default().chars().take(100).collect();
        let message = format!(
            "{subject}\n\nQuorate-Run: {}\nQuorate-Task: {task}\nQuorate-Agent: {agent}\n",
            self.state.started.run
        );
        let identity = Identity { name: agent.to_string(), email: format!("{agent}@quorate.invalid") };
        let commit = repository.commit_tree(
            &tree,
            std::slice::from_ref(base),
            &message,
            &identity,
            self.state.started_at,
        )?;
        let change = ChangeId::new(task.as_str()).map_err(|error| Error::Invariant(error.to_string()))?;
        Ok(vec![Record::ChangeProposed(ChangeProposed {
            change,
            task: Some(task.clone()),
            agent: Some(agent.clone()),
            base: base.clone(),
            commit,
            tree,
            paths: u32::try_from(paths).unwrap_or(u32::MAX),
            subject,
        })])
    }

    fn specs(&self, task: &TaskId, agent: &AgentId) -> Result<(&TaskSpec, &AgentSpec), Error> {
        let missing = || Error::Invariant(format!("the run has no task {task}, or no agent {agent}"));
        let spec = self.state.task_spec(task).ok_or_else(missing)?;
        let (_, agent) = self.state.started.spec.declaration(agent).ok_or_else(missing)?;
        Ok((spec, agent))
    }

    /// What an agent finds in its environment.
    fn environment(
        &self,
        spec: &AgentSpec,
        task: &TaskSpec,
        agent: &AgentId,
        attempt: u32,
    ) -> Result<Environment, Error> {
        let (mut env, secrets) = terms::passed(&self.shared, spec)?;
        let own = [
            ("QUORATE_RUN", self.state.started.run.to_string()),
            ("QUORATE_TASK", task.id.to_string()),
            ("QUORATE_AGENT", agent.to_string()),
            ("QUORATE_ROLE", spec.role.name().to_owned()),
            ("QUORATE_ATTEMPT", attempt.to_string()),
        ];
        env.extend(own.map(|(name, value)| (name.into(), value.into())));
        let grants: Vec<_> = self.state.leases.held_by(&task.id).collect();
        if let Ok(leases) = serde_json::to_string(&grants) {
            env.insert("QUORATE_LEASES".into(), leases.into());
        }
        Ok((env, secrets))
    }

    /// Moves an output to the content store, secrets blotted out; nothing is kept of an empty one.
    pub(super) fn keep_output(&self, path: &Path, secrets: &[Vec<u8>]) -> Result<Option<Digest>, Error> {
        let at = |source| Error::Io { what: format!("cannot keep the output {}", path.display()), source };
        let mut file = match fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(at)?,
        };
        let mut digest = None;
        if file.metadata().map_err(at)?.len() > 0 {
            let mut writer = self.shared.store.writer()?;
            quorate_agents::redact_copy(&mut file, &mut writer, secrets).map_err(at)?;
            digest = Some(writer.keep()?);
        }
        fs::remove_file(path).map_err(at)?;
        Ok(digest)
    }
}

fn outcome(outcome: &Outcome) -> AgentOutcome {
    match outcome {
        Outcome::Exited { code } => AgentOutcome::Exited { code: *code },
        Outcome::Signaled { signal } => AgentOutcome::Signaled { signal: *signal },
        Outcome::WallLimit => AgentOutcome::WallLimit,
        Outcome::MemoryLimit => AgentOutcome::MemoryLimit,
        Outcome::CpuLimit => AgentOutcome::CpuLimit,
        Outcome::OutputLimit => AgentOutcome::OutputLimit,
        Outcome::ProcessLimit => AgentOutcome::ProcessLimit,
        Outcome::DiskLimit => AgentOutcome::DiskLimit,
        Outcome::Idle => AgentOutcome::Idle,
        Outcome::MemoryPressure => AgentOutcome::MemoryPressure,
        Outcome::Cancelled => AgentOutcome::Cancelled,
    }
}

/// The last line with something on it in the first of the files that has one.
pub(super) fn last_words(files: &[&Path], secrets: &[Vec<u8>]) -> String {
    for file in files {
        let Ok((_, tail)) = quorate_agents::ends(file, LAST_WORDS_FROM) else { continue };
        let mut clean = Vec::new();
        if quorate_agents::redact_copy(&mut tail.as_slice(), &mut clean, secrets).is_err() {
            continue;
        }
        let text = String::from_utf8_lossy(&clean);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        if let Some(line) = line {
            return line.chars().filter(|c| !c.is_control()).take(LAST_WORDS_MAX).collect();
        }
    }
    String::new()
}
