// The LSTM (Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000), with peepholes as Graves 2013 (eq. 7-11) has them:
// one unit of one sequence at one step. No indices, no memory.
#pragma once

#include "../device/number.cuh"

template <class C>
struct LstmUnit {
    C i, f, g, o;  // pre-activations, then activations, then gradients of the pre-activations
    C c;           // the cell state, before and after
    C h;
};

// p: the unit's peephole weights into i, f and o; 0 without.
template <bool PEEPHOLE, class M = Accurate, class C>
__device__ __forceinline__ void lstm(LstmUnit<C>& u, const C (&p)[3]) {
    if constexpr (PEEPHOLE) {
        u.i = fma_(p[0], u.c, u.i);
        u.f = fma_(p[1], u.c, u.f);
    }
    u.i = M::sigmoid(u.i);
    u.f = M::sigmoid(u.f);
    u.g = M::tanh(u.g);
    u.c = fma_(u.f, u.c, u.i * u.g);
    if constexpr (PEEPHOLE) u.o = fma_(p[2], u.c, u.o);
    u.o = M::sigmoid(u.o);
    u.h = u.o * M::tanh(u.c);
}

// u holds the activations and c after the step, dh and dc the gradients of h and of c after it; dc becomes that of c before it.
template <bool PEEPHOLE, class M = Accurate, class C>
__device__ __forceinline__ void lstm_backward(LstmUnit<C>& u, C c_before, C dh, C& dc, const C (&p)[3]) {
    C t = M::tanh(u.c);
    C d_o = dh * t * (u.o * (C(1) - u.o));
    C d_c = fma_(dh * u.o, C(1) - t * t, dc);
    if constexpr (PEEPHOLE) d_c = fma_(d_o, p[2], d_c);
    C d_i = d_c * u.g * (u.i * (C(1) - u.i));
    C d_f = d_c * c_before * (u.f * (C(1) - u.f));
    dc = d_c * u.f;
    if constexpr (PEEPHOLE) dc = fma_(d_f, p[1], fma_(d_i, p[0], dc));
    u.g = d_c * u.i * (C(1) - u.g * u.g);
    u.i = d_i;
    u.f = d_f;
    u.o = d_o;
}
