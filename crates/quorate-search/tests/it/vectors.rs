use std::collections::BTreeSet;

use quorate_search::{Document, Error, Index, Namespaces, Options, Query};

use crate::{Seeded, ids, index, index_with};

fn at(id: u64, namespace: &str, vector: &[f32]) -> Document {
    Document { id, namespace: namespace.into(), vector: Some(vector.to_vec()), ..Document::default() }
}

fn nearest(index: &mut Index, vector: &[f32]) -> Vec<u64> {
    ids(&index.search(&Query::vector(vector.to_vec())).unwrap())
}

#[test]
fn the_nearest_by_angle_come_first_and_length_does_not_count() {
    let mut index = index([at(1, "", &[1.0, 0.0]), at(2, "", &[10.0, 10.0]), at(3, "", &[0.0, 0.1])]);
    assert_eq!(nearest(&mut index, &[100.0, 1.0]), [1, 2, 3]);
    assert_eq!(nearest(&mut index, &[0.0, 3.0]), [3, 2, 1]);
}

#[test]
fn what_has_no_direction_or_another_dimension_is_refused_and_changes_nothing() {
    let mut index = index([at(1, "a", &[1.0, 0.0]), at(2, "a", &[0.0, 1.0])]);
    let cases: [(&[f32], Error); 4] = [
        (&[1.0, 0.0, 0.0], Error::Dimension { expected: 2, found: 3 }),
        (&[0.0, 0.0], Error::ZeroVector),
        (&[f32::NAN, 0.0], Error::NotFinite { at: 0 }),
        (&[0.0, f32::INFINITY], Error::NotFinite { at: 1 }),
    ];
    for (vector, error) in cases {
        assert_eq!(index.upsert(at(1, "a", vector)), Err(error.clone()));
        assert_eq!(index.search(&Query::vector(vector.to_vec())), Err(error));
    }
    assert_eq!(nearest(&mut index, &[1.0, 0.1]), [1, 2]);
}

#[test]
fn each_namespace_has_a_dimension_of_its_own_until_its_last_vector_goes() {
    let mut index = index([at(1, "a", &[1.0, 0.0]), at(2, "b", &[1.0, 0.0, 0.0])]);
    assert_eq!(nearest(&mut index, &[1.0, 0.0]), [1]);
    assert_eq!(nearest(&mut index, &[1.0, 0.0, 0.0]), [2]);
    let namespaces = Namespaces::Only(vec!["a".into(), "b".into()]);
    let both = Query { namespaces, ..Query::vector(vec![1.0, 0.0]) };
    assert_eq!(index.search(&both), Err(Error::Dimension { expected: 3, found: 2 }));
    index.upsert(at(1, "a", &[0.0, 1.0, 0.0])).unwrap();
    index.remove(2).unwrap();
    index.upsert(at(2, "b", &[1.0])).unwrap();
    assert_eq!(nearest(&mut index, &[1.0, 0.0, 0.0]), [1]);
}

#[test]
fn an_index_without_vectors_has_none_near() {
    assert!(nearest(&mut index([]), &[1.0]).is_empty());
}

/// Vectors around some centres, as embeddings are.
fn clustered(seed: &mut Seeded, count: u64, dimension: usize) -> Vec<Vec<f32>> {
    let centres: Vec<_> = (0..40).map(|_| seed.vector(dimension)).collect();
    (0..count)
        .map(|n| {
            let centre = &centres[n as usize % centres.len()];
            centre.iter().map(|element| element + 0.5 * seed.signed()).collect()
        })
        .collect()
}

fn recall(approximate: &mut Index, exact: &mut Index, queries: &[Vec<f32>]) -> f64 {
    let mut hits = 0;
    for query in queries {
        let expect: BTreeSet<u64> = nearest(exact, query).into_iter().collect();
        assert_eq!(expect.len(), 10);
        hits += nearest(approximate, query).into_iter().filter(|id| expect.contains(id)).count();
    }
    hits as f64 / (10 * queries.len()) as f64
}

#[test]
fn a_graph_finds_at_least_nine_of_the_ten_nearest_also_after_many_are_replaced_and_removed() {
    let (count, dimension) = (1500, 24);
    let mut seed = Seeded(7);
    let vectors = clustered(&mut seed, count, dimension);
    let queries = clustered(&mut seed, 40, dimension);
    let documents = || (0..).zip(&vectors).map(|(id, vector)| at(id, "", vector));
    let mut exact = index(documents());
    let graph = Options { exact_max: 300, fold_per_search: 8, ..Options::default() };
    let mut approximate = index_with(graph, documents());
    assert!(recall(&mut approximate, &mut exact, &queries) >= 0.9, "while the graph fills");
    approximate.settle();
    assert!(recall(&mut approximate, &mut exact, &queries) >= 0.9, "settled");
    let newer = clustered(&mut seed, count, dimension);
    for (id, vector) in (0..).zip(&newer) {
        for index in [&mut approximate, &mut exact] {
            match id % 3 {
                0 => assert_eq!(index.remove(id), Ok(true)),
                1 if id % 2 == 0 => index.upsert(at(id, "", vector)).unwrap(),
                _ => {}
            }
        }
    }
    assert!(recall(&mut approximate, &mut exact, &queries) >= 0.9, "with dead nodes");
    approximate.settle();
    assert!(recall(&mut approximate, &mut exact, &queries) >= 0.9, "built anew");
}

#[test]
fn a_filter_that_leaves_few_of_many_still_finds_them() {
    let mut seed = Seeded(3);
    let documents = (0..1000).map(|id| {
        let tags = if id % 100 == 0 { vec!["rare".to_owned()] } else { Vec::new() };
        Document { tags, ..at(id, "", &seed.vector(8)) }
    });
    let options = Options { exact_max: 100, fold_per_search: usize::MAX, ..Options::default() };
    let mut index = index_with(options, documents);
    let query = Query { tags: vec!["rare".into()], ..Query::vector(vec![1.0; 8]) };
    assert_eq!(index.search(&query).unwrap().len(), 10);
}

#[test]
fn many_equal_vectors_are_all_found() {
    let options = Options { exact_max: 10, fold_per_search: usize::MAX, ..Options::default() };
    let mut index = index_with(options, (0..300).map(|id| at(id, "", &[1.0, 2.0])));
    let query = Query { limit: 300, ..Query::vector(vec![1.0, 2.0]) };
    assert_eq!(index.search(&query).unwrap().len(), 300);
}
