// Where threads meet: barriers of a block and of a cluster, collectives of a warp, polls.
#include "step.h"

#include <cstring>

namespace softgpu {

namespace {
[[noreturn]] void fail_here(int error, const std::string& what, const char* file, int line) {
    abandon(error, place(*engine.self) + ": " + what + format(" (%s:%d)", file, line));
}
bool same_place(const char* file, int line, const char* other_file, int other_line) {
    return line == other_line && (file == other_file || !std::strcmp(file, other_file));
}
std::string lane_name(const Thread& thread, unsigned lane) {
    const Thread& other = thread.block->threads[thread.number / 32 * 32 + lane];
    return format("lane %u (thread (%u,%u,%u))", lane, other.index.x, other.index.y, other.index.z);
}

void release_barrier(Block& block, unsigned id, uint64_t yes, unsigned of) {
    for (unsigned i = 0; i < block.count; ++i) {
        Thread& thread = block.threads[i];
        if (thread.state != State::waiting || thread.waits_at != int(id)) continue;
        Reduce reduce = Reduce(thread.source);
        thread.result = reduce == Reduce::all ? yes == of : reduce == Reduce::any ? yes != 0 : yes;
        wake(thread);
    }
    block.barriers[id] = {};
    engine.progressed = engine.block_again = true;
}

void check_exits(const Thread& thread) {
    const Block& block = *thread.block;
    if (block.barriers[0].arrived)
        abandon(LAUNCH_FAILED, place(thread) + format(": divergent barrier: it leaves the kernel while %u threads wait in __syncthreads (%s:%d)",
                                                      block.barriers[0].arrived, block.barriers[0].file, block.barriers[0].line));
    const Warp& warp = block.warps[thread.number / 32];
    unsigned lane = thread.number % 32;
    if (!warp.waiting) return;
    for (unsigned other = 0; other < 32; ++other) {
        if (!(warp.waiting >> other & 1)) continue;
        const Thread& waits = block.threads[thread.number / 32 * 32 + other];
        if (waits.mask >> lane & 1)
            abandon(LAUNCH_FAILED, place(thread) + format(": divergent warp: it leaves the kernel while %s waits for it in %s (%s:%d)",
                                                          lane_name(thread, other).c_str(), waits.what, waits.file, waits.line));
    }
}

const char* collective_name(Collective kind) {
    switch (kind) {
        case Collective::sync: return "__syncwarp";
        case Collective::call: return "a warp's product";
        case Collective::shuffle: return "a shuffle";
        case Collective::ballot: return "a ballot";
        case Collective::match: return "__match_any_sync";
        default: return "__reduce_sync";
    }
}

// All lanes of the mask are here: each gets its result.
void complete(Thread* lanes, unsigned mask, const char* file, int line) {
    Collective kind = engine.self->kind;
    auto each = [&](auto&& act) {
        for (unsigned rest = mask; rest; rest &= rest - 1) act(lanes[__builtin_ctz(rest)]);
    };
    uint64_t all = 0;
    bool first = true;
    auto fold = [&](auto&& op) { each([&](Thread& t) { all = first ? t.value : op(all, t.value), first = false; }); };
    switch (kind) {
        case Collective::sync: break;
        case Collective::call: {
            void* given[32];
            for (unsigned lane = 0; lane < 32; ++lane) given[lane] = reinterpret_cast<void*>(lanes[lane].value);
            reinterpret_cast<void (*)(void* const*)>(engine.self->result)(given);
            return;
        }
        case Collective::shuffle:
            each([&](Thread& t) {
                if (!(mask >> (t.source & 31) & 1))
                    fail_here(LAUNCH_FAILED, format("a shuffle in which %s reads lane %d, which its mask 0x%08x leaves out",
                                                    lane_name(t, t.number % 32).c_str(), t.source & 31, mask), file, line);
                t.result = lanes[t.source & 31].value;
            });
            return;
        case Collective::ballot: each([&](Thread& t) { all |= uint64_t(t.value != 0) << (t.number % 32); }); break;
        case Collective::match:
            each([&](Thread& t) {
                t.result = 0;
                each([&](Thread& other) { t.result |= uint64_t(other.value == t.value) << (other.number % 32); });
            });
            return;
        case Collective::add: fold([](uint64_t a, uint64_t b) { return uint64_t(uint32_t(a + b)); }); break;
        case Collective::min: fold([](uint64_t a, uint64_t b) { return a < b ? a : b; }); break;
        case Collective::max: fold([](uint64_t a, uint64_t b) { return a > b ? a : b; }); break;
        case Collective::min_signed: fold([](uint64_t a, uint64_t b) { return int32_t(a) < int32_t(b) ? a : b; }); break;
        case Collective::max_signed: fold([](uint64_t a, uint64_t b) { return int32_t(a) > int32_t(b) ? a : b; }); break;
        case Collective::bit_and: fold([](uint64_t a, uint64_t b) { return a & b; }); break;
        case Collective::bit_or: fold([](uint64_t a, uint64_t b) { return a | b; }); break;
        case Collective::bit_xor: fold([](uint64_t a, uint64_t b) { return a ^ b; }); break;
    }
    each([&](Thread& t) { t.result = all; });
}
}  // namespace

void fail_kernel(int error, const char* what, const char* file, int line) { fail_here(error, what, file, line); }

int block_barrier(Reduce reduce, int predicate, const char* file, int line) {
    Thread& me = *engine.self;
    Block& block = *me.block;
    Barrier& barrier = block.barriers[0];
    if (block.exited)
        fail_here(LAUNCH_FAILED, format("divergent barrier: it waits in __syncthreads, and %u of the block's %u threads have left the kernel",
                                        block.exited, block.count), file, line);
    if (!barrier.arrived) barrier.file = file, barrier.line = line;
    else if (!same_place(file, line, barrier.file, barrier.line))
        fail_here(LAUNCH_FAILED, format("divergent barrier: it waits here while %u threads wait at %s:%d", barrier.arrived, barrier.file, barrier.line), file, line);
    barrier.yes += predicate != 0;
    me.waits_at = 0, me.source = int(reduce);
    wait("__syncthreads", file, line);
    if (++barrier.arrived == block.count) release_barrier(block, 0, barrier.yes, block.count);
    yield();
    me.what = nullptr;
    return int(me.result);
}

void named_barrier(unsigned id, unsigned threads, bool waits, const char* file, int line) {
    Thread& me = *engine.self;
    Block& block = *me.block;
    if (id > 15) fail_here(LAUNCH_FAILED, format("there is no barrier %u", id), file, line);
    Barrier& barrier = block.barriers[id];
    if (!threads || threads % 32 || threads > (block.count + 31) / 32 * 32)
        fail_here(LAUNCH_FAILED, format("barrier %u for %u threads in a block of %u", id, threads, block.count), file, line);
    if (barrier.arrived && barrier.expected != threads)
        fail_here(LAUNCH_FAILED, format("barrier %u for %u threads, while others wait at it for %u", id, threads, barrier.expected), file, line);
    barrier.expected = threads, barrier.file = file, barrier.line = line;
    bool complete = ++barrier.arrived == threads;
    me.waits_at = int8_t(id), me.source = int(Reduce::none);
    if (waits) wait("barrier_sync", file, line);
    if (complete) release_barrier(block, id, 0, 1);
    if (waits) yield();
    me.what = nullptr;
}

uint64_t warp_collective(Collective kind, unsigned mask, uint64_t value, int source, const char* file, int line) {
    Thread& me = *engine.self;
    Block& block = *me.block;
    Warp& warp = block.warps[me.number / 32];
    unsigned lane = me.number % 32;
    const char* name = collective_name(kind);
    if (!(mask >> lane & 1)) fail_here(LAUNCH_FAILED, format("%s whose mask 0x%08x leaves out the calling lane %u", name, mask, lane), file, line);
    if (mask & ~warp.present)
        fail_here(LAUNCH_FAILED, format("%s whose mask 0x%08x names lanes that the block of %u threads does not have", name, mask, block.count), file, line);
    if (mask & warp.exited)
        fail_here(LAUNCH_FAILED, format("divergent warp: %s waits for %s, which has left the kernel", name,
                                        lane_name(me, unsigned(__builtin_ctz(mask & warp.exited))).c_str()), file, line);
    me.kind = kind, me.mask = mask, me.value = value, me.source = source, me.waits_at = -1;
    wait(name, file, line);
    warp.waiting |= 1u << lane;
    if ((warp.waiting & mask) == mask) {
        Thread* lanes = block.threads + me.number / 32 * 32;
        bool together = true;
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            const Thread& other = lanes[__builtin_ctz(rest)];
            if (other.mask != mask) together = false;
            else if (other.kind != kind)
                fail_here(LAUNCH_FAILED, format("divergent warp: %s here, while %s is in %s (%s:%d)", name,
                                                lane_name(me, other.number % 32).c_str(), other.what, other.file, other.line), file, line);
        }
        if (together) {
            complete(lanes, mask, file, line);
            warp.waiting &= ~mask;
            for (unsigned rest = mask; rest; rest &= rest - 1) wake(lanes[__builtin_ctz(rest)]);
            engine.progressed = engine.warp_again = true;
        }
    }
    yield();
    me.what = nullptr;
    return me.result;
}

void warp_call(void (*work)(void* const*), void* mine, const char* what, const char* file, int line) {
    Thread& me = *engine.self;
    Block& block = *me.block;
    if (block.count % 32) fail_here(LAUNCH_FAILED, format("%s in a block of %u threads, which are no whole warps", what, block.count), file, line);
    me.result = reinterpret_cast<uint64_t>(work);
    Warp& warp = block.warps[me.number / 32];
    unsigned bit = 1u << me.number % 32;
    // Most of all meetings are these: who is not the last takes a short way.
    if (warp.exited || (warp.waiting | bit) == 0xffffffffu) {
        warp_collective(Collective::call, 0xffffffffu, reinterpret_cast<uint64_t>(mine), 0, file, line);
        return;
    }
    me.kind = Collective::call, me.mask = 0xffffffffu, me.value = reinterpret_cast<uint64_t>(mine), me.waits_at = -1;
    wait("a warp's product", file, line);
    warp.waiting |= bit;
    yield();
    me.what = nullptr;
}

unsigned active_mask() {
    const Warp& warp = engine.self->block->warps[engine.self->number / 32];
    return warp.present & ~warp.exited;
}

void cluster_arrive(const char* file, int line) {
    Thread& me = *engine.self;
    Gathering& cluster = *me.block->cluster;
    if (me.cluster_phase > cluster.phase) fail_here(LAUNCH_FAILED, "a second arrival at the cluster's barrier without a wait", file, line);
    me.cluster_phase = cluster.phase + 1;
    if (++cluster.arrived < cluster.size * me.block->count) return;
    cluster.arrived = 0;
    ++cluster.phase;
    engine.progressed = true;
    for (unsigned b = cluster.first; b < cluster.first + cluster.size; ++b)
        for (unsigned t = 0; t < engine.blocks[b].count; ++t) {
            Thread& thread = engine.blocks[b].threads[t];
            if (thread.state == State::waiting && thread.waits_at == -2) wake(thread);
        }
}
void cluster_wait(const char* file, int line) {
    Thread& me = *engine.self;
    if (me.cluster_phase <= me.block->cluster->phase) {
        if (me.cluster_phase < me.block->cluster->phase || !me.cluster_phase)
            fail_here(LAUNCH_FAILED, "a wait at the cluster's barrier without an arrival", file, line);
        return;
    }
    me.waits_at = -2;
    wait("cluster_wait", file, line);
    yield();
    me.what = nullptr;
}

void poll(const char* file, int line) {
    Thread& me = *engine.self;
    me.what = "a poll", me.file = file, me.line = line;
    me.polled_in = engine.round;
    yield();
    me.what = nullptr;
}
void polled(const void* address, uint64_t value, const char* file, int line) {
    Thread& me = *engine.self;
    if (me.poll_address != address) {
        me.poll_address = address, me.poll_value = value;
    } else if (me.poll_value != value) {
        me.poll_value = value;
        engine.progressed = true;
    } else {
        poll(file, line);
    }
}
void progress() { engine.progressed = true; }

void thread_exits(Thread& thread) {
    check_exits(thread);
    forget_copies(thread);
    Block& block = *thread.block;
    thread.state = State::exited;
    Warp& warp = block.warps[thread.number / 32];
    warp.exited |= 1u << (thread.number % 32);
    warp.runnable &= ~(1u << (thread.number % 32));
    ++block.exited, --block.runnable, --engine.runnable, --engine.alive;
    engine.progressed = true;
}
}  // namespace softgpu
