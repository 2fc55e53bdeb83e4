//! What the journal says of artifacts, messages and checkpoints: the part of the state that is about handing over.

use std::collections::BTreeMap;

use quorate_base::{AgentId, ByteCount, Digest, GitOid, TaskId, Timestamp};
use serde::Serialize;

use super::message::{Message, Sender, To};
use crate::record::AgentEnded;
use crate::spec::Dependency;

/// A file that a task left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Artifact {
    pub digest: Digest,
    pub bytes: ByteCount,
}

/// A message that nobody has had yet who has ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub from: Sender,
    pub at: Timestamp,
    pub digest: Digest,
}

/// The files of an attempt that failed, with which the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub attempt: u32,
    /// The commit that attempt began on, and the next one begins on too.
    pub base: GitOid,
    pub commit: GitOid,
    pub tree: GitOid,
}

/// How the attempt before ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Previous {
    pub attempt: u32,
    pub outcome: String,
    pub last_words: String,
}

impl Previous {
    pub(crate) fn of(ended: &AgentEnded) -> Self {
        let (outcome, last_words) = (ended.outcome.to_string(), ended.last_words.clone());
        Self { attempt: ended.attempt, outcome, last_words }
    }

    /// One of which nothing is known but that the node died with it.
    pub(crate) fn lost(attempt: u32) -> Self {
        Self { attempt, outcome: "lost with the node".into(), last_words: String::new() }
    }
}

/// What agents of a run have handed over and not got rid of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exchange {
    artifacts: BTreeMap<TaskId, BTreeMap<String, Artifact>>,
    letters: BTreeMap<To, BTreeMap<u64, Letter>>,
    carried: BTreeMap<TaskId, Carried>,
    previous: BTreeMap<TaskId, Previous>,
}

impl Exchange {
    /// What a task has left, by name.
    pub fn artifacts(&self, task: &TaskId) -> impl Iterator<Item = (&str, &Artifact)> {
        self.artifacts.get(task).into_iter().flatten().map(|(name, artifact)| (name.as_str(), artifact))
    }

    /// Everything tasks have left.
    pub fn all_artifacts(&self) -> impl Iterator<Item = (&TaskId, &str, &Artifact)> {
        self.artifacts
            .iter()
            .flat_map(|(task, left)| left.iter().map(move |(name, artifact)| (task, name.as_str(), artifact)))
    }

    /// Messages that wait for a recipient, oldest first.
    pub fn letters(&self, to: &To) -> impl Iterator<Item = (u64, &Letter)> {
        self.letters.get(to).into_iter().flatten().map(|(seq, letter)| (*seq, letter))
    }

    /// Messages that wait for a launch: those for its agent and those for its task, oldest first.
    pub(crate) fn letters_for(&self, agent: &AgentId, task: &TaskId) -> BTreeMap<u64, &Letter> {
        let (agent, task) = (To::Agent(agent.clone()), To::Task(task.clone()));
        self.letters(&agent).chain(self.letters(&task)).collect()
    }

    /// What the next attempt of a task begins with.
    pub fn carried(&self, task: &TaskId) -> Option<&Carried> {
        self.carried.get(task)
    }

    /// How the attempt before ended, where there was one.
    pub fn previous(&self, task: &TaskId) -> Option<&Previous> {
        self.previous.get(task)
    }

    /// The part of it that a launch needs.
    pub(crate) fn about(&self, task: &TaskId, after: &[Dependency]) -> Self {
        let of = |task: &TaskId| Some((task.clone(), self.artifacts.get(task)?.clone()));
        Self {
            artifacts: after.iter().filter_map(|on| of(&on.task)).collect(),
            letters: BTreeMap::new(),
            carried: self
                .carried
                .get(task)
                .map(|carried| (task.clone(), carried.clone()))
                .into_iter()
                .collect(),
            previous: self.previous.get(task).map(|last| (task.clone(), last.clone())).into_iter().collect(),
        }
    }

    /// A launch begins: what an earlier one left, whose work was lost, is not this one's.
    pub(crate) fn begins(&mut self, task: &TaskId) {
        self.artifacts.remove(task);
    }

    pub(crate) fn kept(&mut self, task: &TaskId, name: &str, artifact: Artifact) {
        self.artifacts.entry(task.clone()).or_default().insert(name.to_owned(), artifact);
    }

    pub(crate) fn sent(&mut self, seq: u64, at: Timestamp, message: &Message) {
        let letter = Letter { from: message.from.clone(), at, digest: message.digest };
        self.letters.entry(message.to.clone()).or_default().insert(seq, letter);
    }

    /// A launch that ended well has had its messages up to this one.
    pub(crate) fn delivered(&mut self, agent: &AgentId, task: &TaskId, through: u64) {
        for to in [To::Agent(agent.clone()), To::Task(task.clone())] {
            let Some(letters) = self.letters.get_mut(&to) else { continue };
            letters.retain(|seq, _| *seq > through);
            if letters.is_empty() {
                self.letters.remove(&to);
            }
        }
    }

    pub(crate) fn carry(&mut self, task: &TaskId, carried: Carried) {
        self.carried.insert(task.clone(), carried);
    }

    pub(crate) fn carry_nothing(&mut self, task: &TaskId) {
        self.carried.remove(task);
    }

    /// An attempt has failed, and there may be another.
    pub(crate) fn failed(&mut self, task: &TaskId, previous: Previous) {
        self.previous.insert(task.clone(), previous);
    }

    /// A task will not be launched again.
    pub(crate) fn over(&mut self, task: &TaskId) {
        self.carried.remove(task);
        self.previous.remove(task);
        self.letters.remove(&To::Task(task.clone()));
    }
}
