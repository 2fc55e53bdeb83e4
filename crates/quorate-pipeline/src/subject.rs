//! The change a check looks at.

use std::path::PathBuf;

use quorate_base::GitOid;

/// A change, checked out.
#[derive(Debug, Clone)]
pub struct Subject {
    /// A checkout of exactly the change's tree.
    pub checkout: PathBuf,
    /// A checkout of the tree it is based on.
    pub base_checkout: Option<PathBuf>,
    pub tree: GitOid,
    pub base_tree: GitOid,
    pub changed: Vec<ChangedPath>,
    /// The command that runs the project's tests, for checks that measure it.
    pub tests: Option<Vec<String>>,
}

/// One path the change touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    pub path: PathBuf,
    pub kind: ChangeKind,
    /// Mode afterwards, as git writes it; 0 where the path is gone.
    pub mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    TypeChanged,
}
