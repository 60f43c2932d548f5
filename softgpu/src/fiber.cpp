// Fibers, and the rounds in which a gang's threads are stepped.
#include "step.h"

#include <sys/mman.h>
#include <pthread.h>

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace softgpu {

Engine engine;
Fiber host;
Fiber* running = &host;

asm(R"(
    .text
    .type softgpu_switch, @function
    .hidden softgpu_switch
    .globl softgpu_switch
softgpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size softgpu_switch, . - softgpu_switch
)");

namespace {
constexpr size_t page = 4096, most_guarded = 8192;  // the kernel of the host allows only so many mappings
constexpr uint64_t canary = 0x5afe57acc0ffee00;
constexpr unsigned most_idle_rounds = 2000;

std::vector<Fiber*> all, idle;
pthread_t runner;

[[noreturn]] void fiber_main();

char* new_stack(bool guards) {
    void* at = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (at == MAP_FAILED) abandon(LAUNCH_OUT_OF_RESOURCES, "the host has no memory for so many threads at once");
    if (guards) mprotect(at, page, PROT_NONE);
    else *static_cast<uint64_t*>(at) = canary;
    return static_cast<char*>(at);
}

// Stacks lie at equal distances: shifted against one another they do not all fall into the same lines of the cache.
void prepare(Fiber& fiber, size_t shift) {
    size_t used = stack_bytes - (shift % 32) * 320 - 64;
    // Six registers, where to go on, and nobody to return to.
    auto* top = reinterpret_cast<void**>(fiber.stack + used) - 8;
    std::memset(top, 0, 8 * sizeof *top);
    top[6] = reinterpret_cast<void*>(&fiber_main);
    fiber.context = top;
}

void shuffle(unsigned* order, size_t n) {
    for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[schedule.below(i)]);
}

void run_thread(Fiber& fiber) {
    Thread& thread = *fiber.thread;
    thread.fiber = &fiber;
    thread.state = State::ready;
    engine.progressed = true;
    engine.launch->function->kernel->run(engine.launch->parameters.data());
    thread_exits(thread);
}

void fiber_main() {
    landed();
    Fiber& me = *running;
    for (;;) {
        run_thread(me);
        Thread* thread = next();
        if (thread && thread->state == State::unstarted) {
            me.thread = thread;
            make_current(thread);
            continue;
        }
        if (!me.guarded && *reinterpret_cast<uint64_t*>(me.stack) != canary)
            abandon(LAUNCH_FAILED, format("kernel %s: a thread overran its stack of %zu KB", engine.launch->function->kernel->name, stack_bytes >> 10));
        idle.push_back(&me);
        if (thread) {
            make_current(thread);
            jump(thread->fiber);
        } else {
            engine.self = nullptr;
            jump(&host);
        }
    }
}

// Fibers that a failed launch left in the middle of a kernel begin anew.
void recover_fibers() {
    idle.clear();
    for (size_t i = 0; i < all.size(); ++i) {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(all[i]->stack + page, stack_bytes - page);
        all[i]->fake_stack = nullptr;
#endif
        prepare(*all[i], i);
        idle.push_back(all[i]);
    }
}
}  // namespace

Fiber* take_fiber() {
    if (idle.empty()) {
        auto* fiber = new Fiber;
        fiber->guarded = all.size() < most_guarded;
        fiber->stack = new_stack(fiber->guarded);
        all.push_back(fiber);
        prepare(*fiber, all.size());
        return fiber;
    }
    Fiber* fiber = idle.back();
    idle.pop_back();
    return fiber;
}

void bring_static_shared(Block& block) {
    if (!static_shared_bytes()) {
        engine.resident = &block;
        return;
    }
    auto exchange = [](std::vector<char>& saved, bool out) {
        char* at = saved.data();
        for (auto [begin, end] : static_shared_sections) {
            std::memcpy(out ? at : begin, out ? begin : at, size_t(end - begin));
            at += end - begin;
        }
    };
    if (engine.resident) exchange(engine.resident->static_shared, true);
    exchange(block.static_shared, false);
    engine.resident = &block;
}

void begin_block(Block& block) {
    block.started = true;
    if (block.shared.bytes) poison(block.shared.begin, block.shared.bytes);
}

bool begin_round() {
    if (engine.progressed) engine.idle_rounds = 0;
    else if (++engine.idle_rounds > most_idle_rounds) return false;
    engine.progressed = false;
    engine.block_cursor = engine.warp_cursor = engine.lane_cursor = 0;
    engine.warp_again = engine.block_again = false;
    ++engine.round;
    if (schedule.order == Order::random) {
        shuffle(engine.block_order.data(), engine.block_order.size());
        shuffle(engine.warp_order.data(), engine.warp_order.size());
        shuffle(engine.lane_order, 32);
    }
    return true;
}

void no_one_can_run() {
    bool polls = engine.runnable > 0;
    std::string text = format("kernel %s: deadlock: every thread waits%s.", engine.launch->function->kernel->name, polls ? " or polls in vain" : "");
    if (polls && !engine.launch->cooperative)
        text += " (The launch is not cooperative: blocks that have not begun do not begin while these poll.)";
    abandon(LAUNCH_TIMEOUT, text + positions());
}

void abandon(int error, std::string trouble) {
    engine.error = error;
    engine.trouble = std::move(trouble);
    if (running == &host) throw error;
    engine.self = nullptr;
    jump(&host);
    __builtin_unreachable();
}

// Steps the gang's threads until all have left or one has failed.
void run_gang() {
    runner = pthread_self();
    engine.idle_rounds = 0;
    engine.progressed = true;
    begin_round();
    try {
        if (Thread* first = next()) go_to(first);
    } catch (int) {
        running = &host;
    }
    engine.self = nullptr;
    if (engine.error) recover_fibers();
}

bool in_kernel() { return engine.launch && running != &host && pthread_equal(runner, pthread_self()); }
char* stack_of_fault() { return running->stack + stack_bytes - 4096; }
void land_after_fault() { abandon(engine.error, std::move(engine.trouble)); }

std::string place(const Thread& thread) {
    const uint3 &b = thread.block->index, &t = thread.index;
    return format("kernel %s, block (%u,%u,%u), thread (%u,%u,%u)", engine.launch->function->kernel->name, b.x, b.y, b.z, t.x, t.y, t.z);
}

std::string positions() {
    std::string text;
    unsigned told = 0;
    for (unsigned i = 0; i < engine.gang; ++i) {
        const Block& block = engine.blocks[i];
        if (block.exited == block.count) continue;
        if (++told > 256) {
            text += "\n  ... and further blocks";
            break;
        }
        text += format("\n  block (%u,%u,%u):", block.index.x, block.index.y, block.index.z);
        // Threads at the same place together: how many, and the first of them.
        std::map<std::string, std::pair<unsigned, unsigned>> at;
        for (unsigned t = 0; t < block.count; ++t) {
            const Thread& thread = block.threads[t];
            std::string where = thread.state == State::exited    ? "have left"
                                : thread.state == State::unstarted ? "have not begun"
                                : thread.what ? format("%s %s (%s:%d)", thread.state == State::waiting ? "wait in" : "are in", thread.what, thread.file, thread.line)
                                              : "run";
            auto [it, fresh] = at.emplace(where, std::pair(0u, t));
            ++it->second.first;
        }
        for (auto& [where, who] : at) text += format(" %u %s (the first is thread %u);", who.first, where.c_str(), who.second);
        text.pop_back();
    }
    return text;
}
}  // namespace softgpu
