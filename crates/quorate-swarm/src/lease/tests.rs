//! Leases alone, and under anything that can happen to them in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_base::{Millis, TaskId, Timestamp};

use super::*;

const START: Timestamp = Timestamp(1_000);

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn wanted(list: &[&str]) -> Vec<Wanted> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn resource(text: &str) -> Resource {
    text.parse::<Wanted>().unwrap().resource
}

impl Leases {
    fn ask(&mut self, holder: &str, list: &[&str]) -> Result<Vec<Grant>, Denied> {
        self.acquire(&task(holder), &wanted(list), None, START)
    }

    fn more(&mut self, holder: &str, list: &[&str]) -> Result<Vec<Grant>, Denied> {
        self.acquire_more(&task(holder), &wanted(list), None, START)
    }

    fn give_back(&mut self, holder: &str) {
        self.release(&task(holder), START);
    }

    fn in_line(&self) -> Vec<&str> {
        self.waiting().map(|(holder, _)| holder.as_str()).collect()
    }
}

#[track_caller]
fn behind(answer: Result<Vec<Grant>, Denied>, other: &str) {
    match answer.unwrap_err() {
        Denied::Waits(waiting) => assert_eq!(waiting.behind, task(other), "{waiting}"),
        denied => panic!("{denied}"),
    }
}

#[test]
fn a_lease_is_written_as_it_is_read() {
    for (text, written) in [
        ("file:src/lib.rs", "file:src/lib.rs"),
        ("file:./src//lib.rs", "file:src/lib.rs"),
        ("folder:docs/", "folder:docs"),
        ("folder:.", "folder:."),
        ("read:folder:docs", "read:folder:docs"),
        ("name:database: main", "name:database: main"),
        ("read:name:gpu", "read:name:gpu"),
    ] {
        let wanted: Wanted = text.parse().unwrap();
        assert_eq!(wanted.to_string(), written);
        assert_eq!(written.parse::<Wanted>().unwrap(), wanted);
    }
    for text in [
        "",
        "src/lib.rs",
        "file:",
        "file:.",
        "file:/etc",
        "folder:",
        "folder:a/../..",
        "name:",
        "write:file:a",
        "file:a\nb",
    ] {
        assert!(text.parse::<Wanted>().is_err(), "{text:?}");
    }
}

#[test]
fn a_folder_covers_what_is_below_it_and_nothing_beside_it() {
    let overlaps = |a, b| resource(a).overlaps(&resource(b));
    assert!(overlaps("folder:docs", "file:docs/a/b.md"));
    assert!(overlaps("folder:docs", "folder:docs/a"));
    assert!(overlaps("file:docs", "folder:docs"));
    assert!(overlaps("folder:.", "file:a"));
    assert!(!overlaps("folder:docs", "file:docs2/a"));
    assert!(!overlaps("folder:docs/a", "file:docs/b"));
    assert!(!overlaps("folder:.", "name:a"));
    assert!(!overlaps("file:a", "name:a"));
}

#[test]
fn a_request_is_granted_whole_or_waits() {
    let mut leases = Leases::default();
    leases.ask("a", &["file:x"]).unwrap();
    behind(leases.ask("b", &["file:y", "file:x"]), "a");
    // What b waits for with x is kept for it, but not taken.
    behind(leases.ask("c", &["file:y"]), "b");
    leases.give_back("a");
    let events = leases.take_events();
    assert!(
        matches!(&events[..], [Event::Granted { holder, grants }] if *holder == task("b") && grants.len() == 2)
    );
    assert_eq!(leases.in_line(), ["c"]);
}

#[test]
fn readers_share_and_a_waiting_writer_is_not_passed_by_later_readers() {
    let mut leases = Leases::default();
    leases.ask("r1", &["read:folder:src"]).unwrap();
    leases.ask("r2", &["read:file:src/a"]).unwrap();
    behind(leases.ask("w", &["file:src/a"]), "r1");
    behind(leases.ask("r3", &["read:file:src/a"]), "w");
    leases.ask("r4", &["read:file:src/b"]).unwrap();
    leases.give_back("r1");
    leases.give_back("r2");
    assert_eq!(leases.held_by(&task("w")).count(), 1);
    assert_eq!(leases.in_line(), ["r3"]);
}

#[test]
fn a_token_grows_with_every_takeover_and_an_old_one_is_refused() {
    let mut leases = Leases::default();
    let ttl = Some(Millis(100));
    let first = leases.acquire(&task("a"), &wanted(&["folder:src"]), ttl, Timestamp(0)).unwrap()[0].token;
    assert!(leases.check(&resource("file:src/a"), first, Timestamp(99)).is_ok());
    assert!(leases.check(&resource("file:docs/a"), first, Timestamp(99)).is_err());
    assert!(leases.renew(&task("a"), Millis(100), Timestamp(50)));
    assert_eq!(leases.deadline(), Some(Timestamp(150)));
    assert!(leases.acquire(&task("b"), &wanted(&["file:src/a"]), ttl, Timestamp(149)).is_err());
    // Over, though nobody has said so yet.
    assert!(leases.check(&resource("file:src/a"), first, Timestamp(150)).is_err());
    leases.tick(Timestamp(150));
    assert_eq!(leases.take_events().len(), 2, "one expired, one granted");
    let second = leases.held_by(&task("b")).next().unwrap().token;
    assert!(second > first);
    let stale = leases.check(&resource("file:src/a"), first, Timestamp(150)).unwrap_err();
    assert_eq!(stale.newer, Some(second));
    assert!(leases.check(&resource("file:src/a"), second, Timestamp(150)).is_ok());
    assert!(!leases.renew(&task("a"), Millis(100), Timestamp(150)));
}

#[test]
fn of_holders_that_wait_for_each_other_the_one_that_holds_for_the_shortest_time_gives_way() {
    for last in ["a", "c"] {
        let mut leases = Leases::default();
        for (holder, on) in [("a", "name:1"), ("b", "name:2"), ("c", "name:3")] {
            leases.ask(holder, &[on]).unwrap();
        }
        behind(leases.more("b", &["name:3"]), "c");
        if last == "a" {
            behind(leases.more("c", &["name:1"]), "a");
            behind(leases.more("a", &["name:2"]), "b");
            let events = leases.take_events();
            assert!(
                matches!(&events[..], [Event::Refused { holder, .. }] if *holder == task("c")),
                "{events:?}"
            );
        } else {
            behind(leases.more("a", &["name:2"]), "b");
            let denied = leases.more("c", &["name:1"]).unwrap_err();
            assert!(matches!(&denied, Denied::Deadlock { circle } if circle.len() == 3), "{denied}");
        }
        assert_eq!(leases.held_by(&task("c")).count(), 1, "what it holds it keeps");
        leases.give_back("c");
        leases.give_back("b");
        assert_eq!(leases.held_by(&task("a")).count(), 2);
    }
}

#[test]
fn two_readers_that_both_want_to_write_do_not_wait_for_each_other() {
    let mut leases = Leases::default();
    let old = leases.ask("a", &["read:file:x"]).unwrap()[0].token;
    leases.ask("b", &["read:file:x"]).unwrap();
    behind(leases.more("a", &["file:x"]), "b");
    assert!(matches!(leases.more("b", &["file:x"]), Err(Denied::Deadlock { .. })));
    leases.give_back("b");
    let held: Vec<_> = leases.held_by(&task("a")).collect();
    assert!(matches!(held[..], [Grant { mode: Mode::Exclusive, .. }]) && held[0].token > old);
}

#[test]
fn who_holds_what_the_line_waits_for_is_not_kept_waiting_by_the_line() {
    let mut leases = Leases::default();
    leases.ask("a", &["name:1"]).unwrap();
    behind(leases.ask("b", &["name:1", "name:2"]), "a");
    // In line it would stand behind b, and b waits for a.
    assert_eq!(leases.more("a", &["name:2"]).unwrap().len(), 1);
    assert!(leases.more("a", &["name:2"]).unwrap().is_empty(), "it has that already");
    assert_eq!(leases.ask("a", &["name:9"]), Err(Denied::HoldsAlready(task("a"))));
    assert_eq!(leases.ask("b", &["name:9"]), Err(Denied::WaitsAlready(task("b"))));
}

#[test]
fn a_copy_for_planning_changes_nothing_and_keeps_the_order() {
    let mut leases = Leases::default();
    leases.ask("a", &["file:x"]).unwrap();
    let mut copy = leases.clone();
    assert!(copy.may_start(&task("free"), &[]).is_ok());
    assert!(copy.may_start(&task("a"), &wanted(&["file:x"])).is_ok(), "it has what it needs");
    assert!(copy.may_start(&task("b"), &wanted(&["file:x", "file:y"])).is_err());
    assert!(copy.may_start(&task("b"), &wanted(&["file:x", "file:y"])).is_err());
    let waiting = copy.may_start(&task("c"), &wanted(&["read:file:y"])).unwrap_err();
    assert_eq!(waiting.to_string(), "it waits for read:file:y behind task b");
    assert!(copy.may_start(&task("d"), &wanted(&["file:z"])).is_ok());
    assert!(leases.in_line().is_empty());
}

#[test]
fn a_journal_brings_back_tokens_and_cannot_bring_back_what_never_was() {
    let mut leases = Leases::default();
    assert!(leases.restore(&task("a"), &wanted(&["file:x", "read:file:y"]), &[3, 4]));
    assert!(leases.check(&resource("file:x"), 3, START).is_ok());
    assert!(!leases.restore(&task("b"), &wanted(&["file:z"]), &[4]), "a token that was given before");
    assert!(!leases.restore(&task("b"), &wanted(&["file:y"]), &[5]), "what another holds");
    assert!(!leases.restore(&task("b"), &wanted(&["file:z"]), &[5, 6]), "more tokens than leases");
    assert!(leases.restore(&task("b"), &wanted(&["read:file:y"]), &[5]));
    leases.give_back("a");
    assert_eq!(leases.ask("c", &["file:x"]).unwrap()[0].token, 6);
}

#[test]
fn an_agent_is_told_its_leases_as_json() {
    let mut leases = Leases::default();
    let grants = leases.ask("a", &["read:folder:docs", "file:src/lib.rs"]).unwrap();
    let text = serde_json::to_string(&grants).unwrap();
    assert_eq!(
        text,
        r#"[{"resource":"file:src/lib.rs","mode":"exclusive","token":1},{"resource":"folder:docs","mode":"shared","token":2}]"#
    );
}

const HOLDERS: usize = 6;
const THINGS: [&str; 8] =
    ["file:a", "file:d/x", "file:d/e/y", "folder:d", "folder:d/e", "folder:.", "name:n", "name:m"];

#[derive(Debug, Clone)]
enum Step {
    Ask {
        holder: usize,
        wanted: Vec<Wanted>,
        ttl: Option<u64>,
    },
    More {
        holder: usize,
        wanted: Vec<Wanted>,
        ttl: Option<u64>,
    },
    Release {
        holder: usize,
    },
    Withdraw {
        holder: usize,
    },
    Renew {
        holder: usize,
    },
    Pass {
        ms: u64,
    },
    /// The process dies; what was granted for good is in the journal, and nothing else is.
    Crash,
}

fn some_wanted() -> impl Strategy<Value = Vec<Wanted>> {
    let one = (0..THINGS.len(), any::<bool>()).prop_map(|(thing, shared)| {
        let prefix = if shared { "read:" } else { "" };
        format!("{prefix}{}", THINGS[thing]).parse::<Wanted>().unwrap()
    });
    prop::collection::vec(one, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = || prop::option::of(1..50_u64);
    prop_oneof![
        6 => (0..HOLDERS, some_wanted(), ttl()).prop_map(|(holder, wanted, ttl)| Step::Ask { holder, wanted, ttl }),
        6 => (0..HOLDERS, some_wanted(), ttl()).prop_map(|(holder, wanted, ttl)| Step::More { holder, wanted, ttl }),
        3 => (0..HOLDERS).prop_map(|holder| Step::Release { holder }),
        1 => (0..HOLDERS).prop_map(|holder| Step::Withdraw { holder }),
        1 => (0..HOLDERS).prop_map(|holder| Step::Renew { holder }),
        2 => (1..40_u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Crash),
    ]
}

/// What a reader of the answers and events knows, to hold the machine against.
#[derive(Default)]
struct Witness {
    greatest: BTreeMap<String, u64>,
    seen: BTreeSet<(TaskId, u64)>,
}

impl Witness {
    fn look(&mut self, leases: &Leases, now: Timestamp) {
        let held: Vec<(&TaskId, &Grant)> = leases
            .holders()
            .flat_map(|holder| leases.held_by(holder).map(move |grant| (holder, grant)))
            .collect();
        let as_wanted = |grant: &Grant| Wanted { resource: grant.resource.clone(), mode: grant.mode };
        for (n, (a, first)) in held.iter().enumerate() {
            for (b, second) in &held[n + 1..] {
                assert!(
                    a == b || !as_wanted(first).conflicts(&as_wanted(second)),
                    "{a} and {b}: {first:?} {second:?}"
                );
            }
            assert!(leases.check(&first.resource, first.token, now).is_ok());
            assert!(leases.check(&first.resource, first.token + 1_000_000, now).is_err());
            if self.seen.insert(((*a).clone(), first.token)) {
                // New since the last look: greater than all that was ever granted on anything it overlaps.
                for (thing, token) in &self.greatest {
                    let overlaps = resource(thing).overlaps(&first.resource);
                    assert!(!overlaps || first.token > *token, "{first:?} after {thing} {token}");
                }
            }
        }
        for (_, grant) in held {
            let token = self.greatest.entry(grant.resource.to_string()).or_default();
            *token = (*token).max(grant.token);
        }
    }
}

/// Holders end one after the other; says whether all who waited were served without anybody's help.
fn everybody_is_served(mut leases: Leases, now: Timestamp) -> bool {
    for _ in 0..=HOLDERS {
        let waiting: BTreeSet<TaskId> = leases.waiting().map(|(holder, _)| holder.clone()).collect();
        if waiting.is_empty() {
            return true;
        }
        let ready: Vec<TaskId> =
            leases.holders().filter(|holder| !waiting.contains(*holder)).cloned().collect();
        for holder in ready {
            leases.release(&holder, now);
        }
    }
    leases.waiting().next().is_none()
}

fn play(steps: &[Step]) {
    let holders: Vec<TaskId> = (0..HOLDERS).map(|n| task(&format!("t{n}"))).collect();
    let (mut leases, mut now, mut witness) = (Leases::default(), START, Witness::default());
    for step in steps {
        let ttl = |ttl: &Option<u64>| ttl.map(Millis);
        match step {
            Step::Ask { holder, wanted, ttl: time } => {
                drop(leases.acquire(&holders[*holder], wanted, ttl(time), now));
            }
            Step::More { holder, wanted, ttl: time } => {
                drop(leases.acquire_more(&holders[*holder], wanted, ttl(time), now));
            }
            Step::Release { holder } => leases.release(&holders[*holder], now),
            Step::Withdraw { holder } => leases.withdraw(&holders[*holder], now),
            Step::Renew { holder } => drop(leases.renew(&holders[*holder], Millis(20), now)),
            Step::Pass { ms } => {
                now = now.plus(Millis(*ms));
                leases.tick(now);
            }
            Step::Crash => leases = replayed(&leases),
        }
        // Expired or not, nothing is served late: the machine was told the time in every step that has one.
        if !matches!(step, Step::Withdraw { .. } | Step::Crash) {
            witness.look(&leases, now);
        }
        assert!(everybody_is_served(leases.clone(), now), "after {step:?}: {leases:?}");
    }
}

/// The machine as a journal brings it back: holders with their tokens, in the order of the tokens.
fn replayed(leases: &Leases) -> Leases {
    let mut grants: Vec<(TaskId, Grant)> = leases
        .holders()
        .flat_map(|holder| leases.held_by(holder).map(|grant| (holder.clone(), grant.clone())))
        .collect();
    grants.sort_by_key(|(_, grant)| grant.token);
    let mut back = Leases::default();
    for (holder, Grant { resource, mode, token }) in grants {
        assert!(back.restore(&holder, &[Wanted { resource, mode }], &[token]));
    }
    // The journal has granted leases that ended too, so the last token is known.
    back.restore(&task("ended"), &wanted(&["name:ended"]), &[leases.greatest_token() + 1]);
    back.release(&task("ended"), START);
    back
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_breaks_a_promise(steps in prop::collection::vec(step(), 1..60)) {
        play(&steps);
    }

    /// Without `acquire_more`, nobody is ever served before somebody who asked earlier for what conflicts.
    #[test]
    fn the_line_is_never_jumped(asks in prop::collection::vec(some_wanted(), 2..12)) {
        let mut leases = Leases::default();
        let mut order: Vec<(TaskId, Vec<Wanted>)> = Vec::new();
        let mut served: Vec<TaskId> = Vec::new();
        for (n, wanted) in asks.iter().enumerate() {
            let holder = task(&format!("t{n}"));
            order.push((holder.clone(), wanted.clone()));
            if leases.acquire(&holder, wanted, None, START).is_ok() {
                served.push(holder);
            }
        }
        let mut ended = 0;
        while let Some(holder) = served.get(ended).cloned() {
            leases.release(&holder, START);
            ended += 1;
            for event in leases.take_events() {
                if let Event::Granted { holder, .. } = event {
                    served.push(holder);
                }
            }
        }
        prop_assert_eq!(served.len(), asks.len());
        let place = |holder: &TaskId| served.iter().position(|one| one == holder).unwrap();
        for (n, (earlier, first)) in order.iter().enumerate() {
            for (later, second) in &order[n + 1..] {
                let conflict = first.iter().any(|a| second.iter().any(|b| a.conflicts(b)));
                prop_assert!(!conflict || place(earlier) < place(later), "{} {}", earlier, later);
            }
        }
    }
}
