//! What a reviewer has written down.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::record::Opinion;

/// How much of it is read.
const BYTES_MAX: u64 = 4096;

/// The first line that is not empty: `accept`, or `refuse:` and a reason. Nothing where it is neither, or no file.
pub(super) fn read(path: &Path) -> Option<Opinion> {
    // Whoever wrote it may have put something else there, which must neither lead away nor keep the reader.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Option<Opinion> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let (word, rest) = line.split_once([' ', ':']).unwrap_or((line, ""));
    let reason = rest.trim_start_matches([' ', ':']).chars().filter(|c| !c.is_control()).collect();
    let accepted = match word.to_ascii_lowercase().as_str() {
        "accept" => true,
        "refuse" => false,
        _ => return None,
    };
    Some(Opinion { accepted, reason })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_two_words_are_a_verdict() {
        let opinion = |accepted, reason: &str| Some(Opinion { accepted, reason: reason.into() });
        assert_eq!(parse("accept\n"), opinion(true, ""));
        assert_eq!(parse("\n  ACCEPT looks right"), opinion(true, "looks right"));
        assert_eq!(parse("refuse: no test\nmore"), opinion(false, "no test"));
        assert_eq!(parse("acceptable"), None);
        assert_eq!(parse("I accept"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_is_no_file_is_no_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdict");
        assert_eq!(read(&path), None);
        std::fs::write(folder.path().join("other"), "accept").unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert_eq!(read(&path), None, "a link");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert_eq!(read(&path), None, "a pipe nobody writes to");
        assert_eq!(read(folder.path()), None, "a folder");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
