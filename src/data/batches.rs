//! Batches: which samples come together, and sentences of unequal lengths as one tensor.

use crate::{
    device::Device,
    error::{Error, Result},
    rng::Philox,
    tensor::Tensor,
};

/// The indices of a data set, a batch at a time: an iterator for one epoch.
///
/// ```
/// use gatefold::{Philox, data::Batches};
/// let mut rng = Philox::seed(1);
/// let batches = Batches::new(10, 4)?.shuffle(&mut rng);
/// assert_eq!(batches.len(), 3);
/// assert_eq!(batches.map(|batch| batch.len()).collect::<Vec<_>>(), [4, 4, 2]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batches {
    order: Vec<usize>,
    size: usize,
    next: usize,
}

impl Batches {
    /// Batches of `size` of the samples 0..`count` in order, the last one smaller where `size` does not divide `count`.
    ///
    /// # Errors
    /// [`Error::Argument`] for batches of 0.
    pub fn new(count: usize, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::argument("Batches::new", "batches of 0", "at least 1"));
        }
        Ok(Batches { order: (0..count).collect(), size, next: 0 })
    }

    /// In an order drawn from `rng`, the same on every machine.
    pub fn shuffle(mut self, rng: &mut Philox) -> Self {
        rng.shuffle(&mut self.order);
        self
    }

    /// Without the samples that do not fill a batch. After a shuffle these are others in each epoch.
    pub fn drop_last(mut self, drop: bool) -> Self {
        if drop {
            self.order.truncate(self.order.len() / self.size * self.size);
        }
        self
    }
}

impl Iterator for Batches {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let rest = &self.order[self.next..];
        let batch = &rest[..rest.len().min(self.size)];
        self.next += batch.len();
        if batch.is_empty() { None } else { Some(batch.to_vec()) }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.next).div_ceil(self.size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

/// Sequences of unequal lengths as one `(T, B)` int64 tensor, or `(B, T)` with `batch_first`, filled up with `padding`; and
/// their lengths.
///
/// # Errors
/// [`Error::Argument`] where there is none, or one is empty.
pub fn pad<S: AsRef<[i64]>>(
    sequences: &[S],
    batch_first: bool,
    padding: i64,
    device: &Device,
) -> Result<(Tensor, Vec<usize>)> {
    let lengths: Vec<usize> = sequences.iter().map(|s| s.as_ref().len()).collect();
    if lengths.is_empty() || lengths.contains(&0) {
        return Err(Error::argument("pad", format!("lengths {lengths:?}"), "at least one sequence, none empty"));
    }
    let (batch, steps) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    let shape = if batch_first { [batch, steps] } else { [steps, batch] };
    let mut flat = vec![padding; batch * steps];
    for (b, sequence) in sequences.iter().enumerate() {
        for (t, &number) in sequence.as_ref().iter().enumerate() {
            flat[if batch_first { b * steps + t } else { t * batch + b }] = number;
        }
    }
    Ok((Tensor::from_slice(&flat, shape, device)?, lengths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_once() {
        let mut seen: Vec<usize> = Batches::new(103, 10).unwrap().shuffle(&mut Philox::seed(5)).flatten().collect();
        assert_ne!(seen[..10], (0..10).collect::<Vec<_>>()[..]);
        seen.sort();
        assert_eq!(seen, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_batch() {
        let mut whole = Batches::new(7, 3).unwrap().drop_last(true);
        assert_eq!(whole.len(), 2);
        assert_eq!((whole.next(), whole.next(), whole.next()), (Some(vec![0, 1, 2]), Some(vec![3, 4, 5]), None));
        assert_eq!(Batches::new(0, 3).unwrap().count(), 0);
        assert!(Batches::new(7, 0).is_err());
    }

    #[test]
    fn padding() {
        let (x, lengths) = pad(&[vec![1, 2, 3], vec![4]], true, 0, &Device::Cpu).unwrap();
        assert_eq!((x.dims(), lengths), (&[2, 3][..], vec![3, 1]));
        assert_eq!(x.to_vec::<i64>().unwrap(), [1, 2, 3, 4, 0, 0]);
        let (x, _) = pad(&[vec![1, 2, 3], vec![4]], false, -1, &Device::Cpu).unwrap();
        assert_eq!(x.to_vec::<i64>().unwrap(), [1, 4, 2, -1, 3, -1]);
        assert!(pad(&[vec![1], vec![]], true, 0, &Device::Cpu).is_err());
        assert!(pad::<Vec<i64>>(&[], true, 0, &Device::Cpu).is_err());
    }
}
