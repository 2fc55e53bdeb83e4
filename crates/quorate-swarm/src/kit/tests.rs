//! Real repositories, real sockets.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use quorate_base::ByteCount;

use super::caches::{self, Cache};
use super::include::{self, FILE, From};
use super::ports::Ports;
use super::spec::{PortRange, WorktreeSpec};
use super::{Error, spec};
use crate::git::PrivateRepository;
use crate::git::tests::{Place, git, write};

const ROOM: ByteCount = ByteCount::mib(1);

/// A range in which so many ports are free side by side, as the system has it now.
fn free_range(count: u16) -> PortRange {
    loop {
        let first = TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
        let Some(last) = first.checked_add(count - 1) else { continue };
        if (first..=last).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok()) {
            return PortRange { first, last };
        }
    }
}

#[test]
fn blocks_of_any_size_never_overlap_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (ports, range) = (Ports::at(folder.path().join("ports")), free_range(30));
    let mut held = Vec::new();
    for each in [10, 4, 7] {
        held.push(ports.take(range, each).unwrap().unwrap());
    }
    let all: Vec<u16> = held.iter().flat_map(|block| block.ports.first..=block.ports.last).collect();
    assert_eq!(all.len(), 21);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 21, "{all:?}");
    assert!(ports.take(range, 10).unwrap().is_none(), "nine are left");
    let first = held.remove(0).ports;
    assert_eq!(ports.take(range, 10).unwrap().unwrap().ports, first);
}

#[test]
fn a_block_holds_no_port_that_something_else_listens_on() {
    let folder = tempfile::tempdir().unwrap();
    let (ports, range) = (Ports::at(folder.path().join("ports")), free_range(10));
    let other = TcpListener::bind(("127.0.0.1", range.first + 3)).unwrap();
    let block = ports.take(range, 4).unwrap().unwrap();
    assert_eq!(block.ports, PortRange { first: range.first + 4, last: range.first + 7 });
    drop((other, block));
    assert_eq!(ports.take(range, 4).unwrap().unwrap().ports.first, range.first);
}

#[test]
fn a_block_tells_its_agent_every_port_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let range = free_range(3);
    let block = Ports::at(folder.path().join("ports")).take(range, 3).unwrap().unwrap();
    let told = block.environment();
    let list = format!("{},{},{}", range.first, range.first + 1, range.last);
    assert_eq!(told[0], ("QUORATE_PORT", range.first.to_string()));
    assert_eq!(told[1], ("QUORATE_PORTS", list));
    assert_eq!(told[2], ("PORT", range.first.to_string()));
}

#[test]
fn many_threads_at_once_get_blocks_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (ports, range) = (Ports::at(folder.path().join("ports")), free_range(64));
    let firsts: Vec<u16> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..16).map(|_| scope.spawn(|| ports.take(range, 4).unwrap())).collect();
        let held: Vec<_> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
        held.iter().flatten().map(|block| block.ports.first).collect()
    });
    assert_eq!(firsts.len(), 16);
    assert_eq!(firsts.iter().collect::<BTreeSet<_>>().len(), 16);
}

#[test]
fn a_folder_that_others_can_write_to_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let link = folder.path().join("link");
    symlink(&open, &link).unwrap();
    for path in [open, link] {
        let error = Ports::at(&path).take(free_range(1), 1).unwrap_err();
        assert!(matches!(error, Error::PortsFolder { .. }), "{error}");
        assert!(error.to_string().contains("ports-each = 0"), "{error}");
    }
}

struct Kit {
    place: Place,
    private: PrivateRepository,
    worktree: PathBuf,
}

impl Kit {
    /// A repository that ignores logs and all that is local, with these patterns and files, and a worktree of it.
    fn new(patterns: &str, files: &[&str]) -> Self {
        let place = Place::new();
        write(&place.top, ".gitignore", "*.log\n.env*\nlocal/\n");
        git(&place.top, &["add", "-A"]);
        git(&place.top, &["commit", "-q", "-m", "ignore"]);
        write(&place.top, FILE, patterns);
        for file in files {
            write(&place.top, file, &format!("content of {file}"));
        }
        let private = place.private();
        let worktree = place.worktree(&private, "w");
        Self { place, private, worktree }
    }

    fn copy_with(&self, patterns: &[&str], max: ByteCount) -> Result<Vec<String>, Error> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let from = From { folder: &self.place.top, repository: &self.place.top };
        let copied = include::copy(from, &patterns, max, &self.private, &self.worktree)?;
        Ok(copied.iter().map(|path| path.to_str().unwrap().to_owned()).collect())
    }

    fn copy(&self) -> Result<Vec<String>, Error> {
        self.copy_with(&[], ROOM)
    }
}

#[test]
fn ignored_files_that_a_pattern_names_are_copied_and_nothing_else_is() {
    let files = [".env", ".env.test", "local/a/key.txt", "noise.log", "untracked.txt"];
    let kit = Kit::new("# secrets\n.env*\n!.env.test\n/local/\na.txt\nuntracked.txt\n", &files);
    assert_eq!(kit.copy().unwrap(), [".env", "local/a/key.txt"]);
    assert_eq!(
        fs::read_to_string(kit.worktree.join("local/a/key.txt")).unwrap(),
        "content of local/a/key.txt"
    );
    assert_eq!(
        fs::read_to_string(kit.worktree.join("a.txt")).unwrap(),
        "one\n",
        "tracked files are the commit's"
    );
    assert!(!kit.worktree.join("untracked.txt").exists(), "git does not ignore it");
    // The settings' patterns come after the file's.
    let kit = Kit::new(".env*\n", &files);
    assert_eq!(kit.copy_with(&["!.env", "*.log"], ROOM).unwrap(), [".env.test", "noise.log"]);
    let kit = Kit::new("", &files);
    assert!(kit.copy().unwrap().is_empty());
}

#[test]
fn a_copy_is_its_agents_own_with_the_mode_it_had() {
    let kit = Kit::new(".env\n", &[".env"]);
    let original = kit.place.top.join(".env");
    fs::set_permissions(&original, fs::Permissions::from_mode(0o6750)).unwrap();
    kit.copy().unwrap();
    let copy = kit.worktree.join(".env");
    let (a, b) = (fs::metadata(&original).unwrap(), fs::metadata(&copy).unwrap());
    assert_ne!(a.ino(), b.ino());
    assert_eq!((b.nlink(), b.mode() & 0o7777), (1, 0o750));
    fs::write(&copy, "changed").unwrap();
    assert_eq!(fs::read_to_string(original).unwrap(), "content of .env");
}

#[test]
fn copied_files_never_become_part_of_a_change() {
    let kit = Kit::new(".env\nlocal/\n", &[".env", "local/deep/x"]);
    // What only the person's own settings ignore, the run's repository would take.
    fs::write(kit.place.top.join(".git/info/exclude"), "only-here*\n").unwrap();
    let strange = OsStr::from_bytes(b"only-here \\ #*?\n\xff ");
    fs::write(kit.place.top.join(strange), "x").unwrap();
    let base = kit.private.tree_of(&kit.place.head()).unwrap();
    let from = From { folder: &kit.place.top, repository: &kit.place.top };
    let patterns = ["only-here*".to_owned()];
    let copied = include::copy(from, &patterns, ROOM, &kit.private, &kit.worktree).unwrap();
    assert!(copied.contains(&PathBuf::from(strange)), "{copied:?}");
    assert_eq!(kit.private.snapshot(&kit.worktree).unwrap(), base);
    // The agent edits them, stops ignoring them, and adds them with force.
    fs::write(kit.worktree.join(".env"), "changed").unwrap();
    fs::write(kit.worktree.join(".gitignore"), "!.env\n").unwrap();
    git(&kit.worktree, &["add", "-A", "-f"]);
    git(&kit.worktree, &["commit", "-q", "-m", "all"]);
    let tree = kit.private.snapshot(&kit.worktree).unwrap();
    let changed = kit.private.changed_paths(&base, &tree).unwrap();
    let names: Vec<_> = changed.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(names, [".gitignore"]);
}

#[test]
fn the_agents_own_ignored_looking_files_are_still_its_change() {
    let kit = Kit::new(".env\n", &[".env"]);
    kit.copy().unwrap();
    write(&kit.worktree, "new.txt", "work");
    write(&kit.worktree, ".gitignore", "");
    write(&kit.worktree, ".env.mine", "work");
    let base = kit.private.tree_of(&kit.place.head()).unwrap();
    let tree = kit.private.snapshot(&kit.worktree).unwrap();
    let changed = kit.private.changed_paths(&base, &tree).unwrap();
    let names: Vec<_> = changed.iter().map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(names, [".env.mine", ".gitignore", "new.txt"]);
}

#[test]
fn file_names_need_not_be_text() {
    let names: [&[u8]; 6] =
        [b".env\xff", b".env\nbreak", b".env \"quote\" ", b".env*[a]", b".env\\", b".env:(top)"];
    let kit = Kit::new(".env*\n", &[]);
    write(&kit.place.top, ".worktreeinclude", ".env*\n:*\n");
    for name in names {
        fs::write(kit.place.top.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    fs::write(kit.place.top.join(".git/info/exclude"), ":*\n").unwrap();
    fs::write(kit.place.top.join(":colon"), "x").unwrap();
    let from = From { folder: &kit.place.top, repository: &kit.place.top };
    let copied = include::copy(from, &[], ROOM, &kit.private, &kit.worktree).unwrap();
    assert_eq!(copied.len(), 7, "{copied:?}");
    fs::write(kit.worktree.join(".gitignore"), "").unwrap();
    let base = kit.private.tree_of(&kit.place.head()).unwrap();
    let tree = kit.private.snapshot(&kit.worktree).unwrap();
    assert_eq!(kit.private.changed_paths(&base, &tree).unwrap().len(), 1, "the ignore file alone");
}

#[test]
fn no_link_leads_out_of_the_repository_on_either_side() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "secret", "s");
    for (link, stays) in [
        (outside.path().join("secret"), false),
        ("../../outside".into(), false),
        ("local/../../x".into(), false),
        (".git/config".into(), false),
        (".env".into(), true),
        ("local/x".into(), true),
    ] {
        let kit = Kit::new(".env.link\n", &[".env", "local/x"]);
        symlink(&link, kit.place.top.join(".env.link")).unwrap();
        match kit.copy() {
            Ok(copied) => {
                assert!(stays, "{link:?}");
                assert_eq!(copied, [".env.link"]);
                assert_eq!(fs::read_link(kit.worktree.join(".env.link")).unwrap(), link);
            }
            Err(error) => assert!(!stays && matches!(error, Error::LinkLeaves { .. }), "{link:?}: {error}"),
        }
    }
    // A commit that has a link where the person has a folder.
    let kit = Kit::new("local/\n", &["local/x"]);
    symlink(outside.path(), kit.worktree.join("local")).unwrap();
    assert!(matches!(kit.copy().unwrap_err(), Error::ThroughLink { .. }));
    assert!(!outside.path().join("x").exists());
    let kit = Kit::new("local/\n", &[]);
    fs::remove_file(kit.place.top.join(FILE)).unwrap();
    symlink(outside.path().join("secret"), kit.place.top.join(FILE)).unwrap();
    assert!(matches!(kit.copy().unwrap_err(), Error::ThroughLink { .. }));
}

#[test]
fn no_pattern_reaches_the_store_or_its_keys() {
    let kit = Kit::new("*\n*.key\n.quorate/\n", &[".env"]);
    crate::workspace::Workspace::create(&kit.place.top).unwrap();
    write(&kit.place.top, ".quorate/keys/tests.key", "private");
    assert_eq!(kit.copy().unwrap(), [".env"]);
    assert!(!kit.worktree.join(".quorate").exists());
}

#[test]
fn too_many_files_or_bytes_are_refused_before_the_disk_is_full() {
    let kit = Kit::new(".env*\n", &[".env", ".env.b"]);
    let error = kit.copy_with(&[], ByteCount(20)).unwrap_err();
    assert!(matches!(&error, Error::TooManyBytes { .. }), "{error}");
    assert!(!kit.worktree.join(".env.b").exists());
    let kit = Kit::new("local/\n", &[]);
    fs::create_dir(kit.place.top.join("local")).unwrap();
    for n in 0..=include::FILES_MAX {
        fs::write(kit.place.top.join(format!("local/{n}")), "").unwrap();
    }
    let error = kit.copy().unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { found: 10_001, max: 10_000 }), "{error}");
    fs::write(kit.place.top.join(FILE), vec![b'#'; 2 << 20]).unwrap();
    assert!(matches!(kit.copy().unwrap_err(), Error::PatternsTooLarge { .. }));
}

#[test]
fn a_repository_in_the_repository_is_not_copied() {
    let kit = Kit::new("local/\n", &[]);
    let inner = kit.place.top.join("local/inner");
    fs::create_dir_all(&inner).unwrap();
    git(&inner, &["init", "-q"]);
    write(&inner, "x", "x");
    assert!(matches!(kit.copy().unwrap_err(), Error::Nested { .. }));
}

#[test]
fn a_run_on_a_copy_takes_ignored_files_from_the_folder_it_copied() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().canonicalize().unwrap().join("from");
    write(&from, ".gitignore", ".env\n");
    write(&from, ".env", "secret");
    write(&from, FILE, ".env\na.txt\n");
    write(&from, "a.txt", "a");
    let copy = folder.path().join("copy");
    let source = crate::git::init_from_copy(&copy, &from, crate::git::tests::NOW).unwrap();
    let private = PrivateRepository::create(&folder.path().join("private.git"), &source).unwrap();
    let worktree = folder.path().join("w");
    private.add_worktree(&worktree, &source.head_commit().unwrap()).unwrap();
    let from = From { folder: &from, repository: source.top() };
    let copied = include::copy(from, &[], ROOM, &private, &worktree).unwrap();
    assert_eq!(copied, [Path::new(".env")]);
}

#[test]
fn caches_lie_in_the_workspace_and_say_nothing_a_person_did_not() {
    let folder = tempfile::tempdir().unwrap();
    let (root, home, worktree) =
        (folder.path().join("caches"), folder.path().join("home"), folder.path().join("w"));
    write(&home, "config.toml", "[net]\noffline = true\n");
    write(&home, "credentials.toml", "secret");
    let all = [Cache::Cargo, Cache::Npm, Cache::Pip];
    let told = caches::environment(&all, &root, &worktree, Some(&home)).unwrap();
    let names: Vec<_> = told.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    assert_eq!(names, ["CARGO_HOME", "CARGO_TARGET_DIR", "npm_config_cache", "PIP_CACHE_DIR"]);
    assert!(told[1].1.to_str().unwrap().starts_with(worktree.to_str().unwrap()), "built apart");
    let cargo = root.join("cargo");
    assert!(!cargo.join("credentials.toml").exists());
    // An agent leaves settings that would send everybody else's downloads elsewhere.
    write(&cargo, "config.toml", "[source.crates-io]\nreplace-with = \"mine\"\n");
    write(&cargo, "config", "[source.crates-io]\nreplace-with = \"mine\"\n");
    caches::environment(&all, &root, &worktree, Some(&home)).unwrap();
    assert_eq!(fs::read_to_string(cargo.join("config.toml")).unwrap(), "[net]\noffline = true\n");
    assert!(!cargo.join("config").exists());
    caches::environment(&all, &root, &worktree, None).unwrap();
    assert!(!cargo.join("config.toml").exists());
}

#[test]
fn a_section_is_checked_and_an_old_journal_has_the_defaults() {
    let read = |text: &str| spec::check(&toml::from_str(text).unwrap());
    let spec = read(
        "ports = \"4000-4099\"\nports-each = 5\ninclude = [\".env\"]\ninclude-max = \"1MiB\"\ncaches = [\"pip\", \"pip\"]",
    )
    .unwrap();
    assert_eq!(spec.ports, PortRange { first: 4000, last: 4099 });
    assert_eq!((spec.ports_each, spec.include_max), (5, ByteCount::mib(1)));
    assert_eq!(spec.caches, [Cache::Pip]);
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<WorktreeSpec>(&text).unwrap(), spec);
    assert_eq!(serde_json::from_str::<WorktreeSpec>("{}").unwrap(), WorktreeSpec::default());
    for wrong in [
        "ports = \"29999-20000\"",
        "ports = \"0-5\"",
        "ports = \"many\"",
        "ports = \"4000-4003\"",
        "ports-each = 2000",
        "include = [\"\"]",
        "include = [\"a\\nb\"]",
        "caches = [\"maven\"]",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
