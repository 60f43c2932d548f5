//! A training step that a GPU does again by itself.

use std::{fmt, sync::atomic::Ordering};

use crate::{
    capture::{self, Draw, Notes},
    dtype::DType,
    error::{Error, Result},
    optim::Optim,
    shape::Shape,
    storage::{self, Captured},
    tape::Parameter,
    tensor::Tensor,
};

const OP: &str = "CapturedStep";

/// A training step (forward, backward, optimizer) that is recorded once and from then on replayed with new inputs, on a GPU as one
/// launch of a CUDA graph: for small networks launching is what takes the time. What PyTorch does with `torch.cuda.graph`.
///
/// The first two calls run the step as it is written, the third records it. A replay gives the same bits as the step itself would,
/// dropout's masks and the optimizer's count of steps included. Inputs of other shapes than those recorded, such as a last batch
/// that is smaller, run as written. So does everything on the CPU, where nothing is recorded, and on a GPU where
/// [`Device::allow_graphs`](crate::Device::allow_graphs) forbids graphs or memory is not cached. So a program that can be recorded runs
/// everywhere. That a step is one of the optimizer that was passed, and of no other, is checked everywhere; whether all of it can be
/// recorded (see below) shows where it is: what runs on a CPU may be an `Err` on a GPU.
///
/// ```
/// use gatefold::{Device, Philox, Tape, Tensor, nn::{Linear, Lstm, Module}, optim::Adam, train::CapturedStep};
/// let (device, mut rng) = (Device::best(), Philox::seed(1));
/// let lstm = Lstm::new(2, 8).batch_first(true).init(&device, &mut rng)?;
/// let out = Linear::new(8, 3).init(&device, &mut rng)?;
/// let mut optimizer = Adam::new(0.01).over([&lstm as &dyn Module, &out])?;
/// let mut captured = CapturedStep::new();
/// for i in 0..5 {
///     let x = Tensor::full([4, 6, 2], f64::from(i), gatefold::DType::F32, &device)?;
///     let y = Tensor::new([0i64, 1, 2, 0], &device)?;
///     let [loss] = captured.run([&x, &y], &mut optimizer, |[x, y], optimizer| {
///         let (_, last) = lstm.forward(&Tape::new().constant(x.clone()), None)?;
///         let loss = out.forward(&last.h.select(0, -1)?)?.cross_entropy(y)?;
///         optimizer.zero_grad();
///         loss.backward()?;
///         optimizer.step()?;
///         Ok([loss.into_tensor()])
///     })?;
///     println!("{}", loss.item()?); // waits for the device: not to be done in every step
/// }
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// # What is recorded
/// What the device does. What the host does in the closure happens when the step is recorded, and not in a replay, but for masks that
/// modules draw and for the optimizer's learning rates, momenta and count of steps, which are those of each call. So a step that
/// changes with training or evaluation mode, frozen parameters, [`Device::allow_tf32`](crate::Device::allow_tf32), the factors of a
/// [`GradScaler`](crate::optim::GradScaler), or numbers that the closure computes needs a new recording:
/// [`reset`](Self::reset). A step cannot be recorded that reads from the device (`item`, `to_vec`, `clip_grad_norm`; use
/// `clip_grad_norm_async`), brings something to it, draws random numbers but by a module, or runs a recurrent layer on lengths that
/// differ, whose launches depend on them: that is an `Err`, and nothing has run.
///
/// The driver lets nobody wait for a whole device while a step is recorded: where another thread does so without this crate
/// (`cudaDeviceSynchronize`, `cuCtxSynchronize`), that call fails, and with it the recording, in an [`Error::Unavailable`]. Nothing has run
/// then either. Parameters, the optimizer, masks and gradients are as before, but for gradients that the step had already dropped
/// (`zero_grad`); the next call runs as written, and the one after it records. [`Device::synchronize`](crate::Device::synchronize) and
/// everything else of the crate waits until the recording has ended.
///
/// Parameters that were set anew, or that somebody else holds (a state dict, say), are found and make a new recording; the same holds
/// for gradients, for the optimizer's state, and for learning rates that were equal and no longer are. Other tensors that the closure
/// captures are read where they were. While a step is recorded other threads wait that use the device: the closure must not wait for
/// one of them; and while it is replayed no other thread may use its parameters. All of it is on one device: work on another is
/// refused while a step is recorded.
#[derive(Default)]
pub struct CapturedStep {
    /// Calls that ran as written since there was anything to record.
    rehearsed: u32,
    /// Masks that the last of them drew.
    draws: usize,
    recorded: Option<Recorded>,
}

impl fmt::Debug for CapturedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapturedStep").field("is_recorded", &self.is_recorded()).finish_non_exhaustive()
    }
}

/// Calls before the one that is recorded: the first makes the optimizer's state, the second is like all others.
const REHEARSALS: u32 = 2;

impl CapturedStep {
    /// One with nothing recorded.
    pub fn new() -> Self {
        CapturedStep::default()
    }

    /// Whether the next call of such inputs will be a replay, if nothing has been changed.
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Forgets the recording: the next calls run as written, and then one records.
    pub fn reset(&mut self) {
        *self = CapturedStep::default();
    }

    /// One step. `step` takes the inputs and the optimizer, steps that optimizer and no other, and returns what is wanted of it, the loss
    /// as a rule; of a replay that is a copy.
    ///
    /// # Errors
    /// Those of `step`; [`Error::Argument`] where it does not step the optimizer once, or steps another one (it has run then, but when a
    /// step is recorded), where it does what cannot be recorded, and inside of another captured step; [`Error::Unavailable`] where somebody waits for the
    /// whole device while it is recorded. See [above](Self#what-is-recorded) for what is left then.
    pub fn run<O: Optim + ?Sized, const I: usize, const R: usize>(
        &mut self,
        inputs: [&Tensor; I],
        optimizer: &mut O,
        step: impl FnOnce([&Tensor; I], &mut O) -> Result<[Tensor; R]>,
    ) -> Result<[Tensor; R]> {
        let device = optimizer.parameters().first().map(|p| p.value().device()).unwrap_or_default();
        if !storage::captures(device) {
            let (results, notes) = capture::plain(|| step(inputs, optimizer))?;
            return check(&notes, optimizer.id()).map(|()| results);
        }
        let recorded = match self.recorded.take() {
            None if self.rehearsed < REHEARSALS => return self.rehearse(inputs, optimizer, step),
            // It may be possible when whoever shares a tensor has let it go, or the step is as the one before again.
            None if !optimizer.prepare()? || optimizer.places().is_none() => {
                return self.rehearse(inputs, optimizer, step);
            }
            None => {
                // Where that fails, the next call runs as written.
                self.rehearsed = REHEARSALS - 1;
                Recorded::new(self.draws, inputs, optimizer, step)?
            }
            Some(recorded) if !recorded.takes(&inputs) => {
                self.recorded = Some(recorded);
                return capture::rehearse(|| step(inputs, optimizer)).map(|(results, _)| results);
            }
            Some(mut recorded) => {
                if !optimizer.prepare()? || !recorded.holds(optimizer) {
                    self.rehearsed = REHEARSALS - 1;
                    return self.rehearse(inputs, optimizer, step);
                }
                // Nothing is counted before the step is on its way.
                recorded.draw()?;
                recorded.launch(&inputs)?;
                recorded.masks.count();
                optimizer.replay();
                recorded
            }
        };
        recorded.gradients.iter().try_for_each(|gradient| gradient.parameter.set_grad(gradient.after.clone()))?;
        let recorded = self.recorded.insert(recorded);
        let results = recorded.results.iter().map(Tensor::copied).collect::<Result<Vec<_>>>()?;
        <[Tensor; R]>::try_from(results).map_err(|_| Error::argument(OP, "another step", "the step that was recorded"))
    }

    fn rehearse<O: Optim + ?Sized, const I: usize, const R: usize>(
        &mut self,
        inputs: [&Tensor; I],
        optimizer: &mut O,
        step: impl FnOnce([&Tensor; I], &mut O) -> Result<[Tensor; R]>,
    ) -> Result<[Tensor; R]> {
        let (results, notes) = capture::rehearse(|| step(inputs, optimizer))?;
        check(&notes, optimizer.id())?;
        self.rehearsed += 1;
        self.draws = notes.draws.len();
        Ok(results)
    }
}

fn check(notes: &Notes, optimizer: u64) -> Result<()> {
    if notes.optimizers == [optimizer] {
        return Ok(());
    }
    let got = format!("{} steps of optimizers, {} of them of that one", notes.optimizers.len(), {
        notes.optimizers.iter().filter(|&&id| id == optimizer).count()
    });
    Err(Error::argument(OP, got, "one step of the optimizer that was passed, and of no other"))
}

/// A recording, and what it works on.
struct Recorded {
    work: Captured,
    inputs: Vec<Tensor>,
    results: Vec<Tensor>,
    gradients: Vec<Gradient>,
    /// Of parameters and state.
    places: Vec<u64>,
    masks: Masks,
}

/// What a step does to a parameter's gradient.
struct Gradient {
    parameter: Parameter,
    /// Where it must lie for a replay; `None`: there must be none.
    before: Option<u64>,
    /// What the step leaves.
    after: Option<Tensor>,
    /// The step makes it anew, whatever was there.
    anew: bool,
}

impl Gradient {
    fn place(parameter: &Parameter) -> Option<u64> {
        parameter.grad().map(|gradient| gradient.storage().address())
    }

    fn new(parameter: Parameter, before: Option<u64>) -> Self {
        let after = parameter.grad();
        let anew = match (before, &after) {
            (Some(before), Some(after)) => before != after.storage().address(),
            _ => false,
        };
        Gradient { parameter, before, after, anew }
    }

    /// Whether a replay would do what the step does now, and would not change what somebody else holds.
    fn holds(&self) -> bool {
        let now = Gradient::place(&self.parameter);
        let shared = self.after.as_ref().is_some_and(|after| {
            // This one, and the parameter's where it is still that.
            after.sharers() > 1 + usize::from(now == Some(after.storage().address()))
        });
        !shared && (self.anew || now == self.before)
    }
}

/// The masks of the next replay.
struct Masks {
    draws: Vec<Draw>,
    /// Draws of the same generator that a step has, for each.
    strides: Vec<u64>,
    /// `[draws, 4]` and `[draws, 2]` of i64 on the device: see `DrawMasks` in `kernels/abi.h`.
    table: Tensor,
    _drawn: Tensor,
}

impl Recorded {
    fn new<O: Optim + ?Sized, const I: usize, const R: usize>(
        draws: usize,
        inputs: [&Tensor; I],
        optimizer: &mut O,
        step: impl FnOnce([&Tensor; I], &mut O) -> Result<[Tensor; R]>,
    ) -> Result<Self> {
        let shared = || {
            Error::argument(OP, "parameters that somebody else holds when the optimizer moves them", {
                "a step that drops what it took of them (Vars, clones) before"
            })
        };
        let places = optimizer.places().ok_or_else(shared)?;
        let parameters = optimizer.parameters();
        let device = parameters.first().map(|p| p.value().device()).unwrap_or_default();
        let own = inputs.iter().map(|x| Tensor::uninit(x.shape().clone(), x.dtype(), device));
        let own = own.collect::<Result<Vec<_>>>()?;
        let table = Tensor::zeros([draws, 4], DType::I64, &device)?;
        let mut drawn = Tensor::zeros([draws, 2], DType::I64, &device)?;
        if draws > 0 {
            // Loads the kernel, which may wait for the device.
            storage::draw_masks(table.storage(), drawn.storage_mut()?)?;
        }

        let counts = optimizer.counts();
        let before: Vec<Option<u64>> = parameters.iter().map(Gradient::place).collect();
        // Empty where the step failed; not where the capture did behind it.
        let mut notes = Notes::default();
        let captured = storage::capture(device, OP, || {
            let (results, noted) = capture::capture(drawn.storage().address(), || {
                if draws > 0 {
                    storage::draw_masks(table.storage(), drawn.storage_mut()?)?;
                }
                let results = step(std::array::from_fn(|i| &own[i]), optimizer)?;
                // A result that is also something else, such as an input, gets memory of its own.
                results
                    .iter()
                    .map(|x| if x.sharers() == 1 { Ok(x.clone()) } else { x.copied() })
                    .collect::<Result<Vec<_>>>()
            })?;
            notes = noted;
            Ok(results)
        });
        let undone = |optimizer: &mut O, notes: &Notes, e: Error| {
            notes.undo();
            optimizer.recount(counts);
            // What the step made was never computed; what it was to add to is as it was.
            parameters
                .iter()
                .zip(&before)
                .filter(|(p, place)| Gradient::place(p) != **place)
                .for_each(|(p, _)| p.zero_grad());
            Err(e)
        };
        let (work, results) = match captured {
            Ok(captured) => captured,
            Err(e) => return undone(optimizer, &notes, e),
        };
        let fits = check(&notes, optimizer.id()).and_then(|()| match notes.draws.len() {
            n if n != draws => {
                Err(Error::argument(OP, format!("{n} masks"), format!("{draws}, as in the call before")))
            }
            _ if optimizer.places().as_ref() != Some(&places) => Err(shared()),
            _ if own.iter().any(|x| x.sharers() > 1) => {
                Err(Error::argument(OP, "a step that keeps its inputs", "one that keeps copies, or returns them"))
            }
            _ => Ok(()),
        });
        if let Err(e) = fits {
            return undone(optimizer, &notes, e);
        }
        let draws = notes.draws.clone();
        let strides = draws.iter().map(|draw| draws.iter().filter(|other| same(draw, other)).count() as u64).collect();
        let mut masks = Masks { draws, strides, table, _drawn: drawn };
        if let Err(e) = masks.write() {
            return undone(optimizer, &notes, e);
        }
        let gradients = parameters.iter().zip(&before).map(|(p, before)| Gradient::new(p.clone(), *before)).collect();
        let mut recorded = Recorded { work, inputs: own, results, gradients, places, masks };
        if let Err(e) = recorded.launch(&inputs) {
            return undone(optimizer, &notes, e);
        }
        // From now on they stand at the next replay's.
        recorded.masks.move_on();
        Ok(recorded)
    }

    /// Whether inputs are of the shapes that were recorded.
    fn takes(&self, inputs: &[&Tensor]) -> bool {
        let own: Vec<(&Shape, DType)> = self.inputs.iter().map(|x| (x.shape(), x.dtype())).collect();
        inputs.iter().map(|x| (x.shape(), x.dtype())).eq(own)
    }

    /// Whether everything lies where it was and nobody else holds it.
    fn holds<O: Optim + ?Sized>(&self, optimizer: &O) -> bool {
        optimizer.places().as_ref() == Some(&self.places) && self.gradients.iter().all(Gradient::holds)
    }

    /// Sees to it that the device draws the masks of this replay.
    fn draw(&mut self) -> Result<()> {
        let masks = &mut self.masks;
        let mut moved = false;
        for i in 0..masks.draws.len() {
            let before = masks.draws[..i].iter().filter(|other| same(&masks.draws[i], other)).count() as u64;
            let draw = &mut masks.draws[i];
            let seed = draw.generator.seed.load(Ordering::Relaxed);
            let call = draw.generator.calls.load(Ordering::Relaxed) + before;
            moved |= (draw.seed, draw.call) != (seed, call);
            (draw.seed, draw.call) = (seed, call);
        }
        if moved {
            // Somebody else has drawn since, or put a generator back.
            masks.write()?;
        }
        Ok(())
    }

    /// Copies the inputs to where the step reads them, and sets it going.
    fn launch(&mut self, inputs: &[&Tensor]) -> Result<()> {
        self.inputs.iter_mut().zip(inputs).try_for_each(|(own, input)| own.copy_from(input))?;
        self.work.launch(OP)
    }
}

/// Whether two draws were of one generator.
fn same(a: &Draw, b: &Draw) -> bool {
    std::sync::Arc::ptr_eq(&a.generator, &b.generator)
}

impl Masks {
    /// Brings the calls of the next replay to the device, which counts them on from there.
    fn write(&mut self) -> Result<()> {
        let rows = self.draws.iter().zip(&self.strides);
        let table: Vec<i64> = rows
            .flat_map(|(draw, &stride)| [draw.seed, draw.call, stride, u64::from(draw.own_seed)])
            .map(|word| word as i64)
            .collect();
        storage::write(&table, self.table.storage_mut()?)
    }

    /// Of a replay, which draws as the step does.
    fn count(&mut self) {
        for draw in &self.draws {
            draw.generator.calls.fetch_add(1, Ordering::Relaxed);
        }
        self.move_on();
    }

    /// What the device does to the calls in a replay.
    fn move_on(&mut self) {
        self.draws.iter_mut().zip(&self.strides).for_each(|(draw, stride)| draw.call += stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, optim::Sgd, tape::Tape};

    fn parameter() -> Parameter {
        Parameter::new(Tensor::new([1f32, 2.0], &Device::Cpu).unwrap())
    }

    fn backward(w: &Parameter) -> Result<Tensor> {
        let w = Tape::new().parameter(w);
        let loss = w.mul(&w)?.sum()?;
        loss.backward()?;
        Ok(loss.into_tensor())
    }

    /// What would be refused on a GPU in the calls before a recording.
    #[test]
    fn steps_are_checked_on_the_cpu() {
        let (w, other) = (parameter(), parameter());
        let (mut sgd, mut second) = (Sgd::new(0.1).over([&w]).unwrap(), Sgd::new(0.1).over([&other]).unwrap());
        let mut captured = CapturedStep::new();
        let refused = |result: Result<[Tensor; 1]>, got: &str| match result {
            Err(Error::Argument { op, got: found, .. }) => assert_eq!((op, found.as_str()), (OP, got)),
            other => panic!("{other:?}"),
        };
        // Without a gradient none is taken.
        let x = Tensor::new([1f32], &Device::Cpu).unwrap();
        refused(
            captured.run([&x], &mut sgd, |[x], sgd| sgd.step().map(|()| [x.clone()])),
            "0 steps of optimizers, 0 of them of that one",
        );
        let twice = captured.run([], &mut sgd, |[], sgd| {
            let loss = backward(&w)?;
            sgd.step()?;
            sgd.step()?;
            Ok([loss])
        });
        refused(twice, "2 steps of optimizers, 2 of them of that one");
        let another = captured.run([], &mut sgd, |[], sgd| {
            let loss = backward(&w)?;
            sgd.step()?;
            backward(&other)?;
            second.step()?;
            Ok([loss])
        });
        refused(another, "2 steps of optimizers, 1 of them of that one");
        let inside = captured.run([], &mut sgd, |[], sgd| {
            CapturedStep::new().run([], sgd, |[], sgd| {
                let loss = backward(&w)?;
                sgd.step()?;
                Ok([loss])
            })
        });
        refused(inside, "a captured step inside of another");
        // And what is right goes on, as it would without.
        w.zero_grad();
        let before = w.value().to_vec::<f32>().unwrap();
        let [loss] = captured
            .run([], &mut sgd, |[], sgd| {
                let loss = backward(&w)?;
                sgd.step()?;
                Ok([loss])
            })
            .unwrap();
        assert_eq!(loss.item().unwrap(), f64::from(before[0] * before[0] + before[1] * before[1]));
        assert_eq!(w.value().to_vec::<f32>().unwrap(), before.iter().map(|w| w - 0.1 * 2.0 * w).collect::<Vec<_>>());
        assert!(!captured.is_recorded());
    }
}
