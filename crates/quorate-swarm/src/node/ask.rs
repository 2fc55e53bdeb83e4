//! Asking validators, each a process of its own, and keeping the certificate.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use quorate_agents::{Command, Limits, Outcome, Stdin};
use quorate_base::{BallotId, ByteCount, Millis, ValidatorId};
use quorate_evidence::dsse::Envelope;
use quorate_evidence::key::PublicKey;
use quorate_evidence::vote::{Report, Vote};

use super::{Error, Job};
use crate::panel;
use crate::record::{Record, Step};
use crate::state::BallotState;
use crate::validator::{Answer, Request, Subject};

/// Times a validator is started for one step before it counts as absent.
const TRIES: u32 = 2;
/// The longest answer read.
const ANSWER_MAX: u64 = 16 << 20;

impl Job {
    /// Gets one answer from one validator, or the reason why there is none.
    pub(super) fn ask(
        &self,
        id: &BallotId,
        validator: &ValidatorId,
        step: Step,
    ) -> Result<Vec<Record>, Error> {
        let ballot = self.ballot(id)?;
        let request = self.request(id, ballot, validator, step)?;
        let mut reason = String::new();
        for _ in 0..TRIES {
            if self.leash.pulled().is_some() {
                return Ok(Vec::new());
            }
            match self.ask_once(id, ballot, validator, step, &request)? {
                Ok(record) => return Ok(vec![record]),
                Err(why) => reason = why,
            }
        }
        if self.leash.pulled().is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![Record::ValidatorAbsent { ballot: id.clone(), validator: validator.clone(), step, reason }])
    }

    fn ask_once(
        &self,
        id: &BallotId,
        ballot: &BallotState,
        validator: &ValidatorId,
        step: Step,
        request: &[u8],
    ) -> Result<Result<Record, String>, Error> {
        let gate = &self.state.started.spec.gate;
        let scratch = self.shared.run.panels().join(format!("{id}.{validator}.{step:?}").to_lowercase());
        self.shared.repository.remove_worktrees_below(&scratch, &Default::default())?;
        let io = |source| Error::Io { what: format!("cannot prepare {}", scratch.display()), source };
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(io)?;
        }
        fs::create_dir_all(&scratch).map_err(io)?;
        let mut args: Vec<OsString> = self.shared.validator.iter().skip(1).cloned().collect();
        let places = [
            ("--key", self.shared.workspace.key_path(validator)),
            ("--objects", self.shared.store.root().to_owned()),
            ("--repository", self.shared.run.repository()),
            ("--scratch", scratch.clone()),
        ];
        for (flag, path) in places {
            args.push(flag.into());
            args.push(path.into_os_string());
        }
        let mut env: std::collections::BTreeMap<OsString, OsString> = gate
            .env
            .iter()
            .filter_map(|name| std::env::var_os(name).map(|value| (OsString::from(name), value)))
            .collect();
        env.insert("QUORATE_RUN".into(), self.state.started.run.as_str().into());
        let command = Command {
            program: self.shared.validator.first().cloned().unwrap_or_default().into(),
            args,
            cwd: scratch.clone(),
            env,
            stdin: Stdin::Bytes(request.to_vec()),
            stdout: scratch.join("answer"),
            stderr: scratch.join("complaint"),
            limits: Limits {
                wall: gate.timeout,
                memory: ByteCount(gate.memory.0.saturating_add(256 << 20)),
                cpu: Millis(gate.timeout.0.saturating_mul(16)),
                output: ByteCount::mib(64),
                processes: 8192,
                open_files: 4096,
                cpus: None,
                disk: None,
                idle: None,
                grace: Millis(700),
            },
            sandbox: None,
            marker: self.state.started.run.to_string(),
        };
        let outcome = match quorate_agents::spawn(&command, &self.shared.containment) {
            Err(error) => return Ok(Err(error.to_string())),
            Ok(running) => {
                self.leash.hold(running.control());
                match running.wait() {
                    Err(error) => return Ok(Err(error.to_string())),
                    Ok(ended) => ended.outcome,
                }
            }
        };
        let answer = match outcome {
            Outcome::Exited { code: 0 } => read_answer(&command.stdout),
            other => {
                let words = super::agent::last_words(&[&command.stderr], &[]);
                Err(format!(
                    "its process ended with {other:?}{}{words}",
                    if words.is_empty() { "" } else { ": " }
                ))
            }
        };
        let record = answer.and_then(|answer| self.accept(id, ballot, validator, step, answer));
        self.shared.repository.remove_worktrees_below(&scratch, &Default::default())?;
        // What cannot be removed now is swept when the run ends.
        let _ = fs::remove_dir_all(&scratch);
        Ok(record)
    }

    /// Takes an answer only if it is signed by who was asked, and about what was asked.
    fn accept(
        &self,
        id: &BallotId,
        ballot: &BallotState,
        validator: &ValidatorId,
        step: Step,
        answer: Answer,
    ) -> Result<Record, String> {
        let key = self.public_key(validator).map_err(|error| error.to_string())?;
        let about = |b: &BallotId, tree: &quorate_base::GitOid, who: &ValidatorId| {
            *b == *id && *tree == ballot.tree && *who == *validator
        };
        match (step, answer) {
            (Step::Examine, Answer::Report(report)) => {
                let open = Report::open(&report, &key).map_err(|error| error.to_string())?;
                if !about(&open.ballot, &open.tree, &open.validator) {
                    return Err("its report is about something else".into());
                }
                Ok(Record::ReportReceived { ballot: id.clone(), validator: validator.clone(), report })
            }
            (Step::Vote, Answer::Vote(vote)) => {
                let open = Vote::open(&vote, &key).map_err(|error| error.to_string())?;
                if !about(&open.ballot, &open.tree, &open.validator) || open.commit != ballot.commit {
                    return Err("its vote is about something else".into());
                }
                if let Some(missing) =
                    open.evidence.iter().find(|digest| !self.shared.store.path(digest).exists())
                {
                    return Err(format!("its vote rests on evidence {missing} that is not in the store"));
                }
                Ok(Record::VoteCast { ballot: id.clone(), validator: validator.clone(), vote })
            }
            (Step::Countersign, Answer::Signature(signature)) => {
                let statement = panel::statement(&self.state, id, ballot);
                let envelope = Envelope::of_statement(&statement.to_bytes(), vec![signature.clone()]);
                envelope.verify_signature(&key).map_err(|error| error.to_string())?;
                Ok(Record::Countersigned { ballot: id.clone(), validator: validator.clone(), signature })
            }
            _ => Err("it answered another question".into()),
        }
    }

    fn request(
        &self,
        id: &BallotId,
        ballot: &BallotState,
        validator: &ValidatorId,
        step: Step,
    ) -> Result<Vec<u8>, Error> {
        let spec = &self.state.started.spec;
        let statement = (step == Step::Countersign).then(|| {
            String::from_utf8_lossy(&panel::statement(&self.state, id, ballot).to_bytes()).into_owned()
        });
        let request = Request {
            step,
            run: self.state.started.run.clone(),
            ballot: id.clone(),
            validator: validator.clone(),
            subject: Subject {
                commit: ballot.commit.clone(),
                tree: ballot.tree.clone(),
                base: ballot.onto.clone(),
                base_tree: self.shared.repository.tree_of(&ballot.onto)?,
            },
            electorate: self.state.started.electorate.clone(),
            checks: spec.checks.iter().map(|(name, check)| (name.clone(), check.spec.clone())).collect(),
            assigned: spec.assignment(validator),
            memory: spec.gate.memory,
            sandbox: spec.gate.sandbox.as_ref().map(|sandbox| sandbox.below(&self.shared.swarm_dir)),
            reports: if step == Step::Vote { ballot.reports.values().cloned().collect() } else { Vec::new() },
            statement,
            vote: ballot.votes.get(validator).cloned().filter(|_| step == Step::Countersign),
        };
        Ok(serde_json::to_vec(&request)?)
    }

    /// Keeps the certificate; it is put through the same verification that anybody else would use.
    pub(super) fn certify(&self, id: &BallotId) -> Result<Vec<Record>, Error> {
        let ballot = self.ballot(id)?;
        let Some((verdict, _)) = ballot.decided else {
            return Err(Error::Invariant(format!("ballot {id} is not decided")));
        };
        let statement = panel::statement(&self.state, id, ballot);
        let envelope =
            Envelope::of_statement(&statement.to_bytes(), ballot.signatures.values().cloned().collect());
        let bytes = envelope.to_bytes();
        let trusted = self.shared.workspace.public_keys(self.state.panel())?;
        let verification = quorate_evidence::certificate::verify(&bytes, Some(&trusted));
        // Where nobody countersigns there is a verdict, INCONCLUSIVE, but nothing anybody vouches for.
        if !verification.valid && !ballot.signatures.is_empty() {
            let reasons = verification.reasons.join("; ");
            return Err(Error::Invariant(format!(
                "the certificate of ballot {id} does not verify: {reasons}"
            )));
        }
        let certificate = self.shared.store.put(&bytes)?;
        let folder = self.shared.run.certificates();
        let path = folder.join(format!("{id}.json"));
        let io = |source| Error::Io { what: format!("cannot write {}", path.display()), source };
        fs::create_dir_all(&folder).map_err(io)?;
        let aside = folder.join(format!(".{id}.json"));
        fs::write(&aside, &bytes).and_then(|()| fs::rename(&aside, &path)).map_err(io)?;
        Ok(vec![Record::Certified {
            ballot: id.clone(),
            change: ballot.change.clone(),
            verdict,
            certificate,
        }])
    }

    fn ballot(&self, id: &BallotId) -> Result<&BallotState, Error> {
        self.state.ballots.get(id).ok_or_else(|| Error::Invariant(format!("there is no ballot {id}")))
    }

    fn public_key(&self, validator: &ValidatorId) -> Result<PublicKey, Error> {
        let elector = self.state.started.electorate.iter().find(|elector| elector.validator == *validator);
        let hex = elector.map(|elector| elector.public_key.as_str()).unwrap_or_default();
        PublicKey::from_hex(hex).map_err(|error| Error::Invariant(format!("the key of {validator}: {error}")))
    }
}

fn read_answer(path: &Path) -> Result<Answer, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > ANSWER_MAX {
        return Err(format!("its answer has {length} bytes; at most {ANSWER_MAX} are read"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its answer cannot be read: {error}"))
}
