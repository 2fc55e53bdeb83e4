//! How many agents of each declaration take part.

use quorate_base::Timestamp;

use crate::record::Record;
use crate::spec::Scale;
use crate::state::State;
use crate::state::crew::Phase;

/// One agent more where tasks wait, one fewer where agents do.
pub(super) fn scale(state: &State, now: Timestamp) -> Vec<Record> {
    let scaled = state.started.spec.agents.iter().filter_map(|(name, agent)| Some((name, agent.scale?)));
    scaled.filter_map(|(name, scale)| one(state, now, name, scale)).collect()
}

fn one(state: &State, now: Timestamp, name: &str, scale: Scale) -> Option<Record> {
    let (active, _) = state.crew.strength(name);
    let benched = || state.crew.of(name).find(|(_, member)| member.benched).map(|(agent, _)| agent.clone());
    if active < scale.min as usize {
        // Others have failed: there must be somebody.
        let reason = format!("{active} of at least {} take tasks", scale.min);
        return Some(Record::AgentReleased { agent: benched()?, reason });
    }
    let last = state.scaled.get(name).copied().unwrap_or(state.started_at);
    if state.scaled.contains_key(name) && now.since(last) < scale.cool_down {
        return None;
    }
    let waiting = state.agenda.queued(name);
    if waiting > active.saturating_mul(scale.up_at as usize) {
        let reason = format!("{waiting} tasks wait for {active} agents");
        return Some(Record::AgentReleased { agent: benched()?, reason });
    }
    if waiting > 0 || active <= scale.min as usize {
        return None;
    }
    let harvested = state.harvesting();
    let idle = state.crew.of(name).filter(|(agent, member)| {
        matches!(member.phase, Phase::Idle | Phase::Created | Phase::Failed)
            && now.since(member.since) >= scale.idle
            && !harvested.contains(agent)
    });
    // The last to come is the first to go.
    let (agent, member) = idle.last()?;
    let reason = format!("it has had nothing to do for {}", now.since(member.since));
    Some(Record::AgentBenched { agent: agent.clone(), reason })
}
