// cuDNN's recurrent networks: steps against the documentation's formulas, gradients against differences, what is refused.
#include "test.h"

#include <cmath>

extern "C" {
size_t cudnnGetVersion();
const char* cudnnGetErrorString(int);
int cudnnCreate(void**);
int cudnnDestroy(void*);
int cudnnSetStream(void*, void*);
int cudnnCreateTensorDescriptor(void**);
int cudnnSetTensorNdDescriptor(void*, int, int, const int*, const int*);
int cudnnGetTensorNdDescriptor(void*, int, int*, int*, int*, int*);
int cudnnCreateDropoutDescriptor(void**);
int cudnnSetDropoutDescriptor(void*, void*, float, void*, size_t, unsigned long long);
int cudnnCreateRNNDescriptor(void**);
int cudnnDestroyRNNDescriptor(void*);
int cudnnSetRNNDescriptor_v8(void*, int, int, int, int, int, int, int, int, int, int, int, int, void*, unsigned);
int cudnnBuildRNNDynamic(void*, void*, int);
int cudnnCreateRNNDataDescriptor(void**);
int cudnnSetRNNDataDescriptor(void*, int, int, int, int, int, const int*, void*);
int cudnnGetRNNWeightSpaceSize(void*, void*, size_t*);
int cudnnGetRNNTempSpaceSizes(void*, void*, int, void*, size_t*, size_t*);
int cudnnGetRNNWeightParams(void*, void*, int, size_t, const void*, int, void*, void**, void*, void**);
int cudnnRNNForward(void*, void*, int, const int*, void*, const void*, void*, void*, void*, const void*, void*, void*, const void*, void*, size_t, const void*, size_t,
                    void*, size_t, void*);
int cudnnRNNBackwardData_v8(void*, void*, const int*, void*, const void*, const void*, void*, void*, void*, const void*, const void*, void*, void*, const void*,
                            const void*, void*, size_t, const void*, size_t, void*, size_t, void*);
int cudnnRNNBackwardWeights_v8(void*, void*, int, const int*, void*, const void*, void*, const void*, void*, const void*, size_t, void*, size_t, void*, size_t, void*);
}

enum { RELU, TANH, LSTM, GRU };
enum { F32 = 0, F64 = 1 };
static const int gates_of[] = {1, 1, 4, 3};

// A network over f64 memory of the device.
struct Net {
    int mode, layers, directions, input, hidden, steps, bias = 2, layout = 0, algorithm = 0;
    std::vector<int> lengths;
    void *handle, *network, *x_data, *y_data, *state, *dropout;
    size_t weight_bytes, workspace_bytes, reserve_bytes, rows, states;
    double *x, *y, *hx, *hy, *cx, *cy, *dx, *dhx, *dcx, *weights, *gradients;
    void *workspace, *reserve;

    int batch() const { return int(lengths.size()); }
    int width() const { return directions * hidden; }
    size_t weight_count() const { return weight_bytes / 8; }

    void open() {
        DO(cudnnCreate(&handle));
        DO(cudnnCreateDropoutDescriptor(&dropout));
        DO(cudnnSetDropoutDescriptor(dropout, handle, 0, nullptr, 0, 0));
        DO(cudnnCreateRNNDescriptor(&network));
        DO(cudnnSetRNNDescriptor_v8(network, algorithm, mode, bias, directions - 1, 0, F64, F64, 0, input, hidden, hidden, layers, dropout, layout == 1 ? 0 : 1));
        DO(cudnnCreateRNNDataDescriptor(&x_data));
        DO(cudnnCreateRNNDataDescriptor(&y_data));
        DO(cudnnSetRNNDataDescriptor(x_data, F64, layout, steps, batch(), input, lengths.data(), nullptr));
        DO(cudnnSetRNNDataDescriptor(y_data, F64, layout, steps, batch(), width(), lengths.data(), nullptr));
        int extents[] = {layers * directions, batch(), hidden}, strides[] = {batch() * hidden, hidden, 1};
        DO(cudnnCreateTensorDescriptor(&state));
        DO(cudnnSetTensorNdDescriptor(state, F64, 3, extents, strides));
        DO(cudnnGetRNNWeightSpaceSize(handle, network, &weight_bytes));
        DO(cudnnGetRNNTempSpaceSizes(handle, network, 1, x_data, &workspace_bytes, &reserve_bytes));
        rows = 0, states = size_t(layers * directions * batch() * hidden);
        for (int n : lengths) rows += size_t(layout == 1 ? n : steps);
        x = random(rows * size_t(input), 1), weights = random(weight_count(), 2), hx = random(states, 3), cx = random(states, 4);
        y = device<double>(rows * size_t(width())), hy = device<double>(states), cy = device<double>(states);
        dx = device<double>(rows * size_t(input)), dhx = device<double>(states), dcx = device<double>(states);
        gradients = device(std::vector<double>(weight_count(), 0.0));
        workspace = device<char>(workspace_bytes), reserve = device<char>(reserve_bytes);
    }
    static std::vector<double> numbers(size_t n, uint64_t seed) {
        std::vector<double> values(n);
        for (double& v : values) v = double((seed = seed * 6364136223846793005ull + 1442695040888963407ull) >> 40) / (1 << 23) - 1;
        return values;
    }
    static double* random(size_t n, uint64_t seed) { return device(numbers(n, seed)); }
    void forward() {
        DO(cudnnRNNForward(handle, network, 1, nullptr, x_data, x, y_data, y, state, hx, hy, state, cx, cy, weight_bytes, weights, workspace_bytes, workspace,
                           reserve_bytes, reserve));
    }
    int backward_data(const double* dy, const double* dhy, const double* dcy) {
        return cudnnRNNBackwardData_v8(handle, network, nullptr, y_data, y, dy, x_data, dx, state, hx, dhy, dhx, state, cx, dcy, dcx, weight_bytes, weights,
                                       workspace_bytes, workspace, reserve_bytes, reserve);
    }
    int backward_weights() {
        return cudnnRNNBackwardWeights_v8(handle, network, 0, nullptr, x_data, x, state, hx, y_data, y, weight_bytes, gradients, workspace_bytes, workspace, reserve_bytes,
                                          reserve);
    }
    // The first weight and the bias of a linear layer.
    double weight(int id, bool of_bias) {
        void *matrix_desc, *bias_desc, *matrix, *bias_at;
        DO(cudnnCreateTensorDescriptor(&matrix_desc));
        DO(cudnnCreateTensorDescriptor(&bias_desc));
        DO(cudnnGetRNNWeightParams(handle, network, 0, weight_bytes, weights, id, matrix_desc, &matrix, bias_desc, &bias_at));
        return host(static_cast<double*>(of_bias ? bias_at : matrix), 1)[0];
    }
    void close() {
        for (void* at : {(void*)x, (void*)y, (void*)hx, (void*)hy, (void*)cx, (void*)cy, (void*)dx, (void*)dhx, (void*)dcx, (void*)weights, (void*)gradients, workspace, reserve})
            release(at);
        DO(cudnnDestroyRNNDescriptor(network));
        DO(cudnnDestroy(handle));
    }
};
static void near(double got, double want, double tolerance) {
    if (!(std::fabs(got - want) <= tolerance * (1 + std::fabs(want)))) {
        std::fprintf(stderr, "%.12g, not %.12g\n", got, want);
        failed("numbers differ", __FILE__, __LINE__);
    }
}
static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One unit, two steps: i f c o; r z n; the reset gate behind the recurrent product.
TEST(recurrent_steps_as_documented) {
    set_up();
    for (int mode : {RELU, TANH, LSTM, GRU}) {
        Net net{.mode = mode, .layers = 1, .directions = 1, .input = 1, .hidden = 1, .steps = 2, .lengths = {2}};
        net.open();
        net.forward();
        auto x = host(net.x, 2), y = host(net.y, 2);
        double h = host(net.hx, 1)[0], c = host(net.cx, 1)[0];
        int gates = gates_of[mode];
        for (int t = 0; t < 2; ++t) {
            double in[4], again[4];
            for (int g = 0; g < gates; ++g) {
                in[g] = net.weight(g, false) * x[size_t(t)] + net.weight(g, true);
                again[g] = net.weight(gates + g, false) * h + net.weight(gates + g, true);
            }
            if (mode == LSTM) {
                c = sigmoid(in[1] + again[1]) * c + sigmoid(in[0] + again[0]) * std::tanh(in[2] + again[2]);
                h = sigmoid(in[3] + again[3]) * std::tanh(c);
            } else if (mode == GRU) {
                double r = sigmoid(in[0] + again[0]), z = sigmoid(in[1] + again[1]);
                h = (1 - z) * std::tanh(in[2] + r * again[2]) + z * h;
            } else {
                h = mode == TANH ? std::tanh(in[0] + again[0]) : std::fmax(in[0] + again[0], 0);
            }
            near(y[size_t(t)], h, 1e-12);
        }
        near(host(net.hy, 1)[0], h, 1e-12);
        if (mode == LSTM) near(host(net.cy, 1)[0], c, 1e-12);
        net.close();
    }
}

// The gradient of a sum of all outputs with given factors, against central differences; in every layout and bias mode.
static void gradients_fit(Net net) {
    net.open();
    auto dy = Net::numbers(net.rows * size_t(net.width()), 5), dhy = Net::numbers(net.states, 6), dcy = Net::numbers(net.states, 7);
    double *at_dy = device(dy), *at_dhy = device(dhy), *at_dcy = device(dcy);
    // Positions behind a sequence's end are not written: they are zero before.
    DO(cuMemcpyHtoD_v2(uintptr_t(net.y), std::vector<double>(dy.size(), 0.0).data(), dy.size() * 8));
    auto value = [&] {
        net.forward();
        auto y = host(net.y, dy.size()), hy = host(net.hy, net.states);
        double sum = 0;
        for (size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
        for (size_t i = 0; i < hy.size(); ++i) sum += hy[i] * dhy[i];
        if (net.mode == LSTM) {
            auto cy = host(net.cy, net.states);
            for (size_t i = 0; i < cy.size(); ++i) sum += cy[i] * dcy[i];
        }
        return sum;
    };
    value();
    DO(cuMemcpyHtoD_v2(uintptr_t(net.dx), std::vector<double>(net.rows * size_t(net.input), 0.0).data(), net.rows * size_t(net.input) * 8));
    DO(net.backward_data(at_dy, at_dhy, at_dcy));
    DO(net.backward_weights());
    auto check = [&](double* at, const double* gradient, size_t n) {
        auto values = host(at, n), want = host(gradient, n);
        for (size_t i = 0; i < n; ++i) {
            double sides[2];
            for (int side : {0, 1}) {
                auto moved = values;
                moved[i] += side ? 1e-5 : -1e-5;
                DO(cuMemcpyHtoD_v2(uintptr_t(at), moved.data(), n * 8));
                sides[side] = value();
            }
            near((sides[1] - sides[0]) / 2e-5, want[i], 1e-7);
        }
        DO(cuMemcpyHtoD_v2(uintptr_t(at), values.data(), n * 8));
    };
    check(net.x, net.dx, net.rows * size_t(net.input));
    check(net.hx, net.dhx, net.states);
    if (net.mode == LSTM) check(net.cx, net.dcx, net.states);
    check(net.weights, net.gradients, net.weight_count());
    // Gradients of weights are added to what is there.
    auto once = host(net.gradients, net.weight_count());
    value();
    DO(net.backward_data(at_dy, at_dhy, at_dcy));
    DO(net.backward_weights());
    auto twice = host(net.gradients, net.weight_count());
    for (size_t i = 0; i < once.size(); ++i) near(twice[i], 2 * once[i], 1e-12);
    release(at_dy), release(at_dhy), release(at_dcy);
    net.close();
}
TEST(recurrent_gradients) {
    set_up();
    for (int mode : {TANH, LSTM, GRU}) gradients_fit({.mode = mode, .layers = 2, .directions = 2, .input = 3, .hidden = 2, .steps = 3, .lengths = {3, 3}});
}
TEST(recurrent_gradients_of_layouts_and_biases) {
    set_up();
    for (int layout : {0, 1, 2})
        for (int bias : {0, 1, 3}) gradients_fit({.mode = GRU, .layers = 1, .directions = 2, .input = 2, .hidden = 2, .steps = 3, .bias = bias, .layout = layout, .lengths = {3, 1}});
}

TEST(recurrent_calls_that_are_refused) {
    set_up();
    SAME(cudnnGetVersion() / 10000, 9u);
    Net net{.mode = LSTM, .layers = 1, .directions = 1, .input = 2, .hidden = 3, .steps = 2, .lengths = {2}};
    net.open();
    auto set = [&](int algorithm, int type, int precision, int projected) {
        return cudnnSetRNNDescriptor_v8(net.network, algorithm, LSTM, 2, 0, 0, type, precision, 0, 2, 3, projected, 1, net.dropout, 1);
    };
    SAME(set(3, F32, F32, 3), 3000);  // an algorithm that there is not
    SAME(set(1, F64, F64, 3), 3000);
    SAME(set(0, 9, 9, 3), 3000);      // bf16 computed in bf16
    SAME(set(0, F64, F64, 4), 2000);  // a projection that grows
    SAME(set(0, 3, F32, 3), 2000);    // integers
    SAME(cudnnRNNForward(net.handle, net.network, 1, nullptr, net.x_data, net.x, net.y_data, net.y, net.state, nullptr, nullptr, net.state, nullptr, nullptr,
                         net.weight_bytes, net.weights, net.workspace_bytes - 1, net.workspace, net.reserve_bytes, net.reserve), 2006);
    SAME(cudnnRNNForward(net.handle, net.network, 1, nullptr, net.x_data, net.x, net.y_data, net.y, net.state, nullptr, nullptr, net.state, nullptr, nullptr,
                         net.weight_bytes, net.weights, net.workspace_bytes, net.workspace, 0, nullptr), 2002);
    SAME(cudnnRNNForward(net.handle, net.network, 0, nullptr, net.y_data, net.x, net.y_data, net.y, net.state, nullptr, nullptr, net.state, nullptr, nullptr,
                         net.weight_bytes, net.weights, net.workspace_bytes, net.workspace, 0, nullptr), 2000);  // x as wide as y
    SAME(cudnnRNNForward(net.handle, net.network, 0, nullptr, net.x_data, net.x, net.y_data, net.y, net.state, nullptr, nullptr, nullptr, nullptr, nullptr,
                         net.weight_bytes, net.weights, net.workspace_bytes, net.workspace, 0, nullptr), 2000);  // an LSTM without a cell state
    int lengths[] = {1, 2};
    SAME(cudnnSetRNNDataDescriptor(net.x_data, F64, 1, 2, 2, 2, lengths, nullptr), 2000);  // packed, and not the longest first
    DO(set(2, F32, F32, 3));
    DO(cudnnSetRNNDataDescriptor(net.x_data, F32, 0, 2, 1, 2, net.lengths.data(), nullptr));
    DO(cudnnSetRNNDataDescriptor(net.y_data, F32, 0, 2, 1, 3, net.lengths.data(), nullptr));
    int extents[] = {1, 1, 3}, strides[] = {3, 3, 1};
    DO(cudnnSetTensorNdDescriptor(net.state, F32, 3, extents, strides));
    auto forward = [&] {
        return cudnnRNNForward(net.handle, net.network, 0, nullptr, net.x_data, net.x, net.y_data, net.y, net.state, nullptr, nullptr, net.state, nullptr, nullptr,
                               net.weight_bytes, net.weights, net.workspace_bytes, net.workspace, 0, nullptr);
    };
    SAME(forward(), 2000);  // not compiled for a batch
    DO(cudnnBuildRNNDynamic(net.handle, net.network, 1));
    DO(forward());
    DO(cuCtxSynchronize());
    CHECK(std::string(cudnnGetErrorString(3000)) == "CUDNN_STATUS_NOT_SUPPORTED");
    net.close();
}
FAULT(a_reserve_that_was_not_filled, "cudnnRNNBackwardData_v8: the reserve is not what cudnnRNNForward in training of this network leaves") {
    set_up();
    Net net{.mode = TANH, .layers = 1, .directions = 1, .input = 1, .hidden = 1, .steps = 1, .lengths = {1}};
    net.open();
    DO(net.backward_data(net.y, nullptr, nullptr));
    SAME(cuCtxSynchronize(), 700);
}
FAULT(weights_before_data, "cudnnRNNBackwardWeights_v8: the reserve is not what cudnnRNNBackwardData_v8 of this network leaves") {
    set_up();
    Net net{.mode = TANH, .layers = 1, .directions = 1, .input = 1, .hidden = 1, .steps = 1, .lengths = {1}};
    net.open();
    net.forward();
    DO(net.backward_weights());
    SAME(cuCtxSynchronize(), 700);
}
FAULT(a_weight_space_that_ends_early, "cudnnRNNForward: weightSpace: |run 8 bytes past the end") {
    set_up();
    Net net{.mode = LSTM, .layers = 1, .directions = 1, .input = 2, .hidden = 3, .steps = 2, .lengths = {2}};
    net.open();
    net.weights = device<double>(net.weight_count() - 1);
    net.forward();
    SAME(cuCtxSynchronize(), 700);
}
TEST(recurrent_passes_wait_for_their_stream) {
    set_up();
    Net net{.mode = TANH, .layers = 1, .directions = 1, .input = 1, .hidden = 1, .steps = 1, .lengths = {1}};
    net.open();
    void* stream;
    DO(cuStreamCreate(&stream, 1));
    DO(cudnnSetStream(net.handle, stream));
    DO(cuMemsetD8Async(uintptr_t(net.weights), 0, net.weight_bytes, stream));  // zero weights: tanh(0)
    net.forward();
    DO(cuStreamSynchronize(stream));
    SAME(host(net.y, 1)[0], 0.0);
    net.close();
    DO(cuStreamDestroy_v2(stream));
}
