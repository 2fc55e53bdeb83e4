//! A store in a folder.

use std::path::Path;

use quorate_memory::{Actor, Kind, Options, Place, Policy, Space, Store};

pub(crate) fn open(dir: &Path, background: bool) -> Store {
    let implicit = Some(Policy::new(Kind::Project));
    let options = Options { implicit, background, snapshot_bytes: 1 << 20, ..Options::default() };
    Store::open(Place::folder(dir).unwrap(), options).unwrap()
}

pub(crate) fn notes(store: &Store) -> Space {
    store.space(&Actor::agent("a", None), "notes").unwrap()
}
