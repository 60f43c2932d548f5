//! cuBLAS: matrix products. It counts columns first, so row-major matrices are handed to it as their transposes, and the two
//! factors change places.

use std::{ffi::c_void, sync::atomic::Ordering};

use cudarc::{
    cublas::{result, sys},
    driver::sys::CUstream,
};

use super::{
    Buffer,
    context::Context,
    driver::{self, Address},
    elementwise,
    lane::Lane,
};
use crate::{
    dtype::DType,
    error::{Error, Result},
    kernel::{Gemm, Unary},
};

const OP: &str = "gemm";

/// A handle on a stream, with memory of its own to work in: products allocate nothing.
pub struct Blas {
    pub handle: sys::cublasHandle_t,
    _workspace: Buffer,
}

// SAFETY: a handle may move between threads; the context's lock sees that one at a time uses it.
unsafe impl Send for Blas {}

impl Blas {
    pub fn new(context: &'static Context, stream: CUstream) -> Result<Self> {
        let ordinal = context.handles.ordinal;
        // SAFETY: opens and closes the library, which is safe to load at any time.
        if !unsafe { sys::is_culib_present() } {
            let reason =
                "libcublas could not be opened: install cuBLAS 13, or put its folder on the library path".into();
            return Err(driver::unavailable(OP, ordinal, reason));
        }
        // NVIDIA's advice: 32 MiB from Hopper on, 4 MiB before.
        let bytes = if context.handles.capability.0 >= 9 { 32 << 20 } else { 4 << 20 };
        let workspace = Buffer::new(context, OP, DType::U32, bytes / 4)?;
        let made = || -> Result<_, result::CublasError> {
            let handle = result::create_handle()?;
            // SAFETY: handle and stream live as long as the process, and the workspace as long as the handle. Halves are summed
            // in f32 throughout.
            unsafe {
                result::set_stream(handle, stream.cast())?;
                sys::cublasSetWorkspace_v2(handle, workspace.address() as *mut c_void, bytes).result()?;
                let exact = sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
                sys::cublasSetMathMode(handle, exact).result()?;
            }
            Ok(handle)
        };
        let handle = context.handles.with(OP, || Ok(made()))?.map_err(|e| error(context, e))?;
        Ok(Blas { handle, _workspace: workspace })
    }
}

fn error(context: &Context, e: result::CublasError) -> Error {
    driver::unavailable(OP, context.handles.ordinal, format!("cuBLAS: {:?}", e.0))
}

/// See [`Gemm`].
pub fn gemm(g: &Gemm, a: &Buffer, b: &Buffer, c: &mut Buffer) -> Result<()> {
    if c.len() == 0 {
        return Ok(());
    }
    if g.k == 0 {
        return scale(g.beta, c);
    }
    let (row_a, row_b) = (if g.trans_a { g.m } else { g.k }, if g.trans_b { g.k } else { g.n });
    let rows = Rows { a: row_a, b: row_b, c: g.n };
    let lane = Lane::of(c.context(), 0)?;
    product(c.context(), lane, (c.dtype(), c.dtype()), g, rows, [a.address(), b.address(), c.address()])
}

/// Elements from one row of a matrix, as it is stored, to the next.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    pub a: usize,
    pub b: usize,
    pub c: usize,
}

/// See [`Gemm`]: matrices a and b of one dtype and c of that or a wider one, at their addresses, with rows apart as said. No
/// extent is zero.
pub fn product(
    context: &'static Context,
    lane: &'static Lane,
    (dtype, to): (DType, DType),
    g: &Gemm,
    rows: Rows,
    at: [Address; 3],
) -> Result<()> {
    use sys::{cublasComputeType_t as Compute, cudaDataType_t as Type};
    let kind = |dtype| match dtype {
        DType::F64 => Ok(Type::CUDA_R_64F),
        DType::F32 => Ok(Type::CUDA_R_32F),
        DType::F16 => Ok(Type::CUDA_R_16F),
        DType::BF16 => Ok(Type::CUDA_R_16BF),
        other => Err(Error::dtype(OP, other, "a floating-point dtype")),
    };
    let (kind, to) = (kind(dtype)?, kind(to)?);
    let compute = match dtype {
        DType::F64 => Compute::CUBLAS_COMPUTE_64F,
        DType::F32 if context.tf32.load(Ordering::Relaxed) => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => Compute::CUBLAS_COMPUTE_32F,
    };
    let int = |extent: usize| {
        i32::try_from(extent)
            .map_err(|_| Error::shape(OP, format!("{g:?}"), "extents below 2³¹, as cuBLAS counts them"))
    };
    let (batch, m, n, k) = (int(g.batch)?, int(g.m)?, int(g.n)?, int(g.k)?);
    let (row_a, row_b, row_c) = (int(rows.a)?, int(rows.b)?, int(rows.c)?);
    let transposed = |yes| if yes { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N };
    let (op_a, op_b) = (transposed(g.trans_a), transposed(g.trans_b));

    // The factors are numbers of the type that is computed in.
    let (single, double) = ([g.alpha as f32, g.beta as f32], [g.alpha, g.beta]);
    let factors: [*const c_void; 2] = if dtype == DType::F64 {
        [(&raw const double[0]).cast(), (&raw const double[1]).cast()]
    } else {
        [(&raw const single[0]).cast(), (&raw const single[1]).cast()]
    };
    let [at_a, at_b, at_c] = at.map(|address| address as *mut c_void);
    let algorithm = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;

    // SAFETY: the operation's caller has checked that the matrices lie within their buffers; the factors are read before the
    // call returns, as they are on the host.
    let call = |handle| unsafe {
        if batch == 1 {
            result::gemm_ex(
                handle, op_b, op_a, n, m, k, factors[0], at_b, kind, row_b, at_a, kind, row_a, factors[1], at_c, to,
                row_c, compute, algorithm,
            )
        } else {
            let (stride_a, stride_b, stride_c) = (g.stride_a as i64, g.stride_b as i64, (g.m * g.n) as i64);
            result::gemm_strided_batched_ex(
                handle, op_b, op_a, n, m, k, factors[0], at_b, kind, row_b, stride_b, at_a, kind, row_a, stride_a,
                factors[1], at_c, to, row_c, stride_c, batch, compute, algorithm,
            )
        }
    };
    let blas = lane.blas(context)?;
    // The device's gate comes before the handle's lock.
    let call = || {
        let blas = blas.lock().unwrap_or_else(|e| e.into_inner());
        call(blas.handle)
    };
    context.handles.with(OP, || Ok(call()))?.map_err(|e| error(context, e))
}

/// c = beta · c: what a product over nothing leaves.
fn scale(beta: f64, c: &mut Buffer) -> Result<()> {
    if beta == 0.0 {
        let (context, bytes) = (c.context(), c.bytes());
        return context.handles.set_bytes(OP, c.address(), 0, bytes);
    }
    elementwise::unary_in_place(Unary::Affine { scale: beta, shift: 0.0 }, c)
}
