//! Names and bounds of what agents hand over, whatever they leave.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use quorate_base::{AgentId, ByteCount, Digest, GitOid, RunId, TaskId, Timestamp};

use super::*;
use crate::record::{Record, RunKind, RunStarted, Stamped};
use crate::spec::file;
use crate::state::State;
use crate::store::Store;

const ROOM: ByteCount = ByteCount::mib(1);

struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("objects"));
        for name in ["out", "outbox", "in"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, store }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn collect(&self, max: ByteCount, secrets: &[Vec<u8>]) -> Collected {
        collect(&self.path("out"), &self.store, max, secrets).unwrap()
    }
}

fn refusals(collected: &Collected) -> Vec<(&str, &str)> {
    collected.refused.iter().map(|one| (one.name.as_str(), one.reason.as_str())).collect()
}

#[test]
fn files_are_kept_by_digest_and_laid_out_again_read_only() {
    let place = Place::new();
    place.write("out/report.txt", b"fine\n");
    place.write("out/deep/er/data.bin", &[0, 159, 146, 150]);
    fs::create_dir(place.path("out/empty")).unwrap();
    let collected = place.collect(ROOM, &[]);
    assert_eq!(refusals(&collected), []);
    let names: Vec<_> = collected.kept.keys().map(String::as_str).collect();
    assert_eq!(names, ["deep/er/data.bin", "report.txt"]);
    assert_eq!(collected.kept["report.txt"].digest, Digest::of(b"fine\n"));
    assert_eq!(collected.kept["report.txt"].bytes, ByteCount(5));
    assert_eq!(place.collect(ROOM, &[]), collected, "the same again");
    let task = TaskId::new("build").unwrap();
    let all = || collected.kept.iter().map(|(name, artifact)| (&task, name.as_str(), artifact));
    lay_out(&place.store, &place.path("in"), all()).unwrap();
    let copy = place.path("in/build/report.txt");
    assert_eq!(fs::read(&copy).unwrap(), b"fine\n");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    // Whoever changes the copy changes nothing else.
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&copy, b"else").unwrap();
    assert_eq!(place.store.get(&Digest::of(b"fine\n")).unwrap(), b"fine\n");
    fs::write(place.store.path(&Digest::of(b"fine\n")), b"fin\xe9\n").unwrap();
    fs::remove_dir_all(place.path("in")).unwrap();
    let damaged = lay_out(&place.store, &place.path("in"), all()).unwrap_err();
    assert!(damaged.to_string().contains("damaged"), "{damaged}");
}

#[test]
fn what_is_no_regular_file_or_has_no_clean_name_is_refused_alone() {
    let place = Place::new();
    place.write("key", b"hush");
    place.write("out/good.txt", b"good");
    symlink(place.path("key"), place.path("out/link")).unwrap();
    symlink(place.folder.path(), place.path("out/folder")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(place.path("out/fifo")).status().unwrap();
    assert!(fifo.success());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("out/socket")).unwrap();
    place.write("out/two\nlines", b"x");
    place.write(Path::new("out").join(std::ffi::OsStr::from_bytes(b"ab\xe9")), b"x");
    place.write(format!("out/{}x", "d/".repeat(DEPTH_MAX + 1)), b"x");
    place.write("out/turned\u{202e}txt.exe", b"x");
    let collected = place.collect(ROOM, &[]);
    assert_eq!(collected.kept.keys().collect::<Vec<_>>(), ["good.txt"]);
    let mut refused = refusals(&collected);
    refused.sort();
    let names: Vec<_> = refused.iter().map(|(name, _)| *name).collect();
    let deep = "d/".repeat(DEPTH_MAX + 1);
    let mut expected = [
        "ab\u{fffd}",
        &format!("{deep}x"),
        "fifo",
        "folder",
        "link",
        "socket",
        "turned\\u{202e}txt.exe",
        "two\\nlines",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected, "{refused:#?}");
    assert!(refused.iter().any(|(name, why)| *name == "link" && why.contains("symbolic link")));
}

#[test]
fn an_outgoing_folder_that_is_a_link_or_gone_holds_nothing() {
    let place = Place::new();
    place.write("else/file", b"x");
    fs::remove_dir(place.path("out")).unwrap();
    assert_eq!(refusals(&place.collect(ROOM, &[])).len(), 1);
    symlink(place.path("else"), place.path("out")).unwrap();
    let collected = place.collect(ROOM, &[]);
    assert!(collected.kept.is_empty() && collected.refused.len() == 1, "{collected:?}");
}

#[test]
fn too_much_is_refused_whole() {
    let place = Place::new();
    place.write("out/small", b"x");
    let huge = fs::File::create(place.path("out/huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let collected = place.collect(ROOM, &[]);
    assert!(collected.kept.is_empty());
    assert!(refusals(&collected)[0].1.contains("artifacts-max"), "{collected:?}");
    fs::remove_file(place.path("out/huge")).unwrap();
    assert_eq!(place.collect(ByteCount(1), &[]).kept.len(), 1, "as many bytes as may be");
    for n in 0..FILES_MAX {
        place.write(format!("out/{n}"), b"");
    }
    let collected = place.collect(ROOM, &[]);
    assert!(collected.kept.is_empty() && refusals(&collected)[0].1.contains("more than 1000 files"));
}

#[test]
fn many_refusals_are_counted_and_only_some_named() {
    let place = Place::new();
    for n in 0..300 {
        symlink("nowhere", place.path("out").join(n.to_string())).unwrap();
    }
    let collected = place.collect(ROOM, &[]);
    assert_eq!(collected.refused.len() + collected.more as usize, 300);
    assert!(collected.refused.len() <= 20);
}

#[test]
fn a_secret_in_a_file_or_a_name_is_refused_and_not_shown() {
    let place = Place::new();
    let secrets = [b"hunter2hunter2".to_vec()];
    place.write("out/a.txt", &[&[b'x'; 70_000][..], b"hunter2hunter2"].concat());
    place.write("out/hunter2hunter2.txt", b"x");
    place.write("out/b.txt", b"x");
    let collected = place.collect(ROOM, &secrets);
    assert_eq!(collected.kept.keys().collect::<Vec<_>>(), ["b.txt"]);
    let mut refused = refusals(&collected);
    refused.sort_unstable();
    assert_eq!(refused[0].0, "[redacted].txt");
    assert_eq!(refused[1], ("a.txt", "it holds the value of a secret"));
    let text = Text::keep(&place.store, b"it is hunter2hunter2", &secrets).unwrap();
    assert_eq!(place.store.get(&text.digest).unwrap(), b"it is [redacted]");
}

#[test]
fn messages_are_taken_once_oldest_first_and_what_is_being_written_is_left() {
    let place = Place::new();
    let mut outbox = Outbox::at(place.path("outbox"));
    for (n, name) in ["z", "a", "m"].iter().enumerate() {
        place.write(format!("outbox/bob/{name}"), name.as_bytes());
        let file = fs::File::options().write(true).open(place.path(&format!("outbox/bob/{name}"))).unwrap();
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 + n as u64);
        file.set_modified(date).unwrap();
    }
    place.write("outbox/bob/.draft", b"not yet");
    place.write("outbox/.hidden/x", b"not yet");
    place.write("outbox/bob/folder/x", b"never");
    let texts = |found: Vec<outbox::Found>| -> Vec<Vec<u8>> {
        found.into_iter().map(|found| found.text.unwrap()).collect()
    };
    assert_eq!(texts(outbox.take(2)), [b"z", b"a"]);
    assert_eq!(texts(outbox.take(2)), [b"m"]);
    assert_eq!(outbox.take(2), []);
    fs::rename(place.path("outbox/bob/.draft"), place.path("outbox/bob/sent")).unwrap();
    assert_eq!(texts(outbox.take(2)), [b"not yet"]);
}

#[test]
fn what_is_no_message_is_refused_and_gone() {
    let place = Place::new();
    place.write("key", b"hush");
    place.write("outbox/lost", b"x");
    fs::create_dir(place.path("outbox/bob")).unwrap();
    symlink(place.path("key"), place.path("outbox/bob/link")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(place.path("outbox/bob/fifo")).status().unwrap();
    assert!(fifo.success());
    place.write("outbox/bob/long", &vec![b'x'; TEXT_BYTES_MAX as usize + 1]);
    place.write("outbox/bob/most", &vec![b'x'; TEXT_BYTES_MAX as usize]);
    symlink(place.folder.path(), place.path("outbox/evil")).unwrap();
    let mut outbox = Outbox::at(place.path("outbox"));
    let found = outbox.take(100);
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(found.iter().filter(|found| found.text.is_ok()).count(), 1);
    assert_eq!(outbox.take(100), []);
    assert_eq!(fs::read(place.path("key")).unwrap(), b"hush");
}

#[test]
fn a_flood_ends_with_one_refusal() {
    let place = Place::new();
    for n in 0..MESSAGES_MAX + 50 {
        place.write(format!("outbox/bob/{n:05}"), b"x");
    }
    let mut outbox = Outbox::at(place.path("outbox"));
    let mut found = Vec::new();
    loop {
        let some = outbox.take(64);
        if some.is_empty() {
            break;
        }
        found.extend(some);
    }
    assert_eq!(found.len() as u32, MESSAGES_MAX + 1);
    assert!(found.last().unwrap().text.as_ref().unwrap_err().contains("no more are taken"));
}

/// A run of two agents, `a` and `b` (of which there are two), in this topology.
fn state(topology: &str) -> State {
    let text = format!(
        "objective = \"x\"\n[swarm]\ntopology = \"{topology}\"\n[agents.a]\nprogram = \"a\"\nrole = \"coordinator\"\nattempts = 3\n[agents.b]\nprogram = \"b\"\ncount = 2\n[[tasks]]\nid = \"one\"\nagent = \"a\"\n[[tasks]]\nid = \"two\"\nagent = \"b\"\nafter = [\"one\"]\n"
    );
    let commit: GitOid = Digest::of(b"x").to_string()[..40].parse().unwrap();
    let started = RunStarted {
        run: RunId::new("r").unwrap(),
        kind: RunKind::Swarm,
        spec: file::parse("x", &text, &std::collections::BTreeMap::new()).unwrap().spec,
        repository: String::new(),
        swarm_dir: String::new(),
        base: commit.clone(),
        base_tree: commit,
        branch: "b".into(),
        electorate: Vec::new(),
        quorate_version: String::new(),
        spent_today: Default::default(),
    };
    State::begin(&Stamped { seq: 0, time: Timestamp(0), record: Record::RunStarted(Box::new(started)) })
        .unwrap()
}

fn apply(state: &mut State, seq: u64, record: Record) {
    state.apply(&Stamped { seq, time: Timestamp(seq), record }).unwrap();
}

/// The first task is given to its agent.
fn starting(state: &State) -> Record {
    let records = crate::decide::decide(state, Timestamp(state.last_at.0 + 1));
    records.into_iter().find(|record| matches!(record, Record::AgentStarting { .. })).unwrap()
}

fn posted(from: &str, to: &str) -> Posted {
    let text = Text { digest: Digest::of(b"x"), bytes: ByteCount(1) };
    Posted { from: from.to_owned().try_into().unwrap(), to: to.into(), text: Ok(text) }
}

fn refusal(record: Record) -> Option<String> {
    match record {
        Record::MessageRefused { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn a_message_waits_until_a_launch_that_had_it_ends_well() {
    let mut state = state("mesh");
    let (a, one) = (AgentId::new("a").unwrap(), TaskId::new("one").unwrap());
    let (first, second, third) = (
        judge(&state, posted("b-1", "a")),
        judge(&state, posted("@person", "one")),
        judge(&state, posted("b-1", "a")),
    );
    for (seq, record) in [(7, first), (8, second), (9, third)] {
        apply(&mut state, seq, record);
    }
    let waiting = |state: &State| state.exchange.letters_for(&a, &one).keys().copied().collect::<Vec<_>>();
    assert_eq!(waiting(&state), [7, 8, 9]);
    let start = starting(&state);
    apply(&mut state, 10, start);
    let lost =
        Record::AgentLost { agent: a.clone(), task: one.clone(), attempt: 1, used: Default::default() };
    apply(&mut state, 11, lost);
    assert_eq!(waiting(&state), [7, 8, 9], "what is lost with the node has had nothing");
    let delivered = Record::MessagesDelivered { agent: a.clone(), task: one.clone(), through: 8 };
    apply(&mut state, 12, delivered);
    assert_eq!(waiting(&state), [9]);
    let all = Record::MessagesDelivered { agent: a.clone(), task: one.clone(), through: u64::MAX };
    apply(&mut state, 13, all);
    assert_eq!(waiting(&state), Vec::<u64>::new());
}

#[test]
fn a_message_is_judged_by_recipient_topology_and_room() {
    let mesh = state("mesh");
    let star = state("star");
    assert_eq!(refusal(judge(&mesh, posted("b-1", "b-2"))), None);
    assert_eq!(refusal(judge(&mesh, posted("b-1", "two"))), None, "whoever does that task");
    assert!(refusal(judge(&mesh, posted("b-1", "nobody"))).unwrap().contains("no agent and no task"));
    assert!(refusal(judge(&mesh, posted("b-1", "../x\n"))).unwrap().contains("no agent and no task"));
    assert!(refusal(judge(&star, posted("b-1", "b-2"))).unwrap().contains("star"));
    assert_eq!(refusal(judge(&star, posted("b-1", "a"))), None);
    assert_eq!(refusal(judge(&star, posted("@person", "b-2"))), None, "a person writes to everybody");
    let mut full = state("mesh");
    for seq in 1..=PENDING_MAX as u64 {
        let record = judge(&full, posted("b-1", "a"));
        apply(&mut full, seq, record);
    }
    assert!(refusal(judge(&full, posted("b-1", "a"))).unwrap().contains("wait there already"));
    let closed = Record::TaskClosed {
        task: TaskId::new("two").unwrap(),
        outcome: crate::record::TaskOutcome::NoChange,
    };
    apply(&mut full, 1000, closed);
    assert!(refusal(judge(&full, posted("a", "two"))).unwrap().contains("nobody works"));
}

#[test]
fn what_a_lost_launch_left_is_forgotten_and_its_files_are_carried_on_from_its_commit() {
    let mut state = state("mesh");
    let (a, one) = (AgentId::new("a").unwrap(), TaskId::new("one").unwrap());
    let start = starting(&state);
    apply(&mut state, 1, start);
    let kept = Record::ArtifactKept {
        task: one.clone(),
        name: "x".into(),
        digest: Digest::of(b"x"),
        bytes: ByteCount(1),
    };
    apply(&mut state, 2, kept);
    assert_eq!(state.exchange.artifacts(&one).count(), 1);
    let oid = |text: &str| -> GitOid { Digest::of(text.as_bytes()).to_string()[..40].parse().unwrap() };
    let (base, commit, tree) = (oid("base"), oid("commit"), oid("tree"));
    let checkpoint = Record::Checkpoint { task: one.clone(), attempt: 1, base: base.clone(), commit, tree };
    apply(&mut state, 3, checkpoint);
    let lost = Record::AgentLost { agent: a, task: one.clone(), attempt: 1, used: Default::default() };
    apply(&mut state, 4, lost);
    let start = starting(&state);
    assert!(matches!(&start, Record::AgentStarting { base: on, .. } if *on == base), "{start:?}");
    apply(&mut state, 5, start);
    assert_eq!(state.exchange.artifacts(&one).count(), 0);
    assert_eq!(state.exchange.previous(&one).unwrap().outcome, "lost with the node");
    let strange = Record::Checkpoint {
        task: TaskId::new("none").unwrap(),
        attempt: 1,
        base: oid("a"),
        commit: oid("b"),
        tree: oid("c"),
    };
    assert!(state.apply(&Stamped { seq: 6, time: Timestamp(6), record: strange }).is_err());
}

proptest! {
    #[test]
    fn a_clean_name_stays_below_the_folder_it_is_put_into(name in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(text) = clean(&name) {
            prop_assert!(!text.is_empty() && !text.contains('\0') && !text.contains('\n'));
            let parts: Vec<_> = Path::new(text).components().collect();
            prop_assert!(parts.iter().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert!(parts.len() <= DEPTH_MAX + 1);
        }
        let shown = shown(&name);
        prop_assert!(shown.chars().count() <= 160 && !shown.chars().any(char::is_control));
    }

    #[test]
    fn any_path_like_text_is_clean_or_refused(name in "[a./\\x00-\\x1f\u{202e}é]{0,20}") {
        let refused = name.is_empty()
            || name.split('/').any(|part| part.is_empty() || part == "." || part == "..")
            || name.chars().any(|c| c.is_control() || c == '\u{202e}')
            || name.split('/').count() > DEPTH_MAX + 1;
        prop_assert_eq!(clean(name.as_bytes()).is_err(), refused);
    }

    #[test]
    fn a_sender_is_the_same_after_writing_and_reading(name in "[a-z0-9@-]{0,12}") {
        if let Ok(sender) = Sender::try_from(name.clone()) {
            prop_assert_eq!(String::from(sender), name);
        }
    }
}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_files_are_left_those_kept_are_as_they_were(files in proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{3,4}){0,2}", proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
        let place = Place::new();
        let total: usize = files.values().map(Vec::len).sum();
        for (name, bytes) in &files {
            place.write(format!("out/{name}.f"), bytes);
        }
        let collected = place.collect(ByteCount(total as u64), &[]);
        prop_assert_eq!(collected.kept.len(), files.len());
        for (name, bytes) in &files {
            prop_assert_eq!(collected.kept[&format!("{name}.f")].digest, Digest::of(bytes));
        }
        if total > 0 {
            prop_assert!(place.collect(ByteCount(total as u64 - 1), &[]).kept.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let place = Place::new();
        let kept = Text::keep(&place.store, &text, &[]);
        prop_assert_eq!(kept.is_ok(), std::str::from_utf8(&text).is_ok());
        if let Ok(kept) = kept {
            prop_assert_eq!(kept.digest, Digest::of(&text));
        }
    }
}
