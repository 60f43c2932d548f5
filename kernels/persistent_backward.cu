// A layer's steps backward with one product each, in one cooperative launch; see persistent_once.cuh. A block owns up to 32 units: their
// columns of W_hh, as long as there are gates. A step moves, for each of its sequences, G H gradients of gates from L2 (every block reads
// all), and for each unit and sequence G activations, dy and two cell states in, G gradients of gates out twice.
#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "persistent_once.cuh"

// A thread's unit and one of its sequences.
struct Mine {
    float a[4], c, before;  // before: c or h
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

template <class T, unsigned KIND, unsigned TILES, unsigned UNITS>
__device__ __forceinline__ void backward(const PersistentBackward& p) {
    constexpr unsigned EIGHTS = UNITS / 8, columns = TILES * COLUMNS;
    // As many as registers hold.
    constexpr unsigned HELD = sizeof(T) == 4               ? 0
                              : KIND == RNN                ? 4
                              : UNITS == 32                ? 8
                              : TILES == 2 && KIND == LSTM ? 12
                                                           : 4 * PRODUCTS<KIND>;
    const Member<PersistentBackward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned hidden = unsigned(p.hidden), octets = (unsigned(p.units) + 7) / 8, tiles = unsigned(p.tiles);
    const unsigned padded = (hidden + CHUNK<T> - 1) / CHUNK<T> * CHUNK<T>, length = PRODUCTS<KIND> * padded, chunks = length / CHUNK<T>;
    const unsigned cells = 64 * octets * TILES, row_bytes = length * sizeof(T);
    uint4* shared = dynamic_shared<uint4>();
    // What a unit gives to each gate, a column of the matrix.
    const Stretch<T, EIGHTS, HELD> stretch(
        chunks, octets, shared, hidden, false,
        [&](unsigned eight, unsigned row, unsigned k) -> const T* {
            const unsigned u = eight * 8 + row;
            const T* weight = at<const T>(pass.weight) + me.first_unit + u;
            return u < me.units ? weight + (uint64_t(k / padded) * hidden + k % padded) * hidden : nullptr;
        },
        [&](unsigned k) { return k % padded < hidden ? min(hidden - k % padded, EACH<T>) : 0; });
    float* of_sums = reinterpret_cast<float*>(shared + stretch.shared_words(chunks));
    const Sums<1> sums(of_sums, cells);
    const SharedPlace states = SharedPlace(of_sums + sums.floats(cells)) + threadIdx.x * 4;  // [tiles, THREADS]

    // Who has no cell reads and stores nothing.
    const unsigned thread = kept(threadIdx.x), lane = thread % 32;
    const bool busy = thread < cells;
    const Cell cell(thread, octets);
    const bool mine = busy && cell.unit < me.units;
    const unsigned unit = me.first_unit + min(cell.unit, me.units - 1);
    const bool variant = p.cell == CELL_RNN_RELU || p.cell == CELL_LSTM_PEEPHOLE;
    float peephole[3] = {};
    if (KIND == LSTM && variant)
#pragma unroll
        for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * hidden + unit]);
    T* exchange = at<T>(pass.exchange) + unit;
    const unsigned char* own = reinterpret_cast<const unsigned char*>(at<const T>(pass.exchange) + (stretch.begin * CHUNK<T> + lane % 4 * EACH<T>));
    T* gates_of = at<T>(pass.gates) + unit;
    const float* cells_of = at<const float>(pass.cells) + unit;
    const T *y_of = at<const T>(pass.y) + unit, *dy_of = at<const T>(pass.dy) + unit;
    __syncthreads();

    // Against the recurrence; behind the last step once more, for the gradients of the first states.
    const int back = pass.reverse ? 1 : -1;
    int t = pass.reverse ? 0 : int(p.steps) - 1;
    StepRows done(p, -1), now(p, t), before(p, t + back);
    // Found of a turn, a tile's part of a step, while the one before waits: `from` are the rows of the exchange that a lane's columns
    // read, where there is something to multiply; the others are of the thread's own cell. `ends`: its sequence begins after this step.
    struct Ahead {
        bool there, multiplies, due, had, known, ends;
        unsigned from[TILES], tile, n, row, row_before;
    } ahead;
    unsigned s = 0, tile = 0;
    auto look_ahead = [&] {
        ahead.there = false;
#pragma unroll 1
        for (; s <= unsigned(p.steps); ++s, tile = 0, t += back, done = now, now = before, before = StepRows(p, t + back)) {
            const unsigned begin = me.first + tile * columns, most = tile < tiles && begin < me.last ? min(columns, me.last - begin) : 0;
            const unsigned count = now.in(begin, most), later = done.in(begin, most), any = max(count, later);
            // Where a tile has no sequences those behind it have none.
            if (!any) continue;
            const unsigned earlier = before.in(begin, count), column = min(cell.column, any - 1);
            ahead.there = true, ahead.tile = tile++, ahead.multiplies = later;
#pragma unroll
            for (unsigned i = 0; i < TILES; ++i) ahead.from[i] = done.first + begin + min(i * COLUMNS + lane / 4, max(later, 1u) - 1);
            ahead.due = mine && cell.column < count, ahead.had = column < earlier, ahead.known = column < later;
            ahead.ends = mine && cell.column < later && cell.column >= count;
            ahead.n = begin + column, ahead.row = now.first + ahead.n, ahead.row_before = before.first + ahead.n;
            if (ahead.due && ahead.had) {
                const unsigned row = ahead.row, row_before = ahead.row_before;
                const T* next = gates_of + uint64_t(row_before) * (GATES<KIND> * hidden);
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) prefetch_l2(next + g * hidden);
                if (pass.dy) prefetch_l2(dy_of + uint64_t(row_before) * p.stride);
                // The row before that is not known yet; where all steps have the whole batch it is as far again.
                if (KIND == LSTM && 2 * row_before >= row) prefetch_l2(cells_of + uint64_t(2 * row_before - row) * hidden);
                // Where it will be written, and then read by all.
#pragma unroll
                for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) prefetch_l2(exchange + uint64_t(row_before) * length + g * padded);
            }
            return;
        }
    };
    look_ahead();
    const bool late = looks_late<T, KIND>(tiles, hidden);
    unsigned turn = 0;
    // What is left to do of a turn once the others have what they wait for; done while the next turn waits.
    Mine of{};
    unsigned row = 0;
    bool due = false;
    auto finish = [&] {
        if (!due) return;
        T* gates = gates_of + uint64_t(row) * (GATES<KIND> * hidden);
#pragma unroll
        for (unsigned g = 0; g < GATES<KIND>; ++g) {
            gates[g * hidden] = narrow<T>(of.a[g]);
            MOVED(global_out, sizeof(T));
        }
        MOVED(global_out, PRODUCTS<KIND> * sizeof(T));
    };
#pragma unroll 1
    while (ahead.there) {
        const unsigned char* from[TILES];
#pragma unroll
        for (unsigned i = 0; i < TILES; ++i) from[i] = own + uint64_t(ahead.from[i]) * row_bytes;
        const bool multiplies = ahead.multiplies;
        if (busy) finish();
        const unsigned state = ahead.tile * THREADS * 4, row_before = ahead.row_before;
        const bool known = ahead.known, ends = ahead.ends, had = ahead.had;
        const uint64_t place = uint64_t(ahead.n) * hidden + unit;
        due = ahead.due, row = ahead.row;
        if (late) look_ahead();
        Batches<HELD, TILES> rows;
        begin_stretch<HELD, TILES>(rows, from, multiplies ? stretch.count : 0);
        // What is the thread's own comes while it waits for the others, as it lies in memory.
        T a[GATES<KIND>] = {}, dy = {}, h_before = {};
        float dh = 0, carried = 0;
        if (busy) {
            if (due) {
                const T* gates = gates_of + uint64_t(row) * (GATES<KIND> * hidden);
#pragma unroll
                for (unsigned g = 0; g < GATES<KIND>; ++g) a[g] = gates[g * hidden];
                if (pass.dy) dy = dy_of[uint64_t(row) * p.stride];
                if (KIND == LSTM) {
                    of.c = cells_of[uint64_t(row) * hidden];
                    const float* earlier_c = had    ? cells_of + uint64_t(row_before) * hidden
                                             : pass.c_first ? at<const float>(pass.c_first) + place
                                                            : nullptr;
                    of.before = earlier_c ? *earlier_c : 0.0f;
                }
                if (KIND == GRU) {
                    const T* earlier_h = had    ? y_of + uint64_t(row_before) * p.stride
                                         : pass.h_first ? at<const T>(pass.h_first) + place
                                                        : nullptr;
                    if (earlier_h) h_before = *earlier_h;
                }
                MOVED(global_in, (GATES<KIND> + (pass.dy ? 1 : 0) + (KIND == GRU ? 1 : 0)) * sizeof(T) + (KIND == LSTM ? 8 : 0));
            }
            if (known) {
                float value[1];
                if (KIND != RNN) states.load(value, state), carried = value[0];
            } else if (due) {
                dh = at<const float>(pass.dh)[place];
                if (KIND == LSTM) carried = at<const float>(pass.dc)[place];
            }
        }
        if (!late) look_ahead();
        if (multiplies) {
            if (stretch.count) {
                float products[Sixteens<EIGHTS>::count][TILES][4];
                multiply_stretch<T, EIGHTS, HELD, TILES>(products, stretch, rows, from, octets, p.exact);
                sums.store(turn, products, octets);
            }
            __syncthreads();
            if (busy && known) {
                float total[1] = {};
                sums.total(total, turn);
                dh = KIND == GRU ? total[0] + carried : total[0];
            }
            ++turn;
        }
        if (!busy) continue;
        if (ends) {
            at<float>(pass.dh)[place] = dh;
            if (KIND == LSTM) at<float>(pass.dc)[place] = carried;
        }
#pragma unroll
        for (unsigned g = 0; g < GATES<KIND>; ++g) of.a[g] = widen(a[g]);
        if (KIND == GRU) of.before = widen(h_before);
        cell_backward<KIND>(of, peephole, dh + widen(dy), carried, variant);
#pragma unroll
        for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) tell(exchange + uint64_t(row) * length + g * padded, of.a[g], cell.unit, due);
        if (KIND != RNN) states.store(state, carried);
    }
    if (busy) finish();
}

#define BACKWARD_OF(T, kind, KIND, columns, units)                                                                          \
    KERNEL_ALONE(persistent_backward_##kind##columns##x##units##_##T, PersistentBackward, 256) { backward<T, KIND, columns / 8, units>(p); }
#define BACKWARD(T, columns, units)                                                                                         \
    BACKWARD_OF(T, rnn, RNN, columns, units) BACKWARD_OF(T, lstm, LSTM, columns, units) BACKWARD_OF(T, gru, GRU, columns, units)
#define BACKWARDS(T) BACKWARD(T, 8, 16) BACKWARD(T, 16, 16) BACKWARD(T, 8, 32)
BACKWARDS(f32)
BACKWARDS(f16)
BACKWARDS(bf16)
