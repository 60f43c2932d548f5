//! Optimizer steps: one pass over parameter, gradient and state.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Buffer,
    real::*,
    simd,
    split::{self, Shared},
};
use crate::{
    dtype::with_dtype,
    error::Result,
    kernel::{CLOCK, CLOCK_ADAGRAD, CLOCK_ADAM, CLOCK_SETTINGS, Live, Numbers, ScaleRule, Step, Update, whole_power},
};

/// Elements that one task sweeps: enough to be worth a task, little enough to share out.
const GRAIN: usize = 1 << 16;

/// One step in place. States have the dtype that the parameter is computed in (f32 for f16 and bf16: a second moment of
/// small gradients would vanish in 16 bits).
///
/// Tasks divide the parameters as if they were one, so that many small ones are shared out as a large one is. Every element
/// is on its own, so neither the split into tasks nor the vector width changes a bit.
pub fn update(steps: &mut [Step<'_, Buffer>], live: Option<&Live<'_, Buffer>>) -> Result<()> {
    if live.is_some_and(|live| skipped(live.skip)) {
        return Ok(());
    }
    let factor = live.and_then(|live| live.scale).map_or(1.0, factor);
    let numbers = |step: &Step<'_, Buffer>| match live {
        Some(live) => {
            let clock = &live.clocks.slice::<f64>()[step.clock * CLOCK..][1..CLOCK];
            (std::array::from_fn(|i| clock[i]), factor)
        }
        None => (step.update.numbers(), factor),
    };
    let total = steps.iter().map(|step| step.parameter.len()).sum::<usize>();
    if total <= GRAIN || rayon::current_num_threads() == 1 {
        return steps.iter_mut().try_for_each(|step| whole(numbers(step), step));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(steps.len());
    for step in steps {
        let count = step.parameter.len();
        parts.push((start, count, divisible(numbers(step), step)?));
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

fn skipped(skip: Option<&Buffer>) -> bool {
    skip.is_some_and(|skip| skip.slice::<f32>()[0] != 0.0)
}

/// See [`crate::kernel::Kernels::advance`].
pub fn advance(settings: &Buffer, clocks: &mut Buffer, skip: Option<&Buffer>) {
    if skipped(skip) {
        return;
    }
    let each = settings.slice::<f64>().chunks_exact(CLOCK_SETTINGS);
    for (settings, clock) in each.zip(clocks.slice_mut::<f64>().chunks_exact_mut(CLOCK)) {
        let before = clock[0];
        let (head, numbers) = (&settings[..4], &mut clock[1..]);
        numbers.copy_from_slice(&settings[4..]);
        match head[0] as u32 {
            CLOCK_ADAM => {
                numbers[6] = head[1] / (1.0 - whole_power(head[2], before as u64 + 1));
                numbers[7] = (1.0 - whole_power(head[3], before as u64 + 1)).sqrt();
            }
            CLOCK_ADAGRAD => numbers[0] = head[1] / (1.0 + before * head[2]),
            _ => {}
        }
        clock[0] = before + 1.0;
    }
}

/// What gradients are multiplied by.
fn factor(scale: &Buffer) -> f32 {
    (1.0 / f64::from(scale.slice::<f32>()[0])) as f32
}

/// See [`crate::kernel::Kernels::unscale`].
pub fn unscale(scale: Option<&Buffer>, found: &mut Buffer, xs: &mut [&mut Buffer]) -> Result<()> {
    let factor = scale.map_or(1.0, factor);
    let seen = AtomicBool::new(false);
    xs.iter_mut().try_for_each(|x| {
        with_dtype!(float "unscale", x.dtype(), T => {
            let factor = <T as Store>::Real::of(f64::from(factor));
            split::over(x.slice_mut::<T>(), |_, x| {
                let mut finite = true;
                simd::vectorize(|| {
                    for x in x.iter_mut() {
                        let value = T::narrow(x.widen() * factor);
                        // Infinity and NaN times zero are NaN.
                        finite &= value.widen() * <T as Store>::Real::ZERO == <T as Store>::Real::ZERO;
                        *x = value;
                    }
                });
                if !finite {
                    seen.store(true, Ordering::Relaxed);
                }
            });
            Ok(())
        })
    })?;
    if seen.into_inner() {
        found.slice_mut::<f32>()[0] = 1.0;
    }
    Ok(())
}

/// See [`crate::kernel::Kernels::update_scale`].
pub fn update_scale(by: ScaleRule, scale: &mut Buffer, steady: &mut Buffer, found: &mut Buffer) {
    let [scale, steady, found] = [scale, steady, found].map(|b| &mut b.slice_mut::<f32>()[0]);
    if *found != 0.0 {
        *scale *= by.backoff as f32;
        *steady = 0.0;
    } else if *steady + 1.0 >= by.interval as f32 {
        // A scale that would no longer be finite stays.
        let grown = *scale * by.growth as f32;
        *scale = if grown.is_finite() { grown } else { *scale };
        *steady = 0.0;
    } else {
        *steady += 1.0;
    }
    *found = 0.0;
}

fn whole(numbers: (Numbers, f32), step: &mut Step<'_, Buffer>) -> Result<()> {
    with_dtype!(float "optimizer step", step.parameter.dtype(), T => {
        let state = step.state.each_mut().map(|s| s.as_mut().map(|s| s.slice_mut()));
        let master = step.master.as_mut().map(|m| m.slice_mut());
        move_part::<T>(&step.update, numbers, (step.parameter.slice_mut(), master), step.gradient.slice(), state);
        Ok(())
    })
}

/// Moves so many elements from a first on, which no two calls at once have in common.
type Part<'a> = Box<dyn Fn(usize, usize) + Sync + 'a>;

/// The same, to be done in parts.
fn divisible<'a>(numbers: (Numbers, f32), step: &'a mut Step<'_, Buffer>) -> Result<Part<'a>> {
    with_dtype!(float "optimizer step", step.parameter.dtype(), T => {
        let (update, gradient) = (step.update, step.gradient.slice::<T>());
        let parameter = Shared::new(step.parameter.slice_mut::<T>());
        let state = step.state.each_mut().map(|s| s.as_mut().map(|s| Shared::new(s.slice_mut::<<T as Store>::Real>())));
        let master = step.master.as_mut().map(|m| Shared::new(m.slice_mut::<<T as Store>::Real>()));
        Ok(Box::new(move |at, len| {
            // SAFETY: each task has stretches of its own of the parameter, its master and each state.
            let parameter = unsafe { (parameter.part(at, len), master.as_ref().map(|m| m.part(at, len))) };
            // SAFETY: as above.
            let state = state.each_ref().map(|s| s.as_ref().map(|s| unsafe { s.part(at, len) }));
            move_part::<T>(&update, numbers, parameter, &gradient[at..at + len], state);
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

/// A parameter and, where it has one, its master.
type Moved<'a, T> = (&'a mut [T], Option<&'a mut [<T as Store>::Real]>);

/// `factor`: what the gradient is multiplied by first; exact where that is 1.
fn move_part<T: Store>(
    update: &Update,
    (numbers, factor): (Numbers, f32),
    p: Moved<'_, T>,
    g: &[T],
    state: State<'_, T::Real>,
) {
    let n = numbers.map(<T::Real as Real>::of);
    let factor = <T::Real as Real>::of(f64::from(factor));
    if factor == T::Real::ONE {
        formula(
            update,
            n,
            p,
            g,
            state,
            #[inline(always)]
            |g| g,
        );
    } else {
        formula(
            update,
            n,
            p,
            g,
            state,
            #[inline(always)]
            move |g| g * factor,
        );
    }
}

fn formula<T: Store>(
    update: &Update,
    n: [T::Real; 8],
    p: Moved<'_, T>,
    g: &[T],
    state: State<'_, T::Real>,
    unscaled: impl Fn(T::Real) -> T::Real + Copy,
) {
    match *update {
        Update::Sgd { nesterov, .. } => {
            let [lr, mu, keep, decay, ..] = n;
            if state[0].is_none() {
                sweep(p, g, [], unscaled, move |p, g, []| (p - lr * penalised(g, p, decay), []));
            } else if nesterov {
                sweep(p, g, slots(state), unscaled, move |p, g, [b]| {
                    let g = penalised(g, p, decay);
                    let b = mu * b + keep * g;
                    (p - lr * (g + mu * b), [b])
                });
            } else {
                sweep(p, g, slots(state), unscaled, move |p, g, [b]| {
                    let b = mu * b + keep * penalised(g, p, decay);
                    (p - lr * b, [b])
                });
            }
        }
        Update::Adam { amsgrad, .. } => {
            let [shrink, decay, b1, b2, c2, eps, size, root] = n;
            if amsgrad {
                sweep(p, g, slots(state), unscaled, move |p, g, [m, v, top]| {
                    let p = p * shrink;
                    let g = penalised(g, p, decay);
                    let m = lerp(m, g, b1);
                    let v = b2 * v + c2 * (g * g);
                    // Written so that a NaN wins, as in torch.maximum.
                    let top = if top >= v || top.is_nan() { top } else { v };
                    (p - size * m / (top.sqrt() / root + eps), [m, v, top])
                });
            } else {
                sweep(p, g, slots(state), unscaled, move |p, g, [m, v]| {
                    let p = p * shrink;
                    let g = penalised(g, p, decay);
                    let m = lerp(m, g, b1);
                    let v = b2 * v + c2 * (g * g);
                    (p - size * m / (v.sqrt() / root + eps), [m, v])
                });
            }
        }
        Update::RmsProp { momentum, centered, .. } => {
            let [lr, a, c, eps, decay, mu, ..] = n;
            match (centered, momentum != 0.0) {
                (false, false) => sweep(p, g, slots(state), unscaled, move |p, g, [v]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    (p - lr * g / (v.sqrt() + eps), [v])
                }),
                (false, true) => sweep(p, g, slots(state), unscaled, move |p, g, [v, b]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    let b = mu * b + g / (v.sqrt() + eps);
                    (p - lr * b, [v, b])
                }),
                (true, false) => sweep(p, g, slots(state), unscaled, move |p, g, [v, m]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    let m = lerp(m, g, c);
                    (p - lr * g / ((v - m * m).sqrt() + eps), [v, m])
                }),
                (true, true) => sweep(p, g, slots(state), unscaled, move |p, g, [v, m, b]| {
                    let g = penalised(g, p, decay);
                    let v = a * v + c * (g * g);
                    let m = lerp(m, g, c);
                    let b = mu * b + g / ((v - m * m).sqrt() + eps);
                    (p - lr * b, [v, m, b])
                }),
            }
        }
        Update::Adagrad { .. } => {
            let [rate, eps, decay, ..] = n;
            sweep(p, g, slots(state), unscaled, move |p, g, [sum]| {
                let g = penalised(g, p, decay);
                let sum = sum + g * g;
                (p - rate * g / (sum.sqrt() + eps), [sum])
            });
        }
    }
}

/// From m to g by a weight, as torch.lerp: from the nearer end, so that a weight of 1 is g to the bit.
#[inline(always)]
fn lerp<R: Real>(m: R, g: R, weight: R) -> R {
    if weight < R::of(0.5) { m + weight * (g - m) } else { g - (R::ONE - weight) * (g - m) }
}

/// The gradient with its L2 penalty; without one the parameter is not looked at, so that an infinite one adds no NaN.
#[inline(always)]
fn penalised<R: Real>(g: R, p: R, decay: R) -> R {
    if decay == R::ZERO { g } else { g + decay * p }
}

/// Replaces each (p, state) by `rule(p, g, state)`; where there is a master, it in p's place, and p by its rounding.
#[inline(always)]
fn sweep<T: Store, const S: usize>(
    (p, master): Moved<'_, T>,
    g: &[T],
    state: [&mut [T::Real]; S],
    unscaled: impl Fn(T::Real) -> T::Real,
    rule: impl Fn(T::Real, T::Real, [T::Real; S]) -> (T::Real, [T::Real; S]),
) {
    match master {
        None => simd::vectorize(|| pass(p, g, state, unscaled, rule)),
        Some(master) => simd::vectorize(|| {
            for (master, p) in master.iter_mut().zip(&*p) {
                // Unless somebody else has set the parameter since it was rounded.
                if T::narrow(*master).widen() != p.widen() {
                    *master = p.widen();
                }
            }
            pass(master, g, state, unscaled, rule);
            for (p, master) in p.iter_mut().zip(&*master) {
                *p = T::narrow(*master);
            }
        }),
    }
}

#[inline(always)]
fn pass<P: Store, G: Store<Real = P::Real>, const S: usize>(
    p: &mut [P],
    g: &[G],
    mut state: [&mut [P::Real]; S],
    unscaled: impl Fn(P::Real) -> P::Real,
    rule: impl Fn(P::Real, P::Real, [P::Real; S]) -> (P::Real, [P::Real; S]),
) {
    let n = p.len();
    let g = &g[..n];
    // Slices of the loop's own length, or each access would be checked and nothing vectorised.
    for s in &mut state {
        let whole = std::mem::take(s);
        *s = &mut whole[..n];
    }
    for i in 0..n {
        let (next, kept) = rule(p[i].widen(), unscaled(g[i].widen()), std::array::from_fn(|k| state[k][i]));
        p[i] = P::narrow(next);
        for k in 0..S {
            state[k][i] = kept[k];
        }
    }
}
