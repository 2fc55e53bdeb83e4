use super::rig::{Rig, space};
use crate::{Actor, Error, Kind, Policy};

#[test]
fn namespaces_admit_whom_their_kind_says() {
    let store = Rig::new(1).open().unwrap();
    let (operator, quorate) = (Actor::operator(), Actor::quorate());
    let (a, b, c) =
        (Actor::agent("a", Some("red")), Actor::agent("b", Some("red")), Actor::agent("c", Some("blue")));
    let private = Policy::new(Kind::Private { owner: "a".into() });
    store.create(&a, "private", private).unwrap();
    store.create(&a, "swarm", Policy::new(Kind::Swarm { swarm: "red".into() })).unwrap();
    store.create(&c, "project", Policy::new(Kind::Project)).unwrap();
    store.create(&quorate, "system", Policy::new(Kind::System)).unwrap();
    let table = [
        // actor, reads, writes
        (&a, "private swarm project system", "private swarm project"),
        (&b, "swarm project system", "swarm project"),
        (&c, "project system", "project"),
        (&operator, "private swarm project system", "private swarm project"),
        (&quorate, "private swarm project system", "private swarm project system"),
    ];
    for (actor, reads, writes) in table {
        for name in ["private", "swarm", "project", "system"] {
            let space = store.space(actor, name).unwrap();
            let told = format!("{} {name}", actor.name());
            assert_eq!(space.get(b"k").is_ok(), reads.contains(name), "{told} reads");
            assert_eq!(space.scan("", 1).is_ok(), reads.contains(name), "{told} scans");
            assert_eq!(space.watch(b"", 0).is_ok(), reads.contains(name), "{told} watches");
            let put = space.put("k", "v");
            assert_eq!(put.is_ok(), writes.contains(name), "{told} writes");
            assert!(put.is_ok() || matches!(put, Err(Error::Denied { .. })));
        }
        assert_eq!(store.namespaces(actor).unwrap().len(), reads.split(' ').count());
    }
    assert!(matches!(store.create(&a, "mine", Policy::new(Kind::System)), Err(Error::Denied { .. })));
    let other = Policy::new(Kind::Private { owner: "b".into() });
    assert!(matches!(store.create(&a, "other", other), Err(Error::Denied { .. })));
}

#[test]
fn who_is_shut_out_is_shut_out_at_once() {
    let store = Rig::new(2).open().unwrap();
    let a = Actor::agent("a", None);
    let space = store.create(&a, "notes", Policy::new(Kind::Project)).unwrap();
    space.put("k", "v").unwrap();
    let mut watch = space.watch(b"", 0).unwrap();
    assert!(watch.try_next().unwrap().is_some());
    let private = Policy::new(Kind::Private { owner: "b".into() });
    assert!(matches!(store.set_policy(&a, "notes", private.clone()), Err(Error::Denied { .. })));
    store.set_policy(&Actor::operator(), "notes", private).unwrap();
    assert!(matches!(space.get(b"k"), Err(Error::Denied { .. })));
    assert!(matches!(watch.try_next(), Err(Error::Denied { .. })));
}

#[test]
fn namespaces_are_named_and_made_as_told() {
    let mut rig = Rig::new(3);
    rig.options.implicit = None;
    let store = rig.open().unwrap();
    let actor = Actor::operator();
    assert!(matches!(store.space(&actor, "notes"), Err(Error::NamespaceMissing { .. })));
    for name in ["", "A", "-a", "a b", &"a".repeat(129)] {
        let made = store.create(&actor, name, Policy::new(Kind::Project));
        assert!(matches!(made, Err(Error::NamespaceInvalid { .. })), "{name}");
    }
    store.create(&actor, "notes", Policy::new(Kind::Project)).unwrap();
    let again = store.create(&actor, "notes", Policy::new(Kind::Project));
    assert!(matches!(again, Err(Error::NamespaceExists { .. })));
}

#[test]
fn a_handle_of_another_store_is_refused() {
    let (one, two) = (Rig::new(4).open().unwrap(), Rig::new(5).open().unwrap());
    let (here, there) = (space(&one, "notes"), space(&two, "notes"));
    let mut batch = crate::Batch::new();
    batch.put(&here, "k", "v").unwrap();
    assert!(matches!(there.commit(batch), Err(Error::NamespaceMissing { .. })));
}
