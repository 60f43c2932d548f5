// Optimizer steps in place, by the formulas of src/cpu/optimizer.rs: one pass over parameter, gradient and state. A thread owns
// elements, a grid apart. Bound by memory: everything in, all but the gradient out; ten to twenty FLOPs.
#include "device/loop.cuh"

// The gradient with its L2 penalty; without one the parameter is not looked at, so that an infinite one adds no NaN.
template <class C>
__device__ __forceinline__ C penalised(C g, C p, C decay) {
    return decay == C(0) ? g : g + decay * p;
}

// p, g, buffer [count]
template <class T>
__device__ __forceinline__ void sgd(const Sgd& p) {
    using C = compute_t<T>;
    const C lr = C(p.lr), momentum = C(p.momentum), keep = C(p.keep), decay = C(p.decay);
    auto buffer = at<C>(p.buffer);
    FOR_EACH(i, p.count) {
        T& at_p = at<T>(p.p)[i];
        C value = widen(at_p), g = penalised(C(widen(at<const T>(p.g)[i])), value, decay), step = g;
        if (buffer) {
            C b = momentum * buffer[i] + keep * g;
            buffer[i] = b;
            step = p.nesterov ? g + momentum * b : b;
        }
        at_p = narrow<T>(value - lr * step);
    }
}
KERNEL_FLOATS(sgd, Sgd)

// p, g, m, v, top [count]
template <class T>
__device__ __forceinline__ void adam(const Adam& p) {
    using C = compute_t<T>;
    const C shrink = C(p.shrink), decay = C(p.decay), m_weight = C(p.m_weight), beta2 = C(p.beta2), v_weight = C(p.v_weight);
    const C eps = C(p.eps), size = C(p.size), root = C(p.root);
    auto all_m = at<C>(p.m), all_v = at<C>(p.v), all_top = at<C>(p.top);
    FOR_EACH(i, p.count) {
        T& at_p = at<T>(p.p)[i];
        C value = widen(at_p) * shrink, g = penalised(C(widen(at<const T>(p.g)[i])), value, decay);
        C m = all_m[i] + m_weight * (g - all_m[i]), v = beta2 * all_v[i] + v_weight * (g * g), top = v;
        all_m[i] = m, all_v[i] = v;
        if (all_top) {
            // A NaN wins.
            C old = all_top[i];
            top = old >= v || old != old ? old : v;
            all_top[i] = top;
        }
        at_p = narrow<T>(value - size * m / (sqrt_(top) / root + eps));
    }
}
KERNEL_FLOATS(adam, Adam)

// p, g, v, mean, buffer [count]
template <class T>
__device__ __forceinline__ void rmsprop(const RmsProp& p) {
    using C = compute_t<T>;
    const C lr = C(p.lr), alpha = C(p.alpha), v_weight = C(p.v_weight), eps = C(p.eps), decay = C(p.decay);
    const C momentum = C(p.momentum);
    auto all_v = at<C>(p.v), all_mean = at<C>(p.mean), buffer = at<C>(p.buffer);
    FOR_EACH(i, p.count) {
        T& at_p = at<T>(p.p)[i];
        C value = widen(at_p), g = penalised(C(widen(at<const T>(p.g)[i])), value, decay);
        C v = alpha * all_v[i] + v_weight * (g * g), spread = v;
        all_v[i] = v;
        if (all_mean) {
            C mean = all_mean[i] + v_weight * (g - all_mean[i]);
            all_mean[i] = mean;
            spread = v - mean * mean;
        }
        C divisor = sqrt_(spread) + eps, step;
        if (buffer) {
            step = momentum * buffer[i] + g / divisor;
            buffer[i] = step;
            step = lr * step;
        } else {
            step = lr * g / divisor;
        }
        at_p = narrow<T>(value - step);
    }
}
KERNEL_FLOATS(rmsprop, RmsProp)

// p, g, sum [count]
template <class T>
__device__ __forceinline__ void adagrad(const Adagrad& p) {
    using C = compute_t<T>;
    const C rate = C(p.rate), eps = C(p.eps), decay = C(p.decay);
    FOR_EACH(i, p.count) {
        T& at_p = at<T>(p.p)[i];
        C value = widen(at_p), g = penalised(C(widen(at<const T>(p.g)[i])), value, decay);
        C sum = at<C>(p.sum)[i] + g * g;
        at<C>(p.sum)[i] = sum;
        at_p = narrow<T>(value - rate * g / (sqrt_(sum) + eps));
    }
}
KERNEL_FLOATS(adagrad, Adagrad)
