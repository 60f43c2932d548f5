//! Products of f32 on the tile registers of AMX, which multiply bf16 and add in f32.
//!
//! A number of f32 is a sum of three of bf16: x = x₁ + x₂ + x₃, each rounded from what those before it leave. Of the nine products of
//! parts six are added; what is left out (x₂ y₃, x₃ y₂, x₃ y₃) is at most 2⁻²³ |x y|, twice what rounding x y to f32 may change, and mostly far
//! less. Sums are rounded less often than in a chain of fused multiply-adds; a test holds errors to the same bound.
//! (G. Henry, P. T. P. Tang & A. Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
//! Computations", 2019, section 2.) Where factors may be rounded (`Device::allow_tf32`) three of the products are made, of two parts each; where
//! they are of f16, or of results that are, all four of these; and where they are of bf16, or of results that are, one: of the first part,
//! all that is packed then, rounded to nearest even.
//! Tiles take numbers below 2⁻¹²⁶, and so parts below it, for zero.
//!
//! A step is 32 numbers along k. Of 16 rows of a, or columns of b, it is one tile of 16 × 16 pairs for each part: of a a row of
//! pairs for each row, of b a column of pairs for each column, so that one is the other transposed. A pair is a number of the first 16 with
//! that 16 behind it, so that nothing is moved within a vector.

use std::arch::{asm, x86_64::*};

use super::{
    gemm::{Columns, Mat, Precision, Rows},
    lanes::transpose,
};
use crate::dtype::bf16;

/// Rows or columns of a tile.
const TILE: usize = 16;
/// Columns of b that are multiplied together, and rows of a.
pub const PANEL: usize = 2 * TILE;
/// Numbers along k in a tile.
const STEP: usize = 32;
/// Pairs, or numbers of f32, in a tile.
const SIZE: usize = TILE * TILE;
const PARTS: usize = 3;
/// Of one step in one part: both tiles of two tiles' rows or columns.
const BOTH: usize = 2 * SIZE;
/// Steps, times parts, after which the next columns are taken: two tiles' rows of a stay in the first cache (24 KiB) while b passes by.
const BLOCK: usize = 12;
/// Panels after which the next steps are taken: what they add up to, and the steps themselves (384 KiB), stay in the second cache while
/// all rows pass by, wherever b comes from.
const GROUP: usize = 16;
/// Behind packed columns: whether each of them is finite in every part.
const FLAG: usize = 16;

/// Whether the processor has tiles of bf16 and the system lets this process use them.
pub fn available() -> bool {
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    // SAFETY: the caller has found AVX-512, so there is a leaf 7.
    let found = __cpuid_count(7, 0).edx & (BF16 | TILES) == BF16 | TILES;
    found && is_x86_feature_detected!("avx512bf16") && permitted()
}

/// Linux saves the tiles' state only of processes that have asked for it.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: changes nothing but what state is saved, and with it how large an alternative stack for signals must be: Linux refuses
    // the request where a thread has a smaller one, and smaller ones from then on.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Elements that [`pack`] writes for k rows of some columns.
pub fn packed_len(precision: Precision, k: usize, columns: Columns) -> usize {
    k.div_ceil(STEP) * columns.panels(PANEL) * precision.parts() * BOTH + FLAG
}

/// The first column of a panel, and how many of its columns there are.
fn panel_columns(panel: usize, columns: Columns) -> (usize, usize) {
    let each = columns.width.div_ceil(PANEL);
    let inside = panel % each * PANEL;
    (panel / each * columns.apart + inside, PANEL.min(columns.width - inside))
}

/// Elements that [`pack_rows`] writes for m × k.
pub fn packed_rows_len(precision: Precision, m: usize, k: usize) -> usize {
    k.div_ceil(STEP) * m.div_ceil(TILE) * precision.parts() * SIZE
}

/// The sixteen-bit parts of sixteen numbers, in the upper halves; the last is NaN where one is not finite.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn split(x: __m512) -> [__m512; PARTS] {
    let half = _mm512_set1_epi32(0x8000);
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let round = |x| {
        let bits = _mm512_add_epi32(_mm512_castps_si512(x), half);
        _mm512_castsi512_ps(_mm512_and_si512(bits, upper))
    };
    let first = round(x);
    let rest = _mm512_sub_ps(x, first);
    let second = round(rest);
    [first, second, _mm512_sub_ps(rest, second)]
}

/// What is packed.
pub trait Number: Copy + Sync {
    /// bf16, not f32.
    const HALF: bool;
    fn wide(self) -> f32;
}

impl Number for f32 {
    const HALF: bool = false;
    fn wide(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    const HALF: bool = true;
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// The tiles of one step of up to sixteen rows of a, or with `columns` columns of b (`a` is then b transposed): part p, of so many as there
/// are, at `to + p · apart`. Answers whether one of three parts is not finite.
///
/// # Safety
/// The processor has AMX; a holds the rows × k numbers, of which a step has at most 32; `to` has room.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_step<N: Number, const PARTS: usize>(
    (rows, k): (usize, usize),
    a: Mat<N>,
    columns: bool,
    to: *mut f32,
    apart: usize,
) -> bool {
    // SAFETY: loads are masked to what there is; each part's tile is inside its place.
    unsafe {
        if a.cs != 1 && a.rs != 1 {
            return pack_scattered::<N, PARTS>((rows, k), a, columns, to, apart);
        }
        let load = |some: u16, at: *const N| {
            if N::HALF {
                let bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, at.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            } else {
                _mm512_maskz_loadu_ps(some, at.cast())
            }
        };
        let mask = |n: usize| if n >= TILE { u16::MAX } else { (1 << n) - 1 };
        let (along, halves) = (a.cs == 1, [k.min(TILE), k.saturating_sub(TILE)]);
        // The i-th run of numbers that lie side by side in each half of the step: of a row, or of all rows.
        let run = |i: usize| {
            let mut x = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let (at, some) = if along {
                    (i * a.rs + half * TILE, if i < rows { mask(halves[half]) } else { 0 })
                } else {
                    ((half * TILE + i) * a.cs, if i < halves[half] { mask(rows) } else { 0 })
                };
                x[half] = load(some, a.ptr.wrapping_add(at));
                if !along {
                    // Runs that lie far apart are not fetched by themselves.
                    _mm_prefetch::<_MM_HINT_T0>(a.ptr.wrapping_add(at + STEP * a.cs).cast());
                }
            }
            x
        };
        let mut last = _mm512_setzero_ps();
        let mut put = |i: usize, x: [__m512; 2]| {
            if PARTS == 1 {
                let [low, high] = x.map(|x| {
                    // SAFETY: sixteen numbers of sixteen bits both.
                    _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)))
                });
                let both = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                return _mm512_storeu_si512(to.add(i * TILE).cast(), both);
            }
            let (low, high) = (split(x[0]), split(x[1]));
            for p in 0..PARTS {
                let (low, high) = (_mm512_castps_si512(low[p]), _mm512_castps_si512(high[p]));
                // The upper half of one beside that of the other: high, where the mask has ones.
                let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                let both = _mm512_ternarylogic_epi32::<0xd8>(_mm512_srli_epi32::<16>(low), high, mask);
                _mm512_storeu_si512(to.add(p * apart + i * TILE).cast(), both);
            }
            last = _mm512_add_ps(last, _mm512_add_ps(low[2], high[2]));
        };
        if along != columns {
            for i in 0..TILE {
                put(i, run(i));
            }
        } else {
            let mut turned = [[_mm512_setzero_ps(); TILE]; 2];
            for i in 0..TILE {
                let x = run(i);
                (turned[0][i], turned[1][i]) = (x[0], x[1]);
            }
            let [low, high] = [transpose(&turned[0]), transpose(&turned[1])];
            for i in 0..TILE {
                put(i, [low[i], high[i]]);
            }
        }
        // What is left of finite numbers is far below the greatest.
        _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(last, last) != 0
    }
}

/// [`pack_step`] of numbers that lie apart in both directions.
///
/// # Safety
/// As there.
#[cold]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_scattered<N: Number, const PARTS: usize>(
    (rows, k): (usize, usize),
    a: Mat<N>,
    columns: bool,
    to: *mut f32,
    apart: usize,
) -> bool {
    let mut gathered = [0.0; TILE * STEP];
    for i in 0..rows {
        for p in 0..k {
            // SAFETY: the caller's.
            gathered[i * STEP + p] = unsafe { *a.at(i, p) }.wide();
        }
    }
    // SAFETY: as above.
    unsafe { pack_step::<f32, PARTS>((rows, k), Mat::new(&gathered, rows, STEP, k, 1), columns, to, apart) }
}

/// Where the tiles of a step of a panel begin: b lies in the order in which it is used.
fn place(parts: usize, step: usize, steps: usize, panel: usize, panels: usize) -> usize {
    let block = BLOCK / parts;
    let (first, inside) = (step / block * block, step % block);
    (first * panels + panel * block.min(steps - first) + inside) * parts * BOTH
}

/// Packs panels `first..last` of k rows of b. Answers whether a part is not finite: see [`finish`].
///
/// # Safety
/// The processor has AMX; b holds the rows and columns, `to` has room for [`packed_len`], and nobody else uses these panels.
pub unsafe fn pack<N: Number>(
    precision: Precision,
    b: Mat<N>,
    k: usize,
    columns: Columns,
    (first, last): (usize, usize),
    to: *mut f32,
) -> bool {
    let (parts, steps, panels) = (precision.parts(), k.div_ceil(STEP), columns.panels(PANEL));
    let step_of = if parts == 1 { pack_step::<N, 1> } else { pack_step::<N, PARTS> };
    let mut infinite = false;
    for panel in first..last {
        let (column, some) = panel_columns(panel, columns);
        for step in 0..steps {
            for (tile, at) in [0, TILE].into_iter().enumerate() {
                let p = step * STEP;
                // SAFETY: inside b and its packed form.
                unsafe {
                    let from = b.ptr.wrapping_add(p * b.rs + (column + at) * b.cs);
                    let from = Mat { ptr: from, rs: b.cs, cs: b.rs };
                    let to = to.add(place(parts, step, steps, panel, panels) + tile * SIZE);
                    let extents = (some.saturating_sub(at).min(TILE), STEP.min(k - p));
                    infinite |= step_of(extents, from, true, to, 2 * SIZE);
                }
            }
        }
    }
    infinite
}

/// Ends packing, with what its calls have answered.
///
/// # Safety
/// As [`pack`], of which no call is under way.
pub unsafe fn finish<N: Number>(
    precision: Precision,
    b: Mat<N>,
    k: usize,
    columns: Columns,
    to: *mut f32,
    infinite: bool,
) {
    let (steps, panels) = (k.div_ceil(STEP), columns.panels(PANEL));
    // SAFETY: inside b and its packed form.
    unsafe {
        *to.add(packed_len(precision, k, columns) - FLAG) = f32::from(u8::from(infinite));
        if !infinite {
            return;
        }
        // Once more, so that `unpack` finds every number: cut off rather than rounded, and infinities and NaN in the first part alone.
        let upper = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        for panel in 0..panels {
            let (column, some) = panel_columns(panel, columns);
            for (j, p) in (0..some).flat_map(|j| (0..k).map(move |p| (j, p))) {
                let x = (*b.ptr.add(p * b.rs + (column + j) * b.cs)).wide();
                let first = if x.is_nan() { f32::NAN } else { upper(x) };
                let rest = if x.is_finite() { x - first } else { 0.0 };
                for (part, x) in [first, upper(rest), rest - upper(rest)].into_iter().enumerate() {
                    let step = to.add(place(PARTS, p / STEP, steps, panel, panels));
                    *half(step, (p, j), part) = (x.to_bits() >> 16) as u16;
                }
            }
        }
    }
}

/// Where, in the step of a panel, a part of b's number in row p and the panel's column j is.
///
/// # Safety
/// The step is inside the packed operand.
unsafe fn half(step: *mut f32, (p, j): (usize, usize), part: usize) -> *mut u16 {
    let tile = part * 2 * SIZE + j / TILE * SIZE;
    // SAFETY: the caller's.
    unsafe { step.add(tile + p % TILE * TILE + j % TILE).cast::<u16>().add(p % STEP / TILE) }
}

/// Whether every part of a packed operand is finite, as is said where there are three.
///
/// # Safety
/// b is packed, of these extents.
pub unsafe fn finite(precision: Precision, b: *const f32, k: usize, columns: Columns) -> bool {
    // SAFETY: inside it.
    unsafe { *b.add(packed_len(precision, k, columns) - FLAG) == 0.0 }
}

/// One panel, packed in three parts, as the kernels of AVX-512 take it, whose own are `apart` wide; answers its first column and how many there are.
///
/// # Safety
/// b is packed, of these extents; `to` has room for k rows, `apart` from each other.
pub unsafe fn unpack(
    b: *const f32,
    k: usize,
    columns: Columns,
    panel: usize,
    (to, apart): (*mut f32, usize),
) -> (usize, usize) {
    let (steps, panels) = (k.div_ceil(STEP), columns.panels(PANEL));
    let number =
        |[first, second, third]: [u32; PARTS]| f32::from_bits(first) + (f32::from_bits(second) + f32::from_bits(third));
    for (step, tile) in (0..steps).flat_map(|step| [(step, 0), (step, 1)]) {
        // SAFETY: inside both; columns that b lacks are zero.
        unsafe {
            let from = b.add(place(PARTS, step, steps, panel, panels) + tile * SIZE).cast::<[u32; TILE]>();
            for row in 0..TILE.min(k - step * STEP) {
                let pairs: [[u32; TILE]; PARTS] = std::array::from_fn(|part| *from.add(part * 2 * TILE + row));
                let p = step * STEP + row;
                let low = to.add(p * apart + tile * TILE).cast::<[f32; TILE]>();
                *low = std::array::from_fn(|j| number(pairs.map(|pairs| pairs[j] << 16)));
                if p + TILE < k {
                    let high = to.add((p + TILE) * apart + tile * TILE).cast::<[f32; TILE]>();
                    *high = std::array::from_fn(|j| number(pairs.map(|pairs| pairs[j] & 0xffff_0000)));
                }
            }
        }
    }
    panel_columns(panel, columns)
}

/// Whether a number has parts: it is neither NaN nor infinite, nor so large that its first part were.
pub fn has_parts(x: f32) -> bool {
    x.to_bits() & 0x7fff_ffff < 0x7f7f_8000
}

/// Rows of c that belong to one tile.
#[derive(Clone, Copy)]
struct Strip {
    rows: usize,
    c: *mut f32,
    /// Elements from a row to the next.
    ld: usize,
}

/// The strips of some rows, two at a time.
fn pairs<'a>(rows: &'a [Rows<f32>]) -> impl Iterator<Item = (Strip, Option<Strip>)> + 'a {
    let mut strips = rows.iter().flat_map(|r| {
        (0..r.m).step_by(TILE).map(|i| Strip {
            rows: TILE.min(r.m - i),
            c: r.c.ptr.wrapping_add(i * r.c.ld),
            ld: r.c.ld,
        })
    });
    std::iter::from_fn(move || Some((strips.next()?, strips.next())))
}

/// Packs rows of a as [`block`] takes them. Answers whether one of three parts is not finite.
///
/// # Safety
/// The processor has AMX; the rows are there, k long, and `to` has room for the sum of [`packed_rows_len`].
pub unsafe fn pack_rows(precision: Precision, rows: &[Rows<f32>], k: usize, to: *mut f32) -> bool {
    let (parts, steps) = (precision.parts(), k.div_ceil(STEP));
    let step_of = if parts == 1 { pack_step::<f32, 1> } else { pack_step::<f32, PARTS> };
    let strips: usize = rows.iter().map(|r| r.m.div_ceil(TILE)).sum();
    let (mut first, mut infinite) = (0, false);
    for r in rows {
        let count = r.m.div_ceil(TILE);
        for n in 0..count * steps {
            // Lines of the cache one behind the other: along k, or those of all strips.
            let (strip, step) = if r.a.cs == 1 { (n / steps, n % steps) } else { (n % count, n / count) };
            let (i, p) = (strip * TILE, step * STEP);
            // The last strip may be without another.
            let (pair, second) = ((first + strip) / 2, (first + strip) % 2);
            let width = if 2 * pair + 1 < strips { 2 } else { 1 };
            // SAFETY: inside a and the packed rows.
            unsafe {
                let a = Mat { ptr: r.a.at(i, p), ..r.a };
                let to = to.add(pair * steps * parts * BOTH + (step * parts * width + second) * SIZE);
                infinite |= step_of((TILE.min(r.m - i), STEP.min(k - p)), a, false, to, width * SIZE);
            }
        }
        first += count;
    }
    infinite
}

/// What shapes the tiles have: see `ldtilecfg`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Shapes the tiles for strips of these rows. All tiles are zero afterwards.
///
/// # Safety
/// The processor has AMX, and nobody relies on the tiles of this thread.
unsafe fn configure(rows: (usize, Option<usize>)) {
    let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
    config.bytes[..8].fill(64);
    let (first, second) = (rows.0 as u8, rows.1.unwrap_or(1) as u8);
    let shapes = match rows.1 {
        Some(_) => [first, first, second, second, first, second, 16, 16],
        None => [first, first, first, first, first, 16, 16, 1],
    };
    config.rows[..8].copy_from_slice(&shapes);
    // SAFETY: a palette and shapes that every AMX has.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) }
}

/// An instruction of tiles, and eight that do nothing. Where another thread shares the core, one that has hardly anything but instructions
/// of tiles gets 0.43 of its products done, with these between them 0.73.
macro_rules! tile {
    ($instruction:literal) => {
        concat!($instruction, "\n.rept 8\nnop\n.endr\n")
    };
}

/// Asks for four lines of the next step of b.
macro_rules! fetch {
    ($at:literal, $first:literal) => {
        concat!(
            ".irp line, 0, 64, 128, 192\n",
            "prefetcht0 [{b} + {ahead} + ",
            $at,
            " + ",
            $first,
            " + \\line]\n",
            ".endr\n"
        )
    };
}

/// What two tiles of a and two of b, in the last four registers, add to the first four; meanwhile sixteen lines are asked for, from each of
/// these on.
macro_rules! four {
    ($($at:literal),*) => {
        concat!(
            tile!("tdpbf16ps tmm0, tmm4, tmm6"),
            $(fetch!($at, 0),)*
            tile!("tdpbf16ps tmm1, tmm4, tmm7"),
            $(fetch!($at, 256),)*
            tile!("tdpbf16ps tmm2, tmm5, tmm6"),
            $(fetch!($at, 512),)*
            tile!("tdpbf16ps tmm3, tmm5, tmm7"),
            $(fetch!($at, 768),)*
        )
    };
}

/// The same of one tile of a and two of b, in registers 5 and 6, and the first two.
macro_rules! pair {
    ($first:literal, $second:literal; $($at:literal),*) => {
        concat!(
            tile!($first),
            $(fetch!($at, 0), fetch!($at, 256),)*
            tile!($second),
            $(fetch!($at, 512), fetch!($at, 768),)*
        )
    };
}

/// A kernel for two strips and a panel, with these products in each step, of so many bytes of b, and b fetched so many bytes ahead.
macro_rules! two {
    ($(#[$about:meta])* $name:ident, $step:literal, $ahead:literal, $($product:expr),* $(,)?) => {
        $(#[$about])*
        ///
        /// # Safety
        /// The tiles are configured for the strips; a, b and c hold what is read and written.
        unsafe fn $name(steps: usize, a: *const f32, b: *const f32, c: [(*mut f32, usize); 2], add: bool) {
            // SAFETY: the caller's.
            unsafe {
                asm!(
                    "test {add:e}, {add:e}",
                    "jz 2f",
                    tile!("tileloadd tmm0, [{c0} + {ld0}]"),
                    tile!("tileloadd tmm1, [{c0} + {ld0} + 64]"),
                    tile!("tileloadd tmm2, [{c1} + {ld1}]"),
                    tile!("tileloadd tmm3, [{c1} + {ld1} + 64]"),
                    "jmp 3f",
                    "2:",
                    tile!("tilezero tmm0"),
                    tile!("tilezero tmm1"),
                    tile!("tilezero tmm2"),
                    tile!("tilezero tmm3"),
                    "3:",
                    $($product,)*
                    "add {a}, {step}",
                    "add {b}, {step}",
                    "dec {steps}",
                    "jnz 3b",
                    tile!("tilestored [{c0} + {ld0}], tmm0"),
                    tile!("tilestored [{c0} + {ld0} + 64], tmm1"),
                    tile!("tilestored [{c1} + {ld1}], tmm2"),
                    tile!("tilestored [{c1} + {ld1} + 64], tmm3"),
                    add = in(reg) u32::from(add),
                    a = inout(reg) a => _,
                    b = inout(reg) b => _,
                    c0 = in(reg) c[0].0,
                    c1 = in(reg) c[1].0,
                    ld0 = in(reg) 4 * c[0].1,
                    ld1 = in(reg) 4 * c[1].1,
                    line = in(reg) 64_usize,
                    step = const $step,
                    ahead = const $ahead,
                    steps = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

/// The same for one strip and a panel.
macro_rules! one {
    ($(#[$about:meta])* $name:ident, $step:literal, $ahead:literal, $($product:expr),* $(,)?) => {
        $(#[$about])*
        ///
        /// # Safety
        /// As those for two.
        unsafe fn $name(steps: usize, a: *const f32, b: *const f32, c: (*mut f32, usize), add: bool) {
            // SAFETY: the caller's.
            unsafe {
                asm!(
                    "test {add:e}, {add:e}",
                    "jz 2f",
                    tile!("tileloadd tmm0, [{c} + {ld}]"),
                    tile!("tileloadd tmm1, [{c} + {ld} + 64]"),
                    "jmp 3f",
                    "2:",
                    tile!("tilezero tmm0"),
                    tile!("tilezero tmm1"),
                    "3:",
                    $($product,)*
                    "add {a}, {step} / 2",
                    "add {b}, {step}",
                    "dec {steps}",
                    "jnz 3b",
                    tile!("tilestored [{c} + {ld}], tmm0"),
                    tile!("tilestored [{c} + {ld} + 64], tmm1"),
                    add = in(reg) u32::from(add),
                    a = inout(reg) a => _,
                    b = inout(reg) b => _,
                    c = in(reg) c.0,
                    ld = in(reg) 4 * c.1,
                    line = in(reg) 64_usize,
                    step = const $step,
                    ahead = const $ahead,
                    steps = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

two! {
    /// `c (+)= a × b` for two strips and a panel, `steps` long.
    two, 6144, 6144,
    // x₁ y₃
    tile!("tileloadd tmm4, [{a} + {line}]"),
    tile!("tileloadd tmm5, [{a} + {line} + 1024]"),
    tile!("tileloadd tmm6, [{b} + {line} + 4096]"),
    tile!("tileloadd tmm7, [{b} + {line} + 5120]"),
    four!(4096),
    // x₁ y₂
    tile!("tileloadd tmm6, [{b} + {line} + 2048]"),
    tile!("tileloadd tmm7, [{b} + {line} + 3072]"),
    four!(5120),
    // x₂ y₂
    tile!("tileloadd tmm4, [{a} + {line} + 2048]"),
    tile!("tileloadd tmm5, [{a} + {line} + 3072]"),
    four!(2048),
    // x₂ y₁
    tile!("tileloadd tmm6, [{b} + {line}]"),
    tile!("tileloadd tmm7, [{b} + {line} + 1024]"),
    four!(3072),
    // x₃ y₁
    tile!("tileloadd tmm4, [{a} + {line} + 4096]"),
    tile!("tileloadd tmm5, [{a} + {line} + 5120]"),
    four!(0),
    // x₁ y₁
    tile!("tileloadd tmm4, [{a} + {line}]"),
    tile!("tileloadd tmm5, [{a} + {line} + 1024]"),
    four!(1024),
}

two! {
    /// The same of two parts each: factors of 16 bits.
    two_rough, 6144, 6144,
    // x₁ y₂
    tile!("tileloadd tmm4, [{a} + {line}]"),
    tile!("tileloadd tmm5, [{a} + {line} + 1024]"),
    tile!("tileloadd tmm6, [{b} + {line} + 2048]"),
    tile!("tileloadd tmm7, [{b} + {line} + 3072]"),
    four!(2048, 3072),
    // x₁ y₁
    tile!("tileloadd tmm6, [{b} + {line}]"),
    tile!("tileloadd tmm7, [{b} + {line} + 1024]"),
    four!(0, 1024),
    // x₂ y₁
    tile!("tileloadd tmm4, [{a} + {line} + 2048]"),
    tile!("tileloadd tmm5, [{a} + {line} + 3072]"),
    four!(),
}

two! {
    /// The same of two parts each, and nothing left out: all of f16.
    two_sixteen, 6144, 6144,
    // x₂ y₂
    tile!("tileloadd tmm4, [{a} + {line} + 2048]"),
    tile!("tileloadd tmm5, [{a} + {line} + 3072]"),
    tile!("tileloadd tmm6, [{b} + {line} + 2048]"),
    tile!("tileloadd tmm7, [{b} + {line} + 3072]"),
    four!(2048),
    // x₁ y₂
    tile!("tileloadd tmm4, [{a} + {line}]"),
    tile!("tileloadd tmm5, [{a} + {line} + 1024]"),
    four!(3072),
    // x₁ y₁
    tile!("tileloadd tmm6, [{b} + {line}]"),
    tile!("tileloadd tmm7, [{b} + {line} + 1024]"),
    four!(0),
    // x₂ y₁
    tile!("tileloadd tmm4, [{a} + {line} + 2048]"),
    tile!("tileloadd tmm5, [{a} + {line} + 3072]"),
    four!(1024),
}

two! {
    /// The same of one part each. A step is short, so b is fetched five of them ahead.
    two_half, 2048, 10240,
    tile!("tileloadd tmm4, [{a} + {line}]"),
    tile!("tileloadd tmm5, [{a} + {line} + 1024]"),
    tile!("tileloadd tmm6, [{b} + {line}]"),
    tile!("tileloadd tmm7, [{b} + {line} + 1024]"),
    four!(0, 1024),
}

one! {
    /// The same as `two` for one strip, in the same order.
    one, 6144, 6144,
    tile!("tileloadd tmm2, [{a} + {line}]"),
    tile!("tileloadd tmm3, [{a} + {line} + 1024]"),
    tile!("tileloadd tmm4, [{a} + {line} + 2048]"),
    tile!("tileloadd tmm5, [{b} + {line} + 4096]"),
    tile!("tileloadd tmm6, [{b} + {line} + 5120]"),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 4096),
    tile!("tileloadd tmm5, [{b} + {line} + 2048]"),
    tile!("tileloadd tmm6, [{b} + {line} + 3072]"),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 5120),
    pair!("tdpbf16ps tmm0, tmm3, tmm5", "tdpbf16ps tmm1, tmm3, tmm6"; 2048),
    tile!("tileloadd tmm5, [{b} + {line}]"),
    tile!("tileloadd tmm6, [{b} + {line} + 1024]"),
    pair!("tdpbf16ps tmm0, tmm3, tmm5", "tdpbf16ps tmm1, tmm3, tmm6"; 3072),
    pair!("tdpbf16ps tmm0, tmm4, tmm5", "tdpbf16ps tmm1, tmm4, tmm6"; 0),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 1024),
}

one! {
    /// The same as `two_rough` for one strip, in the same order.
    one_rough, 6144, 6144,
    tile!("tileloadd tmm2, [{a} + {line}]"),
    tile!("tileloadd tmm3, [{a} + {line} + 1024]"),
    tile!("tileloadd tmm5, [{b} + {line} + 2048]"),
    tile!("tileloadd tmm6, [{b} + {line} + 3072]"),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 2048, 3072),
    tile!("tileloadd tmm5, [{b} + {line}]"),
    tile!("tileloadd tmm6, [{b} + {line} + 1024]"),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 0, 1024),
    pair!("tdpbf16ps tmm0, tmm3, tmm5", "tdpbf16ps tmm1, tmm3, tmm6";),
}

one! {
    /// The same as `two_sixteen` for one strip, in the same order.
    one_sixteen, 6144, 6144,
    tile!("tileloadd tmm2, [{a} + {line}]"),
    tile!("tileloadd tmm3, [{a} + {line} + 1024]"),
    tile!("tileloadd tmm5, [{b} + {line} + 2048]"),
    tile!("tileloadd tmm6, [{b} + {line} + 3072]"),
    pair!("tdpbf16ps tmm0, tmm3, tmm5", "tdpbf16ps tmm1, tmm3, tmm6"; 2048),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 3072),
    tile!("tileloadd tmm5, [{b} + {line}]"),
    tile!("tileloadd tmm6, [{b} + {line} + 1024]"),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 0),
    pair!("tdpbf16ps tmm0, tmm3, tmm5", "tdpbf16ps tmm1, tmm3, tmm6"; 1024),
}

one! {
    /// The same as `two_half` for one strip.
    one_half, 2048, 10240,
    tile!("tileloadd tmm2, [{a} + {line}]"),
    tile!("tileloadd tmm5, [{b} + {line}]"),
    tile!("tileloadd tmm6, [{b} + {line} + 1024]"),
    pair!("tdpbf16ps tmm0, tmm2, tmm5", "tdpbf16ps tmm1, tmm2, tmm6"; 0, 1024),
}

/// Kernels for two strips and for one.
type Two = unsafe fn(usize, *const f32, *const f32, [(*mut f32, usize); 2], bool);
type One = unsafe fn(usize, *const f32, *const f32, (*mut f32, usize), bool);

/// The first columns of a strip's rows, as many as there are, in a stretch of its own.
///
/// # Safety
/// `from` and `to` hold the rows.
unsafe fn copy(rows: usize, columns: usize, from: (*const f32, usize), to: (*mut f32, usize)) {
    for i in 0..rows {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from.0.add(i * from.1), to.0.add(i * to.1), columns) };
    }
}

/// `c (+)= a × b`, a packed by [`pack_rows`] and b by [`pack`].
///
/// # Safety
/// The processor has AMX; a and b are packed, every part of both finite where there are three; nobody else uses these columns of the rows' c.
pub unsafe fn block(
    (k, precision): (usize, Precision),
    columns: Columns,
    rows: &[Rows<f32>],
    a: *const f32,
    b: *const f32,
    add: bool,
) {
    let (two, one) = match precision {
        Precision::Full => (two as Two, one as One),
        Precision::Rough => (two_rough as Two, one_rough as One),
        Precision::Sixteen => (two_sixteen as Two, one_sixteen as One),
        Precision::Half => (two_half as Two, one_half as One),
    };
    let (parts, steps, panels) = (precision.parts(), k.div_ceil(STEP), columns.panels(PANEL));
    let block = BLOCK / parts;
    let mut shape = None;
    let groups = (0..panels).step_by(GROUP).flat_map(|first| (0..steps).step_by(block).map(move |step| (first, step)));
    for (first, step) in groups {
        let depth = block.min(steps - step);
        let add = add || step > 0;
        for (pair, (upper, lower)) in pairs(rows).enumerate() {
            let width = if lower.is_some() { 2 } else { 1 };
            let wanted = Some((upper.rows, lower.map(|s| s.rows)));
            // SAFETY: inside a, b and c; columns that c lacks go elsewhere.
            unsafe {
                if shape != wanted {
                    configure((upper.rows, lower.map(|s| s.rows)));
                    shape = wanted;
                }
                let a = a.add(pair * steps * parts * BOTH + step * parts * width * SIZE);
                for panel in first..panels.min(first + GROUP) {
                    let b = b.add(place(parts, step, steps, panel, panels));
                    let (column, some) = panel_columns(panel, columns);
                    let at = |s: Strip| (s.c.add(column), s.ld);
                    if some == PANEL {
                        match lower {
                            Some(lower) => two(depth, a, b, [at(upper), at(lower)], add),
                            None => one(depth, a, b, at(upper), add),
                        }
                        continue;
                    }
                    let mut aside = [[0.0; TILE * PANEL]; 2];
                    let [x, y] = aside.each_mut().map(|a| (a.as_mut_ptr(), PANEL));
                    if add {
                        copy(upper.rows, some, (at(upper).0, upper.ld), x);
                        lower.inspect(|s| copy(s.rows, some, (at(*s).0, s.ld), y));
                    }
                    match lower {
                        Some(_) => two(depth, a, b, [x, y], add),
                        None => one(depth, a, b, x, add),
                    }
                    copy(upper.rows, some, (x.0, x.1), at(upper));
                    lower.inspect(|s| copy(s.rows, some, (y.0, y.1), at(*s)));
                }
            }
        }
    }
    // So that a change of threads has no tiles to save.
    // SAFETY: nobody relies on them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}
