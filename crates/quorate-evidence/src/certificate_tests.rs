use proptest::prelude::*;
use quorate_base::{BallotId, Digest, RunId, Timestamp};

use super::*;
use crate::check::CheckResult;
use crate::statement::{Absent, Elector, Predicate};

const TREE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const COMMIT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHER: &str = "cccccccccccccccccccccccccccccccccccccccc";

/// A panel whose parts can be bent before they are signed.
struct Panel {
    keys: Vec<SigningKey>,
    votes: Vec<Vote>,
    reports: Vec<Report>,
    statement: Statement,
}

fn name(i: usize) -> ValidatorId {
    ValidatorId::new(format!("v{i}")).unwrap()
}

fn panel(choices: &[Choice]) -> Panel {
    let n = choices.len();
    let key = |i: usize| {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&(i as u64).to_le_bytes());
        SigningKey::from_seed(seed)
    };
    let keys: Vec<SigningKey> = (0..n).map(key).collect();
    let ballot = BallotId::new("ballot-1").unwrap();
    let evidence = Digest::of(b"evidence");
    let vote = |(i, choice): (usize, &Choice)| Vote {
        ballot: ballot.clone(),
        tree: TREE.parse().unwrap(),
        commit: COMMIT.parse().unwrap(),
        validator: name(i),
        choice: *choice,
        confidence: 1.0,
        reason: "seen".into(),
        evidence: vec![evidence],
        inconclusive: false,
    };
    let report = |i: usize| Report {
        ballot: ballot.clone(),
        tree: TREE.parse().unwrap(),
        validator: name(i),
        results: vec![CheckResult {
            check: "tests".into(),
            status: Status::Pass,
            reason: "ok".into(),
            evidence,
        }],
    };
    let electors =
        keys.iter().enumerate().map(|(i, key)| Elector::from_hex(&name(i), &key.public().to_hex()).unwrap());
    let f = u32::try_from((n - 1) / 3).unwrap();
    let quorum = Quorum::new(u32::try_from(n).unwrap(), f, None).unwrap();
    let predicate = Predicate {
        ballot: ballot.clone(),
        run: RunId::new("run-1").unwrap(),
        base: OTHER.parse().unwrap(),
        question: "may it land?".into(),
        electorate: electors.collect(),
        faults: f,
        threshold: quorum.agree(),
        required_checks: vec!["tests".into()],
        verdict: Verdict::Pass,
        votes: Vec::new(),
        reports: Vec::new(),
        absent: Vec::<Absent>::new(),
        countersigners: (0..n).map(name).collect(),
        opened: Timestamp(1),
        decided: Timestamp(2),
        quorate_version: "0".into(),
    };
    let mut statement = Statement::new(TREE.parse().unwrap(), COMMIT.parse().unwrap(), predicate);
    statement.predicate.countersigners.sort();
    Panel {
        votes: choices.iter().enumerate().map(vote).collect(),
        reports: (0..n).map(report).collect(),
        keys,
        statement,
    }
}

const FOUR_OF_FIVE: [Choice; 5] = [Choice::Pass, Choice::Pass, Choice::Fail, Choice::Pass, Choice::Pass];

impl Panel {
    fn trusted(&self) -> TrustedKeys {
        self.keys.iter().enumerate().map(|(i, key)| (name(i), key.public())).collect()
    }

    fn sign_parts(&mut self) {
        let own = |v: &ValidatorId| self.keys.iter().enumerate().find(|(i, _)| name(*i) == *v).unwrap().1;
        self.statement.predicate.votes =
            self.votes.iter().map(|vote| vote.sign(own(&vote.validator))).collect();
        self.statement.predicate.reports =
            self.reports.iter().map(|report| report.sign(own(&report.validator))).collect();
    }

    fn envelope(&mut self) -> Envelope {
        if self.statement.predicate.votes.is_empty() {
            self.sign_parts();
        }
        let bytes = self.statement.to_bytes();
        let signatures = self.keys.iter().map(|key| Signature::make(IN_TOTO, &bytes, key)).collect();
        Envelope::of_statement(&bytes, signatures)
    }

    #[track_caller]
    fn refused(&mut self, needle: &str) {
        let envelope = self.envelope();
        refused(&envelope, &self.trusted(), needle);
    }
}

#[track_caller]
fn refused(envelope: &Envelope, trusted: &TrustedKeys, needle: &str) {
    let verification = verify(&envelope.to_bytes(), Some(trusted));
    assert!(!verification.valid);
    let found = verification.reasons.iter().any(|reason| reason.contains(needle));
    assert!(found, "no `{needle}` in {:?}", verification.reasons);
}

#[test]
fn a_sound_certificate_is_valid_and_keeps_its_dissent() {
    let mut panel = panel(&FOUR_OF_FIVE);
    let envelope = panel.envelope();
    let verification = verify(&envelope.to_bytes(), Some(&panel.trusted()));
    assert_eq!(verification.reasons, Vec::<String>::new());
    assert!(verification.valid);
    assert_eq!(verification.verdict, Some(Verdict::Pass));
    assert_eq!(verification.signers.len(), 5);
    assert_eq!(verification.statement.unwrap().predicate.votes.len(), 5);
}

#[test]
fn its_bytes_are_as_they_were() {
    let digest = Digest::of(&panel(&FOUR_OF_FIVE).envelope().to_bytes());
    assert_eq!(digest.to_string(), "67c365195bd3d5df890aafd29d5d6952c47bb444d43c4fe8aae4a393af9798c8");
}

#[test]
fn a_missing_a_repeated_and_a_strange_signer_are_refused() {
    let mut panel = panel(&FOUR_OF_FIVE);
    let (whole, trusted) = (panel.envelope(), panel.trusted());
    let mut missing = whole.clone();
    missing.signatures.remove(1);
    refused(&missing, &trusted, "signature of v1 is missing");
    let mut repeated = whole.clone();
    repeated.signatures[1] = repeated.signatures[0].clone();
    refused(&repeated, &trusted, "v0 signs twice");
    let mut strange = whole.clone();
    let stranger = SigningKey::from_seed([99; 32]);
    strange.signatures.push(Signature::make(IN_TOTO, &whole.payload().unwrap(), &stranger));
    refused(&strange, &trusted, "unknown key");
    let mut none = whole;
    none.signatures.clear();
    refused(&none, &trusted, "nobody has signed");
}

#[test]
fn an_electorate_of_keys_nobody_trusts_is_refused() {
    let mut panel = panel(&FOUR_OF_FIVE);
    let mut trusted = panel.trusted();
    trusted.insert(name(3), SigningKey::from_seed([99; 32]).public());
    refused(&panel.envelope(), &trusted, "unknown key: v3");
    trusted.remove(&name(3));
    refused(&panel.envelope(), &trusted, "unknown key: v3");
    assert!(verify(&panel.envelope().to_bytes(), None).valid, "self-asserted, it is whole");
}

#[test]
fn a_vote_for_another_tree_commit_or_ballot_is_refused() {
    let mut other = panel(&FOUR_OF_FIVE);
    other.votes[0].tree = OTHER.parse().unwrap();
    other.refused("vote of v0 is for another tree");
    let mut other = panel(&FOUR_OF_FIVE);
    other.votes[0].commit = OTHER.parse().unwrap();
    other.refused("vote of v0 is for another tree");
    let mut other = panel(&FOUR_OF_FIVE);
    other.votes[0].ballot = BallotId::new("ballot-2").unwrap();
    other.refused("for ballot ballot-2");
    let mut other = panel(&FOUR_OF_FIVE);
    other.reports[0].tree = OTHER.parse().unwrap();
    other.refused("report of v0 is about something else");
}

#[test]
fn a_vote_in_the_name_of_another_and_a_second_vote_are_refused() {
    let mut forged = panel(&FOUR_OF_FIVE);
    forged.sign_parts();
    let vote = Vote { choice: Choice::Pass, ..forged.votes[2].clone() };
    forged.statement.predicate.votes[2] = vote.sign(&forged.keys[0]);
    forged.refused("not signed by the elector");
    let mut twice = panel(&FOUR_OF_FIVE);
    twice.votes.push(Vote { choice: Choice::Pass, ..twice.votes[2].clone() });
    twice.refused("v2 votes twice");
}

#[test]
fn a_verdict_that_does_not_follow_from_the_votes_is_refused() {
    let three = [Choice::Pass, Choice::Pass, Choice::Fail, Choice::Pass, Choice::Fail];
    panel(&three).refused("4 must agree");
    let mut flattered = panel(&FOUR_OF_FIVE);
    flattered.statement.predicate.verdict = Verdict::Fail;
    flattered.refused("make it Pass");
}

#[test]
fn an_impossible_quorum_and_a_repeated_elector_are_refused() {
    let mut easy = panel(&FOUR_OF_FIVE);
    easy.statement.predicate.threshold = 2;
    easy.refused("impossible quorum");
    let mut stuffed = panel(&FOUR_OF_FIVE);
    stuffed.statement.predicate.electorate[4] = stuffed.statement.predicate.electorate[0].clone();
    stuffed.refused("in the electorate twice");
}

#[test]
fn a_required_check_nobody_for_it_has_seen_pass_is_refused() {
    let mut uncovered = panel(&FOUR_OF_FIVE);
    uncovered.statement.predicate.required_checks.push("secrets".into());
    uncovered.refused("secrets");
    let mut by_the_dissenter = panel(&FOUR_OF_FIVE);
    by_the_dissenter.reports.retain(|report| report.validator == name(2));
    by_the_dissenter.refused("tests");
}

#[test]
fn other_types_are_refused() {
    let mut other = panel(&FOUR_OF_FIVE);
    other.statement.predicate_type = "https://example.org/other".into();
    other.refused("predicate type");
    let mut other = panel(&FOUR_OF_FIVE);
    other.statement.subject[0].digest.insert("sha256".into(), "00".into());
    other.refused("subject");
    let bytes = panel(&FOUR_OF_FIVE).statement.to_bytes();
    let wrong = Envelope::sign("text/plain", &bytes, &SigningKey::from_seed([1; 32]));
    refused(&wrong, &BTreeMap::new(), "payload type");
}

#[test]
fn a_validator_signs_only_what_holds_and_has_its_vote() {
    let mut panel = panel(&FOUR_OF_FIVE);
    panel.sign_parts();
    let bytes = panel.statement.to_bytes();
    let own = panel.statement.predicate.votes[2].clone();
    assert!(countersign(&bytes, &panel.keys[2], &own).is_ok());
    assert_eq!(countersign(&bytes, &SigningKey::from_seed([99; 32]), &own), Err(Refusal::Stranger));
    let turned = Vote { choice: Choice::Pass, ..panel.votes[2].clone() }.sign(&panel.keys[2]);
    assert_eq!(countersign(&bytes, &panel.keys[2], &turned), Err(Refusal::VoteMissing));
    panel.statement.predicate.verdict = Verdict::Fail;
    let unsound = countersign(&panel.statement.to_bytes(), &panel.keys[2], &own);
    assert!(matches!(unsound, Err(Refusal::Unsound(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_change_of_any_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut panel = panel(&FOUR_OF_FIVE);
        let mut bytes = panel.envelope().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let verification = verify(&bytes, Some(&panel.trusted()));
        prop_assert!(!verification.valid, "byte {} with {}", at, flip);
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(!verify(&bytes, None).valid);
    }
}
