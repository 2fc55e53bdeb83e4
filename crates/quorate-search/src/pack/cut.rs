use super::CountTokens;

/// How often a cut is moved back when the counter finds it too long after all.
const STEPS_BACK_MAX: usize = 64;

/// The longest beginning of the text that, with the mark behind it, has at most `most` tokens, and how many it has. It
/// ends with a line or a sentence if that keeps at least half of what would fit, else with a word, else anywhere.
pub(super) fn cut(text: &str, most: usize, mark: &str, count: &impl CountTokens) -> Option<(String, usize)> {
    let marked = |end: usize| {
        let text = format!("{}{mark}", text[..end].trim_end());
        let tokens = count.tokens(&text);
        (tokens <= most && end > 0).then_some((text, tokens))
    };
    let (mut fits, mut too_long) = (0, text.len());
    while too_long - fits > 1 {
        let middle = text.floor_char_boundary(usize::midpoint(fits, too_long));
        let middle = if middle <= fits { text.ceil_char_boundary(fits + 1) } else { middle };
        if middle >= too_long {
            break;
        }
        if marked(middle).is_some() {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    let beginning = &text[..fits];
    let sentence = sentence_end(beginning).filter(|&end| end >= fits / 2);
    let word = || beginning.rfind(char::is_whitespace).filter(|&end| end >= fits / 2);
    let mut end = sentence.or_else(word).unwrap_or(fits);
    // A counter need not grow with the text, so the place found is tried, and earlier ones after it.
    for _ in 0..STEPS_BACK_MAX {
        if let Some(found) = marked(end).filter(|_| !text[..end].trim().is_empty()) {
            return Some(found);
        }
        end = text[..end].trim_end().rfind(char::is_whitespace)?;
    }
    None
}

/// Behind the last line's end, or the last full stop that white space follows.
fn sentence_end(text: &str) -> Option<usize> {
    let mut after = None;
    let mut end = None;
    for (at, c) in text.char_indices() {
        if c == '\n' || (c.is_whitespace() && after.is_some_and(|c| matches!(c, '.' | '!' | '?'))) {
            end = Some(at);
        } else if matches!(c, '。' | '！' | '？') {
            end = Some(at + c.len_utf8());
        }
        after = Some(c);
    }
    end
}

#[cfg(test)]
mod tests;
