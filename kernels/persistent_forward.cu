// A layer's steps forward, in one cooperative launch; see persistent.cuh. A block owns up to 16 units: G rows of W_hh each. A step
// moves, for each of its sequences, H elements of h from L2 (every block reads all), and for each unit and sequence G f32 of pre in
// and h out, in training G activations and c too; from shared memory the block's weights once for every tile of sequences.
#include "persistent_forward.cuh"

template <class T, unsigned TILES>
__device__ __forceinline__ void forward(const PersistentForward& p) {
    const Member<PersistentForward> me(p);
    const PersistentPass& pass = me.pass;
    const bool lstm = p.cell == CELL_LSTM || p.cell == CELL_LSTM_PEEPHOLE, gru = p.cell == CELL_GRU;
    const unsigned hidden = unsigned(p.hidden), units = unsigned(p.units), products = lstm ? 4 : gru ? 3 : 1;
    constexpr unsigned columns = TILES * COLUMNS;
    const Layout shared((hidden + CHUNK<T> - 1) / CHUNK<T>, products * units, columns);
    // Row g units + u: gate g of unit u.
    load_weights<T>(shared, products * units, hidden, 1, p.vector, [&](unsigned row, unsigned k) -> const T* {
        unsigned g = row / units, u = row % units;
        return u < me.units ? at<const T>(pass.weight) + (uint64_t(g) * hidden + me.first_unit + u) * hidden + k : nullptr;
    });
    const Own<TILES> own;
    const Unit<T> unit(p, pass, me.first_unit + own.unit, own.unit < me.units);
    __syncthreads();

    const int64_t forth = pass.reverse ? -1 : 1;
    int64_t t = pass.reverse ? int64_t(p.steps) - 1 : 0;
    Rows before(p, -1), now(p, t);
    for (unsigned s = 0; s < unsigned(p.steps); ++s) {
        t += forth;
        const Rows next(p, t);
        for (unsigned tile = 0; tile < unsigned(p.tiles); ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned count = now.in(begin, min(columns, me.last - begin)), earlier = min(before.in(begin, columns), count);
            if (!count) continue;
            // What is the thread's own comes while it waits for the others.
            float pre[Own<TILES>::CELLS][4] = {};
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const float* from = at<const float>(pass.pre) + (now.first + begin + own.column(i)) * unit.gates * p.hidden + unit.at;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (unit.from_input(g)) {
                        pre[i][g] = from[g * p.hidden];
                        MOVED(global_in, 4);
                    }
            }
            unsigned warps = 0;
            if (earlier || pass.h_first) {
                const T* y = at<const T>(pass.y) + (before.first + begin) * p.stride;
                const T* first = pass.h_first ? at<const T>(pass.h_first) + uint64_t(begin) * hidden : nullptr;
                warps = product<T, TILES, 4>(p, shared, hidden, me.flags + tile * p.members, earlier ? s : 0, [&](unsigned column) {
                    if (column < earlier) return y + column * p.stride;
                    return first && column < count ? first + uint64_t(column) * hidden : nullptr;
                });
                __syncthreads();
            }
            float carried[Own<TILES>::CELLS] = {};
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const unsigned column = own.column(i);
                float* state = shared.state + (tile * Own<TILES>::CELLS + i) * THREADS + threadIdx.x;
                const uint64_t n = begin + column;
                if (column < earlier) carried[i] = *state;
                else if (lstm) carried[i] = pass.c_first ? at<const float>(pass.c_first)[n * hidden + unit.at] : 0.0f;
                else carried[i] = gru && pass.h_first ? widen(at<const T>(pass.h_first)[n * hidden + unit.at]) : 0.0f;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < unit.gates) pre[i][g] += unit.bias[g];
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < products) pre[i][g] += total(shared, warps, g * units + own.unit, column);
                const float h = cell_forward<T>(unit, pre[i], carried[i]);
                *state = carried[i];
                at<T>(pass.y)[(now.first + n) * p.stride + unit.at] = narrow<T>(h);
                MOVED(global_out, sizeof(T));
            }
            release(me.flags + tile * p.members + me.index, s + 1);
            // Nobody waits for the rest.
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const uint64_t n = begin + own.column(i), row = now.first + n;
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
}

#define FORWARD_OF(T, columns)                                                                                              \
    KERNEL_ALONE(persistent_forward##columns##_##T, PersistentForward, 256) { forward<T, columns / 8>(p); }
#define FORWARD(columns) FORWARD_OF(f32, columns) FORWARD_OF(f16, columns) FORWARD_OF(bf16, columns)
FORWARD(8)
FORWARD(16)
FORWARD(32)
