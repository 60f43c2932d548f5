// Persistent steps with one product each, whose blocks exchange what they compute through memory that tells by itself what is written
// (device/kernel.cuh, UNWRITTEN): `exchange`, a row to a sequence and step, forward of h, backward of the gates' gradients. There are
// no flags: who reads a row's part looks at the very words that it multiplies until they are there, and each step's rows are at
// addresses of their own. What passes from a store to its use is then one trip to L2 and one back.
//
// Each warp takes a stretch of the product's depth and keeps its part of the weights in registers, up to HELD chunks, the rest in
// shared memory. The warps' sums meet in shared memory, in two places in turn, so one barrier a turn is enough, and are added in their
// order. Gates of eight units are eight rows each, so that the lane of a unit and a column has all its gates at once.
#pragma once

#include "persistent.cuh"

// Kinds of cells, known when a kernel is compiled: branches cost more than arithmetic here.
enum : unsigned { RNN, LSTM, GRU };
template <unsigned KIND> constexpr unsigned PRODUCTS = KIND == LSTM ? 4 : KIND == GRU ? 3 : 1;
// Columns of gates in memory.
template <unsigned KIND> constexpr unsigned GATES = KIND == RNN ? 1 : 4;

// Rows of the tensor cores' tiles: which eight rows are a sixteen's first, and which its second; NONE: zeros.
constexpr unsigned NONE = ~0u;
template <unsigned EIGHTS>
struct Sixteens {
    // 2, 4: one row to a unit. 6, 8: two octets of three or four rows to a unit, in pairs.
    static constexpr bool single = EIGHTS <= 4;
    static constexpr unsigned each = EIGHTS / 2, count = single ? EIGHTS / 2 : 4;
    static __device__ __forceinline__ constexpr unsigned low(unsigned m) { return single ? 2 * m : m / 2 * each + m % 2 * 2; }
    static __device__ __forceinline__ constexpr unsigned high(unsigned m) {
        return single ? 2 * m + 1 : m % 2 * 2 + 1 < each ? low(m) + 1 : NONE;
    }
    // The octet that a sixteen begins with.
    static __device__ __forceinline__ constexpr unsigned octet(unsigned m) { return single ? 2 * m : m / 2; }
};

// A warp's stretch of the depth, and its weights.
template <class T, unsigned EIGHTS, unsigned HELD>
struct Stretch {
    unsigned begin, count;  // chunks
    unsigned each;          // of the warps that have most
    unsigned used;          // of the eights: the others are zeros
    uint4 held[HELD ? HELD : 1][EIGHTS];
    SharedPlace rest;

    // `element(eight, row, k)`: the address of the first of EACH neighbours of the depth, `stride` apart; null for zeros. `valid(k)`: how
    // many of them there are. Called by all threads; each reads only what it has written.
    template <class F, class V>
    __device__ __forceinline__ Stretch(unsigned chunks, unsigned used, uint4* shared, uint64_t stride, bool vector, F element, V valid)
        : used(used), rest(shared) {
        const unsigned warp = warp_in_block(), lane = lane_in_warp();
        each = (chunks + WARPS - 1) / WARPS;
        begin = kept(min(warp * each, chunks)), count = kept(min(each, chunks - begin));
        uint4* mine = shared + warp * (each > HELD ? each - HELD : 0) * used * 32 + lane;
        rest = SharedPlace(mine);
        auto load = [&](unsigned chunk, unsigned eight) {
            const unsigned k = (begin + chunk) * CHUNK<T> + lane % 4 * EACH<T>, there = valid(k);
            const T* from = chunk < count && there ? element(eight, lane / 4, k) : nullptr;
            Vec<T, EACH<T>> values{};
            if (from) {
                if (vector && stride == 1 && there == EACH<T>) values = load_vec<T, EACH<T>>(from);
                else
#pragma unroll
                    for (unsigned j = 0; j < EACH<T>; ++j)
                        if (j < there) values[j] = from[j * stride];
            }
            uint4 words;
            memcpy(&words, &values, 16);
            return words;
        };
        if constexpr (HELD > 0)
#pragma unroll
            for (unsigned i = 0; i < HELD; ++i)
#pragma unroll
                for (unsigned e = 0; e < EIGHTS; ++e) held[i][e] = load(i, e);
#pragma unroll 1
        for (unsigned i = HELD; i < count; ++i)
#pragma unroll 1
            for (unsigned e = 0; e < used; ++e) mine[((i - HELD) * used + e) * 32] = load(i, e);
    }
    // 16-byte words of shared memory that it takes.
    __device__ __forceinline__ unsigned shared_words(unsigned chunks) const {
        const unsigned each = (chunks + WARPS - 1) / WARPS;
        return each > HELD ? WARPS * (each - HELD) * used * 32 : 0;
    }
};

// What a lane reads of rows: chunks of 64 bytes, of which 16 are its own.
template <unsigned N, unsigned TILES>
__device__ __forceinline__ void load_rows(uint4 (&to)[N][TILES], const unsigned char* const (&from)[TILES], unsigned first, unsigned count) {
#pragma unroll
    for (unsigned i = 0; i < N; ++i)
#pragma unroll
        for (unsigned tile = 0; tile < TILES; ++tile) {
            to[i][tile] = uint4{0, 0, 0, 0};
            if (first + i < count) to[i][tile] = load_exchanged(from[tile] + (first + i) * 64);
        }
}
// Looks again until all of it is written.
template <unsigned N, unsigned TILES>
__device__ __forceinline__ void settle(uint4 (&rows)[N][TILES], const unsigned char* const (&from)[TILES], unsigned first) {
    MOVED(acquires, 1);
    if (is_hasty()) return;
    for (;;) {
        unsigned last = 0;
#pragma unroll
        for (unsigned i = 0; i < N; ++i)
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile) last = max(last, last_word(rows[i][tile]));
        if (!__any_sync(full_warp, last == UNWRITTEN)) return;
#pragma unroll
        for (unsigned i = 0; i < N; ++i)
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile)
                if (last_word(rows[i][tile]) == UNWRITTEN) rows[i][tile] = poll_exchanged(from[tile] + (first + i) * 64);
    }
}

// Whether a turn finds what the next one needs before it looks for what the others write, and not while it waits for that. A look takes
// about as long as it takes the others' words to be there, so one in vain costs as much again (measured on an H200: docs/decisions.md):
// of tiles in turn, or where a warp reads a single chunk of a row, it is soon enough at once. The Elman network has little else to do.
template <class T, unsigned KIND>
__device__ __forceinline__ bool looks_late(unsigned tiles, unsigned hidden) {
    return KIND == RNN || (tiles == 1 && hidden > WARPS * CHUNK<T>);
}

// Chunks that are loaded together, and how many such loads are under way at once: as many as there are and registers allow.
template <unsigned TILES> constexpr unsigned BATCH = 4 / TILES;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr unsigned MOST_UNDER_WAY = 2;  // with a third some code spills
#else
constexpr unsigned MOST_UNDER_WAY = 3;
#endif
template <unsigned TILES> constexpr unsigned WAYS = TILES == 1 ? 2 : MOST_UNDER_WAY;
template <unsigned HELD, unsigned TILES>
constexpr unsigned UNDER_WAY = HELD == 0 ? 2 : HELD / BATCH<TILES> < WAYS<TILES> ? HELD / BATCH<TILES> : WAYS<TILES>;
template <unsigned HELD, unsigned TILES>
using Batches = uint4[UNDER_WAY<HELD, TILES>][BATCH<TILES>][TILES];

// The first loads of a turn.
template <unsigned HELD, unsigned TILES>
__device__ __forceinline__ void begin_stretch(Batches<HELD, TILES>& rows, const unsigned char* const (&from)[TILES], unsigned count) {
#pragma unroll
    for (unsigned b = 0; b < UNDER_WAY<HELD, TILES>; ++b) load_rows(rows[b], from, b * BATCH<TILES>, count);
}

// Sums that grow side by side, for a tensor core takes long for each, and are added at the end.
template <unsigned EIGHTS, unsigned TILES>
constexpr unsigned CHAINS = Sixteens<EIGHTS>::count * TILES >= 4 ? 1 : 4 / (Sixteens<EIGHTS>::count * TILES);

// This warp's sums of its stretch's weights × rows. octets: how many eights of units there are.
template <class T, unsigned EIGHTS, unsigned HELD, unsigned TILES>
__device__ __forceinline__ void multiply_stretch(float (&to)[Sixteens<EIGHTS>::count][TILES][4], const Stretch<T, EIGHTS, HELD>& stretch,
                                                 Batches<HELD, TILES>& rows, const unsigned char* const (&from)[TILES], unsigned octets,
                                                 bool exact) {
    using S = Sixteens<EIGHTS>;
    constexpr unsigned EACH_BATCH = BATCH<TILES>, BATCHES = HELD / EACH_BATCH, WAY = UNDER_WAY<HELD, TILES>, ALL = CHAINS<EIGHTS, TILES>;
    static_assert(HELD % EACH_BATCH == 0);
    float sums[ALL][S::count][TILES][4] = {};
    auto chunk = [&](unsigned chain, const uint4 (&weights)[EIGHTS], const uint4 (&rows)[TILES]) {
        constexpr uint4 zero{0, 0, 0, 0};
#pragma unroll
        for (unsigned m = 0; m < S::count; ++m) {
            if (S::octet(m) > 0 && S::octet(m) >= octets) break;
            const uint4 &low = weights[S::low(m)], &high = S::high(m) == NONE ? zero : weights[S::high(m) % EIGHTS];
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile) {
                const uint4& x = rows[tile];
                if constexpr (ALL == 1) {
                    multiply<T>(sums[0][m][tile], low, high, x, exact);
                } else {
                    Mma<T> first(sums[2 * chain % ALL][m][tile]), second(sums[(2 * chain + 1) % ALL][m][tile]);
                    multiply<T>(first, {low.x, high.x, low.y, high.y}, {x.x, x.y}, exact);
                    multiply<T>(second, {low.z, high.z, low.w, high.w}, {x.z, x.w}, exact);
                }
            }
        }
    };
    [[maybe_unused]] auto from_shared = [&](unsigned first, unsigned i, const uint4 (&rows)[TILES]) {
        uint4 weights[EIGHTS];
#pragma unroll
        for (unsigned e = 0; e < EIGHTS; ++e)
            weights[e] = e < stretch.used ? stretch.rest.load(((first + i - HELD) * stretch.used + e) * 512) : uint4{0, 0, 0, 0};
        MOVED(shared_in, stretch.used * 16);
        chunk(i, weights, rows);
    };
    if constexpr (HELD > 0) {
        // A shorter warp multiplies zeros with the others: branches that all warps take alike cost least.
#pragma unroll
        for (unsigned b = 0; b < BATCHES; ++b) {
            if (b * EACH_BATCH >= stretch.each) break;
            settle(rows[b % WAY], from, b * EACH_BATCH);
            MOVED(global_in, (stretch.count > b * EACH_BATCH ? min(EACH_BATCH, stretch.count - b * EACH_BATCH) : 0) * TILES * 16);
#pragma unroll
            for (unsigned i = 0; i < EACH_BATCH; ++i) {
                if (b * EACH_BATCH + i >= stretch.each) break;
                chunk(b * EACH_BATCH + i, stretch.held[b * EACH_BATCH + i], rows[b % WAY][i]);
            }
            if (b + WAY < BATCHES) load_rows(rows[b % WAY], from, (b + WAY) * EACH_BATCH, stretch.count);
        }
    }
    if (stretch.each > HELD) {
        if constexpr (HELD == 0) {
#pragma unroll 1
            for (unsigned first = 0; first < stretch.count; first += EACH_BATCH) {
                settle(rows[0], from, first);
                MOVED(global_in, min(EACH_BATCH, stretch.count - first) * TILES * 16);
#pragma unroll
                for (unsigned i = 0; i < EACH_BATCH; ++i) {
                    if (first + i >= stretch.count) break;
                    from_shared(first, i, rows[0][i]);
                }
                memcpy(rows[0], rows[1], sizeof rows[0]);
                load_rows(rows[1], from, first + 2 * EACH_BATCH, stretch.count);
            }
        } else {
            // So many are loaded together, and so many such loads are under way: each is a trip to L2, but registers are few. Forward the GRU's
            // weights, six eights, leave fewest.
            constexpr unsigned REST = TILES * EIGHTS < 12 && EIGHTS != 6 ? 2 : 1, DEEP = TILES * EIGHTS == 12 && TILES == 2 ? 1 : 2;
            uint4 few[DEEP][REST][TILES];
#pragma unroll
            for (unsigned d = 0; d < DEEP; ++d) load_rows(few[d], from, HELD + d * REST, stretch.count);
#pragma unroll 1
            for (unsigned first = HELD; first < stretch.count; first += DEEP * REST)
#pragma unroll
                for (unsigned d = 0; d < DEEP; ++d) {
                    const unsigned at = first + d * REST;
                    if (at >= stretch.count) break;
                    settle(few[d], from, at);
                    MOVED(global_in, min(REST, stretch.count - at) * TILES * 16);
#pragma unroll
                    for (unsigned i = 0; i < REST; ++i) {
                        if (at + i >= stretch.count) break;
                        from_shared(at, i, few[d][i]);
                    }
                    load_rows(few[d], from, at + DEEP * REST, stretch.count);
                }
        }
    }
#pragma unroll
    for (unsigned m = 0; m < S::count; ++m)
#pragma unroll
        for (unsigned tile = 0; tile < TILES; ++tile)
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                float sum = sums[0][m][tile][i];
#pragma unroll
                for (unsigned chain = 1; chain < ALL; ++chain) sum += sums[chain][m][tile][i];
                to[m][tile][i] = sum;
            }
}

// The rows of a step, as Rows, where 32 bits count all.
struct StepRows {
    unsigned first, count;
    template <class P>
    __device__ __forceinline__ StepRows(const P& p, int step) {
        const bool there = step >= 0 && step < int(p.steps);
        if (p.offsets && there) {
            const int64_t* offset = at<const int64_t>(p.offsets) + step;
            first = unsigned(offset[0]), count = unsigned(offset[1] - offset[0]);
        } else {
            first = there ? unsigned(step) * unsigned(p.batch) : 0, count = there ? unsigned(p.batch) : 0;
        }
    }
    __device__ __forceinline__ unsigned in(unsigned begin, unsigned most) const {
        return count > begin ? min(count - begin, most) : 0;
    }
};

// A unit and a column of a tile, one to a thread: so numbered that neither the warps' stores of sums nor the threads' reads meet in a
// bank, that eight units of a column are written side by side, and that a unit's neighbour is four lanes on.
struct Cell {
    unsigned unit, column;
    __device__ __forceinline__ Cell(unsigned n, unsigned octets)
        : unit(n / 64 % octets * 8 + n % 32 / 4), column(n / 64 / octets * COLUMNS + n % 4 * 2 + n / 32 % 2) {}
    static __device__ __forceinline__ unsigned of(unsigned tile, unsigned octet, unsigned octets, unsigned parity) {
        return (tile * octets + octet) * 64 + parity * 32;
    }
};

// Where the warps' sums meet: V numbers to a cell (the gates of a unit, or one). Those of warps without a stretch are zeros.
template <unsigned V>
struct Sums {
    // In [2, WARPS, cells, V] this lane's place among its warp's, and this thread's cell.
    SharedPlace lane, cell;
    unsigned bytes;  // of a warp's

    // Called by all threads, and then the block meets.
    __device__ __forceinline__ Sums(float* place, unsigned cells)
        : lane(place + (warp_in_block() * cells + lane_in_warp()) * V), cell(place + threadIdx.x * V), bytes(kept(cells * V * 4)) {
        for (unsigned i = threadIdx.x; i < floats(cells); i += THREADS) place[i] = 0;
    }
    static __device__ __forceinline__ unsigned floats(unsigned cells) { return 2 * WARPS * cells * V; }
    __device__ __forceinline__ unsigned of(unsigned turn) const { return turn % 2 ? WARPS * bytes : 0; }

    template <unsigned SIXTEENS, unsigned TILES>
    __device__ __forceinline__ void store(unsigned turn, const float (&sums)[SIXTEENS][TILES][4], unsigned octets) const {
        const SharedPlace to = lane + of(turn);
#pragma unroll
        for (unsigned tile = 0; tile < TILES; ++tile)
#pragma unroll
            for (unsigned octet = 0; octet < (V == 4 ? 2 : 2 * SIXTEENS); ++octet) {
                if (octet >= octets) break;
#pragma unroll
                for (unsigned parity = 0; parity < 2; ++parity) {
                    const unsigned cell = Cell::of(tile, octet, octets, parity) * V * 4;
                    if constexpr (V == 4) {
                        const auto &low = sums[octet * 2][tile], &high = sums[octet * 2 + 1][tile];
                        to.store(cell, low[parity], low[2 + parity], high[parity], high[2 + parity]);
                    } else {
                        to.store(cell, sums[octet / 2][tile][octet % 2 * 2 + parity]);
                    }
                    MOVED(shared_out, V * 4);
                }
            }
    }
    __device__ __forceinline__ void total(float (&sum)[V], unsigned turn) const {
        const SharedPlace from = cell + of(turn);
        float values[WARPS][V];
#pragma unroll
        for (unsigned i = 0; i < WARPS; ++i) from.load(values[i], i * bytes);
#pragma unroll
        for (unsigned i = 0; i < WARPS; ++i)
#pragma unroll
            for (unsigned v = 0; v < V; ++v) sum[v] += values[i][v];
        MOVED(shared_in, WARPS * V * 4);
    }
};

// A cell's value for the others, once in a word; of halves the unit's with an even number takes along its neighbour's. Called by whole
// warps; `there`: whether this unit's word is to be written.
template <class T>
__device__ __forceinline__ void tell(T* to, float value, unsigned unit, bool there) {
    if constexpr (sizeof(T) == 4) {
        const unsigned word = __float_as_uint(value);
        // A NaN may look like that; it stays one.
        if (there) store_exchanged(reinterpret_cast<unsigned*>(to), word == UNWRITTEN ? 0x7fffffffu : word);
    } else {
        const unsigned mine = narrow<T>(value).bits, next = __shfl_xor_sync(full_warp, mine, 4);
        if (there && unit % 2 == 0) store_exchanged(reinterpret_cast<unsigned*>(to), mine | next << 16);
    }
}
