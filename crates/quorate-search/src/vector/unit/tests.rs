use super::*;

#[test]
fn vectors_that_have_no_direction_are_refused() {
    assert_eq!(Unit::new(&[]), Err(Error::DimensionBounds { found: 0, max: DIMENSIONS_MAX }));
    assert_eq!(Unit::new(&[0.0, -0.0]), Err(Error::ZeroVector));
    assert_eq!(Unit::new(&[1.0, f32::NAN]), Err(Error::NotFinite { at: 1 }));
    assert_eq!(Unit::new(&[f32::NEG_INFINITY]), Err(Error::NotFinite { at: 0 }));
    assert!(Unit::new(&vec![1.0; DIMENSIONS_MAX + 1]).is_err());
}

#[test]
fn only_the_direction_counts_even_at_the_ends_of_the_range() {
    for scale in [f32::MAX / 4.0, 1.0, f32::MIN_POSITIVE] {
        let unit = Unit::new(&[3.0 * scale, -4.0 * scale]).unwrap();
        assert!((unit.as_slice()[0] - 0.6).abs() < 1e-6 && (unit.as_slice()[1] + 0.8).abs() < 1e-6);
    }
}

#[test]
fn the_cosine_counts_every_element() {
    for dimension in [1, 15, 16, 17, 33] {
        let unit = Unit::new(&vec![1.0; dimension]).unwrap();
        assert!((cosine(unit.as_slice(), unit.as_slice()) - 1.0).abs() < 1e-5);
    }
}
