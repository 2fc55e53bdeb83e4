//! What a person, or a program with `--json`, sees of a run while it goes.

use quorate_base::{ByteCount, Timestamp};
use quorate_swarm::panel;
use quorate_swarm::pressure::Level;
use quorate_swarm::record::{Record, Stamped, TaskOutcome};
use quorate_swarm::state::{State, TaskState};
use serde::Serialize;

use crate::printer::{BAD, DIM, DOUBT, GOOD, PLAIN, Printer};

/// A journal record as a line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Event<'a> {
    pub(crate) event: String,
    pub(crate) seq: u64,
    pub(crate) time: String,
    #[serde(flatten)]
    pub(crate) record: &'a Record,
}

/// Tells one record.
pub(crate) fn tell(printer: &Printer, stamped: &Stamped, state: &State) {
    if printer.json {
        printer.document(&event(stamped));
        return;
    }
    if let Some((style, text)) = line(&stamped.record, state) {
        let at = stamped.time.since(state.started_at).as_secs_f64();
        printer.say(&format!("{DIM}{at:7.1}s{DIM:#}  {style}{text}{style:#}"));
    }
    printer.sticky(&overview(state, stamped.time));
}

pub(crate) fn event(stamped: &Stamped) -> Event<'_> {
    let name = serde_json::to_value(&stamped.record)
        .ok()
        .and_then(|value| value.get("record").and_then(|name| name.as_str().map(str::to_owned)))
        .unwrap_or_default();
    Event { event: name, seq: stamped.seq, time: stamped.time.to_string(), record: &stamped.record }
}

/// One record in words; nothing for records a reader can do without.
pub(crate) fn line(record: &Record, state: &State) -> Option<(anstyle::Style, String)> {
    let told = match record {
        Record::RunStarted(started) => {
            let gate = &started.spec.gate;
            let text = format!(
                "run {} on {} from {} · {} tasks, {} agents at once · panel of {}: {} must agree, {} may be faulty",
                started.run,
                started.repository,
                started.base.short(),
                started.spec.tasks.len(),
                started.spec.agents_at_once,
                gate.validators.len(),
                gate.agree,
                gate.faults,
            );
            (PLAIN, text)
        }
        Record::Resumed { orphans, torn_bytes } => {
            let torn = if *torn_bytes > 0 {
                format!(", {torn_bytes} bytes of a torn record cut")
            } else {
                String::new()
            };
            (DOUBT, format!("taken up again: {orphans} leftover processes ended{torn}"))
        }
        Record::AgentStarting { agent, task, stolen_from: Some(from), .. } => {
            (DIM, format!("{agent:<12} takes {task} over from {from}"))
        }
        // What follows says it.
        Record::AgentStarting { .. } => return None,
        Record::AgentPaused { agent, reason } => (DOUBT, format!("{agent:<12} is halted: {reason}")),
        Record::AgentContinued { agent, reason } => (PLAIN, format!("{agent:<12} goes on: {reason}")),
        Record::AgentStopping { agent, reason } => (DOUBT, format!("{agent:<12} is told to end: {reason}")),
        Record::AgentDraining { agent, reason } => {
            (DOUBT, format!("{agent:<12} takes no more tasks: {reason}"))
        }
        Record::AgentQuarantined { agent, reason } => (BAD, format!("{agent:<12} is quarantined: {reason}")),
        Record::AgentBenched { agent, reason } => (DIM, format!("{agent:<12} is benched: {reason}")),
        Record::TopologyChanged { topology, reason } => {
            (DOUBT, format!("the swarm is a {} now: {reason}", topology.name()))
        }
        Record::ReviewAsked { change, by, .. } => (PLAIN, format!("{change:<12} needs the word of {by}")),
        Record::ReviewGiven { change, by, accepted: true, reason } => {
            let colon = if reason.is_empty() { "" } else { ": " };
            (PLAIN, format!("{change:<12} accepted by {by}{colon}{}", cut(reason, 120)))
        }
        Record::ReviewGiven { change, by, accepted: false, reason } => {
            (BAD, format!("{change:<12} refused by {by}: {}", cut(reason, 120)))
        }
        Record::ReviewWaived { change, reason } => {
            (DOUBT, format!("{change:<12} goes to the panel without review: {reason}"))
        }
        Record::AgentReleased { agent, reason } => {
            (PLAIN, format!("{agent:<12} takes tasks again: {reason}"))
        }
        Record::TaskUnwanted { task, reason } => (DOUBT, format!("{task:<12} is wanted no more: {reason}")),
        Record::TaskPrioritised { task, priority } => {
            (PLAIN, format!("{task:<12} has the priority {} now", word(priority)))
        }
        Record::AgentStarted { agent, task, attempt, pid } => {
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            (PLAIN, format!("{agent:<12} works on {task} (process {pid}{again})"))
        }
        Record::LeaseGranted { task, resources, tokens } => {
            let held: Vec<_> =
                resources.iter().zip(tokens).map(|(on, token)| format!("{on} (token {token})")).collect();
            (DIM, format!("{task:<12} holds {}", cut(&held.join(", "), 120)))
        }
        Record::LeaseEnded { task } => (DIM, format!("{task:<12} has given its leases back")),
        Record::LaunchWaits { agent, task, reason } => {
            (DOUBT, format!("{agent:<12} cannot start {task} yet: {reason}"))
        }
        Record::AgentEnded(ended) => {
            let style = if ended.outcome.succeeded() { PLAIN } else { DOUBT };
            let text = format!(
                "{:<12} ended: {} · {:.1} s · {:.1} s CPU · {}",
                ended.agent,
                ended.outcome,
                ended.wall.as_secs_f64(),
                ended.cpu.as_secs_f64(),
                ByteCount(ended.memory_peak.0),
            );
            (style, text)
        }
        Record::ArtifactKept { task, name, digest, bytes } => {
            (DIM, format!("{task:<12} leaves {} ({bytes}, {})", cut(name, 80), digest.short()))
        }
        Record::ArtifactsRefused { task, refused, more } => {
            let first = refused.first()?;
            let others = refused.len() - 1 + *more as usize;
            let others = if others > 0 { format!(", and {others} more") } else { String::new() };
            let text =
                format!("{task:<12} leaves {}, which is not kept: {}{others}", first.name, first.reason);
            (DOUBT, text)
        }
        Record::MessageSent(message) => {
            (DIM, format!("{:<12} writes to {} ({})", message.from, message.to, message.bytes))
        }
        Record::MessageRefused { from, to, reason } => {
            (DOUBT, format!("{from:<12} wrote to {}, which was not sent: {}", cut(to, 80), cut(reason, 120)))
        }
        Record::MessagesDelivered { .. } => return None,
        Record::Checkpoint { task, attempt, tree, .. } => (
            DIM,
            format!("{task:<12} is carried on with the files of attempt {attempt} (tree {})", tree.short()),
        ),
        Record::CheckpointRefused { task, attempt, reason } => {
            let text = format!("{task:<12} starts afresh, for attempt {attempt} cannot be carried on: ");
            (DOUBT, text + &cut(reason, 120))
        }
        Record::AgentIdle { agent, task, silent, .. } => {
            (DOUBT, format!("{agent:<12} did nothing on {task} for {silent}; it is asked to end"))
        }
        Record::PressureChanged { level: Level::Open, reason, .. } => {
            (PLAIN, format!("memory is no longer short: {reason}"))
        }
        Record::PressureChanged { level, reason, .. } => {
            let style = if *level == Level::Critical { BAD } else { DOUBT };
            (style, format!("memory is short ({}): {reason}", level.name()))
        }
        Record::MemoryGrowing { task, memory, per_minute, limit, passes_in } => {
            let who = task.as_ref().map_or_else(|| "the node".to_owned(), ToString::to_string);
            let text = format!(
                "{who:<12} grows by {per_minute} a minute: at {memory} now, past {limit} in {passes_in}"
            );
            (DOUBT, text)
        }
        Record::EgressRefused { agent, host, port, reason, count, .. } => {
            let host = if host.is_empty() { String::new() } else { format!(" to {host}:{port}") };
            (DOUBT, format!("{agent:<12} was refused a connection{host}: {reason}{}", times(*count)))
        }
        // Said again and again; the table has the sums.
        Record::UsageReported { .. } => return None,
        Record::AgentLost { agent, task, .. } => {
            (DOUBT, format!("{agent:<12} was interrupted on {task}; it starts over"))
        }
        Record::TaskClosed { task, outcome } => match outcome {
            TaskOutcome::NoChange => (PLAIN, format!("{task:<12} nothing to change")),
            TaskOutcome::Failed { reason } => (BAD, format!("{task:<12} given up: {reason}")),
            TaskOutcome::Blocked { by } => {
                (BAD, format!("{task:<12} not started: what it waits for of {by} will not come"))
            }
            TaskOutcome::OverBudget { account, unit } => {
                (BAD, format!("{task:<12} given up: the {unit} of {account} are used up"))
            }
            TaskOutcome::Reviewed { .. } => return None,
            TaskOutcome::Cancelled { reason } => (DOUBT, format!("{task:<12} cancelled: {reason}")),
            TaskOutcome::Poison { deaths } => (
                BAD,
                format!("{task:<12} given up: the node died {deaths} times while an agent worked on it"),
            ),
            TaskOutcome::DeadlinePassed => (BAD, format!("{task:<12} given up: its deadline has passed")),
        },
        Record::ChangeProposed(change) => {
            let text = format!(
                "{:<12} proposed: {} paths, tree {}",
                change.change,
                change.paths,
                change.tree.short()
            );
            (PLAIN, text)
        }
        Record::CandidatePrepared { .. } => return None,
        Record::ConflictFound { change, reason, .. } => (DOUBT, format!("{change:<12} {reason}")),
        Record::BallotOpened { ballot, change, onto, .. } => {
            (PLAIN, format!("{change:<12} before the panel on {} (ballot {ballot})", onto.short()))
        }
        Record::ReportReceived { ballot, validator, .. } => {
            let ballot = state.ballots.get(ballot)?;
            let (_, report) = panel::reports(ballot).into_iter().find(|(v, _)| v == validator)?;
            let results: Vec<_> =
                report.results.iter().map(|r| format!("{} {}", r.check, word(&r.status))).collect();
            (DIM, format!("{:<12}   {validator} saw {}", ballot.change, results.join(", ")))
        }
        Record::VoteCast { ballot, validator, .. } => {
            let ballot = state.ballots.get(ballot)?;
            let (_, vote) = panel::votes(ballot).into_iter().find(|(v, _)| v == validator)?;
            let choice = word(&vote.choice);
            (DIM, format!("{:<12}   {validator} votes {choice}: {}", ballot.change, cut(&vote.reason, 90)))
        }
        Record::ValidatorAbsent { ballot, validator, reason, .. } => {
            (DOUBT, format!("{ballot:<12}   {validator} is absent: {}", cut(reason, 120)))
        }
        Record::BallotDecided { .. } | Record::Countersigned { .. } | Record::LandingStarted { .. } => {
            return None;
        }
        Record::Certified { change, verdict, certificate, .. } => {
            let style = if word(verdict) == "PASS" { GOOD } else { BAD };
            (style, format!("{change:<12} {} · certificate {}", word(verdict), certificate.short()))
        }
        Record::Landed { change, commit, .. } => {
            (GOOD, format!("{change:<12} landed as {} on {}", commit.short(), state.started.branch))
        }
        Record::Refused { change, check, reason, .. } => {
            (BAD, format!("{change:<12} refused by {check}: {}", cut(reason, 120)))
        }
        Record::Finished { .. } => return None,
    };
    Some(told)
}

/// How often, where it was more than once.
pub(crate) fn times(count: u64) -> String {
    if count > 1 { format!(" (×{count})") } else { String::new() }
}

/// Where everything stands, in one line.
fn overview(state: &State, now: Timestamp) -> String {
    let working: Vec<_> = state
        .tasks
        .values()
        .filter_map(|task| match task {
            TaskState::Running { agent, since, .. } => {
                Some(format!("{agent} {:.0}s", now.since(*since).as_secs_f64()))
            }
            _ => None,
        })
        .collect();
    let open = state.ballots.iter().filter(|(_, ballot)| ballot.certificate.is_none());
    let panels: Vec<_> =
        open.map(|(id, b)| format!("{id} {}/{}", b.votes.len(), state.panel().len())).collect();
    let queue = state.waiting().count();
    format!("working: {} | panels: {} | queue: {queue}", or_dash(&working), or_dash(&panels))
}

fn or_dash(items: &[String]) -> String {
    if items.is_empty() { "–".to_owned() } else { items.join(", ") }
}

/// The word a value is written with in documents.
pub(crate) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(crate) fn cut(text: &str, length: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= length {
        line.to_owned()
    } else {
        line.chars().take(length - 1).chain(['…']).collect()
    }
}
