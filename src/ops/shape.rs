//! Operations that give the same elements another shape or order.

use crate::{
    error::{Error, Result},
    kernel::Strided,
    ops::{Extents, extents::signed, reduce::sum_to},
    shape::{Shape, strides},
    storage,
    tape::Var,
    tensor::Tensor,
};

/// Copies `shape` elements from one walk, its strides and its beginning, to another.
pub(super) fn copy(
    shape: &[usize],
    x: &Tensor,
    (from, start): (&[usize], usize),
    y: &mut Tensor,
    (to, at): (&[usize], usize),
) -> Result<()> {
    let (from, to) = (Strided { strides: from, offset: start }, Strided { strides: to, offset: at });
    storage::copy_strided(shape, x.storage(), from, y.storage_mut()?, to, false)
}

/// The axes that bring `permuted(x, axes)` back.
fn inverse(axes: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
    inverse
}

fn permuted(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let pick = |from: &[usize]| -> Vec<usize> { axes.iter().map(|&a| from[a]).collect() };
    let dims = pick(x.dims());
    // An axis of one element may stand anywhere; if the others keep their order, nothing moves.
    if x.numel() == 0 || axes.iter().filter(|&&a| x.dims()[a] != 1).is_sorted() {
        return x.reshape(dims);
    }
    let mut y = x.like(dims.as_slice())?;
    copy(&dims, x, (&pick(&x.shape().strides()), 0), &mut y, (&strides(&dims), 0))?;
    Ok(y)
}

fn swapped(shape: &Shape, a: isize, b: isize) -> Result<Vec<usize>> {
    let mut axes: Vec<usize> = (0..shape.rank()).collect();
    axes.swap(shape.axis(a, "transpose")?, shape.axis(b, "transpose")?);
    Ok(axes)
}

fn permutation(shape: &Shape, axes: &[isize]) -> Result<Vec<usize>> {
    const OP: &str = "permute";
    let resolved = axes.iter().map(|&a| shape.axis(a, OP)).collect::<Result<Vec<_>>>()?;
    let mut seen = vec![false; shape.rank()];
    resolved.iter().for_each(|&a| seen[a] = true);
    if resolved.len() != shape.rank() || seen.contains(&false) {
        return Err(Error::shape(OP, format!("{axes:?} for {shape}"), "each axis once"));
    }
    Ok(resolved)
}

/// The axis that a new one of extent 1 becomes.
pub(super) fn new_axis(op: &'static str, shape: &Shape, axis: isize) -> Result<usize> {
    let ends = signed(shape.rank()) + 1;
    let index = if axis < 0 { axis + ends } else { axis };
    if (0..ends).contains(&index) {
        Ok(index as usize)
    } else {
        Err(Error::shape(op, format!("axis {axis} for {shape}"), format!("an axis in {}..{ends}", -ends)))
    }
}

pub(super) fn with_axis(op: &'static str, x: &Tensor, axis: isize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims.insert(new_axis(op, x.shape(), axis)?, 1);
    x.reshape(dims)
}

/// Shares memory where a result is the same elements in the same order; else copies. Of any dtype.
impl Tensor {
    /// Exchanges two axes.
    ///
    /// # Errors
    /// An axis outside the rank.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor> {
        permuted(self, &swapped(self.shape(), a, b)?)
    }

    /// Reorders the axes: axis i of the result is axis `axes[i]` of this.
    ///
    /// # Errors
    /// Unless `axes` names each axis once.
    pub fn permute(&self, axes: &[isize]) -> Result<Tensor> {
        permuted(self, &permutation(self.shape(), axes)?)
    }

    /// Drops `axis` if its extent is 1, as PyTorch does; else gives the same tensor.
    ///
    /// # Errors
    /// An axis outside the rank.
    pub fn squeeze(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis(axis, "squeeze")?;
        if self.dims()[axis] == 1 { self.reshape(self.shape().without(axis)) } else { Ok(self.clone()) }
    }

    /// Inserts an axis of extent 1 that becomes `axis` of the result.
    ///
    /// # Errors
    /// An axis outside the new rank.
    pub fn unsqueeze(&self, axis: isize) -> Result<Tensor> {
        with_axis("unsqueeze", self, axis)
    }

    /// Stretches axes of extent 1 and adds leading ones, aligned at the end; −1 keeps an extent. Writes the copies out.
    ///
    /// # Errors
    /// A shape that this one does not stretch to.
    #[doc(alias = "broadcast_to")]
    pub fn expand(&self, shape: impl Into<Extents>) -> Result<Tensor> {
        self.expanded(&shape.into().expanded(self)?)
    }

    /// [`expand`](Self::expand) to a shape that is known to fit.
    pub(crate) fn expanded(&self, shape: &Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let mut y = self.like(shape)?;
        if y.numel() > 0 {
            copy(shape, self, (&self.shape().broadcast_strides(shape), 0), &mut y, (&shape.strides(), 0))?;
        }
        Ok(y)
    }
}

impl Var {
    /// The same elements in another shape, one extent of which may be −1: what is left. Shares memory.
    ///
    /// ```
    /// # use gatefold::{Device, DType, Tape, Tensor};
    /// let x = Tape::new().constant(Tensor::zeros([2, 3, 4], DType::F32, &Device::Cpu)?);
    /// assert_eq!(x.reshape([-1, 4])?.dims(), [6, 4]);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another number of elements, several −1 or other negatives, −1 beside 0.
    pub fn reshape(&self, shape: impl Into<Extents>) -> Result<Var> {
        let shape = shape.into().reshaped(self.tensor())?;
        self.reshaped("reshape", self.tensor().reshape(shape)?)
    }

    /// Records a value that shares this one's elements.
    fn reshaped(&self, op: &'static str, value: Tensor) -> Result<Var> {
        let shape = self.shape().clone();
        self.derive_one(op, value, move |dy| dy.reshape(shape))
    }

    /// Drops `axis` if its extent is 1, as PyTorch does; else gives the same shape. Shares memory.
    ///
    /// # Errors
    /// An axis outside the rank.
    pub fn squeeze(&self, axis: isize) -> Result<Var> {
        self.reshaped("squeeze", self.tensor().squeeze(axis)?)
    }

    /// Inserts an axis of extent 1 that becomes `axis` of the result. Shares memory.
    ///
    /// # Errors
    /// An axis outside the new rank.
    pub fn unsqueeze(&self, axis: isize) -> Result<Var> {
        self.reshaped("unsqueeze", self.tensor().unsqueeze(axis)?)
    }

    /// Exchanges two axes.
    ///
    /// # Errors
    /// An axis outside the rank.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Var> {
        let axes = swapped(self.shape(), a, b)?;
        self.derive_one("transpose", permuted(self.tensor(), &axes)?, move |dy| permuted(&dy, &axes))
    }

    /// Reorders the axes: axis i of the result is axis `axes[i]` of this.
    ///
    /// # Errors
    /// Unless `axes` names each axis once.
    pub fn permute(&self, axes: &[isize]) -> Result<Var> {
        let axes = permutation(self.shape(), axes)?;
        self.derive_one("permute", permuted(self.tensor(), &axes)?, move |dy| permuted(&dy, &inverse(&axes)))
    }

    /// Stretches axes of extent 1 and adds leading ones, aligned at the end; −1 keeps an extent. The gradient is summed
    /// over the copies.
    ///
    /// # Errors
    /// A shape that this one does not stretch to.
    #[doc(alias = "broadcast_to")]
    pub fn expand(&self, shape: impl Into<Extents>) -> Result<Var> {
        let from = self.shape().clone();
        self.derive_one("expand", self.tensor().expand(shape)?, move |dy| sum_to(dy, &from))
    }
}
