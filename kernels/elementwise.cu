// Functions of each element. A thread owns vectors of 16 bytes, a grid apart; all are bound by memory.
#include "device/loop.cuh"

// x [count] -> y [count]. Moves one element in and one out; one to some thirty FLOPs.
template <class T>
__device__ __forceinline__ void unary(const Unary& p) {
    using C = compute_t<T>;
    const C a = C(p.a), b = C(p.b);
    auto run = [&](auto f) { map(p.count, at<T>(p.y), [&](uint64_t, C x) { return f(x); }, at<const T>(p.x)); };
    switch (p.op) {
        case UNARY_NEG: return run([](C x) { return -x; });
        case UNARY_EXP: return run([](C x) { return exp_(x); });
        case UNARY_LOG: return run([](C x) { return log_(x); });
        case UNARY_SQRT: return run([](C x) { return sqrt_(x); });
        case UNARY_ABS: return run([](C x) { return abs_(x); });
        case UNARY_TANH: return run([](C x) { return tanh_(x); });
        case UNARY_SIGMOID: return run([](C x) { return sigmoid_(x); });
        // Comparisons with NaN are false: here and in the clamp it takes the arm that is x.
        case UNARY_RELU: return run([](C x) { return x <= C(0) ? C(0) : x; });
        case UNARY_ONE: return run([](C) { return C(1); });
        case UNARY_SQUARE: return run([](C x) { return x * x; });
        case UNARY_POWER: return run([&](C x) { return pow_(x, a); });
        case UNARY_AFFINE: return run([&](C x) { return x * a + b; });
        case UNARY_QUOTIENT: return run([&](C x) { return x / a; });
        case UNARY_CLAMP:
            return run([&](C x) {
                x = x < a ? a : x;
                return x > b ? b : x;
            });
    }
}
KERNEL_FLOATS(unary, Unary)

// x or y, and dy [count] -> dx [count]. Moves two elements in (one where the derivative is constant) and one out.
template <class T>
__device__ __forceinline__ void unary_backward(const UnaryBackward& p) {
    using C = compute_t<T>;
    const C a = C(p.a), b = C(p.b);
    auto from_dy = [&](auto f) { map(p.count, at<T>(p.dx), [&](uint64_t, C dy) { return f(dy); }, at<const T>(p.dy)); };
    auto with = [&](uint64_t kept, auto f) {
        map(p.count, at<T>(p.dx), [&](uint64_t, C k, C dy) { return f(k, dy); }, at<const T>(kept), at<const T>(p.dy));
    };
    switch (p.op) {
        case UNARY_NEG: return from_dy([](C dy) { return -dy; });
        case UNARY_EXP: return with(p.y, [](C y, C dy) { return dy * y; });
        case UNARY_LOG: return with(p.x, [](C x, C dy) { return dy / x; });
        case UNARY_SQRT: return with(p.y, [](C y, C dy) { return dy / (y + y); });
        case UNARY_ABS:
            return with(p.x, [](C x, C dy) { return dy * (x > C(0) ? C(1) : x < C(0) ? C(-1) : C(0)); });
        case UNARY_TANH: return with(p.y, [](C y, C dy) { return dy * (C(1) - y * y); });
        case UNARY_SIGMOID: return with(p.y, [](C y, C dy) { return dy * (y * (C(1) - y)); });
        case UNARY_RELU: return with(p.x, [](C x, C dy) { return x <= C(0) ? C(0) : dy; });
        case UNARY_ONE: return from_dy([](C) { return C(0); });
        case UNARY_SQUARE: return with(p.x, [](C x, C dy) { return dy * (x + x); });
        case UNARY_POWER: return with(p.x, [&](C x, C dy) { return dy * (a * pow_(x, b)); });
        case UNARY_AFFINE: return from_dy([&](C dy) { return dy * a; });
        case UNARY_QUOTIENT: return from_dy([&](C dy) { return dy / a; });
        case UNARY_CLAMP: return with(p.x, [&](C x, C dy) { return x >= a && x <= b ? dy : C(0); });
    }
}
KERNEL_FLOATS(unary_backward, UnaryBackward)

// Calls `run` with the function that `op` names.
template <class C, class Run>
__device__ __forceinline__ void with_binary(unsigned op, Run run) {
    switch (op) {
        case BINARY_ADD: return run([](C a, C b) { return a + b; });
        case BINARY_SUB: return run([](C a, C b) { return a - b; });
        case BINARY_MUL: return run([](C a, C b) { return a * b; });
        case BINARY_DIV: return run([](C a, C b) { return a / b; });
    }
}

// a, b [count], or one of them [1] -> y [count]. Moves up to two elements in and one out, one FLOP.
template <class T>
__device__ __forceinline__ void binary(const Binary& p) {
    using C = compute_t<T>;
    auto a = at<const T>(p.a), b = at<const T>(p.b);
    auto y = at<T>(p.y);
    bool dense_a = p.stride_a[0] != 0, dense_b = p.stride_b[0] != 0;
    with_binary<C>(p.op, [&](auto f) {
        if (dense_a && dense_b) {
            map(p.count, y, [&](uint64_t, C a, C b) { return f(a, b); }, a, b);
        } else if (dense_a) {
            map(p.count, y, [&, one = widen(*b)](uint64_t, C a) { return f(a, one); }, a);
        } else if (dense_b) {
            map(p.count, y, [&, one = widen(*a)](uint64_t, C b) { return f(one, b); }, b);
        } else {
            map(p.count, y, [value = f(widen(*a), widen(*b))](uint64_t) { return value; });
        }
    });
}
KERNEL_FLOATS(binary, Binary)

// Calls step(d, index) for each dimension of the i-th place of a walk, the last first.
template <class Index, class P, class Step>
__device__ __forceinline__ void dimensions(const P& p, uint64_t i, Step step) {
    Index rest = Index(i);
    for (int d = int(p.rank) - 1; d >= 0; --d) {
        Index extent = Index(p.extent[d]), next = rest / extent;
        step(d, rest - next * extent);
        rest = next;
    }
}

// Calls run(i, walk) for this thread's places of a walk, a grid apart; walk(step) goes through their dimensions.
template <class P, class Run>
__device__ __forceinline__ void each_place(const P& p, Run run) {
    // Division is slow in 64 bits.
    if (p.count >> 32) {
        FOR_EACH(i, p.count) run(i, [&](auto step) { dimensions<uint64_t>(p, i, step); });
    } else {
        FOR_EACH(i, p.count) run(i, [&](auto step) { dimensions<uint32_t>(p, i, step); });
    }
}

// As `binary`, a and b at any strides. A thread owns elements of y, a grid apart.
template <class T>
__device__ __forceinline__ void binary_strided(const Binary& p) {
    with_binary<compute_t<T>>(p.op, [&](auto f) {
        each_place(p, [&](uint64_t i, auto walk) {
            uint64_t from_a = 0, from_b = 0;
            walk([&](int d, uint64_t here) { from_a += here * p.stride_a[d], from_b += here * p.stride_b[d]; });
            at<T>(p.y)[i] = narrow<T>(f(widen(at<const T>(p.a)[from_a]), widen(at<const T>(p.b)[from_b])));
        });
    });
}
KERNEL_FLOATS(binary_strided, Binary)

template <class T>
__device__ __forceinline__ bool holds(unsigned op, T a, T b) {
    switch (op) {
        case COMPARE_EQ: return a == b;
        case COMPARE_NE: return a != b;
        case COMPARE_LT: return a < b;
        case COMPARE_LE: return a <= b;
        case COMPARE_GT: return a > b;
        default: return a >= b;
    }
}
__device__ __forceinline__ uint8_t widen(uint8_t x) { return x; }
__device__ __forceinline__ uint32_t widen(uint32_t x) { return x; }
__device__ __forceinline__ int64_t widen(int64_t x) { return x; }

// a, b at any strides -> y [count] of u8: whether the comparison holds. A thread owns elements of y, a grid apart. Moves up to two elements in
// and a byte out.
template <class T>
__device__ __forceinline__ void compare(const Binary& p) {
    each_place(p, [&](uint64_t i, auto walk) {
        uint64_t from_a = 0, from_b = 0;
        walk([&](int d, uint64_t here) { from_a += here * p.stride_a[d], from_b += here * p.stride_b[d]; });
        at<uint8_t>(p.y)[i] = holds(p.op, widen(at<const T>(p.a)[from_a]), widen(at<const T>(p.b)[from_b]));
    });
}
KERNEL_FLOATS(compare, Binary)
KERNEL(compare_u32, Binary) { compare<uint32_t>(p); }
KERNEL(compare_i64, Binary) { compare<int64_t>(p); }
KERNEL(compare_u8, Binary) { compare<uint8_t>(p); }

// mask, a, b at any strides -> y [count]. A thread owns elements of y, a grid apart. Moves one element and a byte in and one out.
template <class W>
__device__ __forceinline__ void select(const Select& p) {
    each_place(p, [&](uint64_t i, auto walk) {
        uint64_t mask = 0, from_a = 0, from_b = 0;
        walk([&](int d, uint64_t here) {
            mask += here * p.stride_mask[d], from_a += here * p.stride_a[d], from_b += here * p.stride_b[d];
        });
        at<W>(p.y)[i] = at<const uint8_t>(p.mask)[mask] ? at<const W>(p.a)[from_a] : at<const W>(p.b)[from_b];
    });
}
KERNEL(select_b8, Select) { select<uint8_t>(p); }
KERNEL(select_b16, Select) { select<uint16_t>(p); }
KERNEL(select_b32, Select) { select<uint32_t>(p); }
KERNEL(select_b64, Select) { select<uint64_t>(p); }

// x, y [count] -> y [count]. Moves two elements in and one out, two FLOPs.
template <class T>
__device__ __forceinline__ void axpy(const Axpy& p) {
    using C = compute_t<T>;
    const C alpha = C(p.alpha);
    map(p.count, at<T>(p.y), [&](uint64_t, C x, C y) { return x * alpha + y; }, at<const T>(p.x), at<const T>(p.y));
}
KERNEL_FLOATS(axpy, Axpy)
