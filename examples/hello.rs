//! hello → ohlol: a network learns to say the second word while it reads the first, in three ways.
//!
//! `cargo run --release --example hello`

use gatefold::{
    Device, Philox, Result, Tape, Tensor, Var,
    nn::{Embedding, Linear, Rnn, RnnCell},
    optim::Adam,
};

const LETTERS: [char; 4] = ['e', 'h', 'l', 'o'];
const HELLO: [i64; 5] = [1, 0, 2, 2, 3];
const OHLOL: [i64; 5] = [3, 1, 2, 3, 2];
const EPOCHS: usize = 15;

/// The letters as vectors of 4 `(5, 1, 4)`: one at the letter, else zero.
fn one_hot(device: &Device) -> Result<Tensor> {
    let rows: Vec<_> =
        HELLO.iter().map(|&letter| [[0, 1, 2, 3].map(|i| if i == letter { 1f32 } else { 0.0 })]).collect();
    Tensor::new(rows, device)
}

/// The most likely letter of each row of scores.
fn spell(scores: &Var) -> Result<String> {
    Ok(scores.argmax(-1)?.to_vec::<i64>()?.into_iter().map(|i| LETTERS[i as usize]).collect())
}

fn print(epoch: usize, loss: &Var, scores: &Var) -> Result<()> {
    println!("  epoch {:2}  loss {:.4}  {}", epoch + 1, loss.item()?, spell(scores)?);
    Ok(())
}

/// One step at a time, the hidden state being the scores; the losses of the steps are summed.
fn cell_in_a_loop(device: &Device, rng: &mut Philox) -> Result<String> {
    let cell = RnnCell::new(4, 4).init(device, rng)?;
    let mut optimizer = Adam::new(0.1).over([&cell])?;
    let mut said = String::new();
    for epoch in 0..EPOCHS {
        let tape = Tape::new();
        let x = tape.constant(one_hot(device)?);
        let mut hidden: Option<Var> = None;
        let (mut loss, mut steps) = (tape.constant(Tensor::new(0f32, device)?), Vec::new());
        for (t, &letter) in OHLOL.iter().enumerate() {
            let h = cell.forward(&x.select(0, t as isize)?, hidden.as_ref())?;
            loss = loss.add(&h.cross_entropy(&Tensor::new([letter], device)?)?)?;
            steps.push(h.clone());
            hidden = Some(h);
        }
        let scores = Var::concat(&steps, 0)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        print(epoch, &loss, &scores)?;
        said = spell(&scores)?;
    }
    Ok(said)
}

/// The whole sequence in one call, the outputs viewed as one row of scores to a letter.
fn whole_sequence(device: &Device, rng: &mut Philox) -> Result<String> {
    let rnn = Rnn::new(4, 4).num_layers(1).init(device, rng)?;
    let mut optimizer = Adam::new(0.1).over([&rnn])?;
    let (x, target) = (one_hot(device)?, Tensor::new(OHLOL, device)?);
    let mut said = String::new();
    for epoch in 0..EPOCHS {
        let tape = Tape::new();
        let (outputs, _hidden) = rnn.forward(&tape.constant(x.clone()), None)?;
        let scores = outputs.reshape([-1, 4])?;
        let loss = scores.cross_entropy(&target)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        print(epoch, &loss, &scores)?;
        said = spell(&scores)?;
    }
    Ok(said)
}

/// Letters as numbers, through an embedding, two layers and a linear map to the 4 letters.
fn with_embeddings(device: &Device, rng: &mut Philox) -> Result<String> {
    let embedding = Embedding::new(4, 10).init(device, rng)?;
    let rnn = Rnn::new(10, 8).num_layers(2).batch_first(true).init(device, rng)?;
    let score = Linear::new(8, 4).init(device, rng)?;
    let mut optimizer = Adam::new(0.1).over([&embedding, &rnn, &score])?;
    let (x, target) = (Tensor::new([HELLO], device)?, Tensor::new(OHLOL, device)?);
    let mut said = String::new();
    for epoch in 0..EPOCHS {
        let tape = Tape::new();
        let (outputs, _hidden) = rnn.forward(&embedding.forward(&tape, &x)?, None)?;
        let scores = score.forward(&outputs)?.reshape([-1, 4])?;
        let loss = scores.cross_entropy(&target)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        print(epoch, &loss, &scores)?;
        said = spell(&scores)?;
    }
    Ok(said)
}

fn main() -> Result<()> {
    let device = Device::best();
    let mut rng = Philox::seed(1);
    println!("an RNN cell in a loop");
    let a = cell_in_a_loop(&device, &mut rng)?;
    println!("an RNN over the sequence");
    let b = whole_sequence(&device, &mut rng)?;
    println!("embedding, RNN, linear");
    let c = with_embeddings(&device, &mut rng)?;
    println!("hello → {a}, {b}, {c}");
    Ok(())
}
