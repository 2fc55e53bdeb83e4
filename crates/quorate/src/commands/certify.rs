//! `quorate certify`: one existing change before the panel.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context as _;
use quorate_base::{Digest, ExitStatus, GitOid};
use quorate_consensus::ballot::Verdict;
use quorate_evidence::check::Finding;
use quorate_swarm::node::{Left, Node, Proposal, Start, Where};
use quorate_swarm::panel;
use quorate_swarm::spec::{RunSpec, file};
use quorate_swarm::state::{ChangeState, State};
use quorate_swarm::store::Store;
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use super::store;
use crate::cli;
use crate::failure::Usage;
use crate::host;
use crate::printer::{BAD, DIM, DOUBT, GOOD, Printer};
use crate::progress::{self, word};

/// The document of `quorate certify --json`.
#[derive(Debug, Serialize)]
struct Document {
    verdict: Verdict,
    tree: GitOid,
    commit: GitOid,
    /// Path of the certificate; none where a conflict left nothing to vote on.
    certificate: Option<String>,
    certificate_digest: Option<Digest>,
    votes: Vec<VoteRow>,
    findings: Vec<Finding>,
    checks: Vec<CheckRow>,
}

#[derive(Debug, Serialize)]
struct VoteRow {
    validator: String,
    vote: String,
    confidence: f64,
    reason: String,
    evidence: Vec<Digest>,
}

#[derive(Debug, Serialize)]
struct CheckRow {
    check: String,
    validator: Option<String>,
    status: String,
    reason: String,
    tool: Option<String>,
    version: Option<String>,
    wall_s: f64,
    evidence: Digest,
}

pub(crate) fn certify(here: &Path, args: &cli::Certify, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let source = quorate_swarm::git::discover(here)?;
    let head = source.resolve("HEAD")?;
    let (change, base) = if args.worktree {
        let base = args.base.as_deref().map_or_else(|| Ok(head.clone()), |base| source.resolve(base))?;
        (Proposal::Worktree { head }, base)
    } else {
        let commit = source.resolve(args.rev.as_deref().unwrap_or("HEAD"))?;
        let base = match &args.base {
            Some(base) => source.resolve(base)?,
            None => source.parent_of(&commit)?.ok_or_else(|| {
                Usage(format!(
                    "{} has no parent, so there is nothing to compare it with; name one with --base",
                    commit.short()
                ))
            })?,
        };
        if base == commit {
            return Err(
                Usage(format!("{} is its own base: there is no change to certify", commit.short())).into()
            );
        }
        (Proposal::Commit(commit), base)
    };
    if args.worktree && source.changed_count() == 0 && args.base.is_none() {
        return Err(Usage(
            "the worktree has no changes to certify; name a commit instead of --worktree".into(),
        )
        .into());
    }
    if let Some(output) = args.output.as_deref().filter(|output| output.exists()) {
        return Err(Usage(format!("{} exists already; it is not overwritten", output.display())).into());
    }
    let root = source.top().to_owned();
    let mut gate = file::gate_default();
    let mut checks = store::detected(&root, &gate.validators);
    if let Some((origin, text)) = store::project_file(&root)? {
        (gate, checks) = file::parse_gate(&origin, &text, &checks)?;
    }
    if checks.is_empty() {
        return Err(Usage(
            "no check is known for this repository; name some under [checks.NAME] in quorate.toml".into(),
        )
        .into());
    }
    let workspace = store::workspace_at(&root, &gate.validators, printer)?;
    let spec = RunSpec {
        objective: "certify one change".into(),
        agents_at_once: 1,
        wall: quorate_base::Millis(gate.timeout.0.saturating_mul(4)),
        schedule: quorate_swarm::spec::Schedule::default(),
        topology: Default::default(),
        placement: Default::default(),
        steal: false,
        budget: quorate_swarm::budget::RunBudget::default(),
        agents: Default::default(),
        tasks: Vec::new(),
        gate,
        checks,
        worktree: Default::default(),
        node: Default::default(),
    };
    let stop = host::stop_on_signals()?;
    let shared = Rc::new(printer.clone());
    let teller = Rc::clone(&shared);
    // With --json this command prints one document; the journal has the rest.
    let observer = Box::new(move |stamped: &_, state: &_| {
        if !teller.json {
            progress::tell(&teller, stamped, state);
        }
    });
    let start = Start {
        run: host::new_run_id("certify-")?,
        journal_id: host::random()?,
        spec,
        swarm_dir: root,
        place: Where::Certify { source, change, base },
        branch: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut node = Node::start(&workspace, start, store::surroundings(observer, stop)?)?;
    let left = node.run()?;
    conclude(&workspace, node.state(), left, args.output.as_deref(), printer)
}

/// The end of a certification for its user.
pub(super) fn conclude(
    workspace: &Workspace,
    state: &State,
    left: Left,
    output: Option<&Path>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    if left == Left::Stopped {
        printer
            .warn(&format!("stopped before a verdict; continue with `quorate resume {}`", state.started.run));
        return Ok(ExitStatus::Interrupted);
    }
    let change = state.changes.values().next().context("the journal has no change")?;
    let document = document(workspace, state, change)?;
    if let (Some(output), Some(digest)) = (output, document.certificate_digest) {
        let bytes = workspace.store().get(&digest)?;
        let file = fs::OpenOptions::new().write(true).create_new(true).open(output);
        let mut file = file.with_context(|| format!("cannot write {}", output.display()))?;
        std::io::Write::write_all(&mut file, &bytes)?;
    }
    if printer.json {
        printer.document(&document);
    } else {
        show(&document, printer);
    }
    Ok(status(document.verdict))
}

/// The exit code a verdict is.
pub(super) fn status(verdict: Verdict) -> ExitStatus {
    match verdict {
        Verdict::Pass => ExitStatus::Done,
        Verdict::Fail | Verdict::Partial => ExitStatus::Refused,
        Verdict::Inconclusive => ExitStatus::Inconclusive,
    }
}

fn document(workspace: &Workspace, state: &State, change: &ChangeState) -> anyhow::Result<Document> {
    let objects = workspace.store();
    let mut document = Document {
        verdict: Verdict::Inconclusive,
        tree: change.proposed.tree.clone(),
        commit: change.proposed.commit.clone(),
        certificate: None,
        certificate_digest: None,
        votes: Vec::new(),
        findings: Vec::new(),
        checks: Vec::new(),
    };
    if let Some(conflict) = &change.conflict {
        document.verdict = Verdict::Fail;
        add_check(&objects, &mut document, None, &conflict.evidence)?;
    }
    if let Some((id, ballot)) = state.current_ballot(change) {
        if let Some((verdict, digest)) = ballot.certificate {
            document.verdict = verdict;
            let path = workspace.run_dir(&state.started.run).certificates().join(format!("{id}.json"));
            document.certificate = Some(path.display().to_string());
            document.certificate_digest = Some(digest);
        }
        document.votes = panel::votes(ballot)
            .into_iter()
            .map(|(validator, vote)| VoteRow {
                validator: validator.to_string(),
                vote: word(&vote.choice),
                confidence: vote.confidence,
                reason: vote.reason,
                evidence: vote.evidence,
            })
            .collect();
        for (validator, report) in panel::reports(ballot) {
            for result in report.results {
                add_check(&objects, &mut document, Some(validator.to_string()), &result.evidence)?;
            }
        }
    }
    Ok(document)
}

fn add_check(
    objects: &Store,
    document: &mut Document,
    validator: Option<String>,
    digest: &Digest,
) -> anyhow::Result<()> {
    let record = store::evidence(objects, digest)?;
    for finding in record.findings {
        if !document.findings.contains(&finding) {
            document.findings.push(finding);
        }
    }
    document.checks.push(CheckRow {
        check: record.check,
        validator,
        status: word(&record.status),
        reason: record.reason,
        tool: record.tool.as_ref().map(|tool| tool.name.clone()),
        version: record.tool.map(|tool| tool.version),
        wall_s: record.wall_ms as f64 / 1000.0,
        evidence: *digest,
    });
    Ok(())
}

fn show(document: &Document, printer: &Printer) {
    let style = match document.verdict {
        Verdict::Pass => GOOD,
        Verdict::Fail => BAD,
        Verdict::Partial | Verdict::Inconclusive => DOUBT,
    };
    printer.data(&format!(
        "\n{style}{}{style:#} · commit {} tree {}",
        word(&document.verdict),
        document.commit.short(),
        document.tree.short()
    ));
    for check in &document.checks {
        printer.data(&format!(
            "  {:<14} {:<13} {:>6.1} s  {:<13} {} {DIM}{}{DIM:#}",
            check.check,
            check.status,
            check.wall_s,
            check.validator.as_deref().unwrap_or("merge"),
            progress::cut(&check.reason, 90),
            check.evidence.short()
        ));
    }
    for vote in &document.votes {
        let reason = progress::cut(&vote.reason, 110);
        printer.data(&format!(
            "  {:<14} votes {:<8} {:.2}  {reason}",
            vote.validator, vote.vote, vote.confidence
        ));
    }
    for finding in document.findings.iter().take(40) {
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!("{file}:{line} "),
            (Some(file), None) => format!("{file} "),
            _ => String::new(),
        };
        printer.data(&format!("  {} {place}{}: {}", word(&finding.severity), finding.rule, finding.message));
    }
    if let Some(path) = &document.certificate {
        printer.data(&format!("\n  quorate verify {path}"));
    }
}
