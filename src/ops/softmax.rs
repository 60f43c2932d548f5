//! Softmax, its logarithm, and its normaliser.

use crate::{
    error::Result,
    kernel::{Binary, Reduce, Unary},
    ops::{
        elementwise::{binary, unary},
        reduce::{finite, reduce, reduced},
    },
    storage,
    tape::Var,
    tensor::Tensor,
};

impl Var {
    /// eˣ / Σ eˣ along `axis`, without overflow.
    ///
    /// # Errors
    /// An axis outside the rank, an integer dtype.
    pub fn softmax(&self, axis: isize) -> Result<Var> {
        self.normalize("softmax", false, axis)
    }

    /// x − ln Σ eˣ along `axis`, without overflow.
    ///
    /// # Errors
    /// An axis outside the rank, an integer dtype.
    pub fn log_softmax(&self, axis: isize) -> Result<Var> {
        self.normalize("log_softmax", true, axis)
    }

    fn normalize(&self, name: &'static str, log: bool, axis: isize) -> Result<Var> {
        let x = self.tensor();
        x.expect_float(name)?;
        let dims = x.shape().around(x.shape().axis(axis, name)?);
        let mut value = x.like(x.shape())?;
        if value.numel() > 0 {
            storage::softmax(log, dims, x.storage(), value.storage_mut()?)?;
        }
        let y = value.clone();
        self.derive_one(name, value, move |dy| {
            let mut dx = dy.like(dy.shape())?;
            if dx.numel() > 0 {
                storage::softmax_backward(log, dims, y.storage(), dy.storage(), dx.storage_mut()?)?;
            }
            Ok(dx)
        })
    }

    /// ln Σ eˣ along `axis`, which is kept with extent 1 or dropped; without overflow, −∞ where the axis is empty.
    ///
    /// # Errors
    /// An axis outside the rank, an integer dtype.
    pub fn logsumexp(&self, axis: isize, keepdim: bool) -> Result<Var> {
        const OP: &str = "logsumexp";
        let dtype = self.dtype();
        self.tensor().expect_float(OP)?;
        let shape = self.shape().clone();
        let axis = shape.axis(axis, OP)?;
        let kept = reduced(&shape, axis, true);
        let dims = shape.around(axis);

        let x = self.tensor().to_dtype(dtype.wide())?;
        // Held finite, so that x − max is not ∞ − ∞.
        let finite = finite(x.dtype());
        let max = unary(OP, finite, &reduce(Reduce::Max, dims, &x, &kept)?)?;
        let powers = unary(OP, Unary::Exp, &binary(OP, Binary::Sub, &x, &max)?)?;
        let log = unary(OP, Unary::Log, &reduce(Reduce::Sum, dims, &powers, &kept)?)?;
        let sum = binary(OP, Binary::Add, &log, &max)?;

        let value = sum.to_dtype(dtype)?.reshape(reduced(&shape, axis, keepdim))?;
        let x = self.tensor().clone();
        self.derive_one(OP, value, move |dy| {
            // The derivative is the softmax; NaN where both are the same infinity, as in PyTorch.
            let x = x.to_dtype(sum.dtype())?;
            let softmax = unary(OP, Unary::Exp, &binary(OP, Binary::Sub, &x, &sum)?)?;
            let dy: Tensor = dy.reshape(kept)?.to_dtype(sum.dtype())?;
            binary(OP, Binary::Mul, &softmax, &dy)?.to_dtype(dtype)
        })
    }
}
