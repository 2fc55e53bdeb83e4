//! Whole runs without a process: a world that is drawn from a seed answers the work, in any order, dying at any record.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_base::{ByteCount, ChangeId, Digest, GitOid, Millis, RunId, Timestamp, ValidatorId};
use quorate_consensus::ballot::{Choice, Verdict};
use quorate_evidence::certificate;
use quorate_evidence::check::{CheckResult, Status};
use quorate_evidence::dsse::Envelope;
use quorate_evidence::key::SigningKey;
use quorate_evidence::vote::{Report, Vote};

use super::{Settled, State, TaskState};
use crate::decide::decide;
use crate::panel;
use crate::plan::{Work, plan};
use crate::record::{
    AgentEnded, AgentOutcome, ChangeProposed, Elector, Record, RunKind, RunStarted, Stamped, Step,
    TaskOutcome,
};
use crate::spec::file;

/// Draws numbers from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

fn oid(text: &str) -> GitOid {
    Digest::of(text.as_bytes()).to_string()[..40].parse().unwrap()
}

/// What is true in the world of one seed.
struct World {
    seed: u64,
    keys: BTreeMap<ValidatorId, SigningKey>,
    /// At most as many as the gate tolerates.
    liar: Option<ValidatorId>,
}

impl World {
    fn fate(&self, question: &str, of: u64) -> u64 {
        Draw(
            self.seed
                ^ Digest::of(question.as_bytes())
                    .as_bytes()
                    .iter()
                    .fold(0, |a, b| a << 5 ^ a >> 59 ^ u64::from(*b)),
        )
        .next()
            % of
    }

    fn good(&self, change: &ChangeId) -> bool {
        self.fate(&format!("good {change}"), 3) > 0
    }

    fn merges(&self, change: &ChangeId, onto: &GitOid) -> bool {
        self.fate(&format!("merge {change} {onto}"), 5) > 0
    }

    /// The records that answer a piece of work.
    fn answer(&self, work: &Work, state: &State) -> Vec<Record> {
        match work {
            Work::Launch { task, agent, attempt, base } => {
                let outcome = match self.fate(&format!("agent {task} {attempt}"), 4) {
                    0 => AgentOutcome::Signaled { signal: 9 },
                    _ => AgentOutcome::Exited { code: 0 },
                };
                let started = Record::AgentStarted {
                    agent: agent.clone(),
                    task: task.clone(),
                    attempt: *attempt,
                    base: base.clone(),
                    pid: 1,
                };
                let ended = AgentEnded {
                    agent: agent.clone(),
                    task: task.clone(),
                    attempt: *attempt,
                    outcome,
                    wall: Millis(1),
                    cpu: Millis(1),
                    memory_peak: ByteCount(1),
                    paused: Millis(0),
                    containment: Vec::new(),
                    stdout: None,
                    stderr: None,
                    last_words: String::new(),
                };
                vec![started, Record::AgentEnded(Box::new(ended))]
            }
            Work::Harvest { task, agent, base, .. } => {
                if self.fate(&format!("nothing {task}"), 6) == 0 {
                    return vec![Record::TaskClosed { task: task.clone(), outcome: TaskOutcome::NoChange }];
                }
                vec![Record::ChangeProposed(ChangeProposed {
                    change: ChangeId::new(task.as_str()).unwrap(),
                    task: Some(task.clone()),
                    agent: Some(agent.clone()),
                    base: base.clone(),
                    commit: oid(&format!("commit {task}")),
                    tree: oid(&format!("tree {task}")),
                    paths: 1,
                    subject: task.to_string(),
                })]
            }
            Work::Prepare { change, onto } if self.merges(change, onto) => vec![Record::CandidatePrepared {
                change: change.clone(),
                onto: onto.clone(),
                commit: oid(&format!("commit {change} on {onto}")),
                tree: oid(&format!("tree {change} on {onto}")),
            }],
            Work::Prepare { change, onto } => vec![Record::ConflictFound {
                change: change.clone(),
                onto: onto.clone(),
                reason: "conflict".into(),
                evidence: Digest::of(b"conflict"),
            }],
            Work::Ask { ballot, validator, step, .. } => {
                vec![self.validator(ballot, validator, *step, state)]
            }
            Work::Certify { ballot: id } => {
                let ballot = &state.ballots[id];
                let (verdict, _) = ballot.decided.unwrap();
                let bytes = panel::statement(state, id, ballot).to_bytes();
                let certificate =
                    Envelope::of_statement(&bytes, ballot.signatures.values().cloned().collect()).to_bytes();
                if !ballot.signatures.is_empty() {
                    let trusted = self.keys.iter().map(|(name, key)| (name.clone(), key.public())).collect();
                    let verification = certificate::verify(&certificate, Some(&trusted));
                    assert!(verification.valid, "{:?}", verification.reasons);
                }
                let change = ballot.change.clone();
                vec![Record::Certified {
                    ballot: id.clone(),
                    change,
                    verdict,
                    certificate: Digest::of(&certificate),
                }]
            }
            Work::Land { change: id, to, .. } => {
                let change = &state.changes[id];
                let candidate = change.candidate.clone().unwrap();
                assert_eq!(candidate.commit, *to);
                let certificate = state.ballots[change.ballots.last().unwrap()].certificate.unwrap().1;
                vec![Record::Landed {
                    change: id.clone(),
                    commit: to.clone(),
                    tree: candidate.tree,
                    certificate,
                }]
            }
        }
    }

    fn validator(
        &self,
        id: &quorate_base::BallotId,
        name: &ValidatorId,
        step: Step,
        state: &State,
    ) -> Record {
        let ballot = &state.ballots[id];
        let key = &self.keys[name];
        let lies = self.liar.as_ref() == Some(name);
        if lies && self.fate(&format!("silent {id} {step:?}"), 3) == 0 {
            let reason = "silent".to_owned();
            return Record::ValidatorAbsent { ballot: id.clone(), validator: name.clone(), step, reason };
        }
        let good = self.good(&ballot.change) != lies;
        let status = if good { Status::Pass } else { Status::Fail };
        match step {
            Step::Examine => {
                let checks = state.started.spec.assignment(name);
                let result = |check: String| CheckResult {
                    check,
                    status,
                    reason: "seen".into(),
                    evidence: Digest::of(b"e"),
                };
                let report = Report {
                    ballot: id.clone(),
                    tree: ballot.tree.clone(),
                    validator: name.clone(),
                    results: checks.into_iter().map(result).collect(),
                };
                Record::ReportReceived {
                    ballot: id.clone(),
                    validator: name.clone(),
                    report: report.sign(key),
                }
            }
            Step::Vote => {
                let vote = Vote {
                    ballot: id.clone(),
                    tree: ballot.tree.clone(),
                    commit: ballot.commit.clone(),
                    validator: name.clone(),
                    choice: if good { Choice::Pass } else { Choice::Fail },
                    confidence: 1.0,
                    reason: "seen".into(),
                    evidence: vec![Digest::of(b"e")],
                    inconclusive: false,
                };
                Record::VoteCast { ballot: id.clone(), validator: name.clone(), vote: vote.sign(key) }
            }
            Step::Countersign => {
                let bytes = panel::statement(state, id, ballot).to_bytes();
                let signature = certificate::countersign(&bytes, key, &ballot.votes[name]).unwrap();
                Record::Countersigned { ballot: id.clone(), validator: name.clone(), signature }
            }
        }
    }
}

fn world(seed: u64) -> (World, Record) {
    let mut text = String::from(
        "objective = \"x\"\n[swarm]\nagents-at-once = 3\n[agents.a]\nprogram = \"a\"\ncount = 8\nattempts = 2\n",
    );
    for n in 0..6 {
        let after = if n == 5 { "after = [\"t0\"]\n" } else { "" };
        text.push_str(&format!("[[tasks]]\nid = \"t{n}\"\nagent = \"a\"\n{after}"));
    }
    text.push_str("[gate]\nat-once = 3\n[checks.tests]\nvalidator = \"tests\"\nbuiltin = \"secrets\"\n");
    let spec = file::parse("x", &text, &BTreeMap::new()).unwrap().spec;
    let key = |i: usize| SigningKey::from_seed([u8::try_from(i).unwrap() + 1; 32]);
    let keys: BTreeMap<_, _> =
        spec.gate.validators.iter().enumerate().map(|(i, name)| (name.clone(), key(i))).collect();
    let mut draw = Draw(seed);
    let liar = (draw.below(2) == 0).then(|| spec.gate.validators[draw.below(5)].clone());
    let electorate =
        keys.iter().map(|(name, key)| Elector { validator: name.clone(), public_key: key.public().to_hex() });
    let started = RunStarted {
        run: RunId::new("r").unwrap(),
        kind: RunKind::Swarm,
        electorate: electorate.collect(),
        spec,
        repository: String::new(),
        swarm_dir: String::new(),
        base: oid("base"),
        base_tree: oid("base tree"),
        branch: "b".into(),
        quorate_version: "0".into(),
    };
    (World { seed, keys, liar }, Record::RunStarted(Box::new(started)))
}

/// Plays a run to its end. Now and then the node dies: the state is folded anew and launches under way are lost.
fn play(seed: u64, deaths: bool) -> (World, Vec<Stamped>, State) {
    let (world, first) = world(seed);
    let mut draw = Draw(seed ^ 0xdead);
    let mut journal = vec![Stamped { seq: 0, time: Timestamp(0), record: first }];
    let mut state = State::begin(&journal[0]).unwrap();
    let append = |state: &mut State, journal: &mut Vec<Stamped>, record: Record| {
        let seq = journal.len() as u64;
        let stamped = Stamped { seq, time: Timestamp(seq), record };
        state.apply(&stamped).unwrap();
        journal.push(stamped);
    };
    // Answers on their way, which a death loses.
    let mut under_way: Vec<Vec<Record>> = Vec::new();
    let mut asked: BTreeSet<Work> = BTreeSet::new();
    for _ in 0..20_000 {
        loop {
            let records = decide(&state, state.last_at);
            if records.is_empty() {
                break;
            }
            records.into_iter().for_each(|record| append(&mut state, &mut journal, record));
        }
        if state.outcome.is_some() {
            return (world, journal, state);
        }
        if deaths && draw.below(25) == 0 {
            under_way.clear();
            asked.clear();
            state = State::fold(journal.iter()).unwrap();
            for (agent, task, attempt) in state.interrupted() {
                append(&mut state, &mut journal, Record::AgentLost { agent, task, attempt });
            }
            continue;
        }
        let wanted = plan(&state);
        asked.retain(|work| wanted.contains(work) || matches!(work, Work::Launch { .. }));
        for work in wanted {
            let started = |other: &Work| matches!((other, &work), (Work::Launch { task: a, .. }, Work::Launch { task: b, .. }) if a == b);
            if !asked.iter().any(started) && asked.insert(work.clone()) {
                under_way.push(world.answer(&work, &state));
            }
        }
        assert!(!under_way.is_empty(), "seed {seed}: nothing to do, and no end: {state:#?}");
        let at = draw.below(under_way.len());
        let record = under_way[at].remove(0);
        if under_way[at].is_empty() {
            under_way.remove(at);
        }
        let ended = if let Record::AgentEnded(ended) = &record { Some(ended.task.clone()) } else { None };
        let stale = match &record {
            Record::Countersigned { ballot, validator, signature } => {
                let statement = panel::statement(&state, ballot, &state.ballots[ballot]).to_bytes();
                let envelope = Envelope::of_statement(&statement, vec![signature.clone()]);
                envelope.verify_signature(&world.keys[validator].public()).is_err()
            }
            _ => false,
        };
        if !stale {
            append(&mut state, &mut journal, record);
        }
        if let Some(ended) = ended {
            asked.retain(|work| !matches!(work, Work::Launch { task, .. } if *task == ended));
        }
    }
    panic!("seed {seed}: the run does not end");
}

fn check(seed: u64, deaths: bool) {
    let (world, journal, state) = play(seed, deaths);
    assert_eq!(State::fold(journal.iter()).unwrap(), state, "seed {seed}: the state is its journal");
    let mut head = state.started.base.clone();
    let mut places = Vec::new();
    for record in &journal {
        if let Record::Landed { change, commit, .. } = &record.record {
            let state = &state.changes[change];
            assert_eq!(
                state.candidate.as_ref().unwrap().onto,
                head,
                "seed {seed}: {change} landed on something else"
            );
            assert!(world.good(change), "seed {seed}: {change} is bad and landed");
            head = commit.clone();
            places.push(change.clone());
        }
    }
    assert_eq!(head, state.head, "seed {seed}");
    let order: Vec<_> = state.queue.iter().filter(|id| places.contains(id)).cloned().collect();
    assert_eq!(places, order, "seed {seed}: changes land in the order in which they were proposed");
    for (id, change) in &state.changes {
        match change.settled.as_ref().unwrap() {
            Settled::Landed { .. } => {
                let ballot = &state.ballots[change.ballots.last().unwrap()];
                assert_eq!(ballot.certificate.unwrap().0, Verdict::Pass, "seed {seed}: {id}");
            }
            // One liar of five cannot keep a good change from landing.
            Settled::Refused { check, .. } => {
                assert!(
                    check == "merge" || !world.good(id),
                    "seed {seed}: {id} is good and was refused by {check}"
                );
            }
        }
    }
    for (id, task) in &state.tasks {
        assert!(
            matches!(task, TaskState::Proposed { .. } | TaskState::Closed { .. }),
            "seed {seed}: {id} is {task:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_run_ends_and_only_good_changes_land_in_order(seed in any::<u64>()) {
        check(seed, false);
    }

    #[test]
    fn a_node_that_dies_again_and_again_comes_to_the_same_kind_of_end(seed in any::<u64>()) {
        check(seed, true);
    }
}
