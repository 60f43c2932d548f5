//! A long text read at several places side by side, for truncated backpropagation.

use crate::{
    device::Device,
    error::{Error, Result},
    tensor::Tensor,
};

/// A sequence of numbers cut into as many parts as a batch has places, so many steps of each at a time: a state that is carried on
/// from a chunk to the next goes on where it was.
///
/// ```
/// use gatefold::{Device, data::Chunks};
/// let chunks = Chunks::new((0..11).collect(), 2, 2)?; // at 0 1 2 3 4 and at 5 6 7 8 9, two steps at a time
/// assert_eq!(chunks.len(), 2);
/// let (x, next) = chunks.get(1, &Device::Cpu)?;
/// assert_eq!((x.dims(), x.to_vec::<i64>()?), (&[2, 2][..], vec![2, 7, 3, 8]));
/// assert_eq!(next.to_vec::<i64>()?, [3, 8, 4, 9]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    numbers: Vec<i64>,
    batch: usize,
    steps: usize,
}

impl Chunks {
    /// Of `batch` places and `steps` steps. What does not fill a chunk in every place is left out.
    ///
    /// # Errors
    /// [`Error::Argument`] where one of them is 0.
    pub fn new(numbers: Vec<i64>, batch: usize, steps: usize) -> Result<Self> {
        if batch == 0 || steps == 0 {
            let got = format!("{steps} steps at {batch} places");
            return Err(Error::argument("Chunks::new", got, "at least one of each"));
        }
        Ok(Chunks { numbers, batch, steps })
    }

    /// How many chunks: (⌊n / batch⌋ − 1) / steps, rounded down, for each number has one after it.
    pub fn len(&self) -> usize {
        (self.numbers.len() / self.batch).saturating_sub(1) / self.steps
    }

    /// Whether there are too few numbers for one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers `(T, B)` of a chunk, int64, and for each the one after it `(T·B)`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a chunk that there is not.
    pub fn get(&self, chunk: usize, device: &Device) -> Result<(Tensor, Tensor)> {
        if chunk >= self.len() {
            let want = format!("a chunk in 0..{}", self.len());
            return Err(Error::argument("Chunks::get", format!("chunk {chunk}"), want));
        }
        let each = self.numbers.len() / self.batch;
        let take = |after: usize| -> Vec<i64> {
            let steps = chunk * self.steps + after..(chunk + 1) * self.steps + after;
            steps.flat_map(|t| (0..self.batch).map(move |b| self.numbers[b * each + t])).collect()
        };
        Ok((Tensor::from_slice(&take(0), [self.steps, self.batch], device)?, Tensor::new(take(1), device)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_goes_on_where_the_last_one_ended() {
        let chunks = Chunks::new((0..31).collect(), 3, 2).unwrap();
        assert_eq!(chunks.len(), 4);
        let mut seen: Vec<Vec<i64>> = vec![Vec::new(); 3];
        for chunk in 0..chunks.len() {
            let (x, next) = chunks.get(chunk, &Device::Cpu).unwrap();
            let (x, next) = (x.to_vec::<i64>().unwrap(), next.to_vec::<i64>().unwrap());
            assert!(x.iter().zip(next).all(|(x, next)| x + 1 == next));
            x.iter().enumerate().for_each(|(i, &x)| seen[i % 3].push(x));
        }
        assert_eq!(seen, [0, 10, 20].map(|from| (from..from + 8).collect::<Vec<i64>>()));
    }

    #[test]
    fn refusals() {
        assert!(Chunks::new(vec![1], 0, 1).is_err() && Chunks::new(vec![1], 1, 0).is_err());
        for few in [0, 1, 2, 3, 8] {
            assert!(Chunks::new((0..few).collect(), 3, 2).unwrap().is_empty(), "{few}");
        }
        let chunks = Chunks::new((0..9).collect(), 3, 2).unwrap();
        assert_eq!(chunks.len(), 1);
        assert!(chunks.get(0, &Device::Cpu).is_ok());
        assert!(matches!(chunks.get(1, &Device::Cpu), Err(Error::Argument { .. })));
    }
}
