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
    const unsigned chunks = (hidden + CHUNK<T> - 1) / CHUNK<T>, length = chunks * CHUNK<T>, row_bytes = length * sizeof(T);
    const unsigned cells = 64 * octets * TILES;
    uint4* shared = dynamic_shared<uint4>();
    // Eight g, or with two octets g + G: gate g of eight units.
    const Stretch<T, EIGHTS, HELD> stretch(
        chunks, octets * PRODUCTS<KIND>, shared, 1, p.vector,
        [&](unsigned eight, unsigned row, unsigned k) -> const T* {
            const unsigned g = eight % PRODUCTS<KIND>, u = eight / PRODUCTS<KIND> * 8 + row;
            return u < me.units ? at<const T>(pass.weight) + (uint64_t(g) * hidden + me.first_unit + u) * hidden + k : nullptr;
        },
        [&](unsigned k) { return k < hidden ? min(hidden - k, EACH<T>) : 0; });
    float* of_sums = reinterpret_cast<float*>(shared + stretch.shared_words(chunks));
    const Sums<V> sums(of_sums, cells);
    // [tiles, THREADS]: what each thread carries from step to step.
    const SharedPlace states = SharedPlace(of_sums + sums.floats(cells)) + threadIdx.x * 4;

    // Who has no cell does as if it had the last, and stores nothing.
    const unsigned thread = kept(threadIdx.x), lane = thread % 32;
    const bool busy = thread < cells;
    const Cell cell(thread, octets);
    const bool mine = busy && cell.unit < me.units;
    const unsigned unit = me.first_unit + min(cell.unit, me.units - 1);
    const bool variant = p.cell == CELL_RNN_RELU || p.cell == CELL_LSTM_PEEPHOLE;
    float bias[GATES<KIND>] = {}, peephole[3] = {};
#pragma unroll
    for (unsigned g = 0; g < GATES<KIND>; ++g) bias[g] = at<const float>(pass.bias)[g * hidden + unit];
    if (KIND == LSTM && variant)
#pragma unroll
        for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * hidden + unit]);
    const float* pre_of = at<const float>(pass.pre) + unit;
    T* exchange = at<T>(pass.exchange) + unit;
    auto part_of = [&](uint64_t rows) { return reinterpret_cast<const unsigned char*>(at<const T>(rows) + (stretch.begin * CHUNK<T> + lane % 4 * EACH<T>)); };
    const unsigned char* own = part_of(pass.exchange);
    // Registers allow it.
    if (TILES == 1) pre_of = kept(pre_of), exchange = kept(exchange), own = kept(own);
    auto from_input = [](unsigned g) { return KIND != GRU || g != 2; };
    __syncthreads();

    const int forth = pass.reverse ? -1 : 1;
    int t = pass.reverse ? int(p.steps) - 1 : 0;
    StepRows before(p, -1), now(p, t), next(p, t + forth);
    // Found of a turn, a tile's part of a step, while the one before waits: `from` are the rows of the exchange that a lane's columns
    // read, or with INITIAL those of the initial states; the others are of the thread's own cell.
    constexpr unsigned INITIAL = 1u << 31;
    struct Ahead {
        bool there, due, goes_on, had;
        unsigned from[TILES], tile, n, row;
    } ahead;
    unsigned s = 0, tile = 0;
    auto look_ahead = [&] {
        ahead.there = false;
#pragma unroll 1
        for (; s < unsigned(p.steps); ++s, tile = 0, t += forth, before = now, now = next, next = StepRows(p, t + forth)) {
            const unsigned begin = me.first + tile * columns;
            const unsigned count = tile < tiles && begin < me.last ? now.in(begin, min(columns, me.last - begin)) : 0;
            // Where a tile has no sequences those behind it have none.
            if (!count) continue;
            const unsigned earlier = min(before.in(begin, columns), count), column = min(cell.column, count - 1);
            ahead.there = true, ahead.tile = tile++;
            // Columns beyond the last are like it, and nobody's.
#pragma unroll
            for (unsigned i = 0; i < TILES; ++i) {
                const unsigned column = min(i * COLUMNS + lane / 4, count - 1);
                ahead.from[i] = begin + column + (column < earlier ? before.first : INITIAL);
            }
            ahead.due = mine && cell.column < count, ahead.had = column < earlier;
            ahead.n = begin + column, ahead.row = now.first + ahead.n, ahead.goes_on = ahead.n < next.count;
            if (ahead.due && ahead.goes_on) {
                const unsigned row = next.first + ahead.n;
                const float* pre = pre_of + uint64_t(row) * (GATES<KIND> * hidden);
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g)
                    if (from_input(g)) prefetch_l2(pre + g * hidden);
                // Where it will be written, and then read by all: lest they wait for memory beyond L2.
                prefetch_l2(exchange + uint64_t(row) * length);
            }
            return;
        }
    };
    look_ahead();
    const bool late = looks_late<T, KIND>(tiles, hidden);
    unsigned turn = 0;
    // What is left to do of a turn once the others have what they wait for; done while the next turn waits.
    float a[4] = {}, h = 0, carried = 0;
    unsigned row = 0, n = 0;
    bool due = false, goes_on = false;
    auto finish = [&] {
        if (!due) return;
        MOVED(global_out, 2 * sizeof(T));
        at<T>(pass.y)[uint64_t(row) * p.stride + unit] = narrow<T>(h);
        if (p.training) {
            T* gates = at<T>(pass.gates) + uint64_t(row) * (GATES<KIND> * hidden) + unit;
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) {
                gates[g * hidden] = narrow<T>(a[g]);
                MOVED(global_out, sizeof(T));
            }
        }
        if (KIND == LSTM && (p.training || !goes_on)) {
            at<float>(pass.cells)[uint64_t(p.training ? row : n) * hidden + unit] = carried;
            MOVED(global_out, 4);
        }
    };
#pragma unroll 1
    while (ahead.there) {
        if (busy) finish();
        const unsigned char* from[TILES];
#pragma unroll
        for (unsigned i = 0; i < TILES; ++i)
            from[i] = (ahead.from[i] & INITIAL ? part_of(pass.initial) : own) + uint64_t(ahead.from[i] & ~INITIAL) * row_bytes;
        const unsigned state = ahead.tile * THREADS * 4;
        const bool had = ahead.had;
        due = ahead.due, n = ahead.n, row = ahead.row, goes_on = ahead.goes_on;
        if (late) look_ahead();
        Batches<HELD, TILES> rows;
        begin_stretch<HELD, TILES>(rows, from, stretch.count);
        // What is the thread's own comes while it waits for the others.
        if (busy) {
            const float* pre = pre_of + uint64_t(row) * (GATES<KIND> * hidden);
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) a[g] = from_input(g) ? pre[g * hidden] : 0.0f;
            if (due) MOVED(global_in, GATES<KIND> * 4 - (KIND == GRU ? 4 : 0));
            if (KIND != RNN && had) {
                float value[1];
                states.load(value, state);
                carried = value[0];
            } else if (KIND == LSTM) {
                carried = pass.c_first ? at<const float>(pass.c_first)[uint64_t(n) * hidden + unit] : 0.0f;
            } else if (KIND == GRU) {
                carried = pass.h_first ? widen(at<const T>(pass.h_first)[uint64_t(n) * hidden + unit]) : 0.0f;
            }
        }
        if (!late) look_ahead();
        if (stretch.count) {
            float products[Sixteens<EIGHTS>::count][TILES][4];
            multiply_stretch<T, EIGHTS, HELD, TILES>(products, stretch, rows, from, octets, p.exact);
            sums.store(turn, products, octets);
        }
        __syncthreads();
        if (busy) {
            float total[V] = {};
            sums.total(total, turn);
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) a[g] += bias[g];
#pragma unroll
            for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) a[g] += total[g % V];
            h = cell_forward<T, KIND>(a, carried, peephole, variant);
            // Beside the last of an odd number of units lies one that is not there: what it were without its weights need not be finite.
            tell(exchange + uint64_t(row) * length, KIND == RNN && !mine ? 0.0f : h, cell.unit, due);
            if (KIND != RNN) states.store(state, carried);
        }
        ++turn;
    }
    if (busy) finish();
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
