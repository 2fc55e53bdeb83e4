//! What an agent may reach.

use std::path::Path;

use quorate_agents::{Network, SandboxLayer};
use serde::{Deserialize, Serialize};

/// The sandbox of an agent, as its declaration asks for it. Its worktree, a temporary folder of its own, the system's
/// and the home's tools need not be named.
///
/// Paths are absolute, below the home (`~/…`), or relative to the swarm file's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub read: Vec<String>,
    pub write: Vec<String>,
    /// Where an agent CLI keeps its settings, sessions and credentials: written where it is there. With a slash at its
    /// end it is a folder, and made. May start with a variable of the agent's environment (`$NAME/…`).
    pub own: Vec<String>,
    pub network: Network,
    /// Where the network is listed: what may be connected to, in the words of [`HostList`](quorate_agents::egress::HostList), or
    /// `$NAME` for the server whose base URL that variable holds.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Layers without which the agent is not started.
    pub require: Vec<SandboxLayer>,
}

impl SandboxSpec {
    /// The same for somebody who does not know the swarm file's folder: paths that were relative to it are whole.
    pub fn below(&self, folder: &Path) -> Self {
        let whole = |path: &String| match path.starts_with("~/") {
            true => path.clone(),
            false => folder.join(path).to_string_lossy().into_owned(),
        };
        Self {
            read: self.read.iter().map(whole).collect(),
            write: self.write.iter().map(whole).collect(),
            ..self.clone()
        }
    }
}

impl Default for SandboxSpec {
    /// No network, and no start without what keeps it from files and from other processes.
    fn default() -> Self {
        Self {
            read: Vec::new(),
            write: Vec::new(),
            own: Vec::new(),
            network: Network::Off,
            hosts: Vec::new(),
            require: vec![SandboxLayer::Landlock, SandboxLayer::Seccomp],
        }
    }
}
