//! Who may write to whom.

use quorate_base::AgentId;

use crate::state::State;

/// Whether an agent may write to another; the reason where it may not. Everybody of a run may write to everybody.
pub fn may_write(_state: &State, _from: &AgentId, _to: &AgentId) -> Result<(), String> {
    Ok(())
}
