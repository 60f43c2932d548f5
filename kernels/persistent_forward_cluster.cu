// A layer's steps forward where the blocks of a group are a cluster (sm_90); see persistent.cuh for what is the same. A block owns up
// to 32 units and has the states of all of them in its shared memory, those of this step and those of the one before. Who has
// computed states stores them in every block's, 16 bytes at a time, and each store counts at a barrier there: data and news are one
// trip, and nobody polls memory beyond its own block. y is written too, but in this launch nobody reads it.
//
// A tile's states of turn n (its steps, counted from its first) go where those of turn n - 2 were. Those have been read: who sends has
// received everybody's of turn n - 1, and everybody sends after its own product. The barriers alternate likewise, for a fast block's
// next states may come before a slow one's last.
//
// The product's rows are shared out to groups of warps, 16 or 32 to a group, and the depth within a group: the more groups, the
// fewer sums meet in shared memory, and the oftener states are read from it.
#include "persistent_forward.cuh"

// Code for older cards has no such kernels: the driver does not find them there, and the plan does without.
#if defined(SOFTGPU) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// How the warps share out the rows' sixteens and the depth.
struct Split {
    unsigned groups, each, parts;
    __device__ __forceinline__ explicit Split(unsigned rows) {
        const unsigned sixteens = (rows + 15) / 16;
        groups = min(sixteens == 3 ? 4 : sixteens, 4u);
        each = (sixteens + groups - 1) / groups;  // 1 or 2
        parts = WARPS / groups;
    }
};

struct ClusterLayout : Layout {
    unsigned stride;            // bytes from column to column of states, for which reads of two columns do not meet in a bank
    unsigned stage_stride;
    unsigned char* states;      // [tiles, 2, columns, stride]
    unsigned char* stage;       // [columns, stage_stride]: this block's states, on their way
    CountedBarrier* arrived;    // [tiles, 2]
    unsigned* begun;            // [tiles]: the step in which a tile began

    __device__ __forceinline__ ClusterLayout(unsigned chunks, unsigned rows, unsigned columns, unsigned parts, unsigned tiles,
                                             unsigned cells, unsigned unit_bytes)
        : Layout(chunks, rows, columns, parts), stride((chunks | 1) * 64), stage_stride(unit_bytes + 16) {
        states = reinterpret_cast<unsigned char*>(state + tiles * cells * THREADS);
        stage = states + tiles * 2 * columns * stride;
        arrived = reinterpret_cast<CountedBarrier*>(stage + columns * stage_stride);
        begun = reinterpret_cast<unsigned*>(arrived + tiles * 2);
    }
    __device__ __forceinline__ unsigned char* states_of(unsigned tile, unsigned turn) const {
        return states + (tile * 2 + turn % 2) * columns * stride;
    }
};

// This warp's part of weights × states for TILES × 8 columns, of which `valid` are there. Returns how many parts the depth has.
template <class T, unsigned TILES>
__device__ __forceinline__ unsigned cluster_product(const ClusterLayout& shared, const Split& split, const unsigned char* states,
                                                    unsigned valid, bool exact) {
    constexpr unsigned ROWS = 2;
    // As many chunks at once as registers allow.
    [[maybe_unused]] constexpr unsigned BATCH = sizeof(T) == 4 && TILES == 4 ? 1 : 4;
    const unsigned lane = lane_in_warp(), part = warp_in_block() / split.groups;
    const unsigned each = (shared.chunks + split.parts - 1) / split.parts, parts = (shared.chunks + each - 1) / each;
    const unsigned begin = part * each, end = min(begin + each, shared.chunks);
    const unsigned first = warp_in_block() % split.groups * split.each * 2;
    const unsigned eights = first < shared.eights ? min(split.each * 2, shared.eights - first) : 0;
    if (begin >= end || !eights) return parts;

    float sums[ROWS][TILES][4] = {};
#pragma unroll BATCH
    for (unsigned chunk = begin; chunk < end; ++chunk) {
        uint4 b[TILES];
#pragma unroll
        for (unsigned tile = 0; tile < TILES; ++tile) {
            const unsigned column = tile * COLUMNS + lane / 4;
            b[tile] = uint4{0, 0, 0, 0};
            if (column < valid) {
                b[tile] = *reinterpret_cast<const uint4*>(states + column * shared.stride + chunk * 64 + lane % 4 * 16);
                MOVED(shared_in, 16);
            }
        }
        const uint4* weights = shared.weights + (chunk * shared.eights + first) * 32 + lane;
#pragma unroll
        for (unsigned m = 0; m < ROWS; ++m) {
            if (2 * m >= eights) break;
            const uint4 low = weights[2 * m * 32], high = 2 * m + 1 < eights ? weights[(2 * m + 1) * 32] : uint4{0, 0, 0, 0};
            MOVED(shared_in, 2 * m + 1 < eights ? 32 : 16);
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile) multiply<T>(sums[m][tile], low, high, b[tile], exact);
        }
    }
#pragma unroll
    for (unsigned m = 0; m < ROWS; ++m) {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            if (2 * m + half >= eights) break;
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile) {
                float* to = shared.sum(part, (first + 2 * m + half) * 8 + lane / 4, tile * COLUMNS + lane % 4 * 2);
                store_vec<float, 2>(to, {sums[m][tile][2 * half], sums[m][tile][2 * half + 1]});
                MOVED(shared_out, 8);
            }
        }
    }
    return parts;
}

template <class T, unsigned TILES>
__device__ __forceinline__ void forward_cluster(const PersistentForward& p) {
    const Member<PersistentForward> me(p);
    const PersistentPass& pass = me.pass;
    const bool lstm = p.cell == CELL_LSTM || p.cell == CELL_LSTM_PEEPHOLE, gru = p.cell == CELL_GRU;
    const unsigned hidden = unsigned(p.hidden), units = unsigned(p.units), products = lstm ? 4 : gru ? 3 : 1;
    const unsigned members = unsigned(p.members), tiles = unsigned(p.tiles);
    constexpr unsigned columns = TILES * COLUMNS, CELLS = ClusterOwn<TILES>::CELLS;
    const Split split(products * units);
    const ClusterLayout shared((hidden + CHUNK<T> - 1) / CHUNK<T>, products * units, columns, split.parts, tiles, CELLS, units * sizeof(T));
    // 16 bytes of states: of one sequence, of this block's units, and of all.
    const unsigned vectors = (me.units + EACH<T> - 1) / EACH<T>, all_vectors = (hidden + EACH<T> - 1) / EACH<T>;
    // Row g units + u: gate g of unit u.
    load_weights<T>(shared, products * units, hidden, 1, p.vector, [&](unsigned row, unsigned k) -> const T* {
        unsigned g = row / units, u = row % units;
        return u < me.units ? at<const T>(pass.weight) + (uint64_t(g) * hidden + me.first_unit + u) * hidden + k : nullptr;
    });
    const ClusterOwn<TILES> own(units);
    const Unit<T> unit(p, pass, me.first_unit + own.unit, own.unit < me.units);
    // Behind the last unit there are zeros, and stay.
    for (unsigned row = warp_in_block(); row < tiles * 2 * columns; row += WARPS)
        for (unsigned k = hidden + lane_in_warp(); k < shared.chunks * CHUNK<T>; k += 32)
            reinterpret_cast<T*>(shared.states + row * shared.stride)[k] = narrow<T>(0.0f);
    for (unsigned row = warp_in_block(); row < columns; row += WARPS)
        for (unsigned u = me.units + lane_in_warp(); u < units; u += 32)
            reinterpret_cast<T*>(shared.stage + row * shared.stage_stride)[u] = narrow<T>(0.0f);
    if (threadIdx.x == 0)
#pragma unroll 1
        for (unsigned i = 0; i < tiles * 2; ++i) counted_init(shared.arrived + i, 1);
    cluster_sync();

    const int64_t forth = pass.reverse ? -1 : 1;
    int64_t t = pass.reverse ? int64_t(p.steps) - 1 : 0;
    Rows before(p, -1), now(p, t);
    for (unsigned s = 0; s < unsigned(p.steps); ++s) {
        t += forth;
        const Rows next(p, t);
        for (unsigned tile = 0; tile < tiles; ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned count = now.in(begin, min(columns, me.last - begin)), earlier = min(before.in(begin, columns), count);
            if (!count) continue;
            const unsigned going = next.in(begin, count), turn = earlier ? s - shared.begun[tile] : 0;
            if (!earlier && threadIdx.x == 0) shared.begun[tile] = s;
            // What is the thread's own comes while it waits for the others.
            float pre[CELLS][4] = {};
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const float* from = at<const float>(pass.pre) + (now.first + begin + own.column(i)) * unit.gates * p.hidden + unit.at;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (unit.from_input(g)) {
                        pre[i][g] = from[g * p.hidden];
                        MOVED(global_in, 4);
                    }
            }
            unsigned char* states = shared.states_of(tile, turn + 1);
            if (pass.h_first && earlier < count) {
                // Of sequences that begin: nobody sends into their places before it has this block's states of this turn.
                const T* first = at<const T>(pass.h_first) + uint64_t(begin) * hidden;
                for (unsigned column = earlier + warp_in_block(); column < count; column += WARPS)
                    for (unsigned k = lane_in_warp(); k < hidden; k += 32) {
                        reinterpret_cast<T*>(states + column * shared.stride)[k] = first[uint64_t(column) * hidden + k];
                        MOVED(global_in, sizeof(T));
                        MOVED(shared_out, sizeof(T));
                    }
                __syncthreads();
            }
            if (earlier) {
                counted_wait(shared.arrived + tile * 2 + (turn + 1) % 2, (turn - 1) / 2 % 2);
                MOVED(acquires, 1);
            }
            unsigned parts = 0;
            const unsigned valid = pass.h_first ? count : earlier;
            if (valid) parts = cluster_product<T, TILES>(shared, split, states, valid, p.exact);
            __syncthreads();
            float carried[CELLS] = {}, h[CELLS] = {};
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const unsigned column = own.column(i);
                float* state = shared.state + (tile * CELLS + i) * THREADS + threadIdx.x;
                const uint64_t n = begin + column;
                if (column < earlier) carried[i] = *state;
                else if (lstm) carried[i] = pass.c_first ? at<const float>(pass.c_first)[n * hidden + unit.at] : 0.0f;
                else carried[i] = gru && pass.h_first ? widen(at<const T>(pass.h_first)[n * hidden + unit.at]) : 0.0f;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < unit.gates) pre[i][g] += unit.bias[g];
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < products) pre[i][g] += total(shared, parts, g * units + own.unit, column);
                h[i] = cell_forward<T>(unit, pre[i], carried[i]);
                *state = carried[i];
                reinterpret_cast<T*>(shared.stage + column * shared.stage_stride)[own.unit] = narrow<T>(h[i]);
                MOVED(shared_out, sizeof(T));
            }
            __syncthreads();
            if (going) {
                CountedBarrier* arrived = shared.arrived + tile * 2 + turn % 2;
                if (threadIdx.x == 0) counted_arrive_expect(arrived, going * all_vectors * 16);
                unsigned char* to = shared.states_of(tile, turn) + me.first_unit * sizeof(T);
                for (unsigned i = warp_in_block(); i < members; i += WARPS) {
                    // Each block begins with itself, lest all send to one at once.
                    const unsigned rank = me.index + i < members ? me.index + i : me.index + i - members;
                    for (unsigned column = lane_in_warp() % 8; column < going; column += 8)
                        for (unsigned v = lane_in_warp() / 8; v < vectors; v += 4) {
                            const uint4 words = *reinterpret_cast<const uint4*>(shared.stage + column * shared.stage_stride + v * 16);
                            store_counted(reinterpret_cast<uint4*>(to + column * shared.stride + v * 16), words, arrived, rank);
                            MOVED(shared_in, 16);
                            MOVED(cluster_out, 16);
                        }
                }
            }
            // Nobody in this launch waits for the rest.
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const uint64_t n = begin + own.column(i), row = now.first + n;
                at<T>(pass.y)[row * p.stride + unit.at] = narrow<T>(h[i]);
                MOVED(global_out, sizeof(T));
                if (p.training) {
                    T* gates = at<T>(pass.gates) + row * unit.gates * hidden + unit.at;
#pragma unroll
                    for (unsigned g = 0; g < 4; ++g)
                        if (g < unit.gates) {
                            gates[g * p.hidden] = narrow<T>(pre[i][g]);
                            MOVED(global_out, sizeof(T));
                        }
                }
                if (lstm && (p.training || n >= next.count)) {
                    at<float>(pass.cells)[(p.training ? row : n) * hidden + unit.at] = carried[i];
                    MOVED(global_out, 4);
                }
            }
        }
        before = now, now = next;
    }
    // A block's shared memory stays until the last has sent.
    cluster_sync();
}

#define FORWARD_OF(T, columns)                                                                                              \
    KERNEL_ALONE(persistent_forward_cluster##columns##_##T, PersistentForward, 256) { forward_cluster<T, columns / 8>(p); }
#define FORWARD(columns) FORWARD_OF(f32, columns) FORWARD_OF(f16, columns) FORWARD_OF(bf16, columns)
FORWARD(8)
FORWARD(16)
FORWARD(32)
#endif
