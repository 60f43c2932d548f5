//! Learning-rate schedules: their ends, one after another, all or nothing.

use gatefold::{Error, Result, optim::*};

use crate::{close, parameter};

#[test]
fn warmup_then_linear() -> Result<()> {
    let mut optimizer = Sgd::new(1.0).over([&parameter(&[0.0])])?;
    let mut schedule = LambdaLr::warmup_then_linear(2, 5).over(&mut optimizer)?;
    let mut seen = vec![optimizer.lr()];
    for _ in 0..6 {
        schedule.step(&mut optimizer)?;
        seen.push(optimizer.lr());
    }
    assert_eq!(seen, [0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    Ok(())
}

/// A loop that steps behind every batch, the last one too: the rates end where they are to end, and the momentum is one.
#[test]
fn one_cycle_over_all_steps() -> Result<()> {
    for total in [1, 2, 3, 5, 40] {
        for (anneal, three) in
            [(Anneal::Linear, false), (Anneal::Linear, true), (Anneal::Cos, false), (Anneal::Cos, true)]
        {
            for part in [0.0, 0.3, 0.508, 1.0] {
                let mut optimizer = Sgd::new(0.1).momentum(0.9).over([&parameter(&[0.0])])?;
                let rate = OneCycleLr::new(0.5, total).anneal(anneal).three_phase(three).pct_start(part);
                let mut schedule = rate.over(&mut optimizer)?;
                for step in 0..total {
                    schedule.step(&mut optimizer)?;
                    let momentum = optimizer.momenta().unwrap()[0];
                    assert!((0.85 - 1e-9..=0.95 + 1e-9).contains(&momentum), "{momentum} at {step} of {total}");
                }
                assert!(schedule.step(&mut optimizer).is_err());
            }
        }
    }
    // The last rate stays.
    let mut optimizer = Sgd::new(0.1).momentum(0.9).over([&parameter(&[0.0])])?;
    let mut schedule = OneCycleLr::new(0.5, 10).anneal(Anneal::Linear).over(&mut optimizer)?;
    (0..10).try_for_each(|_| schedule.step(&mut optimizer))?;
    close("last", &optimizer.lrs(), &[0.5 / 25.0 / 1e4], 1e-15);
    Ok(())
}

/// A rate that is refused leaves the momentum, and a momentum that is refused the rate.
#[test]
fn rates_and_momenta_together_or_not_at_all() -> Result<()> {
    struct Bad(f64, f64);
    impl Rate for Bad {
        const NAME: &'static str = "Bad";
        fn rate(&self, base: f64, _: usize, step: u64) -> f64 {
            if step == 0 { base } else { self.0 }
        }
        fn momentum(&self, step: u64) -> Option<f64> {
            Some(if step == 0 { 0.9 } else { self.1 })
        }
    }
    for (rate, momentum) in [(-1.0, 0.5), (0.2, -1.0), (f64::NAN, f64::NAN)] {
        let mut optimizer = Sgd::new(0.1).momentum(0.9).over([&parameter(&[0.0])])?;
        let mut schedule = Schedule::new(Bad(rate, momentum), &mut optimizer)?;
        assert!(matches!(schedule.step(&mut optimizer), Err(Error::Argument { .. })));
        assert_eq!((optimizer.lrs(), optimizer.momenta(), schedule.steps()), (vec![0.1], Some(vec![0.9]), 0));
    }
    Ok(())
}

/// What an optimizer would refuse in the middle of a run is refused when it begins.
#[test]
fn momenta_are_tried_at_the_start() -> Result<()> {
    let w = parameter(&[0.0]);
    let cycle = || OneCycleLr::new(0.1, 1000);
    for cycle in [cycle().base_momentum(1.5), cycle().max_momentum(-0.5), cycle().base_momentum(f64::NAN)] {
        let mut adam = Adam::new(0.1).over([&w])?;
        let before = (adam.lrs(), adam.momenta());
        assert!(matches!(cycle.clone().over(&mut adam), Err(Error::Argument { .. })));
        let later = SequentialLr::new(LambdaLr::warmup(4)).then(4, cycle);
        assert!(matches!(later.over(&mut adam), Err(Error::Argument { .. })));
        assert_eq!((adam.lrs(), adam.momenta()), before);
    }
    let mut nesterov = Sgd::new(0.1).momentum(0.9).nesterov(true).over([&w])?;
    assert!(cycle().base_momentum(0.0).over(&mut nesterov).is_err());
    let mut adagrad = Adagrad::new(0.1).over([&w])?;
    assert!(SequentialLr::new(LambdaLr::warmup(4)).then(4, cycle()).over(&mut adagrad).is_err());
    assert!(cycle().cycle_momentum(false).over(&mut adagrad).is_ok());
    Ok(())
}

#[test]
fn a_state_of_more_groups_is_refused() -> Result<()> {
    let [a, b] = [parameter(&[0.0]), parameter(&[1.0])];
    let mut two = Sgd::new(0.1).over([&a])?;
    two.add_group([b], |sgd| sgd.lr(0.2))?;
    let state = StepLr::new(2, 0.5).over(&mut two)?.state();
    let mut one = Sgd::new(0.1).over([&a])?;
    let mut schedule = StepLr::new(2, 0.5).over(&mut one)?;
    match schedule.load_state(&state, &mut one) {
        Err(Error::StateDict { unexpected, .. }) => assert_eq!(unexpected, ["base.1"]),
        other => panic!("{other:?}"),
    }
    assert_eq!((one.lrs(), schedule.steps()), (vec![0.1], 0));
    Ok(())
}

/// The rates of PyTorch 2's SequentialLR over LinearLR-like warm-up, half a cosine and steps.
#[test]
fn one_rate_after_another() -> Result<()> {
    let rate = || {
        SequentialLr::new(LambdaLr::warmup(4))
            .then(3, CosineAnnealingLr::new(4).eta_min(0.1))
            .then(6, StepLr::new(2, 0.5))
    };
    let mut optimizer = Sgd::new(0.8).over([&parameter(&[0.0])])?;
    let mut schedule = rate().over(&mut optimizer)?;
    let mut seen = vec![optimizer.lr()];
    for _ in 0..10 {
        schedule.step(&mut optimizer)?;
        seen.push(optimizer.lr());
    }
    close("rates", &seen, &TORCH, 1e-12);
    // It goes on from its state.
    let mut other = Sgd::new(0.8).over([&parameter(&[0.0])])?;
    let mut again = rate().over(&mut other)?;
    again.load_state(&schedule.state(), &mut other)?;
    assert_eq!((other.lr(), again.steps()), (optimizer.lr(), 10));

    let one_cycle = || OneCycleLr::new(0.5, 4);
    let mut heavy = Sgd::new(0.1).momentum(0.9).over([&parameter(&[0.0])])?;
    let mut schedule = SequentialLr::new(ExponentialLr::new(0.9)).then(2, one_cycle()).over(&mut heavy)?;
    assert_eq!(heavy.momenta(), Some(vec![0.9]));
    (0..6).try_for_each(|_| schedule.step(&mut heavy))?;
    assert!(schedule.step(&mut heavy).is_err(), "beyond the last step of the last");
    for refused in [
        SequentialLr::new(StepLr::new(0, 0.5)),
        SequentialLr::new(StepLr::new(1, 0.5)).then(2, StepLr::new(0, 0.5)),
        SequentialLr::new(StepLr::new(1, 0.5)).then(0, StepLr::new(1, 0.5)),
        SequentialLr::new(StepLr::new(1, 0.5)).then(5, StepLr::new(1, 0.5)).then(5, StepLr::new(1, 0.5)),
        SequentialLr::new(one_cycle()).then(6, StepLr::new(1, 0.5)),
    ] {
        let error = refused.over(&mut heavy).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }
    Ok(())
}

/// By `torch.optim.lr_scheduler.SequentialLR`, milestones 3 and 6.
const TORCH: [f64; 11] = [0.2, 0.4, 0.6, 0.8, 0.6974873734152917, 0.45, 0.8, 0.8, 0.4, 0.4, 0.2];
