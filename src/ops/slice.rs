//! Operations that take tensors apart and put them together.

use std::borrow::Borrow;

use crate::{
    error::{Error, Result},
    ops::{
        extents::signed,
        shape::{copy, new_axis, with_axis},
    },
    shape::Shape,
    tape::Var,
    tensor::Tensor,
};

/// Copies `part` into `whole` at `start` of the axis. `part` may lack the axis where its extent there would be 1.
fn put(part: &Tensor, whole: &mut Tensor, axis: usize, start: usize) -> Result<()> {
    if part.numel() == 0 {
        return Ok(());
    }
    let (outer, n, inner) = whole.shape().around(axis);
    let row = part.numel() / outer;
    copy(&[outer, row], part, (&[row, 1], 0), whole, (&[n * inner, 1], start * inner))
}

/// `start..start + len` of an axis that has been checked; without the axis if `drop`.
fn slice(op: &'static str, x: &Tensor, axis: usize, start: usize, len: usize, drop: bool) -> Result<Tensor> {
    let (outer, n, inner) = x.shape().around(axis);
    if start.checked_add(len).is_none_or(|end| end > n) {
        return Err(Error::shape(
            op,
            format!("{len} from {start} along axis {axis} of {}", x.shape()),
            format!("a stretch of 0..{n}"),
        ));
    }
    let shape = if drop { x.shape().without(axis) } else { x.shape().with(axis, len) };
    if len == n {
        return x.reshape(shape);
    }
    let mut y = x.like(shape)?;
    if y.numel() > 0 {
        let row = len * inner;
        copy(&[outer, row], x, (&[n * inner, 1], start * inner), &mut y, (&[row, 1], 0))?;
    }
    Ok(y)
}

/// The axis and the index of [`Var::select`], counted from the front.
fn selected(shape: &Shape, axis: isize, index: isize) -> Result<(usize, usize)> {
    let axis = shape.axis(axis, "select")?;
    let n = signed(shape[axis]);
    if !(-n..n).contains(&index) {
        return Err(Error::argument(
            "select",
            format!("index {index} of axis {axis} of {shape}"),
            format!("an index in {}..{n}", -n),
        ));
    }
    Ok((axis, if index < 0 { index + n } else { index } as usize))
}

/// The checked axis and the resulting shape of a concatenation.
fn joined(parts: &[&Tensor], axis: isize) -> Result<(usize, Shape)> {
    const OP: &str = "concat";
    let Some((&first, rest)) = parts.split_first() else {
        return Err(Error::shape(OP, "no tensors", "one or more"));
    };
    let axis = first.shape().axis(axis, OP)?;
    let mut extent = first.dims()[axis];
    for part in rest {
        first.expect_kin(OP, part)?;
        if part.rank() != first.rank() || part.shape().with(axis, 0) != first.shape().with(axis, 0) {
            return Err(Error::shape(
                OP,
                format!("{} and {}", first.shape(), part.shape()),
                format!("shapes that differ along axis {axis} alone"),
            ));
        }
        extent = extent
            .checked_add(part.dims()[axis])
            .ok_or_else(|| Error::shape(OP, "extents beyond usize", "a sum of extents that fits"))?;
    }
    Ok((axis, first.shape().with(axis, extent)))
}

/// Shares memory where a result is all of the elements; else copies. Of any dtype.
impl Tensor {
    /// `len` elements from `start` along `axis`.
    ///
    /// # Errors
    /// An axis outside the rank, a stretch beyond the axis.
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Result<Tensor> {
        slice("narrow", self, self.shape().axis(axis, "narrow")?, start, len, false)
    }

    /// The slice at `index` (from the end if negative) of `axis`, which is dropped.
    ///
    /// # Errors
    /// An axis outside the rank, an index outside the axis.
    pub fn select(&self, axis: isize, index: isize) -> Result<Tensor> {
        let (axis, index) = selected(self.shape(), axis, index)?;
        slice("select", self, axis, index, 1, true)
    }

    /// Joins tensors along an axis (PyTorch's `cat`).
    ///
    /// # Errors
    /// No tensors, an axis outside the rank, shapes that differ along another axis, differing dtypes or devices.
    pub fn concat<P: Borrow<Tensor>>(parts: &[P], axis: isize) -> Result<Tensor> {
        let parts: Vec<&Tensor> = parts.iter().map(Borrow::borrow).collect();
        let (axis, shape) = joined(&parts, axis)?;
        if let [one] = parts[..] {
            return Ok(one.clone());
        }
        let mut y = parts[0].like(shape)?;
        let mut start = 0;
        for part in parts {
            put(part, &mut y, axis, start)?;
            start += part.dims()[axis];
        }
        Ok(y)
    }

    /// Joins tensors of one shape along a new axis.
    ///
    /// # Errors
    /// No tensors, an axis outside the new rank, differing shapes, dtypes or devices.
    pub fn stack<P: Borrow<Tensor>>(parts: &[P], axis: isize) -> Result<Tensor> {
        let parts: Vec<&Tensor> = parts.iter().map(Borrow::borrow).collect();
        let Some(&first) = parts.first() else {
            return Err(Error::shape("stack", "no tensors", "one or more"));
        };
        parts.iter().try_for_each(|part| first.expect_like("stack", part))?;
        let parts = parts.iter().map(|part| with_axis("stack", part, axis)).collect::<Result<Vec<_>>>()?;
        let axis = new_axis("stack", first.shape(), axis)?;
        Tensor::concat(&parts, signed(axis))
    }
}

/// `Err` for more parts than a list of them could have, as only a tensor without elements may have.
fn expect_listed(op: &'static str, parts: usize) -> Result<()> {
    if parts <= u32::MAX as usize {
        Ok(())
    } else {
        Err(Error::argument(op, format!("{parts} parts"), format!("at most {}", u32::MAX)))
    }
}

impl Var {
    /// `len` elements from `start` along `axis`.
    ///
    /// # Errors
    /// An axis outside the rank, a stretch beyond the axis.
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Result<Var> {
        let value = self.tensor().narrow(axis, start, len)?;
        let axis = self.shape().axis(axis, "narrow")?;
        self.sliced("narrow", value, axis, start)
    }

    /// The slice at `index` (from the end if negative) of `axis`, which is dropped.
    ///
    /// # Errors
    /// An axis outside the rank, an index outside the axis.
    pub fn select(&self, axis: isize, index: isize) -> Result<Var> {
        let value = self.tensor().select(axis, index)?;
        let (axis, index) = selected(self.shape(), axis, index)?;
        self.sliced("select", value, axis, index)
    }

    /// Records a value that is a stretch of this one.
    fn sliced(&self, op: &'static str, value: Tensor, axis: usize, start: usize) -> Result<Var> {
        let shape = self.shape().clone();
        self.derive_one(op, value, move |dy| {
            if dy.numel() == shape.numel() {
                return dy.reshape(shape);
            }
            let mut dx = Tensor::zeros(shape, dy.dtype(), &dy.device())?;
            put(&dy, &mut dx, axis, start)?;
            Ok(dx)
        })
    }

    /// Joins along an axis (PyTorch's `cat`).
    ///
    /// # Errors
    /// No parts, an axis outside the rank, shapes that differ along another axis, differing dtypes, devices or tapes.
    pub fn concat<P: Borrow<Var>>(parts: &[P], axis: isize) -> Result<Var> {
        let parts: Vec<&Var> = parts.iter().map(Borrow::borrow).collect();
        let value = Tensor::concat(&parts.iter().map(|p| p.tensor()).collect::<Vec<_>>(), axis)?;
        Var::joined("concat", &parts, value, axis, false)
    }

    /// Joins parts of one shape along a new axis: the outputs of a cell's steps to a sequence, say.
    ///
    /// ```
    /// use gatefold::{DType, Device, Tape, Tensor, Var};
    /// let tape = Tape::no_grad();
    /// let steps: Vec<Var> = (0..3).map(|_| Ok(tape.constant(Tensor::zeros([2, 4], DType::F32, &Device::Cpu)?))).collect::<gatefold::Result<_>>()?;
    /// assert_eq!(Var::stack(&steps, 0)?.dims(), [3, 2, 4]); // (T, B, H)
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// No parts, an axis outside the new rank, differing shapes, dtypes, devices or tapes.
    pub fn stack<P: Borrow<Var>>(parts: &[P], axis: isize) -> Result<Var> {
        let parts: Vec<&Var> = parts.iter().map(Borrow::borrow).collect();
        let value = Tensor::stack(&parts.iter().map(|p| p.tensor()).collect::<Vec<_>>(), axis)?;
        Var::joined("stack", &parts, value, axis, true)
    }

    /// Records a value that is its parts one behind the other; each lacks the axis if it is `new`.
    fn joined(op: &'static str, parts: &[&Var], value: Tensor, axis: isize, new: bool) -> Result<Var> {
        let axis = value.shape().axis(axis, op)?;
        let lens: Vec<_> = parts.iter().map(|p| (p.requires_grad(), if new { 1 } else { p.dims()[axis] })).collect();
        // The shapes have been checked, so there is a first part.
        parts[0].derive(op, parts, value, move |dy| {
            let mut start = 0;
            let gradient = |(wanted, len)| {
                let dx = if wanted { Some(slice(op, &dy, axis, start, len, new)?) } else { None };
                start += len;
                Ok(dx)
            };
            lens.into_iter().map(gradient).collect()
        })
    }

    /// Splits into `chunks` stretches of `axis`, all of one length but for a shorter last one; as in PyTorch there are
    /// fewer of them where that length does not leave enough, but of an empty axis all. One entry on the tape, however many.
    ///
    /// # Errors
    /// No chunks, more than 65,536 of an empty axis, an axis outside the rank.
    pub fn chunk(&self, chunks: usize, axis: isize) -> Result<Vec<Var>> {
        const OP: &str = "chunk";
        let axis = self.shape().axis(axis, OP)?;
        if chunks == 0 {
            return Err(Error::argument(OP, "0 chunks", "one or more"));
        }
        let n = self.dims()[axis];
        let len = n.div_ceil(chunks).max(1);
        let count = if n == 0 { chunks } else { n.div_ceil(len) };
        // Parts of nothing cost memory too.
        if n == 0 && count > 1 << 16 {
            return Err(Error::argument(OP, format!("{count} chunks of an empty axis"), "at most 65536"));
        }
        expect_listed(OP, count)?;
        let stretch = |i: usize| if n == 0 { (0, 0) } else { (i * len, len.min(n - i * len)) };
        self.apart(OP, axis, (0..count).map(stretch).collect(), false)
    }

    /// The slices along `axis`, which is dropped: one [`select`](Self::select) per index, and one entry on the tape for
    /// them all.
    ///
    /// # Errors
    /// An axis outside the rank or of more than 2³² slices.
    pub fn unbind(&self, axis: isize) -> Result<Vec<Var>> {
        const OP: &str = "unbind";
        let axis = self.shape().axis(axis, OP)?;
        let n = self.dims()[axis];
        expect_listed(OP, n)?;
        self.apart(OP, axis, (0..n).map(|i| (i, 1)).collect(), true)
    }

    /// Cuts `axis` into stretches (start, length) that cover it.
    fn apart(&self, op: &'static str, axis: usize, parts: Vec<(usize, usize)>, drop: bool) -> Result<Vec<Var>> {
        let values = parts
            .iter()
            .map(|&(start, len)| slice(op, self.tensor(), axis, start, len, drop))
            .collect::<Result<Vec<_>>>()?;
        let (x, dtype, device) = (self.shape().clone(), self.dtype(), self.device());
        self.tape().record_own(op, &[self], values, move |gradients| {
            // A part that nothing flowed back to leaves zeros.
            let mut dx = if gradients.iter().any(Option::is_none) {
                Tensor::zeros(x, dtype, &device)?
            } else {
                Tensor::uninit(x, dtype, device)?
            };
            for (dy, (start, _)) in gradients.iter().zip(parts) {
                if let Some(dy) = dy {
                    put(dy, &mut dx, axis, start)?;
                }
            }
            Ok(vec![Some(dx)])
        })
    }
}
