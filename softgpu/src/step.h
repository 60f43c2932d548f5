// The switch from one thread to the next.
#pragma once

#include "engine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#include <pthread.h>
#endif

namespace softgpu {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t stack_bytes = 512 << 10;  // its frames are larger
#else
constexpr size_t stack_bytes = 64 << 10;
#endif

extern Fiber host;          // the stack that run_gang was called on
extern Fiber* running;

Fiber* take_fiber();
void begin_block(Block& block);
void bring_static_shared(Block& block);
// False: nothing but polls has happened for too long.
bool begin_round();
[[noreturn]] void no_one_can_run();

// Saves what a call must keep and the stack's pointer at `from`, and goes on where `to` was saved. A call and a return, so that the
// processor predicts where it goes on: threads mostly meet in the same place.
extern "C" __attribute__((visibility("hidden"))) void softgpu_switch(void** from, void* to);

inline void landed() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(running->fake_stack, nullptr, nullptr);
#endif
}

inline void jump(Fiber* to) {
    Fiber* me = running;
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
    __sanitizer_start_switch_fiber(&me->fake_stack, to == &host ? host_bottom : to->stack, to == &host ? host_bytes : stack_bytes);
#endif
    softgpu_switch(&me->context, to->context);
    landed();
}

inline void make_current(Thread* thread) {
    engine.self = thread;
    threadIdx = thread->index;
    Block& block = *thread->block;
    blockIdx = block.index;
    if (engine.gang > 1 && engine.resident != &block) bring_static_shared(block);
    if (!block.started) begin_block(block);
    engine.heartbeat.store(engine.heartbeat.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The thread to step now; null when all have left.
inline Thread* next() {
    if (!engine.alive) return nullptr;
    if (!engine.runnable) no_one_can_run();
    for (;;) {
        while (engine.block_cursor < engine.gang) {
            Block& block = engine.blocks[engine.block_order[engine.block_cursor]];
            if (engine.warp_cursor == 0 && engine.lane_cursor == 0 &&
                (!block.runnable || (engine.gang > 1 && schedule.order == Order::random && schedule.below(4) == 0))) {
                ++engine.block_cursor;  // nothing to do, or drawn to stay behind
                continue;
            }
            while (engine.warp_cursor < engine.warp_order.size()) {
                unsigned number = engine.warp_order[engine.warp_cursor];
                const Warp& warp = block.warps[number];
                if (warp.runnable)
                    while (engine.lane_cursor < 32) {
                        unsigned lane = engine.lane_order[engine.lane_cursor++];
                        if (!(warp.runnable >> lane & 1)) continue;
                        Thread& thread = block.threads[number * 32 + lane];
                        if (thread.polled_in != engine.round) return &thread;
                    }
                engine.lane_cursor = 0;
                if (engine.warp_again) engine.warp_again = false;
                else ++engine.warp_cursor;
            }
            engine.warp_cursor = 0;
            bool stays = engine.block_again && (schedule.order != Order::random || schedule.below(2));
            engine.block_again = false;
            if (!stays) ++engine.block_cursor;
        }
        if (!begin_round()) no_one_can_run();
    }
}

// Goes to a thread from a fiber that keeps its own.
inline void go_to(Thread* thread) {
    Fiber* fiber = thread->fiber;
    if (thread->state == State::unstarted) {
        fiber = take_fiber();
        fiber->thread = thread;
    }
    make_current(thread);
    jump(fiber);
}

// Lets the others run; returns when the schedule comes back to this thread.
inline void yield() {
    Thread* me = engine.self;
    Thread* thread = next();
    if (thread == me) {
        make_current(me);
        return;
    }
    if (!thread) abandon(LAUNCH_FAILED, "softgpu: a thread waits and none is alive");
    go_to(thread);
}

// The thread waits: it is not stepped until `wake`.
inline void wait(const char* what, const char* file, int line) {
    Thread& me = *engine.self;
    me.what = what, me.file = file, me.line = line;
    me.state = State::waiting;
    me.block->warps[me.number / 32].runnable &= ~(1u << (me.number % 32));
    --me.block->runnable, --engine.runnable;
}

inline void wake(Thread& thread) {
    if (thread.state != State::waiting) return;
    thread.state = State::ready;
    thread.block->warps[thread.number / 32].runnable |= 1u << (thread.number % 32);
    ++thread.block->runnable, ++engine.runnable;
}

}  // namespace softgpu
