//! The same bits in whatever order threads and blocks run. Of the driver in software: a real one has one order.

use gatefold::{
    DType, HasParameters, Philox, Result, Tape, Tensor, Var,
    nn::{Dropout, Embedding, Gru, Linear, Lstm, Module},
    optim::{Adam, Sgd, clip_grad_norm},
};

use crate::{GPU, gpu, numbers, skipped, softgpu};

pub const ORDERS: [&str; 5] = ["forward", "reverse", "random:1", "random:2", "random:3"];

type Bits = Vec<(String, Vec<u64>)>;

fn bits(x: &Tensor) -> Result<Vec<u64>> {
    Ok(x.to_f64_vec()?.iter().map(|v| v.to_bits()).collect())
}

fn note(all: &mut Bits, name: &str, modules: &[&dyn Module]) -> Result<()> {
    for (i, module) in modules.iter().enumerate() {
        for (parameter, value) in module.named_parameters() {
            all.push((format!("{name}: {i}.{parameter}"), bits(&value.value())?));
        }
    }
    Ok(())
}

/// Embedding, a bidirectional LSTM of two layers over sequences of unequal lengths, linear, cross entropy, Adam.
fn tagger(dtype: DType, all: &mut Bits) -> Result<()> {
    let rng = &mut Philox::seed(1);
    let embedding = Embedding::new(30, 7).padding_idx(0).dtype(dtype).init(&GPU, rng)?;
    let lstm = Lstm::new(7, 6).num_layers(2).bidirectional(true).dtype(dtype).init(&GPU, rng)?;
    let score = Linear::new(12, 5).dtype(dtype).init(&GPU, rng)?;
    let mut optimizer = Adam::new(0.01).over([&embedding as &dyn Module, &lstm, &score])?;
    for step in 0..3 {
        let mut draw = |below| (0..6 * 5).map(|_| rng.below(below) as i64).collect::<Vec<_>>();
        let words = Tensor::from_slice(&draw(30), [6, 5], &GPU)?;
        let tags = Tensor::from_slice(&draw(5), 30, &GPU)?;
        let x = embedding.forward(&Tape::new(), &words)?;
        let (y, _) = lstm.forward_lengths(&x, &[6, 2, 4, 1, 6], None)?;
        let loss = score.forward(&y)?.reshape([30, 5])?.cross_entropy(&tags)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        all.push((format!("tagger {dtype}: loss {step}"), vec![loss.item()?.to_bits()]));
    }
    note(all, &format!("tagger {dtype}"), &[&embedding, &lstm, &score])
}

/// Dropout, a GRU with dropout between its layers, the mean over steps, clipping, SGD.
fn regression(dtype: DType, all: &mut Bits) -> Result<()> {
    let rng = &mut Philox::seed(2);
    let gru = Gru::new(5, 8).num_layers(2).dropout(0.3).batch_first(true).dtype(dtype).init(&GPU, rng)?;
    let (dropout, linear) = (Dropout::new(0.2).init(&GPU, rng)?, Linear::new(8, 3).dtype(dtype).init(&GPU, rng)?);
    let mut optimizer = Sgd::new(0.1).momentum(0.9).over([&gru as &dyn Module, &linear])?;
    for step in 0..3 {
        let tape = Tape::new();
        let x = tape.constant(numbers(&[4, 6, 5], -1.0, 1.0, dtype, step).to_device(&GPU)?);
        let target = numbers(&[4, 3], -1.0, 1.0, dtype, step + 10).to_device(&GPU)?;
        let (y, _) = gru.forward(&dropout.forward(&x)?, None)?;
        let loss = linear.forward(&y.mean_axis(1, false)?)?.mse_loss(&target)?;
        optimizer.zero_grad();
        loss.backward()?;
        clip_grad_norm(&[gru.parameters(), linear.parameters()].concat()[..], 0.5, 2.0)?;
        optimizer.step()?;
        all.push((format!("regression {dtype}: loss {step}"), vec![loss.item()?.to_bits()]));
    }
    note(all, &format!("regression {dtype}"), &[&gru, &linear])
}

/// Kernels whose blocks share an axis, sort, or hand over partial results.
fn long(dtype: DType, all: &mut Bits) -> Result<()> {
    let tape = Tape::new();
    let on = |shape: &[usize], seed| -> Result<Var> {
        Ok(tape.variable(numbers(shape, -1.0, 1.0, dtype, seed).to_device(&GPU)?))
    };
    let (row, column) = (on(&[2, 30_000], 1)?, on(&[3000, 37], 2)?);
    let mut rng = Philox::seed(3);
    let index: Vec<i64> = (0..3000).map(|_| rng.below(300) as i64).collect();
    let index = Tensor::from_slice(&index, 3000, &GPU)?;
    let table = on(&[300, 9], 4)?;
    let losses: [Var; 7] = [
        row.sum_axis(1, false)?.sum()?,
        row.max_axis(1, false)?.0.mean()?,
        row.log_softmax(1)?.mean()?,
        column.mean_axis(0, false)?.exp()?.sum()?,
        column.softmax(0)?.powf(2.0)?.sum()?,
        table.embedding(&index, None)?.tanh()?.mean()?,
        column.index_select(0, &index)?.transpose(0, 1)?.sigmoid()?.mean()?,
    ];
    let mut sum = losses[0].clone();
    for loss in &losses[1..] {
        sum = sum.add(loss)?;
    }
    sum.backward()?;
    all.push((format!("long {dtype}: argmax"), bits(&column.tensor().argmax(0)?)?));
    for (i, loss) in losses.iter().enumerate() {
        all.push((format!("long {dtype}: loss {i}"), bits(loss.tensor())?));
    }
    for (name, var) in [("row", &row), ("column", &column), ("table", &table)] {
        all.push((format!("long {dtype}: gradient of {name}"), bits(&var.grad().expect("a variable"))?));
    }
    Ok(())
}

/// More tasks than blocks are launched, of which each then does several and uses its shared memory again.
fn many(all: &mut Bits) -> Result<()> {
    let tape = Tape::no_grad();
    let on = |shape: &[usize], seed| -> Result<Var> {
        Ok(tape.constant(numbers(shape, -1.0, 1.0, DType::F32, seed).to_device(&GPU)?))
    };
    let (columns, rows) = (on(&[2700, 9, 2], 1)?, on(&[2600, 1030], 2)?);
    all.push(("many: sums".into(), bits(rows.sum_axis(1, false)?.tensor())?));
    all.push(("many: means".into(), bits(columns.mean_axis(1, false)?.tensor())?));
    all.push(("many: log_softmax".into(), bits(rows.log_softmax(1)?.select(1, 7)?.tensor())?));
    Ok(())
}

fn everything() -> Result<Bits> {
    let mut all = Vec::new();
    many(&mut all)?;
    for dtype in [DType::F32, DType::BF16] {
        tagger(dtype, &mut all)?;
        regression(dtype, &mut all)?;
        long(dtype, &mut all)?;
    }
    Ok(all)
}

/// In a process of its own: the order is the whole process's.
#[test]
fn the_same_bits_in_any_order() {
    const CHILD: &str = "GATEFOLD_TEST_SCHEDULES";
    if !gpu() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        if !softgpu::present() {
            return skipped("the driver is not softgpu: it runs in an order of its own");
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "schedules::the_same_bits_in_any_order", "--nocapture"])
            .env(CHILD, "1")
            // The one with the fewest multiprocessors, so with the fewest blocks.
            .env("SOFTGPU_DEVICE", "t4")
            .output()
            .unwrap();
        let said = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut first: Option<Bits> = None;
    for order in ORDERS {
        softgpu::schedule(order);
        let got = everything().unwrap();
        let want = first.get_or_insert_with(|| got.clone());
        assert_eq!(got.len(), want.len());
        for ((name, got), (_, want)) in got.iter().zip(&*want) {
            let other = got.iter().zip(want).position(|(a, b)| a != b);
            assert_eq!(
                other, None,
                "{name}: other bits in the order {order} than {}, first at that element",
                ORDERS[0]
            );
        }
    }
}
