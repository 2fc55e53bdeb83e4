//! The user's repository, and what reaches it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quorate_base::GitOid;

use super::*;

#[test]
fn a_repository_is_found_from_below_with_its_facts() {
    let place = Place::new();
    let source = discover(&place.top.join("src")).unwrap();
    assert_eq!(source.top(), place.top);
    assert_eq!(source.branch(), Some("main"));
    assert_eq!(source.head_commit().unwrap(), place.head());
    assert_eq!((source.changed_count(), source.submodules().len()), (0, 0));
    assert_eq!(source.parent_of(&place.head()).unwrap(), None);
    git(&place.top, &["checkout", "-q", "--detach"]);
    assert_eq!(place.source().branch(), None);
    write(&place.top, "a.txt", "changed\n");
    write(&place.top, "new\nname", "");
    write(&place.top, "noise.log", "");
    fs::remove_file(place.top.join("src/b.txt")).unwrap();
    // A date that git would note in its index if it were allowed to.
    let touched = fs::File::options().append(true).open(place.top.join(".gitignore")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let index = fs::read(place.top.join(".git/index")).unwrap();
    assert_eq!(place.source().changed_count(), 3);
    assert_eq!(fs::read(place.top.join(".git/index")).unwrap(), index);
}

#[test]
fn places_that_hold_no_usable_repository_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(discover(folder.path()), Err(Error::NotARepository { .. })));
    git(folder.path(), &["init", "-q", "--bare", "bare.git"]);
    assert!(matches!(discover(&folder.path().join("bare.git")), Err(Error::Bare { .. })));
    git(folder.path(), &["init", "-q", "unborn"]);
    let error = discover(&folder.path().join("unborn")).unwrap_err();
    assert!(matches!(error, Error::NoCommits { .. }) && error.is_usage(), "{error}");
    let place = Place::new();
    assert!(matches!(discover(&place.top.join(".git")), Err(Error::Bare { .. })));
}

#[test]
fn revisions_resolve_to_commits_and_never_act_as_options() {
    let place = Place::new();
    let source = place.source();
    git(&place.top, &["tag", "-m", "annotated", "v1"]);
    assert_eq!(source.resolve("v1").unwrap(), place.head());
    assert_eq!(source.resolve(&place.head().as_str()[..10]).unwrap(), place.head());
    for rev in ["", "--all", "-h", "--git-dir", "nothing", "HEAD:a.txt", "v1\0", "a\nb"] {
        assert!(matches!(source.resolve(rev), Err(Error::NoSuchRevision { .. })), "{rev:?}");
    }
}

#[test]
fn a_change_goes_from_worktree_to_branch_and_nothing_else_of_the_users_changes() {
    let place = Place::new();
    for hook in [
        "post-checkout",
        "reference-transaction",
        "pre-commit",
        "post-index-change",
        "post-commit",
        "post-rewrite",
    ] {
        let path = place.top.join(".git/hooks").join(hook);
        write(
            &place.top,
            Path::new(".git/hooks").join(hook),
            &format!("#!/bin/sh\necho {hook} >> '{}'\n", place.beside("ran").display()),
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    git(&place.top, &["config", "core.fsmonitor", place.top.join(".git/hooks/pre-commit").to_str().unwrap()]);
    write(&place.top, "dirty.txt", "left alone\n");
    let before = contents(&place.top);

    let source = place.source();
    let private = place.private();
    let dirty = private.worktree_tree(&source).unwrap();
    let worktree = place.worktree(&private, "task.agent-1.1");
    write(&worktree, "a.txt", "one\nmore\n");
    write(&worktree, "c.log", "ignored");
    let commit = place.commit(&private, &worktree);
    let tree = private.tree_of(&commit).unwrap();
    assert!(private.checkout_is(&worktree, &tree).unwrap());
    assert_eq!(branch_head(&place.top, "quorate/run").unwrap(), None);
    assert_eq!(contents(&place.top), before, "before landing");

    land(&place.top, &private, "quorate/run", None, &commit).unwrap();
    private.remove_worktree(&worktree).unwrap();
    assert!(!place.beside("ran").exists(), "a hook ran");
    assert_eq!(branch_head(&place.top, "quorate/run").unwrap(), Some(commit));
    let after: Vec<_> = contents(&place.top)
        .into_iter()
        .filter(|(path, _)| {
            !path.starts_with(place.top.join(".git/objects")) && !path.ends_with("quorate/run")
        })
        .collect();
    let before: Vec<_> =
        before.into_iter().filter(|(path, _)| !path.starts_with(place.top.join(".git/objects"))).collect();
    assert_eq!(after, before);
    // The user's repository has all of it by itself.
    fs::remove_dir_all(place.beside("run")).unwrap();
    git(&place.top, &["fsck", "--strict", "quorate/run"]);
    assert_eq!(git(&place.top, &["show", "quorate/run:a.txt"]), b"one\nmore\n");
    assert_eq!(oid(&place.top, "quorate/run^"), place.head());
    assert_ne!(dirty, tree);
}

#[test]
fn a_branch_moves_only_from_where_it_was_left() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    write(&worktree, "a.txt", "1\n");
    let first = place.commit(&private, &worktree);
    write(&worktree, "a.txt", "2\n");
    let second = place.commit(&private, &worktree);
    land(&place.top, &private, "result", None, &first).unwrap();
    let again = land(&place.top, &private, "result", None, &second).unwrap_err();
    assert!(matches!(&again, LandError::Moved { found: Some(found) } if *found == first), "{again}");
    land(&place.top, &private, "result", Some(&first), &second).unwrap();
    let stale = land(&place.top, &private, "result", Some(&first), &second).unwrap_err();
    assert!(matches!(&stale, LandError::Moved { found: Some(found) } if *found == second), "{stale}");
    // Also when it moves after it was looked at.
    for stale in [None, Some(&first)] {
        let error = landing::swap(&place.top, "result", stale, &first).unwrap_err();
        assert!(matches!(&error, LandError::Moved { found: Some(found) } if *found == second), "{error}");
    }
    git(&place.top, &["branch", "-D", "result"]);
    let gone = land(&place.top, &private, "result", Some(&second), &first).unwrap_err();
    assert!(matches!(&gone, LandError::Moved { found: None }), "{gone}");
    assert!(matches!(branch_head(&place.beside("nowhere"), "x"), Err(Error::NotARepository { .. })));
}

#[test]
fn a_branch_checked_out_anywhere_is_not_moved() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    write(&worktree, "a.txt", "1\n");
    let commit = place.commit(&private, &worktree);
    let other = place.beside("other 'place'");
    git(&place.top, &["worktree", "add", "-q", "-b", "side", other.to_str().unwrap()]);
    for (branch, at) in [("main", &place.top), ("side", &other)] {
        let error = land(&place.top, &private, branch, Some(&place.head()), &commit).unwrap_err();
        assert!(matches!(&error, LandError::CheckedOut { worktree } if worktree == at), "{error}");
        assert_eq!(branch_head(&place.top, branch).unwrap(), Some(place.head()));
    }
    // From a linked worktree, too, the run has the whole repository.
    let source = discover(&other).unwrap();
    assert_eq!((source.branch(), source.top()), (Some("side"), other.as_path()));
    let private = PrivateRepository::create(&place.beside("second.git"), &source).unwrap();
    assert_eq!(private.tree_of(&place.head()).unwrap(), oid(&place.top, "HEAD^{tree}"));
}

#[test]
fn branch_names_are_judged_as_git_does() {
    for name in ["main", "quorate/20261121t0210-1f", "a.b", "é"] {
        assert!(is_branch_name(name).unwrap(), "{name}");
    }
    for name in
        ["", "-x", "a..b", "a b", "x.lock", "a~1", "HEAD", "@{-1}", "/a", "a/", "a\0b", "a\nb", "--branch"]
    {
        assert!(!is_branch_name(name).unwrap(), "{name:?}");
    }
    let place = Place::new();
    git(&place.top, &["branch", "a/b"]);
    git(&place.top, &["tag", "t"]);
    assert_eq!(branch_head(&place.top, "a").unwrap(), None);
    assert_eq!(branch_head(&place.top, "t").unwrap(), None);
    assert_eq!(branch_head(&place.top, "a/b").unwrap(), Some(place.head()));
}

#[test]
fn commits_outlive_an_agent_that_tidies_up() {
    let place = Place::new();
    let private = place.private();
    let worktree = place.worktree(&private, "w");
    write(&worktree, "a.txt", "kept\n");
    let commit = place.commit(&private, &worktree);
    git(&worktree, &["reflog", "expire", "--expire=now", "--all"]);
    git(&worktree, &["gc", "-q", "--prune=now"]);
    assert!(private.tree_of(&commit).is_ok());
    assert_eq!(private.message_of(&commit).unwrap().trim(), "change");
    assert_eq!(private.parents_of(&commit).unwrap(), [place.head()]);
}

#[test]
fn merges_are_clean_or_name_what_conflicts() {
    let place = Place::new();
    let private = place.private();
    let change = |name: &str, file: &str, content: &str| {
        let worktree = place.worktree(&private, name);
        write(&worktree, file, content);
        place.commit(&private, &worktree)
    };
    let ours = change("ours", "a.txt", "ours\n");
    let other = change("other", "src/b.txt", "other\n");
    let theirs = change("theirs", "a.txt", "theirs\n");
    let added = change("added", "line\nbreak", "1");
    let clash = change("clash", "line\nbreak", "2");
    let base = place.head();
    let Merge::Clean { tree } = private.merge(&base, &ours, &other).unwrap() else { panic!("conflict") };
    let changes = private.changed_paths(&private.tree_of(&base).unwrap(), &tree).unwrap();
    assert_eq!(
        paths(&changes),
        [(b"a.txt".as_slice(), PathStatus::Modified), (b"src/b.txt", PathStatus::Modified)]
    );
    let Merge::Conflict { paths, messages } = private.merge(&base, &ours, &theirs).unwrap() else {
        panic!("clean")
    };
    assert_eq!(paths, [PathBuf::from("a.txt")]);
    assert!(messages.contains("CONFLICT (content): Merge conflict in a.txt"), "{messages}");
    let Merge::Conflict { paths, .. } = private.merge(&base, &added, &clash).unwrap() else {
        panic!("clean")
    };
    assert_eq!(paths, [PathBuf::from("line\nbreak")]);
    assert_eq!(private.merge_base(&ours, &theirs).unwrap(), base);
    let gone: GitOid = "0123456789012345678901234567890123456789".parse().unwrap();
    assert!(matches!(private.merge(&base, &ours, &gone), Err(Error::Failed { .. })));
    assert!(matches!(private.merge_base(&ours, &gone), Err(Error::Failed { .. })));
    assert!(private.tree_of(&gone).is_err());
}

#[test]
fn the_same_commit_comes_of_the_same_arguments() {
    let place = Place::new();
    let private = place.private();
    let tree = private.tree_of(&place.head()).unwrap();
    let identity = Identity { name: "agent-1".into(), email: "agent-1@quorate.invalid".into() };
    let message = "größer\n\nTrailer: x\n".repeat(9000);
    let make = || private.commit_tree(&tree, &[], &message, &identity, NOW).unwrap();
    assert_eq!(make(), make());
    let raw = git(private.path(), &["--git-dir=.", "cat-file", "commit", make().as_str()]);
    let head = format!(
        "tree {tree}\nauthor agent-1 <agent-1@quorate.invalid> 1700000000 +0000\ncommitter quorate <quorate@quorate.invalid> 1700000000 +0000\n\n"
    );
    assert!(raw.starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(&raw[..300]));
}

#[test]
fn other_object_formats_and_shallow_clones_work_too() {
    let origin = Place::new();
    write(&origin.top, "a.txt", "second\n");
    git(&origin.top, &["commit", "-qam", "second"]);
    let url = format!("file://{}", origin.top.display());
    git(origin.folder.path(), &["clone", "-q", "--depth=1", &url, "shallow"]);
    let shallow = Place { top: origin.beside("shallow"), folder: tempfile::tempdir().unwrap() };
    for place in [Place::named("user", &["--object-format=sha256"]), shallow] {
        let private =
            PrivateRepository::create(&place.beside("run2/repository.git"), &place.source()).unwrap();
        let private = PrivateRepository::open(private.path()).unwrap();
        let worktree = place.worktree(&private, "w");
        write(&worktree, "c.txt", "new\n");
        let commit = place.commit(&private, &worktree);
        assert_eq!(private.merge_base(&commit, &place.head()).unwrap(), place.head());
        git(private.path(), &["--git-dir=.", "log", commit.as_str()]);
        land(&place.top, &private, "result", None, &commit).unwrap();
        assert_eq!(branch_head(&place.top, "result").unwrap(), Some(commit));
        git(&place.top, &["fsck", "--strict"]);
    }
    assert!(matches!(PrivateRepository::open(&origin.top), Err(Error::NotARepository { .. })));
}
