//! Losses and their gradients, with ATen's formulas, so that infinities and NaN come out where PyTorch's do.

use super::{
    Buffer,
    real::{Real, Store},
    simd::vectorize,
    split,
};
use crate::{
    dtype::with_dtype,
    error::{Error, Result},
    kernel::{ClassLoss, PointwiseLoss},
};

/// ln(1 + x), which [`Real`] lacks: only losses need it.
trait Log1p: Real {
    fn ln_1p(self) -> Self;
}

impl Log1p for f32 {
    #[inline(always)]
    fn ln_1p(self) -> f32 {
        f32::ln_1p(self)
    }
}

impl Log1p for f64 {
    #[inline(always)]
    fn ln_1p(self) -> f64 {
        f64::ln_1p(self)
    }
}

/// Of two numbers the greater; the second if the first is NaN.
#[inline(always)]
fn max<R: Real>(a: R, b: R) -> R {
    if a > b { a } else { b }
}

/// −1, 0 or 1; 0 for NaN, as `torch.sgn` has it.
#[inline(always)]
fn sign<R: Real>(x: R) -> R {
    let up = if x > R::ZERO { R::ONE } else { R::ZERO };
    let down = if x < R::ZERO { R::ONE } else { R::ZERO };
    up - down
}

/// ln sigmoid(x) without overflow.
#[inline(always)]
fn log_sigmoid<R: Log1p>(x: R) -> R {
    let low = if x < R::ZERO || x.is_nan() { x } else { R::ZERO };
    low - (-x.abs()).exp().ln_1p()
}

/// x ln x, 0 at 0.
#[inline(always)]
fn x_log_x<R: Real>(x: R) -> R {
    if x == R::ZERO { R::ZERO } else { x * x.ln() }
}

/// The optional factor of an element.
#[derive(Clone, Copy)]
struct Weights<'a, T>(Option<&'a [T]>);

impl<'a, T: Store> Weights<'a, T> {
    fn new(buffer: Option<&'a Buffer>) -> Self {
        Weights(buffer.map(Buffer::slice))
    }

    /// The weight of element i, where they repeat: a trailing block of the elements.
    #[inline(always)]
    fn at(&self, i: usize) -> T::Real {
        self.0.map_or(T::Real::ONE, |w| w[i % w.len()].widen())
    }
}

/// y\[i\] = weight · f(x, t, i)
#[inline(always)]
fn each<T: Store>(
    x: &[T],
    t: &[T],
    weight: Weights<'_, T>,
    y: &mut [T],
    f: impl Fn(T::Real, T::Real, usize) -> T::Real + Sync,
) {
    split::over(y, |start, y| {
        let end = start + y.len();
        let (x, t) = (&x[start..end], &t[start..end]);
        vectorize(
            #[inline(always)]
            || {
                for (i, ((y, &x), &t)) in y.iter_mut().zip(x).zip(t).enumerate() {
                    let value = f(x.widen(), t.widen(), start + i);
                    *y = T::narrow(if weight.0.is_some() { weight.at(start + i) * value } else { value });
                }
            },
        );
    });
}

/// y = loss(x, t), times `weight` where given.
///
/// # Errors
/// [`PointwiseLoss::Bce`] refuses an x or a t outside `[0, 1]`, NaN among them, as PyTorch does.
pub fn pointwise_loss(
    loss: PointwiseLoss,
    x: &Buffer,
    target: &Buffer,
    weight: Option<&Buffer>,
    pos_weight: Option<&Buffer>,
    y: &mut Buffer,
) -> Result<()> {
    with_dtype!(float "pointwise_loss", y.dtype(), T => {
        let (x, t) = (x.slice::<T>(), target.slice::<T>());
        if loss == PointwiseLoss::Bce {
            probabilities("input", x)?;
            probabilities("target", t)?;
        }
        pointwise::<T>(loss, x, t, Weights::new(weight), Weights::new(pos_weight), y.slice_mut());
        Ok(())
    })
}

fn probabilities<T: Store>(what: &str, x: &[T]) -> Result<()> {
    let inside = |&x: &T| (T::Real::ZERO..=T::Real::ONE).contains(&x.widen());
    match x.iter().position(|x| !inside(x)) {
        None => Ok(()),
        Some(i) => Err(Error::argument(
            "binary_cross_entropy",
            format!("{what} element {i} = {}", x[i]),
            "probabilities in [0, 1]",
        )),
    }
}

fn pointwise<T: Store<Real: Log1p>>(
    loss: PointwiseLoss,
    x: &[T],
    t: &[T],
    weight: Weights<'_, T>,
    pos_weight: Weights<'_, T>,
    y: &mut [T],
) {
    let of = T::Real::of;
    let (one, half, floor) = (T::Real::ONE, of(0.5), of(-100.0));
    match loss {
        PointwiseLoss::Mse => each(x, t, weight, y, |x, t, _| (x - t) * (x - t)),
        PointwiseLoss::L1 | PointwiseLoss::SmoothL1 { beta: 0.0 } => each(x, t, weight, y, |x, t, _| (x - t).abs()),
        PointwiseLoss::Huber { delta } => {
            let delta = of(delta);
            each(x, t, weight, y, |x, t, _| {
                let z = (x - t).abs();
                if z <= delta { half * z * z } else { delta * (z - half * delta) }
            });
        }
        PointwiseLoss::SmoothL1 { beta } => {
            let beta = of(beta);
            each(x, t, weight, y, |x, t, _| {
                let z = (x - t).abs();
                if z < beta { half * z * z / beta } else { z - half * beta }
            });
        }
        PointwiseLoss::Bce => {
            each(x, t, weight, y, |x, t, _| (t - one) * max((-x).ln_1p(), floor) - t * max(x.ln(), floor));
        }
        PointwiseLoss::BceWithLogits => each(x, t, weight, y, |x, t, i| {
            let scale = if pos_weight.0.is_some() { (pos_weight.at(i) - one) * t + one } else { one };
            (one - t) * x - scale * log_sigmoid(x)
        }),
        PointwiseLoss::KlDiv { log_target: false } => each(x, t, weight, y, |x, t, _| x_log_x(t) - t * x),
        PointwiseLoss::KlDiv { log_target: true } => each(x, t, weight, y, |x, t, _| t.exp() * (t - x)),
    }
}

/// dx and, where asked, dtarget from dy.
#[expect(clippy::too_many_arguments, reason = "one launch: its buffers")]
pub fn pointwise_loss_backward(
    loss: PointwiseLoss,
    x: &Buffer,
    target: &Buffer,
    weight: Option<&Buffer>,
    pos_weight: Option<&Buffer>,
    dy: &Buffer,
    dx: Option<&mut Buffer>,
    dtarget: Option<&mut Buffer>,
) -> Result<()> {
    with_dtype!(float "pointwise_loss", dy.dtype(), T => {
        let (x, t, dy) = (x.slice::<T>(), target.slice::<T>(), dy.slice::<T>());
        let (weight, pos_weight) = (Weights::new(weight), Weights::new(pos_weight));
        if let Some(dx) = dx {
            to_input::<T>(loss, x, t, weight, pos_weight, dy, dx.slice_mut());
        }
        if let Some(dt) = dtarget {
            to_target::<T>(loss, x, t, weight, pos_weight, dy, dt.slice_mut());
        }
        Ok(())
    })
}

fn to_input<T: Store<Real: Log1p>>(
    loss: PointwiseLoss,
    x: &[T],
    t: &[T],
    weight: Weights<'_, T>,
    pos_weight: Weights<'_, T>,
    dy: &[T],
    dx: &mut [T],
) {
    let of = T::Real::of;
    // ATen's constant is an f32, in f64 too.
    let (one, two, tiny) = (T::Real::ONE, of(2.0), of(f64::from(1e-12f32)));
    let dy = |i: usize| dy[i].widen();
    match loss {
        PointwiseLoss::Mse => each(x, t, weight, dx, |x, t, i| two * (x - t) * dy(i)),
        PointwiseLoss::L1 | PointwiseLoss::SmoothL1 { beta: 0.0 } => {
            each(x, t, weight, dx, |x, t, i| sign(x - t) * dy(i));
        }
        PointwiseLoss::Huber { delta } => {
            let delta = of(delta);
            each(x, t, weight, dx, |x, t, i| clamp(x - t, delta) * dy(i));
        }
        PointwiseLoss::SmoothL1 { beta } => {
            let beta = of(beta);
            each(x, t, weight, dx, |x, t, i| clamp(x - t, beta) / beta * dy(i));
        }
        // The denominator is held at 10⁻¹², as in ATen: at 0 and 1 the gradient is large, not infinite.
        PointwiseLoss::Bce => each(x, t, weight, dx, |x, t, i| dy(i) * (x - t) / max((one - x) * x, tiny)),
        PointwiseLoss::BceWithLogits => each(x, t, weight, dx, |x, t, i| {
            if pos_weight.0.is_some() {
                let p = pos_weight.at(i) * t;
                ((p + one - t) * x.sigmoid() - p) * dy(i)
            } else {
                (x.sigmoid() - t) * dy(i)
            }
        }),
        PointwiseLoss::KlDiv { log_target: false } => each(x, t, weight, dx, |_, t, i| -t * dy(i)),
        PointwiseLoss::KlDiv { log_target: true } => each(x, t, weight, dx, |_, t, i| -t.exp() * dy(i)),
    }
}

fn to_target<T: Store<Real: Log1p>>(
    loss: PointwiseLoss,
    x: &[T],
    t: &[T],
    weight: Weights<'_, T>,
    pos_weight: Weights<'_, T>,
    dy: &[T],
    dt: &mut [T],
) {
    let one = T::Real::ONE;
    let grad = |i: usize| dy[i].widen();
    match loss {
        // Of the difference alone: x and t change places.
        PointwiseLoss::Mse | PointwiseLoss::L1 | PointwiseLoss::Huber { .. } | PointwiseLoss::SmoothL1 { .. } => {
            to_input(loss, t, x, weight, pos_weight, dy, dt);
        }
        // −logit(x), not clamped, as in ATen.
        PointwiseLoss::Bce => each(x, t, weight, dt, |x, _, i| ((one - x) / x).ln() * grad(i)),
        PointwiseLoss::BceWithLogits => each(x, t, weight, dt, |x, _, i| {
            if pos_weight.0.is_some() {
                (log_sigmoid(-x) - pos_weight.at(i) * log_sigmoid(x)) * grad(i)
            } else {
                -x * grad(i)
            }
        }),
        // At t = 0 this is NaN, as in PyTorch: t ln t has no derivative there.
        PointwiseLoss::KlDiv { log_target: false } => {
            each(x, t, weight, dt, |x, t, i| (t.ln() + t * (one / t) - x) * grad(i));
        }
        PointwiseLoss::KlDiv { log_target: true } => {
            each(x, t, weight, dt, |x, t, i| t.exp() * (t - x + one) * grad(i));
        }
    }
}

/// x held inside ±bound; NaN stays.
#[inline(always)]
fn clamp<R: Real>(x: R, bound: R) -> R {
    if x <= -bound {
        -bound
    } else if x >= bound {
        bound
    } else {
        x
    }
}

/// Per-sample loss and per-sample weight (that of the target class; 0 when ignored) from log-probabilities. The caller
/// has checked that each target is a class or ignored.
pub fn class_loss(
    loss: &ClassLoss,
    x: &Buffer,
    target: &Buffer,
    weight: Option<&Buffer>,
    y: &mut Buffer,
    sample_weight: &mut Buffer,
) -> Result<()> {
    with_dtype!(float "class_loss", y.dtype(), T => {
        let samples = Samples { loss, target: target.slice(), weight: Weights::new(weight) };
        let (x, y, weights) = (x.slice::<T>(), y.slice_mut::<T>(), sample_weight.slice_mut::<T>());
        // What a sample costs: with smoothing all its classes are read.
        let work = if loss.label_smoothing == 0.0 { 1 } else { loss.classes };
        split::rows(y, 1, work, |first, y| {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = T::narrow(samples.loss_of(x, first + i)));
        });
        weights.iter_mut().enumerate().for_each(|(i, w)| {
            *w = T::narrow(samples.weight_of(i));
        });
        Ok(())
    })
}

/// dx of the per-sample loss from dy `[outer, inner]`.
pub fn class_loss_backward(
    loss: &ClassLoss,
    target: &Buffer,
    weight: Option<&Buffer>,
    dy: &Buffer,
    dx: &mut Buffer,
) -> Result<()> {
    with_dtype!(float "class_loss", dy.dtype(), T => {
        let samples = Samples { loss, target: target.slice(), weight: Weights::new(weight) };
        let dy = dy.slice::<T>();
        let row = loss.classes * loss.inner;
        split::rows(dx.slice_mut::<T>(), row, row, |first, dx| {
            for (o, dx) in dx.chunks_exact_mut(row).enumerate() {
                samples.gradient_of(first + o, dy, dx);
            }
        });
        Ok(())
    })
}

/// The samples of a class loss: one per (outer, inner), numbered in that order.
struct Samples<'a, T> {
    loss: &'a ClassLoss,
    target: &'a [i64],
    /// One per class.
    weight: Weights<'a, T>,
}

impl<T: Store> Samples<'_, T> {
    /// The class of a sample, `None` when it is ignored.
    #[inline(always)]
    fn class_of(&self, sample: usize) -> Option<usize> {
        let class = self.target[sample];
        (class != self.loss.ignore_index).then_some(class as usize)
    }

    fn weight_of(&self, sample: usize) -> T::Real {
        self.class_of(sample).map_or(T::Real::ZERO, |class| self.weight.at(class))
    }

    fn loss_of(&self, x: &[T], sample: usize) -> T::Real {
        let &ClassLoss { classes, inner, label_smoothing, .. } = self.loss;
        let Some(class) = self.class_of(sample) else {
            return T::Real::ZERO;
        };
        let first = sample / inner * classes * inner + sample % inner;
        let on_target = -x[first + class * inner].widen() * self.weight.at(class);
        if label_smoothing == 0.0 {
            return on_target;
        }
        let everywhere = self.weighted_sum(x, first);
        let of = T::Real::of;
        of(1.0 - label_smoothing) * on_target - of(label_smoothing / classes as f64) * everywhere
    }

    /// Σ weight · x over the classes of a sample, in eight partial sums: less rounding than one, and always in this
    /// order.
    fn weighted_sum(&self, x: &[T], first: usize) -> T::Real {
        let mut sums = [T::Real::ZERO; 8];
        for class in 0..self.loss.classes {
            let value = x[first + class * self.loss.inner].widen();
            sums[class % 8] += if self.weight.0.is_some() { value * self.weight.at(class) } else { value };
        }
        sums.into_iter().sum()
    }

    /// dx `[classes, inner]` of one outer index.
    fn gradient_of(&self, outer: usize, dy: &[T], dx: &mut [T]) {
        let &ClassLoss { classes, inner, label_smoothing, .. } = self.loss;
        let of = T::Real::of;
        let spread = of(label_smoothing / classes as f64);
        let kept = of(1.0 - label_smoothing);
        // An ignored sample, and without smoothing every class but the target, has exactly 0, also where dy is not
        // finite.
        dx.fill(T::default());
        if label_smoothing != 0.0 {
            for (class, dx) in dx.chunks_exact_mut(inner).enumerate() {
                let factor = -spread * self.weight.at(class);
                for (i, dx) in dx.iter_mut().enumerate() {
                    let sample = outer * inner + i;
                    if self.class_of(sample).is_some() {
                        *dx = T::narrow(factor * dy[sample].widen());
                    }
                }
            }
        }
        for i in 0..inner {
            let sample = outer * inner + i;
            if let Some(target) = self.class_of(sample) {
                let dy = dy[sample].widen();
                let own = -dy * kept * self.weight.at(target);
                let both = if label_smoothing == 0.0 { own } else { own - dy * spread * self.weight.at(target) };
                dx[target * inner + i] = T::narrow(both);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{Element, bf16, f16};

    #[test]
    fn ends_and_nan() {
        assert_eq!(
            (log_sigmoid(1e4f32), log_sigmoid(-1e4f32), log_sigmoid(0f64)),
            (0.0, -1e4, -std::f64::consts::LN_2)
        );
        assert_eq!((log_sigmoid(f32::INFINITY), log_sigmoid(f32::NEG_INFINITY)), (0.0, f32::NEG_INFINITY));
        assert!(log_sigmoid(f32::NAN).is_nan() && clamp(f32::NAN, 1.0).is_nan());
        assert_eq!((sign(-3f32), sign(0f32), sign(f32::NAN)), (-1.0, 0.0, 0.0));
        assert_eq!((x_log_x(0f32), max(f32::NAN, -100.0)), (0.0, -100.0));
    }

    fn pointwise_in<T: Element>(loss: PointwiseLoss) -> Vec<f64> {
        let of = |values: [f64; 4]| Buffer::from_slice(&values.map(T::from_f64)).unwrap();
        let (x, t, dy) = (of([0.25, 0.5, 0.75, 0.125]), of([0.5, 0.25, 1.0, 0.75]), of([1.0, -2.0, 0.5, 1.0]));
        let (weight, pos_weight) = (of([1.0, 0.5, 2.0, 1.0]), of([0.5, 1.0, 2.0, 4.0]));
        let new = || of([0.0; 4]);
        let (mut y, mut dx, mut dt) = (new(), new(), new());
        pointwise_loss(loss, &x, &t, Some(&weight), Some(&pos_weight), &mut y).unwrap();
        let grads = (Some(&mut dx), Some(&mut dt));
        pointwise_loss_backward(loss, &x, &t, Some(&weight), Some(&pos_weight), &dy, grads.0, grads.1).unwrap();
        [y, dx, dt].iter().flat_map(|b| b.slice::<T>().iter().map(|v| v.to_f64()).collect::<Vec<_>>()).collect()
    }

    fn class_in<T: Element>(loss: &ClassLoss) -> Vec<f64> {
        let of =
            |values: &[f64]| Buffer::from_slice(&values.iter().map(|&v| T::from_f64(v)).collect::<Vec<_>>()).unwrap();
        let samples = loss.outer * loss.inner;
        let values: Vec<f64> = (0..samples * loss.classes).map(|i| -((i * 7 % 11) as f64) / 4.0).collect();
        let target: Vec<i64> = (0..samples).map(|i| (i % loss.classes) as i64).collect();
        let target = Buffer::from_slice(&target).unwrap();
        let weight = of(&(0..loss.classes).map(|c| 0.5 + c as f64 / 4.0).collect::<Vec<_>>());
        let (mut y, mut w) = (of(&vec![9.0; samples]), of(&vec![9.0; samples]));
        class_loss(loss, &of(&values), &target, Some(&weight), &mut y, &mut w).unwrap();
        let (dy, mut dx) = (of(&vec![0.5; samples]), of(&vec![9.0; values.len()]));
        class_loss_backward(loss, &target, Some(&weight), &dy, &mut dx).unwrap();
        [y, w, dx].iter().flat_map(|b| b.slice::<T>().iter().map(|v| v.to_f64()).collect::<Vec<_>>()).collect()
    }

    /// 16-bit storage is computed in f32, so it is the f64 answer rounded.
    #[test]
    fn every_dtype() {
        let near = |got: Vec<f64>, want: &[f64], bound: f64| {
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() <= bound * want.abs().max(1.0), "{got} {want}");
            }
        };
        let pointwise = [
            PointwiseLoss::Mse,
            PointwiseLoss::L1,
            PointwiseLoss::Huber { delta: 0.3 },
            PointwiseLoss::SmoothL1 { beta: 0.3 },
            PointwiseLoss::SmoothL1 { beta: 0.0 },
            PointwiseLoss::Bce,
            PointwiseLoss::BceWithLogits,
            PointwiseLoss::KlDiv { log_target: false },
            PointwiseLoss::KlDiv { log_target: true },
        ];
        for loss in pointwise {
            let want = pointwise_in::<f64>(loss);
            near(pointwise_in::<f32>(loss), &want, 1e-6);
            near(pointwise_in::<f16>(loss), &want, 1e-3);
            near(pointwise_in::<bf16>(loss), &want, 1e-2);
        }
        for (outer, inner) in [(1, 1), (5, 1), (2, 3)] {
            for label_smoothing in [0.0, 0.25] {
                let loss = ClassLoss { outer, classes: 4, inner, ignore_index: 1, label_smoothing };
                let want = class_in::<f64>(&loss);
                near(class_in::<f32>(&loss), &want, 1e-6);
                near(class_in::<f16>(&loss), &want, 1e-3);
                near(class_in::<bf16>(&loss), &want, 1e-2);
            }
        }
    }
}
