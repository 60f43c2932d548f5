//! Losses and their gradients.

use gatefold::{Philox, Reduction, Tensor, loss::*};

use crate::{CPU, FLOATS, agree_with_gradients, gpu, numbers};

#[test]
fn of_each_element() {
    if !gpu() {
        return;
    }
    let none = Reduction::None;
    for dtype in FLOATS {
        for shape in [[1, 1], [3, 4], [9, 33]] {
            let x = numbers(&shape, -2.0, 2.0, dtype, 1);
            let probability = |seed| numbers(&shape, 0.1, 0.9, dtype, seed);
            let pair = [x.clone(), numbers(&shape, -2.0, 2.0, dtype, 2)];
            agree_with_gradients("mse", &pair, |v| MseLoss::new().reduction(none).forward(&v[0], &v[1]));
            agree_with_gradients("mean of mse", &pair, |v| MseLoss::new().forward(&v[0], &v[1]));
            agree_with_gradients("l1", &pair, |v| L1Loss::new().reduction(none).forward(&v[0], &v[1]));
            agree_with_gradients("huber", &pair, |v| HuberLoss::new().delta(0.3).reduction(none).forward(&v[0], &v[1]));
            for beta in [0.0, 0.3] {
                let loss = SmoothL1Loss::new().beta(beta).reduction(none);
                agree_with_gradients("smooth l1", &pair, |v| loss.clone().forward(&v[0], &v[1]));
            }
            let pair = [probability(3), probability(4)];
            let weight = probability(5);
            agree_with_gradients("bce", &pair, |v| {
                BceLoss::new().weight(weight.to_device(&v[0].device())?).reduction(none).forward(&v[0], &v[1])
            });
            let pair = [x.clone(), probability(6)];
            let trailing = numbers(&shape[1..], 0.5, 2.0, dtype, 7);
            agree_with_gradients("bce with logits", &pair, |v| {
                BceWithLogitsLoss::new().reduction(none).forward(&v[0], &v[1])
            });
            agree_with_gradients("bce with logits, weighted", &pair, |v| {
                let pos_weight = trailing.to_device(&v[0].device())?;
                BceWithLogitsLoss::new().pos_weight(pos_weight).reduction(none).forward(&v[0], &v[1])
            });
            for log_target in [false, true] {
                let loss = KlDivLoss::new().log_target(log_target).reduction(none);
                agree_with_gradients("kl", &pair, |v| loss.clone().forward(&v[0], &v[1]));
            }
        }
    }
}

#[test]
fn of_classes() {
    if !gpu() {
        return;
    }
    let mut rng = Philox::seed(8);
    for dtype in FLOATS {
        for (shape, samples) in [(vec![7, 5], vec![7]), (vec![2, 4, 3], vec![2, 3]), (vec![5], vec![])] {
            let count: usize = samples.iter().product();
            let classes = shape[shape.len().min(2) - 1];
            let mut target: Vec<i64> = (0..count).map(|_| rng.below(classes as u64) as i64).collect();
            if count > 1 {
                target[1] = -100;
            }
            let target = Tensor::from_slice(&target, samples, &CPU).unwrap();
            let weight = numbers(&[classes], 0.5, 1.5, dtype, 9);
            let x = [numbers(&shape, -2.0, 2.0, dtype, 10)];
            for reduction in [Reduction::Mean, Reduction::None] {
                agree_with_gradients("nll", &x, |v| {
                    let device = v[0].device();
                    let loss = NllLoss::new().weight(weight.to_device(&device)?).reduction(reduction);
                    loss.forward(&v[0].log_softmax(if shape.len() == 1 { 0 } else { 1 })?, &target.to_device(&device)?)
                });
                for smoothing in [0.0, 0.2] {
                    agree_with_gradients("cross entropy", &x, |v| {
                        let loss = CrossEntropyLoss::new().label_smoothing(smoothing).reduction(reduction);
                        loss.forward(&v[0], &target.to_device(&v[0].device())?)
                    });
                }
            }
        }
    }
}
