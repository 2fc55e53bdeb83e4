//! Names of what agents leave: any bytes, of which only clean relative paths are taken.

/// The most folders above a file.
pub const DEPTH_MAX: usize = 16;
/// The longest name, its folders included.
pub const NAME_BYTES_MAX: usize = 1024;
/// The most characters shown of a name that is refused.
const SHOWN_MAX: usize = 160;

/// A name that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclean {
    #[error("its name is not UTF-8")]
    NotText,
    #[error("its name holds characters that do not print as they are")]
    Unprintable,
    #[error("its name has {bytes} bytes; {NAME_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("it lies deeper than {DEPTH_MAX} folders")]
    TooDeep,
    #[error("its name is not a relative path")]
    NotRelative,
}

/// The name as text, where it is a relative path of at most [`NAME_BYTES_MAX`] bytes and [`DEPTH_MAX`] folders, without `.` and `..`,
/// and of characters that show what they are.
pub fn clean(name: &[u8]) -> Result<&str, Unclean> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Unclean::TooLong { bytes: name.len() });
    }
    let text = std::str::from_utf8(name).map_err(|_| Unclean::NotText)?;
    if text.chars().any(deceives) {
        return Err(Unclean::Unprintable);
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Unclean::NotRelative);
    }
    if text.split('/').count() > DEPTH_MAX + 1 {
        return Err(Unclean::TooDeep);
    }
    Ok(text)
}

/// Any name as a record may hold it and a terminal show it: cut, and with escapes for what does not print.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let escaped = text.chars().flat_map(|c| {
        let (plain, escaped) = if deceives(c) { (None, Some(c.escape_default())) } else { (Some(c), None) };
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    escaped.take(SHOWN_MAX).collect()
}

/// Controls, line separators, and what turns the direction of text around.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
