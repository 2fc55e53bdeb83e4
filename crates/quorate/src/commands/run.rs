//! `quorate run`: a swarm to completion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use quorate_base::{ByteCount, ExitStatus, TaskId};
use quorate_swarm::kit::spec::WorktreeSpec;
use quorate_swarm::node::{Left, Node, Start, Where};
use quorate_swarm::record::RunOutcome;
use quorate_swarm::spec::file::{self, SwarmFile};
use quorate_swarm::spec::{AgentSpec, RunSpec, TaskSpec, presets};
use quorate_swarm::summary::{RunSummary, summarise};

use super::store;
use crate::cli;
use crate::events::Teller;
use crate::failure::Usage;
use crate::host;
use crate::printer::{BAD, DIM, DOUBT, GOOD, Printer};
use crate::progress;

pub(crate) fn run(here: &Path, args: &cli::Run, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let plan = match &args.agent {
        None => from_file(&args.what, printer)?,
        Some(name) => from_agent(here, name, &args.what, printer)?,
    };
    check_programs(&plan)?;
    let workspace = store::workspace_at(&plan.root, &plan.file.spec.gate.validators, printer)?;
    let stop = host::stop_on_signals()?;
    let printer = Rc::new(printer.clone());
    let teller = Rc::clone(&printer);
    let run = host::new_run_id("")?;
    let told = Teller::start(&workspace, &printer);
    let name = run.to_string();
    let observer = Box::new(move |stamped: &_, state: &_| {
        progress::tell(&teller, stamped, state);
        told.tell(&name, stamped, &teller);
    });
    let start = Start {
        run,
        journal_id: host::random()?,
        spec: plan.file.spec,
        swarm_dir: plan.swarm_dir,
        place: plan.place,
        branch: plan.file.branch,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut node = Node::start(&workspace, start, store::surroundings(observer, stop)?)?;
    let left = node.run()?;
    Ok(conclude(&node, left, args.strict, &printer))
}

/// A run as it was asked for.
struct Plan {
    file: SwarmFile,
    /// Folder that holds the store.
    root: PathBuf,
    swarm_dir: PathBuf,
    place: Where,
}

fn from_file(path: &Path, printer: &Printer) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Usage(format!(
            "cannot read the swarm file {}: {error}; `quorate init` writes one to start from",
            path.display()
        ))
    })?;
    let folder = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    let folder = folder.with_context(|| format!("{} lies in no folder", path.display()))?;
    let origin = path.display().to_string();
    // Which checks fit is known once the repository is; a first reading finds out where that is.
    let first = file::parse(&origin, &text, &BTreeMap::new())?;
    let panel = first.spec.gate.validators;
    if let Some(copy) = first.copy {
        let from = folder.join(&copy);
        if !from.is_dir() {
            return Err(
                Usage(format!("{origin}: `copy` names {}, which is no folder", from.display())).into()
            );
        }
        let file = file::parse(&origin, &text, &store::detected(&from, &panel))?;
        require_checks(&file.spec)?;
        return Ok(Plan {
            file,
            root: folder.clone(),
            swarm_dir: folder,
            place: Where::Copy { folder: from },
        });
    }
    let source = store::repository(&folder, printer)?;
    let file = file::parse(&origin, &text, &store::detected(source.top(), &panel))?;
    require_checks(&file.spec)?;
    let base = source.resolve(file.base.as_deref().unwrap_or("HEAD"))?;
    let root = source.top().to_owned();
    Ok(Plan { file, root, swarm_dir: folder, place: Where::Repository { source, base } })
}

fn from_agent(here: &Path, name: &str, objective: &Path, printer: &Printer) -> anyhow::Result<Plan> {
    let objective = objective.to_str().ok_or_else(|| Usage("the objective is not text".into()))?.to_owned();
    if objective.trim().is_empty() {
        return Err(Usage("the objective is empty: say what the agent should do".into()).into());
    }
    let source = store::repository(here, printer)?;
    let root = source.top().to_owned();
    let project = store::project_file(&root)?;
    let declared = match &project {
        Some((origin, text)) => file::parse_agents(origin, text)?,
        None => BTreeMap::new(),
    };
    let agent: AgentSpec = match (declared.get(name), presets::find(name)) {
        (Some(agent), _) => agent.clone(),
        (None, Some(preset)) => preset.spec(),
        (None, None) => {
            let mut known: Vec<&str> = presets::PRESETS.iter().map(|preset| preset.name).collect();
            known.extend(declared.keys().map(String::as_str));
            let message = format!(
                "there is no agent `{name}`: known are {}; declare others in quorate.toml",
                known.join(", ")
            );
            return Err(Usage(message).into());
        }
    };
    let mut gate = file::gate_default();
    let mut checks = store::detected(&root, &gate.validators);
    let mut worktree = WorktreeSpec::default();
    let mut budget = quorate_swarm::budget::RunBudget::default();
    if let Some((origin, text)) = &project {
        (gate, checks) = file::parse_gate(origin, text, &checks)?;
        worktree = file::parse_worktree(origin, text)?;
        budget = file::parse_budget(origin, text, name, &agent)?;
    }
    let task = TaskSpec::new(TaskId::new(name)?, name, &objective);
    let spec = RunSpec {
        objective,
        agents_at_once: 1,
        wall: quorate_base::Millis::from_secs(4 * 3600),
        schedule: quorate_swarm::spec::Schedule::default(),
        topology: quorate_swarm::topology::Topology::default(),
        placement: quorate_swarm::spec::Placement::default(),
        steal: true,
        budget,
        agents: BTreeMap::from([(name.to_owned(), AgentSpec { count: 1, ..agent })]),
        tasks: vec![task],
        gate,
        checks,
        worktree,
        node: Default::default(),
    };
    require_checks(&spec)?;
    let base = source.resolve("HEAD")?;
    let file = SwarmFile { spec, copy: None, base: None, branch: None };
    Ok(Plan { file, root: root.clone(), swarm_dir: root, place: Where::Repository { source, base } })
}

fn require_checks(spec: &RunSpec) -> anyhow::Result<()> {
    if spec.checks.is_empty() {
        return Err(Usage("no check is known for this repository, so nothing could be refused; name some under [checks.NAME]".into()).into());
    }
    Ok(())
}

/// Refuses a run whose agents cannot be started, before anything is.
fn check_programs(plan: &Plan) -> anyhow::Result<()> {
    for (name, agent) in &plan.file.spec.agents {
        let found = if agent.program.contains('/') {
            plan.swarm_dir.join(&agent.program).is_file()
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(&agent.program).is_file())
        };
        if !found {
            let preset = presets::PRESETS.iter().find(|preset| preset.program == agent.program);
            let hint = preset.map_or_else(
                || "install it, or correct `program`".to_owned(),
                |preset| format!("install it with `{}`", preset.install),
            );
            return Err(Usage(format!(
                "agent `{name}`: the program `{}` is not there; {hint}",
                agent.program
            ))
            .into());
        }
    }
    Ok(())
}

/// The end of a run for its user: the table, the document, the exit code.
pub(super) fn conclude(node: &Node, left: Left, strict: bool, printer: &Printer) -> ExitStatus {
    let summary = summarise(node.state());
    if printer.json {
        printer.document(&summary);
    } else {
        table(&summary, printer);
    }
    if left == Left::Stopped {
        printer.warn(&format!("stopped; continue with `quorate resume {}`", summary.run));
        return ExitStatus::Interrupted;
    }
    match node.state().outcome {
        Some(RunOutcome::WallLimit) => {
            printer.warn("the run's wall time was over; what had landed stays landed");
            ExitStatus::Limit
        }
        Some(RunOutcome::BudgetSpent) => {
            printer.warn("a budget was used up; what had landed stays landed. Raise the budget in the swarm file, or run what is left another day");
            ExitStatus::Limit
        }
        Some(RunOutcome::BranchMoved) => {
            printer.warn(&format!(
                "the branch {} was moved or checked out by somebody else; nothing was overwritten. The certified changes are in the run's repository",
                summary.branch
            ));
            ExitStatus::Refused
        }
        _ => {
            let trouble = !summary.refused.is_empty()
                || summary.unfinished.iter().any(|task| task.outcome != "no-change");
            if trouble && (strict || summary.landed.is_empty()) {
                ExitStatus::Refused
            } else {
                ExitStatus::Done
            }
        }
    }
}

/// The summary as a table on standard output.
pub(super) fn table(summary: &RunSummary, printer: &Printer) {
    printer.data("");
    printer.data(&format!("run {} · {} · {:.1} s", summary.run, summary.state, summary.wall_s));
    if summary.pressure != "open" {
        printer.data(&format!("  {DOUBT}memory is short: {}{DOUBT:#}", summary.pressure));
    }
    for change in &summary.landed {
        printer.data(&format!(
            "  {GOOD}landed {GOOD:#} {:<16} {} {DIM}tree {} certificate {}{DIM:#}",
            change.change,
            change.commit.short(),
            change.tree.short(),
            change.certificate.short()
        ));
    }
    for change in &summary.refused {
        let evidence: Vec<_> = change.evidence.iter().map(quorate_base::Digest::short).collect();
        let evidence = if evidence.is_empty() {
            String::new()
        } else {
            format!(" {DIM}evidence {}{DIM:#}", evidence.join(" "))
        };
        let reason = progress::cut(&change.reason, 120);
        printer.data(&format!(
            "  {BAD}refused{BAD:#} {:<16} {}: {reason}{evidence}",
            change.change, change.check
        ));
    }
    for task in &summary.unfinished {
        printer.data(&format!("  {BAD}{:<7}{BAD:#} {:<16} {}", task.outcome, task.task, task.reason));
    }
    for change in &summary.pending {
        printer.data(&format!("  pending {change}"));
    }
    printer.data(&format!(
        "\n  {:<14} {:<16} {:>3}  {:<24} {:>8} {:>8} {:>10}",
        "agent", "task", "try", "end", "wall s", "CPU s", "peak"
    ));
    for agent in &summary.agents {
        printer.data(&format!(
            "  {:<14} {:<16} {:>3}  {:<24} {:>8.1} {:>8.1} {:>10}",
            agent.id,
            agent.task,
            agent.attempt,
            agent.exit.as_deref().unwrap_or(agent.state),
            agent.wall_s,
            agent.cpu_s,
            ByteCount(agent.memory_peak_bytes),
        ));
    }
    for agent in &summary.agents {
        for refused in &agent.connections_refused {
            let host = match refused.host.as_str() {
                "" => String::new(),
                host => format!(" to {host}:{}", refused.port),
            };
            let often = progress::times(refused.count);
            printer
                .data(&format!("  {} was refused a connection{host}: {}{often}", agent.id, refused.reason));
        }
    }
    for budget in &summary.budgets {
        let aside = match budget.set_aside {
            0 => String::new(),
            aside => format!(", {} set aside", budget.unit.show(aside)),
        };
        printer.data(&format!(
            "  budget of {}: {} of {}{aside}",
            budget.account,
            budget.unit.show(budget.spent),
            budget.unit.show(budget.limit)
        ));
    }
    if !summary.landed.is_empty() {
        printer.data(&format!(
            "\n  git -C {} log {}..{}\n  quorate change show {} · quorate ballot show {}",
            summary.repository,
            summary.base.short(),
            summary.branch,
            summary.landed[0].change,
            summary.landed[0].change
        ));
    }
}
