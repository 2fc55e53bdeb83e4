use super::*;

#[test]
fn an_entry_high_in_both_lists_is_before_one_that_leads_only_one() {
    let hits = merge(&[(1, 9.0), (2, 8.0)], &[(3, 0.9), (2, 0.8)], Weights::default(), 1);
    assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [2, 1, 3]);
    assert_eq!(hits[0].text, Some(Ranked { rank: 2, score: 8.0 }));
    assert_eq!(hits[0].vector, Some(Ranked { rank: 2, score: 0.8 }));
    assert!((hits[0].score - 2.0 / 62.0).abs() < 1e-6);
}

#[test]
fn weights_decide_between_lists() {
    let order = |weights| merge(&[(1, 9.0)], &[(2, 0.9)], weights, 1)[0].id;
    assert_eq!(order(Weights { text: 2.0, vector: 1.0 }), 1);
    assert_eq!(order(Weights { text: 1.0, vector: 2.0 }), 2);
}
