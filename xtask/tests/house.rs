//! The rule of the house, on the workspace as it is.

use std::path::Path;

use xtask::layers;

#[test]
fn dependencies_point_down_by_layer() {
    let faults = layers::check(&layers::metadata(root()).unwrap()).unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_async_runtime_comes_into_the_house_through_another_crate() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert_eq!(layers::runtimes(&lock), Vec::<String>::new());
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
