// Philox4x32-10, as src/rng.rs has it: the same words for the same seed, stream and index.
#pragma once

#include "kernel.cuh"

struct Words {
    uint32_t at[4];
};

__device__ __forceinline__ Words philox(uint64_t seed, uint64_t stream, uint64_t block) {
    uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(stream), c3 = uint32_t(stream >> 32);
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        uint32_t high2 = __umulhi(0xCD9E8D57u, c2), low2 = 0xCD9E8D57u * c2;
        c0 = high2 ^ c1 ^ k0, c1 = low2, c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// A uniform number in [0, 1): the 24 upper bits of a word.
__device__ __forceinline__ float unit(uint32_t word) { return float(word >> 8) * (1.0f / 16777216.0f); }
// The same out of 53 bits of two words.
__device__ __forceinline__ double unit(uint32_t low, uint32_t high) {
    return double((uint64_t(low) | uint64_t(high) << 32) >> 11) * (1.0 / 9007199254740992.0);
}
