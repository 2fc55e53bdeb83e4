//! The node is asked: a command becomes records, which are durable before it is answered.

use std::collections::BTreeMap;

use quorate_agents::Control;
use quorate_base::TaskId;

use super::{Error, InHand, Key, Leash, Node};
use crate::control::door::Asked;
use crate::control::{Ask, Launch, Refusal, Reply, judge};
use crate::state::crew::Phase;
use crate::state::{State, TaskState};

impl Node {
    /// Does what somebody wants, or says why not.
    pub(super) fn asked(&mut self, asked: &Asked, in_hand: &BTreeMap<Key, InHand>) -> Result<(), Error> {
        let run = &self.state.started.run;
        if asked.request.run != *run {
            let refusal = Refusal::OtherRun { run: run.clone(), asked: asked.request.run.clone() };
            asked.answer(Reply::Refused(refusal));
            return Ok(());
        }
        let reply = match &asked.request.ask {
            Ask::Usage => Reply::Usage { launches: usage(&self.state, in_hand) },
            Ask::Do(command) => match judge(&self.state, command) {
                Err(refusal) => Reply::Refused(refusal),
                Ok(records) => Reply::Done { records: self.commit(records)? },
            },
        };
        asked.answer(reply);
        Ok(())
    }

    /// Halts the processes of agents that are paused, and lets those of all others go on.
    pub(super) fn heed_pauses(&self, in_hand: &BTreeMap<Key, InHand>) {
        for (key, work) in in_hand {
            let Key::Task(task) = key else { continue };
            let paused = match self.state.tasks.get(task) {
                Some(TaskState::Running { agent, .. }) => {
                    self.state.crew.get(agent).is_some_and(|member| member.phase == Phase::Paused)
                }
                _ => false,
            };
            work.leash.halt(paused);
        }
    }
}

/// What launches use now.
fn usage(state: &State, in_hand: &BTreeMap<Key, InHand>) -> Vec<Launch> {
    let process =
        |task: &TaskId| -> Option<Control> { in_hand.get(&Key::Task(task.clone()))?.leash.process() };
    let running = state.interrupted().into_iter();
    let launch = |(agent, task, _)| {
        let used = process(&task)?.usage_now();
        let (wall, paused, cpu, memory) = (used.wall, used.paused, used.cpu, used.memory);
        Some(Launch { agent, task, wall, paused, cpu, memory })
    };
    running.filter_map(launch).collect()
}

impl Leash {
    /// Halts the process, or lets it go on; nothing where it is so already.
    fn halt(&self, halted: bool) {
        let mut state = self.lock();
        if state.halted == halted {
            return;
        }
        state.halted = halted;
        match &state.process {
            Some(process) if halted => process.pause(),
            Some(process) => process.resume(),
            None => {}
        }
    }
}
