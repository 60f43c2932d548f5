// A layer's steps forward, in one cooperative launch; see persistent.cuh. A block owns up to 16 units: G rows of W_hh each. A step
// moves, for each of its sequences, H elements of h from L2 (every block reads all), and for each unit and sequence G f32 of pre in
// and h out, in training G activations and c too; from shared memory the block's weights once for every tile of sequences. Of two
// products the second moves H elements more, of r h or of what is projected, and those out once.
#include "persistent_forward.cuh"

template <class T, unsigned TILES>
__device__ __forceinline__ void forward(const PersistentForward& p) {
    const Member<PersistentForward> me(p);
    const PersistentPass& pass = me.pass;
    const bool lstm = p.cell == CELL_LSTM || p.cell == CELL_LSTM_PEEPHOLE, gru = p.cell == CELL_GRU;
    const bool reset = p.cell == CELL_GRU_RESET_BEFORE;
    const unsigned hidden = unsigned(p.hidden), units = unsigned(p.units), products = lstm ? 4 : gru ? 3 : reset ? 2 : 1;
    const unsigned output = unsigned(p.output), outputs = unsigned(p.outputs);
    const Share of_units(me.index, units, hidden), of_outputs(me.index, outputs, output);
    constexpr unsigned columns = TILES * COLUMNS;
    const Layouts layouts((output + CHUNK<T> - 1) / CHUNK<T>, products * units, columns, (hidden + CHUNK<T> - 1) / CHUNK<T>, outputs);
    // Row g units + u: gate g of unit u.
    load_weights<T>(layouts, products * units, output, 1, p.vector, [&](unsigned row, unsigned k) -> const T* {
        unsigned g = row / units, u = row % units;
        return u < me.units ? at<const T>(pass.weight) + (uint64_t(g) * hidden + me.first_unit + u) * output + k : nullptr;
    });
    load_weights<T>(layouts.of(true), of_outputs.count, hidden, 1, p.vector, [&](unsigned row, unsigned k) {
        return at<const T>(pass.weight_second) + uint64_t(of_outputs.first + row) * hidden + k;
    });
    const Depth states{output, output, outputs, (output + outputs - 1) / outputs}, made{hidden, hidden, units, unsigned(p.members)};
    const Own<TILES> own;
    const Unit<T, 2> unit(p, pass, me.first_unit + own.unit, own.unit < me.units);
    __syncthreads();

    const int64_t forth = pass.reverse ? -1 : 1;
    int64_t t = pass.reverse ? int64_t(p.steps) - 1 : 0;
    Rows before(p, -1), now(p, t);
    for (unsigned turn = 0; turn < 2 * unsigned(p.steps); ++turn) {
        const bool second = turn % 2;
        if (!second) t += forth;
        const Rows next(p, t);
        const Layout shared = layouts.of(second);
        const Share mine = second ? of_outputs : of_units;
        for (unsigned tile = 0; tile < unsigned(p.tiles); ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned count = now.in(begin, min(columns, me.last - begin)), earlier = min(before.in(begin, columns), count);
            if (!count) continue;
            // What is the thread's own comes while it waits for the others.
            float pre[Own<TILES>::CELLS][4] = {};
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, mine.count, count)) continue;
                const float* from = at<const float>(pass.pre) + (now.first + begin + own.column(i)) * unit.gates * p.hidden + unit.at;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (unit.from_input(g, second)) {
                        pre[i][g] = from[g * p.hidden];
                        MOVED(global_in, 4);
                    }
            }
            // Without a state before, r h is zero; what is projected is not.
            const unsigned there = second && !(reset && !pass.h_first) ? count : earlier;
            const T* first = pass.h_first && !second ? at<const T>(pass.h_first) + uint64_t(begin) * output : nullptr;
            unsigned warps = 0;
            if (there || first) {
                const T* from = second ? at<const T>(pass.kept) + (now.first + begin) * hidden
                                       : at<const T>(pass.y) + (before.first + begin) * p.stride;
                const uint64_t row = second ? hidden : p.stride;
                const unsigned* flags = me.flags + tile * p.members;
                const Depth depth = depth_of(second, states, made);
                warps = product<T, TILES, 4>(p, shared, depth, flags, there ? turn : 0, [&](unsigned column) {
                    if (column < there) return from + column * row;
                    return first && column < count ? first + uint64_t(column) * output : nullptr;
                });
                __syncthreads();
            }
            float carried[Own<TILES>::CELLS] = {};
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, mine.count, count)) continue;
                const unsigned column = own.column(i);
                float* state = shared.state + (tile * Own<TILES>::CELLS + i) * THREADS + threadIdx.x;
                float* update = state + p.tiles * Own<TILES>::CELLS * THREADS;
                const uint64_t n = begin + column;
                if (column < earlier || second) carried[i] = *state;
                else if (lstm) carried[i] = pass.c_first ? at<const float>(pass.c_first)[n * hidden + unit.at] : 0.0f;
                else carried[i] = (gru || reset) && pass.h_first ? widen(at<const T>(pass.h_first)[n * hidden + unit.at]) : 0.0f;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (unit.has(g, second)) pre[i][g] += unit.bias[g];
                // The second product's rows are of one gate, or of none.
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (!second ? g < products : reset ? g == 2 : g == 0)
                        pre[i][g] += total(shared, warps, (second ? 0 : g * units) + own.unit, column);
                float h = pre[i][0];
                if (reset || !second) {
                    if (reset && second) pre[i][1] = *update;
                    h = cell_forward(unit, pre[i], carried[i], second);
                    *state = carried[i];
                    if (reset && !second) *update = pre[i][1];
                }
                T* to = second ? at<T>(pass.y) + (now.first + n) * p.stride : at<T>(pass.kept) + (now.first + n) * hidden;
                to[mine.first + own.unit] = narrow<T>(h);
                MOVED(global_out, sizeof(T));
            }
            release(me.flags + tile * p.members + me.index, turn + 1);
            // Nobody waits for the rest.
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, mine.count, count)) continue;
                const uint64_t n = begin + own.column(i), row = now.first + n;
                if (p.training) {
                    T* gates = at<T>(pass.gates) + row * unit.gates * hidden + unit.at;
#pragma unroll
                    for (unsigned g = 0; g < 4; ++g)
                        if (unit.has(g, second)) {
                            gates[g * p.hidden] = narrow<T>(pre[i][g]);
                            MOVED(global_out, sizeof(T));
                        }
                }
                if (lstm && !second && (p.training || n >= next.count)) {
                    at<float>(pass.cells)[(p.training ? row : n) * hidden + unit.at] = carried[i];
                    MOVED(global_out, 4);
                }
            }
        }
        if (second) before = now, now = next;
    }
}

#define FORWARD_OF(T, columns)                                                                                              \
    KERNEL_ALONE(persistent_forward_two##columns##_##T, PersistentForward, 256) { forward<T, columns / 8>(p); }
#define FORWARD(columns) FORWARD_OF(f32, columns) FORWARD_OF(f16, columns) FORWARD_OF(bf16, columns)
FORWARD(8)
FORWARD(16)
FORWARD(32)
