//! An index against a list that is searched by looking at everything.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_search::{Document, Index, Namespaces, Options, Query, Words};

use crate::{ids, sorted};

const WORDS: [&str; 6] = ["ant", "antler", "bee", "bear", "cat", "Dog"];
const NAMESPACES: [&str; 3] = ["", "a", "b"];
const TAGS: [&str; 3] = ["t1", "t2", "bee"];
const DIMENSION: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Upsert(Document),
    Remove(u64),
    Text { clauses: Vec<(Sign, Clause)>, all: bool, namespaces: Option<Vec<usize>>, tag: Option<usize> },
    Vector { vector: Vec<f32>, namespaces: Option<Vec<usize>>, tag: Option<usize> },
    Settle,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    None,
    Plus,
    Minus,
}

#[derive(Debug, Clone)]
enum Clause {
    Word(&'static str),
    Beginning(&'static str),
    Phrase(&'static str, &'static str),
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(of)
}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-1.0_f32..1.0, DIMENSION).prop_map(|mut vector| {
        vector[0] += 2.0;
        vector
    })
}

fn document() -> impl Strategy<Value = Document> {
    let text = proptest::collection::vec(some(&WORDS), 0..6).prop_map(|words| words.join(" "));
    let tags = proptest::sample::subsequence(TAGS.to_vec(), 0..3);
    (0_u64..12, some(&NAMESPACES), some(&WORDS), text, tags, proptest::option::of(vector())).prop_map(
        |(id, namespace, key, text, tags, vector)| Document {
            id,
            namespace: namespace.into(),
            key: key.into(),
            text,
            tags: tags.into_iter().map(Into::into).collect(),
            vector,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let clause = prop_oneof![
        some(&WORDS).prop_map(Clause::Word),
        some(&["an", "ant", "b", "do", "x"]).prop_map(Clause::Beginning),
        (some(&WORDS), some(&WORDS)).prop_map(|(one, two)| Clause::Phrase(one, two)),
    ];
    let sign = prop_oneof![3 => Just(Sign::None), 1 => Just(Sign::Plus), 1 => Just(Sign::Minus)];
    let clauses = proptest::collection::vec((sign, clause), 1..4);
    let namespaces = || proptest::option::of(proptest::sample::subsequence(vec![0, 1, 2], 0..3));
    let tag = || proptest::option::weighted(0.3, 0_usize..3);
    prop_oneof![
        5 => document().prop_map(Step::Upsert),
        2 => (0_u64..12).prop_map(Step::Remove),
        3 => (clauses, any::<bool>(), namespaces(), tag())
            .prop_map(|(clauses, all, namespaces, tag)| Step::Text { clauses, all, namespaces, tag }),
        2 => (vector(), namespaces(), tag())
            .prop_map(|(vector, namespaces, tag)| Step::Vector { vector, namespaces, tag }),
        1 => Just(Step::Settle),
    ]
}

fn found(document: &Document, clause: &Clause) -> bool {
    let fields = [&document.key, &document.text].into_iter().chain(&document.tags);
    let words =
        fields.map(|field| field.to_lowercase().split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let lower = |word: &str| word.to_lowercase();
    let mut fields = words;
    match clause {
        Clause::Word(word) => fields.any(|words| words.contains(&lower(word))),
        Clause::Beginning(start) => fields.any(|words| words.iter().any(|word| word.starts_with(start))),
        Clause::Phrase(one, two) => {
            fields.any(|words| words.windows(2).any(|pair| pair[0] == lower(one) && pair[1] == lower(two)))
        }
    }
}

fn within(document: &Document, namespaces: Option<&Vec<usize>>, tag: Option<usize>) -> bool {
    namespaces.is_none_or(|names| names.iter().any(|&name| NAMESPACES[name] == document.namespace))
        && tag.is_none_or(|tag| document.tags.iter().any(|have| have == TAGS[tag]))
}

fn matches(document: &Document, clauses: &[(Sign, Clause)], all: bool) -> bool {
    let mut required = clauses.iter().filter(|(sign, _)| *sign == Sign::Plus || all && *sign == Sign::None);
    let mut optional = clauses.iter().filter(|(sign, _)| *sign == Sign::None);
    let mut excluded = clauses.iter().filter(|(sign, _)| *sign == Sign::Minus);
    let demands = required.clone().next().is_some();
    required.all(|(_, clause)| found(document, clause))
        && (demands || optional.any(|(_, clause)| found(document, clause)))
        && !excluded.any(|(_, clause)| found(document, clause))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn text_of(clauses: &[(Sign, Clause)]) -> String {
    let clause = |(sign, clause): &(Sign, Clause)| {
        let sign = match sign {
            Sign::None => "",
            Sign::Plus => "+",
            Sign::Minus => "-",
        };
        match clause {
            Clause::Word(word) => format!("{sign}{word}"),
            Clause::Beginning(start) => format!("{sign}{start}*"),
            Clause::Phrase(one, two) => format!("{sign}\"{one} {two}\""),
        }
    };
    clauses.iter().map(clause).collect::<Vec<_>>().join(" ")
}

fn only(namespaces: Option<&Vec<usize>>) -> Namespaces {
    namespaces.map_or(Namespaces::All, |names| {
        Namespaces::Only(names.iter().map(|&name| NAMESPACES[name].to_owned()).collect())
    })
}

fn run(steps: Vec<Step>, options: Options) {
    let mut index = Index::new(options).unwrap();
    let mut model = BTreeMap::<u64, Document>::new();
    for step in steps {
        match step {
            Step::Upsert(document) => {
                index.upsert(document.clone()).unwrap();
                model.insert(document.id, document);
            }
            Step::Remove(id) => assert_eq!(index.remove(id).unwrap(), model.remove(&id).is_some()),
            Step::Settle => index.settle(),
            Step::Text { clauses, all, namespaces, tag } => {
                if clauses.iter().all(|(sign, _)| *sign == Sign::Minus) {
                    continue;
                }
                let query = Query {
                    words: if all { Words::All } else { Words::Any },
                    namespaces: only(namespaces.as_ref()),
                    tags: tag.map(|tag| TAGS[tag].to_owned()).into_iter().collect(),
                    limit: 100,
                    ..Query::text(text_of(&clauses))
                };
                let expect: Vec<u64> = model
                    .values()
                    .filter(|document| within(document, namespaces.as_ref(), tag))
                    .filter(|document| matches(document, &clauses, all))
                    .map(|document| document.id)
                    .collect();
                assert_eq!(sorted(&mut index, &query), expect, "{query:?} over {model:?}");
            }
            Step::Vector { vector, namespaces, tag } => {
                let query = Query {
                    namespaces: only(namespaces.as_ref()),
                    tags: tag.map(|tag| TAGS[tag].to_owned()).into_iter().collect(),
                    limit: 100,
                    ..Query::vector(vector.clone())
                };
                let expect: BTreeMap<u64, f32> = model
                    .values()
                    .filter(|document| within(document, namespaces.as_ref(), tag))
                    .filter_map(|document| Some((document.id, cosine(document.vector.as_ref()?, &vector))))
                    .collect();
                let hits = index.search(&query).unwrap();
                let mut got = ids(&hits);
                got.sort_unstable();
                assert_eq!(got, expect.keys().copied().collect::<Vec<_>>());
                let scores: Vec<f32> = hits.iter().map(|hit| hit.vector.unwrap().score).collect();
                assert!(scores.is_sorted_by(|a, b| a >= b));
                assert!(hits.iter().zip(scores).all(|(hit, score)| (expect[&hit.id] - score).abs() < 1e-4));
            }
        }
        assert_eq!(index.len(), model.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_search_sees_every_write_before_it(steps in proptest::collection::vec(step(), 1..40)) {
        run(steps, Options::default());
    }

    #[test]
    fn a_search_through_graphs_sees_every_write_before_it(
        steps in proptest::collection::vec(step(), 1..60), fold_per_search in 0_usize..4,
    ) {
        run(steps, Options { exact_max: 1, fold_per_search, ..Options::default() });
    }
}
