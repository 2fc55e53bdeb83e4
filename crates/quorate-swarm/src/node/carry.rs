//! Keeping the files of an attempt that failed, for the next one.

use quorate_base::{AgentId, GitOid, TaskId};

use super::{Error, Job, Node, Shared};
use crate::git::Identity;
use crate::record::{AgentEnded, AgentOutcome, Record};
use crate::state::{State, TaskState};

impl Job {
    /// The checkpoint of a launch that failed, where its declaration carries on and the task is tried again.
    pub(super) fn checkpoint(&self, ended: &AgentEnded, base: &GitOid) -> Result<Option<Record>, Error> {
        let next = self.state.after_launch(ended, self.state.last_at);
        let again = matches!(next, Some(TaskState::Waiting { .. }));
        if !again || ended.outcome == AgentOutcome::Cancelled {
            return Ok(None);
        }
        self.shared.checkpoint(&self.state, &ended.agent, &ended.task, ended.attempt, base)
    }
}

impl Node {
    /// The checkpoints of launches that were lost with the node before this one.
    pub(super) fn checkpoints(&self, lost: &[(AgentId, TaskId, u32)]) -> Result<Vec<Record>, Error> {
        let one = |(agent, task, attempt): &(AgentId, TaskId, u32)| match self.state.tasks.get(task) {
            Some(TaskState::Running { base, .. }) => {
                self.shared.checkpoint(&self.state, agent, task, *attempt, base).transpose()
            }
            _ => None,
        };
        lost.iter().filter_map(one).collect()
    }
}

impl Shared {
    fn checkpoint(
        &self,
        state: &State,
        agent: &AgentId,
        task: &TaskId,
        attempt: u32,
        base: &GitOid,
    ) -> Result<Option<Record>, Error> {
        let spec = state.started.spec.declaration(agent).map(|(_, spec)| spec);
        let worktree = self.run.worktree(agent, task, attempt);
        if !spec.is_some_and(|spec| spec.carry_on) || !worktree.is_dir() {
            return Ok(None);
        }
        let identity = Identity { name: agent.to_string(), email: format!("{agent}@quorate.invalid") };
        let message =
            format!("What attempt {attempt} of {task} had done\n\nQuorate-Run: {}\n", state.started.run);
        let kept = self.repository.snapshot(&worktree).and_then(|tree| {
            let parents = std::slice::from_ref(base);
            let commit =
                self.repository.commit_tree(&tree, parents, &message, &identity, state.started_at)?;
            Ok((commit, tree))
        });
        let task = task.clone();
        match kept {
            Ok((commit, tree)) => {
                Ok(Some(Record::Checkpoint { task, attempt, base: base.clone(), commit, tree }))
            }
            Err(error) if error.is_disk() => Err(error.into()),
            Err(error) => Ok(Some(Record::CheckpointRefused { task, attempt, reason: error.to_string() })),
        }
    }
}
