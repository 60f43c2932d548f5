// The norm of a list of tensors as if they were one vector, and their clipping. Bound by memory: each element is read once, and
// by the last two kernels written once; one or two FLOPs.
#include "device/multi_tensor.cuh"

// A block takes one chunk of one tensor, and adds in f64 in an order that the lengths alone decide.
template <class T>
__device__ __forceinline__ void norm_parts(const NormParts& p) {
    auto* scratch = dynamic_shared<double>();  // 32 values
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<const T>(p.x[chunk.tensor]);
    double value = 0;
    switch (p.op) {
        case NORM_TWO: each(chunk, x, [&](double x) { value += x * x; }); break;
        case NORM_MAX: each(chunk, x, [&](double x) { value = Max()(value, fabs(x)); }); break;
        case NORM_POWER: each(chunk, x, [&, power = p.p](double x) { value += pow(fabs(x), power); }); break;
    }
    value = p.op == NORM_MAX ? block_reduce(value, 0.0, scratch, Max()) : block_sum(value, scratch);
    if (threadIdx.x == 0) at<double>(p.parts)[blockIdx.x] = value;
}
KERNEL_FLOATS(norm_parts, NormParts)

// One block.
KERNEL(norm_join, NormJoin) {
    auto* scratch = dynamic_shared<double>();  // 32 values
    auto parts = at<const double>(p.parts);
    double value = 0;
    for (uint64_t i = threadIdx.x; i < p.count; i += blockDim.x)
        value = p.op == NORM_MAX ? Max()(value, parts[i]) : value + parts[i];
    value = p.op == NORM_MAX ? block_reduce(value, 0.0, scratch, Max()) : block_sum(value, scratch);
    if (threadIdx.x != 0) return;
    double norm = p.op == NORM_TWO ? sqrt(value) : p.op == NORM_POWER ? pow(value, 1 / p.p) : value;
    double factor = p.max_norm / (norm + 1e-6);
    at<double>(p.norm)[0] = norm;
    at<double>(p.factor)[0] = factor > 1 ? 1 : factor;  // NaN stays
}

template <class T>
__device__ __forceinline__ void scale_each(const Scale& p) {
    using C = compute_t<T>;
    const double factor = at<const double>(p.factor)[0];
    if (factor == 1) return;
    const Chunk chunk = chunk_of_block(p);
    auto* x = at<T>(p.x[chunk.tensor]);
    change(chunk, x, [factor = C(factor)](C x) { return x * factor; });
}
KERNEL_FLOATS(scale_each, Scale)

template <class T>
__device__ __forceinline__ void clamp_each(const Clamp& p) {
    using C = compute_t<T>;
    const Chunk chunk = chunk_of_block(p);
    // Comparisons with NaN are false: it takes the arm that is x.
    change(chunk, at<T>(p.x[chunk.tensor]), [low = C(p.low), high = C(p.high)](C x) {
        x = x < low ? low : x;
        return x > high ? high : x;
    });
}
KERNEL_FLOATS(clamp_each, Clamp)
