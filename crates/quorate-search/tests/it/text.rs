use proptest::prelude::*;
use quorate_search::{Error, Index, Namespaces, Options, Query, Words};

use crate::{document, ids, index, sorted};

fn notes() -> Index {
    let mut rust = document(1, "a", "build/rust", "The build of the parser failed with error E0308");
    rust.tags = vec!["ci".into(), "flaky".into()];
    let mut go = document(2, "a", "build/go", "the build of the server passed");
    go.tags = vec!["ci".into()];
    let mut note = document(3, "b", "notes/größe", "Straße und Größe; naïve café. Build nothing");
    note.tags = vec!["wip-Draft".into()];
    index([rust, go, note, document(4, "b", "empty", "")])
}

fn check(query: &Query, expect: &[u64]) {
    assert_eq!(sorted(&mut notes(), query), expect, "{query:?}");
}

fn check_text(text: &str, expect: &[u64]) {
    check(&Query::text(text), expect);
}

#[test]
fn words_phrases_beginnings_and_signs_find_what_they_say() {
    check_text("parser", &[1]);
    check_text("BUILD", &[1, 2, 3]);
    check_text("parser server", &[1, 2]);
    check(&Query { words: Words::All, ..Query::text("build server") }, &[2]);
    check_text("\"build of the server\"", &[2]);
    check_text("\"of build\"", &[]);
    check_text("\"build of the s\"*", &[2]);
    check_text("pars* serv*", &[1, 2]);
    check_text("pars*e", &[]);
    check_text("+build -failed", &[2, 3]);
    check_text("build -\"the parser\"", &[2, 3]);
    check_text("build -pars*", &[2, 3]);
    check_text("strasse NAIVE cafe", &[3]);
    check_text("absent", &[]);
}

#[test]
fn keys_and_tags_are_searched_too() {
    check_text("empty", &[4]);
    check_text("build/go", &[2]);
    check_text("groesse", &[]);
    check_text("grosse", &[3]);
    check_text("draft", &[3]);
    check_text("flaky", &[1]);
}

#[test]
fn a_phrase_does_not_run_from_one_tag_into_the_next() {
    check_text("\"ci flaky\"", &[]);
    check_text("\"wip draft\"", &[3]);
}

#[test]
fn namespaces_and_tags_confine_a_query() {
    let within = |names: &[&str]| Namespaces::Only(names.iter().map(ToString::to_string).collect());
    let build = Query::text("build");
    check(&Query { namespaces: within(&["a"]), ..build.clone() }, &[1, 2]);
    check(&Query { namespaces: within(&["a", "b", "c"]), ..build.clone() }, &[1, 2, 3]);
    check(&Query { namespaces: within(&["c"]), ..build.clone() }, &[]);
    check(&Query { namespaces: within(&[]), ..build.clone() }, &[]);
    check(&Query { tags: vec!["ci".into()], ..build.clone() }, &[1, 2]);
    check(&Query { tags: vec!["ci".into(), "flaky".into()], ..build.clone() }, &[1]);
    check(&Query { tags: vec!["CI".into()], ..build.clone() }, &[]);
    check(&Query { tags: vec!["draft".into()], ..build }, &[]);
}

#[test]
fn rare_words_and_keys_weigh_more() {
    let mut index = index(
        (0..50)
            .map(|id| document(id, "", "key", "common words everywhere in this text"))
            .chain([document(50, "", "key", "common rare"), document(51, "", "rare", "something")]),
    );
    assert_eq!(ids(&index.search(&Query::text("rare")).unwrap()), [51, 50]);
    assert_eq!(ids(&index.search(&Query::text("words rare")).unwrap())[..2], [51, 50]);
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition() {
    let mut index = index((0..97).map(|id| document(id, "", "", &"word ".repeat(1 + id as usize))));
    let all = ids(&index.search(&Query { limit: 1000, ..Query::text("word") }).unwrap());
    assert_eq!(all.len(), 97);
    let mut paged = Vec::new();
    for offset in (0..110).step_by(10) {
        let hits = index.search(&Query { offset, ..Query::text("word") }).unwrap();
        assert!(hits.iter().zip(offset + 1..).all(|(hit, rank)| hit.text.unwrap().rank == rank));
        paged.extend(ids(&hits));
    }
    assert_eq!(paged, all);
}

#[test]
fn a_beginning_of_very_many_words_finds_all_of_them() {
    let mut index = index((0..500).map(|id| document(id, "", "", &format!("word{id}"))));
    assert_eq!(index.search(&Query { limit: 1000, ..Query::text("wo*") }).unwrap().len(), 500);
    assert_eq!(index.search(&Query { limit: 1000, ..Query::text("word49*") }).unwrap().len(), 11);
}

#[test]
fn a_query_without_anything_to_find_is_an_error() {
    let mut index = notes();
    assert_eq!(index.search(&Query::default()), Err(Error::EmptyQuery));
    assert_eq!(index.search(&Query::text("-build")), Err(Error::NothingToFind));
    let far = Query { offset: 10_001, ..Query::text("build") };
    assert!(matches!(index.search(&far), Err(Error::AboveBound { what: "offset", .. })));
}

#[test]
fn a_document_beyond_its_bounds_is_refused_and_its_predecessor_stays() {
    let mut index = notes();
    let long = document(1, &"x".repeat(5000), "", "");
    assert!(matches!(index.upsert(long), Err(Error::DocumentTooLarge { id: 1, part: "namespace", .. })));
    assert_eq!(sorted(&mut index, &Query::text("parser")), [1]);
    assert_eq!(index.len(), 4);
}

#[test]
fn every_id_there_is_can_be_found_and_removed() {
    let mut index = index([0, 1, u64::MAX].map(|id| document(id, "", "", "word")));
    assert_eq!(sorted(&mut index, &Query::text("word")), [0, 1, u64::MAX]);
    assert_eq!((index.remove(u64::MAX), index.remove(u64::MAX)), (Ok(true), Ok(false)));
    assert_eq!(sorted(&mut index, &Query::text("word")), [0, 1]);
}

#[test]
fn the_estimate_of_memory_grows_with_what_is_held() {
    let mut index = Index::new(Options::default()).unwrap();
    let before = index.memory_estimate();
    for id in 0..2000 {
        index.upsert(document(id, "", "", &format!("some text {id} that is not long"))).unwrap();
    }
    index.search(&Query::text("text")).unwrap();
    assert!(index.memory_estimate() > before + 2000 * 40);
}

#[test]
fn an_index_can_move_to_another_thread() {
    fn check<T: Send + Sync>() {}
    check::<Index>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_query_makes_a_search_panic(
        texts in proptest::collection::vec("(\\PC|[-+*\" \\n\u{301}aei漢]){0,60}", 1..20),
    ) {
        let mut index = notes();
        for text in texts {
            let _ = index.search(&Query::text(text));
        }
    }
}
