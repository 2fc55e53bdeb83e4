//! What a run is asked to do: the resolved form of a swarm file, as the journal keeps it.
//!
//! [`mod@file`] reads the TOML a person writes and answers mistakes with the line they stand on; the types here are
//! what remains when everything has been checked and defaulted.

pub mod file;
pub(crate) mod hosts;
pub mod presets;
mod raw_budget;
pub mod restart;
mod sandbox;
pub mod scale;
pub mod task;
pub mod template;

pub use hosts::Error as HostsError;
pub use restart::{Restart, Strategy};
pub use sandbox::SandboxSpec;

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::{AgentId, ByteCount, Millis, ValidatorId};
use quorate_consensus::quorum::Quorum;
use quorate_pipeline::spec::CheckSpec;
use serde::{Deserialize, Serialize};

use crate::budget::{Budget, RunBudget, Source};
use crate::kit::spec::WorktreeSpec;
use crate::pressure::Bound;
use crate::topology::Topology;

pub use self::scale::Scale;
pub use self::task::{Dependency, Placement, Priority, Retry, Schedule, TaskSpec, When};

/// Everything a run needs to know, with no default left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    pub objective: String,
    pub agents_at_once: u32,
    /// Wall time of the whole run; when it is over, agents are ended and the run stops with the limit's exit code.
    pub wall: Millis,
    /// Which of the tasks that could start does.
    #[serde(default)]
    pub schedule: Schedule,
    #[serde(default)]
    pub topology: Topology,
    /// To which of the agents that could do a task it goes first.
    #[serde(default)]
    pub placement: Placement,
    /// Agents without work take over what waits for others.
    #[serde(default = "yes")]
    pub steal: bool,
    #[serde(default)]
    pub budget: RunBudget,
    pub agents: BTreeMap<String, AgentSpec>,
    pub tasks: Vec<TaskSpec>,
    pub gate: GateSpec,
    pub checks: BTreeMap<String, CheckEntry>,
    /// What agents' worktrees come with.
    #[serde(default)]
    pub worktree: WorktreeSpec,
    #[serde(default)]
    pub node: NodeSpec,
}

/// What the node does for the machine it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Memory available below which no agent is started beside one that works. Too high, and a busy machine does one
    /// thing at a time; too low, and agents are started that have to be paused at once.
    pub memory_warn: Bound,
    /// Memory available below which agents are paused, then stopped. Too high, and agents stand still while there is
    /// memory; too low, and the kernel ends something first, of its own choice.
    pub memory_critical: Bound,
}

impl Default for NodeSpec {
    fn default() -> Self {
        Self { memory_warn: Bound::Percent(15), memory_critical: Bound::Percent(10) }
    }
}

const fn yes() -> bool {
    true
}

const fn one() -> u64 {
    1
}

/// How an agent is started and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    pub role: Role,
    /// Looked up in `PATH` where it has no slash; otherwise relative to the swarm file's folder.
    pub program: String,
    /// Each is one argument; placeholders in braces are filled in and never pass a shell.
    pub args: Vec<String>,
    /// Names of environment variables that are passed on.
    pub env: Vec<String>,
    /// Names of environment variables that are passed on and whose values are blotted out of all output.
    pub secrets: Vec<String>,
    /// Of those, the ones without which a run does not begin; those of a preset are alternatives.
    #[serde(default)]
    pub secrets_required: Vec<String>,
    /// Instances that may work at the same time.
    pub count: u32,
    /// What it can do, for tasks that say what they need.
    #[serde(default)]
    pub can: BTreeSet<String>,
    /// What a launch costs beside those of others, for placement by cost.
    #[serde(default = "one")]
    pub cost: u64,
    /// The declaration that it reports to in a hierarchy.
    #[serde(default)]
    pub reports_to: Option<String>,
    /// How many of the instances take part, by what there is to do; all where there is none.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Launches before its task is given up.
    pub attempts: u32,
    /// Agents that are started before there is a task for them.
    #[serde(default)]
    pub fleet: u32,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub restart: Restart,
    /// For all launches of this declaration together.
    #[serde(default)]
    pub budget: Budget,
    /// For each launch: when it is used up, the agent is ended.
    #[serde(default)]
    pub launch_budget: Budget,
    /// How it tells what it uses.
    #[serde(default)]
    pub usage: Source,
    pub limits: AgentLimits,
    /// What it may reach; everything the node may where there is none, as in runs from before there were sandboxes.
    #[serde(default)]
    pub sandbox: Option<SandboxSpec>,
}

/// Bounds on one launch of an agent, over its whole process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLimits {
    pub wall: Millis,
    pub memory: ByteCount,
    pub cpu: Millis,
    pub output: ByteCount,
    /// Processes and threads together.
    #[serde(default = "presets::processes_default")]
    pub processes: u32,
    /// For each process.
    #[serde(default = "presets::open_files_default")]
    pub open_files: u64,
    /// Thousandths of a processor at a time; unbounded where absent.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Growth of its worktree.
    #[serde(default = "presets::disk_default")]
    pub disk: ByteCount,
    /// Longest time without progress; for ever where absent.
    #[serde(default)]
    pub idle: Option<Millis>,
}

/// Which panel a change must convince.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateSpec {
    pub validators: Vec<ValidatorId>,
    /// Validators that may be absent or lie.
    pub faults: u32,
    /// Votes that decide.
    pub agree: u32,
    /// Panels that sit at the same time; the later ones judge on top of the earlier candidates.
    pub at_once: u32,
    /// Time one validator has for one step.
    pub timeout: Millis,
    /// Memory one validator's process tree may use.
    pub memory: ByteCount,
    /// Names of environment variables that checks see.
    pub env: Vec<String>,
    /// What the commands of checks may reach beside the files they judge; everything the node may where there is none.
    #[serde(default)]
    pub sandbox: Option<SandboxSpec>,
}

impl GateSpec {
    /// The quorum; [`mod@file`] has made sure that it is possible.
    pub fn quorum(&self) -> Result<Quorum, quorate_consensus::quorum::ImpossibleQuorum> {
        let n = u32::try_from(self.validators.len()).unwrap_or(u32::MAX);
        Quorum::new(n, self.faults, Some(self.agree))
    }
}

/// A check and the validator that specialises in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckEntry {
    pub validator: ValidatorId,
    pub spec: CheckSpec,
}

impl RunSpec {
    /// The checks a validator runs: its own, and those of the `faults` validators before it in ring order, so that
    /// each check is run by `faults + 1` validators.
    pub fn assignment(&self, validator: &ValidatorId) -> Vec<String> {
        let panel = &self.gate.validators;
        let n = panel.len();
        let Some(me) = panel.iter().position(|v| v == validator) else { return Vec::new() };
        let mine = |owner: &ValidatorId| {
            let Some(at) = panel.iter().position(|v| v == owner) else { return false };
            (me + n - at) % n <= self.gate.faults as usize
        };
        self.checks.iter().filter(|(_, check)| mine(&check.validator)).map(|(name, _)| name.clone()).collect()
    }

    /// The declaration of an agent.
    pub fn declaration(&self, agent: &AgentId) -> Option<(&str, &AgentSpec)> {
        let of = |name: &str, spec: &AgentSpec| match agent.as_str().strip_prefix(name) {
            Some("") => spec.count == 1,
            Some(rest) => {
                let number = rest.strip_prefix('-').and_then(|number| number.parse::<u32>().ok());
                spec.count > 1 && number.is_some_and(|number| (1..=spec.count).contains(&number))
            }
            None => false,
        };
        self.agents.iter().find(|(name, spec)| of(name, spec)).map(|(name, spec)| (name.as_str(), spec))
    }

    /// The declarations whose agents can do a task.
    pub fn able<'a>(&'a self, task: &'a TaskSpec) -> impl Iterator<Item = (&'a str, &'a AgentSpec)> {
        let able = |(name, agent): &(&String, &AgentSpec)| match task.needs.is_empty() {
            true => **name == task.agent,
            false => task.needs.is_subset(&agent.can),
        };
        self.agents.iter().filter(move |entry| able(entry)).map(|(name, agent)| (name.as_str(), agent))
    }

    /// Names of the agents a declaration gives: the bare name, or numbered ones.
    pub fn instances(&self, agent: &str) -> Vec<AgentId> {
        let count = self.agents.get(agent).map_or(0, |spec| spec.count);
        let name = |n: u32| if count == 1 { agent.to_owned() } else { format!("{agent}-{n}") };
        (1..=count).filter_map(|n| AgentId::new(name(n)).ok()).collect()
    }
}

/// What an agent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Coordinator,
    Researcher,
    Coder,
    Analyst,
    Architect,
    Tester,
    Reviewer,
    Optimizer,
    Documenter,
    Monitor,
    Specialist,
}

impl Role {
    pub const ALL: [(&'static str, Self); 11] = [
        ("coordinator", Self::Coordinator),
        ("researcher", Self::Researcher),
        ("coder", Self::Coder),
        ("analyst", Self::Analyst),
        ("architect", Self::Architect),
        ("tester", Self::Tester),
        ("reviewer", Self::Reviewer),
        ("optimizer", Self::Optimizer),
        ("documenter", Self::Documenter),
        ("monitor", Self::Monitor),
        ("specialist", Self::Specialist),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, role)| *role == self).map_or("coder", |(name, _)| name)
    }
}

/// Values shorter than this are not blotted out: they would take half of every text with them.
pub(crate) const SECRET_LEN_MIN: usize = 6;

/// Whether a variable's name says that its value is nobody's business.
pub(crate) fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"].iter().any(|word| name.contains(word))
}
