//! The swarm file: TOML as a person writes it, checked so that a mistake is answered with its line and what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use quorate_agents::{Network, SandboxLayer, egress};
use quorate_base::{ByteCount, Millis, TaskId, ValidatorId};
use quorate_consensus::quorum::Quorum;
use quorate_pipeline::spec::CheckSpec;
use serde::Deserialize;
use toml::Spanned;

use super::hosts;
use super::presets::{self, ENV_DEFAULT, LIMITS_DEFAULT};
use super::raw_budget::{RawBudget, RawRunBudget, unknown};
use super::{
    AgentLimits, AgentSpec, CheckEntry, Dependency, GateSpec, NodeSpec, Placement, Priority, Restart, Retry,
    Role, RunSpec, SandboxSpec, Scale, Schedule, Strategy, TaskSpec, When,
};
use crate::budget::{Budget, RunBudget, Source, Unit};
use crate::kit::{
    self,
    spec::{RawWorktree, WorktreeSpec},
};
use crate::lease::{InvalidLease, Wanted};
use crate::pressure::Bound;
use crate::topology::{Shape, Topology};

/// The largest swarm file read.
pub const FILE_BYTES_MAX: usize = 32 << 20;
/// The most tasks in one run.
pub const TASKS_MAX: usize = 100_000;
/// The most leases of one task.
pub const LEASES_MAX: usize = 100;
/// The most instances of one agent declaration.
pub const INSTANCES_MAX: u32 = 1_000;
/// The most failures that `restart.max` can allow.
const FAILURES_MAX: u32 = 10_000;
/// The most validators on a panel.
pub const VALIDATORS_MAX: usize = 150;

/// What an agent's limits may be. A shell with a program is three processes; the kernel takes no share below a hundredth
/// of a processor; shorter than a second, every agent is idle while its program is loaded.
pub const PROCESSES_RANGE: RangeInclusive<u32> = 4..=1_000_000;
pub const OPEN_FILES_RANGE: RangeInclusive<u32> = 16..=1_048_576;
pub const CPUS_RANGE: RangeInclusive<f64> = 0.01..=1024.0;
pub const DISK_MIN: ByteCount = ByteCount::mib(1);
pub const IDLE_MIN: Millis = Millis::from_secs(1);

/// Placeholders that arguments may hold.
pub const PLACEHOLDERS: [&str; 7] =
    ["objective", "task", "agent", "role", "attempt", "worktree", "swarm-dir"];

/// The checks and validators of a run when a file names none.
pub const PANEL_DEFAULT: [&str; 5] = ["tests", "integration", "security", "architecture", "performance"];

/// A swarm file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{origin} holds {bytes} bytes; a swarm file may hold {FILE_BYTES_MAX}")]
    TooLarge { origin: String, bytes: usize },
    #[error("{origin}: {message}")]
    Toml { origin: String, message: String },
    #[error("{origin}:{line}: {message}\n  |\n  | {text}\n  |\n  = {hint}")]
    Invalid { origin: String, line: usize, text: String, message: String, hint: String },
}

/// A file that was read: what to do, and on which repository.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmFile {
    pub spec: RunSpec,
    /// A folder beside the file of which a fresh repository is made for each run.
    pub copy: Option<String>,
    /// Revision the run starts from; the current one where absent.
    pub base: Option<String>,
    /// Branch that receives what lands; `quorate/RUN` where absent.
    pub branch: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFile {
    objective: Option<Spanned<String>>,
    #[serde(default)]
    repository: RawRepository,
    #[serde(default)]
    swarm: RawSwarm,
    budget: Option<Spanned<RawRunBudget>>,
    #[serde(default)]
    agents: BTreeMap<Spanned<String>, RawAgent>,
    #[serde(default)]
    tasks: Vec<RawTask>,
    #[serde(default)]
    gate: RawGate,
    #[serde(default)]
    worktree: RawWorktree,
    #[serde(default)]
    node: RawNode,
    checks: Option<BTreeMap<Spanned<String>, RawCheck>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRepository {
    copy: Option<Spanned<String>>,
    base: Option<String>,
    branch: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSwarm {
    agents_at_once: Option<Spanned<u32>>,
    wall: Option<Millis>,
    schedule: Option<Schedule>,
    topology: Option<Spanned<Topology>>,
    #[serde(default)]
    placement: Placement,
    steal: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawNode {
    memory_warn: Option<Spanned<Bound>>,
    memory_critical: Option<Spanned<Bound>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawAgent {
    preset: Option<Spanned<String>>,
    role: Option<Role>,
    program: Option<Spanned<String>>,
    args: Option<Vec<Spanned<String>>>,
    env: Option<Vec<String>>,
    secrets: Option<Vec<String>>,
    count: Option<Spanned<u32>>,
    #[serde(default)]
    can: BTreeSet<String>,
    cost: Option<u64>,
    reports_to: Option<String>,
    scale: Option<Spanned<RawScale>>,
    attempts: Option<Spanned<u32>>,
    fleet: Option<Spanned<u32>>,
    #[serde(default)]
    retry: RawRetry,
    #[serde(default)]
    restart: RawRestart,
    budget: Option<Spanned<RawBudget>>,
    launch_budget: Option<Spanned<RawBudget>>,
    usage: Option<Source>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    sandbox: RawSandbox,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSandbox {
    enabled: Option<Spanned<bool>>,
    read: Option<Vec<Spanned<String>>>,
    write: Option<Vec<Spanned<String>>>,
    network: Option<Spanned<String>>,
    hosts: Option<Spanned<Vec<Spanned<String>>>>,
    require: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLimits {
    wall: Option<Millis>,
    memory: Option<ByteCount>,
    cpu: Option<Millis>,
    output: Option<ByteCount>,
    processes: Option<Spanned<u32>>,
    open_files: Option<Spanned<u32>>,
    cpus: Option<Spanned<f64>>,
    disk: Option<Spanned<ByteCount>>,
    idle: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRetry {
    backoff: Option<Millis>,
    backoff_max: Option<Millis>,
}

impl RawRetry {
    fn resolve(&self) -> Retry {
        let usual = Retry::default();
        let (backoff, most) =
            (self.backoff.unwrap_or(usual.backoff), self.backoff_max.unwrap_or(usual.backoff_max));
        Retry { backoff, backoff_max: most.max(backoff) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawScale {
    min: Option<u32>,
    up_at: Option<u32>,
    idle: Option<Millis>,
    cool_down: Option<Millis>,
}

impl RawScale {
    /// On top of the defaults; nothing where more would take part from the start than there are.
    fn resolve(&self, count: u32) -> Option<Scale> {
        let usual = Scale::default();
        let min = self.min.unwrap_or(usual.min);
        (1..=count).contains(&min).then(|| Scale {
            min,
            up_at: self.up_at.unwrap_or(usual.up_at),
            idle: self.idle.unwrap_or(usual.idle),
            cool_down: self.cool_down.unwrap_or(usual.cool_down),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRestart {
    strategy: Option<Strategy>,
    max: Option<u32>,
    within: Option<Millis>,
}

impl RawRestart {
    fn resolve(&self) -> Restart {
        let usual = Restart::default();
        Restart {
            strategy: self.strategy.unwrap_or(usual.strategy),
            max: self.max.unwrap_or(usual.max).min(FAILURES_MAX),
            within: self.within.unwrap_or(usual.within),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawTask {
    id: Spanned<String>,
    agent: Option<Spanned<String>>,
    needs: Option<Spanned<BTreeSet<String>>>,
    objective: Option<String>,
    #[serde(default)]
    after: Vec<Spanned<RawDependency>>,
    #[serde(default)]
    leases: Vec<Spanned<String>>,
    #[serde(default)]
    priority: Priority,
    deadline: Option<Millis>,
    estimate: Option<Millis>,
    budget: Option<Spanned<RawBudget>>,
}

/// A task's id, or that and what must have happened to it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawDependency {
    Id(String),
    Whole(RawWhole),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWhole {
    task: String,
    #[serde(default)]
    when: When,
}

impl RawDependency {
    fn parts(&self) -> (&str, When) {
        match self {
            Self::Id(id) => (id, When::Landed),
            Self::Whole(whole) => (&whole.task, whole.when),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawGate {
    validators: Option<Spanned<Vec<Spanned<String>>>>,
    faults: Option<Spanned<u32>>,
    agree: Option<Spanned<u32>>,
    at_once: Option<Spanned<u32>>,
    timeout: Option<Millis>,
    memory: Option<ByteCount>,
    env: Option<Vec<String>>,
    sandbox: Option<RawSandbox>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCheck {
    validator: Spanned<String>,
    command: Option<Spanned<Vec<String>>>,
    builtin: Option<Spanned<String>>,
    timeout: Option<Millis>,
}

/// Reads a swarm file. `origin` names it in messages; `detected` are the checks used where the file names none.
pub fn parse(origin: &str, text: &str, detected: &BTreeMap<String, CheckEntry>) -> Result<SwarmFile, Error> {
    let raw = deserialize(origin, text)?;
    let at = Place { origin, text };
    let gate = at.gate(&raw.gate)?;
    let checks = match &raw.checks {
        Some(checks) => at.checks(checks, &gate)?,
        None => detected.clone(),
    };
    let agents = at.agents(&raw.agents)?;
    let objective = match &raw.objective {
        Some(objective) if !objective.get_ref().trim().is_empty() => objective.get_ref().clone(),
        Some(objective) => {
            return Err(at.invalid(
                objective.span(),
                "the objective is empty".into(),
                "say in a sentence what the swarm is for",
            ));
        }
        None => {
            return Err(at.invalid(
                0..0,
                "there is no `objective`".into(),
                "add `objective = \"…\"` at the top",
            ));
        }
    };
    let tasks = at.tasks(&raw.tasks, &agents, &objective)?;
    let budget = at.budgets(&raw, &agents, &tasks)?;
    let agents_at_once = match &raw.swarm.agents_at_once {
        Some(count) => at.positive(count, "agents-at-once", INSTANCES_MAX)?,
        None => 4,
    };
    if let Some(branch) = &raw.repository.branch
        && (branch.get_ref().is_empty() || branch.get_ref().starts_with('-'))
    {
        return Err(at.invalid(
            branch.span(),
            "this is no branch name".into(),
            "give a name such as `quorate/tidy`",
        ));
    }
    let spec = RunSpec {
        objective,
        agents_at_once,
        wall: raw.swarm.wall.unwrap_or(Millis::from_secs(4 * 3600)),
        schedule: raw.swarm.schedule.unwrap_or_default(),
        topology: raw.swarm.topology.as_ref().map(|topology| *topology.get_ref()).unwrap_or_default(),
        placement: raw.swarm.placement,
        steal: raw.swarm.steal.unwrap_or(true),
        budget,
        agents,
        tasks,
        gate,
        checks,
        worktree: at.worktree(&raw.worktree)?,
        node: at.node(&raw.node)?,
    };
    if let Some(topology) = &raw.swarm.topology {
        let hint = "mesh puts any agents together; docs/swarm-file.md says what the others need";
        Shape::new(spec.topology, &spec)
            .map_err(|error| at.invalid(topology.span(), error.to_string(), hint))?;
    }
    Ok(SwarmFile {
        spec,
        copy: raw.repository.copy.map(Spanned::into_inner),
        base: raw.repository.base,
        branch: raw.repository.branch.map(Spanned::into_inner),
    })
}

/// Reads only the gate and the checks: what `quorate certify` takes from a project's `quorate.toml`.
pub fn parse_gate(
    origin: &str,
    text: &str,
    detected: &BTreeMap<String, CheckEntry>,
) -> Result<(GateSpec, BTreeMap<String, CheckEntry>), Error> {
    let raw = deserialize(origin, text)?;
    let at = Place { origin, text };
    let gate = at.gate(&raw.gate)?;
    let checks = match &raw.checks {
        Some(checks) => at.checks(checks, &gate)?,
        None => detected.clone(),
    };
    Ok((gate, checks))
}

/// Reads only the agent declarations: what `quorate run --agent NAME` takes from a project's `quorate.toml`.
pub fn parse_agents(origin: &str, text: &str) -> Result<BTreeMap<String, AgentSpec>, Error> {
    let raw = deserialize(origin, text)?;
    Place { origin, text }.agents(&raw.agents)
}

/// Reads only what worktrees come with, for the same.
pub fn parse_worktree(origin: &str, text: &str) -> Result<WorktreeSpec, Error> {
    let raw = deserialize(origin, text)?;
    Place { origin, text }.worktree(&raw.worktree)
}

/// Reads only the budgets of a run, for the same; refused where the agent does not tell what they bound.
pub fn parse_budget(origin: &str, text: &str, agent: &str, spec: &AgentSpec) -> Result<RunBudget, Error> {
    let mut raw = deserialize(origin, text)?;
    let at = Place { origin, text };
    raw.agents.retain(|name, _| name.get_ref() == agent);
    if raw.agents.is_empty() {
        // A preset that the file does not name.
        let all = at.budgets(&raw, &BTreeMap::new(), &[])?;
        let own = raw.budget.as_ref();
        let lenient = own.is_some_and(|own| own.get_ref().allows_unknown());
        return match unknown(spec, &[all.run, all.day]).filter(|_| !lenient) {
            Some(unit) => Err(at.untold(own.map_or(0..0, Spanned::span), agent, unit)),
            None => Ok(all),
        };
    }
    at.budgets(&raw, &BTreeMap::from([(agent.to_owned(), spec.clone())]), &[])
}

/// The gate of a run without a file: five validators, one of which may be faulty.
pub fn gate_default() -> GateSpec {
    GateSpec {
        validators: PANEL_DEFAULT.iter().filter_map(|name| ValidatorId::new(*name).ok()).collect(),
        faults: 1,
        agree: 4,
        at_once: 2,
        timeout: Millis::from_secs(30 * 60),
        memory: ByteCount::mib(4096),
        env: ENV_DEFAULT.iter().map(|name| (*name).to_owned()).collect(),
        sandbox: None,
    }
}

fn deserialize(origin: &str, text: &str) -> Result<RawFile, Error> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Error::TooLarge { origin: origin.to_owned(), bytes: text.len() });
    }
    toml::from_str(text).map_err(|error| Error::Toml {
        origin: origin.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// Where messages point.
#[derive(Clone, Copy)]
struct Place<'a> {
    origin: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn invalid(&self, span: Range<usize>, message: String, hint: &str) -> Error {
        let start = span.start.min(self.text.len());
        let line = self.text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        let text = self.text.lines().nth(line - 1).unwrap_or("").chars().take(160).collect();
        Error::Invalid { origin: self.origin.to_owned(), line, text, message, hint: hint.to_owned() }
    }

    fn positive(&self, value: &Spanned<u32>, name: &str, max: u32) -> Result<u32, Error> {
        let number = *value.get_ref();
        if (1..=max).contains(&number) {
            return Ok(number);
        }
        Err(self.invalid(value.span(), format!("`{name}` is {number}"), &format!("allowed is 1 to {max}")))
    }

    fn validator(&self, name: &Spanned<String>) -> Result<ValidatorId, Error> {
        ValidatorId::new(name.get_ref().as_str()).map_err(|error| {
            self.invalid(name.span(), error.to_string(), "for example `tests` or `security`")
        })
    }

    fn worktree(&self, raw: &RawWorktree) -> Result<WorktreeSpec, Error> {
        kit::spec::check(raw).map_err(|(span, message, hint)| self.invalid(span, message, &hint))
    }

    fn gate(&self, raw: &RawGate) -> Result<GateSpec, Error> {
        let mut gate = gate_default();
        let mut span = 0..0;
        if let Some(names) = &raw.validators {
            span = names.span();
            gate.validators =
                names.get_ref().iter().map(|name| self.validator(name)).collect::<Result<_, _>>()?;
            let distinct: BTreeSet<_> = gate.validators.iter().collect();
            if distinct.len() != gate.validators.len() {
                return Err(self.invalid(
                    span,
                    "a validator is named twice".into(),
                    "each validator has one vote: name it once",
                ));
            }
            if gate.validators.is_empty() || gate.validators.len() > VALIDATORS_MAX {
                let message = format!("the panel has {} validators", gate.validators.len());
                return Err(self.invalid(span, message, &format!("allowed is 1 to {VALIDATORS_MAX}")));
            }
        }
        let n = u32::try_from(gate.validators.len()).unwrap_or(u32::MAX);
        if let Some(faults) = &raw.faults {
            span = faults.span();
        }
        gate.faults = raw.faults.as_ref().map_or_else(|| n.saturating_sub(1) / 3, |faults| *faults.get_ref());
        if let Some(agree) = &raw.agree {
            span = agree.span();
        }
        let quorum = Quorum::new(n, gate.faults, raw.agree.as_ref().map(|agree| *agree.get_ref()));
        gate.agree = match quorum {
            Ok(quorum) => quorum.agree(),
            Err(error) => {
                let hint =
                    "leave `agree` out for ⌈(n+faults+1)/2⌉; n validators tolerate at most ⌊(n-1)/3⌋ faults";
                return Err(self.invalid(span, error.to_string(), hint));
            }
        };
        if let Some(at_once) = &raw.at_once {
            gate.at_once = self.positive(at_once, "at-once", 64)?;
        }
        gate.timeout = raw.timeout.unwrap_or(gate.timeout);
        gate.memory = raw.memory.unwrap_or(gate.memory);
        if let Some(env) = &raw.env {
            gate.env.clone_from(env);
        }
        if let Some(sandbox) = &raw.sandbox {
            gate.sandbox = self.sandbox(sandbox, None)?;
            if gate.sandbox.as_ref().is_some_and(|sandbox| sandbox.network == Network::Listed) {
                let span = sandbox.network.as_ref().map_or(0..0, Spanned::span);
                let hint =
                    "a check runs again wherever its evidence is looked at: allowed are off, loopback, open";
                return Err(self.invalid(span, "a check has no list of hosts".into(), hint));
            }
        }
        Ok(gate)
    }

    fn checks(
        &self,
        raw: &BTreeMap<Spanned<String>, RawCheck>,
        gate: &GateSpec,
    ) -> Result<BTreeMap<String, CheckEntry>, Error> {
        let mut checks = BTreeMap::new();
        for (name, check) in raw {
            let validator = self.validator(&check.validator)?;
            if !gate.validators.contains(&validator) {
                let panel: Vec<_> = gate.validators.iter().map(ValidatorId::as_str).collect();
                let hint = format!("the panel is {}", panel.join(", "));
                return Err(self.invalid(
                    check.validator.span(),
                    format!("`{validator}` is not on the panel"),
                    &hint,
                ));
            }
            let spec = self.check(name, check)?;
            // A check's name becomes part of file names and reports: the same alphabet as ids.
            ValidatorId::new(name.get_ref().as_str()).map_err(|_| {
                let hint = "use a-z, 0-9, `-`, `_`, `.`, starting with a letter or digit";
                self.invalid(name.span(), format!("`{}` is not a usable check name", name.get_ref()), hint)
            })?;
            checks.insert(name.get_ref().clone(), CheckEntry { validator, spec });
        }
        if checks.is_empty() {
            return Err(self.invalid(
                0..0,
                "there is no check, so nothing could be refused".into(),
                "name at least one under [checks.NAME]",
            ));
        }
        Ok(checks)
    }

    fn check(&self, name: &Spanned<String>, raw: &RawCheck) -> Result<CheckSpec, Error> {
        match (&raw.command, &raw.builtin) {
            (Some(command), None) => {
                let argv = command.get_ref();
                if argv.first().is_none_or(String::is_empty) || argv.iter().any(|arg| arg.contains('\0')) {
                    let hint = "write the program and each argument as one string: [\"cargo\", \"test\"]";
                    return Err(self.invalid(command.span(), "this is no command".into(), hint));
                }
                let timeout = raw.timeout.unwrap_or(Millis::from_secs(10 * 60));
                Ok(CheckSpec::Command { argv: argv.clone(), timeout })
            }
            (None, Some(builtin)) => {
                let known = quorate_pipeline::builtin::NAMES;
                if !known.contains(&builtin.get_ref().as_str()) {
                    let message = format!("there is no built-in check `{}`", builtin.get_ref());
                    return Err(self.invalid(
                        builtin.span(),
                        message,
                        &format!("built in are {}", known.join(", ")),
                    ));
                }
                Ok(CheckSpec::Builtin { name: builtin.get_ref().clone() })
            }
            _ => Err(self.invalid(
                name.span(),
                format!("check `{}` needs one of `command` and `builtin`", name.get_ref()),
                "for example `command = [\"cargo\", \"test\"]` or `builtin = \"secrets\"`",
            )),
        }
    }

    fn node(&self, raw: &RawNode) -> Result<NodeSpec, Error> {
        let default = NodeSpec::default();
        let or = |given: &Option<Spanned<Bound>>, default| {
            given.as_ref().map_or(default, |bound| *bound.get_ref())
        };
        let node = NodeSpec {
            memory_warn: or(&raw.memory_warn, default.memory_warn),
            memory_critical: or(&raw.memory_critical, default.memory_critical),
        };
        let out_of_order = match (node.memory_warn, node.memory_critical) {
            (Bound::Bytes(warn), Bound::Bytes(critical)) => critical >= warn,
            (Bound::Percent(warn), Bound::Percent(critical)) => critical >= warn,
            // Which is less depends on the machine; the breaker takes the worse level.
            _ => false,
        };
        if out_of_order {
            let span = raw.memory_critical.as_ref().or(raw.memory_warn.as_ref()).map_or(0..0, Spanned::span);
            let message = format!(
                "`memory-critical` is {}, `memory-warn` is {}",
                node.memory_critical, node.memory_warn
            );
            return Err(self.invalid(span, message, "what is critical is less than what warns"));
        }
        Ok(node)
    }

    fn agents(
        &self,
        raw: &BTreeMap<Spanned<String>, RawAgent>,
    ) -> Result<BTreeMap<String, AgentSpec>, Error> {
        raw.iter().map(|(name, agent)| Ok((name.get_ref().clone(), self.agent(name, agent)?))).collect()
    }

    fn agent(&self, name: &Spanned<String>, raw: &RawAgent) -> Result<AgentSpec, Error> {
        // Instances append a number, so a name leaves room for it.
        if quorate_base::AgentId::new(format!("{}-1000", name.get_ref())).is_err() {
            let hint = "use up to 59 of a-z, 0-9, `-`, `_`, `.`, starting with a letter or digit";
            return Err(self.invalid(
                name.span(),
                format!("`{}` is not a usable agent name", name.get_ref()),
                hint,
            ));
        }
        let preset = match &raw.preset {
            None => None,
            Some(wanted) => Some(presets::find(wanted.get_ref()).ok_or_else(|| {
                let known: Vec<_> = presets::PRESETS.iter().map(|preset| preset.name).collect();
                let message = format!("there is no preset `{}`", wanted.get_ref());
                self.invalid(wanted.span(), message, &format!("presets are {}", known.join(", ")))
            })?),
        };
        let base = preset.map(presets::Preset::spec);
        let program = match (&raw.program, &base) {
            (Some(program), _) if program.get_ref().is_empty() || program.get_ref().contains('\0') => {
                return Err(self.invalid(
                    program.span(),
                    "the program has no name".into(),
                    "name a program in PATH or a path",
                ));
            }
            (Some(program), _) => program.get_ref().clone(),
            (None, Some(base)) => base.program.clone(),
            (None, None) => {
                let message = format!("agent `{}` has no `program`", name.get_ref());
                return Err(self.invalid(
                    name.span(),
                    message,
                    "add `program = \"…\"`, or `preset = \"claude\"`",
                ));
            }
        };
        let args = match (&raw.args, &base) {
            (Some(args), _) => args.iter().map(|arg| self.argument(arg)).collect::<Result<_, _>>()?,
            (None, Some(base)) if raw.program.is_none() => {
                let off = raw.sandbox.enabled.as_ref().is_some_and(|enabled| !*enabled.get_ref());
                let alone = preset.and_then(|preset| preset.args_unenclosed).filter(|_| off);
                alone.map_or_else(
                    || base.args.clone(),
                    |args| args.iter().map(|arg| (*arg).to_owned()).collect(),
                )
            }
            (None, _) => Vec::new(),
        };
        let count = raw.count.as_ref().map_or(Ok(1), |count| self.positive(count, "count", INSTANCES_MAX))?;
        let scale = raw.scale.as_ref().map(|scale| {
            scale.get_ref().resolve(count).ok_or_else(|| {
                let message = "more agents would take part from the start than there are, or none".into();
                self.invalid(scale.span(), message, &format!("`min` is 1 to `count`, which is {count}"))
            })
        });
        let default_env = || ENV_DEFAULT.iter().map(|name| (*name).to_owned()).collect();
        let sandbox = self.sandbox(&raw.sandbox, base.as_ref().and_then(|base| base.sandbox.clone()))?;
        self.proxy_variables(name, raw, sandbox.as_ref())?;
        Ok(AgentSpec {
            role: raw.role.unwrap_or(Role::Coder),
            program,
            args,
            env: raw
                .env
                .clone()
                .unwrap_or_else(|| base.as_ref().map_or_else(default_env, |base| base.env.clone())),
            secrets: raw
                .secrets
                .clone()
                .unwrap_or_else(|| base.as_ref().map_or_else(Vec::new, |base| base.secrets.clone())),
            secrets_required: raw.secrets.clone().unwrap_or_default(),
            count,
            can: raw.can.clone(),
            cost: raw.cost.unwrap_or(1),
            reports_to: raw.reports_to.clone(),
            scale: scale.transpose()?,
            attempts: raw.attempts.as_ref().map_or(Ok(1), |count| self.positive(count, "attempts", 100))?,
            fleet: raw.fleet.as_ref().map_or(Ok(0), |fleet| self.fleet(fleet))?,
            retry: raw.retry.resolve(),
            restart: raw.restart.resolve(),
            budget: self.budget(raw.budget.as_ref())?,
            launch_budget: self.budget(raw.launch_budget.as_ref())?,
            // A program of another name may speak another way.
            usage: raw.usage.unwrap_or(match (&base, &raw.program) {
                (Some(base), None) => base.usage,
                _ => Source::None,
            }),
            limits: self.limits(&raw.limits)?,
            sandbox,
        })
    }

    fn limits(&self, raw: &RawLimits) -> Result<AgentLimits, Error> {
        let default = LIMITS_DEFAULT;
        let within = |value: &Option<Spanned<u32>>, name, range: RangeInclusive<u32>| match value {
            None => Ok(None),
            Some(value) if range.contains(value.get_ref()) => Ok(Some(*value.get_ref())),
            Some(value) => {
                let message = format!("`{name}` is {}", value.get_ref());
                let hint = format!("allowed is {} to {}", range.start(), range.end());
                Err(self.invalid(value.span(), message, &hint))
            }
        };
        let processes = within(&raw.processes, "processes", PROCESSES_RANGE)?;
        let open_files = within(&raw.open_files, "open-files", OPEN_FILES_RANGE)?;
        let cpus = match &raw.cpus {
            None => default.cpus,
            // Not a number is in no range.
            Some(cpus) if CPUS_RANGE.contains(cpus.get_ref()) => {
                Some((cpus.get_ref() * 1000.0).round() as u32)
            }
            Some(cpus) => {
                let message = format!("`cpus` is {}", cpus.get_ref());
                let hint = format!(
                    "processors at a time: allowed is {:?} to {:?}",
                    CPUS_RANGE.start(),
                    CPUS_RANGE.end()
                );
                return Err(self.invalid(cpus.span(), message, &hint));
            }
        };
        let disk = match &raw.disk {
            None => default.disk,
            Some(disk) if disk.get_ref().0 >= DISK_MIN.0 => *disk.get_ref(),
            Some(disk) => {
                let message = format!("`disk` is {}", disk.get_ref());
                return Err(self.invalid(disk.span(), message, "allowed is 1MiB and more"));
            }
        };
        let idle = match &raw.idle {
            None => default.idle,
            Some(idle) if idle.get_ref() == "off" => None,
            Some(idle) => {
                let span = idle.get_ref().parse::<Millis>();
                let span = span.map_err(|error| {
                    self.invalid(idle.span(), error.to_string(), "or `idle = \"off\"` to wait for ever")
                })?;
                if span < IDLE_MIN {
                    let message = format!("`idle` is {span}");
                    return Err(self.invalid(idle.span(), message, "allowed is 1s and more, or \"off\""));
                }
                Some(span)
            }
        };
        Ok(AgentLimits {
            wall: raw.wall.unwrap_or(default.wall),
            memory: raw.memory.unwrap_or(default.memory),
            cpu: raw.cpu.unwrap_or(default.cpu),
            output: raw.output.unwrap_or(default.output),
            processes: processes.unwrap_or(default.processes),
            open_files: open_files.map_or(default.open_files, u64::from),
            cpus,
            disk,
            idle,
        })
    }

    /// How many agents to start ahead; none is a number too.
    fn fleet(&self, fleet: &Spanned<u32>) -> Result<u32, Error> {
        if *fleet.get_ref() == 0 { Ok(0) } else { self.positive(fleet, "fleet", INSTANCES_MAX) }
    }

    /// What a declaration asks for, on top of its preset. Nothing where it is switched off.
    fn sandbox(&self, raw: &RawSandbox, preset: Option<SandboxSpec>) -> Result<Option<SandboxSpec>, Error> {
        let says_more = raw.read.is_some()
            || raw.write.is_some()
            || raw.network.is_some()
            || raw.hosts.is_some()
            || raw.require.is_some();
        if let Some(enabled) = raw.enabled.as_ref().filter(|enabled| !*enabled.get_ref()) {
            if says_more {
                let hint = "remove `enabled = false`, or everything else of the sandbox";
                return Err(self.invalid(enabled.span(), "a sandbox that is off holds nothing".into(), hint));
            }
            return Ok(None);
        }
        let mut spec = preset.unwrap_or_default();
        for (paths, all) in [(&raw.read, &mut spec.read), (&raw.write, &mut spec.write)] {
            for path in paths.iter().flatten() {
                let text = path.get_ref();
                if text.is_empty() || text.contains('\0') {
                    let hint =
                        "write an absolute path, one below the home (`~/data`), or one relative to this file";
                    return Err(self.invalid(path.span(), "this is no path".into(), hint));
                }
                all.push(text.clone());
            }
        }
        if let Some(network) = &raw.network {
            spec.network = self.one_of(network, "network", &Network::ALL)?;
        }
        self.hosts(raw, &mut spec)?;
        if let Some(layers) = &raw.require {
            let layers = layers.iter().map(|layer| self.one_of(layer, "sandbox layer", &SandboxLayer::ALL));
            spec.require = layers.collect::<Result<_, _>>()?;
        }
        Ok(Some(spec))
    }

    /// The list of hosts, on top of the preset's; there is one where the network is listed, and only there.
    fn hosts(&self, raw: &RawSandbox, spec: &mut SandboxSpec) -> Result<(), Error> {
        if spec.network != Network::Listed {
            spec.hosts.clear();
            let Some(hosts) = &raw.hosts else { return Ok(()) };
            let message = format!("hosts are listed, and the network is `{}`", spec.network);
            let hint = "write `network = \"listed\"` beside them, or remove them";
            return Err(self.invalid(hosts.span(), message, hint));
        }
        for host in raw.hosts.iter().flat_map(|hosts| hosts.get_ref()) {
            let wrong = |message| self.invalid(host.span(), message, hosts::HINT);
            hosts::check(host.get_ref()).map_err(wrong)?;
            spec.hosts.push(host.get_ref().clone());
        }
        let span = || match (&raw.hosts, &raw.network) {
            (Some(hosts), _) => hosts.span(),
            (None, network) => network.as_ref().map_or(0..0, Spanned::span),
        };
        if spec.hosts.is_empty() {
            let message = "the network is `listed`, and no host is".into();
            return Err(self.invalid(span(), message, "name them: `hosts = [\"api.example.com\"]`"));
        }
        if spec.hosts.len() > hosts::HOSTS_MAX {
            let message = format!("{} hosts are listed", spec.hosts.len());
            return Err(self.invalid(span(), message, &format!("allowed are {}", hosts::HOSTS_MAX)));
        }
        Ok(())
    }

    /// Refuses to pass on what would lead an agent past its proxy, or to another.
    fn proxy_variables(
        &self,
        name: &Spanned<String>,
        raw: &RawAgent,
        sandbox: Option<&SandboxSpec>,
    ) -> Result<(), Error> {
        if sandbox.is_none_or(|sandbox| sandbox.network != Network::Listed) {
            return Ok(());
        }
        let passed = raw.env.iter().chain(&raw.secrets).flatten();
        let mut own = passed.filter(|variable| egress::VARIABLES.contains(&variable.as_str()));
        let Some(variable) = own.next() else { return Ok(()) };
        let message =
            format!("`{variable}` is passed on, and the network of agent `{}` is `listed`", name.get_ref());
        let hint = "take it out: Quorate sets it to the proxy that holds the list";
        Err(self.invalid(name.span(), message, hint))
    }

    fn one_of<T: Copy>(&self, word: &Spanned<String>, what: &str, known: &[(&str, T)]) -> Result<T, Error> {
        let found = known.iter().find(|(name, _)| *name == word.get_ref()).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            let message = format!("there is no {what} `{}`", word.get_ref());
            self.invalid(word.span(), message, &format!("allowed are {}", names.join(", ")))
        })
    }

    fn budget(&self, raw: Option<&Spanned<RawBudget>>) -> Result<Budget, Error> {
        let Some(raw) = raw else { return Ok(Budget::default()) };
        let hint = "write dollars as a number such as 2.5";
        raw.get_ref().resolve().map_err(|message| self.invalid(raw.span(), message, hint))
    }

    /// The budgets of the run; refused where nobody would know when they are used up.
    fn budgets(
        &self,
        raw: &RawFile,
        agents: &BTreeMap<String, AgentSpec>,
        tasks: &[TaskSpec],
    ) -> Result<RunBudget, Error> {
        let own = raw.budget.as_ref();
        let hint = "write dollars as a number such as 2.5";
        let all =
            own.map(|own| own.get_ref().resolve().map_err(|message| self.invalid(own.span(), message, hint)));
        let all = all.transpose()?.unwrap_or_default();
        if own.is_some_and(|own| own.get_ref().allows_unknown()) {
            return Ok(all);
        }
        let mut of_tasks: BTreeMap<&str, Vec<Budget>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| !task.budget.is_none()) {
            let able = |agent: &AgentSpec| !task.needs.is_empty() && task.needs.is_subset(&agent.can);
            let names = agents.iter().filter(|(name, agent)| **name == task.agent || able(agent));
            names.for_each(|(name, _)| of_tasks.entry(name).or_default().push(task.budget));
        }
        for (name, declared) in &raw.agents {
            let Some(agent) = agents.get(name.get_ref()) else { continue };
            let mut budgets = vec![all.run, all.day, agent.budget, agent.launch_budget];
            budgets.extend(of_tasks.get(name.get_ref().as_str()).into_iter().flatten());
            if let Some(unit) = unknown(agent, &budgets) {
                let span = declared.budget.as_ref().map_or_else(|| name.span(), Spanned::span);
                return Err(self.untold(span, name.get_ref(), unit));
            }
        }
        Ok(all)
    }

    fn untold(&self, span: Range<usize>, agent: &str, unit: Unit) -> Error {
        self.invalid(
            span,
            format!("a budget bounds the {unit} of agent `{agent}`, which does not tell them"),
            "set `usage` to how it tells them (claude, codex, opencode, lines), or `allow-unknown = true` under [budget]",
        )
    }

    fn argument(&self, arg: &Spanned<String>) -> Result<String, Error> {
        let text = arg.get_ref();
        if text.contains('\0') {
            return Err(self.invalid(arg.span(), "an argument holds a NUL character".into(), "remove it"));
        }
        for name in placeholders(text) {
            if !PLACEHOLDERS.contains(&name) {
                let message = format!("there is no placeholder `{{{name}}}`");
                return Err(self.invalid(
                    arg.span(),
                    message,
                    &format!("placeholders are {}", PLACEHOLDERS.join(", ")),
                ));
            }
        }
        Ok(text.clone())
    }

    fn leases(&self, raw: &[Spanned<String>]) -> Result<Vec<Wanted>, Error> {
        if let Some(beyond) = raw.get(LEASES_MAX) {
            let message = format!("there are {} leases", raw.len());
            return Err(self.invalid(beyond.span(), message, &format!("a task may have {LEASES_MAX}")));
        }
        let hint = "for example \"file:src/lib.rs\", \"folder:docs\", \"name:database\", or shared, \"read:folder:docs\"";
        let parse = |lease: &Spanned<String>| {
            let wrong = |error: InvalidLease| self.invalid(lease.span(), error.to_string(), hint);
            lease.get_ref().parse::<Wanted>().map_err(wrong)
        };
        Ok(Wanted::in_order(raw.iter().map(parse).collect::<Result<Vec<_>, _>>()?))
    }

    fn tasks(
        &self,
        raw: &[RawTask],
        agents: &BTreeMap<String, AgentSpec>,
        objective: &str,
    ) -> Result<Vec<TaskSpec>, Error> {
        if agents.is_empty() {
            return Err(self.invalid(0..0, "there is no agent".into(), "declare one under [agents.NAME]"));
        }
        if raw.is_empty() {
            return Ok(one_task_an_instance(agents, objective));
        }
        if raw.len() > TASKS_MAX {
            let message = format!("there are {} tasks", raw.len());
            return Err(self.invalid(raw[TASKS_MAX].id.span(), message, &format!("allowed are {TASKS_MAX}")));
        }
        let mut tasks: Vec<TaskSpec> = Vec::with_capacity(raw.len());
        let ids: BTreeSet<&str> = raw.iter().map(|task| task.id.get_ref().as_str()).collect();
        let mut seen = BTreeSet::new();
        for task in raw {
            let id = TaskId::new(task.id.get_ref().as_str()).map_err(|error| {
                self.invalid(task.id.span(), error.to_string(), "for example `add-tests`")
            })?;
            if !seen.insert(id.clone()) {
                return Err(self.invalid(
                    task.id.span(),
                    format!("task `{id}` is there twice"),
                    "give each task its own id",
                ));
            }
            let (agent, needs) = self.doer(task, agents)?;
            let mut after = Vec::new();
            for wanted in &task.after {
                let (on, when) = wanted.get_ref().parts();
                if !ids.contains(on) {
                    let known: Vec<_> = ids.iter().copied().take(20).collect();
                    let message = format!("there is no task `{on}`");
                    return Err(self.invalid(
                        wanted.span(),
                        message,
                        &format!("tasks are {}", known.join(", ")),
                    ));
                }
                let on = TaskId::new(on)
                    .map_err(|error| self.invalid(wanted.span(), error.to_string(), "name a task's id"))?;
                after.push(Dependency { task: on, when });
            }
            let objective = task.objective.clone().unwrap_or_else(|| objective.to_owned());
            tasks.push(TaskSpec {
                id,
                agent,
                needs,
                objective,
                after,
                priority: task.priority,
                deadline: task.deadline,
                estimate: task.estimate,
                leases: self.leases(&task.leases)?,
                budget: self.budget(task.budget.as_ref())?,
                review: None,
            });
        }
        if let Some(cycle) = first_on_a_cycle(&tasks) {
            let span = raw
                .iter()
                .find(|task| task.id.get_ref() == cycle.as_str())
                .map_or(0..0, |task| task.id.span());
            let message = format!("task `{cycle}` waits for itself through `after`");
            return Err(self.invalid(span, message, "take one of the dependencies on the way out"));
        }
        Ok(tasks)
    }
}

impl Place<'_> {
    /// Who does a task: the agent it names, or any that can do what it needs.
    fn doer(
        &self,
        task: &RawTask,
        agents: &BTreeMap<String, AgentSpec>,
    ) -> Result<(String, BTreeSet<String>), Error> {
        match (&task.agent, &task.needs) {
            (Some(agent), None) if agents.contains_key(agent.get_ref()) => {
                Ok((agent.get_ref().clone(), BTreeSet::new()))
            }
            (Some(agent), None) => {
                let known: Vec<_> = agents.keys().map(String::as_str).collect();
                let message = format!("there is no agent `{}`", agent.get_ref());
                Err(self.invalid(agent.span(), message, &format!("agents are {}", known.join(", "))))
            }
            (None, Some(needs)) => {
                let able = |agent: &AgentSpec| needs.get_ref().is_subset(&agent.can);
                if !needs.get_ref().is_empty() && agents.values().any(able) {
                    return Ok((String::new(), needs.get_ref().clone()));
                }
                let known: BTreeSet<_> =
                    agents.values().flat_map(|agent| &agent.can).map(String::as_str).collect();
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                let hint = format!("agents say with `can` what they can do: {known}");
                Err(self.invalid(needs.span(), "no agent can do all of this".into(), &hint))
            }
            _ => Err(self.invalid(
                task.id.span(),
                format!("task `{}` needs one of `agent` and `needs`", task.id.get_ref()),
                "for example `agent = \"coder\"`, or `needs = [\"rust\"]` for any agent that can do it",
            )),
        }
    }
}

/// The names in braces in one argument; `{{` stands for a brace.
pub fn placeholders(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        if let Some(escaped) = inside.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let Some(close) = inside.find('}') else { break };
        let name = &inside[..close];
        // Braces around anything that is not a word are the argument's own (JSON, for one).
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
            names.push(name);
        }
        rest = &inside[close + 1..];
    }
    names
}

/// One argument with its placeholders filled in; a value is never looked at for placeholders again.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let inside = &rest[open + 1..];
        if let Some(escaped) = inside.strip_prefix('{') {
            out.push('{');
            rest = escaped;
            continue;
        }
        let filled = inside.find('}').and_then(|close| value(&inside[..close]).map(|value| (value, close)));
        if let Some((value, close)) = filled {
            out.push_str(&value);
            rest = &inside[close + 1..];
        } else {
            out.push('{');
            rest = inside;
        }
    }
    out.push_str(rest);
    out
}

fn one_task_an_instance(agents: &BTreeMap<String, AgentSpec>, objective: &str) -> Vec<TaskSpec> {
    let mut tasks = Vec::new();
    for (name, agent) in agents {
        for n in 1..=agent.count {
            let id = if agent.count == 1 { name.clone() } else { format!("{name}-{n}") };
            if let Ok(id) = TaskId::new(id) {
                tasks.push(TaskSpec::new(id, name, objective));
            }
        }
    }
    tasks
}

/// A task that can only start after itself, if there is one.
fn first_on_a_cycle(tasks: &[TaskSpec]) -> Option<TaskId> {
    let numbers: BTreeMap<&TaskId, usize> =
        tasks.iter().enumerate().map(|(number, task)| (&task.id, number)).collect();
    let mut waits_for: Vec<usize> = tasks.iter().map(|task| task.after.len()).collect();
    let mut dependents = vec![Vec::new(); tasks.len()];
    for (number, task) in tasks.iter().enumerate() {
        for on in task.after.iter().filter_map(|on| numbers.get(&on.task)) {
            dependents[*on].push(number);
        }
    }
    let mut free: Vec<usize> = (0..tasks.len()).filter(|number| waits_for[*number] == 0).collect();
    while let Some(number) = free.pop() {
        for dependent in &dependents[number] {
            waits_for[*dependent] -= 1;
            if waits_for[*dependent] == 0 {
                free.push(*dependent);
            }
        }
    }
    waits_for.iter().position(|left| *left > 0).map(|number| tasks[number].id.clone())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
