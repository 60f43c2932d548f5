//! Arithmetic that broadcasts, functions of one argument, casts.

use smallvec::smallvec;

use crate::{
    dtype::DType,
    error::{Error, Result},
    kernel::{Binary, Unary},
    ops::reduce::sum_to,
    shape::Shape,
    storage,
    tape::Var,
    tensor::Tensor,
};

/// op(a, b), broadcast.
pub(crate) fn binary(name: &'static str, op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.expect_float(name)?;
    a.expect_kin(name, b)?;
    if a.shape() == b.shape() {
        let mut y = a.like(a.shape())?;
        storage::binary(op, &[y.numel()], (a.storage(), &[1]), (b.storage(), &[1]), y.storage_mut()?)?;
        return Ok(y);
    }
    let shape = Shape::broadcast(a.shape(), b.shape(), name)?;
    let (from_a, from_b) = (a.shape().broadcast_strides(&shape), b.shape().broadcast_strides(&shape));
    let mut y = a.like(&shape)?;
    if y.numel() > 0 {
        storage::binary(op, &shape, (a.storage(), &from_a), (b.storage(), &from_b), y.storage_mut()?)?;
    }
    Ok(y)
}

/// op(x)
pub(crate) fn unary(name: &'static str, op: Unary, x: &Tensor) -> Result<Tensor> {
    x.expect_float(name)?;
    let mut y = x.like(x.shape())?;
    storage::unary(op, x.storage(), y.storage_mut()?)?;
    Ok(y)
}

/// dy · op′, from x or from y: from whichever `saved` is.
pub(crate) fn unary_backward(op: Unary, saved: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let mut dx = dy.like(dy.shape())?;
    storage::unary_backward(op, saved.storage(), saved.storage(), dy.storage(), dx.storage_mut()?)?;
    Ok(dx)
}

/// factor · x
pub(crate) fn scaled(name: &'static str, x: Tensor, factor: f64) -> Result<Tensor> {
    // With + 0 a product of −0 would be 0.
    if factor == 1.0 { Ok(x) } else { unary(name, Unary::Affine { scale: factor, shift: -0.0 }, &x) }
}

/// Which of its two ends a derivative is computed from; only that one is kept.
enum Saves {
    Input,
    Output,
}

impl Var {
    /// `self + other`, broadcast.
    ///
    /// # Errors
    /// Shapes that do not broadcast, integer or differing dtypes, differing devices or tapes.
    pub fn add(&self, other: &Var) -> Result<Var> {
        self.linear_pair("add", Binary::Add, other, 1.0)
    }

    /// `self − other`, broadcast.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn sub(&self, other: &Var) -> Result<Var> {
        self.linear_pair("sub", Binary::Sub, other, -1.0)
    }

    fn linear_pair(&self, name: &'static str, op: Binary, other: &Var, sign: f64) -> Result<Var> {
        let value = binary(name, op, self.tensor(), other.tensor())?;
        let to_a = self.requires_grad().then(|| self.shape().clone());
        let to_b = other.requires_grad().then(|| other.shape().clone());
        self.derive(name, &[self, other], value, move |dy| {
            let da = to_a.map(|shape| sum_to(dy.clone(), &shape)).transpose()?;
            let db = to_b.map(|shape| scaled(name, sum_to(dy, &shape)?, sign)).transpose()?;
            Ok(smallvec![da, db])
        })
    }

    /// `self · other`, element by element, broadcast.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn mul(&self, other: &Var) -> Result<Var> {
        const OP: &str = "mul";
        let value = binary(OP, Binary::Mul, self.tensor(), other.tensor())?;
        if self.is(other) {
            // A square: both factors have the same gradient, which the tape adds twice.
            let factor = self.tensor().clone();
            return self.derive(OP, &[self, other], value, move |mut dy| {
                // In the memory of dy, where nobody else has that.
                let own = dy.sharers() == 1 && dy.expect_like(OP, &factor).is_ok();
                let gradient = if own && storage::mul_onto(factor.storage(), dy.storage_mut()?)? {
                    dy
                } else {
                    sum_to(binary(OP, Binary::Mul, &dy, &factor)?, factor.shape())?
                };
                Ok(smallvec![Some(gradient.clone()), Some(gradient)])
            });
        }
        // The gradient of each factor needs the other one.
        let for_a = self.requires_grad().then(|| (self.shape().clone(), other.tensor().clone()));
        let for_b = other.requires_grad().then(|| (other.shape().clone(), self.tensor().clone()));
        self.derive(OP, &[self, other], value, move |dy| {
            let gradient = |(shape, factor): (Shape, Tensor)| sum_to(binary(OP, Binary::Mul, &dy, &factor)?, &shape);
            Ok(smallvec![for_a.map(gradient).transpose()?, for_b.map(gradient).transpose()?])
        })
    }

    /// `self / other`, element by element, broadcast.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn div(&self, other: &Var) -> Result<Var> {
        const OP: &str = "div";
        let value = binary(OP, Binary::Div, self.tensor(), other.tensor())?;
        let to_a = self.requires_grad().then(|| self.shape().clone());
        let for_b = other.requires_grad().then(|| value.clone());
        let b = other.tensor().clone();
        self.derive(OP, &[self, other], value, move |dy| {
            let da = to_a.map(|shape| sum_to(binary(OP, Binary::Div, &dy, &b)?, &shape)).transpose()?;
            let db = for_b.map(|y| {
                // (y / b) · dy, in PyTorch's order: y · dy may overflow where this does not.
                let slope = binary(OP, Binary::Div, &y, &b)?;
                scaled(OP, sum_to(binary(OP, Binary::Mul, &slope, &dy)?, b.shape())?, -1.0)
            });
            Ok(smallvec![da, db.transpose()?])
        })
    }

    /// `self + value`.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn add_scalar(&self, value: f64) -> Result<Var> {
        self.affine("add_scalar", 1.0, value)
    }

    /// `self − value`.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn sub_scalar(&self, value: f64) -> Result<Var> {
        self.affine("sub_scalar", 1.0, -value)
    }

    /// `self · value`.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn mul_scalar(&self, value: f64) -> Result<Var> {
        self.affine("mul_scalar", value, -0.0)
    }

    /// `self / value`.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn div_scalar(&self, value: f64) -> Result<Var> {
        const OP: &str = "div_scalar";
        // Not by the reciprocal, which is rounded, and infinite for the least numbers.
        let op = Unary::Quotient(value);
        let value = unary(OP, op, self.tensor())?;
        self.derive_one(OP, value, move |dy| unary(OP, op, &dy))
    }

    fn affine(&self, name: &'static str, scale: f64, shift: f64) -> Result<Var> {
        let value = unary(name, Unary::Affine { scale, shift }, self.tensor())?;
        self.derive_one(name, value, move |dy| scaled(name, dy, scale))
    }

    /// −x
    ///
    /// # Errors
    /// An integer dtype.
    pub fn neg(&self) -> Result<Var> {
        let value = unary("neg", Unary::Neg, self.tensor())?;
        self.derive_one("neg", value, |dy| unary("neg", Unary::Neg, &dy))
    }

    /// eˣ
    ///
    /// # Errors
    /// An integer dtype.
    pub fn exp(&self) -> Result<Var> {
        self.function("exp", Unary::Exp, Saves::Output)
    }

    /// ln x; NaN below 0.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn log(&self) -> Result<Var> {
        self.function("log", Unary::Log, Saves::Input)
    }

    /// √x; NaN below 0.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn sqrt(&self) -> Result<Var> {
        self.function("sqrt", Unary::Sqrt, Saves::Output)
    }

    /// |x|, whose derivative at 0 is 0.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn abs(&self) -> Result<Var> {
        self.function("abs", Unary::Abs, Saves::Input)
    }

    /// xᵖ (PyTorch's `pow`); for p = 0 the derivative is 0 everywhere.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn powf(&self, exponent: f64) -> Result<Var> {
        const OP: &str = "powf";
        if exponent == 0.0 {
            // p·xᵖ⁻¹ would be 0·∞ at 0.
            let value = unary(OP, Unary::Powf(0.0), self.tensor())?;
            return self.derive_one(OP, value, |dy| Tensor::zeros(dy.shape(), dy.dtype(), &dy.device()));
        }
        if exponent == 0.5 {
            // As in PyTorch, and C's pow differs: its (−∞)^½ is ∞.
            return self.function(OP, Unary::Sqrt, Saves::Output);
        }
        self.function(OP, Unary::Powf(exponent), Saves::Input)
    }

    /// tanh x
    ///
    /// # Errors
    /// An integer dtype.
    pub fn tanh(&self) -> Result<Var> {
        self.function("tanh", Unary::Tanh, Saves::Output)
    }

    /// 1 / (1 + e⁻ˣ)
    ///
    /// # Errors
    /// An integer dtype.
    pub fn sigmoid(&self) -> Result<Var> {
        self.function("sigmoid", Unary::Sigmoid, Saves::Output)
    }

    /// max(x, 0), whose derivative at 0 is 0.
    ///
    /// # Errors
    /// An integer dtype.
    pub fn relu(&self) -> Result<Var> {
        self.function("relu", Unary::Relu, Saves::Output)
    }

    /// x held inside `[low, high]`; an infinite bound does not bind. The gradient passes inside, ends included. With
    /// `low > high` everything is `high`, as in PyTorch.
    ///
    /// # Errors
    /// A bound that is NaN, an integer dtype.
    pub fn clamp(&self, low: f64, high: f64) -> Result<Var> {
        if low.is_nan() || high.is_nan() {
            return Err(Error::argument("clamp", format!("[{low}, {high}]"), "bounds that are numbers"));
        }
        self.function("clamp", Unary::Clamp { low, high }, Saves::Input)
    }

    fn function(&self, name: &'static str, op: Unary, saves: Saves) -> Result<Var> {
        let value = unary(name, op, self.tensor())?;
        let saved = match saves {
            Saves::Input => self.tensor().clone(),
            Saves::Output => value.clone(),
        };
        self.derive_one(name, value, move |dy| unary_backward(op, &saved, &dy))
    }

    /// The same numbers in another dtype (PyTorch's `to`). Between floats the gradient is cast back; from or to integers
    /// there is none.
    pub fn to_dtype(&self, dtype: DType) -> Result<Var> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let value = self.tensor().to_dtype(dtype)?;
        if !dtype.is_float() {
            return Ok(self.tape().constant(value));
        }
        let from = self.dtype();
        self.derive_one("to_dtype", value, move |dy| dy.to_dtype(from))
    }
}
