//! What every module can do.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    capture::{self, Draw, Generator},
    device::Device,
    error::{Error, Result},
    nn::StateDict,
    rng,
    tape::{HasParameters, Parameter},
};

/// Parameters with names. What they parametrise is each module's own `forward`, whose inputs and outputs differ, and so not in this trait.
///
/// Modules may be used by several threads at once (`Arc<Net>`); a [`Tape`](crate::Tape), its [`Var`](crate::Var)s and states made of them are of
/// one thread, as [`Tensor`](crate::Tensor)s are not.
///
/// A struct of modules implements [`children`](Self::children) and has everything else. Names are joined by dots as in
/// PyTorch: the weight of the child `score` is `score.weight`. Every module is a [`HasParameters`], whose `parameters()` lists
/// them without names.
pub trait Module: HasParameters + Send + Sync {
    /// The modules inside, by name, in the order of their parameters.
    fn children(&self) -> Vec<(&str, &dyn Module)>;

    /// The parameters that belong to this module and to none of its children.
    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    /// Whether this module itself (not its children) trains, where it keeps that.
    fn training(&self) -> Option<&Training> {
        None
    }

    /// Where this module itself (not its children) draws dropout masks from, if it does.
    fn mask_generator(&self) -> Option<&MaskGenerator> {
        None
    }

    /// As PyTorch prints it: the name of the type, and its children one to a line.
    fn repr(&self) -> String {
        let path = std::any::type_name::<Self>();
        let name = path.split('<').next().unwrap_or(path).rsplit("::").next().unwrap_or(path);
        let children = self.children();
        if children.is_empty() {
            return format!("{name}()");
        }
        let lines =
            children.iter().map(|(name, child)| format!("  ({name}): {}\n", child.repr().replace('\n', "\n  ")));
        format!("{name}(\n{})", lines.collect::<String>())
    }

    /// Every parameter with its dotted name, in PyTorch's order. One that is used in several places comes once, under its
    /// first name.
    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let mut seen = HashSet::new();
        let mut all = all_parameters(self);
        all.retain(|(_, parameter)| seen.insert(parameter.id()));
        all
    }

    /// The number of learned numbers, frozen ones included.
    fn num_parameters(&self) -> usize {
        self.parameters().iter().map(|p| p.shape().numel()).sum()
    }

    /// A table of the parameters, their shapes and sizes, with the total and how much of it is not frozen.
    fn describe(&self) -> String {
        table(&self.named_parameters())
    }

    /// Training mode: dropout is applied. Modules start in it.
    fn train(&self) {
        set_training(self, true);
    }

    /// Evaluation mode: dropout is not applied.
    fn eval(&self) {
        set_training(self, false);
    }

    /// Whether it is in training mode. A module that keeps no [`training`](Self::training) of its own is when any inside of it
    /// that does is, and where none does.
    fn is_training(&self) -> bool {
        if let Some(training) = self.training() {
            return training.is_training();
        }
        let (mut kept, mut any) = (false, false);
        visit(self, "", &mut |_, own| {
            if let Some(flag) = own.training {
                (kept, any) = (true, any || flag.is_training());
            }
        });
        any || !kept
    }

    /// Forgets every gradient.
    fn zero_grad(&self) {
        // From the last to the first, as an optimizer does.
        self.parameters().iter().rev().for_each(Parameter::zero_grad);
    }

    /// Freezes (`false`) or thaws every parameter.
    fn set_requires_grad(&self, requires: bool) {
        self.parameters().iter().for_each(|p| p.set_requires_grad(requires));
    }

    /// The present values by name. Unlike PyTorch's it does not change when training goes on. Where two parameters have one name it
    /// has the last of them, and can neither be saved nor loaded.
    fn state_dict(&self) -> StateDict {
        let all = all_parameters(self);
        let twice = named_twice(&all);
        let mut state: StateDict = all.into_iter().map(|(name, parameter)| (name, parameter.value())).collect();
        state.twice = twice;
        state
    }

    /// Takes over values by name: every parameter must be there with its shape, and nothing else. Numbers of another dtype
    /// are converted, those on another device are copied to this module's, as PyTorch does.
    ///
    /// # Errors
    /// [`Error::StateDict`] with every missing, unexpected and misshaped key, [`Error::Argument`] where two parameters have one name;
    /// nothing has been changed then.
    fn load_state_dict(&self, state: &StateDict) -> Result<()> {
        load_state_dict(self, state, true).map(drop)
    }

    /// [`load_state_dict`](Self::load_state_dict) of what there is, PyTorch's `strict=False`: parameters that the state lacks stay as they
    /// are, and entries that are none of the module's are passed over. Gives the names of both.
    ///
    /// # Errors
    /// [`Error::StateDict`] with every misshaped key, [`Error::Argument`] where two parameters have one name; nothing has been changed then.
    fn load_state_dict_partial(&self, state: &StateDict) -> Result<IncompatibleKeys> {
        load_state_dict(self, state, false)
    }

    /// Moves every parameter, and forgets the gradients of those that moved.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a device that this build or machine lacks; nothing has been moved then.
    fn to_device(&self, device: &Device) -> Result<()> {
        let parameters = self.parameters();
        let moved = parameters.iter().map(|p| p.value().to_device(device)).collect::<Result<Vec<_>>>()?;
        parameters.iter().zip(moved).try_for_each(|(p, value)| p.set_value(value))
    }

    /// Writes the [`state_dict`](Self::state_dict) as a `.safetensors` file that PyTorch reads too. Of a `dyn Module`: `state_dict().save(path)`.
    ///
    /// # Errors
    /// [`Error::File`], also where two parameters have one name.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        self.state_dict().save(path)
    }

    /// Reads what [`save`](Self::save), or PyTorch's `safetensors.torch.save_file`, wrote. Into a `dyn Module`:
    /// `load_state_dict(&StateDict::load(path)?)`.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::StateDict`] when it is another module's; nothing has been changed then.
    fn load(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        self.load_state_dict(&StateDict::load(path)?)
    }

    /// Where each dropout of the module stands, by its dotted name: what a checkpoint keeps beside the state dict, so that a
    /// resumed run draws the masks that the interrupted one would have drawn.
    fn generator_states(&self) -> Vec<(String, GeneratorState)> {
        let mut states = Vec::new();
        visit(self, "", &mut |prefix, own| {
            states.extend(own.generator.map(|g| (prefix.trim_end_matches('.').to_string(), g.state())));
        });
        states
    }

    /// Puts every dropout where [`generator_states`](Self::generator_states) found it.
    ///
    /// # Errors
    /// [`Error::StateDict`] where the names are not this module's; nothing has been changed then.
    fn set_generator_states(&self, states: &[(String, GeneratorState)]) -> Result<()> {
        let own: Vec<String> = self.generator_states().into_iter().map(|(name, _)| name).collect();
        let given: Vec<&String> = states.iter().map(|(name, _)| name).collect();
        let missing: Vec<_> = own.iter().filter(|name| !given.contains(name)).cloned().collect();
        let unexpected: Vec<_> = given.iter().filter(|name| !own.contains(name)).map(|n| n.to_string()).collect();
        if !(missing.is_empty() && unexpected.is_empty()) {
            return Err(Error::StateDict { op: "set_generator_states", missing, unexpected, misshaped: Vec::new() });
        }
        visit(self, "", &mut |prefix, own| {
            let name = prefix.trim_end_matches('.');
            if let Some(generator) = own.generator
                && let Some((_, state)) = states.iter().find(|(given, _)| given == name)
            {
                generator.set_state(*state);
            }
        });
        Ok(())
    }
}

impl<M: Module + ?Sized> HasParameters for M {
    fn parameters(&self) -> Vec<Parameter> {
        self.named_parameters().into_iter().map(|(_, parameter)| parameter).collect()
    }
}

/// The names of what a list holds, "0", "1", …: kept for good, as many as the longest list has.
fn index_name(index: usize) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(|e| e.into_inner());
    for next in names.len()..=index {
        names.push(next.to_string().leak());
    }
    names[index]
}

/// PyTorch's `ModuleList`: children are called 0, 1, ….
///
/// ```
/// use gatefold::{Device, Philox, nn::{Gru, Module}};
/// let mut rng = Philox::seed(1);
/// let layers = (0..2).map(|_| Gru::new(4, 4).init(&Device::Cpu, &mut rng)).collect::<gatefold::Result<Vec<_>>>()?;
/// assert_eq!(layers.named_parameters()[4].0, "1.weight_ih_l0");
/// # Ok::<(), gatefold::Error>(())
/// ```
impl<M: Module> Module for Vec<M> {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        self.iter().enumerate().map(|(i, module)| (index_name(i), module as &dyn Module)).collect()
    }

    fn repr(&self) -> String {
        let lines =
            self.iter().enumerate().map(|(i, child)| format!("  ({i}): {}\n", child.repr().replace('\n', "\n  ")));
        format!("ModuleList(\n{})", lines.collect::<String>())
    }
}

/// What a module has of its own.
struct Own<'a> {
    parameters: Vec<(String, Parameter)>,
    training: Option<&'a Training>,
    generator: Option<&'a MaskGenerator>,
}

/// Calls `body` with the prefix (empty, or ending in a dot) and the own things of each module at and below `module`.
fn visit<M: Module + ?Sized>(module: &M, prefix: &str, body: &mut dyn FnMut(&str, Own<'_>)) {
    let own =
        Own { parameters: module.own_parameters(), training: module.training(), generator: module.mask_generator() };
    body(prefix, own);
    for (name, child) in module.children() {
        visit(child, &format!("{prefix}{name}."), body);
    }
}

fn all_parameters<M: Module + ?Sized>(module: &M) -> Vec<(String, Parameter)> {
    let mut all = Vec::new();
    visit(module, "", &mut |prefix, own| {
        all.extend(own.parameters.into_iter().map(|(name, parameter)| (format!("{prefix}{name}"), parameter)));
    });
    all
}

/// A name that two different parameters have.
fn named_twice(all: &[(String, Parameter)]) -> Option<String> {
    let mut ids = HashMap::new();
    all.iter().find(|(name, p)| *ids.entry(name.as_str()).or_insert(p.id()) != p.id()).map(|(name, _)| name.clone())
}

fn set_training<M: Module + ?Sized>(module: &M, training: bool) {
    visit(module, "", &mut |_, own| {
        if let Some(flag) = own.training {
            flag.set(training);
        }
    });
}

fn load_state_dict<M: Module + ?Sized>(module: &M, state: &StateDict, strict: bool) -> Result<IncompatibleKeys> {
    let all = all_parameters(module);
    if let Some(name) = named_twice(&all) {
        let got = format!("a module with two parameters of the name {name}");
        return Err(Error::argument("load_state_dict", got, "a name of its own for each child and parameter"));
    }
    let (mut missing, mut misshaped, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (name, parameter) in &all {
        let present = parameter.value();
        match state.get(name) {
            None => missing.push(name.clone()),
            Some(given) if given.shape() != present.shape() => {
                misshaped.push(format!("{name}: got {}, want {}", given.shape(), present.shape()));
            }
            Some(given) => values.push((parameter, given.to_dtype(present.dtype())?.to_device(&present.device())?)),
        }
    }
    let known: HashSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let unexpected: Vec<_> = state.keys().filter(|name| !known.contains(name)).map(String::from).collect();
    let keys = IncompatibleKeys { missing_keys: missing, unexpected_keys: unexpected };
    if !misshaped.is_empty() || (strict && keys != IncompatibleKeys::default()) {
        let IncompatibleKeys { missing_keys: missing, unexpected_keys: unexpected } = keys;
        return Err(Error::StateDict { op: "load_state_dict", missing, unexpected, misshaped });
    }
    values.into_iter().try_for_each(|(parameter, value)| parameter.set_value(value))?;
    Ok(keys)
}

/// What [`Module::load_state_dict_partial`] passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncompatibleKeys {
    /// Parameters that the state does not have.
    pub missing_keys: Vec<String>,
    /// Entries of the state that are no parameters.
    pub unexpected_keys: Vec<String>,
}

fn table(parameters: &[(String, Parameter)]) -> String {
    let rows: Vec<_> = parameters
        .iter()
        .map(|(name, p)| {
            let frozen = if p.requires_grad() { "" } else { "  frozen" };
            (name.as_str(), p.shape().to_string(), thousands(p.shape().numel()), frozen)
        })
        .collect();
    let count = |all: bool| {
        thousands(parameters.iter().filter(|(_, p)| all || p.requires_grad()).map(|(_, p)| p.shape().numel()).sum())
    };
    let total = count(true);
    let width = |f: &dyn Fn(usize) -> usize, least: usize| (0..rows.len()).map(f).max().unwrap_or(0).max(least);
    let names = width(&|i| rows[i].0.len(), "parameter".len());
    let shapes = width(&|i| rows[i].1.len(), "shape".len());
    let sizes = total.len().max("size".len());
    let mut text = format!("{:names$}  {:shapes$}  {:>sizes$}\n", "parameter", "shape", "size");
    for (name, shape, size, frozen) in &rows {
        text += &format!("{name:names$}  {shape:shapes$}  {size:>sizes$}{frozen}\n");
    }
    text + &format!("{:names$}  {:shapes$}  {total:>sizes$}\n{} trainable", "total", "", count(false))
}

/// 1234567 as `1,234,567`.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whether a module trains; it does at first.
#[derive(Debug)]
pub struct Training(AtomicBool);

impl Training {
    /// Training.
    pub const fn new() -> Self {
        Training(AtomicBool::new(true))
    }

    /// Whether it is training.
    pub fn is_training(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Training or evaluation.
    pub fn set(&self, training: bool) {
        self.0.store(training, Ordering::Relaxed);
    }
}

impl Default for Training {
    fn default() -> Self {
        Training::new()
    }
}

/// Where a [`MaskGenerator`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeneratorState {
    /// Its seed.
    pub seed: u64,
    /// Masks drawn so far.
    pub calls: u64,
}

/// Seeds for dropout masks: the seed was drawn from the generator that initialised the module, and every call in training
/// mode takes the next stream of it. So a run is repeated by its one seed, on any device and any number of threads.
#[derive(Debug)]
pub struct MaskGenerator {
    /// Shared with captured steps, which count on.
    generator: Arc<Generator>,
}

impl MaskGenerator {
    /// A generator that has drawn nothing.
    pub fn new(seed: u64) -> Self {
        MaskGenerator { generator: Arc::new(Generator { seed: AtomicU64::new(seed), calls: AtomicU64::new(0) }) }
    }

    /// Seed and stream of the next mask.
    pub fn draw(&self) -> (u64, u64) {
        self.drawn(false)
    }

    /// A seed of its own for the next call, for a function that uses the streams of a seed itself.
    pub fn draw_seed(&self) -> u64 {
        self.drawn(true).0
    }

    fn drawn(&self, own_seed: bool) -> (u64, u64) {
        let Generator { seed, calls } = &*self.generator;
        let (seed, call) = (seed.load(Ordering::Relaxed), calls.fetch_add(1, Ordering::Relaxed));
        let drawn = if own_seed {
            let [low, high, ..] = rng::block(seed, call, 0);
            (u64::from(low) | u64::from(high) << 32, 0)
        } else {
            (seed, call)
        };
        capture::note_draw(|| Draw { generator: self.generator.clone(), seed, call, own_seed, drawn });
        drawn
    }

    /// Where it stands.
    pub fn state(&self) -> GeneratorState {
        let Generator { seed, calls } = &*self.generator;
        GeneratorState { seed: seed.load(Ordering::Relaxed), calls: calls.load(Ordering::Relaxed) }
    }

    /// Puts it there.
    pub fn set_state(&self, state: GeneratorState) {
        self.generator.seed.store(state.seed, Ordering::Relaxed);
        self.generator.calls.store(state.calls, Ordering::Relaxed);
    }
}
