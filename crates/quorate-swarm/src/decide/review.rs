//! Changes that need an agent's word before they go to the panel.

use quorate_base::{ChangeId, TaskId};

use crate::record::{Record, TaskOutcome};
use crate::state::{State, TaskState};

/// Asks for the word that each change in review needs, and takes it.
pub(super) fn reviews(state: &State) -> Vec<Record> {
    state.in_review.iter().filter_map(|change| review(state, change)).collect()
}

fn review(state: &State, id: &ChangeId) -> Option<Record> {
    let change = state.changes.get(id)?;
    let decider = state.decider(change.proposed.agent.as_ref()?);
    let ask = || match decider {
        Some(by) => {
            Some(Record::ReviewAsked { change: id.clone(), task: free_name(state, id)?, by: by.clone() })
        }
        None => {
            let reason = "nobody whose word it needs is in service".into();
            Some(Record::ReviewWaived { change: id.clone(), reason })
        }
    };
    let Some(review) = &change.review else { return ask() };
    let TaskState::Closed { outcome } = state.tasks.get(&review.task)? else { return None };
    let (accepted, reason) = match outcome {
        TaskOutcome::Reviewed { accepted, reason } => (*accepted, reason.clone()),
        // Whoever was asked is gone: the next one is.
        _ if decider != Some(&review.by) => return ask(),
        TaskOutcome::Failed { reason } => (false, format!("the review failed: {reason}")),
        TaskOutcome::OverBudget { account, unit } => {
            (false, format!("there was no review: the {unit} of {account} were used up"))
        }
        _ => (false, "the review did not come to an end".into()),
    };
    Some(Record::ReviewGiven { change: id.clone(), by: review.by.clone(), accepted, reason })
}

/// A name for the task that no other has.
fn free_name(state: &State, change: &ChangeId) -> Option<TaskId> {
    let short: String = change.as_str().chars().take(48).collect();
    let names = (1..).map(|n| if n == 1 { format!("review-{short}") } else { format!("review-{short}-{n}") });
    let mut ids = names.map_while(|name| TaskId::new(name).ok());
    ids.find(|id| !state.tasks.contains_key(id))
}
