//! From everybody's reports to one's own vote.

use std::collections::{BTreeMap, BTreeSet};

use quorate_base::ValidatorId;
use quorate_consensus::ballot::Choice;
use quorate_evidence::check::{CheckResult, Status};
use quorate_evidence::dsse::Envelope;
use quorate_evidence::key::PublicKey;
use quorate_evidence::vote::{Report, Vote};

use super::{Error, Seat};

impl Seat<'_> {
    pub(super) fn vote(&self) -> Result<Envelope, Error> {
        let reports = self.open_reports()?;
        let mine =
            reports.get(&self.request.validator).map(|report| report.results.clone()).unwrap_or_default();
        let ran: BTreeSet<&str> = mine.iter().map(|result| result.check.as_str()).collect();
        // Another's failure is believed once it has been seen with one's own eyes.
        let claimed: BTreeSet<&str> = reports
            .values()
            .flat_map(|report| &report.results)
            .filter(|result| result.status == Status::Fail && !ran.contains(result.check.as_str()))
            .map(|result| result.check.as_str())
            .collect();
        let claimed: Vec<String> =
            self.request.checks.keys().filter(|name| claimed.contains(name.as_str())).cloned().collect();
        let reproduced = self.run_checks(&claimed)?;
        let vote = self.judge(&mine, &reproduced);
        Ok(vote.sign(&self.key))
    }

    /// Reports that are signed by who they are of, about this ballot and tree; others count for nothing.
    fn open_reports(&self) -> Result<BTreeMap<ValidatorId, Report>, Error> {
        let mut keys = BTreeMap::new();
        for elector in &self.request.electorate {
            let key = PublicKey::from_hex(&elector.public_key)
                .map_err(|error| Error::Electorate(error.to_string()))?;
            keys.insert(&elector.validator, key);
        }
        let mut reports = BTreeMap::new();
        for envelope in &self.request.reports {
            let report = keys.iter().find_map(|(validator, key)| {
                let report = Report::open(envelope, key).ok()?;
                (report.validator == **validator).then_some(report)
            });
            let fits = |r: &Report| r.ballot == self.request.ballot && r.tree == self.request.subject.tree;
            if let Some(report) = report.filter(fits) {
                reports.insert(report.validator.clone(), report);
            }
        }
        Ok(reports)
    }

    fn judge(&self, mine: &[CheckResult], reproduced: &[CheckResult]) -> Vote {
        let seen: Vec<&CheckResult> = mine.iter().chain(reproduced).collect();
        let having =
            |status: Status| seen.iter().filter(move |r| r.status == status).copied().collect::<Vec<_>>();
        let (failed, inconclusive, partial) =
            (having(Status::Fail), having(Status::Inconclusive), having(Status::Partial));
        let nothing_seen = seen.iter().all(|result| result.status == Status::Skipped);
        let choice = if !failed.is_empty() {
            Choice::Fail
        } else if !inconclusive.is_empty() || !partial.is_empty() || nothing_seen {
            Choice::Partial
        } else {
            Choice::Pass
        };
        let named = |results: &[&CheckResult]| {
            results.iter().map(|r| format!("{}: {}", r.check, r.reason)).collect::<Vec<_>>().join("; ")
        };
        let reason = match choice {
            Choice::Fail => named(&failed),
            Choice::Partial if nothing_seen => {
                "no check could be run, so there is nothing to vote on".to_owned()
            }
            Choice::Partial => named(&[inconclusive.clone(), partial].concat()),
            Choice::Pass => format!("{} checks passed", having(Status::Pass).len()),
        };
        // How much of what it was to look at gave an answer either way.
        let answered =
            seen.iter().filter(|r| !matches!(r.status, Status::Inconclusive | Status::Skipped)).count();
        let confidence = if seen.is_empty() { 0.0 } else { answered as f64 / seen.len() as f64 };
        Vote {
            ballot: self.request.ballot.clone(),
            tree: self.request.subject.tree.clone(),
            commit: self.request.subject.commit.clone(),
            validator: self.request.validator.clone(),
            choice,
            confidence,
            reason: reason.chars().take(2000).collect(),
            evidence: seen.iter().map(|result| result.evidence).collect(),
            inconclusive: choice == Choice::Partial && (!inconclusive.is_empty() || nothing_seen),
        }
    }
}
