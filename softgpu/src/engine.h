// How a grid runs: threads as fibers. A gang is the blocks that run interleaved: one block of an ordinary launch, the blocks
// of a cluster, or all blocks of a cooperative launch. Its threads are stepped in rounds, in the schedule's order; a thread
// runs until it must wait, and the fiber it stood on goes straight to the next one.
#pragma once

#include "driver.h"
#include "softgpu.h"

#include <atomic>

namespace softgpu {

struct Block;
struct Thread;

// A stack and what is saved of a thread that waits on it. One that never waits leaves its fiber to the next thread, so a
// kernel without barriers runs on one.
struct Fiber {
    void* context = nullptr;  // the stack's pointer while another runs
    char* stack = nullptr;  // the low end
    bool guarded = true;    // by an unmapped page; else by a known word, looked at when its thread has left
    Thread* thread = nullptr;
    void* fake_stack = nullptr;  // AddressSanitizer's
};

enum class State : uint8_t { unstarted, ready, waiting, exited };

// What a switch and a collective look at lies in one line of the cache.
struct alignas(64) Thread {
    Block* block;
    Fiber* fiber;
    uint3 index;
    unsigned number;  // in its block
    State state;
    Collective kind;
    int8_t waits_at;  // the barrier's id; -1: a warp's collective; -2: the cluster; -3: a barrier that counts, at poll_address
    unsigned mask;
    uint64_t value, result;
    uint64_t polled_in;  // the round that is over for it
    int line, source;
    const char* what;
    const char* file;
    const void* poll_address;
    uint64_t poll_value;
    uint64_t cluster_phase;
};

struct Barrier {
    unsigned arrived = 0, expected = 0, yes = 0;
    const char* file = nullptr;
    int line = 0;
};
struct Warp {
    unsigned present, exited, waiting, runnable;  // lanes
};
struct Gathering {  // a cluster, and its barrier
    unsigned first, size;  // blocks of the gang
    unsigned arrived = 0;
    uint64_t phase = 0;
};
struct PendingCopy {
    void* to;
    const void* from;
    unsigned bytes, zeros, group;
};
struct ThreadCopies {
    std::vector<PendingCopy> pending;
    unsigned group = 0;  // the one being filled
};
struct Region {  // a block's dynamic shared memory, against an unmapped page
    char *pages = nullptr, *begin = nullptr;
    size_t page_bytes = 0, bytes = 0;
};
struct Block {
    uint3 index;
    unsigned number;  // in its gang
    unsigned count = 0, exited = 0, runnable = 0, counting = 0;  // `counting`: who waits at a barrier that counts
    bool started = false;
    Thread* threads;
    std::vector<Warp> warps;
    Barrier barriers[16];
    Region shared;
    Gathering* cluster;
    unsigned cluster_rank;
    std::vector<char> static_shared;  // its static shared memory while another block of the gang runs
    std::vector<ThreadCopies> copies;
};

struct Engine {
    const Launch* launch = nullptr;  // null: no kernel runs
    std::vector<Block> blocks;
    std::vector<Thread> threads;
    std::vector<Gathering> clusters;
    unsigned gang = 0, runnable = 0, alive = 0;
    // Where the round stands, and the order that it goes by: a block's warps one after the other. A warp's lanes are gone over
    // again where a collective of that warp was completed, and a block where its barrier was: so the stacks that are at work
    // stay in the processor's cache.
    unsigned block_cursor = 0, warp_cursor = 0, lane_cursor = 0;
    std::vector<unsigned> block_order, warp_order;
    unsigned lane_order[32];
    bool warp_again = false, block_again = false;
    uint64_t round = 0;
    bool progressed = false;
    unsigned idle_rounds = 0;
    Thread* self = nullptr;
    Block* resident = nullptr;  // whose static shared memory is in place
    int error = SUCCESS;
    std::string trouble;
    std::atomic<uint64_t> heartbeat{0};  // counts the threads stepped: the watchdog looks at it
};
extern Engine engine;

// Steps the gang's threads until all have left, or engine.error is set.
void run_gang();
// A thread has returned from the kernel.
void thread_exits(Thread& thread);
void forget_copies(Thread& thread);
[[noreturn]] void abandon(int error, std::string trouble);
std::string place(const Thread& thread);  // "kernel k, block (0,0,0), thread (0,0,0)"
std::string positions();                  // where every thread of the gang waits
// For the handler of faults: whether a kernel runs on this very thread, and where to go on once the fault is told.
bool in_kernel();
char* stack_of_fault();
[[noreturn]] void land_after_fault();

extern std::vector<std::pair<char*, char*>> static_shared_sections;
size_t static_shared_bytes();
}  // namespace softgpu
