// A whole sequence in one cooperative launch, the recurrent weights kept in shared memory.
//
// The batch is divided into groups that never wait for each other. The `members` blocks of a group share out the units: each keeps
// the weights of its own for all steps. In a step a block multiplies them by what all members wrote in the step before (forward the
// states, rows of y; backward the gradients of the gates, rows of `gates`: both at addresses that nobody has read before), does the
// pointwise part for its units, writes, and releases its flag. Who reads acquires the flags of those whose units it reads, no others.
//
// Where a step has two products, the one of what the other has made, all this is done twice a step, in turns: the GRU
// that resets before the product exchanges r h and then h, a projection o tanh(c) and then h; backward the gradients of the second
// product's results, then those of the gates that are behind the first. Flags count turns. A block keeps both products' weights.
//
// The product is split along its depth: each warp takes a stretch, so it waits for few members and reads each row's part once,
// straight from L2 into the operand's registers, 16 bytes a lane. The warps' sums meet in shared memory and are added in their
// order. A lane's 16 bytes are neighbours along the depth and are taken for the places that two of the tensor core's products give
// this lane: weights and rows are permuted alike, so the sum is the same.
#pragma once

#include "device/loop.cuh"
#include "device/mma.cuh"

constexpr unsigned WARPS = 8;
constexpr unsigned THREADS = 32 * WARPS;
// Units of a block at most; rows of weights at most forward (four gates).
constexpr unsigned MOST_UNITS = 16;
// Sequences of a tensor core's tile.
constexpr unsigned COLUMNS = 8;

// Elements of 16 bytes, and the depth that four lanes' make: two products' of the tensor cores.
template <class T> constexpr unsigned EACH = 16 / sizeof(T);
template <class T> constexpr unsigned CHUNK = 4 * EACH<T>;

// Counts what is moved, under softgpu.
#ifdef SOFTGPU
#define MOVED(what, bytes) softgpu::moved(softgpu::Moved::what, bytes)
#else
#define MOVED(what, bytes) static_cast<void>(0)
#endif

// Shared memory of a block. Weights are by chunks of depth, then by eight rows, then by lanes: row lane / 4, depth EACH lane % 4.
struct Layout {
    unsigned chunks, eights, columns;
    uint4* weights;
    float* sums;   // [parts, 8 eights, padded]
    float* state;  // [tiles, cells, THREADS]: what each thread carries from step to step

    __device__ __forceinline__ Layout(unsigned chunks, unsigned rows, unsigned columns, unsigned parts = WARPS)
        : chunks(chunks), eights((rows + 7) / 8), columns(columns) {
        weights = dynamic_shared<uint4>();
        sums = reinterpret_cast<float*>(weights + chunks * eights * 32);
        state = sums + parts * eights * 8 * padded();
    }
    // A row's length for which neither the tiles' stores nor the reads across rows meet in a bank.
    __device__ __forceinline__ unsigned padded() const { return columns == 8 ? 8 : columns + 8; }
    __device__ __forceinline__ float* sum(unsigned part, unsigned row, unsigned column) const {
        return sums + (part * eights * 8 + row) * padded() + column;
    }
};

// The same of two products: the second's weights are behind the first's, and the sums of both have one place.
struct Layouts : Layout {
    unsigned second_chunks, second_eights;

    __device__ __forceinline__ Layouts(unsigned chunks, unsigned rows, unsigned columns, unsigned second_chunks, unsigned second_rows)
        : Layout(chunks, rows, columns), second_chunks(second_chunks), second_eights((second_rows + 7) / 8) {
        sums = reinterpret_cast<float*>(weights + (chunks * eights + second_chunks * second_eights) * 32);
        state = sums + WARPS * max(eights, second_eights) * 8 * padded();
    }
    __device__ __forceinline__ Layout of(bool second) const {
        Layout it = *this;
        if (second) it.weights += chunks * eights * 32, it.chunks = second_chunks, it.eights = second_eights;
        return it;
    }
};

// A block's share of `all` units or columns, `each` to a block.
struct Share {
    unsigned first, count;
    __device__ __forceinline__ Share(unsigned index, unsigned each, unsigned all)
        : first(index * each), count(first < all ? min(each, all - first) : 0) {}
};

// The depth of a product: `each` in a row were written by one of the first `writers` members; every `period` it begins again with
// the first. With fewer columns than members the last ones write none.
struct Depth {
    unsigned all, period, each, writers;
};
// One by one: chosen as a whole they would lie in local memory.
__device__ __forceinline__ Depth depth_of(bool second, const Depth& a, const Depth& b) {
    return {second ? b.all : a.all, second ? b.period : a.period, second ? b.each : a.each, second ? b.writers : a.writers};
}

// Which part of the work is this block's.
template <class P>
struct Member {
    unsigned index, first_unit, units, first, last;  // `first` to `last`: the group's sequences
    const PersistentPass& pass;
    unsigned* flags;  // [tiles, members]

    __device__ __forceinline__ explicit Member(const P& p)
        : index(blockIdx.x % unsigned(p.members)), first_unit(index * unsigned(p.units)),
          units(min(unsigned(p.units), unsigned(p.hidden) - first_unit)),
          pass(p.pass[blockIdx.x / unsigned(p.members * p.groups)]) {
        unsigned group = blockIdx.x / unsigned(p.members);  // of all passes
        first = group % unsigned(p.groups) * unsigned(p.group);
        last = min(first + unsigned(p.group), unsigned(p.batch));
        flags = at<unsigned>(p.flags) + uint64_t(group) * p.tiles * p.members;
    }
};

// The rows of a step: where they begin and how many there are; none beyond the steps.
struct Rows {
    uint64_t first;
    unsigned count;
    template <class P>
    __device__ __forceinline__ Rows(const P& p, int64_t step) {
        if (step < 0 || step >= int64_t(p.steps)) first = 0, count = 0;
        else if (p.offsets) {
            const int64_t* offset = at<const int64_t>(p.offsets) + step;
            first = uint64_t(offset[0]), count = unsigned(offset[1] - offset[0]);
        } else first = uint64_t(step) * p.batch, count = unsigned(p.batch);
    }
    // How many of the `most` sequences from `begin` on have one.
    __device__ __forceinline__ unsigned in(unsigned begin, unsigned most) const {
        return count > begin ? min(count - begin, most) : 0;
    }
};

// 16 bytes along the depth at `from`; where they may not be read at once, or end early, one by one with zeros behind the end.
template <class T>
__device__ __forceinline__ uint4 depth_vector(const T* from, int left, bool vector) {
    if (vector) return load_l2(from);
    Vec<T, EACH<T>> values{};
#pragma unroll
    for (int i = 0; i < int(EACH<T>); ++i)
        if (i < left) values[i] = from[i];
    uint4 words;
    memcpy(&words, &values, 16);
    return words;
}

// A lane's operands of the weights: `element(row, k)` is the address of the first of EACH neighbours along the depth (stride 1) or of
// single ones `stride` apart. Called by all threads; who reads waits for the block.
template <class T, class F>
__device__ __forceinline__ void load_weights(const Layout& to, unsigned rows, unsigned depth, uint64_t stride, bool vector, F element) {
    for (unsigned i = threadIdx.x; i < to.chunks * to.eights * 32; i += THREADS) {
        unsigned lane = i % 32, row = i / 32 % to.eights * 8 + lane / 4, k = i / 32 / to.eights * CHUNK<T> + lane % 4 * EACH<T>;
        Vec<T, EACH<T>> values{};
        const T* from = row < rows && k < depth ? element(row, k) : nullptr;
        if (from) {
            if (vector && stride == 1) values = load_vec<T, EACH<T>>(from);
            else
                for (unsigned j = 0; j < EACH<T> && k + j < depth; ++j) values[j] = from[j * stride];
        }
        store_vec<T, EACH<T>>(reinterpret_cast<T*>(to.weights + i), values);
    }
}

// Waits until the members who wrote the depth from `begin` to `end` have released `want`.
__device__ __forceinline__ void wait_for(const Depth& depth, const unsigned* flags, unsigned begin, unsigned end, unsigned want) {
    unsigned members = depth.writers, from = begin % depth.period / depth.each, count = members;
    if (end - begin < depth.period) {
        unsigned to = (end - 1) % depth.period / depth.each;
        // Beyond the last unit it goes on with the first: perhaps in the member where it began.
        count = begin / depth.period == (end - 1) / depth.period ? to - from + 1 : min(members - from + to + 1, members);
    }
    for (unsigned i = lane_in_warp(); i < count; i += 32) {
        unsigned member = from + i < members ? from + i : from + i - members;
        unsigned pause = 0;
        while (load_acquire(flags + member) < want) {
            if (pause) __nanosleep(pause);
            pause = min(pause * 2 + 8, 64u);
        }
        MOVED(acquires, 1);
    }
    __syncwarp();
}

template <class T>
__device__ __forceinline__ void multiply(Mma<T>& sum, const unsigned (&a)[4], const unsigned (&b)[2], bool exact) {
    if constexpr (sizeof(T) == 4) {
        unsigned big_a[4], big_b[2], small_a[4], small_b[2], part_a[4], part_b[2];
        // Infinities have no parts that add up to them: the corrections take them for zeros, lest ∞ − ∞ or 0 · ∞ make a NaN of them.
        auto split = [&](unsigned x, unsigned& big, unsigned& small, unsigned& part) {
            float rounded = round_tf32(__uint_as_float(x)), rest = __uint_as_float(x) - rounded;
            bool finite = fabsf(rest) < INFINITY;
            big = __float_as_uint(rounded);
            small = finite ? __float_as_uint(round_tf32(rest)) : 0;
            part = finite ? big : 0;
        };
#pragma unroll
        for (int i = 0; i < 4; ++i) split(a[i], big_a[i], small_a[i], part_a[i]);
#pragma unroll
        for (int i = 0; i < 2; ++i) split(b[i], big_b[i], small_b[i], part_b[i]);
        if (exact) {
            // What is left out is the product of the two small parts: 2⁻²² of the whole.
            sum.add(small_a, part_b);
            sum.add(part_a, small_b);
        }
        sum.add(big_a, big_b);
    } else {
        sum.add(a, b);
    }
}

// A chunk of the depth: sixteen rows of weights, of which a lane has 16 bytes of two, times eight columns, of which it has one's.
template <class T>
__device__ __forceinline__ void multiply(float (&to)[4], const uint4& low, const uint4& high, const uint4& x, bool exact) {
    Mma<T> sum(to);
    multiply<T>(sum, {low.x, high.x, low.y, high.y}, {x.x, x.y}, exact);
    multiply<T>(sum, {low.z, high.z, low.w, high.w}, {x.z, x.w}, exact);
}

// This warp's stretch of weights × rows, for TILES × 8 columns, left among the sums. `row(column)`: where a column's row begins, or
// null for zeros. ROWS: sixteens of weights' rows at most. Returns how many warps have a stretch.
template <class T, unsigned TILES, unsigned ROWS, class P, class F>
__device__ __forceinline__ unsigned product(const P& p, const Layout& shared, const Depth& of, const unsigned* flags, unsigned want, F row) {
    // As many loads as registers allow are under way at once; two products leave fewer.
    constexpr unsigned BATCH = TILES < 4 ? 8 : sizeof(T) == 4 && ROWS == 4 ? 1 : 4;
    const unsigned depth = of.all;
    const unsigned warp = warp_in_block(), lane = lane_in_warp(), each = (shared.chunks + WARPS - 1) / WARPS;
    const unsigned begin = warp * each, end = min(begin + each, shared.chunks), warps = (shared.chunks + each - 1) / each;
    if (begin >= end) return warps;
    if (want) wait_for(of, flags, begin * CHUNK<T>, min(end * CHUNK<T>, depth), want);

    const T* rows[TILES];
#pragma unroll
    for (unsigned tile = 0; tile < TILES; ++tile) rows[tile] = row(tile * COLUMNS + lane / 4);
    float sums[ROWS][TILES][4] = {};
    for (unsigned first = begin; first < end; first += BATCH) {
        uint4 b[BATCH][TILES];
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const unsigned k = (first + i) * CHUNK<T> + lane % 4 * EACH<T>;
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile) {
                b[i][tile] = uint4{0, 0, 0, 0};
                if (first + i < end && k < depth && rows[tile]) {
                    b[i][tile] = depth_vector<T>(rows[tile] + k, int(depth - k), p.vector);
                    MOVED(global_in, min(depth - k, EACH<T>) * sizeof(T));
                }
            }
        }
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            if (first + i >= end) break;
            const uint4* weights = shared.weights + (first + i) * shared.eights * 32 + lane;
#pragma unroll
            for (unsigned m = 0; m < ROWS; ++m) {
                if (2 * m >= shared.eights) break;
                const uint4 low = weights[2 * m * 32], high = 2 * m + 1 < shared.eights ? weights[(2 * m + 1) * 32] : uint4{0, 0, 0, 0};
                MOVED(shared_in, 2 * m + 1 < shared.eights ? 32 : 16);
#pragma unroll
                for (unsigned tile = 0; tile < TILES; ++tile) multiply<T>(sums[m][tile], low, high, b[i][tile], p.exact);
            }
        }
    }
#pragma unroll
    for (unsigned m = 0; m < ROWS; ++m) {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            if (2 * m + half >= shared.eights) break;
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile) {
                float* to = shared.sum(warp, (2 * m + half) * 8 + lane / 4, tile * COLUMNS + lane % 4 * 2);
                store_vec<float, 2>(to, {sums[m][tile][2 * half], sums[m][tile][2 * half + 1]});
                MOVED(shared_out, 8);
            }
        }
    }
    return warps;
}

// The sums of the depth's parts at one place, in their order.
__device__ __forceinline__ float total(const Layout& shared, unsigned parts, unsigned row, unsigned column) {
    float sum = 0;
    for (unsigned part = 0; part < parts; ++part) sum += *shared.sum(part, row, column);
    MOVED(shared_in, parts * 4);
    return sum;
}

// Which unit and which columns of a tile are a thread's: eight columns to four units in a warp, so that sums are read without
// conflicts. Column i: see column(i).
template <unsigned TILES>
struct Own {
    static constexpr unsigned CELLS = (TILES + 1) / 2;
    unsigned unit;
    __device__ __forceinline__ Own() : unit(lane_in_warp() / 8 + warp_in_block() % 4 * 4) {}
    __device__ __forceinline__ unsigned column(unsigned i) const {
        return (warp_in_block() / 4 + 2 * i) * COLUMNS + lane_in_warp() % 8;
    }
    __device__ __forceinline__ bool has(unsigned i, unsigned units, unsigned columns) const {
        return unit < units && warp_in_block() / 4 + 2 * i < TILES && column(i) < columns;
    }
};

// Which unit and which columns are a thread's: as in Own, but in a cluster a block may have 32 units, four to each
// warp.
template <unsigned TILES>
struct ClusterOwn {
    static constexpr unsigned CELLS = TILES;
    bool wide;
    unsigned unit;
    __device__ __forceinline__ explicit ClusterOwn(unsigned units)
        : wide(units > 16), unit(lane_in_warp() / 8 + (wide ? warp_in_block() : warp_in_block() % 4) * 4) {}
    __device__ __forceinline__ unsigned tile(unsigned i) const { return wide ? i : warp_in_block() / 4 + 2 * i; }
    __device__ __forceinline__ unsigned column(unsigned i) const { return tile(i) * COLUMNS + lane_in_warp() % 8; }
    __device__ __forceinline__ bool has(unsigned i, unsigned units, unsigned columns) const {
        return unit < units && tile(i) < TILES && column(i) < columns;
    }
};

// Everything that the block has written so far is there for who acquires.
__device__ __forceinline__ void release(unsigned* flag, unsigned value) {
    __syncthreads();
    if (threadIdx.x == 0) store_release(flag, value);
}
