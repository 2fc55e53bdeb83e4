//! The checks that are part of Quorate. Each looks at what the change adds, not at what was there before.

mod added;
mod hygiene;
mod interface;
mod performance;
mod secrets;
mod structure;

use std::collections::BTreeMap;

use quorate_evidence::check::{Finding, Severity, Status};

use crate::runner::Runner;
use crate::subject::Subject;

/// Names of all built-in checks.
pub const NAMES: [&str; 5] = ["secrets", "hygiene", "interface", "structure", "performance"];

/// What a built-in check thinks of a change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Opinion {
    pub(crate) status: Status,
    pub(crate) reason: String,
    pub(crate) findings: Vec<Finding>,
    pub(crate) measures: BTreeMap<String, f64>,
}

impl Opinion {
    /// The opinion that follows from findings: an error fails, a warning is a reservation, a note is neither.
    fn of(findings: Vec<Finding>, nothing: &str) -> Self {
        let worst = findings.iter().map(|finding| finding.severity).max();
        let status = match worst {
            Some(Severity::Error) => Status::Fail,
            Some(Severity::Warning) => Status::Partial,
            Some(Severity::Note) | None => Status::Pass,
        };
        let first = findings.iter().find(|finding| Some(finding.severity) == worst);
        let reason = match first {
            Some(finding) if status != Status::Pass => {
                let place = finding.file.as_deref().map(|file| format!(" in {file}")).unwrap_or_default();
                let more = if findings.len() > 1 {
                    format!(" (and {} more)", findings.len() - 1)
                } else {
                    String::new()
                };
                format!("{}{place}{more}", finding.message)
            }
            _ if findings.is_empty() => nothing.to_owned(),
            _ => format!("{nothing}; {} notes", findings.len()),
        };
        Self { status, reason, findings, measures: BTreeMap::new() }
    }

    fn without_findings(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), findings: Vec::new(), measures: BTreeMap::new() }
    }
}

fn finding(rule: &str, severity: Severity, file: &str, line: Option<u64>, message: String) -> Finding {
    Finding {
        check: String::new(),
        status: match severity {
            Severity::Error => Status::Fail,
            Severity::Warning => Status::Partial,
            Severity::Note => Status::Pass,
        },
        file: Some(file.to_owned()),
        line,
        rule: rule.to_owned(),
        cwe: None,
        severity,
        message,
        new: true,
    }
}

/// Runs a built-in check by name.
pub(crate) fn run(name: &str, subject: &Subject, runner: &dyn Runner) -> Opinion {
    match name {
        "secrets" => secrets::secrets(subject),
        "hygiene" => hygiene::hygiene(subject),
        "interface" => interface::interface(subject),
        "structure" => structure::structure(subject),
        "performance" => performance::performance(subject, runner),
        other => {
            Opinion::without_findings(Status::Inconclusive, format!("there is no built-in check `{other}`"))
        }
    }
}
