// The four dtypes on the device: storage types, their conversions, vectors of them in memory, mathematics, and sums over a
// warp and a block. f16 and bf16 are stored and never computed with: arithmetic is in f32 around them, and in f64 for f64.
#pragma once

#include <cstdint>

#ifndef SOFTGPU
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "kernel.cuh"

struct alignas(2) f16 { unsigned short bits; };
struct alignas(2) bf16 { unsigned short bits; };
using f32 = float;
using f64 = double;

// The type in which a dtype is computed.
template <class T> struct Compute { using type = float; };
template <> struct Compute<double> { using type = double; };
template <class T> using compute_t = typename Compute<T>::type;

// ---------------------------------------------------------------------------------------------------------- conversions

#ifdef SOFTGPU
inline float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
inline uint32_t bits_of_float(float x) { return __float_as_uint(x); }
#endif

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(f16 x) {
#ifdef SOFTGPU
    uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
    if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // infinity, NaN
    // Placed in f32's fields the exponent is too small by 112, in subnormals too: one exact product mends both.
    return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 0x1p112f));
#else
    return __half2float(__ushort_as_half(x.bits));
#endif
}
__device__ __forceinline__ float widen(bf16 x) {
#ifdef SOFTGPU
    return float_of_bits(uint32_t(x.bits) << 16);
#else
    return __bfloat162float(__ushort_as_bfloat16(x.bits));
#endif
}

// To the nearest value of T, of two equally near the even one; overflow is infinity, NaN stays NaN.
template <class T> __device__ __forceinline__ T narrow(compute_t<T> x) { return T(x); }
template <> __device__ __forceinline__ f16 narrow<f16>(float x) {
#ifdef SOFTGPU
    uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t half;
    if (rest > 0x7f800000) half = 0x7fff, sign = 0;                 // the GPU's one NaN
    else if (rest >= 0x477ff000) half = 0x7c00;                     // at least 65520: infinity
    else if (rest < 0x38800000)                                     // below 2^-14: subnormal. Adding 0.5 rounds at 2^-24
        half = bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000;
    else half = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    return {static_cast<unsigned short>(sign | half)};
#else
    return {__half_as_ushort(__float2half_rn(x))};
#endif
}
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) {
#ifdef SOFTGPU
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return {0x7fff};
    return {static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#else
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#endif
}

// ---------------------------------------------------------------------------------------------------- vectors in memory

// N values side by side, moved by one instruction of up to 16 bytes (or several of 16).
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vec {
    static_assert((N & (N - 1)) == 0, "a vector's length is a power of two");
    T at[N];
    __device__ __forceinline__ T& operator[](int i) { return at[i]; }
    __device__ __forceinline__ const T& operator[](int i) const { return at[i]; }
};

// The unsigned type of so many bytes, by which nvcc surely emits one load or store.
template <int bytes> struct Word;
template <> struct Word<2> { using type = unsigned short; };
template <> struct Word<4> { using type = unsigned; };
template <> struct Word<8> { using type = uint2; };
template <> struct Word<16> { using type = uint4; };

// `from` and `to` are aligned to the vector's size (to 16 bytes where it is larger).
template <class T, int N>
__device__ __forceinline__ Vec<T, N> load_vec(const T* from) {
    Vec<T, N> vector;
#ifdef SOFTGPU
    softgpu::check_aligned(from, alignof(Vec<T, N>));
    __builtin_memcpy(&vector, from, sizeof vector);
#else
    constexpr int bytes = sizeof(T) * N < 16 ? sizeof(T) * N : 16;
    using W = typename Word<bytes>::type;
#pragma unroll
    for (int i = 0; i < int(sizeof vector) / bytes; ++i) reinterpret_cast<W*>(&vector)[i] = reinterpret_cast<const W*>(from)[i];
#endif
    return vector;
}
template <class T, int N>
__device__ __forceinline__ void store_vec(T* to, const Vec<T, N>& vector) {
#ifdef SOFTGPU
    softgpu::check_aligned(to, alignof(Vec<T, N>));
    __builtin_memcpy(to, &vector, sizeof vector);
#else
    constexpr int bytes = sizeof(T) * N < 16 ? sizeof(T) * N : 16;
    using W = typename Word<bytes>::type;
#pragma unroll
    for (int i = 0; i < int(sizeof vector) / bytes; ++i) reinterpret_cast<W*>(to)[i] = reinterpret_cast<const W*>(&vector)[i];
#endif
}

// ---------------------------------------------------------------------------------------------------------- mathematics

// The accurate functions (never the fast ones), by one name for float and double.
#define GATEFOLD_UNARY(name, single, twofold)                                                                               \
    __device__ __forceinline__ float name(float x) { return single(x); }                                                    \
    __device__ __forceinline__ double name(double x) { return twofold(x); }
#define GATEFOLD_BINARY(name, single, twofold)                                                                              \
    __device__ __forceinline__ float name(float x, float y) { return single(x, y); }                                        \
    __device__ __forceinline__ double name(double x, double y) { return twofold(x, y); }
GATEFOLD_UNARY(exp_, expf, exp)
GATEFOLD_UNARY(expm1_, expm1f, expm1)
GATEFOLD_UNARY(log_, logf, log)
GATEFOLD_UNARY(log1p_, log1pf, log1p)
GATEFOLD_UNARY(tanh_, tanhf, tanh)
GATEFOLD_UNARY(sqrt_, sqrtf, sqrt)
GATEFOLD_UNARY(rsqrt_, rsqrtf, rsqrt)
GATEFOLD_UNARY(sin_, sinf, sin)
GATEFOLD_UNARY(cos_, cosf, cos)
GATEFOLD_UNARY(erf_, erff, erf)
GATEFOLD_UNARY(abs_, fabsf, fabs)
GATEFOLD_UNARY(floor_, floorf, floor)
GATEFOLD_UNARY(ceil_, ceilf, ceil)
GATEFOLD_UNARY(round_, rintf, rint)
GATEFOLD_BINARY(pow_, powf, pow)
GATEFOLD_BINARY(min_, fminf, fmin)
GATEFOLD_BINARY(max_, fmaxf, fmax)
#undef GATEFOLD_UNARY
#undef GATEFOLD_BINARY
__device__ __forceinline__ float fma_(float x, float y, float z) { return fmaf(x, y, z); }
__device__ __forceinline__ double fma_(double x, double y, double z) { return fma(x, y, z); }
__device__ __forceinline__ bool is_nan(float x) { return x != x; }
__device__ __forceinline__ bool is_nan(double x) { return x != x; }
template <class C>
__device__ __forceinline__ C sigmoid_(C x) { return C(1) / (C(1) + exp_(-x)); }

// 2^x and 1/x by one instruction of the special function unit, each within two units of the last place.
__device__ __forceinline__ float quick_exp2(float x) {
#ifdef SOFTGPU
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}
__device__ __forceinline__ float quick_reciprocal(float x) {
#ifdef SOFTGPU
    return 1.0f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// Which sigmoid and tanh a cell takes: the accurate ones, or where a single unit's time is everybody's those of a few instructions and
// no branch. Both of the latter are within 2e-7 of the true value; tanh by a polynomial near 0 (least squares in Chebyshev's points),
// where it is within 2e-7 of it relatively.
struct Accurate {
    template <class C> static __device__ __forceinline__ C sigmoid(C x) { return sigmoid_(x); }
    template <class C> static __device__ __forceinline__ C tanh(C x) { return tanh_(x); }
};
struct Quick {
    static __device__ __forceinline__ float sigmoid(float x) {
        return quick_reciprocal(1.0f + quick_exp2(-1.442695041f * x));
    }
    static __device__ __forceinline__ float tanh(float x) {
        const float size = fabsf(x), squared = x * x;
        float p = fmaf(squared, -0.00589394709f, 0.0207946189f);
        p = fmaf(p, squared, -0.0537832938f);
        p = fmaf(p, squared, 0.133319154f);
        p = fmaf(p, squared, -0.333332986f);
        const float near = fmaf(x, squared * p, x);
        const float far = copysignf(fmaf(-2.0f, quick_reciprocal(1.0f + quick_exp2(2.885390082f * size)), 1.0f), x);
        return size < 0.6f ? near : far;
    }
};

// -------------------------------------------------------------------------------------------------- over warp and block

struct Sum {
    template <class C> __device__ __forceinline__ C operator()(C x, C y) const { return x + y; }
};
// NaN wins, unlike in fmax: a maximum over numbers of which one is none is none.
struct Max {
    template <class C> __device__ __forceinline__ C operator()(C x, C y) const { return x > y || x != x ? x : y; }
};
struct Min {
    template <class C> __device__ __forceinline__ C operator()(C x, C y) const { return x < y || x != x ? x : y; }
};

// Over the 32 lanes of a full warp, in an order that never changes; every lane has the result.
template <class C, class Op>
__device__ __forceinline__ C warp_reduce(C value, Op op) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) value = op(value, __shfl_xor_sync(full_warp, value, lanes));
    return value;
}
template <class C> __device__ __forceinline__ C warp_sum(C value) { return warp_reduce(value, Sum()); }
template <class C> __device__ __forceinline__ C warp_max(C value) { return warp_reduce(value, Max()); }

// Over a block whose size is a multiple of 32; every thread has the result. `scratch` is shared memory for 32 values, free
// again when this returns; all threads of the block call it. `zero` leaves the operation's other operand as it is.
template <class C, class Op>
__device__ inline C block_reduce(C value, C zero, C* scratch, Op op) {
    value = warp_reduce(value, op);
    unsigned warps = threads_in_block() / 32, lane = lane_in_warp();
    if (warps == 1) return value;
    if (lane == 0) scratch[warp_in_block()] = value;
    __syncthreads();
    value = warp_reduce(lane < warps ? scratch[lane] : zero, op);
    __syncthreads();
    return value;
}
template <class C> __device__ __forceinline__ C block_sum(C value, C* scratch) {
    return block_reduce(value, C(0), scratch, Sum());
}
template <class C> __device__ __forceinline__ C block_max(C value, C* scratch) {
    return block_reduce(value, C(-INFINITY), scratch, Max());
}
