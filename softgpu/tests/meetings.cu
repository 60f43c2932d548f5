// What threads do together, and that it comes out right in every order: shuffles, barriers, grids, clusters.
#include "test.h"

#include <algorithm>
#include <cmath>

struct Out { float* to; unsigned* bits; unsigned n; };

KERNEL(shuffles, Out) {
    unsigned lane = threadIdx.x % 32;
    float v = float(lane);
    float* to = p.to + threadIdx.x * 8;
    to[0] = __shfl_sync(full_warp, v, 5);
    to[1] = __shfl_up_sync(full_warp, v, 1);
    to[2] = __shfl_down_sync(full_warp, v, 2);
    to[3] = __shfl_xor_sync(full_warp, v, 4);
    to[4] = float(__shfl_sync(full_warp, double(v), int(lane) + 1, 8));
    to[5] = warp_sum(v);
    to[6] = float(__reduce_add_sync(full_warp, lane));
    to[7] = float(__shfl_sync(lane < 16 ? 0x0000ffffu : 0xffff0000u, int(lane), lane < 16 ? 3 : 19));
    p.bits[threadIdx.x * 3] = __ballot_sync(full_warp, lane % 3 == 0);
    p.bits[threadIdx.x * 3 + 1] = unsigned(__any_sync(full_warp, lane == 7)) * 2 + unsigned(__all_sync(full_warp, lane == 7));
    p.bits[threadIdx.x * 3 + 2] = __match_any_sync(full_warp, lane / 16);
}
TEST(shuffles) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        float* to = device<float>(64 * 8);
        unsigned* bits = device<unsigned>(64 * 3);
        launch("shuffles", 1, 64, Out{to, bits, 0});
        auto r = host(to, 64 * 8);
        auto b = host(bits, 64 * 3);
        for (size_t t = 0; t < 64; ++t) {
            int lane = int(t % 32);
            const float* at = &r[t * 8];
            SAME(at[0], 5.f);
            SAME(at[1], float(std::max(lane - 1, 0)));
            SAME(at[2], float(lane + 2 < 32 ? lane + 2 : lane));
            SAME(at[3], float(lane ^ 4));
            SAME(at[4], float(lane / 8 * 8 + (lane + 1) % 8));
            SAME(at[5], 496.f);
            SAME(at[6], 496.f);
            SAME(at[7], lane < 16 ? 3.f : 19.f);
            SAME(b[t * 3], 0x49249249u);
            SAME(b[t * 3 + 1], 2u);
            SAME(b[t * 3 + 2], lane < 16 ? 0x0000ffffu : 0xffff0000u);
        }
        release(to), release(bits);
    }
}

struct Sums { const float* x; float* y; unsigned columns; };
KERNEL(sum_rows, Sums) {
    float sum = 0;
    for (unsigned i = threadIdx.x; i < p.columns; i += blockDim.x) sum += p.x[blockIdx.x * p.columns + i];
    sum = block_sum(sum, dynamic_shared<float>());
    float most = block_max(float(threadIdx.x), dynamic_shared<float>());
    if (threadIdx.x == 0) p.y[blockIdx.x] = sum + most;
}
TEST(block_sums_have_the_same_bits_in_every_order) {
    set_up();
    std::vector<float> x(20 * 777);
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(float(i));
    std::vector<float> first;
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        float *dx = device(x), *dy = device<float>(20);
        launch("sum_rows", 20, 256, Sums{dx, dy, 777}, 128);
        auto y = host(dy, 20);
        if (first.empty()) first = y;
        for (size_t i = 0; i < 20; ++i) {
            double sum = 255;
            for (size_t j = 0; j < 777; ++j) sum += x[i * 777 + j];
            CHECK(std::fabs(sum - y[i]) < 1e-3);
            CHECK(y[i] == first[i]);
        }
        release(dx), release(dy);
    }
}

KERNEL(votes, Out) {
    int x = int(threadIdx.x);
    int a = __syncthreads_and(x < 64), b = __syncthreads_or(x == 63), c = __syncthreads_count(x % 2), d = __syncthreads_and(x < 63);
    p.bits[threadIdx.x] = unsigned(a != 0) | unsigned(b != 0) << 1 | unsigned(c) << 2 | unsigned(d != 0) << 10;
}
TEST(barriers_that_vote) {
    set_up();
    unsigned* bits = device<unsigned>(64);
    launch("votes", 1, 64, Out{nullptr, bits, 0});
    for (unsigned b : host(bits, 64)) SAME(b, 3u | 32u << 2);
    release(bits);
}

// Two halves of a block hand values on through named barriers, one arriving and one waiting.
KERNEL(hand_over, Out) {
    float* shared = dynamic_shared<float>();
    for (unsigned round = 0; round < 4; ++round) {
        if (threadIdx.x < 32) {
            shared[threadIdx.x] = float(threadIdx.x + round);
            barrier_arrive(1, 64);
            barrier_sync(2, 64);
        } else {
            barrier_sync(1, 64);
            p.to[round * 32 + threadIdx.x - 32] = shared[threadIdx.x - 32];
            barrier_arrive(2, 64);
        }
    }
}
TEST(named_barriers) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        float* to = device<float>(128);
        launch("hand_over", 1, 64, Out{to, nullptr, 0}, 128);
        auto r = host(to, 128);
        for (size_t i = 0; i < 128; ++i) SAME(r[i], float(i % 32 + i / 32));
        release(to);
    }
}

struct Static { float* to; };
KERNEL(static_shared, Static) {
    __shared__ float row[64];
    p.to[blockIdx.x * 64 + threadIdx.x] = row[threadIdx.x];  // poison, in every block
    __syncthreads();
    row[threadIdx.x] = float(threadIdx.x);
    __syncthreads();
    p.to[(gridDim.x + blockIdx.x) * 64 + threadIdx.x] = row[63 - threadIdx.x];
}
TEST(static_shared_memory_is_poisoned) {
    set_up();
    float* to = device<float>(3 * 128);
    launch("static_shared", 3, 64, Static{to});
    auto r = host(to, 3 * 128);
    for (size_t i = 0; i < 192; ++i) CHECK(std::isnan(r[i]));
    for (size_t i = 192; i < 384; ++i) SAME(r[i], float(63 - i % 64));
    release(to);
}

struct Persistent { float *x, *y; unsigned* counter; unsigned steps; };
// Each step every block reads what all blocks wrote in the step before.
KERNEL(persistent, Persistent) {
    __shared__ float mine[32];
    mine[threadIdx.x] = float(blockIdx.x);
    for (unsigned step = 0; step < p.steps; ++step) {
        float sum = 0;
        for (unsigned b = 0; b < gridDim.x; ++b) sum += p.x[b * 32 + threadIdx.x];
        p.y[blockIdx.x * 32 + threadIdx.x] = sum / float(gridDim.x) + mine[threadIdx.x];
        grid_barrier(p.counter, step + 1);
        p.x[blockIdx.x * 32 + threadIdx.x] = p.y[blockIdx.x * 32 + threadIdx.x];
        grid_barrier(p.counter + 1, step + 1);
    }
}
TEST(cooperative_grid) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        const unsigned blocks = 20, steps = 5;
        float *x = device(std::vector<float>(blocks * 32, 1.f)), *y = device<float>(blocks * 32);
        unsigned* counter = device(std::vector<unsigned>{0, 0});
        Persistent p{x, y, counter, steps};
        void* parameters[] = {&p};
        DO(cuLaunchCooperativeKernel(function("persistent"), blocks, 1, 1, 32, 1, 1, 0, nullptr, parameters));
        auto r = host(x, blocks * 32);
        float mean = 1;
        for (unsigned s = 0; s + 1 < steps; ++s) mean += 9.5f;
        for (unsigned b = 0; b < blocks; ++b) CHECK(std::fabs(r[b * 32] - (mean + float(b))) < 1e-4f);
        release(x), release(y), release(counter);
    }
}
TEST(a_cooperative_grid_must_fit) {
    set_up();
    void* f = function("persistent");
    int blocks;
    DO(cuFuncSetAttribute(f, 8, 200 << 10));
    DO(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 32, 200 << 10));
    SAME(blocks, 1);
    Persistent p{};
    void* parameters[] = {&p};
    SAME(cuLaunchCooperativeKernel(f, 133, 1, 1, 32, 1, 1, 200 << 10, nullptr, parameters), 720);
    DO(cuLaunchCooperativeKernel(f, 132, 1, 1, 32, 1, 1, 200 << 10, nullptr, parameters));
    DO(cuCtxSynchronize());
}

// Each block adds up what its neighbours hold in their shared memory.
KERNEL(neighbours, Out) {
    float* shared = dynamic_shared<float>();
    shared[threadIdx.x] = float(blockIdx.x * 100 + threadIdx.x);
    cluster_sync();
    unsigned rank = cluster_rank(), size = cluster_size();
    p.to[blockIdx.x * 32 + threadIdx.x] = *map_shared_rank(shared + threadIdx.x, (rank + 1) % size);
    cluster_sync();
}
static void launch_cluster(const char* name, unsigned blocks, unsigned threads, unsigned cluster, Out p, unsigned shared_bytes, int expected = 0) {
    Attribute attribute{4, 0, {cluster, 1, 1}};
    Config config{{blocks, 1, 1}, {threads, 1, 1}, shared_bytes, nullptr, &attribute, 1};
    void* parameters[] = {&p};
    SAME(cuLaunchKernelEx(&config, function(name), parameters, nullptr), expected);
}
TEST(clusters_share_memory) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        float* to = device<float>(8 * 32);
        launch_cluster("neighbours", 8, 32, 4, {to, nullptr, 0}, 128);
        auto r = host(to, 8 * 32);
        for (unsigned b = 0; b < 8; ++b)
            for (unsigned t = 0; t < 32; ++t) SAME(r[b * 32 + t], float((b / 4 * 4 + (b + 1) % 4) * 100 + t));
        release(to);
    }
}
TEST(clusters_are_refused_where_they_do_not_fit) {
    set_up();
    launch_cluster("neighbours", 8, 32, 3, {}, 128, 912);
    launch_cluster("neighbours", 32, 32, 16, {}, 128, 912);
    // Two such blocks to an SM; a group has fewer than the others.
    for (auto [size, room] : {std::pair{2u, 132}, {8u, 30}}) {
        int clusters;
        Attribute attribute{4, 0, {size, 1, 1}};
        Config config{{size, 1, 1}, {1024, 1, 1}, 0, nullptr, &attribute, 1};
        DO(cuOccupancyMaxActiveClusters(&clusters, function("neighbours"), &config));
        SAME(clusters, room);
    }
}
KERNEL(neighbours_left, Out) {
    float* shared = dynamic_shared<float>();
    shared[threadIdx.x] = 1;
    cluster_sync();
    if (cluster_rank() == 0) return;
    __syncthreads();
    p.to[threadIdx.x] = *map_shared_rank(shared, 0);
}
FAULT(shared_memory_of_a_block_that_left, "kernel neighbours_left|has left the kernel, and its shared memory with it") {
    set_up();
    launch_cluster("neighbours_left", 2, 32, 2, {device<float>(32), nullptr, 0}, 128);
    SAME(cuCtxSynchronize(), 700);
}

// A producer warp fills a ring of buffers for a consumer warp: barriers that count, in both directions.
KERNEL(ring, Out) {
    struct Shared { CountedBarrier full[2], empty[2]; float values[2][32]; };
    auto* s = dynamic_shared<Shared>();
    unsigned lane = threadIdx.x % 32;
    if (threadIdx.x == 0)
        for (int i = 0; i < 2; ++i) counted_init(&s->full[i], 32), counted_init(&s->empty[i], 32);
    __syncthreads();
    for (unsigned round = 0; round < p.n; ++round) {
        unsigned slot = round % 2, turn = round / 2 % 2;
        if (threadIdx.x < 32) {
            counted_wait(&s->empty[slot], turn ^ 1);
            s->values[slot][lane] = float(round * 32 + lane);
            counted_arrive(&s->full[slot]);
        } else {
            counted_wait(&s->full[slot], turn);
            p.to[round * 32 + lane] = s->values[slot][31 - lane];
            counted_arrive(&s->empty[slot]);
        }
    }
}
TEST(counted_barriers) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        float* to = device<float>(320);
        launch("ring", 1, 64, Out{to, nullptr, 10}, 512);
        auto r = host(to, 320);
        for (size_t i = 0; i < 320; ++i) SAME(r[i], float(i / 32 * 32 + 31 - i % 32));
        release(to);
    }
}

// Blocks of a cluster send words to one another, which count at the receiver's barrier.
KERNEL(mail, Out) {
    struct Shared { CountedBarrier arrived; unsigned words[32]; };
    auto* s = dynamic_shared<Shared>();
    if (threadIdx.x == 0) {
        counted_init(&s->arrived, 1);
        counted_arrive_expect(&s->arrived, 32 * 4);
    }
    cluster_sync();
    unsigned rank = cluster_rank(), size = cluster_size();
    store_counted(&s->words[threadIdx.x], rank * 1000 + threadIdx.x, &s->arrived, (rank + 1) % size);
    counted_wait(&s->arrived, 0);
    p.bits[blockIdx.x * 32 + threadIdx.x] = s->words[31 - threadIdx.x];
    cluster_sync();
}
TEST(counted_stores_between_blocks) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        unsigned* bits = device<unsigned>(4 * 32);
        launch_cluster("mail", 4, 32, 4, {nullptr, bits, 0}, 256);
        auto r = host(bits, 128);
        for (unsigned b = 0; b < 4; ++b)
            for (unsigned t = 0; t < 32; ++t) SAME(r[b * 32 + t], (b + 3) % 4 * 1000 + 31 - t);
        release(bits);
    }
}

// The same of 16 bytes, from each block to every one.
KERNEL(round_robin, Out) {
    struct Shared { uint4 words[4][8]; CountedBarrier arrived; };
    auto* s = dynamic_shared<Shared>();
    if (threadIdx.x == 0) counted_init(&s->arrived, 1);
    cluster_sync();
    unsigned rank = cluster_rank(), size = cluster_size(), lane = threadIdx.x % 8, to = threadIdx.x / 8;
    if (threadIdx.x == 0) counted_arrive_expect(&s->arrived, size * 8 * 16);
    if (to < size) store_counted(&s->words[rank][lane], uint4{rank, to, lane, blockIdx.x}, &s->arrived, to);
    counted_wait(&s->arrived, 0);
    const uint4& got = s->words[to][lane];
    p.bits[blockIdx.x * 32 + threadIdx.x] = got.x * 1000000 + got.y * 10000 + got.z * 100 + got.w;
    cluster_sync();
}
TEST(counted_vectors_between_blocks) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        unsigned* bits = device<unsigned>(8 * 32);
        launch_cluster("round_robin", 8, 32, 4, {nullptr, bits, 0}, 640);
        auto r = host(bits, 256);
        for (unsigned b = 0; b < 8; ++b)
            for (unsigned t = 0; t < 32; ++t) SAME(r[b * 32 + t], t / 8 * 1000000 + b % 4 * 10000 + t % 8 * 100 + b / 4 * 4 + t / 8);
        release(bits);
    }
}
TEST(a_lost_store_is_a_deadlock) {
    set_up();
    unsigned* bits = device<unsigned>(8 * 32);
    softgpu_plant(1, 5);
    launch_cluster("round_robin", 8, 32, 4, {nullptr, bits, 0}, 640);
    CHECK(cuCtxSynchronize() != 0);
    std::string said = softgpu_last_fault();
    CHECK(said.find("deadlock") != std::string::npos && said.find("round_robin") != std::string::npos && said.find("meetings.cu") != std::string::npos);
    softgpu_forgive();
}
TEST(clusters_no_larger_than_asked_for) {
    setenv("SOFTGPU_CLUSTER", "2", 1);
    set_up();
    launch_cluster("neighbours", 8, 32, 4, {}, 128, 912);
    float* to = device<float>(256);
    launch_cluster("neighbours", 8, 32, 2, {to, nullptr, 0}, 128);
    host(to, 256);
    release(to);
}

struct Async { const float* from; float* to; unsigned wait; };
KERNEL(async, Async) {
    float* shared = dynamic_shared<float>();
    async_copy<16>(shared + threadIdx.x * 4, p.from + threadIdx.x * 4);
    async_commit();
    async_copy<4>(shared + 128 + threadIdx.x, p.from + threadIdx.x, threadIdx.x == 3 ? 0 : 4);
    async_commit();
    if (p.wait) async_wait<1>();
    __syncthreads();
    for (unsigned i = 0; i < 4; ++i) p.to[threadIdx.x * 4 + i] = shared[127 - threadIdx.x * 4 - i];
    async_wait<0>();
    p.to[128 + threadIdx.x] = shared[128 + threadIdx.x];
}
TEST(async_copies_land_when_waited_for) {
    set_up();
    std::vector<float> x(128);
    for (size_t i = 0; i < 128; ++i) x[i] = float(i + 1);
    for (unsigned wait : {1u, 0u}) {
        float *from = device(x), *to = device<float>(160);
        launch("async", 1, 32, Async{from, to, wait}, 1024);
        auto r = host(to, 160);
        // Without the wait the first thread finds what was there before: poison.
        for (size_t i = 0; i < (wait ? 128 : 4); ++i) CHECK(wait ? r[i] == x[127 - i] : std::isnan(r[i]));
        for (size_t i = 0; i < 32; ++i) SAME(r[128 + i], i == 3 ? 0.f : x[i]);
        release(from), release(to);
    }
}

KERNEL(count_up, Out) {
    atomicAdd(p.bits, 1u);
    atomicMax(p.bits + 1, blockIdx.x * blockDim.x + threadIdx.x);
    // A lock, taken by one thread of each warp.
    if (threadIdx.x % 32 == 0) {
        while (atomicCAS(p.bits + 2, 0u, 1u) != 0) {
        }
        p.bits[3] += 1;
        atomicExch(p.bits + 2, 0u);
    }
}
TEST(atomics) {
    set_up();
    for (const char* schedule : schedules) {
        DO(softgpu_schedule(schedule));
        unsigned* bits = device(std::vector<unsigned>{0, 0, 0, 0});
        launch("count_up", 5, 96, Out{nullptr, bits, 0});
        auto r = host(bits, 4);
        SAME(r[0], 480u);
        SAME(r[1], 479u);
        SAME(r[3], 15u);
        release(bits);
    }
}
KERNEL(indices, Out) {
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    p.bits[block * threads_in_block() + thread_in_block()] += 1 + threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z;
}
TEST(three_dimensions) {
    set_up();
    const unsigned blocks = 2 * 3 * 4, threads = 5 * 6 * 3;
    unsigned* bits = device(std::vector<unsigned>(blocks * threads, 0));
    Out p{nullptr, bits, 0};
    void* parameters[] = {&p};
    DO(cuLaunchKernel(function("indices"), 2, 3, 4, 5, 6, 3, 0, nullptr, parameters, nullptr));
    auto r = host(bits, blocks * threads);
    for (unsigned i = 0; i < blocks * threads; ++i) {
        unsigned t = i % threads;
        SAME(r[i], 1 + t % 5 + 10 * (t / 5 % 6) + 100 * (t / 30));
    }
    release(bits);
}
