//! Following an agent's output while it works, for what it says it uses.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::budget::usage::Meter;
use crate::budget::{Amount, Source, Unit};

/// Reads on from where it stopped.
#[derive(Debug)]
pub(super) struct Follower {
    file: Option<File>,
    meter: Meter,
}

impl Follower {
    pub(super) fn new(output: &Path, source: Source) -> Self {
        // Without the file nothing was said.
        let file = (source != Source::None).then(|| File::open(output).ok()).flatten();
        Self { file, meter: Meter::new(source) }
    }

    /// What was used, by all that has been said until now.
    pub(super) fn used(&mut self) -> Amount {
        let mut piece = [0; 16 << 10];
        if let Some(file) = &mut self.file {
            // What cannot be read now is read the next time.
            while let Ok(read @ 1..) = file.read(&mut piece) {
                self.meter.feed(&piece[..read]);
            }
        }
        self.meter.used()
    }
}

/// The first unit of which more was used than was set aside; nothing is set aside of what nobody bounds.
pub(super) fn exceeded(used: Amount, set_aside: Amount) -> Option<Unit> {
    let over = |unit: &Unit| set_aside.of(*unit) > 0 && used.of(*unit) > set_aside.of(*unit);
    [Unit::Tokens, Unit::Cost, Unit::ToolCalls].into_iter().find(over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_while_it_is_followed_is_heard_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "{\"quorate-usage\":{\"tokens\":7}}\n{\"quorate-us").unwrap();
        let mut follower = Follower::new(&path, Source::Lines);
        assert_eq!(follower.used().tokens, 7);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"age\":{\"tokens\":9}}\n").unwrap();
        assert_eq!((follower.used().tokens, follower.used().tokens), (9, 9));
        assert_eq!(Follower::new(&folder.path().join("none"), Source::Lines).used(), Amount::default());
    }

    #[test]
    fn more_than_was_set_aside_is_told_by_its_unit() {
        let set_aside = Amount { tokens: 10, cost_micros: 5, ..Amount::default() };
        let used =
            |tokens, cost_micros, tool_calls| Amount { tokens, cost_micros, tool_calls, ..Amount::default() };
        assert_eq!(exceeded(used(10, 5, 1000), set_aside), None, "tool calls are nobody's concern");
        assert_eq!(exceeded(used(11, 6, 0), set_aside), Some(Unit::Tokens));
        assert_eq!(exceeded(used(10, 6, 0), set_aside), Some(Unit::Cost));
    }
}
