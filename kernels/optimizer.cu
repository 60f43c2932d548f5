// Optimizer steps in place, by the formulas of src/cpu/optimizer.rs: one pass over parameters, gradients and states. A block
// takes one chunk of one tensor. Bound by memory: everything in, all but the gradient out; ten to twenty FLOPs.
#include "device/multi_tensor.cuh"

// The numbers of the step: those that came with the launch, or those that its clock has made.
template <class P>
__device__ __forceinline__ const double* numbers_of(const P& p) {
    return p.live ? at<const double>(p.live) : p.numbers;
}
template <class P>
__device__ __forceinline__ bool skipped(const P& p) {
    return p.skip && *at<const float>(p.skip) != 0.0f;
}

// What gradients are multiplied by.
__device__ __forceinline__ float factor_of(uint64_t scale) { return scale ? float(1.0 / double(*at<const float>(scale))) : 1.0f; }

// From m to g by a weight, as torch.lerp: from the nearer end, so that a weight of 1 is g to the bit.
template <class C>
__device__ __forceinline__ C toward(C m, C g, C weight) {
    return weight < C(0.5) ? m + weight * (g - m) : g - (C(1) - weight) * (g - m);
}

// The gradient with its L2 penalty; without one the parameter is not looked at, so that an infinite one adds no NaN.
template <class C>
__device__ __forceinline__ C penalised(C g, C p, C decay) {
    return decay == C(0) ? g : g + decay * p;
}

template <class T>
__device__ __forceinline__ void sgd(const Sgd& p) {
    using C = compute_t<T>;
    if (skipped(p)) return;
    const double* n = numbers_of(p);
    const C lr = C(n[0]), momentum = C(n[1]), keep = C(n[2]), decay = C(n[3]);
    const bool nesterov = p.nesterov;
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.p[chunk.tensor]);
    auto* g = at<const T>(p.g[chunk.tensor]);
    auto* master = at<C>(p.master[chunk.tensor]);
    const C unscale = C(factor_of(p.scale));
    if (auto* buffer = at<C>(p.buffer[chunk.tensor])) {
        auto rule = [&](C x, C g, C& buffer) {
            g = penalised(g, x, decay);
            buffer = momentum * buffer + keep * g;
            return x - lr * (nesterov ? g + momentum * buffer : buffer);
        };
        sweep(chunk, x, master, g, unscale, rule, buffer);
    } else {
        sweep(chunk, x, master, g, unscale, [&](C x, C g) { return x - lr * penalised(g, x, decay); });
    }
}
KERNEL_FLOATS(sgd, Sgd)

template <class T>
__device__ __forceinline__ void adam(const Adam& p) {
    using C = compute_t<T>;
    if (skipped(p)) return;
    const double* n = numbers_of(p);
    const C shrink = C(n[0]), decay = C(n[1]), m_weight = C(n[2]), beta2 = C(n[3]), v_weight = C(n[4]);
    const C eps = C(n[5]), size = C(n[6]), root = C(n[7]);
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.p[chunk.tensor]);
    auto* g = at<const T>(p.g[chunk.tensor]);
    auto* master = at<C>(p.master[chunk.tensor]);
    const C unscale = C(factor_of(p.scale));
    auto *m = at<C>(p.m[chunk.tensor]), *v = at<C>(p.v[chunk.tensor]);
    // `top`: what the second moment becomes in the divisor.
    auto rule = [&](C x, C g, C& m, C& v, auto top) {
        x = x * shrink;
        g = penalised(g, x, decay);
        m = toward(m, g, m_weight);
        v = beta2 * v + v_weight * (g * g);
        return x - size * m / (sqrt_(top(v)) / root + eps);
    };
    if (auto* tops = at<C>(p.top[chunk.tensor])) {
        auto greatest = [&](C x, C g, C& m, C& v, C& top) {
            // A NaN wins.
            return rule(x, g, m, v, [&](C v) { return top = top >= v || top != top ? top : v; });
        };
        sweep(chunk, x, master, g, unscale, greatest, m, v, tops);
    } else {
        sweep(chunk, x, master, g, unscale, [&](C x, C g, C& m, C& v) { return rule(x, g, m, v, [](C v) { return v; }); }, m, v);
    }
}
KERNEL_FLOATS(adam, Adam)

template <class T>
__device__ __forceinline__ void rmsprop(const RmsProp& p) {
    using C = compute_t<T>;
    if (skipped(p)) return;
    const double* n = numbers_of(p);
    const C lr = C(n[0]), alpha = C(n[1]), v_weight = C(n[2]), eps = C(n[3]), decay = C(n[4]), momentum = C(n[5]);
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.p[chunk.tensor]);
    auto* g = at<const T>(p.g[chunk.tensor]);
    auto* master = at<C>(p.master[chunk.tensor]);
    const C unscale = C(factor_of(p.scale));
    auto *v = at<C>(p.v[chunk.tensor]), *mean = at<C>(p.mean[chunk.tensor]), *buffer = at<C>(p.buffer[chunk.tensor]);
    auto square = [&](C g, C& v) { return v = alpha * v + v_weight * (g * g); };
    auto variance = [&](C g, C& v, C& mean) {
        square(g, v);
        mean = toward(mean, g, v_weight);
        return v - mean * mean;
    };
    auto plain = [&](C x, C g, C spread) { return x - lr * g / (sqrt_(spread) + eps); };
    auto heavy = [&](C x, C g, C spread, C& buffer) {
        buffer = momentum * buffer + g / (sqrt_(spread) + eps);
        return x - lr * buffer;
    };
    if (mean && buffer) {
        auto rule = [&](C x, C g, C& v, C& mean, C& buffer) {
            g = penalised(g, x, decay);
            return heavy(x, g, variance(g, v, mean), buffer);
        };
        sweep(chunk, x, master, g, unscale, rule, v, mean, buffer);
    } else if (mean) {
        auto rule = [&](C x, C g, C& v, C& mean) {
            g = penalised(g, x, decay);
            return plain(x, g, variance(g, v, mean));
        };
        sweep(chunk, x, master, g, unscale, rule, v, mean);
    } else if (buffer) {
        auto rule = [&](C x, C g, C& v, C& buffer) {
            g = penalised(g, x, decay);
            return heavy(x, g, square(g, v), buffer);
        };
        sweep(chunk, x, master, g, unscale, rule, v, buffer);
    } else {
        auto rule = [&](C x, C g, C& v) {
            g = penalised(g, x, decay);
            return plain(x, g, square(g, v));
        };
        sweep(chunk, x, master, g, unscale, rule, v);
    }
}
KERNEL_FLOATS(rmsprop, RmsProp)

template <class T>
__device__ __forceinline__ void adagrad(const Adagrad& p) {
    using C = compute_t<T>;
    if (skipped(p)) return;
    const double* n = numbers_of(p);
    const C rate = C(n[0]), eps = C(n[1]), decay = C(n[2]);
    const Chunk chunk = chunk_of_block(p);
    auto rule = [&](C x, C g, C& sum) {
        g = penalised(g, x, decay);
        sum = sum + g * g;
        return x - rate * g / (sqrt_(sum) + eps);
    };
    auto* x = at<T>(p.p[chunk.tensor]);
    sweep(chunk, x, at<C>(p.master[chunk.tensor]), at<const T>(p.g[chunk.tensor]), C(factor_of(p.scale)), rule, at<C>(p.sum[chunk.tensor]));
}
KERNEL_FLOATS(adagrad, Adagrad)

// base to the n-th by squaring, as the host does it: products alone, and none of them fused with what follows.
__device__ inline double whole_power(double base, uint64_t n) {
    double power = 1;
    for (; n; n >>= 1) {
        if (n & 1) power = __dmul_rn(power, base);
        base = __dmul_rn(base, base);
    }
    return power;
}

// A thread for each clock.
KERNEL(advance, Advance) {
    FOR_EACH(i, p.count) {
        if (skipped(p)) return;
        auto* settings = at<const double>(p.settings) + i * (4 + MAX_NUMBERS);
        auto* clock = at<double>(p.clocks) + i * (1 + MAX_NUMBERS);
        double* n = clock + 1;
        for (int k = 0; k < MAX_NUMBERS; ++k) n[k] = settings[4 + k];
        const double before = clock[0];
        const uint64_t step = uint64_t(before) + 1;
        switch (unsigned(settings[0])) {
            case CLOCK_ADAM:
                n[6] = settings[1] / (1.0 - whole_power(settings[2], step));
                n[7] = sqrt(1.0 - whole_power(settings[3], step));
                break;
            case CLOCK_ADAGRAD: n[0] = settings[1] / __dadd_rn(1.0, __dmul_rn(before, settings[2])); break;
            default: break;
        }
        clock[0] = double(step);
    }
}

// A block takes one chunk of one tensor. Bound by memory: each element in and out.
template <class T>
__device__ __forceinline__ void unscale(const Unscale& p) {
    using C = compute_t<T>;
    const C factor = C(factor_of(p.scale));
    const Chunk chunk = chunk_of_block(p);
    bool finite = true;
    if (!p.scale) each(chunk, at<const T>(p.x[chunk.tensor]), [&](C x) { finite = finite && x - x == C(0); });
    else change(chunk, at<T>(p.x[chunk.tensor]), [&](C x) {
        x = widen(narrow<T>(x * factor));
        finite = finite && x - x == C(0);
        return x;
    });
    // Whoever writes it writes the same.
    if (!finite) *at<float>(p.found) = 1.0f;
}
KERNEL_FLOATS(unscale, Unscale)

// One thread.
KERNEL(update_scale, UpdateScale) {
    if (thread_in_grid() != 0) return;
    float *scale = at<float>(p.scale), *steady = at<float>(p.steady), *found = at<float>(p.found);
    if (*found != 0.0f) {
        *scale *= p.backoff;
        *steady = 0;
    } else if (*steady + 1 >= p.interval) {
        // A scale that would no longer be finite stays.
        if (float grown = *scale * p.growth; grown - grown == 0.0f) *scale = grown;
        *steady = 0;
    } else {
        *steady += 1;
    }
    *found = 0;
}
