//! The command line's arguments: what can be typed, and nothing about what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs swarms of coding agents in which nothing counts until there is evidence for it and a quorum behind it.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done or PASS · 1 refused, FAIL or failed work · 2 usage or configuration · \
3 inconclusive · 4 limit hit · 5 interrupted, resumable · 70 internal error";

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder to work in, instead of the current one
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Print one JSON document, or JSON lines for progress, on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress on standard error
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create .quorate/, the validators' keys and a commented quorate.toml
    Init,
    /// Run a swarm to completion: agents in worktrees, gate, ballots, merge queue
    Run(Run),
    /// Continue a run after any interruption
    Resume {
        /// The run; the newest unfinished one if left out
        run: Option<String>,
    },
    /// Put one existing change before the validator panel; the exit code is the verdict
    Certify(Certify),
    /// Check a certificate offline
    Verify(Verify),
    /// End the nodes at work here, their agents, and everything these have started; runs can be resumed
    Stop {
        /// The run, wherever it works; all of this workspace if left out
        run: Option<String>,
        /// Every node of yours on this machine
        #[arg(long, conflicts_with = "run")]
        all: bool,
    },
    /// Show where a run stands
    Status {
        /// The run; the newest if left out
        run: Option<String>,
        /// List all runs instead
        #[arg(long, conflicts_with = "run")]
        all: bool,
    },
    /// Print a run's journal
    Logs {
        /// The run; the newest if left out
        run: Option<String>,
        /// Keep printing until the run has finished
        #[arg(short, long)]
        follow: bool,
        /// Print what an agent wrote in this task, instead of the journal
        #[arg(long, value_name = "TASK", conflicts_with = "follow")]
        output: Option<String>,
    },
    /// List the agents of a run, and intervene: pause, continue, relaunch, stop, drain, release
    #[command(subcommand)]
    Agent(Agent),
    /// List the tasks of a run, cancel them, and give them another priority
    #[command(subcommand)]
    Task(Task),
    /// Change how the agents of a run are put together
    #[command(subcommand)]
    Swarm(Swarm),
    /// List and show proposed changes
    #[command(subcommand)]
    Change(Change),
    /// Show ballots
    #[command(subcommand)]
    Ballot(Ballot),
    /// List and remove worktrees that runs have left
    #[command(subcommand)]
    Worktree(Worktree),
    /// Secrets by name, for agents that declare them
    #[command(subcommand)]
    Secret(Secret),
    /// The workspace's memory: what its agents and people remember together
    Memory(Memory),
    /// The workspace's bus: publish, subscribe, look
    #[command(subcommand)]
    Bus(Bus),
    /// Show what this machine can do, and how to get the rest
    Doctor,
    /// One validator answering one request; started by the node
    #[command(hide = true)]
    Validator(Validator),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The swarm file; or, with --agent, the objective
    #[arg(value_name = "FILE|OBJECTIVE")]
    pub(crate) what: PathBuf,
    /// Run this one agent on the objective: a known agent CLI, or one declared in quorate.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Exit with 1 if anything was refused or failed, even though the run completed
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Certify {
    /// The change; HEAD if left out
    #[arg(value_name = "REV", conflicts_with = "worktree")]
    pub(crate) rev: Option<String>,
    /// The worktree as it is now, with everything that is not ignored
    #[arg(long)]
    pub(crate) worktree: bool,
    /// What it is to land on; its first parent (for --worktree: HEAD) if left out
    #[arg(long, value_name = "REV")]
    pub(crate) base: Option<String>,
    /// Also write the certificate to this file, which must not exist
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The certificate
    pub(crate) certificate: PathBuf,
    /// Folder of trusted public keys (NAME.pub); the workspace's own if left out
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Trust the keys the certificate itself names: shows that it is whole, not who made it
    #[arg(long, conflicts_with = "keys")]
    pub(crate) self_asserted: bool,
    /// Run the commands of its evidence again in a clean checkout and compare
    #[arg(long)]
    pub(crate) replay: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    /// Every change of a run
    List {
        /// The run; the newest if left out
        #[arg(long)]
        run: Option<String>,
    },
    /// One change, with the evidence for and against it
    Show {
        change: String,
        #[arg(long)]
        run: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Every agent of a run: where it stands, since when and why
    List {
        /// The run; the newest if left out
        #[arg(long)]
        run: Option<String>,
    },
    /// Halt the processes of agents at work, and their wall time with them
    Pause(Agents),
    /// Let paused agents go on
    Continue(Agents),
    /// End what agents do now; their tasks start over, and the attempt does not count
    Relaunch(Agents),
    /// End what agents do now, and give them no more tasks
    Stop(Agents),
    /// Let agents end the task they have, and give them no other
    Drain(Agents),
    /// Give agents that are stopped or quarantined tasks again
    Release(Agents),
    /// Write to an agent, or to whoever does a task; it lies in the inbox at once, or when the agent is launched next
    Tell {
        /// The agent or the task
        to: String,
        text: String,
        /// The run; the newest at work if left out
        #[arg(long)]
        run: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Swarm {
    /// Put the agents of a run together in another way, while they work
    Topology {
        /// mesh, star, ring or hierarchical
        topology: String,
        /// Why, for those who read the journal
        #[arg(long, value_name = "TEXT", default_value = "by hand")]
        reason: String,
        /// The run; the newest at work if left out
        #[arg(long)]
        run: Option<String>,
    },
}

/// Agents of a run whose node works.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// The agents, as `quorate agent list` names them
    #[arg(required = true, value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Why, for those who read the journal
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub(crate) reason: String,
    /// The run; the newest at work if left out
    #[arg(long)]
    pub(crate) run: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Every task of a run: where it stands, what it waits for
    List {
        /// The run; the newest if left out
        #[arg(long)]
        run: Option<String>,
    },
    /// Close tasks that nobody wants any more; agents at work on them are ended
    Cancel {
        #[arg(required = true, value_name = "TASK")]
        tasks: Vec<String>,
        /// Why, for those who read the journal
        #[arg(long, value_name = "TEXT", default_value = "by hand")]
        reason: String,
        /// The run; the newest at work if left out
        #[arg(long)]
        run: Option<String>,
    },
    /// Start a task sooner or later than the swarm file says, where it has not been started
    Prioritise {
        task: String,
        /// critical, high, normal, low or background
        priority: String,
        /// The run; the newest at work if left out
        #[arg(long)]
        run: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ballot {
    /// Every ballot of a run
    List {
        #[arg(long)]
        run: Option<String>,
    },
    /// One ballot, with every vote and its reason
    Show {
        /// The ballot, or the change whose newest ballot is meant
        ballot: String,
        #[arg(long)]
        run: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Worktree {
    /// Every worktree that is left, and what is in it
    List,
    /// Remove those in which nothing would be lost; exit with 1 if others stay
    Clean {
        /// Remove the others too, and lose what is in them
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Keep a secret: its value is asked for without showing it, or read from standard input; never an argument
    Set { name: String },
    /// List names and when each was set; values are never shown
    List,
    /// Forget a secret
    Remove { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct Memory {
    /// File with the key that seals the memory: 64 hexadecimal digits, outside the workspace's store
    #[arg(long, global = true, value_name = "FILE", env = "QUORATE_MEMORY_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Remember,
}

/// Where a key is.
#[derive(Debug, Args)]
pub(crate) struct In {
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Remember {
    /// Put a value; it is durable when the command returns
    Set {
        key: String,
        /// The value; standard input if left out
        value: Option<String>,
        #[command(flatten)]
        place: In,
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// As in HTTP
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// Forget it after so many seconds
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u64>,
        /// Only where the key has this version now; 0 for not being there
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
        /// What the value means, as a vector of your own: numbers with commas between
        #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
        vector: Vec<f32>,
    },
    /// Print a value
    Get {
        key: String,
        #[command(flatten)]
        place: In,
        /// As it was after this version
        #[arg(long, value_name = "VERSION")]
        at: Option<u64>,
    },
    /// Delete a key
    Delete {
        key: String,
        #[command(flatten)]
        place: In,
        /// Only where the key has this version now
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
    /// List keys
    List {
        /// Only keys that begin so
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        place: In,
        /// Only what has this tag
        #[arg(long, conflicts_with = "prefix")]
        tag: Option<String>,
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Find entries by words: words, begin*, "a phrase", +must, -not
    Search {
        query: String,
        /// Only in these namespaces
        #[arg(short, long = "namespace", value_name = "NAMESPACE")]
        namespaces: Vec<String>,
        /// Only what has all of these tags
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Also by nearness to this vector: numbers with commas between
        #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
        vector: Vec<f32>,
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Print what is most relevant to a question and fits into so many tokens, for an agent's context
    Context {
        query: String,
        /// Tokens, by an estimate that no model's own count is known to exceed much
        #[arg(long)]
        tokens: usize,
        /// Only in these namespaces
        #[arg(short, long = "namespace", value_name = "NAMESPACE")]
        namespaces: Vec<String>,
    },
    /// What a key held before
    History {
        key: String,
        #[command(flatten)]
        place: In,
    },
    /// Print changes as they come
    Watch {
        /// Only keys that begin so
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        place: In,
        /// Begin behind this version instead of now
        #[arg(long, value_name = "VERSION")]
        after: Option<u64>,
        /// End after so many changes
        #[arg(short = 'c', long)]
        count: Option<u64>,
    },
    /// Namespaces and their rules
    #[command(subcommand)]
    Namespace(Namespace),
    /// What is in the memory, in numbers
    Stats,
    /// Write everything as lines of JSON to standard output
    Export,
    /// Read lines of JSON that an export wrote
    Import {
        /// The lines; standard input if left out
        file: Option<PathBuf>,
    },
    /// Copy the memory, while it is used, and verify the copy
    Backup {
        /// A folder that is empty or missing
        to: PathBuf,
    },
    /// Put a verified backup in place of a memory that is empty or missing
    Restore {
        /// The backup
        from: PathBuf,
        /// As it was after this version
        #[arg(long, value_name = "VERSION", conflicts_with = "time")]
        version: Option<u64>,
        /// As it was at this time, in milliseconds since 1970
        #[arg(long, value_name = "MS")]
        time: Option<u64>,
    },
    /// Seal the memory with another key from now on; what was sealed before is written again
    Rotate {
        /// File with the new key; it is made where it is missing
        new_key_file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Namespace {
    /// Every namespace
    List,
    /// Make a namespace with rules of its own
    Create {
        name: String,
        /// project, system, private:AGENT or swarm:RUN
        #[arg(long, default_value = "project")]
        kind: String,
        /// Entries it holds at most
        #[arg(long)]
        max_entries: Option<u64>,
        /// Bytes it holds at most
        #[arg(long)]
        max_bytes: Option<u64>,
        /// Old versions kept of each key
        #[arg(long)]
        versions: Option<u32>,
        /// What is written without a time to live is forgotten after so many seconds
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u64>,
        /// Where it is full: none (refuse), lru, or ttl-only
        #[arg(long, default_value = "none")]
        eviction: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bus {
    /// Serve the bus until interrupted, with the durable streams there are
    Serve,
    /// Publish a message
    Pub(Publish),
    /// Print messages as they come
    Sub(Subscribe),
    /// Show topics, subscriptions and streams, again and again
    Top {
        /// Show them once and end
        #[arg(long)]
        once: bool,
        /// Seconds between looks
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: u64,
    },
    /// Durable streams: messages that stay until they are handled
    #[command(subcommand)]
    Stream(Stream),
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// What it is about, as in run.7.done
    pub(crate) topic: String,
    /// The payload; standard input if left out
    pub(crate) payload: Option<String>,
    /// critical, high, normal, low or background
    #[arg(long, default_value = "normal")]
    pub(crate) priority: String,
    /// A header, which filters can look at
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    /// Messages with the same key go to the same member of a group; compacted streams keep the last
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Do not deliver it after this many milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) expires: Option<u64>,
    /// Each line of standard input is a message
    #[arg(long, conflicts_with_all = ["payload", "request"])]
    pub(crate) lines: bool,
    /// Wait so many milliseconds for an answer and print it
    #[arg(long, value_name = "MS")]
    pub(crate) request: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// Topics: * stands for one segment, a last > for the rest
    #[arg(required_unless_present = "stream", conflicts_with = "stream")]
    pub(crate) pattern: Option<String>,
    /// Only messages that satisfy this, as in: data.score > 0.5 and role = tester
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// Share the messages with the other subscribers of this group
    #[arg(long, conflicts_with = "stream")]
    pub(crate) group: Option<String>,
    /// Take from this durable stream; each message is acknowledged once it is printed
    #[arg(long)]
    pub(crate) stream: Option<String>,
    /// Whose place in the stream it is
    #[arg(long, requires = "stream", default_value = "default")]
    pub(crate) consumer: String,
    /// Where a consumer that is new begins: first, next, a message's number, or time:MS since 1970
    #[arg(long, requires = "stream", default_value = "first")]
    pub(crate) from: String,
    /// End after so many messages
    #[arg(short = 'n', long)]
    pub(crate) count: Option<u64>,
    /// End with exit code 1 when nothing came for so many milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Make a stream that keeps what is published to these topics
    Create {
        name: String,
        #[arg(required = true)]
        patterns: Vec<String>,
        /// Forget messages older than so many seconds
        #[arg(long, value_name = "SECONDS")]
        max_age: Option<u64>,
        /// Forget the oldest messages beyond so many bytes
        #[arg(long, value_name = "BYTES")]
        max_bytes: Option<u64>,
        /// Forget the oldest messages beyond so many
        #[arg(long, value_name = "COUNT")]
        max_messages: Option<u64>,
        /// Of each key keep the last message only
        #[arg(long)]
        latest_by_key: bool,
    },
    /// Every stream and its consumers
    List,
    /// Messages that a consumer gave up, with the reason
    Dead { stream: String, consumer: String },
    /// Deliver a dead letter again
    Replay { stream: String, consumer: String, message: u64 },
    /// Forget a dead letter
    Purge { stream: String, consumer: String, message: u64 },
    /// Forget a consumer and its place
    Leave { stream: String, consumer: String },
}

#[derive(Debug, Args)]
pub(crate) struct Validator {
    #[arg(long)]
    pub(crate) key: PathBuf,
    #[arg(long)]
    pub(crate) objects: PathBuf,
    #[arg(long)]
    pub(crate) repository: PathBuf,
    #[arg(long)]
    pub(crate) scratch: PathBuf,
}
