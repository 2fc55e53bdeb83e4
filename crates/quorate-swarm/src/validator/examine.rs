//! Running checks on an exact checkout.

use std::fs;
use std::path::PathBuf;

use quorate_base::GitOid;
use quorate_evidence::check::{CheckResult, Status};
use quorate_pipeline::subject::{ChangeKind, ChangedPath, Subject};

use super::runner::ProcessRunner;
use super::{Error, Seat};
use crate::git::{self, PathStatus, PrivateRepository};

impl Seat<'_> {
    /// Runs the named checks and keeps their evidence. What cannot be run is inconclusive, never missing.
    pub(super) fn run_checks(&self, names: &[String]) -> Result<Vec<CheckResult>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        fs::create_dir_all(&self.places.scratch)?;
        let repository = PrivateRepository::open(&self.places.repository)?;
        let step = format!("{:?}", self.request.step).to_lowercase();
        let checkout = self.checkout(&repository, &format!("{step}-change"), &self.request.subject.commit)?;
        let base = self.checkout(&repository, &format!("{step}-base"), &self.request.subject.base)?;
        let subject = Subject {
            checkout: checkout.clone(),
            base_checkout: Some(base.clone()),
            tree: self.request.subject.tree.clone(),
            base_tree: self.request.subject.base_tree.clone(),
            changed: changed(&repository, &self.request.subject.base_tree, &self.request.subject.tree)?,
            tests: self.tests_command(),
        };
        let runner = ProcessRunner::new(self, &checkout)?;
        let mut results = Vec::new();
        for name in names {
            let Some(spec) = self.request.checks.get(name) else { continue };
            let mut record = quorate_pipeline::examine(name, spec, &subject, &runner, Some(self.request.validator.clone()));
            if !repository.checkout_is(&checkout, &self.request.subject.tree)? {
                record.status = Status::Inconclusive;
                record.reason = format!("the check altered the files it judged; {}", record.reason);
                // What runs after it must not inherit the damage.
                repository.remove_worktree(&checkout)?;
                self.checkout(&repository, &format!("{step}-change"), &self.request.subject.commit)?;
            }
            let evidence = self.store.put(&record.to_bytes())?;
            results.push(CheckResult {
                check: name.clone(),
                status: record.status,
                reason: record.reason,
                evidence,
            });
        }
        repository.remove_worktree(&checkout)?;
        repository.remove_worktree(&base)?;
        Ok(results)
    }

    /// The command of the gate's test check, which the performance check runs too.
    fn tests_command(&self) -> Option<Vec<String>> {
        let tests = self.request.checks.get("tests")?;
        match tests {
            quorate_pipeline::spec::CheckSpec::Command { argv, .. } => Some(argv.clone()),
            quorate_pipeline::spec::CheckSpec::Builtin { .. } => None,
        }
    }

    fn checkout(&self, repository: &PrivateRepository, name: &str, commit: &GitOid) -> Result<PathBuf, Error> {
        let path = self.places.scratch.join(name);
        if path.exists() {
            repository.remove_worktree(&path)?;
        }
        repository.add_worktree(&path, commit)?;
        Ok(path)
    }
}

/// The paths a change touches, in the words of the pipeline.
pub(crate) fn changed(repository: &PrivateRepository, base: &GitOid, tree: &GitOid) -> Result<Vec<ChangedPath>, git::Error> {
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
