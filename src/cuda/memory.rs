//! Copies: between host and device, dtype and dtype, walk and walk.

use super::{
    Buffer, abi,
    context::Context,
    lane::Lane,
    launch::{bits, float, suffix},
};
use crate::{
    cpu::walk::Walk,
    dtype::{DType, Element, with_dtype},
    error::Result,
    kernel::Strided,
};

pub fn upload<T: Element>(context: &'static Context, host: &[T]) -> Result<Buffer> {
    let buffer = Buffer::new(context, "upload", T::DTYPE, host.len())?;
    context.staging.upload(&context.handles, "upload", bytemuck::cast_slice(host), buffer.address())?;
    Ok(buffer)
}

/// On the stream for copies, as soon as the memory is free. Who uses it waits for that stream.
pub fn upload_beside<T: Element>(context: &'static Context, host: &[T]) -> Result<Buffer> {
    const OP: &str = "upload";
    let buffer = Buffer::new(context, OP, T::DTYPE, host.len())?;
    let copies = Lane::copies(context)?;
    // What the memory was used for before may still be queued.
    copies.wait_for(context, Lane::of(context, 0)?)?;
    let bytes = bytemuck::cast_slice(host);
    context.staging.upload_on(&context.handles, OP, copies.stream, bytes, buffer.address())?;
    Ok(buffer)
}

pub fn write<T: Element>(host: &[T], y: &mut Buffer) -> Result<()> {
    let context = y.context();
    context.staging.upload(&context.handles, "write", bytemuck::cast_slice(host), y.address())
}

/// Waits for the stream; faults that kernels have met until here come out as the `Err`.
pub fn download<T: Element>(x: &Buffer, host: &mut [T]) -> Result<()> {
    x.context().download("download", x.address(), bytemuck::cast_slice_mut(host))
}

pub fn fill(value: f64, y: &mut Buffer) -> Result<()> {
    let value = with_dtype!(y.dtype(), T => {
        let mut bytes = [0u8; 8];
        bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&<T as Element>::from_f64(value)));
        u64::from_le_bytes(bytes)
    });
    let context = y.context();
    if value == 0 {
        return context.handles.set_bytes("fill", y.address(), 0, y.bytes());
    }
    let p = abi::Fill { y: y.address(), count: y.len() as u64, value };
    context.launch("fill", bits(y.dtype()), &context.spread(y.len()), &p)
}

pub fn cast(x: &Buffer, y: &mut Buffer) -> Result<()> {
    let context = y.context();
    if x.dtype() == y.dtype() {
        return context.handles.copy("cast", x.address(), y.address(), y.bytes());
    }
    let to = match y.dtype() {
        DType::F64 => abi::DTYPE_F64,
        DType::F32 => abi::DTYPE_F32,
        DType::F16 => abi::DTYPE_F16,
        DType::BF16 => abi::DTYPE_BF16,
        DType::U32 => abi::DTYPE_U32,
        DType::I64 => abi::DTYPE_I64,
        DType::U8 => abi::DTYPE_U8,
    };
    let p = abi::Cast { x: x.address(), y: y.address(), count: y.len() as u64, to, unused: 0 };
    context.launch("cast", suffix(x.dtype()), &context.spread(y.len()), &p)
}

pub fn copy_strided(
    shape: &[usize],
    x: &Buffer,
    from: Strided<'_>,
    y: &mut Buffer,
    to: Strided<'_>,
    accumulate: bool,
) -> Result<()> {
    if shape.contains(&0) {
        return Ok(());
    }
    let size = y.dtype().size() as u64;
    let p = abi::CopyStrided {
        x: x.address() + from.offset as u64 * size,
        y: y.address() + to.offset as u64 * size,
        ..Default::default()
    };
    let name =
        if accumulate { ("add_strided", float("copy_strided", y.dtype())?) } else { ("copy_strided", bits(y.dtype())) };
    copy_walk(&Walk::new(shape, [from.strides, to.strides]), name, p, y)
}

/// One launch, or where there are more dimensions than a kernel walks through one for each index of the outermost.
fn copy_walk(walk: &Walk<2>, name: (&'static str, &'static str), mut p: abi::CopyStrided, y: &Buffer) -> Result<()> {
    let (context, size) = (y.context(), y.dtype().size() as u64);
    if walk.shape.len() > abi::MAX_RANK {
        let mut inner = walk.clone();
        let (extent, [from, to]) = inner.take(0);
        for i in 0..extent as u64 {
            let at = abi::CopyStrided { x: p.x + i * from as u64 * size, y: p.y + i * to as u64 * size, ..p };
            copy_walk(&inner, name, at, y)?;
        }
        return Ok(());
    }
    let count = walk.shape.iter().product::<usize>();
    let dense = walk.shape.is_empty() || (walk.shape.len() == 1 && walk.strides[0][0] == 1 && walk.strides[1][0] == 1);
    if dense && name.0 == "copy_strided" {
        return context.handles.copy("copy_strided", p.x, p.y, count * size as usize);
    }
    p.count = count as u64;
    p.rank = walk.shape.len() as u32;
    for (d, &extent) in walk.shape.iter().enumerate() {
        p.extent[d] = extent as u64;
        p.from[d] = walk.strides[0][d] as u64;
        p.to[d] = walk.strides[1][d] as u64;
    }
    context.launch(name.0, name.1, &context.spread(count), &p)
}
