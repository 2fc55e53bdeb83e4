use super::*;

fn check(text: &str, expect: usize) {
    assert_eq!(ApproximateTokens.tokens(text), expect, "{text:?}");
}

#[test]
fn words_count_by_four_letters_and_other_characters_one_each() {
    check("", 0);
    check("word", 1);
    check("words", 2);
    check("two word", 2);
    check("1234", 2);
    check("a.b", 3);
    check("line\nline\n", 4);
    check("漢字", 2);
    check("        deep", 3);
}
