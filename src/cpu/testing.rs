//! What the tests of the kernels share: numbers, buffers of any dtype, comparison, pools of threads.

use std::io::Write;

use super::{Buffer, Cpu, split::PARALLEL};
use crate::{
    dtype::{DType, Element, with_dtype},
    kernel::Kernels,
    rng::Philox,
};

pub const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];
/// Around the widths of vectors, lanes, leaves and pieces.
pub const LENGTHS: [usize; 14] = [0, 1, 7, 15, 16, 17, 63, 65, 255, 257, 1025, 5000, PARALLEL - 1, PARALLEL + 17];

/// Says that the calling test cannot run, in a line of its own. Not by println!, which the harness holds back where a test passes.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("\nskipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stdout().write_all(line.as_bytes()).expect("standard output");
}

/// `n` numbers in [−2, 2).
pub fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Philox::seed(seed);
    (0..n).map(|_| rng.uniform() as f64 * 4.0 - 2.0).collect()
}

pub fn buffer(dtype: DType, values: &[f64]) -> Buffer {
    with_dtype!(dtype, T => {
        Cpu.upload(&values.iter().map(|&v| <T as Element>::from_f64(v)).collect::<Vec<T>>()).unwrap()
    })
}

pub fn indices(values: impl IntoIterator<Item = i64>) -> Buffer {
    Cpu.upload(&values.into_iter().collect::<Vec<_>>()).unwrap()
}

/// A buffer of ones, to see that a kernel overwrites what it should.
pub fn stale(dtype: DType, len: usize) -> Buffer {
    buffer(dtype, &vec![1.0; len])
}

pub fn read(x: &Buffer) -> Vec<f64> {
    with_dtype!(x.dtype(), T => x.slice::<T>().iter().map(|v| v.to_f64()).collect())
}

/// Holds every element to within a few roundings of its dtype, scaled by `slack`; NaN and infinities exactly.
#[track_caller]
pub fn close(got: &Buffer, want: &[f64], slack: f64, what: &dyn std::fmt::Debug) {
    let (ulp, tiny) = match got.dtype() {
        DType::F64 => (f64::EPSILON, 0.0),
        DType::F32 => (f32::EPSILON as f64, 1e-37),
        DType::F16 => (1.0 / 1024.0, 6e-8),
        DType::BF16 => (1.0 / 128.0, 1e-37),
        _ => (0.0, 0.0),
    };
    assert_eq!(got.len(), want.len(), "{what:?}");
    let dtype = got.dtype();
    for (i, (got, &want)) in read(got).into_iter().zip(want).enumerate() {
        let rounded = with_dtype!(dtype, T => <T as Element>::from_f64(want).to_f64());
        let near = (got - want).abs() <= slack * ulp * want.abs().max(1e-3) + tiny;
        assert!(got == rounded || near || got.is_nan() && want.is_nan(), "{what:?}: element {i} is {got}, want {want}");
    }
}

/// A sum with its rounding errors added back (Kahan, Neumaier), to measure others by.
pub fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0);
    for v in values {
        let next = sum + v;
        lost += if sum.abs() >= v.abs() { (sum - next) + v } else { (v - next) + sum };
        sum = next;
    }
    sum + lost
}

/// Runs on one, two and three threads and holds the results to the same bits.
#[track_caller]
pub fn same_on_any_threads(run: impl Fn() -> Buffer + Sync) {
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        read(&pool.install(&run)).into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let one = bits(1);
    assert!(one == bits(2) && one == bits(3));
}
