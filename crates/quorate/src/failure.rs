//! From an error to an exit code: the one place that knows which mistake is whose.

use quorate_base::ExitStatus;
use quorate_bus::wire::{client, server};
use quorate_swarm::{control, git, journal, node, nodes, secrets, spec, workspace};
use serde::Serialize;

/// An error as the command line tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
    #[serde(skip)]
    pub(crate) status: ExitStatus,
}

/// A mistake in what was asked for, found by a command itself.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Failure {
    pub(crate) fn classify(error: &anyhow::Error) -> Self {
        let mut parts: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string();
            // Transparent wrappers and messages that already hold their cause would say it twice.
            if !parts.iter().any(|part| part.contains(&text)) {
                parts.push(text);
            }
        }
        let status = status(error);
        let mut text = parts.join(": ");
        if status == ExitStatus::Interrupted && !is_elsewhere(error) {
            text.push_str(
                "; nothing that was recorded is lost: make room or mend the disk, then `quorate resume`",
            );
        }
        Self { error: text, status }
    }
}

/// Whether it happened to the bus or the memory, where there is no run to resume.
fn is_elsewhere(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<client::Error>() || cause.is::<quorate_memory::Error>() || cause.is::<control::Error>()
    })
}

fn status(error: &anyhow::Error) -> ExitStatus {
    for cause in error.chain() {
        if cause.is::<Usage>() || cause.is::<spec::file::Error>() || cause.is::<quorate_base::id::InvalidId>()
        {
            return ExitStatus::Usage;
        }
        if let Some(error) = cause.downcast_ref::<node::Error>() {
            return of_node(error);
        }
        if cause.is::<secrets::Error>() {
            return ExitStatus::Usage;
        }
        if cause.is::<nodes::Error>() {
            return ExitStatus::Usage;
        }
        if let Some(error) = cause.downcast_ref::<control::Error>() {
            return of_control(error);
        }
        if let Some(error) = cause.downcast_ref::<control::Refusal>() {
            return of_refusal(error);
        }
        if let Some(error) = cause.downcast_ref::<workspace::Error>() {
            return of_workspace(error);
        }
        if let Some(error) = cause.downcast_ref::<git::Error>() {
            return of_git(error);
        }
        if let Some(error) = cause.downcast_ref::<quorate_memory::Error>() {
            return of_memory(error);
        }
        if let Some(error) = cause.downcast_ref::<quorate_search::Error>() {
            return of_search(error);
        }
        if let Some(error) = cause.downcast_ref::<client::Error>() {
            return of_bus(error);
        }
        if let Some(error) = cause.downcast_ref::<server::Error>() {
            return of_server(error);
        }
        if cause.is::<journal::Error>() {
            return ExitStatus::Internal;
        }
        if cause.is::<std::io::Error>() {
            return ExitStatus::Usage;
        }
    }
    ExitStatus::Internal
}

fn of_node(error: &node::Error) -> ExitStatus {
    match error {
        node::Error::Workspace(error) => of_workspace(error),
        node::Error::Git(error) => of_git(error),
        node::Error::Finished(_)
        | node::Error::Nodes(_)
        | node::Error::Control { .. }
        | node::Error::Secrets(_)
        | node::Error::BranchExists { .. }
        | node::Error::BranchName(_)
        | node::Error::SpentUnknown { .. } => ExitStatus::Usage,
        // The journal holds everything up to here: with room or a healthy disk again, the run goes on.
        node::Error::Io { .. } | node::Error::Store(_) | node::Error::Exchange(_) => ExitStatus::Interrupted,
        node::Error::Journal(error) if error.is_io() => ExitStatus::Interrupted,
        _ => ExitStatus::Internal,
    }
}

fn of_control(error: &control::Error) -> ExitStatus {
    match error {
        control::Error::NoNode { .. } => ExitStatus::Refused,
        control::Error::NoAnswer { .. } => ExitStatus::Interrupted,
        control::Error::Unreachable { .. } => ExitStatus::Usage,
        control::Error::Unintelligible { .. } => ExitStatus::Internal,
    }
}

/// What a node refuses is refused; what it does not understand was said wrongly.
pub(crate) fn of_refusal(refusal: &control::Refusal) -> ExitStatus {
    match refusal {
        control::Refusal::Malformed { .. } => ExitStatus::Usage,
        _ => ExitStatus::Refused,
    }
}

fn of_workspace(error: &workspace::Error) -> ExitStatus {
    match error {
        workspace::Error::Newer { .. } | workspace::Error::KeyUnusable { .. } => ExitStatus::Internal,
        _ => ExitStatus::Usage,
    }
}

fn of_memory(error: &quorate_memory::Error) -> ExitStatus {
    use quorate_memory::Error;
    match error {
        Error::Conflict { .. }
        | Error::RangeConflict { .. }
        | Error::Contended { .. }
        | Error::Denied { .. }
        | Error::Forgotten { .. }
        | Error::NotYet { .. } => ExitStatus::Refused,
        Error::QuotaExceeded { .. }
        | Error::StoreFull { .. }
        | Error::TooLarge { .. }
        | Error::NamespacesFull { .. } => ExitStatus::Limit,
        Error::NamespaceMissing { .. }
        | Error::NamespaceExists { .. }
        | Error::NamespaceInvalid { .. }
        | Error::EmptyKey
        | Error::KeyMissing { .. }
        | Error::Incomplete { .. }
        | Error::NotEmpty { .. }
        | Error::NothingThere { .. }
        | Error::Import { .. } => ExitStatus::Usage,
        // With room or a healthy disk again, it goes on.
        Error::Stopped { .. } | Error::Behind | Error::Io { .. } => ExitStatus::Interrupted,
        Error::Log(error) if error.is_io() => ExitStatus::Interrupted,
        Error::Search(error) => of_search(error),
        _ => ExitStatus::Internal,
    }
}

fn of_search(error: &quorate_search::Error) -> ExitStatus {
    match error {
        quorate_search::Error::Engine(_) | quorate_search::Error::Broken => ExitStatus::Internal,
        _ => ExitStatus::Usage,
    }
}

fn of_bus(error: &client::Error) -> ExitStatus {
    match error {
        client::Error::NotServed { .. } | client::Error::Version { .. } => ExitStatus::Usage,
        client::Error::Refused { code, .. } => match code.as_str() {
            "timed-out" | "no-responders" | "busy" | "full" | "refused" => ExitStatus::Refused,
            "stream" | "malformed" => ExitStatus::Internal,
            _ => ExitStatus::Usage,
        },
        client::Error::TimedOut(_) => ExitStatus::Refused,
        client::Error::Io(_) | client::Error::Closed => ExitStatus::Interrupted,
        client::Error::Malformed(_) => ExitStatus::Internal,
    }
}

fn of_server(error: &server::Error) -> ExitStatus {
    match error {
        server::Error::Stream(_) => ExitStatus::Internal,
        _ => ExitStatus::Usage,
    }
}

fn of_git(error: &git::Error) -> ExitStatus {
    match error {
        _ if error.is_usage() => ExitStatus::Usage,
        // With room or a healthy disk again, the run goes on.
        _ if error.is_disk() => ExitStatus::Interrupted,
        _ => ExitStatus::Internal,
    }
}
