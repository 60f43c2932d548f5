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
    const unsigned *a, *b;
    float* d;
};
// The factor at place `half` of a register. TF32's low bits are not looked at.
inline float mma_factor(f16, unsigned bits, unsigned half) { return widen(f16{static_cast<unsigned short>(bits >> 16 * half)}); }
inline float mma_factor(bf16, unsigned bits, unsigned half) { return widen(bf16{static_cast<unsigned short>(bits >> 16 * half)}); }
inline float mma_factor(f32, unsigned bits, unsigned) { return float_of_bits(bits & 0xffffe000); }

// Sums are in f32 in the order of k; the card's have an order and a rounding of their own.
template <class T>
void mma_warp(void* const* lanes) {
    constexpr unsigned each = 4 / sizeof(T), deep = 8 * each;
    float a[16][deep], b[deep][8];
    for (unsigned lane = 0; lane < 32; ++lane) {
        const MmaLane& l = *static_cast<const MmaLane*>(lanes[lane]);
        unsigned g = lane / 4, q = lane % 4;
        for (unsigned i = 0; i < each; ++i)
            for (unsigned r = 0; r < 2; ++r) {
                unsigned k = (q + 4 * r) * each + i;
                a[g][k] = mma_factor(T{}, l.a[2 * r], i);
                a[g + 8][k] = mma_factor(T{}, l.a[2 * r + 1], i);
                b[k][g] = mma_factor(T{}, l.b[r], i);
            }
    }
    float d[16][8];
    auto each_result = [&](auto&& act) {
        for (unsigned lane = 0; lane < 32; ++lane)
            for (unsigned i = 0; i < 4; ++i) act(static_cast<const MmaLane*>(lanes[lane])->d[i], d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
    };
    each_result([](float& of_lane, float& here) { here = of_lane; });
    for (unsigned k = 0; k < deep; ++k)
        for (unsigned row = 0; row < 16; ++row)
            for (unsigned column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    each_result([](float& of_lane, float& here) { of_lane = here; });
    moved(Moved::mma, 1);
}
}  // namespace softgpu
#endif

template <class T> constexpr bool is_bf16 = false;
template <> constexpr bool is_bf16<bf16> = true;

template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef SOFTGPU
    softgpu::MmaLane lane{a, b, d};
    softgpu::warp_call(softgpu::mma_warp<T>, &lane, "mma", __builtin_FILE(), __builtin_LINE());
#else
#define GATEFOLD_MMA(shape)                                                                                                 \
    asm("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"               \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
    if constexpr (sizeof(T) == 4) GATEFOLD_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
    else if constexpr (is_bf16<T>) GATEFOLD_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
    else GATEFOLD_MMA("m16n8k16.row.col.f32.f16.f16.f32");
#undef GATEFOLD_MMA
#endif
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
