//! The merge queue, read off the state.
//!
//! Changes are judged in the order in which they were proposed, several at a time: each on top of the candidate before
//! it, as if that one landed. Where it does not, the ones behind are prepared and judged again; a refusal or a conflict
//! counts only when the change stands at the front, on the branch as it really is.

use quorate_base::{ChangeId, GitOid};

use super::{ChangeState, State};

impl State {
    /// Changes not settled yet, in queue order.
    pub fn waiting(&self) -> impl Iterator<Item = (&ChangeId, &ChangeState)> {
        self.queue[self.front..]
            .iter()
            .filter_map(|id| self.changes.get(id).map(|change| (id, change)))
            .filter(|(_, c)| c.settled.is_none())
    }

    /// The commit each change at the head of the queue should be judged on; shorter than the window where a
    /// predecessor has no candidate yet.
    pub fn window(&self) -> Vec<(&ChangeId, &ChangeState, GitOid)> {
        let mut onto = self.head.clone();
        let mut window = Vec::new();
        for (id, change) in self.waiting().take(self.started.spec.gate.at_once as usize) {
            let candidate = change
                .candidate
                .as_ref()
                .filter(|candidate| candidate.onto == onto)
                .map(|c| c.commit.clone());
            window.push((id, change, onto.clone()));
            // A change that does not merge here, or that the panel turned down, is judged as absent by those behind it.
            let turned_down = change.conflict.as_ref().is_some_and(|conflict| conflict.onto == onto)
                || candidate.is_some()
                    && self.current_ballot(change).is_some_and(|(_, ballot)| ballot.turned_down());
            match candidate {
                _ if turned_down => {}
                Some(commit) => onto = commit,
                None => break,
            }
        }
        window
    }
}

impl super::BallotState {
    /// The certificate says something else than PASS.
    pub fn turned_down(&self) -> bool {
        self.certificate
            .as_ref()
            .is_some_and(|(verdict, _)| *verdict != quorate_consensus::ballot::Verdict::Pass)
    }

    pub fn passed(&self) -> bool {
        self.certificate
            .as_ref()
            .is_some_and(|(verdict, _)| *verdict == quorate_consensus::ballot::Verdict::Pass)
    }
}
