//! A whole sequence through a whole recurrent network, as one entry of the tape.

use std::{rc::Rc, sync::Arc};

use smallvec::SmallVec;

use crate::{
    cpu::Buffer,
    device::Device,
    dtype::{DType, bf16, f16},
    error::{Error, Result},
    recurrent::{self, Buf, BufMut, Descriptor, Keep, KeptWeights, Layout, Plan, Sequence, Stream},
    shape::{Dims, Shape},
    tape::Var,
    tensor::Tensor,
};

/// Of memory that is on the wrong device, after all checks.
const OP: &str = "recurrent";

/// Which positions belong to a sequence: [`Sequence`], owned by the tape.
pub(crate) enum Steps {
    Full,
    Lengths(Vec<usize>),
    Packed(Vec<usize>),
}

impl Steps {
    fn sequence(&self) -> Sequence<'_> {
        match self {
            Steps::Full => Sequence::Full,
            Steps::Lengths(lengths) => Sequence::Lengths(lengths),
            Steps::Packed(batch_sizes) => Sequence::Packed { batch_sizes },
        }
    }
}

/// One call of the network: what its tensors do not say.
pub(crate) struct Call<'a> {
    /// What errors name.
    pub op: &'static str,
    pub descriptor: &'a Descriptor,
    /// Steps and sequences.
    pub extents: recurrent::Shape,
    pub layout: Layout,
    pub steps: Steps,
    /// Extents of a state before its features: `[L·D, B]`, or `[L·D]` where x has no batch axis; a cell's has no L·D.
    pub lead: Dims,
    /// Dropout between layers is applied, whether or not anything is recorded.
    pub training: bool,
    /// Draws the masks' seed, once nothing is refused any more; 0 where there are none.
    pub dropout_seed: &'a dyn Fn() -> u64,
    /// On the CPU: weights that stay packed between calls.
    pub kept: &'a Arc<KeptWeights>,
}

/// y, hn and, of an LSTM, cn.
///
/// x is laid out as `call` says, h0 and c0 are `(L·D, B, R)` and `(L·D, B, H)` (see [`Call::lead`]) and zero if `None`,
/// `parameters` are in the order of [`Descriptor::parameters`].
pub(crate) fn recurrent(
    call: Call<'_>,
    x: &Var,
    h0: Option<&Var>,
    c0: Option<&Var>,
    parameters: &[Var],
) -> Result<(Var, Var, Option<Var>)> {
    check(&call, x, h0, c0, parameters)?;
    let (tape, op) = (x.tape(), call.op);
    let inputs: Vec<&Var> = [x].into_iter().chain(h0).chain(c0).chain(parameters).collect();
    if call.extents.batch == 0 {
        return without_sequences(&call, x, &inputs);
    }
    let recorded = tape.is_recording() && inputs.iter().any(|v| v.requires_grad());
    let plan = plan(&call, x.device())?;
    let descriptor = plan.descriptor();
    let drops = descriptor.dropout > 0.0 && descriptor.num_layers > 1;
    let stream = Stream::Host;
    let scratch = |len: usize| Tensor::uninit(len, plan.compute_dtype(), x.device());
    let mut reserve = if recorded || drops { Some(scratch(plan.reserve_len())?) } else { None };

    let mut y = x.tensor().like(y_shape(&call, x))?;
    let mut hn = x.tensor().like(state_shape(&call.lead, descriptor.output_size()))?;
    let mut cn = if descriptor.cell.has_cell_state() {
        Some(x.tensor().like(state_shape(&call.lead, descriptor.hidden_size))?)
    } else {
        None
    };
    let steps = call.steps;
    let dropout_seed = (call.dropout_seed)();
    {
        let mut workspace = scratch(plan.workspace_len())?;
        let weights = bufs(parameters.iter().map(Var::tensor))?;
        let versions = versions(parameters.iter().map(Var::tensor));
        plan.forward_keeping(
            &stream,
            recurrent::Forward {
                x: buf(x.tensor())?,
                h0: h0.map(|h| buf(h.tensor())).transpose()?,
                c0: c0.map(|c| buf(c.tensor())).transpose()?,
                parameters: &weights,
                sequence: steps.sequence(),
                y: buf_mut(&mut y)?,
                hn: buf_mut(&mut hn)?,
                cn: cn.as_mut().map(buf_mut).transpose()?,
                dropout_seed,
                workspace: buf_mut(&mut workspace)?,
                reserve: reserve.as_mut().map(buf_mut).transpose()?,
            },
            Some(Keep { weights: call.kept, versions: &versions }),
        )?;
    }

    let saved = Saved {
        op,
        plan,
        steps,
        dropout_seed,
        reserve,
        x: x.tensor().clone(),
        h0: h0.map(|h| h.tensor().clone()),
        c0: c0.map(|c| c.tensor().clone()),
        parameters: parameters.iter().map(|p| p.tensor().clone()).collect(),
        kept: call.kept.clone(),
        wanted: inputs.iter().map(|v| v.requires_grad()).collect(),
    };
    let outputs = [y, hn].into_iter().chain(cn).collect();
    let mut vars = tape.record_own(op, &inputs, outputs, move |gradients| saved.backward(gradients))?.into_iter();
    match (vars.next(), vars.next()) {
        (Some(y), Some(hn)) => Ok((y, hn, vars.next())),
        _ => Err(Error::tape(op, "the tape lost an output")),
    }
}

/// What a batch of no sequences gives, as in PyTorch: outputs and states without elements, gradients of zeros for the weights.
fn without_sequences(call: &Call<'_>, x: &Var, inputs: &[&Var]) -> Result<(Var, Var, Option<Var>)> {
    let descriptor = call.descriptor;
    let mut outputs = vec![x.tensor().like(y_shape(call, x))?];
    outputs.push(x.tensor().like(state_shape(&call.lead, descriptor.output_size()))?);
    if descriptor.cell.has_cell_state() {
        outputs.push(x.tensor().like(state_shape(&call.lead, descriptor.hidden_size))?);
    }
    let like: Vec<Option<Tensor>> = inputs.iter().map(|v| v.requires_grad().then(|| v.tensor().clone())).collect();
    let zeros = move |_| {
        let zeros = |x: Tensor| Tensor::zeros(x.shape(), x.dtype(), &x.device());
        like.into_iter().map(|x| x.map(zeros).transpose()).collect()
    };
    let mut vars = x.tape().record_own(call.op, inputs, outputs, zeros)?.into_iter();
    match (vars.next(), vars.next()) {
        (Some(y), Some(hn)) => Ok((y, hn, vars.next())),
        _ => Err(Error::tape(call.op, "the tape lost an output")),
    }
}

/// The plan of a call.
fn plan(call: &Call<'_>, device: Device) -> Result<Rc<Plan>> {
    let mut descriptor = call.descriptor.clone();
    if !call.training {
        descriptor.dropout = 0.0;
    }
    if device == Device::Cpu {
        return Plan::on_cpu(&descriptor, call.extents, call.layout);
    }
    Ok(Rc::new(Plan::new(&descriptor, call.extents, &device)?.layout(call.layout)))
}

/// What the backward call needs of the forward one.
struct Saved {
    op: &'static str,
    plan: Rc<Plan>,
    steps: Steps,
    dropout_seed: u64,
    reserve: Option<Tensor>,
    x: Tensor,
    h0: Option<Tensor>,
    c0: Option<Tensor>,
    parameters: Vec<Tensor>,
    kept: Arc<KeptWeights>,
    /// Whether each input of the entry needs a gradient: x, h0 and c0 where given, the parameters.
    wanted: Vec<bool>,
}

impl Saved {
    fn backward(mut self, gradients: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        let Some(mut reserve) = self.reserve.take() else {
            return Err(Error::tape(self.op, "nothing was kept for the backward call"));
        };
        let mut gradients = gradients.into_iter();
        let (dy, dhn, dcn) = (gradients.next().flatten(), gradients.next().flatten(), gradients.next().flatten());

        let inputs = [&self.x].into_iter().chain(&self.h0).chain(&self.c0).chain(&self.parameters);
        let mut results = Vec::with_capacity(self.wanted.len());
        for (input, &wanted) in inputs.zip(&self.wanted) {
            results.push(wanted.then(|| input.like(input.shape())).transpose()?);
        }
        {
            let mut workspace = Tensor::uninit(self.plan.workspace_len(), self.plan.compute_dtype(), self.x.device())?;
            let mut out = results.iter_mut().map(|slot| slot.as_mut().map(buf_mut).transpose());
            let mut next = || out.next().unwrap_or(Ok(None));
            let dx = next()?;
            let dh0 = if self.h0.is_some() { next()? } else { None };
            let dc0 = if self.c0.is_some() { next()? } else { None };
            let mut dparameters = Vec::with_capacity(self.parameters.len());
            for gradient in out {
                dparameters.push(gradient?);
            }
            if dparameters.iter().all(Option::is_none) {
                dparameters.clear();
            }
            let weights = bufs(self.parameters.iter())?;
            let versions = versions(self.parameters.iter());
            self.plan.backward_keeping(
                &Stream::Host,
                recurrent::Backward {
                    x: buf(&self.x)?,
                    h0: self.h0.as_ref().map(buf).transpose()?,
                    c0: self.c0.as_ref().map(buf).transpose()?,
                    parameters: &weights,
                    sequence: self.steps.sequence(),
                    dy: dy.as_ref().map(buf).transpose()?,
                    dhn: dhn.as_ref().map(buf).transpose()?,
                    dcn: dcn.as_ref().map(buf).transpose()?,
                    dx,
                    dh0,
                    dc0,
                    dparameters: &mut dparameters,
                    accumulate: false,
                    dropout_seed: self.dropout_seed,
                    workspace: buf_mut(&mut workspace)?,
                    reserve: buf_mut(&mut reserve)?,
                },
                Some(Keep { weights: &self.kept, versions: &versions }),
            )?;
        }
        Ok(results)
    }
}

fn y_shape(call: &Call<'_>, x: &Var) -> Shape {
    x.shape().with(x.dims().len() - 1, call.descriptor.directions() * call.descriptor.output_size())
}

fn state_shape(lead: &[usize], features: usize) -> Shape {
    let mut dims = Dims::from_slice(lead);
    dims.push(features);
    Shape::from(&dims[..])
}

/// Shapes, dtypes and devices, before anything is allocated.
fn check(call: &Call<'_>, x: &Var, h0: Option<&Var>, c0: Option<&Var>, parameters: &[Var]) -> Result<()> {
    let Call { op, descriptor: d, .. } = *call;
    if x.dtype() != d.dtype {
        return Err(Error::dtype(op, x.dtype(), format!("the module's {}", d.dtype)));
    }
    check_states(op, d, &call.lead, x, (h0, c0))?;
    parameters.iter().try_for_each(|p| p.tensor().expect_kin(op, x.tensor()))
}

/// Of states alone, in any order of the batch.
pub(crate) fn check_states(
    op: &'static str,
    d: &Descriptor,
    lead: &[usize],
    x: &Var,
    (h0, c0): (Option<&Var>, Option<&Var>),
) -> Result<()> {
    for (name, state, features) in [("h0", h0, d.output_size()), ("c0", c0, d.hidden_size)] {
        let Some(state) = state else { continue };
        let want = state_shape(lead, features);
        if *state.shape() != want {
            return Err(Error::shape(op, format!("{name} {}", state.shape()), want));
        }
        x.tensor().expect_kin(op, state.tensor())?;
    }
    if c0.is_some() && !d.cell.has_cell_state() {
        return Err(Error::argument(op, "c0", "a cell state with an LSTM only"));
    }
    Ok(())
}

/// The memory of the parameters; in a list of their number from the first, which `collect` into a `Result` does not make.
fn bufs<'a>(tensors: impl ExactSizeIterator<Item = &'a Tensor>) -> Result<Vec<Buf<'a>>> {
    let mut all = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        all.push(buf(tensor)?);
    }
    Ok(all)
}

/// The versions of the parameters' memory, where it is the CPU's; else none.
fn versions<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> SmallVec<[u64; 16]> {
    tensors.filter_map(|tensor| tensor.storage().cpu(OP).ok().map(Buffer::version)).collect()
}

/// The memory of a tensor, as the raw layer takes it.
fn buf(tensor: &Tensor) -> Result<Buf<'_>> {
    #[cfg(feature = "cuda")]
    if let Some(buffer) = tensor.storage().cuda() {
        return Ok(buffer.into());
    }
    let memory = tensor.storage().cpu(OP)?;
    match tensor.dtype() {
        DType::F64 => Ok(Buf::F64(memory.slice())),
        DType::F32 => Ok(Buf::F32(memory.slice())),
        DType::F16 => Ok(Buf::F16(memory.slice::<f16>())),
        DType::BF16 => Ok(Buf::BF16(memory.slice::<bf16>())),
        other => Err(Error::dtype(OP, other, "a floating-point dtype")),
    }
}

/// The same, to write.
fn buf_mut(tensor: &mut Tensor) -> Result<BufMut<'_>> {
    let dtype = tensor.dtype();
    #[cfg(feature = "cuda")]
    if tensor.device() != crate::Device::Cpu {
        return tensor.storage_mut()?.cuda_mut(OP).map(Into::into);
    }
    let memory = tensor.storage_mut()?.cpu_mut(OP)?;
    match dtype {
        DType::F64 => Ok(BufMut::F64(memory.slice_mut())),
        DType::F32 => Ok(BufMut::F32(memory.slice_mut())),
        DType::F16 => Ok(BufMut::F16(memory.slice_mut::<f16>())),
        DType::BF16 => Ok(BufMut::BF16(memory.slice_mut::<bf16>())),
        other => Err(Error::dtype(OP, other, "a floating-point dtype")),
    }
}
