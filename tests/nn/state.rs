//! State dicts and their files.

use std::fs;

use gatefold::{
    DType, Device, Error, Philox, Result, Tape, Tensor,
    nn::{Embedding, Gru, Linear, Lstm, Module, StateDict},
    optim::Sgd,
    train::Checkpoint,
};

use crate::modules::tagger;

fn values(module: &dyn Module) -> Vec<Vec<f64>> {
    module.parameters().iter().map(|p| p.value().to_f64_vec().unwrap()).collect()
}

#[test]
fn round_trip() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (a, b) = (tagger(1), tagger(2));
    assert_ne!(values(&a), values(&b));
    a.save(&path)?;
    b.load(&path)?;
    assert_eq!(values(&a), values(&b));
    // Over an old file, and nothing else is left in the folder.
    tagger(3).save(&path)?;
    b.load(&path)?;
    assert_eq!(values(&tagger(3)), values(&b));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    Ok(())
}

/// Files whose first bytes, the length of their header, are those that a pickle begins with.
#[test]
fn headers_of_640_bytes() -> Result<()> {
    fn there_and_back<M: Module>([a, b]: [Result<M>; 2]) -> Result<()> {
        let (a, b, folder) = (a?, b?, tempfile::tempdir().unwrap());
        let path = folder.path().join("model.safetensors");
        a.save(&path)?;
        assert_eq!(fs::read(&path).unwrap()[..8], 640u64.to_le_bytes());
        assert_ne!(values(&a), values(&b));
        b.load(&path)?;
        assert_eq!(values(&a), values(&b));
        Ok(())
    }
    let (device, rng) = (&Device::Cpu, &mut Philox::seed(1));
    there_and_back([(); 2].map(|()| Lstm::new(28, 200).num_layers(2).init(device, rng)))?;
    there_and_back([(); 2].map(|()| Lstm::new(300, 200).num_layers(2).init(device, rng)))?;
    there_and_back([(); 2].map(|()| Gru::new(100, 256).num_layers(2).init(device, rng)))
}

/// A line that was copied: the second child is trained, but has no name of its own to be saved under.
#[test]
fn two_children_of_one_name() -> Result<()> {
    struct Twins([Linear; 2]);
    impl Module for Twins {
        fn children(&self) -> Vec<(&str, &dyn Module)> {
            vec![("score", &self.0[0]), ("score", &self.0[1])]
        }
    }
    let (folder, rng) = (tempfile::tempdir().unwrap(), &mut Philox::seed(1));
    let path = folder.path().join("model.safetensors");
    let twins = Twins([2, 3].map(|width| Linear::new(width, width).init(&Device::Cpu, rng).unwrap()));
    let error = twins.save(&path).unwrap_err().to_string();
    assert!(error.contains("two parameters of the module have the name score.weight"), "{error}");
    let optimizer = Sgd::new(0.1).over([&twins])?;
    assert!(Checkpoint::new(&twins, &optimizer, rng).save(&path).is_err());
    assert!(!path.exists());
    let error = twins.load_state_dict(&twins.state_dict()).unwrap_err().to_string();
    assert!(error.starts_with("load_state_dict: ") && error.contains("score.weight"), "{error}");
    // One module under two names, or twice under one, is fine.
    struct Tied(Linear);
    impl Module for Tied {
        fn children(&self) -> Vec<(&str, &dyn Module)> {
            vec![("score", &self.0), ("score", &self.0), ("again", &self.0)]
        }
    }
    let tied = Tied(Linear::new(2, 3).init(&Device::Cpu, rng)?);
    tied.save(&path)?;
    tied.load(&path)
}

#[test]
fn every_dtype_and_the_metadata() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let mut state = StateDict::new();
    for dtype in [DType::F16, DType::I64, DType::F64, DType::BF16, DType::U32, DType::F32] {
        state.insert(dtype.name(), Tensor::new([[1.0f64, 2.0, 3.5]], &Device::Cpu)?.to_dtype(dtype)?);
    }
    state.insert("scalar", Tensor::new(7.0f32, &Device::Cpu)?);
    state.insert("empty", Tensor::zeros([0, 3], DType::F32, &Device::Cpu)?);
    state.metadata_mut().insert("step".into(), "12".into());
    state.save(&path)?;
    let back = StateDict::load(&path)?;
    assert_eq!((back.len(), back.metadata()["step"].as_str(), back.metadata()["format"].as_str()), (8, "12", "pt"));
    for (name, tensor) in state.iter() {
        let other = back.get(name).unwrap();
        assert_eq!((other.dims(), other.dtype()), (tensor.dims(), tensor.dtype()));
        assert_eq!(other.to_f64_vec()?, tensor.to_f64_vec()?);
    }
    Ok(())
}

/// A model that PyTorch wrote, by `torch_tagger.py` beside this file; what it answered is in the metadata.
#[test]
fn a_file_of_pytorchs() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nn/torch_tagger.safetensors");
    struct Model {
        embedding: Embedding,
        lstm: Lstm,
        score: Linear,
    }
    impl Module for Model {
        fn children(&self) -> Vec<(&str, &dyn Module)> {
            vec![("embedding", &self.embedding), ("lstm", &self.lstm), ("score", &self.score)]
        }
    }
    let (device, rng) = (&Device::Cpu, &mut Philox::seed(1));
    let model = Model {
        embedding: Embedding::new(5, 3).padding_idx(0).init(device, rng)?,
        lstm: Lstm::new(3, 4).num_layers(2).bidirectional(true).proj_size(2).init(device, rng)?,
        score: Linear::new(4, 3).init(device, rng)?,
    };
    model.load(path)?;
    let state = StateDict::load(path)?;
    let list = |key: &str| serde_json::from_str::<Vec<f64>>(&state.metadata()[key]).unwrap();
    let words: Vec<i64> = list("words").iter().map(|&w| w as i64).collect();
    let tape = Tape::no_grad();
    let x = model.embedding.forward(&tape, &Tensor::new(words, device)?)?;
    let scores = model.score.forward(&model.lstm.forward(&x, None)?.0)?;
    let (got, want) = (scores.tensor().to_f64_vec()?, list("scores"));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
    Ok(())
}

#[test]
fn other_dtypes_are_converted() -> Result<()> {
    let rng = &mut Philox::seed(1);
    let (from, to) = (
        Linear::new(2, 3).dtype(DType::F64).init(&Device::Cpu, rng)?,
        Linear::new(2, 3).dtype(DType::BF16).init(&Device::Cpu, rng)?,
    );
    to.load_state_dict(&from.state_dict())?;
    assert_eq!(to.weight().value().dtype(), DType::BF16);
    let (from, to) = (values(&from).concat(), values(&to).concat());
    assert_eq!(from.len(), to.len());
    for (a, b) in from.iter().zip(to) {
        assert!((a - b).abs() <= a.abs() / 256.0);
    }
    Ok(())
}

#[test]
fn every_wrong_key_is_named_and_nothing_changes() {
    let model = tagger(1);
    let before = values(&model);
    let mut state: StateDict = tagger(2)
        .state_dict()
        .into_iter()
        .filter(|(name, _)| name != "head.scale" && name != "lstm.bias_hh_l1")
        .collect();
    state.insert("extra", Tensor::new([1.0f32], &Device::Cpu).unwrap());
    state.insert("head.score.bias", Tensor::new([1.0f32], &Device::Cpu).unwrap());
    match model.load_state_dict(&state) {
        Err(Error::StateDict { op, missing, unexpected, misshaped }) => {
            assert_eq!(op, "load_state_dict");
            assert_eq!(missing, ["lstm.bias_hh_l1", "head.scale"]);
            assert_eq!(unexpected, ["extra"]);
            assert_eq!(misshaped, ["head.score.bias: got [1], want [2]"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(values(&model), before);
}

#[test]
fn keys_are_the_names_of_the_parameters_in_their_order() {
    let model = tagger(1);
    let state = model.state_dict();
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert!(names.len() > 10 && names.contains(&"lstm.bias_hh_l1".to_string()), "{names:?}");
    assert_eq!(state.keys().collect::<Vec<_>>(), names);
}

#[test]
fn a_state_dict_stays_as_it_was() -> Result<()> {
    let linear = Linear::new(2, 2).init(&Device::Cpu, &mut Philox::seed(1))?;
    let state = linear.state_dict();
    let old = state.get("weight").unwrap().to_vec::<f32>()?;
    gatefold::nn::init::constant(linear.weight(), 0.0)?;
    assert_eq!(state.get("weight").unwrap().to_vec::<f32>()?, old);
    linear.load_state_dict(&state)?;
    assert_eq!(linear.weight().value().to_vec::<f32>()?, old);
    Ok(())
}

#[test]
fn broken_files_are_errors() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = tagger(1);
    model.save(&path)?;
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let before = values(&model);
        assert!(matches!(model.load(&path), Err(Error::File { .. })), "{} bytes", bytes.len());
        assert_eq!(values(&model), before);
    };
    // Cut anywhere; the header is 8 bytes of length and text of that length.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for end in [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, whole.len() - 1] {
        refused(&whole[..end]);
    }
    let with_length = |n: u64| [&n.to_le_bytes(), &whole[8..]].concat();
    for n in [0, 1, header as u64 - 9, header as u64 - 7, 1 << 40, u64::MAX, i64::MAX as u64] {
        refused(&with_length(n));
    }
    refused(&[&whole[..], b"x"].concat());
    let file = |text: &str, data: &[u8]| [&(text.len() as u64).to_le_bytes(), text.as_bytes(), data].concat();
    for text in [
        "",
        "null",
        "[]",
        "{",
        r#"{"w":{}}"#,
        r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
        r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
    ] {
        refused(&file(text, &[0; 4]));
    }
    refused(&file(&"[".repeat(100_000), &[]));
    fs::remove_file(&path).unwrap();
    assert!(matches!(model.load(&path), Err(Error::File { .. })));
    assert!(matches!(model.load(folder.path()), Err(Error::File { .. })));
    assert!(matches!(model.save(folder.path().join("no/such/folder")), Err(Error::File { .. })));
    assert!(matches!(model.save(""), Err(Error::File { .. })));
    assert!(matches!(model.save("/"), Err(Error::File { .. })));
    Ok(())
}

/// PyTorch's strict=False: what fits is taken, what does not is named; another shape is an error all the same.
#[test]
fn states_in_part() -> Result<()> {
    let linear = Linear::new(2, 3).init(&Device::Cpu, &mut Philox::seed(1))?;
    let before = linear.weight().value().to_vec::<f32>()?;
    let mut state = StateDict::new();
    state.insert("bias", Tensor::new([1.0f32, 2.0, 3.0], &Device::Cpu)?);
    state.insert("head.weight", Tensor::zeros([1], DType::F32, &Device::Cpu)?);
    let keys = linear.load_state_dict_partial(&state)?;
    assert_eq!(
        (keys.missing_keys, keys.unexpected_keys),
        (vec!["weight".to_string()], vec!["head.weight".to_string()])
    );
    assert_eq!(linear.bias().unwrap().value().to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    assert_eq!(linear.weight().value().to_vec::<f32>()?, before);
    state.insert("weight", Tensor::zeros([3, 3], DType::F32, &Device::Cpu)?);
    state.insert("bias", Tensor::zeros([3], DType::F32, &Device::Cpu)?);
    assert!(matches!(linear.load_state_dict_partial(&state), Err(Error::StateDict { .. })));
    assert_eq!(linear.bias().unwrap().value().to_vec::<f32>()?, [1.0, 2.0, 3.0], "nothing has changed");
    assert_eq!(linear.load_state_dict_partial(&linear.state_dict())?, Default::default());
    Ok(())
}

/// A list of modules is one, with PyTorch's names; and what is of one in a larger state is found by its prefix.
#[test]
fn lists_of_modules() -> Result<()> {
    let mut rng = Philox::seed(1);
    let layers = (0..12).map(|_| Linear::new(2, 2).init(&Device::Cpu, &mut rng)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = layers.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), names[3].as_str(), names[22].as_str()), (24, "1.bias", "11.weight"));
    assert!(layers.repr().starts_with("ModuleList(\n  (0): Linear("), "{}", layers.repr());
    let state = layers.state_dict();
    let third = state.strip_prefix("3.");
    assert_eq!((&third).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["weight", "bias"]);
    let one = Linear::new(2, 2).init(&Device::Cpu, &mut rng)?;
    one.load_state_dict(&third)?;
    assert_eq!(one.state_dict().get("bias").unwrap().to_f64_vec()?, state.get("3.bias").unwrap().to_f64_vec()?);
    Ok(())
}

/// What torch.save wrote is told from a damaged file.
#[test]
fn files_of_torch_save() {
    let folder = tempfile::tempdir().unwrap();
    for head in [&b"PK\x03\x04archive/data.pkl"[..], &[0x80, 2, 0x8a, 10]] {
        let path = folder.path().join("net.pt");
        std::fs::write(&path, head).unwrap();
        let refused = StateDict::load(&path).unwrap_err().to_string();
        assert!(refused.contains("net.pt") && refused.contains("safetensors.torch.save_file"), "{refused}");
    }
}
