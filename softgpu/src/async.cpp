// Shared memory as threads see it, copies that land late, and barriers that count.
#include "step.h"

#include <cstring>

namespace softgpu {

std::vector<std::pair<char*, char*>> static_shared_sections;

void register_shared(char* begin, char* end) { static_shared_sections.push_back({begin, end}); }
size_t static_shared_bytes() {
    size_t bytes = 0;
    for (auto [begin, end] : static_shared_sections) bytes += size_t(end - begin);
    return bytes;
}

void* dynamic_shared() { return engine.self->block->shared.begin; }
unsigned dynamic_shared_bytes() { return unsigned(engine.self->block->shared.bytes); }

Cluster cluster() {
    const Block& block = *engine.self->block;
    const Dim &g = engine.launch->grid, &c = engine.launch->cluster;
    return {{block.index.x / c.x, block.index.y / c.y, block.index.z / c.z},
            {g.x / c.x, g.y / c.y, g.z / c.z},
            block.cluster_rank,
            block.cluster->size,
            {block.index.x % c.x, block.index.y % c.y, block.index.z % c.z},
            {c.x, c.y, c.z}};
}

void* map_shared(const void* mine, unsigned rank) {
    const Block& block = *engine.self->block;
    if (rank >= block.cluster->size) fail_kernel(LAUNCH_FAILED, "map_shared_rank: the cluster has no such rank", "map_shared_rank", int(rank));
    const char* at = static_cast<const char*>(mine);
    if (at < block.shared.begin || at > block.shared.begin + block.shared.bytes)
        fail_kernel(LAUNCH_FAILED, "map_shared_rank: a pointer outside of the block's dynamic shared memory", "map_shared_rank", int(rank));
    const Block& other = engine.blocks[block.cluster->first + rank];
    if (other.exited == other.count)
        fail_kernel(ILLEGAL_ADDRESS, "map_shared_rank: that block has left the kernel, and its shared memory with it", "map_shared_rank", int(rank));
    return other.shared.begin + (at - block.shared.begin);
}

// ----------------------------------------------------------------------------------------------------- copies that land late

static ThreadCopies& copies_of(Thread& thread) {
    auto& copies = thread.block->copies;
    if (copies.empty()) copies.resize(thread.block->count);
    return copies[thread.number];
}
static void land(const PendingCopy& copy) {
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
}

void copy_later(void* to, const void* from, unsigned bytes, unsigned zeros) {
    ThreadCopies& copies = copies_of(*engine.self);
    copies.pending.push_back({to, from, bytes, zeros, copies.group});
}
void commit_copies() { ++copies_of(*engine.self).group; }
void wait_copies(unsigned groups_left) {
    ThreadCopies& copies = copies_of(*engine.self);
    size_t landed = 0;
    while (landed < copies.pending.size() && copies.pending[landed].group + groups_left < copies.group) land(copies.pending[landed++]);
    copies.pending.erase(copies.pending.begin(), copies.pending.begin() + long(landed));
}
void forget_copies(Thread& thread) {
    if (thread.block->copies.empty()) return;
    ThreadCopies& copies = thread.block->copies[thread.number];
    copies.pending.clear();
    copies.group = 0;
}

// ------------------------------------------------------------------------------------------------------- barriers that count

namespace {
// 64 bits, as on the card: how many arrivals are to come, how many there are in a phase, bytes to come, the phase's parity.
struct Counted {
    uint64_t to_come : 20, arrivals : 20;
    int64_t bytes : 23;
    uint64_t parity : 1;
};
static_assert(sizeof(Counted) == 8);
constexpr unsigned none = (1u << 20) - 1;  // what poisoned memory reads as

Counted load(const uint64_t* barrier) {
    Counted c;
    std::memcpy(&c, barrier, sizeof c);
    if (c.arrivals == none || !c.arrivals) fail_kernel(LAUNCH_FAILED, "a counted barrier that was not initialised", "counted barrier", 0);
    return c;
}
bool in_shared(const Block& block, const void* at) { return at >= block.shared.begin && at < block.shared.begin + block.shared.bytes; }

// Whose shared memory the barrier is in: only that block waits there. What is not dynamic is each block's own.
Block& home(const void* barrier) {
    Block& mine = *engine.self->block;
    if (!in_shared(mine, barrier))
        for (unsigned b = 0; b < mine.cluster->size; ++b)
            if (Block& block = engine.blocks[mine.cluster->first + b]; in_shared(block, barrier)) return block;
    return mine;
}

void store(uint64_t* barrier, Counted c) {
    bool over = !c.to_come && !c.bytes;
    if (over) c.to_come = c.arrivals, c.parity ^= 1;
    std::memcpy(barrier, &c, sizeof c);
    if (!over) return;
    engine.progressed = true;
    Block& block = home(barrier);
    for (unsigned t = 0; block.counting && t < block.count; ++t) {
        Thread& thread = block.threads[t];
        if (thread.state != State::waiting || thread.waits_at != -3 || thread.poll_address != barrier) continue;
        wake(thread);
        --block.counting;
        engine.block_again |= &block == engine.self->block;
    }
}
}  // namespace

void counted_init(uint64_t* barrier, unsigned arrivals) {
    if (!arrivals || arrivals >= none) fail_kernel(LAUNCH_FAILED, "counted_init: so many arrivals cannot be counted", "counted_init", int(arrivals));
    Counted c{arrivals, arrivals, 0, 0};
    std::memcpy(barrier, &c, sizeof c);
}
void counted_arrive(uint64_t* barrier, unsigned arrivals, unsigned expected_bytes) {
    Counted c = load(barrier);
    if (c.to_come < arrivals) fail_kernel(LAUNCH_FAILED, "counted_arrive: more arrivals than the barrier counts in a phase", "counted_arrive", 0);
    c.to_come -= arrivals;
    c.bytes += int(expected_bytes);
    store(barrier, c);
}
void counted_bytes(uint64_t* barrier, unsigned bytes) {
    Counted c = load(barrier);
    c.bytes -= int(bytes);
    store(barrier, c);
}
bool counted_test(uint64_t* barrier, unsigned parity) { return load(barrier).parity != (parity & 1); }
void counted_wait(uint64_t* barrier, unsigned parity, const char* file, int line) {
    Thread& me = *engine.self;
    while (!counted_test(barrier, parity)) {
        if (&home(barrier) != me.block)
            fail_kernel(LAUNCH_FAILED, "counted_wait: the barrier is in another block's shared memory", file, line);
        me.waits_at = -3, me.poll_address = barrier;
        ++me.block->counting;
        wait("counted_wait", file, line);
        yield();
        me.what = nullptr;
    }
}
}  // namespace softgpu
