// The tensor core's product, with the elements of each lane's registers placed as the PTX manual says it.
#include "device/mma.cuh"

#include <cmath>
#include <tuple>

#include "test.h"

struct Product { const float *a, *b, *c; float* d; };

// mma.m16n8k16: element i of A is at row g (0 <= i < 2, 4 <= i < 6) or g + 8, column 2q + (i & 1), plus 8 from i = 4 on; element i of
// B at row 2q + (i & 1), plus 8 from i = 2 on, and column g; element i of C at row g, or g + 8 from i = 2 on, column 2q + (i & 1).
template <class T>
static void of_halves(const Product& p, unsigned times = 1) {
    unsigned lane = threadIdx.x, g = lane >> 2, q = lane % 4;
    unsigned a[4] = {}, b[2] = {};
    for (unsigned i = 0; i < 8; ++i) {
        unsigned row = i < 2 || (i >= 4 && i < 6) ? g : g + 8, column = q * 2 + (i & 1) + (i >= 4 ? 8 : 0);
        a[i / 2] |= unsigned(narrow<T>(p.a[row * 16 + column]).bits) << 16 * (i & 1);
    }
    for (unsigned i = 0; i < 4; ++i) {
        unsigned row = q * 2 + (i & 1) + (i >= 2 ? 8 : 0);
        b[i / 2] |= unsigned(narrow<T>(p.b[row * 8 + g]).bits) << 16 * (i & 1);
    }
    float d[4];
    for (unsigned i = 0; i < 4; ++i) d[i] = p.c[(i < 2 ? g : g + 8) * 8 + q * 2 + (i & 1)];
    if (times == 1) mma<T>(d, a, b);
    else {
        Mma<T> sum(d);
        for (unsigned i = 0; i < times; ++i) sum.add(a, b);
    }
    for (unsigned i = 0; i < 4; ++i) p.d[(i < 2 ? g : g + 8) * 8 + q * 2 + (i & 1)] = d[i];
}
KERNEL(mma_f16, Product) { of_halves<f16>(p); }
KERNEL(mma_bf16_three_times, Product) { of_halves<bf16>(p, 3); }
KERNEL(mma_bf16, Product) { of_halves<bf16>(p); }

// mma.m16n8k8 of TF32: element i of A at row g (i = 0, 2) or g + 8, column q, plus 4 from i = 2 on; element i of B at row q + 4 i,
// column g.
KERNEL(mma_tf32, Product) {
    unsigned lane = threadIdx.x, g = lane >> 2, q = lane % 4;
    unsigned a[4], b[2];
    for (unsigned i = 0; i < 4; ++i) a[i] = __float_as_uint(p.a[(i % 2 ? g + 8 : g) * 8 + q + (i >= 2 ? 4 : 0)]);
    for (unsigned i = 0; i < 2; ++i) b[i] = __float_as_uint(p.b[(q + 4 * i) * 8 + g]);
    float d[4];
    for (unsigned i = 0; i < 4; ++i) d[i] = p.c[(i < 2 ? g : g + 8) * 8 + q * 2 + (i & 1)];
    mma<f32>(d, a, b);
    for (unsigned i = 0; i < 4; ++i) p.d[(i < 2 ? g : g + 8) * 8 + q * 2 + (i & 1)] = d[i];
}

TEST(products_of_the_tensor_cores) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        using Case = std::tuple<const char*, unsigned, unsigned>;
        for (auto [name, k, times] : {Case("mma_f16", 16, 1), Case("mma_bf16", 16, 1), Case("mma_bf16_three_times", 16, 3),
                                      Case("mma_tf32", 8, 1)}) {
            // Small whole numbers: every type holds them and their sums exactly.
            auto numbers = [](unsigned n, unsigned step) {
                std::vector<float> v(n);
                for (unsigned i = 0; i < n; ++i) v[i] = float(int(i * step % 31) - 15);
                return v;
            };
            auto a = numbers(16 * k, 7), b = numbers(k * 8, 11), c = numbers(16 * 8, 5);
            float *at_a = device(a), *at_b = device(b), *at_c = device(c), *at_d = device<float>(16 * 8);
            launch(name, 1, 32, Product{at_a, at_b, at_c, at_d});
            auto d = host(at_d, 16 * 8);
            for (unsigned row = 0; row < 16; ++row)
                for (unsigned column = 0; column < 8; ++column) {
                    float want = c[row * 8 + column];
                    for (unsigned i = 0; i < times * k; ++i) want += a[row * k + i % k] * b[i % k * 8 + column];
                    SAME(d[row * 8 + column], want);
                }
            release(at_a), release(at_b), release(at_c), release(at_d);
        }
    }
}

struct Rounded { const float* x; float* y; };
KERNEL(round_to_tf32, Rounded) { p.y[threadIdx.x] = round_tf32(p.x[threadIdx.x]); }
TEST(tf32_is_the_nearest) {
    set_up();
    // Eleven bits; halfway goes away from zero.
    const float ulp = 1.0f / 1024;
    std::vector<float> x{1.0f, 1 + ulp, 1 + ulp * 0.49f, 1 + ulp * 0.5f, -1 - ulp * 0.5f, 1 + ulp * 0.75f, INFINITY, 0.0f};
    std::vector<float> want{1.0f, 1 + ulp, 1.0f, 1 + ulp, -1 - ulp, 1 + ulp, INFINITY, 0.0f};
    float *at_x = device(x), *at_y = device<float>(x.size());
    launch("round_to_tf32", 1, unsigned(x.size()), Rounded{at_x, at_y});
    auto y = host(at_y, x.size());
    for (size_t i = 0; i < x.size(); ++i) SAME(y[i], want[i]);
    release(at_x), release(at_y);
}

// A lane that does not come to a warp's product leaves the others waiting.
KERNEL(mma_without_a_lane, Product) {
    if (threadIdx.x == 5) return;
    unsigned a[4] = {}, b[2] = {};
    float d[4] = {};
    mma<bf16>(d, a, b);
}
FAULT(a_product_needs_its_whole_warp, "divergent warp") {
    set_up();
    launch("mma_without_a_lane", 1, 32, Product{});
    SAME(cuCtxSynchronize(), 719);
}
