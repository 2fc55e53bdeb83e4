//! Whole runs without a process: a world that is drawn from a seed answers the work, in any order, dying at any record.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_base::{
    AgentId, ByteCount, ChangeId, Digest, GitOid, Millis, RunId, TaskId, Timestamp, ValidatorId,
};
use quorate_consensus::ballot::{Choice, Verdict};
use quorate_evidence::certificate;
use quorate_evidence::check::{CheckResult, Status};
use quorate_evidence::dsse::Envelope;
use quorate_evidence::key::SigningKey;
use quorate_evidence::vote::{Report, Vote};

use super::crew::Phase;
use super::{Settled, State, TaskState};
use crate::budget::{Account, Amount};
use crate::control::{Command, judge};
use crate::decide::decide;
use crate::panel;
use crate::plan::{Work, plan};
use crate::record::{
    AgentEnded, AgentOutcome, ChangeProposed, Elector, Opinion, Record, RunKind, RunStarted, Stamped, Step,
    TaskOutcome,
};
use crate::spec::{When, file};

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
            Work::Launch { task, agent, attempt, set_aside, .. } => {
                let outcome = match self.fate(&format!("agent {task} {attempt}"), 4) {
                    0 => AgentOutcome::Signaled { signal: 9 },
                    _ => AgentOutcome::Exited { code: 0 },
                };
                let started = Record::AgentStarted {
                    agent: agent.clone(),
                    task: task.clone(),
                    attempt: *attempt,
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
                    used: Amount {
                        launches: 1,
                        agent_time_ms: 1,
                        // At most what it may.
                        tokens: self
                            .fate(&format!("tokens {task} {attempt}"), set_aside.tokens.max(1) + 1)
                            .min(set_aside.tokens),
                        ..Amount::default()
                    },
                    verdict: state.task_spec(task).unwrap().review.as_ref().and_then(|change| {
                        let opinion = |accepted| Opinion { accepted, reason: "seen".into() };
                        // One in four reviewers says nothing.
                        match self.fate(&format!("verdict {change} {agent}"), 4) {
                            0 => None,
                            _ => Some(opinion(self.good(change))),
                        }
                    }),
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

/// What a task may hold while it is not over, in every second world.
const LEASES: [&str; 6] = [
    "\"folder:src\"",
    "\"file:src/a\", \"name:db\"",
    "\"read:folder:src\"",
    "\"read:file:src/a\", \"read:name:db\"",
    "\"name:db\"",
    "",
];

/// Holds every agent's start against the leases of all tasks that are not over then.
fn leases_hold(seed: u64, journal: &[Stamped]) {
    let mut state = State::begin(&journal[0]).unwrap();
    let mut granted: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in &journal[1..] {
        state.apply(record).unwrap();
        match &record.record {
            Record::LeaseGranted { resources, tokens, .. } => {
                for (on, token) in resources.iter().zip(tokens) {
                    let before = granted.entry(on.resource.to_string()).or_default();
                    assert!(
                        before.last().is_none_or(|last| last < token),
                        "seed {seed}: {on} {token} {before:?}"
                    );
                    before.push(*token);
                }
            }
            Record::AgentStarted { task, .. } => {
                let wanted = &state.task_spec(task).unwrap().leases;
                assert_eq!(state.leases.held_by(task).count(), wanted.len(), "seed {seed}: {task}");
                let begun = |at: &TaskState| !matches!(at, TaskState::Waiting { attempts: 0, .. });
                for other in state.tasks.iter().filter(|(id, at)| *id != task && begun(at)).map(|(id, _)| id)
                {
                    let theirs = &state.task_spec(other).unwrap().leases;
                    let conflict = theirs.iter().any(|a| wanted.iter().any(|b| a.conflicts(b)));
                    assert!(!conflict || state.task_over(other), "seed {seed}: {task} beside {other}");
                }
            }
            Record::Finished { .. } => {
                assert_eq!(state.leases.holders().count(), 0, "seed {seed}: something is held at the end");
            }
            _ => {}
        }
    }
}

/// Budgets of every kind, some of them too small.
fn budgets(draw: &mut Draw) -> String {
    let mut text = String::new();
    if draw.below(3) == 0 {
        text.push_str(&format!("budget.launches = {}\n", 1 + draw.below(6)));
    }
    if draw.below(3) == 0 {
        text.push_str(&format!("launch-budget.tokens = {}\n", 1 + draw.below(20)));
    }
    if draw.below(2) == 0 {
        text.push_str(&format!(
            "[budget]\ntokens = {}\nday.tokens = {}\n",
            1 + draw.below(60),
            20 + draw.below(60)
        ));
    }
    text
}

/// A graph of tasks with dependencies of every kind, by a schedule that is drawn too.
fn world(seed: u64) -> (World, Record) {
    let mut draw = Draw(seed ^ 0x57a7e);
    let schedule = ["fifo", "priority", "deadline", "critical-path", "shortest"][draw.below(5)];
    let topology = ["mesh", "star", "ring", "hierarchical"][draw.below(4)];
    let placement = ["load", "cost", "affinity"][draw.below(3)];
    let steal = draw.below(2) == 0;
    let strategy = ["one-for-one", "rest-for-one", "one-for-all"][draw.below(3)];
    let restart = format!("{{ strategy = \"{strategy}\", max = {}, within = \"200ms\" }}", 1 + draw.below(6));
    let scale = if draw.below(2) == 0 { "scale = { idle = \"20ms\", cool-down = \"5ms\" }" } else { "" };
    let budgets = budgets(&mut draw);
    let mut text = format!(
        "objective = \"x\"\n[swarm]\nagents-at-once = 3\nschedule = \"{schedule}\"\n\
         topology = \"{topology}\"\nplacement = \"{placement}\"\nsteal = {steal}\n\
         [agents.lead]\nprogram = \"l\"\nrole = \"coordinator\"\nusage = \"lines\"\n\
         [agents.a]\nprogram = \"a\"\ncount = 2\ncan = [\"x\"]\nattempts = 2\nretry.backoff = \"40ms\"\nusage = \"lines\"\nrestart = {restart}\n{scale}\n\
         [agents.b]\nprogram = \"b\"\ncount = 3\ncan = [\"x\", \"y\"]\ncost = 2\nusage = \"lines\"\n{scale}\n{budgets}"
    );
    for n in 0..8 {
        let agent =
            ["agent = \"a\"", "agent = \"b\"", "needs = [\"x\"]", "needs = [\"y\", \"x\"]"][draw.below(4)];
        text.push_str(&format!("[[tasks]]\nid = \"t{n}\"\n{agent}\n"));
        let on = |draw: &mut Draw| {
            let when = ["landed", "landed", "ended", "started"][draw.below(4)];
            format!("{{ task = \"t{}\", when = \"{when}\" }}", draw.below(n.max(1)))
        };
        let after: Vec<_> = (0..if n == 0 { 0 } else { draw.below(3) }).map(|_| on(&mut draw)).collect();
        text.push_str(&format!("after = [{}]\n", after.join(", ")));
        if seed.is_multiple_of(2) {
            text.push_str(&format!("leases = [{}]\n", LEASES[draw.below(LEASES.len())]));
        }
        let priority = ["critical", "high", "normal", "low", "background"][draw.below(5)];
        text.push_str(&format!("priority = \"{priority}\"\nestimate = \"{}ms\"\n", 1 + draw.below(90)));
        if draw.below(4) == 0 {
            text.push_str(&format!("deadline = \"{}ms\"\n", 1 + draw.below(400)));
        }
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
        spent_today: Amount { tokens: draw.below(30) as u64, ..Amount::default() },
    };
    (World { seed, keys, liar }, Record::RunStarted(Box::new(started)))
}

/// What can go wrong in a run, or be made to.
#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    /// Now and then the node dies: the state is folded anew and launches under way are lost.
    deaths: bool,
    /// Now and then somebody intervenes, whether that makes sense or not.
    hands: bool,
}

/// Commands that are given in a run: without a bound it need not end.
const COMMANDS_MAX: usize = 60;

/// Anything anybody could want, of agents and tasks that are there and of some that are not.
fn whim(draw: &mut Draw) -> Command {
    let agent = AgentId::new(["lead", "a-1", "a-2", "b-1", "b-2", "b-3", "c"][draw.below(7)]).unwrap();
    let number = draw.below(9);
    let kind = if draw.below(4) == 0 { "review-" } else { "" };
    let task = TaskId::new(format!("{kind}t{number}")).unwrap();
    let reason = String::from("whim");
    match draw.below(14) {
        0 | 1 => Command::Pause { agent, reason },
        2 | 3 => Command::Continue { agent, reason },
        4 | 5 => Command::Relaunch { agent, reason },
        6 => Command::Stop { agent, reason },
        7 => Command::Drain { agent, reason },
        8 | 9 => Command::Release { agent, reason },
        10..=12 => Command::Cancel { task, reason },
        _ => {
            use crate::spec::task::Priority::{Background, Critical, High, Low, Normal};
            let priority = [Critical, High, Normal, Low, Background][draw.below(5)];
            Command::Prioritise { task, priority }
        }
    }
}

/// What comes of a launch that is told to end, or stands still: nothing of what it would have come to by itself.
enum Fate {
    AsItWas,
    Cancelled,
    Halted,
}

fn fate(state: &State, record: &Record, draw: &mut Draw) -> Fate {
    let Record::AgentEnded(ended) = record else { return Fate::AsItWas };
    let member = state.crew.get(&ended.agent).unwrap();
    match member.phase {
        // Somebody else may kill it all the same.
        Phase::Paused if draw.below(20) > 0 => Fate::Halted,
        // It may have been faster.
        _ if member.ending && draw.below(3) > 0 => Fate::Cancelled,
        _ => Fate::AsItWas,
    }
}

/// Plays a run to its end.
fn play(seed: u64, trouble: Trouble) -> (World, Vec<Stamped>, State) {
    let (world, first) = world(seed);
    let mut draw = Draw(seed ^ 0xdead);
    let mut journal = vec![Stamped { seq: 0, time: Timestamp(0), record: first }];
    let mut state = State::begin(&journal[0]).unwrap();
    let clock = std::cell::Cell::new(0);
    let append = |state: &mut State, journal: &mut Vec<Stamped>, record: Record| {
        let seq = journal.len() as u64;
        clock.set(clock.get() + 1);
        let stamped = Stamped { seq, time: Timestamp(clock.get()), record };
        state.apply(&stamped).unwrap();
        journal.push(stamped);
    };
    // Answers on their way, which a death loses.
    let mut under_way: Vec<Vec<Record>> = Vec::new();
    let mut asked: BTreeSet<Work> = BTreeSet::new();
    let mut commands = 0;
    for _ in 0..20_000 {
        loop {
            let records = decide(&state, Timestamp(clock.get()));
            if records.is_empty() {
                break;
            }
            for record in records {
                check_start(seed, &journal, &state, &record);
                append(&mut state, &mut journal, record);
            }
        }
        if state.outcome.is_some() {
            return (world, journal, state);
        }
        if trouble.deaths && draw.below(25) == 0 {
            under_way.clear();
            asked.clear();
            state = State::fold(journal.iter()).unwrap();
            for (agent, task, attempt) in state.interrupted() {
                append(
                    &mut state,
                    &mut journal,
                    Record::AgentLost {
                        agent,
                        task,
                        attempt,
                        used: Amount { launches: 1, ..Amount::default() },
                    },
                );
            }
            continue;
        }
        if trouble.hands && commands < COMMANDS_MAX && draw.below(4) == 0 {
            commands += 1;
            let command = whim(&mut draw);
            if let Ok(records) = judge(&state, &command) {
                assert!(!records.is_empty(), "seed {seed}: {command:?} does nothing");
                for record in records {
                    append(&mut state, &mut journal, record);
                }
                continue;
            }
        }
        let wanted = plan(&state, Timestamp(clock.get()));
        let again = |work: &Work| wanted.contains(work) || matches!(work, Work::Launch { .. });
        asked.retain(again);
        for work in wanted {
            let same = |other: &Work| matches!((other, &work), (Work::Launch { task: a, .. }, Work::Launch { task: b, .. }) if a == b);
            if !asked.iter().any(same) && asked.insert(work.clone()) {
                under_way.push(world.answer(&work, &state));
            }
        }
        if under_way.is_empty() {
            let next = state
                .next_time(Timestamp(clock.get()))
                .unwrap_or_else(|| panic!("seed {seed}: nothing to do, and no end: {state:#?}"));
            assert!(next.0 > clock.get(), "seed {seed}: what is due at {next:?} is not done: {state:#?}");
            clock.set(next.0);
            continue;
        }
        let at = draw.below(under_way.len());
        match fate(&state, &under_way[at][0], &mut draw) {
            Fate::AsItWas => {}
            Fate::Cancelled => {
                let Record::AgentEnded(ended) = &mut under_way[at][0] else { unreachable!() };
                ended.outcome = AgentOutcome::Cancelled;
            }
            // A run waits for whom somebody has paused until somebody lets them go on.
            Fate::Halted if commands < COMMANDS_MAX && under_way.len() > 1 => continue,
            Fate::Halted => {
                let Record::AgentEnded(ended) = &under_way[at][0] else { unreachable!() };
                let (agent, reason) = (ended.agent.clone(), String::new());
                let records = judge(&state, &Command::Continue { agent, reason }).unwrap();
                records.into_iter().for_each(|record| append(&mut state, &mut journal, record));
                continue;
            }
        }
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

/// A launch is of a task that waits, may start, and for which there is room and an agent.
fn check_start(seed: u64, journal: &[Stamped], state: &State, record: &Record) {
    let Record::AgentStarting { task, agent, stolen_from, .. } = record else {
        return;
    };
    assert!(matches!(state.tasks[task], TaskState::Waiting { .. }), "seed {seed}: {task} does not wait");
    let taken = state.working();
    let (_, doer) = state.started.spec.declaration(agent).unwrap();
    let spec = state.task_spec(task).unwrap();
    let named = spec.agent.is_empty() || agent.as_str().starts_with(&spec.agent);
    assert!(named && spec.needs.is_subset(&doer.can), "seed {seed}: {agent} cannot do {task}");
    let phase = state.crew.get(agent).unwrap().phase;
    assert!(phase.is_free(), "seed {seed}: {agent} is {phase:?}");
    if let Some(from) = stolen_from {
        assert!(
            state.started.spec.steal && state.shape.may_steal(agent, from),
            "seed {seed}: {agent} from {from}"
        );
    }
    assert!(!taken.contains(agent), "seed {seed}: {agent} is busy");
    assert!(taken.len() < 3, "seed {seed}: there is no room");
    for on in &state.task_spec(task).unwrap().after {
        let settled = |change| state.changes[change].settled.as_ref();
        let fulfilled = match (on.when, &state.tasks[&on.task]) {
            (When::Landed, TaskState::Proposed { change }) => {
                matches!(settled(change), Some(Settled::Landed { .. }))
            }
            (When::Landed, TaskState::Closed { outcome }) => *outcome == TaskOutcome::NoChange,
            (When::Landed, _) => false,
            (When::Ended, TaskState::Proposed { change }) => settled(change).is_some(),
            (When::Ended, at) => matches!(at, TaskState::Closed { .. }),
            (When::Started, _) => journal.iter().any(
                |stamped| matches!(&stamped.record, Record::AgentStarted { task, .. } if *task == on.task),
            ),
        };
        assert!(fulfilled, "seed {seed}: {task} starts before {on:?}");
    }
}

/// No task is done twice, and those that end without a change have a reason that is true.
fn check_tasks(seed: u64, journal: &[Stamped], state: &State) {
    let mut done = BTreeSet::new();
    for stamped in journal {
        match &stamped.record {
            Record::ChangeProposed(ChangeProposed { task: Some(task), .. })
            | Record::TaskClosed { task, .. } => {
                assert!(done.insert(task.clone()), "seed {seed}: {task} came to an end twice");
            }
            Record::AgentEnded(ended)
                if state.task_spec(&ended.task).unwrap().review.is_some() && ended.outcome.succeeded() =>
            {
                assert!(done.insert(ended.task.clone()), "seed {seed}: {} ended twice", ended.task);
            }
            Record::AgentStarted { task, .. } => {
                assert!(!done.contains(task), "seed {seed}: {task} was begun after its end");
            }
            _ => {}
        }
        if let Record::TaskClosed { task, outcome } = &stamped.record {
            let spec = state.task_spec(task).unwrap();
            match outcome {
                TaskOutcome::Blocked { by } => {
                    assert!(
                        spec.after.iter().any(|on| on.task == *by && on.when != When::Ended),
                        "seed {seed}: {task}"
                    );
                }
                TaskOutcome::DeadlinePassed => {
                    let deadline = state.started_at.plus(spec.deadline.unwrap());
                    assert!(stamped.time >= deadline, "seed {seed}: {task} was given up too soon");
                }
                TaskOutcome::OverBudget { .. } => {
                    assert_eq!(state.outcome, Some(crate::record::RunOutcome::BudgetSpent), "seed {seed}");
                }
                _ => {}
            }
        }
    }
}

/// No change that needed a word came before the panel without it, or against it.
fn check_reviews(seed: u64, journal: &[Stamped], state: &State) {
    let mut free = BTreeSet::new();
    for stamped in journal {
        match &stamped.record {
            Record::ReviewGiven { change, by, accepted, .. } => {
                let author = state.changes[change].proposed.agent.as_ref().unwrap();
                assert_ne!(author, by, "seed {seed}: nobody judges himself");
                let word = state.changes[change].review.as_ref().unwrap();
                assert!(word.given.as_ref().is_none_or(|given| given.accepted == *accepted), "seed {seed}");
                if *accepted {
                    free.insert(change.clone());
                }
            }
            Record::ReviewWaived { change, .. } => drop(free.insert(change.clone())),
            Record::BallotOpened { change, .. } => {
                let author = state.changes[change].proposed.agent.as_ref().unwrap();
                let needs = state.shape.decider(author, |_| true).is_some();
                // Whoever decides may have been out of service from the start.
                let asked = journal.iter().any(
                    |s| matches!(&s.record, Record::ReviewAsked { change: asked, .. } if asked == change),
                );
                assert!(!needs || !asked || free.contains(change), "seed {seed}: {change} before the panel");
            }
            _ => {}
        }
    }
}

/// No account has spent more than it may, and nothing is set aside any more.
fn check_budgets(seed: u64, state: &State) {
    for account in state.ledger.accounts() {
        let (budget, spent) = (state.ledger.budget(account), state.ledger.spent(account));
        assert_eq!(state.ledger.in_hand(account), Amount::default(), "seed {seed}: {account}");
        for unit in budget.units() {
            let before = if *account == Account::Day { state.started.spent_today.of(unit) } else { 0 };
            let most = budget.of(unit).unwrap().max(before);
            assert!(
                spent.of(unit) <= most,
                "seed {seed}: {account} has spent {} {unit} of {most}",
                spent.of(unit)
            );
        }
    }
}

/// Nobody who is out is given a task, nobody who stands still begins one, and nothing comes of a task that was cancelled.
fn check_hands(seed: u64, journal: &[Stamped]) {
    let mut state = State::begin(&journal[0]).unwrap();
    let mut attempts: BTreeMap<TaskId, u32> = BTreeMap::new();
    for stamped in &journal[1..] {
        match &stamped.record {
            Record::AgentStarting { agent, task, attempt, .. } => {
                let phase = state.crew.get(agent).unwrap().phase;
                assert!(phase.is_free(), "seed {seed}: {agent} is {phase:?} and is given {task}");
                assert!(!state.unwanted.contains_key(task), "seed {seed}: {task} is not wanted");
                let counted = attempts.get(task).copied().unwrap_or(0);
                assert_eq!(*attempt, counted + 1, "seed {seed}: {task}");
            }
            Record::AgentEnded(ended) => {
                let counts = ended.outcome != AgentOutcome::Cancelled;
                let count = if counts { ended.attempt } else { ended.attempt - 1 };
                attempts.insert(ended.task.clone(), count);
            }
            Record::ChangeProposed(ChangeProposed { task: Some(task), .. }) => {
                assert!(!state.unwanted.contains_key(task), "seed {seed}: {task} was cancelled");
            }
            _ => {}
        }
        state.apply(stamped).unwrap();
    }
    for (agent, member) in state.crew.iter() {
        let rests = member.phase.is_free() || matches!(member.phase, Phase::Stopped | Phase::Quarantined);
        assert!(rests, "seed {seed}: {agent} is {:?} at the end", member.phase);
        assert!(member.task.is_none() && !member.ending, "seed {seed}: {agent}");
    }
}

fn check(seed: u64, trouble: Trouble) {
    let (world, journal, state) = play(seed, trouble);
    assert_eq!(State::fold(journal.iter()).unwrap(), state, "seed {seed}: the state is its journal");
    leases_hold(seed, &journal);
    check_hands(seed, &journal);
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
    check_reviews(seed, &journal, &state);
    for (id, change) in &state.changes {
        match change.settled.as_ref().unwrap() {
            Settled::Landed { .. } => {
                let ballot = &state.ballots[change.ballots.last().unwrap()];
                assert_eq!(ballot.certificate.unwrap().0, Verdict::Pass, "seed {seed}: {id}");
            }
            // One liar of five cannot keep a good change from landing.
            Settled::Refused { check, .. } => {
                assert!(
                    check == "merge" || check == "review" || !world.good(id),
                    "seed {seed}: {id} is good and was refused by {check}"
                );
            }
        }
    }
    check_tasks(seed, &journal, &state);
    check_budgets(seed, &state);
    for (id, task) in &state.tasks {
        assert!(
            matches!(task, TaskState::Proposed { .. } | TaskState::Closed { .. }),
            "seed {seed}: {id} is {task:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_run_ends_and_only_good_changes_land_in_order(seed in any::<u64>()) {
        check(seed, Trouble::default());
    }

    #[test]
    fn a_node_that_dies_again_and_again_comes_to_the_same_kind_of_end(seed in any::<u64>()) {
        check(seed, Trouble { deaths: true, ..Trouble::default() });
    }

    #[test]
    fn a_run_in_which_somebody_intervenes_at_any_moment_ends_all_the_same(seed in any::<u64>()) {
        check(seed, Trouble { hands: true, ..Trouble::default() });
    }

    #[test]
    fn interventions_and_deaths_together_break_nothing(seed in any::<u64>()) {
        check(seed, Trouble { deaths: true, hands: true });
    }
}

/// The first tasks that start.
fn ready(schedule: &str, tasks: &str) -> Vec<String> {
    let text = format!(
        "objective = \"x\"\n[swarm]\nagents-at-once = 9\nschedule = \"{schedule}\"\n[agents.a]\nprogram = \"a\"\ncount = 9\n{tasks}"
    );
    let (_, first) = world(0);
    let Record::RunStarted(mut started) = first else { unreachable!() };
    started.spec = file::parse("x", &text, &BTreeMap::new()).unwrap().spec;
    let stamped = Stamped { seq: 0, time: Timestamp(0), record: Record::RunStarted(started) };
    let state = State::begin(&stamped).unwrap();
    let start = |record| {
        if let Record::AgentStarting { task, .. } = record { Some(task.to_string()) } else { None }
    };
    decide(&state, Timestamp(0)).into_iter().filter_map(start).collect()
}

#[test]
fn each_schedule_starts_what_it_says() {
    let task = |id: &str, more: &str| format!("[[tasks]]\nid = \"{id}\"\nagent = \"a\"\n{more}\n");
    let tasks = [
        task("one", "priority = \"low\"\nestimate = \"5m\"\ndeadline = \"3h\""),
        task("two", "priority = \"critical\"\nestimate = \"9m\""),
        task("three", "estimate = \"1m\"\ndeadline = \"1h\""),
        // Makes `three` the first of the longest way.
        task("four", "after = [\"three\"]\nestimate = \"10m\""),
    ]
    .concat();
    let expected = [
        ("fifo", ["one", "two", "three"]),
        ("priority", ["two", "three", "one"]),
        ("deadline", ["three", "one", "two"]),
        ("critical-path", ["three", "two", "one"]),
        ("shortest", ["three", "one", "two"]),
    ];
    for (schedule, order) in expected {
        assert_eq!(ready(schedule, &tasks), order, "{schedule}");
    }
}
