//! Real repositories in temporary folders.

mod repositories;
mod worktrees;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_base::{GitOid, Timestamp};

use super::*;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A user's repository in a folder of its own, beside which runs have theirs.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) top: PathBuf,
}

/// Git as a user calls it.
pub(crate) fn git(folder: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "protocol.file.allow=always",
        "-c",
        "user.name=user",
        "-c",
        "user.email=user@example.invalid",
    ]);
    let output = command
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) fn oid(folder: &Path, rev: &str) -> GitOid {
    String::from_utf8(git(folder, &["rev-parse", rev])).unwrap().trim().parse().unwrap()
}

pub(crate) fn write(folder: &Path, name: impl AsRef<Path>, content: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

impl Place {
    pub(crate) fn named(name: &str, init: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(&top).unwrap();
        git(&top, &[&["init", "-q", "-b", "main"], init].concat());
        write(&top, "a.txt", "one\n");
        write(&top, "src/b.txt", "two\n");
        write(&top, ".gitignore", "*.log\n");
        git(&top, &["add", "-A"]);
        git(&top, &["commit", "-q", "-m", "first"]);
        Self { folder, top }
    }

    pub(crate) fn new() -> Self {
        Self::named("user", &[])
    }

    pub(crate) fn source(&self) -> Source {
        discover(&self.top).unwrap()
    }

    pub(crate) fn head(&self) -> GitOid {
        oid(&self.top, "HEAD")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.top.parent().unwrap().join(name)
    }

    pub(crate) fn private(&self) -> PrivateRepository {
        PrivateRepository::create(&self.beside("run/repository.git"), &self.source()).unwrap()
    }

    pub(crate) fn worktree(&self, private: &PrivateRepository, name: &str) -> PathBuf {
        let path = self.beside("run/worktrees").join(name);
        private.add_worktree(&path, &self.head()).unwrap();
        path
    }

    pub(crate) fn commit(&self, private: &PrivateRepository, worktree: &Path) -> GitOid {
        let tree = private.snapshot(worktree).unwrap();
        private.commit_tree(&tree, &[self.head()], "change\n", &Identity::quorate(), NOW).unwrap()
    }
}

pub(crate) fn paths(changes: &[PathChange]) -> Vec<(&[u8], PathStatus)> {
    changes.iter().map(|change| (change.path.as_os_str().as_bytes(), change.status)).collect()
}

/// Every file below a folder with its content, but for those git itself calls caches.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                found.push((entry.path(), fs::read(entry.path()).unwrap()));
            }
        }
    }
    found.sort();
    found
}
