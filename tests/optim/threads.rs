//! Parameters that several threads use at once: large ones, whose kernels are shared out among the threads of the pool.

use std::{sync::mpsc, thread, time::Duration};

use gatefold::Tape;
use rayon::prelude::*;

use super::*;

/// More elements than one thread computes alone.
const MANY: usize = 1 << 17;

/// Fails where `body` does not come to its end, instead of waiting with it.
fn ends(body: impl FnOnce() + Send + 'static) {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        body();
        sender.send(()).unwrap();
    });
    match done.recv_timeout(Duration::from_secs(120)) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("threads that wait for each other"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a thread has panicked"),
    }
}

fn large() -> Parameter {
    Parameter::new(Tensor::zeros([MANY], DType::F32, &CPU).unwrap())
}

/// Adds ones into the gradient.
fn backward(w: &Parameter) {
    Tape::new().parameter(w).sum().unwrap().backward().unwrap();
}

fn all_are(x: &Tensor, want: f32) {
    assert!(x.to_vec::<f32>().unwrap().iter().all(|&x| x == want));
}

/// A step while all threads of the pool read the parameter: each value that they see is one from before or behind a step.
#[test]
fn a_step_does_not_wait_for_readers() {
    ends(|| {
        let w = large();
        let mut optimizer = Sgd::new(1.0).over([&w]).unwrap();
        w.set_grad(Some(Tensor::full([MANY], -1.0, DType::F32, &CPU).unwrap())).unwrap();
        let (sender, read) = mpsc::channel();
        for _ in 0..rayon::current_num_threads() {
            let (w, sender) = (w.clone(), sender.clone());
            rayon::spawn(move || {
                for i in 0..300_000 {
                    let value = w.value();
                    if i % 1000 == 0 {
                        sender.send(value).unwrap();
                    }
                }
            });
        }
        drop(sender);
        // They have begun.
        let first = read.recv().unwrap();
        (0..20).for_each(|_| optimizer.step().unwrap());
        all_are(&w.value(), 20.0);
        for value in [first].into_iter().chain(read) {
            all_are(&value, value.to_vec::<f32>().unwrap()[0]);
        }
    });
}

/// Batches in parallel add into one gradient, while others clip it and look at it.
#[test]
fn gradients_of_many_threads() {
    for threads in 2..=4 {
        ends(move || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let w = large();
            pool.install(|| (0..64).into_par_iter().for_each(|_| backward(&w)));
            all_are(&w.grad().unwrap(), 64.0);
            pool.install(|| {
                (0..64).into_par_iter().for_each(|i| match i % 4 {
                    0 => drop(clip_grad_norm(&w, 1e9, 2.0).unwrap()),
                    1 => clip_grad_value(&w, 1e9).unwrap(),
                    2 => GradScaler::new(&CPU).unwrap().init_scale(1.0).unwrap().unscale(&w).unwrap(),
                    _ => backward(&w),
                })
            });
            all_are(&w.grad().unwrap(), 80.0);
            // Steps in the pool, among batches.
            pool.install(|| {
                (0..64).into_par_iter().for_each(|i| match i % 4 {
                    0 => Sgd::new(0.0).over([&w]).unwrap().step().unwrap(),
                    _ => backward(&w),
                })
            });
            all_are(&w.grad().unwrap(), 128.0);
        });
    }
}
