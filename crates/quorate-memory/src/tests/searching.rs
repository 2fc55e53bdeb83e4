use quorate_base::Millis;
use quorate_search::{Namespaces, Query};

use super::rig::{Rig, space};
use crate::{Actor, Class, Kind, Policy, Put, Store};

fn keys(store: &Store, actor: &Actor, query: &Query) -> Vec<String> {
    let mut keys: Vec<_> =
        store.search(actor, query).unwrap().into_iter().map(|found| found.key.to_string()).collect();
    keys.sort();
    keys
}

#[test]
fn a_search_sees_every_write_of_every_process_before_it_and_nothing_else() {
    let rig = Rig::new(1);
    let (one, two) = (rig.open().unwrap(), rig.open().unwrap());
    let (here, there) = (space(&one, "notes"), space(&two, "notes"));
    let actor = Actor::agent("a-1", Some("red"));
    let fox = |store: &Store| keys(store, &actor, &Query::text("fox"));
    here.put("first", "the quick fox").unwrap();
    for store in [&one, &two] {
        assert_eq!(fox(store), ["first"]);
    }
    there.put("second", "a slow fox").unwrap();
    here.clone().with_class(Class::Relaxed).put("third", "fox again").unwrap();
    assert_eq!(fox(&one), ["first", "second", "third"]);
    one.flush().unwrap();
    here.put("first", "now a dog").unwrap();
    there.delete("second").unwrap();
    there.put("brief", Put::new("fox for a moment").ttl(Millis(10))).unwrap();
    for store in [&one, &two] {
        assert_eq!(fox(store), ["brief", "third"]);
    }
    rig.clock.advance(Millis(10));
    for store in [&one, &two, &rig.open().unwrap()] {
        assert_eq!(fox(store), ["third"]);
    }
    here.put("brief", "fox once more").unwrap();
    assert_eq!(fox(&two), ["brief", "third"]);
}

#[test]
fn a_search_finds_by_vector_and_tag_and_only_what_the_actor_may_read() {
    let store = Rig::new(2).open().unwrap();
    let (a, b) = (Actor::agent("a", None), Actor::agent("b", None));
    let private = Policy::new(Kind::Private { owner: "a".into() });
    let own = store.create(&a, "own", private).unwrap();
    let notes = store.space(&a, "notes").unwrap();
    own.put("secret", Put::new("fox").vector(vec![1.0, 0.0])).unwrap();
    notes.put("near", Put::new("fox").vector(vec![0.9, 0.1]).tag("t")).unwrap();
    notes.put("far", Put::new("dog").vector(vec![0.0, 1.0])).unwrap();
    // Neither has a direction like the others; both are found by their words.
    notes.put("odd", Put::new("cat").vector(vec![1.0, 2.0, 3.0])).unwrap();
    notes.put("none", Put::new("cat").vector(vec![0.0, 0.0])).unwrap();
    assert_eq!(keys(&store, &a, &Query::text("fox")), ["near", "secret"]);
    assert_eq!(keys(&store, &b, &Query::text("fox")), ["near"]);
    assert_eq!(keys(&store, &b, &Query::text("cat")), ["none", "odd"]);
    let only = Query { namespaces: Namespaces::Only(vec!["own".into()]), ..Query::text("fox") };
    assert!(keys(&store, &b, &only).is_empty());
    let best = store.search(&b, &Query::vector(vec![1.0, 0.0])).unwrap();
    assert_eq!(best[0].key.as_bytes(), b"near");
    let tagged = Query { tags: vec!["t".into()], ..Query::vector(vec![0.0, 1.0]) };
    assert_eq!(keys(&store, &a, &tagged), ["near"]);
    assert_eq!(best[0].entry.meta().vector(), Some(vec![0.9, 0.1]));
}
