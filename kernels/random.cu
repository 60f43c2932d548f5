// What Philox words become, bit for bit as on the CPU: products and sums here are never fused. A thread owns the elements of
// one block of four words, a grid apart. Some forty integer operations an element.
#include "device/loop.cuh"
#include "device/philox.cuh"

__device__ __forceinline__ float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double rounded_product(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float rounded_sum(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double rounded_sum(double a, double b) { return __dadd_rn(a, b); }

// Elements first..first + count of x and y, by the words of their places in the whole. Moves one element in and one out.
template <class T>
__device__ __forceinline__ void dropout(const Dropout& p) {
    using C = compute_t<T>;
    const C scale = C(p.scale);
    const float bound = float(p.p);
    const uint64_t first = p.first / 4, last = p.first + p.count;
    const uint64_t seed = p.seed_at ? *at<const uint64_t>(p.seed_at) : p.seed;
    const uint64_t stream = p.stream_at ? *at<const uint64_t>(p.stream_at) : p.stream;
    FOR_EACH(n, (last + 3) / 4 - first) {
        Words words = philox(seed, stream, first + n);
#pragma unroll
        for (int w = 0; w < 4; ++w) {
            uint64_t i = 4 * (first + n) + w;
            if (i >= p.first && i < last)
                at<T>(p.y)[i] = narrow<T>(unit(words.at[w]) >= bound ? rounded_product(C(widen(at<const T>(p.x)[i])), scale) : C(0));
        }
    }
}
KERNEL_FLOATS(dropout, Dropout)

// A thread for each draw.
KERNEL(draw_masks, DrawMasks) {
    FOR_EACH(i, p.count) {
        uint64_t *draw = at<uint64_t>(p.draws) + 4 * i, *drawn = at<uint64_t>(p.drawn) + 2 * i;
        const uint64_t seed = draw[0], call = draw[1];
        draw[1] = call + draw[2];
        if (draw[3]) {
            Words words = philox(seed, call, 0);
            drawn[0] = uint64_t(words.at[0]) | uint64_t(words.at[1]) << 32;
            drawn[1] = 0;
        } else {
            drawn[0] = seed;
            drawn[1] = call;
        }
    }
}

template <class T>
__device__ __forceinline__ void put(const Uniform& p, uint64_t i, double unit) {
    using C = compute_t<T>;
    if (i >= p.count) return;
    // Rounding must not reach the open end.
    C value = widen(narrow<T>(rounded_sum(C(p.low), rounded_product(C(unit), C(p.span))))), last = C(p.last);
    at<T>(p.y)[i] = narrow<T>(value > last ? last : value);
}

// y [count]; f64 takes two words for each. Moves one element out.
template <class T>
__device__ __forceinline__ void uniform(const Uniform& p) {
    constexpr bool twofold = sizeof(T) == 8;
    constexpr int each = twofold ? 2 : 4;
    FOR_EACH(block, (p.count + each - 1) / each) {
        Words words = philox(p.seed, p.stream, block);
        if constexpr (twofold) {
            put<T>(p, 2 * block, unit(words.at[0], words.at[1]));
            put<T>(p, 2 * block + 1, unit(words.at[2], words.at[3]));
        } else {
#pragma unroll
            for (int w = 0; w < 4; ++w) put<T>(p, 4 * block + w, unit(words.at[w]));
        }
    }
}
KERNEL_FLOATS(uniform, Uniform)
