//! Putting a sandbox together before a process is started, and entering it afterwards.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use seccompiler::BpfProgram;

use super::files::{self, Grants};
use super::namespaces::{Maker, Namespaces, SHARED_MEMORY};
use super::{Error, Network, Offer, Sandbox, SandboxLayer, calls, raw};
use crate::command::Command;
use crate::egress::{Bounds, Egress, Giver, Handover, Proxy};

/// A sandbox that is ready for one process.
#[derive(Debug)]
pub(crate) struct Enclosure {
    /// Which layer holds what.
    pub(crate) lines: Vec<String>,
    /// Where the process says which step it could not take.
    steps: Arc<OwnedFd>,
    /// What its proxy needs, where it has one.
    egress: Option<(Handover, Egress)>,
}

/// What the process itself needs to enter it.
#[derive(Debug)]
pub(crate) struct Entrant {
    namespaces: Option<Namespaces>,
    ruleset: Option<OwnedFd>,
    /// Rights on a folder that is there only once mounts have been made.
    late_rights: u64,
    filter: Option<BpfProgram>,
    /// Where it leaves the listener of its proxy.
    listener: Option<Giver>,
    steps: Arc<OwnedFd>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Namespaces = 1,
    Listener,
    Capabilities,
    Privileges,
    Files,
    Calls,
}

impl Step {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Namespaces, "namespaces"),
        (Self::Listener, "the listener of its proxy"),
        (Self::Capabilities, "giving up capabilities"),
        (Self::Privileges, "giving up new privileges"),
        (Self::Files, "landlock"),
        (Self::Calls, "seccomp"),
    ];
}

impl Enclosure {
    /// Prepares the sandbox of a command whose output files are there. Refused where a layer is missing without which
    /// it would not be what it says.
    pub(crate) fn prepare(
        command: &Command,
        sandbox: &Sandbox,
        offer: &Offer,
    ) -> Result<(Self, Entrant), Error> {
        for layer in &sandbox.require {
            if !offer.has(*layer) {
                return Err(Error::LayerMissing { layer: *layer, reason: offer.detail(*layer) });
            }
        }
        let network = sandbox.network;
        match network {
            Network::Off if !offer.seccomp && offer.namespaces.is_none() => {
                return Err(Error::Network { network, layer: SandboxLayer::Seccomp, instead: Network::Open });
            }
            Network::Loopback | Network::Listed if offer.namespaces.is_none() => {
                return Err(Error::Network {
                    network,
                    layer: SandboxLayer::Namespaces,
                    instead: Network::Off,
                });
            }
            _ => {}
        }
        let grants = grants(command, sandbox)?;
        let ruleset = if offer.landlock > 0 { files::ruleset(network, &grants)? } else { None };
        let filter =
            offer.seccomp.then(|| calls::filter(network, offer.landlock >= files::ABI_UNIX)).transpose()?;
        let namespaces =
            offer.namespaces.map(|maker| namespaces(maker, command, sandbox, &grants)).transpose()?;
        let steps = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| {
            Error::Prepare { what: "a channel to the process", reason: errno.to_string() }
        })?;
        let steps = Arc::new(steps);
        let handover = (network == Network::Listed)
            .then(Handover::new)
            .transpose()
            .map_err(|error| Error::Prepare { what: "the way to its proxy", reason: error.to_string() })?;
        let (handover, listener) = handover.unzip();
        let entrant = Entrant {
            namespaces,
            ruleset,
            late_rights: files::write_rights(offer.landlock),
            filter,
            listener,
            steps: Arc::clone(&steps),
        };
        let egress = handover.map(|handover| (handover, sandbox.egress.clone()));
        Ok((Self { lines: lines(offer, network), steps, egress }, entrant))
    }

    /// The variables by which its programs find its proxy.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        self.egress.as_ref().map_or_else(Vec::new, |(_, egress)| egress.variables())
    }

    /// Starts the proxy of a process that has entered, where it has one.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, Error> {
        let Some((handover, egress)) = &self.egress else { return Ok(None) };
        let proxy =
            handover.take().and_then(|listener| Proxy::start(listener, egress.clone(), Bounds::default()));
        let failed = |error: io::Error| Error::Prepare { what: "its proxy", reason: error.to_string() };
        proxy.map(Some).map_err(failed)
    }

    /// The step the process could not take, if there was one.
    pub(crate) fn failure(&self, source: io::Error) -> Result<Error, io::Error> {
        let mut number = [0_u8; 8];
        match rustix::io::read(&*self.steps, &mut number) {
            Ok(8) => {
                let number = u64::from_ne_bytes(number);
                let step = Step::ALL.iter().find(|(step, _)| *step as u64 == number);
                Ok(Error::Enter { step: step.map_or("an unknown step", |(_, name)| name), source })
            }
            _ => Err(source),
        }
    }
}

impl Entrant {
    /// Encloses this process for good. Async-signal-safe: system calls only, with what was prepared before.
    pub(crate) fn enter(&self) -> io::Result<()> {
        // Mounting is one of the things that Landlock refuses; making a filter needs no privilege once there can be no
        // new ones, and after it hardly anything can be changed: it comes last.
        if let Some(namespaces) = &self.namespaces {
            self.step(Step::Namespaces, namespaces.enter())?;
            if let Some(ruleset) = self.ruleset.as_ref().filter(|_| namespaces.has_shared_memory()) {
                let granted = raw::grant_folder(ruleset.as_fd(), SHARED_MEMORY, self.late_rights);
                self.step(Step::Files, granted)?;
            }
        }
        if let Some(listener) = &self.listener {
            self.step(Step::Listener, listener.give())?;
        }
        self.step(Step::Capabilities, raw::drop_capabilities())?;
        self.step(Step::Privileges, raw::no_new_privileges())?;
        if let Some(ruleset) = &self.ruleset {
            self.step(Step::Files, raw::restrict_self(ruleset.as_fd()))?;
        }
        if let Some(filter) = &self.filter {
            self.step(Step::Calls, raw::filter_calls(filter))?;
        }
        Ok(())
    }

    fn step(&self, step: Step, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            let _ = rustix::io::write(&*self.steps, &(step as u64).to_ne_bytes());
        }
        result
    }
}

fn grants(command: &Command, sandbox: &Sandbox) -> Result<Grants, Error> {
    // A path that is not there hides nothing.
    let hidden: Vec<PathBuf> = sandbox.hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut grants = Grants::default();
    for path in &sandbox.read {
        grants.read(path, &hidden)?;
    }
    for path in &sandbox.write {
        grants.write(path, &hidden)?;
    }
    for output in [&command.stdout, &command.stderr] {
        grants.stream(output)?;
    }
    if let Some(program) = find(command) {
        for part in program_parts(&program) {
            grants.read(&part, &[])?;
        }
    }
    Ok(grants)
}

fn namespaces(
    maker: Maker,
    command: &Command,
    sandbox: &Sandbox,
    grants: &Grants,
) -> Result<Namespaces, Error> {
    let writable: Vec<&Path> = grants
        .0
        .iter()
        .filter(|(_, usage)| *usage == files::Use::Write)
        .map(|(path, _)| path.as_path())
        .collect();
    let cwd = files::resolve(&command.cwd)?;
    let below = |path: &Path| path.starts_with("/tmp");
    let covers = grants.0.iter().any(|(path, _)| below(path)) || below(&cwd);
    let temporary = sandbox.temporary.as_deref().filter(|_| !covers && Path::new("/tmp").is_dir());
    Namespaces::prepare(maker, sandbox.network, &writable, &cwd, temporary)
}

/// The program's file, where it can be found; where it cannot, executing it says so.
fn find(command: &Command) -> Option<PathBuf> {
    let program = &command.program;
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return command.cwd.join(program).canonicalize().ok();
    }
    let path = command.env.get(std::ffi::OsStr::new("PATH"))?;
    let files = std::env::split_paths(path).map(|folder| command.cwd.join(folder).join(program));
    files.filter(|file| file.is_file()).find_map(|file| file.canonicalize().ok())
}

/// A program and what belongs to it: one of a package of Node's brings its packages along.
fn program_parts(program: &Path) -> Vec<PathBuf> {
    let packages =
        program.ancestors().filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"));
    let mut parts = vec![program.to_owned()];
    parts.extend(packages.last().map(Path::to_owned));
    parts
}

fn lines(offer: &Offer, network: Network) -> Vec<String> {
    let landlock = |abi: u32, name: &str| (offer.landlock >= abi.max(1)).then(|| name.to_owned());
    let seccomp = offer.seccomp.then(|| "seccomp".to_owned());
    let spaces = |name: &str| offer.namespaces.map(|_| name.to_owned());
    let says = |what: &str, layers: Vec<Option<String>>| {
        let layers: Vec<String> = layers.into_iter().flatten().collect();
        format!("{what}: {}", if layers.is_empty() { "not held".to_owned() } else { layers.join(", ") })
    };
    let network = match network {
        Network::Off => {
            let layers = [spaces("network namespace"), seccomp.clone(), landlock(files::ABI_TCP, "landlock")];
            format!("network: off ({})", layers.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        Network::Loopback => "network: loopback (network namespace)".to_owned(),
        Network::Listed => "network: listed hosts (network namespace, proxy)".to_owned(),
        Network::Open => "network: open".to_owned(),
    };
    let abi = (offer.landlock > 0).then(|| format!("landlock ABI {}", offer.landlock));
    let unix = if offer.landlock >= files::ABI_UNIX {
        landlock(files::ABI_UNIX, "landlock")
    } else {
        seccomp.clone()
    };
    let capabilities = if offer.capabilities { "none new, no capabilities" } else { "none new" };
    vec![
        says("files", vec![abi, spaces("read-only mounts")]),
        says("calls", vec![seccomp]),
        network,
        says("signals", vec![landlock(files::ABI_SCOPE, "landlock")]),
        says("unix sockets", vec![unix]),
        format!("privileges: {capabilities}"),
    ]
}
