use super::*;

fn check(text: &str, expect: &[&str]) {
    assert_eq!(words(&mut analyzer(), text), expect, "{text:?}");
}

#[test]
fn words_are_runs_of_letters_and_digits_without_case_and_accents() {
    check("", &[]);
    check("?!…", &[]);
    check("Retry_Limit=3, then fail", &["retry", "limit", "3", "then", "fail"]);
    check("Größe naïve CAFÉ cafe\u{301}", &["grosse", "naive", "cafe", "cafe"]);
    check("ΟΔΟΣ οδος", &["οδοσ", "οδοσ"]);
    check("İstanbul", &["istanbul"]);
    check("Ошибка сети", &["ошибка", "сети"]);
}

#[test]
fn characters_of_scripts_without_spaces_are_words_of_their_own() {
    check("ab漢字かc", &["ab", "漢", "字", "か", "c"]);
}

#[test]
fn a_long_word_counts_up_to_its_bound() {
    check(&"x".repeat(100_000), &[&"x".repeat(WORD_BYTES_MAX)]);
}

#[test]
fn marks_without_a_letter_are_no_words() {
    check("\u{301}\u{301} \u{301}a", &["a"]);
}
