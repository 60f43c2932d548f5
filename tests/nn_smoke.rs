use gatefold::nn::*;
use gatefold::*;
#[test]
fn smoke() -> Result<()> {
    let device = Device::Cpu;
    let mut rng = Philox::seed(1);
    let embedding = Embedding::new(9, 6).init(&device, &mut rng)?;
    let lstm = Lstm::new(6, 6).num_layers(2).bidirectional(true).dropout(0.3).init(&device, &mut rng)?;
    let score = Linear::new(12, 3).init(&device, &mut rng)?;
    let tape = Tape::new();
    let words = Tensor::new([1i64, 2, 3, 1], &device)?;
    let (y, _l) = lstm.forward(&embedding.forward(&tape, &words)?, None)?;
    let s = score.forward(&y)?;
    println!("{s:?}\n{}", tape.len());
    s.mul(&s)?.sum()?.backward()?;
    println!("{:?}", lstm.weight_hh(1, 1).unwrap().grad());
    println!("{}", lstm.describe());
    println!("{:?}", lstm.generator_states());
    println!("{lstm} {score} {embedding}");
    Ok(())
}
