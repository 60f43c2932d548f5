//! Optimizer steps: one pass over parameter, gradient and state.

use super::{
    Buffer,
    real::*,
    simd,
    split::{self, Shared},
};
use crate::{
    dtype::with_dtype,
    error::Result,
    kernel::{Step, Update},
};

/// Elements that one task sweeps: enough to be worth a task, little enough to share out.
const GRAIN: usize = 1 << 16;

/// One step in place. States have the dtype that the parameter is computed in (f32 for f16 and bf16: a second moment of
/// small gradients would vanish in 16 bits).
///
/// Tasks divide the parameters as if they were one, so that many small ones are shared out as a large one is. Every element
/// is on its own, so neither the split into tasks nor the vector width changes a bit.
pub fn update(steps: &mut [Step<'_, Buffer>]) -> Result<()> {
    let total = steps.iter().map(|step| step.parameter.len()).sum::<usize>();
    if total <= GRAIN {
        return steps.iter_mut().try_for_each(whole);
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(steps.len());
    for step in steps {
        let count = step.parameter.len();
        parts.push((start, count, divisible(step)?));
        start += count;
    }
    split::tasks(total.div_ceil(GRAIN), &|i| {
        let (begin, end) = (i * GRAIN, total.min((i + 1) * GRAIN));
        let first = parts.partition_point(|(start, count, _)| start + count <= begin);
        for (start, count, part) in parts[first..].iter().take_while(|(start, ..)| *start < end) {
            let at = begin.max(*start);
            part(at - start, end.min(start + count) - at);
        }
    });
    Ok(())
}

fn whole(step: &mut Step<'_, Buffer>) -> Result<()> {
    with_dtype!(float "optimizer step", step.parameter.dtype(), T => {
        let state = step.state.each_mut().map(|s| s.as_mut().map(|s| s.slice_mut()));
        move_part::<T>(&step.update, step.parameter.slice_mut(), step.gradient.slice(), state);
        Ok(())
    })
}

/// Moves so many elements from a first on, which no two calls at once have in common.
type Part<'a> = Box<dyn Fn(usize, usize) + Sync + 'a>;

/// The same, to be done in parts.
fn divisible<'a>(step: &'a mut Step<'_, Buffer>) -> Result<Part<'a>> {
    with_dtype!(float "optimizer step", step.parameter.dtype(), T => {
        let (update, gradient) = (step.update, step.gradient.slice::<T>());
        let parameter = Shared::new(step.parameter.slice_mut::<T>());
        let state = step.state.each_mut().map(|s| s.as_mut().map(|s| Shared::new(s.slice_mut::<<T as Store>::Real>())));
        Ok(Box::new(move |at, len| {
            // SAFETY: each task has stretches of its own of the parameter and of each state.
            let parameter = unsafe { parameter.part(at, len) };
            // SAFETY: as above.
            let state = state.each_ref().map(|s| s.as_ref().map(|s| unsafe { s.part(at, len) }));
            move_part::<T>(&update, parameter, &gradient[at..at + len], state);
        }))
    })
}

/// What is kept of each element, in the order that [`Update`] names.
type State<'a, R> = [Option<&'a mut [R]>; 3];

/// Hands the state out as an array, so that each formula names what it holds.
fn slots<R, const S: usize>(state: State<'_, R>) -> [&mut [R]; S] {
    let mut slots = state.into_iter().flatten();
    std::array::from_fn(|_| slots.next().expect("the optimizer passes every state that its update names"))
}

fn move_part<T: Store>(update: &Update, p: &mut [T], g: &[T], state: State<'_, T::Real>) {
    type R<T> = <T as Store>::Real;
    let of = <R<T> as Real>::of;
    match *update {
        Update::Sgd { lr, momentum, dampening, weight_decay, nesterov } => {
            let (lr, mu, keep, decay) = (of(lr), of(momentum), of(1.0 - dampening), of(weight_decay));
            if momentum == 0.0 {
                sweep(p, g, [], move |p, g, []| (p - lr * penalised(g, p, decay), []));
            } else if nesterov {
                sweep(p, g, slots(state), move |p, g, [b]| {
                    let g = penalised(g, p, decay);
                    let b = mu * b + keep * g;
                    (p - lr * (g + mu * b), [b])
                });
            } else {
                sweep(p, g, slots(state), move |p, g, [b]| {
                    let b = mu * b + keep * penalised(g, p, decay);
                    (p - lr * b, [b])
                });
            }
        }
        Update::Adam { lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, step } => {
            let count = step as f64;
            let shrink = of(if decoupled { 1.0 - lr * weight_decay } else { 1.0 });
            let decay = of(if decoupled { 0.0 } else { weight_decay });
            let (b1, b2) = (of(1.0 - beta1), of(beta2));
            let (c2, eps) = (of(1.0 - beta2), of(eps));
            let size = of(lr / (1.0 - beta1.powf(count)));
            let root = of((1.0 - beta2.powf(count)).sqrt());
            if amsgrad {
                sweep(p, g, slots(state), move |p, g, [m, v, top]| {
                    let p = p * shrink;
                    let g = penalised(g, p, decay);
                    let m = m + b1 * (g - m);
                    let v = b2 * v + c2 * (g * g);
                    // Written so that a NaN wins, as in torch.maximum.
                    let top = if top >= v || top.is_nan() { top } else { v };
                    (p - size * m / (top.sqrt() / root + eps), [m, v, top])
                });
            } else {
                sweep(p, g, slots(state), move |p, g, [m, v]| {
                    let p = p * shrink;
                    let g = penalised(g, p, decay);
                    let m = m + b1 * (g - m);
                    let v = b2 * v + c2 * (g * g);
                    (p - size * m / (v.sqrt() / root + eps), [m, v])
                });
            }
        }
        Update::RmsProp { lr, alpha, eps, weight_decay, momentum, centered } => {
            let (lr, a, c) = (of(lr), of(alpha), of(1.0 - alpha));
            let (eps, decay, mu) = (of(eps), of(weight_decay), of(momentum));
            match (centered, momentum != 0.0) {
                (false, false) => sweep(p, g, slots(state), move |p, g, [v]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    (p - lr * g / (v.sqrt() + eps), [v])
                }),
                (false, true) => sweep(p, g, slots(state), move |p, g, [v, b]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    let b = mu * b + g / (v.sqrt() + eps);
                    (p - lr * b, [v, b])
                }),
                (true, false) => sweep(p, g, slots(state), move |p, g, [v, m]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    let m = m + c * (g - m);
                    (p - lr * g / ((v - m * m).sqrt() + eps), [v, m])
                }),
                (true, true) => sweep(p, g, slots(state), move |p, g, [v, m, b]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    let m = m + c * (g - m);
                    let b = mu * b + g / ((v - m * m).sqrt() + eps);
                    (p - lr * b, [v, m, b])
                }),
            }
        }
        Update::Adagrad { lr, lr_decay, eps, weight_decay, step } => {
            let rate = of(lr / (1.0 + (step as f64 - 1.0) * lr_decay));
            let (eps, decay) = (of(eps), of(weight_decay));
            sweep(p, g, slots(state), move |p, g, [sum]| {
                let g = penalised(g, p, decay);
                let sum = sum + g * g;
                (p - rate * g / (sum.sqrt() + eps), [sum])
            });
        }
    }
}

/// The gradient with its L2 penalty; without one the parameter is not looked at, so that an infinite one adds no NaN.
#[inline(always)]
fn penalised<R: Real>(g: R, p: R, decay: R) -> R {
    if decay == R::ZERO { g } else { g + decay * p }
}

/// Replaces each (p, state) by `rule(p, g, state)`.
#[inline(always)]
fn sweep<T: Store, const S: usize>(
    p: &mut [T],
    g: &[T],
    state: [&mut [T::Real]; S],
    rule: impl Fn(T::Real, T::Real, [T::Real; S]) -> (T::Real, [T::Real; S]),
) {
    simd::vectorize(|| pass(p, g, state, rule));
}

#[inline(always)]
fn pass<T: Store, const S: usize>(
    p: &mut [T],
    g: &[T],
    mut state: [&mut [T::Real]; S],
    rule: impl Fn(T::Real, T::Real, [T::Real; S]) -> (T::Real, [T::Real; S]),
) {
    let n = p.len();
    let g = &g[..n];
    // Slices of the loop's own length, or each access would be checked and nothing vectorised.
    for s in &mut state {
        let whole = std::mem::take(s);
        *s = &mut whole[..n];
    }
    for i in 0..n {
        let (next, kept) = rule(p[i].widen(), g[i].widen(), std::array::from_fn(|k| state[k][i]));
        p[i] = T::narrow(next);
        for k in 0..S {
            state[k][i] = kept[k];
        }
    }
}
