// libcublas.so: handles and the matrix products. A product is work on its handle's stream: one kernel, or where the sums have room in
// the handle's workspace two, the second of which takes them from there. The card does likewise where it divides the depth.
#include "driver.h"
#include "gemm.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

using namespace softgpu;

namespace {
// Results of cuBLAS.
enum : int { OK = 0, BLAS_NOT_INITIALIZED = 1, BLAS_INVALID_VALUE = 7, EXECUTION_FAILED = 13, BLAS_NOT_SUPPORTED = 15 };

// The most bytes of sums that go through the workspace: larger products only take longer.
constexpr int64_t most_handed_on = 1 << 16;

constexpr uint32_t magic = 0xb1a5b1a5;
struct Handle {
    uint32_t alive = magic;
    void* stream = nullptr;
    int math = 0, pointers = 0, atomics = 0, sm_count = 0;
    void* workspace = nullptr;
    size_t workspace_bytes = 0;
};
bool usable(const Handle* handle) { return handle && handle->alive == magic; }

bool type_of(int data_type, Type& type) {
    switch (data_type) {
        case 0: type = Type::f32; return true;
        case 1: type = Type::f64; return true;
        case 2: type = Type::f16; return true;
        case 14: type = Type::bf16; return true;
        default: return false;
    }
}
int64_t size_of(Type type) { return type == Type::f64 ? 8 : type == Type::f32 ? 4 : 2; }

struct Gemm {
    const char* call;
    int op_a, op_b;
    int64_t m, n, k;
    const void* alpha;
    const void* a;
    int type_a;
    int64_t lda, stride_a;
    const void* b;
    int type_b;
    int64_t ldb, stride_b;
    const void* beta;
    void* c;
    int type_c;
    int64_t ldc, stride_c;
    int64_t batch;
    int compute;
};

// alpha and beta are of the type that is computed in.
double scalar(const void* at, bool wide, bool half) {
    if (wide) return *static_cast<const double*>(at);
    if (!half) return *static_cast<const float*>(at);
    return half_value(*static_cast<const unsigned short*>(at));
}

int run(Handle* handle, const Gemm& g) {
    if (!usable(handle)) return BLAS_NOT_INITIALIZED;
    Type type_a, type_b, type_c;
    if (!type_of(g.type_a, type_a) || !type_of(g.type_b, type_b) || !type_of(g.type_c, type_c)) return BLAS_NOT_SUPPORTED;
    bool wide = g.compute == 70 || g.compute == 71, half = g.compute == 64 || g.compute == 65;
    bool narrow_compute = g.compute == 68 || g.compute == 69 || (g.compute >= 74 && g.compute <= 78);
    if (!wide && !half && !narrow_compute) return BLAS_NOT_SUPPORTED;
    // Which types go together, as cuBLAS has it: both factors alike; C like them, or f32 where they are halves.
    bool halves = type_a == Type::f16 || type_a == Type::bf16;
    if (type_a != type_b || (wide != (type_a == Type::f64)) || (half && (type_a != Type::f16 || type_c != Type::f16)) ||
        !(type_c == type_a || (halves && type_c == Type::f32)))
        return BLAS_NOT_SUPPORTED;
    int64_t rows_a = g.op_a ? g.k : g.m, rows_b = g.op_b ? g.n : g.k;
    int64_t columns_a = g.op_a ? g.m : g.k, columns_b = g.op_b ? g.k : g.n;
    auto at_least = [](int64_t stride, int64_t rows) { return stride >= (rows > 1 ? rows : 1); };
    if (g.m < 0 || g.n < 0 || g.k < 0 || g.batch < 0 || g.op_a < 0 || g.op_a > 2 || g.op_b < 0 || g.op_b > 2 || !at_least(g.lda, rows_a) ||
        !at_least(g.ldb, rows_b) || !at_least(g.ldc, g.m) || !g.alpha || !g.beta)
        return BLAS_INVALID_VALUE;
    if (!g.m || !g.n || !g.batch) return OK;
    bool tf32 = type_a == Type::f32 && (g.compute == 77 || (g.compute == 68 && (handle->math & 0xf) == 3));
    bool on_host = handle->pointers == 0;
    double alpha = on_host ? scalar(g.alpha, wide, half) : 0, beta = on_host ? scalar(g.beta, wide, half) : 0;
    Gemm copy = g;
    void* workspace = handle->workspace;
    size_t workspace_bytes = handle->workspace_bytes;
    int64_t sums_bytes = g.m * g.n * (wide ? 8 : 4);
    bool hands_on = workspace && g.batch * sums_bytes <= std::min<int64_t>(most_handed_on, int64_t(workspace_bytes));
    auto scalars = [=](double& al, double& be) -> std::string {
        al = alpha, be = beta;
        std::string trouble = operand_trouble(workspace, workspace_bytes);
        if (!trouble.empty()) return "the workspace: " + trouble;
        if (on_host) return {};
        for (const void* at : {copy.alpha, copy.beta})
            if (!(trouble = operand_trouble(at, wide ? 8 : half ? 2 : 4)).empty()) return "a scalar on the device: " + trouble;
        al = scalar(copy.alpha, wide, half), be = scalar(copy.beta, wide, half);
        return {};
    };
    auto extent = [](int64_t rows, int64_t columns, int64_t stride, Type type) {
        return rows && columns ? size_t(((columns - 1) * stride + rows) * size_of(type)) : 0;
    };
    auto work = [=]() -> std::string {
        double al, be;
        std::string trouble = scalars(al, be);
        if (!trouble.empty()) return trouble;
        for (int64_t i = 0; i < copy.batch; ++i) {
            const char* a = static_cast<const char*>(copy.a) + i * copy.stride_a * size_of(type_a);
            const char* b = static_cast<const char*>(copy.b) + i * copy.stride_b * size_of(type_b);
            char* c = static_cast<char*>(copy.c) + i * copy.stride_c * size_of(type_c);
            bool multiplies = al != 0 && copy.k;
            if (multiplies && !(trouble = operand_trouble(a, extent(rows_a, columns_a, copy.lda, type_a))).empty()) return "A: " + trouble;
            if (multiplies && !(trouble = operand_trouble(b, extent(rows_b, columns_b, copy.ldb, type_b))).empty()) return "B: " + trouble;
            if (!(trouble = operand_trouble(c, extent(copy.m, copy.n, copy.ldc, type_c))).empty()) return "C: " + trouble;
            Matrix of_a{a, type_a, rows_a, columns_a, copy.lda, copy.op_a != 0}, of_b{b, type_b, rows_b, columns_b, copy.ldb, copy.op_b != 0};
            int64_t depth = al != 0 ? copy.k : 0;
            if (hands_on)
                multiply(copy.m, copy.n, depth, 1, of_a, of_b, 0, static_cast<char*>(workspace) + i * sums_bytes,
                         wide ? Type::f64 : Type::f32, copy.m, wide, tf32);
            else multiply(copy.m, copy.n, depth, al, of_a, of_b, be, c, type_c, copy.ldc, wide, tf32);
        }
        return {};
    };
    if (enqueue_gemm(handle->stream, g.call, uint64_t(2 * g.m * g.n * g.k * g.batch), work)) return EXECUTION_FAILED;
    if (!hands_on) return OK;
    auto rest = [=]() -> std::string {
        double al, be;
        std::string trouble = scalars(al, be);
        if (!trouble.empty()) return trouble;
        for (int64_t i = 0; i < copy.batch; ++i) {
            char* c = static_cast<char*>(copy.c) + i * copy.stride_c * size_of(type_c);
            if (!(trouble = operand_trouble(c, extent(copy.m, copy.n, copy.ldc, type_c))).empty()) return "C: " + trouble;
            finish(copy.m, copy.n, al, static_cast<const char*>(workspace) + i * sums_bytes, be, c, type_c, copy.ldc, wide);
        }
        return {};
    };
    // Between two launches other threads may come, and do.
    std::this_thread::yield();
    return enqueue_call(handle->stream, g.call, rest) ? EXECUTION_FAILED : OK;
}
}  // namespace

#define HANDLE(handle) \
    if (!usable(handle)) return BLAS_NOT_INITIALIZED

API cublasCreate_v2(Handle** handle) {
    if (!handle) return BLAS_INVALID_VALUE;
    *handle = new Handle;
    return OK;
}
API cublasDestroy_v2(Handle* handle) {
    HANDLE(handle);
    handle->alive = 0;
    delete handle;
    return OK;
}
API cublasSetStream_v2(Handle* handle, void* stream) {
    HANDLE(handle);
    handle->stream = stream;
    handle->workspace = nullptr, handle->workspace_bytes = 0;  // its own again, as cuBLAS has it
    return OK;
}
API cublasGetStream_v2(Handle* handle, void** stream) {
    HANDLE(handle);
    *stream = handle->stream;
    return OK;
}
// It must be real now, and there when the stream comes to a product.
API cublasSetWorkspace_v2(Handle* handle, void* workspace, size_t bytes) {
    HANDLE(handle);
    if (reinterpret_cast<uintptr_t>(workspace) % 256) return BLAS_INVALID_VALUE;
    if (workspace && bytes && !operand_trouble(workspace, bytes, false).empty()) return BLAS_INVALID_VALUE;
    handle->workspace = workspace, handle->workspace_bytes = workspace ? bytes : 0;
    return OK;
}
API cublasGetVersion_v2(Handle*, int* version) {
    *version = 130000;
    return OK;
}
API cublasGetProperty(int type, int* value) {
    *value = type == 0 ? 13 : 0;
    return OK;
}
API cublasSetMathMode(Handle* handle, int mode) {
    HANDLE(handle);
    handle->math = mode;
    return OK;
}
API cublasGetMathMode(Handle* handle, int* mode) {
    HANDLE(handle);
    *mode = handle->math;
    return OK;
}
API cublasSetPointerMode_v2(Handle* handle, int mode) {
    HANDLE(handle);
    handle->pointers = mode;
    return OK;
}
API cublasGetPointerMode_v2(Handle* handle, int* mode) {
    HANDLE(handle);
    *mode = handle->pointers;
    return OK;
}
API cublasSetAtomicsMode(Handle* handle, int mode) {
    HANDLE(handle);
    handle->atomics = mode;
    return OK;
}
API cublasGetAtomicsMode(Handle* handle, int* mode) {
    HANDLE(handle);
    *mode = handle->atomics;
    return OK;
}
API cublasSetSmCountTarget(Handle* handle, int count) {
    HANDLE(handle);
    handle->sm_count = count;
    return OK;
}
API cublasGetSmCountTarget(Handle* handle, int* count) {
    HANDLE(handle);
    *count = handle->sm_count;
    return OK;
}
extern "C" SOFTGPU_API const char* cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_ERROR" : "CUBLAS_STATUS_SUCCESS"; }
extern "C" SOFTGPU_API const char* cublasGetStatusString(int status) { return status ? "a cuBLAS call failed" : "success"; }

// One function per precision, with and without a stride over batches; the 64-bit versions take int64_t for int.
#define PRODUCT(name, suffix, T, code, compute, Int)                                                                                        \
    API cublas##name##gemm##suffix(Handle* h, int oa, int ob, Int m, Int n, Int k, const T* alpha, const T* a, Int lda, const T* b, Int ldb, \
                                   const T* beta, T* c, Int ldc) {                                                                          \
        return run(h, {__func__, oa, ob, m, n, k, alpha, a, code, lda, 0, b, code, ldb, 0, beta, c, code, ldc, 0, 1, compute});             \
    }
#define BATCHED(name, suffix, T, code, compute, Int)                                                                                        \
    API cublas##name##gemmStridedBatched##suffix(Handle* h, int oa, int ob, Int m, Int n, Int k, const T* alpha, const T* a, Int lda,        \
                                                 long long sa, const T* b, Int ldb, long long sb, const T* beta, T* c, Int ldc,             \
                                                 long long sc, Int batch) {                                                                 \
        return run(h, {__func__, oa, ob, m, n, k, alpha, a, code, lda, sa, b, code, ldb, sb, beta, c, code, ldc, sc, batch, compute});      \
    }
PRODUCT(S, _v2, float, 0, 68, int)
PRODUCT(D, _v2, double, 1, 70, int)
PRODUCT(S, _v2_64, float, 0, 68, int64_t)
PRODUCT(D, _v2_64, double, 1, 70, int64_t)
BATCHED(S, , float, 0, 68, int)
BATCHED(D, , double, 1, 70, int)
BATCHED(S, _64, float, 0, 68, int64_t)
BATCHED(D, _64, double, 1, 70, int64_t)

#define PRODUCT_EX(suffix, Int)                                                                                                             \
    API cublasGemmEx##suffix(Handle* h, int oa, int ob, Int m, Int n, Int k, const void* alpha, const void* a, int ta, Int lda,              \
                             const void* b, int tb, Int ldb, const void* beta, void* c, int tc, Int ldc, int compute, int) {                \
        return run(h, {__func__, oa, ob, m, n, k, alpha, a, ta, lda, 0, b, tb, ldb, 0, beta, c, tc, ldc, 0, 1, compute});                   \
    }                                                                                                                                       \
    API cublasGemmStridedBatchedEx##suffix(Handle* h, int oa, int ob, Int m, Int n, Int k, const void* alpha, const void* a, int ta,         \
                                           Int lda, long long sa, const void* b, int tb, Int ldb, long long sb, const void* beta, void* c,  \
                                           int tc, Int ldc, long long sc, Int batch, int compute, int) {                                    \
        return run(h, {__func__, oa, ob, m, n, k, alpha, a, ta, lda, sa, b, tb, ldb, sb, beta, c, tc, ldc, sc, batch, compute});            \
    }
PRODUCT_EX(, int)
PRODUCT_EX(_64, int64_t)

// y = alpha op(A) x + beta y, as the product of rows y' = alpha x' op(A)' + beta y'. Steps are positive.
#define MATRIX_VECTOR(name, T, code, compute)                                                                                               \
    API cublas##name##gemv_v2(Handle* h, int op, int m, int n, const T* alpha, const T* a, int lda, const T* x, int step_x, const T* beta,   \
                              T* y, int step_y) {                                                                                           \
        int rows = op ? n : m, columns = op ? m : n;                                                                                        \
        if (step_x < 1 || step_y < 1) return BLAS_NOT_SUPPORTED;                                                                            \
        return run(h, {__func__, 0, op ? 0 : 1, 1, rows, columns, alpha, x, code, step_x, 0, a, code, lda, 0, beta, y, code, step_y, 0, 1,   \
                       compute});                                                                                                           \
    }
MATRIX_VECTOR(S, float, 0, 68)
MATRIX_VECTOR(D, double, 1, 70)
API cublasSasum_v2() { return BLAS_NOT_SUPPORTED; }
API cublasDasum_v2() { return BLAS_NOT_SUPPORTED; }
API cublasGemmGroupedBatchedEx() { return BLAS_NOT_SUPPORTED; }
