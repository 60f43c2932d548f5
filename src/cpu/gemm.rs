//! Matrix products: one micro-kernel per instruction set, both operands packed.
//!
//! The micro-kernel keeps a tile of up to MR rows and a panel's columns of c in registers and walks k: one broadcast of a per row and
//! one load of b per vector. b is packed into panels, two to four vectors wide, k-major, padded with zeros (the
//! layout of K. Goto & R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008), and a into tiles of MR rows, k-major
//! too: rows that lie a power of two apart would share one set of the first cache. A block of KC rows of a panel stays there while all
//! tiles of a pass over it and fetch the next block meanwhile. Every element of c is the same chain of fused multiply-adds over k wherever
//! its tile falls, so results depend neither on the number of threads nor on the other rows. Where the processor has AMX, operands
//! of f32 that are packed for many products are multiplied by [`amx`] instead, in an order of additions that does not depend on these either.

mod given;
mod interface;
mod micro;
mod rows;
mod space;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_arch = "x86_64")]
use super::{amx, real::Real, split::Shared};
use super::{simd::vectorize, split};
use crate::dtype::{DType, bf16};

pub use self::interface::gemm;
pub use self::micro::GemmReal;
use self::micro::Tile;
#[cfg(target_arch = "x86_64")]
use self::rows::WithoutParts;
pub use self::rows::{Rows, Second, gemm_rows};
use self::space::{PANELS, ROWS, TRANSPOSED, with_space};

/// Extent of k in one pass. A block of b and the next one, which it fetches, are 48 KiB of f32 with AVX-512, the first cache of processors that
/// have AMX; 96, for the 32 KiB of others, was slower by 1 to 3 % where it was measured. Sums are begun anew with every pass, so it is one
/// number for every instruction set.
const KC: usize = 128;
/// Extent of k that is packed at a time.
const KP: usize = 256;
/// Columns of b packed at a time.
const NC: usize = 2048;
/// Rows of a packed at a time.
const MC: usize = 96;
/// Fewer columns than this are few.
const NARROW: usize = 64;
/// Rows, columns and depth from which on tiles of AMX are full enough.
const TILED: usize = 16;
/// Rows, columns and depth from which on both operands are worth to be packed into tiles for one product.
#[cfg(target_arch = "x86_64")]
const ALONE: usize = 96;
/// Bytes of weights in tiles up to which they win, also from the third cache; panels are smaller by a third.
#[cfg(target_arch = "x86_64")]
const TILES_BYTES: usize = 8 << 20;
/// Below this many multiply-adds a product stays on the calling thread.
const PARALLEL: usize = 1 << 19;

/// Whether products in tiles may round their factors: see `Device::allow_tf32`.
static ROUGH: AtomicBool = AtomicBool::new(false);

/// From now on products in tiles may, or may not, round their factors to 16 bits.
pub fn allow_rough(allow: bool) {
    ROUGH.store(allow, Ordering::Relaxed);
}

/// A matrix to read: `at(i, j) = ptr[i·rs + j·cs]`.
#[derive(Debug, Clone, Copy)]
pub struct Mat<T> {
    pub(super) ptr: *const T,
    pub(super) rs: usize,
    pub(super) cs: usize,
}

// SAFETY: a `Mat` only reads; whoever makes one vouches that its memory outlives the call and is not written meanwhile.
unsafe impl<T: Sync> Send for Mat<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mat<T> {}

/// A row-major matrix to write: `at(i, j) = ptr[i·ld + j]`.
#[derive(Debug, Clone, Copy)]
pub struct MatMut<T> {
    pub(super) ptr: *mut T,
    pub(super) ld: usize,
}

// SAFETY: threads that share a `MatMut` write disjoint parts of it, as each use states.
unsafe impl<T: Send> Send for MatMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for MatMut<T> {}

fn extent(rows: usize, rs: usize, cols: usize, cs: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * rs + (cols - 1) * cs + 1 }
}

impl<T> Mat<T> {
    /// A `rows × cols` view of a slice. Panics when it does not fit: a bug of the caller in this crate.
    #[inline]
    pub fn new(slice: &[T], rows: usize, rs: usize, cols: usize, cs: usize) -> Self {
        assert!(extent(rows, rs, cols, cs) <= slice.len(), "matrix view outside its slice");
        Mat { ptr: slice.as_ptr(), rs, cs }
    }

    /// # Safety
    /// `(i, j)` must lie inside the matrix.
    #[inline(always)]
    pub(super) unsafe fn at(&self, i: usize, j: usize) -> *const T {
        // SAFETY: the caller keeps inside.
        unsafe { self.ptr.add(i * self.rs + j * self.cs) }
    }
}

impl<T> MatMut<T> {
    /// A `rows × cols` view of a slice with rows `ld` apart. Panics when it does not fit.
    #[inline]
    pub fn new(slice: &mut [T], rows: usize, cols: usize, ld: usize) -> Self {
        assert!(extent(rows, ld, cols, 1) <= slice.len(), "matrix view outside its slice");
        MatMut { ptr: slice.as_mut_ptr(), ld }
    }

    /// # Safety
    /// `(i, j)` must lie inside the matrix.
    #[inline(always)]
    unsafe fn at(&self, i: usize, j: usize) -> *mut T {
        // SAFETY: the caller keeps inside.
        unsafe { self.ptr.add(i * self.ld + j) }
    }
}

/// Columns of a second operand that are packed together, and those of c that their products go to: `count` runs of `width`, whose first
/// columns are `apart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    pub width: usize,
    pub count: usize,
    pub apart: usize,
}

impl Columns {
    pub fn all(n: usize) -> Self {
        Columns { width: n, count: 1, apart: 0 }
    }

    /// In how many panels they lie.
    pub fn panels(&self, nr: usize) -> usize {
        self.count * self.width.div_ceil(nr)
    }
}

/// How the second operand of a product lies packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In panels, for the micro-kernels.
    Panels,
    /// In tiles of AMX; only f32.
    Tiles(Precision),
}

/// What a product in tiles keeps of its factors of f32: sums are of f32 always. Without tiles it keeps all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// All, in three parts of bf16.
    Full,
    /// Sixteen bits, and three of the four products of their halves: an error of 2⁻¹⁵ of a product at most.
    #[cfg_attr(not(any(target_arch = "x86_64", test)), expect(dead_code, reason = "tiles are of AMX"))]
    Rough,
    /// Sixteen bits, all of f16: exact products.
    Sixteen,
    /// Eight bits: bf16.
    Half,
}

impl Precision {
    /// What numbers of a type have.
    pub fn of(dtype: DType) -> Precision {
        match dtype {
            DType::BF16 => Precision::Half,
            DType::F16 => Precision::Sixteen,
            _ => Precision::Full,
        }
    }

    /// Parts of bf16 that are packed.
    #[cfg(target_arch = "x86_64")]
    pub fn parts(self) -> usize {
        if self == Precision::Half { 1 } else { 3 }
    }

    /// With what is [allowed](allow_rough).
    #[cfg(target_arch = "x86_64")]
    fn allowed(self) -> Precision {
        if self == Precision::Full && ROUGH.load(Ordering::Relaxed) { Precision::Rough } else { self }
    }
}

/// Elements that [`pack`] writes for k rows of some columns.
pub fn packed_len<T: GemmReal>(form: Form, k: usize, columns: Columns) -> usize {
    match form {
        #[cfg(target_arch = "x86_64")]
        Form::Tiles(precision) => amx::packed_len(precision, k, columns),
        _ => k * columns.panels(T::set().nr) * T::set().nr,
    }
}

/// Packs columns `first..first + count` of b (k rows from row `top`) into panels.
///
/// # Safety
/// b holds what is read; `to` has room for [`packed_len`]`(k, count)`.
unsafe fn pack_into<T: GemmReal>(b: Mat<T>, top: usize, k: usize, first: usize, count: usize, to: *mut T) {
    let nr = T::set().nr;
    for (panel, panel_at) in (0..count).step_by(nr).enumerate() {
        let columns = nr.min(count - panel_at);
        // SAFETY: rows, columns and panels counted here are the caller's.
        unsafe {
            let to = to.add(panel * nr * k);
            // What fills up the last vector is read, whole vectors behind it are not.
            if !columns.is_multiple_of(T::set().width) {
                std::slice::from_raw_parts_mut(to, nr * k).fill(T::ZERO);
            }
            if b.cs == 1 {
                for p in 0..k {
                    std::ptr::copy_nonoverlapping(b.at(top + p, first + panel_at), to.add(p * nr), columns);
                }
            } else {
                let mut whole = (0, 0);
                if b.rs == 1 {
                    // All columns go along k together, so that lines of the panel are written at once; where they lie so far apart that
                    // they would share few sets of the cache, eight at a time.
                    whole = (k / 8 * 8, columns / 8 * 8);
                    let together = if b.cs * size_of::<T>() < 1 << 10 { nr } else { 8 };
                    for p0 in (0..whole.0).step_by(KC) {
                        for j0 in (0..whole.1).step_by(together) {
                            for p in (p0..whole.0.min(p0 + KC)).step_by(8) {
                                for j in (j0..whole.1.min(j0 + together)).step_by(8) {
                                    let from = b.at(top + p, first + panel_at + j);
                                    if together == 8 && p % 16 == 0 {
                                        (0..8).for_each(|column| T::fetch(from.wrapping_add(column * b.cs + KC)));
                                    }
                                    T::transpose8(from, b.cs, to.add(p * nr + j), nr);
                                }
                            }
                        }
                    }
                }
                // b is read along k, so that each line of the panel is written while it is in L1.
                for p0 in (0..k).step_by(16) {
                    for j in if p0 + 16 <= whole.0 { whole.1 } else { 0 }..columns {
                        let from = b.at(top + p0, first + panel_at + j);
                        for p in 0..16.min(k - p0) {
                            *to.add((p0 + p) * nr + j) = *from.add(p * b.rs);
                        }
                    }
                }
            }
        }
    }
}

/// A second operand to pack: in the type that is computed in, or stored as bf16, for tiles of that.
#[derive(Debug, Clone, Copy)]
pub enum Source<T> {
    Real(Mat<T>),
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "tiles are of AMX"))]
    Half(Mat<bf16>),
}

/// Packs k rows of some columns of b for [`gemm_rows`]. Panics when `to` is too short.
///
/// # Safety
/// b holds them.
pub unsafe fn pack<T: GemmReal>(form: Form, b: Source<T>, k: usize, columns: Columns, to: &mut [T]) {
    let len = packed_len::<T>(form, k, columns);
    assert!(to.len() >= len, "packing outside its slice");
    let threads = rayon::current_num_threads();
    #[cfg(target_arch = "x86_64")]
    if let Form::Tiles(precision) = form {
        let to = bytemuck::cast_slice_mut(&mut to[..len]);
        // SAFETY: the caller's.
        unsafe {
            match b {
                Source::Real(b) => {
                    let infinite = pack_tiles(precision, f32_mat(b), k, columns, to, threads);
                    amx::finish(precision, f32_mat(b), k, columns, to.as_mut_ptr(), infinite);
                }
                Source::Half(b) => {
                    let infinite = pack_tiles(precision, b, k, columns, to, threads);
                    amx::finish(precision, b, k, columns, to.as_mut_ptr(), infinite);
                }
            }
        }
        return;
    }
    let Source::Real(b) = b else { unreachable!("panels of bf16") };
    let each = len / columns.count;
    for run in 0..columns.count {
        pack_parallel(b, 0, k, run * columns.apart, columns.width, &mut to[run * each..][..each], threads);
    }
}

/// Packs k rows of some columns of b into tiles, but for what [`amx::finish`] does. Answers whether a part is not finite.
///
/// # Safety
/// b holds them, and `to` has [`packed_len`] elements; the processor has AMX.
#[cfg(target_arch = "x86_64")]
unsafe fn pack_tiles<N: amx::Number>(
    precision: Precision,
    b: Mat<N>,
    k: usize,
    columns: Columns,
    to: &mut [f32],
    threads: usize,
) -> bool {
    let (to, panels, infinite) = (Shared::new(to), columns.panels(amx::PANEL), AtomicBool::new(false));
    // Panels of a task.
    let each = if threads == 1 || k * panels * amx::PANEL < 1 << 15 { panels } else { 4 };
    split::tasks(panels.div_ceil(each), &|task| {
        let some = (task * each, panels.min((task + 1) * each));
        // SAFETY: inside both, and each task has panels of its own.
        let some = unsafe { amx::pack(precision, b, k, columns, some, to.start()) };
        infinite.fetch_or(some, Ordering::Relaxed);
    });
    infinite.into_inner()
}

/// The same matrix, of f32.
#[cfg(target_arch = "x86_64")]
fn f32_mat<T: Real>(a: Mat<T>) -> Mat<f32> {
    assert_eq!(T::DTYPE, DType::F32, "tiles of another type");
    Mat { ptr: a.ptr.cast(), rs: a.rs, cs: a.cs }
}

/// Splits `m` rows into tiles of nearly equal height, at most `mr` each.
#[inline]
fn tiles(m: usize, mr: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(mr).max(1);
    let (height, extra) = (m / count, m % count);
    (0..count).map(move |i| (i * height + i.min(extra), height + usize::from(i < extra))).filter(|t| t.1 > 0)
}

/// Elements that [`pack_rows`] may write for m × k.
pub fn packed_rows_len(m: usize, k: usize) -> usize {
    // A run of fewer than eight is stored as eight; the next covers what is too many.
    m * k + 8
}

/// Packs m rows of a into tiles, k-major: the tile of rows i… begins at i · k.
///
/// # Safety
/// a holds m × k; `to` has room for [`packed_rows_len`].
unsafe fn pack_rows<T: GemmReal>((m, k): (usize, usize), a: Mat<T>, to: *mut T) {
    if a.rs == 1 {
        // Column by column: a line of a column holds the numbers of several tiles, and columns may lie a power of two apart.
        return vectorize(
            #[inline(always)]
            || {
                let all_eight = T::set().mr == 8 && m.is_multiple_of(8);
                for p in 0..k {
                    for line in (0..m).step_by(64 / size_of::<T>()) {
                        T::fetch(a.ptr.wrapping_add((p + 8) * a.cs + line));
                    }
                    // SAFETY: as below; a column ends where m does.
                    unsafe {
                        let from = a.ptr.add(p * a.cs);
                        if all_eight {
                            for i in (0..m).step_by(8) {
                                let eight = from.add(i).cast::<[T; 8]>().read_unaligned();
                                to.add(i * k + p * 8).cast::<[T; 8]>().write_unaligned(eight);
                            }
                        } else {
                            for (i, height) in tiles(m, T::set().mr) {
                                // A loop: a call to copy so few costs more.
                                for r in 0..height {
                                    *to.add(i * k + p * height + r) = *from.add(i + r);
                                }
                            }
                        }
                    }
                }
            },
        );
    }
    for (i, height) in tiles(m, T::set().mr) {
        // SAFETY: each tile writes its own stretch, and up to eight elements more, which the next tile (or the slack) covers.
        unsafe {
            let (from, to) = (a.ptr.add(i * a.rs), to.add(i * k));
            let mut p = 0;
            // Tiles of four rows, without vectors, gain nothing from transposing eight.
            if a.cs == 1 && T::set().mr > 4 {
                // Rows below the tile are read too, and their numbers overwritten, where a has them.
                if i + 8 <= m {
                    while p + 8 <= k {
                        T::transpose8(from.add(p), a.rs, to.add(p * height), height);
                        p += 8;
                    }
                } else if height < 8 {
                    while p + 8 <= k {
                        let mut rows = [T::ZERO; 64];
                        for r in 0..height {
                            std::ptr::copy_nonoverlapping(from.add(r * a.rs + p), rows.as_mut_ptr().add(r * 8), 8);
                        }
                        T::transpose8(rows.as_ptr(), 8, to.add(p * height), height);
                        p += 8;
                    }
                }
            }
            while p < k {
                for r in 0..height {
                    *to.add(p * height + r) = *from.add(r * a.rs + p * a.cs);
                }
                p += 1;
            }
        }
    }
}

/// The inner loops: panels of b, blocks of k, tiles of a.
///
/// # Safety
/// `a` are the tiles of all rows, k long, one behind the other, `b` the panels of k × n; nobody else writes n columns of c from `first`.
unsafe fn block<T: GemmReal>(
    (n, k): (usize, usize),
    first: usize,
    rows: &[Rows<T>],
    a: *const T,
    b: *const T,
    alpha: T,
    beta: T,
) {
    if let [Rows { m: 1, c, .. }] = rows {
        // SAFETY: the caller's; one row is a tile.
        return unsafe { block_of_one((n, k), false, a, b, c.ptr.add(first), alpha, beta) };
    }
    let nr = T::set().nr;
    let lines = lines_ahead(rows);
    for j in (0..n).step_by(nr) {
        for k0 in (0..k).step_by(KC) {
            let depth = KC.min(k - k0);
            let beta = if k0 == 0 { beta } else { T::ONE };
            // SAFETY: panels lie inside the packed operand, columns inside c.
            unsafe {
                let panel = b.add(j * k + k0 * nr);
                let columns = nr.min(n - j);
                let tile = Tile { alpha, beta, columns, stride: k * nr, ahead: panel.wrapping_add(depth * nr), lines };
                pass((k0, depth, k), first + j, rows, a, panel, tile);
            }
        }
    }
}

/// Lines of the next block of b that each tile of these rows fetches for every two steps of k: they share them; one tile alone leaves
/// that to the processor.
fn lines_ahead<T: GemmReal>(rows: &[Rows<T>]) -> usize {
    let count: usize = rows.iter().map(|r| r.m.div_ceil(T::set().mr)).sum();
    if count <= 1 { 0 } else { (2 * T::set().nr * size_of::<T>() / 64).div_ceil(count) }
}

/// All tiles of a times `depth` rows of a panel, from the k0-th of k.
///
/// # Safety
/// As [`block`]; the panel holds the rows and `tile.columns`, which c has from `first` on.
#[inline(always)]
unsafe fn pass<T: GemmReal>(
    (k0, depth, k): (usize, usize, usize),
    first: usize,
    rows: &[Rows<T>],
    mut a: *const T,
    panel: *const T,
    mut tile: Tile<T>,
) {
    let set = T::set();
    let behind = panel.wrapping_add(2 * depth * set.nr);
    let kernels = set.kernels[tile.columns.div_ceil(set.width) - 1];
    for r in rows {
        for (i, height) in tiles(r.m, set.mr) {
            let c = MatMut { ptr: r.c.ptr.wrapping_add(i * r.c.ld + first), ld: r.c.ld };
            // SAFETY: the caller's.
            unsafe { (kernels[height - 1])(depth, a.add(i * k + k0 * height), panel, c, &tile) };
            tile.ahead = tile.ahead.wrapping_add(depth / 2 * tile.lines * 64 / size_of::<T>());
            if tile.ahead >= behind {
                tile.lines = 0;
            }
        }
        a = a.wrapping_add(r.m * k);
    }
}

/// [`block`] for one row: several panels side by side hide the latency that its few accumulators leave open. Of n columns the last panels
/// come first if `backwards`.
///
/// # Safety
/// As there; a is the row.
unsafe fn block_of_one<T: GemmReal>(
    (n, k): (usize, usize),
    backwards: bool,
    a: *const T,
    b: *const T,
    c: *mut T,
    alpha: T,
    beta: T,
) {
    let set = T::set();
    let (nr, panels) = (set.nr, n.div_ceil(set.nr));
    // Panels of a kernel; two kernels take about the same.
    let most = set.wide.len() * set.width / nr;
    let each = if panels > most && panels <= 2 * most { panels.div_ceil(2) } else { most };
    let parts = panels.div_ceil(each);
    for part in 0..parts {
        let part = if backwards { parts - 1 - part } else { part };
        let (j, end) = (part * each * nr, n.min((part + 1) * each * nr));
        for k0 in (0..k).step_by(KC) {
            let depth = KC.min(k - k0);
            let beta = if k0 == 0 { beta } else { T::ONE };
            // SAFETY: panels lie inside the packed operand, columns inside c.
            unsafe {
                let panel = b.add(j * k + k0 * nr);
                let tile = Tile { alpha, beta, columns: end - j, stride: k * nr, ahead: panel, lines: 0 };
                let kernel = set.wide[(end - j).div_ceil(set.width) - 1];
                kernel(depth, a.add(k0), panel, MatMut { ptr: c.add(j), ld: 0 }, &tile);
            }
        }
    }
}

/// `c = alpha · a × b + beta · c`, over the threads of the pool when it is worth it.
pub fn product<T: GemmReal>(
    precision: Precision,
    (m, n, k): (usize, usize, usize),
    a: Mat<T>,
    b: Mat<T>,
    c: MatMut<T>,
    (alpha, beta): (T, T),
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        for i in 0..m {
            for j in 0..n {
                // SAFETY: inside c, which this call alone writes.
                unsafe {
                    let at = c.at(i, j);
                    *at = if beta == T::ZERO { T::ZERO } else { beta * *at };
                }
            }
        }
        return;
    }
    let alone = tiled(precision, (m, k), a, &Output { n, b, c, beta }, alpha);
    if !alone && n < NARROW && m > 2 * n && !given::is_thin::<T>((m, n, k), b) && a.rs == 1 && b.cs == 1 {
        // Of a tall a for few columns, packing tiles would be most of the work: cᵀ = bᵀ aᵀ has the same sums. Rows that lie a power of two
        // apart would share one set of a cache.
        let ld = m + 16;
        return with_space(&TRANSPOSED, n.next_multiple_of(8) * ld, |ct: &mut [T]| {
            if beta != T::ZERO {
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    // SAFETY: inside c, which this call alone writes.
                    ct[j * ld + i] = unsafe { *c.at(i, j) };
                }
            }
            let (at, bt) = (Mat { rs: a.cs, cs: 1, ..a }, Mat { rs: 1, cs: b.rs, ..b });
            // By the vectors, as `alone` says.
            product(Precision::Full, (n, m, k), bt, at, MatMut::new(ct, n, m, ld), (alpha, beta));
            vectorize(
                #[inline(always)]
                || {
                    let mut eight = [T::ZERO; 64];
                    for i in (0..m).step_by(8) {
                        for j in (0..n).step_by(8) {
                            // SAFETY: the scratch has eight rows and columns more than are read; inside c, which this call alone writes.
                            unsafe {
                                T::transpose8(ct.as_ptr().add(j * ld + i), ld, eight.as_mut_ptr(), 8);
                                let columns = 8.min(n - j);
                                for (r, from) in eight.chunks_exact(8).take(m - i).enumerate() {
                                    let to = std::slice::from_raw_parts_mut(c.at(i + r, j), columns);
                                    to.copy_from_slice(&from[..columns]);
                                }
                            }
                        }
                    }
                },
            );
        });
    }
    for j0 in (0..n).step_by(NC) {
        let columns = NC.min(n - j0);
        // SAFETY: columns inside b and c.
        let (b, ptr) = unsafe { (Mat { ptr: b.at(0, j0), ..b }, c.at(0, j0)) };
        blocks(precision, (m, k), a, &[Output { n: columns, b, c: MatMut { ptr, ..c }, beta }], alpha);
    }
}

/// `c = a × b`, or `c += a × b` with `accumulate`, with b packed into tiles for it; rows of a lie along k. A row has the bits that
/// it has among any others. The processor has AMX and T is f32, as an answer of [`GemmReal::form`] says.
pub fn product_in_tiles<T: GemmReal>(
    precision: Precision,
    (m, n, k): (usize, usize, usize),
    a: Mat<T>,
    b: Source<T>,
    c: MatMut<T>,
    accumulate: bool,
) {
    assert!(a.cs == 1, "rows that do not lie along k");
    let (form, columns, threads) = (Form::Tiles(precision), Columns::all(n), rayon::current_num_threads());
    with_space(&PANELS, packed_len::<T>(form, k, columns), |packed: &mut [T]| {
        // SAFETY: the caller's k × n.
        unsafe { pack(form, b, k, columns, packed) };
        let (packed, each) = (&*packed, rows_per_task(m, 2 * TILED, threads));
        split::tasks(m.div_ceil(each), &|task| {
            let end = m.min((task + 1) * each);
            for i in (task * each..end).step_by(MC) {
                // SAFETY: rows inside a and c; those of c are this task's alone.
                unsafe {
                    let rows = [Rows::raw(MC.min(end - i), (a.at(i, 0), a.rs), (c.at(i, 0), c.ld))];
                    gemm_rows(k, columns, &rows, Second::Packed(form, packed), accumulate, false);
                }
            }
        });
    });
}

/// One of several products of the same first operand: `c = a × b + beta · c`, n columns.
#[derive(Clone, Copy)]
pub struct Output<T> {
    pub n: usize,
    pub b: Mat<T>,
    pub c: MatMut<T>,
    pub beta: T,
}

#[cfg(target_arch = "x86_64")]
type Outputs = smallvec::SmallVec<[Output<f32>; 2]>;

/// The same product, of f32.
#[cfg(target_arch = "x86_64")]
fn f32_output<T: Real>(o: &Output<T>) -> Output<f32> {
    let c = MatMut { ptr: o.c.ptr.cast(), ld: o.c.ld };
    Output { n: o.n, b: f32_mat(o.b), c, beta: if o.beta == T::ZERO { 0.0 } else { 1.0 } }
}

/// Products of one m × k with several others, for which it is packed once.
pub fn products<T: GemmReal>(precision: Precision, (m, k): (usize, usize), a: Mat<T>, outputs: &[Output<T>]) {
    let few = |o: &Output<T>| o.n < NARROW;
    // Each as it would be alone.
    let alone = |o: &Output<T>| tiled(precision, (m, k), a, o, T::ONE);
    let unlike = outputs.iter().any(|o| alone(o) != alone(&outputs[0]));
    if m == 0 || k == 0 || outputs.iter().map(|o| o.n).sum::<usize>() > NC || outputs.iter().any(few) || unlike {
        return outputs.iter().for_each(|o| product(precision, (m, o.n, k), a, o.b, o.c, (T::ONE, o.beta)));
    }
    blocks(precision, (m, k), a, outputs, T::ONE);
}

/// Whether a product goes through tiles that are packed for it alone. Only sums over rows do, as weights' gradients are, or those of bf16,
/// however many rows they have: rows keep their bits whatever rows are beside them.
fn tiled<T: GemmReal>(precision: Precision, (m, k): (usize, usize), a: Mat<T>, o: &Output<T>, alpha: T) -> bool {
    let across = a.rs == 1 && a.cs != 1;
    let fit = (across || precision == Precision::Half) && T::tiled(precision, m, k, o.n);
    fit && alpha == T::ONE && (o.beta == T::ZERO || o.beta == T::ONE)
}

/// The blocks along k of products whose columns are few enough to be packed at a time.
fn blocks<T: GemmReal>(precision: Precision, (m, k): (usize, usize), a: Mat<T>, outputs: &[Output<T>], alpha: T) {
    let n: usize = outputs.iter().map(|o| o.n).sum();
    let threads = if m.saturating_mul(n).saturating_mul(k) < PARALLEL { 1 } else { rayon::current_num_threads() };
    let simple = |o: &Output<T>| (o.b.rs == 1 || o.b.cs == 1) && (o.beta == T::ZERO || o.beta == T::ONE);
    let tiled = outputs.iter().all(|o| tiled(precision, (m, k), a, o, alpha));
    if alpha == T::ONE && outputs.iter().all(simple) && !(tiled && precision == Precision::Half) {
        if m <= given::FEW {
            return given::few_rows((m, k), a, outputs, threads);
        }
        if outputs.iter().all(|o| given::is_thin::<T>((m, o.n, k), o.b)) {
            return given::thin((m, k), a, outputs, threads);
        }
    }
    // Packed columns stay in the second cache while rows pass by. In one part a pass takes so little time that c's way through memory counts.
    let most = match precision {
        Precision::Half if tiled => 4 * KP,
        _ if tiled && n > NC / 2 => KP / 2,
        _ => KP,
    };
    for k0 in (0..k).step_by(most) {
        let part = (k0, most.min(k - k0));
        #[cfg(target_arch = "x86_64")]
        if tiled {
            let outputs = outputs.iter().map(f32_output).collect::<Outputs>();
            if tiles_block(precision, m, part, f32_mat(a), &outputs, threads) {
                continue;
            }
        }
        panels_block(m, part, a, outputs, alpha, threads);
    }
}

/// Rows per task: enough tasks for the threads to even out, each of whole tiles of `height`.
fn rows_per_task(m: usize, height: usize, threads: usize) -> usize {
    if threads == 1 { m } else { m.div_ceil(threads * 2).next_multiple_of(height) }
}

/// One block along k, of panels.
fn panels_block<T: GemmReal>(
    m: usize,
    (k0, depth): (usize, usize),
    a: Mat<T>,
    outputs: &[Output<T>],
    alpha: T,
    threads: usize,
) {
    let len = |o: &Output<T>| packed_len::<T>(Form::Panels, depth, Columns::all(o.n));
    with_space(&PANELS, outputs.iter().map(len).sum(), |panels: &mut [T]| {
        let mut rest = &mut *panels;
        for o in outputs {
            let (front, behind) = rest.split_at_mut(len(o));
            pack_parallel(o.b, k0, depth, 0, o.n, front, threads);
            rest = behind;
        }
        let rows = rows_per_task(m, T::set().mr, threads);
        // Where few rows make fewer tasks than threads want, each is divided by columns: four panels at least.
        let ranges = m.div_ceil(rows);
        let most = outputs.iter().map(|o| o.n).sum::<usize>() / (4 * T::set().nr);
        let parts = if threads == 1 { 1 } else { (2 * threads).div_ceil(ranges).min(most).max(1) };
        let panels = &*panels;
        let run = |task: usize| {
            let (range, part) = (task / parts, task % parts);
            let (i0, i1) = (range * rows, m.min((range + 1) * rows));
            // SAFETY: tasks write disjoint rows and columns of each c.
            unsafe { rows_of((i0, i1), (k0, depth), a, outputs, panels, alpha, (part, parts)) }
        };
        split::tasks(ranges * parts, &run);
    });
}

/// One block along k, in tiles of AMX; or nothing, and `false`, where a number of b's is not finite.
#[cfg(target_arch = "x86_64")]
fn tiles_block(
    precision: Precision,
    m: usize,
    (k0, depth): (usize, usize),
    a: Mat<f32>,
    outputs: &[Output<f32>],
    threads: usize,
) -> bool {
    let len = |o: &Output<f32>| amx::packed_len(precision, depth, Columns::all(o.n));
    with_space(&PANELS, outputs.iter().map(len).sum(), |packed: &mut [f32]| {
        let (mut rest, mut infinite) = (&mut *packed, false);
        for o in outputs {
            let (front, behind) = rest.split_at_mut(len(o));
            // SAFETY: inside b.
            infinite |= unsafe {
                let b = Mat { ptr: o.b.at(k0, 0), ..o.b };
                pack_tiles(precision, b, depth, Columns::all(o.n), front, threads)
            };
            rest = behind;
        }
        if infinite {
            return false;
        }
        let rows = rows_per_task(m, amx::PANEL, threads);
        let packed = &*packed;
        let run = |task: usize| {
            let (i0, i1) = (task * rows, m.min((task + 1) * rows));
            // SAFETY: tasks write disjoint rows of each c.
            unsafe { tile_rows_of(precision, (i0, i1), (k0, depth), a, outputs, packed) }
        };
        split::tasks(m.div_ceil(rows), &run);
        true
    })
}

/// Rows `i0..i1` of one block of k, in tiles.
///
/// # Safety
/// The ranges lie inside a and each c, `packed` are the tiles of each b, one behind the other; nobody else writes these rows.
#[cfg(target_arch = "x86_64")]
unsafe fn tile_rows_of(
    precision: Precision,
    (i0, i1): (usize, usize),
    (k0, depth): (usize, usize),
    a: Mat<f32>,
    outputs: &[Output<f32>],
    packed: &[f32],
) {
    let precision = precision.allowed();
    for i in (i0..i1).step_by(MC) {
        let height = MC.min(i1 - i);
        let len = amx::packed_rows_len(precision, MC, depth);
        // SAFETY: inside a and c, as promised, and inside the scratch.
        with_space(&ROWS, len, |packed_a: &mut [f32]| unsafe {
            let packed_a = packed_a.as_mut_ptr();
            let a_block = Mat { ptr: a.at(i, k0), ..a };
            let rows = |c: MatMut<f32>| [Rows { m: height, a: a_block, c: MatMut { ptr: c.at(i, 0), ..c } }];
            let infinite = amx::pack_rows(precision, &rows(outputs[0].c), depth, packed_a);
            let mut b = packed;
            for o in outputs {
                let (columns, add) = (Columns::all(o.n), k0 > 0 || o.beta != 0.0);
                let rows = rows(o.c);
                let without = infinite.then(|| WithoutParts::new(depth, &rows, columns, add));
                amx::block((depth, precision), columns, &rows, packed_a, b.as_ptr(), add);
                b = &b[amx::packed_len(precision, depth, columns)..];
                for r in without.into_iter().flat_map(|without| without.put_back(columns)) {
                    let at = r.c.ptr.offset_from_unsigned(o.c.ptr) / o.c.ld;
                    let again = Output { c: r.c, ..*o };
                    panels_block(r.m, (k0, depth), Mat { ptr: a.at(at, 0), ..a }, &[again], 1.0, 1);
                }
            }
        });
    }
}

fn pack_parallel<T: GemmReal>(
    b: Mat<T>,
    k0: usize,
    depth: usize,
    j0: usize,
    columns: usize,
    to: &mut [T],
    threads: usize,
) {
    let nr = T::set().nr;
    let chunk = |(index, to): (usize, &mut [T])| {
        let first = index * nr * 4;
        let count = (nr * 4).min(columns - first);
        // SAFETY: the chunk holds these panels; b holds these columns.
        unsafe { pack_into(b, k0, depth, j0 + first, count, to.as_mut_ptr()) }
    };
    if threads == 1 || depth * columns < 1 << 15 {
        to.chunks_mut(depth * nr * 4).enumerate().for_each(chunk);
    } else {
        split::chunks(to, depth * nr * 4, |index, to| chunk((index, to)));
    }
}

/// Rows `i0..i1` of one block of k, and of the columns one part of so many.
///
/// # Safety
/// The ranges lie inside a and each c, `panels` are those of each b, one behind the other; nobody else writes this part of these rows.
unsafe fn rows_of<T: GemmReal>(
    (i0, i1): (usize, usize),
    (k0, depth): (usize, usize),
    a: Mat<T>,
    outputs: &[Output<T>],
    panels: &[T],
    alpha: T,
    (part, parts): (usize, usize),
) {
    let nr = T::set().nr;
    with_space(&ROWS, packed_rows_len(MC, depth), |packed: &mut [T]| {
        for i in (i0..i1).step_by(MC) {
            let height = MC.min(i1 - i);
            // SAFETY: inside a and c, as promised, and inside the scratch.
            unsafe {
                let a = Mat { ptr: a.at(i, k0), ..a };
                pack_rows((height, depth), a, packed.as_mut_ptr());
                let mut panels = panels;
                for o in outputs {
                    let c = MatMut { ptr: o.c.at(i, 0), ..o.c };
                    let beta = if k0 == 0 { o.beta } else { T::ONE };
                    let cut = |part| o.n.min(o.n.div_ceil(nr) * part / parts * nr);
                    let (first, rows) = (cut(part), [Rows { m: height, a, c }]);
                    let b = panels[first * depth..].as_ptr();
                    block((cut(part + 1) - first, depth), first, &rows, packed.as_ptr(), b, alpha, beta);
                    panels = &panels[packed_len::<T>(Form::Panels, depth, Columns::all(o.n))..];
                }
            }
        }
    });
}
