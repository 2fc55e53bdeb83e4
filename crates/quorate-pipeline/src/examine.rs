//! Running one check.

use std::collections::BTreeMap;

use quorate_base::{Millis, ValidatorId};
use quorate_evidence::check::{Finding, Severity, Status};
use quorate_evidence::record::{Outcome, Record, Tool, VERSION};

use crate::builtin;
use crate::judge;
use crate::runner::{Invocation, Runner};
use crate::spec::CheckSpec;
use crate::subject::Subject;

/// Runs one check on a change and answers with its evidence.
pub fn examine(
    name: &str,
    spec: &CheckSpec,
    subject: &Subject,
    runner: &dyn Runner,
    validator: Option<ValidatorId>,
) -> Record {
    let mut record = Record {
        version: VERSION,
        check: name.to_owned(),
        tree: subject.tree.clone(),
        base_tree: Some(subject.base_tree.clone()),
        validator,
        command: Vec::new(),
        environment: Vec::new(),
        tool: None,
        started: runner.now(),
        wall_ms: 0,
        cpu_ms: None,
        memory_peak_bytes: None,
        outcome: Outcome::Builtin,
        stdout: None,
        stderr: None,
        status: Status::Inconclusive,
        reason: String::new(),
        findings: Vec::new(),
        measures: BTreeMap::new(),
        containment: Vec::new(),
    };
    match spec {
        CheckSpec::Command { argv, timeout } => command(&mut record, argv, *timeout, subject, runner),
        CheckSpec::Builtin { name: which } => {
            record.command = vec![format!("quorate:{which}")];
            record.tool = Some(Tool { name: "quorate".into(), version: env!("CARGO_PKG_VERSION").into() });
            let opinion = builtin::run(which, subject, runner);
            record.status = opinion.status;
            record.reason = opinion.reason;
            record.measures = opinion.measures;
            record.findings = opinion
                .findings
                .into_iter()
                .map(|finding| Finding { check: name.to_owned(), ..finding })
                .collect();
            record.wall_ms = runner.now().since(record.started).0;
        }
    }
    record
}

fn command(record: &mut Record, argv: &[String], timeout: Millis, subject: &Subject, runner: &dyn Runner) {
    record.command = argv.to_vec();
    record.tool = argv.first().and_then(|program| version(program, subject, runner));
    let cwd = subject.checkout.clone();
    let ran = runner.run(&Invocation { argv: argv.to_vec(), cwd, env: BTreeMap::new(), timeout });
    let judgement = judge::judge(argv, &ran);
    record.environment.clone_from(&ran.environment);
    record.started = ran.started;
    record.wall_ms = ran.wall_ms;
    record.cpu_ms = ran.cpu_ms;
    record.memory_peak_bytes = ran.memory_peak_bytes;
    record.containment.clone_from(&ran.containment);
    record.stdout = ran.stdout.as_ref().map(|stdout| stdout.output);
    record.stderr = ran.stderr.as_ref().map(|stderr| stderr.output);
    record.outcome = ran.outcome;
    record.status = judgement.status;
    record.reason = judgement.reason;
    if let Some(count) = judgement.tests_run {
        record.measures.insert("tests_run".into(), count as f64);
    }
    record.findings = judgement
        .failed
        .into_iter()
        .map(|test| Finding {
            check: record.check.clone(),
            status: Status::Fail,
            file: None,
            line: None,
            rule: "test-failed".into(),
            cwe: None,
            severity: Severity::Error,
            message: test,
            new: true,
        })
        .collect();
}

/// What a program says of its version; nothing where it says nothing usable.
fn version(program: &str, subject: &Subject, runner: &dyn Runner) -> Option<Tool> {
    let name = program.rsplit('/').next()?.to_owned();
    let flag = match name.as_str() {
        "cargo" | "python3" | "python" | "node" | "npm" | "make" | "git" | "rustc" => "--version",
        "go" => "version",
        // An unknown program may do anything with an argument it does not know.
        _ => return None,
    };
    let argv = vec![program.to_owned(), flag.to_owned()];
    let cwd = subject.checkout.clone();
    let ran = runner.run(&Invocation { argv, cwd, env: BTreeMap::new(), timeout: Millis::from_secs(20) });
    let text = ran.text();
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    (ran.outcome == Outcome::Exit { code: 0 })
        .then(|| Tool { name, version: line.trim().chars().take(120).collect() })
}
