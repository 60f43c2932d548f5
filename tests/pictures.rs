//! Numbers in pictures of docs/ are those of the code.

use std::{fs, path::Path};

use gatefold::{
    Device,
    recurrent::{Cell, Descriptor, Plan, Shape},
};

/// `12345678` as `12,345,678`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let group = |(i, digit): (usize, char)| {
        let comma = i > 0 && (digits.len() - i).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(group).collect()
}

#[test]
fn a_training_step() {
    let svg = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels/training-step.svg");
    let svg = fs::read_to_string(svg).unwrap();
    let (seq, batch, input, hidden) = (100, 32, 128, 256);
    let mut descriptor = Descriptor::new(Cell::Lstm, input, hidden);
    (descriptor.num_layers, descriptor.bidirectional, descriptor.dropout) = (2, true, 0.5);
    let plan = Plan::new(&descriptor, Shape { seq, batch }, &Device::Cpu).unwrap();

    let reserve = 4 * plan.reserve_len();
    let x = 4 * seq * batch * input;
    let parameters = 4 * descriptor.parameters().iter().map(|spec| spec.numel()).sum::<usize>();
    let y = 4 * seq * batch * 2 * hidden;
    for text in [
        format!(": {} bytes.", grouped(reserve)),
        // Where the CPU has room for x a GPU has none.
        format!("The reserve: {} bytes on a GPU", grouped(reserve - x)),
        format!(">2 × {} B<", grouped(parameters)),
        format!(">{} B<", grouped(y)),
    ] {
        assert!(svg.contains(&text), "no {text:?}");
    }
    assert_eq!(grouped(1_234_567) + &grouped(12), "1,234,56712");
}
