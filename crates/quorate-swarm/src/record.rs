//! What can happen in a run: the payloads of its journal.
//!
//! A record states a fact that has become true, never an intention that may fail — with one exception,
//! [`Record::LandingStarted`], which is written before the branch moves so that a crash in between can be told from
//! somebody else's push.

use quorate_agents::egress::Reason;
use quorate_base::{
    AgentId, BallotId, ByteCount, ChangeId, Digest, GitOid, Millis, RunId, TaskId, Timestamp, ValidatorId,
};
use quorate_consensus::ballot::Verdict;
use quorate_evidence::dsse::{Envelope, Signature};
use serde::{Deserialize, Serialize};

use crate::budget::{Amount, Unit};
use crate::exchange::{Message, Sender};
use crate::lease::Wanted;
use crate::pressure::Level;
use crate::spec::RunSpec;
use crate::spec::task::Priority;
use crate::topology::Topology;

/// One fact about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// Always the first record, and only that.
    RunStarted(Box<RunStarted>),
    /// A node took the run over after another one ended without finishing it.
    Resumed {
        orphans: u32,
        torn_bytes: u64,
    },
    /// An agent was given a task. Written before anything of it is done, so that nothing is ever used that was not set aside.
    AgentStarting {
        agent: AgentId,
        task: TaskId,
        attempt: u32,
        base: GitOid,
        /// What it may use, which is set aside until it ends.
        set_aside: Amount,
        /// In whose queue the task stood, where that was another's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stolen_from: Option<AgentId>,
    },
    /// Its process is there.
    AgentStarted {
        agent: AgentId,
        task: TaskId,
        attempt: u32,
        pid: u32,
    },
    /// Its processes were halted.
    AgentPaused {
        agent: AgentId,
        reason: String,
    },
    /// And go on.
    AgentContinued {
        agent: AgentId,
        reason: String,
    },
    /// Its process is told to end; the attempt does not count, unless it is for want of memory once more.
    AgentStopping {
        agent: AgentId,
        reason: String,
    },
    /// It takes no task after the one it has.
    AgentDraining {
        agent: AgentId,
        reason: String,
    },
    /// It failed too often, and takes no task until it is released.
    AgentQuarantined {
        agent: AgentId,
        reason: String,
    },
    /// There is not enough to do for it: it takes no task until there is.
    AgentBenched {
        agent: AgentId,
        reason: String,
    },
    /// It takes tasks again.
    AgentReleased {
        agent: AgentId,
        reason: String,
    },
    /// What an agent at work says it has used so far.
    UsageReported {
        task: TaskId,
        used: Amount,
    },
    /// A task holds what it needs to start, each with the token of its place.
    LeaseGranted {
        task: TaskId,
        resources: Vec<Wanted>,
        tokens: Vec<u64>,
    },
    /// A task is over and holds nothing any more.
    LeaseEnded {
        task: TaskId,
    },
    /// An agent cannot be launched yet, for want of something other runs have.
    LaunchWaits {
        agent: AgentId,
        task: TaskId,
        reason: String,
    },
    /// The agent made no progress for so long, and was asked to end.
    AgentIdle {
        agent: AgentId,
        task: TaskId,
        attempt: u32,
        silent: Millis,
    },
    /// The machine is short of memory, or no longer.
    PressureChanged {
        level: Level,
        reason: String,
        available: ByteCount,
        total: ByteCount,
        /// Resident memory of all agents, and of the node.
        agents: ByteCount,
        node: ByteCount,
    },
    /// The memory of an agent, or of the node where no task is named, grows steadily and would pass its limit in time.
    MemoryGrowing {
        task: Option<TaskId>,
        memory: ByteCount,
        per_minute: ByteCount,
        limit: ByteCount,
        passes_in: Millis,
    },
    /// An agent asked for connections that it may not have: at once the first time, later ones when it has ended.
    EgressRefused {
        agent: AgentId,
        task: TaskId,
        attempt: u32,
        /// Empty where it named none.
        host: String,
        /// 0 where it named no host.
        port: u16,
        reason: Reason,
        /// Attempts since the last such record.
        count: u64,
    },
    AgentEnded(Box<AgentEnded>),
    /// The node died while the agent worked or was being started; its work is thrown away and the attempt does not count.
    AgentLost {
        agent: AgentId,
        task: TaskId,
        attempt: u32,
        /// What it had used, as far as it can be told.
        #[serde(default)]
        used: Amount,
    },
    /// An agent that ended well has left this file, which the content store has.
    ArtifactKept {
        task: TaskId,
        /// A clean relative path: see [`crate::exchange::clean`].
        name: String,
        digest: Digest,
        bytes: ByteCount,
    },
    /// Of what an agent has left, this is not kept.
    ArtifactsRefused {
        task: TaskId,
        refused: Vec<RefusedFile>,
        /// As many more.
        more: u32,
    },
    /// A message is on its way; its number is this record's.
    MessageSent(Message),
    MessageRefused {
        from: Sender,
        /// The recipient's name as it was given, escaped and cut.
        to: String,
        reason: String,
    },
    /// An agent that ended well had its messages up to this one in its inbox while it worked.
    MessagesDelivered {
        agent: AgentId,
        task: TaskId,
        through: u64,
    },
    /// The files of an attempt that failed; the next one begins with them.
    Checkpoint {
        task: TaskId,
        attempt: u32,
        base: GitOid,
        commit: GitOid,
        tree: GitOid,
    },
    /// They cannot be kept; the next attempt begins without any.
    CheckpointRefused {
        task: TaskId,
        attempt: u32,
        reason: String,
    },
    /// The swarm is put together in another way.
    TopologyChanged {
        topology: Topology,
        reason: String,
    },
    /// A change needs the word of an agent before it goes to the panel; its task is to give it.
    ReviewAsked {
        change: ChangeId,
        task: TaskId,
        by: AgentId,
    },
    /// It has given it.
    ReviewGiven {
        change: ChangeId,
        by: AgentId,
        accepted: bool,
        reason: String,
    },
    /// Nobody is there to give it.
    ReviewWaived {
        change: ChangeId,
        reason: String,
    },
    /// Somebody wants a task no more.
    TaskUnwanted {
        task: TaskId,
        reason: String,
    },
    /// Somebody wants a task sooner or later than the swarm file says.
    TaskPrioritised {
        task: TaskId,
        priority: Priority,
    },
    /// A task came to an end without a change.
    TaskClosed {
        task: TaskId,
        outcome: TaskOutcome,
    },
    ChangeProposed(ChangeProposed),
    /// The change merged cleanly onto `onto`; the result is what the panel judges and what may land.
    CandidatePrepared {
        change: ChangeId,
        onto: GitOid,
        commit: GitOid,
        tree: GitOid,
    },
    /// The change does not merge onto `onto`.
    ConflictFound {
        change: ChangeId,
        onto: GitOid,
        reason: String,
        evidence: Digest,
    },
    BallotOpened {
        ballot: BallotId,
        change: ChangeId,
        onto: GitOid,
        commit: GitOid,
        tree: GitOid,
    },
    ReportReceived {
        ballot: BallotId,
        validator: ValidatorId,
        report: Envelope,
    },
    VoteCast {
        ballot: BallotId,
        validator: ValidatorId,
        vote: Envelope,
    },
    /// A validator gave no usable answer in this step, for good.
    ValidatorAbsent {
        ballot: BallotId,
        validator: ValidatorId,
        step: Step,
        reason: String,
    },
    BallotDecided {
        ballot: BallotId,
        verdict: Verdict,
    },
    Countersigned {
        ballot: BallotId,
        validator: ValidatorId,
        signature: Signature,
    },
    Certified {
        ballot: BallotId,
        change: ChangeId,
        verdict: Verdict,
        certificate: Digest,
    },
    LandingStarted {
        change: ChangeId,
        from: Option<GitOid>,
        to: GitOid,
    },
    Landed {
        change: ChangeId,
        commit: GitOid,
        tree: GitOid,
        certificate: Digest,
    },
    Refused {
        change: ChangeId,
        check: String,
        reason: String,
        evidence: Vec<Digest>,
    },
    Finished {
        outcome: RunOutcome,
    },
}

/// What a run is, where it works, and who votes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub run: RunId,
    pub kind: RunKind,
    pub spec: RunSpec,
    /// Absolute path of the repository that receives the result, as text for people; lossy for strange names.
    pub repository: String,
    /// Folder of the swarm file, for programs and arguments relative to it.
    pub swarm_dir: String,
    pub base: GitOid,
    pub base_tree: GitOid,
    pub branch: String,
    pub electorate: Vec<Elector>,
    pub quorate_version: String,
    /// What other runs of the workspace had spent on the day it began, where there is a budget of the day.
    #[serde(default)]
    pub spent_today: Amount,
}

/// A validator and its public key (hexadecimal), frozen when the run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elector {
    pub validator: ValidatorId,
    pub public_key: String,
}

/// Whether a run has agents, or judges one change that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    Swarm,
    Certify,
}

/// Something an agent has left that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFile {
    /// Escaped and cut.
    pub name: String,
    pub reason: String,
}

/// How one launch of an agent ended, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentEnded {
    pub agent: AgentId,
    pub task: TaskId,
    pub attempt: u32,
    pub outcome: AgentOutcome,
    /// Without the time in which it was halted.
    pub wall: Millis,
    pub cpu: Millis,
    pub memory_peak: ByteCount,
    /// Time in which it was made to stand still; not part of `wall`.
    #[serde(default)]
    pub paused: Millis,
    /// Which layer of the operating system held what.
    pub containment: Vec<String>,
    pub stdout: Option<Digest>,
    pub stderr: Option<Digest>,
    /// The last thing it said, cut and with secrets blotted out.
    pub last_words: String,
    /// What it used: launches and agent time as Quorate saw them, the rest as it said itself.
    #[serde(default)]
    pub used: Amount,
    /// What it says of the change it was to review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Opinion>,
}

/// What a reviewer says of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    pub accepted: bool,
    pub reason: String,
}

/// How one launch of an agent ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AgentOutcome {
    Exited {
        code: i32,
    },
    Signaled {
        signal: i32,
    },
    WallLimit,
    MemoryLimit,
    CpuLimit,
    OutputLimit,
    ProcessLimit,
    DiskLimit,
    /// It made no progress for too long.
    Idle,
    /// The node ended it because the machine ran out of memory.
    MemoryPressure,
    /// It had used what was set aside for it.
    BudgetSpent {
        unit: Unit,
    },
    /// Ended because the run was.
    Cancelled,
    NotStarted {
        reason: String,
    },
}

impl AgentOutcome {
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

impl std::fmt::Display for AgentOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exit {code}"),
            Self::Signaled { signal } => write!(f, "killed by signal {signal}"),
            Self::WallLimit => f.write_str("wall time limit"),
            Self::MemoryLimit => f.write_str("memory limit"),
            Self::CpuLimit => f.write_str("CPU time limit"),
            Self::OutputLimit => f.write_str("output limit"),
            Self::ProcessLimit => f.write_str("process limit"),
            Self::DiskLimit => f.write_str("disk limit"),
            Self::Idle => f.write_str("idle"),
            Self::MemoryPressure => f.write_str("memory pressure"),
            Self::BudgetSpent { unit } => write!(f, "its {unit} were used up"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::NotStarted { reason } => write!(f, "not started: {reason}"),
        }
    }
}

/// Why a task ended without a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TaskOutcome {
    /// The agent finished and left the tree as it was.
    NoChange,
    Failed {
        reason: String,
    },
    /// What it depends on has not happened and will not.
    Blocked {
        by: TaskId,
    },
    /// It was to review a change, and this is what came of it.
    Reviewed {
        accepted: bool,
        reason: String,
    },
    /// Its deadline passed before it was done.
    DeadlinePassed,
    /// Somebody wanted it no more.
    Cancelled {
        reason: String,
    },
    /// The node died with it again and again.
    Poison {
        deaths: u32,
    },
    /// A budget it spends from was used up.
    OverBudget {
        account: String,
        unit: Unit,
    },
}

/// A commit an agent proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeProposed {
    pub change: ChangeId,
    /// Absent where a person put the change before the panel.
    pub task: Option<TaskId>,
    pub agent: Option<AgentId>,
    pub base: GitOid,
    pub commit: GitOid,
    pub tree: GitOid,
    pub paths: u32,
    pub subject: String,
}

/// The three things a validator is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Examine,
    Vote,
    Countersign,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every task came to its end; single refusals are part of that.
    Complete,
    /// The run's own wall time was over.
    WallLimit,
    /// Every task came to its end, some of them because a budget was used up.
    BudgetSpent,
    /// The result branch was moved by somebody else.
    BranchMoved,
}

/// A record with its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    pub seq: u64,
    pub time: Timestamp,
    pub record: Record,
}
