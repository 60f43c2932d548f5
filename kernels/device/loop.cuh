// How threads share out elements, and rows among teams of threads.
#pragma once

#include "../abi.h"
#include "number.cuh"

template <class T>
__device__ __forceinline__ T* at(uint64_t address) {
    return reinterpret_cast<T*>(address);
}

__device__ __forceinline__ uint64_t thread_in_grid() { return uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ uint64_t threads_in_grid() { return uint64_t(gridDim.x) * blockDim.x; }

// The elements of a one-dimensional grid's thread, whatever the grid's size.
#define FOR_EACH(i, count) for (uint64_t i = thread_in_grid(), end_ = (count); i < end_; i += threads_in_grid())

// A kernel for each floating-point dtype: `name_f32` and so on, whose body is `name<f32>(p)`.
#define KERNEL_FLOATS(name, P)                                                                                              \
    KERNEL(name##_f64, P) { name<f64>(p); }                                                                                 \
    KERNEL(name##_f32, P) { name<f32>(p); }                                                                                 \
    KERNEL(name##_f16, P) { name<f16>(p); }                                                                                 \
    KERNEL(name##_bf16, P) { name<bf16>(p); }

// y[i] = f(i, x[i]...), by vectors of 16 bytes of y; every array is dense and aligned to 16 bytes.
template <class T, class F, class... X>
__device__ __forceinline__ void map(uint64_t count, T* y, F f, const X*... x) {
    constexpr int N = 16 / sizeof(T);
    for (uint64_t first = thread_in_grid() * N; first < count; first += threads_in_grid() * N) {
        if (first + N <= count) {
            auto whole = [&](const Vec<X, N>&... in) {
                Vec<T, N> out;
#pragma unroll
                for (int i = 0; i < N; ++i) out[i] = narrow<T>(f(first + i, widen(in[i])...));
                store_vec<T, N>(y + first, out);
            };
            whole(load_vec<X, N>(x + first)...);
        } else {
            for (uint64_t i = first; i < count; ++i) y[i] = narrow<T>(f(i, widen(x[i])...));
        }
    }
}

// A team owns a row at a time: a warp where the block is 32 threads wide (and of several rows), else the whole block.
struct Team {
    uint64_t first, step;  // this team's first row, and how many teams there are
    unsigned lane, width;

    __device__ __forceinline__ Team()
        : first(uint64_t(blockIdx.x) * blockDim.y + threadIdx.y), step(uint64_t(gridDim.x) * blockDim.y),
          lane(threadIdx.x), width(blockDim.x) {}

    // Every thread of the team has the result. `scratch`: shared memory for 32 values.
    template <class C, class Op>
    __device__ __forceinline__ C reduce(C value, C zero, C* scratch, Op op) const {
        return width == 32 ? warp_reduce(value, op) : block_reduce(value, zero, scratch, op);
    }
};

// The first fault stays. Whoever meets one goes on with something harmless.
__device__ inline void report(uint64_t fault, unsigned kind, int64_t place, int64_t value, int64_t bound) {
    Fault* first = at<Fault>(fault);
    if (atomicCAS(&first->kind, 0u, kind) == 0u) {
        first->place = place;
        first->value = value;
        first->bound = bound;
    }
}
