//! Amounts of money, in whole cents.

use std::fmt;

/// An amount of money; never a fraction of a cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    cents: i64,
}

impl Money {
    pub fn from_cents(cents: i64) -> Self {
        Self { cents }
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no amount such as 4.75");
        let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), "00"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() != 2 {
            return Err(bad());
        }
        let whole: i64 = whole.parse().map_err(|_| bad())?;
        let part: i64 = part.parse().map_err(|_| bad())?;
        let cents = whole
            .checked_mul(100)
            .and_then(|cents| cents.checked_add(part));
        cents.map(Self::from_cents).ok_or_else(bad)
    }

    pub fn cents(self) -> i64 {
        self.cents
    }

    pub fn is_zero(self) -> bool {
        self.cents == 0
    }

    /// The price of `count` pieces, or nothing where it cannot be counted any more.
    pub fn times(self, count: u32) -> Option<Self> {
        self.cents
            .checked_mul(i64::from(count))
            .map(Self::from_cents)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.cents < 0 { "-" } else { "" };
        let cents = self.cents.unsigned_abs();
        write!(f, "{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for cents in [0, 5, 99, 100, 1890, 123_456_789] {
            let money = Money::from_cents(cents);
            assert_eq!(Money::parse(&money.to_string()), Ok(money));
            assert_eq!(money.cents(), cents);
        }
    }

    #[test]
    fn other_texts_are_no_amounts() {
        for text in [
            "",
            "1.5",
            "1.234",
            "-1.00",
            "1,00",
            "one",
            "99999999999999999999.00",
        ] {
            assert!(Money::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debts_have_one_sign() {
        assert_eq!(Money::from_cents(-105).to_string(), "-1.05");
    }

    #[test]
    fn a_product_beyond_counting_is_nothing() {
        assert_eq!(
            Money::from_cents(12).times(10),
            Some(Money::from_cents(120))
        );
        assert_eq!(Money::from_cents(i64::MAX).times(2), None);
        assert!(Money::from_cents(12).times(0).is_some_and(Money::is_zero));
    }
}
