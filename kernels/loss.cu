// Losses and their gradients, by the formulas of src/cpu/loss.rs. Bound by memory: a few elements in and one out, at most some
// eighty FLOPs.
#include "device/loop.cuh"

// Of two numbers the greater; the second if the first is NaN.
template <class C> __device__ __forceinline__ C greater(C a, C b) { return a > b ? a : b; }
template <class C> __device__ __forceinline__ C sign(C x) { return C(x > C(0)) - C(x < C(0)); }
template <class C> __device__ __forceinline__ C log_sigmoid(C x) {
    C low = x < C(0) || x != x ? x : C(0);
    return low - log1p_(exp_(-abs_(x)));
}
template <class C> __device__ __forceinline__ C x_log_x(C x) { return x == C(0) ? C(0) : x * log_(x); }
template <class C> __device__ __forceinline__ C held(C x, C bound) { return x <= -bound ? -bound : x >= bound ? bound : x; }

// y[i] = weight[i] * f(x, t, i), the weight one where there is none. A thread owns vectors, a grid apart.
template <class T, class F>
__device__ __forceinline__ void each(const T* x, const T* t, const T* weight, T* y, uint64_t count, F f) {
    using C = compute_t<T>;
    if (weight) map(count, y, [&](uint64_t i, C x, C t, C w) { return w * f(x, t, i); }, x, t, weight);
    else map(count, y, [&](uint64_t i, C x, C t) { return f(x, t, i); }, x, t);
}

template <class C>
__device__ __forceinline__ void check_probability(const PointwiseLoss& p, unsigned kind, uint64_t i, C x) {
    if (!(x >= C(0) && x <= C(1))) report(p.fault, kind, int64_t(i), __double_as_longlong(double(x)), 0);
}

// x, target, weight [count] -> y [count]
template <class T>
__device__ __forceinline__ void pointwise_loss(const PointwiseLoss& p) {
    using C = compute_t<T>;
    const C one = 1, half = C(0.5), floor = -100, bound = C(p.bound);
    auto pos_weight = at<const T>(p.pos_weight);
    auto run = [&](auto f) {
        each(at<const T>(p.x), at<const T>(p.target), at<const T>(p.weight), at<T>(p.y), p.count, f);
    };
    switch (p.loss) {
        case LOSS_MSE: return run([](C x, C t, uint64_t) { return (x - t) * (x - t); });
        case LOSS_L1: return run([](C x, C t, uint64_t) { return abs_(x - t); });
        case LOSS_HUBER:
            return run([&](C x, C t, uint64_t) {
                C z = abs_(x - t);
                return z <= bound ? half * z * z : bound * (z - half * bound);
            });
        case LOSS_SMOOTH_L1:
            return run([&](C x, C t, uint64_t) {
                C z = abs_(x - t);
                return z < bound ? half * z * z / bound : z - half * bound;
            });
        case LOSS_BCE:
            return run([&](C x, C t, uint64_t i) {
                check_probability(p, FAULT_INPUT_PROBABILITY, i, x);
                check_probability(p, FAULT_TARGET_PROBABILITY, i, t);
                return (t - one) * greater(log1p_(-x), floor) - t * greater(log_(x), floor);
            });
        case LOSS_BCE_WITH_LOGITS:
            return run([&](C x, C t, uint64_t i) {
                C scale = pos_weight ? (widen(pos_weight[i % p.trailing]) - one) * t + one : one;
                return (one - t) * x - scale * log_sigmoid(x);
            });
        case LOSS_KL_DIV: return run([](C x, C t, uint64_t) { return x_log_x(t) - t * x; });
        case LOSS_KL_DIV_LOG_TARGET: return run([](C x, C t, uint64_t) { return exp_(t) * (t - x); });
    }
}
KERNEL_FLOATS(pointwise_loss, PointwiseLoss)

// x, target, weight, dy [count] -> dx [count]: of the input, or of the target.
template <class T>
__device__ __forceinline__ void pointwise_loss_backward(const PointwiseLossBackward& p) {
    using C = compute_t<T>;
    // The constant is ATen's, an f32 in f64 too.
    const C one = 1, two = 2, tiny = C(1e-12f), bound = C(p.bound);
    auto x = at<const T>(p.x), t = at<const T>(p.target);
    auto pos_weight = at<const T>(p.pos_weight);
    auto dy = [&](uint64_t i) { return C(widen(at<const T>(p.dy)[i])); };
    auto pos = [&](uint64_t i) { return C(widen(pos_weight[i % p.trailing])); };
    auto run = [&](auto f) { each(x, t, at<const T>(p.weight), at<T>(p.dx), p.count, f); };
    // Of the difference alone: for the target's gradient x and t change places.
    auto difference = [&](auto f) {
        auto of = [&](C x, C t, uint64_t i) { return p.to_target ? f(t - x) * dy(i) : f(x - t) * dy(i); };
        run(of);
    };
    switch (p.loss) {
        case LOSS_MSE: return difference([&](C z) { return two * z; });
        case LOSS_L1: return difference([](C z) { return sign(z); });
        case LOSS_HUBER: return difference([&](C z) { return held(z, bound); });
        case LOSS_SMOOTH_L1: return difference([&](C z) { return held(z, bound) / bound; });
        case LOSS_BCE:
            // Towards the target: minus the logit, not clamped. Towards x the denominator is held at 10^-12.
            if (p.to_target) return run([&](C x, C, uint64_t i) { return log_((one - x) / x) * dy(i); });
            return run([&](C x, C t, uint64_t i) { return dy(i) * (x - t) / greater((one - x) * x, tiny); });
        case LOSS_BCE_WITH_LOGITS:
            return run([&](C x, C t, uint64_t i) {
                if (p.to_target) return (pos_weight ? log_sigmoid(-x) - pos(i) * log_sigmoid(x) : -x) * dy(i);
                if (!pos_weight) return (sigmoid_(x) - t) * dy(i);
                C scaled = pos(i) * t;
                return ((scaled + one - t) * sigmoid_(x) - scaled) * dy(i);
            });
        case LOSS_KL_DIV:
            // At t = 0 the target's gradient is NaN: t ln t has no derivative there.
            if (p.to_target) return run([&](C x, C t, uint64_t i) { return (log_(t) + t * (one / t) - x) * dy(i); });
            return run([&](C, C t, uint64_t i) { return -t * dy(i); });
        case LOSS_KL_DIV_LOG_TARGET:
            if (p.to_target) return run([&](C x, C t, uint64_t i) { return exp_(t) * (t - x + one) * dy(i); });
            return run([&](C, C t, uint64_t i) { return -exp_(t) * dy(i); });
    }
}
KERNEL_FLOATS(pointwise_loss_backward, PointwiseLossBackward)

// The weight of a class, one where there are none.
template <class T, class P>
__device__ __forceinline__ compute_t<T> weight_of(const P& p, uint64_t k) {
    return p.weight ? widen(at<const T>(p.weight)[k]) : compute_t<T>(1);
}

// x [outer, classes, inner] -> y, sample_weight [outer, inner]. A thread owns a sample: with smoothing it reads all of its
// classes, without only the target's.
template <class T>
__device__ __forceinline__ void class_loss(const ClassLoss& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.outer * p.inner) {
        int64_t target = at<const int64_t>(p.target)[i];
        bool inside = uint64_t(target) < p.classes, ignored = target == p.ignore_index;
        if (!inside && !ignored) report(p.fault, FAULT_TARGET, int64_t(i), target, int64_t(p.classes));
        C loss = 0, weight = 0;
        if (inside && !ignored) {
            auto x = at<const T>(p.x) + i / p.inner * p.classes * p.inner + i % p.inner;
            weight = weight_of<T>(p, uint64_t(target));
            loss = -widen(x[uint64_t(target) * p.inner]) * weight;
            if (p.smoothing != 0) {
                C everywhere = 0;
                for (uint64_t k = 0; k < p.classes; ++k) everywhere += widen(x[k * p.inner]) * weight_of<T>(p, k);
                loss = C(1 - p.smoothing) * loss - C(p.smoothing / double(p.classes)) * everywhere;
            }
        }
        at<T>(p.y)[i] = narrow<T>(loss);
        at<T>(p.sample_weight)[i] = narrow<T>(weight);
    }
}
KERNEL_FLOATS(class_loss, ClassLoss)

// dy [outer, inner] -> dx [outer, classes, inner]. A thread owns elements of dx, a grid apart. An ignored sample, and without
// smoothing every class but the target, has exactly 0, also where dy is not finite.
template <class T>
__device__ __forceinline__ void class_loss_backward(const ClassLossBackward& p) {
    using C = compute_t<T>;
    FOR_EACH(i, p.outer * p.classes * p.inner) {
        uint64_t row = i / p.inner, k = row % p.classes, sample = row / p.classes * p.inner + i % p.inner;
        int64_t target = at<const int64_t>(p.target)[sample];
        C dy = widen(at<const T>(p.dy)[sample]), dx = 0;
        if (target != p.ignore_index) {
            C weight = weight_of<T>(p, k), spread = C(p.smoothing / double(p.classes));
            if (uint64_t(target) == k) {
                dx = -dy * C(1 - p.smoothing) * weight;
                if (p.smoothing != 0) dx -= dy * spread * weight;
            } else if (p.smoothing != 0) {
                dx = -spread * weight * dy;
            }
        }
        at<T>(p.dx)[i] = narrow<T>(dx);
    }
}
KERNEL_FLOATS(class_loss_backward, ClassLossBackward)
