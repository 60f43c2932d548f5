use super::{interface::batched, rows::in_tiles, *};
use crate::{
    cpu::{
        real::Real,
        simd::{Isa, isa},
        testing::skipped,
    },
    kernel::Gemm,
    rng::Philox,
};

fn random<T: Real>(n: usize, rng: &mut Philox) -> Vec<T> {
    (0..n).map(|_| T::of(rng.uniform() as f64 - 0.5)).collect()
}

fn against_naive<T: GemmReal>(tolerance: f64) {
    let mut rng = Philox::seed(5);
    for (m, n, k) in
        [(1, 1, 1), (1, 300, 17), (3, 33, 7), (12, 32, 64), (13, 31, 300), (97, 70, 513), (5, 2100, 9), (200, 130, 260)]
    {
        for (trans_a, trans_b, alpha, beta) in
            [(false, false, 1.0, 0.0), (true, false, 1.0, 1.0), (false, true, 0.5, 2.0), (true, true, 1.0, -1.0)]
        {
            let (a, b, c) = (random::<T>(m * k, &mut rng), random::<T>(k * n, &mut rng), random::<T>(m * n, &mut rng));
            let mut got = c.clone();
            let g = Gemm { batch: 1, m, n, k, trans_a, trans_b, stride_a: 0, stride_b: 0, alpha, beta };
            batched::<T>(&g, &a, &b, &mut got);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k)
                        .map(|p| {
                            let x = if trans_a { a[p * m + i] } else { a[i * k + p] };
                            let y = if trans_b { b[j * k + p] } else { b[p * n + j] };
                            x.to_f64() * y.to_f64()
                        })
                        .sum();
                    let want = alpha * sum + beta * c[i * n + j].to_f64();
                    let error = (got[i * n + j].to_f64() - want).abs();
                    assert!(error <= tolerance * (k as f64).sqrt(), "{m}×{n}×{k} at {i},{j}: {error}");
                }
            }
        }
    }
}

/// Roundings of a chain of k products below 1/4 grow about as √k; four units in the last place of 1 leave room.
#[test]
fn f32_and_f64() {
    against_naive::<f32>(4.0 * f32::EPSILON as f64);
    against_naive::<f64>(4.0 * f64::EPSILON);
}

/// Packed operands, in runs of columns, for rows that lie in several places, against sums in f64: the bound is that of
/// [`f32_and_f64`].
#[test]
fn packed_operands() {
    let mut rng = Philox::seed(8);
    for (spans, k, width, count, apart) in [
        (&[16][..], 32, 32, 1, 0),
        (&[30], 256, 128, 4, 150),
        (&[7, 20, 1, 16], 123, 33, 3, 40),
        (&[64, 3], 30, 16, 2, 16),
        (&[5, 40], 224, 70, 1, 0),
        (&[1], 64, 200, 2, 210),
    ] {
        let columns = Columns { width, count, apart };
        let (m, all) = (spans.iter().sum::<usize>(), apart * (count - 1) + width);
        let form = f32::form(Precision::Full, m, k, width * count);
        assert_eq!(form == Form::Tiles(Precision::Full), isa() == Isa::Amx && m >= TILED);
        let (a, b) = (random::<f32>(m * k, &mut rng), random::<f32>(k * all, &mut rng));
        let transposed: Vec<f32> = (0..all * k).map(|i| b[i % k * all + i / k]).collect();
        let before = random::<f32>(m * all, &mut rng);
        for (b_mat, add) in [(Mat::new(&b, k, all, all, 1), false), (Mat::new(&transposed, k, 1, all, k), true)] {
            let mut packed = vec![0.0; packed_len::<f32>(form, k, columns)];
            // SAFETY: b has the columns.
            unsafe { pack(form, Source::Real(b_mat), k, columns, &mut packed) };
            let mut got = before.clone();
            let c = got.as_mut_ptr();
            let begin = |i: usize| spans[..i].iter().sum::<usize>();
            let rows = (0..spans.len())
                .map(|i| Rows::raw(spans[i], (a[begin(i) * k..].as_ptr(), k), (c.wrapping_add(begin(i) * all), all)));
            // SAFETY: all rows of both.
            unsafe { gemm_rows(k, columns, &rows.collect::<Vec<_>>(), Second::Packed(form, &packed), add, false) };
            for (i, j) in (0..m).flat_map(|i| (0..all).map(move |j| (i, j))) {
                let (old, new) = (before[i * all + j], got[i * all + j]);
                if count > 1 && j % apart >= width {
                    assert_eq!(old, new, "{i}, {j}: a column between runs");
                    continue;
                }
                let sum: f64 = (0..k).map(|p| a[i * k + p] as f64 * b[p * all + j] as f64).sum();
                let error = (new as f64 - sum - if add { old as f64 } else { 0.0 }).abs();
                let bound = 4.0 * f32::EPSILON as f64 * (k as f64).sqrt();
                assert!(error <= bound, "{spans:?} × {k} × {columns:?} at {i}, {j}: {error}");
            }
        }
    }
}

/// Factors of two parts of bf16, each of eight bits and rounded to nearest, are wrong by 2⁻¹⁷ at most, and what is left out, the product of
/// the second parts, is 2⁻¹⁶ of the whole; what exact products are wrong by comes on top. The worst factors, 1 + 2⁻⁸ − 2⁻¹⁷, are among them.
#[test]
fn rough_tiles() {
    if isa() != Isa::Amx {
        return skipped("no AMX");
    }
    let mut rng = Philox::seed(11);
    let mut worst = 0f64;
    for (m, n, k) in [(16, 32, 32), (40, 70, 100), (33, 200, 224)] {
        let (mut a, mut b) = (random::<f32>(m * k, &mut rng), random::<f32>(k * n, &mut rng));
        let bad = 1.0 + 2f32.powi(-8) - 2f32.powi(-17);
        a[..k].fill(bad);
        b.iter_mut().step_by(n).for_each(|b| *b = bad);
        let mut packed = vec![0.0; packed_len::<f32>(Form::Tiles(Precision::Full), k, Columns::all(n))];
        // SAFETY: b is k × n.
        unsafe {
            pack(Form::Tiles(Precision::Full), Source::Real(Mat::new(&b, k, n, n, 1)), k, Columns::all(n), &mut packed)
        };
        let mut got = vec![0f32; m * n];
        let rows = [Rows::raw(m, (a.as_ptr(), k), (got.as_mut_ptr(), n))];
        // SAFETY: m rows of each.
        unsafe { in_tiles((k, Precision::Rough), Columns::all(n), &rows, &packed, false) };
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let terms = (0..k).map(|p| a[i * k + p] as f64 * b[p * n + j] as f64);
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            let error = (got[i * n + j] as f64 - sum).abs();
            let bound = size * 2f64.powi(-15) + 4.0 * f32::EPSILON as f64 * (k as f64).sqrt();
            assert!(error <= bound, "{m}×{n}×{k} at {i},{j}: {error}, at most {bound}");
            worst = worst.max(error / size);
        }
    }
    // Not the exact ones.
    assert!(worst > 2f64.powi(-22), "{worst}");
}

/// Factors of f16 lose nothing in two parts, also where what matters is the product of the second ones.
#[test]
fn tiles_of_sixteen_bits() {
    if isa() != Isa::Amx {
        return skipped("no AMX");
    }
    let form = Form::Tiles(Precision::Sixteen);
    for (m, n, k) in [(16, 32, 32), (40, 70, 100), (33, 200, 224)] {
        // All but 2⁻¹⁶ of each two products cancel.
        let alternate = |p: usize, even: f32, odd: f32| if p.is_multiple_of(2) { even } else { odd };
        let small = 1.0 + 2f32.powi(-8);
        let a: Vec<f32> = (0..m * k).map(|i| alternate(i % k, small, -1.0 - 2f32.powi(-7))).collect();
        let b: Vec<f32> = (0..k * n).map(|i| alternate(i / n, small, 1.0)).collect();
        let mut packed = vec![0.0; packed_len::<f32>(form, k, Columns::all(n))];
        // SAFETY: b is k × n.
        unsafe { pack(form, Source::Real(Mat::new(&b, k, n, n, 1)), k, Columns::all(n), &mut packed) };
        let mut got = vec![0f32; m * n];
        let rows = [Rows::raw(m, (a.as_ptr(), k), (got.as_mut_ptr(), n))];
        // SAFETY: m rows of each.
        unsafe { gemm_rows(k, Columns::all(n), &rows, Second::Packed(form, &packed), false, false) };
        let want = (k / 2) as f64 * 2f64.powi(-16);
        let bound = 4.0 * f32::EPSILON as f64 * (k as f64).sqrt();
        assert!(
            bound < want / 10.0 && got.iter().all(|&x| (x as f64 - want).abs() <= bound),
            "{m}×{n}×{k}: {}, {want}",
            got[0]
        );
    }
}

/// Rows of a tall product have the bits that they have in one of fewer rows, which takes another way: of f32 added to what is there, and of
/// what was bf16.
#[test]
fn rows_of_tall_products() {
    let mut rng = Philox::seed(13);
    for (precision, n, k, few, many) in [(Precision::Full, 32, 200, 64, 65), (Precision::Half, 24, 64, 48, 49)] {
        let (a, b) = (random::<f32>(k * many, &mut rng), random::<f32>(k * n, &mut rng));
        let before = random::<f32>(many * n, &mut rng);
        for beta in [0.0, 1.0, 0.5] {
            let run = |m: usize| {
                let mut c = before[..m * n].to_vec();
                let (a, b) = (Mat::new(&a, m, 1, k, many), Mat::new(&b, k, n, n, 1));
                product(precision, (m, n, k), a, b, MatMut::new(&mut c, m, n, n), (1.0, beta));
                c
            };
            assert!(run(many)[..few * n] == run(few)[..], "{precision:?}, {beta}");
        }
    }
}

/// In one part a product is that of the factors rounded to bf16, by [`f32_and_f64`]'s bound, and infinities and NaN are what they are
/// elsewhere; weights that are stored as bf16 give the same tiles.
#[test]
fn half_tiles() {
    if isa() != Isa::Amx {
        return skipped("no AMX");
    }
    let mut rng = Philox::seed(12);
    let form = Form::Tiles(Precision::Half);
    for (m, n, k) in [(1, 32, 32), (16, 40, 20), (40, 70, 100), (33, 600, 800)] {
        let (mut a, mut b) = (random::<f32>(m * k, &mut rng), random::<f32>(k * n, &mut rng));
        // A tie, which goes to the even one, and what is not finite.
        a[1] = 1.0 + 2f32.powi(-8);
        if m > 1 {
            a[k] = f32::INFINITY;
            b[n - 1] = f32::NAN;
        }
        for across in [false, true] {
            // b as it lies, or as the transpose of what lies.
            let lies: Vec<f32> = if across { (0..n * k).map(|i| b[i % k * n + i / k]).collect() } else { b.clone() };
            let stored: Vec<bf16> = lies.iter().map(|&x| bf16::from_f32(x)).collect();
            let (rs, cs) = if across { (1, k) } else { (n, 1) };
            let sources = [Source::Real(Mat::new(&lies, k, rs, n, cs)), Source::Half(Mat::new(&stored, k, rs, n, cs))];
            let packed = sources.map(|source| {
                let mut packed = vec![0f32; packed_len::<f32>(form, k, Columns::all(n))];
                // SAFETY: b is k × n.
                unsafe { pack(form, source, k, Columns::all(n), &mut packed) };
                packed
            });
            let [real, half] = packed.each_ref().map(|packed| packed.iter().map(|x| x.to_bits()));
            assert!(real.eq(half), "{m}×{n}×{k}");
            let mut got = random::<f32>(m * n, &mut rng);
            let before = got.clone();
            let rows = [Rows::raw(m, (a.as_ptr(), k), (got.as_mut_ptr(), n))];
            // SAFETY: m rows of each.
            unsafe { gemm_rows(k, Columns::all(n), &rows, Second::Packed(form, &packed[0]), true, false) };
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let rounded = |x: f32| bf16::from_f32(x).to_f64();
                let sum: f64 = (0..k).map(|p| rounded(a[i * k + p]) * rounded(b[p * n + j])).sum();
                let (got, want) = (got[i * n + j] as f64, sum + before[i * n + j] as f64);
                let near = (got - want).abs() <= 4.0 * f32::EPSILON as f64 * (k as f64).sqrt();
                assert!(near || got == want || got.is_nan() && want.is_nan(), "{m}×{n}×{k} at {i},{j}: {got}, {want}");
            }
        }
    }
}

/// Products that share an operand have the bits of each alone, also where one is too narrow, or all are too wide, to be packed together.
#[test]
fn several_products_of_one_operand() {
    let mut rng = Philox::seed(9);
    let (m, k) = (130, 300);
    let a = random::<f32>(m * k, &mut rng);
    // As the transpose of a row-major k × m.
    let a = Mat::new(&a, m, 1, k, m);
    for widths in [[64, 130], [200, 3], [1500, 1000], [100, 200], [64, 70]] {
        let b = widths.map(|n| random::<f32>(n * k, &mut rng));
        let before = widths.map(|n| random::<f32>(n * m, &mut rng));
        let (mut together, mut alone) = (before.clone(), before);
        let [first, second] = &mut together;
        let output = |i: usize, c: &mut [f32], beta: f32| Output {
            n: widths[i],
            b: Mat::new(&b[i], k, widths[i], widths[i], 1),
            c: MatMut::new(c, m, widths[i], widths[i]),
            beta,
        };
        products(Precision::Full, (m, k), a, &[output(0, first, 0.0), output(1, second, 1.0)]);
        for (i, c) in alone.iter_mut().enumerate() {
            let o = output(i, c, i as f32);
            product(Precision::Full, (m, o.n, k), a, o.b, o.c, (1.0, o.beta));
        }
        assert!(together == alone, "{widths:?}");
    }
}

/// What is not finite, or is nearly so, comes out as a plain sum has it, also where numbers are taken apart.
#[test]
fn infinities_and_nan() {
    let mut rng = Philox::seed(7);
    // Tiles, where there are such.
    let (m, n, k) = (40, 70, 60);
    assert_eq!(f32::form(Precision::Full, m, k, n) == Form::Tiles(Precision::Full), isa() == Isa::Amx);
    for (in_a, x) in
        [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 3.4e38].into_iter().flat_map(|x| [(true, x), (false, x)])
    {
        let (mut a, mut b) = (random::<f32>(m * k, &mut rng), random::<f32>(k * n, &mut rng));
        (if in_a { &mut a } else { &mut b })[17] = x;
        let form = f32::form(Precision::Full, m, k, n);
        let mut packed = vec![0.0; packed_len::<f32>(form, k, Columns::all(n))];
        // SAFETY: b is k × n.
        unsafe { pack(form, Source::Real(Mat::new(&b, k, n, n, 1)), k, Columns::all(n), &mut packed) };
        let (mut got, mut other) = (vec![0f32; m * n], vec![0f32; m * n]);
        let rows = [Rows::raw(m, (a.as_ptr(), k), (got.as_mut_ptr(), n))];
        // SAFETY: m rows of each.
        unsafe { gemm_rows(k, Columns::all(n), &rows, Second::Packed(form, &packed), false, false) };
        let (a, b) = (Mat::new(&a, m, k, k, 1), Mat::new(&b, k, n, n, 1));
        product(Precision::Full, (m, n, k), a, b, MatMut::new(&mut other, m, n, n), (1.0, 0.0));
        for i in 0..m {
            for j in 0..n {
                // SAFETY: inside both.
                let want = (0..k).fold(0f32, |sum, p| unsafe { (*a.at(i, p)).mul_add(*b.at(p, j), sum) });
                for got in [got[i * n + j], other[i * n + j]] {
                    let close = (got - want).abs() <= 1e-5 * want.abs().max(1.0);
                    assert!(close || got == want || got.is_nan() && want.is_nan(), "{x} in a: {in_a}: {got}, {want}");
                }
            }
        }
    }
}

/// The same where both operands are packed for one product over rows, as for a weight's gradient: rows with nothing but finite numbers
/// have the bits of always, if in their block of k all of b is finite.
#[test]
fn infinities_in_sums_over_rows() {
    let mut rng = Philox::seed(12);
    let (m, n, k) = (200, 130, 600);
    let (a, b) = (random::<f32>(k * m, &mut rng), random::<f32>(k * n, &mut rng));
    let run = |a: &[f32], b: &[f32], threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0f32; m * n];
        let (a, b, to) = (Mat::new(a, m, 1, k, m), Mat::new(b, k, n, n, 1), MatMut::new(&mut c, m, n, n));
        pool.install(|| product(Precision::Full, (m, n, k), a, b, to, (1.0, 0.0)));
        c
    };
    let finite = run(&a, &b, 1);
    for (in_a, (p, i), x) in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 3.4e38]
        .into_iter()
        .flat_map(|x| [(true, (3, 7), x), (true, (599, 199), x), (false, (300, 129), x)])
    {
        let (mut a, mut b) = (a.clone(), b.clone());
        if in_a {
            a[p * m + i] = x
        } else {
            b[p * n + i] = x
        };
        let got = run(&a, &b, 1);
        let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for threads in [2, 3] {
            assert!(bits(&run(&a, &b, threads)) == bits(&got), "{x}, {threads} threads");
        }
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let sum: f64 = (0..k).map(|p| a[p * m + i] as f64 * b[p * n + j] as f64).sum();
            let (got, want) = (got[i * n + j], sum as f32);
            let close = (got - want).abs() <= 1e-5 * want.abs().max(1.0);
            assert!(close || got == want || got.is_nan() && want.is_nan(), "{x} in a: {in_a}, {i}, {j}: {got}, {want}");
        }
        if in_a {
            for row in (0..m).filter(|&row| row != i) {
                assert!(got[row * n..][..n] == finite[row * n..][..n], "{x} in {i}: {row}");
            }
        }
    }
}

/// Rows of finite numbers have the bits that they have beside finite rows only, whatever is in others, and whether or not all are added to
/// something; the others have those that they have alone.
#[test]
fn rows_keep_their_bits_beside_infinities() {
    let mut rng = Philox::seed(13);
    let (k, columns, ld) = (70, Columns { width: 40, count: 3, apart: 50 }, 160);
    let (spans, m) = ([(0, 3), (3, 20), (23, 1), (24, 33)], 57);
    let b = random::<f32>(k * 160, &mut rng);
    let form = f32::form(Precision::Full, m, k, columns.width * columns.count);
    let mut packed = vec![0.0; packed_len::<f32>(form, k, columns)];
    // SAFETY: b is k rows of the columns.
    unsafe { pack(form, Source::Real(Mat::new(&b, k, 160, 160, 1)), k, columns, &mut packed) };
    let (a, c) = (random::<f32>(m * k, &mut rng), random::<f32>(m * ld, &mut rng));
    let run = |a: &[f32], spans: &[(usize, usize)], add: bool| {
        let mut got = c.clone();
        let of = |&(first, len): &(usize, usize)| {
            Rows::raw(len, (a[first * k..].as_ptr(), k), (got[first * ld..].as_mut_ptr(), ld))
        };
        let rows: Vec<_> = spans.iter().map(of).collect();
        // SAFETY: the rows of each.
        unsafe { gemm_rows(k, columns, &rows, Second::Packed(form, &packed), add, false) };
        got.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    for (add, x) in [f32::INFINITY, f32::NAN, 3.4e38].into_iter().flat_map(|x| [(false, x), (true, x)]) {
        let finite = run(&a, &spans, add);
        let (bad, mut a) = ([2, 5, 6, 23, 56], a.clone());
        bad.iter().for_each(|&i| a[i * k + i] = x);
        let got = run(&a, &spans, add);
        for i in 0..m {
            let at = i * ld..(i + 1) * ld;
            let want = if bad.contains(&i) { run(&a, &[(i, 1)], add) } else { finite.clone() };
            assert!(got[at.clone()] == want[at], "{x}, added: {add}: row {i}");
        }
    }
}

#[test]
fn threads_and_neighbours_change_nothing() {
    let mut rng = Philox::seed(6);
    let (m, n, k) = (150, 200, 300);
    let (a, b) = (random::<f32>(m * k, &mut rng), random::<f32>(k * n, &mut rng));
    let run = |threads: usize, rows: usize, trans_a: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0f32; rows * n];
        let g =
            Gemm { batch: 1, m: rows, n, k, trans_a, trans_b: false, stride_a: 0, stride_b: 0, alpha: 1.0, beta: 0.0 };
        pool.install(|| batched::<f32>(&g, &a[..rows * k], &b, &mut c));
        c
    };
    let one = run(1, m, false);
    assert!(one == run(2, m, false));
    assert!(one == run(5, m, false));
    assert!(one[..7 * n] == run(1, 7, false)[..]);
    // Few rows, whose columns are shared out; those of f64 too.
    for rows in [1, 3, 8, 9, 20] {
        assert!(one[..rows * n] == run(5, rows, false)[..], "{rows} rows");
    }
    // Sums over rows.
    let one = run(1, m, true);
    assert!(one == run(2, m, true));
    assert!(one == run(5, m, true));
}

/// The same of other numbers, and of enough columns for several tasks.
#[test]
fn few_rows_of_many_columns() {
    fn of<T: GemmReal + PartialEq>() {
        let mut rng = Philox::seed(22);
        let (n, k) = (3000, 300);
        let (a, b) = (random::<T>(20 * k, &mut rng), random::<T>(k * n, &mut rng));
        for trans_b in [false, true] {
            let run = |threads: usize, rows: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut c = vec![T::ONE; rows * n];
                let g = Gemm {
                    batch: 1,
                    m: rows,
                    n,
                    k,
                    trans_a: false,
                    trans_b,
                    stride_a: 0,
                    stride_b: 0,
                    alpha: 1.0,
                    beta: 1.0,
                };
                pool.install(|| batched::<T>(&g, &a[..rows * k], &b, &mut c));
                c
            };
            let one = run(1, 20);
            for (threads, rows) in [(1, 1), (3, 1), (2, 8), (3, 9), (4, 17), (8, 20)] {
                assert!(one[..rows * n] == run(threads, rows)[..], "{rows} rows, {threads} threads");
            }
        }
    }
    of::<f32>();
    of::<f64>();
}

fn given_is_panels<T: GemmReal + PartialEq>() {
    let mut rng = Philox::seed(21);
    for (spans, k, width, count, apart) in [
        (&[1][..], 64, 48, 1, 0),
        (&[1], 300, 40, 4, 45),
        (&[1], 17, 16, 1, 0),
        (&[2], 128, 70, 2, 70),
        (&[3], 129, 15, 3, 20),
        (&[5], 33, 600, 1, 0),
        (&[7], 260, 33, 1, 0),
        (&[8], 16, 64, 1, 0),
        (&[9], 100, 50, 2, 60),
        (&[20], 140, 7, 1, 0),
        (&[4, 2], 90, 64, 1, 0),
        (&[1, 1], 1, 1, 1, 0),
        (&[], 20, 30, 1, 0),
    ] {
        let columns = Columns { width, count, apart };
        let (m, all) = (spans.iter().sum::<usize>(), apart * (count - 1) + width);
        let (a, b) = (random::<T>(m * k, &mut rng), random::<T>(k * all, &mut rng));
        let transposed: Vec<T> = (0..all * k).map(|i| b[i % k * all + i / k]).collect();
        let before = random::<T>(m * all, &mut rng);
        for (b, add) in [(Mat::new(&b, k, all, all, 1), false), (Mat::new(&transposed, k, 1, all, k), true)]
            .into_iter()
            .flat_map(|(b, add)| [(b, add), (b, !add)])
        {
            let mut packed = vec![T::ZERO; packed_len::<T>(Form::Panels, k, columns)];
            // SAFETY: b has the columns.
            unsafe { pack(Form::Panels, Source::Real(b), k, columns, &mut packed) };
            let product = |second, backwards| {
                let mut c = before.clone();
                let to = c.as_mut_ptr();
                let begin = |i: usize| spans[..i].iter().sum::<usize>();
                let rows = (0..spans.len()).map(|i| {
                    Rows::raw(spans[i], (a[begin(i) * k..].as_ptr(), k), (to.wrapping_add(begin(i) * all), all))
                });
                // SAFETY: all rows of both.
                unsafe { gemm_rows(k, columns, &rows.collect::<Vec<_>>(), second, add, backwards) };
                c
            };
            let wanted = product(Second::Packed(Form::Panels, &packed), false);
            let others = [(Second::Packed(Form::Panels, &packed[..]), true), (Second::Given(b), false)];
            for (second, backwards) in others {
                let got = product(second, backwards);
                let off = got.iter().zip(&wanted).position(|(a, b)| a != b);
                assert!(off.is_none(), "{spans:?} × {k} × {columns:?}, add {add}, {backwards}: element {off:?}");
            }
        }
    }
}

/// What is not packed beforehand is multiplied in the same chains of roundings, and so are columns from the last to the first.
#[test]
fn given_operands_have_the_bits_of_panels() {
    given_is_panels::<f32>();
    given_is_panels::<f64>();
}
