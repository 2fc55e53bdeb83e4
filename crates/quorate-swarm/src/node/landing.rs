//! Merging a change onto the branch as it is, and moving the branch.

use quorate_base::{ChangeId, GitOid, Timestamp};
use quorate_evidence::check::Status;
use quorate_evidence::record::{Outcome, Record as Evidence};

use super::{Error, Job};
use crate::git::{Identity, LandError, Merge};
use crate::record::{Record, RunOutcome};
use crate::state::ChangeState;

impl Job {
    /// Merges a change onto a commit; the result is a candidate, or a conflict with its evidence.
    pub(super) fn prepare(&self, id: &ChangeId, onto: &GitOid) -> Result<Vec<Record>, Error> {
        let change = self.change(id)?;
        let proposed = &change.proposed;
        let repository = &self.shared.repository;
        if proposed.base == *onto {
            return Ok(vec![Record::CandidatePrepared {
                change: id.clone(),
                onto: onto.clone(),
                commit: proposed.commit.clone(),
                tree: proposed.tree.clone(),
            }]);
        }
        let onto_tree = repository.tree_of(onto)?;
        let reason = match repository.merge(&proposed.base, onto, &proposed.commit)? {
            Merge::Clean { tree } if tree != onto_tree => {
                let message = repository.message_of(&proposed.commit)?;
                let author = proposed.agent.as_ref().map_or("quorate", |agent| agent.as_str());
                let identity =
                    Identity { name: author.to_owned(), email: format!("{author}@quorate.invalid") };
                let parents = std::slice::from_ref(onto);
                let commit =
                    repository.commit_tree(&tree, parents, &message, &identity, self.state.started_at)?;
                return Ok(vec![Record::CandidatePrepared {
                    change: id.clone(),
                    onto: onto.clone(),
                    commit,
                    tree,
                }]);
            }
            Merge::Clean { .. } => format!("everything it changes is in {} already", onto.short()),
            Merge::Conflict { paths, .. } => {
                let paths: Vec<_> =
                    paths.iter().take(8).map(|path| path.to_string_lossy().into_owned()).collect();
                format!("conflicts with what has landed ({}) in {}", onto.short(), paths.join(", "))
            }
        };
        let merge = [&proposed.base, onto, &proposed.commit];
        let evidence = conflict_evidence(merge, &proposed.tree, &onto_tree, &reason, self.state.last_at);
        let evidence = self.shared.store.put(&evidence.to_bytes())?;
        Ok(vec![Record::ConflictFound { change: id.clone(), onto: onto.clone(), reason, evidence }])
    }

    /// Moves the result branch by compare-and-swap. Done twice it is done once.
    pub(super) fn land(
        &self,
        id: &ChangeId,
        from: Option<&GitOid>,
        to: &GitOid,
    ) -> Result<Vec<Record>, Error> {
        let change = self.change(id)?;
        let ballot = change.ballots.last().and_then(|ballot| self.state.ballots.get(ballot));
        let certificate = ballot
            .filter(|ballot| ballot.passed())
            .and_then(|ballot| ballot.certificate)
            .map(|(_, digest)| digest);
        let (Some(candidate), Some(certificate)) = (&change.candidate, certificate) else {
            return Err(Error::Invariant(format!("change {id} is to land without a certificate")));
        };
        if candidate.commit != *to {
            return Err(Error::Invariant(format!(
                "change {id} is to land as {to}, but its certificate is for {}",
                candidate.commit
            )));
        }
        let branch = &self.state.started.branch;
        let landed = crate::git::land(&self.shared.target, &self.shared.repository, branch, from, to);
        match landed {
            Ok(()) => {}
            // The branch moved, and the node died before it could say so.
            Err(LandError::Moved { found }) if found.as_ref() == Some(to) => {}
            Err(LandError::Moved { .. } | LandError::CheckedOut { .. }) => {
                return Ok(vec![Record::Finished { outcome: RunOutcome::BranchMoved }]);
            }
            Err(LandError::Git(error)) => return Err(error.into()),
        }
        Ok(vec![Record::Landed {
            change: id.clone(),
            commit: to.clone(),
            tree: candidate.tree.clone(),
            certificate,
        }])
    }

    fn change(&self, id: &ChangeId) -> Result<&ChangeState, Error> {
        self.state.changes.get(id).ok_or_else(|| Error::Invariant(format!("there is no change {id}")))
    }
}

/// The record of a merge of `[base, ours, theirs]` that was tried and did not work out.
pub(super) fn conflict_evidence(
    [base, ours, theirs]: [&GitOid; 3],
    tree: &GitOid,
    onto_tree: &GitOid,
    reason: &str,
    now: Timestamp,
) -> Evidence {
    let command =
        ["git", "merge-tree", "--write-tree", "--merge-base", base.as_str(), ours.as_str(), theirs.as_str()];
    Evidence {
        version: quorate_evidence::record::VERSION,
        check: "merge".into(),
        tree: tree.clone(),
        base_tree: Some(onto_tree.clone()),
        validator: None,
        command: command.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        tool: None,
        started: now,
        wall_ms: 0,
        cpu_ms: None,
        memory_peak_bytes: None,
        outcome: Outcome::Exit { code: 1 },
        stdout: None,
        stderr: None,
        status: Status::Fail,
        reason: reason.to_owned(),
        findings: Vec::new(),
        measures: Default::default(),
        containment: Vec::new(),
    }
}
