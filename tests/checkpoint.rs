//! Checkpoints: a run that is killed and goes on is the run that was not; what is damaged is refused.

#[path = "common/skipped.rs"]
mod skipped;

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gatefold::{
    Device, Error, Philox, Result, Tape, Tensor,
    data::Batches,
    nn::{Dropout, Linear, Lstm, Module, StateDict},
    optim::{Adam, Mode, OneCycleLr, Optim, Optimizer, Schedule, Sgd},
    train::{Checkpoint, Checkpoints, EarlyStopping, Mean},
};

use skipped::skipped;

struct Model {
    lstm: Lstm,
    dropout: Dropout,
    out: Linear,
}

impl Module for Model {
    fn children(&self) -> Vec<(&str, &dyn Module)> {
        vec![("lstm", &self.lstm), ("dropout", &self.dropout), ("out", &self.out)]
    }
}

fn model(rng: &mut Philox) -> Result<Model> {
    Ok(Model {
        lstm: Lstm::new(3, 8).num_layers(2).dropout(0.5).init(&Device::Cpu, rng)?,
        dropout: Dropout::new(0.25).init(&Device::Cpu, rng)?,
        out: Linear::new(8, 1).init(&Device::Cpu, rng)?,
    })
}

const EPOCHS: u64 = 6;
const SAMPLES: usize = 40;
const BATCH: usize = 4;

/// A run with everything that a checkpoint has to keep: two kinds of dropout, a schedule of rate and momentum, moments, numbers
/// drawn from the run's own generator, sums over an epoch. It saves after each batch, and goes on from what is in the folder.
fn train(folder: &Path) -> Result<()> {
    let mut rng = Philox::seed(1);
    let model = model(&mut rng)?;
    let mut optimizer = Adam::new(1e-2).over([&model])?;
    let steps = EPOCHS * SAMPLES.div_ceil(BATCH) as u64;
    let mut schedule = OneCycleLr::new(0.05, steps).over(&mut optimizer)?;
    let mut stopping = EarlyStopping::new(Mode::Min, 100)?;
    let (mut epoch, mut batch, mut mean) = (0, 0, Mean::new());
    let mut checkpoints = Checkpoints::new(folder)?.keep_last(2);
    if let Some(latest) = checkpoints.latest()? {
        assert!(latest.refused.is_empty(), "{:?}", latest.refused);
        let checkpoint = latest.checkpoint;
        checkpoint.restore(&model, &mut optimizer)?;
        schedule.load_state(checkpoint.state("schedule")?, &mut optimizer)?;
        stopping.load_state(checkpoint.state("stopping")?)?;
        mean = Mean::from_state((checkpoint.number("sum")?, checkpoint.number("count")? as u64));
        (rng, epoch, batch) = (checkpoint.rng, checkpoint.epoch, checkpoint.batch);
    }
    let now = |epoch,
               batch,
               mean: &Mean,
               stopping: &EarlyStopping,
               schedule: &Schedule<_>,
               optimizer: &Optimizer<_>,
               rng: &_| {
        let (sum, count) = mean.state();
        Checkpoint::new(&model, optimizer, rng)
            .at(epoch, batch)
            .with_state("schedule", schedule.state())
            .with_state("stopping", stopping.state())
            .with_number("sum", sum)
            .with_number("count", count as f64)
    };
    while epoch < EPOCHS {
        for samples in Batches::new(SAMPLES, BATCH)?.shuffle(&mut rng.fork(epoch)).skip(batch as usize) {
            // Noise on the samples comes from the run's generator, the samples from their numbers.
            let x: Vec<f32> = (0..5 * samples.len() * 3)
                .map(|i| (samples[i / 3 % samples.len()] as f32 * 0.1 + i as f32).sin() + 0.1 * rng.uniform())
                .collect();
            let tape = Tape::new();
            let x = tape.constant(Tensor::from_slice(&x, [5, samples.len(), 3], &Device::Cpu)?);
            let (_, last) = model.lstm.forward(&x, None)?;
            let scores = model.out.forward(&model.dropout.forward(&last.h.select(0, -1)?)?)?;
            let target: Vec<[f32; 1]> = samples.iter().map(|&i| [(i % 7) as f32 / 7.0]).collect();
            let loss = scores.mse_loss(&Tensor::new(target, &Device::Cpu)?)?;
            optimizer.zero_grad();
            loss.backward()?;
            optimizer.step()?;
            schedule.step(&mut optimizer)?;
            mean.add(loss.item()?, samples.len());
            batch += 1;
            checkpoints.save(&now(epoch, batch, &mean, &stopping, &schedule, &optimizer, &rng))?;
        }
        stopping.step(mean.value());
        checkpoints.save_best(
            &now(epoch, batch, &mean, &stopping, &schedule, &optimizer, &rng),
            mean.value(),
            Mode::Min,
        )?;
        (epoch, batch, mean) = (epoch + 1, 0, Mean::new());
        checkpoints.save(&now(epoch, batch, &mean, &stopping, &schedule, &optimizer, &rng))?;
    }
    Ok(())
}

const FOLDER: &str = "GATEFOLD_TEST_CHECKPOINT_FOLDER";

/// Not a test of its own: what the one below kills.
#[test]
#[ignore = "the child of killed_at_any_moment"]
fn child() {
    train(Path::new(&env::var_os(FOLDER).expect("the folder"))).unwrap();
}

fn spawn(folder: &Path) -> std::process::Child {
    Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Everything in a checkpoint, to the bit.
fn everything(checkpoint: &Checkpoint) -> String {
    let tensors = |dict: &StateDict| {
        let mut all: Vec<String> = dict
            .iter()
            .map(|(name, tensor)| {
                let bits: Vec<u64> = tensor.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect();
                format!("{name} {bits:?}")
            })
            .collect();
        all.sort();
        all.join("\n")
    };
    let states: Vec<String> = checkpoint
        .states
        .iter()
        .map(|(name, state)| format!("{name} {} {}", state.kind, tensors(&state.to_state_dict().unwrap())))
        .collect();
    let mut generators = checkpoint.generators.clone();
    generators.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (epoch, batch, rng, numbers) = (checkpoint.epoch, checkpoint.batch, &checkpoint.rng, &checkpoint.numbers);
    format!("{epoch} {batch} {rng:?} {numbers:?} {generators:?}\n{}\n{}", tensors(&checkpoint.model), states.join("\n"))
}

#[test]
fn killed_at_any_moment() {
    let whole = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let output = spawn(whole.path()).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let time = start.elapsed();

    let seed = start.elapsed().as_nanos() as u64;
    let mut rng = Philox::seed(seed);
    // Until a kill has met a file that was being written, which few do; each run is killed where it happens to be.
    let runs = 5;
    for _ in 0..runs {
        let (kills, halves) = killed_and_resumed(whole.path(), time, &mut rng);
        println!("killed {kills} times, {halves} of them while a file was being written; seed {seed}");
        assert!(kills >= 3, "{kills} kills, seed {seed}");
        if halves > 0 {
            return;
        }
    }
    skipped(&format!("no kill of {runs} runs met a file that was being written, seed {seed}"));
}

/// Kills a run at moments drawn within a quarter of the time that it takes, lets it go on, and compares its end with the whole run's. How many
/// kills there were, and how many of them left a file half written.
fn killed_and_resumed(whole: &Path, time: Duration, rng: &mut Philox) -> (u32, usize) {
    let killed = tempfile::tempdir().unwrap();
    let (mut kills, mut halves) = (0, 0);
    for round in 0.. {
        let mut child = spawn(killed.path());
        if round < 30 {
            thread::sleep(Duration::from_nanos(rng.below(time.as_nanos() as u64 / 4)));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let names = fs::read_dir(killed.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        halves += names.filter(|name| name.ends_with(".tmp")).count();
        match output.status.code() {
            None => kills += 1,
            Some(0) => break,
            Some(_) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    let [a, b] = [whole, killed.path()].map(|folder| Checkpoints::new(folder).unwrap());
    let [x, y] = [&a, &b].map(|folder| folder.latest().unwrap().unwrap().checkpoint);
    assert_eq!((x.epoch, x.batch), (EPOCHS, 0));
    assert!(everything(&x) == everything(&y), "{}\n\n{}", everything(&x), everything(&y));
    assert!(everything(&a.best().unwrap().unwrap()) == everything(&b.best().unwrap().unwrap()));
    // Nothing half written. A kill behind the last file and before its oldest one's removal leaves one more, until the next is saved:
    // two and the best.
    let names = || fs::read_dir(killed.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(names().all(|name| !name.ends_with(".tmp")) && names().count() <= 4, "{:?}", names().collect::<Vec<_>>());
    b.keep_last(2).save(&y).unwrap();
    assert_eq!(names().count(), 3, "{:?}", names().collect::<Vec<_>>());
    (kills, halves)
}

fn small() -> (Linear, Optimizer<Adam>, Philox) {
    let mut rng = Philox::seed(3);
    let model = Linear::new(2, 1).init(&Device::Cpu, &mut rng).unwrap();
    let mut optimizer = Adam::new(0.1).over([&model]).unwrap();
    let x = Tape::new().constant(Tensor::new([[1f32, 2.0]], &Device::Cpu).unwrap());
    model.forward(&x).unwrap().sum().unwrap().backward().unwrap();
    optimizer.step().unwrap();
    (model, optimizer, rng)
}

fn refused(path: &Path) -> String {
    match Checkpoint::load(path) {
        Err(Error::File { path: named, reason, .. }) => {
            assert_eq!(named, path);
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, optimizer, rng) = small();
    let checkpoints = Checkpoints::new(folder.path()).unwrap();
    checkpoints.save(&Checkpoint::new(&model, &optimizer, &rng).at(0, 9)).unwrap();
    let path = checkpoints.save(&Checkpoint::new(&model, &optimizer, &rng).at(0, 10)).unwrap();
    let bytes = fs::read(&path).unwrap();
    for len in 0..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(!refused(&path).is_empty());
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        assert!(!refused(&path).is_empty());
    }
    fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(refused(&path).contains("damaged"));

    // The one before still loads.
    let latest = checkpoints.latest().unwrap().unwrap();
    assert_eq!((latest.checkpoint.batch, latest.refused.len()), (9, 1));
    fs::write(folder.path().join("checkpoint-0-9.safetensors"), "no").unwrap();
    assert!(matches!(checkpoints.latest(), Err(Error::File { path: named, .. }) if named == path));

    // A state dict is not a checkpoint.
    model.save(&path).unwrap();
    assert!(refused(&path).contains("not a checkpoint"));
    assert!(Checkpoint::load(folder.path()).is_err());
}

#[test]
fn all_of_it_or_nothing_is_restored() {
    let (model, optimizer, rng) = small();
    let checkpoint = Checkpoint::new(&model, &optimizer, &rng);
    let other = Linear::new(2, 1).init(&Device::Cpu, &mut Philox::seed(9)).unwrap();
    let before = other.state_dict();
    let values = |dict: &StateDict| dict.iter().map(|(_, t)| t.to_f64_vec().unwrap()).collect::<Vec<_>>();
    let mut sgd = Sgd::new(0.1).over([&other]).unwrap();
    assert!(matches!(checkpoint.restore(&other, &mut sgd), Err(Error::Argument { .. })));
    assert_eq!(values(&other.state_dict()), values(&before));
    let mut adam = Adam::new(0.5).over([&other]).unwrap();
    checkpoint.restore(&other, &mut adam).unwrap();
    assert_eq!(values(&other.state_dict()), values(&model.state_dict()));
    assert_eq!(Optim::lrs(&adam), [0.1]);
    assert!(matches!(checkpoint.state("schedule"), Err(Error::StateDict { .. })));
    assert!(matches!(checkpoint.number("loss"), Err(Error::StateDict { .. })));
    let slash = checkpoint.with_state("a/b", adam.state());
    assert!(matches!(slash.save("/nowhere/x"), Err(Error::Argument { .. })));
}

#[test]
fn the_last_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".checkpoint-0-1.safetensors.77-0.tmp"), "half").unwrap();
    fs::write(folder.path().join("notes.tmp"), "mine").unwrap();
    let (model, optimizer, rng) = small();
    let mut checkpoints = Checkpoints::new(folder.path()).unwrap().keep_last(2);
    assert!(checkpoints.latest().unwrap().is_none() && checkpoints.best().unwrap().is_none());
    for (batch, metric) in [0.5, f64::NAN, 0.9, 0.7, 0.9].into_iter().enumerate() {
        let checkpoint = Checkpoint::new(&model, &optimizer, &rng).at(9 + batch as u64 / 2, batch as u64 % 2);
        checkpoints.save(&checkpoint).unwrap();
        let better = checkpoints.save_best(&checkpoint, metric, Mode::Max).unwrap();
        assert_eq!(better, batch == 0 || batch == 2);
    }
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["best.safetensors", "checkpoint-10-1.safetensors", "checkpoint-11-0.safetensors", "notes.tmp"]);
    assert_eq!(checkpoints.best().unwrap().unwrap().epoch, 10);
}

/// What is damaged counts for nothing; what else cannot be read is left as it is.
#[test]
fn the_best_is_not_lost_for_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let best = folder.path().join("best.safetensors");
    let (model, optimizer, rng) = small();
    let checkpoint = Checkpoint::new(&model, &optimizer, &rng);
    let save = |metric| Checkpoints::new(folder.path()).unwrap().save_best(&checkpoint, metric, Mode::Max);
    assert!(save(0.9).unwrap() && !save(0.8).unwrap(), "the metric is found in the file");
    let whole = fs::read(&best).unwrap();
    for len in [0, 3, 200, whole.len() - 1] {
        fs::write(&best, &whole[..len]).unwrap();
        assert!(save(0.5).unwrap() && !save(0.4).unwrap());
    }
    model.save(&best).unwrap();
    let other = fs::read(&best).unwrap();
    assert!(
        matches!(save(0.9), Err(Error::File { path, reason, .. }) if path == best && reason.contains("not a checkpoint"))
    );
    assert_eq!(fs::read(&best).unwrap(), other);
    fs::remove_file(&best).unwrap();
    // Once it is known the file is not read again, but one that was removed is made anew.
    let mut checkpoints = Checkpoints::new(folder.path()).unwrap();
    assert!(checkpoints.save_best(&checkpoint, 0.5, Mode::Max).unwrap());
    fs::write(&best, &other).unwrap();
    assert!(!checkpoints.save_best(&checkpoint, 0.4, Mode::Max).unwrap());
    fs::remove_file(&best).unwrap();
    assert!(checkpoints.save_best(&checkpoint, 0.4, Mode::Max).unwrap());
}
