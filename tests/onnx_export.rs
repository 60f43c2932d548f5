//! What `OnnxGraph` writes computes in ONNX Runtime what the modules compute here.
//!
//! Runs where there is a Python with `onnxruntime`.

use std::path::Path;

use gatefold::{
    DType, Device, Error, Philox, Result, Tape, Tensor, Var,
    nn::{Embedding, Gru, Linear, Lstm, LstmState, Module, Nonlinearity, Rnn},
    train::{OnnxGraph, OnnxValue},
};

#[path = "common/python.rs"]
mod python;

/// The outputs of a model in ONNX Runtime: shapes and values by name.
fn runtime(python: &Path, model: &Path, inputs: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    let outputs = python::run(python, "run_onnx.py", &[model.to_str().unwrap(), &inputs.to_string()]);
    outputs.as_object().unwrap().clone()
}

fn nested(tensor: &Tensor) -> serde_json::Value {
    let values = match tensor.dtype() {
        DType::I64 => serde_json::json!(tensor.to_vec::<i64>().unwrap()),
        _ => serde_json::json!(tensor.to_f64_vec().unwrap()),
    };
    serde_json::json!({"shape": tensor.dims(), "values": values})
}

/// f32 in another order of sums: within 2⁻²⁰ of values around 1, about eight roundings.
const TOLERANCE: f64 = 1e-6;

fn compare(name: &str, got: &serde_json::Value, want: &Tensor) {
    let shape: Vec<usize> = serde_json::from_value(got["shape"].clone()).unwrap();
    let values: Vec<f64> = serde_json::from_value(got["values"].clone()).unwrap();
    assert_eq!(shape, want.dims(), "{name}");
    let want = want.to_f64_vec().unwrap();
    assert_eq!(values.len(), want.len(), "{name}");
    for (a, b) in values.iter().zip(want) {
        assert!((a - b).abs() <= TOLERANCE, "{name}: {a} and {b}");
    }
}

#[test]
fn every_network_with_and_without_lengths() {
    let Some(python) = python::with("onnxruntime") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let (device, mut rng) = (Device::Cpu, Philox::seed(1));
    type Export = Box<dyn Fn(&mut OnnxGraph, &OnnxValue, Option<&OnnxValue>) -> Result<Vec<OnnxValue>>>;
    type Forward = Box<dyn Fn(&Var, Option<&[usize]>) -> Result<Vec<Var>>>;
    let mut networks: Vec<(String, bool, Export, Forward)> = Vec::new();
    macro_rules! network {
        ($config:expr, $method:ident, $batch_first:expr, |$state:ident| $parts:expr) => {{
            let module = std::rc::Rc::new($config.batch_first($batch_first).init(&device, &mut rng).unwrap());
            module.eval();
            let other = module.clone();
            networks.push((
                module.repr(),
                $batch_first,
                Box::new(move |graph, x, lengths| {
                    Ok(<[OnnxValue; _]>::from(graph.$method(x, lengths, &module)?).to_vec())
                }),
                Box::new(move |x, lengths| {
                    let (y, $state) = match lengths {
                        Some(lengths) => other.forward_lengths(x, lengths, None)?,
                        None => other.forward(x, None)?,
                    };
                    Ok([vec![y], $parts].concat())
                }),
            ));
        }};
    }
    for batch_first in [false, true] {
        network!(Rnn::new(3, 5).num_layers(2).bidirectional(true), rnn, batch_first, |h| vec![h]);
        network!(Rnn::new(3, 5).nonlinearity(Nonlinearity::Relu).bias(false), rnn, batch_first, |h| vec![h]);
        network!(Gru::new(3, 5).num_layers(2).bidirectional(true).dropout(0.5), gru, batch_first, |h| vec![h]);
        network!(Gru::new(3, 5).reset_after(false), gru, batch_first, |h| vec![h]);
        network!(Lstm::new(3, 5).num_layers(3).bidirectional(true), lstm, batch_first, |s| vec![s.h, s.c]);
        network!(Lstm::new(3, 5).bias(false), lstm, batch_first, |s| vec![s.h, s.c]);
        network!(Lstm::new(3, 5).num_layers(2).peephole(true).bidirectional(true), lstm, batch_first, |s| vec![
            s.h, s.c
        ]);
    }
    for (name, batch_first, export, forward) in &networks {
        for lengths in [None, Some([4, 7, 1, 2])] {
            let (shape, extents) =
                if *batch_first { ([4, 7, 3], ["batch", "steps", "3"]) } else { ([7, 4, 3], ["steps", "batch", "3"]) };
            let x = Tensor::normal(shape, 0.0, 1.0, DType::F32, &device, &mut rng).unwrap();
            let mut graph = OnnxGraph::new();
            let input = graph.floats("x", &extents);
            let given = lengths.map(|_| graph.lengths("lengths", "batch"));
            let outputs = export(&mut graph, &input, given.as_ref()).unwrap();
            outputs.iter().enumerate().for_each(|(i, output)| graph.output(&format!("y{i}"), output));
            graph.save(&path).unwrap();
            let mut inputs = serde_json::json!({"x": nested(&x)});
            if let Some(lengths) = &lengths {
                inputs["lengths"] = serde_json::json!({"shape": [4], "values": lengths});
            }
            let got = runtime(&python, &path, inputs);
            let lengths = lengths.map(|lengths| lengths.map(|length| length as usize));
            let want = forward(&Tape::no_grad().constant(x), lengths.as_ref().map(|l| &l[..])).unwrap();
            assert_eq!(got.len(), want.len());
            for (i, want) in want.iter().enumerate() {
                compare(&format!("{name} y{i}"), &got[&format!("y{i}")], want.tensor());
            }
        }
    }
}

/// Networks of one input and of states that are inputs too, in one graph: what they end with could be given the next time.
#[test]
fn from_given_states() {
    let Some(python) = python::with("onnxruntime") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let (device, mut rng) = (Device::Cpu, Philox::seed(3));
    for batch_first in [false, true] {
        let rng = &mut rng;
        let rnn = Rnn::new(3, 5).num_layers(2).bidirectional(true).batch_first(batch_first).init(&device, rng).unwrap();
        let gru = Gru::new(3, 5).batch_first(batch_first).init(&device, rng).unwrap();
        let lstm = Lstm::new(3, 5).num_layers(2).bidirectional(true).batch_first(batch_first);
        let (peephole, lstm) =
            (lstm.clone().peephole(true).init(&device, rng).unwrap(), lstm.init(&device, rng).unwrap());
        let (shape, extents) =
            if batch_first { ([4, 7, 3], ["batch", "steps", "3"]) } else { ([7, 4, 3], ["steps", "batch", "3"]) };
        let mut normal = |shape: [usize; 3]| Tensor::normal(shape, 0.0, 1.0, DType::F32, &device, rng).unwrap();
        let (x, one, h, c) = (normal(shape), normal([1, 4, 5]), normal([4, 4, 5]), normal([4, 4, 5]));
        // With lengths once.
        let lengths = [4, 7, 1, 2];

        let mut graph = OnnxGraph::new();
        let inputs =
            [("x", extents), ("one", ["1", "batch", "5"]), ("h", ["4", "batch", "5"]), ("c", ["4", "batch", "5"])];
        let [x_in, one_in, h_in, c_in] = inputs.map(|(name, extents)| graph.floats(name, &extents));
        let lengths_in = batch_first.then(|| graph.lengths("lengths", "batch"));
        let of = lengths_in.as_ref();
        let mut outputs = Vec::from(<[_; 2]>::from(graph.rnn_from(&x_in, of, &h_in, &rnn).unwrap()));
        outputs.extend(<[_; 2]>::from(graph.gru_from(&x_in, of, &one_in, &gru).unwrap()));
        for lstm in [&lstm, &peephole] {
            outputs.extend(<[_; 3]>::from(graph.lstm_from(&x_in, of, (&h_in, &c_in), lstm).unwrap()));
        }
        outputs.iter().enumerate().for_each(|(i, output)| graph.output(&format!("y{i}"), output));
        graph.save(&path).unwrap();
        let mut inputs = serde_json::json!({"x": nested(&x), "one": nested(&one), "h": nested(&h), "c": nested(&c)});
        inputs["lengths"] = serde_json::json!({"shape": [4], "values": lengths});
        let got = runtime(&python, &path, inputs);

        let tape = Tape::no_grad();
        let [x, one, h, c] = [x, one, h, c].map(|tensor| tape.constant(tensor));
        let lengths = lengths.map(|length| length as usize);
        let state = LstmState::new(h.clone(), c);
        macro_rules! forward {
            ($module:expr, $state:expr) => {
                if batch_first {
                    $module.forward_lengths(&x, &lengths, Some($state)).unwrap()
                } else {
                    $module.forward(&x, Some($state)).unwrap()
                }
            };
        }
        let mut want = Vec::from(<[_; 2]>::from(forward!(rnn, &h)));
        want.extend(<[_; 2]>::from(forward!(gru, &one)));
        for lstm in [&lstm, &peephole] {
            let (y, last) = forward!(lstm, &state);
            want.extend([y, last.h, last.c]);
        }
        assert_eq!(got.len(), want.len());
        for (i, want) in want.iter().enumerate() {
            compare(&format!("y{i}"), &got[&format!("y{i}")], want.tensor());
        }
    }
}

#[test]
fn a_classifier_of_texts() {
    let Some(python) = python::with("onnxruntime") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let (device, mut rng) = (Device::Cpu, Philox::seed(2));
    let embedding = Embedding::new(9, 6).init(&device, &mut rng).unwrap();
    let lstm = Lstm::new(6, 8).num_layers(2).bidirectional(true).batch_first(true).init(&device, &mut rng).unwrap();
    let (score, tag) = (Linear::new(16, 3), Linear::new(16, 4).bias(false));
    let (score, tag) = (score.init(&device, &mut rng).unwrap(), tag.init(&device, &mut rng).unwrap());

    let mut graph = OnnxGraph::new();
    let words = graph.integers("words", &["batch", "steps"]);
    let lengths = graph.lengths("lengths", "batch");
    let x = graph.embedding(&words, &embedding).unwrap();
    let (y, h, _) = graph.lstm(&x, Some(&lengths), &lstm).unwrap();
    let (forward, reverse) = (graph.select(&h, 0, -2), graph.select(&h, 0, -1));
    let both = graph.concat(&[&forward, &reverse], 1);
    let scores = graph.linear(&both, &score).unwrap();
    let (softmax, sigmoid) = (graph.softmax(&scores, -1), graph.sigmoid(&scores));
    let tags = graph.linear(&y, &tag).unwrap();
    let tags = graph.log_softmax(&tags, -1);
    graph.output("softmax", &softmax);
    graph.output("sigmoid", &sigmoid);
    graph.output("tags", &tags);
    graph.save(&path).unwrap();

    let words = Tensor::new([[1i64, 2, 3, 8, 0], [4, 5, 0, 0, 0]], &device).unwrap();
    let inputs = serde_json::json!({"words": nested(&words), "lengths": {"shape": [2], "values": [4, 2]}});
    let got = runtime(&python, &path, inputs);
    let x = embedding.forward(&Tape::no_grad(), &words).unwrap();
    let (y, last) = lstm.forward_lengths(&x, &[4, 2], None).unwrap();
    let both = Var::concat(&[&last.h.select(0, -2).unwrap(), &last.h.select(0, -1).unwrap()], 1).unwrap();
    let scores = score.forward(&both).unwrap();
    compare("softmax", &got["softmax"], scores.softmax(-1).unwrap().tensor());
    compare("sigmoid", &got["sigmoid"], scores.sigmoid().unwrap().tensor());
    compare("tags", &got["tags"], tag.forward(&y).unwrap().log_softmax(-1).unwrap().tensor());
}

#[test]
fn refuses() {
    let lstm = Lstm::new(3, 5).proj_size(2).init(&Device::Cpu, &mut Philox::seed(1)).unwrap();
    let mut graph = OnnxGraph::new();
    let x = graph.floats("x", &["steps", "batch", "3"]);
    assert!(matches!(graph.lstm(&x, None, &lstm), Err(Error::Argument { .. })));
    assert!(matches!(OnnxGraph::new().save("/nowhere/x.onnx"), Err(Error::Argument { .. })));
    graph.output("y", &x);
    let named = |input: &str, outputs: [&str; 2]| {
        let mut graph = OnnxGraph::new();
        let x = graph.floats(input, &["3"]);
        outputs.iter().for_each(|output| graph.output(output, &x));
        graph.save("/no/such/folder/x.onnx").unwrap_err()
    };
    for (input, outputs) in [("x", ["y", "y"]), ("x", ["x", "y"]), ("", ["y", "z"]), ("x", ["gatefold.1", "y"])] {
        assert!(matches!(named(input, outputs), Error::Argument { .. }));
    }
    assert!(matches!(named("x", ["y", "z"]), Error::File { .. }));
    assert!(matches!(graph.save("/no/such/folder/x.onnx"), Err(Error::File { .. })));
}

/// Extents that are other numbers than a module's, and values of another graph.
#[test]
fn values_that_do_not_fit() {
    let (device, rng) = (&Device::Cpu, &mut Philox::seed(1));
    let lstm = Lstm::new(3, 5).num_layers(2).init(device, rng).unwrap();
    let (gru, score) = (Gru::new(3, 5).init(device, rng).unwrap(), Linear::new(5, 2).init(device, rng).unwrap());
    let mut graph = OnnxGraph::new();
    let x = graph.floats("x", &["steps", "4", "3"]);
    let wide = graph.floats("wide", &["steps", "4", "6"]);
    let flat = graph.floats("flat", &["4", "3"]);
    let few = graph.lengths("few", "3");
    let [one, two] = ["1", "2"].map(|rows| graph.floats(rows, &[rows, "4", "5"]));
    let shape = |result: Result<()>, got: &str, want: &str| match result {
        Err(Error::Shape { got: found, want: wanted, .. }) => {
            assert_eq!((found.as_str(), wanted.as_str()), (got, want))
        }
        other => panic!("{other:?}"),
    };
    shape(graph.lstm(&wide, None, &lstm).map(drop), "[steps, 4, 6]", "3 at axis 2, not 6");
    shape(graph.lstm(&flat, None, &lstm).map(drop), "[4, 3]", "3 extents");
    shape(graph.gru(&x, Some(&few), &gru).map(drop), "[3]", "4 at axis 0, not 3");
    shape(graph.gru_from(&x, None, &two, &gru).map(drop), "[2, 4, 5]", "1 at axis 0, not 2");
    shape(graph.lstm_from(&x, None, (&two, &one), &lstm).map(drop), "[1, 4, 5]", "2 at axis 0, not 1");
    shape(graph.linear(&x, &score).map(drop), "[steps, 4, 3]", "5 at axis -1, not 3");
    // What is a name is known later.
    let named = graph.floats("named", &["steps", "batch", "features"]);
    let (y, h, _) = graph.lstm_from(&named, Some(&few), (&two, &two), &lstm).unwrap();
    graph.linear(&y, &score).unwrap();

    let mut other = OnnxGraph::new();
    assert!(
        matches!(other.lstm(&x, None, &lstm), Err(Error::Argument { op: "OnnxGraph::lstm", got, .. }) if got == "\"x\" of another graph")
    );
    assert!(matches!(other.linear(&y, &score), Err(Error::Argument { .. })));
    // Calls that give no Result are told of when the file is to be written.
    type Call<'a> = &'a dyn Fn(&mut OnnxGraph, &OnnxValue) -> OnnxValue;
    let calls: [(&str, Call); 9] = [
        ("\"x\" of another graph", &|graph, _| graph.sigmoid(&x)),
        ("\"x\" of another graph", &|graph, _| graph.softmax(&x, -1)),
        ("\"x\" of another graph", &|graph, _| graph.log_softmax(&x, -1)),
        ("\"x\" of another graph", &|graph, _| graph.select(&x, 0, 0)),
        ("\"x\" of another graph", &|graph, own| graph.concat(&[own, &x], 0)),
        ("\"x\" of another graph", &|_, _| x.clone()),
        ("no values", &|graph, _| graph.concat(&[], 0)),
        ("[4, 3]", &|graph, own| graph.concat(&[own, own], 2)),
        ("[4, 3]", &|graph, own| graph.select(own, -3, 0)),
    ];
    for (want, call) in calls {
        let mut graph = OnnxGraph::new();
        let own = graph.floats("own", &["4", "3"]);
        let value = call(&mut graph, &own);
        graph.output("y", &value);
        let error = graph.save("/no/such/folder/x.onnx").unwrap_err();
        assert!(matches!(&error, Error::Argument { got, .. } | Error::Shape { got, .. } if got == want), "{error}");
    }
    // Widths may differ where they are put together, and nowhere else.
    let fits = |axis| {
        let mut graph = OnnxGraph::new();
        let [a, b] = ["3", "6"].map(|width| graph.floats(width, &["steps", width]));
        let both = graph.concat(&[&a, &b], axis);
        graph.output("y", &both);
        graph.save("/no/such/folder/x.onnx").unwrap_err()
    };
    assert!(matches!(fits(-1), Error::File { .. }) && matches!(fits(0), Error::Shape { .. }));
    graph.output("h", &h);
    assert!(matches!(graph.save("/no/such/folder/x.onnx"), Err(Error::File { .. })));
}
