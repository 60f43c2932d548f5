//! The main job on a small part of its data: digits read row by row, the GPU's loss after each step against the CPU's.
//! `GATEFOLD_TEST_DATA` names another folder than `data`.

use std::path::{Path, PathBuf};

use gatefold::{
    Device, HasParameters, Philox, Result, Tape,
    data::{Batches, Mnist},
    nn::{Linear, Lstm, Module},
    optim::{OneCycleLr, Sgd, clip_grad_norm},
};

use crate::{CPU, GPU, gpu, skipped};

/// Between two correct f32 runs: 28 steps of products of 128 terms leave 10⁻⁶ or less, and each update hands it on.
const TOLERANCE: f64 = 1e-5;
const IMAGES: usize = 256;
const BATCH: usize = 64;

/// One epoch with the network and the recipe of `examples/mnist.rs`.
fn losses(mnist: &Mnist, device: &Device) -> Result<Vec<f64>> {
    let rng = &mut Philox::seed(1);
    let lstm = Lstm::new(28, 128).num_layers(2).batch_first(true).init(device, rng)?;
    let out = Linear::new(128, 10).init(device, rng)?;
    let mut optimizer = Sgd::new(0.1).momentum(0.9).over([&lstm as &dyn Module, &out])?;
    let steps = (IMAGES / BATCH) as u64;
    let mut schedule = OneCycleLr::new(0.2, steps).div_factor(5.0).over(&mut optimizer)?;
    let mut losses = Vec::new();
    for batch in Batches::new(IMAGES, BATCH)?.shuffle(rng) {
        let (images, labels) = mnist.train.batch(&batch, device)?;
        let (_, state) = lstm.forward(&Tape::new().constant(images), None)?;
        let loss = out.forward(&state.h.select(0, -1)?)?.cross_entropy(&labels)?;
        optimizer.zero_grad();
        loss.backward()?;
        clip_grad_norm(&[lstm.parameters(), out.parameters()].concat()[..], 1.0, 2.0)?;
        optimizer.step()?;
        schedule.step(&mut optimizer)?;
        losses.push(loss.item()?);
    }
    Ok(losses)
}

#[test]
fn losses_of_an_epoch() {
    if !gpu() {
        return;
    }
    let data = std::env::var_os("GATEFOLD_TEST_DATA").filter(|folder| !folder.is_empty());
    let data = data.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("data"), PathBuf::from);
    let folder = data.join("mnist");
    if !folder.is_dir() {
        return skipped(&format!("{} is not there", folder.display()));
    }
    let mnist = Mnist::load(folder).unwrap();
    let (want, got) = (losses(&mnist, &CPU).unwrap(), losses(&mnist, &GPU).unwrap());
    assert_eq!(got, losses(&mnist, &GPU).unwrap(), "the same bits twice; on the CPU {want:?}");
    assert_eq!(want.len(), IMAGES / BATCH);
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= TOLERANCE * want.abs(), "losses {got:?}, want {want:?}");
    }
}
