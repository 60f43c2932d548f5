// The pointwise part of one time step, for a batch: gates come in as x W_ih + h W_hh and leave as activations; backward they come
// in as activations and leave as gradients of the pre-activations. f32 or f64: half types are widened before. A thread owns one
// unit of one sequence; neighbouring threads own neighbouring units, so every access is dense. Bound by memory: per unit G
// gates in and G out, and the states.
#include "cell/elman.cuh"
#include "cell/gru.cuh"
#include "cell/lstm.cuh"
#include "device/loop.cuh"

// The place of a unit in the buffers of a step.
struct Unit {
    uint64_t b, j, state, gate;
    __device__ __forceinline__ Unit(uint64_t i, uint64_t hidden, int gates)
        : b(i / hidden), j(i % hidden), state(i), gate(b * gates * hidden + j) {}
};

template <class C>
__device__ __forceinline__ void put_h(const RecurrentStep& p, const Unit& u, C h) {
    at<C>(p.h)[u.state] = h;
    if (p.y) at<C>(p.y)[u.b * p.stride + u.j] = h;
}

template <class C>
__device__ __forceinline__ C gradient_of_h(const RecurrentStepBackward& p, const Unit& u) {
    C dh = at<const C>(p.dh)[u.state];
    return p.dy ? dh + at<const C>(p.dy)[u.b * p.stride + u.j] : dh;
}

template <class C>
__device__ __forceinline__ C h_before(const RecurrentStepBackward& p, const Unit& u) {
    return u.b < p.before ? at<const C>(p.h_before)[u.b * p.stride + u.j] : at<const C>(p.h_first)[u.state];
}

template <bool RELU, class C>
__device__ __forceinline__ void elman_step(const RecurrentStep& p) {
    FOR_EACH(i, p.count * p.hidden) {
        Unit u(i, p.hidden, 1);
        C h = elman<RELU>(at<C>(p.gates)[u.gate] + at<const C>(p.bias)[u.j]);
        at<C>(p.gates)[u.gate] = h;
        put_h(p, u, h);
    }
}
template <bool RELU, class C>
__device__ __forceinline__ void elman_step_backward(const RecurrentStepBackward& p) {
    FOR_EACH(i, p.count * p.hidden) {
        Unit u(i, p.hidden, 1);
        C& gate = at<C>(p.gates)[u.gate];
        gate = elman_backward<RELU>(gate, gradient_of_h<C>(p, u));
    }
}

template <bool PEEPHOLE, class C>
__device__ __forceinline__ void load_peephole(uint64_t from, const Unit& u, uint64_t hidden, C (&w)[3]) {
#pragma unroll
    for (int k = 0; k < 3; ++k) w[k] = PEEPHOLE ? at<const C>(from)[k * hidden + u.j] : C(0);
}

template <bool PEEPHOLE, class C>
__device__ __forceinline__ void lstm_step(const RecurrentStep& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(n, p.count * H) {
        Unit u(n, H, 4);
        C* g = at<C>(p.gates) + u.gate;
        const C* b = at<const C>(p.bias) + u.j;
        C w[3];
        load_peephole<PEEPHOLE>(p.peephole, u, H, w);
        LstmUnit<C> x{g[0] + b[0], g[H] + b[H], g[2 * H] + b[2 * H], g[3 * H] + b[3 * H], at<C>(p.c)[u.state], C(0)};
        lstm<PEEPHOLE>(x, w);
        g[0] = x.i;
        g[H] = x.f;
        g[2 * H] = x.g;
        g[3 * H] = x.o;
        at<C>(p.c)[u.state] = x.c;
        if (p.cells) at<C>(p.cells)[u.state] = x.c;
        put_h(p, u, x.h);
    }
}
template <bool PEEPHOLE, class C>
__device__ __forceinline__ void lstm_step_backward(const RecurrentStepBackward& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(n, p.count * H) {
        Unit u(n, H, 4);
        C* g = at<C>(p.gates) + u.gate;
        C w[3];
        load_peephole<PEEPHOLE>(p.peephole, u, H, w);
        LstmUnit<C> x{g[0], g[H], g[2 * H], g[3 * H], at<const C>(p.c)[u.state], C(0)};
        C c_before = at<const C>(u.b < p.before ? p.c_before : p.c_first)[u.state];
        C dc = at<C>(p.dc)[u.state];
        lstm_backward<PEEPHOLE>(x, c_before, gradient_of_h<C>(p, u), dc, w);
        g[0] = x.i;
        g[H] = x.f;
        g[2 * H] = x.g;
        g[3 * H] = x.o;
        at<C>(p.dc)[u.state] = dc;
    }
}

// q [count, 3 hidden]: h W_hh, or 0 where h is zero; kept [count, hidden] receives W_hn h + b_hn.
template <class C>
__device__ __forceinline__ void gru_step(const RecurrentStep& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(i, p.count * H) {
        Unit u(i, H, 3);
        C* g = at<C>(p.gates) + u.gate;
        const C *q = at<const C>(p.q) + u.gate, *b = at<const C>(p.bias) + u.j;
        C r = g[0] + b[0], z = g[H] + b[H], n = g[2 * H] + b[2 * H], s = b[3 * H];
        if (p.q) r += q[0], z += q[H], s += q[2 * H];
        C h = gru(r, z, n, s, at<C>(p.h)[u.state]);
        g[0] = r;
        g[H] = z;
        g[2 * H] = n;
        at<C>(p.kept)[u.state] = s;
        put_h(p, u, h);
    }
}
// q [count, 3 hidden] receives the gradient of h W_hh, whose last part replaces W_hn h + b_hn in kept too.
template <class C>
__device__ __forceinline__ void gru_step_backward(const RecurrentStepBackward& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(i, p.count * H) {
        Unit u(i, H, 3);
        C *g = at<C>(p.gates) + u.gate, *q = at<C>(p.q) + u.gate;
        C r = g[0], z = g[H], n = g[2 * H], s = at<C>(p.kept)[u.state];
        at<C>(p.dh)[u.state] = gru_backward(r, z, n, s, h_before<C>(p, u), gradient_of_h<C>(p, u));
        g[0] = q[0] = r;
        g[H] = q[H] = z;
        g[2 * H] = n;
        at<C>(p.kept)[u.state] = q[2 * H] = s;
    }
}

// kept [count, hidden] receives r h.
template <class C>
__device__ __forceinline__ void gru_before_gates_step(const RecurrentStep& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(i, p.count * H) {
        Unit u(i, H, 3);
        C* g = at<C>(p.gates) + u.gate;
        const C* b = at<const C>(p.bias) + u.j;
        C r = g[0] + b[0], z = g[H] + b[H];
        at<C>(p.kept)[u.state] = gru_before_gates(r, z, at<const C>(p.h)[u.state]);
        g[0] = r;
        g[H] = z;
    }
}
template <class C>
__device__ __forceinline__ void gru_before_state_step(const RecurrentStep& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(i, p.count * H) {
        Unit u(i, H, 3);
        C* g = at<C>(p.gates) + u.gate;
        C n = g[2 * H] + at<const C>(p.bias)[2 * H + u.j];
        C h = gru_before_state(g[H], n, at<const C>(p.h)[u.state]);
        g[2 * H] = n;
        put_h(p, u, h);
    }
}
template <class C>
__device__ __forceinline__ void gru_before_state_step_backward(const RecurrentStepBackward& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(i, p.count * H) {
        Unit u(i, H, 3);
        C* g = at<C>(p.gates) + u.gate;
        C z = g[H], n = g[2 * H];
        at<C>(p.dh)[u.state] = gru_before_state_backward(z, n, h_before<C>(p, u), gradient_of_h<C>(p, u));
        g[H] = z;
        g[2 * H] = n;
    }
}
// q [count, hidden]: the gradient of r h.
template <class C>
__device__ __forceinline__ void gru_before_gates_step_backward(const RecurrentStepBackward& p) {
    const uint64_t H = p.hidden;
    FOR_EACH(i, p.count * H) {
        Unit u(i, H, 3);
        C& r = at<C>(p.gates)[u.gate];
        at<C>(p.dh)[u.state] += gru_before_gates_backward(r, h_before<C>(p, u), at<const C>(p.q)[u.state]);
    }
}

// A kernel for each type that is computed in.
#define STEP(name, body, P)                                                                                                 \
    KERNEL(name##_f32, P) { body<float>(p); }                                                                               \
    KERNEL(name##_f64, P) { body<double>(p); }
#define STEP_OF(name, body, flag, P)                                                                                        \
    KERNEL(name##_f32, P) { body<flag, float>(p); }                                                                         \
    KERNEL(name##_f64, P) { body<flag, double>(p); }

STEP_OF(rnn_tanh, elman_step, false, RecurrentStep)
STEP_OF(rnn_relu, elman_step, true, RecurrentStep)
STEP_OF(lstm, lstm_step, false, RecurrentStep)
STEP_OF(lstm_peephole, lstm_step, true, RecurrentStep)
STEP(gru, gru_step, RecurrentStep)
STEP(gru_before_gates, gru_before_gates_step, RecurrentStep)
STEP(gru_before_state, gru_before_state_step, RecurrentStep)
STEP_OF(rnn_tanh_backward, elman_step_backward, false, RecurrentStepBackward)
STEP_OF(rnn_relu_backward, elman_step_backward, true, RecurrentStepBackward)
STEP_OF(lstm_backward, lstm_step_backward, false, RecurrentStepBackward)
STEP_OF(lstm_peephole_backward, lstm_step_backward, true, RecurrentStepBackward)
STEP(gru_backward, gru_step_backward, RecurrentStepBackward)
STEP(gru_before_state_backward, gru_before_state_step_backward, RecurrentStepBackward)
STEP(gru_before_gates_backward, gru_before_gates_step_backward, RecurrentStepBackward)
