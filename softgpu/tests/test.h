// The tests of softgpu: each runs in a process of its own, as a host program of the driver API with kernels beside it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "device/number.cuh"
#include "softgpu_counters.h"

extern "C" {
int cuInit(unsigned);
int cuDeviceGetAttribute(int*, int, int);
int cuDevicePrimaryCtxRetain(void**, int);
int cuDevicePrimaryCtxRelease_v2(int);
int cuCtxSetCurrent(void*);
int cuCtxSynchronize();
int cuMemAlloc_v2(uintptr_t*, size_t);
int cuMemFree_v2(uintptr_t);
int cuMemAllocAsync(uintptr_t*, size_t, void*);
int cuMemFreeAsync(uintptr_t, void*);
int cuMemHostAlloc(void**, size_t, unsigned);
int cuMemFreeHost(void*);
int cuMemGetInfo_v2(size_t*, size_t*);
int cuMemcpyHtoD_v2(uintptr_t, const void*, size_t);
int cuMemcpyDtoH_v2(void*, uintptr_t, size_t);
int cuMemcpyDtoD_v2(uintptr_t, uintptr_t, size_t);
int cuMemcpyHtoDAsync_v2(uintptr_t, const void*, size_t, void*);
int cuMemcpyDtoHAsync_v2(void*, uintptr_t, size_t, void*);
int cuMemcpyDtoDAsync_v2(uintptr_t, uintptr_t, size_t, void*);
int cuMemsetD8Async(uintptr_t, unsigned char, size_t, void*);
int cuMemsetD32Async(uintptr_t, unsigned, size_t, void*);
int cuStreamCreate(void**, unsigned);
int cuStreamDestroy_v2(void*);
int cuStreamSynchronize(void*);
int cuStreamQuery(void*);
int cuStreamWaitEvent(void*, void*, unsigned);
int cuStreamBeginCapture_v2(void*, int);
int cuStreamEndCapture(void*, void**);
int cuStreamIsCapturing(void*, int*);
int cuEventCreate(void**, unsigned);
int cuEventDestroy_v2(void*);
int cuEventRecord(void*, void*);
int cuEventSynchronize(void*);
int cuEventQuery(void*);
int cuEventElapsedTime_v2(float*, void*, void*);
int cuModuleLoadData(void**, const void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncSetAttribute(void*, int, int);
int cuFuncGetAttribute(int*, int, void*);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuLaunchCooperativeKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**);
int cuLaunchKernelEx(const void*, void*, void**, void**);
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int*, void*, int, size_t);
int cuOccupancyMaxActiveClusters(int*, void*, const void*);
int cuGraphInstantiateWithFlags(void**, void*, unsigned long long);
int cuGraphLaunch(void*, void*);
int cuGraphGetNodes(void*, void**, size_t*);
int cuGraphNodeGetType(void*, int*);
int cuGraphExecUpdate_v2(void*, void*, void*);
int cuGraphDestroy(void*);
int cuGraphExecDestroy(void*);
int cuGetProcAddress_v2(const char*, void**, int, uint64_t, int*);
int cuGetErrorName(int, const char**);
int cublasCreate_v2(void**);
int cublasSetWorkspace_v2(void*, void*, size_t);
int cublasDestroy_v2(void*);
int cublasSetStream_v2(void*, void*);
int cublasSetMathMode(void*, int);
int cublasSetPointerMode_v2(void*, int);
int cublasSgemm_v2(void*, int, int, int, int, int, const float*, const float*, int, const float*, int, const float*, float*, int);
int cublasDgemm_v2(void*, int, int, int, int, int, const double*, const double*, int, const double*, int, const double*, double*, int);
int cublasSgemmStridedBatched(void*, int, int, int, int, int, const float*, const float*, int, long long, const float*, int, long long,
                              const float*, float*, int, long long, int);
int cublasGemmEx(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int, const void*, void*, int, int, int, int);
int cublasGemmStridedBatchedEx(void*, int, int, int, int, int, const void*, const void*, int, int, long long, const void*, int, int, long long,
                               const void*, void*, int, int, long long, int, int, int);
}

// A test that passes: it returns, and the driver has found no fault.
#define TEST(name) SOFTGPU_TEST(name, nullptr, nullptr)
// A test with a planted fault: the process must fail, and say these words, those between bars in any order.
#define FAULT(name, words) SOFTGPU_TEST(name, words, nullptr)
// One that the sanitizer finds first, where it is built in: then it says these words of its own.
#define FAULT_SANITIZED(name, words, sanitized) SOFTGPU_TEST(name, words, sanitized)
#define SOFTGPU_TEST(name, words, sanitized)                                             \
    static void test_##name();                                                           \
    static const TestRegistration test_registration_##name{{#name, words, sanitized, test_##name}}; \
    static void test_##name()

struct Test {
    const char *name, *words, *sanitized;
    void (*run)();
};
std::vector<Test>& tests();
struct TestRegistration {
    TestRegistration(const Test& test) { tests().push_back(test); }
};

[[noreturn]] inline void failed(const char* what, const char* file, int line, long long got = 0, bool has = false) {
    std::fprintf(stderr, "%s:%d: %s", file, line, what);
    if (has) std::fprintf(stderr, " (is %lld)", got);
    std::fprintf(stderr, "\n");
    std::fflush(nullptr);
    _Exit(1);
}
#define CHECK(condition) ((condition) ? (void)0 : failed("not so: " #condition, __FILE__, __LINE__))
template <class T, class U>
inline void same(const T& got, const U& value, const char* what, const char* file, int line) {
    if (!(got == value)) failed(what, file, line, (long long)got, true);
}
#define SAME(expression, value) same((expression), (value), "not so: " #expression " == " #value, __FILE__, __LINE__)
#define DO(call) SAME((call), 0)

// The device, ready; a module; what the tests do over and over.
void set_up();
void* function(const char* name);

template <class P>
int try_launch(const char* name, unsigned blocks, unsigned threads, const P& p, unsigned shared_bytes = 0, void* stream = nullptr) {
    P copy = p;
    void* parameters[] = {&copy};
    return cuLaunchKernel(function(name), blocks, 1, 1, threads, 1, 1, shared_bytes, stream, parameters, nullptr);
}
template <class P>
void launch(const char* name, unsigned blocks, unsigned threads, const P& p, unsigned shared_bytes = 0, void* stream = nullptr) {
    DO(try_launch(name, blocks, threads, p, shared_bytes, stream));
}
struct Attribute {
    int id, padding;
    unsigned values[16];
};
struct Config {
    unsigned grid[3], block[3], shared_bytes;
    void* stream;
    Attribute* attributes;
    unsigned count;
};

template <class T>
T* device(size_t n) {
    uintptr_t at = 0;
    DO(cuMemAlloc_v2(&at, n * sizeof(T)));
    return reinterpret_cast<T*>(at);
}
template <class T>
T* device(const std::vector<T>& values) {
    T* at = device<T>(values.size());
    DO(cuMemcpyHtoD_v2(uintptr_t(at), values.data(), values.size() * sizeof(T)));
    return at;
}
template <class T>
std::vector<T> host(const T* at, size_t n) {
    std::vector<T> values(n);
    DO(cuMemcpyDtoH_v2(values.data(), uintptr_t(at), n * sizeof(T)));
    return values;
}
inline void release(const void* at) { DO(cuMemFree_v2(uintptr_t(at))); }
// For tests whose order of threads matters: under each of five schedules.
inline const std::vector<const char*> schedules{"forward", "reverse", "random:1", "random:2", "random:3"};
