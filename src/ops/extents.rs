//! The extents that callers write, with −1 for what can be worked out.

use crate::{
    error::{Error, Result},
    shape::Shape,
    tensor::Tensor,
};

/// The extents that [`reshape`](crate::Var::reshape) and [`expand`](crate::Var::expand) take, where −1 is worked out.
/// Arrays, slices and vectors of integers convert into it, and so does a [`Shape`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents(Vec<isize>);

/// Beyond `isize` nothing fits in memory, and wrapping would make −1 of it.
pub(super) fn signed(extent: usize) -> isize {
    extent.try_into().unwrap_or(isize::MAX)
}

macro_rules! extents {
    ($($t:ty, $to:expr;)*) => {$(
        impl<const N: usize> From<[$t; N]> for Extents {
            fn from(dims: [$t; N]) -> Self { Extents(dims.iter().copied().map($to).collect()) }
        }
        impl From<&[$t]> for Extents {
            fn from(dims: &[$t]) -> Self { Extents(dims.iter().copied().map($to).collect()) }
        }
        impl<const N: usize> From<&[$t; N]> for Extents {
            fn from(dims: &[$t; N]) -> Self { dims.as_slice().into() }
        }
        impl From<Vec<$t>> for Extents {
            fn from(dims: Vec<$t>) -> Self { dims.as_slice().into() }
        }
    )*};
}
// Of i32 for bare literals, which are that where several types fit.
extents! { isize, |d| d; usize, signed; i32, |d| d as isize; }

impl From<&Shape> for Extents {
    fn from(shape: &Shape) -> Self {
        shape.dims().into()
    }
}

impl From<Shape> for Extents {
    fn from(shape: Shape) -> Self {
        shape.dims().into()
    }
}

impl From<()> for Extents {
    fn from((): ()) -> Self {
        Extents(Vec::new())
    }
}

impl Extents {
    /// The shape of `x` reshaped to these extents.
    pub(super) fn reshaped(&self, x: &Tensor) -> Result<Shape> {
        const OP: &str = "reshape";
        let wrong = |want: &str| Error::shape(OP, format!("{} to {:?}", x.shape(), self.0), want);
        let free: Vec<usize> = (0..self.0.len()).filter(|&i| self.0[i] == -1).collect();
        if free.len() > 1 || self.0.iter().any(|&d| d < -1) {
            return Err(wrong("extents of 0 or more, at most one −1"));
        }
        let mut dims: Vec<usize> = self.0.iter().map(|&d| if d < 0 { 1 } else { d as usize }).collect();
        let known = Shape::checked_numel(&dims, OP)?;
        if let Some(&free) = free.first() {
            if known == 0 {
                return Err(wrong("other extents than 0 beside −1"));
            }
            dims[free] = x.numel() / known;
            if !x.numel().is_multiple_of(known) {
                return Err(wrong("as many elements"));
            }
        } else if known != x.numel() {
            return Err(wrong("as many elements"));
        }
        Ok(dims.into())
    }

    /// The shape of `x` expanded to these extents.
    pub(super) fn expanded(&self, x: &Tensor) -> Result<Shape> {
        let wrong = || {
            let want = "extents of 1 or equal ones, aligned at the end; −1 only for an axis that is there";
            Error::shape("expand", format!("{} to {:?}", x.shape(), self.0), want)
        };
        let lead = self.0.len().checked_sub(x.rank()).ok_or_else(wrong)?;
        let extent = |(i, &wanted): (usize, &isize)| {
            let own = (i >= lead).then(|| x.dims()[i - lead]);
            match (own, usize::try_from(wanted)) {
                (Some(own), Err(_)) if wanted == -1 => Ok(own),
                (None | Some(1), Ok(wanted)) => Ok(wanted),
                (Some(own), Ok(wanted)) if own == wanted => Ok(own),
                _ => Err(wrong()),
            }
        };
        self.0.iter().enumerate().map(extent).collect::<Result<Vec<_>>>().map(Shape::from)
    }
}
