// Filling, converting and copying. Bound by memory, no FLOPs but for the sum.
#include "device/loop.cuh"

// y [count] of elements of that many bits, out of the value's lowest. A thread owns elements, a grid apart.
template <class W>
__device__ __forceinline__ void fill(const Fill& p) {
    FOR_EACH(i, p.count) at<W>(p.y)[i] = W(p.value);
}
KERNEL(fill_b8, Fill) { fill<uint8_t>(p); }
KERNEL(fill_b16, Fill) { fill<uint16_t>(p); }
KERNEL(fill_b32, Fill) { fill<uint32_t>(p); }
KERNEL(fill_b64, Fill) { fill<uint64_t>(p); }

// Conversions by way of f64, which holds every number of the others but an i64 beyond 2^53.
__device__ __forceinline__ double to_f64(f64 x) { return x; }
__device__ __forceinline__ double to_f64(f32 x) { return x; }
__device__ __forceinline__ double to_f64(f16 x) { return widen(x); }
__device__ __forceinline__ double to_f64(bf16 x) { return widen(x); }
__device__ __forceinline__ double to_f64(uint32_t x) { return x; }
__device__ __forceinline__ double to_f64(int64_t x) { return double(x); }
__device__ __forceinline__ double to_f64(uint8_t x) { return x; }

// The nearer odd f32 where none is exact: rounded again to a half it is the f64 rounded once.
__device__ __forceinline__ float to_odd(double x) {
    float near = float(x);
    uint32_t bits = __float_as_uint(near);
    if (double(near) == x || near != near || bits & 1) return near;
    return __uint_as_float(fabs(double(near)) > fabs(x) ? bits - 1 : bits + 1);
}

template <class D> __device__ __forceinline__ D of_f64(double x);
template <> __device__ __forceinline__ f64 of_f64<f64>(double x) { return x; }
template <> __device__ __forceinline__ f32 of_f64<f32>(double x) { return float(x); }
template <> __device__ __forceinline__ f16 of_f64<f16>(double x) { return narrow<f16>(to_odd(x)); }
template <> __device__ __forceinline__ bf16 of_f64<bf16>(double x) { return narrow<bf16>(to_odd(x)); }
// Integers truncate and saturate; NaN is 0.
template <> __device__ __forceinline__ uint32_t of_f64<uint32_t>(double x) {
    return !(x > 0) ? 0u : x >= 4294967295.0 ? 4294967295u : uint32_t(x);
}
template <> __device__ __forceinline__ int64_t of_f64<int64_t>(double x) {
    if (x != x) return 0;
    if (x >= 9223372036854775808.0) return INT64_MAX;
    return x <= -9223372036854775808.0 ? INT64_MIN : int64_t(x);
}

template <> __device__ __forceinline__ uint8_t of_f64<uint8_t>(double x) {
    return !(x > 0) ? uint8_t(0) : x >= 255.0 ? uint8_t(255) : uint8_t(x);
}

template <class T> struct Small { static constexpr bool value = false; };
template <> struct Small<f32> { static constexpr bool value = true; };
template <> struct Small<f16> { static constexpr bool value = true; };
template <> struct Small<bf16> { static constexpr bool value = true; };

template <class D, class S>
__device__ __forceinline__ void cast_to(const Cast& p) {
    FOR_EACH(i, p.count) {
        S x = at<const S>(p.x)[i];
        // Among these f32 is wide enough, and f64 slow on most cards.
        if constexpr (Small<D>::value && Small<S>::value) at<D>(p.y)[i] = narrow<D>(widen(x));
        else at<D>(p.y)[i] = of_f64<D>(to_f64(x));
    }
}

// x [count] of S -> y [count] of the type that `to` names. A thread owns elements, a grid apart.
template <class S>
__device__ __forceinline__ void cast(const Cast& p) {
    switch (p.to) {
        case DTYPE_F64: return cast_to<f64, S>(p);
        case DTYPE_F32: return cast_to<f32, S>(p);
        case DTYPE_F16: return cast_to<f16, S>(p);
        case DTYPE_BF16: return cast_to<bf16, S>(p);
        case DTYPE_U32: return cast_to<uint32_t, S>(p);
        case DTYPE_I64: return cast_to<int64_t, S>(p);
        case DTYPE_U8: return cast_to<uint8_t, S>(p);
    }
}
KERNEL_FLOATS(cast, Cast)
KERNEL(cast_u32, Cast) { cast<uint32_t>(p); }
KERNEL(cast_i64, Cast) { cast<int64_t>(p); }
KERNEL(cast_u8, Cast) { cast<uint8_t>(p); }

template <class T, class Index, class Put>
__device__ __forceinline__ void walk(const CopyStrided& p, Put put) {
    FOR_EACH(i, p.count) {
        Index rest = Index(i);
        uint64_t from = 0, to = 0;
        for (int d = int(p.rank) - 1; d >= 0; --d) {
            Index extent = Index(p.extent[d]), next = rest / extent, here = rest - next * extent;
            from += here * p.from[d], to += here * p.to[d];
            rest = next;
        }
        put(at<T>(p.y)[to], at<const T>(p.x)[from]);
    }
}

// Elements of x to elements of y, both at any strides. A thread owns indices, a grid apart, the last dimension fastest.
template <class W>
__device__ __forceinline__ void copy_strided(const CopyStrided& p) {
    auto put = [](W& y, W x) { y = x; };
    // Division is slow in 64 bits.
    if (p.count >> 32) walk<W, uint64_t>(p, put);
    else walk<W, uint32_t>(p, put);
}
KERNEL(copy_strided_b8, CopyStrided) { copy_strided<uint8_t>(p); }
KERNEL(copy_strided_b16, CopyStrided) { copy_strided<uint16_t>(p); }
KERNEL(copy_strided_b32, CopyStrided) { copy_strided<uint32_t>(p); }
KERNEL(copy_strided_b64, CopyStrided) { copy_strided<uint64_t>(p); }

// The same, added. No two indices have the same element of y.
template <class T>
__device__ __forceinline__ void add_strided(const CopyStrided& p) {
    auto put = [](T& y, T x) { y = narrow<T>(widen(y) + widen(x)); };
    if (p.count >> 32) walk<T, uint64_t>(p, put);
    else walk<T, uint32_t>(p, put);
}
KERNEL_FLOATS(add_strided, CopyStrided)
