// Planted faults of kernels: each must be caught, by name.
#include "test.h"

#include <cmath>

struct Store { float* at; unsigned index; };
KERNEL(store, Store) { if (threadIdx.x == 0) p.at[p.index] = 1; }
struct Load { const float* at; float* to; int index; };
KERNEL(load, Load) { p.to[0] = p.at[p.index]; }

FAULT(store_far_past_the_end, "kernel store|thread (0,0,0)|0 bytes past the end of allocation #1 of 1024 bytes|cuMemAlloc_v2") {
    set_up();
    float* a = device<float>(256);
    launch("store", 1, 32, Store{a, 256});
    SAME(cuCtxSynchronize(), 700);
    SAME(cuCtxSynchronize(), 700);  // it stays
}
FAULT_SANITIZED(store_a_little_past_the_end, "kernel store: a store 0 bytes past the end of allocation #1 of 400 bytes",
                "AddressSanitizer: use-after-poison|WRITE of size 4|kernel store, block (0,0,0), thread (0,0,0): the error above") {
    set_up();
    float* a = device<float>(100);
    launch("store", 1, 32, Store{a, 100});
    SAME(cuCtxSynchronize(), 700);
}
FAULT_SANITIZED(store_before_the_beginning, "kernel store: a store 4 bytes before the beginning of allocation #1",
                "AddressSanitizer: use-after-poison|WRITE of size 4|kernel store, block (0,0,0), thread (0,0,0): the error above") {
    set_up();
    float* a = device<float>(100);
    launch("store", 1, 32, Store{a - 1, 0});
    SAME(cuCtxSynchronize(), 700);
}
FAULT(use_after_free, "kernel store|0 bytes into allocation #1|freed by cuMemFree_v2") {
    set_up();
    float* a = device<float>(256);
    release(a);
    launch("store", 1, 32, Store{a, 0});
    SAME(cuCtxSynchronize(), 700);
}
FAULT(freed_on_its_stream_too_early, "kernel store|freed by cuMemFreeAsync") {
    set_up();
    void* stream;
    DO(cuStreamCreate(&stream, 1));
    uintptr_t a;
    DO(cuMemAllocAsync(&a, 1024, stream));
    DO(cuMemFreeAsync(a, stream));
    launch("store", 1, 32, Store{(float*)a, 0}, 0, stream);
    SAME(cuStreamSynchronize(stream), 700);
}
FAULT(double_free, "for the second time") {
    set_up();
    float* a = device<float>(256);
    release(a);
    SAME(cuMemFree_v2(uintptr_t(a)), 1);
}
FAULT_SANITIZED(null_pointer, "kernel load, block (0,0,0), thread (0,0,0)|null",
                "faults.cu|runtime error: load of null pointer of type 'const float'") {
    set_up();
    float* a = device<float>(1);
    launch("load", 1, 1, Load{nullptr, a, 0});
    SAME(cuCtxSynchronize(), 700);
}
FAULT(copy_past_the_end, "cuMemcpyHtoD_v2: the destination: 404 bytes from|run 4 bytes past the end of allocation #1 of 400 bytes") {
    set_up();
    float* a = device<float>(100);
    std::vector<float> values(101);
    SAME(cuMemcpyHtoD_v2(uintptr_t(a), values.data(), 404), 1);
}
FAULT(leak_at_exit, "leak: 4096 bytes in 1 allocations were never freed: 4096 bytes in 1 by cuMemAlloc_v2") {
    setenv("SOFTGPU_LEAKS", "error", 1);
    set_up();
    device<float>(1024);
}

FAULT(leak_of_a_context, "leak: 4096 bytes in 1 allocations|kernel store|freed by the end of its context") {
    setenv("SOFTGPU_LEAKS", "error", 1);
    set_up();
    float* a = device<float>(1024);
    DO(cuDevicePrimaryCtxRelease_v2(0));
    set_up();
    launch("store", 1, 32, Store{a, 0});
    SAME(cuCtxSynchronize(), 700);
}

TEST(memory_is_poisoned) {
    set_up();
    float *a = device<float>(64), *b = device<float>(64);
    for (float x : host(a, 64)) CHECK(std::isnan(x));
    launch("load", 1, 1, Load{a, b, 5});
    CHECK(std::isnan(host(b, 1)[0]));
    release(a), release(b);
}

// ----------------------------------------------------------------------------------------------------------------- races

struct Reverse { float* to; unsigned missing; };
// Each thread reads what another has written to shared memory: before the barrier that may be missing, it is not there.
KERNEL(reverse, Reverse) {
    float* shared = dynamic_shared<float>();
    shared[threadIdx.x] = float(threadIdx.x);
    if (!p.missing) __syncthreads();
    p.to[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}
static std::vector<float> reversed(const char* schedule, unsigned missing) {
    DO(softgpu_schedule(schedule));
    float* a = device<float>(64);
    launch("reverse", 1, 64, Reverse{a, missing}, 256);
    std::vector<float> result = host(a, 64);
    release(a);
    return result;
}
TEST(missing_barrier_depends_on_the_order) {
    set_up();
    for (const char* schedule : schedules) {
        std::vector<float> good = reversed(schedule, 0), bad = reversed(schedule, 1);
        int wrong = 0;
        for (int i = 0; i < 64; ++i) {
            SAME(good[size_t(i)], float(63 - i));
            wrong += !(bad[size_t(i)] == float(63 - i));
        }
        CHECK(wrong > 0);  // what was not written yet is NaN
    }
    CHECK(std::isnan(reversed("forward", 1)[0]) && !std::isnan(reversed("reverse", 1)[0]));
}

struct Last { unsigned* to; };
KERNEL(last_writer, Last) { p.to[0] = blockIdx.x * blockDim.x + threadIdx.x; }
TEST(race_shows_under_schedules) {
    set_up();
    std::vector<unsigned> results;
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        unsigned* a = device<unsigned>(1);
        launch("last_writer", 4, 64, Last{a});
        results.push_back(host(a, 1)[0]);
        release(a);
    }
    SAME(results[0], 255u);
    SAME(results[1], 0u);
    CHECK(results[2] != results[3] || results[3] != results[4]);
}
// The same seed gives the same run.
TEST(a_seed_repeats) {
    set_up();
    unsigned results[2];
    for (unsigned& result : results) {
        DO(softgpu_schedule("random:7"));
        unsigned* a = device<unsigned>(1);
        launch("last_writer", 4, 64, Last{a});
        result = host(a, 1)[0];
        release(a);
    }
    SAME(results[0], results[1]);
}

// -------------------------------------------------------------------------------------------------------------- meetings

struct Nothing { unsigned x; };
KERNEL(divergent_barrier, Nothing) {
    if (threadIdx.x < 7) return;
    __syncthreads();
}
FAULT(barrier_after_exit, "kernel divergent_barrier|divergent barrier|7 of the block's 64 threads have left|faults.cu") {
    set_up();
    launch("divergent_barrier", 1, 64, Nothing{});
    SAME(cuCtxSynchronize(), 719);
}
FAULT(exit_after_barrier, "kernel divergent_barrier|it leaves the kernel while|wait in __syncthreads") {
    set_up();
    DO(softgpu_schedule("reverse"));
    launch("divergent_barrier", 1, 64, Nothing{});
    SAME(cuCtxSynchronize(), 719);
}
KERNEL(two_barriers_apart, Nothing) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
FAULT(barriers_in_two_places, "kernel two_barriers_apart|divergent barrier: it waits here while 32 threads wait at") {
    set_up();
    launch("two_barriers_apart", 1, 64, Nothing{});
    SAME(cuCtxSynchronize(), 719);
}
KERNEL(half_a_shuffle, Nothing) {
    if (threadIdx.x < 16) (void)__shfl_sync(full_warp, 1, 0);
}
FAULT(shuffle_without_all_lanes, "kernel half_a_shuffle|divergent warp|which has left|") {
    set_up();
    DO(softgpu_schedule("reverse"));
    launch("half_a_shuffle", 1, 32, Nothing{});
    SAME(cuCtxSynchronize(), 719);
}
KERNEL(shuffle_of_absent_lanes, Nothing) { (void)__shfl_sync(full_warp, 1, 0); }
FAULT(shuffle_in_part_of_a_warp, "names lanes that the block of 48 threads does not have") {
    set_up();
    launch("shuffle_of_absent_lanes", 1, 48, Nothing{});
    SAME(cuCtxSynchronize(), 719);
}
KERNEL(named_deadlock, Nothing) {
    if (threadIdx.x < 32) barrier_sync(1, 64);
}
FAULT(deadlock_is_told_by_position, "kernel named_deadlock: deadlock|block (0,0,0): 32 have left|32 wait in barrier_sync") {
    set_up();
    launch("named_deadlock", 1, 64, Nothing{});
    SAME(cuCtxSynchronize(), 702);
}
struct Spin { unsigned* flag; };
KERNEL(spin, Spin) {
    while (load_acquire(p.flag) == 0) {
    }
}
FAULT(polling_for_what_never_comes, "kernel spin: deadlock|polls in vain|are in a poll|faults.cu") {
    set_up();
    unsigned* flag = device(std::vector<unsigned>{0});
    launch("spin", 2, 32, Spin{flag});
    SAME(cuCtxSynchronize(), 702);
}
KERNEL(spin_without_a_word, Spin) {
    while (*(volatile unsigned*)p.flag == 0) {
    }
}
FAULT(spinning_on_plain_loads, "kernel spin_without_a_word|without meeting another thread") {
    setenv("SOFTGPU_TIMEOUT", "2", 1);
    set_up();
    unsigned* flag = device(std::vector<unsigned>{0});
    launch("spin_without_a_word", 1, 32, Spin{flag});
    cuCtxSynchronize();
}

// --------------------------------------------------------------------------------------------------------- shared memory

KERNEL(shared_overrun, Nothing) { dynamic_shared<float>()[p.x] = 1; }
FAULT(shared_memory_overrun_by_pages, "kernel shared_overrun|past the end of its 4096 bytes of dynamic shared memory") {
    set_up();
    launch("shared_overrun", 1, 1, Nothing{1024}, 4096);
    SAME(cuCtxSynchronize(), 700);
}
FAULT_SANITIZED(shared_memory_overrun_by_a_word, "kernel shared_overrun, block (0,0,0): a store 0 bytes past the end of its 4000 bytes of dynamic shared memory",
                "AddressSanitizer: use-after-poison|WRITE of size 4|kernel shared_overrun, block (0,0,0), thread (0,0,0): the error above") {
    set_up();
    launch("shared_overrun", 1, 1, Nothing{1000}, 4000);
    SAME(cuCtxSynchronize(), 700);
}
TEST(shared_memory_above_48_kb_must_be_asked_for) {
    set_up();
    void* f = function("shared_overrun");
    Nothing p{0};
    void* parameters[] = {&p};
    SAME(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 49153, nullptr, parameters, nullptr), 1);
    SAME(cuFuncSetAttribute(f, 8, (227 << 10) + 1), 1);
    DO(cuFuncSetAttribute(f, 8, 100000));
    DO(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 100000, nullptr, parameters, nullptr));
    SAME(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 100001, nullptr, parameters, nullptr), 1);
    DO(cuCtxSynchronize());
}
struct Vector { const float* from; float* to; };
KERNEL(vector_copy, Vector) { store_vec(p.to, load_vec<float, 4>(p.from)); }
FAULT(misaligned_vector, "kernel vector_copy|misaligned") {
    set_up();
    float* a = device<float>(64);
    launch("vector_copy", 1, 1, Vector{a + 1, a + 8});
    SAME(cuCtxSynchronize(), 716);
}
KERNEL(recursive, Nothing) {
    volatile char large[1 << 20];
    large[0] = 1;
    large[p.x] = large[0];
}
FAULT(stack_overflow, "kernel recursive|stack") {
    set_up();
    launch("recursive", 1, 1, Nothing{5});
    SAME(cuCtxSynchronize(), 700);
}
KERNEL(divide, Last) { p.to[0] = 5 / p.to[1]; }
FAULT_SANITIZED(division_by_zero, "kernel divide|division by zero",
                "faults.cu|runtime error: division by zero") {
    set_up();
    unsigned* a = device(std::vector<unsigned>{0, 0});
    launch("divide", 1, 1, Last{a});
    SAME(cuCtxSynchronize(), 719);
}
// After a fault is forgiven the device works again.
TEST(a_fault_can_be_forgiven) {
    set_up();
    launch("divergent_barrier", 1, 64, Nothing{});
    SAME(cuCtxSynchronize(), 719);
    SAME(softgpu_forgive(), 1u);
    reversed("forward", 0);
    DO(cuCtxSynchronize());
}
