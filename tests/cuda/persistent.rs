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
    raw::{Given, Place, descriptor, run, run_with},
    recurrent_properties::{self, Case, Form, Named, compare},
    same_bits,
    schedules::ORDERS,
    skipped,
    softgpu::{self, Fault, Traffic},
};

const CELLS: [Kind; 5] = [Kind::Tanh, Kind::Relu, Kind::Lstm, Kind::Peephole, Kind::Gru];
/// Whose steps have two products: the LSTMs with a projection.
const TWO: [Kind; 3] = [Kind::Lstm, Kind::Peephole, Kind::ResetBefore];
const STEPWISE: Algorithm = Algorithm::Stepwise;
const PERSISTENT: Algorithm = Algorithm::Persistent;
const MEMORY: Algorithm = Algorithm::PersistentBy(Exchange::Memory);
const CLUSTER: Algorithm = Algorithm::PersistentBy(Exchange::Cluster);

/// Networks of up to `most` units: of odd sizes, whose rows are read one number at a time, and of even ones; several blocks a group,
/// several groups, several tiles. Of `kinds` with two products a step the LSTMs have a projection.
fn cases(kinds: &'static [Kind], most: usize, sequences: usize) -> impl Strategy<Value = Case> {
    let hidden = prop_oneof![2 => 1..=most, 2 => (1..=most / 8).prop_map(|n| 8 * n)];
    let projection = prop_oneof![2 => any::<usize>().prop_map(|n| (n, 1)), 1 => any::<usize>().prop_map(|n| (n, 8))];
    let net = (select(kinds), 1..=20usize, hidden, projection, 1..=2usize, any::<[bool; 3]>());
    let dtype = select(&[DType::F32, DType::F16, DType::BF16][..]);
    let options = (net, dtype).prop_map(move |(net, dtype)| {
        let (kind, input, hidden, (n, of), layers, [bidirectional, bias, batch_first]) = net;
        let projected = kinds == TWO && kind.is_lstm();
        let hidden = hidden.max(1 + usize::from(projected));
        // Below H; of a third of the networks with rows that are read 16 bytes at once.
        let some = if hidden > of { (1 + n % ((hidden - 1) / of)) * of } else { 1 };
        let proj = if projected { some } else { 0 };
        Options { proj, layers, bidirectional, bias, batch_first, dtype, ..Options::new(kind, input, hidden) }
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

/// Launches before that of a pass forward over a few units: what is exchanged is made ready, and in a cluster there is none.
pub fn made_ready() -> u64 {
    let plan = Plan::new(&Descriptor::new(Cell::Lstm, 5, 8), Shape { seq: 2, batch: 4 }, &GPU).unwrap();
    let plan = plan.algorithm(PERSISTENT).unwrap();
    u64::from(plan.choice().persistent().unwrap().forward.exchange == Exchange::Memory)
}

#[test]
fn as_step_by_step() {
    if !capable() {
        return;
    }
    check(40, cases(&CELLS, 72, 70), through_memory);
}

#[test]
fn two_products_a_step() {
    if !capable() {
        return;
    }
    check(40, cases(&TWO, 72, 70), |case| {
        let plan = plan(&case, MEMORY).unwrap();
        let plan = plan.choice().persistent().unwrap();
        assert_eq!([plan.forward.exchanges, plan.backward.exchanges], [2, 2], "{plan}");
        through_memory(case);
    });
}

fn through_memory(case: Case) {
    let on = |place| run(&case, Given::ALL, place);
    let got = on(Place::by(MEMORY, MEMORY));
    compare(&case, &on(Place::of(CPU)), &got, &on(Place::by(MEMORY, MEMORY)));
    // One's backward after the other's forward.
    for (forward, backward) in [(STEPWISE, PERSISTENT), (MEMORY, STEPWISE)] {
        println!("{forward:?} forward, {backward:?} backward");
        let mixed = on(Place::by(forward, backward));
        compare(&case, &got, &mixed, &mixed);
    }
}

fn plan(case: &Case, algorithm: Algorithm) -> Result<Plan, Error> {
    let shape = Shape { seq: case.steps, batch: case.batch() };
    Plan::new(&descriptor(case), shape, &GPU).unwrap().algorithm(algorithm)
}

/// Whether the device has clusters; says so where not.
#[track_caller]
fn clusters() -> bool {
    if !capable() {
        return false;
    }
    match plan(&lstm(24, 2, false), CLUSTER) {
        Ok(_) => true,
        Err(e) => {
            skipped(&e.to_string());
            false
        }
    }
}

/// Networks that fit into clusters of up to sixteen blocks, the last of which may have fewer units.
fn clustered() -> impl Strategy<Value = Case> {
    let within = (select(&[1usize, 2, 4, 8, 16][..]), 1..=4usize, 0..32usize);
    (within, cases(&CELLS, 72, 70)).prop_map(|((blocks, eights, missing), mut case)| {
        let units = 8 * eights.min(32 / blocks);
        let hidden = blocks * units - missing % units;
        // What takes long is seen with one layer of few steps as well.
        if hidden > 100 {
            (case.options.layers, case.lengths) = (1, case.lengths.into_iter().take(9).collect());
            if case.form == Form::Packed {
                case.steps = case.lengths.iter().copied().max().unwrap_or(1);
            }
        }
        case.options.hidden = hidden;
        case
    })
}

#[test]
fn through_clusters() {
    if !clusters() {
        return;
    }
    let mut seen = [0; 5];
    let counts = std::cell::RefCell::new(&mut seen);
    check(60, clustered(), |case| {
        let plan = plan(&case, CLUSTER).unwrap();
        let plan = plan.choice().persistent().unwrap();
        for pass in [plan.forward, plan.backward] {
            assert_eq!(pass.exchange, Exchange::Cluster);
            counts.borrow_mut()[pass.members.ilog2() as usize] += 1;
        }
        let on = |place| run(&case, Given::ALL, place);
        let got = on(Place::by(CLUSTER, CLUSTER));
        compare(&case, &on(Place::of(CPU)), &got, &on(Place::by(CLUSTER, CLUSTER)));
        // One's backward after the other's forward.
        for mixed in [Place::by(STEPWISE, CLUSTER), Place::by(CLUSTER, MEMORY)] {
            let mixed = on(mixed);
            compare(&case, &got, &mixed, &mixed);
        }
    });
    println!("clusters of 1, 2, 4, 8, 16 blocks: {seen:?}");
    assert!(std::env::var_os("PROPTEST_CASES").is_some() || seen.iter().all(|&n| n > 0), "{seen:?}");
}

/// A device that has room for no clusters of sixteen blocks takes eight; one with none goes through memory, and says so.
#[test]
fn sixteen_blocks_or_eight() {
    if !ordered("persistent::sixteen_blocks_or_eight") || !clusters() {
        return;
    }
    // SAFETY: no other thread of this process, which runs one test, looks at its environment.
    unsafe { std::env::set_var("SOFTGPU_CLUSTER", "8") };
    let of = |hidden| lstm(hidden, 16, false);
    let eight = plan(&of(256), CLUSTER).unwrap().choice().persistent().unwrap().clone();
    for pass in [eight.forward, eight.backward] {
        assert_eq!((pass.members, pass.exchange), (8, Exchange::Cluster), "{eight}");
    }
    let refused = plan(&of(512), CLUSTER).unwrap_err().to_string();
    assert!(
        refused.contains("512 hidden units do not fit into a cluster") && refused.contains("8 at most"),
        "{refused}"
    );
    let memory = plan(&of(512), PERSISTENT).unwrap();
    assert_eq!(memory.choice().persistent().unwrap().forward.exchange, Exchange::Memory);
    let case = of(256);
    let on = |algorithm| run(&case, Given::ALL, Place::by(algorithm, algorithm));
    let got = on(CLUSTER);
    compare(&case, &on(STEPWISE), &got, &got);
}

/// Where the driver has room for fewer clusters than the model thought, there are fewer, of more sequences each.
#[test]
fn as_many_clusters_as_there_is_room_for() {
    if !clusters() {
        return;
    }
    let mut case = lstm(512, 64, false);
    case.options.bidirectional = false;
    let plan = plan(&case, CLUSTER).unwrap().choice().persistent().unwrap().clone();
    for pass in [plan.forward, plan.backward] {
        assert!(pass.members == 16 && (2..=7).contains(&pass.groups) && pass.exchange == Exchange::Cluster, "{plan}");
    }
}

#[test]
fn without_clusters() {
    if !ordered("persistent::without_clusters") {
        return;
    }
    // SAFETY: as above.
    unsafe { std::env::set_var("SOFTGPU_CLUSTER", "0") };
    let case = lstm(40, 5, true);
    let refused = plan(&case, CLUSTER).unwrap_err();
    assert!(
        matches!(refused, Error::Unavailable { .. })
            && refused.to_string().contains("40 hidden units do not fit into a cluster"),
        "{refused}"
    );
    for algorithm in [Algorithm::Auto, PERSISTENT] {
        let plan = plan(&case, algorithm).unwrap();
        assert_eq!(plan.choice().persistent().unwrap().forward.exchange, Exchange::Memory, "{}", plan.choice());
    }
    let on = |algorithm| run(&case, Given::ALL, Place::by(algorithm, STEPWISE));
    let got = on(PERSISTENT);
    compare(&case, &on(STEPWISE), &got, &got);
}

/// What needs no reserve keeps none of the gates, and the cell states of the batch only.
#[test]
fn inference() {
    if !gpu() {
        return;
    }
    for kinds in [&CELLS[..], &TWO] {
        check(24, cases(kinds, 72, 70), |case| {
            let on = |device| recurrent_properties::run(&case, device, false).unwrap();
            compare(&case, &on(&CPU), &on(&GPU), &on(&GPU));
        });
    }
}

/// As many blocks as the device has, and several chunks of depth to a warp.
#[test]
fn wide() {
    if !capable() {
        return;
    }
    for (kind, dtype, hidden, proj, sequences) in [
        (Kind::Lstm, DType::BF16, 1024, 0, 3),
        (Kind::Gru, DType::F16, 700, 0, 17),
        (Kind::Tanh, DType::F32, 520, 0, 9),
        (Kind::Lstm, DType::F32, 301, 0, 40),
        (Kind::ResetBefore, DType::BF16, 700, 0, 9),
        (Kind::Lstm, DType::BF16, 1024, 512, 3),
        // Most blocks have no share of h.
        (Kind::Peephole, DType::F32, 301, 3, 17),
        // In clusters of sixteen blocks, where there are such.
        (Kind::Lstm, DType::BF16, 512, 0, 9),
        (Kind::Gru, DType::F32, 250, 0, 20),
    ] {
        let options = Options { dtype, proj, ..Options::new(kind, 5, hidden) };
        let lengths = vec![3; sequences];
        let case = Case { options, steps: 3, lengths, form: Form::Full, given: true, seed: 1 };
        if let Err(e) = plan(&case, MEMORY) {
            skipped(&e.to_string());
            continue;
        }
        let on = |forward, backward| run(&case, Given::ALL, Place::by(forward, backward));
        let (want, got) = (on(STEPWISE, STEPWISE), on(MEMORY, PERSISTENT));
        compare(&case, &want, &got, &got);
        if plan(&case, CLUSTER).is_ok() {
            let got = on(CLUSTER, CLUSTER);
            compare(&case, &want, &got, &got);
        }
    }
}

/// Where the model says that only the steps forward win, one plan runs them in one launch and those backward by themselves.
#[test]
fn forward_alone() {
    if !gpu() {
        return;
    }
    let options = Options { dtype: DType::BF16, ..Options::new(Kind::Lstm, 5, 1024) };
    let of = |batch| Case { options, steps: 2, lengths: vec![2; batch], form: Form::Full, given: true, seed: 1 };
    let alone = |case: &Case| {
        let plan = Plan::new(&descriptor(case), Shape { seq: 2, batch: case.batch() }, &GPU).unwrap();
        matches!(plan.choice(), Choice::Persistent { backward: false, .. })
    };
    let Some(case) = [96, 112, 128, 144, 160, 192].map(of).into_iter().find(alone) else {
        return skipped("this device divides none of these so");
    };
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

/// Networks whose steps have two products.
fn two(hidden: usize, sequences: usize, lengths: bool) -> [Case; 2] {
    let case = lstm(hidden, sequences, lengths);
    let with = |kind, proj| Case { options: Options { kind, proj, ..case.options }, ..case.clone() };
    [with(Kind::ResetBefore, 0), with(Kind::Peephole, hidden * 2 / 3)]
}

/// Results that are equal when their bits are.
#[derive(Clone)]
struct Bits(Named);

impl PartialEq for Bits {
    fn eq(&self, other: &Bits) -> bool {
        let bits = |all: &Named| all.iter().flat_map(|(_, values)| values).map(|v| v.to_bits()).collect::<Vec<_>>();
        bits(&self.0) == bits(&other.0)
    }
}

#[track_caller]
fn same(what: &str, got: &Bits, want: &Bits) {
    let Bits(want) = want;
    assert_eq!(got.0.len(), want.len(), "{what}: how many");
    for ((name, got), (_, want)) in got.0.iter().zip(want) {
        same_bits(&format!("{what}: {name}"), got, want);
    }
}

/// Several layers of one direction, in stretches of different lengths, some of them perhaps empty.
fn in_waves(kinds: &'static [Kind]) -> impl Strategy<Value = (Case, (usize, usize))> {
    let waves = (2..=4usize, 2..=3usize, 0..=4usize, prop_oneof![Just(0.0), Just(0.3)]);
    (cases(kinds, 40, 20), waves).prop_map(|(mut case, (layers, beside, more, dropout))| {
        let o = &mut case.options;
        (o.layers, o.bidirectional, o.dropout) = (layers, false, dropout);
        // As many steps as stretches at least.
        let steps = 3 + more + case.steps;
        for length in &mut case.lengths {
            *length = if case.form == Form::Full || *length == case.steps { steps } else { *length };
        }
        case.steps = steps;
        let beside = beside.min(layers);
        (case, (beside, beside + more))
    })
}

/// How a pass is divided among blocks, on which the order of its sums may depend.
fn division(case: &Case, algorithm: Algorithm, (layers, stretches): (usize, usize)) -> [Tiling; 2] {
    let plan = plan(case, algorithm).unwrap().wavefront(layers, stretches).unwrap();
    let plan = plan.choice().persistent().unwrap();
    [plan.forward, plan.backward]
}

/// Layers side by side, stretch by stretch: what layers one after the other give, each in one launch. The kernels add in the same order,
/// but a library may take another algorithm for a product of fewer rows: bits are the same where it does not, in softgpu, and of one
/// division in any case.
#[test]
fn wavefronts() {
    if !capable() {
        return;
    }
    check(24, in_waves(&CELLS), in_wave);
    check(12, in_waves(&TWO), in_wave);
}

fn in_wave((case, (layers, stretches)): (Case, (usize, usize))) {
    let on = |algorithm, waves: (usize, usize)| {
        Bits(run(&case, Given::ALL, Place::by(algorithm, algorithm).in_waves(waves.0, waves.1)))
    };
    let alike = |what: &str, got: &Bits, other: &Bits| {
        if softgpu::present() {
            same(what, got, other);
        } else {
            compare(&case, &other.0, &got.0, &got.0);
        }
    };
    let what = format!("{layers} layers in {stretches} stretches");
    let got = on(MEMORY, (layers, stretches));
    same(&format!("{what}, twice"), &got, &on(MEMORY, (layers, stretches)));
    for other in [(layers, 1), (1, 1), (2, case.steps)] {
        alike(&format!("{what}, against {other:?}"), &got, &on(MEMORY, other));
    }
    if clusters() && plan(&case, CLUSTER).is_ok_and(|plan| plan.wavefront(layers, stretches).is_ok()) {
        let [cut, whole] = [stretches, 1].map(|n| division(&case, CLUSTER, (layers, n)));
        for (cut, whole) in cut.into_iter().zip(whole) {
            assert_eq!((cut.members, cut.units, cut.tile), (whole.members, whole.units, whole.tile));
        }
        let got = on(CLUSTER, (layers, stretches));
        same(&format!("{what} in clusters, twice"), &got, &on(CLUSTER, (layers, stretches)));
        alike(&format!("{what} in clusters, against one"), &got, &on(CLUSTER, (layers, 1)));
    }
    let plain = |algorithm| run(&case, Given::ALL, Place::by(algorithm, algorithm));
    let waves: Named = got.0.into_iter().filter(|(name, _)| !name.ends_with("in inference")).collect();
    compare(&case, &plain(STEPWISE), &waves, &waves);
}

/// Whatever no event orders comes out in any order.
#[test]
fn wavefronts_in_any_order() {
    if !ordered("persistent::wavefronts_in_any_order") {
        return;
    }
    let exchanges: &[Algorithm] = if clusters() { &[MEMORY, CLUSTER] } else { &[MEMORY] };
    for (kind, dtype, layers, form, (beside, stretches)) in [
        (Kind::Lstm, DType::BF16, 4, Form::Lengths, (3, 4)),
        (Kind::Lstm, DType::F32, 3, Form::Full, (2, 3)),
        (Kind::Gru, DType::F32, 2, Form::Packed, (2, 5)),
        (Kind::Gru, DType::BF16, 4, Form::Full, (2, 2)),
        (Kind::Tanh, DType::BF16, 3, Form::Lengths, (3, 3)),
        (Kind::Peephole, DType::F32, 4, Form::Packed, (3, 7)),
        (Kind::ResetBefore, DType::BF16, 3, Form::Lengths, (3, 4)),
    ] {
        let proj = if kind == Kind::Peephole { 11 } else { 0 };
        let options = Options { dtype, proj, layers, dropout: 0.2, ..Options::new(kind, 5, 24) };
        let steps = 9;
        let ragged = |b: usize| if form == Form::Full { steps } else { 1 + (steps - 1 + b * 4) % steps };
        let case = Case { options, steps, lengths: (0..11).map(ragged).collect(), form, given: layers != 3, seed: 5 };
        for &algorithm in exchanges.iter().filter(|&&algorithm| plan(&case, algorithm).is_ok()) {
            let on = |waves: (usize, usize)| {
                Bits(run(&case, Given::ALL, Place::by(algorithm, algorithm).in_waves(waves.0, waves.1)))
            };
            softgpu::schedule("forward");
            let want = on((beside, 1));
            for order in ORDERS {
                softgpu::schedule(order);
                let what = format!("{kind:?} {dtype} {algorithm:?} in the order {order}");
                same(&what, &on((beside, stretches)), &want);
            }
        }
    }
}

/// What no plan can have is refused, and what the device has no room for.
#[test]
fn wavefronts_that_are_not() {
    if !capable() {
        return;
    }
    let shape = Shape { seq: 4, batch: 3 };
    let net = |layers| Descriptor { num_layers: layers, dtype: DType::BF16, ..Descriptor::new(Cell::Lstm, 3, 24) };
    let of = |d: &Descriptor| Plan::new(d, shape, &GPU).unwrap().algorithm(MEMORY).unwrap();
    let both = Descriptor { bidirectional: true, ..net(2) };
    for (plan, waves) in [
        (of(&net(3)), (2, 5)),
        (of(&net(3)), (0, 1)),
        (of(&net(3)), (3, 2)),
        (of(&net(3)), (1, 2)),
        (of(&net(2)), (3, 3)),
        (of(&net(8)), (4, 4)),
        (of(&both), (2, 2)),
    ] {
        let refused = plan.wavefront(waves.0, waves.1).unwrap_err();
        assert!(matches!(refused, Error::Argument { .. }), "{waves:?}: {refused}");
    }
    let stepwise = Plan::new(&net(3), shape, &GPU).unwrap().algorithm(STEPWISE).unwrap();
    assert!(matches!(stepwise.wavefront(2, 2), Err(Error::Argument { .. })));
    // As many units as the device has room for, once.
    let largest = of(&net(2)).choice().persistent().unwrap().largest_hidden();
    let refused = of(&Descriptor { hidden_size: largest, ..net(2) }).wavefront(2, 2).unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }) && refused.to_string().contains("side by side"), "{refused}");
}

fn persistent(case: &Case) -> Bits {
    Bits(run(case, Given::ALL, Place::by(MEMORY, MEMORY)))
}

fn in_clusters(case: &Case) -> Bits {
    Bits(run(case, Given::ALL, Place::by(CLUSTER, CLUSTER)))
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
    type Run = fn(&Case) -> Bits;
    let cases = [lstm(40, 21, true), lstm(23, 9, false), lstm(121, 9, true)];
    let runs: [(Run, Vec<Case>); 2] = [
        (persistent, cases.iter().cloned().chain(two(40, 21, true)).chain(two(39, 9, false)).collect()),
        (in_clusters, if clusters() { cases.to_vec() } else { Vec::new() }),
    ];
    for (run, cases) in runs {
        for case in cases {
            let mut first = None;
            for order in ORDERS {
                softgpu::schedule(order);
                let got = run(&case);
                same(&format!("twice in the order {order}"), &got, &run(&case));
                same(&format!("in the order {order}"), &got, first.get_or_insert_with(|| got.clone()));
            }
        }
    }
}

/// What is told where each block of `plan` may be waiting: `all` of them where it is known who waits.
#[track_caller]
fn told(said: &str, all: Option<usize>, most: usize, file: &str) {
    assert!(said.contains("deadlock") && said.contains("persistent_"), "{said}");
    // Those that are done have left.
    let told = said.matches("\n  block (").count();
    assert!(all.map_or((1..=most).contains(&told), |all| told == all) && said.contains(file), "{told}: {said}");
}

/// A release or a word that does not come leaves the others waiting: told with every block's place. Nobody waits for flags of the last
/// step forward, nor for what is exchanged of a sequence's last step forward.
#[test]
fn a_lost_release_is_a_deadlock() {
    if !ordered("persistent::a_lost_release_is_a_deadlock") {
        return;
    }
    // Of the releases the n-th is to be the same in every run.
    softgpu::schedule("forward");
    for (kind, dtype, hidden) in [
        (Kind::Lstm, DType::BF16, 24),
        (Kind::Gru, DType::F16, 39),
        (Kind::Relu, DType::F32, 21),
        (Kind::Peephole, DType::F32, 40),
    ] {
        lost_words(kind, dtype, hidden);
    }
    every_lost_word();
    for case in two(24, 9, false) {
        lost_releases(&Case { steps: 3, lengths: vec![3; 9], ..case });
    }
}

/// The n-th word or flag is lost: what is said of it, or None where nobody waits for it, and then the results are `want`.
fn lost(n: u64, want: &Bits, run: impl Fn() -> Bits) -> Option<String> {
    softgpu::plant(Fault::LostRelease(n));
    let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    softgpu::plant(Fault::None);
    let said = softgpu::forgive();
    if let Ok(got) = got {
        assert!(got == *want, "{n} was lost and changed a result");
        return None;
    }
    Some(said)
}

/// How many there are.
fn releases(want: &Bits, run: impl Fn() -> Bits) -> usize {
    softgpu::plant(Fault::LostRelease(u64::MAX));
    same("nothing is planted", &run(), want);
    softgpu::plant(Fault::None) as usize
}

/// Words of a row of h.
fn words(options: &Options) -> usize {
    (options.hidden * options.dtype.size()).div_ceil(4)
}

/// One group and one tile, so that words are written step by step and everybody waits for each: of some twenty the place among the steps
/// says who does.
fn lost_words(kind: Kind, dtype: DType, hidden: usize) {
    let (steps, sequences) = (4, 5);
    let options = Options { dtype, ..Options::new(kind, 3, hidden) };
    let case = Case { options, steps, lengths: vec![steps; sequences], form: Form::Full, given: true, seed: 3 };
    let plan = plan(&case, MEMORY).unwrap().choice().persistent().expect("it fits").clone();
    let row = sequences * words(&options);
    for (algorithms, tiling, step) in
        [((MEMORY, STEPWISE), plan.forward, row), ((STEPWISE, MEMORY), plan.backward, row * products(kind))]
    {
        assert!((tiling.groups, tiling.tiles) == (1, 1) && tiling.members > 1, "{tiling}");
        let run = || Bits(run(&case, Given::ALL, Place::by(algorithms.0, algorithms.1)));
        let want = run();
        assert_eq!(releases(&want, run), steps * step, "{tiling}");
        // Behind the last step backward the gradient of the first states is still to come.
        let waited_for = if algorithms.0 == MEMORY { (steps - 1) * step } else { steps * step };
        for n in (0..steps * step).step_by((steps * step / 20) | 1) {
            match lost(n as u64, &want, run) {
                Some(said) => {
                    assert!(n < waited_for, "{n} of {waited_for} that are waited for: {said}");
                    told(&said, Some(tiling.members), 0, "persistent_once.cuh");
                }
                None => assert!(n >= waited_for, "word {n} of {waited_for} was lost and nobody noticed: {tiling}"),
            }
        }
        same("and then it goes on", &run(), &want);
    }
}

/// Every word of both directions and several groups, of sequences that end at different steps: as many as there are sequences' last
/// steps forward are not waited for.
fn every_lost_word() {
    let (lengths, case) = (vec![2, 1, 2, 2, 1, 2, 1, 1, 2], lstm(9, 9, true));
    let case = Case { options: Options { kind: Kind::Tanh, ..case.options }, steps: 2, lengths, ..case };
    let plan = plan(&case, MEMORY).unwrap().choice().persistent().expect("it fits").clone();
    assert!(plan.forward.groups > 1 && plan.backward.groups > 1 && plan.forward.members > 1, "{plan}");
    let (rows, word) = (2 * case.lengths.iter().sum::<usize>(), words(&case.options));
    let want = persistent(&case);
    let all = releases(&want, || persistent(&case));
    assert_eq!(all, rows * word * (1 + products(Kind::Tanh)), "{plan}");
    let most = plan.forward.blocks().max(plan.backward.blocks());
    let mut unnoticed = 0;
    for n in 0..all {
        match lost(n as u64, &want, || persistent(&case)) {
            Some(said) => told(&said, None, most, "persistent_once.cuh"),
            None => unnoticed += 1,
        }
    }
    assert_eq!(unnoticed, 2 * case.batch() * word, "of {all}");
    same("and then it goes on", &persistent(&case), &want);
}

/// Every flag of a case with two products.
fn lost_releases(case: &Case) {
    let want = persistent(case);
    let releases = releases(&want, || persistent(case));
    let plan = plan(case, MEMORY).unwrap().choice().persistent().expect("it fits").clone();
    let flags = [plan.forward.flags(), plan.backward.flags()];
    assert_eq!(releases, case.steps * plan.forward.exchanges * (flags[0] + flags[1]), "{plan}");
    let mut unnoticed = 0;
    for n in 0..releases {
        match lost(n as u64, &want, || persistent(case)) {
            Some(said) => told(&said, None, plan.forward.blocks().max(plan.backward.blocks()), "persistent.cuh"),
            None => unnoticed += 1,
        }
    }
    assert_eq!(unnoticed, flags[0], "of {releases}");
    same("and then it goes on", &persistent(case), &want);
}

/// The same of a cluster's stores, each of which is waited for.
#[test]
fn a_lost_store_is_a_deadlock() {
    if !ordered("persistent::a_lost_store_is_a_deadlock") || !clusters() {
        return;
    }
    softgpu::schedule("forward");
    let case = lstm(40, 9, true);
    let want = in_clusters(&case);
    softgpu::plant(Fault::LostRelease(u64::MAX));
    same("nothing is planted", &in_clusters(&case), &want);
    let stores = softgpu::plant(Fault::None);
    let plan = plan(&case, CLUSTER).unwrap().choice().persistent().expect("it fits").clone();
    let (forward, backward) = (plan.forward, plan.backward);
    // 16 bytes are eight states: of both directions, of each sequence that goes on, to every block.
    let goes_on: usize = case.lengths.iter().map(|length| length - 1).sum();
    // Or four sequences' part of one unit's gradient: of each tile in which one is not done, from every block.
    let mut lengths = case.lengths.clone();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let tiles =
        (0..backward.groups).flat_map(|g| (0..backward.tiles).map(move |t| (g * backward.group, t * backward.tile)));
    let tiles = tiles.filter(|(group, tile)| tile < &backward.group && group + tile < lengths.len());
    let turns: usize = tiles.map(|(group, tile)| lengths[group + tile]).sum();
    let (of_forward, of_backward) =
        (2 * goes_on * 5 * forward.members, 2 * turns * 40 * backward.tile / 4 * backward.members);
    assert_eq!(stores, (of_forward + of_backward) as u64, "{plan}");
    assert!(forward.members > 1 && backward.members > 1, "{plan}");
    for n in (0..stores).step_by(stores as usize / 40) {
        softgpu::plant(Fault::LostRelease(n));
        let got = std::panic::catch_unwind(|| in_clusters(&case));
        softgpu::plant(Fault::None);
        let said = softgpu::forgive();
        assert!(got.is_err(), "store {n} of {stores} was lost and nobody noticed");
        let kernel = if n < of_forward as u64 { "persistent_forward_cluster" } else { "persistent_backward_cluster" };
        assert!(said.contains("deadlock") && said.contains(kernel), "{said}");
        let told = said.matches("\n  block (").count();
        assert!((1..=forward.members.max(backward.members)).contains(&told) && said.contains("_cluster.cu"), "{said}");
    }
    same("and then it goes on", &in_clusters(&case), &want);
}

/// Who does not wait at a cluster's barrier reads what is not there yet, or comes to the barrier too often.
#[test]
fn a_missing_wait_in_a_cluster_shows() {
    if !ordered("persistent::a_missing_wait_in_a_cluster_shows") || !clusters() {
        return;
    }
    let case = lstm(121, 9, false);
    let want = in_clusters(&case);
    let wrong = |fault| {
        softgpu::plant(fault);
        let got = std::panic::catch_unwind(|| in_clusters(&case));
        let waits = softgpu::plant(Fault::None);
        softgpu::forgive();
        (got.map_or(true, |got| got != want), waits)
    };
    let mut found = 0;
    for order in ORDERS {
        softgpu::schedule(order);
        assert!(wrong(Fault::NoWait).0, "without any wait, in the order {order}");
        let (differs, waits) = wrong(Fault::HastyAcquire(u64::MAX));
        assert!(!differs && waits > 0, "{waits} waits in the order {order}");
        for n in (0..waits).step_by(waits as usize / 5) {
            found += usize::from(wrong(Fault::HastyAcquire(n)).0);
        }
    }
    assert!(found > 0, "one wait that is left out was never found");
    same("nothing is planted", &in_clusters(&case), &want);
}

/// Who does not wait reads what is not there yet: NaN, or what was there before. Of each kernel; of tiles of sixteen sequences, which
/// take long, where no wait is left.
#[test]
fn a_missing_wait_shows() {
    if !ordered("persistent::a_missing_wait_shows") {
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for (kind, dtype, hidden, sequences) in [
        (Kind::Tanh, DType::BF16, 40, 5),
        (Kind::Lstm, DType::BF16, 40, 9),
        (Kind::Gru, DType::BF16, 40, 5),
        (Kind::Relu, DType::F32, 40, 5),
        (Kind::Lstm, DType::F32, 23, 5),
        (Kind::Gru, DType::F16, 121, 3),
    ] {
        let options = Options { dtype, ..Options::new(kind, 3, hidden) };
        let case = Case { options, steps: 4, lengths: vec![4; sequences], form: Form::Full, given: true, seed: 3 };
        let plan = plan(&case, MEMORY).unwrap().choice().persistent().expect("it fits").clone();
        for (tiling, place) in
            [(plan.forward, Place::by(MEMORY, STEPWISE)), (plan.backward, Place::by(STEPWISE, MEMORY))]
        {
            assert!(tiling.members > 1, "{tiling}");
            a_missing_wait(&case, place);
            seen.insert((products(kind), tiling.tile));
        }
    }
    for kind in [Kind::Tanh, Kind::Lstm, Kind::Gru] {
        for backward in [false, true] {
            // Backward 32 units to a block and eight sequences are mostly better.
            let Some((case, tiling)) = in_sixteens(kind, backward) else {
                assert!(backward, "no tiles of sixteen");
                continue;
            };
            let place = if backward { Place::by(STEPWISE, MEMORY) } else { Place::by(MEMORY, STEPWISE) };
            let run = || Bits(run(&case, Given::ALL, place));
            softgpu::schedule("forward");
            let want = run();
            softgpu::plant(Fault::NoWait);
            assert!(run() != want, "{kind:?}, without any wait: {tiling}");
            softgpu::plant(Fault::None);
            seen.insert((products(kind), tiling.tile));
        }
    }
    println!("gates and sequences of a tile: {seen:?}");
    let all = [1, 3, 4].map(|gates| [8, 16].map(|tile| (gates, tile)));
    assert_eq!(seen, all.into_iter().flatten().collect());
    for case in two(40, 9, false) {
        a_missing_wait(&case, Place::by(MEMORY, MEMORY));
    }
}

/// As few sequences as are divided into tiles of sixteen.
fn in_sixteens(kind: Kind, backward: bool) -> Option<(Case, Tiling)> {
    let of = |sequences: usize| {
        let options = Options { dtype: DType::BF16, ..Options::new(kind, 3, 520) };
        let case = Case { options, steps: 2, lengths: vec![2; sequences], form: Form::Full, given: true, seed: 3 };
        let plan = plan(&case, MEMORY).unwrap().choice().persistent().expect("it fits").clone();
        (case, if backward { plan.backward } else { plan.forward })
    };
    let all = [9, 16, 40, 64, 70, 100, 128, 256].map(of);
    all.into_iter().find(|(_, tiling)| tiling.tile == 16)
}

fn a_missing_wait(case: &Case, place: Place) {
    let run = || Bits(run(case, Given::ALL, place));
    let want = run();
    let mut found = 0;
    for order in ORDERS {
        softgpu::schedule(order);
        softgpu::plant(Fault::NoWait);
        let got = run();
        softgpu::plant(Fault::HastyAcquire(u64::MAX));
        assert!(got != want, "without any wait, in the order {order}");
        same("nothing is planted", &run(), &want);
        let acquires = softgpu::plant(Fault::None);
        // Most do not wait, for what they wait for is there: some of each order, until one shows.
        let one_in = |some: u64| (0..acquires).step_by((acquires / some).max(1) as usize);
        for n in if found == 0 { one_in(24) } else { one_in(3) } {
            softgpu::plant(Fault::HastyAcquire(n));
            found += usize::from(run() != want);
            softgpu::plant(Fault::None);
        }
    }
    assert!(found > 0, "one acquire that does not wait was never found: {:?}", case.options);
}

/// What is not written yet has all its bits, and so may a NaN have, or two halves that are both one: such numbers come through like any
/// other. They are where they are on the CPU, and the other sequences have the bits that they have without them.
#[test]
fn nan_is_not_taken_for_unwritten() {
    if !capable() {
        return;
    }
    // The processor's conversions keep a NaN's bits; the compiler's own, of what it knows, need not.
    let all_bits = std::hint::black_box(f64::from_bits(u64::MAX));
    assert_eq!((all_bits as f32).to_bits(), u32::MAX);
    assert_eq!(gatefold::dtype::f16::from_f64(all_bits).to_bits(), u16::MAX);
    assert_eq!(gatefold::dtype::bf16::from_f64(all_bits).to_bits(), u16::MAX);
    // Of the sequences this one.
    const WHOSE: usize = 1;
    let (steps, sequences, hidden) = (4, 3, 21);
    for (kind, dtype) in [Kind::Relu, Kind::Lstm, Kind::Gru]
        .into_iter()
        .flat_map(|kind| [DType::F32, DType::F16, DType::BF16].map(|dtype| (kind, dtype)))
    {
        for (layers, waves) in [(1, None), (2, Some((2, 3)))] {
            let options = Options { dtype, layers, ..Options::new(kind, 2, hidden) };
            let case = Case { options, steps, lengths: vec![steps; sequences], form: Form::Full, given: true, seed: 3 };
            let place = Place::by(MEMORY, MEMORY);
            let place = waves.map_or(place, |(beside, stretches)| place.in_waves(beside, stretches));
            let untouched = run(&case, Given::ALL, place);
            for what in ["x", "h0", "weight_hh_l0"] {
                for nan in [all_bits, f64::NAN] {
                    let change = |name: &str, values: &mut [f64]| match name {
                        _ if name != what => {}
                        // Of one step, or of the first layer.
                        "x" => values[(sequences + WHOSE) * 2..][..2].fill(nan),
                        "h0" => values[WHOSE * hidden..][..hidden].fill(nan),
                        _ => values[hidden + 4..][..2].fill(nan),
                    };
                    let context = format!("{nan:?} ({:x}) in {what}: {:?}", nan.to_bits(), case.options);
                    let want = run_with(&case, Given::ALL, Place::of(CPU), &change);
                    let got = run_with(&case, Given::ALL, place, &change);
                    let got = got.into_iter().filter(|(name, _)| !name.ends_with("in inference")).collect::<Named>();
                    assert!(got.iter().any(|(_, values)| values.iter().any(|v| v.is_nan())), "{context}");
                    assert_eq!(got.len(), want.len());
                    for ((name, got), (_, want)) in got.iter().zip(&want) {
                        let backward = name.starts_with("gradient");
                        let scale = want.iter().filter(|v| !v.is_nan()).fold(1.0f64, |most, v| most.max(v.abs()));
                        let bound = case.bound(backward) * scale;
                        for (i, (got, want)) in got.iter().zip(want).enumerate() {
                            assert_eq!(got.is_nan(), want.is_nan(), "{name}[{i}]: {got}, want {want}: {context}");
                            let near = want.is_nan() || (got - want).abs() <= bound;
                            assert!(
                                near || (backward && !case.compares_gradients()),
                                "{name}[{i}]: {got}, want {want} within {bound:e}: {context}"
                            );
                        }
                    }
                    if what == "weight_hh_l0" {
                        continue;
                    }
                    for (name, got) in &got {
                        let width = match name.trim_start_matches("gradient of ") {
                            "x" => 2,
                            "y" | "hn" | "cn" | "h0" | "c0" => hidden,
                            _ => continue,
                        };
                        let (_, want) = untouched.iter().find(|(other, _)| other == name).expect("the same call");
                        for (i, (got, want)) in got.iter().zip(want).enumerate() {
                            let theirs = i / width % sequences != WHOSE;
                            assert!(!theirs || got.to_bits() == want.to_bits(), "{name}[{i}] of another: {context}");
                        }
                    }
                }
            }
        }
    }
}

/// A unit that is not there, beside the last of an odd number, has no part in anything: what it would be without its recurrent
/// weights is more than a half holds.
#[test]
fn a_unit_that_is_not_there_is_zero() {
    if !capable() {
        return;
    }
    let (steps, hidden) = (2, 9);
    let options = Options { dtype: DType::F16, bias: true, ..Options::new(Kind::Relu, 2, hidden) };
    let case = Case { options, steps, lengths: vec![steps; 3], form: Form::Full, given: true, seed: 5 };
    // The last unit is 60000 after a step: 70000 by its biases, 10000 less by itself, which was 1.
    let change = |name: &str, values: &mut [f64]| match name {
        "h0" => values.chunks_mut(hidden).for_each(|h| h[hidden - 1] = 1.0),
        "weight_ih_l0" => values[(hidden - 1) * 2..].fill(0.0),
        "weight_hh_l0" => {
            values.iter_mut().skip(hidden - 1).step_by(hidden).for_each(|w| *w = 0.0);
            values[(hidden - 1) * hidden..].fill(0.0);
            values[hidden * hidden - 1] = -10000.0;
        }
        "bias_ih_l0" => values[hidden - 1] = 60000.0,
        "bias_hh_l0" => values[hidden - 1] = 10000.0,
        _ => {}
    };
    let find = |name: &str, all: Named| all.into_iter().find(|(other, _)| other == name).expect("an output").1;
    let want = find("y", run_with(&case, Given::ALL, Place::of(CPU), &change));
    let got = find("y", run_with(&case, Given::ALL, Place::by(MEMORY, STEPWISE), &change));
    assert_eq!((want[hidden - 1], got[hidden - 1]), (60000.0, 60000.0));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= case.bound(false) * want.abs().max(1.0), "y[{i}]: {got}, want {want}");
    }
}

/// An infinity goes on as one, though f32 is multiplied in parts of TF32, of which it has none.
#[test]
fn infinities_stay() {
    if !capable() {
        return;
    }
    let (steps, hidden) = (2, 37);
    let options = Options { dtype: DType::F32, bias: true, ..Options::new(Kind::Relu, 2, hidden) };
    let case = Case { options, steps, lengths: vec![steps; 3], form: Form::Full, given: true, seed: 6 };
    // The last unit is infinite after a step, by its biases, and stays so; no weight of it is 0, whose product with that is NaN.
    let change = |name: &str, values: &mut [f64]| match name {
        "weight_hh_l0" => {
            values.iter_mut().filter(|w| **w == 0.0).for_each(|w| *w = 0.1);
            values[hidden * hidden - 1] = 0.2;
        }
        "bias_ih_l0" | "bias_hh_l0" => values[hidden - 1] = 3e38,
        _ => {}
    };
    let find = |all: Named| all.into_iter().find(|(name, _)| name == "y").expect("an output").1;
    let want = find(run_with(&case, Given::ALL, Place::of(CPU), &change));
    let infinite = want.iter().filter(|y| y.is_infinite()).count();
    assert!(infinite > 3 * steps && want.contains(&0.0) && !want.iter().any(|y| y.is_nan()), "{want:?}");
    for algorithm in [MEMORY, CLUSTER].into_iter().filter(|&algorithm| algorithm == MEMORY || clusters()) {
        let got = find(run_with(&case, Given::ALL, Place::by(algorithm, STEPWISE), &change));
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let close = (got - want).abs() <= case.bound(false) * want.abs().max(1.0);
            assert!(got == want || close, "{algorithm:?}: y[{i}] is {got}, want {want}");
        }
    }
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
        (Descriptor { hidden_size: 9000, ..lstm.clone() }, "9000 hidden units do not fit"),
    ] {
        let plan = Plan::new(&d, shape, &GPU).unwrap();
        assert!(plan.choice().algorithm() == STEPWISE && plan.choice().reason().contains(says), "{}", plan.choice());
        let refused = plan.algorithm(PERSISTENT).unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }) && refused.to_string().contains(says), "{refused}");
    }
    for (d, says) in [
        (Descriptor { hidden_size: 600, ..lstm.clone() }, "cluster"),
        (Descriptor { proj_size: 5, ..lstm.clone() }, "projection"),
        (Descriptor { cell: Cell::GruResetBefore, ..lstm.clone() }, "resets before"),
    ] {
        let refused = Plan::new(&d, shape, &GPU).unwrap().algorithm(CLUSTER).unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }) && refused.to_string().contains(says), "{refused}");
    }
    let plan = Plan::new(&lstm, shape, &GPU).unwrap();
    let forced = plan.clone().algorithm(PERSISTENT).unwrap();
    assert!(forced.choice().to_string().contains("blocks of 256 threads"), "{}", forced.choice());
    let stepwise = plan.algorithm(STEPWISE).unwrap();
    assert_eq!(stepwise.choice().to_string(), "stepwise: it was asked for");
}

/// Gates that h is multiplied for, where a step has one product.
fn products(kind: Kind) -> usize {
    match kind {
        Kind::Tanh | Kind::Relu => 1,
        Kind::Gru => 3,
        _ => 4,
    }
}

/// What `docs/kernels.md` says that a pass moves whose steps have one product, in f32 exactly.
fn model_once(t: &Tiling, options: &Options, batch: usize, steps: usize, backward: bool) -> Traffic {
    let (kind, size, hidden) = (options.kind, options.dtype.size(), options.hidden);
    let products = products(kind);
    // The GRU keeps a fourth gate, what the reset gate is multiplied with.
    let gates = if kind == Kind::Gru { 4 } else { products };
    let (lstm, training) = (kind.is_lstm(), gates * size);
    let depth = hidden.div_ceil(64 / size) * if backward { products } else { 1 };
    // Rows of weights by eights, of which those that are there lie in memory; the chunks of a warp that are in registers; and numbers of
    // a cell's sum.
    let (octets, side, wide) = (t.units / 8, t.tile / 8, t.units > 16);
    let eights = if !backward {
        2 * products
    } else if wide {
        4
    } else {
        2
    };
    let there = octets * if backward { 1 } else { products };
    let held = match (size, backward) {
        (4, _) => 0,
        (_, false) => 4,
        (_, true) if products == 1 => 4,
        (_, true) if wide => 8,
        (_, true) if side == 2 && products == 4 => 12,
        (_, true) => 4 * products,
    };
    let values = if backward || products == 1 { 1 } else { 4 };
    let sixteens = if eights <= 4 { octets.div_ceil(2) } else { 2 * octets };
    let each = depth.div_ceil(8);
    let warps = (0..8).map(|w| each.min(depth.saturating_sub(w * each))).filter(|&chunks| chunks > 0);
    let warps: Vec<usize> = warps.collect();
    // Chunks that are waited for together, of those in registers and of the rest.
    let first = 4 / side;
    let rest = match side * eights {
        _ if held == 0 => first,
        _ if !backward && products == 3 => 1,
        ..12 => 2,
        _ => 1,
    };
    // In registers a warp has as many as the others, of which some may be zeros.
    let settled = |&chunks: &usize| each.min(held).div_ceil(first) + chunks.saturating_sub(held).div_ceil(rest);
    let multiplied: usize = warps.iter().map(|&chunks| each.min(held) + chunks.saturating_sub(held)).sum();
    let tiles: usize = (0..t.groups).map(|g| t.group.min(batch - g * t.group).div_ceil(t.tile)).sum();
    let (goes, cells) = (steps * t.members * tiles, steps * batch * hidden);
    let sums = 64 * octets * side * values * 4;
    // Pre-activations; or activations, dy, and two cell states or the state before.
    let own = match backward {
        false => products * 4,
        true => {
            training
                + size
                + if lstm {
                    2 * 4
                } else if kind == Kind::Gru {
                    size
                } else {
                    0
                }
        }
    };
    // Activations or their gradients, and beside them h twice and c, or once more what is behind the product.
    let out = training + if backward { products * size } else { 2 * size + if lstm { 4 } else { 0 } };
    let told = if backward { products } else { 1 };
    let bytes = |n: usize| n as u64;
    Traffic {
        global_in: bytes(goes * depth * t.tile * 64 + cells * own),
        global_out: bytes(cells * out),
        shared_in: bytes(
            // Every cell of a tile adds all warps' sums.
            goes * (warps.iter().map(|chunks| chunks.saturating_sub(held)).sum::<usize>() * there * 512 + 8 * sums),
        ),
        shared_out: bytes(goes * warps.len() * sums),
        acquires: bytes(goes * warps.iter().map(settled).sum::<usize>() * 32),
        releases: bytes(steps * batch * told * words(options)),
        mma: bytes(goes * multiplied * sixteens * side * if size == 4 { 6 } else { 2 }),
        cluster_out: 0,
    }
}

/// The same in bf16 where steps have two products: `steps` steps, of which each but the first has one before it.
fn model(t: &Tiling, options: &Options, batch: usize, steps: usize, backward: bool) -> Traffic {
    const SIZE: usize = 2;
    let (hidden, proj, reset) = (options.hidden, options.proj, options.kind == Kind::ResetBefore);
    let h = if proj > 0 { proj } else { hidden };
    assert!(reset || proj > 0, "two products");
    let (units, shares) = (t.units, if proj > 0 { h.div_ceil(t.members) } else { t.units });
    // Of each product: rows and depth of a block; of how many units, and how many a block's, the depth comes; how often it is done,
    // and how many sums a sequence takes from it. Forward nothing comes before the first step; backward the last one's gates make the
    // gradient of the first state.
    let products = match (reset, proj > 0, backward) {
        (true, _, false) => {
            vec![
                (2 * units, hidden, (hidden, units), steps - 1, 2 * hidden),
                (units, hidden, (hidden, units), steps - 1, hidden),
            ]
        }
        (true, _, true) => {
            vec![(units, 2 * hidden, (hidden, units), steps, hidden), (units, hidden, (hidden, units), steps, hidden)]
        }
        (_, true, false) => {
            vec![(4 * units, h, (h, shares), steps - 1, 4 * hidden), (shares, hidden, (hidden, units), steps, h)]
        }
        (_, true, true) => {
            vec![(shares, 4 * hidden, (hidden, units), steps, h), (units, h, (h, shares), steps, hidden)]
        }
        (_, false, _) => unreachable!(),
    };
    // The last group has what is left.
    let tiles: usize = (0..t.groups).map(|g| t.group.min(batch - g * t.group).div_ceil(t.tile)).sum();
    // Numbers of the storage type and of f32 in and out, of a unit, and of h where that is another.
    let (own_in, own_out, other_in, other_out) = match (backward, reset) {
        // Pre-activations; activations, h or what makes it, and c or h.
        (false, true) => (3 * 4, 5 * SIZE, 0, 0),
        (false, false) => (4 * 4, 5 * SIZE + 4, 0, SIZE),
        // Activations, dy and two cell states, or twice the state before; gradients of gates, and those of the projected h.
        (true, true) => (6 * SIZE, 3 * SIZE, 0, 0),
        (true, false) => (4 * SIZE + 2 * 4, 4 * SIZE, SIZE, SIZE),
    };
    let (cells, others) = (steps * batch * hidden, steps * batch * h);
    let mut sum = Traffic {
        global_in: (cells * own_in + others * other_in) as u64,
        global_out: (cells * own_out + others * other_out) as u64,
        releases: (products.len() * steps * t.members * tiles) as u64,
        ..Traffic::default()
    };
    for (rows, depth, (period, each), times, sums) in products {
        let (chunks, eights) = (depth.div_ceil(32), rows.div_ceil(8));
        let stretch = chunks.div_ceil(8);
        let warps = chunks.div_ceil(stretch);
        let goes = times * t.members * tiles;
        // A warp waits for the members whose units its stretch of the depth belongs to.
        let waits: usize = (0..warps)
            .map(|w| {
                let stretch = w * stretch * 32..((w + 1) * stretch * 32).min(depth);
                (0..t.members).filter(|m| stretch.clone().any(|k| k % period / each == *m)).count()
            })
            .sum();
        sum.global_in += (times * t.members * batch * depth * SIZE) as u64;
        sum.shared_in += (goes * chunks * eights * 8 * 64 + times * batch * sums * warps * 4) as u64;
        sum.shared_out += (goes * warps * eights * 8 * t.tile * 4) as u64;
        sum.acquires += (goes * waits) as u64;
        sum.mma += (goes * chunks * 2 * eights.div_ceil(2) * t.tile / 8) as u64;
    }
    sum
}

/// The same of the steps backward in clusters.
fn cluster_model_backward(t: &Tiling, hidden: usize, batch: usize, steps: usize) -> Traffic {
    const SIZE: usize = 2;
    const GATES: usize = 4;
    let (chunks, eights) = ((GATES * t.units).div_ceil(32), hidden.div_ceil(8));
    let tiles: usize = (0..t.groups).map(|g| t.group.min(batch - g * t.group).div_ceil(t.tile)).sum();
    let (goes, cells) = (steps * t.members * tiles, steps * batch * hidden);
    let sent = goes * eights * 8 * t.tile / 4;
    let bytes = |n: usize| n as u64;
    Traffic {
        global_in: bytes(cells * ((GATES + 1) * SIZE + 2 * 4)),
        global_out: bytes(cells * GATES * SIZE),
        // The weights; the gradients of the block's gates, for four rows of eight units at a time; every block's part.
        shared_in: bytes(
            goes * chunks * eights * 8 * 64
                + steps * t.members * batch * eights.div_ceil(4) * chunks * 64
                + cells * t.members * 4,
        ),
        shared_out: bytes(cells * GATES * SIZE),
        acquires: bytes(goes * t.threads()),
        releases: bytes(sent),
        mma: bytes(goes * chunks * 2 * eights.div_ceil(2) * t.tile / 8),
        cluster_out: bytes(sent * 16),
    }
}

/// The same of the steps forward in clusters.
fn cluster_model(t: &Tiling, hidden: usize, batch: usize, steps: usize) -> Traffic {
    const SIZE: usize = 2;
    const GATES: usize = 4;
    let (chunks, eights) = (hidden.div_ceil(32), (GATES * t.units).div_ceil(8));
    let sixteens = eights.div_ceil(2);
    let shares = sixteens.next_power_of_two().min(4);
    let parts = chunks.div_ceil(chunks.div_ceil(8 / shares));
    // Groups of warps that have rows: each reads the states.
    let reading = sixteens.div_ceil(sixteens.div_ceil(shares));
    let products = steps - 1;
    let tiles: usize = (0..t.groups).map(|g| t.group.min(batch - g * t.group).div_ceil(t.tile)).sum();
    let goes = products * t.members * tiles;
    let cells = batch * hidden;
    // 16 bytes are stored at a time: from every block of the cluster, in every one.
    let sent = products * batch * t.members * hidden.div_ceil(8);
    let bytes = |n: usize| n as u64;
    Traffic {
        global_in: bytes(steps * cells * GATES * 4),
        global_out: bytes(steps * cells * ((GATES + 1) * SIZE + 4)),
        shared_in: bytes(
            goes * chunks * eights * 8 * 64
                + products * t.members * batch * reading * chunks * 64
                + products * cells * GATES * parts * 4
                + sent * 16,
        ),
        shared_out: bytes(goes * parts * eights * 8 * t.tile * 4 + steps * cells * SIZE),
        acquires: bytes(goes * t.threads()),
        releases: bytes(sent),
        mma: bytes(goes * chunks * 2 * sixteens * t.tile / 8),
        cluster_out: bytes(sent * 16),
    }
}

fn sum(a: &Traffic, b: &Traffic) -> Traffic {
    Traffic {
        global_in: a.global_in + b.global_in,
        global_out: a.global_out + b.global_out,
        shared_in: a.shared_in + b.shared_in,
        shared_out: a.shared_out + b.shared_out,
        acquires: a.acquires + b.acquires,
        releases: a.releases + b.releases,
        mma: a.mma + b.mma,
        cluster_out: a.cluster_out + b.cluster_out,
    }
}

#[test]
fn what_a_step_in_a_cluster_moves() {
    if !ordered("persistent::what_a_step_in_a_cluster_moves") || !clusters() {
        return;
    }
    for (hidden, sequences, steps) in [(64, 16, 3), (100, 70, 4), (256, 16, 3), (512, 16, 3)] {
        let options = Options { dtype: DType::BF16, ..Options::new(Kind::Lstm, 3, hidden) };
        let case = Case { options, steps, lengths: vec![steps; sequences], form: Form::Full, given: false, seed: 3 };
        let plan = plan(&case, CLUSTER).unwrap().choice().persistent().expect("it was asked for").clone();
        let forward = cluster_model(&plan.forward, hidden, sequences, steps);
        let backward = cluster_model_backward(&plan.backward, hidden, sequences, steps);
        let got = softgpu::traffic(|| drop(in_clusters(&case)));
        println!(
            "LSTM of {hidden} units in bf16, {sequences} sequences, {steps} steps\n{plan}\n{forward:?}\n{backward:?}"
        );
        assert_eq!(got, sum(&forward, &backward), "{plan}");
    }
}

#[test]
fn what_a_step_moves() {
    if !ordered("persistent::what_a_step_moves") {
        return;
    }
    for (kind, dtype, hidden, proj, sequences, steps) in [
        (Kind::Lstm, DType::BF16, 64, 0, 16, 3),
        (Kind::Lstm, DType::BF16, 96, 0, 70, 4),
        (Kind::Lstm, DType::BF16, 1024, 0, 16, 3),
        // More than registers hold, in both passes, in tiles of eight and of sixteen.
        (Kind::Peephole, DType::F16, 1100, 0, 5, 2),
        (Kind::Lstm, DType::BF16, 1100, 0, 32, 2),
        (Kind::Lstm, DType::F32, 301, 0, 20, 3),
        (Kind::Gru, DType::F16, 100, 0, 20, 3),
        (Kind::Gru, DType::F32, 72, 0, 9, 3),
        (Kind::Gru, DType::BF16, 520, 0, 128, 2),
        (Kind::Gru, DType::BF16, 1100, 0, 9, 2),
        (Kind::Tanh, DType::BF16, 1100, 0, 9, 3),
        (Kind::Relu, DType::F32, 20, 0, 3, 3),
        (Kind::Relu, DType::F16, 520, 0, 70, 2),
        (Kind::ResetBefore, DType::BF16, 96, 0, 70, 4),
        (Kind::ResetBefore, DType::BF16, 1024, 0, 16, 3),
        (Kind::Lstm, DType::BF16, 96, 40, 70, 4),
        (Kind::Lstm, DType::BF16, 1024, 512, 16, 3),
    ] {
        let options = Options { dtype, proj, ..Options::new(kind, 3, hidden) };
        let case = Case { options, steps, lengths: vec![steps; sequences], form: Form::Full, given: false, seed: 3 };
        let plan = plan(&case, MEMORY).unwrap().choice().persistent().expect("it was asked for").clone();
        let model = if plan.forward.exchanges == 2 { model } else { model_once };
        let forward = model(&plan.forward, &options, sequences, steps, false);
        let backward = model(&plan.backward, &options, sequences, steps, true);
        let got = softgpu::traffic(|| drop(persistent(&case)));
        println!(
            "{kind:?} of {hidden} units to {proj} in {dtype}, {sequences} sequences, {steps} steps\n{plan}\n{forward:?}\n{backward:?}"
        );
        assert_eq!(got, sum(&forward, &backward), "{plan}");
    }
}
