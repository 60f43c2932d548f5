// Optimizer steps in place, by the formulas of src/cpu/optimizer.rs: one pass over parameters, gradients and states. A block
// takes one chunk of one tensor. Bound by memory: everything in, all but the gradient out; ten to twenty FLOPs.
#include "device/multi_tensor.cuh"

// The gradient with its L2 penalty; without one the parameter is not looked at, so that an infinite one adds no NaN.
template <class C>
__device__ __forceinline__ C penalised(C g, C p, C decay) {
    return decay == C(0) ? g : g + decay * p;
}

template <class T>
__device__ __forceinline__ void sgd(const Sgd& p) {
    using C = compute_t<T>;
    const C lr = C(p.lr), momentum = C(p.momentum), keep = C(p.keep), decay = C(p.decay);
    const bool nesterov = p.nesterov;
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.p[chunk.tensor]);
    auto* g = at<const T>(p.g[chunk.tensor]);
    if (auto* buffer = at<C>(p.buffer[chunk.tensor])) {
        auto rule = [&](C x, C g, C& buffer) {
            g = penalised(g, x, decay);
            buffer = momentum * buffer + keep * g;
            return x - lr * (nesterov ? g + momentum * buffer : buffer);
        };
        sweep(chunk, x, g, rule, buffer);
    } else {
        sweep(chunk, x, g, [&](C x, C g) { return x - lr * penalised(g, x, decay); });
    }
}
KERNEL_FLOATS(sgd, Sgd)

template <class T>
__device__ __forceinline__ void adam(const Adam& p) {
    using C = compute_t<T>;
    const C shrink = C(p.shrink), decay = C(p.decay), m_weight = C(p.m_weight), beta2 = C(p.beta2), v_weight = C(p.v_weight);
    const C eps = C(p.eps), size = C(p.size), root = C(p.root);
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.p[chunk.tensor]);
    auto* g = at<const T>(p.g[chunk.tensor]);
    auto *m = at<C>(p.m[chunk.tensor]), *v = at<C>(p.v[chunk.tensor]);
    // `top`: what the second moment becomes in the divisor.
    auto rule = [&](C x, C g, C& m, C& v, auto top) {
        x = x * shrink;
        g = penalised(g, x, decay);
        m = m + m_weight * (g - m);
        v = beta2 * v + v_weight * (g * g);
        return x - size * m / (sqrt_(top(v)) / root + eps);
    };
    if (auto* tops = at<C>(p.top[chunk.tensor])) {
        auto greatest = [&](C x, C g, C& m, C& v, C& top) {
            // A NaN wins.
            return rule(x, g, m, v, [&](C v) { return top = top >= v || top != top ? top : v; });
        };
        sweep(chunk, x, g, greatest, m, v, tops);
    } else {
        sweep(chunk, x, g, [&](C x, C g, C& m, C& v) { return rule(x, g, m, v, [](C v) { return v; }); }, m, v);
    }
}
KERNEL_FLOATS(adam, Adam)

template <class T>
__device__ __forceinline__ void rmsprop(const RmsProp& p) {
    using C = compute_t<T>;
    const C lr = C(p.lr), alpha = C(p.alpha), v_weight = C(p.v_weight), eps = C(p.eps), decay = C(p.decay);
    const C momentum = C(p.momentum);
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.p[chunk.tensor]);
    auto* g = at<const T>(p.g[chunk.tensor]);
    auto *v = at<C>(p.v[chunk.tensor]), *mean = at<C>(p.mean[chunk.tensor]), *buffer = at<C>(p.buffer[chunk.tensor]);
    auto square = [&](C g, C& v) { return v = alpha * v + v_weight * (g * g); };
    auto variance = [&](C g, C& v, C& mean) {
        square(g, v);
        mean = mean + v_weight * (g - mean);
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
        sweep(chunk, x, g, rule, v, mean, buffer);
    } else if (mean) {
        auto rule = [&](C x, C g, C& v, C& mean) {
            g = penalised(g, x, decay);
            return plain(x, g, variance(g, v, mean));
        };
        sweep(chunk, x, g, rule, v, mean);
    } else if (buffer) {
        auto rule = [&](C x, C g, C& v, C& buffer) {
            g = penalised(g, x, decay);
            return heavy(x, g, square(g, v), buffer);
        };
        sweep(chunk, x, g, rule, v, buffer);
    } else {
        auto rule = [&](C x, C g, C& v) {
            g = penalised(g, x, decay);
            return plain(x, g, square(g, v));
        };
        sweep(chunk, x, g, rule, v);
    }
}
KERNEL_FLOATS(rmsprop, RmsProp)

template <class T>
__device__ __forceinline__ void adagrad(const Adagrad& p) {
    using C = compute_t<T>;
    const C rate = C(p.rate), eps = C(p.eps), decay = C(p.decay);
    const Chunk chunk = chunk_of_block(p);
    auto rule = [&](C x, C g, C& sum) {
        g = penalised(g, x, decay);
        sum = sum + g * g;
        return x - rate * g / (sqrt_(sum) + eps);
    };
    sweep(chunk, at<T>(p.p[chunk.tensor]), at<const T>(p.g[chunk.tensor]), rule, at<C>(p.sum[chunk.tensor]));
}
KERNEL_FLOATS(adagrad, Adagrad)
