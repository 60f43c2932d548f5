//! What the recurrent modules share: a descriptor and its parameters.

use std::sync::Arc;

use smallvec::smallvec;

use crate::{
    device::Device,
    error::{Error, Result},
    nn::{MaskGenerator, PackedSequence, Training},
    ops::recurrent::{Call, Steps, check_states, recurrent},
    recurrent::{Descriptor, KeptWeights, Layout, ParameterKind, ParameterSpec, Shape},
    rng::Philox,
    shape::Dims,
    tape::{Parameter, Var},
    tensor::Tensor,
};

/// y, hn and, of an LSTM, cn.
pub(super) type Output = (Var, Var, Option<Var>);

/// A recurrent network with its parameters.
#[derive(Debug)]
pub(super) struct Layer {
    pub descriptor: Descriptor,
    pub batch_first: bool,
    pub training: Training,
    pub masks: MaskGenerator,
    parameters: Vec<(ParameterSpec, Parameter)>,
    kept: Arc<KeptWeights>,
}

impl Layer {
    /// Every parameter uniform on ±1/√hidden_size, as PyTorch has it, in the order of the state dict.
    pub fn init(descriptor: Descriptor, batch_first: bool, device: &Device, rng: &mut Philox) -> Result<Self> {
        descriptor.validate()?;
        device.check("recurrent module")?;
        let bound = 1.0 / (descriptor.hidden_size as f64).sqrt();
        let parameters = descriptor
            .parameters()
            .into_iter()
            .map(|spec| {
                let value = Tensor::uniform(spec.shape.clone(), -bound, bound, descriptor.dtype, device, rng)?;
                Ok((spec, Parameter::new(value)))
            })
            .collect::<Result<_>>()?;
        Ok(Layer {
            descriptor,
            batch_first,
            training: Training::new(),
            masks: MaskGenerator::new(rng.split()),
            parameters,
            kept: Arc::default(),
        })
    }

    pub fn named(&self) -> impl Iterator<Item = (String, Parameter)> {
        self.parameters.iter().map(|(spec, parameter)| (spec.name(), parameter.clone()))
    }

    pub fn parameter(&self, kind: ParameterKind, layer: usize, direction: usize) -> Option<&Parameter> {
        let wanted = |spec: &ParameterSpec| (spec.kind, spec.layer, spec.direction) == (kind, layer, direction);
        self.parameters.iter().find(|(spec, _)| wanted(spec)).map(|(_, parameter)| parameter)
    }

    pub fn drops(&self) -> bool {
        self.descriptor.dropout > 0.0 && self.descriptor.num_layers > 1
    }

    /// `(T, B, I)`, `(B, T, I)` with `batch_first`, or `(T, I)`.
    pub fn forward(&self, op: &'static str, x: &Var, h0: Option<&Var>, c0: Option<&Var>) -> Result<Output> {
        let (extents, layout, lead): (_, _, Dims) = match *x.dims() {
            [seq, _] => (Shape { seq, batch: 1 }, Layout::TimeMajor, smallvec![self.state_rows()]),
            _ => {
                let extents = self.extents(op, x, "(T, B, input_size), or (T, input_size) without a batch")?;
                (extents, self.layout(), smallvec![self.state_rows(), extents.batch])
            }
        };
        self.run(op, x, extents, layout, lead, Steps::Full, (h0, c0))
    }

    /// Padded x; sequence b has the first `lengths[b]` steps.
    pub fn forward_lengths(
        &self,
        op: &'static str,
        x: &Var,
        lengths: &[usize],
        h0: Option<&Var>,
        c0: Option<&Var>,
    ) -> Result<Output> {
        let extents = self.extents(op, x, "(T, B, input_size)")?;
        super::packed::check_lengths(op, lengths, extents.seq, extents.batch)?;
        let lead: Dims = smallvec![self.state_rows(), extents.batch];
        self.run(op, x, extents, self.layout(), lead, Steps::Lengths(lengths.to_vec()), (h0, c0))
    }

    /// Packed x. States come and go in the original order of the batch.
    pub fn forward_packed(
        &self,
        op: &'static str,
        packed: &PackedSequence,
        h0: Option<&Var>,
        c0: Option<&Var>,
    ) -> Result<(PackedSequence, Var, Option<Var>)> {
        packed.check(op)?;
        if packed.data.dims().len() != 2 {
            return Err(Error::shape(op, packed.data.shape(), "packed data (rows, input_size)"));
        }
        let permute = |state: &Var, order: &Option<Vec<usize>>| match order {
            Some(order) => state.index_select(1, &super::packed::index(order, state)?),
            None => Ok(state.clone()),
        };
        let x = &packed.data;
        let lead: Dims = smallvec![self.state_rows(), packed.batch()];
        // Before states are put in order: of too many rows that would take some.
        check_states(op, &self.descriptor, &lead, x, (h0, c0))?;
        let sorted = |state: Option<&Var>| state.map(|s| permute(s, &packed.sorted_indices)).transpose();
        let (h0, c0) = (sorted(h0)?, sorted(c0)?);
        let extents = Shape { seq: packed.batch_sizes.len(), batch: packed.batch() };
        let steps = Steps::Packed(packed.batch_sizes.clone());
        let (data, hn, cn) = self.run(op, x, extents, Layout::TimeMajor, lead, steps, (h0.as_ref(), c0.as_ref()))?;
        let hn = permute(&hn, &packed.unsorted_indices)?;
        let cn = cn.map(|cn| permute(&cn, &packed.unsorted_indices)).transpose()?;
        Ok((PackedSequence { data, ..packed.clone() }, hn, cn))
    }

    /// One step of a cell: x `(B, I)` or `(I)`, states `(B, H)` or `(H)`.
    pub fn step(&self, op: &'static str, x: &Var, h0: Option<&Var>, c0: Option<&Var>) -> Result<(Var, Option<Var>)> {
        let (batch, lead): (_, Dims) = match *x.dims() {
            [_] => (1, smallvec![]),
            [batch, _] => (batch, smallvec![batch]),
            _ => return Err(Error::shape(op, x.shape(), "(B, input_size) or (input_size)")),
        };
        let extents = Shape { seq: 1, batch };
        let (_, hn, cn) = self.run(op, x, extents, Layout::TimeMajor, lead, Steps::Full, (h0, c0))?;
        Ok((hn, cn))
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where every kind of call comes together")]
    fn run(
        &self,
        op: &'static str,
        x: &Var,
        extents: Shape,
        layout: Layout,
        lead: Dims,
        steps: Steps,
        (h0, c0): (Option<&Var>, Option<&Var>),
    ) -> Result<Output> {
        if x.dims().last() != Some(&self.descriptor.input_size) {
            let want = format!("input_size = {} in the last axis", self.descriptor.input_size);
            return Err(Error::shape(op, x.shape(), want));
        }
        if extents.seq == 0 {
            return Err(Error::shape(op, x.shape(), "at least one step"));
        }
        let training = self.training.is_training();
        let dropout_seed = &|| if training && self.drops() { self.masks.draw_seed() } else { 0 };
        let parameters: Vec<Var> = self.parameters.iter().map(|(_, p)| x.tape().parameter(p)).collect();
        let call = Call {
            op,
            descriptor: &self.descriptor,
            extents,
            layout,
            steps,
            lead,
            training,
            dropout_seed,
            kept: &self.kept,
        };
        recurrent(call, x, h0, c0, &parameters)
    }

    fn state_rows(&self) -> usize {
        self.descriptor.num_layers * self.descriptor.directions()
    }

    fn layout(&self) -> Layout {
        if self.batch_first { Layout::BatchMajor } else { Layout::TimeMajor }
    }

    fn extents(&self, op: &'static str, x: &Var, want: &str) -> Result<Shape> {
        match *x.dims() {
            [batch, seq, _] if self.batch_first => Ok(Shape { seq, batch }),
            [seq, batch, _] => Ok(Shape { seq, batch }),
            _ => Err(Error::shape(
                op,
                x.shape(),
                if self.batch_first { want.replace("T, B", "B, T") } else { want.into() },
            )),
        }
    }
}
