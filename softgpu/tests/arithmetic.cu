// Conversions of numbers against the definition, and cuBLAS's products against the plain sum.
#include "test.h"

#include <cmath>

// The nearest value with so many bits of significand and exponents from `lowest` on, of two equally near the even one.
static double nearest(double x, int bits, int lowest, double largest) {
    if (!std::isfinite(x) || x == 0) return x;
    int exponent = std::max(std::ilogb(x), lowest);
    double unit = std::ldexp(1.0, exponent - bits + 1), rounded = std::nearbyint(x / unit) * unit;
    return std::fabs(rounded) > largest ? std::copysign(INFINITY, x) : rounded;
}
TEST(halves_round_to_nearest_even) {
    uint64_t state = 1;
    auto draw = [&] { return uint32_t((state = state * 6364136223846793005ull + 1442695040888963407ull) >> 32); };
    for (int i = 0; i < 3000000; ++i) {
        float x = float_of_bits(i < 1000000 ? (0x33000000u + uint32_t(i) * 335u) | (draw() & 0x80000000u) : draw());
        if (i % 3 == 0) x = float_of_bits(bits_of_float(x) & 0xfffff000u);  // ties
        float h = widen(narrow<f16>(x)), b = widen(narrow<bf16>(x));
        if (std::isnan(x)) {
            CHECK(std::isnan(h) && std::isnan(b));
            continue;
        }
        CHECK(double(h) == nearest(x, 11, -14, 65504));
        CHECK(double(b) == nearest(x, 8, -126, 3.3895313892515355e38));
    }
    for (unsigned bits = 0; bits < 65536; ++bits) {  // every half goes there and back
        f16 h{static_cast<unsigned short>(bits)};
        bf16 b{static_cast<unsigned short>(bits)};
        if (std::isnan(widen(h))) CHECK((bits & 0x7c00) == 0x7c00 && (bits & 0x3ff));
        else SAME(unsigned(narrow<f16>(widen(h)).bits), bits);
        if (!std::isnan(widen(b))) SAME(unsigned(narrow<bf16>(widen(b)).bits), bits);
    }
    SAME(narrow<f16>(NAN).bits, 0x7fff);
    SAME(narrow<bf16>(NAN).bits, 0x7fff);
}

template <class T> T to(double x) { return T(x); }
template <> f16 to<f16>(double x) { return narrow<f16>(float(x)); }
template <> bf16 to<bf16>(double x) { return narrow<bf16>(float(x)); }
template <class T> constexpr int code = 0;
template <> constexpr int code<double> = 1;
template <> constexpr int code<f16> = 2;
template <> constexpr int code<bf16> = 14;

// One product of every combination of transpositions, with padding between columns that must not be touched.
template <class A, class C>
static void products(int compute, double tolerance) {
    void* handle;
    DO(cublasCreate_v2(&handle));
    struct Shape { int m, n, k; };
    const Shape shapes[] = {{1, 1, 1}, {5, 3, 7}, {33, 65, 300}, {130, 17, 64}, {7, 500, 2}, {4, 4, 0}};
    for (auto [m, n, k] : shapes)
        for (int op_a : {0, 1})
            for (int op_b : {0, 1})
                for (double beta : {0.0, 0.5}) {
                    int ra = op_a ? k : m, ca = op_a ? m : k, rb = op_b ? n : k, cb = op_b ? k : n;
                    int lda = ra + 3, ldb = rb + 1, ldc = m + 2;
                    std::vector<A> a(size_t(lda) * size_t(std::max(ca, 1)), to<A>(NAN)), b(size_t(ldb) * size_t(std::max(cb, 1)), to<A>(NAN));
                    std::vector<C> c(size_t(ldc) * size_t(n), to<C>(beta == 0 ? NAN : 7));
                    for (int j = 0; j < ca; ++j) for (int i = 0; i < ra; ++i) a[size_t(i + j * lda)] = to<A>(((i * 7 + j * 3) % 11 - 5) * 0.25);
                    for (int j = 0; j < cb; ++j) for (int i = 0; i < rb; ++i) b[size_t(i + j * ldb)] = to<A>(((i * 5 + j) % 13 - 6) * 0.125);
                    for (int j = 0; j < n; ++j) for (int i = 0; i < m; ++i) if (beta != 0) c[size_t(i + j * ldc)] = to<C>((i + j) % 5);
                    A *da = device(a), *db = device(b);
                    C* dc = device(c);
                    double wide[2] = {2, beta};
                    float narrow_[2] = {2, float(beta)};
                    const void *al = compute == 70 ? (void*)&wide[0] : &narrow_[0], *be = compute == 70 ? (void*)&wide[1] : &narrow_[1];
                    DO(cublasGemmEx(handle, op_a, op_b, m, n, k, al, da, code<A>, lda, db, code<A>, ldb, be, dc, code<C>, ldc, compute, -1));
                    auto r = host(dc, c.size());
                    for (int j = 0; j < n; ++j)
                        for (int i = 0; i < ldc; ++i) {
                            double got = widen(r[size_t(i + j * ldc)]), was = widen(c[size_t(i + j * ldc)]);
                            if (i >= m) {
                                CHECK(got == was || (std::isnan(got) && std::isnan(was)));
                                continue;
                            }
                            double sum = 0;
                            for (int p = 0; p < k; ++p)
                                sum += double(widen(a[size_t(op_a ? p + i * lda : i + p * lda)])) * double(widen(b[size_t(op_b ? j + p * ldb : p + j * ldb)]));
                            double want = 2 * sum + (beta != 0 ? beta * was : 0);
                            CHECK(std::fabs(got - want) <= tolerance * (1 + std::fabs(want)));
                        }
                    release(da), release(db), release(dc);
                }
    DO(cublasDestroy_v2(handle));
}
TEST(products_f32) { set_up(), products<float, float>(68, 1e-5); }
TEST(products_f64) { set_up(), products<double, double>(70, 1e-13); }
TEST(products_f16) { set_up(), products<f16, f16>(68, 1e-3); }
TEST(products_bf16) { set_up(), products<bf16, bf16>(68, 8e-3); }
TEST(products_bf16_into_f32) { set_up(), products<bf16, float>(68, 1e-5); }
TEST(products_tf32) { set_up(), products<float, float>(77, 1e-5); }  // these factors are exact in it

TEST(batches_and_precision) {
    set_up();
    void* handle;
    DO(cublasCreate_v2(&handle));
    std::vector<float> x(3 * 4, 1.0f + 1.0f / 4096), y(3 * 4, 1.f);
    float *a = device(x), *b = device(y), *c = device<float>(3 * 4), one = 1, zero = 0;
    DO(cublasSgemmStridedBatched(handle, 0, 0, 2, 2, 2, &one, a, 2, 4, b, 2, 4, &zero, c, 2, 4, 3));
    for (float v : host(c, 12)) SAME(v, 2.0f + 1.0f / 2048);
    DO(cublasSetMathMode(handle, 3));  // TF32: the factors lose their last bits
    DO(cublasSgemm_v2(handle, 0, 1, 2, 2, 2, &one, a, 2, b, 2, &zero, c, 2));
    SAME(host(c, 1)[0], 2.0f);
    DO(cublasSetMathMode(handle, 0));
    float* scalars = device(std::vector<float>{3, 0});
    DO(cublasSetPointerMode_v2(handle, 1));
    DO(cublasSgemm_v2(handle, 0, 1, 2, 2, 2, scalars, b, 2, b, 2, scalars + 1, c, 2));
    SAME(host(c, 1)[0], 6.0f);
    softgpu_counts counts;
    DO(softgpu_counters(&counts, sizeof counts));
    SAME(counts.gemm_calls, 3u);
    SAME(counts.gemm_flops, 2u * 8 * 5);
    SAME(cublasGemmEx(handle, 0, 0, 2, 2, 2, &one, a, 0, 1, b, 0, 2, &zero, c, 0, 2, 68, -1), 7);   // a leading dimension too small
    SAME(cublasGemmEx(handle, 0, 0, 2, 2, 2, &one, a, 2, 2, b, 0, 2, &zero, c, 0, 2, 68, -1), 15);  // types that do not go together
    release(a), release(b), release(c), release(scalars);
    DO(cublasDestroy_v2(handle));
}
FAULT(a_product_past_the_end, "cublasSgemm_v2: B: 64 bytes from|run 4 bytes past the end of allocation #2 of 60 bytes") {
    set_up();
    void* handle;
    DO(cublasCreate_v2(&handle));
    float *a = device<float>(16), *b = device<float>(15), *c = device<float>(16), one = 1, zero = 0;
    DO(cublasSgemm_v2(handle, 0, 0, 4, 4, 4, &one, a, 4, b, 4, &zero, c, 4));
    SAME(cuCtxSynchronize(), 700);
}
FAULT(a_workspace_freed_too_early, "cublasSgemm_v2: the workspace: |0 bytes into allocation #1 of 4096 bytes|freed by cuMemFreeAsync") {
    set_up();
    void *handle, *stream;
    DO(cuStreamCreate(&stream, 1));
    DO(cublasCreate_v2(&handle));
    DO(cublasSetStream_v2(handle, stream));
    uintptr_t workspace;
    DO(cuMemAllocAsync(&workspace, 4096, stream));
    DO(cublasSetWorkspace_v2(handle, (void*)workspace, 4096));
    float *a = device<float>(16), one = 1, zero = 0;
    DO(cublasSgemm_v2(handle, 0, 0, 2, 2, 2, &one, a, 2, a + 4, 2, &zero, a + 8, 2));
    DO(cuStreamSynchronize(stream));
    DO(cuMemFreeAsync(workspace, stream));
    DO(cublasSgemm_v2(handle, 0, 0, 2, 2, 2, &one, a, 2, a + 4, 2, &zero, a + 8, 2));
    SAME(cuStreamSynchronize(stream), 700);
}
TEST(products_wait_for_their_stream) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        void *handle, *s;
        DO(cublasCreate_v2(&handle));
        DO(cuStreamCreate(&s, 1));
        DO(cublasSetStream_v2(handle, s));
        float *a = device(std::vector<float>(64, 1.f)), *c = device<float>(64), one = 1, zero = 0;
        DO(cuMemsetD32Async(uintptr_t(a), 0x40000000, 64, s));  // 2
        DO(cublasSgemm_v2(handle, 0, 0, 8, 8, 8, &one, a, 8, a, 8, &zero, c, 8));
        DO(cuMemsetD32Async(uintptr_t(a), 0, 64, s));
        DO(cuStreamSynchronize(s));
        SAME(host(c, 1)[0], 32.f);
        release(a), release(c), DO(cublasDestroy_v2(handle)), DO(cuStreamDestroy_v2(s));
    }
}
