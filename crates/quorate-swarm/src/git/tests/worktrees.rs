//! What is read from the files of agents and users.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

#[test]
fn file_names_need_not_be_text_and_folders_may_have_any_name() {
    for name in ["with space", "it's \"quoted\"", "back\\slash", "new\nline", "#hash", "ünï"] {
        let place = Place::named(name, &[]);
        let private = place.private();
        let worktree = place.worktree(&private, name);
        let names: [&[u8]; 6] =
            [b"\xff\xfe", b"line\nbreak", b"-dash", b"quote\"'", b" space ", b":colon*[a]"];
        for name in names {
            write(&worktree, OsStr::from_bytes(name), "x");
        }
        let commit = place.commit(&private, &worktree);
        let (base, tree) = (private.tree_of(&place.head()).unwrap(), private.tree_of(&commit).unwrap());
        let changes = private.changed_paths(&base, &tree).unwrap();
        let mut expected: Vec<_> = names.into_iter().map(|name| (name, PathStatus::Added)).collect();
        expected.sort_by_key(|(name, _)| name.to_vec());
        assert_eq!(paths(&changes), expected, "{name:?}");
        assert!(private.checkout_is(&worktree, &tree).unwrap());
        land(&place.top, &private, "result", None, &commit).unwrap();
        assert_eq!(private.list().unwrap(), std::slice::from_ref(&worktree));
        private.remove_worktree(&worktree).unwrap();
        assert!(private.list().unwrap().is_empty());
    }
}

#[test]
fn changes_tell_status_modes_and_where_links_point() {
    let place = Place::new();
    symlink("a.txt", place.top.join("link")).unwrap();
    write(&place.top, "script", "#!/bin/sh\n");
    git(&place.top, &["add", "-A"]);
    git(&place.top, &["commit", "-q", "-m", "second"]);
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    fs::remove_file(worktree.join("src/b.txt")).unwrap();
    fs::remove_file(worktree.join("link")).unwrap();
    write(&worktree, "link", "now a file");
    fs::remove_file(worktree.join("a.txt")).unwrap();
    symlink("/etc/passwd", worktree.join("a.txt")).unwrap();
    symlink(OsStr::from_bytes(b"../\xff\nout"), worktree.join("out")).unwrap();
    fs::set_permissions(worktree.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = private.snapshot(&worktree).unwrap();
    let changes = private.changed_paths(&private.tree_of(&place.head()).unwrap(), &tree).unwrap();
    let seen: Vec<_> = changes
        .iter()
        .map(|c| (c.path.to_str().unwrap(), c.status, c.old_mode, c.new_mode, c.symlink_target.as_deref()))
        .collect();
    type Row<'a> = (&'a str, PathStatus, u32, u32, Option<&'a [u8]>);
    let expected: [Row<'_>; 5] = [
        ("a.txt", PathStatus::TypeChanged, 0o100_644, 0o120_000, Some(b"/etc/passwd")),
        ("link", PathStatus::TypeChanged, 0o120_000, 0o100_644, None),
        ("out", PathStatus::Added, 0, 0o120_000, Some(b"../\xff\nout")),
        ("script", PathStatus::Modified, 0o100_644, 0o100_755, None),
        ("src/b.txt", PathStatus::Deleted, 0o100_644, 0, None),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_users_unsaved_work_becomes_a_tree_and_stays_as_it_is() {
    let place = Place::new();
    write(&place.top, "staged.txt", "staged");
    git(&place.top, &["add", "staged.txt"]);
    write(&place.top, "staged.txt", "and changed since");
    write(&place.top, "untracked.txt", "new");
    write(&place.top, "noise.log", "");
    fs::write(place.top.join(".git/info/exclude"), "private.txt\n").unwrap();
    write(&place.top, "private.txt", "");
    fs::remove_file(place.top.join("src/b.txt")).unwrap();
    // The same length, and within the index's own second.
    write(&place.top, "a.txt", "eno\n");
    let private = place.private();
    let before = contents(&place.top);
    let tree = private.worktree_tree(&place.source()).unwrap();
    assert_eq!(contents(&place.top), before);
    let changes = private.changed_paths(&private.tree_of(&place.head()).unwrap(), &tree).unwrap();
    assert_eq!(
        paths(&changes),
        [
            (b"a.txt".as_slice(), PathStatus::Modified),
            (b"src/b.txt", PathStatus::Deleted),
            (b"staged.txt", PathStatus::Added),
            (b"untracked.txt", PathStatus::Added),
        ]
    );
    fs::remove_file(place.top.join(".git/index")).unwrap();
    assert_eq!(private.worktree_tree(&place.source()).unwrap(), tree);
    assert!(!place.top.join(".git/index").exists());
}

#[test]
fn submodules_stay_links_and_are_told() {
    let inner = Place::new();
    let place = Place::new();
    git(&place.top, &["submodule", "--quiet", "add", inner.top.to_str().unwrap(), "libs/inner"]);
    git(&place.top, &["commit", "-q", "-m", "with a submodule"]);
    let source = place.source();
    assert_eq!(source.submodules(), [PathBuf::from("libs/inner")]);
    assert_eq!(source.changed_count(), 0);
    let private = place.private();
    let base = private.tree_of(&place.head()).unwrap();
    assert_eq!(private.worktree_tree(&source).unwrap(), base);
    let worktree = place.worktree(&private, "w");
    assert_eq!(private.snapshot(&worktree).unwrap(), base);
    assert!(private.checkout_is(&worktree, &base).unwrap());
    // An agent that fills it in makes a repository of its own there.
    git(&worktree.join("libs/inner"), &["init", "-q"]);
    assert!(
        matches!(private.snapshot(&worktree), Err(Error::EmbeddedRepository { path }) if path.ends_with("libs/inner"))
    );
}

#[test]
fn a_repository_made_among_the_files_is_refused_unless_it_is_ignored() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    git(&worktree, &["init", "-q", "cache.log"]);
    private.snapshot(&worktree).unwrap();
    for form in ["unborn", "with commit", "linked"] {
        let nested = worktree.join("deep").join(form);
        fs::create_dir_all(worktree.join("deep")).unwrap();
        match form {
            "linked" => {
                drop(git(&worktree, &["worktree", "add", "-q", "--detach", nested.to_str().unwrap()]))
            }
            _ => drop(git(&worktree, &["init", "-q", nested.to_str().unwrap()])),
        }
        if form == "with commit" {
            git(&nested, &["commit", "-q", "--allow-empty", "-m", "nested"]);
        }
        let error = private.snapshot(&worktree).unwrap_err();
        assert!(
            matches!(&error, Error::EmbeddedRepository { path } if path.ends_with(nested.strip_prefix(&worktree).unwrap())),
            "{form}: {error}"
        );
        private.remove_worktree(&nested).unwrap();
    }
    // Around files that are tracked, a repository does not hide them.
    git(&worktree.join("src"), &["init", "-q"]);
    write(&worktree, "src/b.txt", "changed");
    let tree = private.snapshot(&worktree).unwrap();
    let changes = private.changed_paths(&private.tree_of(&place.head()).unwrap(), &tree).unwrap();
    assert_eq!(paths(&changes), [(b"src/b.txt".as_slice(), PathStatus::Modified)]);
}

#[test]
fn what_an_agent_does_to_git_changes_neither_its_own_snapshot_nor_anybody_elses() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    let other = place.worktree(&private, "other");
    let clean = private.tree_of(&place.head()).unwrap();
    let ran = place.beside("ran");
    let evil = format!("touch '{}'; cat", ran.display());
    // Commits of its own, on a branch without history, with an index that tells lies.
    git(&worktree, &["checkout", "-q", "--orphan", "mine"]);
    write(&worktree, "forced.log", "ignored, but committed");
    git(&worktree, &["add", "-f", "forced.log"]);
    git(&worktree, &["commit", "-q", "-m", "mine"]);
    git(&worktree, &["update-index", "--assume-unchanged", "a.txt"]);
    write(&worktree, "a.txt", "changed\n");
    write(&worktree, ".gitattributes", "* filter=evil\n");
    for (key, value) in [
        ("filter.evil.clean", evil.as_str()),
        ("filter.evil.smudge", &evil),
        ("filter.evil.required", "true"),
        ("core.fsmonitor", &evil),
        ("core.fileMode", "false"),
        ("core.worktree", "/"),
        ("extensions.worktreeConfig", "true"),
    ] {
        git(&worktree, &["config", key, value]);
    }
    write(private.path(), "info/attributes", "* text eol=crlf\n");
    // One object in place of another.
    let head = place.head();
    git(private.path(), &["--git-dir=.", "replace", head.as_str(), oid(&worktree, "mine").as_str()]);
    git(private.path(), &["--git-dir=.", "gc", "-q", "--prune=now"]);
    // And a pointer to the user's repository.
    fs::write(worktree.join(".git"), format!("gitdir: {}/.git\n", place.top.display())).unwrap();

    assert_eq!(private.tree_of(&head).unwrap(), clean);
    let tree = private.snapshot(&worktree).unwrap();
    let changes = private.changed_paths(&clean, &tree).unwrap();
    assert_eq!(
        paths(&changes),
        [(b".gitattributes".as_slice(), PathStatus::Added), (b"a.txt", PathStatus::Modified)]
    );
    fs::set_permissions(other.join("a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = private.snapshot(&other).unwrap();
    assert_eq!(private.changed_paths(&clean, &tree).unwrap()[0].new_mode, 0o100_755);
    let third = place.worktree(&private, "third");
    assert_eq!(fs::read(third.join("a.txt")).unwrap(), b"one\n");
    assert!(!ran.exists(), "a filter ran");
    assert_eq!(git(&place.top, &["status", "--porcelain"]), b"");
}

#[test]
fn a_checkout_is_compared_by_content() {
    let place = Place::new();
    symlink("a.txt", place.top.join("link")).unwrap();
    git(&place.top, &["add", "-A"]);
    git(&place.top, &["commit", "-q", "-m", "second"]);
    let private = place.private();
    let tree = private.tree_of(&place.head()).unwrap();
    let fresh = |name: &str| place.worktree(&private, name);
    let worktree = fresh("untouched");
    write(&worktree, "untracked.txt", "does not count");
    let file = fs::File::options().append(true).open(worktree.join("a.txt")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(private.checkout_is(&worktree, &tree).unwrap());
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("content of the same length and date", |w| {
            let path = w.join("a.txt");
            let date = path.metadata().unwrap().modified().unwrap();
            write(w, "a.txt", "eno\n");
            fs::File::options().append(true).open(path).unwrap().set_modified(date).unwrap();
        }),
        ("mode", |w| fs::set_permissions(w.join("a.txt"), fs::Permissions::from_mode(0o755)).unwrap()),
        ("missing", |w| fs::remove_file(w.join("a.txt")).unwrap()),
        ("link retargeted", |w| {
            fs::remove_file(w.join("link")).unwrap();
            symlink("src/b.txt", w.join("link")).unwrap();
        }),
        ("file for a link", |w| {
            fs::remove_file(w.join("link")).unwrap();
            write(w, "link", "a.txt");
        }),
        ("folder for a file", |w| {
            fs::remove_file(w.join("a.txt")).unwrap();
            fs::create_dir(w.join("a.txt")).unwrap();
        }),
        ("folder replaced by a link to its copy", |w| {
            fs::rename(w.join("src"), w.join("elsewhere")).unwrap();
            symlink("elsewhere", w.join("src")).unwrap();
        }),
        ("line ends, with an attribute beside that excuses them", |w| {
            write(w, "src/.gitattributes", "* text eol=crlf\n");
            write(w, "src/b.txt", "two\r\n");
        }),
    ];
    for (name, damage) in damages {
        let worktree = fresh(name);
        damage(&worktree);
        assert!(!private.checkout_is(&worktree, &tree).unwrap(), "{name}");
    }
}

#[test]
fn worktrees_half_made_or_half_gone_are_removed() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "task.agent.1");
    fs::remove_dir_all(&worktree).unwrap();
    private.remove_worktree(&worktree).unwrap();
    private.remove_worktree(&worktree).unwrap();
    // Not registered, and not to be followed.
    fs::create_dir_all(worktree.join("read-only")).unwrap();
    write(&worktree, "read-only/file", "");
    fs::set_permissions(worktree.join("read-only"), fs::Permissions::from_mode(0o500)).unwrap();
    symlink(&place.top, worktree.join("user")).unwrap();
    private.remove_worktree(&worktree).unwrap();
    assert!(!worktree.exists());
    symlink(&place.top, &worktree).unwrap();
    private.remove_worktree(&worktree).unwrap();
    assert!(place.top.join("a.txt").exists() && fs::symlink_metadata(&worktree).is_err());
    // And the place can be used again.
    private.add_worktree(&worktree, &place.head()).unwrap();
    let kept = place.worktree(&private, "kept");
    write(&kept, "work.txt", "");
    fs::create_dir_all(worktree.with_file_name("half.made.1")).unwrap();
    private.remove_worktrees_below(worktree.parent().unwrap(), &BTreeSet::from([kept.clone()])).unwrap();
    assert_eq!(private.list().unwrap(), std::slice::from_ref(&kept));
    assert_eq!(fs::read_dir(kept.parent().unwrap()).unwrap().count(), 1);
    assert!(private.snapshot(&kept).is_ok());
    private.remove_worktrees_below(&place.beside("never there"), &BTreeSet::new()).unwrap();
    assert!(matches!(private.snapshot(&worktree), Err(Error::NotARepository { .. })));
    // A git that was killed on the way leaves its own folder without the last file.
    let half = private.path().join("worktrees/half");
    fs::create_dir(&half).unwrap();
    write(&half, "gitdir", "/nowhere/half/.git\n");
    private.add_worktree(&worktree, &place.head()).unwrap();
    assert!(!half.exists());
}

#[test]
fn a_worktree_replaced_by_a_link_is_not_read() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    fs::rename(&worktree, worktree.with_file_name("moved")).unwrap();
    symlink(&place.top, &worktree).unwrap();
    assert!(matches!(private.snapshot(&worktree), Err(Error::Unstageable { .. })));
}

#[test]
fn names_git_refuses_are_the_agents_fault_and_odd_files_nobodys() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    let fifo = Command::new("mkfifo").arg(worktree.join("fifo")).status().unwrap();
    assert!(fifo.success());
    assert_eq!(private.snapshot(&worktree).unwrap(), private.tree_of(&place.head()).unwrap());
    write(&worktree, "git~1/config", "");
    let error = private.snapshot(&worktree).unwrap_err();
    assert!(matches!(&error, Error::Unstageable { reason, .. } if reason.contains("git~1")), "{error}");
}

#[test]
fn worktrees_are_made_and_read_side_by_side() {
    let place = Place::new();
    let private = place.private();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (place, private) = (&place, &private);
            scope.spawn(move || {
                // Validators name theirs alike.
                let path = place.beside("run/panels").join(n.to_string()).join("change");
                private.add_worktree(&path, &place.head()).unwrap();
                write(&path, "mine.txt", &n.to_string());
                let commit = place.commit(private, &path);
                let opened = PrivateRepository::open(private.path()).unwrap();
                assert!(opened.checkout_is(&path, &opened.tree_of(&commit).unwrap()).unwrap());
                private.remove_worktrees_below(path.parent().unwrap(), &BTreeSet::new()).unwrap();
            });
        }
    });
    assert!(private.list().unwrap().is_empty());
    let left: Vec<_> =
        fs::read_dir(private.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.as_bytes().starts_with(b"scrap")), "{left:?}");
}

#[test]
fn a_copy_is_a_repository_of_its_own_without_what_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from here"), folder.path().join("to"));
    write(&from, "src/main.rs", "fn main() {}\n");
    write(&from, "src/target/mod.rs", "");
    write(&from, "target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    write(&from, "target/debug/thing", "built");
    write(&from, ".gitignore", "*.log\n");
    write(&from, "noise.log", "");
    symlink("src/main.rs", from.join("link")).unwrap();
    let source = init_from_copy(&to, &from, NOW).unwrap();
    let head = source.head_commit().unwrap();
    assert_eq!((source.branch(), source.changed_count()), (Some("main"), 0));
    let files = git(&to, &["ls-files", "-z"]);
    assert_eq!(files, b".gitignore\0link\0src/main.rs\0src/target/mod.rs\0");
    assert!(!to.join("target").exists() && !to.join("noise.log").exists());
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("src/main.rs"));
    assert_eq!(
        init_from_copy(&folder.path().join("again"), &from, NOW).unwrap().head_commit().unwrap(),
        head
    );
    git(&from, &["init", "-q", "nested"]);
    assert!(matches!(
        init_from_copy(&folder.path().join("b"), &from, NOW),
        Err(Error::EmbeddedRepository { .. })
    ));
    git(&from, &["init", "-q"]);
    assert!(matches!(
        init_from_copy(&folder.path().join("c"), &from, NOW),
        Err(Error::EmbeddedRepository { .. })
    ));
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(init_from_copy(&folder.path().join("d"), &folder.path().join("empty"), NOW).is_ok());
}
