//! The folders of a launch, and what goes through them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use quorate_base::{AgentId, TaskId};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;

use super::{Error, Job, News, Node};
use crate::exchange::{self, Collected, Letter, Outbox, Posted, Previous, Sender, Text, To, blotted, shown};
use crate::git;
use crate::record::{AgentEnded, Record, Stamped};
use crate::state::TaskState;

const IN: &str = "in";
const OUT: &str = "out";
const INBOX: &str = "inbox";
const OUTBOX: &str = "outbox";
/// What it is told of the attempt before it lies in a folder of its own, which can be granted before it is known.
const BEFORE: &str = "before";
const PREVIOUS: &str = "before/previous.json";

/// Messages taken from an agent at one look.
const LOOK_MAX: usize = 16;

/// Where a launch is given things and hands things over.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Makes them anew, but for the inbox, which whoever delivers may have made.
    pub(super) fn make(root: PathBuf) -> Result<Self, Error> {
        for folder in [IN, OUT, OUTBOX, BEFORE, INBOX] {
            let path = root.join(folder);
            if folder != INBOX {
                git::remove_folder(&path)?;
            }
            make_folder(&path)?;
        }
        Ok(Self { root })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What the agent may write, in a sandbox.
    pub(super) fn written(&self) -> Vec<PathBuf> {
        [OUT, OUTBOX].map(|name| self.path(name)).into()
    }

    /// And what it may only read.
    pub(super) fn read(&self) -> Vec<PathBuf> {
        [IN, INBOX, BEFORE].map(|name| self.path(name)).into()
    }

    pub(super) fn remove(&self) {
        // What cannot be removed now is swept when the run ends.
        let _ = git::remove_folder(&self.root);
    }

    /// Puts these, which a sandbox knows already, where those of a launch are, with what has come for it there.
    fn take_place(self, root: PathBuf, deliveries: &Mutex<()>) -> Result<Self, Error> {
        // Nobody delivers between one and the other.
        let _turn = deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        make_folder(&root.join(INBOX))?;
        renameat_with(CWD, &self.root, CWD, &root, RenameFlags::EXCHANGE)
            .map_err(|errno| io_at(&root)(errno.into()))?;
        let came = self.root.join(INBOX);
        for entry in fs::read_dir(&came).map_err(io_at(&came))? {
            let entry = entry.map_err(io_at(&came))?;
            let to = root.join(INBOX).join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(io_at(&to))?;
        }
        self.remove();
        Ok(Self { root })
    }
}

/// The folders of one launch at work.
#[derive(Debug)]
pub(super) struct Desk {
    folders: Folders,
    agent: AgentId,
    outbox: Outbox,
    previous: bool,
    /// Why the agent cannot be given what it should have.
    pub(super) refusal: Option<String>,
}

/// What an agent is told of the attempt before it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    previous: &'a Previous,
    /// Whether its files are there.
    carried_on: bool,
}

impl Job {
    /// Makes the folders of a launch, or takes those of an agent that was started ahead, and puts into them what its task is given.
    pub(super) fn desk(
        &self,
        agent: &AgentId,
        task: &TaskId,
        attempt: u32,
        ahead: Option<Folders>,
    ) -> Result<Desk, Error> {
        let root = self.shared.run.exchange(agent, task, attempt);
        let folders = match ahead {
            Some(folders) => folders.take_place(root, &self.shared.deliveries)?,
            None => Folders::make(root)?,
        };
        let outbox = Outbox::at(folders.path(OUTBOX));
        let mut desk = Desk { folders, agent: agent.clone(), outbox, previous: false, refusal: None };
        let artifacts = self.state.exchange.all_artifacts();
        match exchange::lay_out(&self.shared.store, &desk.path(IN), artifacts) {
            Err(error) if error.is_disk() => return Err(error.into()),
            Err(error) => desk.refusal = Some(format!("what it comes after left files, and {error}")),
            Ok(()) => {}
        }
        if let Some(previous) = self.state.exchange.previous(task) {
            let told = Told { previous, carried_on: self.state.exchange.carried(task).is_some() };
            let path = desk.path(PREVIOUS);
            write_new(&path, &serde_json::to_vec(&told)?).map_err(io_at(&path))?;
            desk.previous = true;
        }
        Ok(desk)
    }

    fn post(&self, posted: Posted) {
        let _ = self.sender.send(News::Posted(posted));
    }
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folders.path(name)
    }

    pub(super) fn folders(&self) -> &Folders {
        &self.folders
    }

    pub(super) fn env(&self) -> Vec<(OsString, OsString)> {
        let all = [
            ("QUORATE_IN", IN),
            ("QUORATE_OUT", OUT),
            ("QUORATE_INBOX", INBOX),
            ("QUORATE_OUTBOX", OUTBOX),
            ("QUORATE_PREVIOUS", PREVIOUS),
        ];
        let there = all.into_iter().filter(|(_, name)| *name != PREVIOUS || self.previous);
        there.map(|(variable, name)| (variable.into(), self.path(name).into())).collect()
    }

    /// Sends what the agent has put into its outbox since the last look.
    pub(super) fn look(&mut self, job: &Job, secrets: &[Vec<u8>]) -> usize {
        let found = self.outbox.take(LOOK_MAX);
        let count = found.len();
        for found in found {
            let text = found.text.and_then(|text| {
                Text::keep(&job.shared.store, &text, secrets).map_err(|error| error.to_string())
            });
            let to = shown(&blotted(&found.to, secrets));
            job.post(Posted { from: Sender::Agent(self.agent.clone()), to, text });
        }
        count
    }

    /// The newest message the agent has.
    pub(super) fn newest(&self) -> Option<u64> {
        exchange::newest(&self.path(INBOX))
    }

    /// Takes what is left when the agent has ended, and removes the folders. Of a launch that failed, messages are sent and nothing is
    /// kept.
    pub(super) fn close(
        mut self,
        job: &Job,
        ended: &AgentEnded,
        newest: Option<u64>,
        secrets: &[Vec<u8>],
    ) -> Result<Vec<Record>, Error> {
        while self.look(job, secrets) > 0 {}
        let mut records = Vec::new();
        if ended.outcome.succeeded() {
            let max = job.state.started.spec.artifacts_max;
            let Collected { kept, refused, more } =
                exchange::collect(&self.path(OUT), &job.shared.store, max, secrets)?;
            let task = &ended.task;
            records.extend(kept.into_iter().map(|(name, artifact)| Record::ArtifactKept {
                task: task.clone(),
                name,
                digest: artifact.digest,
                bytes: artifact.bytes,
            }));
            if !refused.is_empty() {
                records.push(Record::ArtifactsRefused { task: task.clone(), refused, more });
            }
            if let Some(through) = newest {
                let (agent, task) = (ended.agent.clone(), task.clone());
                records.push(Record::MessagesDelivered { agent, task, through });
            }
        }
        self.folders.remove();
        Ok(records)
    }
}

impl Node {
    /// Delivers messages, to an agent at work or to one that begins. One thread does, so that none is missed in between.
    pub(super) fn hand_over(&self, stamped: &Stamped) -> Result<(), Error> {
        match &stamped.record {
            Record::AgentStarting { agent, task, attempt, .. } => {
                let root = self.shared.run.exchange(agent, task, *attempt);
                git::remove_folder(&root)?;
                let inbox = root.join(INBOX);
                make_folder(&inbox)?;
                for (seq, letter) in self.state.exchange.letters_for(agent, task) {
                    self.deliver(&inbox, seq, letter)?;
                }
            }
            Record::MessageSent(message) => {
                let task = match &message.to {
                    To::Agent(agent) => self.state.crew.get(agent).and_then(|member| member.task.as_ref()),
                    To::Task(task) => Some(task),
                };
                let letter = self.state.exchange.letters(&message.to).find(|(seq, _)| *seq == stamped.seq);
                if let (Some(root), Some((seq, letter))) = (task.and_then(|task| self.at_work(task)), letter)
                {
                    self.deliver(&root.join(INBOX), seq, letter)?;
                }
            }
            Record::AgentEnded(ended) => {
                let root = self.shared.run.exchange(&ended.agent, &ended.task, ended.attempt);
                let _ = git::remove_folder(&root);
            }
            _ => {}
        }
        Ok(())
    }

    /// The folders of the launch that does a task now.
    fn at_work(&self, task: &TaskId) -> Option<PathBuf> {
        match self.state.tasks.get(task)? {
            TaskState::Starting { agent, attempt, .. } | TaskState::Running { agent, attempt, .. } => {
                Some(self.shared.run.exchange(agent, task, *attempt))
            }
            _ => None,
        }
    }

    fn deliver(&self, inbox: &Path, seq: u64, letter: &Letter) -> Result<(), Error> {
        let _turn = self.shared.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        match exchange::deliver(inbox, &self.shared.store, seq, letter) {
            Err(source) if exchange::is_disk(&source) => Err(io_at(inbox)(source)),
            // An agent that removes its inbox has none, and one that has just ended needs none.
            _ => Ok(()),
        }
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at(path))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?.write_all(bytes)
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { what: format!("cannot write {}", path.display()), source }
}
