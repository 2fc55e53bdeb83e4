//! Who may write to whom.

use quorate_base::AgentId;

use crate::state::State;

/// Whether an agent may write to another, or to itself; where not, the reason, which the topology of the run gives.
pub fn may_write(state: &State, from: &AgentId, to: &AgentId) -> Result<(), String> {
    if from == to { Ok(()) } else { state.shape.may_write(from, to) }
}
