//! Functions of each element.

use super::{
    Buffer,
    real::{Real, Store},
    simd::vectorize,
    split,
    walk::Walk,
};
use crate::{
    dtype::with_dtype,
    error::Result,
    kernel::{Binary, Unary},
};

/// y = f(x)
fn map<T: Store>(x: &[T], y: &mut [T], f: impl Fn(T::Real) -> T::Real + Copy + Sync) {
    split::over(y, |start, y| {
        let x = &x[start..start + y.len()];
        vectorize(
            #[inline(always)]
            || {
                y.iter_mut().zip(x).for_each(
                    #[inline(always)]
                    |(y, &x)| *y = T::narrow(f(x.widen())),
                )
            },
        );
    });
}

/// y = f(a, b)
fn map2<T: Store>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T::Real, T::Real) -> T::Real + Copy + Sync) {
    split::over(y, |start, y| {
        let (a, b) = (&a[start..start + y.len()], &b[start..start + y.len()]);
        vectorize(
            #[inline(always)]
            || row(a, b, y, f),
        );
    });
}

/// y = f(a, b) over slices of one length.
#[inline(always)]
fn row<T: Store>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T::Real, T::Real) -> T::Real) {
    y.iter_mut().zip(a).zip(b).for_each(
        #[inline(always)]
        |((y, &a), &b)| *y = T::narrow(f(a.widen(), b.widen())),
    );
}

/// y = op(x)
pub fn unary(op: Unary, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "unary", y.dtype(), T => {
        unary_of::<T>(op, x.slice(), y.slice_mut());
        Ok(())
    })
}

fn unary_of<T: Store>(op: Unary, x: &[T], y: &mut [T]) {
    let of = T::Real::of;
    let (zero, one) = (T::Real::ZERO, T::Real::ONE);
    match op {
        Unary::Neg => map(
            x,
            y,
            #[inline(always)]
            |x| -x,
        ),
        Unary::Exp => map(
            x,
            y,
            #[inline(always)]
            |x| x.exp(),
        ),
        Unary::Log => map(
            x,
            y,
            #[inline(always)]
            |x| x.ln(),
        ),
        Unary::Sqrt => map(
            x,
            y,
            #[inline(always)]
            |x| x.sqrt(),
        ),
        Unary::Abs => map(
            x,
            y,
            #[inline(always)]
            |x| x.abs(),
        ),
        Unary::Tanh => map(
            x,
            y,
            #[inline(always)]
            |x| x.tanh(),
        ),
        Unary::Sigmoid => map(
            x,
            y,
            #[inline(always)]
            |x| x.sigmoid(),
        ),
        // Comparisons with NaN are false: here and in the clamp it takes the arm that is x.
        Unary::Relu => map(
            x,
            y,
            #[inline(always)]
            |x| if x <= zero { zero } else { x },
        ),
        Unary::Powf(2.0) => map(
            x,
            y,
            #[inline(always)]
            |x| x * x,
        ),
        Unary::Powf(0.0) => map(
            x,
            y,
            #[inline(always)]
            |_| one,
        ),
        Unary::Powf(p) => {
            let p = of(p);
            map(
                x,
                y,
                #[inline(always)]
                |x| x.powf(p),
            );
        }
        Unary::Affine { scale, shift } => {
            let (scale, shift) = (of(scale), of(shift));
            map(
                x,
                y,
                #[inline(always)]
                |x| x * scale + shift,
            );
        }
        Unary::Clamp { low, high } => {
            let (low, high) = (of(low), of(high));
            map(
                x,
                y,
                #[inline(always)]
                |x| {
                    let x = if x < low { low } else { x };
                    if x > high { high } else { x }
                },
            );
        }
    }
}

/// dx = dy · op′(x)
pub fn unary_backward(op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
    with_dtype!(float "unary_backward", dx.dtype(), T => {
        unary_backward_of::<T>(op, x.slice(), y.slice(), dy.slice(), dx.slice_mut());
        Ok(())
    })
}

fn unary_backward_of<T: Store>(op: Unary, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    let of = T::Real::of;
    let (zero, one) = (T::Real::ZERO, T::Real::ONE);
    match op {
        Unary::Neg => map(
            dy,
            dx,
            #[inline(always)]
            |dy| -dy,
        ),
        Unary::Exp => map2(
            y,
            dy,
            dx,
            #[inline(always)]
            |y, dy| dy * y,
        ),
        Unary::Log => map2(
            x,
            dy,
            dx,
            #[inline(always)]
            |x, dy| dy / x,
        ),
        Unary::Sqrt => map2(
            y,
            dy,
            dx,
            #[inline(always)]
            |y, dy| dy / (y + y),
        ),
        Unary::Abs => map2(
            x,
            dy,
            dx,
            #[inline(always)]
            |x, dy| {
                dy * if x > zero {
                    one
                } else if x < zero {
                    -one
                } else {
                    zero
                }
            },
        ),
        Unary::Tanh => map2(
            y,
            dy,
            dx,
            #[inline(always)]
            |y, dy| dy * (one - y * y),
        ),
        Unary::Sigmoid => map2(
            y,
            dy,
            dx,
            #[inline(always)]
            |y, dy| dy * (y * (one - y)),
        ),
        Unary::Relu => map2(
            x,
            dy,
            dx,
            #[inline(always)]
            |x, dy| if x <= zero { zero } else { dy },
        ),
        Unary::Powf(0.0) => map(
            dy,
            dx,
            #[inline(always)]
            |_| zero,
        ),
        Unary::Powf(2.0) => map2(
            x,
            dy,
            dx,
            #[inline(always)]
            |x, dy| dy * (x + x),
        ),
        Unary::Powf(p) => {
            let (p, less) = (of(p), of(p - 1.0));
            map2(
                x,
                dy,
                dx,
                #[inline(always)]
                |x, dy| dy * (p * x.powf(less)),
            );
        }
        Unary::Affine { scale, .. } => {
            let scale = of(scale);
            map(
                dy,
                dx,
                #[inline(always)]
                |dy| dy * scale,
            );
        }
        Unary::Clamp { low, high } => {
            let (low, high) = (of(low), of(high));
            map2(
                x,
                dy,
                dx,
                #[inline(always)]
                |x, dy| if x >= low && x <= high { dy } else { zero },
            );
        }
    }
}

/// y = op(a, b)
pub fn binary(
    op: Binary,
    shape: &[usize],
    a: (&Buffer, &[usize]),
    b: (&Buffer, &[usize]),
    y: &mut Buffer,
) -> Result<()> {
    let walk = Walk::new(shape, [a.1, b.1]);
    with_dtype!(float "binary", y.dtype(), T => {
        let (a, b, y) = (a.0.slice::<T>(), b.0.slice::<T>(), y.slice_mut::<T>());
        match op {
            Binary::Add => broadcast(walk, a, b, y, #[inline(always)] |a, b| a + b),
            Binary::Sub => broadcast(walk, a, b, y, #[inline(always)] |a, b| a - b),
            Binary::Mul => broadcast(walk, a, b, y, #[inline(always)] |a, b| a * b),
            Binary::Div => broadcast(walk, a, b, y, #[inline(always)] |a, b| a / b),
        }
        Ok(())
    })
}

fn broadcast<T: Store>(
    mut walk: Walk<2>,
    a: &[T],
    b: &[T],
    y: &mut [T],
    f: impl Fn(T::Real, T::Real) -> T::Real + Copy + Sync,
) {
    if y.is_empty() {
        return;
    }
    let (extent, strides) = walk.take_last();
    match (walk.shape.is_empty(), strides) {
        (true, [1, 1]) => map2(a, b, y, f),
        (true, [1, 0]) => {
            let b = b[0].widen();
            map(
                a,
                y,
                #[inline(always)]
                |a| f(a, b),
            );
        }
        (true, [0, 1]) => {
            let a = a[0].widen();
            map(
                b,
                y,
                #[inline(always)]
                |b| f(a, b),
            );
        }
        _ => split::rows(y, extent, extent, |first, y| {
            vectorize(
                #[inline(always)]
                || {
                    for (y, [i, j]) in y.chunks_exact_mut(extent).zip(walk.points(first)) {
                        stretched(strides, &a[i..], &b[j..], y, f);
                    }
                },
            );
        }),
    }
}

/// One row of a broadcast, by how its operands step.
#[inline(always)]
fn stretched<T: Store>(
    strides: [usize; 2],
    a: &[T],
    b: &[T],
    y: &mut [T],
    f: impl Fn(T::Real, T::Real) -> T::Real + Copy,
) {
    let n = y.len();
    match strides {
        [1, 1] => row(&a[..n], &b[..n], y, f),
        [1, 0] => {
            let b = b[0].widen();
            y.iter_mut().zip(&a[..n]).for_each(
                #[inline(always)]
                |(y, &a)| *y = T::narrow(f(a.widen(), b)),
            );
        }
        [0, 1] => {
            let a = a[0].widen();
            y.iter_mut().zip(&b[..n]).for_each(
                #[inline(always)]
                |(y, &b)| *y = T::narrow(f(a, b.widen())),
            );
        }
        [s, t] => {
            for (k, y) in y.iter_mut().enumerate() {
                *y = T::narrow(f(a[k * s].widen(), b[k * t].widen()));
            }
        }
    }
}

/// y += alpha · x
pub fn axpy(alpha: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "axpy", y.dtype(), T => {
        let x = x.slice::<T>();
        let alpha = <T as Store>::Real::of(alpha);
        split::over(y.slice_mut::<T>(), |start, y| {
            let x = &x[start..start + y.len()];
            vectorize(
                #[inline(always)]
                || {
                    y.iter_mut().zip(x).for_each(
                        #[inline(always)]
                        |(y, &x)| *y = T::narrow(x.widen() * alpha + y.widen()),
                    );
                },
            );
        });
        Ok(())
    })
}
