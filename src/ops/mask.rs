//! Comparisons, and choices by what they find. A mask is a tensor of uint8: an element of it that is not 0 says yes.

use smallvec::smallvec;

use crate::{
    dtype::{DType, Element, with_dtype},
    error::{Error, Result},
    kernel::Compare,
    ops::reduce::sum_to,
    shape::Shape,
    storage,
    tape::Var,
    tensor::Tensor,
};

/// What a tensor is compared with: a tensor, a value on a tape, or a number.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// A tensor of the same dtype on the same device; both broadcast.
    Tensor(&'a Tensor),
    /// A number, rounded to the dtype that it is compared in.
    Number(f64),
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Operand::Tensor(tensor)
    }
}

impl<'a> From<&'a Var> for Operand<'a> {
    fn from(var: &'a Var) -> Self {
        Operand::Tensor(var.tensor())
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl From<$t> for Operand<'_> {
            fn from(number: $t) -> Self {
                Operand::Number(number.into())
            }
        }
    )*};
}
// Those that f64 holds.
numbers!(f64, f32, i32, u32, u8);

fn compare(name: &'static str, op: Compare, a: &Tensor, b: Operand<'_>) -> Result<Tensor> {
    let number;
    let b = match b {
        Operand::Tensor(b) => b,
        Operand::Number(value) => {
            number = scalar(name, value, a)?;
            &number
        }
    };
    a.expect_kin(name, b)?;
    let shape = Shape::broadcast(a.shape(), b.shape(), name)?;
    let (from_a, from_b) = (a.shape().broadcast_strides(&shape), b.shape().broadcast_strides(&shape));
    let mut y = Tensor::uninit(&shape, DType::U8, a.device())?;
    if y.numel() > 0 {
        storage::compare(op, &shape, (a.storage(), &from_a), (b.storage(), &from_b), y.storage_mut()?)?;
    }
    Ok(y)
}

fn expect_mask(name: &'static str, mask: &Tensor, x: &Tensor) -> Result<()> {
    if mask.dtype() != DType::U8 {
        return Err(Error::dtype(name, mask.dtype(), "a mask of uint8"));
    }
    if mask.device() == x.device() { Ok(()) } else { Err(Error::device(name, mask.device(), x.device())) }
}

/// a where the mask is not 0, b elsewhere; all three broadcast.
fn select(name: &'static str, mask: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_mask(name, mask, a)?;
    a.expect_kin(name, b)?;
    let shape = Shape::broadcast(&Shape::broadcast(mask.shape(), a.shape(), name)?, b.shape(), name)?;
    let [by, from_a, from_b] = [mask, a, b].map(|x| x.shape().broadcast_strides(&shape));
    let mut y = a.like(&shape)?;
    if y.numel() > 0 {
        let (mask, a, b) = ((mask.storage(), &*by), (a.storage(), &*from_a), (b.storage(), &*from_b));
        storage::select(&shape, mask, a, b, y.storage_mut()?)?;
    }
    Ok(y)
}

/// A number beside a tensor; `Err` where it would be another one as an integer. The device is not asked.
fn scalar(name: &'static str, value: f64, like: &Tensor) -> Result<Tensor> {
    let dtype = like.dtype();
    let held = with_dtype!(dtype, T => <T as Element>::from_f64(value).to_f64() == value);
    // 2⁶³ is the nearest number of f64 to the greatest of int64, and is none of them.
    if !dtype.is_float() && (!held || value >= 2f64.powi(63)) {
        return Err(Error::argument(name, value, format!("a number that {dtype} holds")));
    }
    Tensor::full((), value, dtype, &like.device())
}

fn filled(x: &Tensor, mask: &Tensor, value: f64) -> Result<Tensor> {
    const OP: &str = "masked_fill";
    expect_mask(OP, mask, x)?;
    // As in PyTorch, x keeps its shape.
    if Shape::broadcast(x.shape(), mask.shape(), OP)? != *x.shape() {
        return Err(Error::shape(OP, mask.shape(), format!("a mask that broadcasts to {}", x.shape())));
    }
    select(OP, mask, &scalar(OP, value, x)?, x)
}

/// Comparisons give a mask: uint8, 1 where they hold and 0 elsewhere. With a NaN all but [`ne`](Tensor::ne) are 0.
impl Tensor {
    /// `self == other`, element by element, broadcast.
    ///
    /// ```
    /// use gatefold::{Device, Tensor};
    /// let x = Tensor::new([1.0f32, 2.0, 3.0], &Device::Cpu)?;
    /// assert_eq!(x.eq(2)?.to_vec::<u8>()?, [0, 1, 0]);
    /// assert_eq!(x.ge(&x.flip(0)?)?.to_vec::<u8>()?, [0, 1, 1]);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not broadcast, differing dtypes or devices, a number that an integer dtype does not hold.
    pub fn eq<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        compare("eq", Compare::Eq, self, other.into())
    }

    /// `self != other`, as [`eq`](Self::eq).
    ///
    /// # Errors
    /// As there.
    pub fn ne<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        compare("ne", Compare::Ne, self, other.into())
    }

    /// `self < other`, as [`eq`](Self::eq).
    ///
    /// # Errors
    /// As there.
    pub fn lt<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        compare("lt", Compare::Lt, self, other.into())
    }

    /// `self <= other`, as [`eq`](Self::eq).
    ///
    /// # Errors
    /// As there.
    pub fn le<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        compare("le", Compare::Le, self, other.into())
    }

    /// `self > other`, as [`eq`](Self::eq).
    ///
    /// # Errors
    /// As there.
    pub fn gt<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        compare("gt", Compare::Gt, self, other.into())
    }

    /// `self >= other`, as [`eq`](Self::eq).
    ///
    /// # Errors
    /// As there.
    pub fn ge<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        compare("ge", Compare::Ge, self, other.into())
    }

    /// 1 where the mask is 0, and 0 elsewhere.
    ///
    /// # Errors
    /// Another dtype than uint8.
    pub fn logical_not(&self) -> Result<Tensor> {
        expect_mask("logical_not", self, self)?;
        compare("logical_not", Compare::Eq, self, Operand::Number(0.0))
    }

    /// 1 where neither mask is 0, broadcast.
    ///
    /// # Errors
    /// Another dtype than uint8, shapes that do not broadcast, differing devices.
    pub fn logical_and(&self, other: &Tensor) -> Result<Tensor> {
        const OP: &str = "logical_and";
        expect_mask(OP, other, self)?;
        select(OP, self, &compare(OP, Compare::Ne, other, Operand::Number(0.0))?, &scalar(OP, 0.0, other)?)
    }

    /// 1 where one of the masks is not 0, or both, broadcast.
    ///
    /// # Errors
    /// As [`logical_and`](Self::logical_and).
    pub fn logical_or(&self, other: &Tensor) -> Result<Tensor> {
        const OP: &str = "logical_or";
        expect_mask(OP, other, self)?;
        select(OP, self, &scalar(OP, 1.0, other)?, &compare(OP, Compare::Ne, other, Operand::Number(0.0))?)
    }

    /// `self` where the mask is not 0, `other` elsewhere, all three broadcast (PyTorch's `self.where(mask, other)`, not a method of the mask
    /// as in candle); of any dtype.
    ///
    /// # Errors
    /// A mask that is not of uint8, shapes that do not broadcast, differing dtypes or devices.
    pub fn where_cond(&self, mask: &Tensor, other: &Tensor) -> Result<Tensor> {
        select("where_cond", mask, self, other)
    }

    /// `value` where the mask is not 0, `self` elsewhere; the mask broadcasts to the shape of `self`. Of any dtype.
    ///
    /// # Errors
    /// A mask that is not of uint8 or does not broadcast to the shape, differing devices, a number that an integer dtype does not hold.
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Result<Tensor> {
        filled(self, mask, value)
    }
}

impl Var {
    /// `self` where the mask is not 0, `other` elsewhere, all three broadcast (PyTorch's `self.where(mask, other)`). What is not
    /// chosen gets no gradient, even where that would be infinite or NaN.
    ///
    /// # Errors
    /// A mask that is not of uint8, shapes that do not broadcast, integer or differing dtypes, differing devices or tapes.
    pub fn where_cond(&self, mask: &Tensor, other: &Var) -> Result<Var> {
        const OP: &str = "where_cond";
        self.tensor().expect_float(OP)?;
        let value = select(OP, mask, self.tensor(), other.tensor())?;
        let to_a = self.requires_grad().then(|| self.shape().clone());
        let to_b = other.requires_grad().then(|| other.shape().clone());
        let mask = mask.clone();
        self.derive(OP, &[self, other], value, move |dy| {
            let zero = scalar(OP, 0.0, &dy)?;
            let da = to_a.map(|shape| sum_to(select(OP, &mask, &dy, &zero)?, &shape)).transpose()?;
            let db = to_b.map(|shape| sum_to(select(OP, &mask, &zero, &dy)?, &shape)).transpose()?;
            Ok(smallvec![da, db])
        })
    }

    /// `value` where the mask is not 0, `self` elsewhere; the mask broadcasts to the shape of `self`. There is no gradient where it is filled.
    ///
    /// Attention over the states of a bidirectional layer, in which padding has no weight:
    /// ```
    /// use gatefold::{Device, Philox, Tape, Tensor, DType, nn::{Linear, length_mask}};
    /// let (seq, batch, hidden) = (4, 2, 3);
    /// let mut rng = Philox::seed(1);
    /// let states = Tensor::normal([seq, batch, hidden], 0.0, 1.0, DType::F32, &Device::Cpu, &mut rng)?;
    /// let states = Tape::new().constant(states);
    /// let scores = Linear::new(hidden, 1).init(&Device::Cpu, &mut rng)?.forward(&states)?.squeeze(-1)?;
    /// let padding = length_mask(&[4, 2], seq, false, &Device::Cpu)?.logical_not()?;
    /// let weights = scores.masked_fill(&padding, f64::NEG_INFINITY)?.softmax(0)?;
    /// let context = states.mul(&weights.unsqueeze(-1)?)?.sum_axis(0, false)?;
    /// assert_eq!(context.dims(), [batch, hidden]);
    /// assert_eq!(weights.tensor().select(1, 1)?.to_vec::<f32>()?[2..], [0.0, 0.0]);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// A mask that is not of uint8 or does not broadcast to the shape, differing devices, an integer dtype.
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Result<Var> {
        const OP: &str = "masked_fill";
        self.tensor().expect_float(OP)?;
        let filled = filled(self.tensor(), mask, value)?;
        let mask = mask.clone();
        self.derive_one(OP, filled, move |dy| select(OP, &mask, &scalar(OP, 0.0, &dy)?, &dy))
    }
}
