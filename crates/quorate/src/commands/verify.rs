//! `quorate verify`: a certificate, offline.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use quorate_base::{ExitStatus, RunId, ValidatorId};
use quorate_evidence::certificate::{self, Verification};
use quorate_evidence::key::PublicKey;
use quorate_swarm::replay::{self, Comparison};
use quorate_swarm::workspace::Workspace;
use serde::Serialize;

use super::certify;
use crate::cli;
use crate::failure::Usage;
use crate::host;
use crate::printer::{BAD, GOOD, Printer};
use crate::progress::word;

/// The largest certificate read.
const CERTIFICATE_MAX: u64 = 32 << 20;

/// The document of `quorate verify --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    valid: bool,
    reasons: &'a [String],
    verdict: Option<quorate_consensus::ballot::Verdict>,
    subject: Option<Subject>,
    signers: Vec<String>,
    threshold: Option<u32>,
    electorate: Vec<String>,
    /// Where the keys came from: `keys`, `workspace` or `self-asserted`.
    trust: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<&'a [Comparison]>,
}

#[derive(Debug, Serialize)]
struct Subject {
    tree: String,
    commit: String,
}

pub(crate) fn verify(here: &Path, args: &cli::Verify, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let path = &args.certificate;
    let length = std::fs::metadata(path)
        .map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?
        .len();
    if length > CERTIFICATE_MAX {
        return Err(
            Usage(format!("{} has {length} bytes; no certificate is that large", path.display())).into()
        );
    }
    let bytes =
        std::fs::read(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
    let (trusted, trust) = trusted(here, args)?;
    let verification = certificate::verify(&bytes, trusted.as_ref());
    let compared = if args.replay && verification.valid { Some(replay(here, &verification)?) } else { None };
    let differs = compared.as_ref().is_some_and(|all| all.iter().any(|one| !one.differences.is_empty()));
    let unknown =
        compared.as_ref().is_some_and(|all| all.is_empty() || all.iter().any(|one| !one.conclusive));
    if printer.json {
        let statement = verification.statement.as_ref();
        printer.document(&Document {
            valid: verification.valid,
            reasons: &verification.reasons,
            verdict: verification.verdict,
            subject: verification
                .subject
                .as_ref()
                .map(|s| Subject { tree: s.tree.to_string(), commit: s.commit.to_string() }),
            signers: verification.signers.iter().map(ToString::to_string).collect(),
            threshold: verification.threshold,
            electorate: statement
                .map(|s| s.predicate.electorate.iter().map(|e| e.validator.to_string()).collect())
                .unwrap_or_default(),
            trust,
            replay: compared.as_deref(),
        });
    } else {
        show(&verification, trust, compared.as_deref(), printer);
    }
    Ok(match verification.verdict {
        _ if !verification.valid || differs => ExitStatus::Refused,
        _ if unknown => ExitStatus::Inconclusive,
        Some(verdict) => certify::status(verdict),
        None => ExitStatus::Refused,
    })
}

type Trusted = Option<BTreeMap<ValidatorId, PublicKey>>;

fn trusted(here: &Path, args: &cli::Verify) -> anyhow::Result<(Trusted, &'static str)> {
    if args.self_asserted {
        return Ok((None, "self-asserted"));
    }
    if let Some(folder) = &args.keys {
        let keys = read_keys(folder)?;
        if keys.is_empty() {
            return Err(Usage(format!("{} holds no NAME.pub", folder.display())).into());
        }
        return Ok((Some(keys), "keys"));
    }
    match Workspace::find(here) {
        Ok(workspace) => Ok((Some(workspace.trusted()?), "workspace")),
        Err(_) => Err(Usage(
            "whose keys are to be trusted? Run this in the workspace that made the certificate, or give --keys DIR, or \
             --self-asserted to check only that the certificate is whole"
                .into(),
        )
        .into()),
    }
}

fn read_keys(folder: &Path) -> anyhow::Result<BTreeMap<ValidatorId, PublicKey>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Usage(format!("cannot read {}: {error}", folder.display())))?;
    let mut keys = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pub") {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let pem =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let key = PublicKey::from_pem(&pem).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
        keys.insert(ValidatorId::new(name)?, key);
    }
    Ok(keys)
}

fn replay(here: &Path, verification: &Verification) -> anyhow::Result<Vec<Comparison>> {
    let workspace =
        Workspace::find(here).context("a replay needs the workspace whose evidence it repeats")?;
    let statement = verification.statement.as_ref().context("the certificate holds no statement")?;
    let source = quorate_swarm::git::discover(here)?;
    let run = host::new_run_id("replay-")?;
    Ok(replay::replay(&workspace, &source, statement, &RunId::new(run.as_str())?, &host::now)?)
}

fn show(verification: &Verification, trust: &str, compared: Option<&[Comparison]>, printer: &Printer) {
    if verification.valid {
        let verdict = verification.verdict.map(|verdict| word(&verdict)).unwrap_or_default();
        printer.data(&format!("{GOOD}valid{GOOD:#} · verdict {verdict} · keys: {trust}"));
    } else {
        printer.data(&format!("{BAD}not valid{BAD:#}"));
        for reason in &verification.reasons {
            printer.data(&format!("  {reason}"));
        }
    }
    if let Some(subject) = &verification.subject {
        printer.data(&format!("  tree   {}\n  commit {}", subject.tree, subject.commit));
    }
    let signers: Vec<_> = verification.signers.iter().map(ToString::to_string).collect();
    if let Some(threshold) = verification.threshold {
        printer.data(&format!("  signed by {} · {threshold} must agree", signers.join(", ")));
    }
    for one in compared.into_iter().flatten() {
        let style = if one.differences.is_empty() { GOOD } else { BAD };
        let outcome = if one.differences.is_empty() { "same".to_owned() } else { one.differences.join("; ") };
        printer.data(&format!("  replay {:<14} {style}{outcome}{style:#}", one.check));
    }
}
