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

// A warp's stretch of the depth, and its weights.
template <class T, unsigned EIGHTS, unsigned HELD>
struct Stretch {
    unsigned begin, count;  // chunks
    unsigned used;          // of the eights: the others are zeros
    unsigned words;         // of 16 bytes, of shared memory that all warps take
    // By pairs of eights, as the tensor cores take them: for the first of a chunk's two products, then for the second.
    uint4 held[HELD ? HELD : 1][EIGHTS];
    SharedPlace rest;

    // `there` of the chunks that there is room for. `element(eight, row, k)`: the address of the first of EACH neighbours of the depth, `stride` apart; null for zeros. `valid(k)`: how
    // many of them there are. Called by all threads; each reads only what it has written.
    template <class F, class V>
    __device__ __forceinline__ Stretch(unsigned chunks, unsigned there, unsigned used, uint4* shared, uint64_t stride, bool vector, F element, V valid)
        : used(used), rest(shared) {
        const unsigned each = (chunks + WARPS - 1) / WARPS, warp = warp_in_block(), lane = lane_in_warp();
        begin = min(warp * each, there), count = min(each, there - begin);
        const unsigned pairs = (used + 1) / 2, apart = (each > HELD ? each - HELD : 0) * pairs * 64;
        uint4* mine = shared + warp * apart + lane;
        rest = SharedPlace(mine), words = WARPS * apart;
        auto load = [&](unsigned chunk, unsigned eight) {
            const unsigned k = (begin + chunk) * CHUNK<T> + lane % 4 * EACH<T>, valid_here = valid(k);
            const T* from = chunk < count && valid_here ? element(eight, lane / 4, k) : nullptr;
            Vec<T, EACH<T>> values{};
            if (from) {
                if (vector && stride == 1 && valid_here == EACH<T>) values = load_vec<T, EACH<T>>(from);
                else
#pragma unroll
                    for (unsigned j = 0; j < EACH<T>; ++j)
                        if (j < valid_here) values[j] = from[j * stride];
            }
            uint4 words;
            memcpy(&words, &values, 16);
            return words;
        };
        auto pair = [&](unsigned chunk, unsigned m, uint4& first, uint4& second) {
            const uint4 low = load(chunk, 2 * m), high = 2 * m + 1 < used ? load(chunk, 2 * m + 1) : uint4{0, 0, 0, 0};
            first = {low.x, high.x, low.y, high.y}, second = {low.z, high.z, low.w, high.w};
        };
        if constexpr (HELD > 0)
#pragma unroll
            for (unsigned i = 0; i < HELD; ++i)
#pragma unroll
                for (unsigned m = 0; m < EIGHTS / 2; ++m) pair(i, m, held[i][2 * m], held[i][2 * m + 1]);
#pragma unroll 1
        for (unsigned i = HELD; i < count; ++i)
#pragma unroll 1
            for (unsigned m = 0; m < pairs; ++m) {
                uint4* to = mine + ((i - HELD) * pairs + m) * 64;
                pair(i, m, to[0], to[32]);
            }
    }
    __device__ __forceinline__ unsigned shared_words() const { return words; }
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

// Chunks that are loaded together, and how many such loads are under way at once: as many as registers allow. Each has registers of its
// own, in turn after turn, so their number divides that of the batches that weights are held for.
template <unsigned HELD, unsigned TILES> constexpr unsigned BATCH = HELD && HELD < 4 / TILES ? HELD : 4 / TILES;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool OLDER = true;  // where the same code needs some more registers
#else
constexpr bool OLDER = false;
#endif
constexpr unsigned MOST_UNDER_WAY = OLDER ? 2 : 3;
constexpr unsigned ways(unsigned batches) {
    for (unsigned ways = MOST_UNDER_WAY; ways > 1; --ways)
        if (batches % ways == 0) return batches ? ways : 2;
    return 1;
}
template <unsigned HELD, unsigned TILES> constexpr unsigned UNDER_WAY = ways(HELD / BATCH<HELD, TILES>);
// Whether there are registers for the next turn's first loads beside a turn's products.
template <unsigned EIGHTS> constexpr bool AHEAD = !OLDER || EIGHTS < 4;
template <unsigned HELD, unsigned TILES>
using Batches = uint4[UNDER_WAY<HELD, TILES>][BATCH<HELD, TILES>][TILES];

// The first loads of a turn, where none are under way yet.
template <unsigned HELD, unsigned TILES>
__device__ __forceinline__ void begin_stretch(Batches<HELD, TILES>& rows, const unsigned char* const (&from)[TILES], unsigned count) {
#pragma unroll
    for (unsigned b = 0; b < UNDER_WAY<HELD, TILES>; ++b) load_rows(rows[b], from, b * BATCH<HELD, TILES>, count);
}

// A chunk of a pair of eights times eight columns: both products to one sum or, `apart`, each to its own, which then do not wait for each
// other.
template <class T>
__device__ __forceinline__ void multiply_pair(float (&to)[4], float (&other)[4], bool apart, const uint4& first, const uint4& second,
                                              const uint4& x, bool exact) {
    const unsigned of_first[4] = {first.x, first.y, first.z, first.w}, of_second[4] = {second.x, second.y, second.z, second.w};
    if (apart) {
        Mma<T> sum(to);
        multiply<T>(sum, of_first, {x.x, x.y}, exact);
        Mma<T> beside(other);
        multiply<T>(beside, of_second, {x.z, x.w}, exact);
    } else {
        Mma<T> sum(to);
        multiply<T>(sum, of_first, {x.x, x.y}, exact);
        multiply<T>(sum, of_second, {x.z, x.w}, exact);
    }
}

// This warp's sums of its stretch's weights × rows, two eights of weights' rows to a tile of the tensor cores; those that are not used are
// left out, but for the second of two. Where `ahead`, the first loads of the next turn, of rows at `next`, are under way when this is done.
template <class T, unsigned EIGHTS, unsigned HELD, unsigned TILES>
__device__ __forceinline__ void multiply_stretch(float (&sums)[EIGHTS / 2][TILES][4], const Stretch<T, EIGHTS, HELD>& stretch,
                                                 Batches<HELD, TILES>& rows, const unsigned char* const (&from)[TILES], bool ahead,
                                                 const unsigned char* const (&next)[TILES], bool exact) {
    constexpr unsigned EACH_BATCH = BATCH<HELD, TILES>, BATCHES = HELD / EACH_BATCH, WAY = UNDER_WAY<HELD, TILES>, ROUND = WAY * EACH_BATCH;
    static_assert(HELD % ROUND == 0);
    // Few sums would wait for each other: of a chunk's two products each has its own.
    constexpr unsigned APART = EIGHTS / 2 * TILES < 4 ? 2 : 1;
    float parts[APART][EIGHTS / 2][TILES][4] = {};
    const unsigned count = stretch.count;
    // weight(2 m): what the first of a chunk's products takes of the m-th pair of eights; weight(2 m + 1), the second.
    auto chunk = [&](auto weight, const uint4 (&rows)[TILES]) {
#pragma unroll
        for (unsigned m = 0; m < EIGHTS / 2; ++m) {
            if (2 * m >= stretch.used) break;
            const uint4 first = weight(2 * m), second = weight(2 * m + 1);
#pragma unroll
            for (unsigned tile = 0; tile < TILES; ++tile)
                multiply_pair<T>(parts[0][m][tile], parts[APART - 1][m][tile], APART > 1, first, second, rows[tile], exact);
        }
    };
    [[maybe_unused]] auto from_shared = [&](unsigned at, const uint4 (&rows)[TILES]) {
        const unsigned pairs = (stretch.used + 1) / 2;
        const SharedPlace rest = stretch.rest + (at - HELD) * pairs * 1024;
        MOVED(shared_in, pairs * 32);
        chunk([&](unsigned i) { return rest.load(i * 512); }, rows);
    };
    auto settled = [&](uint4 (&batch)[EACH_BATCH][TILES], unsigned at) {
        settle(batch, from, at);
        MOVED(global_in, min(EACH_BATCH, count - at) * TILES * 16);
    };
    // Of so many weights and sums the chunks that are not held come one by one: with more under way some spill.
    constexpr bool RING = EIGHTS * TILES < (OLDER ? 4 : 16) || HELD == 0 || (!OLDER && TILES == 4);
#pragma unroll
    for (unsigned b = 0; b < BATCHES; ++b) {
        uint4(&batch)[EACH_BATCH][TILES] = rows[b % WAY];
        if (b * EACH_BATCH < count) {
            settled(batch, b * EACH_BATCH);
#pragma unroll
            for (unsigned i = 0; i < EACH_BATCH; ++i) {
                if (b * EACH_BATCH + i >= count) break;
                chunk([&](unsigned e) { return stretch.held[(b * EACH_BATCH + i) % (HELD ? HELD : 1)][e]; }, batch[i]);
            }
        }
        if (b + WAY < BATCHES || (RING && count > HELD)) load_rows(batch, from, (b + WAY) * EACH_BATCH, count);
        else if (ahead && count <= HELD) load_rows(batch, next, (b + WAY - BATCHES) * EACH_BATCH, count);
    }
    if (RING && count > HELD)
#pragma unroll 1
        for (unsigned first = HELD; first < count; first += ROUND)
#pragma unroll
            for (unsigned w = 0; w < WAY; ++w) {
                const unsigned at = first + w * EACH_BATCH;
                if (at < count) {
                    settled(rows[w], at);
#pragma unroll
                    for (unsigned i = 0; i < EACH_BATCH; ++i) {
                        if (at + i >= count) break;
                        from_shared(at + i, rows[w][i]);
                    }
                }
                if (first + ROUND < count) load_rows(rows[w], from, at + ROUND, count);
                else if (ahead) load_rows(rows[w], next, w * EACH_BATCH, count);
            }
    if (!RING && count > HELD) {
#pragma unroll 1
        for (unsigned at = HELD; at < count; ++at) {
            uint4 one[1][TILES];
            load_rows(one, from, at, count);
            settle(one, from, at);
            MOVED(global_in, TILES * 16);
            from_shared(at, one[0]);
        }
        if (ahead) begin_stretch<HELD, TILES>(rows, next, count);
    }
#pragma unroll
    for (unsigned m = 0; m < EIGHTS / 2; ++m)
#pragma unroll
        for (unsigned tile = 0; tile < TILES; ++tile)
#pragma unroll
            for (unsigned i = 0; i < 4; ++i)
                sums[m][tile][i] = APART == 1 ? parts[0][m][tile][i] : parts[0][m][tile][i] + parts[APART - 1][m][tile][i];
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
    SharedPlace at;  // [2, WARPS, cells, V]
    unsigned bytes;  // of a warp's

    // Called by all threads, and then the block meets.
    __device__ __forceinline__ Sums(float* place, unsigned cells) : at(place), bytes(cells * V * 4) {
        for (unsigned i = threadIdx.x; i < floats(cells); i += THREADS) place[i] = 0;
    }
    static __device__ __forceinline__ unsigned floats(unsigned cells) { return 2 * WARPS * cells * V; }
    __device__ __forceinline__ SharedPlace of(unsigned turn) const { return at + turn % 2 * WARPS * bytes; }

    // Of each octet EACH eights in a row have its units' numbers.
    template <unsigned EACH, unsigned SIXTEENS, unsigned TILES>
    __device__ __forceinline__ void store(unsigned turn, const float (&sums)[SIXTEENS][TILES][4], unsigned octets) const {
        const SharedPlace to = of(turn) + (warp_in_block() * bytes + lane_in_warp() * V * 4);
#pragma unroll
        for (unsigned tile = 0; tile < TILES; ++tile)
#pragma unroll
            for (unsigned octet = 0; octet < 2 * SIXTEENS / EACH; ++octet) {
                if (octet >= octets) break;
#pragma unroll
                for (unsigned parity = 0; parity < 2; ++parity) {
                    const unsigned cell = Cell::of(tile, octet, octets, parity) * V * 4;
                    auto value = [&](unsigned i) {
                        const unsigned eight = octet * EACH + i;
                        return i < EACH ? sums[eight / 2 % SIXTEENS][tile][eight % 2 * 2 + parity] : 0.0f;
                    };
                    if constexpr (V == 4) to.store(cell, value(0), value(1), value(2), value(3));
                    else if constexpr (V == 2) to.store(cell, value(0), value(1));
                    else to.store(cell, value(0));
                    MOVED(shared_out, V * 4);
                }
            }
    }
    __device__ __forceinline__ void total(float (&sum)[V], unsigned turn, unsigned cell) const {
        const SharedPlace from = of(turn) + cell * V * 4;
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
