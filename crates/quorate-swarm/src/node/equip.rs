//! Giving a launch what its worktree comes with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use quorate_base::{AgentId, TaskId};

use super::start::read_path;
use super::{Error, Job, Shared};
use crate::kit::ports::{Block, Ports};
use crate::kit::spec::WorktreeSpec;
use crate::kit::{self, caches, include};
use crate::record::Record;

/// How often a launch that waits for ports looks again.
const LOOK: Duration = Duration::from_millis(200);

/// What came of equipping a launch.
#[derive(Debug)]
pub(super) enum Equipped {
    With(Equipment),
    /// This agent cannot be given what its worktree should have, and why.
    Impossible(String),
    /// The node is stopping.
    Stopping,
}

/// What an agent has while it works.
#[derive(Debug)]
pub(super) struct Equipment {
    pub(super) env: Vec<(OsString, OsString)>,
    _ports: Option<Block>,
}

impl Job {
    /// Copies files in, makes caches, and takes ports, for which it may have to wait.
    pub(super) fn equip(&self, agent: &AgentId, task: &TaskId, worktree: &Path) -> Result<Equipped, Error> {
        match self.try_equip(agent, task, worktree) {
            Ok(Some(equipment)) => Ok(Equipped::With(equipment)),
            Ok(None) => Ok(Equipped::Stopping),
            Err(error) if error.is_disk() => {
                Err(Error::Io { what: error.to_string(), source: std::io::ErrorKind::StorageFull.into() })
            }
            Err(error) => Ok(Equipped::Impossible(error.to_string())),
        }
    }

    fn try_equip(
        &self,
        agent: &AgentId,
        task: &TaskId,
        worktree: &Path,
    ) -> Result<Option<Equipment>, kit::Error> {
        let spec = &self.state.started.spec.worktree;
        furnish(&self.shared, spec, worktree)?;
        let mut ports = None;
        if spec.ports_each > 0 {
            let pool = Ports::of_user();
            let mut told = false;
            loop {
                if self.leash.pulled().is_some() {
                    return Ok(None);
                }
                ports = pool.take(spec.ports, spec.ports_each)?;
                if ports.is_some() {
                    break;
                }
                if !std::mem::replace(&mut told, true) {
                    let reason = format!(
                        "no {} free ports side by side in {}; it starts when an agent of another run gives its own back (`ports` under [worktree] can be a wider range)",
                        spec.ports_each, spec.ports
                    );
                    self.tell(Record::LaunchWaits { agent: agent.clone(), task: task.clone(), reason });
                }
                thread::sleep(LOOK);
            }
        }
        self.equipment(worktree, ports).map(Some)
    }

    /// Equips a launch whose worktree was furnished ahead.
    pub(super) fn told(&self, worktree: &Path, ports: Option<Block>) -> Equipped {
        let equipment = self.equipment(worktree, ports);
        equipment.map_or_else(|error| Equipped::Impossible(error.to_string()), Equipped::With)
    }

    /// What an agent in a furnished worktree is told of what it has.
    fn equipment(&self, worktree: &Path, ports: Option<Block>) -> Result<Equipment, kit::Error> {
        let root = self.shared.workspace.store_dir().join("caches");
        let caches = &self.state.started.spec.worktree.caches;
        let mut env = caches::environment(caches, &root, worktree, cargo_home().as_deref())?;
        if let Some(block) = &ports {
            env.extend(block.environment().map(|(name, value)| (name.into(), value.into())));
        }
        Ok(Equipment { env, _ports: ports })
    }
}

/// Copies into a worktree what it comes with.
pub(super) fn furnish(shared: &Shared, spec: &WorktreeSpec, worktree: &Path) -> Result<(), kit::Error> {
    let repository = &shared.target;
    // Runs of an older Quorate have not written it down.
    let folder = read_path(&shared.run, "include-from").unwrap_or_else(|_| repository.clone());
    let from = include::From { folder: &folder, repository };
    include::copy(from, &spec.include, spec.include_max, &shared.repository, worktree).map(drop)
}

/// Where the person's own cargo has its settings.
fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}
