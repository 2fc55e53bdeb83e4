//! Removing folders that others filled.

use std::fs;
use std::io;
use std::path::Path;

use super::program::{Error, io_at};

/// Removes a folder with all in it; a link is removed and never followed, and one that is not there is no error.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_at(path)(error)),
        Ok(metadata) if metadata.is_dir() => match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => {
                make_writable(path);
                fs::remove_dir_all(path).map_err(io_at(path))
            }
            Ok(()) => Ok(()),
        },
        Ok(_) => fs::remove_file(path).map_err(io_at(path)),
    }
}

/// Read-only folders, as some tools leave them, keep their contents from being removed.
fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
