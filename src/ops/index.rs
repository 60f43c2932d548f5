//! Rows by index: selection and embedding.

use crate::{
    dtype::DType,
    error::{Error, Result},
    shape::Shape,
    storage,
    tape::Var,
    tensor::Tensor,
};

type Dims = (usize, usize, usize);

/// The index as int64 beside `x`, and an `Err` unless every entry lies in `0..bound`.
fn checked_index(op: &'static str, x: &Tensor, index: &Tensor, bound: usize) -> Result<Tensor> {
    let index = index.as_index(op)?;
    if index.device() != x.device() {
        return Err(Error::device(op, index.device(), x.device()));
    }
    if let Some((least, greatest)) = storage::index_range(index.storage())? {
        let wrong = if least < 0 { Some(least) } else { (greatest as u64 >= bound as u64).then_some(greatest) };
        if let Some(wrong) = wrong {
            return Err(Error::argument(op, format!("index {wrong}"), format!("indices in 0..{bound}")));
        }
    }
    Ok(index)
}

fn gather(dims: Dims, index: &Tensor, x: &Tensor, shape: Shape) -> Result<Tensor> {
    let mut y = x.like(shape)?;
    if y.numel() > 0 {
        storage::gather(dims, index.storage(), x.storage(), y.storage_mut()?)?;
    }
    Ok(y)
}

/// The backward of [`gather`]: adds in the order of the index, so the same bits on every run.
fn scatter(dims: Dims, index: &Tensor, skip: Option<i64>, dy: &Tensor, shape: Shape) -> Result<Tensor> {
    let mut dx = dy.like(shape)?;
    if dx.numel() > 0 {
        storage::scatter_add(dims, index.storage(), skip, dy.storage(), dx.storage_mut()?)?;
    }
    Ok(dx)
}

/// The rows of `x` along `axis` at `index`, with the checked index and what the kernels want to know.
fn select_rows(x: &Tensor, axis: isize, index: &Tensor) -> Result<(Tensor, Tensor, Dims)> {
    const OP: &str = "index_select";
    let axis = x.shape().axis(axis, OP)?;
    if index.rank() > 1 {
        return Err(Error::shape(OP, format!("an index of shape {}", index.shape()), "an index of rank 0 or 1"));
    }
    let dims = x.shape().around(axis);
    let index = checked_index(OP, x, index, dims.1)?;
    let y = gather(dims, &index, x, x.shape().with(axis, index.numel()))?;
    Ok((y, index, dims))
}

/// The elements of `x` along `axis` at an index of their shape, with the checked index and what the kernels want to know.
fn take_along(x: &Tensor, axis: isize, index: &Tensor) -> Result<(Tensor, Tensor, Dims)> {
    const OP: &str = "gather";
    let axis = x.shape().axis(axis, OP)?;
    let elsewhere = |shape: &Shape| shape.with(axis, 1);
    if index.rank() != x.rank() || elsewhere(index.shape()) != elsewhere(x.shape()) {
        let got = format!("an index of shape {}", index.shape());
        return Err(Error::shape(OP, got, format!("the shape {} but for axis {axis}", x.shape())));
    }
    let dims = x.shape().around(axis);
    let index = checked_index(OP, x, index, dims.1)?;
    let mut y = x.like(index.shape())?;
    if y.numel() > 0 {
        storage::take_along(dims, index.storage(), x.storage(), y.storage_mut()?)?;
    }
    Ok((y, index, dims))
}

/// The backward of [`take_along`].
fn put_along(dims: Dims, index: &Tensor, dy: &Tensor, shape: Shape) -> Result<Tensor> {
    let mut dx = dy.like(shape)?;
    if dx.numel() > 0 {
        storage::put_along(dims, index.storage(), dy.storage(), dx.storage_mut()?)?;
    }
    Ok(dx)
}

/// The indices of the `k` greatest along `axis`.
fn top_indices(x: &Tensor, k: usize, axis: isize) -> Result<Tensor> {
    const OP: &str = "topk";
    x.expect_float(OP)?;
    let axis = x.shape().axis(axis, OP)?;
    let dims = x.shape().around(axis);
    if k > dims.1 {
        return Err(Error::argument(OP, format!("k = {k}"), format!("at most the {} elements of axis {axis}", dims.1)));
    }
    let mut index = Tensor::uninit(x.shape().with(axis, k), DType::I64, x.device())?;
    if index.numel() > 0 {
        storage::top_k(k, dims, x.storage(), index.storage_mut()?)?;
    }
    Ok(index)
}

impl Tensor {
    /// The elements along `axis` at an index (int64 or uint32) that has the shape of `self` but for its extent there: element `[i, j, k]` for
    /// axis 1 of three is `self[i, index[i, j, k], k]` (PyTorch's `gather`, with an index of whole extents elsewhere). Of any dtype.
    ///
    /// # Errors
    /// An axis outside the rank, an index of another rank or other extents elsewhere, an index outside the axis (negative ones are), a float
    /// index.
    pub fn gather(&self, axis: isize, index: &Tensor) -> Result<Tensor> {
        Ok(take_along(self, axis, index)?.0)
    }

    /// The `k` greatest along `axis`, from the greatest down, and their indices (int64): a NaN before all others, of equal ones the first.
    /// With k the extent of the axis that is a stable sort: on a CPU, for on a GPU each place is another two passes over the axis, which suits the few
    /// best of many.
    ///
    /// # Errors
    /// An axis outside the rank, more than it has, an integer dtype.
    pub fn topk(&self, k: usize, axis: isize) -> Result<(Tensor, Tensor)> {
        let index = top_indices(self, k, axis)?;
        Ok((self.gather(axis, &index)?, index))
    }

    /// One more axis of `classes` elements at the end: 1 at the index (int64 or uint32), 0 elsewhere.
    ///
    /// ```
    /// use gatefold::{DType, Device, Tensor};
    /// let classes = Tensor::new([2i64, 0], &Device::Cpu)?;
    /// assert_eq!(classes.one_hot(3, DType::F32)?.to_vec::<f32>()?, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// An index outside `0..classes`, a float index, an integer dtype.
    pub fn one_hot(&self, classes: usize, dtype: DType) -> Result<Tensor> {
        const OP: &str = "one_hot";
        let ones = Tensor::ones(classes, dtype, &self.device())?;
        ones.expect_float(OP)?;
        let index = checked_index(OP, &ones, self, classes)?;
        // Ones out of `classes` of them: on a GPU the kernel that picks them looks at the index.
        let picked = gather((1, classes, 1), &index, &ones, self.shape().clone())?;
        let mut shape = self.dims().to_vec();
        shape.push(classes);
        let mut y = ones.like(shape)?;
        if y.numel() > 0 {
            let dims = (self.numel(), classes, 1);
            storage::scatter_axis(dims, index.storage(), picked.storage(), y.storage_mut()?)?;
        }
        Ok(y)
    }

    /// The slices at `index` (int64 or uint32, rank 1) along `axis`, in that order; of any dtype.
    ///
    /// # Errors
    /// An axis outside the rank, an index outside the axis (negative ones are), a float index or one of rank 2.
    pub fn index_select(&self, axis: isize, index: &Tensor) -> Result<Tensor> {
        Ok(select_rows(self, axis, index)?.0)
    }

    /// The elements along `axis` in reverse order; of any dtype.
    ///
    /// # Errors
    /// An axis outside the rank.
    pub fn flip(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis(axis, "flip")?;
        let dims = self.shape().around(axis);
        if self.numel() == 0 || dims.1 == 1 {
            return Ok(self.clone());
        }
        let reversed: Vec<i64> = (0..dims.1 as i64).rev().collect();
        let index = Tensor::from_slice(&reversed, dims.1, &self.device())?;
        gather(dims, &index, self, self.shape().clone())
    }
}

impl Var {
    /// The slices at `index` (int64 or uint32, rank 1) along `axis`, in that order. A slice taken several times gets the
    /// sum of the gradients.
    ///
    /// # Errors
    /// An axis outside the rank, an index outside the axis (negative ones are), a float index or one of rank 2.
    pub fn index_select(&self, axis: isize, index: &Tensor) -> Result<Var> {
        let (value, index, dims) = select_rows(self.tensor(), axis, index)?;
        let shape = self.shape().clone();
        self.derive_one("index_select", value, move |dy| scatter(dims, &index, None, &dy, shape))
    }

    /// The elements along `axis` at an index (int64 or uint32) that has the shape of `self` but for its extent there: see
    /// [`Tensor::gather`]. An element taken several times gets the sum of the gradients, in the order of the index. On a GPU each element looks through
    /// the index for that: of few picks from an axis, not of as many as it has.
    ///
    /// The last state of each sequence of a batch, from padded outputs:
    /// ```
    /// use gatefold::{DType, Device, Tape, Tensor};
    /// let outputs = Tensor::arange(0..12, DType::F32, &Device::Cpu)?.reshape([3, 2, 2])?; // (seq, batch, feature)
    /// let outputs = Tape::new().constant(outputs);
    /// let last = Tensor::new([2i64, 0], &Device::Cpu)?.reshape([1, 2, 1])?.expand([1, 2, 2])?;
    /// assert_eq!(outputs.gather(0, &last)?.tensor().to_vec::<f32>()?, [8.0, 9.0, 2.0, 3.0]);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn gather(&self, axis: isize, index: &Tensor) -> Result<Var> {
        let (value, index, dims) = take_along(self.tensor(), axis, index)?;
        let shape = self.shape().clone();
        self.derive_one("gather", value, move |dy| put_along(dims, &index, &dy, shape))
    }

    /// The `k` greatest along `axis`, from the greatest down, and their indices (int64): see [`Tensor::topk`]. The gradient goes to the
    /// elements at the indices.
    ///
    /// # Errors
    /// As there.
    pub fn topk(&self, k: usize, axis: isize) -> Result<(Var, Tensor)> {
        let index = top_indices(self.tensor(), k, axis)?;
        Ok((self.gather(axis, &index)?, index))
    }

    /// `self` is a table `[rows, width]`, `index` of any shape; gives `index.shape() + [width]`. The row `padding_idx`
    /// (from the end if negative) gets no gradient. PyTorch's `functional.embedding(index, self, padding_idx)`.
    ///
    /// # Errors
    /// A table that is not of rank 2 or not of floats, an index outside its rows, a float index.
    pub fn embedding(&self, index: &Tensor, padding_idx: Option<i64>) -> Result<Var> {
        const OP: &str = "embedding";
        let table = self.tensor();
        table.expect_float(OP)?;
        let &[rows, width] = table.dims() else {
            return Err(Error::shape(OP, format!("a weight of shape {}", table.shape()), "[rows, width]"));
        };
        let bound = i64::try_from(rows).unwrap_or(i64::MAX);
        let skip = match padding_idx {
            Some(i) if !(-bound..bound).contains(&i) => {
                return Err(Error::argument(OP, format!("padding_idx {i}"), format!("a row in {}..{bound}", -bound)));
            }
            Some(i) => Some(if i < 0 { i + bound } else { i }),
            None => None,
        };
        let index = checked_index(OP, table, index, rows)?;
        let dims = (1, rows, width);
        let mut shape = index.dims().to_vec();
        shape.push(width);
        let value = gather(dims, &index, table, shape.into())?;
        let shape = self.shape().clone();
        self.derive_one(OP, value, move |dy| scatter(dims, &index, skip, &dy, shape))
    }

    /// The elements along `axis` in reverse order.
    ///
    /// # Errors
    /// An axis outside the rank.
    pub fn flip(&self, axis: isize) -> Result<Var> {
        self.derive_one("flip", self.tensor().flip(axis)?, move |dy| dy.flip(axis))
    }
}
