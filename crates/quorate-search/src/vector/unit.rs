use crate::Error;
use crate::document::DIMENSIONS_MAX;

/// A vector of length one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit(Vec<f32>);

impl Unit {
    pub(crate) fn new(vector: &[f32]) -> Result<Self, Error> {
        if vector.is_empty() || vector.len() > DIMENSIONS_MAX {
            return Err(Error::DimensionBounds { found: vector.len(), max: DIMENSIONS_MAX });
        }
        if let Some(at) = vector.iter().position(|element| !element.is_finite()) {
            return Err(Error::NotFinite { at });
        }
        // In f64 no square of an f32 overflows, and none of another than zero vanishes.
        let length = vector.iter().map(|&element| f64::from(element).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err(Error::ZeroVector);
        }
        Ok(Self(vector.iter().map(|&element| (f64::from(element) / length) as f32).collect()))
    }

    pub(crate) fn dimension(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn expect_dimension(&self, expected: usize) -> Result<(), Error> {
        let found = self.dimension();
        if found == expected { Ok(()) } else { Err(Error::Dimension { expected, found }) }
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

/// The cosine of two vectors of length one.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // Independent sums let the compiler use vector instructions; a single one would fix the order of additions.
    const LANES: usize = 16;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums.iter().sum::<f32>() + rest).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests;
