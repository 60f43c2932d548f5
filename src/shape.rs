//! Shapes, strides and axes.
//!
//! ```
//! use gatefold::Shape;
//! let shape = Shape::from([2, 3, 4]);
//! assert_eq!((shape.numel(), shape.rank(), shape.strides()), (24, 3, vec![12, 4, 1]));
//! assert_eq!(shape.axis(-1, "my operation")?, 2);
//! assert_eq!(Shape::broadcast(&shape, &Shape::from([3, 1]), "my operation")?, shape);
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::{fmt, ops::Deref};

use smallvec::{SmallVec, smallvec};

use crate::error::{Error, Result};

/// Extents, strides or places of a few dimensions: a training step makes dozens, and most tensors have at most four.
pub(crate) type Dims = SmallVec<[usize; 4]>;

/// The extents of a tensor, outermost first. Rank 0 is a scalar.
#[derive(PartialEq, Eq, Hash, Default)]
pub struct Shape(Dims);

impl Clone for Shape {
    fn clone(&self) -> Self {
        // A copy of memory: `SmallVec::clone` goes element by element.
        Shape(Dims::from_slice(&self.0))
    }
}

impl Shape {
    /// How many elements it holds, or an `Err` where that overflows `usize`.
    pub fn checked_numel(dims: &[usize], op: &'static str) -> Result<usize> {
        // Zero first: [0, MAX, MAX] holds nothing, in whatever order its extents are multiplied.
        if dims.contains(&0) {
            return Ok(0);
        }
        dims.iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .filter(|&n| n <= isize::MAX as usize / 8)
            .ok_or_else(|| Error::shape(op, format!("{dims:?}"), "fewer elements than memory can hold"))
    }

    /// How many elements it holds; `usize::MAX` where that overflows, which no tensor has.
    pub fn numel(&self) -> usize {
        extent(&self.0)
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The extents as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.0).into_vec()
    }

    /// Turns an axis that may count from the end (−1 is the last) into an index.
    ///
    /// # Errors
    /// [`Error::Shape`] for an axis outside the rank.
    pub fn axis(&self, axis: isize, op: &'static str) -> Result<usize> {
        let rank = self.rank() as isize;
        let index = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&index) {
            Ok(index as usize)
        } else {
            Err(Error::shape(
                op,
                format!("axis {axis} of a tensor of shape {self}"),
                format!("an axis in {}..{rank}", -rank),
            ))
        }
    }

    /// Around `axis`: the product of the extents before it, its own, and the product of those after it.
    pub(crate) fn around(&self, axis: usize) -> (usize, usize, usize) {
        (extent(&self.0[..axis]), self.0[axis], extent(&self.0[axis + 1..]))
    }

    /// The shape with the extent of `axis` replaced.
    pub(crate) fn with(&self, axis: usize, extent: usize) -> Shape {
        let mut dims = Dims::from_slice(&self.0);
        dims[axis] = extent;
        Shape(dims)
    }

    /// The shape without `axis`.
    pub(crate) fn without(&self, axis: usize) -> Shape {
        let mut dims = Dims::from_slice(&self.0);
        dims.remove(axis);
        Shape(dims)
    }

    /// The shape that `a` and `b` broadcast to, by NumPy's and PyTorch's rule: aligned at the end, an extent of 1 stretches.
    pub fn broadcast(a: &Shape, b: &Shape, op: &'static str) -> Result<Shape> {
        let rank = a.rank().max(b.rank());
        let extent = |s: &Shape, i: usize| if i + s.rank() < rank { 1 } else { s.0[i + s.rank() - rank] };
        (0..rank)
            .map(|i| match (extent(a, i), extent(b, i)) {
                (x, y) if x == y => Ok(x),
                (1, y) => Ok(y),
                (x, 1) => Ok(x),
                _ => Err(Error::shape(op, format!("{a} and {b}"), "shapes that broadcast")),
            })
            .collect::<Result<Dims>>()
            .map(Shape)
    }

    /// Strides that read a tensor of this shape as if it had the shape `to`: 0 where it is stretched.
    pub(crate) fn broadcast_strides(&self, to: &Shape) -> Dims {
        let own = strides(&self.0);
        let lead = to.rank() - self.rank();
        (0..to.rank()).map(|i| if i < lead || self.0[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
    }
}

/// How many elements `dims` holds. Saturates: `[usize::MAX, 2, 0]` is a tensor, and a part of its extents may overflow.
pub(crate) fn extent(dims: &[usize]) -> usize {
    if dims.contains(&0) { 0 } else { dims.iter().fold(1, |n, &d| n.saturating_mul(d)) }
}

/// Row-major strides of `dims`, in elements (saturating, as in [`extent`]).
pub(crate) fn strides(dims: &[usize]) -> Dims {
    let mut strides: Dims = smallvec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(Dims::from_slice(dims))
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape(dims.into())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(Dims::from_slice(&dims))
    }
}

impl<const N: usize> From<&[usize; N]> for Shape {
    fn from(dims: &[usize; N]) -> Self {
        Shape(Dims::from_slice(dims))
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        shape.clone()
    }
}

impl From<usize> for Shape {
    fn from(extent: usize) -> Self {
        Shape(smallvec![extent])
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Shape(Dims::new())
    }
}

impl From<(usize, usize)> for Shape {
    fn from((a, b): (usize, usize)) -> Self {
        Shape(smallvec![a, b])
    }
}

impl From<(usize, usize, usize)> for Shape {
    fn from((a, b, c): (usize, usize, usize)) -> Self {
        Shape(smallvec![a, b, c])
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_extents_do_not_overflow() {
        let huge = usize::MAX;
        assert_eq!(Shape::from([huge, huge]).numel(), huge);
        assert_eq!(Shape::from([huge, huge, 0]).numel(), 0);
        assert_eq!(Shape::from([0, huge, huge]).strides(), [huge, huge, 1]);
        assert_eq!(Shape::from([huge, huge, 0]).around(2), (huge, 0, 1));
        assert!(Shape::checked_numel(&[huge, 2], "test").is_err());
    }
}
