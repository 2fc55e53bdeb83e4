//! The budgets of a run.

use serde::{Deserialize, Serialize};

use super::Budget;

/// What all agents of a run may spend together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunBudget {
    pub run: Budget,
    /// With all other runs of the workspace on the same day of UTC.
    pub day: Budget,
}
