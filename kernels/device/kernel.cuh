// How a kernel is written: its declaration, its shared memory, and the means by which threads wait for one another.
// Each has two bodies: one for nvcc, with PTX where CUDA C++ has no word for it, and one for softgpu, the driver in software.
//
//     KERNEL(scale_f32, Scale) {                        // Scale: a struct of kernels/abi.h, passed by value; here it is `p`
//         unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
//         if (i < p.count) p.y[i] = p.factor * p.x[i];
//     }
#pragma once

#include <cstdint>

// KERNEL_BOUNDS states the most threads that a block may have: the compiler may then use more registers for each. KERNEL_ALONE
// also that one block at a time is enough for a multiprocessor.
#ifdef SOFTGPU
#define SOFTGPU_KERNEL(name, P, threads)                                                                                    \
    static void name(const P& p);                                                                                           \
    static const softgpu::Registration softgpu_registration_##name{                                                         \
        {#name, sizeof(P), alignof(P), threads, [](const void* p) { name(*static_cast<const P*>(p)); }}};                   \
    static void name([[maybe_unused]] const P& p)
#define KERNEL(name, P) SOFTGPU_KERNEL(name, P, 0)
#define KERNEL_BOUNDS(name, P, threads) SOFTGPU_KERNEL(name, P, threads)
#define KERNEL_ALONE(name, P, threads) SOFTGPU_KERNEL(name, P, threads)
#else
#define KERNEL(name, P) extern "C" __global__ void name(const __grid_constant__ P p)
#define KERNEL_BOUNDS(name, P, threads) extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ P p)
#define KERNEL_ALONE(name, P, threads) extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ P p)
#endif

// ------------------------------------------------------------------------------------------------------------ who am I

constexpr unsigned full_warp = 0xffffffffu;

__device__ __forceinline__ unsigned thread_in_block() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}
__device__ __forceinline__ unsigned threads_in_block() { return blockDim.x * blockDim.y * blockDim.z; }
__device__ __forceinline__ unsigned lane_in_warp() { return thread_in_block() % 32; }
__device__ __forceinline__ unsigned warp_in_block() { return thread_in_block() / 32; }

// A number to be kept in a register: nvcc computes what follows from threadIdx or from parameters anew at each use otherwise (ptxas may still).
template <class X>
__device__ __forceinline__ X kept(X x) {
#ifndef SOFTGPU
    if constexpr (sizeof(X) == 8) asm volatile("" : "+l"(x));
    else asm volatile("" : "+r"(x));
#endif
    return x;
}

// ------------------------------------------------------------------------------------------------------- shared memory

// The block's dynamic shared memory, sized by the launch: every kernel lays it out by one struct.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
#ifdef SOFTGPU
    return static_cast<T*>(softgpu::dynamic_shared());
#else
    extern __shared__ __align__(128) unsigned char gatefold_dynamic_shared[];
    return reinterpret_cast<T*>(gatefold_dynamic_shared);
#endif
}

#ifndef SOFTGPU
// The 32-bit address that PTX wants of a pointer into shared memory.
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
#endif

// A place in shared memory, whose address is computed once: of a pointer the compiler finds it anew at each use.
struct SharedPlace {
#ifdef SOFTGPU
    unsigned char* at;
    __device__ __forceinline__ explicit SharedPlace(void* pointer) : at(static_cast<unsigned char*>(pointer)) {}
#else
    unsigned at;
    __device__ __forceinline__ explicit SharedPlace(void* pointer) : at(shared_address(pointer)) { asm volatile("" : "+r"(at)); }
#endif
    __device__ __forceinline__ SharedPlace operator+(unsigned bytes) const {
        SharedPlace there = *this;
        there.at += bytes;
        return there;
    }
    __device__ __forceinline__ void load(float (&to)[1], unsigned bytes) const {
#ifdef SOFTGPU
        __builtin_memcpy(to, at + bytes, 4);
#else
        asm volatile("ld.shared.f32 %0, [%1];" : "=f"(to[0]) : "r"(at + bytes) : "memory");
#endif
    }
    __device__ __forceinline__ void load(float (&to)[4], unsigned bytes) const {
#ifdef SOFTGPU
        __builtin_memcpy(to, at + bytes, 16);
#else
        asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
                     : "r"(at + bytes)
                     : "memory");
#endif
    }
    __device__ __forceinline__ uint4 load(unsigned bytes) const {
        uint4 words;
#ifdef SOFTGPU
        __builtin_memcpy(&words, at + bytes, 16);
#else
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                     : "r"(at + bytes)
                     : "memory");
#endif
        return words;
    }
    __device__ __forceinline__ void store(unsigned bytes, float a) const {
#ifdef SOFTGPU
        __builtin_memcpy(at + bytes, &a, 4);
#else
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(at + bytes), "f"(a) : "memory");
#endif
    }
    __device__ __forceinline__ void store(unsigned bytes, float a, float b, float c, float d) const {
#ifdef SOFTGPU
        const float all[4] = {a, b, c, d};
        __builtin_memcpy(at + bytes, all, 16);
#else
        asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at + bytes), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
#endif
    }
};

// ----------------------------------------------------------------------------------------------------- named barriers

// Barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, a multiple of 32. An arrival alone does not wait.
__device__ __forceinline__ void barrier_sync(unsigned id, unsigned threads) {
#ifdef SOFTGPU
    softgpu::named_barrier(id, threads, true, "barrier_sync", int(id));
#else
    asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
__device__ __forceinline__ void barrier_arrive(unsigned id, unsigned threads) {
#ifdef SOFTGPU
    softgpu::named_barrier(id, threads, false, "barrier_arrive", int(id));
#else
    asm volatile("barrier.cta.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// -------------------------------------------------------------------------------------- between blocks, through memory

#ifdef SOFTGPU
#define GATEFOLD_PLACE , const char* file = __builtin_FILE(), int line = __builtin_LINE()
#else
#define GATEFOLD_PLACE
#endif

// What the writer wrote before its release is seen by whoever acquires the value. On the GPU's scope: every block of a grid.
// Loops that wait go through these (or __nanosleep): under softgpu they let the other threads run.
__device__ __forceinline__ unsigned load_acquire(const unsigned* address GATEFOLD_PLACE) {
    unsigned value;
#ifdef SOFTGPU
    if (softgpu::acquire_is_hasty()) return ~0u;
    value = *reinterpret_cast<const volatile unsigned*>(address);
    softgpu::polled(address, value, file, line);
    value = *reinterpret_cast<const volatile unsigned*>(address);
#else
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
#endif
    return value;
}
__device__ __forceinline__ void store_release(unsigned* address, unsigned value) {
#ifdef SOFTGPU
    softgpu::moved(softgpu::Moved::releases, 1);
    if (softgpu::release_is_lost()) return;
    *reinterpret_cast<volatile unsigned*>(address) = value;
    softgpu::progress();
#else
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
#endif
}
__device__ __forceinline__ unsigned add_release(unsigned* address, unsigned value) {
#ifdef SOFTGPU
    return atomicAdd(address, value);
#else
    unsigned before;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;" : "=r"(before) : "l"(address), "r"(value) : "memory");
    return before;
#endif
}

// 16 bytes, aligned, that another block has written: from L2, for the level before it may hold what was there earlier. Not moved
// by the compiler before a load_acquire.
__device__ __forceinline__ uint4 load_l2(const void* address) {
    uint4 words;
#ifdef SOFTGPU
    softgpu::check_aligned(address, 16);
    __builtin_memcpy(&words, address, 16);
#else
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(address)
                 : "memory");
#endif
    return words;
}

// Memory that is full of UNWRITTEN words before a launch, where what is written tells by itself that it is there: a reader looks until
// none is left of the words that it needs. Every word is written once, whole, and never as UNWRITTEN; nothing else is ordered by it.
constexpr unsigned UNWRITTEN = 0xffffffffu;

// 16 bytes, aligned, of which some may not be written yet.
__device__ __forceinline__ uint4 load_exchanged(const void* address) {
    uint4 words;
#ifdef SOFTGPU
    softgpu::check_aligned(address, 16);
    __builtin_memcpy(&words, address, 16);
#else
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(address));
#endif
    return words;
}
// The largest of the words: UNWRITTEN where one is.
__device__ __forceinline__ unsigned last_word(const uint4& words) {
    return max(max(words.x, words.y), max(words.z, words.w));
}
// The same words again, once they may have changed. In softgpu that is as soon as one has: others may be missing still.
__device__ __forceinline__ uint4 poll_exchanged(const void* address GATEFOLD_PLACE) {
#ifdef SOFTGPU
    const volatile unsigned* word = static_cast<const unsigned*>(address);
    for (unsigned i = 0; i < 4; ++i, ++word) {
        if (*word != UNWRITTEN) continue;
        while (*word == UNWRITTEN) softgpu::polled(const_cast<const unsigned*>(word), UNWRITTEN, file, line);
        break;
    }
#endif
    return load_exchanged(address);
}
// Whether a warp does not wait though a word is not there: a planted fault of softgpu's.
__device__ __forceinline__ bool is_hasty() {
#ifdef SOFTGPU
    return __any_sync(full_warp, softgpu::acquire_is_hasty());
#else
    return false;
#endif
}
__device__ __forceinline__ void store_exchanged(unsigned* address, unsigned word) {
#ifdef SOFTGPU
    softgpu::moved(softgpu::Moved::releases, 1);
    if (softgpu::release_is_lost()) return;
    *reinterpret_cast<volatile unsigned*>(address) = word;
    softgpu::progress();
#else
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(word) : "memory");
#endif
}

// Brings to L2 what will be read soon.
__device__ __forceinline__ void prefetch_l2([[maybe_unused]] const void* address) {
#ifndef SOFTGPU
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// All blocks of a cooperative launch meet. `counter` is zero before the launch and belongs to this barrier alone; `round`
// counts from 1. Every thread of every block calls it.
__device__ inline void grid_barrier(unsigned* counter, unsigned round) {
    __syncthreads();
    if (thread_in_block() == 0) {
        unsigned everyone = gridDim.x * gridDim.y * gridDim.z * round;
        __threadfence();
        add_release(counter, 1);
        while (load_acquire(counter) < everyone) {
        }
    }
    __syncthreads();
}

// ---------------------------------------------------------------------------------------------- clusters (sm_90, sm_100)

// The cluster's size and this block's place in it; 1 and 0 in a launch without clusters.
__device__ __forceinline__ unsigned cluster_rank() {
#ifdef SOFTGPU
    return softgpu::cluster().rank;
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#else
    return 0;
#endif
}
__device__ __forceinline__ unsigned cluster_size() {
#ifdef SOFTGPU
    return softgpu::cluster().size;
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    unsigned size;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
#else
    return 1;
#endif
}
// Every thread of every block of the cluster arrives, and every one waits.
__device__ __forceinline__ void cluster_arrive() {
#ifdef SOFTGPU
    softgpu::cluster_arrive("cluster_arrive", 0);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#ifdef SOFTGPU
    softgpu::cluster_wait("cluster_wait", 0);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
// What `mine` is in this block's shared memory, in that of the block of that rank: to be read and written like any pointer.
template <class T>
__device__ __forceinline__ T* map_shared_rank(T* mine, unsigned rank) {
#ifdef SOFTGPU
    return static_cast<T*>(softgpu::map_shared(mine, rank));
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    unsigned long long there;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(mine), "r"(rank));
    return reinterpret_cast<T*>(there);
#else
    return mine;
#endif
}

// --------------------------------------------------------------------------------------- asynchronous copies (cp.async)

// From global to shared memory, 4, 8 or 16 bytes, both aligned to as much. It has landed for this thread after the
// async_wait that covers its async_commit, and for the block after a barrier behind that. Reads `valid` bytes, zeros beyond.
template <int bytes>
__device__ __forceinline__ void async_copy(void* shared, const void* global, unsigned valid = bytes) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#ifdef SOFTGPU
    softgpu::check_aligned(shared, bytes);
    softgpu::check_aligned(global, bytes);
    softgpu::copy_later(shared, global, valid, bytes - valid);
#else
    if constexpr (bytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(bytes),
                     "r"(valid)
                     : "memory");
    }
#endif
}
__device__ __forceinline__ void async_commit() {
#ifdef SOFTGPU
    softgpu::commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `groups` of this thread's committed groups are under way.
template <int groups>
__device__ __forceinline__ void async_wait() {
#ifdef SOFTGPU
    softgpu::wait_copies(groups);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#endif
}

// ------------------------------------------------------------------------- barriers that count (mbarrier; sm_90, sm_100)

// In shared memory. One thread initialises it for a number of arrivals, then the block (or cluster) synchronises. A phase
// ends with the last arrival and the last expected byte; the waiter gives the phase's parity: 0, 1, 0, ...
using CountedBarrier = uint64_t;

__device__ __forceinline__ void counted_init(CountedBarrier* barrier, unsigned arrivals) {
#ifdef SOFTGPU
    softgpu::counted_init(barrier, arrivals);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void counted_arrive(CountedBarrier* barrier) {
#ifdef SOFTGPU
    softgpu::counted_arrive(barrier, 1, 0);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
__device__ __forceinline__ void counted_arrive_expect(CountedBarrier* barrier, unsigned bytes) {
#ifdef SOFTGPU
    softgpu::counted_arrive(barrier, 1, bytes);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
#endif
}
// Arrives at the same barrier of another block of the cluster.
__device__ __forceinline__ void counted_arrive_at(CountedBarrier* mine, unsigned rank) {
#ifdef SOFTGPU
    softgpu::counted_arrive(map_shared_rank(mine, rank), 1, 0);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
        "}" ::"r"(shared_address(mine)),
        "r"(rank)
        : "memory");
#endif
}
__device__ __forceinline__ void counted_wait(CountedBarrier* barrier, unsigned parity GATEFOLD_PLACE) {
#ifdef SOFTGPU
    if (softgpu::acquire_is_hasty()) return;
    softgpu::counted_wait(barrier, parity, file, line);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    unsigned done;
    do {
        asm volatile(
            "{\n"
            ".reg .pred done;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;\n"
            "selp.u32 %0, 1, 0, done;\n"
            "}"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    } while (!done);
#endif
}
// Stores four bytes in another block's shared memory and counts them at the barrier there (both named by this block's own).
__device__ __forceinline__ void store_counted(unsigned* mine, unsigned value, CountedBarrier* barrier, unsigned rank) {
#ifdef SOFTGPU
    *map_shared_rank(mine, rank) = value;
    softgpu::counted_bytes(map_shared_rank(barrier, rank), 4);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .b32 there, at;\n"
        "mapa.shared::cluster.u32 there, %0, %3;\n"
        "mapa.shared::cluster.u32 at, %2, %3;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [there], %1, [at];\n"
        "}" ::"r"(shared_address(mine)),
        "r"(value), "r"(shared_address(barrier)), "r"(rank)
        : "memory");
#endif
}
// The same of 16 bytes, aligned.
__device__ __forceinline__ void store_counted(uint4* mine, const uint4& value, CountedBarrier* barrier, unsigned rank) {
#ifdef SOFTGPU
    softgpu::check_aligned(mine, 16);
    softgpu::moved(softgpu::Moved::releases, 1);
    if (softgpu::release_is_lost()) return;
    *map_shared_rank(mine, rank) = value;
    softgpu::counted_bytes(map_shared_rank(barrier, rank), 16);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .b32 there, at;\n"
        "mapa.shared::cluster.u32 there, %0, %6;\n"
        "mapa.shared::cluster.u32 at, %5, %6;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [there], {%1, %2, %3, %4}, [at];\n"
        "}" ::"r"(shared_address(mine)),
        "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(shared_address(barrier)), "r"(rank)
        : "memory");
#endif
}
#undef GATEFOLD_PLACE
