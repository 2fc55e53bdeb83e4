//! Sizes with their unit in the type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A size in bytes; written as `512MiB`, `2GiB`, `64KiB` or `100B` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteCount(pub u64);

/// A text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a number and a unit, such as 64KiB, 512MiB or 2GiB")]
pub struct InvalidSize(String);

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteCount {
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl FromStr for ByteCount {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let invalid = || InvalidSize(text.chars().take(80).collect());
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))
            .ok_or_else(invalid)?;
        let count: u64 = number.trim().parse().map_err(|_| invalid())?;
        count.checked_mul(unit).map(Self).ok_or_else(invalid)
    }
}

impl TryFrom<String> for ByteCount {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

/// Exact: the largest unit that divides the size, so that it reads back as the same number.
impl From<ByteCount> for String {
    fn from(size: ByteCount) -> Self {
        let (suffix, unit) =
            UNITS.iter().find(|(_, unit)| size.0 != 0 && size.0.is_multiple_of(*unit)).unwrap_or(&("B", 1));
        format!("{}{suffix}", size.0 / unit)
    }
}

/// For people: one decimal in the largest unit that fits.
impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (suffix, unit) = UNITS.iter().find(|(_, unit)| self.0 >= *unit).unwrap_or(&("B", 1));
        let text = if *unit == 1 {
            format!("{} B", self.0)
        } else {
            format!("{:.1} {suffix}", self.0 as f64 / *unit as f64)
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_what_they_write() {
        for bytes in [0, 1, 1023, 1024, 3 << 20, 5 << 40, u64::MAX] {
            assert_eq!(String::from(ByteCount(bytes)).parse(), Ok(ByteCount(bytes)));
        }
    }

    #[test]
    fn sizes_without_unit_or_beyond_the_range_are_refused() {
        for text in ["", "12", "12MB", "-1B", "99999999999TiB", "1.5GiB"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }
}
