// Reductions over one axis of [outer, n, inner]. A long axis falls into parts, joined by a second launch in an order that the
// shape alone decides. Bound by memory: each element is read once, one FLOP each.
#include "device/loop.cuh"

// Calls `run` with the operation, what leaves it alone, and what becomes of the result.
template <class C, class Run>
__device__ __forceinline__ void with_reduction(const Reduce& p, Run run) {
    switch (p.op) {
        case REDUCE_SUM: return run(Sum(), C(0), [](C sum) { return sum; });
        case REDUCE_MEAN: return run(Sum(), C(0), [n = C(p.divisor)](C sum) { return sum / n; });
        case REDUCE_MAX: return run(Max(), C(-INFINITY), [](C max) { return max; });
    }
}

// inner = 1: x [outer, n] -> y [outer, parts]. A team owns one part of one row.
template <class In, class Out, class C>
__device__ __forceinline__ void rows(const Reduce& p) {
    auto* scratch = dynamic_shared<C>();  // 32 values
    Team team;
    with_reduction<C>(p, [&](auto op, C zero, auto finish) {
        for (uint64_t row = team.first; row < p.outer * p.parts; row += team.step) {
            uint64_t begin = row % p.parts * p.part, end = min(begin + p.part, p.n);
            auto x = at<const In>(p.x) + row / p.parts * p.n;
            C value = zero;
            for (uint64_t i = begin + team.lane; i < end; i += team.width) value = op(value, C(widen(x[i])));
            value = team.reduce(value, zero, scratch, op);
            if (team.lane == 0) at<Out>(p.y)[row] = narrow<Out>(finish(value));
        }
    });
}

// Any inner: x [outer, n, inner] -> y [outer, parts, inner]. A block of 32 by 8 threads owns 32 columns of one part; its
// eight rows of threads take turns at the rows and are joined in their order.
template <class In, class Out, class C>
__device__ __forceinline__ void columns(const Reduce& p) {
    auto* joined = dynamic_shared<C>();  // [8, 32]
    uint64_t tiles = (p.inner + 31) / 32;
    with_reduction<C>(p, [&](auto op, C zero, auto finish) {
        for (uint64_t task = blockIdx.x; task < p.outer * p.parts * tiles; task += gridDim.x) {
            uint64_t row = task / tiles, column = task % tiles * 32 + threadIdx.x;
            uint64_t begin = row % p.parts * p.part, end = min(begin + p.part, p.n);
            auto x = at<const In>(p.x) + row / p.parts * p.n * p.inner;
            C value = zero;
            if (column < p.inner)
                for (uint64_t i = begin + threadIdx.y; i < end; i += 8) value = op(value, C(widen(x[i * p.inner + column])));
            joined[threadIdx.y * 32 + threadIdx.x] = value;
            __syncthreads();
            if (threadIdx.y == 0 && column < p.inner) {
                for (unsigned i = 1; i < 8; ++i) value = op(value, joined[i * 32 + threadIdx.x]);
                at<Out>(p.y)[row * p.inner + column] = narrow<Out>(finish(value));
            }
            __syncthreads();
        }
    });
}

// Whole, and for halves the two launches of a long axis: into parts of f32, and from them.
template <class T> __device__ __forceinline__ void reduce_rows(const Reduce& p) { rows<T, T, compute_t<T>>(p); }
template <class T> __device__ __forceinline__ void reduce_columns(const Reduce& p) { columns<T, T, compute_t<T>>(p); }
KERNEL_FLOATS(reduce_rows, Reduce)
KERNEL_FLOATS(reduce_columns, Reduce)
KERNEL(reduce_rows_part_f16, Reduce) { rows<f16, f32, f32>(p); }
KERNEL(reduce_rows_part_bf16, Reduce) { rows<bf16, f32, f32>(p); }
KERNEL(reduce_rows_join_f16, Reduce) { rows<f32, f16, f32>(p); }
KERNEL(reduce_rows_join_bf16, Reduce) { rows<f32, bf16, f32>(p); }
KERNEL(reduce_columns_part_f16, Reduce) { columns<f16, f32, f32>(p); }
KERNEL(reduce_columns_part_bf16, Reduce) { columns<bf16, f32, f32>(p); }
KERNEL(reduce_columns_join_f16, Reduce) { columns<f32, f16, f32>(p); }
KERNEL(reduce_columns_join_bf16, Reduce) { columns<f32, bf16, f32>(p); }

// What a team joins in while it looks for a greatest element.
template <class C>
struct Places {
    C values[32];
    long long places[32];
};

// The greatest of n elements, `apart` from each other, among those that `left` leaves, and where the first is that equals it or is NaN. A team
// reads them twice.
template <class C, class T, class Left>
__device__ __forceinline__ long long greatest(const Team& team, const T* x, uint64_t n, uint64_t apart, C& max, Left left) {
    auto* shared = dynamic_shared<Places<C>>();
    max = -INFINITY;
    for (uint64_t i = team.lane; i < n; i += team.width) {
        C value = widen(x[i * apart]);
        if (left(value, i)) max = Max()(max, value);
    }
    max = team.reduce(max, C(-INFINITY), shared->values, Max());
    long long found = INT64_MAX;
    for (uint64_t i = team.lane; i < n && found == INT64_MAX; i += team.width) {
        C value = widen(x[i * apart]);
        if (left(value, i) && (value == max || value != value)) found = (long long)i;
    }
    return team.reduce(found, (long long)INT64_MAX, shared->places, Min());
}

// inner = 1: x [outer, n] -> index [outer], of the first NaN, else of the first maximum. A team owns a row and reads it twice.
template <class T>
__device__ __forceinline__ void arg_max_rows(const ArgMax& p) {
    Team team;
    for (uint64_t row = team.first; row < p.outer; row += team.step) {
        compute_t<T> max;
        auto all = [](compute_t<T>, uint64_t) { return true; };
        long long found = greatest(team, at<const T>(p.x) + row * p.n, p.n, 1, max, all);
        if (team.lane == 0) at<int64_t>(p.index)[row] = found == INT64_MAX ? 0 : found;
    }
}
KERNEL_FLOATS(arg_max_rows, ArgMax)

// Any inner. A thread owns a column, so that neighbours read neighbours.
template <class T>
__device__ __forceinline__ void arg_max_columns(const ArgMax& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.outer * p.inner) {
        auto x = at<const T>(p.x) + i / p.inner * p.n * p.inner + i % p.inner;
        C best = -INFINITY;
        int64_t found = 0;
        for (uint64_t j = 0; j < p.n; ++j) {
            C value = widen(x[j * p.inner]);
            // The first number of all counts even if it is -infinity: its index is 0, as `found` is.
            if (value > best || (value != value && best == best)) best = value, found = int64_t(j);
        }
        at<int64_t>(p.index)[i] = found;
    }
}
KERNEL_FLOATS(arg_max_columns, ArgMax)

// x [outer, n, inner] -> index [outer, count, inner], of the greatest along n, a NaN before all others, of equal ones the first. A team owns
// a column and reads it twice for each place.
template <class T>
__device__ __forceinline__ void top_k(const TopK& p) {
    using C = compute_t<T>;
    Team team;
    for (uint64_t column = team.first; column < p.outer * p.inner; column += team.step) {
        uint64_t outer = column / p.inner, inner = column % p.inner;
        auto x = at<const T>(p.x) + outer * p.n * p.inner + inner;
        C last = 0;
        long long before = -1;
        // Whether an element comes behind the one found last.
        auto left = [&](C value, uint64_t i) {
            bool later = (long long)i > before;
            if (before < 0) return true;
            if (last != last) return value == value || later;
            return value < last || (value == last && later);
        };
        for (uint64_t place = 0; place < p.count; ++place) {
            C max;
            long long found = greatest(team, x, p.n, p.inner, max, left);
            last = max, before = found;
            if (team.lane == 0) at<int64_t>(p.index)[(outer * p.count + place) * p.inner + inner] = found;
        }
    }
}
KERNEL_FLOATS(top_k, TopK)

// index, dy [outer, inner] -> dx [outer, n, inner]. A thread owns elements of dx, a grid apart.
template <class T>
__device__ __forceinline__ void scatter_axis(const ScatterAxis& p) {
    FOR_EACH(i, p.outer * p.n * p.inner) {
        uint64_t row = i / p.inner, j = row % p.n, from = row / p.n * p.inner + i % p.inner;
        at<T>(p.dx)[i] = at<const int64_t>(p.index)[from] == int64_t(j) ? at<const T>(p.dy)[from] : T{};
    }
}
KERNEL_FLOATS(scatter_axis, ScatterAxis)
