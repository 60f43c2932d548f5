//! Products of rows that lie in several places with one second operand, as a recurrent step has them.

#[cfg(target_arch = "x86_64")]
use super::PANELS;
use super::{
    Columns, Form, GemmReal, Mat, MatMut, Precision, ROWS, block, block_of_one, given::block_given, pack_rows,
    packed_len, packed_rows_len, with_space,
};
#[cfg(target_arch = "x86_64")]
use crate::cpu::amx;

/// Rows of a and of c for one [`gemm_rows`].
#[derive(Clone, Copy)]
pub struct Rows<T> {
    pub(in crate::cpu) m: usize,
    pub(in crate::cpu) a: Mat<T>,
    pub(in crate::cpu) c: MatMut<T>,
}

impl<T: Copy> Rows<T> {
    /// m rows of a, `lda` apart, and of c, `ldc` apart, of which whoever multiplies them vouches that they are there.
    pub fn raw(m: usize, (a, lda): (*const T, usize), (c, ldc): (*mut T, usize)) -> Self {
        Rows { m, a: Mat { ptr: a, rs: lda, cs: 1 }, c: MatMut { ptr: c, ld: ldc } }
    }
}

/// The second operand of products.
#[derive(Clone, Copy)]
pub enum Second<'a, T> {
    /// As [`pack`](super::pack) has packed it.
    Packed(Form, &'a [T]),
    /// Where it lies, not packed beforehand: for few products. The sums are those of [`Form::Panels`].
    Given(Mat<T>),
}

/// `c = a × b`, or `c += a × b` with `accumulate`, on the calling thread, for rows that lie in several places: each block of b is used for
/// all of them. Who multiplies one row after the other turns `backwards` every time, and finds the last columns in the first cache.
///
/// # Safety
/// The slices that the rows were made of are still there, and no other thread uses those of c; what is given holds k rows of the columns.
pub unsafe fn gemm_rows<T: GemmReal>(
    k: usize,
    columns: Columns,
    rows: &[Rows<T>],
    b: Second<'_, T>,
    accumulate: bool,
    backwards: bool,
) {
    if rows.is_empty() {
        return;
    }
    let beta = if accumulate { T::ONE } else { T::ZERO };
    let mut len = 0;
    if let Second::Packed(form, b) = b {
        len = packed_len::<T>(form, k, columns);
        assert!(b.len() >= len, "a packed operand of other extents");
        if let Form::Tiles(precision) = form {
            // SAFETY: the caller's.
            return unsafe { in_tiles((k, precision), columns, rows, b, accumulate) };
        }
        if let [Rows { m: 1, a, c }] = rows {
            // One row is a packed one.
            for run in 0..columns.count {
                let run = if backwards { columns.count - 1 - run } else { run };
                let b = &b[run * len / columns.count..];
                // SAFETY: as above, the rows hold the extents.
                unsafe {
                    let c = c.ptr.add(run * columns.apart);
                    block_of_one((columns.width, k), backwards, a.ptr, b.as_ptr(), c, T::ONE, beta);
                }
            }
            return;
        }
    }
    let run = |a: *const T| {
        for run in 0..columns.count {
            let first = run * columns.apart;
            // SAFETY: as above, the rows hold the extents.
            unsafe {
                match b {
                    Second::Packed(_, b) => {
                        let b = &b[run * len / columns.count..];
                        block((columns.width, k), first, rows, a, b.as_ptr(), T::ONE, beta);
                    }
                    Second::Given(b) => block_given((columns.width, k), first, rows, a, b, beta),
                }
            }
        }
    };
    if let [Rows { m: 1, a, .. }] = rows {
        return run(a.ptr);
    }
    with_space(&ROWS, packed_rows_len(rows.iter().map(|r| r.m).sum(), k), |packed: &mut [T]| {
        let mut at = 0;
        // SAFETY: as above; the scratch has the room.
        unsafe {
            for r in rows {
                pack_rows((r.m, k), r.a, packed[at..].as_mut_ptr());
                at += r.m * k;
            }
        }
        run(packed.as_ptr());
    });
}

/// [`gemm_rows`] of b in tiles.
///
/// # Safety
/// As there; the processor has AMX.
pub(super) unsafe fn in_tiles<T: GemmReal>(
    (k, precision): (usize, Precision),
    columns: Columns,
    rows: &[Rows<T>],
    b: &[T],
    accumulate: bool,
) {
    #[cfg(target_arch = "x86_64")]
    with_space(&ROWS, rows.iter().map(|r| amx::packed_rows_len(precision, r.m, k)).sum(), |packed: &mut [f32]| {
        let (b, precision) = (bytemuck::cast_slice::<T, f32>(b), precision.allowed());
        // SAFETY: the rows of f32, which T is.
        let f32_rows = unsafe { std::slice::from_raw_parts(rows.as_ptr().cast::<Rows<f32>>(), rows.len()) };
        // SAFETY: the caller's; the scratch has the room.
        unsafe {
            let infinite = amx::pack_rows(precision, f32_rows, k, packed.as_mut_ptr());
            if !amx::finite(precision, b.as_ptr(), k, columns) {
                return by_vectors(k, columns, f32_rows, b, accumulate);
            }
            let block = || amx::block((k, precision), columns, f32_rows, packed.as_ptr(), b.as_ptr(), accumulate);
            if !infinite {
                return block();
            }
            let without = WithoutParts::new(k, f32_rows, columns, accumulate);
            block();
            by_vectors(k, columns, &without.put_back(columns), b, accumulate);
        }
    });
    let _ = (k, precision, columns, rows, b, accumulate);
}

/// Rows of which some number has no parts: sums of parts of an infinity would be NaN. A row of a product in tiles has nothing but its own
/// row of a, so the others take their way, and which one a row takes depends on no other.
#[cfg(target_arch = "x86_64")]
pub(super) struct WithoutParts {
    rows: Vec<Rows<f32>>,
    /// What their rows of c held, where it is added to.
    before: Vec<f32>,
}

#[cfg(target_arch = "x86_64")]
impl WithoutParts {
    /// Before the product in tiles.
    ///
    /// # Safety
    /// The rows are there, k long.
    pub unsafe fn new(k: usize, rows: &[Rows<f32>], columns: Columns, keep: bool) -> Self {
        // SAFETY: the caller's.
        let bad = |r: &Rows<f32>, i: usize| (0..k).any(|p| !amx::has_parts(unsafe { *r.a.at(i, p) }));
        let mut all = WithoutParts { rows: Vec::new(), before: Vec::new() };
        for r in rows {
            let mut i = 0;
            while i < r.m {
                let m = (i..r.m).take_while(|&i| bad(r, i)).count();
                if m > 0 {
                    // SAFETY: as above.
                    let (a, c) = unsafe { (r.a.at(i, 0), r.c.at(i, 0)) };
                    all.rows.push(Rows { m, a: Mat { ptr: a, ..r.a }, c: MatMut { ptr: c, ..r.c } });
                }
                i += m + 1;
            }
        }
        if keep {
            for c in all.runs(columns) {
                // SAFETY: as above.
                all.before.extend_from_slice(unsafe { std::slice::from_raw_parts(c, columns.width) });
            }
        }
        all
    }

    /// Where each run of columns of each row begins.
    fn runs(&self, columns: Columns) -> Vec<*mut f32> {
        let rows = self.rows.iter().flat_map(|r| (0..r.m).map(|i| r.c.ptr.wrapping_add(i * r.c.ld)));
        rows.flat_map(|c| (0..columns.count).map(move |run| c.wrapping_add(run * columns.apart))).collect()
    }

    /// Behind it: the rows, their c as it was.
    ///
    /// # Safety
    /// They are still there.
    pub unsafe fn put_back(self, columns: Columns) -> Vec<Rows<f32>> {
        for (c, before) in self.runs(columns).into_iter().zip(self.before.chunks_exact(columns.width)) {
            // SAFETY: the caller's.
            unsafe { std::ptr::copy_nonoverlapping(before.as_ptr(), c, before.len()) };
        }
        self.rows
    }
}

/// A product of b in tiles by the vectors.
///
/// # Safety
/// As [`gemm_rows`].
#[cfg(target_arch = "x86_64")]
unsafe fn by_vectors(k: usize, columns: Columns, rows: &[Rows<f32>], b: &[f32], accumulate: bool) {
    let (beta, count) = (if accumulate { 1.0 } else { 0.0 }, rows.iter().map(|r| r.m).sum());
    let panel_len = packed_len::<f32>(Form::Panels, k, Columns::all(amx::PANEL));
    with_space(&PANELS, panel_len + packed_rows_len(count, k), |space: &mut [f32]| {
        let (unpacked, packed) = space.split_at_mut(panel_len);
        let mut at = 0;
        for r in rows {
            // SAFETY: the caller's; the scratch has the room.
            unsafe { pack_rows((r.m, k), r.a, packed[at..].as_mut_ptr()) };
            at += r.m * k;
        }
        for panel in 0..columns.panels(amx::PANEL) {
            // SAFETY: as above; the panel's columns are inside c.
            unsafe {
                let (first, some) = amx::unpack(b.as_ptr(), k, columns, panel, (unpacked.as_mut_ptr(), f32::set().nr));
                block((some, k), first, rows, packed.as_ptr(), unpacked.as_ptr(), 1.0, beta);
            }
        }
    });
}
