// Lists of tensors in one launch, as in PyTorch's multi_tensor_apply: a block takes one chunk of one tensor, which it finds in
// the table that its parameters hold.
#pragma once

#include "loop.cuh"

struct Chunk {
    unsigned tensor;
    uint64_t begin, end;
};

template <class P>
__device__ __forceinline__ Chunk chunk_of_block(const P& p) {
    unsigned tensor = 0, behind = p.tensors;
    while (behind - tensor > 1) {
        unsigned middle = (tensor + behind) / 2;
        (p.first[middle] <= blockIdx.x ? tensor : behind) = middle;
    }
    uint64_t begin = uint64_t(blockIdx.x - p.first[tensor]) * CHUNK_SIZE;
    return {tensor, begin, min(begin + CHUNK_SIZE, p.count[tensor])};
}

template <class... S>
__device__ __forceinline__ bool aligned(const S*... pointers) {
    return ((reinterpret_cast<uint64_t>(pointers) | ...) & 15) == 0;
}

// f(x[i]) over the chunk. A thread owns 16 bytes at a time, a block apart, whether it moves them as one or not: the order in
// which it meets its elements is one.
template <class T, class F>
__device__ __forceinline__ void each(Chunk chunk, const T* x, F f) {
    constexpr int N = 16 / sizeof(T);
    const bool whole = aligned(x);
    for (uint64_t first = chunk.begin + threadIdx.x * N; first < chunk.end; first += blockDim.x * N) {
        if (whole && first + N <= chunk.end) {
            auto in = load_vec<T, N>(x + first);
#pragma unroll
            for (int i = 0; i < N; ++i) f(widen(in[i]));
        } else {
            for (uint64_t i = first, end = min(first + N, chunk.end); i < end; ++i) f(widen(x[i]));
        }
    }
}

// x[i] = f(x[i]) over the chunk.
template <class T, class F>
__device__ __forceinline__ void change(Chunk chunk, T* x, F f) {
    constexpr int N = 16 / sizeof(T);
    const bool whole = aligned(x);
    for (uint64_t first = chunk.begin + threadIdx.x * N; first < chunk.end; first += blockDim.x * N) {
        if (whole && first + N <= chunk.end) {
            auto in = load_vec<T, N>(x + first);
#pragma unroll
            for (int i = 0; i < N; ++i) in[i] = narrow<T>(f(widen(in[i])));
            store_vec<T, N>(x + first, in);
        } else {
            for (uint64_t i = first, end = min(first + N, chunk.end); i < end; ++i) x[i] = narrow<T>(f(widen(x[i])));
        }
    }
}

// What an element counts as that has a master: the master, unless somebody else has set the element since it was rounded to it.
template <class T>
__device__ __forceinline__ compute_t<T> mastered(compute_t<T> master, T x) {
    return widen(narrow<T>(master)) == widen(x) ? master : compute_t<T>(widen(x));
}

// x[i] = f(x[i], unscale g[i], s[i]...) over the chunk, where f may also write the s: `f(C x, C g, C& s...)`. With a master (0: none) it is
// that which is moved, and x its rounding.
template <class T, class F, class... S>
__device__ __forceinline__ void sweep(Chunk chunk, T* x, compute_t<T>* master, const T* g, compute_t<T> unscale, F f, S*... s) {
    using C = compute_t<T>;
    constexpr int N = 16 / sizeof(T);
    const bool whole = aligned(x, g, master, s...);
    for (uint64_t first = chunk.begin + threadIdx.x * N; first < chunk.end; first += blockDim.x * N) {
        if (whole && first + N <= chunk.end) {
            auto vectors = [&](Vec<T, N> x_in, const Vec<T, N>& g_in, Vec<S, N>... s_in) {
                if constexpr (sizeof(T) == 2) {
                    if (master) {
                        auto kept = load_vec<C, N>(master + first);
#pragma unroll
                        for (int i = 0; i < N; ++i) {
                            kept[i] = f(mastered(kept[i], x_in[i]), unscale * C(widen(g_in[i])), s_in[i]...);
                            x_in[i] = narrow<T>(kept[i]);
                        }
                        store_vec<C, N>(master + first, kept);
                        store_vec<T, N>(x + first, x_in);
                        (store_vec<S, N>(s + first, s_in), ...);
                        return;
                    }
                }
#pragma unroll
                for (int i = 0; i < N; ++i) x_in[i] = narrow<T>(f(C(widen(x_in[i])), unscale * C(widen(g_in[i])), s_in[i]...));
                store_vec<T, N>(x + first, x_in);
                (store_vec<S, N>(s + first, s_in), ...);
            };
            vectors(load_vec<T, N>(x + first), load_vec<T, N>(g + first), load_vec<S, N>(s + first)...);
        } else {
            for (uint64_t i = first, end = min(first + N, chunk.end); i < end; ++i) {
                C value = f(master ? mastered(master[i], x[i]) : C(widen(x[i])), unscale * C(widen(g[i])), s[i]...);
                if (master) master[i] = value;
                x[i] = narrow<T>(value);
            }
        }
    }
}
