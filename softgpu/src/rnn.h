// The arithmetic of cuDNN's recurrent networks here: plain loops in f64 over numbers that were read from device memory.
#pragma once

#include <cstdint>
#include <vector>

#include "gemm.h"

// As cuDNN numbers them.
enum class Mode : int { relu, tanh, lstm, gru };
enum class Bias : int { none, input, both, recurrent };

struct Rnn {
    Mode mode;
    Bias bias;
    int64_t directions, layers, input, hidden;

    // Linear layers on either side: 1, 4 (i f c o) or 3 (r z n).
    int64_t gates() const { return mode == Mode::lstm ? 4 : mode == Mode::gru ? 3 : 1; }
    // What is kept of a step per unit: the gates, and the GRU's recurrent part of n.
    int64_t kept() const { return mode == Mode::gru ? 4 : gates(); }
    int64_t width() const { return directions * hidden; }
    int64_t columns(int64_t pseudo_layer, int64_t id) const { return id >= gates() ? hidden : pseudo_layer < directions ? input : width(); }
    bool has_bias(int64_t id) const { return bias == Bias::both || (bias == Bias::input && id < gates()) || (bias == Bias::recurrent && id >= gates()); }
    // Where a linear layer's matrix [hidden, columns] and bias [hidden] lie in the weight space, in elements; -1: there is none.
    // All matrices come first, then all biases.
    int64_t matrix(int64_t pseudo_layer, int64_t id) const;
    int64_t bias_vector(int64_t pseudo_layer, int64_t id) const;
    int64_t weights() const;
};

// A batch: how many steps each sequence has. Rows of numbers here are [steps, batch], whatever the caller's layout.
struct Batch {
    int64_t steps, batch;
    std::vector<int64_t> lengths;
};

// What a training pass keeps: by pseudo layer gates (then their gradients), cell states and h of all rows.
struct Kept {
    static int64_t numbers(const Rnn& rnn, int64_t steps, int64_t batch);
    const Rnn& rnn;
    int64_t rows;
    double* at;
    double* gates(int64_t pseudo_layer) const;
    double* cells(int64_t pseudo_layer) const;
    double* h(int64_t pseudo_layer) const;
};

// States are [layers · directions, batch, hidden], or empty: zeros coming in, not wanted going out.
using Numbers = std::vector<double>;
void rnn_forward(const Rnn& rnn, const Batch& batch, const Numbers& weights, const Numbers& x, const Numbers& hx, const Numbers& cx, Numbers& y, Numbers& hy,
                 Numbers& cy, const Kept& kept);
void rnn_backward_data(const Rnn& rnn, const Batch& batch, const Numbers& weights, const Numbers& hx, const Numbers& cx, const Numbers& dy, const Numbers& dhy,
                       const Numbers& dcy, Numbers& dx, Numbers& dhx, Numbers& dcx, const Kept& kept);
// Adds to `gradients`.
void rnn_backward_weights(const Rnn& rnn, const Batch& batch, const Numbers& x, const Numbers& hx, Numbers& gradients, const Kept& kept);

// Element i of memory of a type.
double read_number(const void* at, Type type, int64_t i);
void write_number(void* at, Type type, int64_t i, double value);
