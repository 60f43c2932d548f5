// A layer's steps backward, in one cooperative launch; see persistent.cuh. A block owns up to 16 units: their columns of W_hh, as
// long as there are gates. A step moves, for each of its sequences, G H gradients of gates from L2 (every block reads all), and for
// each unit and sequence G activations, dy and two cell states in, G gradients of gates out; from shared memory the block's weights
// once for every tile of sequences.
#include "persistent_backward.cuh"

template <class T, unsigned TILES>
__device__ __forceinline__ void backward(const PersistentBackward& p) {
    const Member<PersistentBackward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned cell = unsigned(p.cell), hidden = unsigned(p.hidden);
    const bool lstm = cell == CELL_LSTM || cell == CELL_LSTM_PEEPHOLE, gru = cell == CELL_GRU;
    // Columns of gates, and how many of them h was multiplied for: the first ones.
    const unsigned gates = lstm || gru ? 4 : 1, depth = (gru ? 3 : gates) * hidden;
    constexpr unsigned columns = TILES * COLUMNS;
    const Layout shared((depth + CHUNK<T> - 1) / CHUNK<T>, unsigned(p.units), columns);
    // Row u: what unit u gives to each gate, a column of the matrix.
    load_weights<T>(shared, me.units, depth, hidden, false, [&](unsigned row, unsigned k) {
        return at<const T>(pass.weight) + uint64_t(k) * hidden + me.first_unit + row;
    });
    const Own<TILES> own;
    const uint64_t unit = me.first_unit + own.unit;
    float peephole[3] = {};
    if (cell == CELL_LSTM_PEEPHOLE && own.unit < me.units)
#pragma unroll
        for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * p.hidden + unit]);
    __syncthreads();

    // Against the recurrence; behind the last step once more, for the gradients of the first states.
    const int64_t back = pass.reverse ? 1 : -1;
    int64_t t = pass.reverse ? 0 : int64_t(p.steps) - 1;
    Rows done(p, -1), now(p, t);
    for (unsigned s = 0; s <= unsigned(p.steps); ++s) {
        t += back;
        const Rows before(p, t);
        for (unsigned tile = 0; tile < unsigned(p.tiles); ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned most = min(columns, me.last - begin), count = now.in(begin, most), later = done.in(begin, most);
            const unsigned earlier = before.in(begin, count);
            if (!count && !later) continue;
            // What is the thread's own comes while it waits for the others.
            Read read[Own<TILES>::CELLS] = {};
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, me.units, count)) continue;
                const uint64_t n = begin + own.column(i);
                read_own<T>(read[i], p, pass, gates, now.first + n, before.first + n, n, unit, own.column(i) < earlier);
            }
            unsigned warps = 0;
            if (later) {
                const uint64_t row = uint64_t(gates) * hidden;
                const T* from = at<const T>(pass.gates) + (done.first + begin) * row;
                warps = product<T, TILES, 1>(p, shared, depth, me.flags + tile * p.members, s, [&](unsigned column) {
                    return column < later ? from + column * row : nullptr;
                });
                __syncthreads();
            }
#pragma unroll
            for (unsigned i = 0; i < Own<TILES>::CELLS; ++i) {
                if (!own.has(i, me.units, max(count, later))) continue;
                const unsigned column = own.column(i);
                const uint64_t n = begin + column, place = n * hidden + unit;
                float* state = shared.state + (tile * Own<TILES>::CELLS + i) * THREADS + threadIdx.x;
                float dh, carried = 0;
                if (column < later) {
                    dh = total(shared, warps, own.unit, column);
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
                T* to = at<T>(pass.gates) + (now.first + n) * gates * hidden + unit;
#pragma unroll
                for (unsigned g = 0; g < 4; ++g)
                    if (g < gates) {
                        to[g * p.hidden] = narrow<T>(read[i].a[g]);
                        MOVED(global_out, sizeof(T));
                    }
            }
            if (count) release(me.flags + tile * p.members + me.index, s + 1);
            else __syncthreads();
        }
        done = now, now = before;
    }
}

#define BACKWARD_OF(T, columns)                                                                                             \
    KERNEL_ALONE(persistent_backward##columns##_##T, PersistentBackward, 256) { backward<T, columns / 8>(p); }
#define BACKWARD(columns) BACKWARD_OF(f32, columns) BACKWARD_OF(f16, columns) BACKWARD_OF(bf16, columns)
BACKWARD(8)
BACKWARD(16)
BACKWARD(32)
