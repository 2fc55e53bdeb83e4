//! Worktrees of a run's repository, and reading what is in them.
//!
//! What is in a worktree is not trusted, and neither is what its agent told git: the `.git` file is never followed, the
//! agent's index and HEAD mean nothing. Every reading names the repository and has an index of its own, without dates
//! in it, so that contents are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};

use quorate_base::GitOid;
use rustix::fs::{FlockOperation, flock};

use super::folder::remove_folder;
use super::ignored::forget;
use super::private::PrivateRepository;
use super::program::{Error, Git, io_at, split_nul, to_path};
use super::source::Source;

/// Name of the file beside git's own that says which commit a worktree was made of.
pub(super) const BASE: &str = "quorate-base";

/// The most folders of objects looked at that borrow from each other; git itself follows five links.
const BORROWED_MAX: usize = 32;

static SCRAPS: AtomicU64 = AtomicU64::new(0);

/// The right to make or remove git's own folder for a worktree.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _file: fs::File,
    _here: MutexGuard<'a, ()>,
}

/// A name nobody else has; a file there is removed with the value.
#[derive(Debug)]
pub(super) struct Scrap(pub(super) PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl PrivateRepository {
    pub(super) fn scrap(&self) -> Scrap {
        let n = SCRAPS.fetch_add(1, Ordering::Relaxed);
        Scrap(self.path().join(format!("scrap-{}-{n}", std::process::id())))
    }

    /// Checks a commit out in a folder of its own, which must be empty or not there. HEAD is detached.
    ///
    /// Git's own folder for the worktree is made here rather than by `git worktree add`, so that one call of git is enough,
    /// and the files are written by several processes where they are many.
    pub fn add_worktree(&self, path: &Path, commit: &GitOid) -> Result<(), Error> {
        let path = std::path::absolute(path).map_err(io_at(path))?;
        fs::create_dir_all(&path).map_err(io_at(&path))?;
        let path = path.canonicalize().map_err(io_at(&path))?;
        if fs::read_dir(&path).map_err(io_at(&path))?.next().is_some() {
            return Err(io_at(&path)(io::ErrorKind::DirectoryNotEmpty.into()));
        }
        let admin = self.register(&path, commit)?;
        self.git()?;
        // The only time the worktree's own index is written; from now on it is its agent's.
        let files = Git::in_dir(&admin)
            .env("GIT_WORK_TREE", &path)
            .in_folder(&path)
            .args(["-c", "checkout.workers=0", "read-tree", "-u", "--reset", "--no-recurse-submodules"])
            .arg(commit.as_str())
            .run();
        if files.is_err() {
            self.remove_worktree(&path)?;
        }
        files.map(drop)
    }

    /// Makes the tracked files of a worktree those of a tree. Its HEAD and index stay, so that git shows what is different as not
    /// staged.
    pub(crate) fn lay_over(&self, path: &Path, tree: &GitOid) -> Result<(), Error> {
        let base = self.base_of(path)?;
        let index = self.scrap();
        self.on_files(path, &index)?.args(["read-tree", base.as_str()]).run()?;
        let files = [
            "-c",
            "checkout.workers=0",
            "read-tree",
            "-u",
            "--reset",
            "--no-recurse-submodules",
            tree.as_str(),
        ];
        self.on_files(path, &index)?.args(files).run().map(drop)
    }

    /// Makes a worktree without files; answers git's own folder for it. The folder appears whole, because git fails where
    /// it finds one half made.
    fn register(&self, path: &Path, commit: &GitOid) -> Result<PathBuf, Error> {
        let _turn = self.turn()?;
        if let Some(old) = self.admin_of(path)? {
            self.remove_admin(&old)?;
        }
        // One that an agent's own git left half made would make every git fail that looks at all of them.
        for admin in self.admins()? {
            self.remove_half_made(&admin)?;
        }
        let aside = self.scrap();
        let mut gitdir = path.join(".git").into_os_string().into_encoded_bytes();
        gitdir.push(b'\n');
        let write = || -> io::Result<()> {
            fs::create_dir(&aside.0)?;
            fs::write(aside.0.join("gitdir"), &gitdir)?;
            fs::write(aside.0.join("commondir"), "../..\n")?;
            fs::write(aside.0.join("HEAD"), format!("{commit}\n"))?;
            fs::write(aside.0.join(BASE), commit.as_str())
        };
        write().map_err(io_at(&aside.0))?;
        self.admit(&aside.0, path)
    }

    /// Gives git's own folder for a worktree its name, and tells it in the worktree.
    pub(super) fn admit(&self, made: &Path, worktree: &Path) -> Result<PathBuf, Error> {
        let admins = self.path().join("worktrees");
        fs::create_dir_all(&admins).map_err(io_at(&admins))?;
        // Refs are named by it. Worktrees in different folders may have the same name.
        let name = admin_name(worktree);
        let mut n = 0_u64;
        let admin = loop {
            let admin = admins.join(if n == 0 { name.clone() } else { format!("{name}-{n}") });
            match fs::rename(made, &admin) {
                Ok(()) => break admin,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists
                            | io::ErrorKind::DirectoryNotEmpty
                            | io::ErrorKind::NotADirectory
                    ) =>
                {
                    n += 1;
                }
                Err(error) => return Err(io_at(&admin)(error)),
            }
        };
        let mut link = b"gitdir: ".to_vec();
        link.extend(admin.as_os_str().as_encoded_bytes());
        link.push(b'\n');
        let file = worktree.join(".git");
        fs::write(&file, link).map_err(io_at(&file))?;
        Ok(admin)
    }

    /// Removes git's own folder for a worktree unless it is whole, which each is looked at for once.
    fn remove_half_made(&self, admin: &Path) -> Result<(), Error> {
        let name = admin.file_name().unwrap_or_default();
        let whole = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole().contains(name) {
            return Ok(());
        }
        if fs::metadata(admin.join("commondir")).map_or(0, |metadata| metadata.len()) == 0 {
            return self.remove_admin(admin);
        }
        whole().insert(name.to_owned());
        Ok(())
    }

    /// Waits until nobody else, in any process, is making or removing git's own folder for a worktree: each looks at all of
    /// them.
    pub(super) fn turn(&self) -> Result<Turn<'_>, Error> {
        // Within this process in a line of its own: a lock of a file that is released wakes everybody who waits for it.
        let here = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path().join("worktrees.lock");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io_at(&path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| io_at(&path)(errno.into()))?;
        Ok(Turn { _file: file, _here: here })
    }

    /// Removes git's own folder for a worktree, at once for everybody who looks.
    fn remove_admin(&self, admin: &Path) -> Result<(), Error> {
        let aside = self.scrap();
        let whole = self.whole.lock();
        whole.unwrap_or_else(PoisonError::into_inner).remove(admin.file_name().unwrap_or_default());
        match fs::rename(admin, &aside.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_at(admin)(error)),
            Ok(()) => remove_folder(&aside.0),
        }
    }

    /// Removes a worktree, also one half made or half removed; one that is not there is no error.
    pub fn remove_worktree(&self, path: &Path) -> Result<(), Error> {
        remove_folder(path)?;
        let _turn = self.turn()?;
        self.admin_of(path)?.map_or(Ok(()), |admin| self.remove_admin(&admin))
    }

    /// Removes a worktree of which it is not known what its agent committed there: the commit HEAD is at stays, held by a
    /// ref of its own.
    pub fn retire_worktree(&self, path: &Path) -> Result<(), Error> {
        if let Some(admin) = self.admin_of(path)? {
            let head = fs::read_to_string(admin.join("HEAD")).unwrap_or_default();
            // A branch holds its own commit, and what is no commit is nothing to keep.
            if let Ok(head) = head.trim().parse::<GitOid>()
                && self.tree_of(&head).is_ok()
            {
                self.keep(&head)?;
            }
        }
        self.remove_worktree(path)
    }

    /// Empties a folder of worktrees of everything but those to be kept.
    pub fn remove_worktrees_below(&self, folder: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let below = canonical(folder);
        let keep: BTreeSet<PathBuf> = keep.iter().map(|path| canonical(path)).collect();
        for (admin, path) in self.worktrees()? {
            let path = canonical(&path);
            if path.starts_with(&below) && !keep.contains(&path) {
                remove_folder(&path)?;
                let _turn = self.turn()?;
                self.remove_admin(&admin)?;
            }
        }
        // A worktree that was being made is not registered yet.
        let entries = match fs::read_dir(&below) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_at(folder))?,
        };
        for entry in entries {
            let path = entry.map_err(io_at(folder))?.path();
            if !keep.iter().any(|kept| kept.starts_with(&path)) {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// The folders of all worktrees, those of worktrees that are gone included.
    pub fn list(&self) -> Result<Vec<PathBuf>, Error> {
        Ok(self.worktrees()?.into_iter().map(|(_, path)| path).collect())
    }

    /// What must be readable so that git answers in a worktree: its own settings and objects, those they borrow, and
    /// git's folder for this worktree. The others' folders and all refs are left out.
    pub fn visible_in(&self, worktree: &Path) -> Result<Vec<PathBuf>, Error> {
        let admin = self.admin_of(worktree)?;
        let admin = admin.ok_or_else(|| Error::NotARepository { path: worktree.to_owned() })?;
        let mut paths = vec![admin];
        let files = ["config", "HEAD", "packed-refs", "shallow"].map(|name| self.path().join(name));
        paths.extend(files.into_iter().filter(|path| path.exists()));
        let mut objects = vec![self.path().join("objects")];
        for _ in 0..BORROWED_MAX {
            let Some(folder) = objects.pop() else { break };
            let borrowed = fs::read(folder.join("info").join("alternates")).unwrap_or_default();
            let lines = borrowed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            objects.extend(lines.map(|line| folder.join(to_path(line))).filter(|path| path.is_dir()));
            paths.push(folder);
        }
        Ok(paths)
    }

    /// Git's own folders for all worktrees.
    fn admins(&self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.path().join("worktrees");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_at(&folder))?,
        };
        entries.map(|entry| Ok(entry.map_err(io_at(&folder))?.path())).collect()
    }

    /// Git's own folders for all worktrees, with the worktrees'.
    fn worktrees(&self) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
        let admins = self.admins()?.into_iter();
        Ok(admins.filter_map(|admin| worktree_of(&admin).map(|worktree| (admin, worktree))).collect())
    }

    /// Git's own folder for a worktree; found by its place, never by what stands in it. It has the name it was given when it
    /// was made or moved there, and a number where others had that name.
    pub(super) fn admin_of(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let path = canonical(path);
        let is = |admin: &PathBuf| {
            let worktree = worktree_of(admin);
            worktree.is_some_and(|worktree| {
                worktree.file_name() == path.file_name() && canonical(&worktree) == path
            })
        };
        let name = admin_name(&path);
        let likely = self.path().join("worktrees").join(&name);
        if is(&likely) {
            return Ok(Some(likely));
        }
        let numbered = |admin: &PathBuf| {
            let rest = admin.file_name().and_then(OsStr::to_str).and_then(|own| own.strip_prefix(&name));
            rest.is_some_and(|rest| rest.starts_with('-')) && is(admin)
        };
        Ok(self.admins()?.into_iter().find(numbered))
    }

    /// The commit a worktree was made of, wherever its agent has moved HEAD since.
    pub(crate) fn base_of(&self, path: &Path) -> Result<GitOid, Error> {
        let admin = self.admin_of(path)?.ok_or_else(|| Error::NotARepository { path: path.to_owned() })?;
        let base = admin.join(BASE);
        let text = fs::read_to_string(&base).map_err(io_at(&base))?;
        text.trim()
            .parse()
            .map_err(|_| Error::Answer { args: BASE.into(), answer: text.chars().take(80).collect() })
    }

    /// A call on files somewhere, with an index nobody else has.
    fn on_files(&self, path: &Path, index: &Scrap) -> Result<Git, Error> {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        if !is_folder {
            return Err(Error::Unstageable { path: path.to_owned(), reason: "the folder is gone".into() });
        }
        let path = path.canonicalize().map_err(io_at(path))?;
        Ok(self.git()?.env("GIT_WORK_TREE", &path).env("GIT_INDEX_FILE", &index.0).in_folder(&path))
    }

    /// The tree of everything in a worktree that is neither ignored nor [set apart](Self::set_apart). What its agent
    /// committed or staged there makes no difference, only what the files are.
    pub fn snapshot(&self, path: &Path) -> Result<GitOid, Error> {
        let base = self.base_of(path)?;
        let index = self.scrap();
        let git = || self.on_files(path, &index);
        git()?.args(["read-tree", base.as_str()]).run()?;
        let before = gitlinks(git()?)?;
        // Looked for before git is let into the folder: it would ask such a repository questions, on its terms.
        let entered = before.keys().find(|link| fs::symlink_metadata(path.join(link).join(".git")).is_ok());
        if let Some(link) = entered {
            return Err(Error::EmbeddedRepository { path: path.join(link) });
        }
        let apart = self.apart(path)?;
        let patterns = self.apart_patterns(&apart)?;
        let on_files = || {
            let git = git()?;
            Ok::<_, Error>(match &patterns {
                Some(patterns) => git.arg("-c").arg(setting("core.excludesFile=", &patterns.0)),
                None => git,
            })
        };
        refuse_embedded(on_files()?, path)?;
        stage(on_files()?, path)?;
        // An ignore file of the agent's may say that they are not ignored.
        forget(git()?, apart)?;
        let after = gitlinks(git()?)?;
        if let Some((link, _)) = after.iter().find(|(link, oid)| before.get(*link) != Some(oid)) {
            return Err(Error::EmbeddedRepository { path: path.join(link) });
        }
        git()?.arg("write-tree").oid()
    }

    /// The tree of the user's worktree as it is, untracked files included that are not ignored. Nothing of the user's is
    /// written: index and objects are this repository's.
    pub fn worktree_tree(&self, source: &Source) -> Result<GitOid, Error> {
        let index = self.scrap();
        let git = || {
            source
                .git()
                .under_user_settings()
                .env("GIT_WORK_TREE", source.top())
                .env("GIT_INDEX_FILE", &index.0)
                .env("GIT_OBJECT_DIRECTORY", self.path().join("objects"))
        };
        // A copy of the user's index knows which files are unchanged, sparse or assumed so. Its date counts: what was
        // written after it is looked at again.
        let theirs = source.git_dir().join("index");
        match fs::metadata(&theirs).and_then(|metadata| metadata.modified()) {
            Ok(modified) => {
                let copy =
                    fs::copy(&theirs, &index.0).and_then(|_| fs::File::options().write(true).open(&index.0));
                copy.and_then(|copy| copy.set_modified(modified)).map_err(io_at(&theirs))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                git().args(["read-tree", source.head_commit()?.as_str()]).run()?;
            }
            Err(error) => return Err(io_at(&theirs)(error)),
        }
        refuse_embedded(git(), source.top())?;
        stage(git(), source.top())?;
        git().arg("write-tree").oid()
    }

    /// Whether every tracked file in a worktree still is what the tree says, by content and not by dates.
    pub fn checkout_is(&self, path: &Path, tree: &GitOid) -> Result<bool, Error> {
        let index = self.scrap();
        // Attributes are the tree's own, lest a file laid beside say that differences do not count.
        let git = || Ok::<_, Error>(self.on_files(path, &index)?.env("GIT_ATTR_SOURCE", tree.as_str()));
        git()?.args(["read-tree", tree.as_str()]).run()?;
        let args = ["update-index", "--really-refresh"];
        match git()?.args(args).outcome()? {
            (0, _, _) => Ok(true),
            (1, _, _) => Ok(false),
            (code, _, stderr) => Err(Error::Failed { args: args.join(" "), code, stderr }),
        }
    }
}

/// The worktree of one of git's own folders. Nothing where another thread is just making or removing it.
fn worktree_of(admin: &Path) -> Option<PathBuf> {
    let mut gitdir = fs::read(admin.join("gitdir")).ok()?;
    if gitdir.last() == Some(&b'\n') {
        gitdir.pop();
    }
    to_path(&gitdir).parent().map(Path::to_owned)
}

/// What git's own folder for a worktree is called, where that is free.
fn admin_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// A setting whose value is a path.
fn setting(name: &str, path: &Path) -> OsString {
    let mut setting = OsString::from(name);
    setting.push(path);
    setting
}

/// Takes everything that is not ignored into the index of a call.
fn stage(git: Git, path: &Path) -> Result<(), Error> {
    let unstageable = |reason| Error::Unstageable { path: path.to_owned(), reason };
    match git.args(["add", "--all", "--", "."]).outcome()? {
        // Git goes on without a folder it cannot read; the tree would lack what is in it.
        (0, _, stderr) if stderr.contains("could not open directory") => Err(unstageable(stderr)),
        (0, _, _) => Ok(()),
        (_, _, stderr) => Err(unstageable(stderr)),
    }
}

/// A repository among the files would be taken in as a link to a commit nobody has.
fn refuse_embedded(git: Git, path: &Path) -> Result<(), Error> {
    let others = git.args(["ls-files", "-z", "--others", "--exclude-standard"]).run()?;
    // Git lists files, and of repositories only their folder.
    match split_nul(&others).find(|other| other.ends_with(b"/")) {
        Some(nested) => Err(Error::EmbeddedRepository { path: path.join(to_path(nested)) }),
        None => Ok(()),
    }
}

/// The links to commits of other repositories in the index of a call.
fn gitlinks(git: Git) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
    let listing = git.args(["ls-files", "-z", "--stage"]).run()?;
    let links = split_nul(&listing).filter_map(|line| line.strip_prefix(b"160000 "));
    Ok(links
        .filter_map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t')?;
            Some((to_path(&line[tab + 1..]), line[..tab].to_vec()))
        })
        .collect())
}

/// The path with its folder resolved; the last part may be gone, and is not followed where it is a link.
fn canonical(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let resolved = path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name());
    resolved.map_or_else(|| path.clone(), |(parent, name)| parent.join(name))
}
