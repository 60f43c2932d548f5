//! Windows over a time series of several features.

use std::ops::Range;

use crate::{
    device::Device,
    error::{Error, Result},
    tensor::Tensor,
};

/// A series cut into what is seen and what follows, for forecasting.
///
/// ```
/// use gatefold::{Device, data::Windows};
/// let rows = (0..10).flat_map(|t| [t as f32, -(t as f32)]).collect(); // ten steps of two features
/// let windows = Windows::new(rows, 2, 3, 2)?; // 3 steps are seen, 2 follow
/// assert_eq!(windows.within(0..10), 3..9); // where the steps that follow may begin
/// let (seen, next) = windows.batch(&[3, 8], 0, &Device::Cpu)?;
/// assert_eq!((seen.dims(), next.to_vec::<f32>()?), (&[2, 3, 2][..], vec![3.0, 4.0, 8.0, 9.0]));
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    rows: Vec<f32>,
    width: usize,
    seen: usize,
    ahead: usize,
}

impl Windows {
    /// Over rows `(n, width)`; a window has `seen` rows and the `ahead` rows after them.
    ///
    /// # Errors
    /// [`Error::Argument`] where one of them is 0, or the rows are no whole ones or too few for one window.
    pub fn new(rows: Vec<f32>, width: usize, seen: usize, ahead: usize) -> Result<Self> {
        let whole = width > 0 && rows.len().is_multiple_of(width);
        if !whole || seen == 0 || ahead == 0 || rows.len() / width < seen.saturating_add(ahead) {
            let got = format!("{} numbers in rows of {width}, windows of {seen} + {ahead} rows", rows.len());
            return Err(Error::argument(
                "Windows::new",
                got,
                "whole rows for at least one window, nothing of it empty",
            ));
        }
        Ok(Windows { rows, width, seen, ahead })
    }

    /// The places of windows, named by the first row that is not seen, whose rows ahead all lie in a range of rows. What is
    /// seen may lie before it: of the rows to train on, say, where the range is of those to test with.
    pub fn within(&self, rows: Range<usize>) -> Range<usize> {
        let end = rows.end.min(self.rows.len() / self.width);
        let first = rows.start.max(self.seen);
        first..(end + 1).saturating_sub(self.ahead).max(first)
    }

    /// Some windows: what is seen `(B, seen, width)`, and one feature of what follows `(B, ahead)`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a place or a feature that there is not.
    pub fn batch(&self, at: &[usize], feature: usize, device: &Device) -> Result<(Tensor, Tensor)> {
        const OP: &str = "Windows::batch";
        let places = self.within(0..usize::MAX);
        if let Some(place) = at.iter().find(|place| !places.contains(place)) {
            return Err(Error::argument(OP, format!("place {place}"), format!("a place in {places:?}")));
        }
        if feature >= self.width {
            return Err(Error::argument(OP, format!("feature {feature}"), format!("a feature in 0..{}", self.width)));
        }
        let seen = |&t: &usize| &self.rows[(t - self.seen) * self.width..t * self.width];
        let seen: Vec<f32> = at.iter().flat_map(seen).copied().collect();
        let next = |&t: &usize| (t..t + self.ahead).map(|row| self.rows[row * self.width + feature]);
        let next: Vec<f32> = at.iter().flat_map(next).collect();
        Ok((
            Tensor::from_slice(&seen, [at.len(), self.seen, self.width], device)?,
            Tensor::from_slice(&next, [at.len(), self.ahead], device)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_refusals() {
        let windows = Windows::new((0..20).map(|i| i as f32).collect(), 2, 3, 2).unwrap();
        assert_eq!(windows.within(0..usize::MAX - 1), 3..9);
        assert_eq!((windows.within(5..7), windows.within(5..6), windows.within(9..10)), (5..6, 5..5, 9..9));
        let (seen, next) = windows.batch(&[3], 1, &Device::Cpu).unwrap();
        assert_eq!(seen.to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(next.to_vec::<f32>().unwrap(), [7.0, 9.0]);
        for place in [0, 2, 9, usize::MAX] {
            assert!(windows.batch(&[place], 0, &Device::Cpu).is_err());
        }
        assert!(windows.batch(&[3], 2, &Device::Cpu).is_err());
        for (len, width, seen, ahead) in [(20, 0, 1, 1), (21, 2, 1, 1), (20, 2, 0, 1), (20, 2, 1, 0), (20, 2, 9, 2)] {
            assert!(Windows::new(vec![0.0; len], width, seen, ahead).is_err());
        }
        assert!(Windows::new(vec![0.0; 20], 2, usize::MAX, 2).is_err());
    }
}
