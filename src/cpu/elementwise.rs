//! Functions of each element.

use super::{
    Buffer,
    real::{Real, Store},
    simd::vectorize,
    split,
    walk::Walk,
};
#[cfg(target_arch = "x86_64")]
use super::{
    lanes,
    simd::{Isa, isa},
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
            move || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = T::narrow(f(x.widen()));
                }
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
            move || row(a, b, y, f),
        );
    });
}

/// [`map`] and [`map2`] of closures that are sure to be compiled into them.
macro_rules! map {
    ($x:expr, $y:expr, |$v:pat_param| $f:expr) => {
        map(
            $x,
            $y,
            #[inline(always)]
            |$v| $f,
        )
    };
}
macro_rules! map2 {
    ($a:expr, $b:expr, $y:expr, |$v:pat_param, $w:pat_param| $f:expr) => {
        map2(
            $a,
            $b,
            $y,
            #[inline(always)]
            |$v, $w| $f,
        )
    };
}

/// y = f(a, b) over slices of one length.
#[inline(always)]
fn row<T: Store>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T::Real, T::Real) -> T::Real) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = T::narrow(f(a.widen(), b.widen()));
    }
}

/// y = op(x)
pub fn unary(op: Unary, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "unary", y.dtype(), T => {
        unary_of::<T>(op, x.slice(), y.slice_mut());
        Ok(())
    })
}

fn unary_of<T: Store>(op: Unary, x: &[T], y: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == crate::dtype::DType::F32
        && isa() >= Isa::Avx512
        && matches!(op, Unary::Exp | Unary::Tanh | Unary::Sigmoid)
    {
        let x = bytemuck::cast_slice(x);
        return split::over(bytemuck::cast_slice_mut(y), |start, y| {
            let x = &x[start..start + y.len()];
            // SAFETY: the processor has it.
            unsafe {
                match op {
                    Unary::Exp => lanes::map(x, y, |x| lanes::exp(x)),
                    Unary::Tanh => lanes::map(x, y, |x| lanes::tanh(x)),
                    _ => lanes::map(x, y, |x| lanes::sigmoid(x)),
                }
            }
        });
    }
    let of = T::Real::of;
    let (zero, one) = (T::Real::ZERO, T::Real::ONE);
    match op {
        Unary::Neg => map!(x, y, |x| -x),
        Unary::Exp => map!(x, y, |x| x.exp()),
        Unary::Log => map!(x, y, |x| x.ln()),
        Unary::Sqrt => map!(x, y, |x| x.sqrt()),
        Unary::Abs => map!(x, y, |x| x.abs()),
        Unary::Tanh => map!(x, y, |x| x.tanh()),
        Unary::Sigmoid => map!(x, y, |x| x.sigmoid()),
        // Comparisons with NaN are false: here and in the clamp it takes the arm that is x.
        Unary::Relu => map!(x, y, |x| if x <= zero { zero } else { x }),
        Unary::Powf(2.0) => map!(x, y, |x| x * x),
        Unary::Powf(0.0) => map!(x, y, |_| one),
        Unary::Powf(p) => {
            let p = of(p);
            map!(x, y, |x| x.powf(p));
        }
        Unary::Affine { scale, shift } => {
            let (scale, shift) = (of(scale), of(shift));
            map!(x, y, |x| x * scale + shift);
        }
        Unary::Quotient(divisor) => {
            let divisor = of(divisor);
            map!(x, y, |x| x / divisor);
        }
        Unary::Clamp { low, high } => {
            let (low, high) = (of(low), of(high));
            map!(x, y, |x| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            });
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
        Unary::Neg => map!(dy, dx, |dy| -dy),
        Unary::Exp => map2!(y, dy, dx, |y, dy| dy * y),
        Unary::Log => map2!(x, dy, dx, |x, dy| dy / x),
        Unary::Sqrt => map2!(y, dy, dx, |y, dy| dy / (y + y)),
        Unary::Abs => map2!(x, dy, dx, |x, dy| {
            dy * if x > zero {
                one
            } else if x < zero {
                -one
            } else {
                zero
            }
        }),
        Unary::Tanh => map2!(y, dy, dx, |y, dy| dy * (one - y * y)),
        Unary::Sigmoid => map2!(y, dy, dx, |y, dy| dy * (y * (one - y))),
        Unary::Relu => map2!(x, dy, dx, |x, dy| if x <= zero { zero } else { dy }),
        Unary::Powf(0.0) => map!(dy, dx, |_| zero),
        Unary::Powf(2.0) => map2!(x, dy, dx, |x, dy| dy * (x + x)),
        Unary::Powf(p) => {
            let (p, less) = (of(p), of(p - 1.0));
            map2!(x, dy, dx, |x, dy| dy * (p * x.powf(less)));
        }
        Unary::Affine { scale, .. } => {
            let scale = of(scale);
            map!(dy, dx, |dy| dy * scale);
        }
        Unary::Quotient(divisor) => {
            let divisor = of(divisor);
            map!(dy, dx, |dy| dy / divisor);
        }
        Unary::Clamp { low, high } => {
            let (low, high) = (of(low), of(high));
            map2!(x, dy, dx, |x, dy| if x >= low && x <= high { dy } else { zero });
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
            map!(a, y, |a| f(a, b));
        }
        (true, [0, 1]) => {
            let a = a[0].widen();
            map!(b, y, |b| f(a, b));
        }
        _ => split::rows(y, extent, extent, |first, y| {
            let points = walk.points(first);
            vectorize(
                #[inline(always)]
                move || {
                    for (y, [i, j]) in y.chunks_exact_mut(extent).zip(points) {
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
            for (y, &a) in y.iter_mut().zip(&a[..n]) {
                *y = T::narrow(f(a.widen(), b));
            }
        }
        [0, 1] => {
            let a = a[0].widen();
            for (y, &b) in y.iter_mut().zip(&b[..n]) {
                *y = T::narrow(f(a, b.widen()));
            }
        }
        [s, t] => {
            for (k, y) in y.iter_mut().enumerate() {
                *y = T::narrow(f(a[k * s].widen(), b[k * t].widen()));
            }
        }
    }
}

/// y = f(y, x), in place.
fn onto<T: Store>(x: &[T], y: &mut [T], f: impl Fn(T::Real, T::Real) -> T::Real + Copy + Sync) {
    split::over(y, |start, y| {
        let x = &x[start..start + y.len()];
        vectorize(
            #[inline(always)]
            move || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = T::narrow(f(y.widen(), x.widen()));
                }
            },
        );
    });
}

/// y = y · x
pub fn mul_onto(x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "mul", y.dtype(), T => {
        onto::<T>(x.slice(), y.slice_mut(), #[inline(always)] |y, x| y * x);
        Ok(())
    })
}

/// y = y + y
pub fn double(y: &mut Buffer) -> Result<()> {
    with_dtype!(float "double", y.dtype(), T => {
        split::over(y.slice_mut::<T>(), |_, y| vectorize(
            #[inline(always)]
            move || y.iter_mut().for_each(#[inline(always)] |y| *y = T::narrow(y.widen() + y.widen())),
        ));
        Ok(())
    })
}

/// y += alpha · x
pub fn axpy(alpha: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "axpy", y.dtype(), T => {
        let alpha = <T as Store>::Real::of(alpha);
        onto::<T>(x.slice(), y.slice_mut(), #[inline(always)] |y, x| x * alpha + y);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::{split::PARALLEL, testing::*},
        dtype::DType,
    };

    const OPS: [Unary; 16] = [
        Unary::Neg,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Abs,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Relu,
        Unary::Powf(0.0),
        Unary::Powf(1.0),
        Unary::Powf(2.0),
        Unary::Powf(3.0),
        Unary::Powf(-0.5),
        Unary::Affine { scale: 2.0, shift: -0.5 },
        Unary::Quotient(-3.0),
        Unary::Clamp { low: -0.5, high: 0.75 },
    ];

    fn exact(op: Unary, x: f64) -> f64 {
        match op {
            Unary::Neg => -x,
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Sqrt => x.sqrt(),
            Unary::Abs => x.abs(),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Relu if x.is_nan() => x,
            Unary::Relu => x.max(0.0),
            Unary::Powf(p) => x.powf(p),
            Unary::Affine { scale, shift } => scale * x + shift,
            Unary::Quotient(divisor) => x / divisor,
            Unary::Clamp { low, high } => x.clamp(low, high),
        }
    }

    fn derivative(op: Unary, x: f64, y: f64) -> f64 {
        match op {
            Unary::Neg => -1.0,
            Unary::Exp => y,
            Unary::Log => 1.0 / x,
            Unary::Sqrt => 0.5 / y,
            Unary::Abs => {
                if x == 0.0 {
                    0.0
                } else {
                    x.signum()
                }
            }
            Unary::Tanh => 1.0 - y * y,
            Unary::Sigmoid => y * (1.0 - y),
            Unary::Relu => f64::from(x > 0.0),
            Unary::Powf(0.0) => 0.0,
            Unary::Powf(p) => p * x.powf(p - 1.0),
            Unary::Affine { scale, .. } => scale,
            Unary::Quotient(divisor) => 1.0 / divisor,
            Unary::Clamp { low, high } => f64::from(x >= low && x <= high),
        }
    }

    #[test]
    fn unary_and_backward() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LENGTHS.map(|n| (d, n))) {
            let (x, dy) = (buffer(dtype, &numbers(n, 1)), buffer(dtype, &numbers(n, 2)));
            for op in OPS {
                let mut y = stale(dtype, n);
                unary(op, &x, &mut y).unwrap();
                close(&y, &read(&x).iter().map(|&x| exact(op, x)).collect::<Vec<_>>(), 4.0, &(op, dtype, n));
                let mut dx = stale(dtype, n);
                unary_backward(op, &x, &y, &dy, &mut dx).unwrap();
                let inputs = read(&x).into_iter().zip(read(&y)).zip(read(&dy));
                let want: Vec<_> = inputs.map(|((x, y), dy)| dy * derivative(op, x, y)).collect();
                close(&dx, &want, 4.0, &("backward", op, dtype, n));
            }
        }
    }

    #[test]
    fn nan_infinity_and_zero() {
        let given = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0];
        for dtype in FLOATS {
            let x = buffer(dtype, &given);
            for op in OPS {
                let mut y = stale(dtype, 5);
                unary(op, &x, &mut y).unwrap();
                let want = given.map(|x| exact(op, x));
                close(&y, &want, 4.0, &(op, dtype));
            }
            for op in [Unary::Relu, Unary::Abs] {
                let mut dx = stale(dtype, 5);
                unary_backward(op, &x, &x, &stale(dtype, 5), &mut dx).unwrap();
                assert_eq!(read(&dx)[3], 0.0, "{op:?} at 0");
            }
        }
    }

    #[test]
    fn binary_broadcasts() {
        let cases: [(&[usize], &[usize], &[usize]); 10] = [
            (&[1000], &[1], &[1]),
            (&[1000], &[1], &[0]),
            (&[1000], &[0], &[1]),
            (&[40, 33], &[33, 1], &[0, 1]),
            (&[40, 33], &[1, 0], &[33, 1]),
            (&[40, 33], &[1, 0], &[0, 1]),
            (&[4, 1, 5, 7], &[35, 0, 7, 1], &[7, 0, 0, 1]),
            (&[300, 300], &[300, 1], &[1, 300]),
            (&[2, PARALLEL], &[PARALLEL, 1], &[0, 1]),
            (&[], &[], &[]),
        ];
        for (dtype, (shape, s, t)) in FLOATS.into_iter().flat_map(|d| cases.map(|c| (d, c))) {
            let n: usize = shape.iter().product();
            let reach = |s: &[usize]| 1 + shape.iter().zip(s).map(|(n, s)| (n - 1) * s).sum::<usize>();
            let (a, b) = (buffer(dtype, &numbers(reach(s), 3)), buffer(dtype, &numbers(reach(t), 4)));
            for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
                let mut y = stale(dtype, n);
                binary(op, shape, (&a, s), (&b, t), &mut y).unwrap();
                let at = |i: usize, strides: &[usize]| {
                    let digits = shape.iter().zip(strides).rev().scan(i, |rest, (&n, &s)| {
                        let digit = *rest % n;
                        *rest /= n;
                        Some(digit * s)
                    });
                    digits.sum::<usize>()
                };
                let (a, b) = (read(&a), read(&b));
                let pairs = (0..n).map(|i| (a[at(i, s)], b[at(i, t)]));
                let want: Vec<_> = pairs
                    .map(|(a, b)| match op {
                        Binary::Add => a + b,
                        Binary::Sub => a - b,
                        Binary::Mul => a * b,
                        Binary::Div => a / b,
                    })
                    .collect();
                close(&y, &want, 1.0, &(op, dtype, shape));
            }
        }
    }

    #[test]
    fn in_place_has_the_bits_of_elsewhere() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LENGTHS.map(|n| (d, n))) {
            // Small enough that products of f16 lose bits.
            let (x, y) = (numbers(n, 3), numbers(n, 4).iter().map(|v| v * 1e-4).collect::<Vec<_>>());
            let (x, mut y, mut want) = (buffer(dtype, &x), buffer(dtype, &y), stale(dtype, n));
            binary(Binary::Mul, &[n], (&y, &[1]), (&x, &[1]), &mut want).unwrap();
            mul_onto(&x, &mut y).unwrap();
            assert!(read(&y) == read(&want), "{dtype} {n}");
            binary(Binary::Add, &[n], (&y, &[1]), (&y, &[1]), &mut want).unwrap();
            double(&mut y).unwrap();
            assert!(read(&y) == read(&want), "{dtype} {n}");
        }
    }

    #[test]
    fn axpy_adds_in_place() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LENGTHS.map(|n| (d, n))) {
            let (x, mut y) = (buffer(dtype, &numbers(n, 5)), buffer(dtype, &numbers(n, 6)));
            let want: Vec<_> = read(&x).iter().zip(read(&y)).map(|(x, y)| y - 0.75 * x).collect();
            axpy(-0.75, &x, &mut y).unwrap();
            // The product is rounded before the sum, which may cancel.
            let got = read(&y);
            let ulp = [f64::EPSILON, 2.4e-7, 2e-3, 1.6e-2][FLOATS.iter().position(|&d| d == dtype).unwrap()];
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 4.0 * ulp), "{dtype} {n}");
        }
        assert!(axpy(1.0, &stale(DType::I64, 1), &mut stale(DType::I64, 1)).is_err());
    }

    #[test]
    fn threads_do_not_matter() {
        let x = buffer(DType::F32, &numbers(PARALLEL + 5, 7));
        same_on_any_threads(|| {
            let mut y = stale(DType::F32, x.len());
            unary(Unary::Tanh, &x, &mut y).unwrap();
            y
        });
    }
}
