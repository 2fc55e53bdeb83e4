//! The tasks that come up when a change needs an agent's word.

use quorate_base::{ChangeId, TaskId};

use super::State;
use crate::spec::{Priority, TaskSpec};

/// What a reviewer is asked to do.
pub(super) fn task(state: &State, change: &ChangeId, id: &TaskId) -> TaskSpec {
    let proposed = state.changes.get(change).map(|change| &change.proposed);
    let author =
        proposed.and_then(|proposed| proposed.agent.as_ref()).map_or("somebody", |agent| agent.as_str());
    let base = proposed.map_or_else(String::new, |proposed| proposed.base.to_string());
    let subject = proposed.map_or("", |proposed| proposed.subject.as_str());
    let objective = format!(
        "Review the change `{change}` that {author} proposes: {subject}\n\n\
         The worktree holds the files with the change in them; `git diff {base}` shows it. Do not edit files. Decide whether it does what it \
         says, correctly and completely. Write one line to the file named by the environment variable QUORATE_VERDICT: `accept`, or \
         `refuse: ` and the reason. Without that line the change is refused."
    );
    TaskSpec {
        priority: Priority::Critical,
        review: Some(change.clone()),
        ..TaskSpec::new(id.clone(), "", &objective)
    }
}
