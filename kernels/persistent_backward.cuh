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

// a: activations to gradients of the pre-activations; carried: dc (LSTM), or what reaches the earlier h past the product (GRU).
__device__ __forceinline__ void cell_backward(unsigned cell, Read& r, const float (&peephole)[3], float dh, float& carried) {
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

// What a step reads of the n-th sequence's row and of the one before it, where it `had` one.
template <class T>
__device__ __forceinline__ void read_own(Read& read, const PersistentBackward& p, const PersistentPass& pass, unsigned gates,
                                         uint64_t row, uint64_t row_before, uint64_t n, uint64_t unit, bool had) {
    const T* from = at<const T>(pass.gates) + row * gates * p.hidden + unit;
#pragma unroll
    for (unsigned g = 0; g < 4; ++g)
        if (g < gates) {
            read.a[g] = widen(from[g * p.hidden]);
            MOVED(global_in, sizeof(T));
        }
    if (p.cell == CELL_LSTM || p.cell == CELL_LSTM_PEEPHOLE) {
        read.c = at<const float>(pass.cells)[row * p.hidden + unit];
        if (had) read.c_before = at<const float>(pass.cells)[row_before * p.hidden + unit];
        else if (pass.c_first) read.c_before = at<const float>(pass.c_first)[n * p.hidden + unit];
        MOVED(global_in, 8);
    }
    if (p.cell == CELL_GRU) {
        if (had) read.h_before = widen(at<const T>(pass.y)[row_before * p.stride + unit]);
        else if (pass.h_first) read.h_before = widen(at<const T>(pass.h_first)[n * p.hidden + unit]);
        MOVED(global_in, sizeof(T));
    }
    if (pass.dy) {
        read.dy = widen(at<const T>(pass.dy)[row * p.stride + unit]);
        MOVED(global_in, sizeof(T));
    }
}
