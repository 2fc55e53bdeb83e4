//! On which terms an agent works, whatever its task: limits, sandbox, and what of the node's environment it sees.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use quorate_agents::egress::Refusals;
use quorate_agents::{Limits, Network, Sandbox};
use quorate_base::Millis;

use super::Shared;
use crate::enclose::{self, Enclosing};
use crate::kit::spec::WorktreeSpec;
use crate::secrets::{self, Secrets};
use crate::spec::{AgentSpec, SECRET_LEN_MIN, sounds_secret};

/// Time between asking an agent to end and ending it.
const GRACE: Millis = Millis(700);

/// The bounds of one launch that may take so long.
pub(super) fn limits(agent: &AgentSpec, wall: Millis) -> Limits {
    Limits {
        wall,
        memory: agent.limits.memory,
        cpu: agent.limits.cpu,
        output: agent.limits.output,
        processes: agent.limits.processes,
        open_files: agent.limits.open_files,
        cpus: agent.limits.cpus,
        disk: Some(agent.limits.disk),
        idle: agent.limits.idle,
        grace: GRACE,
    }
}

/// A complete environment, and the values in it that nobody may read later, in every form they may take.
pub(super) type Environment = (BTreeMap<OsString, OsString>, Vec<Vec<u8>>);

/// What an agent sees of the node's environment, and the secrets it declares.
pub(super) fn passed(shared: &Shared, agent: &AgentSpec) -> Result<Environment, secrets::Error> {
    let kept = Secrets::read(&shared.workspace)?;
    let mut env = BTreeMap::new();
    let mut secrets = Vec::new();
    for name in agent.env.iter().chain(&agent.secrets) {
        let declared = agent.secrets.contains(name);
        let value = if declared { kept.value(name) } else { std::env::var_os(name) };
        let Some(value) = value else { continue };
        let bytes = value.as_encoded_bytes();
        if (declared || sounds_secret(name)) && bytes.len() >= SECRET_LEN_MIN {
            secrets.extend(secrets::forms(bytes));
        }
        env.insert(OsString::from(name), value);
    }
    Ok((env, secrets))
}

/// Where the proxy of a sandbox tells what it refused; nothing where it has none.
pub(super) fn refusals(sandbox: Option<&Sandbox>) -> Option<Refusals> {
    let listed = sandbox.filter(|sandbox| sandbox.network == Network::Listed);
    listed.map(|sandbox| sandbox.egress.refusals.clone())
}

/// The sandbox of a launch, where its declaration has one; its temporary folder is made, and told in `env`.
pub(super) fn sandbox(
    shared: &Shared,
    kit: &WorktreeSpec,
    agent: &AgentSpec,
    worktree: &Path,
    temporary: &Path,
    env: &mut BTreeMap<OsString, OsString>,
) -> Result<Option<Sandbox>, enclose::Error> {
    let Some(sandbox) = &agent.sandbox else { return Ok(None) };
    enclose::tell(env, &agent.env, temporary);
    enclose::make_temporary(temporary)?;
    // What agents share of downloads lies in the store, of which they see nothing else.
    let caches = (!kit.caches.is_empty()).then(|| shared.workspace.store_dir().join("caches"));
    let own: Vec<&Path> = caches.as_deref().into_iter().collect();
    let enclosing = Enclosing {
        spec: sandbox,
        store: &shared.workspace.store_dir(),
        folder: &shared.swarm_dir,
        repository: &shared.repository,
        worktree,
        temporary,
        own: &own,
        env,
    };
    enclosing.sandbox().map(Some)
}

impl Shared {
    /// The program of a declaration.
    pub(super) fn program(&self, program: &str) -> PathBuf {
        if program.contains('/') { self.swarm_dir.join(program) } else { PathBuf::from(program) }
    }
}
