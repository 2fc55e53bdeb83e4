//! Figures about a list of whole numbers.

/// The sum, or nothing where it cannot be counted any more.
pub fn total(values: &[i64]) -> Option<i64> {
    values
        .iter()
        .try_fold(0i64, |sum, value| sum.checked_add(*value))
}

/// The middle value; of an even number of values the middle of the two middle ones, rounded towards the lower.
/// Nothing for no values.
pub fn median(values: &[i64]) -> Option<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted[middle - 1];
    let distance = upper.abs_diff(lower);
    Some(lower + (distance / 2) as i64)
}

/// How far the largest value lies above the smallest. Nothing for no values.
pub fn spread(values: &[i64]) -> Option<u64> {
    let smallest = values.iter().min()?;
    let largest = values.iter().max()?;
    Some(largest.abs_diff(*smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_beyond_counting_is_nothing() {
        assert_eq!(total(&[1, 2, 3]), Some(6));
        assert_eq!(total(&[]), Some(0));
        assert_eq!(total(&[i64::MAX, 1]), None);
    }

    #[test]
    fn the_spread_of_extremes_fits() {
        assert_eq!(spread(&[4, -3, 9]), Some(12));
        assert_eq!(spread(&[i64::MIN, i64::MAX]), Some(u64::MAX));
        assert_eq!(spread(&[]), None);
    }
}
