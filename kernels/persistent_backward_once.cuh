// The steps backward with one product each, through memory; see persistent_once.cuh. A block owns up to 32 units: their columns of W_hh, as
// long as there are gates. A step moves, for each of its sequences, G H gradients of gates from L2 (every block reads all), and for each unit
// and sequence G activations, dy and two cell states in, G gradients of gates out twice.
//
// SPLIT blocks may share that out as a cluster (sm_90): each has the columns of all their units, but of the depth a part, so it reads that
// part of the gradients only and its product has as many rows as one forward. What it has for another's units it stores in that one's shared
// memory, f32, which counts at a barrier there; who is at home adds the blocks' parts in their order.
#pragma once

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

template <class T, unsigned KIND, unsigned TILES, unsigned UNITS, unsigned SPLIT = 1>
__device__ __forceinline__ void backward(const PersistentBackward& p) {
    constexpr unsigned EIGHTS = UNITS / 8 * SPLIT, columns = TILES * COLUMNS;
    // As many as registers hold.
    constexpr unsigned HELD = sizeof(T) == 4               ? 0
                              : SPLIT > 1                  ? 32 / EIGHTS
                              : KIND == RNN                ? 4
                              : UNITS == 32                ? 8
                              : TILES == 2 && KIND == LSTM ? 12
                                                           : 4 * PRODUCTS<KIND>;
    // Whether the first loads of a turn come behind a thread's own: before them some spill.
    constexpr bool LATE = SPLIT > 1 && TILES == 2;
    constexpr bool AHEAD_HERE = AHEAD<EIGHTS> && (SPLIT == 1 || TILES == 1);  // else some spill
    const Member<PersistentBackward> me(p);
    const PersistentPass& pass = me.pass;
    const unsigned hidden = unsigned(p.hidden), octets = (unsigned(p.units) + 7) / 8, tiles = unsigned(p.tiles);
    const unsigned padded = (hidden + CHUNK<T> - 1) / CHUNK<T> * CHUNK<T>, length = PRODUCTS<KIND> * padded, chunks = length / CHUNK<T>;
    const unsigned cells = 64 * octets * TILES, row_bytes = length * sizeof(T);
    // This block's part of the depth.
    const unsigned rank = SPLIT > 1 ? me.index % SPLIT : 0;
    const Share part(rank, (chunks + SPLIT - 1) / SPLIT, chunks);
    uint4* shared = dynamic_shared<uint4>();
    // What a unit gives to each gate, a column of the matrix. Eight r, or with several octets SPLIT more for each: units of the r-th block.
    const Stretch<T, EIGHTS, HELD> stretch(
        (chunks + SPLIT - 1) / SPLIT, part.count, octets * SPLIT, shared, hidden, false,
        [&](unsigned eight, unsigned row, unsigned k) -> const T* {
            const unsigned u = eight / SPLIT * 8 + row, whole = (me.index - rank + eight % SPLIT) * unsigned(p.units) + u;
            const unsigned gate = (part.first * CHUNK<T> + k) / padded, h = (part.first * CHUNK<T> + k) % padded;
            return u < p.units && whole < hidden ? at<const T>(pass.weight) + (uint64_t(gate) * hidden + h) * hidden + whole : nullptr;
        },
        [&](unsigned k) {
            const unsigned h = (part.first * CHUNK<T> + k) % padded;
            return h < hidden ? min(hidden - h, EACH<T>) : 0;
        });
    float* of_sums = reinterpret_cast<float*>(shared + stretch.shared_words());
    const Sums<SPLIT> sums(of_sums, cells);
    float* of_states = of_sums + sums.floats(cells);
    const SharedPlace states = SharedPlace(of_states) + threadIdx.x * 4;  // [tiles, THREADS]
    // Of a cluster: what the others have for this block's cells, in two places in turn, and where it counts.
    [[maybe_unused]] unsigned* received = reinterpret_cast<unsigned*>(of_states + tiles * THREADS);  // [2, SPLIT, THREADS]
    [[maybe_unused]] CountedBarrier* arrived = reinterpret_cast<CountedBarrier*>(received + 2 * SPLIT * THREADS);

    // Who has no cell does as if it had the last, and stores nothing.
    const bool busy = warp_in_block() * 32 < cells;
    const Cell cell(threadIdx.x, octets);
    const bool mine = busy && cell.unit < me.units;
    const unsigned unit = min(me.first_unit + cell.unit, hidden - 1);
    const bool variant = p.cell == CELL_RNN_RELU || p.cell == CELL_LSTM_PEEPHOLE;
    T* exchange = at<T>(pass.exchange);
    const unsigned char* own = reinterpret_cast<const unsigned char*>(exchange + (part.first + stretch.begin) * CHUNK<T> + lane_in_warp() % 4 * EACH<T>);
    // Sequences of a tile at most, and where a lane reads of their gradients. Columns beyond the last are like it, and nobody's.
    auto most_of = [&](unsigned tile) {
        const unsigned begin = me.first + tile * columns;
        return begin < me.last ? min(columns, me.last - begin) : 0;
    };
    auto rows_of = [&](const unsigned char* (&from)[TILES], unsigned first, unsigned begin, unsigned later) {
#pragma unroll
        for (unsigned i = 0; i < TILES; ++i)
            from[i] = own + uint64_t(first + begin + min(i * COLUMNS + lane_in_warp() / 4, later - 1)) * row_bytes;
    };
    T* gates_of = at<T>(pass.gates) + unit;
    const float* cells_of = at<const float>(pass.cells) + unit;
    const T *y_of = at<const T>(pass.y) + unit, *dy_of = at<const T>(pass.dy) + unit;
    if constexpr (SPLIT > 1) {
        if (threadIdx.x == 0) counted_init(arrived, 1), counted_init(arrived + 1, 1);
        cluster_sync();
    } else {
        __syncthreads();
    }

    // Against the recurrence; behind the last step once more, for the gradients of the first states.
    const int back = pass.reverse ? 1 : -1;
    int t = pass.reverse ? 0 : int(p.steps) - 1;
    StepRows done(p, -1), now(p, t), before(p, -1);
    unsigned turn = 0;
    // What is left to do of a turn once the others have what they wait for; done while the next turn waits.
    Mine of{};
    unsigned row = 0, row_before = 0;
    bool due = false, had = false;
    Batches<HELD, TILES> rows;
    bool ahead = false;  // whether loads for this turn are under way
    auto finish = [&] {
        if (!due) return;
        T* gates = gates_of + uint64_t(row) * (GATES<KIND> * hidden);
#pragma unroll
        for (unsigned g = 0; g < GATES<KIND>; ++g) {
            gates[g * hidden] = narrow<T>(of.a[g]);
            MOVED(global_out, sizeof(T));
        }
        MOVED(global_out, PRODUCTS<KIND> * sizeof(T));
        if (had) {
            const T* next = gates_of + uint64_t(row_before) * (GATES<KIND> * hidden);
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) prefetch_l2(next + g * hidden);
            if (pass.dy) prefetch_l2(dy_of + uint64_t(row_before) * p.stride);
            // The row before that is not known yet; where all steps have the whole batch it is as far again.
            if (KIND == LSTM && 2 * row_before >= row) prefetch_l2(cells_of + uint64_t(2 * row_before - row) * hidden);
            // Where it will be written, and then read by all.
#pragma unroll
            for (unsigned g = 0; g < PRODUCTS<KIND>; ++g) prefetch_l2(exchange + uint64_t(row_before) * length + g * padded + unit);
        }
    };
#pragma unroll 1
    for (unsigned s = 0; s <= unsigned(p.steps); ++s) {
#pragma unroll 1
        for (unsigned tile = 0; tile < tiles; ++tile) {
            const unsigned begin = me.first + tile * columns, most = most_of(tile);
            const unsigned count = now.in(begin, most), later = done.in(begin, most), any = max(count, later);
            if (!any) {
                if (tile == 0) before = StepRows(p, t + back);
                break;
            }
            const unsigned char *from[TILES] = {}, *then[TILES] = {};
            if (later) rows_of(from, done.first, begin, later);
            if (busy) finish();
            if (!LATE && later && !ahead) begin_stretch<HELD, TILES>(rows, from, stretch.count);
            if (tile == 0) before = StepRows(p, t + back);
            // What is the thread's own comes while it waits for the others, as it lies in memory.
            const unsigned earlier = before.in(begin, count), column = min(cell.column, any - 1), n = begin + column;
            const bool known = column < later;
            const uint64_t place = uint64_t(n) * hidden + unit;
            due = mine && cell.column < count, had = column < earlier;
            row = now.first + n, row_before = before.first + n;
            T a[GATES<KIND>] = {}, dy = {}, h_before = {};
            float dh = 0, carried = 0;
            if (busy) {
                if (column < count) {
                    const T* gates = gates_of + uint64_t(row) * (GATES<KIND> * hidden);
#pragma unroll
                    for (unsigned g = 0; g < GATES<KIND>; ++g) a[g] = gates[g * hidden];
                    if (pass.dy) dy = dy_of[uint64_t(row) * p.stride];
                    if (KIND == LSTM) {
                        of.c = cells_of[uint64_t(row) * hidden];
                        const float* earlier_c = had ? cells_of + uint64_t(row_before) * hidden : pass.c_first ? at<const float>(pass.c_first) + place : nullptr;
                        of.before = earlier_c ? *earlier_c : 0.0f;
                    }
                    if (KIND == GRU) {
                        const T* earlier_h = had ? y_of + uint64_t(row_before) * p.stride : pass.h_first ? at<const T>(pass.h_first) + place : nullptr;
                        if (earlier_h) h_before = *earlier_h;
                    }
                    if (due) MOVED(global_in, (GATES<KIND> + (pass.dy ? 1 : 0) + (KIND == GRU ? 1 : 0)) * sizeof(T) + (KIND == LSTM ? 8 : 0));
                }
                if (!known) {
                    dh = at<const float>(pass.dh)[place];
                    if (KIND == LSTM) carried = at<const float>(pass.dc)[place];
                }
            }
            if (later) {
                // The next turn's gradients: of another tile, or written in a turn before this one.
                unsigned after = AHEAD_HERE && tile + 1 < tiles ? done.in(begin + columns, most_of(tile + 1)) : 0;
                const bool same_step = after;
                if (AHEAD_HERE && !same_step && tile) after = now.in(me.first, most_of(0));
                if (after) rows_of(then, same_step ? done.first : now.first, same_step ? begin + columns : me.first, after);
                if (stretch.count) {
                    if (LATE && !ahead) begin_stretch<HELD, TILES>(rows, from, stretch.count);
                    float products[EIGHTS / 2][TILES][4];
                    multiply_stretch<T, EIGHTS, HELD, TILES>(products, stretch, rows, from, after, then, p.exact);
                    sums.template store<SPLIT>(turn, products, octets);
                }
                ahead = after;
                __syncthreads();
                if (busy && (SPLIT > 1 || known)) {
                    float total[SPLIT] = {};
                    sums.total(total, turn, threadIdx.x);
                    if constexpr (SPLIT > 1) {
                        // A place is used again two turns later; who sends then has had the turn between from all, and they had read.
                        unsigned* place = received + turn % 2 * SPLIT * THREADS + threadIdx.x;
                        CountedBarrier* barrier = arrived + turn % 2;
                        if (threadIdx.x == 0) counted_arrive_expect(barrier, SPLIT * cells * 4);
#pragma unroll
                        for (unsigned r = 0; r < SPLIT; ++r) {
                            store_counted(place + rank * THREADS, __float_as_uint(total[r]), barrier, r);
                            MOVED(cluster_out, 4);
                        }
                        counted_wait(barrier, turn / 2 % 2);
                        float sum = 0;
#pragma unroll
                        for (unsigned r = 0; r < SPLIT; ++r) sum += __uint_as_float(place[r * THREADS]);
                        MOVED(shared_in, SPLIT * 4);
                        total[0] = sum;
                    }
                    if (known) dh = total[0];
                }
                ++turn;
            }
            if (!busy) continue;
            if (KIND != RNN && known) {
                float state[1];
                states.load(state, tile * THREADS * 4), carried = state[0];
                if (KIND == GRU) dh += carried;
            }
            if (mine && cell.column < later && cell.column >= count) {
                // The sequence begins after this step.
                at<float>(pass.dh)[place] = dh;
                if (KIND == LSTM) at<float>(pass.dc)[place] = carried;
            }
            if (!count) continue;
#pragma unroll
            for (unsigned g = 0; g < GATES<KIND>; ++g) of.a[g] = widen(a[g]);
            if (KIND == GRU) of.before = widen(h_before);
            float peephole[3] = {};
            if (KIND == LSTM && variant)  // not kept: registers are few
#pragma unroll
                for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(at<const T>(pass.peephole)[k * hidden + unit]);
            cell_backward<KIND>(of, peephole, dh + widen(dy), carried, variant);
#pragma unroll
            for (unsigned g = 0; g < PRODUCTS<KIND>; ++g)
                tell(exchange + uint64_t(row) * length + g * padded + unit, of.a[g], cell.unit, due);
            if (KIND != RNN) states.store(tile * THREADS * 4, carried);
        }
        t += back;
        done = now, now = before;
    }
    if (busy) finish();
}

