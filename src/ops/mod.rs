//! Differentiable operations: a file per family, forward and backward side by side.
//!
//! They are methods on [`Var`]; those that only move elements are methods on [`Tensor`] too, for any dtype. Arithmetic
//! wants floating-point tensors of one dtype on one device and gives an `Err` otherwise; nothing is converted silently.
//! Half-precision numbers are computed with in f32 and rounded where they are stored.
//!
//! ```
//! use gatefold::{Device, Tape, Tensor};
//! let tape = Tape::new();
//! let scores = tape.variable(Tensor::new([[1.0f32, 2.0, 3.0], [0.0, 0.0, 0.0]], &Device::Cpu)?);
//! let p = scores.softmax(-1)?;
//! p.narrow(1, 0, 1)?.log()?.neg()?.sum()?.backward()?;
//! let gradient = scores.grad().unwrap(); // softmax − one-hot
//! assert_eq!(gradient.dims(), [2, 3]);
//! assert!((gradient.select(0, 1)?.to_vec::<f32>()?[0] + 2.0 / 3.0).abs() < 1e-6);
//! # Ok::<(), gatefold::Error>(())
//! ```

mod dropout;
pub(crate) mod elementwise;
mod extents;
mod index;
mod mask;
mod matmul;
pub(crate) mod recurrent;
pub(crate) mod reduce;
mod shape;
mod slice;
mod softmax;

pub use extents::Extents;
pub use mask::Operand;

use smallvec::smallvec;

use crate::{
    error::Result,
    tape::{Gradients, Var},
    tensor::Tensor,
};

impl Var {
    /// Records an operation of one output; `self` is one of the inputs.
    pub(crate) fn derive(
        &self,
        op: &'static str,
        inputs: &[&Var],
        value: Tensor,
        backward: impl FnOnce(Tensor) -> Result<Gradients> + 'static,
    ) -> Result<Var> {
        self.tape().record_one(op, inputs, value, backward)
    }

    /// Records an operation of one input and one output.
    pub(crate) fn derive_one(
        &self,
        op: &'static str,
        value: Tensor,
        backward: impl FnOnce(Tensor) -> Result<Tensor> + 'static,
    ) -> Result<Var> {
        self.derive(op, &[self], value, |dy| Ok(smallvec![Some(backward(dy)?)]))
    }
}
