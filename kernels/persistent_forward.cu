// A layer's steps forward with one product each, in one cooperative launch; see persistent_once.cuh. A block owns up to 16 units: G rows
// of W_hh each. A step moves, for each of its sequences, H elements of h from L2 (every block reads all), and for each unit and sequence
// G f32 of pre in and h out twice, in training G activations and c too.
#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "persistent_once.cuh"

// a: pre-activations to activations; carried: the cell state (LSTM) or h before (GRU); returns h. variant: peepholes, or ReLU.
template <class T, unsigned KIND>
__device__ __forceinline__ float cell_forward(float (&a)[4], float& carried, const float (&peephole)[3], bool variant) {
    if constexpr (KIND == RNN) {
        return a[0] = variant ? elman<true, Quick>(a[0]) : elman<false, Quick>(a[0]);
    } else if constexpr (KIND == GRU) {
        return carried = widen(narrow<T>(gru<Quick>(a[0], a[1], a[3], a[2], carried)));
    } else {
        LstmUnit<float> u{a[0], a[1], a[2], a[3], carried, 0.0f};
        if (variant) lstm<true, Quick>(u, peephole);
        else lstm<false, Quick>(u, peephole);
        a[0] = u.i, a[1] = u.f, a[2] = u.g, a[3] = u.o;
        carried = u.c;
        return u.h;
    }
}

template <class T, unsigned KIND, unsigned TILES>
__device__ __forceinline__ void forward(const PersistentForward& p) {
    constexpr unsigned EIGHTS = 2 * PRODUCTS<KIND>, HELD = sizeof(T) == 4 ? 0 : 4, V = KIND == RNN ? 1 : 4, columns = TILES * COLUMNS;
    const Member<PersistentForward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned hidden = unsigned(p.hidden), octets = p.units > 8 ? 2 : 1, tiles = unsigned(p.tiles);
    const unsigned chunks = (hidden + CHUNK<T> - 1) / CHUNK<T>, length = chunks * CHUNK<T>;
    const unsigned cells = 64 * octets * TILES;
    uint4* shared = dynamic_shared<uint4>();
    // Eight g, or with two octets g + G: gate g of eight units.
    const Stretch<T, EIGHTS, HELD> stretch(
        chunks, shared, 1, p.vector,
        [&](unsigned eight, unsigned row, unsigned k) -> const T* {
            const unsigned g = eight % PRODUCTS<KIND>, u = eight / PRODUCTS<KIND> * 8 + row;
            return u < me.units ? at<const T>(pass.weight) + (uint64_t(g) * hidden + me.first_unit + u) * hidden + k : nullptr;
        },
        [&](unsigned k) { return k < hidden ? min(hidden - k, EACH<T>) : 0; });
    const Sums<V> sums{reinterpret_cast<float*>(shared + stretch.shared_words(chunks)), cells};
    float* states = sums.at + sums.floats(cells);  // [tiles, THREADS]: what each thread carries from step to step

    const Cell cell(threadIdx.x, octets);
    const bool mine = threadIdx.x < cells && cell.unit < me.units;
    const uint64_t unit = me.first_unit + cell.unit;
    const bool variant = p.cell == CELL_RNN_RELU || p.cell == CELL_LSTM_PEEPHOLE;
    float bias[GATES<KIND>] = {}, peephole[3] = {};
    if (mine) {
#pragma unroll
        for (unsigned g = 0; g < GATES<KIND>; ++g) bias[g] = at<const float>(pass.bias)[g * hidden + unit];
        if (KIND == LSTM && variant)
#pragma unroll
            for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * hidden + unit]);
    }
    const float* pre_of = at<const float>(pass.pre) + unit;
    T* gates_of = at<T>(pass.gates) + unit;
    T* exchange = at<T>(pass.exchange);
    const unsigned char* own = reinterpret_cast<const unsigned char*>(exchange + stretch.begin * CHUNK<T> + lane_in_warp() % 4 * EACH<T>);
    const unsigned char* initial =
        reinterpret_cast<const unsigned char*>(at<const T>(pass.initial) + stretch.begin * CHUNK<T> + lane_in_warp() % 4 * EACH<T>);
    const unsigned row_bytes = length * sizeof(T);
    auto from_input = [](unsigned g) { return KIND != GRU || g != 2; };

    const int64_t forth = pass.reverse ? -1 : 1;
    int64_t t = pass.reverse ? int64_t(p.steps) - 1 : 0;
    Rows before(p, -1), now(p, t);
    unsigned turn = 0;
#pragma unroll 1
    for (unsigned s = 0; s < unsigned(p.steps); ++s) {
        t += forth;
        const Rows next(p, t);
#pragma unroll 1
        for (unsigned tile = 0; tile < tiles; ++tile) {
            const unsigned begin = me.first + tile * columns;
            if (begin >= me.last) break;
            const unsigned count = now.in(begin, min(columns, me.last - begin)), earlier = min(before.in(begin, columns), count);
            if (!count) break;
            // Columns beyond the last are like it, and nobody's.
            const unsigned char* from[TILES];
#pragma unroll
            for (unsigned i = 0; i < TILES; ++i) {
                const unsigned column = min(i * COLUMNS + lane_in_warp() / 4, count - 1);
                from[i] = column < earlier ? own + (before.first + begin + column) * row_bytes : initial + uint64_t(begin + column) * row_bytes;
            }
            // What is the thread's own comes while it waits for the others.
            const bool here = mine && cell.column < count;
            const uint64_t n = begin + cell.column, row = now.first + n;
            float a[4] = {}, carried = 0;
            if (here) {
                const float* pre = pre_of + row * GATES<KIND> * hidden;
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g)
                    if (from_input(g)) {
                        a[g] = pre[g * hidden];
                        MOVED(global_in, 4);
                    }
                if (cell.column < earlier) carried = states[tile * THREADS + threadIdx.x];
                else if (KIND == LSTM) carried = pass.c_first ? at<const float>(pass.c_first)[n * hidden + unit] : 0.0f;
                else if (KIND == GRU) carried = pass.h_first ? widen(at<const T>(pass.h_first)[n * hidden + unit]) : 0.0f;
            }
            float products[Sixteens<EIGHTS>::count][TILES][4] = {};
            if (stretch.count) {
                multiply_stretch(products, stretch, from, octets, p.exact);
                sums.store(turn, products, octets);
            }
            __syncthreads();
            float h = 0;
            if (here) {
                float total[V] = {};
                sums.total(total, turn, stretch.parts, threadIdx.x);
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) a[g] += bias[g];
#pragma unroll
                for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) a[g] += total[g % V];
                h = cell_forward<T, KIND>(a, carried, peephole, variant);
            }
            if (threadIdx.x < cells) tell(exchange + row * length + unit, h, cell.unit, here);
            ++turn;
            // Nobody waits for the rest.
            if (!here) continue;
            MOVED(global_out, 2 * sizeof(T));
            if (KIND != RNN) states[tile * THREADS + threadIdx.x] = carried;
            at<T>(pass.y)[row * p.stride + unit] = narrow<T>(h);
            if (p.training) {
                T* gates = gates_of + row * GATES<KIND> * hidden;
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) {
                    gates[g * hidden] = narrow<T>(a[g]);
                    MOVED(global_out, sizeof(T));
                }
            }
            if (KIND == LSTM && (p.training || n >= next.count)) {
                at<float>(pass.cells)[(p.training ? row : n) * hidden + unit] = carried;
                MOVED(global_out, 4);
            }
            if (n < next.count) {
                const float* pre = pre_of + (next.first + n) * GATES<KIND> * hidden;
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g)
                    if (from_input(g)) prefetch_l2(pre + g * hidden);
            }
        }
        before = now, now = next;
    }
}

#define FORWARD_OF(T, kind, KIND, columns)                                                                                  \
    KERNEL_ALONE(persistent_forward_##kind##columns##_##T, PersistentForward, 256) { forward<T, KIND, columns / 8>(p); }
#define FORWARD(T, columns)                                                                                                 \
    FORWARD_OF(T, rnn, RNN, columns) FORWARD_OF(T, lstm, LSTM, columns) FORWARD_OF(T, gru, GRU, columns)
FORWARD(f32, 8)
FORWARD(f32, 16)
FORWARD(f16, 8)
FORWARD(f16, 16)
FORWARD(bf16, 8)
FORWARD(bf16, 16)
