// The pointwise part of one time step, for a batch: pre-activations x W_ih + h W_hh come in and activations leave; backward,
// activations come in and the gradients of the pre-activations leave in their place. Pre-activations and cell states are of the
// type C that is computed in (f32, or f64), everything else of the network's T. A thread owns V = 4 neighbouring units of one
// sequence where memory is so aligned (`vector`), else one; neighbouring threads own neighbouring units, so every access is dense.
// Bound by memory: per unit G gates in and G out, and the states; some 10 to 40 FLOPs.
#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "device/loop.cuh"

// The place of V units in the buffers of a step: of G gates, in [count, G hidden].
template <int V>
struct Units {
    unsigned b, j;
    uint64_t state, gate;
    __device__ __forceinline__ Units(unsigned i, unsigned hidden, unsigned gates) {
        unsigned each = hidden / V;
        b = i / each;
        j = (i - b * each) * V;
        state = uint64_t(b) * hidden + j;
        gate = uint64_t(b) * gates * hidden + j;
    }
};

// The units of a thread. A step has fewer than 2^32 of them, so that divisions are of 32 bits.
#define FOR_UNITS(u, p, gates)                                                                                              \
    for (unsigned i_ = unsigned(thread_in_grid()), end_ = unsigned(p.count * p.hidden / V); i_ < end_;                      \
         i_ += unsigned(threads_in_grid()))                                                                                 \
        if (const Units<V> u(i_, unsigned(p.hidden), gates); true)

template <int V, class T>
__device__ __forceinline__ Vec<compute_t<T>, V> get(const T* from) {
    Vec<T, V> in = load_vec<T, V>(from);
    Vec<compute_t<T>, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out[v] = widen(in[v]);
    return out;
}
template <class T, int V>
__device__ __forceinline__ void put(T* to, const Vec<compute_t<T>, V>& values) {
    Vec<T, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out[v] = narrow<T>(values[v]);
    store_vec<T, V>(to, out);
}
template <class C, int V>
__device__ __forceinline__ Vec<C, V> all(C value) {
    Vec<C, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out[v] = value;
    return out;
}
// values += those at `from`
template <int V, class C, class T>
__device__ __forceinline__ void plus(Vec<C, V>& values, const T* from) {
    Vec<C, V> more = get<V>(from);
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] += more[v];
}

// A pre-activation and its bias.
template <class C, int V>
__device__ __forceinline__ Vec<C, V> biased(const C* pre, const C* bias) {
    Vec<C, V> sum = get<V>(pre);
    plus<V>(sum, bias);
    return sum;
}

// h and c before the step.
template <class T, int V, class P>
__device__ __forceinline__ Vec<compute_t<T>, V> h_before(const P& p, const Units<V>& u) {
    if (u.b < p.before) return get<V>(at<const T>(p.h_before) + u.b * p.stride + u.j);
    return p.h_first ? get<V>(at<const T>(p.h_first) + u.state) : all<compute_t<T>, V>(0);
}
template <class C, int V, class P>
__device__ __forceinline__ Vec<C, V> c_before(const P& p, const Units<V>& u) {
    if (u.b < p.before) return get<V>(at<const C>(p.c_before) + u.state);
    return p.c_first ? get<V>(at<const C>(p.c_first) + u.state) : all<C, V>(0);
}
template <class T, int V>
__device__ __forceinline__ Vec<compute_t<T>, V> gradient_of_h(const RecurrentStepBackward& p, const Units<V>& u) {
    Vec<compute_t<T>, V> dh = get<V>(at<const compute_t<T>>(p.dh) + u.state);
    if (p.dy) plus<V>(dh, at<const T>(p.dy) + u.b * p.stride + u.j);
    return dh;
}
template <class T, int V>
__device__ __forceinline__ void put_h(const RecurrentStep& p, const Units<V>& u, const Vec<compute_t<T>, V>& h) {
    put<T, V>(at<T>(p.y) + u.b * p.stride + u.j, h);
}

template <bool RELU>
struct Elman {
    template <class T, int V>
    static __device__ __forceinline__ void step(const RecurrentStep& p) {
        using C = compute_t<T>;
        FOR_UNITS(u, p, 1) {
            auto h = biased<C, V>(at<const C>(p.pre) + u.gate, at<const C>(p.bias) + u.j);
#pragma unroll
            for (int v = 0; v < V; ++v) h[v] = elman<RELU>(h[v]);
            if (p.gates) put<T, V>(at<T>(p.gates) + u.gate, h);
            put_h<T>(p, u, h);
        }
    }
    template <class T, int V>
    static __device__ __forceinline__ void step_backward(const RecurrentStepBackward& p) {
        FOR_UNITS(u, p, 1) {
            T* gate = at<T>(p.gates) + u.gate;
            auto h = get<V>(gate), dh = gradient_of_h<T>(p, u);
#pragma unroll
            for (int v = 0; v < V; ++v) h[v] = elman_backward<RELU>(h[v], dh[v]);
            put<T, V>(gate, h);
        }
    }
};

// c [count, hidden] receives the cell states; may be c_before.
template <bool PEEPHOLE>
struct LongShortTerm {
    template <class T, int V>
    struct Gates {
        using C = compute_t<T>;
        Vec<C, V> i, f, g, o;
        Vec<C, V> w[3];

        __device__ __forceinline__ void peephole(uint64_t from, const Units<V>& u, uint64_t H) {
#pragma unroll
            for (int k = 0; k < 3; ++k)
                if constexpr (PEEPHOLE) w[k] = get<V>(at<const T>(from) + k * H + u.j);
        }
        __device__ __forceinline__ LstmUnit<C> unit(int v, C c) const { return {i[v], f[v], g[v], o[v], c, C(0)}; }
        __device__ __forceinline__ void weights(int v, C (&of)[3]) const {
#pragma unroll
            for (int k = 0; k < 3; ++k) of[k] = PEEPHOLE ? w[k][v] : C(0);
        }
        __device__ __forceinline__ void set(int v, const LstmUnit<C>& x) { i[v] = x.i, f[v] = x.f, g[v] = x.g, o[v] = x.o; }
        __device__ __forceinline__ void keep(T* to, uint64_t H) const {
            put<T, V>(to, i);
            put<T, V>(to + H, f);
            put<T, V>(to + 2 * H, g);
            put<T, V>(to + 3 * H, o);
        }
    };

    template <class T, int V>
    static __device__ __forceinline__ void step(const RecurrentStep& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 4) {
            auto pre = at<const C>(p.pre) + u.gate;
            auto bias = at<const C>(p.bias) + u.j;
            Gates<T, V> gates;
            gates.i = biased<C, V>(pre, bias);
            gates.f = biased<C, V>(pre + H, bias + H);
            gates.g = biased<C, V>(pre + 2 * H, bias + 2 * H);
            gates.o = biased<C, V>(pre + 3 * H, bias + 3 * H);
            gates.peephole(p.peephole, u, H);
            auto c = c_before<C>(p, u), h = c;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                C w[3];
                gates.weights(v, w);
                auto x = gates.unit(v, c[v]);
                lstm<PEEPHOLE>(x, w);
                gates.set(v, x);
                c[v] = x.c;
                h[v] = x.h;
            }
            if (p.gates) gates.keep(at<T>(p.gates) + u.gate, H);
            put<C, V>(at<C>(p.c) + u.state, c);
            put_h<T>(p, u, h);
        }
    }
    template <class T, int V>
    static __device__ __forceinline__ void step_backward(const RecurrentStepBackward& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 4) {
            T* at_gates = at<T>(p.gates) + u.gate;
            Gates<T, V> gates{get<V>(at_gates), get<V>(at_gates + H), get<V>(at_gates + 2 * H), get<V>(at_gates + 3 * H), {}};
            gates.peephole(p.peephole, u, H);
            auto c = get<V>(at<const C>(p.c) + u.state), before = c_before<C>(p, u);
            auto dh = gradient_of_h<T>(p, u), dc = get<V>(at<const C>(p.dc) + u.state);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                C w[3];
                gates.weights(v, w);
                auto x = gates.unit(v, c[v]);
                lstm_backward<PEEPHOLE>(x, before[v], dh[v], dc[v], w);
                gates.set(v, x);
            }
            gates.keep(at_gates, H);
            put<C, V>(at<C>(p.dc) + u.state, dc);
        }
    }
};

// Four columns of gates a unit, r z s n, of which s is W_hn h + b_hn: so the three that h is multiplied for are side by side.
// q: h W_hh for the rows that have an h.
struct Gated {
    template <class T, int V>
    static __device__ __forceinline__ void step(const RecurrentStep& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 4) {
            auto pre = at<const C>(p.pre) + u.gate;
            auto bias = at<const C>(p.bias) + u.j;
            auto r = biased<C, V>(pre, bias), z = biased<C, V>(pre + H, bias + H), s = get<V>(bias + 2 * H);
            auto n = biased<C, V>(pre + 3 * H, bias + 3 * H);
            if (u.b < p.before || p.h_first) {
                auto q = at<const C>(p.q) + uint64_t(u.b) * 3 * H + u.j;
                plus<V>(r, q);
                plus<V>(z, q + H);
                plus<V>(s, q + 2 * H);
            }
            auto h = h_before<T>(p, u);
#pragma unroll
            for (int v = 0; v < V; ++v) h[v] = gru(r[v], z[v], n[v], s[v], h[v]);
            if (p.gates) {
                T* gates = at<T>(p.gates) + u.gate;
                put<T, V>(gates, r);
                put<T, V>(gates + H, z);
                put<T, V>(gates + 2 * H, s);
                put<T, V>(gates + 3 * H, n);
            }
            put_h<T>(p, u, h);
        }
    }
    // dh receives what reaches the earlier h past the product.
    template <class T, int V>
    static __device__ __forceinline__ void step_backward(const RecurrentStepBackward& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 4) {
            T* gates = at<T>(p.gates) + u.gate;
            auto r = get<V>(gates), z = get<V>(gates + H), s = get<V>(gates + 2 * H), n = get<V>(gates + 3 * H);
            auto h = h_before<T>(p, u), dh = gradient_of_h<T>(p, u);
#pragma unroll
            for (int v = 0; v < V; ++v) dh[v] = gru_backward(r[v], z[v], n[v], s[v], h[v], dh[v]);
            put<T, V>(gates, r);
            put<T, V>(gates + H, z);
            put<T, V>(gates + 2 * H, s);
            put<T, V>(gates + 3 * H, n);
            put<C, V>(at<C>(p.dh) + u.state, dh);
        }
    }
};

// The GRU that resets before the product, in two halves with a product between them: kept [count, hidden] receives r h, z stays
// among the pre-activations.
struct ResetGates {
    template <class T, int V>
    static __device__ __forceinline__ void step(const RecurrentStep& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 3) {
            C* pre = at<C>(p.pre) + u.gate;
            auto bias = at<const C>(p.bias) + u.j;
            auto r = biased<C, V>(pre, bias), z = biased<C, V>(pre + H, bias + H), h = h_before<T>(p, u);
#pragma unroll
            for (int v = 0; v < V; ++v) h[v] = gru_before_gates(r[v], z[v], h[v]);
            put<C, V>(pre + H, z);
            if (p.gates) {
                put<T, V>(at<T>(p.gates) + u.gate, r);
                put<T, V>(at<T>(p.gates) + u.gate + H, z);
            }
            put<T, V>(at<T>(p.kept) + u.state, h);
        }
    }
    // q [count, hidden]: the gradient of r h.
    template <class T, int V>
    static __device__ __forceinline__ void step_backward(const RecurrentStepBackward& p) {
        using C = compute_t<T>;
        FOR_UNITS(u, p, 3) {
            T* gate = at<T>(p.gates) + u.gate;
            C* at_dh = at<C>(p.dh) + u.state;
            auto r = get<V>(gate), h = h_before<T>(p, u), dh = get<V>(at_dh), q = get<V>(at<const C>(p.q) + u.state);
#pragma unroll
            for (int v = 0; v < V; ++v) dh[v] += gru_before_gates_backward(r[v], h[v], q[v]);
            put<T, V>(gate, r);
            put<C, V>(at_dh, dh);
        }
    }
};
struct ResetState {
    template <class T, int V>
    static __device__ __forceinline__ void step(const RecurrentStep& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 3) {
            auto pre = at<const C>(p.pre) + u.gate;
            auto z = get<V>(pre + H), n = biased<C, V>(pre + 2 * H, at<const C>(p.bias) + 2 * H + u.j), h = h_before<T>(p, u);
#pragma unroll
            for (int v = 0; v < V; ++v) h[v] = gru_before_state(z[v], n[v], h[v]);
            if (p.gates) put<T, V>(at<T>(p.gates) + u.gate + 2 * H, n);
            put_h<T>(p, u, h);
        }
    }
    template <class T, int V>
    static __device__ __forceinline__ void step_backward(const RecurrentStepBackward& p) {
        using C = compute_t<T>;
        const uint64_t H = p.hidden;
        FOR_UNITS(u, p, 3) {
            T* gates = at<T>(p.gates) + u.gate;
            auto z = get<V>(gates + H), n = get<V>(gates + 2 * H), h = h_before<T>(p, u), dh = gradient_of_h<T>(p, u);
#pragma unroll
            for (int v = 0; v < V; ++v) dh[v] = gru_before_state_backward(z[v], n[v], h[v], dh[v]);
            put<T, V>(gates + H, z);
            put<T, V>(gates + 2 * H, n);
            put<C, V>(at<C>(p.dh) + u.state, dh);
        }
    }
};

template <class Cell, class T>
__device__ __forceinline__ void step(const RecurrentStep& p) {
    if (p.vector) Cell::template step<T, 4>(p);
    else Cell::template step<T, 1>(p);
}
template <class Cell, class T>
__device__ __forceinline__ void step(const RecurrentStepBackward& p) {
    if (p.vector) Cell::template step_backward<T, 4>(p);
    else Cell::template step_backward<T, 1>(p);
}

#define STEP_OF(name, P, T, ...)                                                                                            \
    KERNEL_BOUNDS(name##_##T, P, 256) { step<__VA_ARGS__, T>(p); }
#define STEP(name, P, ...)                                                                                                  \
    STEP_OF(name, P, f64, __VA_ARGS__)                                                                                      \
    STEP_OF(name, P, f32, __VA_ARGS__)                                                                                      \
    STEP_OF(name, P, f16, __VA_ARGS__)                                                                                      \
    STEP_OF(name, P, bf16, __VA_ARGS__)
#define BOTH(name, ...)                                                                                                     \
    STEP(name, RecurrentStep, __VA_ARGS__)                                                                                  \
    STEP(name##_backward, RecurrentStepBackward, __VA_ARGS__)

BOTH(rnn_tanh, Elman<false>)
BOTH(rnn_relu, Elman<true>)
BOTH(lstm, LongShortTerm<false>)
BOTH(lstm_peephole, LongShortTerm<true>)
BOTH(gru, Gated)
BOTH(gru_before_gates, ResetGates)
BOTH(gru_before_state, ResetState)
