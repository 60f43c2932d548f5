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
    constexpr unsigned EIGHTS = 2 * PRODUCTS<KIND>, V = KIND == RNN ? 1 : 4, columns = TILES * COLUMNS;
    // As many chunks as registers hold; and a thread's cells.
    constexpr unsigned HELD = sizeof(T) == 4 ? 0 : TILES == 4 ? 2 : 4, CELLS = TILES == 4 ? 2 : 1;
    const Member<PersistentForward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned hidden = unsigned(p.hidden), octets = p.units > 8 ? 2 : 1, tiles = unsigned(p.tiles);
    const unsigned chunks = (hidden + CHUNK<T> - 1) / CHUNK<T>, length = chunks * CHUNK<T>, row_bytes = length * sizeof(T);
    const unsigned cells = 64 * octets * TILES;
    uint4* shared = dynamic_shared<uint4>();
    // Eight g, or with two octets g + G: gate g of eight units.
    const Stretch<T, EIGHTS, HELD> stretch(
        chunks, chunks, octets * PRODUCTS<KIND>, shared, 1, p.vector,
        [&](unsigned eight, unsigned row, unsigned k) -> const T* {
            const unsigned g = eight % PRODUCTS<KIND>, u = eight / PRODUCTS<KIND> * 8 + row;
            return u < me.units ? at<const T>(pass.weight) + (uint64_t(g) * hidden + me.first_unit + u) * hidden + k : nullptr;
        },
        [&](unsigned k) { return k < hidden ? min(hidden - k, EACH<T>) : 0; });
    float* of_sums = reinterpret_cast<float*>(shared + stretch.shared_words());
    const Sums<V> sums(of_sums, cells);
    // [tiles, CELLS, THREADS]: what each thread carries from step to step.
    const SharedPlace states = SharedPlace(of_sums + sums.floats(cells)) + threadIdx.x * 4;

    // The i-th of a thread's cells. Who has none does as if it had the last, and stores nothing.
    auto cell_of = [&](unsigned i) { return Cell(threadIdx.x + i * THREADS, octets); };
    auto has = [&](unsigned i) { return warp_in_block() * 32 + i * THREADS < cells; };
    // All of a thread's cells are of one unit.
    const unsigned own_unit = me.first_unit + min(Cell(threadIdx.x, octets).unit, me.units - 1);
    auto unit_of = [&](unsigned) { return own_unit; };
    const float* pre_of = at<const float>(pass.pre) + own_unit;
    const bool variant = p.cell == CELL_RNN_RELU || p.cell == CELL_LSTM_PEEPHOLE;
    T* exchange = at<T>(pass.exchange);
    const unsigned part = stretch.begin * CHUNK<T> + lane_in_warp() % 4 * EACH<T>;
    const unsigned char* own = reinterpret_cast<const unsigned char*>(exchange + part);
    const unsigned char* initial = reinterpret_cast<const unsigned char*>(at<const T>(pass.initial) + part);
    // Read in every turn where registers are few.
    constexpr bool KEPT = TILES == 1;
    float bias[GATES<KIND>];
    auto load_bias = [&] {
#pragma unroll
        for (unsigned g = 0; g < GATES<KIND>; ++g) bias[g] = at<const float>(pass.bias)[g * hidden + own_unit];
    };
    if (KEPT) load_bias();
    auto from_input = [](unsigned g) { return KIND != GRU || g != 2; };
    // Sequences of a tile.
    auto count_of = [&](const StepRows& now, unsigned tile) {
        const unsigned begin = me.first + tile * columns;
        return begin < me.last ? now.in(begin, min(columns, me.last - begin)) : 0;
    };
    // Where a lane reads of a tile's states. Columns beyond the last are like it, and nobody's.
    auto rows_of = [&](const unsigned char* (&from)[TILES], unsigned first, unsigned begin, unsigned count, unsigned earlier) {
#pragma unroll
        for (unsigned i = 0; i < TILES; ++i) {
            const unsigned column = min(i * COLUMNS + lane_in_warp() / 4, count - 1);
            from[i] = column < earlier ? own + uint64_t(first + begin + column) * row_bytes : initial + uint64_t(begin + column) * row_bytes;
        }
    };
    __syncthreads();

    const int forth = pass.reverse ? -1 : 1;
    int t = pass.reverse ? int(p.steps) - 1 : 0;
    StepRows before(p, -1), now(p, t), next(p, -1);
    unsigned turn = 0;
    // What is left to do of a turn once the others have what they wait for; done while the next turn waits.
    float a[CELLS][4] = {}, h[CELLS] = {}, carried[CELLS] = {};
    unsigned row[CELLS] = {}, n[CELLS] = {};
    bool due[CELLS] = {}, goes_on[CELLS] = {};
    Batches<HELD, TILES> rows;
    bool ahead = false;  // whether loads for this turn are under way
    auto finish = [&](unsigned i, unsigned first_next) {
        if (!due[i]) return;
        const unsigned unit = unit_of(i);
        MOVED(global_out, 2 * sizeof(T));
        at<T>(pass.y)[uint64_t(row[i]) * p.stride + unit] = narrow<T>(h[i]);
        if (p.training) {
            T* gates = at<T>(pass.gates) + uint64_t(row[i]) * (GATES<KIND> * hidden) + unit;
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) {
                gates[g * hidden] = narrow<T>(a[i][g]);
                MOVED(global_out, sizeof(T));
            }
        }
        if (KIND == LSTM && (p.training || !goes_on[i])) {
            at<float>(pass.cells)[uint64_t(p.training ? row[i] : n[i]) * hidden + unit] = carried[i];
            MOVED(global_out, 4);
        }
        if (goes_on[i]) {
            const unsigned row_next = first_next + n[i];
            const float* pre = pre_of + uint64_t(row_next) * (GATES<KIND> * hidden);
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g)
                if (from_input(g)) prefetch_l2(pre + g * hidden);
            // Where it will be written, and then read by all: lest they wait for memory beyond L2.
            prefetch_l2(exchange + uint64_t(row_next) * length + unit);
        }
    };
#pragma unroll 1
    for (unsigned s = 0; s < unsigned(p.steps); ++s) {
#pragma unroll 1
        for (unsigned tile = 0; tile < tiles; ++tile) {
            const unsigned begin = me.first + tile * columns, count = count_of(now, tile);
            if (!count) {
                if (tile == 0) next = StepRows(p, t + forth);
                break;
            }
            const unsigned earlier = min(before.in(begin, columns), count);
            const unsigned char *from[TILES], *then[TILES] = {};
            rows_of(from, before.first, begin, count, earlier);
            // Where it goes on this is that step or, behind its last tile, the next.
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i)
                if (has(i)) finish(i, tile ? next.first : now.first);
            if (tile == 0) next = StepRows(p, t + forth);
            if (!ahead) begin_stretch<HELD, TILES>(rows, from, stretch.count);
            // What is the thread's own comes while it waits for the others.
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!has(i)) continue;
                const Cell cell = cell_of(i);
                const unsigned column = min(cell.column, count - 1), unit = unit_of(i);
                due[i] = cell.unit < me.units && cell.column < count;
                n[i] = begin + column, row[i] = now.first + n[i], goes_on[i] = n[i] < next.count;
                const float* pre = pre_of + uint64_t(row[i]) * (GATES<KIND> * hidden);
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) a[i][g] = from_input(g) ? pre[g * hidden] : 0.0f;
                if (due[i]) MOVED(global_in, GATES<KIND> * 4 - (KIND == GRU ? 4 : 0));
                if (KIND != RNN && column < earlier) {
                    float state[1];
                    states.load(state, (tile * CELLS + i) * THREADS * 4);
                    carried[i] = state[0];
                } else if (KIND == LSTM) {
                    carried[i] = pass.c_first ? at<const float>(pass.c_first)[uint64_t(n[i]) * hidden + unit] : 0.0f;
                } else if (KIND == GRU) {
                    carried[i] = pass.h_first ? widen(at<const T>(pass.h_first)[uint64_t(n[i]) * hidden + unit]) : 0.0f;
                }
            }
            // The next turn's states: of another tile, or written in a turn before this one.
            unsigned after = AHEAD<EIGHTS> && tile + 1 < tiles ? count_of(now, tile + 1) : 0;
            const bool same_step = after;
            if (AHEAD<EIGHTS> && !same_step && tile) after = count_of(next, 0);
            if (after) {
                const unsigned there = same_step ? begin + columns : me.first, all = same_step ? before.count : now.count;
                rows_of(then, same_step ? before.first : now.first, there, after, all > there ? min(all - there, after) : 0);
            }
            if (stretch.count) {
                float products[EIGHTS / 2][TILES][4];
                multiply_stretch<T, EIGHTS, HELD, TILES>(products, stretch, rows, from, after, then, p.exact);
                sums.template store<PRODUCTS<KIND>>(turn, products, octets);
            }
            ahead = after;
            if (!KEPT) load_bias();
            __syncthreads();
#pragma unroll
            for (unsigned i = 0; i < CELLS; ++i) {
                if (!has(i)) continue;
                float total[V] = {};
                sums.total(total, turn, threadIdx.x + i * THREADS);
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) a[i][g] += bias[g];
#pragma unroll
                for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) a[i][g] += total[g % V];
                float peephole[3] = {};
                if (KIND == LSTM && variant)
#pragma unroll
                    for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * hidden + unit_of(i)]);
                h[i] = cell_forward<T, KIND>(a[i], carried[i], peephole, variant);
                tell(exchange + uint64_t(row[i]) * length + unit_of(i), h[i], cell_of(i).unit, due[i]);
                if (KIND != RNN) states.store((tile * CELLS + i) * THREADS * 4, carried[i]);
            }
            ++turn;
        }
        t += forth;
        before = now, now = next;
    }
#pragma unroll
    for (unsigned i = 0; i < CELLS; ++i)
        if (has(i)) finish(i, 0);
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
FORWARD(f16, 32)
FORWARD(bf16, 32)
