//! What every module can do: names, printing, counting, modes, freezing; initial values; embeddings.

use gatefold::{
    DType, Device, Error, Parameter, Philox, Result, Tape, Tensor,
    nn::{
        Dropout, Embedding, Gru, GruCell, HasParameters, Linear, Lstm, LstmCell, Module, Nonlinearity, Rnn, RnnCell,
        init,
    },
};

pub struct Tagger {
    pub embedding: Embedding,
    pub dropout: Dropout,
    pub lstm: Lstm,
    pub head: Head,
}

pub struct Head {
    score: Linear,
    scale: Parameter,
}

impl Module for Head {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("score", &self.score)]
    }
    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        vec![("scale".into(), self.scale.clone())]
    }
}

impl Module for Tagger {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("embedding", &self.embedding), ("dropout", &self.dropout), ("lstm", &self.lstm), ("head", &self.head)]
    }
}

pub fn tagger(seed: u64) -> Tagger {
    let (device, rng) = (&Device::Cpu, &mut Philox::seed(seed));
    Tagger {
        embedding: Embedding::new(9, 4).padding_idx(0).init(device, rng).unwrap(),
        dropout: Dropout::new(0.5).init(device, rng).unwrap(),
        lstm: Lstm::new(4, 3).num_layers(2).dropout(0.25).init(device, rng).unwrap(),
        head: Head {
            score: Linear::new(3, 2).init(device, rng).unwrap(),
            scale: Parameter::new(Tensor::ones((), DType::F32, device).unwrap()),
        },
    }
}

/// Against the strings that PyTorch 2 prints.
#[test]
fn prints_as_pytorch() -> Result<()> {
    let (d, r) = (&Device::Cpu, &mut Philox::seed(1));
    let printed = [
        (Lstm::new(100, 20).num_layers(4).init(d, r)?.to_string(), "LSTM(100, 20, num_layers=4)"),
        (
            Rnn::new(3, 4)
                .num_layers(2)
                .bias(false)
                .batch_first(true)
                .dropout(0.5)
                .bidirectional(true)
                .init(d, r)?
                .to_string(),
            "RNN(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)",
        ),
        (
            Lstm::new(3, 4).proj_size(2).num_layers(2).batch_first(true).bias(false).init(d, r)?.to_string(),
            "LSTM(3, 4, proj_size=2, num_layers=2, bias=False, batch_first=True)",
        ),
        (Rnn::new(3, 4).nonlinearity(Nonlinearity::Relu).init(d, r)?.to_string(), "RNN(3, 4)"),
        (Gru::new(3, 4).init(d, r)?.to_string(), "GRU(3, 4)"),
        (RnnCell::new(4, 2).init(d, r)?.to_string(), "RNNCell(4, 2)"),
        (
            RnnCell::new(4, 2).bias(false).nonlinearity(Nonlinearity::Relu).init(d, r)?.to_string(),
            "RNNCell(4, 2, bias=False, nonlinearity=relu)",
        ),
        (LstmCell::new(3, 2).bias(false).init(d, r)?.to_string(), "LSTMCell(3, 2, bias=False)"),
        (GruCell::new(3, 2).init(d, r)?.to_string(), "GRUCell(3, 2)"),
        (Embedding::new(9, 6).init(d, r)?.to_string(), "Embedding(9, 6)"),
        (Embedding::new(9, 6).padding_idx(0).init(d, r)?.to_string(), "Embedding(9, 6, padding_idx=0)"),
        (Embedding::new(9, 6).padding_idx(-1).init(d, r)?.to_string(), "Embedding(9, 6, padding_idx=8)"),
        (Linear::new(12, 3).init(d, r)?.to_string(), "Linear(in_features=12, out_features=3, bias=True)"),
        (Linear::new(2, 3).bias(false).init(d, r)?.to_string(), "Linear(in_features=2, out_features=3, bias=False)"),
        (Dropout::new(0.5).init(d, r)?.to_string(), "Dropout(p=0.5, inplace=False)"),
    ];
    for (got, want) in printed {
        assert_eq!(got, want);
    }
    assert_eq!(
        tagger(1).repr(),
        "Tagger(
  (embedding): Embedding(9, 4, padding_idx=0)
  (dropout): Dropout(p=0.5, inplace=False)
  (lstm): LSTM(4, 3, num_layers=2, dropout=0.25)
  (head): Head(
    (score): Linear(in_features=3, out_features=2, bias=True)
  )
)"
    );
    Ok(())
}

#[test]
fn names_and_numbers_of_parameters() {
    let model = tagger(1);
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    let lstm = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];
    let lstm = (0..2).flat_map(|layer| lstm.map(|name| format!("lstm.{name}_l{layer}")));
    let rest = ["head.scale", "head.score.weight", "head.score.bias"].map(String::from);
    assert_eq!(names, ["embedding.weight".into()].into_iter().chain(lstm).chain(rest).collect::<Vec<_>>());
    let count = 9 * 4 + 12 * (4 + 3 + 2) + 12 * (3 + 3 + 2) + 1 + 3 * 2 + 2;
    assert_eq!((model.num_parameters(), model.parameters().len()), (count, names.len()));
    let described = model.describe();
    assert!(described.contains("head.score.weight  [2, 3]"), "{described}");
    assert!(described.ends_with(&format!("{count}\n{count} trainable")), "{described}");

    model.lstm.set_requires_grad(false);
    assert!(model.describe().ends_with("45 trainable") && model.describe().contains("frozen"));
    let cell = GruCell::new(2, 3).init(&Device::Cpu, &mut Philox::seed(1)).unwrap();
    let names: Vec<String> = cell.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]);
}

/// A struct that uses one module twice lists it once, but its state dict has both names.
#[test]
fn a_shared_parameter_counts_once() {
    struct Tied(Linear);
    impl Module for Tied {
        fn children(&self) -> Vec<(&str, &dyn Module)> {
            vec![("a", &self.0), ("b", &self.0)]
        }
    }
    let tied = Tied(Linear::new(2, 2).init(&Device::Cpu, &mut Philox::seed(1)).unwrap());
    assert_eq!((tied.num_parameters(), tied.parameters().len(), tied.state_dict().len()), (6, 2, 4));
    tied.load_state_dict(&tied.state_dict()).unwrap();
}

#[test]
fn modes_freezing_and_gradients() -> Result<()> {
    let model = tagger(1);
    assert!(model.is_training() && model.lstm.is_training());
    model.eval();
    assert!(!model.is_training() && !model.lstm.is_training() && !model.head.is_training());
    model.lstm.train();
    assert!(model.is_training() && !model.dropout.is_training());
    model.train();

    let tape = Tape::new();
    let words = Tensor::new([[1i64, 2], [0, 3]], &Device::Cpu)?;
    let x = model.embedding.forward(&tape, &words)?;
    let (y, _) = model.lstm.forward(&model.dropout.forward(&x)?, None)?;
    model.head.score.forward(&y)?.sum()?.backward()?;
    assert!(model.embedding.weight().grad().is_some() && model.head.scale.grad().is_none());
    model.zero_grad();
    assert!(model.parameters().iter().all(|p| p.grad().is_none()));

    // Frozen: nothing is recorded, and dyn modules work.
    model.set_requires_grad(false);
    let tape = Tape::new();
    let x = model.embedding.forward(&tape, &words)?;
    assert!(!model.lstm.forward(&x, None)?.0.requires_grad() && tape.is_empty());
    let boxed: Box<dyn Module> = Box::new(model);
    assert_eq!(boxed.parameters().len(), 12);
    boxed.to_device(&Device::Cpu)
}

/// A leaf that keeps no mode has no say in that of what it is in.
#[test]
fn leaves_without_a_mode() {
    struct Scale(Parameter);
    impl Module for Scale {
        fn children(&self) -> Vec<(&str, &dyn Module)> {
            Vec::new()
        }
        fn own_parameters(&self) -> Vec<(String, Parameter)> {
            vec![("scale".into(), self.0.clone())]
        }
    }
    struct Scaled(Scale, Dropout);
    impl Module for Scaled {
        fn children(&self) -> Vec<(&str, &dyn Module)> {
            vec![("scale", &self.0), ("dropout", &self.1)]
        }
    }
    let scale = Scale(Parameter::new(Tensor::ones((), DType::F32, &Device::Cpu).unwrap()));
    let model = Scaled(scale, Dropout::new(0.5).init(&Device::Cpu, &mut Philox::seed(1)).unwrap());
    assert!(model.is_training() && model.0.is_training());
    model.eval();
    assert!(!model.is_training());
    model.train();
    assert!(model.is_training());
}

#[test]
fn modules_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Lstm>();
    check::<GruCell>();
    check::<Embedding>();
    check::<Dropout>();
    check::<Box<dyn Module>>();
}

#[test]
fn no_grad_records_nothing() -> Result<()> {
    let model = tagger(1);
    model.eval();
    let tape = Tape::no_grad();
    let x = model.embedding.forward(&tape, &Tensor::new([1i64, 2], &Device::Cpu)?)?;
    let (y, last) = model.lstm.forward(&x, None)?;
    assert!(tape.is_empty() && !y.requires_grad() && !last.c.requires_grad());
    Ok(())
}

#[test]
fn initial_values() -> Result<()> {
    let (device, mut rng) = (Device::Cpu, Philox::seed(5));
    let within = |p: &Parameter, bound: f64| {
        let values = p.value().to_f64_vec().unwrap();
        let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} for {bound}");
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.25 * bound, "{mean}");
    };
    let lstm = Lstm::new(30, 25).init(&device, &mut rng)?;
    lstm.parameters().iter().for_each(|p| within(p, 0.2));
    within(Linear::new(16, 60).init(&device, &mut rng)?.weight(), 0.25);
    within(GruCell::new(30, 25).init(&device, &mut rng)?.weight_ih().unwrap(), 0.2);

    let embedding = Embedding::new(100, 50).padding_idx(3).init(&device, &mut rng)?;
    let values = embedding.weight().value().to_f64_vec()?;
    assert!(values[150..200].iter().all(|&v| v == 0.0) && values[200..250].iter().all(|&v| v != 0.0));
    let variance = values.iter().map(|v| v * v).sum::<f64>() / 4950.0;
    assert!((variance - 1.0).abs() < 0.06, "{variance}");

    // The same seed gives the same weights; `init` fills anew.
    let again = Lstm::new(30, 25).init(&device, &mut Philox::seed(5))?;
    assert_eq!(
        again.weight_hh(0, 0).unwrap().value().to_vec::<f32>()?,
        lstm.weight_hh(0, 0).unwrap().value().to_vec::<f32>()?
    );
    let weight = lstm.weight_ih(0, 0).unwrap();
    init::xavier_uniform(weight, 1.0, &mut rng)?;
    within(weight, (6.0f64 / 130.0).sqrt());
    init::kaiming_uniform(weight, 5f64.sqrt(), &mut rng)?;
    within(weight, 30f64.sqrt().recip());
    init::constant(weight, 2.0)?;
    assert!(weight.value().to_vec::<f32>()?.iter().all(|&v| v == 2.0));
    assert!(matches!(init::xavier_normal(lstm.bias_ih(0, 0).unwrap(), 1.0, &mut rng), Err(Error::Shape { .. })));
    Ok(())
}

/// Of n draws the mean is off by σ/√n and the deviation by σ/√(2n), of a share p by √(p(1 − p)/n); four times that is allowed.
#[test]
fn init_draws_what_it_says() -> Result<()> {
    let rng = &mut Philox::seed(11);
    let linear = Linear::new(60, 100).init(&Device::Cpu, rng)?;
    let weight = linear.weight();
    let drawn = || weight.value().to_f64_vec();
    let n = 6000f64;
    let moments = |values: &[f64], mean: f64, deviation: f64| {
        assert_eq!(values.len() as f64, n);
        let got = values.iter().sum::<f64>() / n;
        assert!((got - mean).abs() <= 4.0 * deviation / n.sqrt(), "mean {got} for {mean}");
        let got = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!((got / deviation - 1.0).abs() <= 4.0 / (2.0 * n).sqrt(), "deviation {got} for {deviation}");
    };
    // Of normal numbers one in 22 is farther from the mean than twice the deviation, of uniform ones none.
    let far = |values: &[f64], mean: f64, deviation: f64| {
        let share = values.iter().filter(|v| (*v - mean).abs() > 2.0 * deviation).count() as f64 / n;
        assert!((share - 0.0455).abs() <= 4.0 * (0.0455 * 0.9545 / n).sqrt(), "{share}");
    };

    init::uniform(weight, 1.0, 3.0, rng)?;
    let values = drawn()?;
    moments(&values, 2.0, 2.0 / 12f64.sqrt());
    let (least, most) = values.iter().fold((9.0f64, -9.0f64), |(a, b), &v| (a.min(v), b.max(v)));
    assert!((1.0..1.01).contains(&least) && (2.99..=3.0).contains(&most), "{least} to {most}");

    init::normal(weight, -1.0, 0.5, rng)?;
    let values = drawn()?;
    moments(&values, -1.0, 0.5);
    far(&values, -1.0, 0.5);

    init::xavier_normal(weight, 2.0, rng)?;
    let (values, deviation) = (drawn()?, 2.0 * (2.0f64 / 160.0).sqrt());
    moments(&values, 0.0, deviation);
    far(&values, 0.0, deviation);
    Ok(())
}

#[test]
fn accessors_give_the_parameters_of_their_names() -> Result<()> {
    let (device, rng) = (&Device::Cpu, &mut Philox::seed(1));
    let same = |module: &dyn Module, name: &str, got: Option<&Parameter>| {
        let named = module.named_parameters();
        let wanted = named.iter().find(|(key, _)| key == name).map(|(_, p)| p.id());
        assert!(wanted.is_some() && got.map(Parameter::id) == wanted, "{name}");
    };
    macro_rules! layers {
        ($($kind:ident),*) => {$({
            let module = $kind::new(2, 3).num_layers(2).bidirectional(true).init(device, rng)?;
            for (layer, direction, suffix) in [(0, 0, "l0"), (0, 1, "l0_reverse"), (1, 0, "l1"), (1, 1, "l1_reverse")] {
                same(&module, &format!("weight_ih_{suffix}"), module.weight_ih(layer, direction));
                same(&module, &format!("weight_hh_{suffix}"), module.weight_hh(layer, direction));
                same(&module, &format!("bias_ih_{suffix}"), module.bias_ih(layer, direction));
                same(&module, &format!("bias_hh_{suffix}"), module.bias_hh(layer, direction));
            }
            assert!($kind::new(2, 3).bias(false).init(device, rng)?.bias_hh(0, 0).is_none());
        })*};
    }
    macro_rules! cells {
        ($($kind:ident),*) => {$({
            let cell = $kind::new(2, 3).init(device, rng)?;
            same(&cell, "weight_ih", cell.weight_ih());
            same(&cell, "weight_hh", cell.weight_hh());
            same(&cell, "bias_ih", cell.bias_ih());
            same(&cell, "bias_hh", cell.bias_hh());
            assert!($kind::new(2, 3).bias(false).init(device, rng)?.bias_hh().is_none());
        })*};
    }
    layers!(Rnn, Lstm, Gru);
    cells!(RnnCell, LstmCell, GruCell);
    Ok(())
}

#[test]
fn accessors_outside_the_module_give_none() -> Result<()> {
    let (device, mut rng) = (Device::Cpu, Philox::seed(1));
    let lstm = Lstm::new(2, 3).num_layers(2).bidirectional(true).bias(false).init(&device, &mut rng)?;
    assert!(lstm.weight_ih(1, 1).is_some() && lstm.weight_ih(2, 0).is_none() && lstm.weight_hh(0, 2).is_none());
    assert!(lstm.bias_ih(0, 0).is_none() && lstm.weight_hr(0, 0).is_none() && lstm.weight_peephole(0, 0).is_none());
    assert!(lstm.weight_ih(usize::MAX, usize::MAX).is_none());
    Ok(())
}

#[test]
fn padding_gets_no_gradient() -> Result<()> {
    let table = Tensor::new([[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?;
    let index = Tensor::new([2i64, 0, 2, 1], &Device::Cpu)?;
    let embedding = Embedding::from_pretrained(table.clone(), false)?.with_padding_idx(-1)?;
    embedding.forward(&Tape::new(), &index)?.sum()?.backward()?;
    assert_eq!(embedding.weight().grad().unwrap().to_vec::<f32>()?, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(embedding.weight().value().to_vec::<f32>()?, table.to_vec::<f32>()?);
    let frozen = Embedding::from_pretrained(table, true)?;
    assert!(!frozen.weight().requires_grad() && !frozen.forward(&Tape::new(), &index)?.requires_grad());
    Ok(())
}

/// Rows or columns are orthogonal and of one length, in every dtype; the same seed gives the same.
#[test]
fn orthogonal() -> Result<()> {
    for (shape, dtype, bound) in [
        (&[12, 4][..], DType::F64, 1e-14),
        (&[4, 12], DType::F64, 1e-14),
        (&[50, 50], DType::F64, 1e-13),
        (&[6, 2, 3], DType::F32, 1e-6),
        (&[8, 5], DType::BF16, 0.05),
        (&[1, 1], DType::F64, 1e-15),
    ] {
        let weight = Parameter::new(Tensor::zeros(shape, dtype, &Device::Cpu)?);
        init::orthogonal(&weight, 1.5, &mut Philox::seed(7))?;
        let value = weight.value();
        assert_eq!((value.dims(), value.dtype()), (shape, dtype));
        let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
        let w = value.to_f64_vec()?;
        let at = |i: usize, k: usize| if rows <= columns { w[i * columns + k] } else { w[k * columns + i] };
        for i in 0..rows.min(columns) {
            for j in 0..rows.min(columns) {
                let dot: f64 = (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
                let want = if i == j { 2.25 } else { 0.0 };
                assert!((dot - want).abs() <= bound * 2.25, "{shape:?}: {i}·{j} = {dot}");
            }
        }
        let again = Parameter::new(Tensor::zeros(shape, dtype, &Device::Cpu)?);
        init::orthogonal(&again, 1.5, &mut Philox::seed(7))?;
        assert_eq!(again.value().to_f64_vec()?, w);
    }
    let bias = Parameter::new(Tensor::zeros([3], DType::F32, &Device::Cpu)?);
    assert!(matches!(init::orthogonal(&bias, 1.0, &mut Philox::seed(7)), Err(Error::Shape { .. })));
    let weight = Parameter::new(Tensor::zeros([200, 50], DType::F64, &Device::Cpu)?);
    assert!(matches!(init::orthogonal(&weight, f64::NAN, &mut Philox::seed(7)), Err(Error::Argument { .. })));
    // 10,000 numbers: their deviation is known to 1 in 140.
    init::kaiming_normal(&weight, 2.0, &mut Philox::seed(7))?;
    let square = weight.value().to_f64_vec()?.iter().map(|w| w * w).sum::<f64>() / 1e4;
    assert!((square / (2.0 / 5.0 / 50.0) - 1.0).abs() < 0.06, "{square}");
    Ok(())
}
