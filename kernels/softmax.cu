// Softmax and its logarithm along one axis of [outer, n, inner]. The passes over a row after the first mostly hit the cache:
// bound by memory, some forty FLOPs an element (two exponentials).
#include "device/loop.cuh"

template <class C>
__device__ __forceinline__ C normalised(bool log, C x, C max, C sum) {
    return log ? x - max - sum : exp_(x - max) * sum;
}

// inner = 1: x [outer, n] -> y. A team owns a row.
template <class T>
__device__ __forceinline__ void softmax_rows(const Softmax& p) {
    using C = compute_t<T>;
    auto* scratch = dynamic_shared<C>();  // 32 values
    Team team;
    for (uint64_t row = team.first; row < p.outer; row += team.step) {
        auto x = at<const T>(p.x) + row * p.n;
        auto y = at<T>(p.y) + row * p.n;
        C max = -INFINITY, sum = 0;
        for (uint64_t i = team.lane; i < p.n; i += team.width) max = Max()(max, widen(x[i]));
        max = team.reduce(max, C(-INFINITY), scratch, Max());
        for (uint64_t i = team.lane; i < p.n; i += team.width) sum += exp_(widen(x[i]) - max);
        sum = team.reduce(sum, C(0), scratch, Sum());
        sum = p.log ? log_(sum) : C(1) / sum;
        for (uint64_t i = team.lane; i < p.n; i += team.width) y[i] = narrow<T>(normalised(p.log, C(widen(x[i])), max, sum));
    }
}
KERNEL_FLOATS(softmax_rows, Softmax)

// Any inner. A thread owns a column, so that neighbours read neighbours.
template <class T>
__device__ __forceinline__ void softmax_columns(const Softmax& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.outer * p.inner) {
        uint64_t first = i / p.inner * p.n * p.inner + i % p.inner;
        auto x = at<const T>(p.x) + first;
        auto y = at<T>(p.y) + first;
        C max = -INFINITY, sum = 0;
        for (uint64_t j = 0; j < p.n; ++j) max = Max()(max, widen(x[j * p.inner]));
        for (uint64_t j = 0; j < p.n; ++j) sum += exp_(widen(x[j * p.inner]) - max);
        sum = p.log ? log_(sum) : C(1) / sum;
        for (uint64_t j = 0; j < p.n; ++j)
            y[j * p.inner] = narrow<T>(normalised(p.log, C(widen(x[j * p.inner])), max, sum));
    }
}
KERNEL_FLOATS(softmax_columns, Softmax)

template <class C> __device__ __forceinline__ C term(bool log, C y, C dy) { return log ? dy : y * dy; }
template <class C>
__device__ __forceinline__ C gradient(bool log, C y, C dy, C sum) {
    return log ? dy - exp_(y) * sum : y * (dy - sum);
}

// inner = 1: y, dy [outer, n] -> dx: y (dy - sum y dy), or dy - exp(y) sum dy of the logarithm. A team owns a row.
template <class T>
__device__ __forceinline__ void softmax_backward_rows(const SoftmaxBackward& p) {
    using C = compute_t<T>;
    auto* scratch = dynamic_shared<C>();  // 32 values
    Team team;
    for (uint64_t row = team.first; row < p.outer; row += team.step) {
        auto y = at<const T>(p.y) + row * p.n, dy = at<const T>(p.dy) + row * p.n;
        auto dx = at<T>(p.dx) + row * p.n;
        C sum = 0;
        for (uint64_t i = team.lane; i < p.n; i += team.width) sum += term(p.log, C(widen(y[i])), C(widen(dy[i])));
        sum = team.reduce(sum, C(0), scratch, Sum());
        for (uint64_t i = team.lane; i < p.n; i += team.width)
            dx[i] = narrow<T>(gradient(p.log, C(widen(y[i])), C(widen(dy[i])), sum));
    }
}
KERNEL_FLOATS(softmax_backward_rows, SoftmaxBackward)

// Any inner. A thread owns a column.
template <class T>
__device__ __forceinline__ void softmax_backward_columns(const SoftmaxBackward& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.outer * p.inner) {
        uint64_t first = i / p.inner * p.n * p.inner + i % p.inner;
        auto y = at<const T>(p.y) + first, dy = at<const T>(p.dy) + first;
        auto dx = at<T>(p.dx) + first;
        C sum = 0;
        for (uint64_t k = 0, j = 0; k < p.n; ++k, j += p.inner) sum += term(p.log, C(widen(y[j])), C(widen(dy[j])));
        for (uint64_t k = 0, j = 0; k < p.n; ++k, j += p.inner)
            dx[j] = narrow<T>(gradient(p.log, C(widen(y[j])), C(widen(dy[j])), sum));
    }
}
KERNEL_FLOATS(softmax_backward_columns, SoftmaxBackward)
