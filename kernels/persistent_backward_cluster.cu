// A layer's steps backward where the blocks of a group are a cluster (sm_90); see persistent_forward_cluster.cu for turns and barriers.
// Gradients of gates stay in the block that computed them. It multiplies those of its units by its rows of W_hh, which makes its part of
// every unit's dh, and stores each unit's where the unit is at home: f32, 16 bytes at a time, which count at the barrier there. Who is
// at home adds the blocks' parts in their order. So a cluster sends H n floats a block where all gates' gradients would be G H n numbers.
#include "persistent_backward.cuh"

// As in persistent_forward_cluster.cu.
#if defined(SOFTGPU) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

struct BackwardLayout {
    unsigned chunks, eights, columns, padded, members, units, stride;
    uint4* weights;           // as in Layout: row j, what this block's gates give to unit j
    float* parts;             // [tiles, 2, members, units, padded]: dh of this block's units from each block
    float* state;             // [tiles, cells, THREADS]
    unsigned char* stage;     // [columns, stride]: gradients of this block's gates, [gates, units] of a sequence
    CountedBarrier* arrived;  // [tiles, 2]
    unsigned* begun;          // [tiles]

    __device__ __forceinline__ BackwardLayout(unsigned chunks, unsigned rows, unsigned columns, unsigned members, unsigned units,
                                              unsigned tiles, unsigned cells)
        : chunks(chunks), eights((rows + 7) / 8), columns(columns), padded(columns == 8 ? 8 : columns + 8), members(members),
          units(units), stride((chunks | 1) * 64) {
        weights = dynamic_shared<uint4>();
        parts = reinterpret_cast<float*>(weights + chunks * eights * 32);
        state = parts + tiles * 2 * members * units * padded;
        stage = reinterpret_cast<unsigned char*>(state + tiles * cells * THREADS);
        arrived = reinterpret_cast<CountedBarrier*>(stage + columns * stride);
        begun = reinterpret_cast<unsigned*>(arrived + tiles * 2);
    }
    __device__ __forceinline__ float* part(unsigned tile, unsigned turn, unsigned member, unsigned unit) const {
        return parts + (((tile * 2 + turn % 2) * members + member) * units + unit) * padded;
    }
};

// This block's weights × the gradients of its gates in the stage, for TILES × 8 columns of which `valid` are there, stored at home.
template <class T, unsigned TILES>
__device__ __forceinline__ void send_parts(const BackwardLayout& shared, unsigned index, unsigned tile, unsigned turn, unsigned valid,
                                           bool exact) {
    constexpr unsigned ROWS = 2;
    const unsigned lane = lane_in_warp(), pairs = (shared.eights + 2 * ROWS - 1) / (2 * ROWS);
    CountedBarrier* arrived = shared.arrived + tile * 2 + turn % 2;
    // Each block begins elsewhere, lest all send to one at once.
    const unsigned turned = index * pairs / shared.members;
    for (unsigned i = warp_in_block(); i < pairs; i += WARPS) {
        const unsigned first = (i + turned < pairs ? i + turned : i + turned - pairs) * 2 * ROWS;
        const unsigned eights = min(shared.eights - first, 2 * ROWS);
        float sums[ROWS][TILES][4] = {};
#pragma unroll 2
        for (unsigned chunk = 0; chunk < shared.chunks; ++chunk) {
            uint4 b[TILES];
#pragma unroll
            for (unsigned n = 0; n < TILES; ++n) {
                const unsigned column = n * COLUMNS + lane / 4;
                b[n] = uint4{0, 0, 0, 0};
                if (column < valid) {
                    b[n] = *reinterpret_cast<const uint4*>(shared.stage + column * shared.stride + chunk * 64 + lane % 4 * 16);
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
                for (unsigned n = 0; n < TILES; ++n) multiply<T>(sums[m][n], low, high, b[n], exact);
            }
        }
        // Two lanes beside each other have two columns each of two rows, eight apart: each takes one row's four.
        const bool upper = lane % 2;
#pragma unroll
        for (unsigned m = 0; m < ROWS; ++m) {
            if (2 * m >= eights) break;
            const unsigned eight = first + 2 * m + upper, row = eight * 8 + lane / 4;
            const unsigned rank = eight * 8 / shared.units;
#pragma unroll
            for (unsigned n = 0; n < TILES; ++n) {
                const float(&d)[4] = sums[m][n];
                const float x = __shfl_xor_sync(full_warp, upper ? d[0] : d[2], 1), y = __shfl_xor_sync(full_warp, upper ? d[1] : d[3], 1);
                if (2 * m + upper >= eights) continue;
                const uint4 words{__float_as_uint(upper ? x : d[0]), __float_as_uint(upper ? y : d[1]),
                                  __float_as_uint(upper ? d[2] : x), __float_as_uint(upper ? d[3] : y)};
                float* to = shared.part(tile, turn, index, row - rank * shared.units) + n * COLUMNS + lane % 4 / 2 * 4;
                store_counted(reinterpret_cast<uint4*>(to), words, arrived, rank);
                MOVED(cluster_out, 16);
            }
        }
    }
}

template <class T, unsigned TILES>
__device__ __forceinline__ void backward_cluster(const PersistentBackward& p) {
    const Member<PersistentBackward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned cell = unsigned(p.cell), hidden = unsigned(p.hidden), units = unsigned(p.units);
    const unsigned members = unsigned(p.members), tiles = unsigned(p.tiles);
    const bool lstm = cell == CELL_LSTM || cell == CELL_LSTM_PEEPHOLE, gru = cell == CELL_GRU;
    // Columns of gates, and how many of them h was multiplied for: the first ones.
    const unsigned gates = lstm || gru ? 4 : 1, products = gru ? 3 : gates, depth = products * units;
    constexpr unsigned columns = TILES * COLUMNS, CELLS = ClusterOwn<TILES>::CELLS;
    const BackwardLayout shared((depth + CHUNK<T> - 1) / CHUNK<T>, hidden, columns, members, units, tiles, CELLS);
    // 16 bytes of each row and chunk: neighbours along the depth are this block's units, of one gate.
    for (unsigned i = threadIdx.x; i < shared.chunks * shared.eights * 32; i += THREADS) {
        const unsigned row = i / 32 % shared.eights * 8 + i % 32 / 4, k = i / 32 / shared.eights * CHUNK<T> + i % 4 * EACH<T>;
        const unsigned g = k / units, u = k % units;
        Vec<T, EACH<T>> values{};
        if (row < hidden && k < depth)
            for (unsigned j = 0; j < EACH<T> && u + j < me.units; ++j)
                values[j] = at<const T>(pass.weight)[(uint64_t(g) * hidden + me.first_unit + u + j) * hidden + row];
        store_vec<T, EACH<T>>(reinterpret_cast<T*>(shared.weights + i), values);
    }
    const ClusterOwn<TILES> own(units);
    const uint64_t unit = me.first_unit + own.unit;
    float peephole[3] = {};
    if (cell == CELL_LSTM_PEEPHOLE && own.unit < me.units)
#pragma unroll
        for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * p.hidden + unit]);
    // What no unit writes stays zero.
    for (unsigned i = threadIdx.x; i < columns * shared.stride / 16; i += THREADS)
        *reinterpret_cast<uint4*>(shared.stage + i * 16) = uint4{0, 0, 0, 0};
    if (threadIdx.x == 0)
#pragma unroll 1
        for (unsigned i = 0; i < tiles * 2; ++i) counted_init(shared.arrived + i, 1);
    // From each block all columns of this block's units, those up to a multiple of eight.
    const unsigned coming = members * min(units, shared.eights * 8 - me.first_unit) * columns * 4;
    cluster_sync();

    // Against the recurrence; behind the last step once more, for the gradients of the first states.
    const int64_t back = pass.reverse ? 1 : -1;
    int64_t t = pass.reverse ? 0 : int64_t(p.steps) - 1;
    Rows done(p, -1), now(p, t);
    for (unsigned s = 0; s <= unsigned(p.steps); ++s) {
        t += back;
        const Rows before(p, t);
        for (unsigned tile = 0; tile < tiles; ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned most = min(columns, me.last - begin), count = now.in(begin, most), later = done.in(begin, most);
            const unsigned earlier = before.in(begin, count);
            if (!count && !later) continue;
            const unsigned turn = later ? s - shared.begun[tile] : 0;
            if (!later && threadIdx.x == 0) shared.begun[tile] = s;
            // What is the thread's own comes while it waits for the others.
            Read read[CELLS] = {};
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const uint64_t n = begin + own.column(i);
                read_own<T>(read[i], p, pass, Turn<1>{false, false, lstm, gates}, now.first + n, before.first + n, n, unit,
                            own.column(i) < earlier);
            }
            if (later) {
                counted_wait(shared.arrived + tile * 2 + (turn + 1) % 2, (turn - 1) / 2 % 2);
                MOVED(acquires, 1);
            }
            // The stage is free.
            __syncthreads();
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!own.has(i, me.units, max(count, later))) continue;
                const unsigned column = own.column(i);
                const uint64_t n = begin + column, place = n * hidden + unit;
                float* state = shared.state + (tile * CELLS + i) * THREADS + threadIdx.x;
                float dh = 0, carried = 0;
                if (column < later) {
                    for (unsigned member = 0; member < members; ++member) dh += shared.part(tile, turn + 1, member, own.unit)[column];
                    MOVED(shared_in, members * 4);
                    carried = *state;
                    if (gru) dh += carried;
                } else {
                    dh = at<const float>(pass.dh)[place];
                    if (lstm) carried = at<const float>(pass.dc)[place];
                }
                if (column >= count) {
                    // The sequence begins after this step.
                    at<float>(pass.dh)[place] = dh;
                    if (lstm) at<float>(pass.dc)[place] = carried;
                    continue;
                }
                cell_backward(cell, read[i], peephole, dh + read[i].dy, carried);
                *state = carried;
                T* to = reinterpret_cast<T*>(shared.stage + column * shared.stride) + own.unit;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < products) {
                        to[g * units] = narrow<T>(read[i].a[g]);
                        MOVED(shared_out, sizeof(T));
                    }
            }
            if (!count) continue;
            __syncthreads();
            if (threadIdx.x == 0) counted_arrive_expect(shared.arrived + tile * 2 + turn % 2, coming);
            send_parts<T, TILES>(shared, me.index, tile, turn, count, p.exact);
            // Nobody in this launch waits for the rest.
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                T* to = at<T>(pass.gates) + (now.first + begin + own.column(i)) * gates * hidden + unit;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < gates) {
                        to[g * p.hidden] = narrow<T>(read[i].a[g]);
                        MOVED(global_out, sizeof(T));
                    }
            }
        }
        done = now, now = before;
    }
    // A block's shared memory stays until the last has sent.
    cluster_sync();
}

#define BACKWARD_OF(T, columns)                                                                                             \
    KERNEL_ALONE(persistent_backward_cluster##columns##_##T, PersistentBackward, 256) { backward_cluster<T, columns / 8>(p); }
#define BACKWARD(columns) BACKWARD_OF(f32, columns) BACKWARD_OF(f16, columns) BACKWARD_OF(bf16, columns)
BACKWARD(8)
BACKWARD(16)
BACKWARD(32)
#endif
