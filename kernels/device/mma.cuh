// The tensor cores' product of a warp, D = A B + D for a 16 × k by a k × 8 tile (mma.sync, sm_80 and later). Each lane gives the
// registers that PTX assigns to it (g = lane / 4, q = lane % 4), of halves (k = 16; a register is two neighbours along k) or of
// TF32 numbers (k = 8; a register is one):
//
//     a[0] row g,     k 2q (q)           b[0] k 2q (q),         column g       d[0], d[1] row g,     columns 2q, 2q + 1
//     a[1] row g + 8, the same           b[1] k 2q + 8 (q + 4), column g       d[2], d[3] row g + 8, the same
//     a[2] row g,     k 2q + 8 (q + 4)
//     a[3] row g + 8, the same
#pragma once

#include "number.cuh"

#ifdef SOFTGPU
namespace softgpu {
struct MmaLane {
    float* d;
    unsigned count, a[6][4], b[6][2];
};
using MmaBits = uint32_t __attribute__((vector_size(32)));
using MmaRow = float __attribute__((vector_size(32)));
// The factors at place `half` of eight registers. TF32's low bits are not looked at.
__forceinline__ MmaRow mma_factors(f16, MmaBits bits, unsigned half) {
    // As `widen`.
    const MmaBits sign = (bits >> 16 * half & 0x8000) << 16, rest = bits >> 16 * half & 0x7fff;
    const MmaBits top = reinterpret_cast<MmaBits>(rest >= 0x7c00);
    const MmaBits finite = reinterpret_cast<MmaBits>(reinterpret_cast<MmaRow>(rest << 13) * 0x1p112f);
    return reinterpret_cast<MmaRow>(sign | (top & (0x7f800000 | (rest & 0x3ff) << 13)) | (~top & finite));
}
__forceinline__ MmaRow mma_factors(bf16, MmaBits bits, unsigned half) { return reinterpret_cast<MmaRow>(bits >> 16 * half << 16); }
__forceinline__ MmaRow mma_factors(f32, MmaBits bits, unsigned) { return reinterpret_cast<MmaRow>(bits & 0xffffe000); }

// Sums are in f32 in the order of k; the card's have an order and a rounding of their own. By rows, and not watched by the sanitizers,
// for tests spend much of their time here.
template <class T>
__attribute__((no_sanitize("address", "undefined"))) void mma_warp(void* const* lanes) {
    constexpr unsigned each = 4 / sizeof(T), deep = 8 * each;
    const unsigned count = static_cast<const MmaLane*>(lanes[0])->count;
    float d[16][8];
    for (unsigned lane = 0; lane < 32; ++lane) {
        const MmaLane& l = *static_cast<const MmaLane*>(lanes[lane]);
        if (l.count != count) fail_kernel(719, "a warp's product: its lanes have not the same number of factors", "mma", int(lane));
        for (unsigned r = 0; r < 2; ++r) __builtin_memcpy(&d[lane / 4 + 8 * r][lane % 4 * 2], l.d + 2 * r, 8);
    }
    // Each half's eight factors of a row of a, or a column of b, side by side.
    auto factors = [](const unsigned (&registers)[8], unsigned half) __attribute__((always_inline)) {
        MmaBits bits;
        __builtin_memcpy(&bits, registers, sizeof bits);
        return mma_factors(T{}, bits, half);
    };
    for (unsigned n = 0; n < count; ++n) {
        unsigned of_a[16][8], of_b[8][8];
        float a[16][each][8], b[deep][8];
        for (unsigned lane = 0; lane < 32; ++lane) {
            const MmaLane& l = *static_cast<const MmaLane*>(lanes[lane]);
            const unsigned g = lane / 4, q = lane % 4;
            for (unsigned r = 0; r < 2; ++r) {
                of_a[g][q + 4 * r] = l.a[n][2 * r], of_a[g + 8][q + 4 * r] = l.a[n][2 * r + 1];
                of_b[g][q + 4 * r] = l.b[n][r];
            }
        }
        for (unsigned half = 0; half < each; ++half) {
            for (unsigned row = 0; row < 16; ++row) {
                const MmaRow x = factors(of_a[row], half);
                __builtin_memcpy(a[row][half], &x, sizeof x);
            }
            for (unsigned column = 0; column < 8; ++column) {
                const MmaRow x = factors(of_b[column], half);
                for (unsigned i = 0; i < 8; ++i) b[i * each + half][column] = x[i];
            }
        }
        for (unsigned row = 0; row < 16; ++row) {
            MmaRow sum, x;
            __builtin_memcpy(&sum, d[row], sizeof sum);
            for (unsigned k = 0; k < deep; ++k) {
                __builtin_memcpy(&x, b[k], sizeof x);
                sum += a[row][k % each][k / each] * x;
            }
            __builtin_memcpy(d[row], &sum, sizeof sum);
        }
    }
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned r = 0; r < 2; ++r)
            __builtin_memcpy(static_cast<const MmaLane*>(lanes[lane])->d + 2 * r, &d[lane / 4 + 8 * r][lane % 4 * 2], 8);
    moved(Moved::mma, count);
}
}  // namespace softgpu
#endif

template <class T> constexpr bool is_bf16 = false;
template <> constexpr bool is_bf16<bf16> = true;

// Up to six products, one after the other, added to `d`. Under softgpu it has them when this goes: a warp meets for all of them once.
template <class T>
struct Mma {
#ifdef SOFTGPU
    softgpu::MmaLane lane;
    explicit Mma(float (&d)[4]) { lane.d = d, lane.count = 0; }
    Mma(const Mma&) = delete;
    ~Mma() { softgpu::warp_call(softgpu::mma_warp<T>, &lane, "mma", __builtin_FILE(), __builtin_LINE()); }
    void add(const unsigned (&a)[4], const unsigned (&b)[2]) {
        memcpy(lane.a[lane.count], a, sizeof a);
        memcpy(lane.b[lane.count++], b, sizeof b);
    }
#else
    float (&d)[4];
    __device__ __forceinline__ explicit Mma(float (&d)[4]) : d(d) {}
    __device__ __forceinline__ void add(const unsigned (&a)[4], const unsigned (&b)[2]) {
#define GATEFOLD_MMA(shape)                                                                                                 \
    asm("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"               \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
        if constexpr (sizeof(T) == 4) GATEFOLD_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
        else if constexpr (is_bf16<T>) GATEFOLD_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
        else GATEFOLD_MMA("m16n8k16.row.col.f32.f16.f16.f32");
#undef GATEFOLD_MMA
    }
#endif
};

template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    Mma<T>(d).add(a, b);
}

// The nearest TF32 number (of two equally near the larger one), as f32: eleven bits of x.
__device__ __forceinline__ float round_tf32(float x) {
#ifdef SOFTGPU
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7f800000) == 0x7f800000) return x;
    return float_of_bits((bits + 0x1000) & 0xffffe000);
#else
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
#endif
}
