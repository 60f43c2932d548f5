//! Optimizers, schedules and clipping: saving, groups, edges, refusals. PyTorch's stored numbers are in
//! `pytorch_parity`.

use gatefold::{DType, Device, Error, HasParameters, Parameter, Philox, Result, Tensor, optim::*};

mod scaler;
mod schedules;
mod threads;

const CPU: Device = Device::Cpu;

fn parameter(values: &[f64]) -> Parameter {
    Parameter::new(Tensor::from_slice(values, values.len(), &CPU).unwrap())
}

fn random(shape: &[usize], dtype: DType, seed: u64) -> Tensor {
    Tensor::uniform(shape, -1.0, 1.0, dtype, &CPU, &mut Philox::seed(seed)).unwrap()
}

fn values(parameter: &Parameter) -> Vec<f64> {
    parameter.value().to_f64_vec().unwrap()
}

/// Asserts that two lists agree: NaN with NaN, infinities with themselves, the rest within `bound`·max(1, |want|).
#[track_caller]
fn close(what: &str, got: &[f64], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = if want.is_finite() {
            (got - want).abs() <= bound * want.abs().max(1.0)
        } else {
            got == want || (got.is_nan() && want.is_nan())
        };
        assert!(same, "{what}[{i}]: got {got}, want {want}");
    }
}

/// Steps with gradients that depend on the step alone.
fn train(optimizer: &mut dyn Optim, parameters: &[Parameter], steps: std::ops::Range<u64>) {
    for step in steps {
        for (i, parameter) in parameters.iter().enumerate() {
            let value = parameter.value();
            parameter.set_grad(Some(random(value.dims(), value.dtype(), 100 * step + i as u64))).unwrap();
        }
        optimizer.step().unwrap();
    }
}

fn resumes<A: Algorithm>(rule: A, make: impl Fn(A, Vec<Parameter>) -> Result<Optimizer<A>>) {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let fresh = || vec![Parameter::new(random(&[3, 5], dtype, 1)), Parameter::new(random(&[7], dtype, 2))];
        let through = fresh();
        let mut optimizer = make(rule.clone(), through.clone()).unwrap();
        optimizer.set_lr(0, 0.0123456789).unwrap();
        train(&mut optimizer, &through, 0..3);
        let file = folder.path().join("state.safetensors");
        optimizer.save(&file).unwrap();
        let copies: Vec<Parameter> = through.iter().map(|p| Parameter::new(p.value())).collect();
        train(&mut optimizer, &through, 3..6);

        let mut resumed = make(rule.clone(), copies.clone()).unwrap();
        resumed.load(&file).unwrap();
        assert_eq!(resumed.lr(), 0.0123456789);
        train(&mut resumed, &copies, 3..6);
        for (a, b) in through.iter().zip(&copies) {
            assert_eq!(values(a), values(b), "{rule:?} {dtype}");
        }
        let (a, b) = (optimizer.state(), resumed.state());
        assert_eq!(a.numbers, b.numbers);
        for (name, tensor) in &a.tensors {
            assert_eq!(tensor.to_f64_vec().unwrap(), b.tensors[name].to_f64_vec().unwrap(), "{name}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn state_resumes_bit_for_bit() {
    resumes(Sgd::new(0.1), |r, p| r.over_parameters(p));
    resumes(Sgd::new(0.1).momentum(0.9).dampening(0.3).weight_decay(0.01), |r, p| r.over_parameters(p));
    resumes(Sgd::new(0.1).momentum(0.9).nesterov(true), |r, p| r.over_parameters(p));
    resumes(Adam::new(0.1).weight_decay(0.1), |r, p| r.over_parameters(p));
    resumes(AdamW::new(0.1).amsgrad(true), |r, p| r.over_parameters(p));
    resumes(RmsProp::new(0.01), |r, p| r.over_parameters(p));
    resumes(RmsProp::new(0.01).centered(true).momentum(0.5), |r, p| r.over_parameters(p));
    resumes(Adagrad::new(0.1).lr_decay(0.1).initial_accumulator_value(0.2), |r, p| r.over_parameters(p));
}

#[test]
fn schedules_resume() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let w = parameter(&[0.0]);
    let new = || Sgd::new(0.1).momentum(0.9).over([&w]);
    let rate = || OneCycleLr::new(0.5, 20);
    let mut optimizer = new()?;
    let mut schedule = rate().over(&mut optimizer)?;
    for _ in 0..7 {
        schedule.step(&mut optimizer)?;
    }
    let file = folder.path().join("schedule");
    schedule.state().save(&file)?;
    let mut other = new()?;
    let mut resumed = rate().over(&mut other)?;
    resumed.load_state(&State::load(&file)?, &mut other)?;
    assert_eq!(resumed.steps(), 7);
    for _ in 7..20 {
        assert_eq!((optimizer.lrs(), optimizer.momenta()), (other.lrs(), other.momenta()));
        schedule.step(&mut optimizer)?;
        resumed.step(&mut other)?;
    }
    assert!(matches!(schedule.step(&mut optimizer), Err(Error::Argument { .. })), "a 21st step");
    let foreign = StepLr::new(1, 0.5).over(&mut other)?.state();
    assert!(matches!(resumed.load_state(&foreign, &mut other), Err(Error::Argument { .. })));
    let empty = State::new("OneCycleLR");
    assert!(matches!(resumed.load_state(&empty, &mut other), Err(Error::StateDict { .. })));

    let mut plateau = ReduceLrOnPlateau::new().patience(1).over(&mut other)?;
    plateau.step(1.0, &mut other)?;
    plateau.step(2.0, &mut other)?;
    plateau.state().save(&file)?;
    let mut again = ReduceLrOnPlateau::new().patience(1);
    again.load_state(&State::load(&file)?)?;
    assert_eq!(again.best(), Some(1.0));
    let before = other.lr();
    again.step(2.0, &mut other)?;
    assert_eq!(other.lr(), before * 0.1);
    assert!(again.load_state(&foreign).is_err());
    Ok(())
}

#[test]
fn groups_have_their_own_settings() -> Result<()> {
    let (a, b) = (parameter(&[1.0]), parameter(&[1.0]));
    let mut optimizer = Sgd::new(0.5).over([&a])?;
    optimizer.add_group([b.clone()], |options| options.lr(0.25).weight_decay(1.0))?;
    assert_eq!((optimizer.lrs(), optimizer.groups()), (vec![0.5, 0.25], 2));
    assert!(format!("{:?}", optimizer.options(1)).contains("weight_decay: 1.0"));
    assert!(optimizer.options(2).is_none());
    a.set_grad(Some(Tensor::new([1.0f64], &CPU)?))?;
    b.set_grad(Some(Tensor::new([1.0f64], &CPU)?))?;
    optimizer.step()?;
    assert_eq!((values(&a), values(&b)), (vec![0.5], vec![0.5]));

    let mut schedule = ExponentialLr::new(0.5).over(&mut optimizer)?;
    schedule.step(&mut optimizer)?;
    assert_eq!(optimizer.lrs(), [0.25, 0.125]);
    let cycle = OneCycleLr::new(1.0, 10).max_lrs([1.0, 2.0]).cycle_momentum(false);
    cycle.over(&mut optimizer)?;
    close("first rates", &optimizer.lrs(), &[0.04, 0.08], 1e-15);

    let c = parameter(&[1.0]);
    optimizer.add_group([c], |options| options)?;
    assert!(matches!(schedule.step(&mut optimizer), Err(Error::Argument { .. })), "a group more");
    Ok(())
}

#[test]
fn parameters_without_gradient_stay() -> Result<()> {
    let (a, b) = (parameter(&[1.0]), parameter(&[1.0]));
    let mut optimizer = Adam::new(0.1).weight_decay(0.5).over([&a, &b])?;
    a.set_grad(Some(Tensor::new([1.0f64], &CPU)?))?;
    optimizer.step()?;
    assert!(values(&a)[0] < 1.0);
    assert_eq!(values(&b), [1.0]);
    assert!(!optimizer.state().numbers.contains_key("state.1.step"));
    optimizer.zero_grad();
    assert!(a.grad().is_none());
    let before = values(&a);
    optimizer.step()?;
    assert_eq!(values(&a), before);
    Ok(())
}

#[test]
fn a_clone_of_the_value_does_not_change() -> Result<()> {
    let a = parameter(&[1.0, 2.0]);
    let before = a.value();
    a.set_grad(Some(Tensor::ones(2, DType::F64, &CPU)?))?;
    Sgd::new(0.5).over([&a])?.step()?;
    assert_eq!((before.to_vec::<f64>()?, values(&a)), (vec![1.0, 2.0], vec![0.5, 1.5]));
    Ok(())
}

/// A module that shares a parameter with another counts it once; a list must not repeat one.
#[test]
fn shared_parameters() -> Result<()> {
    let (a, b) = (parameter(&[1.0]), parameter(&[2.0]));
    let tied = vec![a.clone(), b.clone()];
    assert_eq!(Sgd::new(0.1).over([&a, &tied])?.parameters().len(), 2);
    let refused = Sgd::new(0.1).over_parameters([a.clone(), b.clone(), a.clone()]);
    assert!(matches!(refused, Err(Error::Argument { .. })));
    let mut optimizer = Sgd::new(0.1).over([&a])?;
    assert!(matches!(optimizer.add_group([b, a], |o| o), Err(Error::Argument { .. })));
    assert_eq!(optimizer.groups(), 1);
    Ok(())
}

#[test]
fn settings_out_of_range_are_errors() {
    let w = || parameter(&[1.0]);
    fn refused<A: Algorithm>(optimizer: Result<Optimizer<A>>) {
        assert!(matches!(&optimizer, Err(Error::Argument { .. })), "{optimizer:?}");
    }
    for bad in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(Sgd::new(bad).over([&w()]));
        refused(Sgd::new(0.1).momentum(bad).over([&w()]));
        refused(Sgd::new(0.1).weight_decay(bad).over([&w()]));
        refused(Adam::new(bad).over([&w()]));
        refused(Adam::new(0.1).eps(bad).over([&w()]));
        refused(AdamW::new(0.1).weight_decay(bad).over([&w()]));
        refused(RmsProp::new(bad).over([&w()]));
        refused(RmsProp::new(0.1).alpha(bad).over([&w()]));
        refused(RmsProp::new(0.1).eps(bad).over([&w()]));
        refused(RmsProp::new(0.1).momentum(bad).over([&w()]));
        refused(RmsProp::new(0.1).weight_decay(bad).over([&w()]));
        refused(Adagrad::new(bad).over([&w()]));
        refused(Adagrad::new(0.1).lr_decay(bad).over([&w()]));
        refused(Adagrad::new(0.1).initial_accumulator_value(bad).over([&w()]));
        refused(Adagrad::new(0.1).eps(bad).over([&w()]));
        for betas in [(bad, 0.9), (0.9, bad), (1.0, 0.9), (0.9, 1.0)] {
            refused(Adam::new(0.1).betas(betas.0, betas.1).over([&w()]));
        }
    }
    refused(Sgd::new(0.1).dampening(f64::NAN).over([&w()]));
    refused(Sgd::new(0.1).nesterov(true).over([&w()]));
    refused(Sgd::new(0.1).momentum(0.9).dampening(0.1).nesterov(true).over([&w()]));
    refused(Sgd::new(0.1).over([]));
    refused(Sgd::new(0.1).over_parameters([]));
    let integers = Parameter::new(Tensor::new([1i64], &CPU).unwrap());
    assert!(matches!(Sgd::new(0.1).over([&integers]), Err(Error::DType { .. })));

    let mut optimizer = Sgd::new(0.1).momentum(0.9).nesterov(true).over([&w()]).unwrap();
    assert!(optimizer.set_lr(0, f64::NAN).is_err() && optimizer.set_lr(1, 0.1).is_err());
    assert!(optimizer.set_lrs(&[0.1, 0.1]).is_err() && optimizer.set_momentum(0.0).is_err());
    assert!(optimizer.add_group([w()], |o| o.lr(-1.0)).is_err());
    assert_eq!((optimizer.lrs(), optimizer.momenta()), (vec![0.1], Some(vec![0.9])));
}

#[test]
fn schedule_settings_out_of_range_are_errors() {
    let w = parameter(&[1.0]);
    let optimizer = &mut Sgd::new(0.1).over([&w]).unwrap();
    let refused = |error: Option<Error>| assert!(matches!(error, Some(Error::Argument { .. })), "{error:?}");
    refused(StepLr::new(0, 0.1).over(optimizer).err());
    refused(StepLr::new(1, f64::NAN).over(optimizer).err());
    refused(ExponentialLr::new(-1.0).over(optimizer).err());
    refused(CosineAnnealingLr::new(0).over(optimizer).err());
    refused(CosineAnnealingLr::new(5).eta_min(f64::NAN).over(optimizer).err());
    refused(LambdaLr::new(|_| f64::NAN).over(optimizer).err());
    let cycle = || OneCycleLr::new(0.1, 10);
    refused(OneCycleLr::new(f64::NAN, 10).over(optimizer).err());
    refused(OneCycleLr::new(0.1, 0).over(optimizer).err());
    refused(cycle().pct_start(1.5).over(optimizer).err());
    refused(cycle().div_factor(0.0).over(optimizer).err());
    refused(cycle().final_div_factor(f64::NAN).over(optimizer).err());
    refused(cycle().max_lrs([0.1, 0.2]).over(optimizer).err());
    refused(cycle().max_lrs([]).over(optimizer).err());
    refused(cycle().max_momentum(f64::NAN).over(optimizer).err());
    refused(ReduceLrOnPlateau::new().factor(1.0).over(optimizer).err());
    refused(ReduceLrOnPlateau::new().factor(1.0).step(0.0, optimizer).err()); // not started on it
    refused(ReduceLrOnPlateau::new().threshold(f64::NAN).over(optimizer).err());
    refused(ReduceLrOnPlateau::new().min_lr(-1.0).over(optimizer).err());
    refused(ReduceLrOnPlateau::new().eps(f64::NAN).over(optimizer).err());
    refused(cycle().over(&mut Adagrad::new(0.1).over([&w]).unwrap()).err());
    let mut adam = Adam::new(0.1).over([&w]).unwrap();
    cycle().over(&mut adam).unwrap();
    assert_eq!(adam.momenta(), Some(vec![0.95]));
    assert_eq!(optimizer.lrs(), [0.1]);
    // Phases of no length divide nothing by zero.
    for part in [0.0, 0.1, 1.0] {
        let optimizer = &mut Sgd::new(0.1).momentum(0.9).over([&w]).unwrap();
        let mut schedule = OneCycleLr::new(0.1, 10).pct_start(part).over(optimizer).unwrap();
        (0..9).for_each(|_| schedule.step(optimizer).unwrap());
    }
}

#[test]
fn states_that_do_not_fit_are_errors() -> Result<()> {
    let (a, b) = (parameter(&[1.0, 2.0]), parameter(&[1.0]));
    let mut optimizer = Adam::new(0.1).over([&a, &b])?;
    train(&mut optimizer, &[a.clone(), b.clone()], 0..2);
    let state = optimizer.state();

    assert!(matches!(AdamW::new(0.1).over([&a, &b])?.load_state(&state), Err(Error::Argument { .. })));
    let mut swapped = Adam::new(0.3).over([&b, &a])?;
    let error = swapped.load_state(&state).unwrap_err();
    assert!(matches!(&error, Error::StateDict { misshaped, .. } if misshaped.len() == 4), "{error}");
    assert!(swapped.lr() == 0.3 && swapped.state().tensors.is_empty(), "nothing was loaded");
    let error = Adam::new(0.1).over([&a])?.load_state(&state).unwrap_err();
    assert!(matches!(&error, Error::StateDict { unexpected, .. } if !unexpected.is_empty()), "{error}");
    let mut partial = state.clone();
    partial.tensors.remove("state.0.exp_avg");
    partial.numbers.remove("group.0.eps");
    let error = Adam::new(0.1).over([&a, &b])?.load_state(&partial).unwrap_err();
    let missing = ["group.0.eps".to_string(), "state.0.exp_avg".to_string()];
    assert!(matches!(&error, Error::StateDict { missing: m, .. } if *m == missing), "{error}");
    for steps in [-1.0, 0.5, f64::NAN, 1e300] {
        let mut wrong = state.clone();
        wrong.numbers.insert("state.0.step".into(), steps);
        let error = Adam::new(0.1).over([&a, &b])?.load_state(&wrong).unwrap_err();
        assert!(matches!(&error, Error::StateDict { misshaped, .. } if misshaped.len() == 1), "{error}");
        let schedule = &mut ExponentialLr::new(0.5).over(&mut optimizer)?;
        let mut wrong = schedule.state();
        wrong.numbers.insert("step".into(), steps);
        assert!(matches!(schedule.load_state(&wrong, &mut optimizer), Err(Error::StateDict { .. })));
    }
    let mut wrong = state.clone();
    wrong.numbers.insert("group.0.lr".into(), f64::NAN);
    assert!(matches!(Adam::new(0.1).over([&a, &b])?.load_state(&wrong), Err(Error::Argument { .. })));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    assert!(matches!(State::load(&file), Err(Error::File { .. })), "no such file");
    assert!(matches!(state.save(folder.path().join("none/state")), Err(Error::File { .. })), "no such folder");
    state.save(&file)?;
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 4, 100, whole.len() - 1] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        assert!(matches!(State::load(&file), Err(Error::File { .. })), "cut at {cut}");
    }
    let foreign =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/optimizers/sgd_f64.safetensors");
    assert!(matches!(State::load(foreign), Err(Error::File { .. })), "another kind of file");
    Ok(())
}

#[test]
fn numbers_survive_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let mut state = State::new("Anything");
    let all = [0.1, f64::INFINITY, -0.0, f64::MIN_POSITIVE / 8.0, 1e300];
    for (i, value) in all.iter().enumerate() {
        state.numbers.insert(format!("{i}"), *value);
    }
    state.tensors.insert("half".into(), random(&[3], DType::BF16, 1));
    state.tensors.insert("empty".into(), random(&[0, 3], DType::F32, 1));
    state.save(&file)?;
    let loaded = State::load(&file)?;
    assert_eq!(loaded.kind, "Anything");
    let bits = |state: &State| state.numbers.values().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&loaded), bits(&state));
    assert_eq!(loaded.tensors["half"].to_f64_vec()?, state.tensors["half"].to_f64_vec()?);
    assert_eq!(loaded.tensors["empty"].dims(), [0, 3]);
    Ok(())
}

/// A learning rate set to 0 momentum and back, as cycles do: the buffer is made when it is first needed.
#[test]
fn momentum_that_begins_late() -> Result<()> {
    let w = parameter(&[1.0]);
    let mut optimizer = Sgd::new(0.5).dampening(0.5).over([&w])?;
    train(&mut optimizer, std::slice::from_ref(&w), 0..1);
    optimizer.set_momentum(0.9)?;
    let state = optimizer.state();
    optimizer.load_state(&state)?;
    let before = values(&w)[0];
    w.set_grad(Some(Tensor::new([1.0f64], &CPU)?))?;
    optimizer.step()?;
    assert_eq!(values(&w)[0], before - 0.5, "the buffer starts as the gradient, without dampening");
    Ok(())
}

#[test]
fn halves_follow_f64() -> Result<()> {
    for (dtype, bound) in [(DType::F32, 1e-5), (DType::F16, 5e-3), (DType::BF16, 5e-2)] {
        let start = random(&[1000], DType::BF16, 1);
        let exact = Parameter::new(start.to_dtype(DType::F64)?);
        let short = Parameter::new(start.to_dtype(dtype)?);
        let mut a = AdamW::new(0.01).over([&exact])?;
        let mut b = AdamW::new(0.01).over([&short])?;
        for step in 0..10 {
            let gradient = random(&[1000], DType::BF16, 50 + step);
            exact.set_grad(Some(gradient.to_dtype(DType::F64)?))?;
            short.set_grad(Some(gradient.to_dtype(dtype)?))?;
            a.step()?;
            b.step()?;
        }
        close("halves", &values(&short), &values(&exact), bound);
        assert_eq!(b.state().tensors["state.0.exp_avg"].dtype(), DType::F32);
    }
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let w = Parameter::new(random(&[300_001], DType::F32, 1));
            let mut optimizer = Adam::new(0.01).amsgrad(true).over([&w]).unwrap();
            train(&mut optimizer, std::slice::from_ref(&w), 0..2);
            let norm = clip_grad_norm(&w, 0.5, 2.0).unwrap();
            (w.value().to_vec::<f32>().unwrap(), w.grad().unwrap().to_vec::<f32>().unwrap(), norm.to_bits())
        })
    };
    assert!(run(1) == run(5));
}

/// A large parameter is split among threads: every element of it moves as a small one does.
#[test]
fn large_parameters() -> Result<()> {
    let len = 200_003;
    let large = Parameter::new(random(&[len], DType::F64, 1));
    let small: Vec<Parameter> = large.value().to_vec::<f64>()?.chunks(1000).map(parameter).collect();
    let gradient = random(&[len], DType::F64, 2);
    large.set_grad(Some(gradient.clone()))?;
    for (part, gradient) in small.iter().zip(gradient.to_vec::<f64>()?.chunks(1000)) {
        part.set_grad(Some(Tensor::from_slice(gradient, gradient.len(), &CPU)?))?;
    }
    RmsProp::new(0.1).centered(true).momentum(0.9).over([&large])?.step()?;
    RmsProp::new(0.1).centered(true).momentum(0.9).over_parameters(small.clone())?.step()?;
    assert!(values(&large) == small.iter().flat_map(values).collect::<Vec<_>>());
    Ok(())
}

/// Many parameters move together as each moves alone, however tasks divide them.
#[test]
fn many_parameters() -> Result<()> {
    let lengths = [1, 0, 300, 65_535, 65_537, 0, 7, 140_000, 3];
    let dtypes = [DType::F64, DType::F32, DType::F16, DType::BF16];
    let make = || -> Vec<Parameter> {
        let parameter = |i: usize| Parameter::new(random(&[lengths[i]], dtypes[i % 4], i as u64));
        (0..lengths.len()).map(parameter).collect()
    };
    fn compare<A: Algorithm>(
        rule: A,
        together: Vec<Parameter>,
        alone: Vec<Parameter>,
        over: impl Fn(A, Vec<Parameter>) -> Result<Optimizer<A>>,
    ) -> Result<()> {
        let mut optimizer = over(rule.clone(), together.clone())?;
        let mut optimizers = alone.iter().map(|p| over(rule.clone(), vec![p.clone()])).collect::<Result<Vec<_>>>()?;
        for step in 0..3 {
            for (i, (a, b)) in together.iter().zip(&alone).enumerate() {
                // Some miss a step, and so are at another number of them.
                let gradient = (step != 1 || i % 3 > 0)
                    .then(|| random(a.value().dims(), a.value().dtype(), 100 * step + i as u64));
                a.set_grad(gradient.clone())?;
                b.set_grad(gradient)?;
            }
            optimizer.step()?;
            optimizers.iter_mut().try_for_each(Optimizer::step)?;
        }
        for (i, (a, b)) in together.iter().zip(&alone).enumerate() {
            assert!(values(a) == values(b), "{rule:?}: parameter {i}");
        }
        Ok(())
    }
    compare(Sgd::new(0.1).momentum(0.9).dampening(0.1), make(), make(), |r, p| r.over_parameters(p))?;
    compare(AdamW::new(0.1).amsgrad(true), make(), make(), |r, p| r.over_parameters(p))?;
    compare(RmsProp::new(0.1).centered(true).momentum(0.9), make(), make(), |r, p| r.over_parameters(p))?;
    compare(Adagrad::new(0.1), make(), make(), |r, p| r.over_parameters(p))
}

/// Two threads that lock the same parameters in different orders do not wait for each other.
#[test]
fn optimizers_of_two_threads() {
    let (a, b) = (parameter(&[1.0; 100]), parameter(&[1.0; 100]));
    let run = |parameters: [Parameter; 2]| {
        let mut optimizer = Sgd::new(1e-3).over([&parameters]).unwrap();
        for _ in 0..2000 {
            for parameter in &parameters {
                parameter.set_grad(Some(Tensor::ones(100, DType::F64, &CPU).unwrap())).unwrap();
            }
            clip_grad_norm(&parameters, 1e9, 2.0).unwrap();
            optimizer.step().unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run([a.clone(), b.clone()]));
        scope.spawn(|| run([b.clone(), a.clone()]));
    });
    close("moved", &values(&a), &[1.0 - 4.0; 100], 1e-9);
    assert_eq!(values(&a), values(&b));
}

#[test]
fn clipping() -> Result<()> {
    let (a, b, c) = (parameter(&[0.0; 2]), parameter(&[0.0]), parameter(&[0.0]));
    let all = vec![a.clone(), b.clone(), c.clone(), a.clone()];
    let grads = |x: [f64; 2], y: f64| -> Result<()> {
        a.set_grad(Some(Tensor::new(x, &CPU)?))?;
        b.set_grad(Some(Tensor::new([y], &CPU)?))
    };
    let read = || [a.grad(), b.grad()].map(|g| g.unwrap().to_vec::<f64>().unwrap()).concat();
    assert_eq!(clip_grad_norm(&c, 1.0, 2.0)?, 0.0, "no gradients");

    // As if they were one vector; c has no gradient, and a counts once.
    grads([2.0, -3.0], 6.0)?;
    assert_eq!(clip_grad_norm(&all, 10.0, 2.0)?, 7.0);
    assert_eq!(read(), [2.0, -3.0, 6.0]);
    assert_eq!(clip_grad_norm(&all, 3.5, 2.0)?, 7.0);
    close("2-norm", &read(), &[2.0, -3.0, 6.0].map(|g| g * 3.5 / (7.0 + 1e-6)), 1e-15);
    grads([2.0, -3.0], 6.0)?;
    assert_eq!(clip_grad_norm(&all, 3.0, f64::INFINITY)?, 6.0);
    close("greatest", &read(), &[2.0, -3.0, 6.0].map(|g| g * 3.0 / (6.0 + 1e-6)), 1e-15);
    grads([2.0, -3.0], 6.0)?;
    assert_eq!(clip_grad_norm(&all, 100.0, 1.0)?, 11.0);
    let cubes = (8.0f64 + 27.0 + 216.0).cbrt();
    assert!((clip_grad_norm(&all, 100.0, 3.0)? - cubes).abs() < 1e-12);

    for bad in [f64::NAN, f64::INFINITY] {
        for norm_type in [2.0, f64::INFINITY] {
            grads([bad, -3.0], 6.0)?;
            let refused = clip_grad_norm_finite(&all, 1.0, norm_type);
            assert!(matches!(refused, Err(Error::Argument { .. })));
            assert_eq!(read()[1..], [-3.0, 6.0], "left alone");
            assert!(!clip_grad_norm(&all, 1.0, norm_type)?.is_finite());
        }
    }
    for bad in [-1.0, f64::NAN] {
        assert!(matches!(clip_grad_norm(&all, bad, 2.0), Err(Error::Argument { .. })));
        assert!(matches!(clip_grad_norm(&all, 1.0, bad), Err(Error::Argument { .. })));
        assert!(matches!(clip_grad_value(&all, bad), Err(Error::Argument { .. })));
    }
    assert!(clip_grad_norm(&all, 1.0, 0.0).is_err());

    grads([2.0, -3.0], f64::NAN)?;
    clip_grad_value(&all, 2.5)?;
    assert_eq!(read()[..2], [2.0, -2.5]);
    assert!(read()[2].is_nan());
    Ok(())
}

/// The norm that is not waited for: the same numbers, PyTorch's formula, and edges.
#[test]
fn clipping_without_waiting() -> Result<()> {
    let clipped = |gradients: [&[f64]; 2], max_norm: f64, norm_type: f64| -> Result<(f64, Vec<f64>)> {
        let all = gradients.map(parameter);
        for (parameter, gradient) in all.iter().zip(gradients) {
            parameter.set_grad(Some(Tensor::from_slice(gradient, gradient.len(), &CPU)?))?;
        }
        let norm = clip_grad_norm_async(&all, max_norm, norm_type)?;
        assert_eq!((norm.rank(), norm.dtype()), (0, DType::F64));
        let read = all.iter().flat_map(|p| p.grad().unwrap().to_vec::<f64>().unwrap()).collect();
        Ok((norm.item()?, read))
    };
    for (p, want) in [(1.0, 11.0), (2.0, 7.0), (f64::INFINITY, 6.0)] {
        assert_eq!(clipped([&[2.0, -3.0], &[6.0]], want + 1.0, p)?, (want, vec![2.0, -3.0, 6.0]));
        let (norm, read) = clipped([&[2.0, -3.0], &[6.0]], 1.0, p)?;
        assert_eq!(norm, want);
        close("clipped", &read, &[2.0, -3.0, 6.0].map(|g| g / (want + 1e-6)), 1e-15);
        // As torch.nn.utils.clip_grad_norm_ has them: an infinite norm makes zeros, and NaN of the infinite; NaN all NaN.
        let (norm, read) = clipped([&[f64::NEG_INFINITY, -3.0], &[6.0]], 1.0, p)?;
        assert!(norm == f64::INFINITY && read[0].is_nan() && read[1..] == [0.0, 0.0], "{read:?}");
        let (norm, read) = clipped([&[f64::NAN, -3.0], &[6.0]], 1.0, p)?;
        assert!(norm.is_nan() && read.iter().all(|g| g.is_nan()), "{read:?}");
        let (norm, read) = clipped([&[f64::INFINITY, -3.0], &[6.0]], f64::INFINITY, p)?;
        assert!(norm == f64::INFINITY && read.iter().all(|g| g.is_nan()), "{read:?}");
        assert_eq!(clipped([&[2.0, -3.0], &[6.0]], f64::INFINITY, p)?, (want, vec![2.0, -3.0, 6.0]));
        assert_eq!(clipped([&[], &[]], 1.0, p)?, (0.0, vec![]));
    }
    let none = parameter(&[1.0]);
    assert_eq!(clip_grad_norm_async(&none, 1.0, 2.0)?.item()?, 0.0, "no gradients");
    for bad in [-1.0, f64::NAN] {
        assert!(matches!(clip_grad_norm_async(&none, bad, 2.0), Err(Error::Argument { .. })));
        assert!(matches!(clip_grad_norm_async(&none, 1.0, bad), Err(Error::Argument { .. })));
    }
    let integers = Parameter::new(Tensor::new([1i64], &CPU)?);
    integers.set_grad(Some(Tensor::new([1i64], &CPU)?))?;
    assert!(matches!(clip_grad_norm_async(&integers, 1.0, 2.0), Err(Error::DType { .. })));
    assert!(matches!(clip_grad_value(&integers, 1.0), Err(Error::DType { .. })));
    Ok(())
}

/// Gradients that share memory, with each other or with the caller, are each scaled once, and the caller's stay.
#[test]
fn clipping_what_is_shared() -> Result<()> {
    let gradient = Tensor::new([3.0f64], &CPU)?;
    let all = [parameter(&[0.0]), parameter(&[0.0])];
    all.iter().try_for_each(|p| p.set_grad(Some(gradient.clone())))?;
    let norm = clip_grad_norm_async(&all, 1.0, 1.0)?.item()?;
    assert_eq!((norm, gradient.item()?), (6.0, 3.0));
    for parameter in &all {
        close("scaled once", &parameter.grad().unwrap().to_vec::<f64>()?, &[3.0 / (6.0 + 1e-6)], 1e-15);
    }
    Ok(())
}

/// What half precision cannot hold a norm may be: its sums are in f64.
#[test]
fn norms_of_halves() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let w = Parameter::new(Tensor::zeros(1000, dtype, &CPU)?);
        w.set_grad(Some(Tensor::full(1000, 256.0, dtype, &CPU)?))?;
        for p in [1.0, 2.0, 3.0] {
            close("norm", &[clip_grad_norm(&w, f64::INFINITY, p)?], &[256.0 * 1000f64.powf(1.0 / p)], 1e-12);
        }
    }
    Ok(())
}

/// Parameters of 16 bits with masters move as those of f32 do, and are their rounding.
#[test]
fn master_weights() -> Result<()> {
    fn follows<A: Algorithm>(make: impl Fn(Parameter) -> Result<Optimizer<A>>) -> Result<()> {
        for dtype in [DType::F16, DType::BF16] {
            // More than one task's share.
            let start = random(&[70_001], dtype, 1);
            let (half, full) = (Parameter::new(start.clone()), Parameter::new(start.to_dtype(DType::F32)?));
            let (mut of_half, mut of_full) = (make(half.clone())?, make(full.clone())?);
            for step in 0..4 {
                let gradient = random(&[70_001], dtype, 10 + step);
                full.set_grad(Some(gradient.to_dtype(DType::F32)?))?;
                half.set_grad(Some(gradient))?;
                of_half.step()?;
                of_full.step()?;
            }
            let (want, state) = (full.value(), of_half.state());
            assert_eq!(state.tensors["state.0.master"].to_vec::<f32>()?, want.to_vec::<f32>()?, "{dtype}");
            assert_eq!(values(&half), want.to_dtype(dtype)?.to_f64_vec()?, "{dtype}");
        }
        Ok(())
    }
    follows(|p| Sgd::new(1e-4).master_weights(true).over([&p]))?;
    follows(|p| Sgd::new(1e-4).momentum(0.9).nesterov(true).weight_decay(0.1).master_weights(true).over([&p]))?;
    follows(|p| Adam::new(1e-4).amsgrad(true).master_weights(true).over([&p]))?;
    follows(|p| AdamW::new(1e-4).master_weights(true).over([&p]))?;
    follows(|p| RmsProp::new(1e-5).centered(true).momentum(0.5).master_weights(true).over([&p]))?;
    follows(|p| Adagrad::new(1e-4).master_weights(true).over([&p]))?;

    // Steps below the last bit of bf16 add up.
    let small = |masters: bool| -> Result<f64> {
        let w = Parameter::new(Tensor::ones([1], DType::BF16, &CPU)?);
        let mut optimizer = Sgd::new(1e-4).master_weights(masters).over([&w])?;
        for _ in 0..1000 {
            w.set_grad(Some(Tensor::ones([1], DType::BF16, &CPU)?))?;
            optimizer.step()?;
        }
        w.value().to_f64_vec().map(|v| v[0])
    };
    assert_eq!(small(false)?, 1.0);
    assert!((small(true)? - 0.9).abs() < 0.004, "half a unit of bf16's last place below 1");
    Ok(())
}

/// A parameter that was set by somebody else is what goes on; one that was loaded beside its state keeps the bits below its own.
#[test]
fn masters_follow_their_parameters() -> Result<()> {
    let w = Parameter::new(Tensor::ones([3], DType::BF16, &CPU)?);
    let mut optimizer = Sgd::new(1e-4).master_weights(true).over([&w])?;
    let step = |optimizer: &mut Optimizer<Sgd>| -> Result<Vec<f32>> {
        w.set_grad(Some(Tensor::ones([3], DType::BF16, &CPU)?))?;
        optimizer.step()?;
        optimizer.state().tensors["state.0.master"].to_vec::<f32>()
    };
    step(&mut optimizer)?;
    let (saved, value) = (optimizer.state(), w.value());
    let want = step(&mut optimizer)?;
    w.set_value(Tensor::new([4.0f32, 0.0, -2.0], &CPU)?.to_dtype(DType::BF16)?)?;
    assert_eq!(step(&mut optimizer)?, [4.0 - 1e-4, -1e-4, -2.0 - 1e-4]);
    // In either order.
    for first in [false, true] {
        if first {
            w.set_value(value.clone())?;
        }
        optimizer.load_state(&saved)?;
        w.set_value(value.clone())?;
        assert_eq!(step(&mut optimizer)?, want);
    }
    // A state without masters does not fit.
    let mut without = saved.clone();
    without.tensors.remove("state.0.master");
    let error = optimizer.load_state(&without).unwrap_err();
    assert!(matches!(&error, Error::StateDict { missing, .. } if missing == &["state.0.master"]), "{error}");
    Ok(())
}

/// Skipped steps are not counted, whatever parameters take part in the next; a step that is refused is not either.
#[test]
fn skips_and_refusals_are_not_counted() -> Result<()> {
    let (a, b) = (parameter(&[1.0]), parameter(&[2.0]));
    let mut optimizer = Adam::new(0.1).over([&a, &b])?;
    let steps = |optimizer: &Optimizer<Adam>| {
        [0, 1].map(|i| optimizer.state().numbers.get(&format!("state.{i}.step")).copied().unwrap_or(0.0))
    };
    let flag = |value: f64| Tensor::full((), value, DType::F32, &CPU);
    let gradient = || Some(Tensor::from_slice(&[1.0], 1, &CPU).unwrap());
    a.set_grad(gradient())?;
    b.set_grad(gradient())?;
    optimizer.step_unless(&flag(0.0)?)?;
    optimizer.step_unless(&flag(1.0)?)?;
    assert_eq!(steps(&optimizer), [1.0, 1.0]);
    // B goes by no clock in this one.
    b.zero_grad();
    optimizer.step_unless(&flag(0.0)?)?;
    assert_eq!(steps(&optimizer), [2.0, 1.0]);
    b.set_grad(gradient())?;
    optimizer.step_unless(&flag(1.0)?)?;
    optimizer.step_unless(&flag(0.0)?)?;
    assert_eq!(steps(&optimizer), [3.0, 2.0]);
    assert!(optimizer.step_unless(&Tensor::ones([2], DType::F32, &CPU)?).is_err());
    assert_eq!(steps(&optimizer), [3.0, 2.0]);
    Ok(())
}

/// Steps that the device counts are the steps that the host counts, to the bit.
#[test]
fn steps_by_clocks() -> Result<()> {
    fn same<A: Algorithm>(make: impl Fn([Parameter; 2]) -> Result<Optimizer<A>>) -> Result<()> {
        for dtype in [DType::F64, DType::F32, DType::BF16] {
            let run = |clocks: bool| -> Result<_> {
                let all = [Parameter::new(random(&[5], dtype, 1)), Parameter::new(random(&[3], dtype, 2))];
                let mut optimizer = make(all.clone())?;
                let never = Tensor::zeros((), DType::F32, &CPU)?;
                for step in 0..40 {
                    // One of them takes fewer steps.
                    all[1].set_grad((step % 3 != 1).then(|| random(&[3], dtype, 50 + step)))?;
                    all[0].set_grad(Some(random(&[5], dtype, 100 + step)))?;
                    optimizer.set_lr(0, 0.1 / (1 + step / 10) as f64)?;
                    if clocks && step % 7 != 3 { optimizer.step_unless(&never)? } else { optimizer.step()? }
                }
                let state = optimizer.state();
                let tensors = state.tensors.values().map(Tensor::to_f64_vec).collect::<Result<Vec<_>>>()?;
                Ok((values(&all[0]), values(&all[1]), state.numbers, tensors))
            };
            assert_eq!(run(true)?, run(false)?, "{dtype}");
        }
        Ok(())
    }
    same(|all| Sgd::new(0.1).momentum(0.9).dampening(0.3).over([&all]))?;
    same(|all| Adam::new(0.1).weight_decay(0.01).master_weights(true).over([&all]))?;
    same(|all| AdamW::new(0.1).amsgrad(true).over([&all]))?;
    same(|all| RmsProp::new(0.1).momentum(0.5).over([&all]))?;
    same(|all| Adagrad::new(0.1).lr_decay(0.01).over([&all]))
}

/// A weight of 1 takes the gradient as it is, however small it is beside the one before.
#[test]
fn first_moments_without_memory() -> Result<()> {
    let w = Parameter::new(Tensor::zeros([3], DType::F32, &CPU)?);
    let mut adam = Adam::new(0.1).betas(0.0, 0.999).over([&w])?;
    let mut top = AdamW::new(0.1).betas(0.0, 0.999).amsgrad(true).over([&w])?;
    let mut centered = RmsProp::new(0.1).alpha(0.0).centered(true).over([&w])?;
    let mut heavy = RmsProp::new(0.1).alpha(0.0).centered(true).momentum(0.5).over([&w])?;
    for gradient in [1.0f32, 1e-9] {
        w.set_grad(Some(Tensor::full([3], f64::from(gradient), DType::F32, &CPU)?))?;
        for (optimizer, name) in [
            (&mut adam as &mut dyn Optim, "exp_avg"),
            (&mut top, "exp_avg"),
            (&mut centered, "grad_avg"),
            (&mut heavy, "grad_avg"),
        ] {
            optimizer.step()?;
            let moment = optimizer.state().tensors[&format!("state.0.{name}")].to_vec::<f32>()?;
            assert_eq!(moment, [gradient; 3], "{name}");
        }
    }
    Ok(())
}

#[test]
fn debug_says_shapes_and_not_numbers() {
    let w = Parameter::new(random(&[3, 5], DType::BF16, 1));
    let debug = "Parameter { shape: [3, 5], dtype: BF16, device: Cpu, requires_grad: true }";
    assert_eq!(format!("{w:?}"), debug);
    let mut optimizer = Adam::new(0.01).master_weights(true).over([&w]).unwrap();
    train(&mut optimizer, std::slice::from_ref(&w), 0..1);
    let text = format!("{optimizer:?}");
    assert!(text.contains(debug) && text.contains("slots: [Some(F32), Some(F32), None], master: Some(F32)"), "{text}");
    assert!(!text.contains("tensor("), "{text}");
}
