//! Copies: between host and buffer, dtype and dtype, walk and walk.

use super::{Buffer, real::Store, split, walk::Walk};
use crate::{
    dtype::{Element, with_dtype},
    error::Result,
    kernel::Strided,
};

/// Into a slice of the same length and type.
pub fn download<T: Element>(x: &Buffer, host: &mut [T]) -> Result<()> {
    host.copy_from_slice(x.slice());
    Ok(())
}

/// y = value
pub fn fill(value: f64, y: &mut Buffer) -> Result<()> {
    with_dtype!(y.dtype(), T => split::over(y.slice_mut::<T>(), |_, y| y.fill(T::from_f64(value))));
    Ok(())
}

/// y = x
pub fn cast(x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(x.dtype(), S => with_dtype!(y.dtype(), D => {
        let x = x.slice::<S>();
        split::over(y.slice_mut::<D>(), |start, y| {
            y.iter_mut().zip(&x[start..]).for_each(|(y, x)| *y = D::from_f64(x.to_f64()));
        });
    }));
    Ok(())
}

/// One walk to another.
pub fn copy_strided(
    shape: &[usize],
    x: &Buffer,
    from: Strided<'_>,
    y: &mut Buffer,
    to: Strided<'_>,
    accumulate: bool,
) -> Result<()> {
    let count = shape.iter().product();
    let walk = Walk::new(shape, [from.strides, to.strides]);
    if accumulate {
        with_dtype!(float "copy_strided", y.dtype(), T => {
            let (x, y) = (x.slice::<T>(), y.slice_mut::<T>());
            for [i, j] in walk.points(0).take(count) {
                let (i, j) = (from.offset + i, to.offset + j);
                y[j] = T::narrow(y[j].widen() + x[i].widen());
            }
            Ok(())
        })
    } else {
        with_dtype!(y.dtype(), T => {
            let (x, y) = (x.slice::<T>(), y.slice_mut::<T>());
            walk.points(0).take(count).for_each(|[i, j]| y[to.offset + j] = x[from.offset + i]);
        });
        Ok(())
    }
}
