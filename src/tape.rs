//! The tape: what was computed, so that gradients can be had.
//!
//! ```
//! use gatefold::{Device, Parameter, Tape, Tensor};
//! let weight = Parameter::new(Tensor::new([3.0f32], &Device::Cpu)?);
//! for _ in 0..2 {
//!     let tape = Tape::new(); // one to a step
//!     let w = tape.parameter(&weight);
//!     w.mul(&w)?.sum()?.backward()?; // adds into the gradient, as PyTorch does
//! }
//! assert_eq!(weight.grad().unwrap().to_vec::<f32>()?, [12.0]);
//! weight.zero_grad();
//!
//! let tape = Tape::no_grad(); // records nothing
//! assert_eq!((tape.parameter(&weight).exp()?.dims(), tape.len()), (&[1][..], 0));
//! # Ok::<(), gatefold::Error>(())
//! ```

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::Range,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use smallvec::SmallVec;

use crate::{
    device::Device,
    dtype::{DType, Element},
    error::{Error, Result},
    shape::Shape,
    storage::Holding,
    tensor::Tensor,
};

const OP: &str = "backward";

/// The gradients of an entry's outputs, in order (`None` where nothing flowed back) → those of its inputs, in order.
pub type Backward = Box<dyn FnOnce(Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>>>;

/// The gradients of an entry's inputs, in order.
pub(crate) type Gradients = SmallVec<[Option<Tensor>; 3]>;

/// How an entry gives gradients back: most have one output, and do without lists in memory of their own.
enum Replay {
    One(Box<dyn FnOnce(Tensor) -> Result<Gradients>>),
    Any(Backward),
}

struct Entry {
    /// In [`Record::inputs`].
    inputs: Range<usize>,
    outputs: Range<usize>,
    replay: Replay,
}

#[derive(Default)]
struct Record {
    nodes: usize,
    entries: Vec<Entry>,
    /// The nodes of all entries' inputs, one after the other.
    inputs: Vec<Option<usize>>,
    /// Nodes that are parameters, and where their gradients go.
    parameters: Vec<(usize, Parameter)>,
    /// The node of each parameter that was used, so that it has one; by the parameter's number.
    known: Vec<(u64, usize)>,
    /// Nodes made by [`Tape::variable`], by node, and their gradients after `backward`.
    leaves: Vec<(usize, Option<Tensor>)>,
    /// What `backward` keeps its gradients in: empty before and after.
    gradients: Vec<Option<Tensor>>,
    consumed: bool,
}

/// Entries and nodes up to which the lists of a tape are kept for the next.
const KEEP: usize = 1 << 12;

thread_local! {
    /// The empty lists of the last tape: a training step makes a tape as long as the one before.
    static SPARE: Cell<Record> = Cell::default();
}

impl Record {
    /// An empty one, in the memory of an earlier tape where there is some.
    fn fresh() -> Self {
        SPARE.try_with(Cell::take).unwrap_or_default()
    }

    /// Keeps the memory for the next tape.
    fn retire(mut self) {
        if self.entries.capacity() == 0 || self.entries.capacity() > KEEP || self.nodes > KEEP {
            return;
        }
        // What entries hold may be the last handle of another tape, so nothing is borrowed meanwhile.
        self.entries.clear();
        self.inputs.clear();
        self.parameters.clear();
        self.known.clear();
        self.leaves.clear();
        self.gradients.clear();
        self.nodes = 0;
        self.consumed = false;
        // A thread that ends may have no place for it any more.
        let _ = SPARE.try_with(|spare| spare.set(self));
    }
}

struct Inner {
    record: RefCell<Record>,
    recording: Cell<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.record.take().retire();
    }
}

/// An append-only record of differentiable operations.
///
/// [`backward`](Tape::backward) replays it in reverse, once, and adds into each parameter's gradient. A handle: clones
/// are the same tape.
///
/// ```
/// use gatefold::{Device, Tape, Tensor};
/// let tape = Tape::new();
/// let x = tape.variable(Tensor::new([1.0f32, 2.0, 3.0], &Device::Cpu)?);
/// x.mul(&x)?.sum()?.backward()?;
/// assert_eq!(x.grad().unwrap().to_vec::<f32>()?, [2.0, 4.0, 6.0]);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Clone)]
pub struct Tape(Rc<Inner>);

impl Default for Tape {
    fn default() -> Self {
        Tape::new()
    }
}

impl Tape {
    /// An empty tape that records.
    pub fn new() -> Self {
        Tape(Rc::new(Inner { record: RefCell::new(Record::fresh()), recording: Cell::new(true) }))
    }

    /// A tape that records nothing: for inference.
    pub fn no_grad() -> Self {
        Tape(Rc::new(Inner { record: RefCell::default(), recording: Cell::new(false) }))
    }

    /// Runs `body` without recording, then goes on as before (also after a panic), like PyTorch's `torch.no_grad()`.
    pub fn with_no_grad<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Restore<'a>(&'a Cell<bool>, bool);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _restore = Restore(&self.0.recording, self.0.recording.replace(false));
        body()
    }

    /// Whether operations are being recorded.
    pub fn is_recording(&self) -> bool {
        self.0.recording.get()
    }

    /// How many operations have been recorded and not yet replayed.
    pub fn len(&self) -> usize {
        self.0.record.borrow().entries.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value that needs no gradient.
    pub fn constant(&self, value: Tensor) -> Var {
        Var { tape: self.clone(), node: None, value }
    }

    /// A value whose gradient is wanted: [`Var::grad`] has it after [`backward`](Self::backward). On a tape that does not
    /// record, and for integers, the same as [`constant`](Self::constant).
    pub fn variable(&self, value: Tensor) -> Var {
        if !self.is_recording() || !value.dtype().is_float() {
            return self.constant(value);
        }
        let mut record = self.0.record.borrow_mut();
        let node = record.nodes;
        record.nodes += 1;
        record.leaves.push((node, None));
        drop(record);
        Var { tape: self.clone(), node: Some(node), value }
    }

    /// The present value of a parameter; `backward` adds into its gradient unless it is frozen.
    pub fn parameter(&self, parameter: &Parameter) -> Var {
        let value = parameter.value();
        if !self.is_recording() || !parameter.requires_grad() {
            return self.constant(value);
        }
        let mut record = self.0.record.borrow_mut();
        let node = match record.known.binary_search_by_key(&parameter.id(), |(id, _)| *id) {
            Ok(at) => record.known[at].1,
            Err(at) => {
                let node = record.nodes;
                record.nodes += 1;
                // At the end, where parameters are used in the order in which they were made.
                record.known.insert(at, (parameter.id(), node));
                record.parameters.push((node, parameter.clone()));
                node
            }
        };
        drop(record);
        Var { tape: self.clone(), node: Some(node), value }
    }

    /// Appends an operation: how every differentiable operation of the crate comes about, and how your own can.
    ///
    /// `backward` is called at most once, with a gradient (or `None`) per output, and returns one (or `None`) per input, with its
    /// shape, dtype and device. Nothing is recorded, and `backward` dropped, when no input needs a gradient.
    ///
    /// What `backward` needs of a [`Var`] it captures as `x.tensor().clone()`, not as `x`: a var is a handle of its tape, and a tape that holds
    /// a handle of itself is not freed unless `backward` is called.
    ///
    /// ```
    /// use gatefold::{Device, Tape, Tensor};
    /// let tape = Tape::new();
    /// let x = tape.variable(Tensor::new([1.0f32, 2.0], &Device::Cpu)?);
    /// let square = x.mul(&x)?.into_tensor();
    /// let captured = x.tensor().clone();
    /// let y = tape.record("square", &[&x], vec![square], move |mut dy| {
    ///     let Some(dy) = dy.remove(0) else { return Ok(vec![None]) };
    ///     let tape = Tape::no_grad();
    ///     let dx = tape.constant(captured).mul_scalar(2.0)?.mul(&tape.constant(dy))?;
    ///     Ok(vec![Some(dx.into_tensor())])
    /// })?;
    /// y[0].sum()?.backward()?;
    /// assert_eq!(x.grad().unwrap().to_vec::<f32>()?, [2.0, 4.0]);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Tape`] when an input lies on another tape, or the tape was consumed by `backward`. [`Tape::backward`] answers what
    /// `backward` does, and [`Error::Shape`], [`Error::DType`] or [`Error::Device`] for a gradient that is not like its input.
    pub fn record(
        &self,
        op: &'static str,
        inputs: &[&Var],
        outputs: Vec<Tensor>,
        backward: impl FnOnce(Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> + 'static,
    ) -> Result<Vec<Var>> {
        let wanted: Vec<_> =
            inputs.iter().map(|v| v.node.map(|_| (v.shape().clone(), v.dtype(), v.device()))).collect();
        let checked = move |gradients| {
            let gradients = backward(gradients)?;
            if gradients.len() != wanted.len() {
                let got = format!("{} gradients of {} inputs", gradients.len(), wanted.len());
                return Err(Error::tape(op, format!("{got} came back; return one, or None, per input")));
            }
            for (gradient, wanted) in gradients.iter().zip(wanted) {
                let (Some(gradient), Some((shape, dtype, device))) = (gradient, wanted) else { continue };
                if *gradient.shape() != shape {
                    return Err(Error::shape(op, format!("a gradient of {}", gradient.shape()), shape));
                }
                if gradient.dtype() != dtype {
                    return Err(Error::dtype(op, format!("a gradient of {}", gradient.dtype()), dtype));
                }
                if gradient.device() != device {
                    return Err(Error::device(op, format!("a gradient on {}", gradient.device()), device));
                }
            }
            Ok(gradients)
        };
        self.record_own(op, inputs, outputs, checked)
    }

    /// [`record`](Self::record) of the crate's own operations, whose gradients are like their inputs.
    pub(crate) fn record_own(
        &self,
        op: &'static str,
        inputs: &[&Var],
        outputs: Vec<Tensor>,
        backward: impl FnOnce(Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> + 'static,
    ) -> Result<Vec<Var>> {
        let first = self.append(op, inputs, outputs.len(), || Replay::Any(Box::new(backward)))?;
        let var = |(i, value)| self.output(first.map(|first| first + i), value);
        Ok(outputs.into_iter().enumerate().map(var).collect())
    }

    /// [`record`](Self::record) of one output, whose backward is called only where something flowed back to that.
    pub(crate) fn record_one(
        &self,
        op: &'static str,
        inputs: &[&Var],
        output: Tensor,
        backward: impl FnOnce(Tensor) -> Result<Gradients> + 'static,
    ) -> Result<Var> {
        let node = self.append(op, inputs, 1, || Replay::One(Box::new(backward)))?;
        Ok(self.output(node, output))
    }

    fn output(&self, node: Option<usize>, value: Tensor) -> Var {
        Var { tape: self.clone(), node: node.filter(|_| value.dtype().is_float()), value }
    }

    /// Appends an entry and answers with the node of its first output; `None` where nothing is recorded.
    fn append(
        &self,
        op: &'static str,
        inputs: &[&Var],
        outputs: usize,
        replay: impl FnOnce() -> Replay,
    ) -> Result<Option<usize>> {
        if inputs.iter().any(|v| !Rc::ptr_eq(&v.tape.0, &self.0)) {
            return Err(Error::tape(
                op,
                "its inputs lie on different tapes; bring what comes from another one by detach_onto(&tape), or a tensor by Tape::constant",
            ));
        }
        if !self.is_recording() || inputs.iter().all(|v| v.node.is_none()) {
            return Ok(None);
        }
        let mut record = self.0.record.borrow_mut();
        if record.consumed {
            return Err(Error::tape(
                op,
                "backward has consumed this tape; detach the values and go on with a new Tape",
            ));
        }
        let (first, read) = (record.nodes, record.inputs.len());
        record.nodes += outputs;
        record.inputs.extend(inputs.iter().map(|v| v.node));
        let (inputs, outputs) = (read..record.inputs.len(), first..record.nodes);
        record.entries.push(Entry { inputs, outputs, replay: replay() });
        Ok(Some(first))
    }

    /// Replays the tape in reverse from a scalar and adds into the gradients of parameters and variables.
    ///
    /// The tape is consumed: what it saved is freed, and a second `backward` is an `Err`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a loss that has not exactly one element; [`Error::Tape`] for one of another tape, one that needs no gradient, or a
    /// consumed tape; the first error of an operation's backward.
    pub fn backward(&self, loss: &Var) -> Result<()> {
        if loss.value.numel() != 1 {
            let want =
                "a loss of one element; reduce it with sum() or mean(), or give its gradient with backward_with()";
            return Err(Error::shape(OP, loss.value.shape(), want));
        }
        self.replay(loss, || Tensor::ones(loss.value.shape(), loss.value.dtype(), &loss.value.device()))
    }

    /// The same from a value of any shape, whose gradient is given: PyTorch's `backward(gradient)`.
    ///
    /// # Errors
    /// As [`Tape::backward`], but for the number of elements; [`Error::Shape`], [`Error::DType`] or [`Error::Device`] for a gradient that is not like
    /// the value.
    pub fn backward_with(&self, value: &Var, gradient: &Tensor) -> Result<()> {
        value.value.expect_like(OP, gradient)?;
        self.replay(value, || Ok(gradient.clone()))
    }

    /// From a value whose gradient is asked for once nothing is wrong with the tape.
    fn replay(&self, loss: &Var, gradient: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        if !Rc::ptr_eq(&loss.tape.0, &self.0) {
            return Err(Error::tape(OP, "the loss lies on another tape"));
        }
        let (mut entries, mut inputs, mut gradients) = {
            let mut record = self.0.record.borrow_mut();
            if record.consumed {
                return Err(Error::tape(OP, "this tape was consumed by an earlier backward; record a new one"));
            }
            if loss.node.is_none() {
                return Err(Error::tape(
                    OP,
                    "nothing recorded led to this loss: no parameter or variable is behind it, or recording was off",
                ));
            }
            record.consumed = true;
            let mut gradients = std::mem::take(&mut record.gradients);
            gradients.resize(record.nodes, None);
            (std::mem::take(&mut record.entries), std::mem::take(&mut record.inputs), gradients)
        };
        if let Some(node) = loss.node {
            gradients[node] = Some(gradient()?);
        }
        for Entry { inputs: read, outputs, replay } in entries.drain(..).rev() {
            let nodes = &inputs[read];
            match replay {
                Replay::One(backward) => {
                    if let Some(gradient) = gradients[outputs.start].take() {
                        flow(&mut gradients, nodes, backward(gradient)?)?;
                    }
                }
                Replay::Any(backward) => {
                    let incoming: Vec<_> = gradients[outputs].iter_mut().map(Option::take).collect();
                    if incoming.iter().any(Option::is_some) {
                        flow(&mut gradients, nodes, backward(incoming)?)?;
                    }
                }
            }
        }
        let mut record = self.0.record.borrow_mut();
        for (node, parameter) in record.parameters.drain(..) {
            // Parameters and variables of an operation's backward have come too late to have a place.
            // What was frozen since its recording gets none.
            if let Some(gradient) = gradients.get_mut(node).and_then(Option::take)
                && parameter.requires_grad()
            {
                parameter.accumulate(gradient)?;
            }
        }
        for (node, slot) in &mut record.leaves {
            *slot = gradients.get_mut(*node).and_then(Option::take);
        }
        inputs.clear();
        gradients.clear();
        (record.entries, record.inputs, record.gradients) = (entries, inputs, gradients);
        Ok(())
    }
}

/// Adds gradients into those of the nodes that they belong to.
fn flow(
    gradients: &mut [Option<Tensor>],
    nodes: &[Option<usize>],
    outgoing: impl IntoIterator<Item = Option<Tensor>, IntoIter: ExactSizeIterator>,
) -> Result<()> {
    let outgoing = outgoing.into_iter();
    if outgoing.len() != nodes.len() {
        return Err(Error::tape(
            OP,
            format!(
                "an operation of {} inputs returned {} gradients; return one, or None, per input",
                nodes.len(),
                outgoing.len()
            ),
        ));
    }
    for (node, gradient) in nodes.iter().zip(outgoing) {
        if let (Some(node), Some(gradient)) = (*node, gradient) {
            match &mut gradients[node] {
                Some(sum) if sum.shares(&gradient) => {
                    drop(gradient);
                    sum.double()?;
                }
                Some(sum) => sum.add_scaled(1.0, &gradient)?,
                empty => *empty = Some(gradient),
            }
        }
    }
    Ok(())
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0.record.borrow();
        f.debug_struct("Tape")
            .field("entries", &record.entries.len())
            .field("recording", &self.0.recording.get())
            .field("consumed", &record.consumed)
            .finish()
    }
}

/// A tensor on a tape: what operations take and return.
#[derive(Clone)]
pub struct Var {
    tape: Tape,
    node: Option<usize>,
    value: Tensor,
}

impl Var {
    /// The value.
    pub fn tensor(&self) -> &Tensor {
        &self.value
    }

    /// The value, taken out of the tape: to carry a state from one tape to the next.
    pub fn into_tensor(self) -> Tensor {
        self.value
    }

    /// The tape it lies on.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// The same value without its history, on the same tape: for another one there is [`detach_onto`](Self::detach_onto).
    pub fn detach(&self) -> Var {
        self.tape.constant(self.value.clone())
    }

    /// The same value without its history, on another tape: a state goes on so from one chunk of a sequence to the next.
    pub fn detach_onto(&self, tape: &Tape) -> Var {
        tape.constant(self.value.clone())
    }

    /// Whether both are one node of one tape, and have its value.
    pub(crate) fn is(&self, other: &Var) -> bool {
        // A parameter's node stays where its value is replaced.
        let one_node = self.node.is_some() && self.node == other.node && Rc::ptr_eq(&self.tape.0, &other.tape.0);
        one_node && self.value.shares(&other.value)
    }

    /// Whether gradients flow to it.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    /// After `backward`: the gradient of a [`Tape::variable`]. `None` before, for other vars, and where nothing flowed.
    pub fn grad(&self) -> Option<Tensor> {
        let record = self.tape.0.record.borrow();
        let at = record.leaves.binary_search_by_key(&self.node?, |(node, _)| *node).ok()?;
        record.leaves[at].1.clone()
    }

    /// [`Tape::backward`] from this var.
    pub fn backward(&self) -> Result<()> {
        self.tape.backward(self)
    }

    /// [`Tape::backward_with`] from this var.
    pub fn backward_with(&self, gradient: &Tensor) -> Result<()> {
        self.tape.backward_with(self, gradient)
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        self.value.shape()
    }

    /// The extents as a slice.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.value.rank()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.value.numel()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        self.value.device()
    }

    /// The one element of a var that has one, as f64.
    pub fn item(&self) -> Result<f64> {
        self.value.item()
    }

    /// The elements of the value in row-major order ([`Tensor::to_vec`]).
    ///
    /// # Errors
    /// [`Error::DType`] for another element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.value.to_vec()
    }
}

impl fmt::Display for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.value, f)
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.value, f)
    }
}

struct Slot {
    id: u64,
    value: RwLock<Tensor>,
    gradient: Mutex<Option<Tensor>>,
    requires_grad: AtomicBool,
}

/// A tensor that is learned: a value and its accumulated gradient. A handle: clones are the same parameter.
#[derive(Clone)]
pub struct Parameter(Arc<Slot>);

impl Parameter {
    /// A parameter with this value and no gradient.
    pub fn new(value: Tensor) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Parameter(Arc::new(Slot {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            value: RwLock::new(value),
            gradient: Mutex::new(None),
            requires_grad: AtomicBool::new(true),
        }))
    }

    /// A number that no other parameter of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The present value (shared; it does not change when the parameter is updated).
    pub fn value(&self) -> Tensor {
        self.read(Tensor::clone)
    }

    /// Without a copy of its own.
    fn read<R>(&self, body: impl FnOnce(&Tensor) -> R) -> R {
        body(&self.0.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// Where shape or dtype differ from the present value's. The device may change: the gradient is dropped then.
    pub fn set_value(&self, value: Tensor) -> Result<()> {
        let mut slot = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        if slot.shape() != value.shape() {
            return Err(Error::shape("Parameter::set_value", value.shape(), slot.shape()));
        }
        if slot.dtype() != value.dtype() {
            return Err(Error::dtype("Parameter::set_value", value.dtype(), slot.dtype()));
        }
        if slot.device() != value.device() {
            self.zero_grad();
        }
        *slot = value;
        Ok(())
    }

    /// The accumulated gradient.
    pub fn grad(&self) -> Option<Tensor> {
        self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the gradient.
    ///
    /// # Errors
    /// Where it does not have the value's shape, dtype and device.
    pub fn set_grad(&self, gradient: Option<Tensor>) -> Result<()> {
        if let Some(gradient) = &gradient {
            self.read(|value| value.expect_like("Parameter::set_grad", gradient))?;
        }
        *self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        Ok(())
    }

    /// Adds into the gradient.
    pub fn accumulate(&self, gradient: Tensor) -> Result<()> {
        self.read(|value| value.expect_like("Parameter::accumulate", &gradient))?;
        let _holding = Holding::new();
        match &mut *self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sum) => sum.add_scaled(1.0, &gradient),
            empty => {
                *empty = Some(gradient);
                Ok(())
            }
        }
    }

    /// Forgets the gradient.
    pub fn zero_grad(&self) {
        *self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it is learned.
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed)
    }

    /// Freezes (`false`) or thaws it.
    pub fn set_requires_grad(&self, requires: bool) {
        self.0.requires_grad.store(requires, Ordering::Relaxed);
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.read(|value| value.shape().clone())
    }
}

/// A parameter's value and gradient under their locks: what an optimizer changes in place. The gradient is `None` where none
/// has been accumulated.
pub(crate) struct Locked<'a> {
    pub value: RwLockWriteGuard<'a, Tensor>,
    pub gradient: MutexGuard<'a, Option<Tensor>>,
}

/// Locks of parameters, and what lets kernels run under them while threads of the pool wait for these.
pub(crate) struct Locks<L> {
    pub each: Vec<L>,
    _holding: Holding,
}

/// Locks several parameters, none of them listed twice.
pub(crate) fn lock(parameters: &[Parameter]) -> Locks<Locked<'_>> {
    in_order(parameters, |Parameter(slot)| Locked {
        value: slot.value.write().unwrap_or_else(PoisonError::into_inner),
        gradient: slot.gradient.lock().unwrap_or_else(PoisonError::into_inner),
    })
}

/// Locks the gradients of several parameters, none of them listed twice.
pub(crate) fn lock_gradients(parameters: &[Parameter]) -> Locks<MutexGuard<'_, Option<Tensor>>> {
    in_order(parameters, |Parameter(slot)| slot.gradient.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Takes locks in the order of the ids, so that no two threads wait for each other; gives them in that of the list.
fn in_order<'a, L>(parameters: &'a [Parameter], lock: impl Fn(&'a Parameter) -> L) -> Locks<L> {
    let _holding = Holding::new();
    // As a module lists them: it has made them in that order.
    if parameters.is_sorted_by(|a, b| a.id() < b.id()) {
        return Locks { each: parameters.iter().map(lock).collect(), _holding };
    }
    let mut order: Vec<usize> = (0..parameters.len()).collect();
    order.sort_unstable_by_key(|&i| parameters[i].id());
    let mut locks: Vec<(usize, L)> = order.into_iter().map(|i| (i, lock(&parameters[i]))).collect();
    locks.sort_unstable_by_key(|(i, _)| *i);
    Locks { each: locks.into_iter().map(|(_, lock)| lock).collect(), _holding }
}

/// What it is, without its numbers, as it stands among others in modules and optimizers: those are printed by `value()`.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value();
        f.debug_struct("Parameter")
            .field("shape", value.shape())
            .field("dtype", &value.dtype())
            .field("device", &value.device())
            .field("requires_grad", &self.requires_grad())
            .finish()
    }
}

/// What has parameters: a module, a list of parameters, one parameter. What optimizers and clipping take.
pub trait HasParameters {
    /// Handles to all of them, in a fixed order.
    fn parameters(&self) -> Vec<Parameter>;
}

impl HasParameters for Parameter {
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.clone()]
    }
}

impl HasParameters for [Parameter] {
    fn parameters(&self) -> Vec<Parameter> {
        self.to_vec()
    }
}

impl<const N: usize> HasParameters for [Parameter; N] {
    fn parameters(&self) -> Vec<Parameter> {
        self.to_vec()
    }
}

impl HasParameters for Vec<Parameter> {
    fn parameters(&self) -> Vec<Parameter> {
        self.clone()
    }
}
