//! Which algorithm runs what: the choices over a grid of networks and devices, as committed, and what plans say of themselves.

use std::fmt::Write;

use gatefold::{
    DType, Device, Error,
    recurrent::{
        Algorithm, Cell, Choice, Descriptor, DeviceProperties, Exchange, Nonlinearity, PersistentPlan, Plan, Shape,
        Tiling, choose,
    },
};

const DEVICES: [(&str, DeviceProperties); 6] = [
    ("H200", DeviceProperties::H200),
    ("H100", DeviceProperties::H100),
    ("A100", DeviceProperties::A100),
    ("L4", DeviceProperties::L4),
    ("T4", DeviceProperties::T4),
    ("RTX 4090", DeviceProperties::RTX_4090),
];
const CELLS: [(&str, Cell); 7] = [
    ("rnn", Cell::Rnn(Nonlinearity::Tanh)),
    ("lstm", Cell::Lstm),
    ("lstm peephole", Cell::LstmPeephole),
    ("gru", Cell::Gru),
    ("gru reset before", Cell::GruResetBefore),
    ("lstm both ways", Cell::Lstm),
    // To half as many units.
    ("lstm projected", Cell::Lstm),
];
const TABLE: &str = "tests/fixtures/algorithm_choices.txt";

fn descriptor(cell: Cell, dtype: DType, hidden: usize) -> Descriptor {
    Descriptor { dtype, ..Descriptor::new(cell, 64, hidden) }
}

fn named(name: &str, cell: Cell, dtype: DType, hidden: usize) -> Descriptor {
    let proj_size = if name.ends_with("projected") { hidden / 2 } else { 0 };
    Descriptor { bidirectional: name.ends_with("both ways"), proj_size, ..descriptor(cell, dtype, hidden) }
}

/// A line for each device, cell, dtype and number of units; a column for each batch: `-` stepwise, else blocks forward/backward, with
/// a c behind those that are clusters.
fn table() -> String {
    const BATCHES: [usize; 7] = [1, 8, 16, 64, 128, 256, 1024];
    let mut text = format!("{:9} {:16} {:8} {:>5}", "device", "cell", "dtype", "H");
    for batch in BATCHES {
        write!(text, " {:>9}", format!("B={batch}")).unwrap();
    }
    for (device, properties) in &DEVICES {
        for (name, cell) in CELLS {
            for dtype in [DType::F64, DType::F32, DType::BF16] {
                for hidden in [64, 100, 256, 512, 768, 1024, 1536, 2048] {
                    let d = named(name, cell, dtype, hidden);
                    write!(text, "\n{device:9} {name:16} {dtype:8} {hidden:5}").unwrap();
                    for batch in BATCHES {
                        let choice = choose(&d, Shape { seq: 100, batch }, properties);
                        let blocks = |t: &Tiling| match t.exchange {
                            Exchange::Memory => t.blocks().to_string(),
                            Exchange::Cluster => format!("{}c", t.blocks()),
                        };
                        let word = match &choice {
                            Choice::Persistent { plan, backward: true, .. } => {
                                format!("{}/{}", blocks(&plan.forward), blocks(&plan.backward))
                            }
                            Choice::Persistent { plan, .. } => format!("{}/-", blocks(&plan.forward)),
                            _ => "-".into(),
                        };
                        write!(text, " {word:>9}").unwrap();
                    }
                }
            }
        }
    }
    text.push('\n');
    text
}

/// `GATEFOLD_WRITE_CHOICES=1` writes the table anew.
#[test]
fn choices_are_those_of_the_table() {
    let got = table();
    if std::env::var_os("GATEFOLD_WRITE_CHOICES").is_some() {
        std::fs::write(TABLE, &got).unwrap();
    }
    let want = std::fs::read_to_string(TABLE).unwrap();
    let other = got.lines().zip(want.lines()).find(|(got, want)| got != want);
    assert_eq!(other, None, "a choice has changed (got, want)");
    assert_eq!(got.lines().count(), want.lines().count());
}

/// Whatever is chosen fits: on the device at once, in a block's shared memory, and covers all units and sequences.
#[test]
fn what_is_chosen_fits() {
    for (_, device) in DEVICES {
        for (name, cell) in CELLS {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                for hidden in (1..300).step_by(7).chain((300..2200).step_by(171)) {
                    for batch in [1, 3, 8, 17, 32, 100, 511, 2000] {
                        for bidirectional in [false, true] {
                            let d = Descriptor { bidirectional, ..named(name, cell, dtype, hidden) };
                            let Ok(plan) = PersistentPlan::fit(&d, Shape { seq: 9, batch }, &device) else { continue };
                            for tiling in [plan.forward, plan.backward] {
                                assert!(tiling.blocks() <= device.multiprocessors, "{d}: {tiling}");
                                assert!(tiling.shared <= device.shared_per_block, "{d}: {tiling}");
                                let two = d.proj_size > 0 || cell == Cell::GruResetBefore;
                                assert_eq!(tiling.exchanges, 1 + usize::from(two), "{d}: {tiling}");
                                let (units, members) = (tiling.units, tiling.members);
                                let most = if two { 16 } else { 32 };
                                assert!((1..=most).contains(&units), "{d}: {tiling}");
                                assert!(units * members >= hidden && units * (members - 1) < hidden, "{d}: {tiling}");
                                let (groups, group) = (tiling.groups, tiling.group);
                                assert!(groups * group >= batch && (groups - 1) * group < batch, "{d}: {tiling}");
                                assert!(tiling.tile * tiling.tiles >= group, "{d}: {tiling}");
                                assert!(tiling.tile * (tiling.tiles - 1) < group, "{d}: {tiling}");
                            }
                        }
                    }
                }
            }
        }
    }
}

const WAVES: &str = "tests/fixtures/wavefronts.txt";

/// A line for each device, cell, number of layers and units, a column for each length and batch: layers side by side × stretches of the
/// steps forward and backward, `-` where layers run one after the other, or where nothing persistent is chosen.
fn waves() -> String {
    let shapes = [100, 500, 2000].into_iter().flat_map(|seq| [1, 16, 64, 128].map(|batch| Shape { seq, batch }));
    let shapes: Vec<Shape> = shapes.collect();
    let mut text = format!("{:9} {:13} {:8} {:>2} {:>5}", "device", "cell", "dtype", "L", "H");
    for Shape { seq, batch } in &shapes {
        write!(text, " {:>11}", format!("T{seq} B{batch}")).unwrap();
    }
    for (device, properties) in DEVICES.iter().filter(|(name, _)| !["H100", "T4"].contains(name)) {
        for (name, cell) in [CELLS[1], CELLS[3]] {
            for dtype in [DType::F32, DType::BF16] {
                for (layers, hidden) in [2, 4].into_iter().flat_map(|l| [128, 256, 512, 1024].map(|h| (l, h))) {
                    write!(text, "\n{device:9} {name:13} {dtype:8} {layers:2} {hidden:5}").unwrap();
                    for shape in &shapes {
                        let d = Descriptor { num_layers: layers, ..descriptor(cell, dtype, hidden) };
                        let of = |t: &Tiling| match t.layers {
                            1 => "-".into(),
                            beside => format!("{beside}×{}", t.stretches),
                        };
                        let word = match choose(&d, *shape, properties) {
                            Choice::Persistent { plan, backward: true, .. } => {
                                format!("{} {}", of(&plan.forward), of(&plan.backward))
                            }
                            Choice::Persistent { plan, .. } => format!("{} .", of(&plan.forward)),
                            _ => "stepwise".into(),
                        };
                        write!(text, " {word:>11}").unwrap();
                    }
                }
            }
        }
    }
    text.push('\n');
    text
}

/// As [`choices_are_those_of_the_table`].
#[test]
fn wavefronts_are_those_of_the_table() {
    let got = waves();
    if std::env::var_os("GATEFOLD_WRITE_CHOICES").is_some() {
        std::fs::write(WAVES, &got).unwrap();
    }
    let want = std::fs::read_to_string(WAVES).unwrap();
    let other = got.lines().zip(want.lines()).find(|(got, want)| got != want);
    assert_eq!(other, None, "a wavefront has changed (got, want)");
    assert_eq!(got.lines().count(), want.lines().count());
}

/// Layers run side by side only where all of them have room at once, in stretches that are long beside their beginnings, and faster than
/// one after the other; never where one needs both directions of another.
#[test]
fn wavefronts_fit() {
    let mut seen = [0; 4];
    for (_, device) in DEVICES {
        for (name, cell) in CELLS {
            for dtype in [DType::F32, DType::BF16] {
                for (layers, hidden) in [1, 2, 3, 5].into_iter().flat_map(|l| [32, 100, 300, 700].map(|h| (l, h))) {
                    for (seq, batch) in [1, 40, 700, 5000].into_iter().flat_map(|t| [1, 17, 90].map(|b| (t, b))) {
                        let bidirectional = name.ends_with("both ways");
                        let d = Descriptor { num_layers: layers, bidirectional, ..descriptor(cell, dtype, hidden) };
                        let shape = Shape { seq, batch };
                        let Ok(plan) = PersistentPlan::fit(&d, shape, &device) else { continue };
                        let one =
                            PersistentPlan::fit(&Descriptor { num_layers: 1, ..d.clone() }, shape, &device).unwrap();
                        for (t, alone) in [(plan.forward, one.forward), (plan.backward, one.backward)] {
                            seen[t.layers] += 1;
                            assert!(t.layers <= layers && t.blocks_at_once() == t.layers * t.blocks(), "{d}: {t}");
                            assert!(t.blocks_at_once() <= device.multiprocessors, "{d}: {t}");
                            assert_eq!(t.stretch, seq.div_ceil(t.stretches), "{d}: {t}");
                            if t.layers == 1 {
                                // Nothing else has changed.
                                assert_eq!(t, alone, "{d}");
                                assert_eq!((t.stretches, t.layer_cycles), (1, t.cycles), "{d}: {t}");
                                continue;
                            }
                            assert!(!bidirectional && (t.layers..=seq).contains(&t.stretches), "{d}: {t}");
                            assert!(t.layer_cycles < alone.cycles && t.cycles >= alone.cycles, "{d}: {t}, {alone}");
                            // A launch, a product and the weights are a sixteenth.
                            assert!((7000 + t.shared / 40) * 16 <= t.stretch * t.cycles, "{d}: {t}");
                            let says = format!(
                                ", {} layers side by side in {} stretches of {} steps",
                                t.layers, t.stretches, t.stretch
                            );
                            assert!(t.to_string().ends_with(&says), "{t}");
                        }
                    }
                }
            }
        }
    }
    assert!(seen[1..].iter().all(|&n| n > 0), "{seen:?}");
}

/// In clusters: of a size that there is, as many as fit, 16 bytes of states at a time; and never on a device that has none.
#[test]
fn what_is_exchanged_in_clusters_fits() {
    let mut sizes = [0; 5];
    for (_, device) in DEVICES {
        for most in [0, 8, 16] {
            let mut device = device;
            (0..5).filter(|size| 1 << size > most).for_each(|size| device.clusters[size] = 0);
            for (_, cell) in CELLS {
                for dtype in [DType::F32, DType::F16, DType::BF16] {
                    for (hidden, batch) in (1..600).step_by(13).flat_map(|h| [1, 8, 33, 200].map(|b| (h, b))) {
                        let (d, shape) = (descriptor(cell, dtype, hidden), Shape { seq: 9, batch });
                        let by = |exchange| PersistentPlan::fit_by(&d, shape, &device, exchange);
                        if let Ok(plan) = by(Exchange::Memory) {
                            let both = [plan.forward.exchange, plan.backward.exchange];
                            assert_eq!(both, [Exchange::Memory; 2], "{d}: {plan}");
                        }
                        let Ok(plan) = by(Exchange::Cluster) else { continue };
                        let free = PersistentPlan::fit(&d, shape, &device).unwrap();
                        for (t, free) in [(plan.forward, free.forward), (plan.backward, free.backward)] {
                            assert_eq!(t.exchange, Exchange::Cluster, "{d}: {plan}");
                            assert!(most > 0 && t.members <= most && t.members.is_power_of_two(), "{d}: {plan}");
                            assert!(t.units <= 32 && (t.units * dtype.size()).is_multiple_of(16), "{d}: {plan}");
                            assert!(t.groups <= device.clusters[t.members.ilog2() as usize], "{d}: {plan}");
                            assert!(t.shared <= device.shared_per_block && t.flags() == 0, "{d}: {plan}");
                            assert!(t.to_string().contains("clusters") && free.cycles <= t.cycles, "{d}: {free}, {t}");
                            sizes[t.members.ilog2() as usize] += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(sizes.iter().all(|&n| n > 0), "{sizes:?}");
}

#[test]
fn the_limit_is_where_it_says() {
    for (_, device) in DEVICES {
        for (name, cell) in CELLS {
            for (dtype, batch) in [(DType::F32, 8), (DType::BF16, 1), (DType::BF16, 64)] {
                // What is projected to does not change with the units.
                let proj_size = if name.ends_with("projected") { 40 } else { 0 };
                let of = |hidden| Descriptor { proj_size, ..named(name, cell, dtype, hidden) };
                let fit = |hidden| PersistentPlan::fit(&of(hidden), Shape { seq: 9, batch }, &device);
                let Ok(plan) = fit(64) else { continue };
                let largest = plan.largest_hidden();
                assert!(fit(largest).is_ok() && fit(largest + 1).is_err(), "{cell:?} {dtype}: {largest}");
                let refused = fit(largest + 1).unwrap_err().to_string();
                assert!(refused.contains(&format!("at most {largest} would")), "{refused}");
            }
        }
    }
    let lstm = descriptor(Cell::Lstm, DType::BF16, 1024);
    let plan = PersistentPlan::fit(&lstm, Shape { seq: 100, batch: 16 }, &DeviceProperties::H200).unwrap();
    // As many as it has blocks for, of sixteen units.
    assert_eq!(plan.largest_hidden(), 16 * DeviceProperties::H200.multiprocessors, "{plan}");
}

#[test]
fn reasons() {
    let shape = Shape { seq: 100, batch: 16 };
    let reason = |d: &Descriptor, shape, device| choose(d, shape, &device).reason().to_string();
    let lstm = descriptor(Cell::Lstm, DType::BF16, 256);
    for (d, device, says) in [
        (Descriptor { dtype: DType::F64, ..lstm.clone() }, DeviceProperties::H200, "f64"),
        (lstm.clone(), DeviceProperties::T4, "compute capability 7.5"),
        (lstm.clone(), DeviceProperties { cooperative: false, ..DeviceProperties::H200 }, "at once"),
        (descriptor(Cell::Lstm, DType::BF16, 4096), DeviceProperties::H200, "4096 hidden units do not fit"),
    ] {
        assert!(reason(&d, shape, device).contains(says), "{}", reason(&d, shape, device));
        let refused = PersistentPlan::fit(&d, shape, &device).unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }) && refused.to_string().contains(says), "{refused}");
    }
    for (d, device, says) in [
        (&lstm, DeviceProperties::A100, "no clusters of thread blocks on this device, of compute capability 8.0"),
        (&lstm, DeviceProperties { clusters: [0; 5], ..DeviceProperties::H200 }, "no clusters"),
        (&Descriptor { proj_size: 32, ..lstm.clone() }, DeviceProperties::H200, "a projection needs a second product"),
        (&descriptor(Cell::GruResetBefore, DType::F32, 64), DeviceProperties::H200, "resets before the product"),
        (
            &descriptor(Cell::Lstm, DType::BF16, 513),
            DeviceProperties::H200,
            "513 hidden units do not fit into a cluster",
        ),
        (
            &descriptor(Cell::Lstm, DType::BF16, 512),
            DeviceProperties { clusters: [132, 66, 30, 15, 0], ..DeviceProperties::H200 },
            "8 at most",
        ),
    ] {
        let refused = PersistentPlan::fit_by(d, shape, &device, Exchange::Cluster).unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }) && refused.to_string().contains(says), "{refused}");
        assert!(PersistentPlan::fit_by(d, shape, &device, Exchange::Memory).is_ok());
    }
    let one = Shape { seq: 1, batch: 16 };
    assert!(reason(&lstm, one, DeviceProperties::H200).contains("single step"));
    let wide = descriptor(Cell::Lstm, DType::BF16, 1024);
    let of = |batch| choose(&wide, Shape { seq: 100, batch }, &DeviceProperties::H200);
    assert!(matches!(of(16), Choice::Persistent { backward: true, .. }), "{}", of(16));
    assert!(matches!(of(128), Choice::Persistent { backward: false, .. }), "{}", of(128));
    let many = of(2000);
    assert!(matches!(many, Choice::Stepwise { .. }) && many.reason().contains("the model says"), "{many}");
    // What Auto leaves to steps may still be asked for.
    assert!(PersistentPlan::fit(&wide, Shape { seq: 100, batch: 2000 }, &DeviceProperties::H200).is_ok());
}

#[test]
fn printed() {
    let lstm = descriptor(Cell::Lstm, DType::BF16, 1024);
    let choice = choose(&lstm, Shape { seq: 100, batch: 128 }, &DeviceProperties::H200);
    let text = choice.to_string();
    for part in [
        "persistent forward, stepwise backward: ",
        "forward:  ",
        "backward: ",
        " blocks of 256 threads",
        "bytes of shared memory",
        "hidden units would fit",
    ] {
        assert!(text.contains(part), "{text}");
    }
    println!("{text}");
}

#[test]
fn the_cpu_has_one_algorithm() {
    let d = descriptor(Cell::Lstm, DType::F32, 8);
    let plan = Plan::new(&d, Shape { seq: 3, batch: 2 }, &Device::Cpu).unwrap();
    assert!(
        matches!(plan.choice(), Choice::Stepwise { reason } if reason.contains("cpu is no GPU")),
        "{}",
        plan.choice()
    );
    assert_eq!(plan.clone().algorithm(Algorithm::Stepwise).unwrap().choice().algorithm(), Algorithm::Stepwise);
    let refused = plan.algorithm(Algorithm::Persistent).unwrap_err();
    assert!(refused.to_string().contains("cpu is no GPU"), "{refused}");
}

/// The tables of `docs/kernels.md`, line by line.
#[test]
fn documented() {
    let doc = std::fs::read_to_string("docs/kernels.md").unwrap();
    let mut text = String::from(
        "| | LSTM bf16 | LSTM f32 | GRU bf16 | Elman bf16 | GRU, resets before, bf16 | LSTM, projection, bf16 |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let networks = [
        (Cell::Lstm, DType::BF16, 0),
        (Cell::Lstm, DType::F32, 0),
        (Cell::Gru, DType::BF16, 0),
        (Cell::Rnn(Nonlinearity::Tanh), DType::BF16, 0),
        (Cell::GruResetBefore, DType::BF16, 0),
        (Cell::Lstm, DType::BF16, 256),
    ];
    for (device, properties) in DEVICES.iter().filter(|(name, _)| !["H100", "T4"].contains(name)) {
        write!(text, "| {device} |").unwrap();
        for (cell, dtype, proj_size) in networks {
            let shape = Shape { seq: 100, batch: 16 };
            let d = Descriptor { proj_size, ..descriptor(cell, dtype, if proj_size > 0 { 300 } else { 64 }) };
            let plan = PersistentPlan::fit(&d, shape, properties).unwrap();
            write!(text, " {} |", plan.largest_hidden()).unwrap();
        }
        text.push('\n');
    }
    text += "| H | B=1 forward, backward | B=16 | B=64 | B=128 |\n|---|---|---|---|---|\n";
    for hidden in [128, 256, 512, 768, 1024, 1536] {
        write!(text, "| {hidden} |").unwrap();
        for batch in [1, 16, 64, 128] {
            let shape = Shape { seq: 100, batch };
            let plan =
                PersistentPlan::fit(&descriptor(Cell::Lstm, DType::BF16, hidden), shape, &DeviceProperties::H200);
            let plan = plan.unwrap();
            let micros = |cycles: usize| cycles as f64 / 1755.0;
            let pass = |t: &Tiling| format!("{:.1} ({:.1})", micros(t.cycles), micros(t.stepwise_cycles));
            write!(text, " {}, {} |", pass(&plan.forward), pass(&plan.backward)).unwrap();
        }
        text.push('\n');
    }
    text += "| H | B=1 forward, backward | B=16 forward, backward | B=64 forward, backward |\n|---|---|---|---|\n";
    for hidden in [128, 256, 512, 1024] {
        write!(text, "| {hidden} |").unwrap();
        for batch in [1, 16, 64] {
            let of = |num_layers| {
                let d = Descriptor { num_layers, ..descriptor(Cell::Lstm, DType::BF16, hidden) };
                PersistentPlan::fit(&d, Shape { seq: 500, batch }, &DeviceProperties::H200).unwrap()
            };
            let (alone, four) = (of(1), of(4));
            let pass = |alone: &Tiling, t: &Tiling| {
                let micros = |cycles: usize| cycles as f64 / 1755.0;
                let (before, after) = (micros(alone.cycles), micros(t.layer_cycles));
                match t.layers {
                    1 => format!("{before:.1}"),
                    layers => format!("{before:.1} → {after:.1} ({layers} × {})", t.stretches),
                }
            };
            write!(text, " {}, {} |", pass(&alone.forward, &four.forward), pass(&alone.backward, &four.backward))
                .unwrap();
        }
        text.push('\n');
    }
    println!("{text}");
    for line in text.lines() {
        assert!(doc.lines().any(|l| l == line), "docs/kernels.md has no line {line}");
    }
}
