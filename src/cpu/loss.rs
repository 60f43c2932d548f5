//! Losses and their gradients, with ATen's formulas, so that infinities and NaN come out where PyTorch's do.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Buffer,
    real::{Real, Store},
    reduce::sum_of,
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
    /// The logarithm of the rounded sum, and what rounding took from that over the sum (W. Kahan's correction).
    #[inline(always)]
    fn ln_1p(self) -> f32 {
        let sum = 1.0 + self;
        let lost = self - (sum - 1.0);
        let y = Real::ln(sum);
        // −1 and ∞ have no more to add.
        if sum > 0.0 && sum < f32::INFINITY { y + lost / sum } else { y }
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

    /// Those of the elements from `start` on.
    #[inline(always)]
    fn fill(&self, start: usize, to: &mut [T::Real]) {
        let Some(w) = self.0 else { return };
        // A division each would take longer than the loss.
        let mut at = start % w.len();
        for to in to {
            *to = w[at].widen();
            at = if at + 1 == w.len() { 0 } else { at + 1 };
        }
    }
}

/// What a pointwise loss reads. The gradient of y is one for all where it has one element; forward there is none.
#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    x: &'a [T],
    t: &'a [T],
    dy: Weights<'a, T>,
    weight: Weights<'a, T>,
    pos_weight: Weights<'a, T>,
}

impl<'a, T: Store> Inputs<'a, T> {
    fn new(x: &'a Buffer, target: &'a Buffer, weight: Option<&'a Buffer>, pos_weight: Option<&'a Buffer>) -> Self {
        let (weight, pos_weight) = (Weights::new(weight), Weights::new(pos_weight));
        Inputs { x: x.slice(), t: target.slice(), dy: Weights(None), weight, pos_weight }
    }
}

/// Takes the numbers of a loss where they are wanted. What `f` captures it captures by value: out of memory, which a store to the numbers
/// might change, it would be read for each of them.
trait Take<T: Store> {
    /// `f(x, t, dy, pos_weight)` times the weight, for each element.
    fn each(self, of: Inputs<'_, T>, f: impl Fn(T::Real, T::Real, T::Real, T::Real) -> T::Real + Copy + Sync);
}

/// Elements at a time.
const BLOCK: usize = 64;

/// The numbers of the elements from `start` on.
#[inline(always)]
fn numbers<T: Store, Y: Store<Real = T::Real>>(
    of: Inputs<'_, T>,
    start: usize,
    to: &mut [Y],
    f: impl Fn(T::Real, T::Real, T::Real, T::Real) -> T::Real,
) {
    // One for all where nothing else is written.
    let one_for_all = of.dy.0.filter(|dy| dy.len() == 1).map_or(T::Real::ONE, |dy| dy[0].widen());
    let (mut dy, mut weight, mut pos_weight) = ([one_for_all; BLOCK], [T::Real::ONE; BLOCK], [T::Real::ONE; BLOCK]);
    for (k, to) in to.chunks_mut(BLOCK).enumerate() {
        let first = start + k * BLOCK;
        let (x, t) = (&of.x[first..][..to.len()], &of.t[first..][..to.len()]);
        if of.dy.0.is_some_and(|dy| dy.len() > 1) {
            of.dy.fill(first, &mut dy[..to.len()]);
        }
        of.weight.fill(first, &mut weight[..to.len()]);
        of.pos_weight.fill(first, &mut pos_weight[..to.len()]);
        let factors = dy.iter().zip(&weight).zip(&pos_weight);
        for (((to, &x), &t), ((&dy, &weight), &pos_weight)) in to.iter_mut().zip(x).zip(t).zip(factors) {
            *to = Y::narrow(weight * f(x.widen(), t.widen(), dy, pos_weight));
        }
    }
}

/// Writes them.
impl<T: Store> Take<T> for &mut [T] {
    #[inline(always)]
    fn each(self, of: Inputs<'_, T>, f: impl Fn(T::Real, T::Real, T::Real, T::Real) -> T::Real + Copy + Sync) {
        split::over(self, |start, to| {
            vectorize(
                #[inline(always)]
                move || numbers(of, start, to, f),
            );
        });
    }
}

/// Their sum.
struct Sum<'a, T: Store>(&'a mut T::Real);

impl<T: Store<Real: Store<Real = T::Real>>> Take<T> for Sum<'_, T> {
    #[inline(always)]
    fn each(self, of: Inputs<'_, T>, f: impl Fn(T::Real, T::Real, T::Real, T::Real) -> T::Real + Copy + Sync) {
        *self.0 = sum_of(of.x.len(), |range, to| {
            vectorize(
                #[inline(always)]
                move || numbers(of, range.start, to, f),
            );
        });
    }
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
        let of = Inputs::<T>::new(x, target, weight, pos_weight);
        checked(loss, &of)?;
        pointwise(loss, of, y.slice_mut());
        Ok(())
    })
}

/// y = the sum of the losses, over `divisor`, as [`pointwise_loss`] and a reduction would give it.
///
/// # Errors
/// As there.
pub fn pointwise_loss_sum(
    loss: PointwiseLoss,
    x: &Buffer,
    target: &Buffer,
    (weight, pos_weight): (Option<&Buffer>, Option<&Buffer>),
    divisor: f64,
    y: &mut Buffer,
) -> Result<()> {
    with_dtype!(float "pointwise_loss", y.dtype(), T => {
        let of = Inputs::<T>::new(x, target, weight, pos_weight);
        checked(loss, &of)?;
        let mut sum = <T as Store>::Real::ZERO;
        pointwise(loss, of, Sum::<T>(&mut sum));
        y.slice_mut::<T>()[0] = T::narrow(sum / <T as Store>::Real::of(divisor));
        Ok(())
    })
}

fn checked<T: Store>(loss: PointwiseLoss, of: &Inputs<'_, T>) -> Result<()> {
    if loss == PointwiseLoss::Bce {
        probabilities("input", of.x)?;
        probabilities("target", of.t)?;
    }
    Ok(())
}

fn probabilities<T: Store>(what: &str, x: &[T]) -> Result<()> {
    let inside = |x: &T| (T::Real::ZERO..=T::Real::ONE).contains(&x.widen());
    let all = AtomicBool::new(true);
    split::tasks(x.len().div_ceil(split::PIECE), &|k| {
        let x = &x[k * split::PIECE..x.len().min((k + 1) * split::PIECE)];
        let some = vectorize(
            #[inline(always)]
            // Without an end on the way it is vector code.
            move || x.iter().fold(true, |all, x| all & inside(x)),
        );
        all.fetch_and(some, Ordering::Relaxed);
    });
    if all.into_inner() {
        return Ok(());
    }
    match x.iter().position(|x| !inside(x)) {
        None => Ok(()),
        Some(i) => Err(Error::argument(
            "binary_cross_entropy",
            format!("{what} element {i} = {}", x[i]),
            "probabilities in [0, 1]",
        )),
    }
}

fn pointwise<T: Store<Real: Log1p>>(loss: PointwiseLoss, of: Inputs<'_, T>, y: impl Take<T>) {
    let real = T::Real::of;
    let (one, half, floor) = (T::Real::ONE, real(0.5), real(-100.0));
    match loss {
        PointwiseLoss::Mse => y.each(of, move |x, t, _, _| (x - t) * (x - t)),
        PointwiseLoss::L1 | PointwiseLoss::SmoothL1 { beta: 0.0 } => y.each(of, move |x, t, _, _| (x - t).abs()),
        PointwiseLoss::Huber { delta } => {
            let delta = real(delta);
            y.each(of, move |x, t, _, _| {
                let z = (x - t).abs();
                if z <= delta { half * z * z } else { delta * (z - half * delta) }
            });
        }
        PointwiseLoss::SmoothL1 { beta } => {
            let beta = real(beta);
            y.each(of, move |x, t, _, _| {
                let z = (x - t).abs();
                if z < beta { half * z * z / beta } else { z - half * beta }
            });
        }
        PointwiseLoss::Bce => {
            y.each(of, move |x, t, _, _| (t - one) * max((-x).ln_1p(), floor) - t * max(x.ln(), floor));
        }
        PointwiseLoss::BceWithLogits if of.pos_weight.0.is_none() => {
            y.each(of, move |x, t, _, _| (one - t) * x - log_sigmoid(x));
        }
        PointwiseLoss::BceWithLogits => {
            y.each(of, move |x, t, _, p| (one - t) * x - ((p - one) * t + one) * log_sigmoid(x));
        }
        PointwiseLoss::KlDiv { log_target: false } => y.each(of, move |x, t, _, _| x_log_x(t) - t * x),
        PointwiseLoss::KlDiv { log_target: true } => y.each(of, move |x, t, _, _| t.exp() * (t - x)),
    }
}

/// dx and, where asked, dtarget from dy, of as many elements or one for all.
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
        let of = Inputs { dy: Weights::new(Some(dy)), ..Inputs::<T>::new(x, target, weight, pos_weight) };
        if let Some(dx) = dx {
            to_input(loss, of, dx.slice_mut());
        }
        if let Some(dt) = dtarget {
            to_target(loss, of, dt.slice_mut());
        }
        Ok(())
    })
}

fn to_input<T: Store<Real: Log1p>>(loss: PointwiseLoss, of: Inputs<'_, T>, dx: &mut [T]) {
    let real = T::Real::of;
    // ATen's constant is an f32, in f64 too.
    let (one, two, tiny) = (T::Real::ONE, real(2.0), real(f64::from(1e-12f32)));
    match loss {
        PointwiseLoss::Mse => dx.each(of, move |x, t, dy, _| two * (x - t) * dy),
        PointwiseLoss::L1 | PointwiseLoss::SmoothL1 { beta: 0.0 } => dx.each(of, move |x, t, dy, _| sign(x - t) * dy),
        PointwiseLoss::Huber { delta } => {
            let delta = real(delta);
            dx.each(of, move |x, t, dy, _| clamp(x - t, delta) * dy);
        }
        PointwiseLoss::SmoothL1 { beta } => {
            let beta = real(beta);
            dx.each(of, move |x, t, dy, _| clamp(x - t, beta) / beta * dy);
        }
        // The denominator is held at 10⁻¹², as in ATen: at 0 and 1 the gradient is large, not infinite.
        PointwiseLoss::Bce => dx.each(of, move |x, t, dy, _| dy * (x - t) / max((one - x) * x, tiny)),
        PointwiseLoss::BceWithLogits if of.pos_weight.0.is_none() => {
            dx.each(of, move |x, t, dy, _| (x.sigmoid() - t) * dy);
        }
        PointwiseLoss::BceWithLogits => dx.each(of, move |x, t, dy, p| {
            let p = p * t;
            ((p + one - t) * x.sigmoid() - p) * dy
        }),
        PointwiseLoss::KlDiv { log_target: false } => dx.each(of, move |_, t, dy, _| -t * dy),
        PointwiseLoss::KlDiv { log_target: true } => dx.each(of, move |_, t, dy, _| -t.exp() * dy),
    }
}

fn to_target<T: Store<Real: Log1p>>(loss: PointwiseLoss, of: Inputs<'_, T>, dt: &mut [T]) {
    let one = T::Real::ONE;
    match loss {
        // Of the difference alone: x and t change places.
        PointwiseLoss::Mse | PointwiseLoss::L1 | PointwiseLoss::Huber { .. } | PointwiseLoss::SmoothL1 { .. } => {
            to_input(loss, Inputs { x: of.t, t: of.x, ..of }, dt);
        }
        // −logit(x), not clamped, as in ATen.
        PointwiseLoss::Bce => dt.each(of, move |x, _, dy, _| ((one - x) / x).ln() * dy),
        PointwiseLoss::BceWithLogits if of.pos_weight.0.is_none() => dt.each(of, move |x, _, dy, _| -x * dy),
        PointwiseLoss::BceWithLogits => {
            dt.each(of, move |x, _, dy, p| (log_sigmoid(-x) - p * log_sigmoid(x)) * dy);
        }
        // At t = 0 this is NaN, as in PyTorch: t ln t has no derivative there.
        PointwiseLoss::KlDiv { log_target: false } => {
            dt.each(of, move |x, t, dy, _| (t.ln() + t * (one / t) - x) * dy);
        }
        PointwiseLoss::KlDiv { log_target: true } => {
            dt.each(of, move |x, t, dy, _| t.exp() * (t - x + one) * dy);
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
        let (classes, inner) = (self.loss.classes, self.loss.inner);
        let whole = if inner == 1 && self.weight.0.is_none() { classes / 8 * 8 } else { 0 };
        for x in x[first..][..whole].chunks_exact(8) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += x.widen();
            }
        }
        for class in whole..classes {
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
        if inner == 1 && self.class_of(outer).is_none() {
            return;
        }
        if label_smoothing != 0.0 && inner == 1 {
            let dy = dy[outer].widen();
            match self.weight.0 {
                None => dx.fill(T::narrow(-spread * dy)),
                Some(w) => dx.iter_mut().zip(w).for_each(|(dx, w)| *dx = T::narrow(-spread * w.widen() * dy)),
            }
        } else if label_smoothing != 0.0 {
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

    #[test]
    fn logarithms_within_two_ulps() {
        let mut worst = 0f64;
        for i in 0..=1u32 << 20 {
            let part = i as f32 / (1 << 20) as f32;
            // All sizes down to the least normal number, and even steps, on both sides of 0.
            for x in [part, -part, 1e30 * part, f32::from_bits(0x0080_0000 + i * 961)] {
                let (got, want) = (Log1p::ln_1p(x), f64::ln_1p(x as f64));
                let ulp = f64::from(f32::EPSILON) * 2f64.powi(want.abs().log2().floor().max(-126.0) as i32);
                if x > -1.0 && x != 0.0 {
                    worst = worst.max((got as f64 - want).abs() / ulp);
                }
            }
        }
        assert!(worst <= 2.0, "{worst} units in the last place");
        let (no, yes) = (f32::NEG_INFINITY, f32::INFINITY);
        assert_eq!((Log1p::ln_1p(-1f32), Log1p::ln_1p(yes), Log1p::ln_1p(0f32)), (no, yes, 0.0));
        assert!([f32::NAN, -1.5, no].into_iter().all(|x| Log1p::ln_1p(x).is_nan()));
    }

    /// One pass gives the bits of the losses, their sum and a gradient for each.
    #[test]
    fn sums_and_one_gradient_for_all() {
        let losses = [
            PointwiseLoss::Mse,
            PointwiseLoss::Huber { delta: 0.3 },
            PointwiseLoss::Bce,
            PointwiseLoss::BceWithLogits,
            PointwiseLoss::KlDiv { log_target: true },
        ];
        let mut rng = crate::Philox::seed(6);
        for (n, trailing) in [(1, 1), (70, 7), (1025, 5), (70_000, 1000)] {
            let mut numbers =
                |n: usize| Buffer::from_slice(&(0..n).map(|_| rng.uniform()).collect::<Vec<f32>>()).unwrap();
            let (x, t, weight, pos_weight) = (numbers(n), numbers(n), numbers(n), numbers(trailing));
            let new = |n: usize| Buffer::new(crate::DType::F32, n).unwrap();
            for loss in losses {
                for (w, p) in [(None, None), (Some(&weight), None), (Some(&weight), Some(&pos_weight))] {
                    let (mut each, mut sum, mut by_reduction) = (new(n), new(1), new(1));
                    pointwise_loss(loss, &x, &t, w, p, &mut each).unwrap();
                    pointwise_loss_sum(loss, &x, &t, (w, p), n as f64, &mut sum).unwrap();
                    let op = crate::kernel::Reduce::Mean;
                    super::super::reduce::reduce(op, (1, n, 1), &each, &mut by_reduction).unwrap();
                    assert_eq!(sum.slice::<f32>(), by_reduction.slice::<f32>(), "{loss:?}, {n}");
                    let gradients = |dy: &Buffer| {
                        let (mut dx, mut dt) = (new(n), new(n));
                        pointwise_loss_backward(loss, &x, &t, w, p, dy, Some(&mut dx), Some(&mut dt)).unwrap();
                        [dx, dt].map(|d| d.slice::<f32>().to_vec())
                    };
                    let one = Buffer::from_slice(&[0.3f32]).unwrap();
                    let all = Buffer::from_slice(&vec![0.3f32; n]).unwrap();
                    assert!(gradients(&one) == gradients(&all), "{loss:?}, {n}");
                }
            }
        }
    }
}
