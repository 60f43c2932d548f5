//! Whole training steps by the modules: forward, loss, backward, optimizer; as they are written, and captured. Nothing is read back,
//! so nothing waits.

use gatefold::{
    Device, Philox, Tape, Tensor,
    nn::{Embedding, Linear, Lstm, Module},
    optim::{Adam, Optim, Sgd, clip_grad_norm_async},
    train::CapturedStep,
};

use super::{
    gpu::Result,
    timer::{Key, Timer},
};

/// A network, and what it learns.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// The digits of examples/mnist.rs: LSTM 28→128, 2 layers, batches of 128, SGD with momentum and clipping.
    Mnist,
    /// A tagger: embedding 10,000→128, bidirectional LSTM 128→256, 2 layers, 40 tags, 32 sentences of 64 words, Adam.
    Tagger,
}

pub const PROGRAMS: [Program; 2] = [Program::Mnist, Program::Tagger];

const DEVICE: Device = Device::Cuda(0);

fn numbers(rng: &mut Philox, len: usize, below: u64) -> Vec<i64> {
    (0..len).map(|_| rng.below(below) as i64).collect()
}

/// How a step is run.
#[derive(Clone, Copy)]
enum Way {
    Stepwise,
    /// Each sequence is a graph.
    Graph,
    /// The step is a graph.
    Captured,
}

pub fn measure(timer: &mut Timer<'_>, program: Program, smoke: bool) -> Result<()> {
    let ways =
        [("gatefold captured", Way::Captured), ("gatefold graph", Way::Graph), ("gatefold stepwise", Way::Stepwise)];
    for (contender, way) in ways {
        // Both are modes of the whole device.
        let graphs = !matches!(way, Way::Stepwise);
        DEVICE.allow_graphs(graphs).and_then(|()| DEVICE.allow_tf32(false)).map_err(|e| e.to_string())?;
        let done = match program {
            Program::Mnist => mnist(timer, (contender, way), smoke),
            Program::Tagger => tagger(timer, (contender, way), smoke),
        };
        DEVICE.allow_graphs(true).map_err(|e| e.to_string())?;
        done.map_err(|e| e.to_string())??;
    }
    Ok(())
}

/// A step by its inputs and optimizer, run in that way.
fn in_way<O: Optim>(
    way: Way,
    inputs: [Tensor; 2],
    mut optimizer: O,
    step: impl Fn([&Tensor; 2], &mut O) -> gatefold::Result<[Tensor; 1]>,
) -> gatefold::Result<impl FnMut() -> gatefold::Result<()>> {
    let mut captured = CapturedStep::new();
    let mut run = move || {
        let inputs = [&inputs[0], &inputs[1]];
        match way {
            Way::Captured => captured.run(inputs, &mut optimizer, &step),
            _ => step(inputs, &mut optimizer),
        }
        .map(drop)
    };
    // Until it is captured.
    (0..4).try_for_each(|_| run())?;
    Ok(run)
}

/// Layers of LSTM, linear scores.
struct Net {
    lstm: Lstm,
    out: Linear,
}

impl Module for Net {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("lstm", &self.lstm), ("out", &self.out)]
    }
}

fn mnist(timer: &mut Timer<'_>, (contender, way): (&'static str, Way), smoke: bool) -> gatefold::Result<Result<()>> {
    let (batch, rows, hidden) = if smoke { (2, 3, 4) } else { (128, 28, 128) };
    let mut rng = Philox::seed(1);
    let lstm = Lstm::new(28, hidden).num_layers(2).batch_first(true).init(&DEVICE, &mut rng)?;
    let net = Net { lstm, out: Linear::new(hidden, 10).init(&DEVICE, &mut rng)? };
    let pixels: Vec<f32> = (0..batch * rows * 28).map(|_| rng.uniform()).collect();
    let images = Tensor::from_slice(&pixels, [batch, rows, 28], &DEVICE)?;
    let labels = Tensor::new(numbers(&mut rng, batch, 10), &DEVICE)?;
    let optimizer = Sgd::new(0.1).momentum(0.9).over([&net])?;
    let step = in_way(way, [images, labels], optimizer, |[images, labels], optimizer| {
        let x = Tape::new().constant(images.clone());
        let last = net.lstm.forward(&x, None)?.1.h.select(0, -1)?;
        let loss = net.out.forward(&last)?.cross_entropy(labels)?;
        optimizer.zero_grad();
        loss.backward()?;
        clip_grad_norm_async(&net, 1.0, 2.0)?;
        optimizer.step()?;
        Ok([loss.into_tensor()])
    })?;
    let what = format!("MNIST: LSTM 28→{hidden}, 2 layers, B{batch} T{rows}, f32, SGD");
    Ok(timer.wall_time(Key::new("training", contender, what).samples(batch as u64), step))
}

fn tagger(timer: &mut Timer<'_>, (contender, way): (&'static str, Way), smoke: bool) -> gatefold::Result<Result<()>> {
    let (batch, words, vocabulary, features, hidden, tags) =
        if smoke { (2, 3, 7, 4, 4, 3) } else { (32, 64, 10_000, 128, 256, 40) };
    let mut rng = Philox::seed(2);
    let embedding = Embedding::new(vocabulary, features).init(&DEVICE, &mut rng)?;
    let net = Net {
        lstm: Lstm::new(features, hidden).num_layers(2).bidirectional(true).init(&DEVICE, &mut rng)?,
        out: Linear::new(2 * hidden, tags).init(&DEVICE, &mut rng)?,
    };
    let text = numbers(&mut rng, batch * words, vocabulary as u64);
    let text = Tensor::from_slice(&text, [words, batch], &DEVICE)?;
    let targets = Tensor::new(numbers(&mut rng, batch * words, tags as u64), &DEVICE)?;
    let optimizer = Adam::new(1e-3).over([&embedding as &dyn Module, &net])?;
    let step = in_way(way, [text, targets], optimizer, |[text, targets], optimizer| {
        let (states, _last) = net.lstm.forward(&embedding.forward(&Tape::new(), text)?, None)?;
        let loss = net.out.forward(&states)?.reshape([-1, tags as isize])?.cross_entropy(targets)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        Ok([loss.into_tensor()])
    })?;
    let what = format!(
        "tagger: embedding {vocabulary}→{features}, bidirectional LSTM →{hidden}, 2 layers, B{batch} T{words}, f32, Adam"
    );
    Ok(timer.wall_time(Key::new("training", contender, what).samples(batch as u64), step))
}
