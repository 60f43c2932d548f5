//! What cannot be done is an `Err` that says why, with a driver and without.

use gatefold::{DType, Device, Error, Tape, Tensor, loss::*};

use crate::{CPU, GPU, alone, gpu};

#[test]
fn a_device_that_is_not_there() {
    let error = Device::Cuda(99).check("test").unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(["driver", "nvcc"].iter().any(|word| text.contains(word)), "{text}");
    assert!(Tensor::zeros(3, DType::F32, &Device::Cuda(99)).is_err());
    assert!(Device::Cuda(99).memory_stats().is_err());
    let best = Device::best();
    best.check("test").unwrap();
    assert_eq!(best == GPU, GPU.check("test").is_ok());
}

#[test]
fn tensors_on_two_devices() {
    if !gpu() {
        return;
    }
    let tape = Tape::new();
    let here = tape.constant(Tensor::zeros([2, 2], DType::F32, &CPU).unwrap());
    let there = tape.constant(Tensor::zeros([2, 2], DType::F32, &GPU).unwrap());
    for error in [here.add(&there).err(), there.mul(&here).err(), there.matmul(&here).err()] {
        assert!(matches!(error, Some(Error::Device { .. })), "{error:?}");
    }
    let index = Tensor::from_slice(&[0i64], 1, &CPU).unwrap();
    assert!(matches!(there.index_select(0, &index), Err(Error::Device { .. })));
}

#[test]
fn out_of_memory_leaves_the_device_usable() {
    if !gpu() {
        return;
    }
    for len in [1usize << 46, usize::MAX / 64] {
        let error = Tensor::zeros(len, DType::F32, &GPU).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
    assert_eq!(Tensor::ones(3, DType::F32, &GPU).unwrap().to_vec::<f32>().unwrap(), [1.0; 3]);
}

/// What kernels find wrong is told by the next download, once. Alone: a fault belongs to the device, and tests beside it would
/// be told.
#[test]
fn faults_of_kernels() {
    if !gpu() || !alone("errors::faults_of_kernels") {
        return;
    }
    let tape = Tape::new();
    let on = |values: &[i64]| Tensor::from_slice(values, values.len(), &GPU).unwrap();
    let floats = |values: &[f32]| Tensor::from_slice(values, values.len(), &GPU).unwrap();
    let table = tape.constant(Tensor::ones([5, 3], DType::F32, &GPU).unwrap());
    let told = |text: &str| {
        let error = floats(&[1.0]).to_vec::<f32>().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(floats(&[1.0]).to_vec::<f32>().unwrap(), [1.0]);
    };
    for wrong in [-1, 5, i64::MAX, i64::MIN] {
        let _ = table.embedding(&on(&[0, wrong, 4]), None).unwrap();
        told(&format!("index {wrong} at 1, want indices in 0..5"));
        let _ = floats(&[1.0; 5]).gather(0, &on(&[0, wrong, 4])).unwrap();
        told(&format!("index {wrong} at 1, want indices in 0..5"));
        let _ = on(&[0, wrong, 4]).one_hot(5, DType::F32).unwrap();
        told(&format!("index {wrong} at 1, want indices in 0..5"));
    }
    let scores = tape.constant(Tensor::zeros([2, 3], DType::F32, &GPU).unwrap());
    let _ = CrossEntropyLoss::new().forward(&scores, &on(&[1, 3])).unwrap();
    told("target 3 at 1");
    let _ = BceLoss::new().forward(&tape.constant(floats(&[0.5, 1.5])), &floats(&[0.0, 1.0])).unwrap();
    told("input element 1 = 1.5");
    let _ = table.embedding(&on(&[9]), None).unwrap();
    assert!(GPU.synchronize().is_err());
    GPU.synchronize().unwrap();
    GPU.release_memory().unwrap();
}
