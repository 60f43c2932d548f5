//! Trained models as ONNX files, for runtimes elsewhere.

use std::{
    collections::HashSet,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::proto::Message;
use crate::{
    DType,
    error::{Error, Result},
    file,
    nn::{Embedding, Gru, Linear, Lstm, Module, Nonlinearity, Rnn, StateDict},
    recurrent::{Cell, Descriptor},
    tensor::Tensor,
};

const OP: &str = "OnnxGraph";
/// Of the operators; their forms here are those of version 14.
const OPSET: u64 = 14;
const IR_VERSION: u64 = 8;
/// Element types of ONNX.
const FLOAT: u64 = 1;
const INT32: u64 = 6;
const INT64: u64 = 7;
/// What names within a graph begin with.
const WITHIN: &str = "gatefold.";

/// What a model computes in evaluation mode, written down call by call as its `forward` is, with the parameters of the moment.
///
/// ```
/// use gatefold::{Device, Philox, nn::{Embedding, Linear, Lstm}, train::OnnxGraph};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let embedding = Embedding::new(9, 6).init(&device, &mut rng)?;
/// let lstm = Lstm::new(6, 8).bidirectional(true).batch_first(true).init(&device, &mut rng)?;
/// let score = Linear::new(16, 3).init(&device, &mut rng)?;
///
/// let mut graph = OnnxGraph::new();
/// let words = graph.integers("words", &["batch", "steps"]);
/// let lengths = graph.lengths("lengths", "batch");
/// let x = graph.embedding(&words, &embedding)?;
/// let (_, h, _) = graph.lstm(&x, Some(&lengths), &lstm)?;
/// let (forward, reverse) = (graph.select(&h, 0, -2), graph.select(&h, 0, -1));
/// let both = graph.concat(&[&forward, &reverse], 1);
/// let scores = graph.linear(&both, &score)?;
/// let probabilities = graph.softmax(&scores, -1);
/// graph.output("probabilities", &probabilities);
/// # let path = std::env::temp_dir().join(format!("gatefold-{}.onnx", std::process::id()));
/// graph.save(&path)?;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Parameters are written as f32 whatever their dtype. Dropout is left out, as in evaluation mode. A recurrent network begins with states of
/// zeros, or by [`lstm_from`](Self::lstm_from) and its like with given ones, such as those that it has ended with before.
#[derive(Debug)]
pub struct OnnxGraph {
    id: u64,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    names: usize,
    /// Names of inputs and outputs.
    given: Vec<String>,
    /// What was wrong in calls that give no `Result`.
    fault: Option<Error>,
}

impl Default for OnnxGraph {
    fn default() -> Self {
        OnnxGraph::new()
    }
}

/// What an input or a node of a graph gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxValue {
    /// Of its graph.
    graph: u64,
    name: String,
    /// A number, the name of an extent that is known later, or nothing.
    extents: Vec<String>,
}

impl OnnxValue {
    fn of(mut self, extents: impl Into<Vec<String>>) -> Self {
        self.extents = extents.into();
        self
    }

    /// `Err` where an axis is not there, or its extent and the one that is wanted are different numbers.
    fn expect(&self, op: &'static str, axis: i64, want: &str) -> Result<()> {
        let extent = self.axis(axis).map(|axis| &self.extents[axis]);
        let extent = extent.ok_or_else(|| Error::shape(op, self.shape(), format!("an axis {axis}")))?;
        match (extent.parse::<usize>(), want.parse::<usize>()) {
            (Ok(got), Ok(want)) if got != want => {
                Err(Error::shape(op, self.shape(), format!("{want} at axis {axis}, not {got}")))
            }
            _ => Ok(()),
        }
    }

    /// `Err` unless it has these extents, as far as they are numbers.
    fn expect_all(&self, op: &'static str, want: &[&str]) -> Result<()> {
        if self.extents.len() != want.len() {
            return Err(Error::shape(op, self.shape(), format!("{} extents", want.len())));
        }
        want.iter().enumerate().try_for_each(|(axis, want)| self.expect(op, axis as i64, want))
    }

    fn shape(&self) -> String {
        let known = |extent: &String| if extent.is_empty() { "?".into() } else { extent.clone() };
        format!("[{}]", self.extents.iter().map(known).collect::<Vec<_>>().join(", "))
    }

    /// The place of an axis that may count from the end, where there is one.
    fn axis(&self, axis: i64) -> Option<usize> {
        let rank = self.extents.len() as i64;
        usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|&axis| axis < self.extents.len())
    }

    /// What the graph says of it.
    fn info(&self, kind: u64) -> Message {
        let shape = self.extents.iter().fold(Message::new(), |shape, extent| {
            let extent = match extent.parse() {
                Ok(number) => Message::new().int(1, number),
                Err(_) if extent.is_empty() => Message::new(),
                Err(_) => Message::new().text(2, extent),
            };
            shape.message(1, extent)
        });
        let tensor = Message::new().int(1, kind).message(2, shape);
        Message::new().text(1, &self.name).message(2, Message::new().message(1, tensor))
    }
}

impl OnnxGraph {
    /// Without nodes.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        OnnxGraph {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            names: 0,
            given: Vec::new(),
            fault: None,
        }
    }

    /// An input of int64. An extent is a number, such as `"12"`, or the name of one that is known later.
    pub fn integers(&mut self, name: &str, extents: &[&str]) -> OnnxValue {
        self.input(name, INT64, extents)
    }

    /// An input of f32.
    pub fn floats(&mut self, name: &str, extents: &[&str]) -> OnnxValue {
        self.input(name, FLOAT, extents)
    }

    /// An input of int32 with the length of each sequence.
    pub fn lengths(&mut self, name: &str, batch: &str) -> OnnxValue {
        self.input(name, INT32, &[batch])
    }

    fn input(&mut self, name: &str, kind: u64, extents: &[&str]) -> OnnxValue {
        let input = self.named(name).of(extents.iter().map(|&extent| extent.into()).collect::<Vec<_>>());
        self.inputs.push(input.info(kind));
        self.given.push(name.into());
        input
    }

    /// Makes a value, of f32, an output.
    pub fn output(&mut self, name: &str, value: &OnnxValue) {
        self.note(self.own("OnnxGraph::output", value));
        let output = OnnxValue { name: name.into(), ..value.clone() };
        self.nodes.push(node("Identity", &[value], &[&output], &[]));
        self.outputs.push(output.info(FLOAT));
        self.given.push(name.into());
    }

    /// [`Embedding::forward`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a value of another graph; what the device met.
    pub fn embedding(&mut self, indices: &OnnxValue, module: &Embedding) -> Result<OnnxValue> {
        self.own("OnnxGraph::embedding", indices)?;
        let weight = module.weight().value();
        let table = self.parameter(&weight)?;
        let features = weight.dims().last().map(usize::to_string);
        let extents: Vec<String> = indices.extents.iter().cloned().chain(features).collect();
        Ok(self.one("Gather", &[&table, indices], &[]).of(extents))
    }

    /// [`Linear::forward`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a value of another graph; [`Error::Shape`] for one whose last extent is another number than the module's inputs;
    /// what the device met.
    pub fn linear(&mut self, x: &OnnxValue, module: &Linear) -> Result<OnnxValue> {
        const OP: &str = "OnnxGraph::linear";
        self.own(OP, x)?;
        x.expect(OP, -1, &module.weight().shape()[1].to_string())?;
        let weight = self.parameter(&module.weight().value().transpose(0, 1)?)?;
        let mut extents = x.extents.clone();
        if let Some(last) = extents.last_mut() {
            *last = module.weight().shape()[0].to_string();
        }
        let product = self.one("MatMul", &[x, &weight], &[]).of(extents.clone());
        match module.bias() {
            None => Ok(product),
            Some(bias) => {
                let bias = self.parameter(&bias.value())?;
                Ok(self.one("Add", &[&product, &bias], &[]).of(extents))
            }
        }
    }

    /// [`Rnn::forward`], or with lengths [`Rnn::forward_lengths`], of a batch: outputs and the last hidden state.
    ///
    /// # Errors
    /// [`Error::Argument`] for a value of another graph; [`Error::Shape`] for extents that are other numbers than the module's or each other's;
    /// what the device met.
    pub fn rnn(&mut self, x: &OnnxValue, lengths: Option<&OnnxValue>, module: &Rnn) -> Result<(OnnxValue, OnnxValue)> {
        let of = (module.descriptor(), module.batch_first());
        let (y, h, _) = self.recurrent("OnnxGraph::rnn", (x, lengths, &[]), module, of)?;
        Ok((y, h))
    }

    /// The same from a given state `(layers · directions, batch, hidden)`.
    ///
    /// # Errors
    /// As there.
    pub fn rnn_from(
        &mut self,
        x: &OnnxValue,
        lengths: Option<&OnnxValue>,
        h: &OnnxValue,
        module: &Rnn,
    ) -> Result<(OnnxValue, OnnxValue)> {
        let of = (module.descriptor(), module.batch_first());
        let (y, h, _) = self.recurrent("OnnxGraph::rnn_from", (x, lengths, &[h]), module, of)?;
        Ok((y, h))
    }

    /// [`Gru::forward`], or with lengths [`Gru::forward_lengths`], of a batch: outputs and the last hidden state.
    ///
    /// # Errors
    /// As of [`rnn`](Self::rnn).
    pub fn gru(&mut self, x: &OnnxValue, lengths: Option<&OnnxValue>, module: &Gru) -> Result<(OnnxValue, OnnxValue)> {
        let of = (module.descriptor(), module.batch_first());
        let (y, h, _) = self.recurrent("OnnxGraph::gru", (x, lengths, &[]), module, of)?;
        Ok((y, h))
    }

    /// The same from a given state `(layers · directions, batch, hidden)`.
    ///
    /// # Errors
    /// As of [`rnn`](Self::rnn).
    pub fn gru_from(
        &mut self,
        x: &OnnxValue,
        lengths: Option<&OnnxValue>,
        h: &OnnxValue,
        module: &Gru,
    ) -> Result<(OnnxValue, OnnxValue)> {
        let of = (module.descriptor(), module.batch_first());
        let (y, h, _) = self.recurrent("OnnxGraph::gru_from", (x, lengths, &[h]), module, of)?;
        Ok((y, h))
    }

    /// [`Lstm::forward`], or with lengths [`Lstm::forward_lengths`], of a batch: outputs, the last hidden and the last cell state.
    ///
    /// # Errors
    /// As of [`rnn`](Self::rnn); [`Error::Argument`] for an LSTM with a projection, which ONNX has not.
    pub fn lstm(
        &mut self,
        x: &OnnxValue,
        lengths: Option<&OnnxValue>,
        module: &Lstm,
    ) -> Result<(OnnxValue, OnnxValue, OnnxValue)> {
        let of = (module.descriptor(), module.batch_first());
        let (y, h, c) = self.recurrent("OnnxGraph::lstm", (x, lengths, &[]), module, of)?;
        Ok((y, h.clone(), c.unwrap_or(h)))
    }

    /// The same from a given hidden and a given cell state, both `(layers · directions, batch, hidden)`.
    ///
    /// # Errors
    /// As there.
    pub fn lstm_from(
        &mut self,
        x: &OnnxValue,
        lengths: Option<&OnnxValue>,
        (h, c): (&OnnxValue, &OnnxValue),
        module: &Lstm,
    ) -> Result<(OnnxValue, OnnxValue, OnnxValue)> {
        let of = (module.descriptor(), module.batch_first());
        let (y, h, c) = self.recurrent("OnnxGraph::lstm_from", (x, lengths, &[h, c]), module, of)?;
        Ok((y, h.clone(), c.unwrap_or(h)))
    }

    /// The part of an index of an axis, which may count from the end; the axis goes.
    pub fn select(&mut self, x: &OnnxValue, axis: i64, index: i64) -> OnnxValue {
        const OP: &str = "OnnxGraph::select";
        self.note(self.own(OP, x).and_then(|()| x.expect(OP, axis, "")));
        let index = self.initializer(INT64, &[], &index.to_le_bytes());
        let mut extents = x.extents.clone();
        if let Some(axis) = x.axis(axis) {
            extents.remove(axis);
        }
        self.one("Gather", &[x, &index], &[("axis", Attribute::Int(axis))]).of(extents)
    }

    /// Values one after the other along an axis.
    pub fn concat(&mut self, parts: &[&OnnxValue], axis: i64) -> OnnxValue {
        self.note(self.fit(parts, axis));
        let mut extents = parts.first().map_or(Vec::new(), |part| part.extents.clone());
        if let Some(at) = parts.first().and_then(|part| part.axis(axis)) {
            // Known where all of them are.
            let all = parts.iter().map(|part| part.extents.get(at)?.parse::<usize>().ok()).sum::<Option<usize>>();
            extents[at] = all.map_or(String::new(), |all| all.to_string());
        }
        self.one("Concat", parts, &[("axis", Attribute::Int(axis))]).of(extents)
    }

    /// Softmax over an axis.
    pub fn softmax(&mut self, x: &OnnxValue, axis: i64) -> OnnxValue {
        const OP: &str = "OnnxGraph::softmax";
        self.note(self.own(OP, x).and_then(|()| x.expect(OP, axis, "")));
        self.one("Softmax", &[x], &[("axis", Attribute::Int(axis))]).of(x.extents.clone())
    }

    /// Logarithm of the softmax over an axis.
    pub fn log_softmax(&mut self, x: &OnnxValue, axis: i64) -> OnnxValue {
        const OP: &str = "OnnxGraph::log_softmax";
        self.note(self.own(OP, x).and_then(|()| x.expect(OP, axis, "")));
        self.one("LogSoftmax", &[x], &[("axis", Attribute::Int(axis))]).of(x.extents.clone())
    }

    /// The logistic function.
    pub fn sigmoid(&mut self, x: &OnnxValue) -> OnnxValue {
        self.note(self.own("OnnxGraph::sigmoid", x));
        self.one("Sigmoid", &[x], &[]).of(x.extents.clone())
    }

    /// Writes the model, all or nothing.
    ///
    /// # Errors
    /// Of the calls that give no `Result`, the first in which something was wrong: [`Error::Argument`] for a value of another graph,
    /// [`Error::Shape`] for an axis that is not there or values that do not fit together. [`Error::Argument`] for a graph without outputs,
    /// two inputs or outputs of one name, a name that is empty or begins with `gatefold.` as those within do, or a file of 2 GiB, where the
    /// format ends; [`Error::File`].
    pub fn save(self, path: impl AsRef<Path>) -> Result<()> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.outputs.is_empty() {
            return Err(Error::argument(OP, "no output", "at least one"));
        }
        let mut seen = HashSet::new();
        for name in &self.given {
            if name.is_empty() || name.starts_with(WITHIN) || !seen.insert(name) {
                return Err(Error::argument(OP, format!("the name {name:?}"), "another one for each input and output"));
            }
        }
        let add = |graph: Message, field, all: Vec<Message>| all.into_iter().fold(graph, |g, m| g.message(field, m));
        let graph = add(Message::new(), 1, self.nodes).text(2, "gatefold");
        let graph = add(add(add(graph, 5, self.initializers), 11, self.inputs), 12, self.outputs);
        let model = Message::new().int(1, IR_VERSION).text(2, "gatefold").text(3, env!("CARGO_PKG_VERSION"));
        let bytes = model.message(7, graph).message(8, Message::new().text(1, "").int(2, OPSET)).into_bytes();
        if bytes.len() >= 1 << 31 {
            return Err(Error::argument(OP, format!("a model of {} bytes", bytes.len()), "less than 2 GiB"));
        }
        file::write("OnnxGraph::save", path.as_ref(), &bytes)
    }

    /// `Err` for a value of another graph, where its name is another value's or nobody's.
    fn own(&self, op: &'static str, value: &OnnxValue) -> Result<()> {
        if value.graph == self.id {
            return Ok(());
        }
        Err(Error::argument(op, format!("{:?} of another graph", value.name), "a value of this one"))
    }

    /// `Err` for parts that are not of one shape but for the axis along which they are put together.
    fn fit(&self, parts: &[&OnnxValue], axis: i64) -> Result<()> {
        const OP: &str = "OnnxGraph::concat";
        parts.iter().try_for_each(|part| self.own(OP, part))?;
        let first = parts.first().ok_or_else(|| Error::argument(OP, "no values", "at least one"))?;
        first.expect(OP, axis, "")?;
        let mut want: Vec<&str> = first.extents.iter().map(String::as_str).collect();
        first.axis(axis).into_iter().for_each(|axis| want[axis] = "");
        parts.iter().try_for_each(|part| part.expect_all(OP, &want))
    }

    /// Keeps the first fault of a call that gives a value all the same, for [`save`](Self::save).
    fn note(&mut self, checked: Result<()>) {
        self.fault = self.fault.take().or(checked.err());
    }

    /// Layer by layer, for ONNX's nodes are single layers; time comes first in them. `states`: none, or h and where there is one c.
    fn recurrent(
        &mut self,
        op: &'static str,
        (x, lengths, states): (&OnnxValue, Option<&OnnxValue>, &[&OnnxValue]),
        module: &dyn Module,
        (descriptor, batch_first): (&Descriptor, bool),
    ) -> Result<(OnnxValue, OnnxValue, Option<OnnxValue>)> {
        if descriptor.proj_size > 0 {
            let got = format!("an LSTM with proj_size {}", descriptor.proj_size);
            return Err(Error::argument(op, got, "one without a projection, which ONNX has not"));
        }
        let directions = if descriptor.bidirectional { 2 } else { 1 };
        let [all, width, input] =
            [directions * descriptor.num_layers, descriptor.hidden_size, descriptor.input_size].map(|n| n.to_string());
        [x].into_iter().chain(lengths).chain(states.iter().copied()).try_for_each(|value| self.own(op, value))?;
        x.expect_all(op, &["", "", &input])?;
        let batch = x.extents[usize::from(!batch_first)].clone();
        lengths.map_or(Ok(()), |lengths| lengths.expect_all(op, &[&batch]))?;
        states.iter().try_for_each(|state| state.expect_all(op, &[&all, &batch, &width]))?;
        // Our blocks of rows in ONNX's order: i o f c; z r h; and peepholes i o f.
        let (operator, order): (_, &[usize]) = match descriptor.cell {
            Cell::Lstm | Cell::LstmPeephole => ("LSTM", &[0, 3, 1, 2]),
            Cell::Gru | Cell::GruResetBefore => ("GRU", &[1, 0, 2]),
            Cell::Rnn(_) => ("RNN", &[0]),
        };
        let mut attributes = vec![
            ("hidden_size", Attribute::Int(descriptor.hidden_size as i64)),
            ("direction", Attribute::Text(if directions == 2 { "bidirectional" } else { "forward" })),
        ];
        match descriptor.cell {
            Cell::Gru => attributes.push(("linear_before_reset", Attribute::Int(1))),
            Cell::Rnn(Nonlinearity::Relu) => {
                attributes.push(("activations", Attribute::Texts(vec!["Relu"; directions])))
            }
            _ => {}
        }
        let (state, none) = (module.state_dict(), self.named(""));
        let mut output = x.extents.clone();
        output[2] = (directions * descriptor.hidden_size).to_string();
        let last = vec![all, batch, width];
        let swap = [("perm", Attribute::Ints(vec![1, 0, 2]))];
        let mut x = if batch_first { self.one("Transpose", &[x], &swap) } else { x.clone() };
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        for layer in 0..descriptor.num_layers {
            let gather = |name: &str, order: &[usize]| stacked(&state, name, layer, directions, order);
            let weights = [("weight_ih", order), ("weight_hh", order)];
            let [w, r] = weights.map(|(name, order)| self.rows(gather(name, order)));
            let b = if descriptor.bias {
                let (a, b) = (gather("bias_ih", order)?, gather("bias_hh", order)?);
                self.parameter(&Tensor::concat(&[&a, &b], 1)?)?
            } else {
                none.clone()
            };
            let mut inputs = vec![x, w?, r?, b, lengths.cloned().unwrap_or(none.clone())];
            for state in states {
                let rows = layer * directions..(layer + 1) * directions;
                let rows: Vec<u8> = rows.flat_map(|row| (row as i64).to_le_bytes()).collect();
                let rows = self.initializer(INT64, &[directions], &rows);
                inputs.push(self.one("Gather", &[state, &rows], &[("axis", Attribute::Int(0))]));
            }
            if descriptor.cell == Cell::LstmPeephole {
                // Behind h and c, which are there or not.
                inputs.resize(7, none.clone());
                inputs.push(self.rows(gather("weight_peephole", &[0, 2, 1]))?);
            }
            let mut outputs = vec![self.name(), self.name()];
            hidden.push(outputs[1].clone());
            if descriptor.cell.has_cell_state() {
                outputs.push(self.name());
                cells.push(outputs[2].clone());
            }
            let (ins, outs): (Vec<_>, Vec<_>) = (inputs.iter().collect(), outputs.iter().collect());
            self.nodes.push(node(operator, &ins, &outs, &attributes));
            // (T, D, B, H) → (T, B, D·H)
            let y = self.one("Transpose", &[&outputs[0]], &[("perm", Attribute::Ints(vec![0, 2, 1, 3]))]);
            let shape: Vec<u8> = [0i64, 0, -1].iter().flat_map(|extent| extent.to_le_bytes()).collect();
            let shape = self.initializer(INT64, &[3], &shape);
            x = self.one("Reshape", &[&y, &shape], &[]);
        }
        if batch_first {
            x = self.one("Transpose", &[&x], &swap);
        }
        let mut layers = |parts: Vec<OnnxValue>| {
            self.one("Concat", &parts.iter().collect::<Vec<_>>(), &[("axis", Attribute::Int(0))]).of(last.clone())
        };
        let h = layers(hidden);
        let c = (!cells.is_empty()).then(|| layers(cells));
        Ok((x.of(output), h, c))
    }

    fn rows(&mut self, tensor: Result<Tensor>) -> Result<OnnxValue> {
        self.parameter(&tensor?)
    }

    fn parameter(&mut self, tensor: &Tensor) -> Result<OnnxValue> {
        let values = tensor.to_dtype(DType::F32)?.to_vec::<f32>()?;
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok(self.initializer(FLOAT, tensor.dims(), &bytes))
    }

    fn initializer(&mut self, kind: u64, dims: &[usize], bytes: &[u8]) -> OnnxValue {
        let name = self.name();
        let tensor = dims.iter().fold(Message::new(), |tensor, &extent| tensor.int(1, extent as u64));
        self.initializers.push(tensor.int(2, kind).text(8, &name.name).bytes(9, bytes));
        name
    }

    /// A node of one output.
    fn one(&mut self, op: &str, inputs: &[&OnnxValue], attributes: &[(&str, Attribute)]) -> OnnxValue {
        let output = self.name();
        self.nodes.push(node(op, inputs, &[&output], attributes));
        output
    }

    /// A name that no input has.
    fn name(&mut self) -> OnnxValue {
        self.names += 1;
        self.named(format!("{WITHIN}{}", self.names))
    }

    /// A value of this graph whose extents nobody asks for yet.
    fn named(&self, name: impl Into<String>) -> OnnxValue {
        OnnxValue { graph: self.id, name: name.into(), extents: Vec::new() }
    }
}

/// The parameters of a layer's directions `(D, rows, …)`, their blocks of rows in another order.
fn stacked(state: &StateDict, name: &str, layer: usize, directions: usize, order: &[usize]) -> Result<Tensor> {
    let of = |direction: usize| {
        let name = format!("{name}_l{layer}{}", if direction == 1 { "_reverse" } else { "" });
        let tensor = state.get(&name).ok_or_else(|| Error::argument(OP, "other parameters", &name))?;
        let rows = tensor.dims()[0] / order.len();
        let blocks = order.iter().map(|block| tensor.narrow(0, block * rows, rows)).collect::<Result<Vec<_>>>()?;
        Tensor::concat(&blocks, 0)
    };
    let all = (0..directions).map(of).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&all, 0)
}

#[derive(Debug, Clone)]
enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Text(&'static str),
    Texts(Vec<&'static str>),
}

fn node(op: &str, inputs: &[&OnnxValue], outputs: &[&OnnxValue], attributes: &[(&str, Attribute)]) -> Message {
    let node = inputs.iter().fold(Message::new(), |node, input| node.text(1, &input.name));
    let node = outputs.iter().fold(node, |node, output| node.text(2, &output.name)).text(4, op);
    attributes.iter().fold(node, |node, (name, value)| {
        let attribute = Message::new().text(1, name);
        node.message(
            5,
            match value {
                Attribute::Int(value) => attribute.int(3, *value as u64).int(20, 2),
                Attribute::Text(value) => attribute.text(4, value).int(20, 3),
                Attribute::Ints(values) => values.iter().fold(attribute, |a, &value| a.int(8, value as u64)).int(20, 7),
                Attribute::Texts(values) => values.iter().fold(attribute, |a, value| a.text(9, value)).int(20, 8),
            },
        )
    })
}
