//! Where measures write: on the disk of the workspace, because the temporary folder may be memory.

use std::path::Path;

use tempfile::TempDir;

/// A folder below the build's, or below the current one, that goes with the value.
pub(crate) fn folder() -> anyhow::Result<TempDir> {
    let place = ["target", "."].into_iter().map(Path::new).find(|place| place.is_dir());
    Ok(tempfile::Builder::new().prefix(".bench-").tempdir_in(place.unwrap_or_else(|| Path::new(".")))?)
}
