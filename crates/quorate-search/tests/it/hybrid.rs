use quorate_search::{Document, Error, Index, Query, Weights};

use crate::{document, ids, index};

fn notes() -> Index {
    index(
        [
            ("token expired in staging", [1.0, 0.0]),
            ("token rotation", [0.0, 1.0]),
            ("credentials are stale", [0.9, 0.1]),
            ("unrelated", [-1.0, 0.0]),
        ]
        .into_iter()
        .zip(1..)
        .map(|((text, vector), id)| Document {
            vector: Some(vector.to_vec()),
            ..document(id, "", &format!("k{id}"), text)
        }),
    )
}

fn query(text: &str) -> Query {
    Query { text: text.into(), ..Query::vector(vec![1.0, 0.05]) }
}

#[test]
fn what_both_lists_find_is_before_what_one_finds() {
    let hits = notes().search(&query("token")).unwrap();
    assert_eq!(hits[0].id, 1);
    assert_eq!(hits.len(), 4);
    let stale = hits.iter().find(|hit| hit.id == 3).unwrap();
    assert!(stale.text.is_none() && stale.vector.unwrap().rank == 2);
}

#[test]
fn weights_lean_towards_a_list_or_silence_it() {
    let lean = |text, vector| Query { weights: Weights { text, vector }, ..query("rotation") };
    assert_eq!(notes().search(&lean(99.0, 1.0)).unwrap()[0].id, 2);
    assert_eq!(notes().search(&lean(1.0, 99.0)).unwrap()[0].id, 1);
    assert_eq!(ids(&notes().search(&lean(1.0, 0.0)).unwrap()), [2]);
    assert_eq!(ids(&notes().search(&lean(0.0, 1.0)).unwrap()), [1, 3, 2, 4]);
    assert_eq!(notes().search(&lean(0.0, 0.0)), Err(Error::EmptyQuery));
    assert_eq!(notes().search(&lean(-1.0, 0.0)), Err(Error::Weight(-1.0)));
}

#[test]
fn signs_in_the_text_hold_for_what_the_vector_finds() {
    let mut found = ids(&notes().search(&query("token -stale")).unwrap());
    found.sort_unstable();
    assert_eq!(found, [1, 2, 4]);
    assert_eq!(ids(&notes().search(&query("+token +expired")).unwrap()), [1]);
}

#[test]
fn pages_are_cut_from_one_list() {
    let all = ids(&notes().search(&query("token")).unwrap());
    let page = |offset| ids(&notes().search(&Query { offset, limit: 1, ..query("token") }).unwrap());
    assert_eq!((0..5).flat_map(page).collect::<Vec<_>>(), all);
}
