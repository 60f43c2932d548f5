//! The micro-kernels of [`super`]: one body, made into vector code for each instruction set and height of a tile.

#[cfg(target_arch = "x86_64")]
use super::{ALONE, Columns, TILED, TILES_BYTES, given};
use super::{Form, MatMut, Precision};
#[cfg(target_arch = "x86_64")]
use crate::cpu::amx;
use crate::cpu::{
    real::Real,
    simd::{Isa, isa},
};

/// What a micro-kernel does with its tile of c, and what it fetches meanwhile.
#[derive(Clone, Copy)]
pub struct Tile<T> {
    pub alpha: T,
    /// 0: c is not read.
    pub beta: T,
    /// Columns of c that exist, of the panels' width.
    pub columns: usize,
    /// Elements from a panel to the next, for kernels of several.
    pub stride: usize,
    /// What to fetch into the first cache: `lines` lines of 64 bytes for every two steps of k. Need not be readable.
    pub ahead: *const T,
    pub lines: usize,
}

/// `c[0..M, 0..columns] = alpha · a[0..M, 0..k] × panel + beta · c`, a k-major
pub type Micro<T> = unsafe fn(k: usize, a: *const T, panel: *const T, c: MatMut<T>, tile: &Tile<T>);

/// The micro-kernels of one type and instruction set: `kernels[vectors - 1][rows - 1]`.
pub struct Set<T: 'static> {
    /// Columns of a vector.
    pub width: usize,
    /// Columns of a panel.
    pub nr: usize,
    /// Rows of the largest tile.
    pub mr: usize,
    /// By how many vectors of a panel there are, and how many rows.
    pub kernels: &'static [&'static [Micro<T>]],
    /// For one row: by how many vectors of several panels, whose loads hide the latency that one row's few accumulators leave open.
    pub wide: &'static [Micro<T>],
}

/// A type that has micro-kernels.
pub trait GemmReal: Real {
    /// Those of this processor.
    fn set() -> &'static Set<Self>;

    /// How an operand of k × n that many products of m rows use is packed.
    fn form(_precision: Precision, _m: usize, _k: usize, _n: usize) -> Form {
        Form::Panels
    }

    /// Products of m rows up to which their second operand is better taken where it lies: packing reads it, writes as much, and reads that.
    fn few(_m: usize, _k: usize, _n: usize) -> usize {
        2
    }

    /// Whether one product of m × k and k × n, both packed for it alone, goes through tiles.
    fn tiled(_precision: Precision, _m: usize, _k: usize, _n: usize) -> bool {
        false
    }

    /// Asks for the line at `at`, which need not be readable.
    #[inline(always)]
    fn fetch(at: *const Self) {
        #[cfg(target_arch = "x86_64")]
        x86::fetch(at);
        #[cfg(target_arch = "aarch64")]
        neon::fetch(at);
        let _ = at;
    }

    /// Eight rows, `stride` apart, of eight numbers to eight runs of eight, `step` apart and written one behind the other.
    ///
    /// # Safety
    /// `from` holds the rows, `to` has room behind each run for eight.
    #[inline(always)]
    unsafe fn transpose8(from: *const Self, stride: usize, to: *mut Self, step: usize) {
        // SAFETY: the caller's.
        unsafe { transpose8(from, stride, to, step) }
    }
}

/// [`GemmReal::transpose8`] without vectors.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn transpose8<T: Copy>(from: *const T, stride: usize, to: *mut T, step: usize) {
    for p in 0..8 {
        for i in 0..8 {
            // SAFETY: the caller's rows and runs.
            unsafe { *to.add(p * step + i) = *from.add(i * stride + p) };
        }
    }
}

macro_rules! micro {
    ($name:ident, $t:ty, $w:literal, [$($feature:literal)?], $v:ty, $load:expr, $load_some:expr, $splat:expr, $fma:expr,
     $store:expr, $store_some:expr, $zero:expr, $fetch:expr) => {
        /// Tile of `M` rows × the first `V` vectors of panels of `N`.
        ///
        /// # Safety
        /// The processor has the instruction set; a holds k × M elements, the panels k × `N` vectors each and lie `tile.stride`
        /// apart, c holds M rows of `tile.columns`.
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name<const M: usize, const V: usize, const N: usize>(k: usize, a: *const $t, panel: *const $t, c: MatMut<$t>, tile: &Tile<$t>) {
            const W: usize = $w;
            // SAFETY: loads and stores stay inside what the caller promised; what does not exist is masked.
            unsafe {
                let mut acc: [[$v; V]; M] = [[$zero; V]; M];
                if tile.beta != 0.0 {
                    for i in 0..M {
                        for v in 0..V {
                            $fetch(c.ptr.wrapping_add(i * c.ld + v * W));
                        }
                    }
                }
                macro_rules! step {
                    ($pa:expr, $pb:expr) => {
                        let mut b = [$zero; V];
                        for v in 0..V {
                            b[v] = $load($pb.add(v / N * tile.stride + v % N * W));
                        }
                        for i in 0..M {
                            let x = $splat($pa.add(i));
                            for v in 0..V {
                                acc[i][v] = $fma(x, b[v], acc[i][v]);
                            }
                        }
                    };
                }
                let (mut pa, mut pb, mut ahead) = (a, panel, tile.ahead);
                for _ in 0..k / 2 {
                    for _ in 0..tile.lines {
                        $fetch(ahead);
                        ahead = ahead.wrapping_add(64 / size_of::<$t>());
                    }
                    step!(pa, pb);
                    step!(pa.add(M), pb.add(N * W));
                    pa = pa.add(2 * M);
                    pb = pb.add(2 * N * W);
                }
                if k % 2 == 1 {
                    step!(pa, pb);
                }
                for i in 0..M {
                    for v in 0..V {
                        let mut value = acc[i][v];
                        if tile.alpha != 1.0 {
                            value = $fma(value, $splat(&tile.alpha), $zero);
                        }
                        let at = c.ptr.wrapping_add(i * c.ld + v * W);
                        // Columns of this vector that exist.
                        let some = tile.columns.saturating_sub(v * W);
                        if tile.beta != 0.0 {
                            let before = if some >= W { $load(at) } else { $load_some(at, some) };
                            value = $fma(before, $splat(&tile.beta), value);
                        }
                        if some >= W {
                            $store(at, value);
                        } else {
                            $store_some(at, some, value);
                        }
                    }
                }
            }
        }
    };
}

macro_rules! set {
    ($name:ident, $t:ty, $micro:ident, $w:literal * $n:literal, $rows:tt, [$($v:literal)*]) => {
        static $name: Set<$t> = Set {
            width: $w,
            nr: $n * $w,
            mr: $rows.len(),
            kernels: &[$(set!(@rows $micro, $v, $n, $rows)),*],
            wide: set!(@wide $micro, $n, [1 2 3 4 5 6 7 8 9 10 11 12]),
        };
    };
    (@rows $micro:ident, $v:literal, $n:literal, [$($m:literal),*]) => { &[$($micro::<$m, $v, $n>),*] };
    (@wide $micro:ident, $n:literal, [$($v:literal)*]) => { &[$($micro::<1, $v, $n>),*] };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{MatMut, Set, Tile};

    #[inline(always)]
    pub fn fetch<T>(at: *const T) {
        // SAFETY: a hint, which no address makes fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    /// The mask of the first n of eight.
    #[target_feature(enable = "avx2")]
    fn first_f32(n: usize) -> __m256i {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }

    /// The mask of the first n of four.
    #[target_feature(enable = "avx2")]
    fn first_f64(n: usize) -> __m256i {
        _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3))
    }

    /// See [`super::GemmReal::transpose8`].
    ///
    /// # Safety
    /// As there; the processor has AVX.
    #[target_feature(enable = "avx")]
    pub unsafe fn transpose8(from: *const f32, stride: usize, to: *mut f32, step: usize) {
        // SAFETY: the caller's rows and runs.
        unsafe {
            let row = |i: usize| _mm256_loadu_ps(from.add(i * stride));
            let pair = |i: usize| (_mm256_unpacklo_ps(row(i), row(i + 1)), _mm256_unpackhi_ps(row(i), row(i + 1)));
            let four = |i: usize| {
                let ((a, b), (c, d)) = (pair(i), pair(i + 2));
                [
                    _mm256_shuffle_ps::<0x44>(a, c),
                    _mm256_shuffle_ps::<0xee>(a, c),
                    _mm256_shuffle_ps::<0x44>(b, d),
                    _mm256_shuffle_ps::<0xee>(b, d),
                ]
            };
            let (low, high) = (four(0), four(4));
            for p in 0..4 {
                _mm256_storeu_ps(to.add(p * step), _mm256_permute2f128_ps::<0x20>(low[p], high[p]));
            }
            for p in 0..4 {
                _mm256_storeu_ps(to.add((p + 4) * step), _mm256_permute2f128_ps::<0x31>(low[p], high[p]));
            }
        }
    }

    micro!(
        avx512_f32,
        f32,
        16,
        ["avx512f"],
        __m512,
        _mm512_loadu_ps,
        |x: *const f32, n: usize| _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, x),
        |x: *const f32| _mm512_set1_ps(*x),
        _mm512_fmadd_ps,
        _mm512_storeu_ps,
        |x: *mut f32, n: usize, v| _mm512_mask_storeu_ps(x, ((1u32 << n) - 1) as u16, v),
        _mm512_setzero_ps(),
        fetch
    );
    micro!(
        avx512_f64,
        f64,
        8,
        ["avx512f"],
        __m512d,
        _mm512_loadu_pd,
        |x: *const f64, n: usize| _mm512_maskz_loadu_pd(((1u32 << n) - 1) as u8, x),
        |x: *const f64| _mm512_set1_pd(*x),
        _mm512_fmadd_pd,
        _mm512_storeu_pd,
        |x: *mut f64, n: usize, v| _mm512_mask_storeu_pd(x, ((1u32 << n) - 1) as u8, v),
        _mm512_setzero_pd(),
        fetch
    );
    micro!(
        avx2_f32,
        f32,
        8,
        ["avx2,fma"],
        __m256,
        _mm256_loadu_ps,
        |x: *const f32, n: usize| _mm256_maskload_ps(x, first_f32(n)),
        |x: *const f32| _mm256_set1_ps(*x),
        _mm256_fmadd_ps,
        _mm256_storeu_ps,
        |x: *mut f32, n: usize, v| _mm256_maskstore_ps(x, first_f32(n), v),
        _mm256_setzero_ps(),
        fetch
    );
    micro!(
        avx2_f64,
        f64,
        4,
        ["avx2,fma"],
        __m256d,
        _mm256_loadu_pd,
        |x: *const f64, n: usize| _mm256_maskload_pd(x, first_f64(n)),
        |x: *const f64| _mm256_set1_pd(*x),
        _mm256_fmadd_pd,
        _mm256_storeu_pd,
        |x: *mut f64, n: usize, v| _mm256_maskstore_pd(x, first_f64(n), v),
        _mm256_setzero_pd(),
        fetch
    );

    // Three vectors: an instruction in three is not a multiplication then, which counts where another thread shares the core.
    set!(AVX512_F32, f32, avx512_f32, 16 * 3, [1, 2, 3, 4, 5, 6, 7, 8], [1 2 3]);
    set!(AVX512_F64, f64, avx512_f64, 8 * 3, [1, 2, 3, 4, 5, 6, 7, 8], [1 2 3]);
    set!(AVX2_F32, f32, avx2_f32, 8 * 2, [1, 2, 3, 4, 5, 6], [1 2]);
    set!(AVX2_F64, f64, avx2_f64, 4 * 2, [1, 2, 3, 4, 5, 6], [1 2]);

    pub static F32: (&Set<f32>, &Set<f32>) = (&AVX512_F32, &AVX2_F32);
    pub static F64: (&Set<f64>, &Set<f64>) = (&AVX512_F64, &AVX2_F64);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::{arch::aarch64::*, array::from_fn};

    use super::{MatMut, Set, Tile};

    #[inline(always)]
    pub fn fetch<T>(at: *const T) {
        // SAFETY: a hint, which no address makes fault.
        unsafe { std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) };
    }

    /// See [`super::GemmReal::transpose8`]: four blocks of four by four.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub unsafe fn transpose8(from: *const f32, stride: usize, to: *mut f32, step: usize) {
        for p in [0, 4] {
            // SAFETY: the caller's rows and runs.
            unsafe {
                let row = |i: usize| vld1q_f32(from.add(i * stride + p));
                let four = |i: usize| {
                    let (even, odd) = (vzipq_f32(row(i), row(i + 2)), vzipq_f32(row(i + 1), row(i + 3)));
                    let (first, last) = (vzipq_f32(even.0, odd.0), vzipq_f32(even.1, odd.1));
                    [first.0, first.1, last.0, last.1]
                };
                let (upper, lower) = (four(0), four(4));
                for q in 0..4 {
                    vst1q_f32(to.add((p + q) * step), upper[q]);
                    vst1q_f32(to.add((p + q) * step + 4), lower[q]);
                }
            }
        }
    }

    macro_rules! neon {
        ($name:ident, $t:ty, $w:literal, $v:ty, $load:ident, $splat:ident, $fma:ident, $store:ident) => {
            micro!(
                $name,
                $t,
                $w,
                ["neon"],
                $v,
                $load,
                |x: *const $t, n: usize| $load(from_fn::<$t, $w, _>(|i| if i < n { *x.add(i) } else { 0.0 }).as_ptr()),
                |x: *const $t| $splat(*x),
                |x, y, z| $fma(z, y, x),
                $store,
                |at: *mut $t, n: usize, v: $v| {
                    let mut values = [0.0; $w];
                    $store(values.as_mut_ptr(), v);
                    (0..n).for_each(|i| *at.add(i) = values[i]);
                },
                $splat(0.0),
                fetch
            );
        };
    }
    neon!(neon_f32, f32, 4, float32x4_t, vld1q_f32, vdupq_n_f32, vfmaq_f32, vst1q_f32);
    neon!(neon_f64, f64, 2, float64x2_t, vld1q_f64, vdupq_n_f64, vfmaq_f64, vst1q_f64);

    // 24 of 32 registers add up, four hold b.
    set!(F32_TABLE, f32, neon_f32, 4 * 4, [1, 2, 3, 4, 5, 6], [1 2 3 4]);
    set!(F64_TABLE, f64, neon_f64, 2 * 4, [1, 2, 3, 4, 5, 6], [1 2 3 4]);
    pub static F32: &Set<f32> = &F32_TABLE;
    pub static F64: &Set<f64> = &F64_TABLE;
}

/// Arrays of four that the compiler maps onto what the target has.
mod portable {
    use super::{MatMut, Set, Tile};

    macro_rules! portable {
        ($name:ident, $t:ty, $table:ident) => {
            micro!(
                $name,
                $t,
                4,
                [],
                [$t; 4],
                |x: *const $t| x.cast::<[$t; 4]>().read_unaligned(),
                |x: *const $t, n: usize| std::array::from_fn(|i| if i < n { *x.add(i) } else { 0.0 }),
                |x: *const $t| [*x; 4],
                // Fused, so that every instruction set gives an element the same chain of roundings.
                |x: [$t; 4], y: [$t; 4], z: [$t; 4]| std::array::from_fn(|i| x[i].mul_add(y[i], z[i])),
                |at: *mut $t, v: [$t; 4]| at.cast::<[$t; 4]>().write_unaligned(v),
                |at: *mut $t, n: usize, v: [$t; 4]| (0..n).for_each(|i| *at.add(i) = v[i]),
                [0 as $t; 4],
                |_: *const $t| ()
            );
            set!($table, $t, $name, 4 * 2, [1, 2, 3, 4], [1 2]);
        };
    }
    portable!(f32_4, f32, F32_TABLE);
    portable!(f64_4, f64, F64_TABLE);
    pub static F32: &Set<f32> = &F32_TABLE;
    pub static F64: &Set<f64> = &F64_TABLE;
}

impl GemmReal for f32 {
    fn set() -> &'static Set<f32> {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512 => x86::F32.0,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::F32.1,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::F32,
            _ => portable::F32,
        }
    }

    fn form(precision: Precision, m: usize, k: usize, n: usize) -> Form {
        #[cfg(target_arch = "x86_64")]
        if isa() == Isa::Amx && precision == Precision::Half && k.min(n) >= TILED {
            // Half as many bytes as panels, however few rows they are for.
            return Form::Tiles(precision);
        }
        #[cfg(target_arch = "x86_64")]
        if isa() == Isa::Amx
            && m.min(k).min(n) >= TILED
            // Depth is filled up to whole tiles.
            && 8 * k >= 7 * k.next_multiple_of(32)
            && amx::packed_len(precision, k, Columns::all(n)) * size_of::<f32>() <= TILES_BYTES
        {
            return Form::Tiles(precision);
        }
        let _ = (precision, m, k, n);
        Form::Panels
    }

    #[cfg(target_arch = "x86_64")]
    fn few(m: usize, k: usize, n: usize) -> usize {
        // Turning in registers is half as fast as loads out of the second cache, and as fast as those out of memory, where packing is slow.
        match m {
            1..=4 if given::reads::<f32>(m) && k * n >= 1 << 17 => 6,
            1..=8 if given::reads::<f32>(m) => 3,
            _ => 2,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn tiled(precision: Precision, m: usize, k: usize, n: usize) -> bool {
        let fit = if precision == Precision::Half { k.min(n) >= 2 * TILED } else { m.min(n).min(k) >= ALONE };
        fit && isa() == Isa::Amx
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn transpose8(from: *const f32, stride: usize, to: *mut f32, step: usize) {
        if isa() >= Isa::Avx2 {
            // SAFETY: the caller's; AVX2 includes AVX.
            unsafe { x86::transpose8(from, stride, to, step) }
        } else {
            // SAFETY: the caller's.
            unsafe { transpose8(from, stride, to, step) }
        }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn transpose8(from: *const f32, stride: usize, to: *mut f32, step: usize) {
        // SAFETY: the caller's; every processor of this kind has NEON.
        unsafe { neon::transpose8(from, stride, to, step) }
    }
}

impl GemmReal for f64 {
    fn set() -> &'static Set<f64> {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512 => x86::F64.0,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::F64.1,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::F64,
            _ => portable::F64,
        }
    }
}
