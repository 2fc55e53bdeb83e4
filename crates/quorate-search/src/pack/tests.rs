use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn candidate(id: u64, text: &str, relevance: f32) -> Candidate<'_> {
    Candidate { id, text, relevance, recency: None }
}

fn ids(packed: &Packed) -> Vec<u64> {
    packed.included.iter().map(|entry| entry.id).collect()
}

#[test]
fn a_repetition_gives_way_to_something_new() {
    let offered = [
        candidate(1, "the deploy of staging failed because the token had expired", 1.0),
        candidate(2, "The deploy of staging failed, because the token had expired!", 0.9),
        candidate(3, "rotate tokens with the vault command before each deploy run", 0.3),
    ];
    let packed = pack(&offered, &Options::with_budget(20), &words).unwrap();
    assert_eq!(ids(&packed), [1, 3]);
    assert_eq!(packed.left_out, [LeftOut { id: 2, tokens: 10, reason: Reason::Repeats }]);
    assert_eq!((packed.tokens, packed.tokens_of_all), (20, 30));
}

#[test]
fn an_entry_that_two_others_cover_together_adds_nothing() {
    let offered = [
        candidate(1, "a b c d e f", 1.0),
        candidate(2, "e f g h i j", 1.0),
        candidate(3, "b c d e f g h i", 0.9),
    ];
    assert_eq!(ids(&pack(&offered, &Options::with_budget(100), &words).unwrap()), [1, 2]);
}

#[test]
fn what_says_as_much_in_fewer_tokens_comes_first() {
    let long = "long ".repeat(50);
    let offered = [candidate(1, &long, 1.0), candidate(2, "short and good", 0.9)];
    let options = Options { cut: None, ..Options::with_budget(50) };
    let packed = pack(&offered, &options, &words).unwrap();
    assert_eq!(ids(&packed), [2]);
    assert_eq!(packed.left_out, [LeftOut { id: 1, tokens: 50, reason: Reason::NoRoom }]);
}

#[test]
fn a_long_entry_is_cut_with_a_mark_and_within_its_share() {
    let long: String = (0..500).map(|n| format!("Sentence number {n} ends. ")).collect();
    let packed = pack(&[candidate(1, &long, 1.0)], &Options::with_budget(200), &words).unwrap();
    let [entry] = packed.included.as_slice() else { panic!("{packed:?}") };
    assert!(entry.cut && entry.text.ends_with("ends.\n[… cut]"), "{entry:?}");
    assert!(entry.tokens <= 100 && entry.tokens > 90);
    assert_eq!((packed.tokens, packed.tokens_of_all), (entry.tokens, 2000));
}

#[test]
fn newer_is_before_older_of_the_same_relevance() {
    let offered = [
        candidate(1, "one old note", 1.0),
        Candidate { recency: Some(1.0), ..candidate(2, "another new note", 1.0) },
    ];
    assert_eq!(ids(&pack(&offered, &Options::with_budget(3), &words).unwrap()), [2]);
}

#[test]
fn values_out_of_range_are_refused() {
    let options = Options::with_budget(10);
    let packed = |candidates: &[Candidate<'_>]| pack(candidates, &options, &words).map(|_| ());
    let [one, nan] = [candidate(1, "a", 1.0), candidate(2, "b", f32::NAN)];
    assert_eq!(packed(&[one, one]), Err(Error::CandidateTwice(1)));
    assert!(matches!(packed(&[nan]), Err(Error::Candidate { id: 2, what: "relevance", .. })));
    let late = Candidate { recency: Some(1.5), ..one };
    assert!(matches!(packed(&[late]), Err(Error::Candidate { id: 1, what: "recency", .. })));
    let bad = Options { duplicate_share: -1.0, ..options.clone() };
    assert!(matches!(pack(&[one], &bad, &words), Err(Error::PackOption { what: "duplicate_share", .. })));
}

#[test]
fn nothing_and_no_room_are_no_faults() {
    assert!(pack(&[], &Options::with_budget(10), &words).unwrap().included.is_empty());
    let packed = pack(&[candidate(1, "a b", 1.0)], &Options::with_budget(0), &words).unwrap();
    assert_eq!((packed.included.len(), packed.tokens, packed.tokens_of_all), (0, 0, 2));
}

fn texts() -> impl Strategy<Value = Vec<(String, f32, Option<f32>)>> {
    let text = prop_oneof![
        4 => "([a-e]{1,6}[ .\n]){0,80}",
        1 => "\\PC{0,80}",
    ];
    proptest::collection::vec((text, 0.0_f32..10.0, proptest::option::of(0.0_f32..=1.0)), 0..30)
}

fn candidates(texts: &[(String, f32, Option<f32>)]) -> Vec<Candidate<'_>> {
    (0..)
        .zip(texts)
        .map(|(id, (text, relevance, recency))| Candidate {
            id,
            text,
            relevance: *relevance,
            recency: *recency,
        })
        .collect()
}

proptest! {
    #[test]
    fn the_budget_holds_nothing_is_twice_and_nothing_is_forgotten(
        texts in texts(), budget in 0_usize..400, overhead in 0_usize..10,
    ) {
        let offered = candidates(&texts);
        let options = Options { overhead, ..Options::with_budget(budget) };
        let packed = pack(&offered, &options, &ApproximateTokens).unwrap();
        let recounted: usize =
            packed.included.iter().map(|entry| ApproximateTokens.tokens(&entry.text) + overhead).sum();
        prop_assert_eq!(recounted, packed.tokens);
        prop_assert!(packed.tokens <= budget);
        let mut all: Vec<u64> = packed.included.iter().map(|entry| entry.id).collect();
        all.extend(packed.left_out.iter().map(|entry| entry.id));
        let distinct: BTreeSet<u64> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), distinct.len());
        prop_assert_eq!(distinct.len(), offered.len());
        for entry in &packed.included {
            let text = &texts[entry.id as usize].0;
            prop_assert!(entry.cut || *text == entry.text);
            prop_assert!(!entry.cut || entry.text.ends_with(&Cut::default().mark));
        }
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(texts in texts(), budget in 0_usize..400) {
        let mut offered = candidates(&texts);
        let options = Options::with_budget(budget);
        let one = pack(&offered, &options, &ApproximateTokens).unwrap();
        offered.reverse();
        let other = pack(&offered, &options, &ApproximateTokens).unwrap();
        prop_assert_eq!(one.included, other.included);
    }

    #[test]
    fn of_two_of_a_size_the_more_relevant_is_never_the_one_left_out(
        entries in proptest::collection::vec((1_usize..60, 0.01_f32..10.0), 0..40),
        budget in 0_usize..300, cuts: bool,
    ) {
        // No word is in two texts.
        let texts: Vec<(String, f32, Option<f32>)> = (0..).zip(&entries).map(|(id, &(size, relevance))| {
            ((0..size).map(|n| format!("w{id}x{n} ")).collect(), relevance, None)
        }).collect();
        let cut = cuts.then(Cut::default);
        let options = Options { cut, ..Options::with_budget(budget) };
        let packed = pack(&candidates(&texts), &options, &words).unwrap();
        for inside in &packed.included {
            let (size, relevance) = entries[inside.id as usize];
            for outside in &packed.left_out {
                let (other_size, other_relevance) = entries[outside.id as usize];
                prop_assert!(size != other_size || relevance >= other_relevance);
            }
        }
    }

    #[test]
    fn even_a_counter_that_makes_no_sense_is_held_to_the_budget(texts in texts(), budget in 0_usize..100) {
        let odd = |text: &str| text.bytes().map(usize::from).sum::<usize>() % 97;
        let packed = pack(&candidates(&texts), &Options::with_budget(budget), &odd).unwrap();
        prop_assert!(packed.included.iter().map(|entry| odd(&entry.text)).sum::<usize>() <= budget);
    }
}
