//! The folder of a user's in which the processes of Quorate find each other, whatever workspace they work in.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A part of it: below `XDG_STATE_HOME`, below the home where that is not set, and in `/tmp` where there is none.
pub(crate) fn folder(part: &str) -> PathBuf {
    let whole = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = whole("XDG_STATE_HOME").or_else(|| Some(whole("HOME")?.join(".local").join("state")));
    let own = || PathBuf::from(format!("/tmp/quorate-{}", rustix::process::getuid().as_raw()));
    state.map_or_else(own, |state| state.join("quorate")).join(part)
}

/// Makes such a folder; refuses one that others may write to, who could then take what is not theirs. An error completes "the folder …".
pub(crate) fn prepare(folder: &Path) -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("cannot be made: {error}"))?;
    let metadata = fs::symlink_metadata(folder).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::getuid().as_raw() {
        return Err("is not a folder of this user's".into());
    }
    if metadata.mode() & 0o022 != 0 {
        return Err("can be written by others".into());
    }
    Ok(())
}
