//! Walks through several strided arrays of one shape at once.

use crate::shape::Dims;

/// A shape and the strides of `N` arrays over it, with as few dimensions as describe it: extents of one are dropped, and
/// neighbours that every array steps through evenly are one. A scalar has rank 0.
#[derive(Clone)]
pub struct Walk<const N: usize> {
    pub shape: Dims,
    pub strides: [Dims; N],
}

impl<const N: usize> Walk<N> {
    pub fn new(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let mut walk = Walk { shape: Dims::new(), strides: [const { Dims::new_const() }; N] };
        for (d, &extent) in shape.iter().enumerate().filter(|&(_, &extent)| extent != 1) {
            let even = |(kept, s): (&Dims, &&[usize])| kept.last() == Some(&(s[d] * extent));
            if !walk.shape.is_empty() && walk.strides.iter().zip(&strides).all(even) {
                *walk.shape.last_mut().unwrap_or(&mut 0) *= extent;
                walk.strides.iter_mut().zip(&strides).for_each(|(kept, s)| {
                    kept.pop();
                    kept.push(s[d]);
                });
            } else {
                walk.shape.push(extent);
                walk.strides.iter_mut().zip(&strides).for_each(|(kept, s)| kept.push(s[d]));
            }
        }
        walk
    }

    /// Takes the dimension `d` out: its extent and strides.
    pub fn take(&mut self, d: usize) -> (usize, [usize; N]) {
        (self.shape.remove(d), std::array::from_fn(|i| self.strides[i].remove(d)))
    }

    /// Takes the last dimension out; 1 and zeros when there is none.
    pub fn take_last(&mut self) -> (usize, [usize; N]) {
        if self.shape.is_empty() { (1, [0; N]) } else { self.take(self.shape.len() - 1) }
    }

    /// The offsets of the points `first..` of the remaining dimensions, in row-major order.
    pub fn points(&self, first: usize) -> Points<'_, N> {
        let mut index: Dims = smallvec::smallvec![0; self.shape.len()];
        let mut offsets = [0; N];
        let mut rest = first;
        for d in (0..self.shape.len()).rev() {
            index[d] = rest % self.shape[d].max(1);
            rest /= self.shape[d].max(1);
            (0..N).for_each(|i| offsets[i] += index[d] * self.strides[i][d]);
        }
        Points { walk: self, index, offsets }
    }
}

/// An odometer over a [`Walk`]. It does not end by itself: past the last point it starts again.
pub struct Points<'a, const N: usize> {
    walk: &'a Walk<N>,
    index: Dims,
    offsets: [usize; N],
}

impl<const N: usize> Iterator for Points<'_, N> {
    type Item = [usize; N];

    #[inline(always)]
    fn next(&mut self) -> Option<[usize; N]> {
        let now = self.offsets;
        for d in (0..self.index.len()).rev() {
            self.index[d] += 1;
            (0..N).for_each(|i| self.offsets[i] += self.walk.strides[i][d]);
            if self.index[d] < self.walk.shape[d] {
                break;
            }
            (0..N).for_each(|i| self.offsets[i] -= self.index[d] * self.walk.strides[i][d]);
            self.index[d] = 0;
        }
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collapses_and_visits_in_order() {
        let walk = Walk::new(&[2, 3, 1, 4], [&[12, 4, 4, 1], &[0, 0, 0, 1]]);
        assert_eq!((walk.shape.as_slice(), walk.strides[0].as_slice()), (&[6, 4][..], &[4, 1][..]));
        let all: Vec<_> = walk.points(0).take(24).collect();
        assert_eq!(all, (0..24).map(|i| [i, i % 4]).collect::<Vec<_>>());
        assert_eq!(walk.points(7).take(10).collect::<Vec<_>>(), all[7..17]);
        assert_eq!(Walk::new(&[], [&[]]).points(0).next(), Some([0]));
    }
}
