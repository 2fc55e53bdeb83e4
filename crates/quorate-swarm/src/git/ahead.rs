//! Worktrees that are made before it is known what for: brought up to date, and moved to where they are used.

use std::fs;
use std::path::Path;

use quorate_base::GitOid;

use super::private::PrivateRepository;
use super::program::{Error, Git, io_at};
use super::worktree::BASE;

impl PrivateRepository {
    /// Brings a worktree in which nobody has worked to another commit, as if it had been made of that one. Only files that
    /// differ are written; the folder stays the same one.
    pub fn refresh_worktree(&self, path: &Path, commit: &GitOid) -> Result<(), Error> {
        let path = path.canonicalize().map_err(io_at(path))?;
        let admin = self.admin_of(&path)?.ok_or_else(|| Error::NotARepository { path: path.clone() })?;
        self.git()?;
        Git::in_dir(&admin)
            .env("GIT_WORK_TREE", &path)
            .in_folder(&path)
            .args(["-c", "checkout.workers=0", "read-tree", "-u", "--reset", "--no-recurse-submodules"])
            .arg(commit.as_str())
            .run()?;
        let write = || {
            fs::write(admin.join("HEAD"), format!("{commit}\n"))?;
            fs::write(admin.join(BASE), commit.as_str())
        };
        write().map_err(io_at(&admin))
    }

    /// Moves a worktree to a place where nothing is, on the same file system. A process that waits in it goes along.
    pub fn move_worktree(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let _turn = self.turn()?;
        let admin = self.admin_of(from)?.ok_or_else(|| Error::NotARepository { path: from.to_owned() })?;
        let (folder, name) = to.parent().zip(to.file_name()).unwrap_or((to, to.as_os_str()));
        let to = folder.canonicalize().map_err(io_at(folder))?.join(name);
        let mut place = to.join(".git").into_os_string().into_encoded_bytes();
        place.push(b'\n');
        let aside = self.scrap();
        fs::write(&aside.0, place).map_err(io_at(&aside.0))?;
        fs::rename(from, &to).map_err(io_at(&to))?;
        let gitdir = admin.join("gitdir");
        fs::rename(&aside.0, &gitdir).map_err(io_at(&gitdir))?;
        self.admit(&admin, &to).map(drop)
    }
}
