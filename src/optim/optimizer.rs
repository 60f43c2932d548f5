//! The optimizer: parameter groups, the state of each parameter, and the step.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    clocks::{Clocks, Want},
    rule::Rule,
    state::{State, whole},
};
use crate::{
    capture,
    dtype::DType,
    error::{Error, Result},
    kernel::{Live, Step},
    storage,
    tape::{HasParameters, Locked, Parameter, lock},
    tensor::Tensor,
};

/// An optimization algorithm and its settings: [`Sgd`](super::Sgd), [`Adam`](super::Adam), [`AdamW`](super::AdamW),
/// [`RmsProp`](super::RmsProp), [`Adagrad`](super::Adagrad). No others: it cannot be implemented outside the crate.
pub trait Algorithm: Rule {}

/// Any optimizer: what schedules and training loops need of one.
pub trait Optim: HasParameters {
    /// Moves every parameter that has a gradient.
    fn step(&mut self) -> Result<()>;
    /// The same, unless `skip` (a scalar of f32 on the parameters' device) is not 0: then nothing is moved and no step counted. The host
    /// does not wait to know which. What [`GradScaler`](super::GradScaler) calls.
    fn step_unless(&mut self, skip: &Tensor) -> Result<()>;
    /// The same with gradients that are `scale` (a scalar of f32 beside `skip`) times too large.
    fn step_scaled(&mut self, skip: &Tensor, scale: &Tensor) -> Result<()>;
    /// Forgets the gradients of all its parameters.
    fn zero_grad(&self);
    /// The learning rate of each group.
    fn lrs(&self) -> Vec<f64>;
    /// Sets the learning rate of each group.
    fn set_lrs(&mut self, lrs: &[f64]) -> Result<()>;
    /// The momentum of each group, β₁ where the algorithm is Adam's; `None` where it has neither.
    fn momenta(&self) -> Option<Vec<f64>>;
    /// Sets the momentum (or β₁) of all groups.
    fn set_momentum(&mut self, momentum: f64) -> Result<()>;
    /// `Err` where [`set_momentum`](Self::set_momentum) would be one.
    #[doc(hidden)]
    fn takes_momentum(&self, momentum: f64) -> Result<()> {
        let _ = momentum;
        Ok(())
    }
    /// All it would need to go on.
    fn state(&self) -> State;
    /// Goes on from a state.
    fn load_state(&mut self, state: &State) -> Result<()>;
    /// A number that no other optimizer of this process has.
    #[doc(hidden)]
    fn id(&self) -> u64;
    /// Where parameters and state lie that a captured step moves; `None` where somebody else shares some of it, so that it must be
    /// copied before it is moved.
    #[doc(hidden)]
    fn places(&self) -> Option<Vec<u64>>;
    /// Brings to the device what the next step needs of the host, if that goes by the same clocks as the last. Whether it does.
    #[doc(hidden)]
    fn prepare(&mut self) -> Result<bool>;
    /// What the host does of a step that the device does again, behind [`prepare`](Self::prepare).
    #[doc(hidden)]
    fn replay(&mut self);
    /// How many steps the host has counted.
    #[doc(hidden)]
    fn counts(&self) -> Counts;
    /// Takes steps back that were counted since and did not run.
    #[doc(hidden)]
    fn recount(&mut self, counts: Counts);
}

/// See [`Optim::counts`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Counts {
    members: Vec<(u64, Option<usize>)>,
    clocks: Vec<u64>,
}

/// An algorithm over groups of parameters, with the state it keeps of each.
///
/// The state is f64 for f64 parameters and f32 for all others, also for f16 and bf16, where PyTorch keeps 16 bits:
/// the second moment of a small gradient would vanish in them. With `master_weights(true)` the state of such a parameter has a copy of
/// it in f32, which is what moves: an update below its last bit is not lost (Micikevicius et al. 2018, section 3.1).
#[derive(Debug)]
pub struct Optimizer<A: Algorithm> {
    defaults: A,
    groups: Vec<Group<A>>,
    id: u64,
    /// Steps that the device counts: inside of captured steps, and where a step may be skipped.
    clocks: Option<Clocks>,
}

#[derive(Debug)]
struct Group<A> {
    options: A,
    members: Vec<Member>,
}

struct Member {
    parameter: Parameter,
    /// Steps it has taken: it takes none where it has no gradient.
    steps: u64,
    /// One for each of the algorithm's slots, once used.
    slots: Vec<Option<Tensor>>,
    /// The parameter in f32.
    master: Option<Tensor>,
    /// Its clock, where it took part in the last step that the device counted.
    clock: Option<usize>,
}

/// Without the numbers.
impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("parameter", &self.parameter)
            .field("steps", &self.steps)
            .field("slots", &self.slots.iter().map(|slot| slot.as_ref().map(Tensor::dtype)).collect::<Vec<_>>())
            .field("master", &self.master.as_ref().map(Tensor::dtype))
            .field("clock", &self.clock)
            .finish()
    }
}

impl Member {
    /// Whether its next step makes some of its state.
    fn is_fresh<A: Algorithm>(&self, options: &A) -> bool {
        self.slots.iter().enumerate().any(|(i, slot)| options.uses(i) && slot.is_none())
    }
}

/// The state dict's name of the master.
const MASTER: &str = "master";

impl<A: Algorithm> Optimizer<A> {
    /// An optimizer of the parameters of some modules, each counted once.
    pub(super) fn over(algorithm: A, modules: &[&dyn HasParameters]) -> Result<Self> {
        let mut seen = HashSet::new();
        let parameters = modules.iter().flat_map(|module| module.parameters());
        Optimizer::new(algorithm, parameters.filter(|p| seen.insert(p.id())))
    }

    /// An optimizer of a list of parameters.
    pub(super) fn new(algorithm: A, parameters: impl IntoIterator<Item = Parameter>) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut optimizer = Optimizer { defaults: algorithm, groups: Vec::new(), id, clocks: None };
        optimizer.add_group(parameters, |options| options)?;
        Ok(optimizer)
    }

    /// Adds a group of parameters with settings of its own, made from those the optimizer began with:
    /// `optimizer.add_group(head.parameters(), |options| options.lr(0.01))`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a setting outside its range, an empty list, or a parameter that the optimizer has
    /// already; [`Error::DType`] for a parameter of integers.
    pub fn add_group(
        &mut self,
        parameters: impl IntoIterator<Item = Parameter>,
        options: impl FnOnce(A) -> A,
    ) -> Result<()> {
        let options = options(self.defaults.clone());
        options.check()?;
        let mut known: HashSet<u64> = self.members().map(|m| m.parameter.id()).collect();
        let mut members = Vec::new();
        for parameter in parameters {
            let value = parameter.value();
            value.expect_float(A::NAME)?;
            if !known.insert(parameter.id()) {
                return Err(Error::argument(
                    A::NAME,
                    format!("parameter {} of shape {} twice", members.len(), value.shape()),
                    "each parameter once, in one group",
                ));
            }
            let slots = vec![None; A::SLOTS.len()];
            members.push(Member { parameter, steps: 0, slots, master: None, clock: None });
        }
        if members.is_empty() {
            return Err(Error::argument(A::NAME, "no parameters", "a group of at least one"));
        }
        self.groups.push(Group { options, members });
        Ok(())
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.groups.iter().flat_map(|group| &group.members)
    }

    /// Moves every parameter that has a gradient; on a GPU with one kernel for up to 64 parameters that have dtype, settings
    /// and number of steps in common, and without waiting for it. One without a gradient takes no step, as in PyTorch.
    pub fn step(&mut self) -> Result<()> {
        if capture::live() {
            return self.live_step(None, None);
        }
        self.settle()?;
        self.run(None)
    }

    /// [`step`](Self::step), unless `skip`, a scalar of f32 on the parameters' device, is not 0: then nothing is moved and no step
    /// counted. The device finds out, and counts the steps; the host does not wait for it until it wants the state. (The dampening of
    /// [`Sgd`](super::Sgd) is left out in the first step that is tried, skipped or not.)
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`] or [`Error::Device`] for a `skip` that is something else, or parameters on several devices.
    pub fn step_unless(&mut self, skip: &Tensor) -> Result<()> {
        self.live_step(Some(skip), None)
    }

    /// [`step_unless`](Self::step_unless) with gradients that are `scale` (a scalar of f32) times too large: they are divided in the
    /// precision that the step is computed in, and stay as they are.
    ///
    /// # Errors
    /// As there.
    pub fn step_scaled(&mut self, skip: &Tensor, scale: &Tensor) -> Result<()> {
        self.live_step(Some(skip), Some(scale))
    }

    /// One step by clocks on the device.
    fn live_step(&mut self, skip: Option<&Tensor>, scale: Option<&Tensor>) -> Result<()> {
        const OP: &str = "step_unless";
        let mut with_gradients = self.members().filter_map(|m| m.parameter.grad());
        let Some(device) = with_gradients.next().map(|g| g.device()) else { return Ok(()) };
        if let Some(other) = with_gradients.map(|g| g.device()).find(|d| *d != device) {
            return Err(Error::device(A::NAME, other, format!("{device} for all parameters of such a step")));
        }
        for scalar in skip.into_iter().chain(scale) {
            if scalar.numel() != 1 {
                return Err(Error::shape(OP, scalar.shape(), "one element"));
            }
            if scalar.dtype() != DType::F32 {
                return Err(Error::dtype(OP, scalar.dtype(), DType::F32));
            }
            if scalar.device() != device {
                return Err(Error::device(OP, scalar.device(), format!("{device}, the parameters'")));
            }
        }
        let mut rows = self.rows();
        // Who goes by another clock from here on has to know how many steps the old one has counted.
        let left = |clocks: &Clocks| {
            clocks.settings.device() != device || !self.members().map(|m| m.clock).eq(rows.1.iter().copied())
        };
        if self.clocks.as_ref().is_some_and(|clocks| clocks.is_unsure() && left(clocks)) {
            self.settle()?;
            rows = self.rows();
        }
        let (wants, rows) = rows;
        Clocks::ready(&mut self.clocks, &wants, &device)?.advance(skip)?;
        self.groups.iter_mut().flat_map(|g| &mut g.members).zip(rows).for_each(|(m, row)| m.clock = row);
        self.run(Some((skip, scale)))
    }

    /// The clocks that the next step wants, and which of them is each member's; none where it takes no step.
    fn rows(&self) -> (Vec<Want>, Vec<Option<usize>>) {
        let mut wants = Vec::new();
        let mut row = |options: &A, member: &Member| {
            member.parameter.grad()?;
            let (step, fresh) = (member.steps + 1, member.is_fresh(options));
            Some(Want::add(&mut wants, options.update(step, fresh), step))
        };
        let rows = self.groups.iter().flat_map(|g| g.members.iter().map(|m| row(&g.options, m)).collect::<Vec<_>>());
        let rows = rows.collect();
        (wants, rows)
    }

    /// One step; `live`: by its clocks, which stand at it.
    fn run(&mut self, live: Option<(Option<&Tensor>, Option<&Tensor>)>) -> Result<()> {
        let parameters = self.parameters();
        let mut locked = lock(&parameters);
        let members = self.groups.iter_mut().flat_map(|Group { options, members }| {
            let options = &*options;
            members.iter_mut().map(move |member| (options, member))
        });
        let mut all: Vec<Step<'_, storage::Storage>> = Vec::with_capacity(parameters.len());
        let mut counts = Vec::with_capacity(parameters.len());
        for ((options, member), Locked { value, gradient }) in members.zip(&mut locked.each) {
            let Some(gradient) = gradient.as_ref() else {
                member.clock = None;
                continue;
            };
            let fresh = member.is_fresh(options);
            if fresh {
                capture::refuse(A::NAME, "a parameter's first step")?;
            }
            let Member { steps, slots, master, clock, .. } = member;
            let mut state = [None, None, None];
            let used = slots.iter_mut().enumerate().filter(|(i, _)| options.uses(*i));
            for (place, (_, slot)) in state.iter_mut().zip(used) {
                match slot {
                    Some(tensor) if tensor.device() == value.device() => {}
                    // The parameter has moved since. Where the state cannot follow, it stays.
                    Some(tensor) => *tensor = tensor.to_device(&value.device())?,
                    None => {
                        let (initial, wide) = (options.initial(), value.dtype().wide());
                        *slot = Some(Tensor::full(value.shape(), initial, wide, &value.device())?);
                    }
                }
                *place = slot.as_mut().map(Tensor::storage_mut).transpose()?;
            }
            let master = match master {
                _ if !options.masters() || value.dtype() == value.dtype().wide() => None,
                Some(kept) => {
                    if kept.device() != value.device() {
                        *kept = kept.to_device(&value.device())?;
                    }
                    Some(kept.storage_mut()?)
                }
                none => {
                    capture::refuse(A::NAME, "a parameter's first step")?;
                    Some(none.insert(value.to_dtype(value.dtype().wide())?).storage_mut()?)
                }
            };
            if live.is_none() {
                *clock = None;
            }
            let (update, clock) = (options.update(*steps + 1, fresh), clock.unwrap_or(0));
            counts.push(steps);
            let (parameter, gradient) = (value.storage_mut()?, gradient.storage());
            all.push(Step { update, parameter, gradient, state, master, clock });
        }
        let live = match (live, &self.clocks) {
            (Some((skip, scale)), Some(clocks)) => Some(Live {
                clocks: clocks.numbers.storage(),
                skip: skip.map(Tensor::storage),
                scale: scale.map(Tensor::storage),
            }),
            _ => None,
        };
        storage::update(all, live.as_ref())?;
        if !counts.is_empty() {
            capture::note_optimizer(self.id);
        }
        counts.into_iter().for_each(|steps| *steps += 1);
        Ok(())
    }

    /// Where the device may have skipped steps, asks it how many were taken. From here on the host counts.
    fn settle(&mut self) -> Result<()> {
        let Some(clocks) = &mut self.clocks else { return Ok(()) };
        let counted = clocks.counted()?;
        clocks.forget();
        for member in self.groups.iter_mut().flat_map(|group| &mut group.members) {
            if let (Some(counted), Some(clock)) = (&counted, member.clock) {
                member.steps = counted[clock];
            }
        }
        Ok(())
    }

    /// Forgets the gradients of all its parameters.
    pub fn zero_grad(&self) {
        // From the last to the first: the memory left last is taken first, so each gradient comes to lie where it lay before.
        self.groups.iter().rev().flat_map(|g| g.members.iter().rev()).for_each(|m| m.parameter.zero_grad());
    }

    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The settings of a group, `None` where there is none.
    pub fn options(&self, group: usize) -> Option<&A> {
        self.groups.get(group).map(|g| &g.options)
    }

    /// The learning rate of the first group.
    pub fn lr(&self) -> f64 {
        self.groups[0].options.rate()
    }

    /// The learning rate of each group.
    pub fn lrs(&self) -> Vec<f64> {
        self.groups.iter().map(|g| g.options.rate()).collect()
    }

    /// Sets the learning rate of one group.
    ///
    /// # Errors
    /// [`Error::Argument`] for a group that there is not, and for a rate that is not finite or below 0.
    pub fn set_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        let groups = self.groups.len();
        if group >= groups {
            return Err(Error::argument("set_lr", format!("group {group}"), format!("a group in 0..{groups}")));
        }
        let mut lrs = self.lrs();
        lrs[group] = lr;
        self.set_lrs(&lrs)
    }

    /// Sets the learning rate of each group.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there is one rate for each group, all finite and 0 or above; nothing is changed then.
    pub fn set_lrs(&mut self, lrs: &[f64]) -> Result<()> {
        let groups = self.groups.len();
        if lrs.len() != groups {
            return Err(Error::argument(
                "set_lrs",
                format!("{} rates", lrs.len()),
                format!("one for each of {groups}"),
            ));
        }
        let changed = self.changed(|options, group| *options.rate_mut() = lrs[group])?;
        self.replace(changed);
        Ok(())
    }

    /// The momentum of each group (β₁ for Adam and AdamW), `None` for Adagrad.
    pub fn momenta(&self) -> Option<Vec<f64>> {
        self.groups.iter().map(|g| g.options.clone().momentum_mut().copied()).collect()
    }

    /// Sets the momentum (β₁ for Adam and AdamW) of all groups.
    ///
    /// # Errors
    /// [`Error::Argument`] for Adagrad, which has none, and for one outside its range; nothing is changed then.
    pub fn set_momentum(&mut self, momentum: f64) -> Result<()> {
        let changed = self.with_momentum(momentum)?;
        self.replace(changed);
        Ok(())
    }

    /// The settings of all groups with another momentum.
    fn with_momentum(&self, momentum: f64) -> Result<Vec<A>> {
        if self.momenta().is_none() {
            return Err(Error::argument("set_momentum", A::NAME, "an optimizer with a momentum or betas"));
        }
        self.changed(|options, _| {
            if let Some(slot) = options.momentum_mut() {
                *slot = momentum;
            }
        })
    }

    /// The settings of all groups, edited; `Err` if one would be out of range.
    fn changed(&self, edit: impl Fn(&mut A, usize)) -> Result<Vec<A>> {
        let edited = |(i, group): (usize, &Group<A>)| {
            let mut options = group.options.clone();
            edit(&mut options, i);
            options.check()?;
            Ok(options)
        };
        self.groups.iter().enumerate().map(edited).collect()
    }

    fn replace(&mut self, options: Vec<A>) {
        self.groups.iter_mut().zip(options).for_each(|(g, options)| g.options = options);
    }

    /// All that the optimizer would need to go on, bit for bit: as numbers `group.{g}.{setting}`,
    /// `group.{g}.parameters` (how many) and `state.{i}.step`, as tensors `state.{i}.{PyTorch's name}`, with i
    /// counting the parameters through all groups; masters are `state.{i}.master`. The parameters themselves are not in it. Where
    /// the device counts steps (see [`step_unless`](Self::step_unless)) this waits for it; of a device that has failed they are the steps
    /// that the host has counted, skipped ones too, and saving the tensors is an `Err`.
    pub fn state(&self) -> State {
        // A device that cannot be asked any more has lost the tensors too: whoever saves them is told.
        let counted = self.clocks.as_ref().and_then(|clocks| clocks.counted().ok().flatten());
        let mut state = State::new(A::NAME);
        for (g, group) in self.groups.iter().enumerate() {
            for (name, value) in group.options.settings() {
                state.numbers.insert(format!("group.{g}.{name}"), value);
            }
            state.numbers.insert(format!("group.{g}.parameters"), group.members.len() as f64);
        }
        for (i, member) in self.members().enumerate().filter(|(_, m)| m.steps > 0) {
            let steps = counted.as_ref().zip(member.clock).map_or(member.steps, |(counted, clock)| counted[clock]);
            state.numbers.insert(format!("state.{i}.step"), steps as f64);
            if let Some(master) = &member.master {
                state.tensors.insert(format!("state.{i}.{MASTER}"), master.clone());
            }
            for (name, slot) in A::SLOTS.iter().zip(&member.slots) {
                if let Some(tensor) = slot {
                    state.tensors.insert(format!("state.{i}.{name}"), tensor.clone());
                }
            }
        }
        state
    }

    /// Goes on from a state: settings, steps and tensors become those of the state.
    ///
    /// # Errors
    /// [`Error::Argument`] for the state of another algorithm or settings out of range; [`Error::StateDict`], naming
    /// all that is at fault, where groups, parameters or shapes differ. Nothing is changed then.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        state.expect_kind("Optimizer::load_state", A::NAME)?;
        let mut reader = Reader::new(state);
        let mut options = Vec::new();
        for (g, group) in self.groups.iter().enumerate() {
            let mut loaded = group.options.clone();
            for (name, _) in group.options.settings() {
                if let Some(value) = reader.number(format!("group.{g}.{name}"), true) {
                    loaded.set(name, value);
                }
            }
            let (key, count) = (format!("group.{g}.parameters"), group.members.len());
            if let Some(found) = reader.number(key.clone(), true)
                && found != count as f64
            {
                reader.misshaped.push(format!("{key}: got {found}, want {count}"));
            }
            options.push(loaded);
        }
        let mut members = Vec::new();
        let grouped = self.groups.iter().zip(&options).flat_map(|(g, o)| g.members.iter().map(move |m| (m, o)));
        for (i, (member, options)) in grouped.enumerate() {
            let value = member.parameter.value();
            let key = format!("state.{i}.step");
            let steps = reader.number(key.clone(), false).unwrap_or(0.0);
            let steps = whole(steps).unwrap_or_else(|| {
                reader.misshaped.push(format!("{key}: got {steps}, want a count"));
                0
            });
            let mut slots = Vec::new();
            for (slot, name) in A::SLOTS.iter().enumerate() {
                // A momentum that was set after the last step has no buffer yet.
                let needed = steps > 0 && options.uses(slot) && *name != "momentum_buffer";
                slots.push(reader.tensor(format!("state.{i}.{name}"), &value, needed)?);
            }
            let masters = options.masters() && steps > 0 && value.dtype() != value.dtype().wide();
            members.push((steps, slots, reader.tensor(format!("state.{i}.{MASTER}"), &value, masters)?));
        }
        reader.finish()?;
        options.iter().try_for_each(|o| o.check())?;
        for (group, options) in self.groups.iter_mut().zip(options) {
            group.options = options;
        }
        let all = self.groups.iter_mut().flat_map(|group| &mut group.members);
        for (member, (steps, slots, master)) in all.zip(members) {
            (member.steps, member.slots, member.master, member.clock) = (steps, slots, master, None);
        }
        if let Some(clocks) = &mut self.clocks {
            clocks.forget();
        }
        Ok(())
    }

    /// Writes [`state`](Self::state) to a file, see [`State::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.state().save(path)
    }

    /// Reads a file of [`save`](Self::save) and goes on from it.
    ///
    /// # Errors
    /// As [`State::load`] and [`load_state`](Self::load_state).
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.load_state(&State::load(path)?)
    }
}

impl<A: Algorithm> HasParameters for Optimizer<A> {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::with_capacity(self.groups.iter().map(|g| g.members.len()).sum());
        all.extend(self.members().map(|m| m.parameter.clone()));
        all
    }
}

impl<A: Algorithm> Optim for Optimizer<A> {
    fn step(&mut self) -> Result<()> {
        self.step()
    }
    fn step_unless(&mut self, skip: &Tensor) -> Result<()> {
        self.step_unless(skip)
    }
    fn step_scaled(&mut self, skip: &Tensor, scale: &Tensor) -> Result<()> {
        self.step_scaled(skip, scale)
    }
    fn zero_grad(&self) {
        self.zero_grad();
    }
    fn lrs(&self) -> Vec<f64> {
        self.lrs()
    }
    fn set_lrs(&mut self, lrs: &[f64]) -> Result<()> {
        self.set_lrs(lrs)
    }
    fn momenta(&self) -> Option<Vec<f64>> {
        self.momenta()
    }
    fn set_momentum(&mut self, momentum: f64) -> Result<()> {
        self.set_momentum(momentum)
    }
    fn takes_momentum(&self, momentum: f64) -> Result<()> {
        self.with_momentum(momentum).map(drop)
    }
    fn state(&self) -> State {
        self.state()
    }
    fn load_state(&mut self, state: &State) -> Result<()> {
        self.load_state(state)
    }
    fn id(&self) -> u64 {
        self.id
    }
    fn places(&self) -> Option<Vec<u64>> {
        let parameters = self.parameters();
        let locked = lock(&parameters);
        let states = self.members().flat_map(|m| m.slots.iter().flatten().chain(&m.master));
        let clocks = self.clocks.iter().flat_map(|clocks| [&clocks.settings, &clocks.numbers]);
        let tensors = locked.each.iter().map(|l| &*l.value).chain(states).chain(clocks).map(Tensor::place);
        // What of each group's formula is not a number.
        let forms =
            self.groups.iter().map(|g| Some(g.options.update(1, false).form() << 1 | u64::from(g.options.masters())));
        tensors.chain(forms).collect()
    }
    fn prepare(&mut self) -> Result<bool> {
        let mut wants = Vec::new();
        let mut same = true;
        for Group { options, members } in &self.groups {
            for (member, row) in members.iter().filter_map(|m| Some((m, m.clock?))) {
                let step = member.steps + 1;
                same &= Want::add(&mut wants, options.update(step, false), step) == row;
            }
        }
        match &mut self.clocks {
            Some(clocks) if same && !wants.is_empty() => clocks.set(&wants),
            _ => Ok(false),
        }
    }
    fn replay(&mut self) {
        for member in self.groups.iter_mut().flat_map(|g| &mut g.members).filter(|m| m.clock.is_some()) {
            member.steps += 1;
        }
        if let Some(clocks) = &mut self.clocks {
            clocks.count();
        }
    }
    fn counts(&self) -> Counts {
        let clocks = self.clocks.as_ref().map(|clocks| clocks.steps.clone()).unwrap_or_default();
        Counts { members: self.members().map(|m| (m.steps, m.clock)).collect(), clocks }
    }
    fn recount(&mut self, counts: Counts) {
        for (member, (steps, clock)) in self.groups.iter_mut().flat_map(|g| &mut g.members).zip(counts.members) {
            (member.steps, member.clock) = (steps, clock);
        }
        if let Some(clocks) = &mut self.clocks {
            clocks.steps = counts.clocks;
        }
    }
}

/// Reads a state and notes what is at fault with it.
struct Reader<'a> {
    state: &'a State,
    /// Keys that were asked for.
    known: BTreeSet<String>,
    missing: Vec<String>,
    misshaped: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(state: &'a State) -> Self {
        Reader { state, known: BTreeSet::new(), missing: Vec::new(), misshaped: Vec::new() }
    }

    fn number(&mut self, key: String, needed: bool) -> Option<f64> {
        let value = self.state.numbers.get(&key).copied();
        self.note(key, value.is_none() && needed);
        value
    }

    /// A slot of a parameter of this value, on its device.
    fn tensor(&mut self, key: String, value: &Tensor, needed: bool) -> Result<Option<Tensor>> {
        let tensor = self.state.tensors.get(&key);
        if let Some(tensor) = tensor
            && (tensor.shape() != value.shape() || tensor.dtype() != value.dtype().wide())
        {
            let (got, want) = (tensor.shape(), value.shape());
            self.misshaped.push(format!("{key}: got {got} {}, want {want} {}", tensor.dtype(), value.dtype().wide()));
        }
        self.note(key, tensor.is_none() && needed);
        tensor.map(|t| t.to_device(&value.device())).transpose()
    }

    fn note(&mut self, key: String, missing: bool) {
        if missing {
            self.missing.push(key.clone());
        }
        self.known.insert(key);
    }

    fn finish(self) -> Result<()> {
        let Reader { state, known, missing, misshaped } = self;
        let keys = state.numbers.keys().chain(state.tensors.keys());
        let unexpected: Vec<String> = keys.filter(|key| !known.contains(*key)).cloned().collect();
        if missing.is_empty() && misshaped.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(Error::StateDict { op: "Optimizer::load_state", missing, unexpected, misshaped })
    }
}
