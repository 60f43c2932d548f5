// libcudnn.so: recurrent networks through the version 8 API and no more. A pass is a piece of work on its handle's stream, like
// a kernel; rnn.cpp has the arithmetic.
#include "driver.h"
#include "rnn.h"

#include <algorithm>
#include <cstring>

using namespace softgpu;

namespace {
// Results of cuDNN 9.
enum : int { OK = 0, DNN_NOT_INITIALIZED = 1001, BAD_PARAM = 2000, NULL_POINTER = 2002, SIZE_INSUFFICIENT = 2006, DNN_NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };
enum : int { STANDARD = 0, PERSIST_STATIC = 1, PERSIST_DYNAMIC = 2, PERSIST_STATIC_SMALL_H = 3 };
enum : int { SEQ_MAJOR_UNPACKED = 0, SEQ_MAJOR_PACKED = 1, BATCH_MAJOR_UNPACKED = 2 };

constexpr uint32_t alive = 0xd1115555;
struct Object { uint32_t mark = alive; };
struct Handle : Object { void* stream = nullptr; };
struct Dropout : Object { bool set = false; float p = 0; };
struct Tensor : Object { bool set = false; int type; std::vector<int> extents, strides; };
struct Network : Object {
    bool set = false, padded;
    Rnn rnn;
    int algorithm, type;
    int built_for = 0;  // the batch that the dynamic algorithm was compiled for
};
struct Data : Object {
    bool set = false;
    int type, layout, vector;
    Batch batch;
    bool fills;
    double fill;
    int64_t row(int64_t t, int64_t b) const {
        if (layout == SEQ_MAJOR_UNPACKED) return t * batch.batch + b;
        if (layout == BATCH_MAJOR_UNPACKED) return b * batch.steps + t;
        int64_t before = 0;
        for (int64_t n : batch.lengths) before += std::min(n, t);
        return before + b;
    }
    int64_t rows() const {
        if (layout != SEQ_MAJOR_PACKED) return batch.steps * batch.batch;
        int64_t sum = 0;
        for (int64_t n : batch.lengths) sum += n;
        return sum;
    }
};

template <class T>
bool usable(const T* object) { return object && object->mark == alive; }
template <class T>
bool ready(const T* object) { return usable(object) && object->set; }
template <class T>
int create(T** object) {
    if (!object) return NULL_POINTER;
    *object = new T;
    return OK;
}
template <class T>
int destroy(T* object) {
    if (!usable(object)) return BAD_PARAM;
    object->mark = 0;
    delete object;
    return OK;
}

bool type_of(int data_type, Type& type) {
    switch (data_type) {
        case 0: type = Type::f32; return true;
        case 1: type = Type::f64; return true;
        case 2: type = Type::f16; return true;
        case 9: type = Type::bf16; return true;
        default: return false;
    }
}
size_t size_of(int data_type) { return data_type == 1 ? 8 : data_type == 0 ? 4 : 2; }

// What stands before the numbers of the reserve: whose they are, and what was done to them.
struct Reserve { uint64_t mark, done, of; };
enum : uint64_t { reserve_mark = 0x5e5e12e5e12e5e12, NOTHING = 0, FORWARD = 1, DATA = 2 };
constexpr size_t reserve_head = 256;
uint64_t identity(const Network& network, const Data& x) {
    const Rnn& rnn = network.rnn;
    uint64_t hash = 14695981039346656037u;
    for (int64_t n : {int64_t(rnn.mode), int64_t(rnn.bias), rnn.directions, rnn.layers, rnn.input, rnn.hidden, int64_t(network.type), x.batch.steps, x.batch.batch})
        hash = (hash ^ uint64_t(n)) * 1099511628211u;
    return hash;
}
size_t weight_bytes(const Network& network) { return size_t(network.rnn.weights()) * size_of(network.type); }
size_t workspace_bytes(const Network& network, const Data& x) { return size_t(x.batch.steps * x.batch.batch * network.rnn.width()) * 8; }
size_t reserve_bytes(const Network& network, const Data& x) {
    return reserve_head + size_t(Kept::numbers(network.rnn, x.batch.steps, x.batch.batch)) * 8;
}

// A stretch of device memory that a pass uses, and what it is called.
struct Operand {
    const char* name;
    const void* at;
    size_t bytes;
};
std::string trouble_of(const std::vector<Operand>& operands) {
    for (const Operand& operand : operands) {
        std::string trouble = operand.at && operand.bytes ? operand_trouble(operand.at, operand.bytes) : "";
        if (!trouble.empty()) return std::string(operand.name) + ": " + trouble;
    }
    return {};
}

// What all three passes are given.
struct Pass {
    Network network;
    Data x, y;
    const int32_t* lengths;
    size_t states;  // bytes of a state
    std::vector<Operand> operands;

    Type type() const {
        Type type = Type::f32;
        type_of(network.type, type);
        return type;
    }
    Numbers read(const void* at, size_t count) const {
        Numbers numbers(at ? count : 0);
        for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = read_number(at, type(), int64_t(i));
        return numbers;
    }
    Numbers read_weights(const void* at) const { return read(at, size_t(network.rnn.weights())); }
    Numbers read_state(const void* at) const { return read(at, states / size_of(network.type)); }
    Numbers state(const void* wanted) const { return Numbers(wanted ? states / size_of(network.type) : 0, 0.0); }
    void write(void* at, const Numbers& numbers) const {
        for (size_t i = 0; at && i < numbers.size(); ++i) write_number(at, type(), int64_t(i), numbers[i]);
    }
    template <class F>
    void each_row(const Data& data, F&& f) const {
        for (int64_t t = 0; t < data.batch.steps; ++t)
            for (int64_t b = 0; b < data.batch.batch; ++b)
                if (bool in = t < data.batch.lengths[size_t(b)]; in || data.layout != SEQ_MAJOR_PACKED) f(t * data.batch.batch + b, data.row(t, b), in);
    }
    Numbers read_rows(const Data& data, const void* at) const {
        Numbers numbers(size_t(data.batch.steps * data.batch.batch * data.vector), 0.0);
        each_row(data, [&](int64_t row, int64_t theirs, bool in) {
            for (int64_t k = 0; in && k < data.vector; ++k) numbers[size_t(row * data.vector + k)] = read_number(at, type(), theirs * data.vector + k);
        });
        return numbers;
    }
    void write_rows(const Data& data, void* at, const Numbers& numbers) const {
        each_row(data, [&](int64_t row, int64_t theirs, bool in) {
            for (int64_t k = 0; (in || data.fills) && k < data.vector; ++k)
                write_number(at, type(), theirs * data.vector + k, in ? numbers[size_t(row * data.vector + k)] : data.fill);
        });
    }
    size_t bytes(const Data& data) const { return size_t(data.rows() * data.vector) * size_of(network.type); }
    std::string trouble() const {
        std::string found = trouble_of(operands);
        if (!found.empty() || !lengths) return found;
        found = operand_trouble(lengths, size_t(x.batch.batch) * 4);
        for (size_t b = 0; found.empty() && b < x.batch.lengths.size(); ++b)
            if (lengths[b] != x.batch.lengths[b]) found = "they are not the lengths of the data descriptor";
        return found.empty() ? found : "devSeqLengths: " + found;
    }
    Kept kept(void* numbers) const { return {network.rnn, x.batch.steps * x.batch.batch, static_cast<double*>(numbers)}; }
    // The reserve's numbers, where the passes came in their order.
    std::string expect(void* reserve, uint64_t done, const char* before) const {
        auto* head = static_cast<Reserve*>(reserve);
        if (head->mark == reserve_mark && head->of == identity(network, x) && head->done == done) return {};
        return std::string("the reserve is not what ") + before + " of this network leaves";
    }
};
void* behind_head(void* reserve) { return static_cast<char*>(reserve) + reserve_head; }

// Whether the descriptors fit together, and what a pass then is.
int pass_of(const Handle* handle, const Network* network, const int32_t* lengths, const Data* x, const Data* y, const Tensor* h, const Tensor* c, size_t weight_space,
            size_t workspace, const void* workspace_at, Pass& pass) {
    if (!usable(handle)) return DNN_NOT_INITIALIZED;
    if (!ready(network) || !ready(x) || !ready(y) || !ready(h)) return BAD_PARAM;
    const Rnn& rnn = network->rnn;
    std::vector<int> states{int(rnn.layers * rnn.directions), int(x->batch.batch), int(rnn.hidden)};
    auto fits = [&](const Tensor* t) {
        return t->type == network->type && t->extents == states && t->strides == std::vector<int>{states[1] * states[2], states[2], 1};
    };
    bool alike = x->type == network->type && y->type == network->type && x->layout == y->layout && x->batch.steps == y->batch.steps &&
                 x->batch.batch == y->batch.batch && x->batch.lengths == y->batch.lengths;
    if (!alike || x->vector != rnn.input || y->vector != rnn.width() || !fits(h)) return BAD_PARAM;
    if (rnn.mode == Mode::lstm && (!ready(c) || !fits(c))) return BAD_PARAM;
    if (!network->padded && x->layout != SEQ_MAJOR_PACKED) return DNN_NOT_SUPPORTED;
    if (network->algorithm == PERSIST_DYNAMIC && network->built_for != x->batch.batch) return BAD_PARAM;
    if (weight_space < weight_bytes(*network) || workspace < workspace_bytes(*network, *x)) return SIZE_INSUFFICIENT;
    if (!workspace_at) return NULL_POINTER;
    pass = {*network, *x, *y, lengths, size_t(states[0]) * size_t(states[1]) * size_t(states[2]) * size_of(network->type), {}};
    pass.operands = {{"workSpace", workspace_at, workspace}};
    return OK;
}
int run(const Handle* handle, const char* call, std::function<std::string()> work) { return enqueue_call(handle->stream, call, work) ? EXECUTION_FAILED : OK; }
}  // namespace

extern "C" SOFTGPU_API size_t cudnnGetVersion() { return 92100; }
extern "C" SOFTGPU_API size_t cudnnGetCudartVersion() { return 13000; }
extern "C" SOFTGPU_API const char* cudnnGetErrorString(int status) {
    switch (status) {
        case OK: return "CUDNN_STATUS_SUCCESS";
        case DNN_NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
        case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
        case NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
        case SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
        case DNN_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
        case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
        default: return "CUDNN_UNKNOWN_STATUS";
    }
}
API cudnnCreate(Handle** handle) { return create(handle); }
API cudnnDestroy(Handle* handle) { return destroy(handle); }
API cudnnSetStream(Handle* handle, void* stream) {
    if (!usable(handle)) return BAD_PARAM;
    handle->stream = stream;
    return OK;
}
API cudnnGetStream(Handle* handle, void** stream) {
    if (!usable(handle) || !stream) return BAD_PARAM;
    *stream = handle->stream;
    return OK;
}

API cudnnCreateTensorDescriptor(Tensor** tensor) { return create(tensor); }
API cudnnDestroyTensorDescriptor(Tensor* tensor) { return destroy(tensor); }
API cudnnSetTensorNdDescriptor(Tensor* tensor, int type, int count, const int* extents, const int* strides) {
    Type known;
    if (!usable(tensor) || !extents || !strides || !type_of(type, known) || count < 3 || count > 8) return BAD_PARAM;
    for (int i = 0; i < count; ++i)
        if (extents[i] < 1) return BAD_PARAM;
    tensor->set = true, tensor->type = type;
    tensor->extents.assign(extents, extents + count), tensor->strides.assign(strides, strides + count);
    return OK;
}
API cudnnGetTensorNdDescriptor(const Tensor* tensor, int wanted, int* type, int* count, int* extents, int* strides) {
    if (!ready(tensor) || !type || !count || !extents || !strides) return BAD_PARAM;
    *type = tensor->type, *count = int(tensor->extents.size());
    for (int i = 0; i < std::min(wanted, *count); ++i) extents[i] = tensor->extents[size_t(i)], strides[i] = tensor->strides[size_t(i)];
    return OK;
}

API cudnnCreateDropoutDescriptor(Dropout** dropout) { return create(dropout); }
API cudnnDestroyDropoutDescriptor(Dropout* dropout) { return destroy(dropout); }
API cudnnDropoutGetStatesSize(const Handle* handle, size_t* bytes) {
    if (!usable(handle) || !bytes) return BAD_PARAM;
    *bytes = 256;
    return OK;
}
API cudnnSetDropoutDescriptor(Dropout* dropout, const Handle* handle, float p, void*, size_t, unsigned long long) {
    if (!usable(dropout) || !usable(handle) || !(p >= 0 && p <= 1)) return BAD_PARAM;
    if (p > 0) return DNN_NOT_SUPPORTED;
    dropout->set = true, dropout->p = p;
    return OK;
}

API cudnnCreateRNNDescriptor(Network** network) { return create(network); }
API cudnnDestroyRNNDescriptor(Network* network) { return destroy(network); }
API cudnnSetRNNDescriptor_v8(Network* network, int algorithm, int mode, int bias, int direction, int input_mode, int type, int precision, int math, int input, int hidden,
                             int projected, int layers, const Dropout* dropout, unsigned flags) {
    Type known;
    if (!usable(network) || !ready(dropout) || algorithm < 0 || algorithm > 3 || mode < 0 || mode > 3 || bias < 0 || bias > 3 || direction < 0 || direction > 1 ||
        input_mode < 0 || input_mode > 1 || math < 0 || math > 3 || input < 1 || hidden < 1 || projected < 1 || projected > hidden || layers < 1 || flags > 1 ||
        !type_of(type, known))
        return BAD_PARAM;
    // In what is computed: the type itself, or f32 around halves.
    bool halves = known == Type::f16 || known == Type::bf16;
    if (precision != type && !(halves && precision == 0)) return DNN_NOT_SUPPORTED;
    if (known == Type::bf16 && precision == type) return DNN_NOT_SUPPORTED;
    if (input_mode == 1 || projected < hidden) return DNN_NOT_SUPPORTED;
    // The algorithms compute the same here; that one can refuse must be seen too.
    if (algorithm == PERSIST_STATIC_SMALL_H || (algorithm != STANDARD && known == Type::f64)) return DNN_NOT_SUPPORTED;
    *network = {{}, true, (flags & 1) != 0, {Mode(mode), Bias(bias), direction + 1, layers, input, hidden}, algorithm, type, 0};
    return OK;
}
API cudnnBuildRNNDynamic(const Handle* handle, Network* network, int batch) {
    if (!usable(handle) || !ready(network) || network->algorithm != PERSIST_DYNAMIC || batch < 1) return BAD_PARAM;
    network->built_for = batch;
    return OK;
}

API cudnnCreateRNNDataDescriptor(Data** data) { return create(data); }
API cudnnDestroyRNNDataDescriptor(Data* data) { return destroy(data); }
API cudnnSetRNNDataDescriptor(Data* data, int type, int layout, int steps, int batch, int vector, const int* lengths, void* fill) {
    Type known;
    if (!usable(data) || !lengths || !type_of(type, known) || layout < 0 || layout > 2 || steps < 1 || batch < 1 || vector < 1) return BAD_PARAM;
    for (int b = 0; b < batch; ++b) {
        if (lengths[b] < 0 || lengths[b] > steps) return BAD_PARAM;
        if (layout == SEQ_MAJOR_PACKED && b && lengths[b] > lengths[b - 1]) return BAD_PARAM;
    }
    *data = {{}, true, type, layout, vector, {steps, batch, std::vector<int64_t>(lengths, lengths + batch)}, fill != nullptr, fill ? read_number(fill, known, 0) : 0};
    return OK;
}

API cudnnGetRNNWeightSpaceSize(const Handle* handle, const Network* network, size_t* bytes) {
    if (!usable(handle) || !ready(network) || !bytes) return BAD_PARAM;
    *bytes = weight_bytes(*network);
    return OK;
}
API cudnnGetRNNTempSpaceSizes(const Handle* handle, const Network* network, int mode, const Data* x, size_t* workspace, size_t* reserve) {
    if (!usable(handle) || !ready(network) || !ready(x) || mode < 0 || mode > 1) return BAD_PARAM;
    if (workspace) *workspace = workspace_bytes(*network, *x);
    if (reserve) *reserve = mode == 1 ? reserve_bytes(*network, *x) : 0;
    return OK;
}
API cudnnGetRNNWeightParams(const Handle* handle, const Network* network, int pseudo_layer, size_t bytes, const void* space, int id, Tensor* matrix, void** matrix_at,
                            Tensor* bias, void** bias_at) {
    if (!usable(handle) || !ready(network) || !usable(matrix) || !usable(bias) || !matrix_at || !bias_at || !space) return BAD_PARAM;
    const Rnn& rnn = network->rnn;
    if (bytes < weight_bytes(*network)) return SIZE_INSUFFICIENT;
    if (pseudo_layer < 0 || pseudo_layer >= rnn.layers * rnn.directions || id < 0 || id >= 2 * rnn.gates()) return BAD_PARAM;
    auto at = [&](int64_t element) { return static_cast<char*>(const_cast<void*>(space)) + size_t(element) * size_of(network->type); };
    int rows = int(rnn.hidden), columns = int(rnn.columns(pseudo_layer, id));
    int extents[] = {1, rows, columns}, strides[] = {rows * columns, columns, 1};
    *matrix_at = at(rnn.matrix(pseudo_layer, id));
    if (int error = cudnnSetTensorNdDescriptor(matrix, network->type, 3, extents, strides)) return error;
    if (!rnn.has_bias(id)) {
        *bias_at = nullptr;
        return OK;
    }
    int of_bias[] = {1, rows, 1}, steps[] = {rows, 1, 1};
    *bias_at = at(rnn.bias_vector(pseudo_layer, id));
    return cudnnSetTensorNdDescriptor(bias, network->type, 3, of_bias, steps);
}

API cudnnRNNForward(const Handle* handle, const Network* network, int mode, const int32_t* lengths, const Data* x_data, const void* x, const Data* y_data, void* y,
                    const Tensor* h, const void* hx, void* hy, const Tensor* c, const void* cx, void* cy, size_t weight_space, const void* weights, size_t workspace,
                    void* workspace_at, size_t reserve, void* reserve_at) {
    Pass pass;
    if (int error = pass_of(handle, network, lengths, x_data, y_data, h, c, weight_space, workspace, workspace_at, pass)) return error;
    if (!x || !y || !weights) return NULL_POINTER;
    bool training = mode == 1;
    if (training && !reserve_at) return NULL_POINTER;
    if (training && reserve < reserve_bytes(*network, *x_data)) return SIZE_INSUFFICIENT;
    for (Operand o : {Operand{"x", x, pass.bytes(*x_data)}, {"y", y, pass.bytes(*y_data)}, {"hx", hx, pass.states}, {"hy", hy, pass.states}, {"cx", cx, pass.states},
                      {"cy", cy, pass.states}, {"weightSpace", weights, weight_space}, {"reserveSpace", training ? reserve_at : nullptr, reserve}})
        pass.operands.push_back(o);
    return run(handle, __func__, [=]() -> std::string {
        if (std::string trouble = pass.trouble(); !trouble.empty()) return trouble;
        std::vector<double> own(training ? 0 : size_t(Kept::numbers(pass.network.rnn, pass.x.batch.steps, pass.x.batch.batch)));
        Numbers out(size_t(pass.y.batch.steps * pass.y.batch.batch * pass.y.vector), 0.0), hn = pass.state(hy), cn = pass.state(cy);
        rnn_forward(pass.network.rnn, pass.x.batch, pass.read_weights(weights), pass.read_rows(pass.x, x), pass.read_state(hx), pass.read_state(cx), out, hn, cn,
                    pass.kept(training ? behind_head(reserve_at) : own.data()));
        pass.write_rows(pass.y, y, out), pass.write(hy, hn), pass.write(cy, cn);
        if (training) *static_cast<Reserve*>(reserve_at) = {reserve_mark, FORWARD, identity(pass.network, pass.x)};
        return {};
    });
}

API cudnnRNNBackwardData_v8(const Handle* handle, const Network* network, const int32_t* lengths, const Data* y_data, const void* y, const void* dy, const Data* x_data,
                            void* dx, const Tensor* h, const void* hx, const void* dhy, void* dhx, const Tensor* c, const void* cx, const void* dcy, void* dcx,
                            size_t weight_space, const void* weights, size_t workspace, void* workspace_at, size_t reserve, void* reserve_at) {
    Pass pass;
    if (int error = pass_of(handle, network, lengths, x_data, y_data, h, c, weight_space, workspace, workspace_at, pass)) return error;
    if (!y || !dy || !dx || !weights || !reserve_at) return NULL_POINTER;
    if (reserve < reserve_bytes(*network, *x_data)) return SIZE_INSUFFICIENT;
    for (Operand o : {Operand{"y", y, pass.bytes(*y_data)}, {"dy", dy, pass.bytes(*y_data)}, {"dx", dx, pass.bytes(*x_data)}, {"hx", hx, pass.states},
                      {"dhy", dhy, pass.states}, {"dhx", dhx, pass.states}, {"cx", cx, pass.states}, {"dcy", dcy, pass.states}, {"dcx", dcx, pass.states},
                      {"weightSpace", weights, weight_space}, {"reserveSpace", reserve_at, reserve}})
        pass.operands.push_back(o);
    return run(handle, __func__, [=]() -> std::string {
        if (std::string trouble = pass.trouble(); !trouble.empty()) return trouble;
        if (std::string trouble = pass.expect(reserve_at, FORWARD, "cudnnRNNForward in training"); !trouble.empty()) return trouble;
        Numbers to, dh = pass.state(dhx), dc = pass.state(dcx);
        rnn_backward_data(pass.network.rnn, pass.x.batch, pass.read_weights(weights), pass.read_state(hx), pass.read_state(cx), pass.read_rows(pass.y, dy),
                          pass.read_state(dhy), pass.read_state(dcy), to, dh, dc, pass.kept(behind_head(reserve_at)));
        pass.write_rows(pass.x, dx, to), pass.write(dhx, dh), pass.write(dcx, dc);
        static_cast<Reserve*>(reserve_at)->done = DATA;
        return {};
    });
}

// Adds to the gradients, as cuDNN does: it cannot set them.
API cudnnRNNBackwardWeights_v8(const Handle* handle, const Network* network, int mode, const int32_t* lengths, const Data* x_data, const void* x, const Tensor* h,
                               const void* hx, const Data* y_data, const void* y, size_t weight_space, void* gradients, size_t workspace, void* workspace_at,
                               size_t reserve, void* reserve_at) {
    Pass pass;
    if (int error = pass_of(handle, network, lengths, x_data, y_data, h, h, weight_space, workspace, workspace_at, pass)) return error;
    if (!x || !y || !gradients || !reserve_at) return NULL_POINTER;
    if (mode != 0) return DNN_NOT_SUPPORTED;
    if (reserve < reserve_bytes(*network, *x_data)) return SIZE_INSUFFICIENT;
    for (Operand o : {Operand{"x", x, pass.bytes(*x_data)}, {"y", y, pass.bytes(*y_data)}, {"hx", hx, pass.states}, {"dweightSpace", gradients, weight_space},
                      {"reserveSpace", reserve_at, reserve}})
        pass.operands.push_back(o);
    return run(handle, __func__, [=]() -> std::string {
        if (std::string trouble = pass.trouble(); !trouble.empty()) return trouble;
        if (std::string trouble = pass.expect(reserve_at, DATA, "cudnnRNNBackwardData_v8"); !trouble.empty()) return trouble;
        Numbers sums = pass.read_weights(gradients);
        rnn_backward_weights(pass.network.rnn, pass.x.batch, pass.read_rows(pass.x, x), pass.read_state(hx), sums, pass.kept(behind_head(reserve_at)));
        pass.write(gradients, sums);
        return {};
    });
}
