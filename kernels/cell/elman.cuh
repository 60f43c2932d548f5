// Elman's network (1990): one unit of one sequence at one step. No indices, no memory.
#pragma once

#include "../device/number.cuh"

// From the pre-activation. NaN stays NaN: only a number below zero becomes zero.
template <bool RELU, class M = Accurate, class C>
__device__ __forceinline__ C elman(C a) {
    if constexpr (RELU) return a < C(0) ? C(0) : a;
    else return M::tanh(a);
}

// The gradient of the pre-activation, from the activation y and the gradient of y.
template <bool RELU, class C>
__device__ __forceinline__ C elman_backward(C y, C dh) {
    if constexpr (RELU) return y > C(0) || y != y ? dh : C(0);
    else return dh * (C(1) - y * y);
}
