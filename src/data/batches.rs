//! Batches: which samples come together, and sentences of unequal lengths as one tensor.

use std::ops::Range;

use crate::{
    device::Device,
    error::{Error, Result},
    rng::Philox,
    tensor::Tensor,
};

/// Batches whose sequences are put in order of length together.
const POOL: usize = 100;

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
///
/// A run that is resumed within an epoch skips what it has seen: an order that was drawn by [`Philox::fork`] of the epoch's
/// number is the same again.
///
/// ```
/// use gatefold::{Philox, data::Batches};
/// let rng = Philox::seed(1);
/// let epoch = |number| Ok::<_, gatefold::Error>(Batches::new(10, 4)?.shuffle(&mut rng.fork(number)));
/// assert_eq!(epoch(3)?.skip(2).next(), epoch(3)?.last());
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batches {
    order: Vec<usize>,
    size: usize,
    /// Where each batch is in `order`.
    batches: Vec<Range<usize>>,
    next: usize,
    lengths: Option<Vec<usize>>,
    drop_last: bool,
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
        let order = (0..count).collect();
        let mut batches = Batches { order, size, batches: Vec::new(), next: 0, lengths: None, drop_last: false };
        batches.cut();
        Ok(batches)
    }

    /// Batches of sequences of nearly the same length, so that little is padded: all of them from the shortest to the
    /// longest, or after [`shuffle`](Self::shuffle) those of a hundred batches each, and the batches in any order.
    ///
    /// # Errors
    /// [`Error::Argument`] for batches of 0.
    pub fn by_length(lengths: impl Into<Vec<usize>>, size: usize) -> Result<Self> {
        let lengths = lengths.into();
        let mut batches = Batches::new(lengths.len(), size)?;
        batches.order.sort_by_key(|&i| lengths[i]);
        batches.lengths = Some(lengths);
        Ok(batches)
    }

    /// In an order drawn from `rng`, the same on every machine.
    pub fn shuffle(mut self, rng: &mut Philox) -> Self {
        rng.shuffle(&mut self.order);
        if let Some(lengths) = &self.lengths {
            for pool in self.order.chunks_mut(self.size.saturating_mul(POOL)) {
                pool.sort_by_key(|&i| lengths[i]);
            }
        }
        self.cut();
        if self.lengths.is_some() {
            rng.shuffle(&mut self.batches);
        }
        self
    }

    /// Without the samples that do not fill a batch. After a shuffle these are others in each epoch.
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.drop_last |= drop;
        if drop {
            // Those that were given already count no more.
            self.batches.drain(..std::mem::take(&mut self.next));
            self.batches.retain(|batch| batch.len() == self.size);
        }
        self
    }

    fn cut(&mut self) {
        let (count, size) = (self.order.len(), self.size);
        let ends = (0..count).step_by(size).map(|start| start..start.saturating_add(size).min(count));
        self.batches = ends.filter(|batch| !self.drop_last || batch.len() == size).collect();
    }
}

impl Iterator for Batches {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let batch = self.batches.get(self.next)?.clone();
        self.next += 1;
        Some(self.order[batch].to_vec())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches.len() - self.next;
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
    let sequences: Vec<&[i64]> = sequences.iter().map(AsRef::as_ref).collect();
    let (flat, lengths, [a, b]) = padded("pad", &sequences, 1, batch_first, padding)?;
    Ok((Tensor::from_slice(&flat, [a, b], device)?, lengths))
}

/// Sequences `(Lᵢ, width)` of numbers, each flat, as one `(T, B, width)` tensor of f32, or `(B, T, width)` with `batch_first`, filled
/// up with `padding`; and their lengths.
///
/// # Errors
/// [`Error::Argument`] where there is none, one is empty, or one is not of whole rows of `width`.
pub fn pad_features<S: AsRef<[f32]>>(
    sequences: &[S],
    width: usize,
    batch_first: bool,
    padding: f32,
    device: &Device,
) -> Result<(Tensor, Vec<usize>)> {
    let sequences: Vec<&[f32]> = sequences.iter().map(AsRef::as_ref).collect();
    let (flat, lengths, [a, b]) = padded("pad_features", &sequences, width, batch_first, padding)?;
    Ok((Tensor::from_slice(&flat, [a, b, width], device)?, lengths))
}

type Padded<T> = (Vec<T>, Vec<usize>, [usize; 2]);

fn padded<T: Copy>(
    op: &'static str,
    sequences: &[&[T]],
    width: usize,
    batch_first: bool,
    padding: T,
) -> Result<Padded<T>> {
    if width == 0 || sequences.iter().any(|s| !s.len().is_multiple_of(width)) {
        let got: Vec<usize> = sequences.iter().map(|s| s.len()).collect();
        return Err(Error::argument(op, format!("{got:?} numbers"), format!("whole rows of {width}, of at least 1")));
    }
    let lengths: Vec<usize> = sequences.iter().map(|s| s.len() / width).collect();
    if lengths.is_empty() || lengths.contains(&0) {
        return Err(Error::argument(op, format!("lengths {lengths:?}"), "at least one sequence, none empty"));
    }
    let (batch, steps) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    let shape = if batch_first { [batch, steps] } else { [steps, batch] };
    let mut flat = vec![padding; batch * steps * width];
    for (b, sequence) in sequences.iter().enumerate() {
        for (t, row) in sequence.chunks_exact(width).enumerate() {
            let place = if batch_first { b * steps + t } else { t * batch + b };
            flat[place * width..][..width].copy_from_slice(row);
        }
    }
    Ok((flat, lengths, shape))
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
        let mut begun = Batches::new(7, 3).unwrap();
        begun.by_ref().take(2).for_each(drop);
        let mut begun = begun.drop_last(true);
        assert_eq!((begun.len(), begun.next()), (0, None));
        assert_eq!(Batches::new(0, 3).unwrap().count(), 0);
        assert!(Batches::new(7, 0).is_err());
    }

    #[test]
    fn sequences_of_like_length_come_together() {
        let lengths: Vec<usize> = (0..1001).map(|i| i * 7919 % 50).collect();
        let batches = Batches::by_length(lengths.clone(), 4).unwrap();
        assert_eq!(batches.len(), 251);
        let inside = |batch: &[usize]| {
            let (least, most) = (batch.iter().map(|&i| lengths[i]).min(), batch.iter().map(|&i| lengths[i]).max());
            most.unwrap() - least.unwrap()
        };
        let order: Vec<usize> = batches.clone().flatten().collect();
        assert!(order.is_sorted_by_key(|&i| lengths[i]));
        let shuffled = batches.shuffle(&mut Philox::seed(1));
        let mut seen: Vec<usize> = shuffled.clone().flatten().collect();
        assert!(!seen.is_sorted_by_key(|&i| lengths[i]));
        // 400 samples in order of 50 lengths: a batch of 4 spans at most two of them, one missing between them or not.
        assert!(shuffled.clone().all(|batch| inside(&batch) <= 2));
        let other: Vec<usize> =
            Batches::by_length(lengths.clone(), 4).unwrap().shuffle(&mut Philox::seed(2)).flatten().collect();
        assert_ne!(seen, other);
        seen.sort();
        assert_eq!(seen, (0..1001).collect::<Vec<_>>());
        assert!(shuffled.drop_last(true).all(|batch| batch.len() == 4));
    }

    #[test]
    fn what_is_dropped_differs() {
        let epoch = |seed| Batches::new(7, 3).unwrap().drop_last(true).shuffle(&mut Philox::seed(seed));
        let kept: Vec<Vec<usize>> = (0..5).map(|seed| epoch(seed).flatten().collect()).collect();
        assert!(kept.iter().all(|kept| kept.len() == 6));
        assert!((0..7).all(|i| kept.iter().any(|kept| kept.contains(&i))));
        assert_eq!(Batches::new(5, usize::MAX).unwrap().count(), 1);
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
        let rows = [vec![1.0, 2.0], vec![3.0, 4.0, 5.0, 6.0]];
        let (x, lengths) = pad_features(&rows, 2, true, 0.0, &Device::Cpu).unwrap();
        assert_eq!((x.dims(), lengths), (&[2, 2, 2][..], vec![1, 2]));
        assert_eq!(x.to_vec::<f32>().unwrap(), [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
        let (x, _) = pad_features(&rows, 2, false, -1.0, &Device::Cpu).unwrap();
        assert_eq!(x.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, -1.0, -1.0, 5.0, 6.0]);
        assert!(pad_features(&rows, 0, true, 0.0, &Device::Cpu).is_err());
        assert!(pad_features(&rows, 3, true, 0.0, &Device::Cpu).is_err());
    }
}
