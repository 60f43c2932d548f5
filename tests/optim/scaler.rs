//! Scaling of losses.

use gatefold::{DType, Error, Parameter, Result, Tape, Tensor, optim::*};

use crate::{CPU, parameter, values};

/// PyTorch's rules: divide, look for infinities, skip, halve; double after so many steps in a row without any.
#[test]
fn grad_scaler() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let w = Parameter::new(Tensor::new([1.0f32, 2.0], &CPU)?.to_dtype(dtype)?);
        let mut optimizer = Adam::new(0.5).over([&w])?;
        let mut scaler = GradScaler::new(&CPU)?.init_scale(8.0)?.growth_interval(2)?.growth_factor(4.0)?;
        let set = |values: [f32; 2]| w.set_grad(Some(Tensor::new(values, &CPU)?.to_dtype(dtype)?));
        let steps = |optimizer: &Optimizer<Adam>| optimizer.state().numbers.get("state.0.step").copied();

        set([8.0, -16.0])?;
        scaler.unscale(&w)?;
        assert_eq!(w.grad().unwrap().to_f64_vec()?, [1.0, -2.0]);
        let twice = scaler.unscale(&w).unwrap_err();
        assert!(matches!(twice, Error::Argument { op: "GradScaler::unscale", .. }), "{twice}");
        scaler.step(&mut optimizer)?;
        scaler.update()?;
        // Adam's first step is its learning rate, whatever the gradient.
        assert!((values(&w)[0] - 0.5).abs() < 0.01 && (values(&w)[1] - 2.5).abs() < 0.01);
        assert_eq!((scaler.get_scale()?, steps(&optimizer)), (8.0, Some(1.0)));

        let before = values(&w);
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let scale = scaler.get_scale()?;
            set([1.0, bad])?;
            scaler.step(&mut optimizer)?;
            scaler.update()?;
            assert_eq!((values(&w), scaler.get_scale()?), (before.clone(), scale / 2.0));
            assert_eq!(steps(&optimizer), Some(1.0), "a skipped step is not counted");
        }
        for (i, want) in [1.0, 4.0, 4.0, 16.0].into_iter().enumerate() {
            set([0.0, 0.0])?;
            scaler.step(&mut optimizer)?;
            scaler.update()?;
            assert_eq!((scaler.get_scale()?, steps(&optimizer)), (want, Some(2.0 + i as f64)));
        }
        // Plain steps go on where those left off.
        set([1.0, 1.0])?;
        optimizer.step()?;
        assert_eq!(steps(&optimizer), Some(6.0));
        set([1.0, f32::NAN])?;
        scaler.step(&mut optimizer)?;
        assert_eq!(steps(&optimizer), Some(6.0));
    }
    Ok(())
}

/// A loss times the scale, and gradients as many times larger.
#[test]
fn grad_scaler_multiplies_the_loss() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let w = Parameter::new(Tensor::new([1.0f32, 2.0], &CPU)?.to_dtype(dtype)?);
        let mut scaler = GradScaler::new(&CPU)?.init_scale(8.0)?;
        let x = Tape::new().parameter(&w);
        let loss = scaler.scale(&x.mul(&x)?.sum()?)?;
        assert_eq!(loss.item()?, 8.0 * 5.0);
        loss.backward()?;
        assert_eq!(w.grad().unwrap().to_f64_vec()?, [8.0 * 2.0, 8.0 * 4.0]);
        scaler.unscale(&w)?;
        assert_eq!(w.grad().unwrap().to_f64_vec()?, [2.0, 4.0]);
    }
    Ok(())
}

#[test]
fn grad_scaler_states_and_refusals() -> Result<()> {
    let w = Parameter::new(Tensor::new([1.0f32], &CPU)?);
    let mut optimizer = Sgd::new(0.1).over([&w])?;
    let mut scaler = GradScaler::new(&CPU)?.growth_interval(3)?;
    for _ in 0..2 {
        w.set_grad(Some(Tensor::new([1.0f32], &CPU)?))?;
        scaler.step(&mut optimizer)?;
        scaler.update()?;
    }
    let state = scaler.state()?;
    assert_eq!((state.numbers["scale"], state.numbers["growth_tracker"]), (65536.0, 2.0));
    let mut other = GradScaler::new(&CPU)?;
    other.load_state(&state)?;
    other.unscale(&w)?;
    other.update()?;
    assert_eq!(other.get_scale()?, 131072.0);
    let mut wrong = state.clone();
    wrong.numbers.insert("growth_factor".into(), 0.5);
    assert!(matches!(other.load_state(&wrong), Err(Error::Argument { .. })));
    wrong.numbers.remove("scale");
    assert!(matches!(other.load_state(&wrong), Err(Error::StateDict { .. })));
    assert!(matches!(other.load_state(&optimizer.state()), Err(Error::Argument { .. })));
    assert_eq!(other.get_scale()?, 131072.0, "nothing has changed");

    for refused in [
        GradScaler::new(&CPU)?.init_scale(0.0),
        GradScaler::new(&CPU)?.init_scale(1e40),
        GradScaler::new(&CPU)?.init_scale(1e-46),
        GradScaler::new(&CPU)?.growth_factor(1.0),
        GradScaler::new(&CPU)?.backoff_factor(1.0),
        GradScaler::new(&CPU)?.growth_interval(0),
    ] {
        assert!(matches!(refused, Err(Error::Argument { .. })), "{refused:?}");
    }
    let tape = gatefold::Tape::new();
    let loss = tape.variable(Tensor::ones((), DType::F16, &CPU)?);
    assert!(matches!(scaler.scale(&loss), Err(Error::DType { op: "GradScaler::scale", .. })));
    let flag = Tensor::ones([2], DType::F32, &CPU)?;
    assert!(matches!(optimizer.step_unless(&flag), Err(Error::Shape { op: "step_unless", .. })));
    let flag = Tensor::ones((), DType::F64, &CPU)?;
    assert!(matches!(optimizer.step_unless(&flag), Err(Error::DType { op: "step_unless", .. })));
    Ok(())
}

/// What the scale has saved reaches a master, though f16 could not hold it; dividing it in place gives it up.
#[test]
fn scaled_gradients_below_f16() -> Result<()> {
    for (unscale, want) in [(false, -1e-8f32), (true, 0.0)] {
        let w = Parameter::new(Tensor::zeros([1], DType::F16, &CPU)?);
        let mut optimizer = Sgd::new(1.0).master_weights(true).over([&w])?;
        let mut scaler = GradScaler::new(&CPU)?;
        w.set_grad(Some(Tensor::new([1e-8f32 * 65536.0], &CPU)?.to_dtype(DType::F16)?))?;
        if unscale {
            scaler.unscale(&w)?;
        }
        scaler.step(&mut optimizer)?;
        let master = optimizer.state().tensors["state.0.master"].to_vec::<f32>()?[0];
        // The gradient came in f16: half a unit of its last place.
        assert!((master - want).abs() <= 1e-8 / 2048.0, "{master}");
        let twice = scaler.step(&mut optimizer).unwrap_err();
        assert!(matches!(twice, Error::Argument { op: "GradScaler::step", .. }), "{twice}");
        scaler.update()?;
    }
    Ok(())
}

/// Each optimizer steps or is skipped by its own gradients, in whichever order and way they are looked at; one infinity anywhere halves the
/// scale, and is forgotten then.
#[test]
fn each_optimizer_for_itself() -> Result<()> {
    for unscale in [0, 1, 2] {
        let (a, b) = (parameter(&[1.0]), parameter(&[2.0]));
        let mut optimizers = [Sgd::new(1.0).over([&a])?, Sgd::new(1.0).over([&b])?];
        let mut scaler = GradScaler::new(&CPU)?.init_scale(4.0)?;
        let mut step = |bad: usize| -> Result<(f64, f64, f64)> {
            for (i, p) in [&a, &b].into_iter().enumerate() {
                p.set_grad(Some(Tensor::new([if i == bad { f64::INFINITY } else { 4.0 }], &CPU)?))?;
            }
            optimizers[..unscale].iter().try_for_each(|optimizer| scaler.unscale(optimizer))?;
            optimizers.iter_mut().try_for_each(|optimizer| scaler.step(optimizer))?;
            scaler.update()?;
            Ok((values(&a)[0], values(&b)[0], scaler.get_scale()?))
        };
        assert_eq!(step(0)?, (1.0, 1.0, 2.0), "{unscale}");
        assert_eq!(step(1)?, (-1.0, 1.0, 1.0), "{unscale}");
        assert_eq!(step(2)?, (-5.0, -3.0, 1.0), "nothing is left of them, {unscale}");
    }
    // Of one optimizer, unscaled in two parts.
    for bad in 0..3 {
        let both = [parameter(&[1.0]), parameter(&[2.0])];
        let mut optimizer = Sgd::new(1.0).over([&both])?;
        let mut scaler = GradScaler::new(&CPU)?.init_scale(4.0)?;
        for (i, p) in both.iter().enumerate() {
            p.set_grad(Some(Tensor::new([if i == bad { f64::NAN } else { 4.0 }], &CPU)?))?;
            scaler.unscale(p)?;
        }
        scaler.step(&mut optimizer)?;
        scaler.update()?;
        let want = if bad < 2 { ([1.0, 2.0], 2.0) } else { ([0.0, 1.0], 4.0) };
        assert_eq!(([values(&both[0])[0], values(&both[1])[0]], scaler.get_scale()?), want);
    }
    Ok(())
}

/// A second loss that is scaled between two updates divides nothing twice; an update wants something to go by.
#[test]
fn what_was_unscaled_stays_so_until_the_update() -> Result<()> {
    let w = parameter(&[1.0]);
    let mut optimizer = Sgd::new(1.0).over([&w])?;
    let mut scaler = GradScaler::new(&CPU)?.init_scale(4.0)?;
    w.set_grad(Some(Tensor::new([4.0f64], &CPU)?))?;
    scaler.unscale(&optimizer)?;
    let tape = gatefold::Tape::new();
    scaler.scale(&tape.variable(Tensor::ones((), DType::F32, &CPU)?))?;
    scaler.step(&mut optimizer)?;
    assert_eq!(values(&w), [0.0]);
    assert!(matches!(scaler.step(&mut optimizer), Err(Error::Argument { op: "GradScaler::step", .. })));
    scaler.update()?;
    let error = scaler.update().unwrap_err();
    assert!(matches!(error, Error::Argument { op: "GradScaler::update", .. }), "{error}");
    assert_eq!(scaler.get_scale()?, 4.0);
    Ok(())
}

/// The product is in f32: bf16 would not hold the scale.
#[test]
fn losses_of_bf16() -> Result<()> {
    let mut scaler = GradScaler::new(&CPU)?.init_scale(1001.0)?;
    let loss = gatefold::Tape::new().variable(Tensor::ones((), DType::BF16, &CPU)?);
    let scaled = scaler.scale(&loss)?;
    assert_eq!((scaled.dtype(), scaled.tensor().item()?), (DType::F32, 1001.0));
    Ok(())
}
