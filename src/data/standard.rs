//! Features brought to mean 0 and deviation 1.

use crate::error::{Error, Result};

/// Mean and deviation of each feature, by which rows of features are standardised: those of the training set, so that nothing of
/// what is tested with is known before.
///
/// ```
/// use gatefold::data::Standard;
/// let (train, mut test) = ([1.0, 10.0, 3.0, 30.0], [2.0, 40.0]); // rows of two features
/// let standard = Standard::fit(&train, 2)?;
/// standard.apply(&mut test);
/// assert_eq!((test, standard.mean(1), standard.deviation(1)), ([0.0, 2.0], 20.0, 10.0));
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Standard {
    features: Vec<(f64, f64)>,
}

impl Standard {
    /// Of rows `(n, width)`. NaNs are passed over; a feature that is always the same, or always missing, has deviation 1.
    ///
    /// # Errors
    /// [`Error::Argument`] where there are no rows, or no whole ones.
    pub fn fit(rows: &[f32], width: usize) -> Result<Self> {
        if width == 0 || rows.is_empty() || !rows.len().is_multiple_of(width) {
            let got = format!("{} numbers in rows of {width}", rows.len());
            return Err(Error::argument("Standard::fit", got, "whole rows, at least one"));
        }
        let feature = |i: usize| {
            let values = || rows.iter().skip(i).step_by(width).map(|&v| f64::from(v)).filter(|v| !v.is_nan());
            let count = values().count().max(1) as f64;
            let mean = values().sum::<f64>() / count;
            let deviation = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
            (mean, if deviation > 0.0 { deviation } else { 1.0 })
        };
        Ok(Standard { features: (0..width).map(feature).collect() })
    }

    /// Rows less the mean, over the deviation. What does not fill a row is treated as the beginning of one.
    pub fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_mut(self.features.len()) {
            for (value, (mean, deviation)) in row.iter_mut().zip(&self.features) {
                *value = ((f64::from(*value) - mean) / deviation) as f32;
            }
        }
    }

    /// A standardised number of a feature as it was before; NaN for a feature that there is not.
    pub fn restore(&self, feature: usize, value: f32) -> f64 {
        self.mean(feature) + self.deviation(feature) * f64::from(value)
    }

    /// The mean of a feature; NaN for one that there is not.
    pub fn mean(&self, feature: usize) -> f64 {
        self.features.get(feature).map_or(f64::NAN, |f| f.0)
    }

    /// The deviation of a feature (dividing by n); NaN for one that there is not.
    pub fn deviation(&self, feature: usize) -> f64 {
        self.features.get(feature).map_or(f64::NAN, |f| f.1)
    }
}

/// Missing numbers replaced by the last one before, or at the beginning by the first one after; and how many were missing.
///
/// ```
/// use gatefold::data::fill_missing;
/// assert_eq!(fill_missing(&[None, Some(1.0), None, Some(2.0)])?, (vec![1.0, 1.0, 1.0, 2.0], 2));
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] where there are no numbers.
pub fn fill_missing(column: &[Option<f64>]) -> Result<(Vec<f64>, usize)> {
    let wrong =
        || Error::argument("fill_missing", format!("{} values, all missing", column.len()), "at least one number");
    let mut last = column.iter().flatten().next().copied().ok_or_else(wrong)?;
    let filled = column.iter().map(|number| {
        last = number.unwrap_or(last);
        last
    });
    Ok((filled.collect(), column.iter().filter(|number| number.is_none()).count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardised() {
        let mut rows = [1.0, 5.0, f32::NAN, 5.0, 3.0, 5.0];
        let standard = Standard::fit(&rows, 2).unwrap();
        assert_eq!((standard.mean(0), standard.deviation(0), standard.deviation(1)), (2.0, 1.0, 1.0));
        standard.apply(&mut rows);
        assert_eq!((rows[0], rows[1], rows[4]), (-1.0, 0.0, 1.0));
        assert!(standard.mean(2).is_nan() && standard.restore(2, 0.0).is_nan());
        assert_eq!((standard.restore(0, rows[4]), standard.restore(1, rows[1])), (3.0, 5.0));
        assert!(
            Standard::fit(&[], 2).is_err() && Standard::fit(&[1.0], 2).is_err() && Standard::fit(&[1.0], 0).is_err()
        );
        assert!(fill_missing(&[]).is_err() && fill_missing(&[None]).is_err());
    }
}
