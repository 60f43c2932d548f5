//! What Philox words become: masks, uniform and normal numbers. Element i is a function of the seed, the stream and i.

#[cfg(target_arch = "x86_64")]
use super::simd::{Isa, isa};
use super::{
    Buffer, double as functions,
    real::{Real, Store},
    simd::vectorize,
    split,
};
use crate::{
    dtype::{DType, bf16, f16, with_dtype},
    error::Result,
    kernel::Distribution,
    rng,
};

/// Blocks of four words that are computed side by side.
const BLOCKS: usize = 16;
const WORDS: usize = 4 * BLOCKS;

/// The words `first..first + WORDS` of a stream; `first` is a multiple of four.
#[repr(align(64))]
struct Words([u32; WORDS]);

impl Words {
    #[inline(always)]
    fn new(seed: u64, stream: u64, first: u64) -> Words {
        let mut lanes = [[0; BLOCKS]; 4];
        for l in 0..BLOCKS {
            let block = rng::block(seed, stream, first / 4 + l as u64);
            for w in 0..4 {
                lanes[w][l] = block[w];
            }
        }
        let mut out = [0; WORDS];
        for l in 0..BLOCKS {
            for w in 0..4 {
                out[4 * l + w] = lanes[w][l];
            }
        }
        Words(out)
    }

    /// The same in AVX-512. A 32-bit word has a lane of 64, whose upper half is not cleared: products of lower halves are single
    /// instructions, and nothing moves between lanes before the end. The compiler's version keeps every round in memory.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn avx512(seed: u64, stream: u64, first: u64) -> Words {
        use std::arch::x86_64::*;
        const XOR: i32 = 0x96;
        let set = |x: u64| _mm512_set1_epi64(x as i64);
        let mut out = Words([0; WORDS]);
        let factors = rng::FACTORS.map(set);
        let mut c = [[_mm512_setzero_si512(); 4]; BLOCKS / 8];
        for (v, c) in c.iter_mut().enumerate() {
            let from = set((first / 4).wrapping_add(8 * v as u64));
            let block = _mm512_add_epi64(from, _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
            *c = [block, _mm512_srli_epi64::<32>(block), set(stream), set(stream >> 32)];
        }
        let mut key = [seed as u32, (seed >> 32) as u32];
        for _ in 0..rng::ROUNDS {
            let k = key.map(|k| set(k.into()));
            for c in &mut c {
                let (a, b) = (_mm512_mul_epu32(factors[0], c[0]), _mm512_mul_epu32(factors[1], c[2]));
                let (ah, bh) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
                let even = _mm512_ternarylogic_epi64::<XOR>(bh, c[1], k[0]);
                *c = [even, b, _mm512_ternarylogic_epi64::<XOR>(ah, c[3], k[1]), a];
            }
            key = rng::next(key);
        }
        for (c, out) in c.into_iter().zip(out.0.as_chunks_mut::<32>().0) {
            // Words 0 and 1 of each block, and 2 and 3, in lanes of 64; then the two of each block side by side.
            let pair = |low, high| _mm512_mask_blend_epi32(0xaaaa, low, _mm512_slli_epi64::<32>(high));
            let (p, q) = (pair(c[0], c[1]), pair(c[2], c[3]));
            let halves = [
                _mm512_permutex2var_epi64(p, _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), q),
                _mm512_permutex2var_epi64(p, _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4), q),
            ];
            for (out, half) in out.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
                // SAFETY: there are sixteen words.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), half) };
            }
        }
        out
    }
}

/// Calls `f(first, words, elements)` for groups of elements of `y`, each made of `words_each` words: fewer in the last group.
fn fill<T: Send>(
    (seed, stream): (u64, u64),
    words_each: usize,
    y: &mut [T],
    f: impl Fn(usize, &[u32; WORDS], &mut [T]) + Copy + Sync,
) {
    split::over(y, |start, y| {
        #[cfg(target_arch = "x86_64")]
        if isa() >= Isa::Avx512 {
            return vectorize(
                #[inline(always)]
                move || {
                    let words = |first| {
                        // SAFETY: `isa` says that the processor has AVX-512.
                        unsafe { Words::avx512(seed, stream, first) }
                    };
                    fill_part(start, words_each, y, words, f);
                },
            );
        }
        vectorize(
            #[inline(always)]
            move || fill_part(start, words_each, y, |first| Words::new(seed, stream, first), f),
        );
    });
}

#[inline(always)]
fn fill_part<T>(
    start: usize,
    words_each: usize,
    y: &mut [T],
    words: impl Fn(u64) -> Words,
    f: impl Fn(usize, &[u32; WORDS], &mut [T]),
) {
    let group = WORDS / words_each;
    let whole = y.len() / group * group;
    // Whole groups apart, so that the compiler knows their length.
    let (groups, rest) = y.split_at_mut(whole);
    for (i, y) in groups.chunks_exact_mut(group).enumerate() {
        let first = start + i * group;
        f(first, &words((first * words_each) as u64).0, y);
    }
    if !rest.is_empty() {
        f(start + whole, &words(((start + whole) * words_each) as u64).0, rest);
    }
}

/// y = x/(1−p) where the uniform of its word is at least p, else 0.
pub fn dropout(seed: u64, stream: u64, p: f64, x: &Buffer, y: &mut Buffer) -> Result<()> {
    with_dtype!(float "dropout", y.dtype(), T => {
        dropout_slice::<T>(seed, stream, p, x.slice(), y.slice_mut());
        Ok(())
    })
}

/// [`dropout`] over slices, for the recurrent layers.
pub fn dropout_slice<T: Store>(seed: u64, stream: u64, p: f64, x: &[T], y: &mut [T]) {
    if p <= 0.0 || p >= 1.0 {
        return split::over(y, |start, y| {
            if p <= 0.0 { y.copy_from_slice(&x[start..start + y.len()]) } else { y.fill(T::default()) }
        });
    }
    let (zero, scale, p) = (T::Real::ZERO, T::Real::of(1.0 / (1.0 - p)), p as f32);
    fill(
        (seed, stream),
        1,
        y,
        #[inline(always)]
        move |first, words, y| {
            let x = &x[first..first + y.len()];
            for ((y, x), &word) in y.iter_mut().zip(x).zip(words) {
                *y = T::narrow(if rng::unit(word) >= p { x.widen() * scale } else { zero });
            }
        },
    );
}

/// Fills from a distribution.
pub fn random(distribution: Distribution, seed: u64, stream: u64, y: &mut Buffer) -> Result<()> {
    let from = (seed, stream);
    with_dtype!(float "random", y.dtype(), T => {
        let y = y.slice_mut::<T>();
        match distribution {
            Distribution::Uniform { low, high } => uniform::<T>(from, low, high, y),
            Distribution::Normal { mean, std } => normal::<T>(from, mean, std, y),
        }
        Ok(())
    })
}

fn uniform<T: Store>(from: (u64, u64), low: f64, high: f64, y: &mut [T]) {
    let real = T::Real::of;
    let (start, span) = (real(low), real(high - low));
    let last = real(last::<T>(low, high));
    if T::DTYPE == DType::F64 {
        fill(
            from,
            2,
            y,
            #[inline(always)]
            move |_, words, y| {
                for (y, pair) in y.iter_mut().zip(words.as_chunks().0) {
                    *y = held(start + real(double(pair)) * span, last);
                }
            },
        );
    } else {
        fill(
            from,
            1,
            y,
            #[inline(always)]
            move |_, words, y| {
                for (y, &word) in y.iter_mut().zip(words) {
                    *y = held(start + real(rng::unit(word) as f64) * span, last);
                }
            },
        );
    }
}

/// The greatest number that a uniform may be: rounding must not reach the open end; an interval of no width is its lower end.
pub fn last<T: Store>(low: f64, high: f64) -> f64 {
    below::<T>(high).max(T::from_f64(low).to_f64())
}

#[inline(always)]
fn held<T: Store>(value: T::Real, last: T::Real) -> T {
    let rounded = T::narrow(value);
    T::narrow(if rounded.widen() > last { last } else { rounded.widen() })
}

/// The greatest number of a type that is less than `high`.
fn below<T: Store>(high: f64) -> f64 {
    let nearest = T::from_f64(high).to_f64();
    let down = |bits: u16| match bits {
        0 | 0x8000 => 0x8001,
        positive if positive < 0x8000 => positive - 1,
        negative => negative + 1,
    };
    match T::DTYPE {
        _ if nearest < high => nearest,
        DType::F16 => f16::from_bits(down(f16::from_f64(nearest).to_bits())).to_f64(),
        DType::BF16 => bf16::from_bits(down(bf16::from_f64(nearest).to_bits())).to_f64(),
        DType::F32 => (nearest as f32).next_down() as f64,
        _ => nearest.next_down(),
    }
}

/// By Box and Muller, in f64: two numbers out of two uniforms, of 53 bits each for f64 and of 32 for the others.
fn normal<T: Store>(from: (u64, u64), mean: f64, std: f64, y: &mut [T]) {
    if T::DTYPE == DType::F64 {
        fill(
            from,
            2,
            y,
            #[inline(always)]
            move |_, words, y| {
                let uniform =
                    words.as_chunks::<4>().0.iter().map(|[u0, u1, v0, v1]| [double(&[*u0, *u1]), double(&[*v0, *v1])]);
                pairs::<T, { WORDS / 4 }>(uniform, (mean, std), y);
            },
        );
    } else {
        let unit = |word: u32| word as f64 * (1.0 / 4_294_967_296.0);
        fill(
            from,
            1,
            y,
            #[inline(always)]
            move |_, words, y| {
                let uniform = words.as_chunks::<2>().0.iter().map(|&[u, v]| [unit(u), unit(v)]);
                pairs::<T, { WORDS / 2 }>(uniform, (mean, std), y);
            },
        );
    }
}

/// Up to N pairs of normal numbers out of as many of uniform ones.
#[inline(always)]
fn pairs<T: Store, const N: usize>(uniform: impl Iterator<Item = [f64; 2]>, (mean, std): (f64, f64), y: &mut [T]) {
    let (mut u, mut v) = ([0.0; N], [0.0; N]);
    for ([x, y], (u, v)) in uniform.zip(u.iter_mut().zip(&mut v)) {
        (*u, *v) = (x, y);
    }
    for (u, v) in u.iter_mut().zip(&mut v) {
        let radius = std * (-2.0 * functions::ln(1.0 - *u)).sqrt();
        let (sin, cos) = functions::sin_cos_turns(*v);
        (*u, *v) = (mean + radius * cos, mean + radius * sin);
    }
    for (y, (cos, sin)) in y.chunks_mut(2).zip(u.into_iter().zip(v)) {
        y.iter_mut().zip([cos, sin]).for_each(|(y, x)| *y = T::from_f64(x));
    }
}

/// A uniform number in `[0, 1)` out of two words: 53 bits.
#[inline(always)]
fn double(&[low, high]: &[u32; 2]) -> f64 {
    ((low as u64 | (high as u64) << 32) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::{split::PARALLEL, testing::*},
        dtype::Element,
    };

    #[test]
    fn dropout_keeps_where_its_word_says() {
        for (dtype, n) in FLOATS.into_iter().flat_map(|d| LENGTHS.map(|n| (d, n))) {
            let x = buffer(dtype, &numbers(n, 1));
            for p in [0.0, 0.3, 0.5, 1.0] {
                let mut y = stale(dtype, n);
                dropout(9, 4, p, &x, &mut y).unwrap();
                let keep = |i: usize| rng::unit(rng::word(9, 4, i as u64)) >= p as f32;
                let scaled = |(i, x): (usize, f64)| if keep(i) { x / (1.0 - p) } else { 0.0 };
                close(&y, &read(&x).into_iter().enumerate().map(scaled).collect::<Vec<_>>(), 2.0, &(dtype, n, p));
            }
        }
        // What is dropped is 0 whatever it was.
        let mut y = stale(DType::F32, 100);
        dropout(1, 0, 0.5, &buffer(DType::F32, &[f64::NAN; 100]), &mut y).unwrap();
        assert!(read(&y).iter().filter(|v| **v == 0.0).count() > 20);
    }

    #[test]
    fn an_element_depends_on_its_index_alone() {
        let kinds = [Distribution::Uniform { low: -1.0, high: 3.0 }, Distribution::Normal { mean: 1.0, std: 2.0 }];
        for (dtype, kind) in FLOATS.into_iter().flat_map(|d| kinds.map(|k| (d, k))) {
            let draw = |n: usize, seed: u64, stream: u64| {
                let mut y = stale(dtype, n);
                random(kind, seed, stream, &mut y).unwrap();
                read(&y)
            };
            let long = draw(PARALLEL + 33, 5, 6);
            LENGTHS.iter().for_each(|&n| assert_eq!(draw(n, 5, 6)[..], long[..n]));
            assert_ne!(draw(8, 5, 7), long[..8]);
            assert_ne!(draw(8, 6, 6), long[..8]);
            let mean = long.iter().sum::<f64>() / long.len() as f64;
            let variance = long.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / long.len() as f64;
            let want = if matches!(kind, Distribution::Normal { .. }) { 4.0 } else { 16.0 / 12.0 };
            assert!((mean - 1.0).abs() < 0.04 && (variance - want).abs() < 0.08, "{dtype} {kind:?} {mean} {variance}");
        }
        let mut y = stale(DType::F32, 6);
        random(Distribution::Uniform { low: 0.0, high: 1.0 }, 5, 6, &mut y).unwrap();
        assert_eq!(y.slice::<f32>(), (0..6).map(|i| rng::unit(rng::word(5, 6, i))).collect::<Vec<_>>());
    }

    #[test]
    fn uniform_stays_below_its_end() {
        for dtype in FLOATS {
            // So narrow, or of so few bits, that rounding reaches the end.
            for (low, high) in [(0.0, 1.0), (1.0, 1.0 + 1e-6), (-1.0, -0.999), (2.5, 2.5), (-1.0, 0.0)] {
                let mut y = stale(dtype, 100_000);
                random(Distribution::Uniform { low, high }, 3, 0, &mut y).unwrap();
                let start = with_dtype!(dtype, T => <T as Element>::from_f64(low).to_f64());
                let inside = |v: &f64| *v == start || *v >= start && *v < high;
                assert!(read(&y).iter().all(inside), "{dtype} {low} {high}");
            }
        }
    }

    #[test]
    fn the_number_below() {
        assert_eq!(below::<f32>(1.0), 1.0f32.next_down() as f64);
        assert_eq!(below::<f32>(0.1), if 0.1f32 as f64 >= 0.1 { 0.1f32.next_down() } else { 0.1f32 } as f64);
        assert_eq!(below::<f16>(1.0), f16::from_f64(1.0 - 1.0 / 2048.0).to_f64());
        assert_eq!(below::<f16>(1e6), 65504.0);
        assert!(below::<bf16>(0.0) < 0.0 && below::<bf16>(-1.0) < -1.0);
    }

    #[test]
    fn threads_do_not_matter() {
        for kind in [Distribution::Uniform { low: 0.0, high: 1.0 }, Distribution::Normal { mean: 0.0, std: 1.0 }] {
            same_on_any_threads(|| {
                let mut y = stale(DType::F64, PARALLEL + 9);
                random(kind, 1, 2, &mut y).unwrap();
                y
            });
        }
    }
}
