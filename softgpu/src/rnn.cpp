// Recurrent networks forward and backward, as cuDNN's documentation defines them. For tests: nothing here is fast.
#include "rnn.h"

#include <cmath>

// The conversions are those of the kernels.
#include "softgpu.h"
#include "device/number.cuh"

double read_number(const void* at, Type type, int64_t i) {
    switch (type) {
        case Type::f16: return widen(static_cast<const f16*>(at)[i]);
        case Type::bf16: return widen(static_cast<const bf16*>(at)[i]);
        case Type::f32: return static_cast<const float*>(at)[i];
        default: return static_cast<const double*>(at)[i];
    }
}
void write_number(void* at, Type type, int64_t i, double value) {
    switch (type) {
        case Type::f16: static_cast<f16*>(at)[i] = narrow<f16>(float(value)); break;
        case Type::bf16: static_cast<bf16*>(at)[i] = narrow<bf16>(float(value)); break;
        case Type::f32: static_cast<float*>(at)[i] = float(value); break;
        default: static_cast<double*>(at)[i] = value;
    }
}

int64_t Rnn::matrix(int64_t pseudo_layer, int64_t id) const {
    int64_t at = 0;
    for (int64_t p = 0; p < pseudo_layer; ++p)
        for (int64_t i = 0; i < 2 * gates(); ++i) at += hidden * columns(p, i);
    for (int64_t i = 0; i < id; ++i) at += hidden * columns(pseudo_layer, i);
    return at;
}
int64_t Rnn::bias_vector(int64_t pseudo_layer, int64_t id) const {
    if (!has_bias(id)) return -1;
    int64_t before = 0, each = 0;
    for (int64_t i = 0; i < 2 * gates(); ++i) each += has_bias(i), before += i < id && has_bias(i);
    return matrix(layers * directions, 0) + (pseudo_layer * each + before) * hidden;
}
int64_t Rnn::weights() const {
    int64_t each = 0;
    for (int64_t i = 0; i < 2 * gates(); ++i) each += has_bias(i);
    return matrix(layers * directions, 0) + layers * directions * each * hidden;
}

int64_t Kept::numbers(const Rnn& rnn, int64_t steps, int64_t batch) { return rnn.layers * rnn.directions * steps * batch * rnn.hidden * (rnn.kept() + 2); }
double* Kept::gates(int64_t pseudo_layer) const { return at + pseudo_layer * rows * rnn.hidden * (rnn.kept() + 2); }
double* Kept::cells(int64_t pseudo_layer) const { return gates(pseudo_layer) + rows * rnn.hidden * rnn.kept(); }
double* Kept::h(int64_t pseudo_layer) const { return cells(pseudo_layer) + rows * rnn.hidden; }

namespace {
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The layer's input of a row: x, or both directions' h of the layer below.
struct Below {
    const Rnn& rnn;
    const Kept& kept;
    const Numbers& x;
    int64_t layer;
    double operator()(int64_t row, int64_t k) const {
        if (layer == 0) return x[size_t(row * rnn.input + k)];
        return kept.h((layer - 1) * rnn.directions + k / rnn.hidden)[row * rnn.hidden + k % rnn.hidden];
    }
};

// One layer and direction of one sequence: which row comes after which.
struct Walk {
    int64_t b, batch, length;
    bool reverse;
    int64_t row(int64_t s) const { return (reverse ? length - 1 - s : s) * batch + b; }
};

template <class F>
void each_walk(const Rnn& rnn, const Batch& batch, int64_t p, F&& f) {
    for (int64_t b = 0; b < batch.batch; ++b) f(Walk{b, batch.batch, batch.lengths[size_t(b)], p % rnn.directions == 1});
}
}  // namespace

void rnn_forward(const Rnn& rnn, const Batch& batch, const Numbers& weights, const Numbers& x, const Numbers& hx, const Numbers& cx, Numbers& y, Numbers& hy,
                 Numbers& cy, const Kept& kept) {
    const int64_t H = rnn.hidden, G = rnn.gates();
    for (int64_t p = 0; p < rnn.layers * rnn.directions; ++p) {
        Below below{rnn, kept, x, p / rnn.directions};
        each_walk(rnn, batch, p, [&](const Walk& walk) {
            auto state = [&](const Numbers& from) {
                auto first = from.begin() + (p * batch.batch + walk.b) * H;
                return from.empty() ? Numbers(size_t(H), 0.0) : Numbers(first, first + H);
            };
            Numbers h = state(hx), c = state(cx), next = h;
            for (int64_t s = 0; s < walk.length; ++s) {
                int64_t row = walk.row(s);
                double* gates = kept.gates(p) + row * H * rnn.kept();
                for (int64_t j = 0; j < H; ++j) {
                    double in[4], again[4];
                    for (int64_t id = 0; id < 2 * G; ++id) {
                        const double* w = &weights[size_t(rnn.matrix(p, id) + j * rnn.columns(p, id))];
                        double sum = rnn.has_bias(id) ? weights[size_t(rnn.bias_vector(p, id) + j)] : 0;
                        for (int64_t k = 0; k < rnn.columns(p, id); ++k) sum += w[k] * (id < G ? below(row, k) : h[size_t(k)]);
                        (id < G ? in[id] : again[id - G]) = sum;
                    }
                    auto keep = [&](int64_t slot, double value) { return gates[slot * H + j] = value; };
                    size_t u = size_t(j);
                    if (rnn.mode == Mode::lstm) {
                        double i = keep(0, sigmoid(in[0] + again[0])), f = keep(1, sigmoid(in[1] + again[1]));
                        double g = keep(2, std::tanh(in[2] + again[2])), o = keep(3, sigmoid(in[3] + again[3]));
                        c[u] = f * c[u] + i * g;
                        next[u] = o * std::tanh(c[u]);
                        kept.cells(p)[row * H + j] = c[u];
                    } else if (rnn.mode == Mode::gru) {
                        double r = keep(0, sigmoid(in[0] + again[0])), z = keep(1, sigmoid(in[1] + again[1]));
                        double n = keep(2, std::tanh(in[2] + r * keep(3, again[2])));
                        next[u] = (1 - z) * n + z * h[u];
                    } else {
                        double sum = in[0] + again[0];
                        next[u] = keep(0, rnn.mode == Mode::tanh ? std::tanh(sum) : sum > 0 ? sum : 0);
                    }
                }
                h = next;
                for (int64_t j = 0; j < H; ++j) kept.h(p)[row * H + j] = h[size_t(j)];
            }
            auto leave = [&](const Numbers& from, Numbers& to) {
                for (int64_t j = 0; !to.empty() && j < H; ++j) to[size_t((p * batch.batch + walk.b) * H + j)] = from[size_t(j)];
            };
            leave(h, hy), leave(c, cy);
        });
    }
    Below last{rnn, kept, x, rnn.layers};
    for (int64_t b = 0; b < batch.batch; ++b)
        for (int64_t t = 0; t < batch.lengths[size_t(b)]; ++t)
            for (int64_t k = 0; k < rnn.width(); ++k) y[size_t((t * batch.batch + b) * rnn.width() + k)] = last(t * batch.batch + b, k);
}

void rnn_backward_data(const Rnn& rnn, const Batch& batch, const Numbers& weights, const Numbers& hx, const Numbers& cx, const Numbers& dy, const Numbers& dhy,
                       const Numbers& dcy, Numbers& dx, Numbers& dhx, Numbers& dcx, const Kept& kept) {
    const int64_t H = rnn.hidden, G = rnn.gates(), rows = batch.steps * batch.batch;
    Numbers above = dy;  // [rows, width]: the gradient of a layer's output
    for (int64_t layer = rnn.layers - 1; layer >= 0; --layer) {
        int64_t columns = rnn.columns(layer * rnn.directions, 0);
        Numbers under(size_t(rows * columns), 0.0);
        for (int64_t d = 0; d < rnn.directions; ++d) {
            int64_t p = layer * rnn.directions + d;
            each_walk(rnn, batch, p, [&](const Walk& walk) {
                auto state = [&](const Numbers& from, int64_t j) { return from.empty() ? 0.0 : from[size_t((p * batch.batch + walk.b) * H + j)]; };
                Numbers dh(size_t(H), 0.0), dc(size_t(H), 0.0);
                for (int64_t j = 0; j < H; ++j) dh[size_t(j)] = state(dhy, j), dc[size_t(j)] = state(dcy, j);
                for (int64_t s = walk.length; s-- > 0;) {
                    int64_t row = walk.row(s), before = s ? walk.row(s - 1) : 0;
                    double* gates = kept.gates(p) + row * H * rnn.kept();
                    Numbers carried(size_t(H), 0.0);
                    for (int64_t j = 0; j < H; ++j) {
                        size_t u = size_t(j);
                        auto kept_of = [&](int64_t slot) -> double& { return gates[slot * H + j]; };
                        double d_h = dh[u] + above[size_t(row * rnn.width() + d * H + j)];
                        double h_before = s ? kept.h(p)[before * H + j] : state(hx, j);
                        if (rnn.mode == Mode::lstm) {
                            double i = kept_of(0), f = kept_of(1), g = kept_of(2), o = kept_of(3);
                            double tanh_c = std::tanh(kept.cells(p)[row * H + j]), c_before = s ? kept.cells(p)[before * H + j] : state(cx, j);
                            double d_c = dc[u] + d_h * o * (1 - tanh_c * tanh_c);
                            kept_of(0) = d_c * g * i * (1 - i), kept_of(1) = d_c * c_before * f * (1 - f);
                            kept_of(2) = d_c * i * (1 - g * g), kept_of(3) = d_h * tanh_c * o * (1 - o);
                            dc[u] = d_c * f;
                        } else if (rnn.mode == Mode::gru) {
                            double r = kept_of(0), z = kept_of(1), n = kept_of(2), q = kept_of(3);
                            double d_n = d_h * (1 - z) * (1 - n * n);
                            kept_of(0) = d_n * q * r * (1 - r), kept_of(1) = d_h * (h_before - n) * z * (1 - z);
                            kept_of(2) = d_n, kept_of(3) = d_n * r;
                            carried[u] = d_h * z;
                        } else {
                            double h = kept_of(0);
                            kept_of(0) = d_h * (rnn.mode == Mode::tanh ? 1 - h * h : h > 0 ? 1 : 0);
                        }
                    }
                    for (int64_t id = 0; id < 2 * G; ++id)
                        for (int64_t j = 0; j < H; ++j) {
                            // What reaches the GRU's n from h is behind the reset gate.
                            int64_t slot = rnn.mode == Mode::gru && id == 5 ? 3 : id % G;
                            const double* w = &weights[size_t(rnn.matrix(p, id) + j * rnn.columns(p, id))];
                            double gradient = gates[slot * H + j];
                            for (int64_t k = 0; k < rnn.columns(p, id); ++k) (id < G ? under[size_t(row * columns + k)] : carried[size_t(k)]) += gradient * w[k];
                        }
                    dh = carried;
                }
                for (int64_t j = 0; j < H; ++j) {
                    size_t at = size_t((p * batch.batch + walk.b) * H + j);
                    if (!dhx.empty()) dhx[at] = dh[size_t(j)];
                    if (!dcx.empty()) dcx[at] = dc[size_t(j)];
                }
            });
        }
        above = std::move(under);
    }
    dx = std::move(above);
}

void rnn_backward_weights(const Rnn& rnn, const Batch& batch, const Numbers& x, const Numbers& hx, Numbers& gradients, const Kept& kept) {
    const int64_t H = rnn.hidden, G = rnn.gates();
    for (int64_t p = 0; p < rnn.layers * rnn.directions; ++p) {
        Below below{rnn, kept, x, p / rnn.directions};
        each_walk(rnn, batch, p, [&](const Walk& walk) {
            for (int64_t s = 0; s < walk.length; ++s) {
                int64_t row = walk.row(s), before = s ? walk.row(s - 1) : 0;
                for (int64_t id = 0; id < 2 * G; ++id)
                    for (int64_t j = 0; j < H; ++j) {
                        int64_t slot = rnn.mode == Mode::gru && id == 5 ? 3 : id % G;
                        double gradient = kept.gates(p)[row * H * rnn.kept() + slot * H + j];
                        if (rnn.has_bias(id)) gradients[size_t(rnn.bias_vector(p, id) + j)] += gradient;
                        for (int64_t k = 0; k < rnn.columns(p, id); ++k) {
                            double h = id < G ? below(row, k) : s ? kept.h(p)[before * H + k] : hx.empty() ? 0 : hx[size_t((p * batch.batch + walk.b) * H + k)];
                            gradients[size_t(rnn.matrix(p, id) + j * rnn.columns(p, id) + k)] += gradient * h;
                        }
                    }
            }
        });
    }
}
