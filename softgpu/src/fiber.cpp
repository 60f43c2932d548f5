// Fibers, and the rounds in which a gang's threads are stepped.
#include "engine.h"

#include <sys/mman.h>
#include <pthread.h>

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace softgpu {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

Engine engine;

namespace {
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t stack_bytes = 512 << 10;  // its frames are larger
#else
constexpr size_t stack_bytes = 64 << 10;
#endif
constexpr size_t page = 4096, guarded = 8192;  // the kernel of the host allows only so many mappings
constexpr uint64_t canary = 0x5afe57acc0ffee00;
constexpr unsigned most_idle_rounds = 2000;

std::vector<Fiber*> all, idle;
Fiber host;            // the stack that run_gang was called on
Fiber* running = &host;
Fiber* left_behind = nullptr;  // who jumped last
pthread_t runner;

void fiber_main(transfer_t from);

char* new_stack() {
    void* at = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (at == MAP_FAILED) abandon(LAUNCH_OUT_OF_RESOURCES, "the host has no memory for so many threads at once");
    if (all.size() < guarded) mprotect(at, page, PROT_NONE);
    else *static_cast<uint64_t*>(at) = canary;
    return static_cast<char*>(at);
}

// Stacks lie at equal distances: shifted against one another they do not all fall into the same lines of the cache.
void prepare(Fiber& fiber, size_t shift) {
    size_t used = stack_bytes - (shift % 32) * 320 - 64;
    fiber.context = make_fcontext(fiber.stack + used, used, fiber_main);
}

Fiber* take_fiber() {
    if (idle.empty()) {
        auto* fiber = new Fiber;
        fiber->stack = new_stack();
        all.push_back(fiber);
        prepare(*fiber, all.size());
        return fiber;
    }
    Fiber* fiber = idle.back();
    idle.pop_back();
    return fiber;
}

void landed(transfer_t from) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(running->fake_stack, nullptr, nullptr);
#endif
    left_behind->context = from.fctx;
}

void jump(Fiber* to) {
    left_behind = running;
    running = to;
#if defined(__SANITIZE_ADDRESS__)
    static thread_local void* host_bottom;
    static thread_local size_t host_bytes;
    if (!host_bottom) {
        pthread_attr_t attributes;
        pthread_getattr_np(pthread_self(), &attributes);
        pthread_attr_getstack(&attributes, &host_bottom, &host_bytes);
        pthread_attr_destroy(&attributes);
    }
    __sanitizer_start_switch_fiber(&left_behind->fake_stack, to == &host ? host_bottom : to->stack, to == &host ? host_bytes : stack_bytes);
#endif
    Fiber* me = left_behind;
    transfer_t from = jump_fcontext(to->context, nullptr);
    running = me;
    landed(from);
}

void bring_static_shared(Block& block) {
    size_t bytes = static_shared_bytes();
    if (!bytes || engine.resident == &block) return;
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

void make_current(Thread* thread) {
    engine.self = thread;
    threadIdx = thread->index;
    Block& block = *thread->block;
    blockIdx = block.index;
    if (engine.gang > 1) bring_static_shared(block);
    if (!block.started) {
        block.started = true;
        if (block.shared.bytes) poison(block.shared.begin, block.shared.bytes);
    }
    engine.heartbeat.store(engine.heartbeat.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void shuffle(std::vector<unsigned>& order) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[schedule.below(i)]);
}

bool begin_round() {
    if (engine.progressed) engine.idle_rounds = 0;
    else if (++engine.idle_rounds > most_idle_rounds) return false;
    engine.progressed = false;
    engine.block_cursor = engine.thread_cursor = 0;
    if (schedule.order == Order::random) {
        if (engine.gang > 1) shuffle(engine.block_order);
        shuffle(engine.thread_order);
    }
    return true;
}

std::string no_one_can_run() {
    bool polls = engine.runnable > 0;
    std::string text = format("kernel %s: deadlock: every thread waits%s.", engine.launch->function->kernel->name, polls ? " or polls in vain" : "");
    if (polls && !engine.launch->cooperative)
        text += " (The launch is not cooperative: blocks that have not begun do not begin while these poll.)";
    return text + positions();
}

// The thread to step now; null when all have left.
Thread* next() {
    if (!engine.alive) return nullptr;
    if (!engine.runnable) abandon(LAUNCH_TIMEOUT, no_one_can_run());
    for (;;) {
        while (engine.block_cursor < engine.gang) {
            Block& block = engine.blocks[engine.block_order[engine.block_cursor]];
            if (engine.thread_cursor == 0 && (!block.runnable || (engine.gang > 1 && schedule.order == Order::random && schedule.below(4) == 0))) {
                ++engine.block_cursor;  // drawn to stay behind, or nothing to do
                continue;
            }
            while (engine.thread_cursor < block.count) {
                Thread& thread = block.threads[engine.thread_order[engine.thread_cursor++]];
                if (thread.state <= State::ready) return &thread;
            }
            engine.thread_cursor = 0;
            ++engine.block_cursor;
        }
        if (!begin_round()) abandon(LAUNCH_TIMEOUT, no_one_can_run());
    }
}

// Goes to a thread from a fiber that keeps its own.
void go_to(Thread* thread) {
    Fiber* fiber = thread->fiber;
    if (thread->state == State::unstarted) {
        fiber = take_fiber();
        fiber->thread = thread;
    }
    make_current(thread);
    jump(fiber);
}

void run_thread(Fiber& fiber) {
    Thread& thread = *fiber.thread;
    thread.fiber = &fiber;
    thread.state = State::ready;
    engine.progressed = true;
    engine.launch->function->kernel->run(engine.launch->parameters.data());
    thread_exits(thread);
}

void fiber_main(transfer_t from) {
    landed(from);
    Fiber& me = *running;
    for (;;) {
        run_thread(me);
        Thread* thread = next();
        if (thread && thread->state == State::unstarted) {
            me.thread = thread;
            make_current(thread);
            continue;
        }
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

void yield() {
    Thread* me = engine.self;
    Thread* thread = next();
    if (thread == me) {
        make_current(me);
        return;
    }
    if (!thread) abandon(LAUNCH_FAILED, "softgpu: a thread waits and none is alive");
    go_to(thread);
}

void wait(const char* what, const char* file, int line) {
    Thread& me = *engine.self;
    me.what = what, me.file = file, me.line = line;
    me.state = State::waiting;
    --me.block->runnable, --engine.runnable;
}

void wake(Thread& thread) {
    if (thread.state != State::waiting) return;
    thread.state = State::ready;
    ++thread.block->runnable, ++engine.runnable;
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
    engine.block_cursor = engine.thread_cursor = 0;
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
    for (size_t i = guarded; i < all.size(); ++i)
        if (*reinterpret_cast<uint64_t*>(all[i]->stack) != canary && !engine.error) {
            engine.error = LAUNCH_FAILED;
            engine.trouble = format("kernel %s: a thread overran its stack of %zu KB", engine.launch->function->kernel->name, stack_bytes >> 10);
        }
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
        if (++told > 16) {
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
