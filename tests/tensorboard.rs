//! What `EventWriter` writes is read by TensorBoard's own code: numbers, histograms, texts and settings come back.
//!
//! Runs where there is a Python with `tensorboard`.

use std::{fs, path::Path};

use gatefold::{
    Device, Philox, Tape, Tensor,
    nn::Linear,
    train::{EventWriter, Watch},
};
use serde_json::{Value, json};

#[path = "common/python.rs"]
mod python;

/// What TensorBoard reads in a folder.
fn read(python: &Path, folder: &Path) -> Value {
    python::run(python, "read_events.py", &[folder.to_str().unwrap()])
}

#[test]
fn tensorboard_reads_it() {
    let Some(python) = python::with("tensorboard") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = Linear::new(2, 1).init(&Device::Cpu, &mut Philox::seed(1)).unwrap();
    let watch = Watch::new(&model, 2).unwrap();
    let mut events = EventWriter::new(folder.path()).unwrap();
    events.hyper_parameters(&[("lr", 0.1.into()), ("cell", "gru".into()), ("clip", true.into())], &["loss"]).unwrap();
    for step in 0..4 {
        events.scalar("loss", 1.0 / (step + 1) as f64, step).unwrap();
        let x = Tape::new().constant(Tensor::new([[1f32, 2.0]], &Device::Cpu).unwrap());
        model.forward(&x).unwrap().sum().unwrap().backward().unwrap();
        watch.log(&mut events, step).unwrap();
    }
    events.histogram("h", &Tensor::new([0f32, 1.0, 60.0, 60.0], &Device::Cpu).unwrap(), 7).unwrap();
    events.text("notes", "one *GRU* – 旅行", 3).unwrap();
    events.scalar("last", -2.5, 1 << 40).unwrap();
    let path = events.path().to_path_buf();
    events.finish().unwrap();

    let read_back = read(&python, folder.path());
    assert_eq!(read_back["scalars"]["loss"], json!([[0, 1.0], [1, 0.5], [2, f64::from(1f32 / 3.0)], [3, 0.25]]));
    assert_eq!(read_back["scalars"]["last"], json!([[1u64 << 40, -2.5]]));
    assert_eq!(read_back["texts"]["notes"], json!([[3, "one *GRU* – 旅行"]]));
    let histogram = &read_back["histograms"]["h"][0];
    assert_eq!(histogram["step"], 7);
    assert_eq!(histogram["moments"], json!([0.0, 60.0, 4.0, 121.0, 7201.0]));
    // TensorBoard joins buckets; together they hold what was counted.
    let counts = histogram["counts"].as_array().unwrap().iter().map(|c| c.as_f64().unwrap()).sum::<f64>();
    assert_eq!(counts, 4.0);
    // Watched at steps 0 and 2; gradients add up: 1 and 3 times (1, 2).
    let names = ["parameters/weight", "parameters/bias", "gradients/weight", "gradients/bias"];
    for name in names {
        let steps: Vec<_> =
            read_back["histograms"][name].as_array().unwrap().iter().map(|h| h["step"].clone()).collect();
        assert_eq!(steps, [0, 2], "{name}");
    }
    assert_eq!(read_back["histograms"]["gradients/weight"][1]["moments"][1], 6.0);
    let hparams = &read_back["hparams"];
    assert_eq!(hparams["start"], json!({"lr": 0.1, "cell": "gru", "clip": true}));
    assert_eq!(hparams["experiment"], json!({"hparams": {"lr": 3, "cell": 1, "clip": 2}, "metrics": ["loss"]}));
    assert_eq!(hparams["end"], 1);

    // A file that was cut off within its last record: all before it is there.
    let cut = tempfile::tempdir().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(cut.path().join(path.file_name().unwrap()), &bytes[..bytes.len() - 3]).unwrap();
    let cut = read(&python, cut.path());
    assert_eq!((&cut["scalars"], &cut["hparams"]["end"]), (&read_back["scalars"], &Value::Null));
}
