// What the recurrent layers do around their steps: rows and states between the caller's order and the packed one, biases, the
// states before each step, gradients of the peepholes. A thread owns an element (of a peephole: a unit, over all rows in
// order). All move each element once in and once out.
#include "device/loop.cuh"

// The step of a packed row: the last t with offsets[t] <= row.
__device__ __forceinline__ uint64_t step_of(const int64_t* offsets, uint64_t steps, uint64_t row) {
    uint64_t low = 0, high = steps;
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        (uint64_t(offsets[middle]) <= row ? low : high) = middle;
    }
    return low;
}

__device__ __forceinline__ uint64_t caller_row(const RecurrentRows& p, uint64_t row) {
    const int64_t* offsets = at<const int64_t>(p.offsets);
    uint64_t t = step_of(offsets, p.steps, row), k = row - uint64_t(offsets[t]);
    uint64_t sequence = p.sequences ? uint64_t(at<const int64_t>(p.sequences)[k]) : k;
    return t * p.step_stride + sequence * p.sequence_stride;
}

// from: the caller's rows of T; to [rows, width] in the type that is computed in.
template <class T>
__device__ __forceinline__ void rows_in(const RecurrentRows& p) {
    FOR_EACH(i, p.rows * p.width) {
        uint64_t row = i / p.width, j = i % p.width;
        at<compute_t<T>>(p.to)[i] = widen(at<const T>(p.from)[caller_row(p, row) * p.width + j]);
    }
}
KERNEL_FLOATS(rows_in, RecurrentRows)

// The way back: from [rows, width], to the caller's rows of T.
template <class T>
__device__ __forceinline__ void rows_out(const RecurrentRows& p) {
    FOR_EACH(i, p.rows * p.width) {
        uint64_t row = i / p.width, j = i % p.width;
        at<T>(p.to)[caller_row(p, row) * p.width + j] = narrow<T>(at<const compute_t<T>>(p.from)[i]);
    }
}
KERNEL_FLOATS(rows_out, RecurrentRows)

__device__ __forceinline__ uint64_t caller_state(const RecurrentStates& p, uint64_t i) {
    uint64_t k = i / p.width, j = i % p.width;
    return (p.sequences ? uint64_t(at<const int64_t>(p.sequences)[k]) : k) * p.width + j;
}

template <class T>
__device__ __forceinline__ void states_in(const RecurrentStates& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.batch * p.width) at<C>(p.to)[i] = p.from ? widen(at<const T>(p.from)[caller_state(p, i)]) : C(0);
}
KERNEL_FLOATS(states_in, RecurrentStates)

template <class T>
__device__ __forceinline__ void states_out(const RecurrentStates& p) {
    FOR_EACH(i, p.batch * p.width) at<T>(p.to)[caller_state(p, i)] = narrow<T>(at<const compute_t<T>>(p.from)[i]);
}
KERNEL_FLOATS(states_out, RecurrentStates)

template <class C>
__device__ __forceinline__ void recurrent_bias(const RecurrentBias& p) {
    FOR_EACH(j, p.gates + p.hidden) {
        C sum = C(0);
        if (p.ih && j < p.gates) sum = at<const C>(p.ih)[j];
        if (p.hh && j < p.split) sum += at<const C>(p.hh)[j];
        if (p.hh && j >= p.split + p.hidden) sum = at<const C>(p.hh)[j - p.hidden];
        at<C>(p.to)[j] = sum;
    }
}
KERNEL(recurrent_bias_f32, RecurrentBias) { recurrent_bias<float>(p); }
KERNEL(recurrent_bias_f64, RecurrentBias) { recurrent_bias<double>(p); }

template <class C>
__device__ __forceinline__ void previous(const RecurrentPrevious& p) {
    const int64_t* offsets = at<const int64_t>(p.offsets);
    FOR_EACH(i, p.rows * p.width) {
        uint64_t row = i / p.width, j = i % p.width;
        uint64_t t = step_of(offsets, p.steps, row), b = row - uint64_t(offsets[t]);
        bool begins = p.reverse ? t + 1 == p.steps || b >= uint64_t(offsets[t + 2] - offsets[t + 1]) : t == 0;
        uint64_t earlier = uint64_t(offsets[p.reverse ? t + 1 : t - 1]) + b;
        at<C>(p.to)[i] = begins ? at<const C>(p.first)[b * p.width + j] : at<const C>(p.y)[earlier * p.stride + j];
    }
}
KERNEL(previous_f32, RecurrentPrevious) { previous<float>(p); }
KERNEL(previous_f64, RecurrentPrevious) { previous<double>(p); }

// gates [rows, 4 hidden] hold gradients; cells and before [rows, hidden] are c after and before each step. 6 FLOPs a row and unit.
template <class C>
__device__ __forceinline__ void peephole_gradient(const RecurrentPeephole& p) {
    const uint64_t H = p.hidden;
    C* to = at<C>(p.to);
    FOR_EACH(j, H) {
        C i = p.add ? to[j] : C(0), f = p.add ? to[H + j] : C(0), o = p.add ? to[2 * H + j] : C(0);
        for (uint64_t row = 0; row < p.rows; ++row) {
            const C* g = at<const C>(p.gates) + row * 4 * H + j;
            C before = at<const C>(p.before)[row * H + j];
            i = fma_(g[0], before, i);
            f = fma_(g[H], before, f);
            o = fma_(g[3 * H], at<const C>(p.cells)[row * H + j], o);
        }
        to[j] = i;
        to[H + j] = f;
        to[2 * H + j] = o;
    }
}
KERNEL(peephole_gradient_f32, RecurrentPeephole) { peephole_gradient<float>(p); }
KERNEL(peephole_gradient_f64, RecurrentPeephole) { peephole_gradient<double>(p); }
