// What nvcc gives a kernel and a host's C++ compiler does not: the language of CUDA, in which `kernels/*.cu` are compiled
// for softgpu (`g++ -x c++ -DSOFTGPU -include softgpu.h`). The functions declared in namespace softgpu live in libcuda.so.1.
//
// A thread is a fiber: it runs until it meets a barrier, a warp collective or a poll, and then another one runs. Every such
// place passes its file and line, so that a divergent barrier or a deadlock can be told by position.
#pragma once

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>
#include <type_traits>

// ---------------------------------------------------------------------------------------------------------------- words

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline __attribute__((always_inline))
// One section, so that the driver can poison it for each block and swap it between blocks that run interleaved. GCC cannot
// place a static of a template there: a template's shared memory is dynamic.
#define __shared__ static __attribute__((section("softgpu_shared")))

#define SOFTGPU_VECTOR(type, name)                                                                                          \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                                                \
    struct name##3 { type x, y, z; };                                                                                       \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; };                              \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                                        \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                                             \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SOFTGPU_VECTOR(short, short)
SOFTGPU_VECTOR(unsigned short, ushort)
SOFTGPU_VECTOR(int, int)
SOFTGPU_VECTOR(unsigned, uint)
SOFTGPU_VECTOR(float, float)
SOFTGPU_VECTOR(double, double)
SOFTGPU_VECTOR(long long, longlong)
SOFTGPU_VECTOR(unsigned long long, ulonglong)
#undef SOFTGPU_VECTOR

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define SOFTGPU_API __attribute__((visibility("default")))
// The place in the source that called: default arguments are evaluated at the call.
#define SOFTGPU_HERE const char* file = __builtin_FILE(), int line = __builtin_LINE()

extern SOFTGPU_API uint3 threadIdx, blockIdx;
extern SOFTGPU_API dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ------------------------------------------------------------------------------------------------ what the driver offers

namespace softgpu {

struct Kernel {
    const char* name;
    unsigned parameter_bytes, parameter_alignment;
    unsigned max_threads;  // of its launch bounds; 0 where it states none
    void (*run)(const void* parameters);
};
SOFTGPU_API void register_kernel(const Kernel& kernel);
struct Registration {
    explicit Registration(const Kernel& kernel) { register_kernel(kernel); }
};
// The static shared memory of one shared object.
SOFTGPU_API void register_shared(char* begin, char* end);

enum class Reduce { none, all, any, count };
enum class Collective : unsigned char { sync, call, shuffle, ballot, match, add, min, max, min_signed, max_signed, bit_and, bit_or, bit_xor };

SOFTGPU_API int block_barrier(Reduce reduce, int predicate, const char* file, int line);
SOFTGPU_API void named_barrier(unsigned id, unsigned threads, bool wait, const char* file, int line);
SOFTGPU_API void cluster_arrive(const char* file, int line);
SOFTGPU_API void cluster_wait(const char* file, int line);
// All lanes of `mask` meet; each receives a 64-bit result of its own. `source` is a shuffle's lane.
SOFTGPU_API uint64_t warp_collective(Collective kind, unsigned mask, uint64_t value, int source, const char* file, int line);
// All 32 lanes meet, and the last one to come does the work of all: it is given what each of them passed.
SOFTGPU_API void warp_call(void (*work)(void* const* lanes), void* mine, const char* what, const char* file, int line);
SOFTGPU_API unsigned active_mask();
// Lets the others run. The thread will look again at whatever it waits for.
SOFTGPU_API void poll(const char* file, int line);
// A load in a loop that waits for another thread: seeing the same value again at the same place lets the others run.
SOFTGPU_API void polled(const void* address, uint64_t value, const char* file, int line);
// Something happened that another thread may be polling for.
SOFTGPU_API void progress();
// Planted faults: whether this release is lost, or this acquire takes what it waits for as given (softgpu_plant).
SOFTGPU_API bool release_is_lost();
SOFTGPU_API bool acquire_is_hasty();
// What a kernel moves, where it says so: softgpu_traffic_since_reset.
enum class Moved : unsigned char { global_in, global_out, shared_in, shared_out, acquires, releases, mma, cluster_out };
SOFTGPU_API void moved(Moved what, uint64_t amount);
SOFTGPU_API void* dynamic_shared();
SOFTGPU_API unsigned dynamic_shared_bytes();
struct Cluster { uint3 index, count; unsigned rank, size; uint3 block, blocks; };
SOFTGPU_API Cluster cluster();
SOFTGPU_API void* map_shared(const void* mine, unsigned rank);
// A copy that lands no earlier than the wait for it: until then the destination holds what it held.
SOFTGPU_API void copy_later(void* to, const void* from, unsigned bytes, unsigned zeros);
SOFTGPU_API void commit_copies();
SOFTGPU_API void wait_copies(unsigned groups_left);
// Barriers in shared memory that count arrivals and bytes ("mbarrier").
SOFTGPU_API void counted_init(uint64_t* barrier, unsigned arrivals);
SOFTGPU_API void counted_arrive(uint64_t* barrier, unsigned arrivals, unsigned expected_bytes);
SOFTGPU_API bool counted_test(uint64_t* barrier, unsigned parity);
SOFTGPU_API void counted_wait(uint64_t* barrier, unsigned parity, const char* file, int line);
SOFTGPU_API void counted_bytes(uint64_t* barrier, unsigned bytes);
// Ends the launch with an error that names the kernel, the block and the thread.
[[noreturn]] SOFTGPU_API void fail_kernel(int error, const char* what, const char* file, int line);

inline void check_aligned(const void* address, size_t alignment, SOFTGPU_HERE) {
    if (reinterpret_cast<uintptr_t>(address) % alignment) fail_kernel(716, "a misaligned vector access", file, line);
}

template <class T>
inline uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T>
inline T of_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace softgpu

// ------------------------------------------------------------------------------------------------- barriers and the warp

inline void __syncthreads(SOFTGPU_HERE) { softgpu::block_barrier(softgpu::Reduce::none, 0, file, line); }
inline int __syncthreads_and(int p, SOFTGPU_HERE) { return softgpu::block_barrier(softgpu::Reduce::all, p, file, line); }
inline int __syncthreads_or(int p, SOFTGPU_HERE) { return softgpu::block_barrier(softgpu::Reduce::any, p, file, line); }
inline int __syncthreads_count(int p, SOFTGPU_HERE) { return softgpu::block_barrier(softgpu::Reduce::count, p, file, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SOFTGPU_HERE) {
    softgpu::warp_collective(softgpu::Collective::sync, mask, 0, 0, file, line);
}
inline unsigned __activemask() { return softgpu::active_mask(); }
inline unsigned softgpu_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

template <class T>
inline T softgpu_shuffle(unsigned mask, T value, int source, const char* file, int line) {
    return softgpu::of_bits<T>(
        softgpu::warp_collective(softgpu::Collective::shuffle, mask, softgpu::to_bits(value), source, file, line));
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SOFTGPU_HERE) {
    int lane = softgpu_lane();
    return softgpu_shuffle(mask, value, (lane & ~(width - 1)) + (source & (width - 1)), file, line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SOFTGPU_HERE) {
    int lane = softgpu_lane(), source = lane - int(delta);
    return softgpu_shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SOFTGPU_HERE) {
    int lane = softgpu_lane(), source = lane + int(delta);
    return softgpu_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SOFTGPU_HERE) {
    int lane = softgpu_lane(), source = lane ^ bits;
    return softgpu_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SOFTGPU_HERE) {
    return unsigned(softgpu::warp_collective(softgpu::Collective::ballot, mask, predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int predicate, SOFTGPU_HERE) { return __ballot_sync(mask, predicate, file, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, SOFTGPU_HERE) { return __ballot_sync(mask, predicate, file, line) == mask; }
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, SOFTGPU_HERE) {
    return unsigned(softgpu::warp_collective(softgpu::Collective::match, mask, softgpu::to_bits(value), 0, file, line));
}
#define SOFTGPU_REDUCE(name, type, kind)                                                                                    \
    inline type __reduce_##name##_sync(unsigned mask, type value, SOFTGPU_HERE) {                                           \
        return type(softgpu::warp_collective(softgpu::Collective::kind, mask, unsigned(value), 0, file, line));             \
    }
SOFTGPU_REDUCE(add, unsigned, add)
SOFTGPU_REDUCE(add, int, add)
SOFTGPU_REDUCE(min, unsigned, min)
SOFTGPU_REDUCE(max, unsigned, max)
SOFTGPU_REDUCE(min, int, min_signed)
SOFTGPU_REDUCE(max, int, max_signed)
SOFTGPU_REDUCE(and, unsigned, bit_and)
SOFTGPU_REDUCE(or, unsigned, bit_or)
SOFTGPU_REDUCE(xor, unsigned, bit_xor)
#undef SOFTGPU_REDUCE

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned, SOFTGPU_HERE) { softgpu::poll(file, line); }
inline long long clock64() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
[[noreturn]] inline void __trap(SOFTGPU_HERE) { softgpu::fail_kernel(719, "__trap()", file, line); }

template <class T>
inline T __ldg(const T* address) { return *address; }
template <class T>
inline T __ldcg(const T* address) { return *address; }
template <class T>
inline T __ldcs(const T* address) { return *address; }
template <class T>
inline void __stcg(T* address, T value) { *address = value; }
template <class T>
inline void __stcs(T* address, T value) { *address = value; }

// ---------------------------------------------------------------------------------------------------------------- atomics

// Of integers only: an atomic sum of floats depends on the order, and this project's kernels may not.
#define SOFTGPU_ATOMIC(name, expression)                                                                                    \
    template <class T, class V>                                                                                             \
    inline T name(T* address, V operand, SOFTGPU_HERE) {                                                                    \
        static_assert(std::is_integral_v<T> && sizeof(T) >= 4, "atomics of integers only");                                 \
        T old = *address, value = T(operand);                                                                               \
        *address = (expression);                                                                                            \
        if (*address != old) softgpu::progress();                                                                           \
        else softgpu::polled(address, softgpu::to_bits(old), file, line);                                                   \
        return old;                                                                                                         \
    }                                                                                                                       \
    template <class V>                                                                                                      \
    float name(float*, V) = delete;                                                                                         \
    template <class V>                                                                                                      \
    double name(double*, V) = delete;
SOFTGPU_ATOMIC(atomicAdd, T(old + value))
SOFTGPU_ATOMIC(atomicSub, T(old - value))
SOFTGPU_ATOMIC(atomicExch, value)
SOFTGPU_ATOMIC(atomicMin, old < value ? old : value)
SOFTGPU_ATOMIC(atomicMax, old > value ? old : value)
SOFTGPU_ATOMIC(atomicAnd, T(old & value))
SOFTGPU_ATOMIC(atomicOr, T(old | value))
SOFTGPU_ATOMIC(atomicXor, T(old ^ value))
SOFTGPU_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
SOFTGPU_ATOMIC(atomicDec, old == 0 || old > value ? value : T(old - 1))
#undef SOFTGPU_ATOMIC
template <class T, class V, class W>
inline T atomicCAS(T* address, V compare, W value, SOFTGPU_HERE) {
    static_assert(std::is_integral_v<T> && sizeof(T) >= 4, "atomics of integers only");
    T old = *address;
    if (old == T(compare)) {
        *address = T(value);
        softgpu::progress();
    } else {
        softgpu::polled(address, softgpu::to_bits(old), file, line);  // a lock's loop
    }
    return old;
}

// ------------------------------------------------------------------------------------------------------------- arithmetic

template <class T>
inline std::enable_if_t<std::is_arithmetic_v<T>, T> max(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
    else return a < b ? b : a;
}
template <class T>
inline std::enable_if_t<std::is_arithmetic_v<T>, T> min(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
    else return b < a ? b : a;
}

// The result leaves through an empty instruction: it is rounded, and no compiler fuses it into a following sum.
#define SOFTGPU_ROUNDED(name, type, expression)                                                                             \
    inline type name(type a, type b) {                                                                                      \
        type result = (expression);                                                                                         \
        __asm__ volatile("" : "+m"(result));                                                                                \
        return result;                                                                                                      \
    }
SOFTGPU_ROUNDED(__fmul_rn, float, a * b)
SOFTGPU_ROUNDED(__fadd_rn, float, a + b)
SOFTGPU_ROUNDED(__fsub_rn, float, a - b)
SOFTGPU_ROUNDED(__fdiv_rn, float, a / b)
SOFTGPU_ROUNDED(__dmul_rn, double, a * b)
SOFTGPU_ROUNDED(__dadd_rn, double, a + b)
SOFTGPU_ROUNDED(__dsub_rn, double, a - b)
SOFTGPU_ROUNDED(__ddiv_rn, double, a / b)
#undef SOFTGPU_ROUNDED
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float rsqrtf(float a) { return float(1.0 / std::sqrt(double(a))); }
inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
inline float sinpif(float a) { return float(std::sin(3.14159265358979323846 * std::remainder(double(a), 2.0))); }
inline float cospif(float a) { return float(std::cos(3.14159265358979323846 * std::remainder(double(a), 2.0))); }
inline double sinpi(double a) { return std::sin(3.14159265358979323846 * std::remainder(a, 2.0)); }
inline double cospi(double a) { return std::cos(3.14159265358979323846 * std::remainder(a, 2.0)); }
inline void sincospif(float a, float* sine, float* cosine) { *sine = sinpif(a), *cosine = cospif(a); }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1) : 0; }

template <class To, class From>
inline To softgpu_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    return softgpu::of_bits<To>(softgpu::to_bits(from));
}
inline int __float_as_int(float a) { return softgpu_cast<int>(a); }
inline unsigned __float_as_uint(float a) { return softgpu_cast<unsigned>(a); }
inline float __int_as_float(int a) { return softgpu_cast<float>(a); }
inline float __uint_as_float(unsigned a) { return softgpu_cast<float>(a); }
inline long long __double_as_longlong(double a) { return softgpu_cast<long long>(a); }
inline double __longlong_as_double(long long a) { return softgpu_cast<double>(a); }
inline float __int2float_rn(int a) { return float(a); }
inline float __uint2float_rn(unsigned a) { return float(a); }
inline int __float2int_rn(float a) { return int(std::nearbyint(a)); }
inline int __float2int_rz(float a) { return int(a); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a ? __builtin_clz(unsigned(a)) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll((unsigned long long)(a)) : 64; }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((uint64_t(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __brev(unsigned a) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (a >> i & 1u) << (31 - i);
    return r;
}

// Each object with static shared memory tells the driver where it lies. The linker defines both names if the section exists.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_softgpu_shared[], __stop_softgpu_shared[];
namespace softgpu {
namespace {
struct SharedSection {
    SharedSection() {
        if (__start_softgpu_shared) register_shared(__start_softgpu_shared, __stop_softgpu_shared);
    }
} const shared_section;
}  // namespace
}  // namespace softgpu
