use super::*;

fn check(text: &str, most: usize, expect: Option<&str>) {
    let got = cut(text, most, "…", &|text: &str| text.chars().count());
    assert_eq!(got.as_ref().map(|(text, _)| text.as_str()), expect, "{text:?} to {most}");
}

#[test]
fn a_cut_falls_on_a_line_a_sentence_a_word_or_anywhere_in_this_order() {
    check("one two.\nthree four five", 15, Some("one two.…"));
    check("One two. Three four five", 15, Some("One two.…"));
    check("一二三。四五六七八", 6, Some("一二三。…"));
    check("one two three four five", 15, Some("one two three…"));
    check("onetwothreefourfive", 6, Some("onetw…"));
}

#[test]
fn an_early_sentence_is_no_reason_to_lose_most_of_the_room() {
    check("Ah. one two three four five six seven", 24, Some("Ah. one two three four…"));
}

#[test]
fn nothing_is_cut_to_nothing() {
    check("word", 1, None);
    check("word", 0, None);
    check("    ", 3, None);
}
