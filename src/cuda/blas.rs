//! cuBLAS: matrix products. It counts columns first, so row-major matrices are handed to it as their transposes, and the two
//! factors change places.

use std::{ffi::c_void, sync::atomic::Ordering};

use cudarc::cublas::{result, sys};

use super::{Buffer, context::Context, driver, elementwise};
use crate::{
    dtype::DType,
    error::{Error, Result},
    kernel::{Gemm, Unary},
};

const OP: &str = "gemm";

/// A handle on the context's stream, with memory of its own to work in: products allocate nothing.
pub struct Blas {
    handle: sys::cublasHandle_t,
    _workspace: Buffer,
}

// SAFETY: a handle may move between threads; the context's lock sees that one at a time uses it.
unsafe impl Send for Blas {}

impl Blas {
    fn new(context: &'static Context) -> Result<Self> {
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
                result::set_stream(handle, context.handles.stream.cast())?;
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
    use sys::{cublasComputeType_t as Compute, cudaDataType_t as Type};
    let context = c.context();
    let fast = context.tf32.load(Ordering::Relaxed);
    let (dtype, compute) = match c.dtype() {
        DType::F64 => (Type::CUDA_R_64F, Compute::CUBLAS_COMPUTE_64F),
        DType::F32 if fast => (Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F_FAST_TF32),
        DType::F32 => (Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F),
        DType::F16 => (Type::CUDA_R_16F, Compute::CUBLAS_COMPUTE_32F),
        DType::BF16 => (Type::CUDA_R_16BF, Compute::CUBLAS_COMPUTE_32F),
        other => return Err(Error::dtype(OP, other, "a floating-point dtype")),
    };
    let int = |extent: usize| {
        i32::try_from(extent)
            .map_err(|_| Error::shape(OP, format!("{g:?}"), "extents below 2³¹, as cuBLAS counts them"))
    };
    let (batch, m, n, k) = (int(g.batch)?, int(g.m)?, int(g.n)?, int(g.k)?);
    let transposed = |yes| if yes { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N };
    let (op_a, row_a) = (transposed(g.trans_a), if g.trans_a { m } else { k });
    let (op_b, row_b) = (transposed(g.trans_b), if g.trans_b { k } else { n });

    // The factors are numbers of the type that is computed in.
    let (single, double) = ([g.alpha as f32, g.beta as f32], [g.alpha, g.beta]);
    let factors: [*const c_void; 2] = if c.dtype() == DType::F64 {
        [(&raw const double[0]).cast(), (&raw const double[1]).cast()]
    } else {
        [(&raw const single[0]).cast(), (&raw const single[1]).cast()]
    };
    let [at_a, at_b, at_c] = [a.address(), b.address(), c.address()].map(|address| address as *mut c_void);
    let algorithm = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;

    let mut blas = context.blas.lock().unwrap_or_else(|e| e.into_inner());
    let handle = match &*blas {
        Some(blas) => blas.handle,
        None => blas.insert(Blas::new(context)?).handle,
    };
    // SAFETY: the operation's caller has checked that the matrices lie within their buffers; the factors are read before the
    // call returns, as they are on the host.
    let call = || unsafe {
        if batch == 1 {
            result::gemm_ex(
                handle, op_b, op_a, n, m, k, factors[0], at_b, dtype, row_b, at_a, dtype, row_a, factors[1], at_c,
                dtype, n, compute, algorithm,
            )
        } else {
            let (stride_a, stride_b, stride_c) = (g.stride_a as i64, g.stride_b as i64, (g.m * g.n) as i64);
            result::gemm_strided_batched_ex(
                handle, op_b, op_a, n, m, k, factors[0], at_b, dtype, row_b, stride_b, at_a, dtype, row_a, stride_a,
                factors[1], at_c, dtype, n, stride_c, batch, compute, algorithm,
            )
        }
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
