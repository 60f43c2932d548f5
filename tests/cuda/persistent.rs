//! Whole sequences in one launch: against step by step and the CPU, in every order, and with planted faults.
//!
//! Bounds are those of [`Case::bound`], for the same reasons: halves are multiplied exactly and summed in f32 whichever way the steps
//! run, and what is handed on is rounded to the storage type once a step. In f32 a factor is two TF32 numbers of eleven bits each; the
//! three products that are taken leave out 2⁻²² of a whole one, and the f32 sum rounds as it does elsewhere.

use gatefold::{DType, Error, recurrent::*};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    CPU, GPU, alone, check, gpu,
    nets::{Kind, Options},
    raw::{Given, Place, descriptor, run},
    recurrent_properties::{self, Case, Form, Named, compare},
    schedules::ORDERS,
    skipped,
    softgpu::{self, Fault, Traffic},
};

const CELLS: [Kind; 5] = [Kind::Tanh, Kind::Relu, Kind::Lstm, Kind::Peephole, Kind::Gru];
const STEPWISE: Algorithm = Algorithm::Stepwise;
const PERSISTENT: Algorithm = Algorithm::Persistent;

/// Networks of up to `most` units: of odd sizes, whose rows are read one number at a time, and of even ones; several blocks a group,
/// several groups, several tiles.
fn cases(most: usize, sequences: usize) -> impl Strategy<Value = Case> {
    let hidden = prop_oneof![2 => 1..=most, 2 => (1..=most / 8).prop_map(|n| 8 * n)];
    let net = (select(&CELLS[..]), 1..=20usize, hidden, 1..=2usize, any::<[bool; 3]>());
    let dtype = select(&[DType::F32, DType::F16, DType::BF16][..]);
    let options =
        (net, dtype).prop_map(|((kind, input, hidden, layers, [bidirectional, bias, batch_first]), dtype)| Options {
            layers,
            bidirectional,
            bias,
            batch_first,
            dtype,
            ..Options::new(kind, input, hidden)
        });
    let form = select(&[Form::Full, Form::Lengths, Form::Packed][..]);
    (options, 1..=6usize, form).prop_flat_map(move |(options, steps, form)| {
        let shortest = if form == Form::Full { steps } else { 1 };
        let lengths = prop_oneof![vec(shortest..=steps, 1..=9), vec(shortest..=steps, 10..=sequences)];
        (lengths, any::<bool>(), 0..1000u64).prop_map(move |(lengths, given, seed)| {
            // Batch sizes of packed sequences end with the longest one.
            let steps = if form == Form::Packed { lengths.iter().copied().max().unwrap_or(steps) } else { steps };
            Case { options, steps, lengths, form, given, seed }
        })
    })
}

/// Whether there is a GPU that runs persistent kernels; says so where not.
#[track_caller]
pub fn capable() -> bool {
    if !gpu() {
        return false;
    }
    let small = Descriptor { dtype: DType::BF16, ..Descriptor::new(Cell::Lstm, 3, 8) };
    match Plan::new(&small, Shape { seq: 2, batch: 2 }, &GPU).unwrap().algorithm(PERSISTENT) {
        Ok(_) => return true,
        Err(e) => skipped(&e.to_string()),
    }
    false
}

#[test]
fn as_step_by_step() {
    if !capable() {
        return;
    }
    check(40, cases(72, 70), |case| {
        let on = |place| run(&case, Given::ALL, place);
        let got = on(Place::by(PERSISTENT, PERSISTENT));
        compare(&case, &on(Place::of(CPU)), &got, &on(Place::by(PERSISTENT, PERSISTENT)));
        // One's backward after the other's forward.
        for mixed in [Place::by(STEPWISE, PERSISTENT), Place::by(PERSISTENT, STEPWISE)] {
            let mixed = on(mixed);
            compare(&case, &got, &mixed, &mixed);
        }
    });
}

/// What needs no reserve keeps none of the gates, and the cell states of the batch only.
#[test]
fn inference() {
    if !gpu() {
        return;
    }
    check(24, cases(72, 70), |case| {
        let on = |device| recurrent_properties::run(&case, device, false).unwrap();
        compare(&case, &on(&CPU), &on(&GPU), &on(&GPU));
    });
}

/// As many blocks as the device has, and several chunks of depth to a warp.
#[test]
fn wide() {
    if !capable() {
        return;
    }
    for (kind, dtype, hidden, sequences) in [
        (Kind::Lstm, DType::BF16, 1024, 3),
        (Kind::Gru, DType::F16, 700, 17),
        (Kind::Tanh, DType::F32, 520, 9),
        (Kind::Lstm, DType::F32, 301, 40),
    ] {
        let options = Options { dtype, ..Options::new(kind, 5, hidden) };
        let lengths = vec![3; sequences];
        let case = Case { options, steps: 3, lengths, form: Form::Full, given: true, seed: 1 };
        let plan = Plan::new(&descriptor(&case), Shape { seq: 3, batch: sequences }, &GPU).unwrap();
        if let Err(e) = plan.algorithm(PERSISTENT) {
            skipped(&e.to_string());
            continue;
        }
        let on = |algorithm| run(&case, Given::ALL, Place::by(algorithm, algorithm));
        let got = on(PERSISTENT);
        compare(&case, &on(STEPWISE), &got, &got);
    }
}

/// Where the model says that only the steps forward win, one plan runs them in one launch and those backward by themselves.
#[test]
fn forward_alone() {
    if !gpu() {
        return;
    }
    let options = Options { dtype: DType::BF16, layers: 2, ..Options::new(Kind::Lstm, 5, 768) };
    let case = Case { options, steps: 2, lengths: vec![2; 64], form: Form::Full, given: true, seed: 1 };
    let plan = Plan::new(&descriptor(&case), Shape { seq: 2, batch: 64 }, &GPU).unwrap();
    match plan.choice() {
        Choice::Persistent { backward: false, .. } => {}
        other => return skipped(&format!("this device divides it otherwise: {other}")),
    }
    let on = |algorithm| run(&case, Given::ALL, Place::by(algorithm, algorithm));
    let got = on(Algorithm::Auto);
    compare(&case, &on(STEPWISE), &got, &got);
}

fn lstm(hidden: usize, sequences: usize, lengths: bool) -> Case {
    let options = Options { dtype: DType::BF16, bidirectional: true, ..Options::new(Kind::Lstm, 3, hidden) };
    let steps = 5;
    let lengths = (0..sequences).map(|b| if lengths { 1 + b * 3 % steps } else { steps }).collect();
    Case { options, steps, lengths, form: Form::Lengths, given: true, seed: 3 }
}

fn bits(results: &Named) -> Vec<(String, Vec<u64>)> {
    results.iter().map(|(name, values)| (name.clone(), values.iter().map(|v| v.to_bits()).collect())).collect()
}

fn persistent(case: &Case) -> Vec<(String, Vec<u64>)> {
    bits(&run(case, Given::ALL, Place::by(PERSISTENT, PERSISTENT)))
}

/// Whether the order of things can be told, in this process.
#[track_caller]
fn ordered(test: &str) -> bool {
    if !capable() {
        return false;
    }
    if !softgpu::present() {
        skipped("the driver is not softgpu: it runs in an order of its own");
        return false;
    }
    alone(test)
}

#[test]
fn the_same_bits_in_any_order() {
    if !ordered("persistent::the_same_bits_in_any_order") {
        return;
    }
    for case in [lstm(40, 21, true), lstm(23, 9, false)] {
        let mut first = None;
        for order in ORDERS {
            softgpu::schedule(order);
            let got = persistent(&case);
            assert_eq!(got, persistent(&case), "twice in the order {order}");
            assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "in the order {order}");
        }
    }
}

/// A release that does not come leaves the others waiting: told with every block's place. Nobody waits for those of the last step
/// forward.
#[test]
fn a_lost_release_is_a_deadlock() {
    if !ordered("persistent::a_lost_release_is_a_deadlock") {
        return;
    }
    // Of the releases the n-th is to be the same in every run.
    softgpu::schedule("forward");
    let case = lstm(24, 9, false);
    let want = persistent(&case);
    softgpu::plant(Fault::LostRelease(u64::MAX));
    assert_eq!(persistent(&case), want);
    let releases = softgpu::plant(Fault::None);
    let plan = Plan::new(&descriptor(&case), Shape { seq: case.steps, batch: case.batch() }, &GPU).unwrap();
    let plan = plan.choice().persistent().expect("it fits").clone();
    let flags = [plan.forward.flags(), plan.backward.flags()].map(|n| n as u64);
    assert_eq!(releases, case.steps as u64 * (flags[0] + flags[1]), "{plan}");
    let mut unnoticed = 0;
    for n in 0..releases {
        softgpu::plant(Fault::LostRelease(n));
        let got = std::panic::catch_unwind(|| persistent(&case));
        softgpu::plant(Fault::None);
        let said = softgpu::forgive();
        if let Ok(got) = got {
            assert!(got == want, "release {n} of {releases} was lost and changed a result");
            unnoticed += 1;
            continue;
        }
        assert!(said.contains("deadlock") && said.contains("persistent_"), "{said}");
        // Those that are done have left.
        let told = said.matches("\n  block (").count();
        let blocks = plan.forward.blocks().max(plan.backward.blocks());
        assert!((1..=blocks).contains(&told) && said.contains("persistent.cuh"), "{said}");
    }
    assert_eq!(unnoticed, flags[0], "of {releases}");
    assert_eq!(persistent(&case), want, "and then it goes on");
}

/// Who does not wait reads what is not there yet: NaN, or what was there before.
#[test]
fn a_missing_wait_shows() {
    if !ordered("persistent::a_missing_wait_shows") {
        return;
    }
    let case = lstm(40, 9, false);
    let want = persistent(&case);
    let mut found = 0;
    for order in ORDERS {
        softgpu::schedule(order);
        softgpu::plant(Fault::NoWait);
        let got = persistent(&case);
        softgpu::plant(Fault::HastyAcquire(u64::MAX));
        assert_ne!(got, want, "without any wait, in the order {order}");
        assert_eq!(persistent(&case), want);
        let acquires = softgpu::plant(Fault::None);
        for n in (0..acquires).step_by(acquires as usize / 3) {
            softgpu::plant(Fault::HastyAcquire(n));
            found += usize::from(persistent(&case) != want);
            softgpu::plant(Fault::None);
        }
    }
    assert!(found > 0, "one acquire that does not wait was never found");
}

/// Plans say why they are refused; what is not asked for runs step by step.
#[test]
fn refused() {
    if !capable() {
        return;
    }
    let shape = Shape { seq: 4, batch: 3 };
    let lstm = Descriptor { dtype: DType::BF16, ..Descriptor::new(Cell::Lstm, 3, 24) };
    for (d, says) in [
        (Descriptor { dtype: DType::F64, ..lstm.clone() }, "f64"),
        (Descriptor { proj_size: 5, ..lstm.clone() }, "projection"),
        (Descriptor { cell: Cell::GruResetBefore, ..lstm.clone() }, "resets before"),
        (Descriptor { hidden_size: 9000, ..lstm.clone() }, "9000 hidden units do not fit"),
    ] {
        let plan = Plan::new(&d, shape, &GPU).unwrap();
        assert!(plan.choice().algorithm() == STEPWISE && plan.choice().reason().contains(says), "{}", plan.choice());
        let refused = plan.algorithm(PERSISTENT).unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }) && refused.to_string().contains(says), "{refused}");
    }
    let plan = Plan::new(&lstm, shape, &GPU).unwrap();
    let forced = plan.clone().algorithm(PERSISTENT).unwrap();
    assert!(forced.choice().to_string().contains("blocks of 256 threads"), "{}", forced.choice());
    let stepwise = plan.algorithm(STEPWISE).unwrap();
    assert_eq!(stepwise.choice().to_string(), "stepwise: it was asked for");
}

/// What `docs/kernels.md` says that a pass of an LSTM in bf16 moves: `steps` steps, of which each but the first has one before it.
fn model(t: &Tiling, hidden: usize, batch: usize, steps: usize, backward: bool) -> Traffic {
    const SIZE: usize = 2;
    const GATES: usize = 4;
    let (rows, depth) = if backward { (t.units, GATES * hidden) } else { (GATES * t.units, hidden) };
    let (chunks, eights) = (depth.div_ceil(32), rows.div_ceil(8));
    let each = chunks.div_ceil(8);
    let warps = chunks.div_ceil(each);
    // Forward nothing comes before the first step; backward the last one's gates make the gradient of the first state.
    let products = if backward { steps } else { steps - 1 };
    // The last group has what is left.
    let tiles: usize = (0..t.groups).map(|g| t.group.min(batch - g * t.group).div_ceil(t.tile)).sum();
    let goes = products * t.members * tiles;
    // A warp waits for the members whose units its stretch of the depth belongs to.
    let waits: usize = (0..warps)
        .map(|w| {
            let stretch = w * each * 32..((w + 1) * each * 32).min(depth);
            (0..t.members).filter(|m| stretch.clone().any(|k| k % hidden / t.units == *m)).count()
        })
        .sum();
    let cells = batch * hidden;
    let (own_in, own_out) = if backward {
        // Activations, dy and two cell states; gradients of gates.
        ((GATES + 1) * SIZE + 2 * 4, GATES * SIZE)
    } else {
        // Pre-activations; activations, h and c.
        (GATES * 4, (GATES + 1) * SIZE + 4)
    };
    let totals = if backward { 1 } else { GATES };
    let bytes = |n: usize| n as u64;
    Traffic {
        global_in: bytes(products * t.members * batch * depth * SIZE + steps * cells * own_in),
        global_out: bytes(steps * cells * own_out),
        shared_in: bytes(goes * chunks * eights * 8 * 64 + products * cells * totals * warps * 4),
        shared_out: bytes(goes * warps * eights * 8 * t.tile * 4),
        acquires: bytes(goes * waits),
        releases: bytes(steps * t.members * tiles),
        mma: bytes(goes * chunks * 2 * eights.div_ceil(2) * t.tile / 8),
    }
}

#[test]
fn what_a_step_moves() {
    if !ordered("persistent::what_a_step_moves") {
        return;
    }
    for (hidden, sequences, steps) in [(64, 16, 3), (96, 70, 4), (1024, 16, 3)] {
        let options = Options { dtype: DType::BF16, ..Options::new(Kind::Lstm, 3, hidden) };
        let case = Case { options, steps, lengths: vec![steps; sequences], form: Form::Full, given: false, seed: 3 };
        let plan = Plan::new(&descriptor(&case), Shape { seq: steps, batch: sequences }, &GPU).unwrap();
        let plan = plan.algorithm(PERSISTENT).unwrap().choice().persistent().expect("it was asked for").clone();
        let both = [&plan.forward, &plan.backward];
        let [forward, backward] = [false, true].map(|b| model(both[usize::from(b)], hidden, sequences, steps, b));
        let got = softgpu::traffic(|| drop(persistent(&case)));
        println!(
            "LSTM of {hidden} units in bf16, {sequences} sequences, {steps} steps\n{plan}\n{forward:?}\n{backward:?}"
        );
        let add = |a: fn(&Traffic) -> u64| a(&forward) + a(&backward);
        let want = Traffic {
            global_in: add(|t| t.global_in),
            global_out: add(|t| t.global_out),
            shared_in: add(|t| t.shared_in),
            shared_out: add(|t| t.shared_out),
            acquires: add(|t| t.acquires),
            releases: add(|t| t.releases),
            mma: add(|t| t.mma),
        };
        assert_eq!(got, want, "{plan}");
    }
}
