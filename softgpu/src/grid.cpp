// Runs a launch: one gang of blocks after another, in the schedule's order.
#include "engine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace softgpu {

namespace {
constexpr size_t page = 4096, shared_alignment = 128;

// Dynamic shared memory ends (to 128 bytes) at an unmapped page; what is left before it holds the pattern.
bool set_up_shared(Region& region, size_t bytes) {
    size_t rounded = (bytes + shared_alignment - 1) / shared_alignment * shared_alignment;
    size_t pages = (rounded + page - 1) / page * page + page;  // one more, so that what lies before is watched too
    if (pages != region.page_bytes) {
        if (region.pages) {
#if defined(__SANITIZE_ADDRESS__)
            // Whoever is given these addresses next may use them.
            ASAN_UNPOISON_MEMORY_REGION(region.pages, region.page_bytes);
#endif
            munmap(region.pages - page, region.page_bytes + 2 * page);
        }
        void* at = mmap(nullptr, pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) return false;
        region.pages = static_cast<char*>(at) + page, region.page_bytes = pages;
        mprotect(region.pages, pages, PROT_READ | PROT_WRITE);
    }
    region.begin = region.pages + pages - rounded;
    region.bytes = bytes;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(region.pages, pages);
    ASAN_UNPOISON_MEMORY_REGION(region.begin, bytes);
#else
    poison(region.begin - shared_alignment, shared_alignment);
    poison(region.begin + bytes, rounded - bytes);
#endif
    return true;
}

// Which byte around the block's shared memory a store has changed, in words.
std::string shared_trampled(const Block& block) {
#if defined(__SANITIZE_ADDRESS__)
    (void)block;
#else
    auto changed = [](const char* at) { return static_cast<unsigned char>(*at) != 0xff; };
    const Region& r = block.shared;
    for (const char* at = r.begin + r.bytes; at < r.pages + r.page_bytes; ++at)
        if (changed(at)) return format("a store %zu bytes past the end of its %zu bytes of dynamic shared memory", size_t(at - r.begin - r.bytes), r.bytes);
    for (const char* at = r.begin - shared_alignment; at < r.begin; ++at)
        if (changed(at)) return format("a store %zu bytes before its dynamic shared memory", size_t(r.begin - at));
#endif
    return {};
}

uint3 coordinates(uint64_t i, Dim d) { return {unsigned(i % d.x), unsigned(i / d.x % d.y), unsigned(i / d.x / d.y)}; }

// Lays out a gang that begins with the grid's block (or cluster) number `first`.
bool set_up_gang(const Launch& launch, uint64_t first) {
    Engine& e = engine;
    unsigned threads = unsigned(product(launch.block));
    unsigned size = unsigned(product(launch.cluster));
    size_t statics = static_shared_bytes();
    Dim clusters{launch.grid.x / launch.cluster.x, launch.grid.y / launch.cluster.y, launch.grid.z / launch.cluster.z};
    for (unsigned i = 0; i < e.gang; ++i) {
        Block& block = e.blocks[i];
        uint64_t number = launch.cooperative ? i : first * size + i;  // by clusters, then by rank
        uint3 c = coordinates(number / size, clusters), within = coordinates(number % size, launch.cluster);
        block.index = {c.x * launch.cluster.x + within.x, c.y * launch.cluster.y + within.y, c.z * launch.cluster.z + within.z};
        block.number = i;
        block.count = block.runnable = threads;
        block.exited = block.counting = 0;
        block.started = false;
        block.threads = e.threads.data() + size_t(i) * threads;
        block.cluster = &e.clusters[i / size];
        *block.cluster = {i / size * size, size};
        block.cluster_rank = unsigned(number % size);
        for (Barrier& barrier : block.barriers) barrier = {};
        block.warps.resize((threads + 31) / 32);
        for (size_t w = 0; w < block.warps.size(); ++w) {
            unsigned lanes = threads - unsigned(w) * 32;
            unsigned present = lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1;
            block.warps[w] = {present, 0, 0, present};
        }
        if (!set_up_shared(block.shared, launch.shared_bytes)) return false;
        if (statics && e.gang > 1) block.static_shared.assign(statics, char(0xff));
        block.copies.clear();
        uint3 at{0, 0, 0};
        for (unsigned t = 0; t < threads; ++t) {
            Thread& thread = block.threads[t];
            thread = {};
            thread.block = &block, thread.index = at, thread.number = t, thread.state = State::unstarted;
            if (++at.x == launch.block.x) {
                at.x = 0;
                if (++at.y == launch.block.y) at.y = 0, ++at.z;
            }
        }
    }
    e.resident = nullptr;
    e.runnable = e.alive = e.gang * threads;
    if (statics && e.gang == 1)
        for (auto [begin, end] : static_shared_sections) poison(begin, size_t(end - begin));
    return true;
}

// The i-th of n things in the schedule's order: in "random", i times a number that has no factor in common with n, from a
// drawn beginning.
struct Permutation {
    uint64_t n, step = 1, offset = 0;
    explicit Permutation(uint64_t n) : n(n) {
        if (schedule.order != Order::random || n < 2) return;
        offset = schedule.below(n);
        do step = 1 + schedule.below(n - 1);
        while (std::gcd(step, n) != 1);
    }
    uint64_t operator()(uint64_t i) const {
        if (schedule.order == Order::reverse) return n - 1 - i;
        return uint64_t(((unsigned __int128)i * step + offset) % n);
    }
};

void fill_order(std::vector<unsigned>& order, unsigned n) {
    order.resize(n);
    std::iota(order.begin(), order.end(), 0u);
    if (schedule.order == Order::reverse) std::reverse(order.begin(), order.end());
}

// A kernel in which nothing happens for a long time spins on plain loads: no fiber can get in, so a thread of the host tells.
void start_watchdog() {
    static bool started = false;
    if (started) return;
    started = true;
    int seconds = std::atoi(setting("SOFTGPU_TIMEOUT", "60").c_str());
    if (seconds <= 0) return;
    std::thread([seconds] {
        uint64_t last = 0;
        int quiet = 0;
        for (;;) {
            ::sleep(1);
            uint64_t beat = engine.heartbeat.load(std::memory_order_relaxed);
            quiet = engine.self && beat == last ? quiet + 1 : 0;
            last = beat;
            if (quiet < seconds) continue;
            const Thread* thread = engine.self;
            if (!thread) continue;
            fprintf(stderr, "softgpu: %s: it has run for %d seconds without meeting another thread. A loop that waits for another thread goes "
                            "through load_acquire, counted_wait, an atomic or __nanosleep. (SOFTGPU_TIMEOUT=0 turns this off.)\n", place(*thread).c_str(), quiet);
            fflush(stderr);
            _exit(86);
        }
    }).detach();
}
}  // namespace

int run_kernel(const Launch& launch, std::string& trouble) {
    start_watchdog();
    prepare_thread_for_faults();
    Engine& e = engine;
    unsigned size = unsigned(product(launch.cluster)), threads = unsigned(product(launch.block));
    uint64_t blocks = product(launch.grid);
    e.launch = &launch;
    e.error = SUCCESS;
    e.trouble.clear();
    e.gang = launch.cooperative ? unsigned(blocks) : size;
    if (e.blocks.size() < e.gang) e.blocks.resize(e.gang);
    e.threads.resize(std::max(e.threads.size(), size_t(e.gang) * threads));
    e.clusters.resize(std::max<size_t>(e.clusters.size(), e.gang / size));
    blockDim = {launch.block.x, launch.block.y, launch.block.z};
    gridDim = {launch.grid.x, launch.grid.y, launch.grid.z};
    fill_order(e.block_order, e.gang);
    fill_order(e.warp_order, (threads + 31) / 32);
    for (unsigned i = 0; i < 32; ++i) e.lane_order[i] = schedule.order == Order::reverse ? 31 - i : i;
    uint64_t gangs = blocks / e.gang;
    Permutation order(gangs);
    for (uint64_t i = 0; i < gangs && !e.error; ++i) {
        if (!set_up_gang(launch, order(i))) {
            e.error = LAUNCH_OUT_OF_RESOURCES;
            break;
        }
        run_gang();
        for (unsigned b = 0; b < e.gang && !e.error; ++b) {
            std::string text = shared_trampled(e.blocks[b]);
            if (text.empty()) continue;
            const uint3& at = e.blocks[b].index;
            e.error = ILLEGAL_ADDRESS;
            e.trouble = format("kernel %s, block (%u,%u,%u): ", launch.function->kernel->name, at.x, at.y, at.z) + text;
        }
    }
    e.launch = nullptr;
    trouble = std::move(e.trouble);
    return e.error;
}
}  // namespace softgpu
