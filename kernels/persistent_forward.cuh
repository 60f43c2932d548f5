// The pointwise part of a persistent step forward.
#pragma once

#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "persistent.cuh"

// The thread's unit: its biases and peepholes, and where its gates lie.
template <class T>
struct Unit {
    unsigned cell, gates;  // columns of gates
    uint64_t hidden, at;
    float bias[4], peephole[3];

    __device__ __forceinline__ Unit(const PersistentForward& p, const PersistentPass& pass, unsigned unit, bool there)
        : cell(unsigned(p.cell)), gates(cell <= CELL_RNN_RELU ? 1 : 4), hidden(p.hidden), at(unit), bias{}, peephole{} {
        if (!there) return;
#pragma unroll
        for (unsigned g = 0; g < 4; ++g)
            if (g < gates) bias[g] = ::at<const float>(pass.bias)[g * hidden + unit];
        if (cell == CELL_LSTM_PEEPHOLE)
#pragma unroll
            for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(::at<const T>(pass.peephole)[k * hidden + unit]);
    }
    // Of the GRU's columns the third, W_hn h + b_hn, gets nothing from x.
    __device__ __forceinline__ bool from_input(unsigned g) const { return g < gates && !(cell == CELL_GRU && g == 2); }
};

// One unit of one sequence: a, pre-activations to activations; carried, the cell state (LSTM) or h before (GRU); returns h.
template <class T>
__device__ __forceinline__ float cell_forward(const Unit<T>& unit, float (&a)[4], float& carried) {
    switch (unit.cell) {
        case CELL_RNN_TANH: return a[0] = elman<false>(a[0]);
        case CELL_RNN_RELU: return a[0] = elman<true>(a[0]);
        case CELL_GRU: {
            float h = widen(narrow<T>(gru(a[0], a[1], a[3], a[2], carried)));
            return carried = h;
        }
        default: {
            LstmUnit<float> u{a[0], a[1], a[2], a[3], carried, 0.0f};
            if (unit.cell == CELL_LSTM_PEEPHOLE) lstm<true>(u, unit.peephole);
            else lstm<false>(u, unit.peephole);
            a[0] = u.i, a[1] = u.f, a[2] = u.g, a[3] = u.o;
            carried = u.c;
            return u.h;
        }
    }
}
