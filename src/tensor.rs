//! `Tensor`: a contiguous array on a device.
//!
//! ```
//! use gatefold::{DType, Device, Tensor};
//! let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::Cpu)?;
//! let y = Tensor::concat(&[&x, &Tensor::ones([1, 3], DType::F32, &Device::Cpu)?], 0)?;
//! assert_eq!((y.dims(), y.select(1, -1)?.to_vec::<f32>()?), (&[3, 3][..], vec![3.0, 6.0, 1.0]));
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::{fmt, ops::Range};

use crate::{
    device::Device,
    dtype::{DType, Element, bf16, f16, with_dtype},
    error::{Error, Result},
    kernel::{Binary, Distribution, Strided},
    rng::Philox,
    shape::Shape,
    shared::Shared,
    storage::{self, Storage},
};

/// A contiguous, row-major array of any rank on a device.
///
/// Cloning shares the memory; writing to shared memory copies it first, so a clone never changes behind its owner.
///
/// ```
/// use gatefold::{Device, Tensor};
/// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// assert_eq!(x.dims(), [2, 2]);
/// assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    storage: Shared,
    shape: Shape,
}

/// Nested arrays, slices and vectors of one element type: what [`Tensor::new`] takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no number of a tensor, nor an array of some",
    note = "numbers are f32, f64, f16, bf16, i64 for classes and indices, and u8 for masks: write 1f32 or 1i64"
)]
pub trait Nested {
    /// The element type at the bottom.
    type Element: Element;
    /// The extents, and an `Err` where rows differ.
    fn extents(&self) -> Result<Vec<usize>>;
    /// Appends the elements in row-major order.
    fn append(&self, to: &mut Vec<Self::Element>);
}

macro_rules! nested_scalar {
    ($($t:ty),*) => {$(
        impl Nested for $t {
            type Element = $t;
            fn extents(&self) -> Result<Vec<usize>> { Ok(Vec::new()) }
            fn append(&self, to: &mut Vec<$t>) { to.push(*self); }
        }
    )*};
}
nested_scalar!(f64, f32, half::f16, half::bf16, u32, i64, u8);

impl<T: Nested> Nested for [T] {
    type Element = T::Element;
    fn extents(&self) -> Result<Vec<usize>> {
        let mut extents = vec![self.len()];
        if let Some(first) = self.first() {
            let inner = first.extents()?;
            for row in &self[1..] {
                let other = row.extents()?;
                if other != inner {
                    return Err(Error::shape(
                        "Tensor::new",
                        format!("rows of {inner:?} and {other:?}"),
                        "rows of one shape",
                    ));
                }
            }
            extents.extend(inner);
        }
        Ok(extents)
    }
    fn append(&self, to: &mut Vec<T::Element>) {
        self.iter().for_each(|row| row.append(to));
    }
}

impl<T: Nested, const N: usize> Nested for [T; N] {
    type Element = T::Element;
    fn extents(&self) -> Result<Vec<usize>> {
        self.as_slice().extents()
    }
    fn append(&self, to: &mut Vec<T::Element>) {
        self.as_slice().append(to);
    }
}

impl<T: Nested> Nested for Vec<T> {
    type Element = T::Element;
    fn extents(&self) -> Result<Vec<usize>> {
        self.as_slice().extents()
    }
    fn append(&self, to: &mut Vec<T::Element>) {
        self.as_slice().append(to);
    }
}

impl<T: Nested + ?Sized> Nested for &T {
    type Element = T::Element;
    fn extents(&self) -> Result<Vec<usize>> {
        (**self).extents()
    }
    fn append(&self, to: &mut Vec<T::Element>) {
        (**self).append(to);
    }
}

impl Tensor {
    /// A tensor of nested arrays, slices or vectors; a bare number makes a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] where rows differ in length.
    pub fn new<N: Nested>(data: N, device: &Device) -> Result<Self> {
        let extents = data.extents()?;
        let mut flat = Vec::with_capacity(Shape::checked_numel(&extents, "Tensor::new")?);
        data.append(&mut flat);
        Tensor::from_slice(&flat, extents, device)
    }

    /// A tensor of a flat slice in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] when the slice is not as long as the shape holds.
    pub fn from_slice<T: Element>(data: &[T], shape: impl Into<Shape>, device: &Device) -> Result<Self> {
        let shape = shape.into();
        if Shape::checked_numel(&shape, "Tensor::from_slice")? != data.len() {
            return Err(Error::shape(
                "Tensor::from_slice",
                format!("{} elements for {shape}", data.len()),
                "as many as the shape holds",
            ));
        }
        Ok(Tensor { storage: Shared::new(Storage::upload(*device, data)?), shape })
    }

    /// A tensor of one value.
    pub fn full(shape: impl Into<Shape>, value: f64, dtype: DType, device: &Device) -> Result<Self> {
        let mut tensor = Tensor::uninit(shape, dtype, *device)?;
        storage::fill(value, tensor.storage_mut()?)?;
        Ok(tensor)
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Self> {
        Tensor::full(shape, 0.0, dtype, device)
    }

    /// A tensor of ones.
    pub fn ones(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Self> {
        Tensor::full(shape, 1.0, dtype, device)
    }

    /// The whole numbers of a range, in order, of shape `[len]`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that the dtype does not hold exactly, such as 257 in bfloat16; [`Error::Shape`] for more than memory holds.
    pub fn arange(range: Range<i64>, dtype: DType, device: &Device) -> Result<Self> {
        // The ends are those that are farthest from 0: of floats, whole numbers between those that are held are too where they are below
        // the significand's end.
        let held = |n: i64| match dtype {
            DType::F64 => n.unsigned_abs() <= 1 << 53,
            DType::F32 => n.unsigned_abs() <= 1 << 24,
            DType::F16 => n.unsigned_abs() <= 1 << 11,
            DType::BF16 => n.unsigned_abs() <= 1 << 8,
            DType::U32 => u32::try_from(n).is_ok(),
            DType::U8 => u8::try_from(n).is_ok(),
            DType::I64 => true,
        };
        if !range.is_empty()
            && let Some(n) = [range.start, range.end - 1].into_iter().find(|&n| !held(n))
        {
            return Err(Error::argument("arange", n, format!("whole numbers that {dtype} holds exactly")));
        }
        let len = usize::try_from(range.end.saturating_sub(range.start).max(0)).unwrap_or(usize::MAX);
        let mut all = Vec::new();
        all.try_reserve_exact(len).map_err(|_| Error::shape("arange", len, "no more than memory holds"))?;
        all.extend(range);
        Tensor::from_slice(&all, len, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }

    /// Uniform numbers in `[low, high)`: the same bits for the same generator on every device.
    ///
    /// # Errors
    /// [`Error::Argument`] for bounds that the dtype has not among its finite numbers, or low > high; [`Error::DType`] for integers.
    pub fn uniform(
        shape: impl Into<Shape>,
        low: f64,
        high: f64,
        dtype: DType,
        device: &Device,
        rng: &mut Philox,
    ) -> Result<Self> {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(Error::argument("Tensor::uniform", format!("[{low}, {high})"), "finite bounds, low ≤ high"));
        }
        let most = match dtype {
            DType::F16 => f64::from(f16::MAX),
            DType::BF16 => f64::from(bf16::MAX),
            DType::F32 => f64::from(f32::MAX),
            _ => f64::MAX,
        };
        if low.abs().max(high.abs()) > most {
            let want = format!("bounds in ±{most:e}, the range of {dtype}");
            return Err(Error::argument("Tensor::uniform", format!("[{low}, {high})"), want));
        }
        // As in PyTorch: numbers are made of the distance; those of halves in f32.
        let apart = high - low;
        if !(if dtype == DType::F64 { apart.is_finite() } else { (apart as f32).is_finite() }) {
            let want = format!("bounds that are no farther apart than the largest {}", dtype.wide());
            return Err(Error::argument("Tensor::uniform", format!("[{low}, {high})"), want));
        }
        Tensor::random("Tensor::uniform", shape.into(), Distribution::Uniform { low, high }, dtype, device, rng)
    }

    /// Normal numbers of the given mean and standard deviation.
    pub fn normal(
        shape: impl Into<Shape>,
        mean: f64,
        std: f64,
        dtype: DType,
        device: &Device,
        rng: &mut Philox,
    ) -> Result<Self> {
        if !(mean.is_finite() && std.is_finite() && std >= 0.0) {
            return Err(Error::argument("Tensor::normal", format!("mean {mean}, std {std}"), "finite, std ≥ 0"));
        }
        Tensor::random("Tensor::normal", shape.into(), Distribution::Normal { mean, std }, dtype, device, rng)
    }

    fn random(
        op: &'static str,
        shape: Shape,
        distribution: Distribution,
        dtype: DType,
        device: &Device,
        rng: &mut Philox,
    ) -> Result<Self> {
        if !dtype.is_float() {
            return Err(Error::dtype(op, dtype, "a floating-point dtype"));
        }
        let mut tensor = Tensor::uninit(shape, dtype, *device)?;
        storage::random(distribution, rng.split(), 0, tensor.storage_mut()?)?;
        Ok(tensor)
    }

    /// A tensor whose contents a kernel is about to write.
    pub(crate) fn uninit(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Self> {
        let shape = shape.into();
        let len = Shape::checked_numel(&shape, "allocate")?;
        Ok(Tensor { storage: Shared::alloc(device, dtype, len)?, shape })
    }

    /// An uninitialised tensor of the same dtype and device.
    pub(crate) fn like(&self, shape: impl Into<Shape>) -> Result<Self> {
        Tensor::uninit(shape, self.dtype(), self.device())
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The extents as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.storage.len()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// Where its memory is, if nobody else shares that.
    pub(crate) fn place(&self) -> Option<u64> {
        (self.sharers() == 1).then(|| self.storage.address())
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The storage, to write: copied first when it is shared.
    pub(crate) fn storage_mut(&mut self) -> Result<&mut Storage> {
        if self.sharers() > 1 {
            let mut copy = self.like(&self.shape)?;
            storage::cast(&self.storage, copy.storage_mut()?)?;
            *self = copy;
        }
        Ok(self.storage.get_mut().expect("the only handle of a storage"))
    }

    /// The elements in row-major order, as a vector of the tensor's own element type.
    ///
    /// # Errors
    /// [`Error::DType`] when `T` is not the tensor's dtype; convert with [`to_dtype`](Self::to_dtype) first.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype() {
            return Err(Error::dtype("to_vec", self.dtype(), T::DTYPE));
        }
        let mut host = vec![T::default(); self.numel()];
        storage::download(&self.storage, &mut host)?;
        Ok(host)
    }

    /// The elements as f64, whatever the dtype: exact but for int64 beyond 2⁵³.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        with_dtype!(self.dtype(), T => Ok(self.to_vec::<T>()?.into_iter().map(Element::to_f64).collect()))
    }

    /// The one element of a tensor that has one, as f64: exact but for int64 beyond 2⁵³, which [`to_vec`](Self::to_vec) gives as it is.
    ///
    /// # Errors
    /// [`Error::Shape`] when it has none or several.
    pub fn item(&self) -> Result<f64> {
        if self.numel() != 1 {
            return Err(Error::shape("item", &self.shape, "one element"));
        }
        Ok(self.to_f64_vec()?[0])
    }

    /// The same numbers in another dtype (shared when it is the same). Floats to integers truncate towards zero.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let mut out = Tensor::uninit(self.shape.clone(), dtype, self.device())?;
        storage::cast(&self.storage, out.storage_mut()?)?;
        Ok(out)
    }

    /// The same numbers on another device (shared when it is the same).
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if *device == self.device() {
            return Ok(self.clone());
        }
        with_dtype!(self.dtype(), T => Tensor::from_slice(&self.to_vec::<T>()?, self.shape.clone(), device))
    }

    /// A copy of a tensor of the CPU's on a device, under way: see [`storage::upload_beside`].
    pub(crate) fn beside(&self, device: Device) -> Result<Self> {
        Ok(Tensor { storage: Shared::new(storage::upload_beside(device, &self.storage)?), shape: self.shape.clone() })
    }

    /// Takes over the elements of a tensor of this shape and dtype, on any device, in the memory that this one has.
    pub(crate) fn copy_from(&mut self, other: &Tensor) -> Result<()> {
        const OP: &str = "copy";
        if (other.shape(), other.dtype()) != (self.shape(), self.dtype()) {
            return Err(Error::shape(OP, &other.shape, &self.shape));
        }
        let to =
            self.storage.get_mut().ok_or_else(|| Error::argument(OP, "memory that is shared", "memory of its own"))?;
        if other.device() == to.device() {
            return storage::cast(&other.storage, to);
        }
        with_dtype!(other.dtype(), T => storage::write(&other.to_vec::<T>()?, to))
    }

    /// A copy in memory of its own.
    pub(crate) fn copied(&self) -> Result<Self> {
        let mut copy = self.like(&self.shape)?;
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// Whether both are the same memory in the same shape.
    pub(crate) fn shares(&self, other: &Tensor) -> bool {
        self.storage.is(&other.storage) && self.shape == other.shape
    }

    /// How many tensors share the memory.
    pub(crate) fn sharers(&self) -> usize {
        self.storage.count()
    }

    /// The same elements in another shape; the memory is shared. Of `usize` extents; see [`crate::Var::reshape`] for −1.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if Shape::checked_numel(&shape, "reshape")? != self.numel() {
            return Err(Error::shape("reshape", format!("{} to {shape}", self.shape), "as many elements"));
        }
        Ok(Tensor { storage: self.storage.clone(), shape })
    }

    /// `self += alpha · other`, in place (copied first when shared).
    pub fn add_scaled(&mut self, alpha: f64, other: &Tensor) -> Result<()> {
        self.expect_like("add_scaled", other)?;
        if !self.dtype().is_float() {
            return Err(Error::dtype("add_scaled", self.dtype(), "a floating-point dtype"));
        }
        if alpha == 1.0 && self.sharers() > 1 {
            // The sum in one pass, instead of a copy and a pass over that.
            let mut sum = self.like(&self.shape)?;
            let (a, b) = ((self.storage(), &[1][..]), (other.storage(), &[1][..]));
            storage::binary(Binary::Add, &[self.numel()], a, b, sum.storage_mut()?)?;
            *self = sum;
            return Ok(());
        }
        storage::axpy(alpha, &other.storage, self.storage_mut()?)
    }

    /// `self + self`, in place where nobody else shares the memory.
    pub(crate) fn double(&mut self) -> Result<()> {
        if self.sharers() == 1 && storage::double(self.storage_mut()?)? {
            return Ok(());
        }
        self.add_scaled(1.0, &self.clone())
    }

    /// `Err` unless `other` has this shape, dtype and device.
    pub(crate) fn expect_like(&self, op: &'static str, other: &Tensor) -> Result<()> {
        if self.shape != other.shape {
            return Err(Error::shape(op, &other.shape, &self.shape));
        }
        self.expect_kin(op, other)
    }

    /// `Err` unless `other` has this dtype and device.
    pub(crate) fn expect_kin(&self, op: &'static str, other: &Tensor) -> Result<()> {
        if self.dtype() != other.dtype() {
            return Err(Error::dtype(op, other.dtype(), self.dtype()));
        }
        if self.device() != other.device() {
            return Err(Error::device(op, other.device(), self.device()));
        }
        Ok(())
    }

    /// `Err` unless the dtype is a floating-point one.
    pub(crate) fn expect_float(&self, op: &'static str) -> Result<()> {
        if self.dtype().is_float() { Ok(()) } else { Err(Error::dtype(op, self.dtype(), "a floating-point dtype")) }
    }

    /// Integer indices as i64 (others are converted), `Err` for floats.
    pub(crate) fn as_index(&self, op: &'static str) -> Result<Tensor> {
        match self.dtype() {
            DType::I64 | DType::U32 | DType::U8 => self.to_dtype(DType::I64),
            other => Err(Error::dtype(op, other, "int64, uint32 or uint8 indices")),
        }
    }
}

/// Prints as PyTorch does: `tensor([[1., 2.], [3., 4.]])`, four decimals, rows wrapped at 80 columns, axes of a large tensor
/// shortened to three at each end, the dtype unless it is float32, or int64 and there are elements.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(values) = self.shown() else {
            return write!(f, "tensor(<unreadable>, shape={})", self.shape);
        };
        f.write_str("tensor(")?;
        if self.numel() == 0 {
            f.write_str("[]")?;
        } else {
            let print = Print::of(&values, self.numel(), self.dtype().is_float());
            print.axis(f, &self.shape, &values, 7)?;
        }
        if self.device() != Device::Cpu {
            write!(f, ", device='{}'", self.device())?;
        }
        if self.numel() == 0 && self.rank() != 1 {
            let dims: Vec<String> = self.dims().iter().map(usize::to_string).collect();
            write!(f, ", size=({})", dims.join(", "))?;
        }
        // Numbers say themselves that they are whole.
        if self.dtype() != DType::F32 && (self.dtype() != DType::I64 || self.numel() == 0) {
            write!(f, ", dtype=torch.{}", self.dtype())?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Tensor {
    /// The elements that are printed, of axes that are shortened both ends: nothing else is read.
    fn shown(&self) -> Result<Vec<Number>> {
        let (mut extents, mut steps) = (Vec::new(), Vec::new());
        for (&extent, stride) in self.dims().iter().zip(self.shape.strides()) {
            if self.numel() > Print::THRESHOLD && extent > 2 * Print::EDGE {
                extents.extend([2, Print::EDGE]);
                steps.extend([(extent - Print::EDGE) * stride, stride]);
            } else {
                extents.push(extent);
                steps.push(stride);
            }
        }
        let mut ends = self.clone();
        if extents.len() > self.rank() {
            ends = self.like(&extents[..])?;
            let (from, to) = (Strided { strides: &steps, offset: 0 }, ends.shape.strides());
            let to = Strided { strides: &to, offset: 0 };
            storage::copy_strided(&extents, &self.storage, from, ends.storage_mut()?, to, false)?;
        }
        Ok(match self.dtype() {
            // f64 would round those beyond 2⁵³.
            DType::I64 => ends.to_vec::<i64>()?.into_iter().map(Number::Whole).collect(),
            _ => ends.to_f64_vec()?.into_iter().map(Number::Float).collect(),
        })
    }
}

/// An element as it is written.
#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Whole(i64),
}

/// How the numbers of one tensor are written, decided over all that are shown as PyTorch's `_Formatter` decides it.
struct Print {
    float: bool,
    whole: bool,
    scientific: bool,
    width: usize,
    summarize: bool,
}

impl Print {
    /// Shown at each end of a shortened axis.
    const EDGE: usize = 3;
    /// Above this many elements axes are shortened.
    const THRESHOLD: usize = 1000;
    const COLUMNS: usize = 80;

    /// Of the numbers that are shown, of so many.
    fn of(shown: &[Number], numel: usize, float: bool) -> Self {
        let mut print = Print { float, whole: true, scientific: false, width: 1, summarize: numel > Print::THRESHOLD };
        let mut shown = shown.to_vec();
        if float {
            let float = |v: &Number| match *v {
                Number::Float(v) => v,
                Number::Whole(v) => v as f64,
            };
            shown.retain(|v| float(v).is_finite() && float(v) != 0.0);
            let all: Vec<f64> = shown.iter().map(float).collect();
            let (low, high) = all.iter().fold((f64::INFINITY, 0f64), |(l, h), v| (l.min(v.abs()), h.max(v.abs())));
            print.whole = all.iter().all(|v| v.fract() == 0.0);
            let spread = !all.is_empty() && (high / low > 1000.0 || high > 1e8);
            print.scientific = spread || (!print.whole && low < 1e-4);
        }
        print.width = shown.iter().map(|&v| print.number(v).len()).max().unwrap_or(1);
        print
    }

    fn number(&self, v: Number) -> String {
        let v = match v {
            Number::Float(v) => v,
            Number::Whole(v) => return v.to_string(),
        };
        if !self.float {
            format!("{v}")
        } else if v.is_nan() {
            "nan".into()
        } else if v.is_infinite() {
            if v > 0.0 { "inf".into() } else { "-inf".into() }
        } else if self.scientific {
            let text = format!("{v:.4e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
            format!("{mantissa}e{sign}{digits:0>2}")
        } else if self.whole {
            format!("{v:.0}.")
        } else {
            format!("{v:.4}")
        }
    }

    /// `values`: what is shown of an axis and those behind it.
    fn axis(&self, f: &mut fmt::Formatter<'_>, dims: &[usize], values: &[Number], indent: usize) -> fmt::Result {
        let Some((&extent, rest)) = dims.split_first() else {
            return f.write_str(&self.number(values[0]));
        };
        let cut = self.summarize && extent > 2 * Print::EDGE;
        let shown = if cut { 2 * Print::EDGE } else { extent };
        f.write_str("[")?;
        if rest.is_empty() {
            let width = self.width;
            let mut items: Vec<String> = values.iter().map(|&v| format!("{:>width$}", self.number(v))).collect();
            if cut {
                items.insert(Print::EDGE, " ...".into());
            }
            let per_line = (Print::COLUMNS.saturating_sub(indent) / (width + 2)).max(1);
            let lines: Vec<String> = items.chunks(per_line).map(|line| line.join(", ")).collect();
            f.write_str(&lines.join(&format!(",\n{:1$}", "", indent + 1)))?;
        } else {
            let gap = format!(",{}{:2$}", "\n".repeat(rest.len()), "", indent + 1);
            for (place, values) in values.chunks_exact(values.len() / shown).enumerate() {
                if place > 0 {
                    f.write_str(&gap)?;
                }
                if cut && place == Print::EDGE {
                    write!(f, "...{gap}")?;
                }
                self.axis(f, rest, values, indent + 1)?;
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printed_is_not_read() {
        let shown = |dims: &[usize]| Tensor::zeros(dims, DType::F16, &Device::Cpu).unwrap().shown().unwrap().len();
        assert_eq!((shown(&[]), shown(&[0, 5]), shown(&[10, 100])), (1, 0, 1000));
        assert_eq!((shown(&[1001]), shown(&[60, 40]), shown(&[2, 500, 3])), (6, 36, 36));
    }
}
