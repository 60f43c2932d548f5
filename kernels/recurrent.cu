// What the recurrent layers do around their steps: rows and states between the caller's order and the packed one, biases, the
// states before each step, and the sums over rows of which the gradients of biases and peepholes are made.
#include "device/loop.cuh"

// How rows are packed: those of step t begin at offsets[t], or where there are no offsets each step has the whole batch.
struct Packed {
    const int64_t* offsets;
    uint64_t steps, batch;

    template <class P>
    __device__ __forceinline__ Packed(const P& p) : offsets(at<const int64_t>(p.offsets)), steps(p.steps), batch(p.batch) {}

    __device__ __forceinline__ uint64_t first(uint64_t t) const { return offsets ? uint64_t(offsets[t]) : t * batch; }
    __device__ __forceinline__ uint64_t active(uint64_t t) const { return first(t + 1) - first(t); }

    // The last t in 0..steps for which it holds, of a condition that holds for the first ones.
    template <class Holds>
    __device__ __forceinline__ uint64_t last(Holds holds) const {
        uint64_t low = 0, high = steps;
        while (high - low > 1) {
            uint64_t middle = (low + high) / 2;
            (holds(middle) ? low : high) = middle;
        }
        return low;
    }
    __device__ __forceinline__ uint64_t step_of(uint64_t row) const {
        return offsets ? last([&](uint64_t t) { return first(t) <= row; }) : row / batch;
    }
    // The last step of sequence k: steps hold ever fewer sequences.
    __device__ __forceinline__ uint64_t last_step_of(uint64_t k) const {
        return offsets ? last([&](uint64_t t) { return active(t) > k; }) : steps - 1;
    }
    // The row of the same sequence one step earlier in the direction of the recurrence; -1 at its first step. k: its sequence.
    __device__ __forceinline__ int64_t earlier(bool reverse, uint64_t row, uint64_t& k) const {
        uint64_t t = step_of(row);
        k = row - first(t);
        bool begins = reverse ? t + 1 == steps || k >= active(t + 1) : t == 0;
        return begins ? -1 : int64_t(first(reverse ? t + 1 : t - 1) + k);
    }
};

__device__ __forceinline__ uint64_t caller_row(const RecurrentRows& p, uint64_t row) {
    const Packed packed(p);
    uint64_t t = packed.step_of(row), k = row - packed.first(t);
    uint64_t sequence = p.sequences ? uint64_t(at<const int64_t>(p.sequences)[k]) : k;
    return t * p.step_stride + sequence * p.sequence_stride;
}

// [rows, width] of T, from the caller's order or (OUT) to it. A thread owns N elements of a row. Moves each once in and once out.
template <class T, int N, bool OUT>
__device__ __forceinline__ void move_rows(const RecurrentRows& p) {
    const uint64_t each = p.width / N;
    FOR_EACH(i, p.rows * each) {
        uint64_t row = i / each, j = i % each * N;
        uint64_t inside = row * p.width + j, outside = caller_row(p, row) * p.width + j;
        store_vec<T, N>(at<T>(p.to) + (OUT ? outside : inside), load_vec<T, N>(at<const T>(p.from) + (OUT ? inside : outside)));
    }
}
template <class T, bool OUT>
__device__ __forceinline__ void move(const RecurrentRows& p) {
    if (p.vector) move_rows<T, 16 / int(sizeof(T)), OUT>(p);
    else move_rows<T, 1, OUT>(p);
}
KERNEL(rows_in_b16, RecurrentRows) { move<uint16_t, false>(p); }
KERNEL(rows_in_b32, RecurrentRows) { move<uint32_t, false>(p); }
KERNEL(rows_in_b64, RecurrentRows) { move<uint64_t, false>(p); }
KERNEL(rows_out_b16, RecurrentRows) { move<uint16_t, true>(p); }
KERNEL(rows_out_b32, RecurrentRows) { move<uint32_t, true>(p); }
KERNEL(rows_out_b64, RecurrentRows) { move<uint64_t, true>(p); }

// An element of a state: where the caller has it, and where it is inside. A thread owns one.
struct State {
    uint64_t outside, inside;
    __device__ __forceinline__ State(const RecurrentStates& p, uint64_t i) {
        uint64_t j = i % p.width, k = i / p.width % p.batch, layer = i / p.width / p.batch;
        uint64_t sequence = p.sequences ? uint64_t(at<const int64_t>(p.sequences)[k]) : k;
        outside = (layer * p.batch + sequence) * p.width + j;
        uint64_t row = layer * p.batch + k;
        if (p.last) {
            const Packed packed(p);
            row = packed.first(packed.last_step_of(k)) + k;
        }
        inside = row * p.stride + j;
    }
};
template <class From, class To, bool OUT>
__device__ __forceinline__ void move_states(const RecurrentStates& p) {
    FOR_EACH(i, p.count * p.batch * p.width) {
        State s(p, i);
        compute_t<From> value = p.from ? widen(at<const From>(p.from)[OUT ? s.inside : s.outside]) : compute_t<From>(0);
        at<To>(p.to)[OUT ? s.outside : s.inside] = narrow<To>(value);
    }
}
// Of T on both sides, and of the type that is computed in on the inside.
template <class T> __device__ __forceinline__ void hidden_in(const RecurrentStates& p) { move_states<T, T, false>(p); }
template <class T> __device__ __forceinline__ void hidden_out(const RecurrentStates& p) { move_states<T, T, true>(p); }
template <class T> __device__ __forceinline__ void states_in(const RecurrentStates& p) { move_states<T, compute_t<T>, false>(p); }
template <class T> __device__ __forceinline__ void states_out(const RecurrentStates& p) { move_states<compute_t<T>, T, true>(p); }
KERNEL_FLOATS(hidden_in, RecurrentStates)
KERNEL_FLOATS(hidden_out, RecurrentStates)
KERNEL_FLOATS(states_in, RecurrentStates)
KERNEL_FLOATS(states_out, RecurrentStates)

// A thread owns a gate of a unit.
template <class T>
__device__ __forceinline__ void recurrent_bias(const RecurrentBias& p) {
    using C = compute_t<T>;
    const bool divided = p.split < p.gates;
    FOR_EACH(j, p.gates + (divided ? p.hidden : 0)) {
        C sum = C(0);
        if (p.ih && (j < p.split || j >= p.gates)) sum = widen(at<const T>(p.ih)[j < p.split ? j : j - p.hidden]);
        if (p.hh && j < p.gates) sum += widen(at<const T>(p.hh)[j]);
        at<C>(p.to)[j] = sum;
    }
}
KERNEL_FLOATS(recurrent_bias, RecurrentBias)

// A thread owns an element. Moves each once in and once out.
template <class T>
__device__ __forceinline__ void previous(const RecurrentPrevious& p) {
    FOR_EACH(i, p.rows * p.width) {
        uint64_t j = i % p.width, k;
        int64_t row = Packed(p).earlier(p.reverse, i / p.width, k);
        at<T>(p.to)[i] = row >= 0 ? at<const T>(p.y)[uint64_t(row) * p.stride + j]
                         : p.first ? at<const T>(p.first)[k * p.width + j] : T{};
    }
}
KERNEL_FLOATS(previous, RecurrentPrevious)

// Sums over the rows of a part: a block of 32 by 8 threads owns 32 columns of one part; its eight rows of threads take turns at
// the rows and are joined in their order. `add(row, column, sums)` adds a row's terms to K sums; `put(part, column, sums)`.
template <int K, class C, class Add, class Put>
__device__ __forceinline__ void sum_columns(uint64_t rows, uint64_t part, uint64_t width, Add add, Put put) {
    auto* joined = dynamic_shared<C>();  // [8, 32]
    uint64_t tiles = (width + 31) / 32, parts = (rows + part - 1) / part;
    for (uint64_t task = blockIdx.x; task < parts * tiles; task += gridDim.x) {
        uint64_t which = task / tiles, column = task % tiles * 32 + threadIdx.x;
        C sums[K] = {};
        if (column < width)
            for (uint64_t row = which * part + threadIdx.y, end = min((which + 1) * part, rows); row < end; row += 8)
                add(row, column, sums);
#pragma unroll
        for (int k = 0; k < K; ++k) {
            joined[threadIdx.y * 32 + threadIdx.x] = sums[k];
            __syncthreads();
            if (threadIdx.y == 0)
                for (unsigned i = 1; i < 8; ++i) sums[k] += joined[i * 32 + threadIdx.x];
            __syncthreads();
        }
        if (threadIdx.y == 0 && column < width) put(which, column, sums);
    }
}

// Reads each element once; one FLOP each.
template <class T>
__device__ __forceinline__ void row_sums(const RecurrentSums& p) {
    using C = compute_t<T>;
    sum_columns<1, C>(
        p.rows, p.part, p.width,
        [&](uint64_t row, uint64_t column, C (&sums)[1]) { sums[0] += widen(at<const T>(p.from)[row * p.width + column]); },
        [&](uint64_t part, uint64_t column, const C (&sums)[1]) { at<C>(p.to)[part * p.width + column] = sums[0]; });
}
KERNEL_FLOATS(row_sums, RecurrentSums)

// Reads three gates and two cell states a row and unit; 6 FLOPs.
template <class T>
__device__ __forceinline__ void peephole_sums(const RecurrentPeephole& p) {
    using C = compute_t<T>;
    const uint64_t H = p.hidden;
    sum_columns<3, C>(
        p.rows, p.part, H,
        [&](uint64_t row, uint64_t j, C (&sums)[3]) {
            uint64_t k;
            int64_t earlier = Packed(p).earlier(p.reverse, row, k);
            const T* g = at<const T>(p.gates) + row * 4 * H + j;
            const C* cells = at<const C>(p.cells) + j;
            C before = earlier >= 0 ? cells[uint64_t(earlier) * H] : p.first ? at<const C>(p.first)[k * H + j] : C(0);
            sums[0] = fma_(widen(g[0]), before, sums[0]);
            sums[1] = fma_(widen(g[H]), before, sums[1]);
            sums[2] = fma_(widen(g[3 * H]), cells[row * H], sums[2]);
        },
        [&](uint64_t part, uint64_t j, const C (&sums)[3]) {
            for (int k = 0; k < 3; ++k) at<C>(p.to)[(part * 3 + k) * H + j] = sums[k];
        });
}
KERNEL_FLOATS(peephole_sums, RecurrentPeephole)

// A thread owns a sum, and takes the parts in their order.
template <class T>
__device__ __forceinline__ void part_totals(const RecurrentTotals& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.count) {
        C sum = C(0);
        for (uint64_t part = 0; part < p.parts; ++part) sum += at<const C>(p.from)[part * p.stride + i];
        at<T>(p.to)[i] = narrow<T>(p.add ? C(widen(at<T>(p.to)[i])) + sum : sum);
    }
}
KERNEL_FLOATS(part_totals, RecurrentTotals)

// A thread owns an element. Moves two in and one out.
template <class T>
__device__ __forceinline__ void projected_gradient(const RecurrentProjected& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.count * p.width) {
        C dh = at<const C>(p.dh)[i];
        if (p.dy) dh += widen(at<const T>(p.dy)[i / p.width * p.stride + i % p.width]);
        at<T>(p.to)[i] = narrow<T>(dh);
    }
}
KERNEL_FLOATS(projected_gradient, RecurrentProjected)

// Words of halves begin with an even number: where that is a unit's, somebody writes the word. A thread owns 16 bytes.
template <class T>
__device__ __forceinline__ void persistent_exchange(const PersistentExchange& p) {
    constexpr unsigned EACH = 16 / sizeof(T), IN_WORD = 4 / sizeof(T);
    const uint64_t line = p.padded / EACH, exchanged = p.rows * p.gates * line;
    FOR_EACH(i, exchanged + (p.initial ? p.batch * line : 0)) {
        const bool later = i >= exchanged;
        const uint64_t vector = later ? i - exchanged : i, row = vector / line, k = vector % line * EACH;
        Vec<T, EACH> values{};
        if (later) {
            if (p.first)
                for (unsigned j = 0; j < EACH && k + j < p.hidden; ++j) values[j] = at<const T>(p.first)[row * p.hidden + k + j];
            // NaNs may look like what is not written; they stay some.
            unsigned words[4];
            memcpy(words, &values, 16);
            for (unsigned& word : words)
                if (word == UNWRITTEN) word = 0x7fffffffu;
            memcpy(&values, words, 16);
        } else {
            unsigned words[4];
            for (unsigned j = 0; j < 4; ++j) words[j] = k + j * IN_WORD < p.hidden ? UNWRITTEN : 0;
            memcpy(&values, words, 16);
        }
        store_vec<T, EACH>(at<T>(later ? p.initial : p.exchange) + vector * EACH, values);
    }
}
KERNEL(persistent_exchange_f32, PersistentExchange) { persistent_exchange<f32>(p); }
KERNEL(persistent_exchange_f16, PersistentExchange) { persistent_exchange<f16>(p); }
KERNEL(persistent_exchange_bf16, PersistentExchange) { persistent_exchange<bf16>(p); }
