// The GRU, with the reset gate after the product (cuDNN, PyTorch) or before it (Cho et al. 2014): one unit of one sequence at one
// step. No indices, no memory.
#pragma once

#include "../device/number.cuh"

// After the product. r, z, n: pre-activations to activations; q: W_hn h + b_hn; returns h after the step.
template <class M = Accurate, class C>
__device__ __forceinline__ C gru(C& r, C& z, C& n, C q, C h) {
    r = M::sigmoid(r);
    z = M::sigmoid(z);
    n = M::tanh(fma_(r, q, n));
    return fma_(z, h - n, n);
}

// Activations to gradients of the pre-activations, q to the gradient of W_hn h + b_hn; returns z dh, a part of the gradient of h.
template <class C>
__device__ __forceinline__ C gru_backward(C& r, C& z, C& n, C& q, C h, C dh) {
    C d_n = dh * (C(1) - z) * (C(1) - n * n);
    C part = dh * z;
    z = dh * (h - n) * (z * (C(1) - z));
    C d_r = d_n * q * (r * (C(1) - r));
    q = d_n * r;
    n = d_n;
    r = d_r;
    return part;
}

// Before the product, first half: r and z; returns r h, which W_hn is multiplied by.
template <class C>
__device__ __forceinline__ C gru_before_gates(C& r, C& z, C h) {
    r = sigmoid_(r);
    z = sigmoid_(z);
    return r * h;
}

// Second half: n; returns h after the step.
template <class C>
__device__ __forceinline__ C gru_before_state(C z, C& n, C h) {
    n = tanh_(n);
    return fma_(z, h - n, n);
}

// The gradients of n and z; returns z dh.
template <class C>
__device__ __forceinline__ C gru_before_state_backward(C& z, C& n, C h, C dh) {
    C d_n = dh * (C(1) - z) * (C(1) - n * n);
    C part = dh * z;
    z = dh * (h - n) * (z * (C(1) - z));
    n = d_n;
    return part;
}

// That of r, from the gradient dq of r h; returns its part of dh.
template <class C>
__device__ __forceinline__ C gru_before_gates_backward(C& r, C h, C dq) {
    C part = dq * r;
    r = dq * h * (r * (C(1) - r));
    return part;
}
