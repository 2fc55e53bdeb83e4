//! Running checks on an exact checkout.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quorate_base::{ByteCount, GitOid, RunId, Timestamp, ValidatorId};
use quorate_evidence::check::Status;
use quorate_evidence::record::Record;
use quorate_pipeline::spec::CheckSpec;
use quorate_pipeline::subject::{ChangeKind, ChangedPath, Subject};

use super::Error;
use super::runner::ProcessRunner;
use crate::git::{self, PathStatus, PrivateRepository};
use crate::spec::SandboxSpec;
use crate::store::Store;

/// Runs checks on one change, in checkouts of its own.
pub struct Examiner<'a> {
    pub run: &'a RunId,
    pub subject: &'a super::Subject,
    pub checks: &'a BTreeMap<String, CheckSpec>,
    pub memory: ByteCount,
    /// What commands may reach beside the files they judge; everything this process may where there is none.
    pub sandbox: Option<&'a SandboxSpec>,
    /// In whose name evidence is recorded.
    pub validator: Option<&'a ValidatorId>,
    /// The private repository that has the change and its base.
    pub repository: &'a Path,
    /// A folder of its own for checkouts, build results and raw output.
    pub scratch: &'a Path,
    pub store: &'a Store,
    pub clock: &'a (dyn Fn() -> Timestamp + Sync),
}

impl std::fmt::Debug for Examiner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Examiner").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Examiner<'_> {
    /// Runs the named checks one after the other. What cannot be run is inconclusive, never missing.
    pub fn run_checks(&self, names: &[String]) -> Result<Vec<Record>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        fs::create_dir_all(self.scratch)?;
        let repository = PrivateRepository::open(self.repository)?;
        let checkout = self.checkout(&repository, "change", &self.subject.commit)?;
        // Commands look at the change alone.
        let needs_base =
            names.iter().any(|name| matches!(self.checks.get(name), Some(CheckSpec::Builtin { .. })));
        let base = needs_base.then(|| self.checkout(&repository, "base", &self.subject.base)).transpose()?;
        let subject = Subject {
            checkout: checkout.clone(),
            base_checkout: base.clone(),
            tree: self.subject.tree.clone(),
            base_tree: self.subject.base_tree.clone(),
            changed: changed(&repository, &self.subject.base_tree, &self.subject.tree)?,
            tests: self.tests_command(),
        };
        let runner = ProcessRunner::new(self, &repository, &checkout)?;
        let mut records = Vec::new();
        for name in names {
            let Some(spec) = self.checks.get(name) else { continue };
            let mut record =
                quorate_pipeline::examine(name, spec, &subject, &runner, self.validator.cloned());
            if !repository.checkout_is(&checkout, &self.subject.tree)? {
                record.status = Status::Inconclusive;
                record.reason = format!("the check altered the files it judged; {}", record.reason);
                // What runs after it must not inherit the damage.
                self.checkout(&repository, "change", &self.subject.commit)?;
            }
            records.push(record);
        }
        repository.remove_worktree(&checkout)?;
        if let Some(base) = base {
            repository.remove_worktree(&base)?;
        }
        Ok(records)
    }

    /// The command of the gate's test check, which the performance check runs too.
    fn tests_command(&self) -> Option<Vec<String>> {
        let tests = self.checks.get("tests")?;
        match tests {
            CheckSpec::Command { argv, .. } => Some(argv.clone()),
            CheckSpec::Builtin { .. } => None,
        }
    }

    fn checkout(
        &self,
        repository: &PrivateRepository,
        name: &str,
        commit: &GitOid,
    ) -> Result<PathBuf, Error> {
        let path = self.scratch.join(name);
        if path.exists() {
            repository.remove_worktree(&path)?;
        }
        repository.add_worktree(&path, commit)?;
        Ok(path)
    }
}

/// The paths a change touches, in the words of the pipeline.
pub(crate) fn changed(
    repository: &PrivateRepository,
    base: &GitOid,
    tree: &GitOid,
) -> Result<Vec<ChangedPath>, git::Error> {
    let paths = repository.changed_paths(base, tree)?;
    let kind = |status: &PathStatus| match status {
        PathStatus::Added => ChangeKind::Added,
        PathStatus::Modified => ChangeKind::Modified,
        PathStatus::Deleted => ChangeKind::Deleted,
        PathStatus::TypeChanged => ChangeKind::TypeChanged,
    };
    Ok(paths
        .into_iter()
        .map(|path| ChangedPath { kind: kind(&path.status), mode: path.new_mode, path: path.path })
        .collect())
}
