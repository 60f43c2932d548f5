// A layer's steps backward, in one cooperative launch; see persistent.cuh. A block owns up to 16 units: their columns of W_hh, as
// long as there are gates. A step moves, for each of its sequences, G H gradients of gates from L2 (every block reads all), and for
// each unit and sequence G activations, dy and two cell states in, G gradients of gates out; from shared memory the block's weights
// once for every tile of sequences. Where a step has two products, a block also keeps the second's columns that its units
// are multiplied with, and the first's are those of its share of h.
#include "persistent_backward.cuh"

template <class T, unsigned TILES>
__device__ __forceinline__ void backward(const PersistentBackward& p) {
    const Member<PersistentBackward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned cell = unsigned(p.cell), hidden = unsigned(p.hidden);
    const bool lstm = cell == CELL_LSTM || cell == CELL_LSTM_PEEPHOLE, gru = cell == CELL_GRU;
    const bool reset = cell == CELL_GRU_RESET_BEFORE, projected = lstm;
    // Columns of gates, and how many of them h was multiplied for: the first ones.
    const unsigned gates = lstm || gru ? 4 : reset ? 3 : 1, units = unsigned(p.units), members = unsigned(p.members);
    const unsigned output = unsigned(p.output), outputs = unsigned(p.outputs);
    const Share of_units(me.index, units, hidden), of_outputs(me.index, outputs, output);
    // Gradients of gates, and of what the second product has made: of the third gate, or of h.
    const Depth of_gates{(gru ? 3 : reset ? 2 : gates) * hidden, hidden, units, members};
    const Depth of_h{output, output, outputs, (output + outputs - 1) / outputs};
    const Depth of_second = depth_of(reset, of_h, {hidden, hidden, units, members});
    constexpr unsigned columns = TILES * COLUMNS;
    const Layouts layouts((of_gates.all + CHUNK<T> - 1) / CHUNK<T>, outputs, columns, (of_second.all + CHUNK<T> - 1) / CHUNK<T>, units);
    // Row u: what unit u gives to each gate, a column of the matrix.
    load_weights<T>(layouts, of_outputs.count, of_gates.all, output, false, [&](unsigned row, unsigned k) {
        return at<const T>(pass.weight) + uint64_t(k) * output + of_outputs.first + row;
    });
    load_weights<T>(layouts.of(true), me.units, of_second.all, hidden, false, [&](unsigned row, unsigned k) {
        return at<const T>(pass.weight_second) + uint64_t(k) * hidden + me.first_unit + row;
    });
    const Own<TILES> own;
    float peephole[3] = {};
    if (cell == CELL_LSTM_PEEPHOLE && own.unit < me.units)
#pragma unroll
        for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * p.hidden + me.first_unit + own.unit]);
    __syncthreads();

    // Against the recurrence; behind the last step once more, for the gradients of the first states.
    const int64_t back = pass.reverse ? 1 : -1;
    int64_t t = pass.reverse ? 0 : int64_t(p.steps) - 1;
    Rows done(p, -1), now(p, t);
    for (unsigned turn = 0; turn < 2 * (unsigned(p.steps) + 1); ++turn) {
        const Turn<2> now_is{turn % 2 != 0, reset, lstm, gates};
        const bool second = now_is.second;
        if (!second) t += back;
        const Rows before(p, t);
        const Layout shared = layouts.of(second);
        const Share mine = second ? of_units : of_outputs;
        const uint64_t unit = mine.first + own.unit;
        for (unsigned tile = 0; tile < unsigned(p.tiles); ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned most = min(columns, me.last - begin), count = now.in(begin, most), later = done.in(begin, most);
            const unsigned earlier = before.in(begin, count), any = reset && second ? count : max(count, later);
            if (!any) continue;
            // What is the thread's own comes while it waits for the others.
            Read read[Own<TILES>::CELLS] = {};
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, mine.count, count)) continue;
                const uint64_t n = begin + own.column(i);
                read_own<T>(read[i], p, pass, now_is, now.first + n, before.first + n, n, unit, own.column(i) < earlier);
            }
            unsigned warps = 0;
            const unsigned there = second ? count : later;
            if (there) {
                const uint64_t row = second && projected ? output : uint64_t(gates) * hidden;
                const T* from = (second && projected ? at<const T>(pass.kept) : at<const T>(pass.gates) + (second ? 2 * p.hidden : 0)) +
                                ((second ? now.first : done.first) + begin) * row;
                const Depth depth = depth_of(second, of_gates, of_second);
                warps = product<T, TILES, 1>(p, shared, depth, me.flags + tile * p.members, turn, [&](unsigned column) {
                    return column < there ? from + column * row : nullptr;
                });
                __syncthreads();
            }
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, mine.count, any)) continue;
                const unsigned column = own.column(i);
                const uint64_t n = begin + column, place = n * (projected && !second ? output : hidden) + unit;
                float* state = shared.state + (tile * Own<TILES>::CELLS + i) * THREADS + threadIdx.x;
                float dh, carried = 0;
                if (column < later || second) dh = total(shared, warps, own.unit, column);
                else dh = at<const float>(pass.dh)[place];
                if (column < later || (reset && second)) {
                    carried = *state;
                    if (gru || (reset && !second)) dh += carried;
                } else if (now_is.cells()) {
                    carried = at<const float>(pass.dc)[place];
                }
                if (column >= count) {
                    // The sequence begins after this step.
                    if (!second) at<float>(pass.dh)[place] = dh;
                    if (now_is.cells()) at<float>(pass.dc)[place] = carried;
                    continue;
                }
                dh += read[i].dy;
                if (projected && !second) {
                    at<T>(pass.kept)[(now.first + n) * output + unit] = narrow<T>(dh);
                    MOVED(global_out, sizeof(T));
                    continue;
                }
                cell_backward<2>(cell, read[i], peephole, dh, carried, second);
                *state = carried;
                T* to = at<T>(pass.gates) + (now.first + n) * gates * hidden + unit;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (now_is.has(g)) {
                        to[g * p.hidden] = narrow<T>(read[i].a[g]);
                        MOVED(global_out, sizeof(T));
                    }
            }
            if (count) release(me.flags + tile * p.members + me.index, turn + 1);
            else __syncthreads();
        }
        if (second) done = now, now = before;
    }
}

#define BACKWARD_OF(T, columns)                                                                                             \
    KERNEL_ALONE(persistent_backward_two##columns##_##T, PersistentBackward, 256) { backward<T, columns / 8>(p); }
#define BACKWARD(columns) BACKWARD_OF(f32, columns) BACKWARD_OF(f16, columns) BACKWARD_OF(bf16, columns)
BACKWARD(8)
BACKWARD(16)
BACKWARD(32)
