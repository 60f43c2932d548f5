// The pointwise part of a persistent step forward.
#pragma once

#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "persistent.cuh"

// The thread's unit: its biases and peepholes, and where its gates lie.
template <class T, unsigned PHASES = 1>
struct Unit {
    unsigned cell, gates;  // columns of gates
    uint64_t hidden, at;
    float bias[4], peephole[3];

    __device__ __forceinline__ Unit(const PersistentForward& p, const PersistentPass& pass, unsigned unit, bool there)
        : cell(unsigned(p.cell)), gates(cell <= CELL_RNN_RELU ? 1 : resets() ? 3 : 4), hidden(p.hidden), at(unit), bias{}, peephole{} {
        if (!there) return;
#pragma unroll
        for (unsigned g = 0; g < 4; ++g)
            if (g < gates) bias[g] = ::at<const float>(pass.bias)[g * hidden + unit];
        if (cell == CELL_LSTM_PEEPHOLE)
#pragma unroll
            for (unsigned k = 0; k < 3; ++k) peephole[k] = widen(::at<const T>(pass.peephole)[k * hidden + unit]);
    }
    __device__ __forceinline__ bool resets() const { return PHASES == 2 && cell == CELL_GRU_RESET_BEFORE; }
    // Whether a gate belongs to this product: of the two that a step may have.
    __device__ __forceinline__ bool has(unsigned g, bool second) const {
        return g < gates && (PHASES == 1 || (resets() && g == 2) == second);
    }
    // Of the GRU's columns the third, W_hn h + b_hn, gets nothing from x.
    __device__ __forceinline__ bool from_input(unsigned g, bool second = false) const {
        return has(g, second) && !(cell == CELL_GRU && g == 2);
    }
};

// One unit of one sequence: a, pre-activations to activations; carried, the cell state (LSTM) or h before (GRU); returns h, or
// before the second product what that multiplies.
template <class T, unsigned PHASES>
__device__ __forceinline__ float cell_forward(const Unit<T, PHASES>& unit, float (&a)[4], float& carried, bool second = false) {
    if (unit.resets()) {
        if (!second) return gru_before_gates(a[0], a[1], carried);
        return carried = widen(narrow<T>(gru_before_state(a[1], a[2], carried)));
    }
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
