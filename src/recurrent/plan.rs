//! `Plan`: sizes decided once, then forward and backward over the caller's memory.

use std::{cell::RefCell, rc::Rc};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{Algorithm, Buf, BufMut, Choice, Descriptor, Keep, cpu};
use crate::{
    device::Device,
    dtype::{DType, with_dtype},
    error::{Error, Result},
};

/// Time steps and sequences of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Time steps T (the longest sequence's).
    pub seq: usize,
    /// Sequences B.
    pub batch: usize,
}

/// How x, y and their gradients lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// `(T, B, features)`
    #[default]
    TimeMajor,
    /// `(B, T, features)`: PyTorch's `batch_first`.
    BatchMajor,
}

/// Which of the T·B positions belong to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sequence<'a> {
    /// All: every sequence has T steps.
    #[default]
    Full,
    /// Sequence b has the first `lengths[b]` steps, `1 ≤ lengths[b] ≤ T`, in any order of b. What stands behind is not read;
    /// y and dx are 0 there.
    Lengths(&'a [usize]),
    /// PyTorch's packed form: x is `(Σ batch_sizes, features)`, the first `batch_sizes[0]` rows being step 0 of the sequences
    /// from the longest to the shortest, and so on. States are in that order of sequences too.
    Packed {
        /// Sequences that reach step t: T numbers that never grow, the first of them B.
        batch_sizes: &'a [usize],
    },
}

/// Where work is queued.
///
/// The CPU runs a call before it returns. On a GPU a call returns when its work is queued: with [`Host`](Self::Host) on the crate's
/// own stream, which [`Device::synchronize`] and every download wait for.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// The calling thread and the `rayon` pool it is in; on a GPU, the crate's stream.
    #[default]
    Host,
    /// A GPU's stream of the caller's, which is not being captured: the call's work comes behind what is on it, and what is put on it
    /// afterwards comes behind the call. Nothing waits on the host. The device's primary context is current on the calling thread
    /// afterwards, as after `cudaSetDevice`: who uses several devices sets theirs anew.
    #[cfg(feature = "cuda")]
    Cuda(CudaStream),
}

/// A stream of the CUDA driver's.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaStream {
    ordinal: usize,
    raw: usize,
}

#[cfg(feature = "cuda")]
impl CudaStream {
    /// A `CUstream` (null: the default stream) of the primary context of the GPU of that ordinal.
    ///
    /// # Safety
    /// The stream lives as long as this value is used.
    pub unsafe fn from_raw(ordinal: usize, stream: *mut std::ffi::c_void) -> Self {
        CudaStream { ordinal, raw: stream as usize }
    }

    pub(super) fn raw(self) -> *mut std::ffi::c_void {
        self.raw as *mut std::ffi::c_void
    }
}

/// Buffers of a forward call. D is the number of directions, R the size of h (projection or hidden size), L the number of layers.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Input `(T, B, I)`, `(B, T, I)` or packed `(rows, I)`.
    pub x: Buf<'a>,
    /// Initial hidden state `(L·D, B, R)`; zeros if `None`.
    pub h0: Option<Buf<'a>>,
    /// Initial cell state `(L·D, B, H)`, LSTM only; zeros if `None`.
    pub c0: Option<Buf<'a>>,
    /// Every parameter, in the order of [`Descriptor::parameters`].
    pub parameters: &'a [Buf<'a>],
    /// Which positions belong to a sequence.
    pub sequence: Sequence<'a>,
    /// Output `(T, B, D·R)`, `(B, T, D·R)` or packed `(rows, D·R)`; 0 behind the end of a sequence.
    pub y: BufMut<'a>,
    /// Last hidden state of each sequence `(L·D, B, R)`.
    pub hn: BufMut<'a>,
    /// Last cell state `(L·D, B, H)`: with an LSTM, and only then.
    pub cn: Option<BufMut<'a>>,
    /// Key of the dropout masks; the backward call needs the same. Unused without a reserve or dropout.
    pub dropout_seed: u64,
    /// Scratch of [`Plan::workspace_len`] elements of [`Plan::compute_dtype`].
    pub workspace: BufMut<'a>,
    /// Training: [`Plan::reserve_len`] elements of [`Plan::compute_dtype`], filled for the backward call. Inference: `None`; nothing is
    /// kept and nothing is dropped out.
    pub reserve: Option<BufMut<'a>>,
}

/// Buffers of a backward call; shapes as in [`Forward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// The input of the forward call.
    pub x: Buf<'a>,
    /// The initial hidden state of the forward call.
    pub h0: Option<Buf<'a>>,
    /// The initial cell state of the forward call.
    pub c0: Option<Buf<'a>>,
    /// The parameters of the forward call.
    pub parameters: &'a [Buf<'a>],
    /// As in the forward call.
    pub sequence: Sequence<'a>,
    /// Gradient of y; what stands behind the end of a sequence is not read. Zeros if `None`.
    pub dy: Option<Buf<'a>>,
    /// Gradient of hn; zeros if `None`.
    pub dhn: Option<Buf<'a>>,
    /// Gradient of cn; zeros if `None`.
    pub dcn: Option<Buf<'a>>,
    /// Receives the gradient of x; not computed if `None`.
    pub dx: Option<BufMut<'a>>,
    /// Receives the gradient of h0.
    pub dh0: Option<BufMut<'a>>,
    /// Receives the gradient of c0.
    pub dc0: Option<BufMut<'a>>,
    /// Receive the gradients of the parameters, in their order; not computed where `None`. Empty: none of them.
    pub dparameters: &'a mut [Option<BufMut<'a>>],
    /// Add into `dparameters` instead of overwriting them.
    pub accumulate: bool,
    /// As in the forward call.
    pub dropout_seed: u64,
    /// Scratch of [`Plan::workspace_len`] elements.
    pub workspace: BufMut<'a>,
    /// What the forward call kept. Gates are overwritten by their gradients: one backward per forward.
    pub reserve: BufMut<'a>,
}

/// Plans that a thread keeps.
const KEPT: usize = 8;

thread_local! {
    /// The last one first.
    static PLANS: RefCell<Vec<Rc<Plan>>> = const { RefCell::new(Vec::new()) };
}

/// A recurrent network at one shape: sizes and algorithm, decided once.
#[derive(Debug, Clone)]
pub struct Plan {
    descriptor: Descriptor,
    shape: Shape,
    layout: Layout,
    device: Device,
    graphs: bool,
    products: bool,
    choice: Choice,
    /// On the CPU: of the workspace and of the reserve, which every call asks for.
    lens: (usize, usize),
}

impl Plan {
    /// Plans for sequences of up to `shape.seq` steps in batches of `shape.batch`, time-major.
    ///
    /// # Errors
    /// Those of [`Descriptor::validate`]; [`Error::Shape`] for a zero extent or sizes that overflow; [`Error::Unavailable`] for a device that this build
    /// or machine lacks.
    pub fn new(descriptor: &Descriptor, shape: Shape, device: &Device) -> Result<Self> {
        device.check("recurrent plan")?;
        descriptor.validate()?;
        if shape.seq == 0 || shape.batch == 0 {
            return Err(Error::shape("recurrent plan", format!("{shape:?}"), "at least one step and one sequence"));
        }
        // Everything that a call holds is below this: rows times all that is kept per row.
        let per_row = (descriptor.num_layers * 32)
            .saturating_mul(descriptor.hidden_size)
            .saturating_add(descriptor.input_size.saturating_mul(4));
        if shape
            .seq
            .checked_mul(shape.batch)
            .and_then(|n| n.checked_mul(per_row))
            .is_none_or(|n| n > isize::MAX as usize / 8)
        {
            return Err(Error::shape("recurrent plan", format!("{shape:?}"), "a workspace that memory can hold"));
        }
        let (descriptor, layout) = (descriptor.clone(), Layout::TimeMajor);
        let choice = chosen(Algorithm::Auto, &descriptor, shape, device)?;
        let mut plan =
            Plan { descriptor, shape, layout, device: *device, graphs: true, products: true, choice, lens: (0, 0) };
        if plan.device == Device::Cpu {
            plan.lens = (cpu::workspace_len(&plan), cpu::reserve_len(&plan));
        }
        Ok(plan)
    }

    /// A plan on the CPU, kept by the thread: most calls are of the network and extents of one shortly before.
    pub(crate) fn on_cpu(descriptor: &Descriptor, shape: Shape, layout: Layout) -> Result<Rc<Self>> {
        let fits = |p: &Rc<Plan>| p.shape == shape && p.layout == layout && p.descriptor == *descriptor;
        PLANS.with_borrow_mut(|plans| {
            if let Some(at) = plans.iter().position(fits) {
                plans[..=at].rotate_right(1);
            } else {
                plans.truncate(KEPT - 1);
                plans.insert(0, Rc::new(Plan::new(descriptor, shape, &Device::Cpu)?.layout(layout)));
            }
            Ok(plans[0].clone())
        })
    }

    /// Sets how the steps are run on a GPU, instead of [`Algorithm::Auto`]. Sizes of workspaces may change; a reserve is the same, so
    /// one algorithm's backward may follow another's forward.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason where [`Algorithm::Persistent`] or [`Algorithm::PersistentBy`] is asked for and cannot
    /// run.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Result<Self> {
        self.choice = chosen(algorithm, &self.descriptor, self.shape, &self.device)?;
        Ok(self)
    }

    /// For measurements and tests: the layers of a persistent plan run so many side by side in that many stretches, or with one stretch
    /// one after the other, instead of as the model has it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a plan that is not persistent or numbers that it cannot have; [`Error::Unavailable`] where the device has
    /// no room for so many.
    #[doc(hidden)]
    #[cfg(feature = "cuda")]
    pub fn wavefront(mut self, layers: usize, stretches: usize) -> Result<Self> {
        let (Device::Cuda(ordinal), Choice::Persistent { plan, .. }) = (self.device, &mut self.choice) else {
            return Err(Error::argument(
                super::algorithm::OP,
                format!("a wavefront of {}", self.choice),
                "a persistent plan",
            ));
        };
        **plan = cuda::wavefront(plan, &self.descriptor, ordinal, (layers, stretches))?;
        Ok(self)
    }

    /// How the steps are run, and why.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Sets how x and y lie in memory.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Whether calls on a GPU may be captured as CUDA graphs: the second call of the same shape in the same memory is, and it and
    /// those after it are one launch. They may unless this, or [`Device::allow_graphs`], says otherwise; nothing on the CPU. What a
    /// capture means to other threads is said there.
    pub fn graphs(mut self, allow: bool) -> Self {
        self.graphs = allow;
        self
    }

    /// For measurements: calls on a GPU leave out every matrix product, and their results mean nothing.
    #[doc(hidden)]
    pub fn without_products(mut self) -> Self {
        self.products = false;
        self
    }

    /// What is computed.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// For which extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The type of workspace and reserve: f64 for f64, f32 for everything else.
    pub fn compute_dtype(&self) -> DType {
        self.descriptor.dtype.wide()
    }

    /// Elements of scratch that a call needs.
    pub fn workspace_len(&self) -> usize {
        match self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => cuda::workspace_len(self),
            _ => self.lens.0,
        }
    }

    /// Elements that a training forward keeps for its backward.
    pub fn reserve_len(&self) -> usize {
        match self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => cuda::reserve_len(self),
            _ => self.lens.1,
        }
    }

    /// Runs the network; with a reserve, so that [`backward`](Self::backward) can follow.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::DType`] for a buffer of another length or type than its field says; [`Error::Argument`] for lengths or batch sizes that
    /// are not as [`Sequence`] says, and for a `cn` that is missing or too much.
    pub fn forward(&self, stream: &Stream, buffers: Forward<'_>) -> Result<()> {
        self.forward_keeping(stream, buffers, None)
    }

    /// [`forward`](Self::forward), on the CPU with weights that may be kept.
    pub(crate) fn forward_keeping(&self, stream: &Stream, buffers: Forward<'_>, keep: Option<Keep<'_>>) -> Result<()> {
        const OP: &str = "recurrent forward";
        self.check_stream(OP, stream)?;
        let rows = self.check_sequence(OP, buffers.sequence)?;
        let sizes = self.sizes(rows);
        let b = &buffers;
        self.check_inputs(OP, &sizes, b.x, b.h0, b.c0, b.parameters)?;
        self.check(OP, "y", Some((b.y.len(), b.y.dtype(), b.y.device())), sizes.y)?;
        self.check(OP, "hn", Some((b.hn.len(), b.hn.dtype(), b.hn.device())), sizes.h)?;
        self.check(OP, "cn", b.cn.as_ref().map(|b| (b.len(), b.dtype(), b.device())), sizes.c)?;
        if b.cn.is_none() && self.descriptor.cell.has_cell_state() {
            return Err(Error::argument(OP, "no cn", "a buffer for the last cell state of an LSTM"));
        }
        self.check_scratch(
            OP,
            "workspace",
            (b.workspace.len(), b.workspace.dtype(), b.workspace.device()),
            self.workspace_len(),
        )?;
        if let Some(reserve) = &b.reserve {
            self.check_scratch(OP, "reserve", (reserve.len(), reserve.dtype(), reserve.device()), self.reserve_len())?;
        }
        if let Some(keep) = keep {
            keep.forget_others(self.device == Device::Cpu && Keep::pays(self.shape, b.reserve.is_some()));
        }
        #[cfg(feature = "cuda")]
        if let Device::Cuda(ordinal) = self.device {
            return cuda::forward(self, ordinal, stream, buffers);
        }
        with_dtype!(float OP, self.descriptor.dtype, T => { cpu::forward::<T>(self, buffers, keep); Ok(()) })
    }

    /// Gradients of the forward call that filled the reserve.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn backward(&self, stream: &Stream, buffers: Backward<'_>) -> Result<()> {
        self.backward_keeping(stream, buffers, None)
    }

    /// [`backward`](Self::backward), as [`forward_keeping`](Self::forward_keeping).
    pub(crate) fn backward_keeping(
        &self,
        stream: &Stream,
        buffers: Backward<'_>,
        keep: Option<Keep<'_>>,
    ) -> Result<()> {
        const OP: &str = "recurrent backward";
        self.check_stream(OP, stream)?;
        let rows = self.check_sequence(OP, buffers.sequence)?;
        let sizes = self.sizes(rows);
        let b = &buffers;
        self.check_inputs(OP, &sizes, b.x, b.h0, b.c0, b.parameters)?;
        for (name, buf, len) in [("dy", b.dy, sizes.y), ("dhn", b.dhn, sizes.h), ("dcn", b.dcn, sizes.c)] {
            self.check(OP, name, buf.map(|b| (b.len(), b.dtype(), b.device())), len)?;
        }
        for (name, buf, len) in [("dx", &b.dx, sizes.x), ("dh0", &b.dh0, sizes.h), ("dc0", &b.dc0, sizes.c)] {
            self.check(OP, name, buf.as_ref().map(|b| (b.len(), b.dtype(), b.device())), len)?;
        }
        if !b.dparameters.is_empty() {
            let specs = self.descriptor.parameters();
            if specs.len() != b.dparameters.len() {
                return Err(Error::shape(OP, format!("{} parameter gradients", b.dparameters.len()), specs.len()));
            }
            for (spec, buf) in specs.iter().zip(b.dparameters.iter()) {
                self.check(
                    OP,
                    "a parameter's gradient",
                    buf.as_ref().map(|b| (b.len(), b.dtype(), b.device())),
                    spec.numel(),
                )?;
            }
        }
        self.check_scratch(
            OP,
            "workspace",
            (b.workspace.len(), b.workspace.dtype(), b.workspace.device()),
            self.workspace_len(),
        )?;
        self.check_scratch(
            OP,
            "reserve",
            (b.reserve.len(), b.reserve.dtype(), b.reserve.device()),
            self.reserve_len(),
        )?;
        #[cfg(feature = "cuda")]
        if let Device::Cuda(ordinal) = self.device {
            return cuda::backward(self, ordinal, stream, buffers);
        }
        with_dtype!(float OP, self.descriptor.dtype, T => { cpu::backward::<T>(self, buffers, keep); Ok(()) })
    }

    #[cfg(feature = "cuda")]
    pub(super) fn may_capture(&self) -> bool {
        self.graphs
    }

    #[cfg(feature = "cuda")]
    pub(super) fn has_products(&self) -> bool {
        self.products
    }

    /// How x and y lie in memory.
    pub(super) fn memory_layout(&self) -> Layout {
        self.layout
    }

    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "only a stream of CUDA can be a wrong one"))]
    fn check_stream(&self, op: &'static str, stream: &Stream) -> Result<()> {
        match stream {
            Stream::Host => Ok(()),
            #[cfg(feature = "cuda")]
            Stream::Cuda(theirs) if self.device == Device::Cuda(theirs.ordinal) => Ok(()),
            #[cfg(feature = "cuda")]
            Stream::Cuda(theirs) => {
                Err(Error::Device { op, got: Device::Cuda(theirs.ordinal).to_string(), want: self.device.to_string() })
            }
        }
    }

    /// Rows of x and y in memory.
    fn check_sequence(&self, op: &'static str, sequence: Sequence<'_>) -> Result<usize> {
        let Shape { seq, batch } = self.shape;
        match sequence {
            Sequence::Full => Ok(seq * batch),
            Sequence::Lengths(lengths) => {
                if lengths.len() != batch {
                    return Err(Error::shape(
                        op,
                        format!("{} lengths", lengths.len()),
                        format!("one for each of {batch} sequences"),
                    ));
                }
                match lengths.iter().find(|&&n| n == 0 || n > seq) {
                    Some(n) => Err(Error::argument(op, format!("a length of {n}"), format!("lengths from 1 to {seq}"))),
                    None => Ok(seq * batch),
                }
            }
            Sequence::Packed { batch_sizes } => {
                let ordered =
                    batch_sizes.windows(2).all(|w| w[0] >= w[1]) && batch_sizes.last().is_some_and(|&n| n > 0);
                if batch_sizes.len() != seq || batch_sizes.first() != Some(&batch) || !ordered {
                    return Err(Error::argument(
                        op,
                        format!("batch sizes {batch_sizes:?}"),
                        format!("{seq} sizes that start at {batch}, never grow and stay above 0"),
                    ));
                }
                Ok(batch_sizes.iter().sum())
            }
        }
    }

    fn sizes(&self, rows: usize) -> Sizes {
        let d = &self.descriptor;
        let states = d.num_layers * d.directions() * self.shape.batch;
        Sizes {
            x: rows * d.input_size,
            y: rows * d.directions() * d.output_size(),
            h: states * d.output_size(),
            c: if d.cell.has_cell_state() { states * d.hidden_size } else { 0 },
        }
    }

    fn check_inputs(
        &self,
        op: &'static str,
        sizes: &Sizes,
        x: Buf<'_>,
        h0: Option<Buf<'_>>,
        c0: Option<Buf<'_>>,
        parameters: &[Buf<'_>],
    ) -> Result<()> {
        for (name, buf, len) in [("x", Some(x), sizes.x), ("h0", h0, sizes.h), ("c0", c0, sizes.c)] {
            self.check(op, name, buf.map(|b| (b.len(), b.dtype(), b.device())), len)?;
        }
        let mut given = parameters.iter();
        for layer in 0..self.descriptor.num_layers {
            for direction in 0..self.descriptor.directions() {
                for numel in self.descriptor.layer_numels(layer) {
                    let Some(buf) = given.next() else {
                        return Err(Error::shape(
                            op,
                            format!("{} parameters", parameters.len()),
                            self.descriptor.parameters().len(),
                        ));
                    };
                    self.check_device(op, "a parameter", buf.device())?;
                    if buf.dtype() != self.descriptor.dtype {
                        let got = format!("a parameter of {} in layer {layer}", buf.dtype());
                        return Err(Error::dtype(op, got, self.descriptor.dtype));
                    }
                    if buf.len() != numel {
                        let spec = &self.descriptor.layer_parameters(layer, direction);
                        let names: Vec<_> = spec.iter().map(|s| format!("{} {:?}", s.name(), s.shape)).collect();
                        let got = format!("a parameter of {} elements in layer {layer}", buf.len());
                        return Err(Error::shape(op, got, names.join(", ")));
                    }
                }
            }
        }
        if given.next().is_some() {
            return Err(Error::shape(
                op,
                format!("{} parameters", parameters.len()),
                self.descriptor.parameters().len(),
            ));
        }
        Ok(())
    }

    /// A buffer that is given has this length and the descriptor's dtype; of length 0 it must not be given.
    fn check(&self, op: &'static str, name: &str, given: Option<(usize, DType, Device)>, len: usize) -> Result<()> {
        let Some((got, dtype, device)) = given else { return Ok(()) };
        if len == 0 {
            return Err(Error::argument(
                op,
                format!("{name} with {:?}", self.descriptor.cell),
                "no cell state: only an LSTM has one",
            ));
        }
        if got != len {
            return Err(Error::shape(op, format!("{name} of {got} elements"), len));
        }
        if dtype != self.descriptor.dtype {
            return Err(Error::dtype(op, format!("{name} of {dtype}"), self.descriptor.dtype));
        }
        self.check_device(op, name, device)
    }

    fn check_device(&self, op: &'static str, name: &str, device: Device) -> Result<()> {
        if device == self.device {
            return Ok(());
        }
        Err(Error::device(op, format!("{name} on {device}"), format!("{}, the plan's", self.device)))
    }

    fn check_scratch(
        &self,
        op: &'static str,
        name: &str,
        (got, dtype, device): (usize, DType, Device),
        len: usize,
    ) -> Result<()> {
        if got < len {
            return Err(Error::shape(op, format!("{name} of {got} elements"), format!("at least {len}")));
        }
        if dtype != self.compute_dtype() {
            return Err(Error::dtype(op, format!("{name} of {dtype}"), self.compute_dtype()));
        }
        self.check_device(op, name, device)
    }
}

/// Elements of the caller's buffers.
struct Sizes {
    x: usize,
    y: usize,
    h: usize,
    /// 0 without a cell state.
    c: usize,
}

/// The algorithm of a plan on a device.
fn chosen(algorithm: Algorithm, descriptor: &Descriptor, shape: Shape, device: &Device) -> Result<Choice> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(ordinal) = *device {
        return cuda::chosen(algorithm, descriptor, shape, ordinal);
    }
    if matches!(algorithm, Algorithm::Persistent | Algorithm::PersistentBy(_)) {
        return Err(Error::Unavailable {
            op: super::algorithm::OP,
            what: format!("a persistent plan for {descriptor}, {} sequences", shape.batch),
            reason: format!("{device} is no GPU"),
        });
    }
    Ok(Choice::Stepwise { reason: format!("{device} is no GPU") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recurrent::Cell;

    #[test]
    fn a_kept_plan_is_of_its_network_extents_and_layout() {
        let mut d = Descriptor::new(Cell::Lstm, 3, 4);
        d.num_layers = 2;
        d.dropout = 0.5;
        let shape = Shape { seq: 5, batch: 2 };
        let plan = |d: &Descriptor, shape, layout| Plan::on_cpu(d, shape, layout).unwrap();
        let first = plan(&d, shape, Layout::TimeMajor);
        assert!(Rc::ptr_eq(&first, &plan(&d, shape, Layout::TimeMajor)));
        let evaluated = Descriptor { dropout: 0.0, ..d.clone() };
        let others = [
            plan(&evaluated, shape, Layout::TimeMajor),
            plan(&d, shape, Layout::BatchMajor),
            plan(&d, Shape { seq: 6, batch: 2 }, Layout::TimeMajor),
        ];
        assert!(others.iter().all(|other| !Rc::ptr_eq(other, &first)));
        assert!(Rc::ptr_eq(&first, &plan(&d, shape, Layout::TimeMajor)), "the others have not driven it out");
        for seq in 10..10 + 2 * KEPT {
            let shape = Shape { seq, batch: 2 };
            let (kept, fresh) = (plan(&d, shape, Layout::TimeMajor), Plan::new(&d, shape, &Device::Cpu).unwrap());
            assert_eq!(kept.shape(), shape);
            let lens = |p: &Plan| (p.workspace_len(), p.reserve_len());
            assert_eq!(lens(&kept), lens(&fresh));
        }
        assert!(!Rc::ptr_eq(&first, &plan(&d, shape, Layout::TimeMajor)));
        assert!(PLANS.with_borrow(Vec::len) == KEPT);
        d.hidden_size = 0;
        assert!(Plan::on_cpu(&d, shape, Layout::TimeMajor).is_err());
    }

    /// Layers above the first are alike, and none is counted by itself.
    #[test]
    fn a_network_of_many_layers_is_planned_at_once() {
        let mut d = Descriptor::new(Cell::Lstm, 1, 1);
        let shape = Shape { seq: 1, batch: 1 };
        let lens = |layers, d: &mut Descriptor| {
            d.num_layers = layers;
            let plan = Plan::new(d, shape, &Device::Cpu).unwrap();
            (plan.workspace_len(), plan.reserve_len())
        };
        let [two, three, four, many] = [2, 3, 4, 1 << 40].map(|layers| lens(layers, &mut d));
        assert_eq!((four.0 - three.0, four.1 - three.1), (three.0 - two.0, three.1 - two.1));
        assert!(many.1 > 1 << 40);
    }
}
