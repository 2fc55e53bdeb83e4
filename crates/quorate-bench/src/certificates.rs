//! Hashing, signing and verifying.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use quorate_base::digest::Hasher;
use quorate_base::{BallotId, Digest, GitOid, RunId, Timestamp, ValidatorId};
use quorate_consensus::ballot::{Choice, Verdict};
use quorate_consensus::quorum::Quorum;
use quorate_evidence::certificate;
use quorate_evidence::check::{CheckResult, Status};
use quorate_evidence::dsse::{Envelope, IN_TOTO, Signature};
use quorate_evidence::key::SigningKey;
use quorate_evidence::statement::{Elector, Predicate, Statement};
use quorate_evidence::vote::{Report, Vote};

use crate::measure::{Claim, Context, alone, micros};

/// SHA-256 of a mebibyte, as every output kept goes through it.
pub(crate) fn hash(context: &Context) -> anyhow::Result<Claim> {
    let block = vec![7_u8; 1 << 20];
    let time = alone(50, || {
        let mut hasher = Hasher::default();
        hasher.update(&block);
        std::hint::black_box(hasher.finish());
        Ok(())
    })?;
    Ok(context.claim("evidence.hash", "hash 1 MiB of output", micros(time), "µs"))
}

/// One signed vote.
pub(crate) fn sign(context: &Context) -> anyhow::Result<Claim> {
    let key = SigningKey::from_seed([1; 32]);
    let vote = vote(0, Choice::Pass)?;
    let time = alone(200, || {
        std::hint::black_box(vote.sign(&key));
        Ok(())
    })?;
    Ok(context.claim("evidence.sign", "sign one vote", micros(time), "µs"))
}

pub(crate) fn verify_5(context: &Context) -> anyhow::Result<Claim> {
    verify(context, "certificate.verify.5", 5)
}

pub(crate) fn verify_150(context: &Context) -> anyhow::Result<Claim> {
    verify(context, "certificate.verify.150", 150)
}

fn verify(context: &Context, id: &'static str, n: u32) -> anyhow::Result<Claim> {
    let (bytes, keys) = certificate_of(n)?;
    let trusted = keys
        .iter()
        .enumerate()
        .map(|(i, key)| Ok((name(i)?, key.public())))
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    ensure!(certificate::verify(&bytes, Some(&trusted)).valid, "the certificate to measure is not valid");
    let time = alone(20, || {
        std::hint::black_box(certificate::verify(&bytes, Some(&trusted)));
        Ok(())
    })?;
    // Each validator signs a report, a vote and the statement.
    let message = [0_u8; 512];
    let key = SigningKey::from_seed([1; 32]);
    let envelope = Envelope::sign("x", &message, &key);
    let one = alone(50, || Ok(envelope.verify_signature(&key.public())?))?;
    let what = format!("verify a certificate of {n} validators");
    let claim = context.claim(id, &what, micros(time), "µs");
    Ok(claim.beside(&format!("{} single signature checks", 3 * n), micros(one) * f64::from(3 * n)))
}

fn name(i: usize) -> anyhow::Result<ValidatorId> {
    Ok(ValidatorId::new(format!("v{i}"))?)
}

fn oid(letter: &str) -> anyhow::Result<GitOid> {
    Ok(letter.repeat(40).parse()?)
}

fn vote(i: usize, choice: Choice) -> anyhow::Result<Vote> {
    Ok(Vote {
        ballot: BallotId::new("b")?,
        tree: oid("a")?,
        commit: oid("b")?,
        validator: name(i)?,
        choice,
        confidence: 1.0,
        reason: "3 checks passed".into(),
        evidence: vec![Digest::of(b"evidence"); 3],
        inconclusive: false,
    })
}

fn certificate_of(n: u32) -> anyhow::Result<(Vec<u8>, Vec<SigningKey>)> {
    let key = |i: u32| {
        let mut seed = [3; 32];
        seed[..4].copy_from_slice(&i.to_le_bytes());
        SigningKey::from_seed(seed)
    };
    let keys: Vec<SigningKey> = (0..n).map(key).collect();
    let f = (n - 1) / 3;
    let quorum = Quorum::new(n, f, None).context("an impossible quorum")?;
    let (mut votes, mut reports, mut electorate, mut signers) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, key) in keys.iter().enumerate() {
        let result = CheckResult {
            check: "tests".into(),
            status: Status::Pass,
            reason: "ok".into(),
            evidence: Digest::of(b"evidence"),
        };
        let report = Report {
            ballot: BallotId::new("b")?,
            tree: oid("a")?,
            validator: name(i)?,
            results: vec![result; 3],
        };
        reports.push(report.sign(key));
        votes.push(vote(i, Choice::Pass)?.sign(key));
        electorate.push(Elector::from_hex(&name(i)?, &key.public().to_hex())?);
        signers.push(name(i)?);
    }
    signers.sort();
    let predicate = Predicate {
        ballot: BallotId::new("b")?,
        run: RunId::new("r")?,
        base: oid("c")?,
        question: "may it land?".into(),
        electorate,
        faults: f,
        threshold: quorum.agree(),
        required_checks: vec!["tests".into()],
        verdict: Verdict::Pass,
        votes,
        reports,
        absent: Vec::new(),
        countersigners: signers,
        opened: Timestamp(1),
        decided: Timestamp(2),
        quorate_version: "0".into(),
    };
    let bytes = Statement::new(oid("a")?, oid("b")?, predicate).to_bytes();
    let signatures = keys.iter().map(|key| Signature::make(IN_TOTO, &bytes, key)).collect();
    Ok((Envelope::of_statement(&bytes, signatures).to_bytes(), keys))
}
