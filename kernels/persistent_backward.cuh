// The pointwise part of a persistent step backward.
#pragma once

#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "persistent.cuh"

// What a thread reads of its unit and one of its sequences while it waits.
struct Read {
    float a[4], c, c_before, h_before, dy;
};

// a: activations to gradients of the pre-activations; carried: dc (LSTM), or what reaches the earlier h past the product (GRU). Of
// the GRU that resets before the product dh is in the second turn the gradient of r h.
template <unsigned PHASES = 1>
__device__ __forceinline__ void cell_backward(unsigned cell, Read& r, const float (&peephole)[3], float dh, float& carried,
                                              bool second = false) {
    if (PHASES == 2 && cell == CELL_GRU_RESET_BEFORE) {
        if (second) carried += gru_before_gates_backward(r.a[0], r.h_before, dh);
        else carried = gru_before_state_backward(r.a[1], r.a[2], r.h_before, dh);
        return;
    }
    switch (cell) {
        case CELL_RNN_TANH: r.a[0] = elman_backward<false>(r.a[0], dh); break;
        case CELL_RNN_RELU: r.a[0] = elman_backward<true>(r.a[0], dh); break;
        case CELL_GRU: carried = gru_backward(r.a[0], r.a[1], r.a[3], r.a[2], r.h_before, dh); break;
        default: {
            LstmUnit<float> u{r.a[0], r.a[1], r.a[2], r.a[3], r.c, 0.0f};
            if (cell == CELL_LSTM_PEEPHOLE) lstm_backward<true>(u, r.c_before, dh, carried, peephole);
            else lstm_backward<false>(u, r.c_before, dh, carried, peephole);
            r.a[0] = u.i, r.a[1] = u.f, r.a[2] = u.g, r.a[3] = u.o;
        }
    }
}

// Which gates' gradients are made in a turn: of the two that a step may have, where it has two products.
template <unsigned PHASES>
struct Turn {
    bool second, reset, lstm;
    unsigned gates;
    __device__ __forceinline__ bool has(unsigned g) const {
        return g < gates && (PHASES == 1 || (reset ? (g == 0) == second : second));
    }
    // Whether cell states change.
    __device__ __forceinline__ bool cells() const { return lstm && (PHASES == 1 || second); }
};

// What a turn reads of the n-th sequence's row and of the one before it, where it `had` one.
template <class T, unsigned PHASES = 1>
__device__ __forceinline__ void read_own(Read& read, const PersistentBackward& p, const PersistentPass& pass, const Turn<PHASES>& turn,
                                         uint64_t row, uint64_t row_before, uint64_t n, uint64_t unit, bool had) {
    const T* from = at<const T>(pass.gates) + row * turn.gates * p.hidden + unit;
#pragma unroll
    for (unsigned g = 0; g < 4; ++g)
        if (turn.has(g)) {
            read.a[g] = widen(from[g * p.hidden]);
            MOVED(global_in, sizeof(T));
        }
    if (turn.cells()) {
        read.c = at<const float>(pass.cells)[row * p.hidden + unit];
        if (had) read.c_before = at<const float>(pass.cells)[row_before * p.hidden + unit];
        else if (pass.c_first) read.c_before = at<const float>(pass.c_first)[n * p.hidden + unit];
        MOVED(global_in, 8);
    }
    if (p.cell == CELL_GRU || (PHASES == 2 && turn.reset)) {
        if (had) read.h_before = widen(at<const T>(pass.y)[row_before * p.stride + unit]);
        else if (pass.h_first) read.h_before = widen(at<const T>(pass.h_first)[n * p.hidden + unit]);
        MOVED(global_in, sizeof(T));
    }
    if (pass.dy && !turn.second) {
        read.dy = widen(at<const T>(pass.dy)[row * p.stride + unit]);
        MOVED(global_in, sizeof(T));
    }
}
