//! Sums, means and maxima, over everything or over one axis.

use crate::{
    dtype::{DType, bf16, f16},
    error::{Error, Result},
    kernel::{Binary, Reduce, Unary},
    ops::elementwise::{binary, scaled, unary, unary_backward},
    shape::{Shape, extent},
    storage,
    tape::Var,
    tensor::Tensor,
};

type Dims = (usize, usize, usize);

/// Reduces the middle of `[outer, n, inner]` into a tensor of `shape`.
pub(crate) fn reduce(op: Reduce, dims: Dims, x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let mut y = x.like(shape)?;
    if y.numel() > 0 {
        storage::reduce(op, dims, x.storage(), y.storage_mut()?)?;
    }
    Ok(y)
}

/// Holds numbers of a dtype inside its finite range.
pub(crate) fn finite(dtype: DType) -> Unary {
    let high = match dtype {
        DType::F16 => f16::MAX.to_f64(),
        DType::BF16 => bf16::MAX.to_f64(),
        DType::F32 => f64::from(f32::MAX),
        _ => f64::MAX,
    };
    Unary::Clamp { low: -high, high }
}

/// Sums a gradient of a broadcast result over the axes along which the input was stretched.
pub(crate) fn sum_to(mut gradient: Tensor, shape: &Shape) -> Result<Tensor> {
    if gradient.shape() == shape {
        return Ok(gradient);
    }
    let mut dims = gradient.dims().to_vec();
    let lead = dims.len() - shape.rank();
    let stretched: Vec<bool> =
        dims.iter().enumerate().map(|(i, &d)| i < lead || (shape[i - lead] == 1 && d != 1)).collect();
    // Neighbouring stretched axes go in one reduction. Several round once, at their end.
    let dtype = gradient.dtype();
    let runs = (0..dims.len()).filter(|&i| stretched[i] && (i == 0 || !stretched[i - 1])).count();
    if runs > 1 {
        gradient = gradient.to_dtype(dtype.wide())?;
    }
    let mut end = dims.len();
    while end > 0 {
        let start = stretched[..end].iter().rposition(|&s| !s).map_or(0, |i| i + 1);
        if start == end {
            end -= 1;
            continue;
        }
        let view = (extent(&dims[..start]), extent(&dims[start..end]), extent(&dims[end..]));
        dims[start..end].fill(1);
        gradient = reduce(Reduce::Sum, view, &gradient, dims.as_slice())?;
        end = start;
    }
    gradient.to_dtype(dtype)?.reshape(shape)
}

/// The shape after reducing `axis`.
pub(crate) fn reduced(shape: &Shape, axis: usize, keepdim: bool) -> Shape {
    if keepdim { shape.with(axis, 1) } else { shape.without(axis) }
}

fn arg_max(op: &'static str, x: &Tensor, axis: usize, shape: Shape) -> Result<Tensor> {
    x.expect_float(op)?;
    let dims = x.shape().around(axis);
    if dims.1 == 0 {
        return Err(Error::shape(op, format!("axis {axis} of {}", x.shape()), "an axis with elements"));
    }
    let mut index = Tensor::uninit(shape, DType::I64, x.device())?;
    if index.numel() > 0 {
        storage::arg_max(dims, x.storage(), index.storage_mut()?)?;
    }
    Ok(index)
}

impl Tensor {
    /// The indices (int64) of the maxima along `axis`, which is dropped: the first where several are equal; a NaN counts
    /// as the maximum.
    ///
    /// # Errors
    /// An axis outside the rank or without elements, an integer dtype.
    pub fn argmax(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis(axis, "argmax")?;
        arg_max("argmax", self, axis, self.shape().without(axis))
    }
}

impl Var {
    /// The sum of all elements, a scalar; 0 for none.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn sum(&self) -> Result<Var> {
        self.total("sum", Reduce::Sum)
    }

    /// The mean of all elements, a scalar; NaN for none.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn mean(&self) -> Result<Var> {
        self.total("mean", Reduce::Mean)
    }

    fn total(&self, name: &'static str, op: Reduce) -> Result<Var> {
        self.tensor().expect_float(name)?;
        let shape = self.shape().clone();
        let n = self.tensor().numel();
        let value = reduce(op, (1, n, 1), self.tensor(), ())?;
        let factor = if op == Reduce::Mean { 1.0 / n as f64 } else { 1.0 };
        self.derive_one(name, value, move |dy| scaled(name, dy, factor)?.expanded(&shape))
    }

    /// The sum along `axis`, which is kept with extent 1 or dropped; 0 where the axis is empty.
    ///
    /// # Errors
    /// An axis outside the rank, an integer dtype.
    pub fn sum_axis(&self, axis: isize, keepdim: bool) -> Result<Var> {
        self.along("sum_axis", Reduce::Sum, axis, keepdim)
    }

    /// The mean along `axis`, which is kept with extent 1 or dropped; NaN where the axis is empty.
    ///
    /// # Errors
    /// An axis outside the rank, an integer dtype.
    pub fn mean_axis(&self, axis: isize, keepdim: bool) -> Result<Var> {
        self.along("mean_axis", Reduce::Mean, axis, keepdim)
    }

    fn along(&self, name: &'static str, op: Reduce, axis: isize, keepdim: bool) -> Result<Var> {
        self.tensor().expect_float(name)?;
        let shape = self.shape().clone();
        let axis = shape.axis(axis, name)?;
        let dims = shape.around(axis);
        let value = reduce(op, dims, self.tensor(), reduced(&shape, axis, keepdim))?;
        let factor = if op == Reduce::Mean { 1.0 / dims.1 as f64 } else { 1.0 };
        self.derive_one(name, value, move |dy| {
            scaled(name, dy, factor)?.reshape(reduced(&shape, axis, true))?.expanded(&shape)
        })
    }

    /// The maximum of all elements, a scalar; NaN if any is NaN. The gradient is shared evenly among equal maxima, or NaNs.
    ///
    /// # Errors
    /// No elements, an integer dtype.
    pub fn max(&self) -> Result<Var> {
        const OP: &str = "max";
        let x = self.tensor().clone();
        x.expect_float(OP)?;
        if x.numel() == 0 {
            return Err(Error::shape(OP, x.shape(), "at least one element"));
        }
        let value = reduce(Reduce::Max, (1, x.numel(), 1), &x, ())?;
        let max = value.clone();
        self.derive_one(OP, value, move |dy| {
            // The derivative of relu is taken of max − x: 0 at the maxima and 1 elsewhere, but at a NaN what flows back, and there all of it
            // is NaN where one x is. So what flows back is 0 at the NaNs, as the derivative of a clamp. Held finite first: ∞ − ∞ is no 0.
            let all = Unary::Clamp { low: f64::NEG_INFINITY, high: f64::INFINITY };
            let numbers = unary_backward(all, &x, &Tensor::ones(x.shape(), x.dtype(), &x.device())?)?;
            let finite = finite(x.dtype());
            let below = binary(OP, Binary::Sub, &unary(OP, finite, &max)?, &unary(OP, finite, &x)?)?;
            let others = unary_backward(Unary::Relu, &below, &numbers)?;
            let mask = unary(OP, Unary::Affine { scale: -1.0, shift: 1.0 }, &others)?;
            // A count of ties has more digits than a half-precision number.
            let real = x.dtype().wide();
            let count = reduce(Reduce::Sum, (1, x.numel(), 1), &mask.to_dtype(real)?, ())?;
            let share = binary(OP, Binary::Div, &dy.to_dtype(real)?, &count)?.to_dtype(dy.dtype())?;
            binary(OP, Binary::Mul, &mask, &share)
        })
    }

    /// The maxima along `axis`, which is kept with extent 1 or dropped, and their indices (int64), as
    /// [`Tensor::argmax`] gives them. The gradient goes to the element at the index.
    ///
    /// # Errors
    /// An axis outside the rank or without elements, an integer dtype.
    pub fn max_axis(&self, axis: isize, keepdim: bool) -> Result<(Var, Tensor)> {
        const OP: &str = "max_axis";
        let shape = self.shape().clone();
        let axis = shape.axis(axis, OP)?;
        let index = arg_max(OP, self.tensor(), axis, reduced(&shape, axis, keepdim))?;
        let dims = shape.around(axis);
        let value = reduce(Reduce::Max, dims, self.tensor(), index.shape())?;
        let at = index.clone();
        let values = self.derive_one(OP, value, move |dy| {
            let mut dx = dy.like(&shape)?;
            storage::scatter_axis(dims, at.storage(), dy.storage(), dx.storage_mut()?)?;
            Ok(dx)
        })?;
        Ok((values, index))
    }

    /// [`Tensor::argmax`] of the value: the indices (int64) of the maxima along `axis`, which is dropped.
    ///
    /// # Errors
    /// An axis outside the rank or without elements, an integer dtype.
    pub fn argmax(&self, axis: isize) -> Result<Tensor> {
        self.tensor().argmax(axis)
    }
}
