// Streams, events, memory on streams, graphs, counters: order where it was asked for, and no other.
#include "test.h"

#include <cmath>
#include <cstring>
#include <thread>

struct Scale { const float* from; float* to; float factor; };
KERNEL(scale, Scale) { p.to[threadIdx.x] = p.factor * p.from[threadIdx.x]; }

static void* stream() {
    void* made;
    DO(cuStreamCreate(&made, 1));
    return made;
}
static void* event(unsigned flags = 2) {
    void* made;
    DO(cuEventCreate(&made, flags));
    return made;
}

// One stream writes, another reads; between them an event, or none. Returns what the reader saw.
static float two_streams(const char* schedule, bool ordered) {
    DO(softgpu_schedule(schedule));
    void *first = stream(), *second = stream(), *done = event();
    float *a = device(std::vector<float>(32, 1.f)), *b = device<float>(32), *c = device<float>(32);
    launch("scale", 1, 32, Scale{a, b, 2}, 0, first);
    DO(cuEventRecord(done, first));
    if (ordered) DO(cuStreamWaitEvent(second, done, 0));
    launch("scale", 1, 32, Scale{b, c, 5}, 0, second);
    DO(cuStreamSynchronize(second));
    float seen = host(c, 1)[0];
    DO(cuCtxSynchronize());
    DO(cuStreamDestroy_v2(first)), DO(cuStreamDestroy_v2(second)), DO(cuEventDestroy_v2(done));
    release(a), release(b), release(c);
    return seen;
}
TEST(a_missing_event_shows) {
    set_up();
    for (const char* schedule : schedules) SAME(two_streams(schedule, true), 10.f);
    CHECK(std::isnan(two_streams("forward", false)));  // the writer is left behind
    int wrong = 0;
    for (int seed = 0; seed < 10; ++seed) wrong += std::isnan(two_streams(("random:" + std::to_string(seed)).c_str(), false));
    CHECK(wrong > 0 && wrong < 10);
}
// The reader must not be overtaken either: the write after read on another stream.
TEST(an_overwrite_without_an_event_shows) {
    set_up();
    int wrong = 0;
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        void *first = stream(), *second = stream();
        float *a = device(std::vector<float>(32, 1.f)), *b = device<float>(32);
        launch("scale", 1, 32, Scale{a, b, 2}, 0, first);
        DO(cuMemsetD32Async(uintptr_t(a), 0, 32, second));
        DO(cuStreamSynchronize(first));
        wrong += host(b, 1)[0] != 2.f;
        DO(cuCtxSynchronize());
        DO(cuStreamDestroy_v2(first)), DO(cuStreamDestroy_v2(second));
        release(a), release(b);
    }
    CHECK(wrong > 0);
}
TEST(stream_zero_is_ordered_with_blocking_streams) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        void* blocking;
        DO(cuStreamCreate(&blocking, 0));
        float *a = device(std::vector<float>(32, 1.f)), *b = device<float>(32), *c = device<float>(32);
        launch("scale", 1, 32, Scale{a, b, 2}, 0, blocking);
        launch("scale", 1, 32, Scale{b, c, 2}, 0, nullptr);
        launch("scale", 1, 32, Scale{c, a, 2}, 0, blocking);
        DO(cuStreamSynchronize(blocking));
        SAME(host(a, 1)[0], 8.f);
        DO(cuStreamDestroy_v2(blocking));
        release(a), release(b), release(c);
    }
}
TEST(pageable_memory_is_read_at_once_and_pinned_late) {
    set_up();
    void* s = stream();
    float pageable[4] = {1, 1, 1, 1}, *pinned, back[4];
    DO(cuMemHostAlloc((void**)&pinned, 16, 0));
    for (int i = 0; i < 4; ++i) pinned[i] = 1;
    float *a = device<float>(4), *b = device<float>(4);
    DO(cuMemcpyHtoDAsync_v2(uintptr_t(a), pageable, 16, s));
    DO(cuMemcpyHtoDAsync_v2(uintptr_t(b), pinned, 16, s));
    pageable[0] = 2, pinned[0] = 2;
    DO(cuMemcpyDtoHAsync_v2(back, uintptr_t(a), 16, s));  // to pageable memory: waits
    SAME(back[0], 1.f);
    pinned[1] = 0;
    SAME(host(b, 1)[0], 2.f);
    pinned[0] = 7;
    DO(cuMemcpyDtoHAsync_v2(pinned, uintptr_t(a), 16, s));
    SAME(pinned[0], 7.f);  // nobody waited
    DO(cuStreamSynchronize(s));
    SAME(pinned[0], 1.f);
    release(a), release(b), DO(cuMemFreeHost(pinned)), DO(cuStreamDestroy_v2(s));
}
TEST(memory_on_streams) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        void *s = stream(), *other = stream(), *ready = event();
        uintptr_t a;
        DO(cuMemAllocAsync(&a, 128, s));
        DO(cuMemsetD32Async(a, 0x40000000, 32, s));
        DO(cuEventRecord(ready, s));
        DO(cuStreamWaitEvent(other, ready, 0));
        float* b = device<float>(32);
        launch("scale", 1, 32, Scale{(float*)a, b, 3}, 0, other);
        DO(cuEventRecord(ready, other));
        DO(cuStreamWaitEvent(s, ready, 0));
        DO(cuMemFreeAsync(a, s));
        DO(cuStreamSynchronize(s));
        SAME(host(b, 1)[0], 6.f);
        release(b), DO(cuStreamDestroy_v2(s)), DO(cuStreamDestroy_v2(other)), DO(cuEventDestroy_v2(ready));
    }
}
FAULT(memory_of_another_stream_without_an_event, "kernel scale|whose stream has not come to the allocation") {
    set_up();
    void *s = stream(), *other = stream();
    uintptr_t a;
    DO(cuMemAllocAsync(&a, 128, s));
    launch("scale", 1, 32, Scale{(float*)a, (float*)a, 3}, 0, other);
    SAME(cuStreamSynchronize(other), 700);
}
TEST(queries_end) {
    set_up();
    void *s = stream(), *e = event(0), *f = event(0);
    float* a = device(std::vector<float>(32, 1.f));
    DO(cuEventRecord(e, s));
    for (int i = 0; i < 5; ++i) launch("scale", 1, 32, Scale{a, a, 2}, 0, s);
    DO(cuEventRecord(f, s));
    SAME(cuEventQuery(f), 600);
    int queries = 0;
    while (cuEventQuery(f) == 600) CHECK(++queries < 100);
    float ms = -1;
    DO(cuEventElapsedTime_v2(&ms, e, f));
    CHECK(ms >= 0 && ms < 1000);
    SAME(cuStreamQuery(s), 0);
    SAME(host(a, 1)[0], 32.f);
    release(a), DO(cuEventDestroy_v2(e)), DO(cuEventDestroy_v2(f)), DO(cuStreamDestroy_v2(s));
}
FAULT(a_stream_after_its_end, "is no stream, or one that was destroyed") {
    set_up();
    void* s = stream();
    DO(cuStreamDestroy_v2(s));
    SAME(cuStreamSynchronize(s), 400);
}
TEST(memory_can_run_out) {
    setenv("SOFTGPU_MEMORY", "1M", 1);
    set_up();
    uintptr_t a, b;
    size_t unused, total;
    DO(cuMemAlloc_v2(&a, 600 << 10));
    SAME(cuMemAlloc_v2(&b, 600 << 10), 2);
    DO(cuMemGetInfo_v2(&unused, &total));
    SAME(total, size_t(1) << 20);
    SAME(unused, size_t(424) << 10);
    DO(cuMemFree_v2(a));
    DO(cuMemAlloc_v2(&b, 600 << 10));
    DO(cuMemFree_v2(b));
}

// ----------------------------------------------------------------------------------------------------------------- graphs

TEST(a_graph_of_two_streams_replays) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        void *s = stream(), *side = stream(), *fork = event(), *join = event(), *graph, *exec;
        float *a = device(std::vector<float>(32, 1.f)), *b = device<float>(32), *c = device<float>(32);
        DO(cuStreamBeginCapture_v2(s, 0));
        launch("scale", 1, 32, Scale{a, b, 2}, 0, s);
        DO(cuEventRecord(fork, s));
        DO(cuStreamWaitEvent(side, fork, 0));
        launch("scale", 1, 32, Scale{b, c, 3}, 0, side);
        DO(cuEventRecord(join, side));
        DO(cuStreamWaitEvent(s, join, 0));
        launch("scale", 1, 32, Scale{c, a, 1}, 0, s);
        int status;
        DO(cuStreamIsCapturing(side, &status));
        SAME(status, 1);
        DO(cuStreamEndCapture(s, &graph));
        SAME(host(a, 1)[0], 1.f);  // nothing has run
        DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
        size_t nodes = 0;
        DO(cuGraphGetNodes(graph, nullptr, &nodes));
        SAME(nodes, 3u);
        softgpu_reset();
        for (int i = 0; i < 3; ++i) DO(cuGraphLaunch(exec, s));
        softgpu_counts counts;
        DO(softgpu_counters(&counts, sizeof counts));
        SAME(counts.graph_launches, 3u);
        SAME(counts.launches, 9u);
        SAME(softgpu_launches("scale"), 9u);
        DO(cuStreamSynchronize(s));
        SAME(host(a, 1)[0], 216.f);
        DO(cuGraphExecDestroy(exec)), DO(cuGraphDestroy(graph));
        DO(cuStreamDestroy_v2(s)), DO(cuStreamDestroy_v2(side)), DO(cuEventDestroy_v2(fork)), DO(cuEventDestroy_v2(join));
        release(a), release(b), release(c);
    }
}
TEST(a_graph_can_be_updated) {
    set_up();
    void *s = stream(), *graph, *exec;
    float *a = device(std::vector<float>(32, 1.f)), *b = device<float>(32);
    auto capture = [&](float factor) {
        DO(cuStreamBeginCapture_v2(s, 1));
        launch("scale", 1, 32, Scale{a, b, factor}, 0, s);
        DO(cuStreamEndCapture(s, &graph));
    };
    capture(2);
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    DO(cuGraphDestroy(graph));
    DO(cuGraphLaunch(exec, s));
    capture(5);
    int info[6] = {-1};
    DO(cuGraphExecUpdate_v2(exec, graph, info));
    SAME(info[0], 0);
    DO(cuStreamSynchronize(s));
    SAME(host(b, 1)[0], 2.f);  // the launch before the update
    DO(cuGraphLaunch(exec, s));
    DO(cuStreamSynchronize(s));
    SAME(host(b, 1)[0], 5.f);
    DO(cuGraphExecDestroy(exec)), DO(cuGraphDestroy(graph)), DO(cuStreamDestroy_v2(s));
    release(a), release(b);
}
// The card takes it: it does not run now, and runs in every replay.
FAULT(work_in_another_threads_capture, "another thread captures this stream") {
    set_up();
    void *s = stream(), *graph, *context;
    DO(cuDevicePrimaryCtxRetain(&context, 0));
    float* a = device(std::vector<float>(32, 1.f));
    DO(cuStreamBeginCapture_v2(s, 2));
    std::thread([=] {
        DO(cuCtxSetCurrent(context));
        SAME(cuMemsetD32Async(uintptr_t(a), 0, 32, s), 908);
    }).join();
    DO(cuStreamEndCapture(s, &graph));
    DO(cuGraphDestroy(graph)), DO(cuStreamDestroy_v2(s));
    release(a);
}
TEST(what_a_capture_forbids) {
    set_up();
    void *s = stream(), *side = stream(), *before = event(), *inside = event(), *graph;
    uintptr_t memory;
    float* a = device(std::vector<float>(32, 1.f));
    auto captured = [&](auto&& act, int error, int end) {
        DO(cuStreamBeginCapture_v2(s, 0));
        SAME(act(), error);
        SAME(cuStreamEndCapture(s, &graph), end);
        if (!end) DO(cuGraphDestroy(graph));
    };
    DO(cuEventRecord(before, side));
    captured([&] { return cuMemAlloc_v2(&memory, 64); }, 900, 901);
    captured([&] { return cuMemAllocAsync(&memory, 64, s); }, 900, 901);
    captured([&] { return cuStreamSynchronize(s); }, 900, 901);
    captured([&] { return cuCtxSynchronize(); }, 900, 901);
    captured([&] { return cuStreamWaitEvent(s, before, 0); }, 905, 901);
    captured([&] {
        DO(cuEventRecord(inside, s));
        return cuEventSynchronize(inside);
    }, 907, 0);
    captured([&] {  // a stream that joined and was not waited for
        DO(cuEventRecord(inside, s));
        DO(cuStreamWaitEvent(side, inside, 0));
        return try_launch("scale", 1, 32, Scale{a, a, 1}, 0, side);
    }, 0, 904);
    SAME(cuStreamBeginCapture_v2(nullptr, 0), 900);
    release(a), DO(cuStreamDestroy_v2(s)), DO(cuStreamDestroy_v2(side)), DO(cuEventDestroy_v2(before)), DO(cuEventDestroy_v2(inside));
}

// A context is waited for while streams of it are captured: refused, and those captures are over, whichever thread waits and in
// whatever mode they are.
TEST(waiting_for_a_context_ends_its_captures) {
    set_up();
    void *s = stream(), *side = stream(), *other = stream(), *fork = event(), *blas, *context;
    DO(cuDevicePrimaryCtxRetain(&context, 0));
    DO(cublasCreate_v2(&blas));
    DO(cublasSetStream_v2(blas, s));
    float one = 1, zero = 0, *a = device(std::vector<float>(32, 1.f)), *b = device<float>(32);
    auto product = [&] { return cublasSgemm_v2(blas, 0, 0, 2, 2, 2, &one, a, 2, a, 2, &zero, b, 2); };
    for (int mode = 0; mode < 3; ++mode)
        for (bool elsewhere : {false, true}) {
            DO(cuStreamBeginCapture_v2(s, mode));
            DO(cuStreamBeginCapture_v2(other, 2));
            launch("scale", 1, 32, Scale{a, b, 2}, 0, s);
            DO(cuEventRecord(fork, s));
            DO(cuStreamWaitEvent(side, fork, 0));
            DO(product());
            auto wait = [&] {
                DO(cuCtxSetCurrent(context));
                SAME(cuCtxSynchronize(), 900);
            };
            if (elsewhere) std::thread(wait).join();
            else wait();
            for (void* each : {s, side, other}) {
                int status;
                DO(cuStreamIsCapturing(each, &status));
                SAME(status, 2);
                SAME(try_launch("scale", 1, 32, Scale{a, b, 2}, 0, each), 901);
                SAME(cuMemcpyDtoDAsync_v2(uintptr_t(b), uintptr_t(a), 128, each), 901);
                SAME(cuEventRecord(fork, each), 901);
                SAME(cuStreamWaitEvent(each, fork, 0), 901);
            }
            SAME(product(), 13);  // CUBLAS_STATUS_EXECUTION_FAILED
            for (void* each : {s, other}) {
                void* graph = &graph;
                SAME(cuStreamEndCapture(each, &graph), 901);
                CHECK(!graph);
            }
            // Nothing has run, and from here on everything does.
            DO(cuCtxSynchronize());
            DO(product());
            DO(cuEventRecord(fork, s));
            DO(cuStreamWaitEvent(side, fork, 0));
            launch("scale", 1, 4, Scale{b, b, 3}, 0, side);
            DO(cuCtxSynchronize());
            SAME(host(b, 1)[0], 6.f);
        }
    DO(cublasDestroy_v2(blas)), DO(cuDevicePrimaryCtxRelease_v2(0)), release(a), release(b);
    for (void* each : {s, side, other}) DO(cuStreamDestroy_v2(each));
    DO(cuEventDestroy_v2(fork));
}

// --------------------------------------------------------------------------------------------------- counters and the rest

TEST(counters_count) {
    set_up();
    void* s = stream();
    float *a = device<float>(32), *b = device<float>(32);
    softgpu_reset(), softgpu_thread_reset();
    std::vector<float> x(32, 1.f);
    DO(cuMemcpyHtoDAsync_v2(uintptr_t(a), x.data(), 128, s));
    launch("scale", 1, 32, Scale{a, b, 2}, 0, s);
    DO(cuMemcpyDtoDAsync_v2(uintptr_t(a), uintptr_t(b), 128, s));
    DO(cuStreamSynchronize(s));
    for (auto read : {softgpu_counters, softgpu_thread_counters}) {
        softgpu_counts c;
        DO(read(&c, sizeof c));
        SAME(c.launches, 1u);
        SAME(c.bytes_h2d, 128u);
        SAME(c.bytes_d2d, 128u);
        SAME(c.synchronisations, 1u);
        SAME(c.allocations, 0u);
        SAME(c.live_allocations, 2u);
    }
    release(a), release(b), DO(cuStreamDestroy_v2(s));
}
// Host threads side by side, each with its own stream, its own results and its own counts.
KERNEL(sum_block, Scale) { p.to[threadIdx.x] = block_sum(p.from[threadIdx.x], dynamic_shared<float>()) * p.factor; }
TEST(host_threads) {
    set_up();
    DO(softgpu_schedule("random:5"));
    void* context;
    DO(cuDevicePrimaryCtxRetain(&context, 0));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([=] {
            DO(cuCtxSetCurrent(context));
            void* s = stream();
            float *a = device(std::vector<float>(256, float(t))), *b = device<float>(256);
            softgpu_thread_reset();
            for (int i = 0; i < 50; ++i) {
                launch("sum_block", 1, 256, Scale{a, b, float(i)}, 128, s);
                if (i % 5) continue;
                float back[256];
                DO(cuMemcpyDtoHAsync_v2(back, uintptr_t(b), sizeof back, s));
                for (float x : back) SAME(x, float(t * 256 * i));
            }
            DO(cuStreamSynchronize(s));
            SAME(softgpu_thread_launches("sum_block"), 50u);
            release(a), release(b), DO(cuStreamDestroy_v2(s));
        });
    for (std::thread& thread : threads) thread.join();
    SAME(softgpu_launches("sum_block"), 200u);
}
// A fault in one thread's kernel reaches them all, as it does on the card, and none hangs.
FAULT_SANITIZED(host_threads_and_a_fault, "kernel scale",
                "runtime error: load of null pointer of type 'const float'") {
    set_up();
    void* context;
    DO(cuDevicePrimaryCtxRetain(&context, 0));
    std::vector<std::thread> threads;
    void* scale = function("scale");
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([=] {
            DO(cuCtxSetCurrent(context));
            Scale p{nullptr, nullptr, 1};
            void* parameters[] = {&p};
            for (int i = 0; i < 20; ++i) cuLaunchKernel(scale, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr);
            SAME(cuCtxSynchronize(), 700);
        });
    for (std::thread& thread : threads) thread.join();
}
TEST(devices_are_what_they_are_called) {
    setenv("SOFTGPU_DEVICE", "a100,t4", 1);
    set_up();
    int value;
    DO(cuDeviceGetAttribute(&value, 16, 0));
    SAME(value, 108);
    DO(cuDeviceGetAttribute(&value, 97, 1));
    SAME(value, 64 << 10);
    DO(cuDeviceGetAttribute(&value, 75, 1));
    SAME(value, 7);
    SAME(cuDeviceGetAttribute(&value, 75, 2), 101);
}
TEST(no_device) {
    setenv("SOFTGPU_DEVICE", "none", 1);
    SAME(cuInit(0), 100);
}
TEST(unknown_names) {
    set_up();
    void *module, *found;
    DO(cuModuleLoadData(&module, ""));
    SAME(cuModuleGetFunction(&found, module, "no_such_kernel"), 500);
    const char* name;
    DO(cuGetErrorName(500, &name));
    CHECK(!std::strcmp(name, "CUDA_ERROR_NOT_FOUND"));
    DO(cuGetProcAddress_v2("cuMemAlloc", &found, 13000, 0, nullptr));
    CHECK(found == (void*)&cuMemAlloc_v2);
}
