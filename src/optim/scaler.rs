//! Scaling of the loss, so that the small gradients of f16 do not vanish.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    Optim,
    clip::unique,
    state::{State, whole},
};
use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    kernel::ScaleRule,
    storage,
    tape::{HasParameters, Parameter, Var, lock_gradients},
    tensor::Tensor,
};

/// Dynamic loss scaling (Micikevicius et al. 2018, section 3.2), PyTorch's `GradScaler`: the loss is multiplied by a scale, so that
/// gradients of f16 do not fall below what f16 has; they are divided by it before the step, and a step with an infinite or undefined
/// gradient is skipped. After such a step the scale is halved, after 2,000 in a row without one doubled.
///
/// Scale, flag and count lie on the device and nothing waits for them: steps are skipped there. So it works inside of a
/// [`CapturedStep`](crate::train::CapturedStep). bf16 needs no scaling: it has the exponents of f32.
///
/// ```
/// use gatefold::{DType, Device, Philox, Tape, Tensor, nn::Lstm, optim::{Adam, GradScaler}};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let lstm = Lstm::new(4, 8).dtype(DType::F16).init(&device, &mut rng)?;
/// let mut optimizer = Adam::new(1e-3).master_weights(true).over([&lstm])?;
/// let mut scaler = GradScaler::new(&device)?;
/// let x = Tensor::uniform([5, 2, 4], -1.0, 1.0, DType::F16, &device, &mut rng)?;
/// let (y, _last) = lstm.forward(&Tape::new().constant(x), None)?;
/// let loss = y.to_dtype(DType::F32)?.mean()?;
/// optimizer.zero_grad();
/// scaler.scale(&loss)?.backward()?;
/// scaler.step(&mut optimizer)?;
/// scaler.update()?;
/// assert_eq!(scaler.get_scale()?, 65536.0);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug)]
pub struct GradScaler {
    rule: ScaleRule,
    /// Scalars of f32.
    scale: Tensor,
    steady: Tensor,
    /// Of each look at gradients since the last update in turn: 1 where something infinite was among them. All that are not in use are 0.
    /// They are kept, as captured steps know where they lie.
    found: Vec<Tensor>,
    /// How many of them are in use.
    looks: usize,
    /// Parameters whose gradients have been unscaled since the last update, with the look that did; optimizers that were stepped: by their ids.
    unscaled: HashMap<u64, usize>,
    stepped: HashSet<u64>,
}

impl GradScaler {
    /// PyTorch's defaults: a scale of 65,536, times 2 after 2,000 steps, times ½ after one with an infinity.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a device that this build or machine lacks.
    pub fn new(device: &Device) -> Result<Self> {
        let scalar = |value| Tensor::full((), value, DType::F32, device);
        Ok(GradScaler {
            rule: ScaleRule { growth: 2.0, backoff: 0.5, interval: 2000 },
            scale: scalar(65536.0)?,
            steady: scalar(0.0)?,
            found: vec![scalar(0.0)?],
            looks: 0,
            unscaled: HashMap::new(),
            stepped: HashSet::new(),
        })
    }

    /// The scale to begin with: finite and above 0, as f32.
    pub fn init_scale(mut self, scale: f64) -> Result<Self> {
        let held = scale as f32;
        if !(held > 0.0 && held.is_finite()) {
            return Err(Error::argument("GradScaler::init_scale", scale, "a finite number above 0 in float32"));
        }
        self.scale = Tensor::full((), scale, DType::F32, &self.scale.device())?;
        Ok(self)
    }

    /// The factor after `growth_interval` steps in a row without infinities: above 1.
    pub fn growth_factor(mut self, factor: f64) -> Result<Self> {
        if !(factor > 1.0 && factor.is_finite()) {
            return Err(Error::argument("GradScaler::growth_factor", factor, "a finite number above 1"));
        }
        self.rule.growth = factor;
        Ok(self)
    }

    /// The factor after a step with an infinity: between 0 and 1.
    pub fn backoff_factor(mut self, factor: f64) -> Result<Self> {
        if !(factor > 0.0 && factor < 1.0) {
            return Err(Error::argument("GradScaler::backoff_factor", factor, "a number between 0 and 1"));
        }
        self.rule.backoff = factor;
        Ok(self)
    }

    /// Steps in a row without infinities after which the scale grows: 1 to 2²⁴, as they are counted in f32.
    pub fn growth_interval(mut self, steps: u32) -> Result<Self> {
        if !(1..=1 << 24).contains(&steps) {
            return Err(Error::argument("GradScaler::growth_interval", steps, "1 to 16,777,216 steps"));
        }
        self.rule.interval = steps;
        Ok(self)
    }

    /// The loss times the scale, to call `backward` on: of f32, or f64 for one of f64. Of several losses each is scaled. The gradient of a
    /// loss of bf16 is the scale rounded to bf16, exact for powers of two, as all are that come of the defaults.
    ///
    /// # Errors
    /// [`Error::DType`] for a loss of integers, or of f16, which cannot hold the scale: convert what it is computed from to f32 first.
    pub fn scale(&mut self, loss: &Var) -> Result<Var> {
        const OP: &str = "GradScaler::scale";
        if matches!(loss.dtype(), DType::F16 | DType::I64 | DType::U32 | DType::U8) {
            return Err(Error::dtype(OP, loss.dtype(), "a loss of float32 (or float64, bfloat16)"));
        }
        let loss = loss.to_dtype(loss.dtype().wide())?;
        // Of its own, so that the scale itself can be moved in place.
        let mut scale = self.scale.to_dtype(loss.dtype())?;
        scale.storage_mut()?;
        loss.mul(&loss.tape().constant(scale))
    }

    /// Divides the gradients by the scale and notes infinities: for who clips or looks at them before the step. Gradients of f16 are
    /// rounded to f16 then, and those below 6·10⁻⁸ vanish as they would have without a scale; where nobody calls it, [`step`](Self::step)
    /// divides them in f32 and leaves them as they are.
    ///
    /// Takes an optimizer, as PyTorch's does, or any parameters: one infinity among those that are passed together skips the steps of all
    /// optimizers that have some of them.
    ///
    /// # Errors
    /// [`Error::Argument`] where it has been done since the last [`update`](Self::update); [`Error::Device`] for gradients on another device.
    pub fn unscale(&mut self, parameters: &(impl HasParameters + ?Sized)) -> Result<()> {
        const OP: &str = "GradScaler::unscale";
        let parameters = unique(parameters);
        if parameters.iter().any(|p| self.unscaled.contains_key(&p.id())) {
            return Err(Error::argument(OP, "gradients that are unscaled already", "once between two updates"));
        }
        let look = self.look(OP, &parameters, true)?;
        self.unscaled.extend(parameters.iter().map(|p| (p.id(), look)));
        Ok(())
    }

    /// Notes infinities among gradients, and with `divide` unscales them. Where it has noted them.
    fn look(&mut self, op: &'static str, parameters: &[Parameter], divide: bool) -> Result<usize> {
        let mut locked = lock_gradients(parameters);
        let mut gradients = Vec::new();
        for gradient in locked.each.iter_mut().filter_map(|g| g.as_mut()) {
            if gradient.device() != self.scale.device() {
                return Err(Error::device(op, gradient.device(), format!("{}, the scaler's", self.scale.device())));
            }
            gradients.push(gradient.storage_mut()?);
        }
        let look = self.looks;
        if look == self.found.len() {
            self.found.push(Tensor::zeros((), DType::F32, &self.scale.device())?);
        }
        // Before anything is written to it: the update sets it back.
        self.looks += 1;
        storage::unscale(divide.then(|| self.scale.storage()), self.found[look].storage_mut()?, gradients)?;
        Ok(look)
    }

    /// A step of the optimizer with the gradients as they would be without the scale; none where one of them is not finite. Other
    /// optimizers step or do not for themselves.
    ///
    /// # Errors
    /// [`Error::Argument`] for a second step of an optimizer, or where only some of its parameters were unscaled; and as
    /// [`unscale`](Self::unscale) and the optimizer's step.
    pub fn step(&mut self, optimizer: &mut dyn Optim) -> Result<()> {
        const OP: &str = "GradScaler::step";
        if self.stepped.contains(&optimizer.id()) {
            return Err(Error::argument(OP, "an optimizer that was stepped already", "update() between two steps"));
        }
        let parameters = optimizer.parameters();
        let looks: Vec<usize> = parameters.iter().filter_map(|p| self.unscaled.get(&p.id()).copied()).collect();
        let unscaled = looks.len();
        if unscaled == 0 {
            let look = self.look(OP, &parameters, false)?;
            optimizer.step_scaled(&self.found[look], &self.scale)?;
        } else if unscaled == parameters.len() {
            let mut looks = BTreeSet::from_iter(looks).into_iter().map(|look| &self.found[look]);
            match (looks.next(), looks.next()) {
                (Some(found), None) => optimizer.step_unless(found)?,
                (first, second) => {
                    let mut any = Tensor::zeros((), DType::F32, &self.scale.device())?;
                    let all = first.into_iter().chain(second).chain(looks);
                    all.into_iter().try_for_each(|found| storage::axpy(1.0, found.storage(), any.storage_mut()?))?;
                    optimizer.step_unless(&any)?;
                }
            }
        } else {
            let got = format!("{unscaled} of {} parameters unscaled", parameters.len());
            return Err(Error::argument(OP, got, "all of an optimizer's parameters, or none"));
        }
        self.stepped.insert(optimizer.id());
        Ok(())
    }

    /// Moves the scale, once the optimizers have been stepped: down where one of them met an infinity. To be called too where a step
    /// failed halfway, as what was unscaled is known until then.
    ///
    /// # Errors
    /// [`Error::Argument`] where nothing was unscaled or stepped since the last one.
    pub fn update(&mut self) -> Result<()> {
        let looks = std::mem::take(&mut self.looks);
        self.unscaled.clear();
        self.stepped.clear();
        let GradScaler { rule, scale, steady, found, .. } = self;
        let Some((first, others)) = found[..looks].split_first_mut() else {
            let want = "step or unscale before update: there is nothing to move the scale by";
            return Err(Error::argument("GradScaler::update", "no gradients that were looked at", want));
        };
        for other in others {
            storage::axpy(1.0, other.storage(), first.storage_mut()?)?;
            storage::fill(0.0, other.storage_mut()?)?;
        }
        storage::update_scale(*rule, scale.storage_mut()?, steady.storage_mut()?, first.storage_mut()?)
    }

    /// The scale; waits for the device.
    pub fn get_scale(&self) -> Result<f64> {
        self.scale.item()
    }

    /// Settings, scale and count, to go on with; waits for the device.
    pub fn state(&self) -> Result<State> {
        let mut state = State::new(Self::KIND);
        let numbers = [
            ("scale", self.scale.item()?),
            ("growth_factor", self.rule.growth),
            ("backoff_factor", self.rule.backoff),
            ("growth_interval", f64::from(self.rule.interval)),
            ("growth_tracker", self.steady.item()?),
        ];
        state.numbers = numbers.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        Ok(state)
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// [`Error::Argument`] for the state of something else or settings out of range, [`Error::StateDict`] for one that lacks
    /// something; nothing is changed then.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        const OP: &str = "GradScaler::load_state";
        state.expect_kind(OP, Self::KIND)?;
        let count = |key| {
            let number = state.number(OP, key)?;
            let fits = whole(number).and_then(|n| u32::try_from(n).ok());
            fits.ok_or_else(|| Error::argument("GradScaler::load_state", format!("{key} {number}"), "a count"))
        };
        let loaded = GradScaler::new(&self.scale.device())?
            .init_scale(state.number(OP, "scale")?)?
            .growth_factor(state.number(OP, "growth_factor")?)?
            .backoff_factor(state.number(OP, "backoff_factor")?)?
            .growth_interval(count("growth_interval")?)?;
        let steady = count("growth_tracker")? as f32;
        // In the memory that captured steps know.
        storage::write(&[state.number(OP, "scale")? as f32], self.scale.storage_mut()?)?;
        storage::write(&[steady], self.steady.storage_mut()?)?;
        self.rule = loaded.rule;
        Ok(())
    }

    const KIND: &str = "GradScaler";
}
