//! `Plan`: sizes decided once, then forward and backward over the caller's memory.

use super::{Buf, BufMut, Descriptor};
use crate::{
    device::Device,
    dtype::DType,
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
/// The CPU runs a call before it returns; a GPU's streams will be further variants.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// The calling thread and the `rayon` pool it is in.
    #[default]
    Host,
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

/// A recurrent network at one shape: sizes and algorithm, decided once.
#[derive(Debug, Clone)]
pub struct Plan {
    descriptor: Descriptor,
    shape: Shape,
    layout: Layout,
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
        Ok(Plan { descriptor: descriptor.clone(), shape, layout: Layout::TimeMajor })
    }

    /// Sets how x and y lie in memory.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
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
        if self.descriptor.dtype == DType::F64 { DType::F64 } else { DType::F32 }
    }

    /// Elements of scratch that a call needs.
    pub fn workspace_len(&self) -> usize {
        todo!()
    }

    /// Elements that a training forward keeps for its backward.
    pub fn reserve_len(&self) -> usize {
        todo!()
    }

    /// Runs the network; with a reserve, so that [`backward`](Self::backward) can follow.
    pub fn forward(&self, _stream: &Stream, _buffers: Forward<'_>) -> Result<()> {
        todo!()
    }

    /// Gradients of the forward call that filled the reserve.
    pub fn backward(&self, _stream: &Stream, _buffers: Backward<'_>) -> Result<()> {
        todo!()
    }
}
