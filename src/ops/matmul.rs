//! Products of matrices.

use smallvec::smallvec;

use crate::{
    error::{Error, Result},
    kernel::{Gemm, Reduce, Strided},
    ops::reduce::{reduce, sum_to},
    shape::{Shape, extent},
    storage,
    tape::{Gradients, Var},
    tensor::Tensor,
};

const MATMUL: &str = "matmul";
const LINEAR: &str = "linear";

/// A batch of matrices: the leading axes, then rows and columns as they are after an optional transposition.
struct Matrices<'a> {
    tensor: &'a Tensor,
    transposed: bool,
    batch: Shape,
    rows: usize,
    columns: usize,
}

impl<'a> Matrices<'a> {
    /// Of a tensor of at least two axes.
    fn new(tensor: &'a Tensor, transposed: bool) -> Self {
        let (batch, matrix) = tensor.dims().split_at(tensor.rank() - 2);
        let (rows, columns) = if transposed { (matrix[1], matrix[0]) } else { (matrix[0], matrix[1]) };
        Matrices { tensor, transposed, batch: batch.into(), rows, columns }
    }
}

/// The products of two batches of matrices whose inner extents agree; the batch axes broadcast.
fn product(a: &Matrices<'_>, b: &Matrices<'_>) -> Result<Tensor> {
    let batch = Shape::broadcast(&a.batch, &b.batch, MATMUL)?;
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let mut shape = batch.to_vec();
    shape.extend([m, n]);
    if k == 0 {
        return Tensor::zeros(shape, a.tensor.dtype(), &a.tensor.device());
    }
    let mut c = a.tensor.like(shape)?;
    if c.numel() == 0 {
        return Ok(c);
    }
    // One matrix for the whole batch is read again and again; one that is stretched over a part of it is written out.
    let spread = |x: &Matrices<'_>| -> Result<(Tensor, usize)> {
        if x.batch.numel() == 1 {
            Ok((x.tensor.clone(), 0))
        } else {
            let (rows, columns) = (x.tensor.dims()[x.tensor.rank() - 2], x.tensor.dims()[x.tensor.rank() - 1]);
            let full = [batch.dims(), &[rows, columns]].concat();
            Ok((x.tensor.expanded(&full.into())?, rows * columns))
        }
    };
    let ((a_full, stride_a), (b_full, stride_b)) = (spread(a)?, spread(b)?);
    let count = batch.numel();
    // Rows of a batch that meet one and the same matrix are the rows of one tall matrix.
    let (count, m) = if stride_b == 0 && !a.transposed { (1, count * m) } else { (count, m) };
    let gemm = Gemm {
        batch: count,
        m,
        n,
        k,
        trans_a: a.transposed,
        trans_b: b.transposed,
        stride_a,
        stride_b,
        alpha: 1.0,
        beta: 0.0,
    };
    storage::gemm(&gemm, a_full.storage(), b_full.storage(), c.storage_mut()?)?;
    Ok(c)
}

/// The gradient of the right factor: aᵀ·dy, summed over the batch where b has none.
fn right_gradient(a: &Tensor, dy: &Tensor, b: &Shape) -> Result<Tensor> {
    let (a_batch, dy_batch) = (&a.dims()[..a.rank() - 2], &dy.dims()[..dy.rank() - 2]);
    if extent(&b[..b.rank() - 2]) == 1 && a_batch == dy_batch && a.numel() > 0 && dy.numel() > 0 {
        // The sum over the batch is a part of the product's own sum.
        let flat = |x: &Tensor| {
            let columns = x.dims()[x.rank() - 1];
            x.reshape([x.numel() / columns, columns])
        };
        let (a, dy) = (flat(a)?, flat(dy)?);
        return product(&Matrices::new(&a, true), &Matrices::new(&dy, false))?.reshape(b);
    }
    sum_to(product(&Matrices::new(a, true), &Matrices::new(dy, false))?, b)
}

impl Var {
    /// The matrix product, by the rules of `torch.matmul`: `[.., m, k]` × `[.., k, n]` → `[.., m, n]`, the leading axes
    /// broadcast; a vector on the left is one row, on the right one column, and that axis is dropped from the result.
    ///
    /// # Errors
    /// A scalar, inner extents that differ, leading axes that do not broadcast; integer or differing dtypes, differing
    /// devices or tapes.
    pub fn matmul(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.tensor(), other.tensor());
        a.expect_float(MATMUL)?;
        a.expect_kin(MATMUL, b)?;
        let wrong = |want: &str| Error::shape(MATMUL, format!("{} and {}", a.shape(), b.shape()), want);
        if a.rank() == 0 || b.rank() == 0 {
            return Err(wrong("at least one axis each"));
        }
        let (row, column) = (a.rank() == 1, b.rank() == 1);
        let a = if row { a.reshape([1, a.numel()])? } else { a.clone() };
        let b = if column { b.reshape([b.numel(), 1])? } else { b.clone() };
        let (left, right) = (Matrices::new(&a, false), Matrices::new(&b, false));
        if left.columns != right.rows {
            return Err(wrong("[.., m, k] and [.., k, n]"));
        }
        if Shape::broadcast(&left.batch, &right.batch, MATMUL).is_err() {
            return Err(wrong("leading axes that broadcast"));
        }

        let full = product(&left, &right)?;
        let mut dims = full.dims().to_vec();
        if column {
            dims.pop();
        }
        if row {
            dims.remove(dims.len() - if column { 1 } else { 2 });
        }
        let value = full.reshape(dims)?;
        let (full, to_a, to_b) = (full.shape().clone(), self.shape().clone(), other.shape().clone());
        let (a_shape, b_shape) = (a.shape().clone(), b.shape().clone());
        // The gradient of each factor needs the other one.
        let (for_a, for_b) = (self.requires_grad().then_some(b), other.requires_grad().then_some(a));
        self.derive(MATMUL, &[self, other], value, move |dy| {
            let dy = dy.reshape(full)?;
            let da = for_a.map(|b| {
                sum_to(product(&Matrices::new(&dy, false), &Matrices::new(&b, true))?, &a_shape)?.reshape(to_a)
            });
            let db = for_b.map(|a| right_gradient(&a, &dy, &b_shape)?.reshape(to_b));
            Ok(smallvec![da.transpose()?, db.transpose()?])
        })
    }

    /// `self · weightᵀ + bias` for `self` `[.., in]`, `weight` `[out, in]` and `bias` `[out]`: `[.., out]`, one matrix product over
    /// all leading axes. PyTorch's `functional.linear`.
    ///
    /// # Errors
    /// Other shapes; integer or differing dtypes, differing devices or tapes.
    pub fn linear(&self, weight: &Var, bias: Option<&Var>) -> Result<Var> {
        let (x, w) = (self.tensor(), weight.tensor());
        x.expect_float(LINEAR)?;
        w.expect_kin(LINEAR, x)?;
        let &[n, k] = w.dims() else {
            return Err(Error::shape(LINEAR, format!("a weight of shape {}", w.shape()), "[out, in]"));
        };
        let Some((_, lead)) = x.dims().split_last().filter(|&(&last, _)| last == k) else {
            return Err(Error::shape(LINEAR, format!("{} and a weight of {}", x.shape(), w.shape()), "[.., in]"));
        };
        let rows = Shape::checked_numel(lead, LINEAR)?;
        let mut value = x.like([lead, &[n]].concat())?;
        if let Some(b) = bias.map(Var::tensor) {
            w.expect_kin(LINEAR, b)?;
            if b.dims() != [n] {
                return Err(Error::shape(LINEAR, format!("a bias of shape {}", b.shape()), Shape::from(n)));
            }
            let (from, to) = (Strided { strides: &[0, 1], offset: 0 }, Strided { strides: &[n, 1], offset: 0 });
            if value.numel() > 0 {
                storage::copy_strided(&[rows, n], b.storage(), from, value.storage_mut()?, to, false)?;
            }
        }
        let beta = if bias.is_some() { 1.0 } else { 0.0 };
        gemm((rows, n, k), (x, false), (w, true), beta, &mut value)?;

        let shape = x.shape().clone();
        let for_x = self.requires_grad().then(|| w.clone());
        let for_w = weight.requires_grad().then(|| x.clone());
        let for_b = bias.is_some_and(Var::requires_grad);
        let inputs: Vec<&Var> = [self, weight].into_iter().chain(bias).collect();
        let count = inputs.len();
        self.derive(LINEAR, &inputs, value, move |dy| {
            let mut gradients: Gradients = smallvec![None; count];
            if let Some(w) = for_x {
                let mut dx = dy.like(shape)?;
                gemm((rows, k, n), (&dy, false), (&w, false), 0.0, &mut dx)?;
                gradients[0] = Some(dx);
            }
            if let Some(x) = for_w {
                let mut dw = dy.like([n, k])?;
                gemm((n, k, rows), (&dy, true), (&x, false), 0.0, &mut dw)?;
                gradients[1] = Some(dw);
            }
            if for_b {
                gradients[2] = Some(reduce(Reduce::Sum, (1, rows, n), &dy, n)?);
            }
            Ok(gradients)
        })
    }
}

/// c = a × b + beta · c for one pair of matrices.
fn gemm(
    (m, n, k): (usize, usize, usize),
    (a, trans_a): (&Tensor, bool),
    (b, trans_b): (&Tensor, bool),
    beta: f64,
    c: &mut Tensor,
) -> Result<()> {
    if c.numel() == 0 {
        return Ok(());
    }
    let gemm = Gemm { batch: 1, m, n, k, trans_a, trans_b, stride_a: 0, stride_b: 0, alpha: 1.0, beta };
    storage::gemm(&gemm, a.storage(), b.storage(), c.storage_mut()?)
}
