// Rows picked by index, and their gradients: sorted by row first, so that each sum is formed by one thread, in the order of the
// index, without atomics on floats.
#include "device/loop.cuh"

// y [outer, count, inner] = x [outer, n, inner] at index [count]. A thread owns elements of y, a grid apart. Moves one element
// in and one out.
template <class W>
__device__ __forceinline__ void gather(const Gather& p) {
    FOR_EACH(i, p.outer * p.count * p.inner) {
        uint64_t row = i / p.inner, j = row % p.count, outer = row / p.count;
        int64_t k = at<const int64_t>(p.index)[j];
        bool inside = uint64_t(k) < p.n;
        if (!inside) report(p.fault, FAULT_INDEX, int64_t(j), k, int64_t(p.n));
        at<W>(p.y)[i] = inside ? at<const W>(p.x)[(outer * p.n + uint64_t(k)) * p.inner + i % p.inner] : W{};
    }
}
KERNEL(gather_b8, Gather) { gather<uint8_t>(p); }
KERNEL(gather_b16, Gather) { gather<uint16_t>(p); }
KERNEL(gather_b32, Gather) { gather<uint32_t>(p); }
KERNEL(gather_b64, Gather) { gather<uint64_t>(p); }
KERNEL(gather_b128, Gather) { gather<uint4>(p); }

// y [outer, count, inner] = x [outer, n, inner] at an index of its own shape. A thread owns elements of y, a grid apart. Moves one element
// and its index in and one out.
template <class W>
__device__ __forceinline__ void take_along(const TakeAlong& p) {
    FOR_EACH(i, p.outer * p.count * p.inner) {
        int64_t k = at<const int64_t>(p.index)[i];
        bool inside = uint64_t(k) < p.n;
        if (!inside) report(p.fault, FAULT_INDEX, int64_t(i), k, int64_t(p.n));
        uint64_t outer = i / p.inner / p.count;
        at<W>(p.y)[i] = inside ? at<const W>(p.x)[(outer * p.n + uint64_t(k)) * p.inner + i % p.inner] : W{};
    }
}
KERNEL(take_along_b8, TakeAlong) { take_along<uint8_t>(p); }
KERNEL(take_along_b16, TakeAlong) { take_along<uint16_t>(p); }
KERNEL(take_along_b32, TakeAlong) { take_along<uint32_t>(p); }
KERNEL(take_along_b64, TakeAlong) { take_along<uint64_t>(p); }

// dy = y [outer, count, inner] -> dx = x [outer, n, inner], each element the sum of what the index sent there, in its order. A thread owns
// elements of dx, a grid apart, and looks through the index of its column: n times `count` reads a column, for indices that are few.
template <class T>
__device__ __forceinline__ void put_along(const TakeAlong& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.outer * p.n * p.inner) {
        uint64_t row = i / p.inner, k = row % p.n, from = row / p.n * p.count * p.inner + i % p.inner;
        C sum = 0;
        for (uint64_t j = 0; j < p.count; ++j, from += p.inner)
            if (at<const int64_t>(p.index)[from] == int64_t(k)) sum += widen(at<const T>(p.y)[from]);
        at<T>(p.x)[i] = narrow<T>(sum);
    }
}
KERNEL_FLOATS(put_along, TakeAlong)

// A thread owns entries of the index, a grid apart.
KERNEL(sort_keys, SortKeys) {
    FOR_EACH(i, p.count) {
        int64_t k = at<const int64_t>(p.index)[i];
        bool skipped = p.skips && k == p.skip, inside = uint64_t(k) < p.n;
        if (!skipped && !inside) report(p.fault, FAULT_INDEX, int64_t(i), k, int64_t(p.n));
        at<uint32_t>(p.key)[i] = uint32_t(skipped || !inside ? p.n : uint64_t(k));
        at<uint32_t>(p.order)[i] = uint32_t(i);
    }
}

// The sort: a block of 256 threads owns 1024 keys, a thread four neighbours of them.
constexpr unsigned sort_threads = 256, sort_each = 4, digits = 16;

struct SortShared {
    uint32_t before[digits][sort_threads];  // first counts, then how many of the digit lie before the thread's in the block
    uint32_t total[digits];
};

__device__ __forceinline__ unsigned digit(const SortPass& p, uint32_t key) { return key >> p.shift & (digits - 1); }

// This thread's keys, and how many it has.
__device__ __forceinline__ unsigned own_keys(const SortPass& p, uint64_t& first, uint32_t (&keys)[sort_each]) {
    first = (uint64_t(blockIdx.x) * sort_threads + threadIdx.x) * sort_each;
    unsigned have = 0;
    for (; have < sort_each && first + have < p.count; ++have) keys[have] = at<const uint32_t>(p.key)[first + have];
    return have;
}

// An exclusive sum over 256 values by one warp; returns their total.
__device__ inline uint32_t scan_256(uint32_t* values) {
    uint32_t running = 0;
    unsigned lane = lane_in_warp();
    for (unsigned i = lane; i < 256; i += 32) {
        uint32_t own = values[i], sum = own;
        for (unsigned d = 1; d < 32; d *= 2) {
            uint32_t other = __shfl_up_sync(full_warp, sum, d);
            if (lane >= d) sum += other;
        }
        values[i] = running + sum - own;
        running += __shfl_sync(full_warp, sum, 31);
    }
    return running;
}

__device__ inline void rank_in_block(const SortPass& p, SortShared* shared, const uint32_t (&keys)[sort_each], unsigned have) {
    for (unsigned d = 0; d < digits; ++d) shared->before[d][threadIdx.x] = 0;
    for (unsigned i = 0; i < have; ++i) ++shared->before[digit(p, keys[i])][threadIdx.x];
    __syncthreads();
    for (unsigned d = warp_in_block(); d < digits; d += sort_threads / 32) {
        uint32_t total = scan_256(shared->before[d]);
        if (lane_in_warp() == 0) shared->total[d] = total;
    }
    __syncthreads();
}

// counts [16, blocks]: how many keys of each digit a block has. Moves four bytes in a key.
KERNEL_BOUNDS(sort_count, SortPass, 256) {
    auto* shared = dynamic_shared<SortShared>();
    uint64_t first;
    uint32_t keys[sort_each];
    unsigned have = own_keys(p, first, keys);
    rank_in_block(p, shared, keys, have);
    if (threadIdx.x < digits) at<uint32_t>(p.counts)[threadIdx.x * p.blocks + blockIdx.x] = shared->total[threadIdx.x];
}

// counts becomes its own exclusive sum: where the keys of a digit and a block go. One block.
KERNEL_BOUNDS(sort_scan, SortPass, 256) {
    auto* sums = dynamic_shared<uint32_t>();  // 256 values
    auto counts = at<uint32_t>(p.counts);
    uint64_t length = uint64_t(digits) * p.blocks, each = (length + 255) / 256;
    uint64_t begin = min(threadIdx.x * each, length), end = min(begin + each, length);
    uint32_t sum = 0;
    for (uint64_t i = begin; i < end; ++i) sum += counts[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp_in_block() == 0) scan_256(sums);
    __syncthreads();
    uint32_t running = sums[threadIdx.x];
    for (uint64_t i = begin; i < end; ++i) {
        uint32_t own = counts[i];
        counts[i] = running;
        running += own;
    }
}

// Keys and order to their places. Moves eight bytes a key in, and eight out.
KERNEL_BOUNDS(sort_place, SortPass, 256) {
    auto* shared = dynamic_shared<SortShared>();
    uint64_t first;
    uint32_t keys[sort_each];
    unsigned have = own_keys(p, first, keys);
    rank_in_block(p, shared, keys, have);
    for (unsigned i = 0; i < have; ++i) {
        unsigned d = digit(p, keys[i]);
        // A thread's own column alone: its earlier keys of the digit move the later ones on.
        uint32_t to = at<const uint32_t>(p.counts)[d * p.blocks + blockIdx.x] + shared->before[d][threadIdx.x]++;
        at<uint32_t>(p.to_key)[to] = keys[i];
        at<uint32_t>(p.to_order)[to] = at<const uint32_t>(p.order)[first + i];
    }
}

// dy [outer, count, inner] -> dx [outer, n, inner], zero before. A team takes one sorted place of one outer index; the first of
// a key sums its whole run, a thread to an element of the row. Moves dy in once and the rows that are met out; one FLOP each.
template <class T>
__device__ __forceinline__ void scatter_rows(const ScatterRows& p) {
    using C = compute_t<T>;
    auto key = at<const uint32_t>(p.key), order = at<const uint32_t>(p.order);
    Team team;
    for (uint64_t task = team.first; task < p.outer * p.count; task += team.step) {
        uint64_t place = task % p.count, outer = task / p.count;
        uint32_t row = key[place];
        if (row >= p.n || (place > 0 && key[place - 1] == row)) continue;
        auto dy = at<const T>(p.dy) + outer * p.count * p.inner;
        auto dx = at<T>(p.dx) + (outer * p.n + row) * p.inner;
        for (uint64_t i = team.lane; i < p.inner; i += team.width) {
            C sum = 0;
            for (uint64_t s = place; s < p.count && key[s] == row; ++s) sum += widen(dy[order[s] * p.inner + i]);
            dx[i] = narrow<T>(sum);
        }
    }
}
KERNEL_FLOATS(scatter_rows, ScatterRows)
