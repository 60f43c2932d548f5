//! sin → cos: from the sine at ten points of a half period an LSTM predicts the cosine there, its state carried from one half
//! period to the next.
//!
//! `cargo run --release --example sine`

use std::f64::consts::PI;

use gatefold::{
    Device, Philox, Result, Tape, Tensor,
    nn::{Linear, Lstm, LstmState},
    optim::Adam,
};

const POINTS: usize = 10;
const STEPS: usize = 300;

fn main() -> Result<()> {
    let device = Device::best();
    let mut rng = Philox::seed(1);
    let lstm = Lstm::new(2, 32).num_layers(2).batch_first(true).init(&device, &mut rng)?;
    let out = Linear::new(32, 1).init(&device, &mut rng)?;
    let mut optimizer = Adam::new(0.02).over([&lstm, &out])?;

    let mut carried: Option<LstmState> = None;
    for step in 0..STEPS {
        let angles = (0..POINTS).map(|i| (step as f64 + i as f64 / (POINTS - 1) as f64) * PI);
        let (sines, cosines): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
        // The sine twice, as two channels.
        let sine = Tensor::new([sines.iter().map(|&s| [s; 2]).collect::<Vec<_>>()], &device)?;
        let cosine = Tensor::from_slice(&cosines, [1, POINTS, 1], &device)?;

        let tape = Tape::new();
        // A new tape for each chunk: the values of the state go on, their history does not.
        let state = carried.map(|state| state.detach_onto(&tape));
        let (states, last) = lstm.forward(&tape.constant(sine), state.as_ref())?;
        let prediction = out.forward(&states)?;
        let loss = prediction.mse_loss(&cosine)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
        carried = Some(last.detach());

        if (step + 1) % 50 == 0 {
            println!("step {:3}  loss {:.6}", step + 1, loss.item()?);
        }
        if step + 1 == STEPS {
            println!("\nsine      cosine    predicted");
            let predictions = prediction.tensor().to_vec::<f32>()?;
            for ((sine, cosine), predicted) in sines.iter().zip(&cosines).zip(predictions) {
                println!("{sine:8.4}  {cosine:8.4}  {predicted:8.4}");
            }
            println!("\nfinal loss {:.6}", loss.item()?);
        }
    }
    Ok(())
}
