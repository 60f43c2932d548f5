//! Products with a second operand that is not packed beforehand.
//!
//! A few rows with weights that are used once or twice, as in a cell's step, are bound by how fast the weights come out of memory. For up to
//! eight rows AVX-512 reads them as they lie, in long runs, and where these are columns turns sixteen by sixteen in registers; else each
//! block of a panel is packed in the first cache before it is used. Sums are chains of the same roundings as with packed panels.

use super::{
    GemmReal, KC, Mat, MatMut, Output, PANELS, ROWS, Rows, micro::Tile, pack_into, pack_rows, packed_rows_len, pass,
    rows_per_task, with_space,
};
use crate::cpu::split;
#[cfg(target_arch = "x86_64")]
use crate::{
    cpu::simd::{Isa, isa},
    dtype::DType,
};

/// Rows up to which a product takes its second operand as it lies.
pub const FEW: usize = 8;
/// Depth up to which a product, of more bytes than [`WRITTEN`], is rather many writes than many sums.
const THIN: usize = 8;
/// Bytes that do not stay in the second cache.
const WRITTEN: usize = 2 << 20;

/// Whether so many rows are multiplied with what is read as it lies; then in one pass over it.
pub fn reads<T: GemmReal>(m: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && isa() >= Isa::Avx512 {
        return (1..=FEW).contains(&m);
    }
    let _ = m;
    false
}

/// `c = a × b + beta · c` for n columns of b and c from `first`; beta is 0 or 1.
///
/// # Safety
/// `a` are the tiles of all rows, k long, one behind the other; b holds k rows of the columns, and nobody else writes those of c.
pub unsafe fn block_given<T: GemmReal>(
    (n, k): (usize, usize),
    first: usize,
    rows: &[Rows<T>],
    a: *const T,
    b: Mat<T>,
    beta: T,
) {
    #[cfg(target_arch = "x86_64")]
    if let ([Rows { m, c, .. }], true) = (rows, reads::<T>(rows[0].m)) {
        let c = MatMut { ptr: c.ptr.wrapping_add(first).cast::<f32>(), ld: c.ld };
        // SAFETY: the caller's; the processor has it, and T is f32.
        unsafe {
            let b = Mat { ptr: b.at(0, first).cast::<f32>(), rs: b.rs, cs: b.cs };
            if b.rs == 1 {
                return (avx512::COLUMNS[m - 1])((n, k), a.cast(), b, c, beta != T::ZERO);
            }
            if b.cs == 1 {
                return (avx512::ROWS[m - 1])((n, k), a.cast(), b, c, beta != T::ZERO);
            }
        }
    }
    let nr = T::set().nr;
    with_space(&PANELS, nr * KC.min(k), |panel: &mut [T]| {
        let panel = panel.as_mut_ptr();
        for j in (0..n).step_by(nr) {
            for k0 in (0..k).step_by(KC) {
                let (depth, columns) = (KC.min(k - k0), nr.min(n - j));
                let beta = if k0 == 0 { beta } else { T::ONE };
                let tile = Tile { alpha: T::ONE, beta, columns, stride: nr * depth, ahead: panel, lines: 0 };
                // SAFETY: the caller's, and inside the scratch.
                unsafe {
                    pack_into(b, k0, depth, first + j, columns, panel);
                    pass((k0, depth, k), first + j, rows, a, panel, tile);
                }
            }
        }
    });
}

/// Products of few rows, over ranges of columns: each b is read once, as it lies.
pub fn few_rows<T: GemmReal>((m, k): (usize, usize), a: Mat<T>, outputs: &[Output<T>], threads: usize) {
    with_space(&ROWS, packed_rows_len(m, k), |packed: &mut [T]| {
        // SAFETY: the caller's m × k; the scratch has the room.
        unsafe { pack_rows((m, k), a, packed.as_mut_ptr()) };
        let packed = &*packed;
        for o in outputs {
            let each = o.n.div_ceil(threads).next_multiple_of(64);
            split::tasks(o.n.div_ceil(each), &|task| {
                let first = task * each;
                // SAFETY: columns inside b and c, those of c this task's alone.
                unsafe {
                    let rows = [Rows { m, a, c: o.c }];
                    block_given((each.min(o.n - first), k), first, &rows, packed.as_ptr(), o.b, o.beta);
                }
            });
        }
    });
}

/// Whether a product is one for [`thin`].
pub fn is_thin<T: GemmReal>((m, n, k): (usize, usize, usize), b: Mat<T>) -> bool {
    k <= THIN && m * n * size_of::<T>() >= WRITTEN && b.cs == 1 && reads::<T>(1)
}

/// Products of small depth, over ranges of rows: each c is written once, in long runs.
pub fn thin<T: GemmReal>((m, k): (usize, usize), a: Mat<T>, outputs: &[Output<T>], threads: usize) {
    /// Rows at a time.
    const TOGETHER: usize = 4;
    let each = rows_per_task(m, TOGETHER, threads);
    split::tasks(m.div_ceil(each), &|task| {
        let end = m.min((task + 1) * each);
        for i in (task * each..end).step_by(TOGETHER) {
            let height = TOGETHER.min(end - i);
            let mut tile = [T::ZERO; TOGETHER * THIN];
            for (p, r) in (0..k).flat_map(|p| (0..height).map(move |r| (p, r))) {
                // SAFETY: inside a.
                tile[p * height + r] = unsafe { *a.at(i + r, p) };
            }
            for o in outputs {
                // SAFETY: rows inside c, which are this task's alone; the tile is k long.
                unsafe {
                    let rows = [Rows { m: height, a, c: MatMut { ptr: o.c.at(i, 0), ..o.c } }];
                    block_given((o.n, k), 0, &rows, tile.as_ptr(), o.b, o.beta);
                }
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::{arch::x86_64::*, mem::MaybeUninit};

    use super::{KC, Mat, MatMut};
    use crate::cpu::lanes::transpose;

    /// `c = a × b`, or `c += a × b`: n, k; a, k-major; b; c.
    type Kernel = unsafe fn((usize, usize), *const f32, Mat<f32>, MatMut<f32>, bool);

    /// For so many rows of a and b of which columns lie together.
    pub static COLUMNS: [Kernel; 8] = [
        columns::<1>,
        columns::<2>,
        columns::<3>,
        columns::<4>,
        columns::<5>,
        columns::<6>,
        columns::<7>,
        columns::<8>,
    ];

    /// For so many rows of a and b of which rows lie together.
    pub static ROWS: [Kernel; 8] =
        [rows::<1>, rows::<2>, rows::<3>, rows::<4>, rows::<5>, rows::<6>, rows::<7>, rows::<8>];

    /// The first n of sixteen.
    fn first(n: usize) -> u16 {
        ((1u32 << n.min(16)) - 1) as u16
    }

    /// `acc[i] += a[i] b` of `some` numbers along k; b's are vectors of columns.
    ///
    /// # Safety
    /// a holds some · M numbers.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn multiply<const M: usize>(some: usize, a: *const f32, b: &[__m512; 16], acc: &mut [__m512; M]) {
        for p in 0..some {
            for i in 0..M {
                // SAFETY: the caller's.
                let x = unsafe { _mm512_set1_ps(*a.add(p * M + i)) };
                acc[i] = _mm512_fmadd_ps(x, b[p], acc[i]);
            }
        }
    }

    /// See [`COLUMNS`].
    ///
    /// # Safety
    /// The processor has AVX-512F; a holds k · M numbers, b k rows of n columns, c M rows of them.
    #[target_feature(enable = "avx512f")]
    unsafe fn columns<const M: usize>((n, k): (usize, usize), a: *const f32, b: Mat<f32>, c: MatMut<f32>, add: bool) {
        for j in (0..n).step_by(16) {
            let (count, there) = (16.min(n - j), first(n - j));
            for k0 in (0..k).step_by(KC) {
                let end = k.min(k0 + KC);
                let mut acc = [_mm512_setzero_ps(); M];
                let mut p = k0;
                // SAFETY: inside a, b and c; what does not exist is masked.
                unsafe {
                    let mut lines = [_mm512_setzero_ps(); 16];
                    while p + 16 <= end && count == 16 {
                        for i in 0..16 {
                            lines[i] = _mm512_loadu_ps(b.at(p, j + i));
                        }
                        multiply(16, a.add(p * M), &transpose(&lines), &mut acc);
                        p += 16;
                    }
                    while p < end {
                        let some = 16.min(end - p);
                        for i in 0..count {
                            lines[i] = _mm512_maskz_loadu_ps(first(some), b.at(p, j + i));
                        }
                        multiply(some, a.add(p * M), &transpose(&lines), &mut acc);
                        p += some;
                    }
                    for i in 0..M {
                        let to = c.ptr.add(i * c.ld + j);
                        if add || k0 > 0 {
                            acc[i] = _mm512_add_ps(_mm512_maskz_loadu_ps(there, to), acc[i]);
                        }
                        _mm512_mask_storeu_ps(to, there, acc[i]);
                    }
                }
            }
        }
    }

    /// Columns of a block: its sums stay in the first cache.
    const WIDE: usize = 512;

    /// See [`ROWS`].
    ///
    /// # Safety
    /// As [`columns`].
    #[target_feature(enable = "avx512f")]
    unsafe fn rows<const M: usize>((n, k): (usize, usize), a: *const f32, b: Mat<f32>, c: MatMut<f32>, add: bool) {
        let mut sums = [[const { MaybeUninit::<f32>::uninit() }; WIDE]; M];
        for j0 in (0..n).step_by(WIDE) {
            let width = WIDE.min(n - j0);
            for k0 in (0..k).step_by(KC) {
                let end = k.min(k0 + KC);
                for p in (k0..end).step_by(8) {
                    let some = 8.min(end - p);
                    for j in (0..width).step_by(16) {
                        let there = first(width - j);
                        // SAFETY: inside a, b, c and the sums; what does not exist is masked.
                        unsafe {
                            let mut line = [_mm512_setzero_ps(); 8];
                            let from = b.at(p, j0 + j);
                            if some == 8 {
                                for q in 0..8 {
                                    line[q] = _mm512_maskz_loadu_ps(there, from.add(q * b.rs));
                                }
                            } else {
                                for q in 0..some {
                                    line[q] = _mm512_maskz_loadu_ps(there, from.add(q * b.rs));
                                }
                            }
                            for i in 0..M {
                                let sum = sums[i].as_mut_ptr().add(j).cast::<f32>();
                                let mut acc = if p == k0 { _mm512_setzero_ps() } else { _mm512_loadu_ps(sum) };
                                let a = a.add(p * M + i);
                                if some == 8 {
                                    for q in 0..8 {
                                        acc = _mm512_fmadd_ps(_mm512_set1_ps(*a.add(q * M)), line[q], acc);
                                    }
                                } else {
                                    for q in 0..some {
                                        acc = _mm512_fmadd_ps(_mm512_set1_ps(*a.add(q * M)), line[q], acc);
                                    }
                                }
                                if p + some < end {
                                    _mm512_storeu_ps(sum, acc);
                                    continue;
                                }
                                let to = c.ptr.add(i * c.ld + j0 + j);
                                if add || k0 > 0 {
                                    acc = _mm512_add_ps(_mm512_maskz_loadu_ps(there, to), acc);
                                }
                                _mm512_mask_storeu_ps(to, there, acc);
                            }
                        }
                    }
                }
            }
        }
    }
}
