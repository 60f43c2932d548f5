// A layer's steps backward with one product each, in one cooperative launch; see persistent_once.cuh. A block owns up to 16 units: their
// columns of W_hh, as long as there are gates. A step moves, for each of its sequences, G H gradients of gates from L2 (every block reads
// all), and for each unit and sequence G activations, dy and two cell states in, G gradients of gates out twice.
#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "persistent_once.cuh"

// What a thread reads of its unit and one of its sequences while it waits.
struct Mine {
    float a[4], c, before, dy;  // before: c or h
};

// a: activations to gradients of the pre-activations; carried: dc (LSTM), or what reaches the earlier h past the product (GRU).
template <unsigned KIND>
__device__ __forceinline__ void cell_backward(Mine& r, const float (&peephole)[3], float dh, float& carried, bool variant) {
    if constexpr (KIND == RNN) {
        r.a[0] = variant ? elman_backward<true>(r.a[0], dh) : elman_backward<false>(r.a[0], dh);
    } else if constexpr (KIND == GRU) {
        carried = gru_backward(r.a[0], r.a[1], r.a[3], r.a[2], r.before, dh);
    } else {
        LstmUnit<float> u{r.a[0], r.a[1], r.a[2], r.a[3], r.c, 0.0f};
        if (variant) lstm_backward<true, Quick>(u, r.before, dh, carried, peephole);
        else lstm_backward<false, Quick>(u, r.before, dh, carried, peephole);
        r.a[0] = u.i, r.a[1] = u.f, r.a[2] = u.g, r.a[3] = u.o;
    }
}

template <class T, unsigned KIND, unsigned TILES>
__device__ __forceinline__ void backward(const PersistentBackward& p) {
    constexpr unsigned EIGHTS = 2, HELD = sizeof(T) == 4 ? 0 : TILES == 2 && KIND == LSTM ? 12 : 4 * PRODUCTS<KIND>, columns = TILES * COLUMNS;
    const Member<PersistentBackward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned hidden = unsigned(p.hidden), octets = p.units > 8 ? 2 : 1, tiles = unsigned(p.tiles);
    const unsigned padded = (hidden + CHUNK<T> - 1) / CHUNK<T> * CHUNK<T>, length = PRODUCTS<KIND> * padded, chunks = length / CHUNK<T>;
    const unsigned cells = 64 * octets * TILES;
    uint4* shared = dynamic_shared<uint4>();
    // What a unit gives to each gate, a column of the matrix.
    const Stretch<T, EIGHTS, HELD> stretch(
        chunks, shared, hidden, false,
        [&](unsigned eight, unsigned row, unsigned k) -> const T* {
            const unsigned u = eight * 8 + row;
            const T* weight = at<const T>(pass.weight) + me.first_unit + u;
            return u < me.units ? weight + (uint64_t(k / padded) * hidden + k % padded) * hidden : nullptr;
        },
        [&](unsigned k) { return k % padded < hidden ? min(hidden - k % padded, EACH<T>) : 0; });
    const Sums<1> sums{reinterpret_cast<float*>(shared + stretch.shared_words(chunks)), cells};
    float* states = sums.at + sums.floats(cells);  // [tiles, THREADS]

    const Cell cell(threadIdx.x, octets);
    const bool mine = threadIdx.x < cells && cell.unit < me.units;
    const uint64_t unit = me.first_unit + cell.unit;
    const bool variant = p.cell == CELL_RNN_RELU || p.cell == CELL_LSTM_PEEPHOLE;
    float peephole[3] = {};
    if (KIND == LSTM && variant && mine)
#pragma unroll
        for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * p.hidden + unit]);
    T* exchange = at<T>(pass.exchange);
    const unsigned char* own = reinterpret_cast<const unsigned char*>(exchange + stretch.begin * CHUNK<T> + lane_in_warp() % 4 * EACH<T>);
    const unsigned row_bytes = length * sizeof(T);
    T* gates_of = at<T>(pass.gates) + unit;
    const float* cells_of = at<const float>(pass.cells) + unit;
    const T *y_of = at<const T>(pass.y) + unit, *dy_of = at<const T>(pass.dy) + unit;

    // Against the recurrence; behind the last step once more, for the gradients of the first states.
    const int64_t back = pass.reverse ? 1 : -1;
    int64_t t = pass.reverse ? 0 : int64_t(p.steps) - 1;
    Rows done(p, -1), now(p, t);
    unsigned turn = 0;
#pragma unroll 1
    for (unsigned s = 0; s <= unsigned(p.steps); ++s) {
        t += back;
        const Rows before(p, t);
#pragma unroll 1
        for (unsigned tile = 0; tile < tiles; ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned most = min(columns, me.last - begin), count = now.in(begin, most), later = done.in(begin, most);
            const unsigned any = max(count, later);
            if (!any) break;
            const unsigned earlier = before.in(begin, count);
            // What is the thread's own comes while it waits for the others.
            const bool here = mine && cell.column < count, known = mine && cell.column < later;
            const uint64_t n = begin + cell.column, row = now.first + n, place = n * hidden + unit;
            Mine read{};
            float dh = 0, carried = 0;
            if (here) {
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) {
                    read.a[g] = widen(gates_of[(row * GATES<KIND> + g) * hidden]);
                    MOVED(global_in, sizeof(T));
                }
                const bool had = cell.column < earlier;
                const uint64_t row_before = before.first + n;
                if (KIND == LSTM) {
                    read.c = cells_of[row * hidden];
                    if (had) read.before = cells_of[row_before * hidden];
                    else if (pass.c_first) read.before = at<const float>(pass.c_first)[place];
                    MOVED(global_in, 8);
                }
                if (KIND == GRU) {
                    if (had) read.before = widen(y_of[row_before * p.stride]);
                    else if (pass.h_first) read.before = widen(at<const T>(pass.h_first)[place]);
                    MOVED(global_in, sizeof(T));
                }
                if (pass.dy) {
                    read.dy = widen(dy_of[row * p.stride]);
                    MOVED(global_in, sizeof(T));
                }
            }
            if (known) carried = states[tile * THREADS + threadIdx.x];
            else if (here) {
                dh = at<const float>(pass.dh)[place];
                if (KIND == LSTM) carried = at<const float>(pass.dc)[place];
            }
            if (later) {
                const unsigned char* from[TILES];
#pragma unroll
                for (unsigned i = 0; i < TILES; ++i)
                    from[i] = own + (done.first + begin + min(i * COLUMNS + lane_in_warp() / 4, later - 1)) * row_bytes;
                float products[1][TILES][4] = {};
                if (stretch.count) {
                    multiply_stretch(products, stretch, from, octets, p.exact);
                    sums.store(turn, products, octets);
                }
                __syncthreads();
                if (known) {
                    float total[1] = {};
                    sums.total(total, turn, stretch.parts, threadIdx.x);
                    dh = total[0];
                    if (KIND == GRU) dh += carried;
                }
                ++turn;
            }
            if (known && !here) {
                // The sequence begins after this step.
                at<float>(pass.dh)[place] = dh;
                if (KIND == LSTM) at<float>(pass.dc)[place] = carried;
            }
            if (here) cell_backward<KIND>(read, peephole, dh + read.dy, carried, variant);
            if (count && threadIdx.x < cells)
#pragma unroll
                for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) tell(exchange + row * length + g * padded + unit, read.a[g], cell.unit, here);
            // Nobody waits for the rest.
            if (!here) continue;
            if (KIND != RNN) states[tile * THREADS + threadIdx.x] = carried;
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) {
                gates_of[(row * GATES<KIND> + g) * hidden] = narrow<T>(read.a[g]);
                MOVED(global_out, sizeof(T));
            }
            MOVED(global_out, PRODUCTS<KIND> * sizeof(T));
            if (cell.column < earlier) {
                const uint64_t row_before = before.first + n;
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) prefetch_l2(gates_of + (row_before * GATES<KIND> + g) * hidden);
                if (pass.dy) prefetch_l2(dy_of + row_before * p.stride);
                // The row before that is not known yet; where all steps have the whole batch it is as far again.
                if (KIND == LSTM && row_before + row_before >= row) prefetch_l2(cells_of + (row_before + row_before - row) * hidden);
            }
        }
        done = now, now = before;
    }
}

#define BACKWARD_OF(T, kind, KIND, columns)                                                                                 \
    KERNEL_ALONE(persistent_backward_##kind##columns##_##T, PersistentBackward, 256) { backward<T, KIND, columns / 8>(p); }
#define BACKWARD(T, columns)                                                                                                \
    BACKWARD_OF(T, rnn, RNN, columns) BACKWARD_OF(T, lstm, LSTM, columns) BACKWARD_OF(T, gru, GRU, columns)
BACKWARD(f32, 8)
BACKWARD(f32, 16)
BACKWARD(f16, 8)
BACKWARD(f16, 16)
BACKWARD(bf16, 8)
BACKWARD(bf16, 16)
