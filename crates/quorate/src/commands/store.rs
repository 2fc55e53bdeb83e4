//! Opening workspaces, runs and repositories for the other commands.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use quorate_base::{Digest, RunId, ValidatorId};
use quorate_evidence::record::Record as Evidence;
use quorate_swarm::git::Source;
use quorate_swarm::journal::Journal;
use quorate_swarm::node::{Observer, Surroundings, stamped};
use quorate_swarm::record::Stamped;
use quorate_swarm::spec::CheckEntry;
use quorate_swarm::state::State;
use quorate_swarm::store::Store;
use quorate_swarm::workspace::Workspace;

use crate::failure::Usage;
use crate::host;
use crate::printer::Printer;

/// A run as its journal tells it now, whoever is writing it.
pub(super) struct View {
    pub(super) workspace: Workspace,
    pub(super) run: RunId,
    pub(super) records: Vec<Stamped>,
    pub(super) state: State,
}

/// Opens a run for reading.
pub(super) fn view(here: &Path, run: Option<&str>) -> anyhow::Result<View> {
    let workspace = Workspace::find(here)?;
    let run = workspace.run(run)?;
    let path = workspace.run_dir(&run).journal();
    let (entries, _) = Journal::read(&path).with_context(|| format!("run {run}"))?;
    let records = stamped(&entries)?;
    let state = State::fold(records.iter())?;
    Ok(View { workspace, run, records, state })
}

/// The store of a project, made where it is not there yet, with keys for the panel.
pub(super) fn workspace_at(
    root: &Path,
    panel: &[ValidatorId],
    printer: &Printer,
) -> anyhow::Result<Workspace> {
    let fresh = !root.join(quorate_swarm::workspace::FOLDER).exists();
    let workspace = Workspace::create(root)?;
    let keys = workspace.create_keys(panel, host::random)?;
    if fresh {
        printer.say(&format!("created {} with {keys} validator keys", workspace.store_dir().display()));
    }
    Ok(workspace)
}

/// The repository of a folder, and what the user should know about its state.
pub(super) fn repository(here: &Path, printer: &Printer) -> anyhow::Result<Source> {
    let source = quorate_swarm::git::discover(here)?;
    if source.changed_count() > 0 {
        printer.warn(&format!(
            "{} uncommitted paths in {} are not part of this; commit them first if they should be",
            source.changed_count(),
            source.top().display()
        ));
    }
    if !source.submodules().is_empty() {
        printer.warn("submodules are not checked out in worktrees; a check that needs them will fail or be inconclusive");
    }
    Ok(source)
}

/// The checks a repository gets where nothing names any.
pub(super) fn detected(root: &Path, panel: &[ValidatorId]) -> BTreeMap<String, CheckEntry> {
    let project = quorate_pipeline::detect(root);
    let mut checks = BTreeMap::new();
    for (speciality, name, spec) in quorate_pipeline::spec::default_panel(&project) {
        // A panel with other names shares the checks out in turn.
        let owner = panel.iter().find(|validator| validator.as_str() == speciality);
        let owner = owner.or_else(|| panel.get(checks.len() % panel.len().max(1)));
        if let Some(owner) = owner {
            checks.insert(name, CheckEntry { validator: owner.clone(), spec });
        }
    }
    checks
}

/// A project's own settings file, if it has one.
pub(super) fn project_file(root: &Path) -> anyhow::Result<Option<(String, String)>> {
    let path = root.join("quorate.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Usage(format!("cannot read {}: {error}", path.display())).into()),
    }
}

/// What a node needs of this process.
pub(super) fn surroundings(
    observer: Observer,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
) -> anyhow::Result<Surroundings> {
    Ok(Surroundings {
        clock: Box::new(host::steady()),
        validator: host::validator_command()?,
        stage: host::stage_command()?,
        observer,
        stop,
    })
}

/// An evidence record, checked against its digest.
pub(super) fn evidence(store: &Store, digest: &Digest) -> anyhow::Result<Evidence> {
    let bytes = store.get(digest)?;
    Evidence::parse(&bytes, *digest).with_context(|| format!("evidence {digest}"))
}
