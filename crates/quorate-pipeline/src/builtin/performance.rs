//! Whether a change makes the project's own tests slower, or its tree much larger.
//!
//! Tests are no benchmark, but they are what every project has. Base and change run in turn on the same machine, and the
//! least CPU time of each counts, which other work disturbs least.

use std::collections::BTreeMap;
use std::path::Path;

use quorate_base::Millis;
use quorate_evidence::check::{Severity, Status};
use quorate_evidence::record::Outcome;

use super::{Opinion, finding};
use crate::runner::{Invocation, Runner};
use crate::subject::{ChangeKind, Subject};

/// Runs of each side, after one that builds.
const ROUNDS: u32 = 3;
/// A change slower than this many times its base is slower…
const RATIO_MAX: f64 = 1.5;
/// …if the difference is more than this, below which noise decides.
const DIFFERENCE_MIN_MS: u64 = 250;
/// More than this, added to the tree, is worth a second look.
const GROWTH_MAX: u64 = 5 << 20;
const TIMEOUT: Millis = Millis::from_secs(20 * 60);

pub(super) fn performance(subject: &Subject, runner: &dyn Runner) -> Opinion {
    let mut opinion = timing(subject, runner);
    let growth = growth(subject);
    opinion.measures.insert("added_bytes".into(), growth as f64);
    if growth > GROWTH_MAX {
        let message = format!("adds {} MiB of files", growth >> 20);
        opinion.findings.push(finding("tree-growth", Severity::Warning, ".", None, message.clone()));
        if matches!(opinion.status, Status::Pass | Status::Skipped) {
            opinion.status = Status::Partial;
            opinion.reason = message;
        }
    }
    opinion
}

fn timing(subject: &Subject, runner: &dyn Runner) -> Opinion {
    let (Some(tests), Some(base)) = (&subject.tests, &subject.base_checkout) else {
        return Opinion::without_findings(Status::Skipped, "there is no test command to measure");
    };
    let run = |folder: &Path| {
        let invocation = Invocation {
            argv: tests.clone(),
            cwd: folder.to_owned(),
            env: BTreeMap::new(),
            timeout: TIMEOUT,
        };
        let ran = runner.run(&invocation);
        match (&ran.outcome, ran.cpu_ms) {
            (Outcome::Exit { code: 0 }, Some(cpu)) => Ok(cpu),
            (Outcome::ToolMissing { program, hint }, _) => Err(format!("`{program}` is not there: {hint}")),
            _ => Err("the tests did not pass, so there is nothing to compare".to_owned()),
        }
    };
    let mut least = [u64::MAX; 2];
    for round in 0..=ROUNDS {
        for (side, folder) in [base.as_path(), &subject.checkout].into_iter().enumerate() {
            match run(folder) {
                // The first round builds.
                Ok(cpu) if round > 0 => least[side] = least[side].min(cpu),
                Ok(_) => {}
                Err(reason) => {
                    let whose = if side == 0 { "base" } else { "change" };
                    let mut opinion =
                        Opinion::without_findings(Status::Inconclusive, format!("{whose}: {reason}"));
                    // Broken tests are the test check's to refuse; here they only keep anything from being measured.
                    if reason.contains("did not pass") {
                        opinion.status = Status::Skipped;
                    }
                    return opinion;
                }
            }
        }
    }
    let [before, after] = least;
    let ratio = after as f64 / before.max(1) as f64;
    let slower = ratio > RATIO_MAX && after.saturating_sub(before) > DIFFERENCE_MIN_MS;
    let reason = format!("the tests take {after} ms of CPU time, {before} ms before");
    let status = if slower { Status::Fail } else { Status::Pass };
    let mut opinion = Opinion::without_findings(status, reason);
    opinion.measures.insert("tests_cpu_ms_base".into(), before as f64);
    opinion.measures.insert("tests_cpu_ms_change".into(), after as f64);
    opinion
}

fn growth(subject: &Subject) -> u64 {
    let size = |root: &Path, path: &Path| {
        std::fs::symlink_metadata(root.join(path)).map_or(0, |metadata| metadata.len())
    };
    let mut growth = 0_u64;
    for changed in subject.changed.iter().filter(|changed| changed.kind != ChangeKind::Deleted) {
        let before = subject.base_checkout.as_deref().map_or(0, |base| size(base, &changed.path));
        growth += size(&subject.checkout, &changed.path).saturating_sub(before);
    }
    growth
}
